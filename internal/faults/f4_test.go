package faults

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/testkit"
)

// F4: a worker is cut off from PostgreSQL, whose packets are lost without a word, while it still reaches the providers. It gives
// its channels up before another one takes them, confirms nothing that it could not commit, and is of use again when the way
// is whole. What it had sent to the database arrives then, late, and changes nothing.
func TestFaultF4_WorkerCutOff(t *testing.T) {
	quick(t)
	clients, perSecond := sized(8, 100), sized(20, 50)
	w := newWorld(t, plan{organizations: sized(2, 10), audited: true})
	w.openIdle(sized(1, 20)) // their polls stay open
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)
	o, victim := w.orgs[0], w.workers[0]

	for _, round := range []struct {
		name string
		cut  func() entry // cuts the worker off, and lets a customer write whose message it fetches
	}{
		{"cut off", func() entry { return w.cutBeforeMessage(victim, o) }},
		{"cut off in a transaction", func() entry { return w.cutInTransaction(victim, o) }},
	} {
		d := w.drive(perSecond)
		d.more(perSecond)
		d.stop()
		w.quiet()
		require.Len(t, w.held(victim), len(w.lines()), "the worker has all channels")
		sends, delays := w.holdSends(o, "settled while "+round.name, 1, telegram.FaultDelay, cloudapi.FaultDelay)
		fetched := round.cut()
		cut := time.Now()
		w.letAnswer(sends, delays)
		other := w.startWorker()
		d = w.drive(perSecond)
		w.requireTakeOver(round.name, victim, cut, takeOverAfterKill)
		w.requireSilent(round.name, victim, cut)
		for _, s := range sends {
			w.awaitStatus(s.entry, s.fate)
		}
		w.awaitUpdate(fetched, 2, true) // what could not be committed comes again, to the next worker
		d.more(perSecond)

		victim.database.Heal()
		healed := time.Now()
		testkit.Eventually(t, "the worker to be ready", func() bool { return status(victim.URL+"/readyz") == http.StatusOK })
		t.Logf("%s: the worker is ready %.2f s after the way is whole", round.name, time.Since(healed).Seconds())
		d.more(perSecond)
		d.stop()
		for _, s := range sends {
			w.requireFate(s)
		}
		w.reportLate(sends)
		w.decide(sends)
		stopped := time.Now()
		w.stopWorker(other)
		w.requireTakeOver("back from "+round.name, other, stopped, takeOverAfterStop)
	}
	d := w.drive(perSecond)
	d.more(perSecond)
	d.stop()
	w.verdict(h)
	w.upSince(h, clients)
	w.end(h, before)
}

// cutBeforeMessage cuts a worker off; then a customer writes.
func (w *world) cutBeforeMessage(victim *worker, o *organization) entry {
	w.t.Helper()
	victim.database.Cut()
	e, err := w.customerWrites(w.t.Context(), o, customersEach)
	require.NoError(w.t, err)
	require.False(w.t, w.awaitUpdate(e, 1, false).Confirmed())
	return e
}

// cutInTransaction cuts a worker off while the database works for it: the transaction stays open there, with its locks, among
// them one on the lease.
func (w *world) cutInTransaction(victim *worker, o *organization) entry {
	w.t.Helper()
	ctx := testkit.Context(w.t)
	conn, err := pgx.Connect(ctx, w.postgres.URL(databaseName))
	require.NoError(w.t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "BEGIN")
	require.NoError(w.t, err)
	_, err = conn.Exec(ctx, "SELECT 1 FROM event_heads WHERE organization_id = $1 FOR UPDATE", o.id)
	require.NoError(w.t, err)
	e, err := w.customerWrites(ctx, o, customersEach)
	require.NoError(w.t, err)
	testkit.EventuallyNoError(w.t, "the worker's transaction to wait for the log", func(ctx context.Context) error {
		waiting := 0
		err := w.query(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'", []any{victim.name},
			func(r pgx.Rows) error { return r.Scan(&waiting) })
		if err == nil && waiting == 0 {
			err = fmt.Errorf("none does")
		}
		return err
	})
	victim.database.Cut()
	_, err = conn.Exec(ctx, "ROLLBACK")
	require.NoError(w.t, err)
	require.False(w.t, w.awaitUpdate(e, 1, false).Confirmed())
	return e
}

// requireSilent checks that a worker that cannot renew its leases has ended its polls before they ran out. (That nobody else
// polled meanwhile, and that it began nothing later, is for the oracle.)
func (w *world) requireSilent(what string, victim *worker, cut time.Time) {
	w.t.Helper()
	last := time.Time{}
	testkit.EventuallyNoError(w.t, "Telegram to see the ends of the polls", func(ctx context.Context) error {
		polls, _, err := w.polls(ctx, 0, 0)
		for _, p := range polls {
			switch {
			case w.callerAt(p.Host) != victim.name:
			case p.End.IsZero():
				return fmt.Errorf("poll %+v is open", p)
			case p.End.After(last):
				last = p.End
			}
		}
		return err
	})
	w.t.Logf("%s: the last poll ends %.2f s after the cut", what, last.Sub(cut).Seconds())
	require.Less(w.t, last.Sub(cut), testkit.Slack(leaseTTL))
}
