package realtime

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zishang520/socket.io/servers/socket/v3"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// The official client cannot tell this server from its own.

// pump publishes events of an organization as fast as pace allows, until it is stopped; last tells the newest seq then.
func (w *world) pump(e *Emitter, organizationID int64, pace time.Duration, data func(i int) any) (last func() int64) {
	stop, done := make(chan struct{}), make(chan int64, 1)
	go func() {
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		var seq int64
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- seq
				return
			case <-ticker.C:
			}
			event := w.log.commit(organizationID, domain.EventMessageNew, data(i))
			e.Publish([]domain.Event{event})
			seq = event.Seq
		}
	}()
	return func() int64 {
		close(stop)
		return <-done
	}
}

func TestUpgradeInTheMiddleOfEvents(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	w.log.commitMany(1, 100)
	last := w.pump(n.Emitter(), 1, 2*time.Millisecond, func(i int) any { return message(1, i) })
	clients := make([]*testkit.SocketClient, 0, 20)
	for i := range cap(clients) {
		c := testkit.Client(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": w.user(1, int64(10+i)), "lastSeq": 0}, LedgerOnly: true})
		require.NoError(t, c.Connect(testkit.Context(t)))
		clients = append(clients, c)
	}
	for _, c := range clients {
		require.NoError(t, c.WaitTransport(testkit.Context(t), "websocket"))
	}
	end := last()
	for i, c := range clients {
		expectLedger(t, c, 1, end)
		require.Equal(t, 1, c.Connections(), "client %d", i)
	}
	t.Logf("%d upgrades during %d events", len(clients), end)
}

// expectLedger waits until a client has the event last, and checks that it has all from first on, each once and in order.
func expectLedger(t testing.TB, c *testkit.SocketClient, first, last int64) testkit.Ledger {
	t.Helper()
	var ledger testkit.Ledger
	testkit.Eventually(t, fmt.Sprintf("event %d", last), func() bool {
		var err error
		ledger, err = c.Ledger(testkit.Context(t))
		require.NoError(t, err)
		return ledger.Last >= last
	})
	require.Empty(t, ledger.Gaps)
	require.Empty(t, ledger.Twice)
	require.Zero(t, ledger.Resets)
	require.Equal(t, first, ledger.First)
	require.Equal(t, last, ledger.Last)
	return ledger
}

func TestOfficialClientStaysOverPings(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(quickPings)
	for name, transports := range map[string][]string{"websocket": {"websocket"}, "polling": {"polling"}, "upgrade": nil, "upgrade first": {"websocket", "polling"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := *w
			w.t = t
			organizationID := map[string]int64{"websocket": 1, "polling": 2, "upgrade": 3, "upgrade first": 4}[name]
			c := testkit.Connect(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": w.user(organizationID, 10*organizationID)}, Transports: transports})
			last := w.pump(n.Emitter(), organizationID, 50*time.Millisecond, func(i int) any { return message(organizationID, i) })
			_, err := c.WaitCount(testkit.Context(t), domain.EventMessageNew, 24) // 1.2 s, eight pings
			require.NoError(t, err)
			w.expectSeqs(c, organizationID, 1, last())
			require.Equal(t, 1, c.Connections())
			require.Empty(t, c.DisconnectReason())
		})
	}
}

func TestDisconnectReasons(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	for name, transports := range map[string][]string{"websocket": {"websocket"}, "polling": {"polling"}} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			n := w.node(func(o *Options) { // what is dropped is noticed in the end, and no client gives up on a busy machine
				o.Limits.PingInterval, o.Limits.PingTimeout = time.Second, 8*time.Second
			})
			c := testkit.Connect(t, testkit.ClientOptions{
				URL: n.url, Auth: map[string]any{"token": w.user(1, 10)}, Transports: transports, TrackSeq: true,
				Options: map[string]any{"reconnectionDelay": 20, "reconnectionDelayMax": 50},
			})
			w.quiet(c)
			reason := func(nth int) string {
				t.Helper()
				reason, err := c.WaitDisconnect(testkit.Context(t), nth)
				require.NoError(t, err)
				return reason
			}
			// The server cuts the connection: the client comes back by itself.
			for _, watched := range n.watched() {
				watched.close("test")
			}
			require.Contains(t, []string{"transport close", "transport error"}, reason(1))
			require.NoError(t, c.WaitConnected(testkit.Context(t), 2))
			w.quiet(c)
			// The network does: the client's own side sees it.
			c.Drop()
			require.NotEmpty(t, reason(2))
			require.NoError(t, c.WaitConnected(testkit.Context(t), 3))
			w.quiet(c)
			// For good.
			n.Emitter().DisconnectUser(10)
			require.Equal(t, "io server disconnect", reason(3))
			require.NoError(t, c.Connect(testkit.Context(t)))
			w.quiet(c)
			require.NoError(t, c.Disconnect(testkit.Context(t)))
			require.Equal(t, "io client disconnect", reason(4))
			testkit.Eventually(t, "the end", func() bool { return n.ConnectedClients() == 0 })
		})
	}
}

// Volatile emits reach those who can take them, and are dropped for those who cannot.
func TestVolatileEmits(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	a, b := w.node(), w.node()
	clients := []*testkit.SocketClient{
		w.connect(a, w.user(1, 10), nil), w.connect(b, w.user(1, 11), nil),
		testkit.Connect(t, testkit.ClientOptions{URL: b.url, Auth: map[string]any{"token": w.user(1, 12)}}),
	}
	for _, c := range clients {
		w.quiet(c)
	}
	require.NoError(t, clients[2].WaitTransport(testkit.Context(t), "websocket"))
	for i := range 20 {
		require.NoError(t, a.io.To(socket.Room(domain.OrganizationRoom(1))).Volatile().Emit("volatile", i))
	}
	require.NoError(t, a.io.To(socket.Room(domain.OrganizationRoom(1))).Emit("firm"))
	for _, c := range clients {
		_, err := c.WaitFor(testkit.Context(t), "firm", nil)
		require.NoError(t, err)
		next := 0
		for _, e := range c.Events("volatile") {
			var i int
			require.NoError(t, e.Arg(0, &i))
			require.GreaterOrEqual(t, i, next, "order")
			next = i + 1
		}
		require.NotZero(t, next)
	}
}
