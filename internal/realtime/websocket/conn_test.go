package websocket

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// peer is the handler of a connection in tests.
type peer struct {
	conn    *Conn
	message func(p *peer, text bool, data []byte)
	asides  atomic.Int64  // calls of Aside
	full    chan struct{} // one token: Full was called
	closed  chan error    // gets what Closed got; a second call would block, and fail the test by its time limit
}

func (p *peer) Message(text bool, data []byte) {
	if p.message != nil {
		p.message(p, text, data)
	}
}

func (p *peer) Aside() { p.asides.Add(1) }

func (*peer) Sent() {}

func (p *peer) Full() {
	select {
	case p.full <- struct{}{}:
	default:
	}
}

func (p *peer) Closed(err error) { p.closed <- err }

// station is a server whose connections go to a loop.
type station struct {
	t     *testing.T
	loop  *Loop
	http  *httptest.Server
	peers chan *peer
}

func newStation(t *testing.T, limits Limits, secure bool, message func(p *peer, text bool, data []byte)) *station {
	t.Helper()
	loop, err := NewLoop(limits)
	require.NoError(t, err)
	s := &station{t: t, loop: loop, peers: make(chan *peer, 1000)}
	upgrader := gorilla.Upgrader{ReadBufferSize: 128, WriteBufferSize: 128}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		p := &peer{message: message, full: make(chan struct{}, 1), closed: make(chan error, 1)}
		p.conn = loop.Add(conn.NetConn(), p)
		p.conn.Start()
		s.peers <- p
	}))
	if secure {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	t.Cleanup(func() {
		loop.Close()
		s.http.Close()
	})
	return s
}

// dial returns both ends of a new connection.
func (s *station) dial() (*gorilla.Conn, *peer) {
	s.t.Helper()
	dialer := gorilla.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	conn, response, err := dialer.DialContext(testkit.Context(s.t), "ws"+strings.TrimPrefix(s.http.URL, "http"), nil)
	require.NoError(s.t, err)
	_ = response.Body.Close()
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn, receive(s.t, s.peers)
}

func receive[T any](t *testing.T, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-testkit.Context(t).Done():
		t.Fatal("nothing came in time")
	}
	return got
}

func echo(p *peer, text bool, data []byte) {
	if text {
		p.conn.Send(Text(data))
	} else {
		p.conn.Send(Binary(data))
	}
}

// overBoth runs a test over plain connections, which are watched, and over TLS, where a goroutine reads.
func overBoth(t *testing.T, test func(t *testing.T, secure bool)) {
	t.Helper()
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			t.Parallel()
			test(t, secure)
		})
	}
}

func TestEcho(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{MessageBytes: 1 << 20}, secure, echo)
		conn, _ := s.dial()
		for _, size := range []int{0, 1, 125, 126, 127, 4096, 8192, 8193, 65535, 65536, 300_000} {
			sent := bytes.Repeat([]byte("é"), size)[:size&^1]
			require.NoError(t, conn.WriteMessage(gorilla.TextMessage, sent))
			kind, got, err := conn.ReadMessage()
			require.NoError(t, err)
			require.Equal(t, gorilla.TextMessage, kind)
			require.True(t, bytes.Equal(sent, got), "%d bytes came back changed", size)
		}
		require.NoError(t, conn.WriteMessage(gorilla.BinaryMessage, []byte{0xFF, 0}))
		kind, got, err := conn.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, gorilla.BinaryMessage, kind)
		require.Equal(t, []byte{0xFF, 0}, got)
	})
}

// Many senders, many connections: everyone gets every frame once, those of one sender in order.
func TestBroadcast(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		const connections, senders, frames = 20, 3, 400
		s := newStation(t, Limits{QueuedBytes: 64 << 20}, secure, nil)
		conns := make([]*gorilla.Conn, connections)
		peers := make([]*peer, connections)
		for i := range conns {
			conns[i], peers[i] = s.dial()
		}
		var tasks sync.WaitGroup
		for sender := range senders {
			tasks.Go(func() {
				for n := range frames {
					f := Text(fmt.Appendf(nil, "%d %d %s", sender, n, strings.Repeat("x", n%3*400)))
					for _, p := range peers {
						p.conn.Send(f)
					}
				}
			})
		}
		for i, conn := range conns {
			tasks.Go(func() {
				var next [senders]int
				for range senders * frames {
					_, data, err := conn.ReadMessage()
					if err != nil {
						t.Errorf("connection %d: %v", i, err)
						return
					}
					var sender, n int
					if _, err := fmt.Sscanf(string(data), "%d %d", &sender, &n); err != nil || n != next[sender] {
						t.Errorf("connection %d: sender %d: got %d, want %d", i, sender, n, next[sender])
						return
					}
					next[sender]++
				}
			})
		}
		tasks.Wait()
		testkit.Eventually(t, "everything to be counted as sent", func() bool { return s.loop.Queued() == 0 })
	})
}

