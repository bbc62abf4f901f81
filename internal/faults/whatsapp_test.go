package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// whatsAppSettings are what the product must be told to take the simulator for WhatsApp.
func (w *world) whatsAppSettings() []string {
	w.t.Helper()
	var setup struct {
		Lines []string `json:"lines"`
	}
	require.NoError(w.t, request(testkit.Context(w.t), http.MethodGet, w.whatsapp+"/control/setup", "", nil, &setup))
	require.Len(w.t, setup.Lines, 2)
	return setup.Lines
}

// openLinked makes a channel for an organization and lets a phone scan its QR code, which links the number.
func (w *world) openLinked(ctx context.Context, o *organization, n int) (*line, error) {
	l := &line{kind: domain.KindWhatsApp, phone: fmt.Sprintf("4916%09d", n)}
	err := request(ctx, http.MethodPost, w.whatsapp+"/control/phones", "", whatsapp.Phone{Number: l.phone, Name: "Shop of " + o.name}, nil)
	for i := onWhatsApp; i < onWhatsApp+customersEach && err == nil; i++ {
		who := whatsapp.Person{Number: o.customer(i), Name: fmt.Sprintf("Customer %d", i)}
		err = request(ctx, http.MethodPost, w.whatsapp+"/control/people", "", who, nil)
	}
	if err == nil {
		err = w.openChannel(ctx, o, l, map[string]any{})
	}
	if err != nil {
		return nil, err
	}
	path := fmt.Sprintf("/api/channels/%d", l.channel)
	if err := w.rest(ctx, o, http.MethodPost, path+"/connect", nil, nil); err != nil {
		return nil, err
	}
	// A code may go out of date on a busy machine.
	return l, poll(testkit.ContextFor(w.t, time.Minute), func(ctx context.Context) error {
		var code struct {
			QR string `json:"qr"`
		}
		if err := w.rest(ctx, o, http.MethodGet, path+"/qr", nil, &code); err != nil {
			return err
		}
		return request(ctx, http.MethodPost, w.whatsapp+"/control/phones/"+l.phone+"/scan", "", map[string]any{"qr": code.QR}, nil)
	})
}

// session is a socket on which a worker was, or is, logged in to WhatsApp.
type session struct {
	whatsapp.Connection

	worker string
}

// sessions are those of all linked numbers, by their logins; and where two met.
func (w *world) sessions(ctx context.Context) (all []session, overlaps []whatsapp.Overlap, err error) {
	if !w.linked {
		return nil, nil, nil
	}
	var answer struct {
		Connections []whatsapp.Connection `json:"connections"`
		Overlaps    []whatsapp.Overlap    `json:"overlaps"`
	}
	if err := request(ctx, http.MethodGet, w.whatsapp+"/control/connections", "", nil, &answer); err != nil {
		return nil, nil, err
	}
	for _, c := range answer.Connections {
		if !c.LoggedInAt.IsZero() {
			all = append(all, session{c, w.callerFrom(c.Remote, c.LoggedInAt)})
		}
	}
	slices.SortFunc(all, func(a, b session) int { return a.LoggedInAt.Compare(b.LoggedInAt) })
	return all, answer.Overlaps, nil
}

// callerFrom tells the worker by the connection by which it has reached a provider by a moment.
func (w *world) callerFrom(remote string, by time.Time) string {
	caller, latest := "nobody at "+remote, time.Time{}
	for _, x := range w.everyWorker {
		if at := x.whatsapp.Made(remote, by); at.After(latest) {
			caller, latest = x.name, at
		}
	}
	return caller
}

// open says that the session was open at a moment.
func (s session) open(at time.Time) bool {
	return !at.Before(s.LoggedInAt) && (s.EndedAt.IsZero() || !at.After(s.EndedAt))
}

