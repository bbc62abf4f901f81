package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// quiet waits until nothing is under way: the simulator has no webhook left, the product no delivery and no reply. It
// returns where the logs then stand, by organization.
func (w *world) quiet() map[string]testkit.HerdPosition {
	w.t.Helper()
	began := time.Now()
	var heads map[string]testkit.HerdPosition
	err := poll(testkit.ContextFor(w.t, 2*time.Minute), func(ctx context.Context) error {
		if err := w.idle(ctx); err != nil {
			return err
		}
		before, err := w.settled(ctx)
		if err != nil {
			return err
		}
		// A reply's status may have become a webhook in between.
		if err := w.idle(ctx); err != nil {
			return err
		}
		heads, err = w.settled(ctx)
		if err == nil && fmt.Sprint(before) != fmt.Sprint(heads) {
			return errors.New("the logs still grow")
		}
		return err
	})
	require.NoError(w.t, err, "waited for quiet")
	w.t.Logf("quiet after %.1f s", time.Since(began).Seconds())
	return heads
}

// idle is nil once the simulators' webhooks and messages are all acknowledged and their updates confirmed. Webhooks that wait for another
// attempt get it now.
func (w *world) idle(ctx context.Context) error {
	err := request(ctx, http.MethodGet, w.cloud+"/control/idle?timeoutMs=500", "", nil, nil)
	if err == nil {
		if err = request(ctx, http.MethodGet, w.telegram+"/control/idle?timeoutMs=500", "", nil, nil); err == nil && w.linked {
			err = request(ctx, http.MethodGet, w.whatsapp+"/control/idle?timeoutMs=500", "", nil, nil)
		}
		return err
	}
	for _, o := range w.orgs {
		if err := w.control(ctx, "/control/numbers/"+o.waba.number.PhoneNumberID+"/redeliver", nil); err != nil {
			return err
		}
	}
	return err
}

// settled returns the heads of the logs, or an error while something is still under way in the product.
func (w *world) settled(ctx context.Context) (map[string]testkit.HerdPosition, error) {
	var busy, waiting int
	err := w.query(ctx, `SELECT (SELECT count(*) FROM webhook_deliveries),
		(SELECT count(*) FROM messages WHERE from_me AND (status IN ('queued', 'sending') OR status = 'sent' AND channel_kind <> 'telegram'))`, nil,
		func(r pgx.Rows) error { return r.Scan(&busy, &waiting) })
	if err != nil {
		return nil, err
	}
	if busy+waiting > 0 {
		return nil, fmt.Errorf("%d webhooks and %d replies are under way", busy, waiting)
	}
	heads := map[string]testkit.HerdPosition{}
	err = w.query(ctx, `SELECT organization_id, seq, epoch FROM event_heads`, nil, func(r pgx.Rows) error {
		var id int64
		var head testkit.HerdPosition
		if err := r.Scan(&id, &head.Seq, &head.Epoch); err != nil {
			return err
		}
		for _, o := range w.orgs {
			if o.id == id {
				heads[o.name] = head
			}
		}
		return nil
	})
	return heads, err
}

var canary = regexp.MustCompile(canaryPrefix + `([a-z0-9]+)-(\d+)`)

// verdict waits for quiet and for the clients to have come to the heads, and judges: see the package documentation.
// It returns what the clients saw.
func (w *world) verdict(h *testkit.Herd) testkit.HerdReport {
	w.t.Helper()
	heads := w.quiet()
	_, err := h.Await(testkit.Context(w.t), testkit.HerdGoal{Connected: -1, Heads: heads})
	if err != nil {
		w.t.Errorf("the clients do not get what is in the logs: %v", err)
	}
	report, err := h.Report(testkit.Context(w.t))
	require.NoError(w.t, err)
	w.judgeRows()
	w.judgeReplies()
	w.judgeLeases()
	logs := w.judgeLogs(heads)
	w.judgeClients(report, heads, logs)
	w.judgeREST()
	return report
}

// judgeRows compares the ledger with the messages: none lost, none twice, each where it belongs.
func (w *world) judgeRows() {
	w.t.Helper()
	rows := map[string]int{}
	err := w.query(testkit.Context(w.t), `SELECT organization_id, content FROM messages`, nil, func(r pgx.Rows) error {
		var id int64
		var content string
		if err := r.Scan(&id, &content); err != nil {
			return err
		}
		rows[fmt.Sprint(id, " ", content)]++
		return nil
	})
	require.NoError(w.t, err)
	entries, _ := w.ledger.list()
	var lost, twice []string
	for _, e := range entries {
		switch n := rows[fmt.Sprint(e.organization.id, " ", e.canary())]; {
		case n == 0:
			lost = append(lost, e.canary())
		case n > 1:
			twice = append(twice, e.canary())
		}
	}
	assert.Empty(w.t, lost, "messages that were acknowledged are not stored")
	assert.Empty(w.t, twice, "messages are stored more than once")
	w.t.Logf("oracle: %d messages in the ledger, %d rows", len(entries), len(rows))
}