// What nobody reads holds up nobody, is told, and goes when the connection is cut.
func TestStalledPeer(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{QueuedBytes: 1 << 20, SendBuffer: 16 << 10}, secure, nil)
		stalled, behind := s.dial()
		healthy, fine := s.dial()
		f := Text(bytes.Repeat([]byte("x"), 10_000))
		for full := false; !full; {
			behind.conn.Send(f)
			fine.conn.Send(f)
			_, data, err := healthy.ReadMessage()
			require.NoError(t, err)
			require.Len(t, data, 10_000)
			select {
			case <-behind.full:
				full = true
			default:
			}
		}
		require.Greater(t, behind.conn.Queued(), int64(1<<20))
		behind.conn.Abort()
		require.ErrorIs(t, receive(t, behind.closed), ErrAborted)
		require.Zero(t, behind.conn.Queued())
		require.False(t, behind.conn.Send(f))
		_ = stalled.SetReadDeadline(time.Now().Add(10 * time.Second))
		for err := error(nil); err == nil; {
			_, _, err = stalled.ReadMessage() // what the kernel had, then the end
		}
	})
}

// A peer that reads slowly, piece by piece, gets everything.
func TestSlowPeerGetsEverything(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{QueuedBytes: 64 << 20, SendBuffer: 8 << 10}, secure, nil)
		conn, p := s.dial()
		const frames = 2000
		for n := range frames {
			p.conn.Send(Text(fmt.Appendf(nil, "%d %s", n, strings.Repeat("y", 1000))))
		}
		require.Positive(t, p.conn.Queued())
		for n := range frames {
			_, data, err := conn.ReadMessage()
			require.NoError(t, err)
			require.True(t, bytes.HasPrefix(data, fmt.Appendf(nil, "%d ", n)))
		}
		testkit.Eventually(t, "the queue to be empty", func() bool { return p.conn.Queued() == 0 })
		require.Positive(t, p.conn.SentBytes())
	})
}

func TestCloseBySelf(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{}, secure, nil)
		conn, p := s.dial()
		p.conn.Send(Text([]byte("last words")))
		p.conn.Close(CloseGoingAway, "bye")
		p.conn.Close(CloseNormal, "not heard")
		require.False(t, p.conn.Send(Text([]byte("too late"))))
		_, data, err := conn.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, "last words", string(data))
		_, _, err = conn.ReadMessage()
		require.True(t, gorilla.IsCloseError(err, CloseGoingAway), "got %v", err)
		var said *CloseError
		require.ErrorAs(t, receive(t, p.closed), &said, "the client answers")
		require.Equal(t, CloseGoingAway, said.Code)
	})
}

func TestCloseByPeer(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{}, secure, nil)
		conn, p := s.dial()
		require.NoError(t, conn.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(4000, "enough"), time.Now().Add(time.Second)))
		_, _, err := conn.ReadMessage()
		require.True(t, gorilla.IsCloseError(err, 4000), "the code comes back, got %v", err)
		var said *CloseError
		require.ErrorAs(t, receive(t, p.closed), &said)
		require.Equal(t, CloseError{Code: 4000, Reason: "enough"}, *said)
		<-p.conn.done
	})
}

// Who breaks a rule learns which, even in the middle of sending more: the connection is not reset under the close frame.
func TestCloseCodeReachesAPeerThatStillSends(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{Farewell: time.Minute}, secure, nil)
		conn, p := s.dial()
		huge := bytes.Repeat([]byte("x"), 8<<20)
		require.NoError(t, conn.WriteMessage(gorilla.TextMessage, huge), "what is too much is read, and not kept")
		_, _, err := conn.ReadMessage()
		require.True(t, gorilla.IsCloseError(err, CloseTooBig), "got %v", err)
		var broke *CloseError
		require.ErrorAs(t, receive(t, p.closed), &broke)
		require.Equal(t, CloseTooBig, broke.Code)
		require.NoError(t, conn.NetConn().Close())
		<-p.conn.done
	})
}

