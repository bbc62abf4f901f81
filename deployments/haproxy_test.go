package deployments

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func haproxy(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skip("haproxy is not installed (Debian's package haproxy): its file was not checked")
	return ""
}

func TestHAProxyFileIsValid(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), haproxy(t), "-c", "-f", "haproxy/haproxy.cfg").CombinedOutput()
	require.NoError(t, err, string(out))
}

// node stands for an API node: it says its name, is ready or not, and takes upgrades.
type node struct {
	name  string
	ready atomic.Bool
	*httptest.Server
}

func startNode(t *testing.T, name string) *node {
	n := &node{name: name}
	n.ready.Store(true)
	n.Server = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.Close)
	return n
}

func (n *node) address() string { return strings.TrimPrefix(n.URL, "http://") }

func (n *node) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/readyz" && !n.ready.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.Header.Get("Upgrade") == "websocket":
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = buffer.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" + n.name + "\n")
		_ = buffer.Flush()
		line, _ := buffer.ReadString('\n')
		_, _ = conn.Write([]byte("echo " + line))
	default:
		w.Header().Set("X-Saw-Forwarded-For", r.Header.Get("X-Forwarded-For"))
		w.Header().Set("X-Saw-Request-Id", r.Header.Get("X-Request-Id"))
		_, _ = io.WriteString(w, n.name)
	}
}

func freePort(t *testing.T) string {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// startHAProxy runs the committed file with two nodes and returns the public address and that of the metrics.
func startHAProxy(t *testing.T, one, two *node) (public, metrics string) {
	public, metrics = freePort(t), freePort(t)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), haproxy(t), "-db", "-f", "haproxy/haproxy.cfg")
	cmd.Env = append(os.Environ(), "BIND="+public, "BIND_METRICS="+metrics, "API1="+one.address(), "API2="+two.address(), "MAXCONN=100")
	output := startServer(t, cmd)
	require.Eventually(t, func() bool {
		return up(t, metrics, "api1") && up(t, metrics, "api2")
	}, 20*time.Second, 50*time.Millisecond, "HAProxy does not find the nodes; it wrote to %s", output)
	return public, metrics
}

// startServer starts a program and ends it with the test. It returns the file that holds what the program wrote, which
// stays when the test fails.
func startServer(t *testing.T, cmd *exec.Cmd) string {
	output, err := os.CreateTemp("", "deployments-*.log")
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = output.Close()
		if !t.Failed() {
			_ = os.Remove(output.Name())
		}
	})
	return output.Name()
}

// up asks HAProxy's exporter for what the alert SwitchboardNodeNotReady asks.
func up(t *testing.T, metrics, server string) bool {
	got, err := get(t, "http://"+metrics+"/metrics", nil)
	return err == nil && strings.Contains(got.body, `haproxy_server_status{proxy="api",server="`+server+`",state="UP"} 1`)
}

// answer is what is left of a response once it is read.
type answer struct {
	status  int
	header  http.Header
	cookies []*http.Cookie
	body    string
}

func get(t *testing.T, url string, header http.Header) (answer, error) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for name, values := range header {
		request.Header[name] = values
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, response.Cookies(), string(body)}, err
}

func mustGet(t *testing.T, url string, header http.Header) answer {
	t.Helper()
	got, err := get(t, url, header)
	require.NoError(t, err)
	return got
}

func TestHAProxyKeepsClientsTogether(t *testing.T) {
	one, two := startNode(t, "api1"), startNode(t, "api2")
	public, metrics := startHAProxy(t, one, two)
	base := "http://" + public

	// The cookie decides, for each node, as often as one asks.
	for _, want := range []string{"api1", "api2"} {
		for range 10 {
			got := mustGet(t, base+"/socket.io/?EIO=4&transport=polling", http.Header{"Cookie": {"SWITCHBOARD_NODE=" + want}})
			require.Equal(t, want, got.body)
			require.Empty(t, got.header.Get("Set-Cookie"), "the cookie is good: it is not set again")
		}
	}
	// A browser gets the cookie with the page.
	page := mustGet(t, base+"/", nil)
	require.Len(t, page.cookies, 1)
	require.Equal(t, "SWITCHBOARD_NODE", page.cookies[0].Name)
	require.Equal(t, page.body, page.cookies[0].Value)
	require.True(t, page.cookies[0].HttpOnly)
	// Without cookies the page comes from both, but Socket.IO from one.
	seen := map[string]bool{}
	first := mustGet(t, base+"/socket.io/?EIO=4&transport=polling", nil).body
	for range 12 {
		seen[mustGet(t, base+"/", nil).body] = true
		poll := mustGet(t, base+"/socket.io/?EIO=4&transport=polling&sid=x", nil).body
		require.Equal(t, first, poll, "requests of one client went to two nodes")
	}
	require.Len(t, seen, 2)

	// A node that drains gets nobody new, and its own are served elsewhere.
	one.ready.Store(false)
	require.Eventually(t, func() bool { return !up(t, metrics, "api1") }, 10*time.Second, 50*time.Millisecond)
	for range 6 {
		require.Equal(t, "api2", mustGet(t, base+"/socket.io/?EIO=4", http.Header{"Cookie": {"SWITCHBOARD_NODE=api1"}}).body)
		require.Equal(t, "api2", mustGet(t, base+"/socket.io/?EIO=4", nil).body)
	}
}

func TestHAProxyPassesWhatItShould(t *testing.T) {
	one, two := startNode(t, "api1"), startNode(t, "api2")
	public, _ := startHAProxy(t, one, two)

	got := mustGet(t, "http://"+public+"/metrics", nil)
	require.Equal(t, http.StatusNotFound, got.status, "the nodes' metrics are not public")

	got = mustGet(t, "http://"+public+"/api/me", http.Header{"X-Forwarded-For": {"203.0.113.9"}})
	require.Equal(t, "127.0.0.1", got.header.Get("X-Saw-Forwarded-For"), "a client must not choose its address")
	require.Regexp(t, `^[A-Za-z0-9._-]{8,64}$`, got.header.Get("X-Saw-Request-Id"), "a request id that the API takes over")

	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", public)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: desk.example.com\r\nCookie: SWITCHBOARD_NODE=api2\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	upgrade, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, upgrade.StatusCode)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "api2\n", line, "the upgrade goes where the cookie says")
	_, err = io.WriteString(conn, "both ways\n")
	require.NoError(t, err)
	line, err = reader.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "echo both ways\n", line)
}
