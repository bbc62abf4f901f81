package faults

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// F4: a worker is cut off from PostgreSQL, whose packets are lost without a word, while it still reaches the providers. It gives
// its channels up before another one takes them, confirms nothing that it could not commit, and is of use again when the way
// is whole. What it had sent to the database arrives then, late, and changes nothing.
func TestFaultF4_WorkerCutOff(t *testing.T) {
	quick(t)
	clients, perSecond := sized(8, 100), sized(20, 50)
	w := newWorld(t, plan{organizations: sized(2, 10), audited: true, linked: true})
	w.openIdle(sized(1, 20)) // their polls stay open
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)
	o, victim := w.orgs[0], w.workers[0]

	for _, round := range []struct {
		name string
		cut  func() []entry // cuts the worker off, and lets customers write whose messages it fetches
	}{
		{"cut off", func() []entry { return w.cutBeforeMessage(victim, o) }},
		{"cut off in a transaction", func() []entry { return w.cutInTransaction(victim, o) }},
	} {
		d := w.drive(perSecond)
		d.more(perSecond)
		d.stop()
		w.quiet()
		require.Len(t, w.held(victim), len(w.lines()), "the worker has all channels")
		sends, delays := w.holdSends(o, "settled while "+round.name, 1, inFlight)
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
		w.awaitGiven(fetched, 2, true) // what could not be committed comes again, to the next worker
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

// cutBeforeMessage cuts a worker off; then customers write.
func (w *world) cutBeforeMessage(victim *worker, o *organization) []entry {
	w.t.Helper()
	victim.database.Cut()
	given := w.writesToAll(o)
	w.awaitGiven(given, 1, false)
	return given
}

// cutInTransaction cuts a worker off while the database works for it: the transactions stay open there, with their locks, among
// them some on the leases.
func (w *world) cutInTransaction(victim *worker, o *organization) []entry {
	w.t.Helper()
	release := w.lockLog(o)
	given := w.writesToAll(o)
	w.awaitWaiting(victim, len(given))
	victim.database.Cut()
	release()
	w.awaitGiven(given, 1, false)
	return given
}

// requireSilent checks that a worker that cannot renew its leases has ended its polls and sessions before they ran out, by the margin.
// (That nobody else polled meanwhile, and that it began nothing later, is for the oracle.) Telegram may see an end late on a
// busy machine, but hardly all of them: without the margin all would be late by that.
func (w *world) requireSilent(what string, victim *worker, cut time.Time) {
	w.t.Helper()
	last, ends := time.Time{}, map[string]time.Time{}
	testkit.EventuallyNoError(w.t, "Telegram to see the ends of the polls", func(ctx context.Context) error {
		polls, _, err := w.polls(ctx, 0, 0)
		for _, p := range polls {
			switch {
			case w.callerAt(p.Host) != victim.name:
			case p.End.IsZero():
				return fmt.Errorf("poll %+v is open", p)
			default:
				line := strconv.FormatInt(p.Bot, 10)
				if p.End.After(ends[line]) {
					ends[line] = p.End
				}
				if p.End.After(last) {
					last = p.End
				}
			}
		}
		return err
	})
	sessions, _, err := w.sessions(testkit.Context(w.t))
	require.NoError(w.t, err)
	var lastSession time.Duration
	for _, s := range sessions {
		if s.worker != victim.name {
			continue
		}
		require.False(w.t, s.EndedAt.IsZero(), "the session %+v is open", s)
		if s.EndedAt.After(cut) {
			ends[s.Number] = s.EndedAt
			lastSession = s.EndedAt.Sub(cut)
			require.Less(w.t, lastSession, leaseTTL+sized(time.Second, 0))
		}
	}
	w.t.Logf("%s: the last poll ends %.2f s after the cut, and a session with WhatsApp %.2f s", what, last.Sub(cut).Seconds(), lastSession.Seconds())
	require.Less(w.t, last.Sub(cut), leaseTTL+sized(time.Second, 0))

	history, least := w.leaseHistory(), time.Hour
	for _, l := range w.lines() {
		var expiry time.Time
		for _, v := range history[l.channel] {
			if v.worker == victim.name && v.from.Before(cut.Add(leaseTTL)) {
				expiry = v.until
			}
		}
		if end, polled := ends[l.key()]; polled && !expiry.IsZero() {
			late := end.Sub(expiry.Add(-leaseMargin))
			require.Less(w.t, late, leaseMargin+sized(time.Second, 0), "%s: the last poll of channel %d", what, l.channel)
			if late > -leaseMargin { // else it brought something, which could not be stored
				least = min(least, late)
			}
		}
	}
	w.t.Logf("%s: the first poll that is ended ends %.3f s after its lease is not trusted any more", what, least.Seconds())
	require.Less(w.t, least, leaseMargin/2, "%s: the leases are not trusted to their ends", what)
}
