package faults

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// heldLatency is the promise while Redis is away: the poll of the heads finds what Redis did not bring.
const heldLatency = 2500 * time.Millisecond

// F6: Redis killed, stopped, emptied, its subscriptions cut, while sockets are up.
func TestFaultF6_RedisAway(t *testing.T) {
	quick(t)
	clients, perSecond, outage := sized(40, 500), sized(20, 50), sized(3*time.Second, 30*time.Second)
	w := newWorld(t, plan{organizations: sized(4, 25)})
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)

	d := w.drive(perSecond)
	during := func(what string, fault func()) {
		t.Helper()
		h.Mark()
		fault()
		d.more(perSecond)
		report := w.upSince(h, clients)
		t.Logf("%s: latency ms: %v", what, report.LatencyMS)
		require.Less(t, report.LatencyMS.Max, float64(testkit.Slack(heldLatency).Milliseconds()), what)
	}
	during("Redis as it should be", func() {})
	during("Redis emptied", func() { w.redisDo(func(c *redis.Client) error { return c.FlushAll(t.Context()).Err() }) })
	during("subscriptions cut", func() {
		w.redisDo(func(c *redis.Client) error {
			cut, err := c.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result()
			require.NotZero(t, cut)
			return err
		})
	})
	during("Redis killed", func() {
		w.redis.Kill()
		<-time.After(outage)
	})
	d.stop()
	w.idleCPU("Redis is dead")
	w.redis.Start()
	d = w.drive(perSecond)
	during("Redis back, empty", func() {})
	during("Redis stopped", func() {
		w.redis.Pause()
		<-time.After(outage)
	})
	d.stop()
	w.idleCPU("Redis is stopped")
	w.redis.Resume()
	d = w.drive(perSecond)
	during("Redis goes on", func() {})
	d.stop()

	w.verdict(h)
	w.upSince(h, clients)
	w.awaitWire(h)
	w.end(h, before)
}

// upSince checks that all sockets are still the first ones.
func (w *world) upSince(h *testkit.Herd, clients int) testkit.HerdReport {
	w.t.Helper()
	report, err := h.Report(testkit.Context(w.t))
	require.NoError(w.t, err)
	require.Len(w.t, report.Clients, clients)
	for i, c := range report.Clients {
		if !c.Connected || c.Connections != 1 || c.Disconnects != 0 || c.Resets != 0 {
			require.FailNow(w.t, "a socket did not stay up", "client %d: %+v", i, c)
		}
	}
	return report
}

// idleCPU measures what the nodes use while nothing happens.
func (w *world) idleCPU(when string) {
	w.t.Helper()
	w.quiet()
	window, most := sized(2*time.Second, 10*time.Second), 0.05
	if !testkit.Full() {
		most *= 4 // under the race detector
	}
	before := make([]time.Duration, len(w.nodes))
	for i, n := range w.nodes {
		before[i] = n.cpu()
	}
	began := time.Now()
	<-time.After(window)
	for i, n := range w.nodes {
		used := float64(n.cpu()-before[i]) / float64(time.Since(began))
		w.t.Logf("node %d uses %.1f%% of a core while %s and nothing happens", i, 100*used, when)
		require.Less(w.t, used, most)
	}
}

// awaitWire waits until Redis brings events again: none needs to be fetched from the log.
func (w *world) awaitWire(h *testkit.Herd) {
	w.t.Helper()
	healed := func() (sum float64) {
		for _, n := range w.nodes {
			sum += n.metric("switchboard_events_healed_total", "")
		}
		return sum
	}
	testkit.EventuallyNoError(w.t, "events by Redis", func(ctx context.Context) error {
		before := healed()
		if err := w.reaches(ctx, h, w.orgs[0], 0); err != nil {
			return err
		}
		if after := healed(); after > before {
			return fmt.Errorf("%.0f events were fetched from the log", after-before)
		}
		return nil
	})
}

func (w *world) redisDo(do func(*redis.Client) error) {
	w.t.Helper()
	options, err := redis.ParseURL(w.redis.URL())
	require.NoError(w.t, err)
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	require.NoError(w.t, do(client))
}