// Control frames and the fragments of a message that never ends are told: they are no way to be busy without being noticed.
func TestFramesThatAreNoMessagesAreTold(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{}, secure, echo)
		conn, p := s.dial()
		const each = 100
		for range each {
			require.NoError(t, conn.WriteControl(gorilla.PingMessage, nil, time.Now().Add(5*time.Second)))
			require.NoError(t, conn.WriteControl(gorilla.PongMessage, nil, time.Now().Add(5*time.Second)))
		}
		_, err := conn.NetConn().Write([]byte{byte(opText), maskBit, 0, 0, 0, 0}) // not final, and empty like all that follow
		require.NoError(t, err)
		for range each {
			_, err := conn.NetConn().Write([]byte{byte(opContinuation), maskBit, 0, 0, 0, 0})
			require.NoError(t, err)
		}
		testkit.Eventually(t, "all to be told", func() bool { return p.asides.Load() == 3*each+1 })
		_, err = conn.NetConn().Write([]byte{finalBit | byte(opContinuation), maskBit, 0, 0, 0, 0})
		require.NoError(t, err)
		_, data, err := conn.ReadMessage()
		require.NoError(t, err)
		require.Empty(t, data)
	})
}

// A loop that closes does not wait for peers that read nothing, and leaves no goroutine (see TestMain).
func TestLoopClosesOverStalledPeers(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{QueuedBytes: 64 << 20, SendBuffer: 8 << 10, Farewell: time.Hour}, secure, nil)
		var peers []*peer
		f := Text(bytes.Repeat([]byte("x"), 64<<10))
		for range 5 {
			_, p := s.dial()
			for p.conn.Queued() < 8<<20 {
				p.conn.Send(f)
			}
			peers = append(peers, p)
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			for _, p := range peers {
				p.conn.Abort()
			}
			for _, p := range peers {
				<-p.conn.done
			}
		}()
		receive(t, closed)
		for _, p := range peers {
			require.ErrorIs(t, receive(t, p.closed), ErrAborted)
		}
	})
}

func TestPeerThatNeverAnswersTheClose(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{Farewell: 50 * time.Millisecond}, secure, nil)
		_, p := s.dial()
		p.conn.Close(CloseNormal, "")
		require.ErrorIs(t, receive(t, p.closed), ErrAborted)
	})
}

func TestPeerThatVanishes(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{}, secure, nil)
		conn, p := s.dial()
		require.NoError(t, below(conn.NetConn()).Close())
		require.Error(t, receive(t, p.closed))
	})
}

// A flood of pings from a peer that reads nothing queues a few pongs at most: those on their way and one more.
func TestPings(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		s := newStation(t, Limits{SendBuffer: 4 << 10}, secure, echo)
		conn, p := s.dial()
		pongs := make(chan string, 1)
		conn.SetPongHandler(func(data string) error {
			select {
			case pongs <- data:
			default:
			}
			return nil
		})
		require.NoError(t, conn.WriteControl(gorilla.PingMessage, []byte("hello"), time.Now().Add(time.Second)))
		require.NoError(t, conn.WriteMessage(gorilla.TextMessage, nil))
		_, _, err := conn.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, "hello", receive(t, pongs))
		ping := bytes.Repeat([]byte("p"), 125)
		for range 20_000 {
			require.NoError(t, conn.WriteControl(gorilla.PingMessage, ping, time.Now().Add(5*time.Second)))
			require.LessOrEqual(t, p.conn.Queued(), int64(4*127))
		}
	})
}

// An idle connection has no goroutine.
func TestIdleConnectionsHaveNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("connections are watched on Linux only")
	}
	s := newStation(t, Limits{}, false, echo)
	const connections = 100
	var last *gorilla.Conn
	servers := func() int {
		stacks := make([]byte, 4<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "realtime/websocket.(*Conn)")
	}
	for range connections {
		conn, _ := s.dial()
		require.NoError(t, conn.WriteMessage(gorilla.TextMessage, []byte("x")))
		_, _, err := conn.ReadMessage()
		require.NoError(t, err)
		last = conn
	}
	testkit.Eventually(t, "all goroutines of connections to end", func() bool { return servers() == 0 })
	require.NoError(t, last.WriteMessage(gorilla.TextMessage, []byte("awake")))
	_, data, err := last.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, "awake", string(data))
}