// linkedDeliveries adds what workers sent by linked numbers. WhatsApp recognises a repetition by its id: that has no effect.
func (w *world) linkedDeliveries(ctx context.Context, all []delivery) ([]delivery, error) {
	if !w.linked {
		return all, nil
	}
	const most = 10_000 // that the ledger answers at once
	var ledger struct {
		Entries []whatsapp.Entry `json:"entries"`
	}
	err := request(ctx, http.MethodGet, fmt.Sprintf("%s/control/ledger?kind=%s&limit=%d", w.whatsapp, whatsapp.KindSend, most), "", nil, &ledger)
	if err != nil {
		return nil, err
	}
	if len(ledger.Entries) == most {
		return nil, fmt.Errorf("the ledger has more than %d sends", most)
	}
	sessions, _, err := w.sessions(ctx)
	if err != nil {
		return nil, err
	}
	// What the customer could not decrypt is readable when it was sent again.
	texts := map[[2]string]string{}
	for _, e := range ledger.Entries {
		if e.Send.Text != "" {
			texts[[2]string{e.Number, e.Send.ID}] = e.Send.Text
		}
	}
	for _, e := range ledger.Entries {
		d := delivery{
			line: e.Number, to: e.Send.To, text: texts[[2]string{e.Number, e.Send.ID}], began: e.At, id: e.Send.ID, worker: "nobody",
			told: e.Send.Outcome == whatsapp.OutcomeAccepted,
		}
		d.effect = e.What == "sent" && (d.told || e.Send.Outcome == whatsapp.OutcomeUntold)
		for _, s := range sessions { // of a repetition the ledger does not tell the socket
			if s.Number == e.Number && s.open(e.At) {
				d.worker = s.worker
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// inbound are the lives of the messages for a linked number, or for all for "".
func (w *world) inbound(ctx context.Context, number string) ([]whatsapp.Inbound, error) {
	var all []whatsapp.Inbound
	err := request(ctx, http.MethodGet, w.whatsapp+"/control/ledger/inbound?number="+url.QueryEscape(number), "", nil, &all)
	return all, err
}

// awaitInbound waits until a customer's message was given to workers so often and, if wanted, is acknowledged.
func (w *world) awaitInbound(e entry, times int, acked bool) whatsapp.Inbound {
	w.t.Helper()
	var in whatsapp.Inbound
	testkit.EventuallyNoError(w.t, "WhatsApp to hand out "+e.canary(), func(ctx context.Context) error {
		all, err := w.inbound(ctx, e.organization.linked.phone)
		for _, in = range all {
			if in.ID == e.external && in.Times >= times && (in.Acked != "" || !acked) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("message %s was not handed out %d times", e.external, times))
	})
	return in
}

// conversation is what a customer's phone shows of their chat with a linked number.
func (w *world) conversation(ctx context.Context, l *line, customer string) ([]whatsapp.Message, error) {
	var all []whatsapp.Message
	err := request(ctx, http.MethodGet, fmt.Sprintf("%s/control/phones/%s/chats/%s/messages", w.whatsapp, l.phone, customer), "", nil, &all)
	return all, err
}

// confirmReplies lets a customer's phone confirm what it got from a linked number.
func (w *world) confirmReplies(o *organization, customer int) {
	w.t.Helper()
	path := fmt.Sprintf("%s/control/phones/%s/chats/%s/read", w.whatsapp, o.line(customer).phone, o.customer(customer))
	require.NoError(w.t, request(testkit.Context(w.t), http.MethodPost, path, "", map[string]any{"delivered": true}, nil))
}

// lock holds what a statement of SELECT … FOR UPDATE names until release is called: who wants to write it waits.
func (w *world) lock(sql string, args ...any) (release func()) {
	w.t.Helper()
	ctx := testkit.ContextFor(w.t, 2*time.Minute)
	conn, err := pgx.Connect(ctx, w.postgres.URL(databaseName))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(ctx, "BEGIN")
	require.NoError(w.t, err)
	got, err := conn.Exec(ctx, sql, args...)
	require.NoError(w.t, err)
	require.Equal(w.t, int64(1), got.RowsAffected(), "what is to be locked is one row")
	return func() {
		w.t.Helper()
		_, err := conn.Exec(ctx, "ROLLBACK")
		require.NoError(w.t, err)
		require.NoError(w.t, conn.Close(ctx))
	}
}

// lockLog keeps every change of an organization from being committed.
func (w *world) lockLog(o *organization) (release func()) {
	w.t.Helper()
	return w.lock("SELECT 1 FROM event_heads WHERE organization_id = $1 FOR UPDATE", o.id)
}

// awaitWaiting waits until so many transactions of the worker's wait for locks.
func (w *world) awaitWaiting(x *worker, want int) {
	w.t.Helper()
	testkit.EventuallyNoError(w.t, "transactions of "+x.name+" to wait for locks", func(ctx context.Context) error {
		n, err := w.count(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'", x.name)
		if err == nil && n < want {
			err = fmt.Errorf("%d of %d do", n, want)
		}
		return err
	})
}

func (w *world) count(ctx context.Context, sql string, args ...any) (n int, err error) {
	err = w.query(ctx, sql, args, func(r pgx.Rows) error { return r.Scan(&n) })
	return n, err
}

// stored is how many rows an entry of the ledger has.
func (w *world) stored(e entry) int {
	w.t.Helper()
	n, err := w.count(testkit.Context(w.t), "SELECT count(*) FROM messages WHERE organization_id = $1 AND content = $2", e.organization.id, e.canary())
	require.NoError(w.t, err)
	return n
}

// awaitStored waits for the row of an entry.
func (w *world) awaitStored(e entry) {
	w.t.Helper()
	testkit.Eventually(w.t, e.canary()+" to be stored", func() bool { return w.stored(e) == 1 })
}

// buffered are the conditions of the rows of whatsmeow_event_buffer that hold what the library has decrypted for a channel and
// the product has not taken yet.
const buffered = "FROM whatsmeow_event_buffer WHERE our_jid = (SELECT device FROM channels WHERE id = $1) AND plaintext IS NOT NULL"

// awaitBuffered waits until so many messages of the channel are decrypted and not taken.
func (w *world) awaitBuffered(l *line, want int) {
	w.t.Helper()
	testkit.EventuallyNoError(w.t, fmt.Sprintf("%d decrypted messages", want), func(ctx context.Context) error {
		n, err := w.count(ctx, "SELECT count(*) "+buffered, l.channel)
		if err == nil && n != want {
			err = fmt.Errorf("there are %d", n)
		}
		return err
	})
}

// judgeSessions checks that a number had one session at a time, from under a lease to before its end.
func (w *world) judgeSessions(sessions []session, overlaps []whatsapp.Overlap) {
	w.t.Helper()
	late, met := sized(leaseMargin+time.Second, 100*time.Millisecond), sized(time.Second, 50*time.Millisecond)
	history, channels := w.leaseHistory(), w.channelsByKey()
	last := map[string]session{}
	frozen := map[uint64]bool{} // sessions that stayed open while their worker stood still
	for _, s := range sessions {
		channel := channels[s.Number]
		under := func(at time.Time, late time.Duration) bool {
			return slices.ContainsFunc(history[channel], func(v version) bool {
				return v.worker == s.worker && !at.Before(v.from) && !at.After(v.until.Add(late))
			})
		}
		frozen[s.Seq] = w.frozenSince(s.worker, s.LoggedInAt)
		if !under(s.LoggedInAt, late) {
			w.t.Errorf("%s: a login for channel %d at %s without the lease", s.worker, channel, s.LoggedInAt.Format(time.StampMicro))
		}
		if !s.EndedAt.IsZero() && !frozen[s.Seq] && !under(s.EndedAt, late) {
			w.t.Errorf("%s: the session of channel %d from %s to %s (%s) outlives the lease", s.worker, channel,
				s.LoggedInAt.Format(time.StampMicro), s.EndedAt.Format(time.StampMicro), s.Ended)
		}
		before, more := last[s.Number]
		if more && before.open(s.LoggedInAt.Add(met)) && !frozen[before.Seq] {
			w.t.Errorf("channel %d has two sessions: of %s from %s to %s (%s), and of %s from %s", channel, before.worker, before.LoggedInAt.Format(time.StampMicro),
				before.EndedAt.Format(time.StampMicro), before.Ended, s.worker, s.LoggedInAt.Format(time.StampMicro))
		}
		last[s.Number] = s
	}
	for _, o := range overlaps {
		if !frozen[o.Earlier] {
			w.t.Errorf("channel %d has two sessions: WhatsApp saw %+v", channels[o.Number], o)
		}
	}
	w.t.Logf("oracle: %d sessions of linked numbers were each the only one, under a lease", len(sessions))
}

// judgeInbound checks that each message for a linked number was acknowledged after its commit, as one that was read, and that
// those of a chat are stored in the order in which they were written.
func (w *world) judgeInbound(committed map[string]time.Time) {
	w.t.Helper()
	ctx := testkit.Context(w.t)
	all, err := w.inbound(ctx, "")
	require.NoError(w.t, err)
	stored := map[string]int64{} // the rank in the log, by line and external id
	keys := w.keysByChannel()
	err = w.query(ctx, `SELECT m.channel_id, m.external_id, e.seq FROM messages m JOIN events e USING (organization_id)
		WHERE m.channel_kind = 'whatsapp' AND NOT m.from_me AND e.name = 'message:new' AND (e.data::jsonb ->> 'id')::bigint = m.id`, nil,
		func(r pgx.Rows) error {
			var channel, seq int64
			var external string
			err := r.Scan(&channel, &external, &seq)
			stored[keys[channel]+" "+external] = seq
			return err
		})
	require.NoError(w.t, err)
	acked, again, last := 0, 0, map[string]int64{}
	for _, in := range all {
		if in.Type != whatsapp.TypeText || in.FromMe {
			continue
		}
		key, chat := in.Number+" "+in.ID, in.Number+" "+in.From
		switch seq, found := stored[key]; {
		case in.Lost || !found:
			w.t.Errorf("the message %s for %s is lost: %+v", in.ID, in.Number, in)
		case seq <= last[chat]:
			w.t.Errorf("the message %s for %s is stored before an earlier one", in.ID, in.Number)
		default:
			last[chat] = seq
		}
		if in.Times > 1 {
			again++
		}
		if in.Acked == "" {
			continue
		}
		acked++
		if at, found := committed[key]; !found || in.AckedAt.Before(at) || !strings.HasPrefix(in.Acked, "receipt") {
			w.t.Errorf("message %s for %s was acknowledged by %q at %s, and committed at %s", in.ID, in.Number, in.Acked,
				in.AckedAt.Format(time.StampMicro), at.Format(time.StampMicro))
		}
	}
	w.t.Logf("oracle: %d messages for linked numbers were acknowledged after the commit; %d were given out again", acked, again)
}

// judgeConversations checks that customers are shown each reply once, though it was sent more often, and in order.
func (w *world) judgeConversations() {
	w.t.Helper()
	ctx, shown := testkit.Context(w.t), 0
	for _, o := range w.orgs {
		if o.linked == nil {
			continue
		}
		for i := onWhatsApp; i < o.customers(); i++ {
			messages, err := w.conversation(ctx, o.linked, o.customer(i))
			require.NoError(w.t, err)
			times := map[string]int{}
			for _, m := range messages {
				if m.FromMe && isCanary(m.Text) {
					times[m.Text]++
					shown++
				}
				if m.Error != "" {
					w.t.Errorf("customer %d of %s cannot read %s: %s", i, o.name, m.Text, m.Error)
				}
			}
			err = w.query(ctx, "SELECT content, status FROM messages WHERE chat_id = $1 AND from_me", []any{o.chats[i]}, func(r pgx.Rows) error {
				var content, status string
				err := r.Scan(&content, &status)
				if times[content] != 1 {
					w.t.Errorf("customer %d of %s is shown the reply %s, which is %s, %d times", i, o.name, content, status, times[content])
				}
				return err
			})
			require.NoError(w.t, err)
		}
	}
	w.t.Logf("oracle: linked numbers' customers are shown %d replies, each once", shown)
}

// awaitEven waits until the workers have shared the channels out, or do not for long: then they move none from one to another.
func (w *world) awaitEven() {
	w.t.Helper()
	err := pollEvery(testkit.ContextFor(w.t, 2*time.Minute), 200*time.Millisecond, func(ctx context.Context) error {
		leases, err := w.leases(ctx)
		if err != nil {
			return err
		}
		held := map[string]int{}
		for _, l := range leases {
			if l.left > 0 {
				held[l.worker]++
			}
		}
		least, most, all := len(leases), 0, 0
		for _, x := range w.workers {
			least, most, all = min(least, held[x.name]), max(most, held[x.name]), all+held[x.name]
		}
		if most-least <= 1 && all == len(w.lines()) {
			return nil
		}
		moved, err := w.count(ctx, `SELECT count(*) FROM (SELECT at, worker, lag(worker) OVER (PARTITION BY channel_id ORDER BY at) AS before FROM audit.leases)
			AS versions WHERE worker IS DISTINCT FROM before AND at > clock_timestamp() - make_interval(secs => $1)`, 2*leaseTTL.Seconds())
		if err == nil && moved > 0 {
			err = fmt.Errorf("of %d channels the workers have %v", len(w.lines()), held)
		}
		return err
	})
	require.NoError(w.t, err, "waited for the workers to share the channels out")
	w.each(4, func(i int) error { return w.awaitChannels(w.orgs[i]) })
}
