package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// entry is a message that the simulator or the product took, and must not lose.
type entry struct {
	organization *organization
	n            int64
	reply        bool
	update       int64  // Telegram's number of a customer's message
	external     string // WhatsApp's id of it
}

func (e entry) canary() string { return fmt.Sprintf("%s%s-%d", canaryPrefix, e.organization.name, e.n) }

// ledger is every message that was accepted.
type ledger struct {
	mu      sync.Mutex // guards what follows
	entries []entry
	last    map[string]int64 // the last number given, by organization
	changed chan struct{}    // closed, and replaced, with every entry
}

func newLedger() *ledger { return &ledger{last: map[string]int64{}, changed: make(chan struct{})} }

// next is a fresh entry; it counts once it is accepted.
func (l *ledger) next(o *organization, reply bool) entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[o.name]++
	return entry{organization: o, n: l.last[o.name], reply: reply}
}

func (l *ledger) accept(entries ...entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entries...)
	close(l.changed)
	l.changed = make(chan struct{})
}

// list returns the entries so far, and what is closed when there are more.
func (l *ledger) list() ([]entry, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[:len(l.entries):len(l.entries)], l.changed
}

// mark says how much was accepted so far, for forgetSince.
func (l *ledger) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// forgetSince gives up what was accepted after a backup, when that is restored.
func (l *ledger) forgetSince(mark int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = l.entries[:mark:mark]
}

// customerWrites lets a customer send a text through the simulator, which holds it until the product has acknowledged it.
func (w *world) customerWrites(ctx context.Context, o *organization, customer int) (entry, error) {
	e := w.ledger.next(o, false)
	var err error
	switch l := o.line(customer); l.kind {
	case domain.KindTelegram:
		var sent telegram.Sent
		err = request(ctx, http.MethodPost, fmt.Sprintf("%s/control/bots/%d/chats/%s/messages", w.telegram, l.bot.ID, o.customer(customer)), "",
			telegram.Incoming{Type: "text", Text: e.canary()}, &sent)
		if err == nil {
			e.update = sent.Updates[0].ID
		}
	case domain.KindWhatsApp:
		var sent whatsapp.Delivery
		err = request(ctx, http.MethodPost, w.whatsapp+"/control/phones/"+l.phone+"/messages", "",
			whatsapp.Incoming{From: o.customer(customer), Text: e.canary()}, &sent)
		e.external = sent.ID
	default:
		err = w.control(ctx, fmt.Sprintf("/control/numbers/%s/customers/%s/messages", l.number.PhoneNumberID, o.customer(customer)),
			cloudapi.Incoming{Type: "text", Text: e.canary(), ID: externalID(e)})
	}
	if err == nil {
		w.ledger.accept(e)
	}
	return e, err
}

func externalID(e entry) string { return "wamid." + e.canary() }

// operatorReplies sends a reply, again and again until the product has taken it.
func (w *world) operatorReplies(ctx context.Context, o *organization, customer int) error {
	_, err := w.reply(ctx, o, customer)
	return err
}

func (w *world) reply(ctx context.Context, o *organization, customer int) (entry, error) {
	e := w.ledger.next(o, true)
	err := poll(ctx, func(ctx context.Context) error {
		err := w.rest(ctx, o, http.MethodPost, "/api/messages/send", map[string]any{
			"chatId": o.chats[customer], "content": e.canary(), "clientMessageId": e.canary(),
		}, nil)
		var answer *answerError
		if errors.As(err, &answer) && answer.status < http.StatusInternalServerError {
			w.t.Errorf("a reply is refused: %v", err)
			return nil
		}
		return err
	})
	if err == nil {
		w.ledger.accept(e)
	}
	return e, err
}

