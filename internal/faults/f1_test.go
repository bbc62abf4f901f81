package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
)

// takeOverAfterStop is the promise after SIGTERM; after the death of a worker its lease must run out first.
const takeOverAfterStop = 2 * time.Second

var takeOverAfterKill = leaseTTL + 3*time.Second

// F1: kill -9 a worker again and again while customers and operators write, at moments of its choice and at those that matter:
// before the commit of what it fetched, after the decryption too, and between the commit and the acknowledgement. Then end one
// in good order.
func TestFaultF1_KillWorker(t *testing.T) {
	quick(t)
	kills, inbound := sized(2, 5), sized(200, 1000)
	clients, perSecond := sized(8, 200), 50
	w := newWorld(t, plan{organizations: sized(2, 10), workers: 2, audited: true, linked: true})
	w.openIdle(sized(10, 400)) // two workers have half of them each
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)

	d := w.drive(perSecond)
	for i := range kills {
		d.more(inbound / kills)
		victim := w.busiest()
		w.killWorker(victim)
		killed := time.Now()
		w.startWorker()
		w.requireTakeOver(fmt.Sprintf("kill %d", i+1), victim, killed, takeOverAfterKill)
	}
	d.stop()
	w.quiet()
	w.killBeforeCommit(w.orgs[0])
	w.killBeforeAcknowledgement(w.orgs[0])
	w.killAfterDecrypt(w.orgs[0])
	w.killAfterCommit(w.orgs[0])
	w.killBeforeReceipt(w.orgs[0])

	d = w.drive(perSecond)
	d.more(perSecond)
	victim, stopped := w.busiest(), time.Now()
	w.stopWorker(victim)
	w.requireTakeOver("SIGTERM", victim, stopped, takeOverAfterStop)
	d.stop()
	w.verdict(h)
	w.upSince(h, clients)
	w.end(h, before)
}

// killBeforeCommit kills the worker that runs the organization's bot when it has a customer's message and cannot commit it: the
// message comes again, to the next worker.
func (w *world) killBeforeCommit(o *organization) {
	w.t.Helper()
	victim := w.owner(o.telegram)
	victim.database.Cut()
	e, err := w.customerWrites(w.t.Context(), o, onTelegram)
	require.NoError(w.t, err)
	w.awaitUpdate(e, 1, false)
	w.killWorker(victim)
	killed := time.Now()
	w.startWorker()
	w.requireTakeOver("kill before the commit", victim, killed, takeOverAfterKill)
	w.quiet()
	w.awaitUpdate(e, 2, true) // what was not committed comes again
}

// killBeforeAcknowledgement kills the worker when it has committed a customer's message and its next poll, which would tell Telegram
// so, has not arrived: the next worker goes on behind the message.
func (w *world) killBeforeAcknowledgement(o *organization) {
	w.t.Helper()
	victim := w.owner(o.telegram)
	// The poll that waits now is a new one: it does not end by itself in between.
	e, err := w.customerWrites(w.t.Context(), o, onTelegram)
	require.NoError(w.t, err)
	w.awaitUpdate(e, 1, true)
	hang := w.setFault(telegram.Fault{Kind: telegram.FaultHang, Method: "getUpdates", Bot: o.telegram.bot.ID, Count: 1})
	e, err = w.customerWrites(w.t.Context(), o, onTelegram)
	require.NoError(w.t, err)
	hang.struck()
	stored := 0
	err = w.query(w.t.Context(), "SELECT count(*) FROM messages WHERE organization_id = $1 AND content = $2", []any{o.id, e.canary()},
		func(r pgx.Rows) error { return r.Scan(&stored) })
	require.NoError(w.t, err)
	require.Equal(w.t, 1, stored, "a worker polls behind a message only after its commit")
	require.False(w.t, w.awaitUpdate(e, 1, false).Confirmed())
	w.killWorker(victim)
	killed := time.Now()
	hang.clear()
	w.startWorker()
	w.requireTakeOver("kill before the acknowledgement", victim, killed, takeOverAfterKill)
	w.quiet()
	u := w.awaitUpdate(e, 1, true)
	require.Equal(w.t, 1, u.Deliveries, "what was committed does not come again: the position is part of the commit")
}