func TestAddAfterClose(t *testing.T) {
	t.Parallel()
	loop, err := NewLoop(Limits{})
	require.NoError(t, err)
	loop.Close()
	ours, theirs := net.Pipe()
	p := &peer{closed: make(chan error, 1)}
	c := loop.Add(ours, p)
	c.Start()
	require.ErrorIs(t, receive(t, p.closed), ErrClosed)
	_, err = theirs.Read(make([]byte, 1))
	require.Error(t, err)
}

// Connections come and go, are cut and closed from both sides, while everything is sent to everyone: nothing hangs, and the
// loop ends.
func TestComingAndGoing(t *testing.T) {
	t.Parallel()
	random := testkit.Rand(t)
	seeds := make([]int, 8)
	for i := range seeds {
		seeds[i] = random.IntN(4)
	}
	s := newStation(t, Limits{Farewell: 20 * time.Millisecond}, false, echo)
	ctx, cancel := context.WithCancel(testkit.Context(t))
	var tasks sync.WaitGroup
	var mu sync.Mutex
	present := map[*peer]bool{}
	tasks.Go(func() {
		f := Text(bytes.Repeat([]byte("z"), 500))
		for ctx.Err() == nil {
			mu.Lock()
			for p := range present {
				p.conn.Send(f)
			}
			mu.Unlock()
			runtime.Gosched()
		}
	})
	var clients sync.WaitGroup
	for _, seed := range seeds {
		conn, p := s.dial()
		mu.Lock()
		present[p] = true
		mu.Unlock()
		clients.Go(func() {
			for range 200 {
				_ = conn.WriteMessage(gorilla.TextMessage, []byte("m"))
				if _, _, err := conn.ReadMessage(); err != nil {
					break
				}
			}
			switch seed {
			case 0:
				p.conn.Abort()
			case 1:
				p.conn.Close(CloseNormal, "")
			case 2:
				_ = conn.NetConn().Close()
			default:
				_ = conn.WriteControl(gorilla.CloseMessage, nil, time.Now().Add(time.Second))
			}
			<-p.conn.done
		})
	}
	clients.Wait()
	cancel()
	tasks.Wait()
	require.Zero(t, s.loop.Queued())
}

// clientFrame is a frame as a client sends it.
func clientFrame(first byte, payload []byte) []byte {
	mask := [4]byte{0xA1, 0xB2, 0xC3, 0xD4}
	out := []byte{first}
	switch n := len(payload); {
	case n <= mostShort:
		out = append(out, maskBit|byte(n))
	case n <= 0xFFFF:
		out = binary.BigEndian.AppendUint16(append(out, maskBit|length16), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, maskBit|length64), uint64(n))
	}
	out = append(out, mask[:]...)
	masked := bytes.Clone(payload)
	for i := range masked {
		masked[i] ^= mask[i%4]
	}
	return append(out, masked...)
}

// record is a taker that remembers.
type record struct{ got []string }

func (*record) takeFragment() bool { return true }

func (r *record) takeMessage(text bool, data []byte) bool {
	r.got = append(r.got, fmt.Sprintf("text=%v %q", text, data))
	return true
}

func (r *record) takeControl(op opcode, payload []byte) bool {
	r.got = append(r.got, fmt.Sprintf("control %d %q", op, payload))
	return op != opClose
}

