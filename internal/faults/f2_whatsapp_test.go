package faults

import (
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// holdReceipts keeps the phone of an organization's customer from confirming the next reply, so that nothing but the answer to
// the send tells of it; see confirmReplies.
func (w *world) holdReceipts(o *organization) {
	w.t.Helper()
	w.setFault(whatsapp.Fault{Kind: whatsapp.FaultNoReceipt, Number: o.linked.phone, Peer: o.customer(onWhatsApp), Count: 1})
}

// holdSettling lets an operator write on the linked number of an organization, and keeps the worker, which has WhatsApp's
// answer, from storing it until release is called.
func (w *world) holdSettling(victim *worker, o *organization) (s *send, release func()) {
	w.t.Helper()
	w.holdReceipts(o)
	victim.whatsapp.Cut()
	s = w.beginSends(o, "answered", domain.StatusSending, domain.StatusSent, 1, onWhatsApp)[0]
	release = w.lock("SELECT 1 FROM messages WHERE id = $1 FOR UPDATE", s.message)
	victim.whatsapp.Heal()
	w.awaitWaiting(victim, 1)
	found, err := w.sentAs(testkit.Context(w.t), s.entry)
	require.NoError(w.t, err)
	require.Len(w.t, found, 1)
	require.True(w.t, found[0].effect && found[0].told, "WhatsApp has answered: %+v", found)
	return s, release
}

// requireOneID checks that a send on a linked number had the id that was stored before it left, each time; and that it left
// again unless it certainly had not left before.
func (w *world) requireOneID(s *send) {
	w.t.Helper()
	found, err := w.sentAs(testkit.Context(w.t), s.entry)
	require.NoError(w.t, err)
	want := w.message(s.entry).external
	require.NotEmpty(w.t, want)
	for _, d := range found {
		require.Equal(w.t, want, d.id, "%s: %+v", s, found)
	}
	switch s.state {
	case "queued", "claimed":
		require.Len(w.t, found, 1, "%s", s)
	default:
		require.GreaterOrEqual(w.t, len(found), 2, "%s: it is sent again", s)
		require.NotEqual(w.t, found[0].worker, found[len(found)-1].worker, "%s: by another worker", s)
	}
	last := found[len(found)-1]
	require.True(w.t, last.told, "%s: WhatsApp has answered at last: %+v", s, last)
	told := 0
	err = w.query(testkit.Context(w.t), `SELECT count(*) FROM events WHERE organization_id = $1 AND name = 'message:status'
		AND (data::jsonb ->> 'messageId')::bigint = $2 AND data::jsonb ->> 'status' IN ('unknown', 'failed')`, []any{s.organization.id, s.message},
		func(r pgx.Rows) error { return r.Scan(&told) })
	require.NoError(w.t, err)
	require.Zero(w.t, told, "%s: no operator is asked to decide", s)
	w.confirmReplies(s.organization, s.customer)
	w.awaitStatus(s.entry, domain.StatusDelivered)
	w.t.Logf("%s: left %d times under one id", s, len(found))
}

// writesToAll lets customers write, on the bot and on the linked number: these are messages that a worker fetches.
func (w *world) writesToAll(o *organization) []entry {
	w.t.Helper()
	return []entry{w.writes(o, onTelegram), w.writes(o, onWhatsApp)}
}

// awaitGiven waits until the messages of writesToAll were given to workers so often and are confirmed, or checks that they are not.
func (w *world) awaitGiven(given []entry, times int, confirmed bool) {
	w.t.Helper()
	for _, e := range given {
		var done bool
		if e.external != "" {
			done = w.awaitInbound(e, times, confirmed).Acked != ""
		} else {
			done = w.awaitUpdate(e, times, confirmed).Confirmed()
		}
		require.Equal(w.t, confirmed, done, "%s is confirmed", e.canary())
	}
}
