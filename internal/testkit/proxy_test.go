package testkit_test

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// peer is one end of a connection; what it reads comes line by line, and the channel closes with the connection.
type peer struct {
	net.Conn
	lines chan string
}

func newPeer(t *testing.T, conn net.Conn) peer {
	t.Helper()
	p := peer{conn, make(chan string, 10)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(p.lines)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return p
}

func (p peer) says(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(p, line+"\n")
	require.NoError(t, err)
}

func (p peer) hears(t *testing.T, want string) {
	t.Helper()
	ctx := testkit.Context(t)
	select {
	case got, open := <-p.lines:
		require.True(t, open, "the connection ended")
		require.Equal(t, want, got)
	case <-ctx.Done():
		require.FailNow(t, "nothing is heard", "want %q", want)
	}
}

func (p peer) ends(t *testing.T) {
	t.Helper()
	ctx := testkit.Context(t)
	select {
	case got, open := <-p.lines:
		require.False(t, open, "heard %q", got)
	case <-ctx.Done():
		require.FailNow(t, "the connection does not end")
	}
}

// silent checks that nothing comes, not even the end, while other work is done.
func (p peer) silent(t *testing.T) {
	t.Helper()
	select {
	case got, open := <-p.lines:
		require.FailNow(t, "the cut is noticed", "heard %q, open %v", got, open)
	case <-time.After(50 * time.Millisecond):
	}
}

// path is a proxy, and the server behind it.
type path struct {
	*testkit.Proxy
	server net.Listener
}

func newPath(t *testing.T) path {
	t.Helper()
	server, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	return path{testkit.StartProxy(t, server.Addr().String()), server}
}

func (p path) dial(t *testing.T) peer {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(testkit.Context(t), "tcp", p.Addr())
	require.NoError(t, err)
	return newPeer(t, conn)
}

func (p path) accept(t *testing.T) peer {
	t.Helper()
	conn, err := p.server.Accept()
	require.NoError(t, err)
	return newPeer(t, conn)
}

func TestProxyHoldsWhatACutMeets(t *testing.T) {
	p := newPath(t)
	client := p.dial(t)
	server := p.accept(t)
	testkit.Eventually(t, "the proxy to know its connection", func() bool { return !p.Made(server.RemoteAddr().String(), time.Now()).IsZero() })
	require.Zero(t, p.Made(server.RemoteAddr().String(), time.Now().Add(-time.Hour)), "only then")
	require.Zero(t, p.Made(client.LocalAddr().String(), time.Now()))
	client.says(t, "before")
	server.hears(t, "before")
	server.says(t, "answer")
	client.hears(t, "answer")

	p.Cut()
	client.says(t, "late")
	server.says(t, "late answer")
	later := p.dial(t)
	later.says(t, "later")
	for _, end := range []peer{client, server, later} {
		end.silent(t)
	}
	p.Heal()
	server.hears(t, "late")
	client.hears(t, "late answer")
	p.accept(t).hears(t, "later")
}

func TestProxyHoldsTheEndOfAConnection(t *testing.T) {
	p := newPath(t)
	client := p.dial(t)
	server := p.accept(t)
	p.Cut()
	client.says(t, "the last word")
	require.NoError(t, client.Close())
	server.silent(t)
	p.Heal()
	server.hears(t, "the last word")
	server.ends(t)
}

func TestProxyBreakLosesWhatWasHeld(t *testing.T) {
	p := newPath(t)
	client := p.dial(t)
	server := p.accept(t)
	p.Cut()
	client.says(t, "lost")
	p.Break()
	client.ends(t)
	server.ends(t)
	later := p.dial(t)
	later.says(t, "again")
	later.silent(t)
	p.Heal()
	p.accept(t).hears(t, "again")
}

// A cut comes also while an end does not read, and nothing is lost or doubled of what then waits in the middle.
func TestProxyCutsAmongUnreadBytes(t *testing.T) {
	const size = 16 << 20
	p := newPath(t)
	conn, err := (&net.Dialer{}).DialContext(testkit.Context(t), "tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	server, err := p.server.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	sent := make(chan error, 1)
	go func() {
		bytes := make([]byte, size)
		for i := range bytes {
			bytes[i] = byte(i >> 8)
		}
		_, err := conn.Write(bytes)
		sent <- err
	}()
	for range 20 {
		p.Cut()
		p.Heal()
	}
	got := make([]byte, size)
	_, err = io.ReadFull(server, got)
	require.NoError(t, err)
	for i := range got {
		if got[i] != byte(i>>8) {
			require.FailNow(t, "a byte is lost or doubled", "byte %d", i)
		}
	}
	require.NoError(t, <-sent)
}

func TestProxyEndsAClientWithoutAServer(t *testing.T) {
	p := newPath(t)
	require.NoError(t, p.server.Close())
	p.dial(t).ends(t)
}
