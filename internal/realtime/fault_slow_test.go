package realtime

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// F10: readers that take nothing, or a few bytes a second, while their organization gets 1 MB of events a second. Each is cut
// within 10 s, memory is bounded, the others notice nothing.

const (
	slowRate  = 100      // events a second
	slowBytes = 10 << 10 // of each
	slowCut   = 10 * time.Second
	slowHeap  = 64 << 20
	slowP99   = 300 * time.Millisecond
	dripBytes = 3 // a second
)

func TestFaultF10_SlowReaders(t *testing.T) {
	w := redisWorld(t)
	n := w.node(func(o *Options) { o.Limits.SocketsPerUser = 1000 })
	each, healthy, observe := 2, 2, 2*time.Second // of each kind, by each transport
	if testkit.Full() {
		each, healthy, observe = 10, 4, 20*time.Second
	}
	fast := make([]*reader, 0, healthy)
	for i := range healthy {
		fast = append(fast, readFast(joinWire(t, n, w.user(1, int64(1000+i)))))
	}
	official := []*testkit.SocketClient{
		testkit.Connect(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": w.user(1, 900)}, Transports: []string{"websocket"}, LedgerOnly: true}),
		testkit.Connect(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": w.user(1, 901)}, Transports: []string{"polling"}, LedgerOnly: true}),
	}
	w.quiet(official[0])
	w.quiet(official[1])

	// The slow ones of a transport share a user, whose sockets can be counted. They stop to read once they have joined.
	const slowWires, slowPollers = 500, 501
	wireToken, pollToken := w.user(1, slowWires), w.user(1, slowPollers)
	var slow []*net.TCPConn
	var pollers []*poller
	for range each {
		slow = append(slow, joinSlowWire(t, n, wireToken), joinSlowWire(t, n, wireToken))
		pollers = append(pollers, joinPoller(t, n, pollToken), joinPoller(t, n, pollToken))
	}
	require.Equal(t, 4*each, n.sessionsOf(slowWires)+n.sessionsOf(slowPollers))
	heapBefore := liveHeap()

	began := time.Now()
	last := w.pump(n.Emitter(), 1, time.Second/slowRate, func(i int) any {
		return map[string]any{"n": i, "content": canary(1) + strings.Repeat("x", slowBytes)}
	})
	// The pollers let much gather, and then do not read the answer.
	for _, p := range pollers {
		testkit.Eventually(t, "a backlog", func() bool { return n.queuedFor(p.sid) > 200<<10 })
		slow = append(slow, p.slowPoll())
	}
	polled := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	var drips sync.WaitGroup
	for i, conn := range slow {
		if i%2 == 1 {
			drips.Go(func() { drip(ctx, conn) })
		}
	}
	most := heapBefore
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	var wiresCut, pollersCut time.Duration
	for (wiresCut == 0 || pollersCut == 0) && time.Since(began) < time.Minute {
		<-look.C
		most = max(most, liveHeap()-w.log.bytes())
		if wiresCut == 0 && n.sessionsOf(slowWires) == 0 {
			wiresCut = time.Since(began)
		}
		if pollersCut == 0 && n.sessionsOf(slowPollers) == 0 {
			pollersCut = time.Since(polled)
		}
	}
	require.True(t, wiresCut > 0 && pollersCut > 0, "slow readers are not cut")
	timer := time.NewTimer(observe) // the others go on
	<-timer.C
	end := last()
	stop()
	drips.Wait()

	var latencies []time.Duration
	for _, r := range fast {
		latencies = append(latencies, r.wait(t, end)...)
	}
	slices.Sort(latencies)
	p50, p99 := latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	for _, c := range official {
		ledger := expectLedger(t, c, 1, end)
		require.Equal(t, 1, c.Connections())
		t.Logf("official client: longest latency %.0f ms", ledger.MaxLatencyMS)
	}
	t.Logf("%d slow readers cut within %s (WebSocket) and %s (polling); live heap +%d KiB; %d events, latency of the others p50 %s, p99 %s",
		len(slow), wiresCut.Round(10*time.Millisecond), pollersCut.Round(10*time.Millisecond), (most-heapBefore)>>10, end, p50, p99)
	require.Less(t, max(wiresCut, pollersCut), slowCut+testkit.Slack(500*time.Millisecond))
	require.Less(t, most-heapBefore, int64(slowHeap))
	require.Less(t, p99, testkit.Slack(slowP99))
	// They are gone altogether: connections, too, and what was queued for them.
	testkit.Eventually(t, "the end of their connections", func() bool { return n.ConnectedClients() == healthy+len(official) })
	for _, conn := range slow[:2*each] {
		require.True(t, hungUp(conn), "the TCP connection of a slow reader stays")
	}
	testkit.Eventually(t, "no answer to be under way", func() bool {
		stacks := make([]byte, 8<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "pollingTransport).DoWrite")
	})
}

// bytes is how much the events of the log hold: it is no part of the server.
func (l *fakeLog) bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum int64
	for _, events := range l.events {
		for _, e := range events {
			sum += int64(len(e.Data))
		}
	}
	return sum
}

// liveHeap is what the garbage collector finds in use.
func liveHeap() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// smallBuffer keeps the kernel from taking events for a reader that does not.
const smallBuffer = 4096

func joinSlowWire(t *testing.T, n *testNode, token string) *net.TCPConn {
	t.Helper()
	c, response, err := tryWire(t, n, "EIO=4&transport=websocket", smallBuffer)
	require.NoError(t, err)
	_ = response.Body.Close()
	c.text()
	c.send(fmt.Sprintf(`40{"token":%q}`, token))
	require.True(t, strings.HasPrefix(c.text(), "40{"))
	require.NoError(t, c.conn.SetDeadline(time.Time{}))
	return c.conn
}

// slowPoll polls by a connection that nobody reads.
func (p *poller) slowPoll() *net.TCPConn {
	p.t.Helper()
	conn, err := dialTCP(p.t.Context(), p.n, smallBuffer)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /socket.io/?%s HTTP/1.1\r\nHost: %s\r\n\r\n", p.query(), p.n.address())
	require.NoError(p.t, err)
	return conn
}

// queuedFor is how many bytes wait for an Engine.IO session.
func (n *testNode) queuedFor(sid string) int64 {
	for _, c := range n.watched() {
		if c.conn.Id() == sid {
			return c.queued.Load()
		}
	}
	return 0
}

// drip reads a few bytes a second.
func drip(ctx context.Context, conn net.Conn) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var few [dripBytes]byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = conn.Read(few[:])
	}
}

