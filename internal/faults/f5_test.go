package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// F5: kill -9 an API node under its sockets, bring it back, kill the other.
func TestFaultF5_KillAPINode(t *testing.T) {
	quick(t)
	clients, perSecond := sized(60, 2000), sized(20, 50)
	w := newWorld(t, plan{organizations: sized(6, 100)})
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)
	d := w.drive(perSecond)
	d.more(2 * perSecond)

	connections := clients
	for round := range 2 {
		victim := w.nodes[0]
		lost := victim.sockets()
		require.NotZero(t, lost)
		h.Mark()
		w.killNode(victim)
		killed := time.Now()
		connections += lost
		_, err := h.Await(testkit.ContextFor(t, time.Minute), testkit.HerdGoal{Connected: clients, Connections: connections})
		require.NoError(t, err)
		back := time.Since(killed)
		d.more(2 * perSecond)
		report, err := h.Report(testkit.Context(t))
		require.NoError(t, err)
		t.Logf("round %d: %d of %d sockets lost, all back after %.2f s; each back after ms: %v; replayed within ms: %v; live latency ms: %v",
			round, lost, clients, back.Seconds(), report.BackMS, report.CatchUpMS, report.LatencyMS)
		require.Less(t, back, testkit.Slack(15*time.Second))
		require.Less(t, report.CatchUpMS.P99, float64(testkit.Slack(500*time.Millisecond).Milliseconds()), "replay p99")
		if round == 0 {
			w.startNode()
		}
	}
	d.stop()
	report := w.verdict(h)
	for _, c := range report.Clients {
		require.Zero(t, c.Resets)
	}
	w.end(h, before)
}