// judgeReplies compares the replies with what the providers did: none was sent twice unless an operator said so, none that the
// product believes to be sent was not, and those of a chat were sent in order.
func (w *world) judgeReplies() {
	w.t.Helper()
	ctx := testkit.Context(w.t)
	sent, err := w.deliveries(ctx)
	require.NoError(w.t, err)
	type place struct {
		times int // that it reached the customer
		last  int // where in the ledger
	}
	effects := map[string]place{}
	for i, d := range sent {
		if d.effect && isCanary(d.text) {
			effects[d.text] = place{effects[d.text].times + 1, i}
		}
	}
	unknown, arrived := 0, 0
	newest := map[int64]int{} // by chat
	err = w.query(ctx, `SELECT chat_id, content, status, channel_kind FROM messages WHERE from_me ORDER BY chat_id, id`, nil, func(r pgx.Rows) error {
		var chat int64
		var content, status, kind string
		if err := r.Scan(&chat, &content, &status, &kind); err != nil {
			return err
		}
		found, again := effects[content], w.retried[content]
		known := status == string(domain.StatusSent) || status == string(domain.StatusDelivered) || status == string(domain.StatusRead)
		switch {
		case !known && (status != string(domain.StatusUnknown) || kind == string(domain.KindWhatsApp)):
			w.t.Errorf("the reply %s is %s", content, status)
		case found.times > 1+again || known && found.times == 0:
			w.t.Errorf("the reply %s, which is %s, reached the customer %d times, with %d retries by operators", content, status, found.times, again)
		case found.times > 0 && again == 0 && found.last < newest[chat]:
			w.t.Errorf("the reply %s reached the customer after a later one", content)
		case found.times > 0 && again == 0:
			newest[chat] = found.last
		}
		if !known {
			unknown++
			arrived += found.times
		}
		return nil
	})
	require.NoError(w.t, err)
	w.t.Logf("oracle: %d replies reached customers; of %d the fate is not known to the product, and %d of these did", len(effects), unknown, arrived)
}

// orgLog is what the log of an organization holds.
type orgLog struct {
	numbers map[int64]int64 // of the canaries in message:new events, by seq
}

// judgeLogs checks that every log is 1..head, with one message:new for each entry of the ledger and no other's canary.
func (w *world) judgeLogs(heads map[string]testkit.HerdPosition) map[string]orgLog {
	w.t.Helper()
	logs := map[string]orgLog{}
	byID := map[int64]*organization{}
	want := map[string]int{}
	for _, o := range w.orgs {
		logs[o.name], byID[o.id] = orgLog{numbers: map[int64]int64{}}, o
	}
	entries, _ := w.ledger.list()
	for _, e := range entries {
		want[e.canary()]++
	}
	last := map[int64]int64{}
	err := w.query(testkit.ContextFor(w.t, time.Minute), `SELECT organization_id, seq, name, data FROM events ORDER BY organization_id, seq`, nil,
		func(r pgx.Rows) error {
			var id, seq int64
			var name, data string
			if err := r.Scan(&id, &seq, &name, &data); err != nil {
				return err
			}
			if seq != last[id]+1 {
				w.t.Errorf("the log of organization %d goes from %d to %d", id, last[id], seq)
			}
			last[id] = seq
			o := byID[id]
			for _, found := range canary.FindAllStringSubmatch(data, -1) {
				if o == nil || found[1] != o.name {
					w.t.Errorf("%s is in the log of organization %d, seq %d", found[0], id, seq)
				}
			}
			if name != "message:new" || o == nil {
				return nil
			}
			var message struct {
				Content string `json:"content"`
			}
			if err := json.Unmarshal([]byte(data), &message); err != nil {
				return err
			}
			want[message.Content]--
			var n int64
			if _, err := fmt.Sscanf(message.Content, canaryPrefix+o.name+"-%d", &n); err != nil {
				return fmt.Errorf("read the number of %q: %w", message.Content, err)
			}
			logs[o.name].numbers[seq] = n
			return nil
		})
	require.NoError(w.t, err)
	for canary, missing := range want {
		if missing != 0 {
			w.t.Errorf("%s has %d message:new events", canary, 1-missing)
		}
	}
	for _, o := range w.orgs {
		assert.GreaterOrEqual(w.t, last[o.id], heads[o.name].Seq, "head of %s", o.name)
	}
	return logs
}

