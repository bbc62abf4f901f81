package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// pageSize is how many events one read of the log brings.
const pageSize = 500

// comeback is a herd that comes back.
type comeback struct {
	clients       int
	organizations int           // among which they are spread
	missed        int           // events of each organization, by each of its clients
	replayP99     time.Duration // the longest that 99 of 100 clients may take from being connected; 0: no promise
}

// F14: a herd of clients drops at once, and comes back at once when much has happened. The full test has two herds: many
// clients after 5,000 events in all, and fewer that each missed 5,000, a million deliveries. (Both at once are ten million, which
// the official clients of one process need a minute or more to take.)
func TestFaultF14_HerdReconnects(t *testing.T) {
	quick(t)
	herds := sized([]comeback{{100, 2, 1200, 0}}, []comeback{{2000, 40, 125, 500 * time.Millisecond}, {200, 4, 5000, 0}})
	w := newWorld(t, plan{organizations: herds[0].organizations})
	before := w.atRest()
	for i, c := range herds {
		h := w.herd(c.clients, w.orgs[:c.organizations]...)
		w.comeBack(h, c)
		for _, client := range w.verdict(h).Clients {
			require.Zero(t, client.Resets)
		}
		if i < len(herds)-1 {
			h.Leave()
			continue
		}
		w.end(h, before)
	}
}

func (w *world) comeBack(h *testkit.Herd, c comeback) {
	w.t.Helper()
	w.connect(h, c.clients)
	burst := func(texts int) map[string]testkit.HerdPosition {
		w.each(4, func(i int) error {
			if i >= c.organizations {
				return nil
			}
			return w.burst(w.t.Context(), w.orgs[i], texts)
		})
		return w.quiet()
	}
	from := burst(10)
	_, err := h.Await(testkit.Context(w.t), testkit.HerdGoal{Connected: c.clients, Heads: from})
	require.NoError(w.t, err)
	h.Hold()
	for _, n := range w.nodes {
		testkit.Eventually(w.t, "the sockets to be gone", func() bool { return n.sockets() == 0 })
	}
	w.killNode(w.nodes[0])
	w.startNode() // one node has nothing in memory
	began := time.Now()
	heads := burst(c.missed)
	events, pages := 0, 0
	for name, head := range heads {
		if head.Seq > from[name].Seq {
			events += int(head.Seq - from[name].Seq)
			pages += int((head.Seq-1)/pageSize-from[name].Seq/pageSize) + 1
		}
	}
	w.t.Logf("%d events in %d pages happen while %d clients are away, in %.1f s", events, pages, c.clients, time.Since(began).Seconds())

	reads := make([]float64, len(w.nodes))
	for i, n := range w.nodes {
		reads[i] = n.metric("switchboard_log_reads_total", `purpose="replay"`)
	}
	h.Mark()
	h.Connect()
	took, err := h.Await(testkit.ContextFor(w.t, 2*time.Minute), testkit.HerdGoal{Connected: c.clients, Heads: heads})
	require.NoError(w.t, err)
	report, err := h.Report(testkit.Context(w.t))
	require.NoError(w.t, err)
	w.t.Logf("all are back and have caught up after %.2f s, %d deliveries; each within ms: %v", took.Seconds(),
		c.clients*c.missed, report.CatchUpMS)
	for i, n := range w.nodes {
		made := n.metric("switchboard_log_reads_total", `purpose="replay"`) - reads[i]
		w.t.Logf("node %d read the log %.0f times for %d pages", i, made, pages)
		require.LessOrEqual(w.t, made, float64(pages), "at most one read per organization and page")
	}
	require.Less(w.t, took, testkit.Slack(15*time.Second))
	if c.replayP99 > 0 {
		require.LessOrEqual(w.t, report.CatchUpMS.P99, float64(c.replayP99.Milliseconds()))
	}
}
