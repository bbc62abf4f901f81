package faults

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// F3: a worker stands still for twice the time of a lease, and goes on as if nothing had happened. Another one has its channels
// by then: of what the first was about to do nothing may happen any more. Sends that were at the provider when it stopped are what
// no lease can fence: they are of unknown fate, or on WhatsApp repeated under the same id.
func TestFaultF3_StoppedWorker(t *testing.T) {
	quick(t)
	clients, perSecond := sized(8, 100), sized(20, 50)
	w := newWorld(t, plan{organizations: sized(2, 10), audited: true, linked: true})
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)
	d := w.drive(perSecond)
	d.more(perSecond)
	d.stop()
	w.quiet()

	o, victim := w.orgs[0], w.workers[0]
	lines := w.held(victim)
	require.Len(t, lines, len(w.lines()))
	sends, delays := w.holdSends(o, "in flight", 1, inFlight)
	stopped := time.Now()
	victim.pause()
	victim.frozen = time.Now()
	given := w.writesToAll(o)
	w.awaitGiven(given, 1, false)
	w.letAnswer(sends, delays) // the answers wait for the worker
	w.startWorker()
	d = w.drive(perSecond)
	w.requireTakeOver("SIGSTOP", victim, stopped, takeOverAfterKill)
	for _, s := range sends {
		w.awaitStatus(s.entry, s.fate)
	}
	d.more(perSecond)
	<-time.After(time.Until(stopped.Add(2 * leaseTTL)))
	w.awaitGiven(given, 2, true) // what the stopped worker was given comes to the next one

	victim.resume()
	resumed := time.Now()
	testkit.EventuallyNoError(t, "the worker to give up what it had", func(ctx context.Context) error {
		lost, err := victim.scrape(ctx, "switchboard_lease_losses_total", "")
		if err == nil && int(lost) < len(lines) {
			err = fmt.Errorf("it has noticed the loss of %.0f of %d leases", lost, len(lines))
		}
		return err
	})
	t.Logf("after SIGCONT the worker gives up %d channels within %.2f s", len(lines), time.Since(resumed).Seconds())
	d.more(perSecond)
	d.stop()
	for _, s := range sends {
		w.requireFate(s)
	}
	w.reportLate(sends)
	w.decide(sends)
	w.verdict(h)
	w.upSince(h, clients)
	w.end(h, before)
}
