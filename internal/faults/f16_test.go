package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// soakVariable is how long the soak lasts.
const soakVariable = "TEST_SOAK"

// disaster is one of the faults F1 to F7: it begins and ends, and leaves as many processes as there were.
type disaster struct {
	name   string
	strike func()
}

// F16: one fault after the other, chosen at random, under traffic on all kinds of channel. Between them, when all is whole
// again, messages are as fast as ever. Only `make faults` plays it.
func TestFaultF16_Soak(t *testing.T) {
	if !testkit.Full() {
		t.Skip("the soak is a part of make faults")
	}
	const clients, perSecond, every = 200, 50, 30 * time.Second
	length := 5 * time.Minute
	if given := os.Getenv(soakVariable); given != "" {
		var err error
		length, err = time.ParseDuration(given)
		require.NoError(t, err, soakVariable)
	}
	random := testkit.Rand(t)
	w := newWorld(t, plan{organizations: 20, workers: 2, audited: true, linked: true})
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)
	d := w.drive(perSecond)
	d.more(perSecond)
	w.requireFast(h, "at first", every/2)
	disasters := w.disasters(random)
	for end := time.Now().Add(length); time.Now().Before(end); {
		// Each once before any comes again.
		for _, i := range random.Perm(len(disasters)) {
			next, began := disasters[i], time.Now()
			if began.After(end) {
				break
			}
			next.strike()
			w.requireWhole(h, next.name)
			w.requireFast(h, next.name, max(every-time.Since(began), every/2))
		}
	}
	d.stop()
	w.verdict(h)
	w.end(h, before)
}

// disasters are what may happen in the soak.
func (w *world) disasters(random *rand.Rand) []disaster {
	anyWorker := func() *worker { return w.workers[random.IntN(len(w.workers))] }
	const outage = 8 * time.Second
	during := func(begin, over func()) func() {
		return func() {
			begin()
			<-time.After(outage)
			over()
		}
	}
	return []disaster{
		{"a worker is killed", func() {
			w.killWorker(anyWorker())
			w.startWorker()
		}},
		{"a worker is ended", func() {
			w.startWorker()
			w.stopWorker(w.workers[random.IntN(len(w.workers)-1)])
		}},
		{"a worker stands still", func() {
			victim := anyWorker()
			victim.pause()
			victim.frozen = time.Now()
			<-time.After(2 * leaseTTL)
			victim.resume()
		}},
		{"a worker is cut off from PostgreSQL", func() {
			victim := anyWorker()
			victim.database.Cut()
			<-time.After(2 * leaseTTL)
			victim.database.Heal()
		}},
		{"an API node is killed", func() {
			w.killNode(w.nodes[random.IntN(len(w.nodes))])
			w.startNode()
		}},
		{"Redis is killed", during(w.redis.Kill, w.redis.Start)},
		{"Redis stands still", during(w.redis.Pause, w.redis.Resume)},
		{"Redis is emptied", func() {
			w.redisDo(func(c *redis.Client) error { return c.FlushAll(w.t.Context()).Err() })
		}},
		{"PostgreSQL is killed", during(w.postgres.Kill, w.postgres.Start)},
		{"PostgreSQL stands still", during(w.postgres.Pause, w.postgres.Resume)},
	}
}

// requireWhole waits until customers of all organizations reach their screens by all kinds of channel.
func (w *world) requireWhole(h *testkit.Herd, after string) {
	w.t.Helper()
	began := time.Now()
	w.each(4, func(i int) error {
		for _, customer := range w.orgs[i].oneOfEach() {
			err := poll(testkit.ContextFor(w.t, time.Minute), func(ctx context.Context) error { return w.reaches(ctx, h, w.orgs[i], customer) })
			if err != nil {
				return fmt.Errorf("after %s: %s by %s: %w", after, w.orgs[i].name, w.orgs[i].line(customer).kind, err)
			}
		}
		return nil
	})
	w.t.Logf("%s: all is whole after %.2f s", after, time.Since(began).Seconds())
}

// requireFast measures for a while how long live events take to the screens.
func (w *world) requireFast(h *testkit.Herd, after string, window time.Duration) {
	w.t.Helper()
	h.Mark()
	<-time.After(window)
	report, err := h.Report(testkit.Context(w.t))
	require.NoError(w.t, err)
	w.t.Logf("%s: then from commit to client in %.0f s, ms: %v", after, window.Seconds(), report.LatencyMS)
	assert.LessOrEqual(w.t, report.LatencyMS.P50, 50.0, after)
	assert.LessOrEqual(w.t, report.LatencyMS.P99, 300.0, after)
}