// burst sends many texts to an organization in webhooks of a hundred.
func (w *world) burst(ctx context.Context, o *organization, texts int) error {
	const batch = 100
	for texts > 0 {
		entries := make([]entry, 0, batch)
		messages := make([]map[string]any, 0, batch)
		for range min(batch, texts) {
			e := w.ledger.next(o, false)
			entries = append(entries, e)
			messages = append(messages, map[string]any{
				"from": o.customer(int(e.n) % customersEach), "id": externalID(e), "timestamp": strconv.FormatInt(time.Now().Unix(), 10),
				"type": "text", "text": map[string]any{"body": e.canary()},
			})
		}
		texts -= len(entries)
		body, err := json.Marshal(map[string]any{"object": "whatsapp_business_account", "entry": []any{map[string]any{
			"id": "1" + o.waba.number.PhoneNumberID, "changes": []any{map[string]any{"field": "messages", "value": map[string]any{
				"messaging_product": "whatsapp",
				"metadata":          map[string]any{"phone_number_id": o.waba.number.PhoneNumberID, "display_phone_number": "15550000000"},
				"messages":          messages,
			}}},
		}}})
		if err != nil {
			return err
		}
		if err := w.control(ctx, "/control/numbers/"+o.waba.number.PhoneNumberID+"/webhook", body); err != nil {
			return err
		}
		w.ledger.accept(entries...)
	}
	return nil
}

// traffic is a driver at work.
type traffic struct {
	w      *world
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	behind atomic.Int64 // turns that were left out, because too many were under way
}

// drive lets customers write to all organizations in turn, perSecond messages in all, and operators reply to every tenth,
// until stop. Replies that wait for a part of the product do not hold up the customers.
func (w *world) drive(perSecond int) *traffic {
	w.t.Helper()
	const replyEvery, writers = 10, 16
	ctx, cancel := context.WithCancel(w.t.Context())
	d := &traffic{w: w, cancel: cancel}
	writing, replying := make(chan int, 4*perSecond), make(chan int, perSecond)
	d.tasks.Go(func() {
		defer close(writing)
		defer close(replying)
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		for turn := 0; ; turn++ {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			// Each kind has a count of its own, so that it comes to every organization.
			turns, own := writing, turn-turn/replyEvery
			if turn%replyEvery == replyEvery-1 {
				turns, own = replying, turn/replyEvery
			}
			select {
			case turns <- own:
			default:
				d.behind.Add(1)
			}
		}
	})
	for range writers {
		d.work(ctx, writing, func(ctx context.Context, o *organization, chat int) error {
			_, err := w.customerWrites(ctx, o, chat)
			return err
		})
		d.work(ctx, replying, w.operatorReplies)
	}
	w.t.Cleanup(d.stop)
	return d
}

// work takes turns. What was begun is finished, also when the driver stops meanwhile.
func (d *traffic) work(running context.Context, turns <-chan int, write func(context.Context, *organization, int) error) {
	w := d.w
	d.tasks.Go(func() {
		for turn := range turns {
			if running.Err() != nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(running), 2*time.Minute)
			o := w.orgs[turn%len(w.orgs)]
			err := write(ctx, o, turn/len(w.orgs)%o.customers())
			cancel()
			if err != nil {
				w.t.Errorf("the driver: %v", err)
			}
		}
	})
}

// stop returns when all that was begun is accepted.
func (d *traffic) stop() {
	d.cancel()
	d.tasks.Wait()
	if left := d.behind.Swap(0); left > 0 {
		d.w.t.Logf("the driver left out %d turns, because others took long", left)
	}
}

// more waits until so many further messages were accepted.
func (d *traffic) more(messages int) {
	d.w.t.Helper()
	entries, changed := d.w.ledger.list()
	goal := len(entries) + messages
	ctx := testkit.ContextFor(d.w.t, time.Minute)
	for len(entries) < goal {
		select {
		case <-changed:
		case <-ctx.Done():
			require.FailNow(d.w.t, "the driver does not get on", "%d of %d messages", len(entries), goal)
		}
		entries, changed = d.w.ledger.list()
	}
}

// reaches lets a customer write and waits until the organization's clients have it.
func (w *world) reaches(ctx context.Context, h *testkit.Herd, o *organization, customer int) error {
	e, err := w.customerWrites(ctx, o, customer)
	if err != nil {
		return err
	}
	var head testkit.HerdPosition
	err = poll(ctx, func(ctx context.Context) error {
		if err := w.idle(ctx); err != nil {
			return err
		}
		err := w.query(ctx, `SELECT seq, epoch FROM event_heads h JOIN messages m USING (organization_id)
			WHERE organization_id = $1 AND m.content = $2`, []any{o.id, e.canary()},
			func(r pgx.Rows) error { return r.Scan(&head.Seq, &head.Epoch) })
		if err == nil && head.Seq == 0 {
			err = fmt.Errorf("%s is not stored", e.canary())
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = h.Await(ctx, testkit.HerdGoal{Connected: -1, Heads: map[string]testkit.HerdPosition{o.name: head}})
	return err
}
