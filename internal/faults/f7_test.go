package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// The part of F7 that sockets see: PostgreSQL killed, then stopped, under them. Nothing that was acknowledged is lost, what
// was not comes again, and no socket notices. (Workers and the other channels are the business of F7 in full.)
func TestFaultF7_PostgresAway(t *testing.T) {
	quick(t)
	clients, perSecond, outage := sized(40, 500), sized(20, 50), sized(2*time.Second, 30*time.Second)
	w := newWorld(t, plan{organizations: sized(4, 25)})
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)
	d := w.drive(perSecond)
	d.more(perSecond)

	for _, fault := range []struct {
		name        string
		begin, over func()
	}{
		{"killed", w.postgres.Kill, w.postgres.Start},
		{"stopped", w.postgres.Pause, w.postgres.Resume},
	} {
		fault.begin()
		<-time.After(outage)
		fault.over()
		back := time.Now()
		// A customer who writes now is on the screens within ten seconds; the simulator tries again at once.
		err := poll(testkit.ContextFor(t, time.Minute), func(ctx context.Context) error { return w.reaches(ctx, h, w.orgs[0]) })
		took := time.Since(back)
		require.NoError(t, err)
		t.Logf("PostgreSQL %s for %s: messages reach the screens %.2f s after its return", fault.name, outage, took.Seconds())
		require.Less(t, took, testkit.Slack(10*time.Second))
		w.upSince(h, clients)
	}
	d.stop()
	w.verdict(h)
	w.upSince(h, clients)
	w.end(h, before)
}