func TestParser(t *testing.T) {
	t.Parallel()
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	unmasked := []byte{finalBit | byte(opText), 1, 'a'}
	for name, c := range map[string]struct {
		data []byte
		got  []string
		code int // of the error, 0 for none
	}{
		"text":                {clientFrame(0x81, []byte("hé")), []string{`text=true "hé"`}, 0},
		"binary":              {clientFrame(0x82, []byte{0xFF}), []string{`text=false "\xff"`}, 0},
		"two":                 {join(clientFrame(0x81, []byte("a")), clientFrame(0x81, nil)), []string{`text=true "a"`, `text=true ""`}, 0},
		"fragments":           {join(clientFrame(0x01, []byte("\xc3")), clientFrame(0x89, []byte("p")), clientFrame(0x00, nil), clientFrame(0x80, []byte("\xa9"))), []string{`control 9 "p"`, `text=true "é"`}, 0},
		"unmasked":            {unmasked, nil, CloseProtocolError},
		"reserved":            {clientFrame(0xC1, []byte("a")), nil, CloseProtocolError},
		"unknown":             {clientFrame(0x83, []byte("a")), nil, CloseProtocolError},
		"long control":        {clientFrame(0x89, make([]byte, 126)), nil, CloseProtocolError},
		"control in pieces":   {clientFrame(0x09, nil), nil, CloseProtocolError},
		"text within text":    {join(clientFrame(0x01, nil), clientFrame(0x81, nil)), nil, CloseProtocolError},
		"continues nothing":   {clientFrame(0x80, nil), nil, CloseProtocolError},
		"bad text":            {clientFrame(0x81, []byte{0xFF}), nil, CloseInvalidText},
		"too big":             {clientFrame(0x81, make([]byte, 1001)), nil, CloseTooBig},
		"too big in pieces":   {join(clientFrame(0x01, make([]byte, 600)), clientFrame(0x80, make([]byte, 600))), nil, CloseTooBig},
		"absurdly big":        {[]byte{0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, nil, CloseTooBig},
		"nothing after close": {join(clientFrame(0x88, []byte{3, 0xE8}), clientFrame(0x81, []byte("late"))), []string{`control 8 "\x03\xe8"`}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseInPieces(c.data, len(c.data))
			require.Equal(t, c.got, got)
			requireCode(t, c.code, err)
			for size := 1; size < min(len(c.data), 20); size++ { // in whatever pieces it comes
				again, err := parseInPieces(c.data, size)
				require.Equal(t, c.got, again, "in pieces of %d", size)
				requireCode(t, c.code, err)
			}
		})
	}
}

func requireCode(t *testing.T, code int, err error) {
	t.Helper()
	if code == 0 {
		require.NoError(t, err)
		return
	}
	var broke *CloseError
	require.ErrorAs(t, err, &broke)
	require.Equal(t, code, broke.Code)
}

// parseInPieces ends at an error, like a connection does, and at a close frame.
func parseInPieces(data []byte, size int) ([]string, error) {
	p, r := parser{limit: 1000}, &record{}
	data = bytes.Clone(data)
	for len(data) > 0 {
		n := min(size, len(data))
		if err := p.feed(data[:n], r); err != nil {
			return r.got, err
		}
		if last := len(r.got) - 1; last >= 0 && strings.HasPrefix(r.got[last], "control 8 ") {
			break
		}
		data = data[n:]
	}
	return r.got, nil
}

func TestCloseFrames(t *testing.T) {
	t.Parallel()
	for payload, code := range map[string]int{
		"": closeNoStatus, "\x03": CloseProtocolError, "\x03\xe8": 1000, "\x03\xedx": CloseProtocolError, "\x03\xe7": CloseProtocolError,
		"\x0b\xb8ok": 3000, "\x13\x87": 4999, "\x13\x88": CloseProtocolError, "\x03\xe8\xff": CloseInvalidText,
	} {
		require.Equal(t, code, readClose([]byte(payload)).Code, "%q", payload)
	}
}

// The same bytes give the same messages and the same error in whatever pieces they arrive.
func FuzzParser(f *testing.F) {
	f.Add(clientFrame(0x81, []byte("hello")), uint8(3))
	f.Add(append(clientFrame(0x01, []byte("a")), clientFrame(0x80, []byte("b"))...), uint8(1))
	f.Add([]byte{0x81, 0xFE, 0x03, 0xE9, 0, 0, 0, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		whole, wholeErr := parseInPieces(data, max(1, len(data)))
		pieces, piecesErr := parseInPieces(data, int(size)+1)
		require.Equal(t, whole, pieces)
		require.Equal(t, wholeErr == nil, piecesErr == nil)
		var one, other *CloseError
		if errors.As(wholeErr, &one) && errors.As(piecesErr, &other) {
			require.Equal(t, one.Code, other.Code)
		}
	})
}
