package realtime

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// Frames that are no messages count like messages: who sends nothing but pings, or a message without an end, is cut.
func TestControlFramesAndFragmentsAreCounted(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	for name, frame := range map[string][]byte{
		"pings":     frameOf(finBit|opPing, nil),
		"pongs":     frameOf(finBit|opPong, []byte("x")),
		"fragments": frameOf(opContinuation, nil),
	} {
		t.Run(name, func(t *testing.T) {
			before := w.counts.of("cut flood")
			c := openWire(t, n)
			if name == "fragments" {
				c.raw(frameOf(opText, nil))
			}
			flood := []byte(strings.Repeat(string(frame), floodPackets))
			testkit.Eventually(t, "the cut", func() bool {
				c.raw(flood)
				return w.counts.of("cut flood") > before
			})
		})
	}
	t.Run("before an upgrade", func(t *testing.T) {
		p := joinPoller(t, n, w.user(1, 10))
		c := dialWire(t, n, "EIO=4&transport=websocket&sid="+p.sid)
		for range earlyFrames + 1 {
			c.send("2probe")
		}
		c.ended()
		p.post(`420["unsubscribe:chat",{"chatId":1001}]`)
		require.Equal(t, `430[{"ok":true}]`, p.pollPast("6"), "polling goes on")
	})
}

// A connection whose client left the namespace has ConnectTimeout to come back: it is nobody's, and counts for nobody.
func TestConnectionsWithoutASocketAreClosed(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.ConnectTimeout, o.Limits.SocketsPerUser = 300*time.Millisecond, 2 })
	stays := joinWire(t, n, w.user(1, 11))
	token := w.user(1, 10)
	for range 5 {
		c := joinWire(t, n, token)
		c.send("41")
		testkit.Eventually(t, "the end of the session", func() bool { return n.sessionsOf(10) == 0 })
	}
	p := joinPoller(t, n, token)
	p.post("41")
	testkit.Eventually(t, "the end of the connections", func() bool { return n.ConnectedClients() == 1 })
	require.Equal(t, 6, w.counts.of("cut unjoined"))
	stays.alive(1)
}

// A plain request to a WebSocket's session is answered: it would wait for ever, even when the session is gone.
func TestPlainRequestsToAWebSocketAreAnswered(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	direct := dialWire(t, n, "EIO=4&transport=websocket")
	sids := []string{parseOpening(t, direct.text()).SID}
	p := joinPoller(t, n, w.user(1, 10))
	upgraded := dialWire(t, n, "EIO=4&transport=websocket&sid="+p.sid)
	upgraded.send("2probe")
	require.Equal(t, "3probe", upgraded.text())
	upgraded.send("5")
	upgraded.alive(1)
	for _, sid := range append(sids, p.sid) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			r, err := http.NewRequestWithContext(testkit.Context(t), method, n.url+"/socket.io/?EIO=4&transport=websocket&sid="+sid, strings.NewReader(""))
			require.NoError(t, err)
			response, err := n.http.Client().Do(r)
			require.NoError(t, err, "%s was not answered", method)
			_ = response.Body.Close()
			require.Equal(t, http.StatusBadRequest, response.StatusCode)
		}
	}
	upgraded.alive(2)
}

// serve serves a node once more, with its own log of the HTTP server's complaints.
func (n *testNode) serve(t *testing.T, complaints io.Writer, secure bool) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(n.Handler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(complaints, nil), slog.LevelError)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

