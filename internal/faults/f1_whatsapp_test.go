package faults

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// killAfterDecrypt kills the worker that runs the organization's linked number when the library has decrypted a customer's
// message, with which its keys have moved on, and the message is not committed. It comes again, cannot be decrypted a second
// time, and is stored all the same: the library has the plaintext in the database. So do those behind it, in their order.
func (w *world) killAfterDecrypt(o *organization) {
	w.t.Helper()
	w.awaitEven()
	victim := w.owner(o.linked)
	release := w.lockLog(o)
	e := w.writes(o, onWhatsApp)
	behind := []entry{w.writes(o, onWhatsApp+1), w.writes(o, onWhatsApp)}
	w.awaitWaiting(victim, 1)
	w.awaitBuffered(o.linked, 1)
	w.awaitInbound(behind[1], 1, false)
	require.Empty(w.t, w.awaitInbound(e, 1, false).Acked)
	w.killWorker(victim)
	killed := time.Now()
	w.undo(victim)
	release()
	require.Zero(w.t, w.stored(e))
	w.awaitBuffered(o.linked, 1)
	w.takeNext("kill after the decryption", victim, killed, o, append(behind, e)...)
}

// killAfterCommit kills the worker when it has committed a customer's message, and the library is about to take the plaintext
// out of its buffer: no receipt has left. The message comes again, is handed to the product again, and known there.
func (w *world) killAfterCommit(o *organization) {
	w.t.Helper()
	w.awaitEven()
	victim := w.owner(o.linked)
	release := w.lockLog(o)
	e := w.writes(o, onWhatsApp)
	w.awaitWaiting(victim, 1)
	w.awaitBuffered(o.linked, 1)
	keep := w.lock("SELECT 1 "+buffered+" FOR UPDATE", o.linked.channel)
	release()
	w.awaitStored(e)
	w.awaitWaiting(victim, 1)
	require.Empty(w.t, w.awaitInbound(e, 1, false).Acked)
	w.killWorker(victim)
	killed := time.Now()
	w.undo(victim)
	keep()
	w.awaitBuffered(o.linked, 1)
	w.takeNext("kill after the commit", victim, killed, o, e)
}

// killBeforeReceipt kills the worker when all is done with a customer's message but for the receipt, which does not come
// through to WhatsApp. The message comes again, and the library alone answers.
func (w *world) killBeforeReceipt(o *organization) {
	w.t.Helper()
	w.awaitEven()
	victim := w.owner(o.linked)
	release := w.lockLog(o)
	e := w.writes(o, onWhatsApp)
	w.awaitWaiting(victim, 1)
	w.awaitBuffered(o.linked, 1)
	victim.whatsapp.Cut()
	release()
	w.awaitStored(e)
	w.awaitBuffered(o.linked, 0)
	require.Empty(w.t, w.awaitInbound(e, 1, false).Acked)
	w.killWorker(victim)
	killed := time.Now()
	require.Empty(w.t, w.awaitInbound(e, 1, false).Acked)
	w.takeNext("kill before the receipt", victim, killed, o, e)
}

// undo ends what PostgreSQL still does for a worker that is dead. A statement that waits for a lock would be carried out, and
// perhaps committed with it: the worker shall have died before it sent that.
func (w *world) undo(dead *worker) {
	w.t.Helper()
	err := w.query(testkit.Context(w.t), "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = $1", []any{dead.name},
		func(pgx.Rows) error { return nil })
	require.NoError(w.t, err)
}

// writes is customerWrites, which must succeed.
func (w *world) writes(o *organization, customer int) entry {
	w.t.Helper()
	e, err := w.customerWrites(w.t.Context(), o, customer)
	require.NoError(w.t, err)
	return e
}

// takeNext lets another worker take over, and checks that it is given messages again and acknowledges them; each is one row.
func (w *world) takeNext(what string, victim *worker, killed time.Time, o *organization, entries ...entry) {
	w.t.Helper()
	w.startWorker()
	w.requireTakeOver(what, victim, killed, takeOverAfterKill)
	w.quiet()
	w.awaitBuffered(o.linked, 0)
	for _, e := range entries {
		in := w.awaitInbound(e, 2, true)
		require.True(w.t, strings.HasPrefix(in.Acked, "receipt"), "%s: %+v", what, in)
		require.Equal(w.t, whatsapp.TypeText, in.Type)
		require.Equal(w.t, 1, w.stored(e), "%s: %s", what, e.canary())
	}
}
