package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// An oracle that finds nothing proves nothing: each kind of fault is made by hand, and it must be told.
func TestOracleFindsFaults(t *testing.T) {
	quick(t)
	w := newWorld(t, plan{organizations: 2, audited: true, linked: true})
	acme, rival := w.orgs[0], w.orgs[1]
	h := w.herd(2)
	w.connect(h, 2)
	d := w.drive(20)
	d.more(10)
	d.stop()
	report, heads := w.verdict(h), w.quiet()

	do := func(sql string, args ...any) {
		t.Helper()
		require.NoError(t, w.query(testkit.Context(t), sql, args, func(pgx.Rows) error { return nil }))
	}
	judge := func(judgement func(*world)) string {
		told := &recorder{TB: t}
		observed := *w
		observed.t = told
		judgement(&observed)
		return told.String()
	}
	rows, rest, logs := (*world).judgeRows, (*world).judgeREST, func(w *world) { w.judgeLogs(heads) }
	sound := w.judgeLogs(heads)
	clients := func(change func(*testkit.HerdLedger)) string {
		return judge(func(w *world) {
			changed := report
			changed.Clients = append([]testkit.HerdLedger{}, report.Clients...)
			change(&changed.Clients[0])
			w.judgeClients(changed, heads, sound)
		})
	}
	for _, judgement := range []func(*world){rows, rest, logs, (*world).judgeProcessLogs} {
		require.Empty(t, judge(judgement), "what is sound is found sound")
	}

	w.trespass(t, judge)
	w.trespassOnWhatsApp(t, judge)

	// What the clients saw.
	require.Empty(t, clients(func(*testkit.HerdLedger) {}))
	for what, change := range map[string]func(*testkit.HerdLedger){
		"gap":      func(c *testkit.HerdLedger) { c.Gaps++ },
		"double":   func(c *testkit.HerdLedger) { c.Doubles++ },
		"disorder": func(c *testkit.HerdLedger) { c.Disorders++ },
		"stray":    func(c *testkit.HerdLedger) { c.Strays++ },
		"leak":     func(c *testkit.HerdLedger) { c.Leaks++ },
		"behind":   func(c *testkit.HerdLedger) { c.Last-- },
		"epoch":    func(c *testkit.HerdLedger) { c.Epoch = "another" },
		"contents": func(c *testkit.HerdLedger) { c.CanarySum++ },
		"count":    func(c *testkit.HerdLedger) { c.Canaries-- },
	} {
		require.Contains(t, clients(change), "client 0 saw", what)
	}

	// A process's log.
	log, err := os.OpenFile(w.nodes[0].logFile, os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = fmt.Fprintln(log, "canary-org1-1", acme.token, "WARNING: DATA RACE")
	require.NoError(t, err)
	require.NoError(t, log.Close())
	told := judge((*world).judgeProcessLogs)
	require.Contains(t, told, "DATA RACE")
	require.Contains(t, told, "text of a message")
	require.Contains(t, told, "has the token of org1")

	// The log and the rows.
	do(`UPDATE events SET data = replace(data, 'canary-org1-', 'canary-org2-') WHERE organization_id = $1
		AND seq = (SELECT max(seq) FROM events WHERE organization_id = $1 AND name <> 'message:new' AND data LIKE '%canary-org1-%')`, acme.id)
	require.Contains(t, judge(logs), "is in the log of organization")
	require.Contains(t, judge(rest), "GET /api/events of org1 has canary-org2-")
	do(`DELETE FROM events WHERE organization_id = $1 AND seq = $2`, rival.id, heads[rival.name].Seq-1)
	told = judge(logs)
	require.Contains(t, told, fmt.Sprintf("the log of organization %d goes from", rival.id))
	w.ledger.accept(w.ledger.next(acme, false))
	require.Contains(t, judge(rows), "messages that were acknowledged are not stored")
	require.Contains(t, judge(logs), "has 0 message:new events")
	entries, _ := w.ledger.list()
	do(`UPDATE messages SET content = $1 WHERE id IN (SELECT id FROM messages WHERE organization_id = $2 LIMIT 2)`, entries[0].canary(), entries[0].organization.id)
	require.Contains(t, judge(rows), "messages are stored more than once")
}

// trespass does what no worker may, and checks that the oracle tells.
func (w *world) trespass(t *testing.T, judge func(func(*world)) string) {
	t.Helper()
	ctx := testkit.Context(t)
	do := func(url, sql string, args ...any) {
		t.Helper()
		require.NoError(t, query(ctx, url, sql, args, func(pgx.Rows) error { return nil }))
	}
	database := w.postgres.URL(databaseName)
	acme := w.orgs[0]
	customer := onTelegram
	reply, err := w.reply(ctx, acme, customer)
	require.NoError(t, err)
	w.awaitSent(reply)
	w.quiet()
	for _, judgement := range []func(*world){(*world).judgeReplies, (*world).judgeLeases} {
		require.Empty(t, judge(judgement), "what is sound is found sound")
	}

	// A customer's message that Telegram forgets before it is committed.
	do(database, `DELETE FROM audit.writes WHERE name = 'messages' AND op = 'INSERT' AND channel_id = $1`, acme.telegram.channel)
	require.Contains(t, judge((*world).judgeConfirmations), "its message was committed at")

	// A worker that writes for a channel of another one.
	do(database+"&application_name=worker-99", `UPDATE chats SET unread_count = unread_count WHERE id = $1`, acme.chats[0])
	require.Contains(t, judge((*world).judgeWrites), `worker-99: UPDATE chats for channel`)

	// Somebody who sends and polls without a lease.
	bot := w.telegram + "/bot" + acme.telegram.bot.Token
	require.NoError(t, request(ctx, http.MethodPost, bot+"/sendMessage", "", map[string]any{
		"chat_id": acme.customer(customer), "text": reply.canary(),
	}, nil))
	require.Contains(t, judge((*world).judgeReplies), "reached the customer 2 times")
	require.Contains(t, judge((*world).judgeCalls), "a send for channel")
	require.NoError(t, request(ctx, http.MethodPost, bot+"/getUpdates", "", map[string]any{"timeout": 1}, nil))
	require.Contains(t, judge((*world).judgeCalls), "a poll for channel")
	testkit.EventuallyNoError(t, "the end of the worker's poll, which the other one met", func(ctx context.Context) error {
		_, overlaps, err := w.polls(ctx, acme.telegram.bot.ID, 0)
		if err == nil && len(overlaps) == 0 {
			err = errors.New("it is open")
		}
		return err
	})
	require.Contains(t, judge((*world).judgeCalls), "has two pollers")
}

// trespassOnWhatsApp does the same for a linked number.
func (w *world) trespassOnWhatsApp(t *testing.T, judge func(func(*world)) string) {
	t.Helper()
	ctx := testkit.Context(t)
	database := w.postgres.URL(databaseName)
	do := func(url, sql string, args ...any) {
		t.Helper()
		require.NoError(t, query(ctx, url, sql, args, func(pgx.Rows) error { return nil }))
	}
	acme := w.orgs[0]
	earlier, later := w.writes(acme, onWhatsApp), w.writes(acme, onWhatsApp)
	reply, err := w.reply(ctx, acme, onWhatsApp)
	require.NoError(t, err)
	w.quiet()
	sessions, overlaps, err := w.sessions(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, sessions)
	require.Empty(t, judge(func(w *world) { w.judgeSessions(sessions, overlaps) }), "what is sound is found sound")

	// Sessions that a worker has no right to.
	thief := sessions[len(sessions)-1]
	thief.Seq, thief.worker, thief.LoggedInAt = thief.Seq+1, "worker-99", thief.LoggedInAt.Add(time.Millisecond)
	told := judge(func(w *world) { w.judgeSessions(append(slices.Clone(sessions), thief), nil) })
	require.Contains(t, told, "worker-99: a login for channel")
	require.Contains(t, told, "has two sessions")
	long := slices.Clone(sessions)
	long[0].EndedAt = time.Now().Add(time.Hour)
	require.Contains(t, judge(func(w *world) { w.judgeSessions(long, nil) }), "outlives the lease")
	met := []whatsapp.Overlap{{Number: acme.linked.phone, Earlier: sessions[0].Seq}}
	require.Contains(t, judge(func(w *world) { w.judgeSessions(sessions, met) }), "WhatsApp saw")

	// A reply that the customer does not see, or sees as another one.
	require.Empty(t, judge((*world).judgeConversations), "what is sound is found sound")
	do(database, "UPDATE messages SET content = content || '0' WHERE organization_id = $1 AND content = $2", acme.id, reply.canary())
	require.Contains(t, judge((*world).judgeConversations), "is shown the reply")
	do(database, "UPDATE messages SET content = $2 WHERE organization_id = $1 AND content = $2 || '0'", acme.id, reply.canary())

	// Messages in another order, one that is lost, and those that were acknowledged before the commit.
	require.NotContains(t, judge((*world).judgeConfirmations), acme.linked.phone, "what is sound is found sound")
	rename := func(from, to string) {
		t.Helper()
		do(database, "UPDATE messages SET external_id = $3 WHERE channel_id = $1 AND external_id = $2", acme.linked.channel, from, to)
	}
	rename(earlier.external, "aside")
	require.Contains(t, judge((*world).judgeConfirmations), "is lost")
	rename(later.external, earlier.external)
	rename("aside", later.external)
	require.Contains(t, judge((*world).judgeConfirmations), "is stored before an earlier one")
	rename(later.external, "aside")
	rename(earlier.external, later.external)
	rename("aside", earlier.external)
	do(database, "DELETE FROM audit.writes WHERE name = 'messages' AND op = 'INSERT' AND channel_id = $1", acme.linked.channel)
	require.Contains(t, judge((*world).judgeConfirmations), "was acknowledged by")

	// Keys that a worker changes which has not the channel.
	do(database+"&application_name=worker-99", `UPDATE whatsmeow_sessions SET session = session
		WHERE our_jid = (SELECT device FROM channels WHERE id = $1)`, acme.linked.channel)
	require.Contains(t, judge((*world).judgeWrites), "worker-99: UPDATE whatsmeow_sessions for channel")
}

// recorder keeps what a judgement tells.
type recorder struct {
	testing.TB

	mu   sync.Mutex // guards told
	told []string
}

// Errorf implements testing.TB.
func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fmt.Sprintf(format, args...))
}

// FailNow implements testing.TB. What judges goes on.
func (r *recorder) FailNow() {}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.told, "\n")
}