// hungUp reads what is left and reports whether the server has closed the connection.
func hungUp(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(wirePatience))
	_, err := io.Copy(io.Discard, conn)
	e, isNet := err.(net.Error) //nolint:errorlint // what net returns
	return !isNet || !e.Timeout()
}

// reader is a client that takes everything at once and measures.
type reader struct {
	mu        sync.Mutex // guards what follows
	changed   chan struct{}
	seqs      []int64
	latencies []time.Duration
	err       error
}

func readFast(c *wire) *reader {
	r := &reader{changed: make(chan struct{}, 1)}
	_ = c.conn.SetDeadline(time.Time{})
	c.in = bufio.NewReaderSize(c.conn, 64<<10)
	go r.run(c)
	return r
}

func (r *reader) run(c *wire) {
	for {
		f, err := readFrame(c.in)
		if err == nil && string(f.payload) == "2" {
			c.send("3")
			continue
		}
		r.took(f.payload, err)
		if err != nil {
			return
		}
	}
}

func (r *reader) took(text []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := strings.LastIndex(string(text), `,{"seq":`); err == nil && i > 0 {
		var meta domain.Meta
		if err = json.Unmarshal(text[i+1:len(text)-1], &meta); err == nil {
			r.seqs = append(r.seqs, meta.Seq)
			r.latencies = append(r.latencies, time.Since(meta.At.Std()))
		}
	}
	if err != nil {
		r.err = err
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// wait waits for the event last, checks that none is missing, and returns the latencies.
func (r *reader) wait(t *testing.T, last int64) []time.Duration {
	t.Helper()
	for {
		r.mu.Lock()
		seqs, latencies, err := r.seqs, r.latencies, r.err
		r.mu.Unlock()
		if len(seqs) > 0 && seqs[len(seqs)-1] >= last {
			require.Len(t, seqs, int(last))
			require.True(t, slices.IsSorted(seqs))
			require.Equal(t, int64(1), seqs[0])
			return latencies
		}
		require.NoError(t, err)
		within(t, "an event", r.changed)
	}
}