// judgeClients checks what every client saw against the log.
func (w *world) judgeClients(report testkit.HerdReport, heads map[string]testkit.HerdPosition, logs map[string]orgLog) {
	w.t.Helper()
	const most = 5 // that are shown
	bad := 0
	for i, c := range report.Clients {
		count, sum := 0, int64(0)
		for seq, n := range logs[c.Group].numbers {
			if seq >= c.First && seq <= c.Last {
				count++
				sum += n
			}
		}
		head := heads[c.Group]
		if c.Last >= head.Seq && c.Epoch == head.Epoch && c.Gaps+c.Doubles+c.Disorders+c.Strays+c.Leaks == 0 && c.Canaries == count && c.CanarySum == sum {
			continue
		}
		if bad++; bad <= most {
			w.t.Errorf("client %d saw %+v; its log is at %+v and has %d canaries with the sum %d from there", i, c, head, count, sum)
		}
	}
	if bad > most {
		w.t.Errorf("%d clients are wrong", bad)
	}
}

// judgeREST looks for other organizations' canaries in what each may read, the replayed log above all.
func (w *world) judgeREST() {
	w.t.Helper()
	const most = 20 // organizations; each costs dozens of requests
	w.each(4, func(i int) error {
		if i >= most {
			return nil
		}
		o, ctx := w.orgs[i], testkit.Context(w.t)
		for after, more := int64(0), true; more; {
			var raw []byte
			if err := w.rest(ctx, o, http.MethodGet, fmt.Sprintf("/api/events?limit=500&after=%d", after), nil, &raw); err != nil {
				return err
			}
			w.judgeLeak(o, "GET /api/events", raw)
			var page struct {
				Events []struct {
					Seq int64 `json:"seq"`
				} `json:"events"`
			}
			if err := json.Unmarshal(raw, &page); err != nil {
				return err
			}
			for _, e := range page.Events {
				if e.Seq != after+1 {
					return fmt.Errorf("GET /api/events of %s goes from %d to %d", o.name, after, e.Seq)
				}
				after = e.Seq
			}
			more = len(page.Events) > 0
		}
		paths := []string{"/api/chats?limit=100", "/api/channels"}
		for _, chat := range o.chats {
			paths = append(paths, fmt.Sprintf("/api/messages?limit=100&chatId=%d", chat))
		}
		for _, path := range paths {
			var raw []byte
			if err := w.rest(ctx, o, http.MethodGet, path, nil, &raw); err != nil {
				return err
			}
			w.judgeLeak(o, "GET "+path, raw)
		}
		return w.judgeForeign(ctx, o, w.orgs[(i+1)%len(w.orgs)])
	})
}

// judgeForeign asks for another organization's chat.
func (w *world) judgeForeign(ctx context.Context, o, other *organization) error {
	if o == other {
		return nil
	}
	err := w.rest(ctx, o, http.MethodGet, fmt.Sprintf("/api/chats/%d", other.chats[0]), nil, nil)
	var answer *answerError
	if !errors.As(err, &answer) || answer.status != http.StatusNotFound {
		return fmt.Errorf("%s asks for a chat of %s: want 404, got %w", o.name, other.name, err)
	}
	return nil
}

func (w *world) judgeLeak(o *organization, where string, raw []byte) {
	for _, found := range canary.FindAllSubmatch(raw, -1) {
		if string(found[1]) != o.name {
			w.t.Errorf("%s of %s has %s", where, o.name, found[0])
			return
		}
	}
}

// end sends the clients away, looks for what is left of them, ends the processes in order and reads their logs.
func (w *world) end(h *testkit.Herd, before baseline) {
	w.t.Helper()
	h.Leave()
	w.judgeResidue(before)
	began := time.Now()
	for _, p := range slices.Backward(w.all) {
		p.stop()
	}
	w.t.Logf("all processes ended within %.1f s", time.Since(began).Seconds())
	w.judgeProcessLogs()
}

func (w *world) judgeProcessLogs() {
	w.t.Helper()
	for _, p := range w.all {
		log := p.log()
		for _, bad := range []string{"DATA RACE", "panic", "fatal error:", "goroutine 1 ["} {
			if at := strings.Index(log, bad); at >= 0 {
				w.t.Errorf("the log of %s has %q:\n%.4000s", p.name, bad, log[at:])
			}
		}
		if p == w.outside {
			continue // the outside world
		}
		if found := canary.FindString(log); found != "" {
			w.t.Errorf("the log of %s has the text of a message: %s", p.name, found)
		}
		for _, o := range w.orgs {
			if strings.Contains(log, o.token) {
				w.t.Errorf("the log of %s has the token of %s", p.name, o.name)
			}
			for i := range o.customers() {
				if o.line(i).kind != domain.KindTelegram && strings.Contains(log, o.customer(i)) {
					w.t.Errorf("the log of %s has the number of customer %d of %s", p.name, i, o.name)
				}
			}
			for _, l := range o.lines() {
				for i, secret := range l.secrets() {
					if strings.Contains(log, secret) {
						w.t.Errorf("the log of %s has the secret %d of channel %d", p.name, i, l.channel)
					}
				}
			}
		}
	}
}
