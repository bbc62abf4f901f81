package faults

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// metric sums the series of a process's metric whose labels contain the text, such as `purpose="replay"`.
func (p *process) metric(name, labels string) float64 {
	p.t.Helper()
	sum, err := p.scrape(testkit.Context(p.t), name, labels)
	require.NoError(p.t, err)
	return sum
}

func (p *process) scrape(ctx context.Context, name, labels string) (float64, error) {
	var raw []byte
	if err := request(ctx, http.MethodGet, p.URL+"/metrics", "", nil, &raw); err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range strings.Lines(string(raw)) {
		series, value, found := strings.Cut(strings.TrimSpace(line), " ")
		metric, rest, _ := strings.Cut(series, "{")
		if !found || metric != name || !strings.Contains(rest, labels) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("read %q of /metrics: %w", line, err)
		}
		sum += n
	}
	return sum, nil
}

// sockets is how many clients a node has.
func (p *process) sockets() int { p.t.Helper(); return int(p.metric("socketio_connected_clients", "")) }

// baseline is what the nodes have while no client is there.
type baseline struct {
	goroutines float64 // of the node that has most
	heap       float64 // bytes
}

// atRest looks at the nodes without connections.
func (w *world) atRest() baseline {
	w.t.Helper()
	w.balancer.cut()
	var r baseline
	for _, n := range w.nodes {
		testkit.Eventually(w.t, "a node without connections", func() bool { return n.sockets() == 0 })
		r.goroutines = max(r.goroutines, n.metric("go_goroutines", ""))
		r.heap = max(r.heap, n.metric("go_memstats_heap_inuse_bytes", ""))
	}
	return r
}

// feedLinger is how long a feed outlives its last socket.
const feedLinger = 30 * time.Second

// judgeResidue checks that the nodes come back to rest. A feed may outlive its last socket for half a minute, with one
// goroutine; the full test waits for that.
func (w *world) judgeResidue(before baseline) {
	w.t.Helper()
	allowed := before.goroutines + 5
	if !testkit.Full() {
		allowed += float64(len(w.orgs))
	}
	w.balancer.cut()
	for i, n := range w.nodes {
		var now float64
		err := poll(testkit.ContextFor(w.t, feedLinger+testkit.Slack(feedLinger)), func(ctx context.Context) error {
			clients, err := n.scrape(ctx, "socketio_connected_clients", "")
			if err != nil {
				return err
			}
			if now, err = n.scrape(ctx, "go_goroutines", ""); err != nil {
				return err
			}
			if clients > 0 || now > allowed {
				return fmt.Errorf("%.0f clients and %.0f goroutines are left, %.0f are allowed", clients, now, allowed)
			}
			return nil
		})
		if err != nil {
			w.t.Errorf("residue in node %d: %v", i, err)
		}
		w.t.Logf("residue of node %d: %.0f goroutines (%.0f before the clients), heap %.0f MiB (%.0f)", i, now, before.goroutines,
			n.metric("go_memstats_heap_inuse_bytes", "")/(1<<20), before.heap/(1<<20))
	}
}