// When a handshake fails after the connection was taken over, or an upgrade is refused, nothing is written to it as HTTP.
func TestTakenOverConnectionsGetNoHTTP(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	complaints := &lockedBuffer{}
	server := n.serve(t, complaints, false)
	other := &testNode{Server: n.Server, http: server, url: server.URL}
	p := joinPoller(t, other, w.user(1, 10))
	for name, query := range map[string]string{
		"an upgrade": "EIO=4&transport=websocket&sid=" + p.sid, "a WebSocket": "EIO=4&transport=websocket", "an old client": "EIO=3&transport=websocket",
	} {
		t.Run("a frame with the handshake of "+name, func(t *testing.T) {
			conn, err := dialTCP(testkit.Context(t), other, 0)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			require.NoError(t, conn.SetDeadline(time.Now().Add(wirePatience)))
			_, err = io.WriteString(conn, upgradeRequest(other.address(), query)+string(textFrame("2probe")))
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, conn) // to its end
		})
	}
	c := dialWire(t, other, "EIO=4&transport=websocket&sid="+p.sid)
	c.send("2probe")
	require.Equal(t, "3probe", c.text())
	for range 2 { // while one is under way, and when it is made
		again, response, err := tryWire(t, other, "EIO=4&transport=websocket&sid="+p.sid, 0)
		require.NoError(t, err)
		_ = response.Body.Close()
		if again != nil {
			again.ended()
		}
		c.send("5")
		c.alive(1)
	}
	require.NoError(t, n.Close(testkit.Context(t)))
	server.Close() // returns when all handlers have
	require.Empty(t, complaints.String())
}

// Everything works over TLS, where connections have goroutines that read: live events, replay, a reader that stalls, the end.
func TestSecureConnections(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.StallTimeout = time.Second })
	complaints := &lockedBuffer{}
	server := n.serve(t, complaints, true)
	w.log.commitMany(1, 700)
	join := func(user int64, auth string) *rawClient {
		t.Helper()
		dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		conn, response, err := dialer.DialContext(testkit.Context(t), "wss"+strings.TrimPrefix(server.URL, "https")+"/socket.io/?EIO=4&transport=websocket", nil)
		require.NoError(t, err)
		_ = response.Body.Close()
		t.Cleanup(func() { _ = conn.Close() })
		r := &rawClient{t: t, conn: conn}
		require.Contains(t, r.read(), `"sid"`)
		r.text(fmt.Sprintf(`40{"token":%q%s}`, w.user(1, user), auth))
		require.True(t, strings.HasPrefix(r.read(), "40{"))
		return r
	}
	replaying, live, stalled := join(10, `,"lastSeq":0`), join(11, ""), join(12, "")
	w.publish(n.Emitter(), 1, 300)
	expect := func(c *rawClient, first, last int) {
		t.Helper()
		for seq := first; seq <= last; seq++ {
			require.Contains(t, c.read(), fmt.Sprintf(`,{"seq":%d,`, seq))
		}
	}
	expect(replaying, 1, 1000)
	expect(live, 701, 1000)
	require.Equal(t, 3, n.ConnectedClients())

	var got atomic.Int64
	ended, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for _, _, err := live.conn.ReadMessage(); err == nil; _, _, err = live.conn.ReadMessage() {
			got.Add(1)
		}
	}()
	go func() { // so that it is stalled that does not read
		for _, _, err := replaying.conn.ReadMessage(); err == nil; _, _, err = replaying.conn.ReadMessage() {
		}
	}()
	sent := make(chan int)
	go func() {
		for count := 0; ; count++ {
			select {
			case <-stop:
				sent <- count
				return
			case <-time.After(2 * time.Millisecond):
			}
			n.Emitter().Publish([]domain.Event{w.log.commit(1, domain.EventMessageNew, strings.Repeat("x", 40<<10))})
		}
	}()
	testkit.Eventually(t, "the cut", func() bool { return w.counts.of("cut slow") == 1 })
	close(stop)
	count := within(t, "the last event", sent)
	testkit.Eventually(t, "the end of the stalled one", func() bool { return n.ConnectedClients() == 2 })
	testkit.Eventually(t, "all to be delivered", func() bool { return got.Load() == int64(count) })
	w.quietNode(n)
	require.Error(t, stalled.expectEnd())
	require.NoError(t, n.Close(testkit.Context(t)))
	within(t, "the end of the live one", ended)
	require.EqualValues(t, count, got.Load(), "each event once")
	server.Close()
	require.Empty(t, complaints.String())
}
