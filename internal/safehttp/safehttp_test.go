package safehttp

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPublic(t *testing.T) {
	for _, yes := range []string{
		"8.8.8.8", "1.1.1.1", "157.240.1.1", "2606:4700:4700::1111", "2a03:2880::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "172.32.0.1", "100.63.255.255",
	} {
		require.True(t, Public(netip.MustParseAddr(yes)), yes)
	}
	for _, no := range []string{
		"127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
		"255.255.255.255", "168.63.129.16", "192.88.99.1",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
		"ff02::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:0808:0808::", "2001::1", "2001:db8::1", "3fff::1", "fec0::1", "100::1", "5f00::1",
	} {
		require.False(t, Public(netip.MustParseAddr(no)), no)
	}
	require.False(t, Public(netip.Addr{}))
}

// names is a resolver whose answers change from call to call, as in DNS rebinding; the last one stays.
type names struct {
	mu      sync.Mutex // guards answers and asked
	answers map[string][][]string
	asked   int
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	list := n.answers[host]
	if len(list) == 0 {
		return nil, errors.New("no such host")
	}
	if len(list) > 1 {
		n.answers[host] = list[1:]
	}
	var addrs []netip.Addr
	for _, s := range list[0] {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	return addrs, nil
}

// network stands for the internet: what is dialled is recorded and goes to one of the test's servers, by address.
type network struct {
	mu      sync.Mutex // guards dialled
	dialled []string
	servers map[string]*httptest.Server // "address:port" as dialled
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	server := n.servers[address]
	n.mu.Unlock()
	if server == nil {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, network, server.Listener.Addr().String())
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func newClient(t *testing.T, o Options) *http.Client {
	t.Helper()
	c := New(o)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func do(t *testing.T, c *http.Client, method, rawURL string, header http.Header) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, rawURL, nil)
	require.NoError(t, err)
	for k, v := range header {
		r.Header[k] = v
	}
	response, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func get(t *testing.T, c *http.Client, rawURL string) (string, error) {
	t.Helper()
	return do(t, c, http.MethodGet, rawURL, nil)
}

func TestPrivateAddressesAreNotDialled(t *testing.T) {
	reached := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	_, port, err := net.SplitHostPort(reached.Listener.Addr().String())
	require.NoError(t, err)
	resolver := &names{answers: map[string][][]string{"evil.example": {{"127.0.0.1", "::1", "169.254.169.254"}}, "mapped.example": {{"::ffff:127.0.0.1"}}}}
	c := newClient(t, Options{Resolver: resolver, Allow: []string{"127.0.0.1:1"}})
	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "10.0.0.1", "169.254.169.254", "evil.example", "mapped.example", "[64:ff9b::7f00:1]"} {
		_, err := get(t, c, "http://"+host+":"+port+"/")
		require.ErrorIs(t, err, ErrForbiddenAddress, host)
	}
	// The system's resolver may take these for addresses; none may get through.
	system := newClient(t, Options{Timeout: 5 * time.Second})
	for _, host := range []string{"localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"} {
		_, err := get(t, system, "http://"+host+":"+port+"/")
		require.Error(t, err, host)
	}
}

func TestRebinding(t *testing.T) {
	public := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "public") })
	net := &network{servers: map[string]*httptest.Server{"8.8.8.8:80": public}}
	resolver := &names{answers: map[string][][]string{"rebind.example": {{"8.8.8.8"}, {"127.0.0.1"}}}}
	c := newClient(t, Options{Resolver: resolver, dial: net.dial})
	body, err := get(t, c, "http://rebind.example/")
	require.NoError(t, err)
	require.Equal(t, "public", body)
	require.Equal(t, 1, resolver.asked, "the address that was checked is the one that was dialled")
	c.CloseIdleConnections()
	_, err = get(t, c, "http://rebind.example/")
	require.ErrorIs(t, err, ErrForbiddenAddress, "a new connection asks and checks again")
	require.Equal(t, []string{"8.8.8.8:80"}, net.dialled)
}

func TestMixedAnswersUseThePublicOnes(t *testing.T) {
	public := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "public") })
	net := &network{servers: map[string]*httptest.Server{"8.8.4.4:80": public}}
	resolver := &names{answers: map[string][][]string{"mixed.example": {{"10.0.0.1", "8.8.8.8", "::ffff:8.8.4.4"}}}}
	c := newClient(t, Options{Resolver: resolver, dial: net.dial})
	body, err := get(t, c, "http://mixed.example/")
	require.NoError(t, err)
	require.Equal(t, "public", body)
	require.Equal(t, []string{"8.8.8.8:80", "8.8.4.4:80"}, net.dialled)
}

func TestRedirectsIntoTheHouse(t *testing.T) {
	inside := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	var target string
	public := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) })
	net := &network{servers: map[string]*httptest.Server{"8.8.8.8:80": public}}
	resolver := &names{answers: map[string][][]string{"a.example": {{"8.8.8.8"}}, "in.example": {{"127.0.0.1"}}}}
	c := newClient(t, Options{Resolver: resolver, dial: net.dial, Allow: []string{inside.Listener.Addr().String()}})
	_, port, _ := strings.Cut(inside.Listener.Addr().String(), ":")
	for to, want := range map[string]error{
		"http://127.0.0.1:1/":                     ErrForbiddenAddress,
		"http://[::ffff:127.0.0.1]:" + port + "/": ErrForbiddenAddress,
		"http://in.example:" + port + "/":         ErrForbiddenAddress,
		"http://169.254.169.254/latest/meta-data": ErrForbiddenAddress,
		inside.URL:                                     ErrRedirect, // allowed for whoever means it, not for whoever is sent there
		"file:///etc/passwd":                           ErrForbiddenURL,
		"gopher://8.8.8.8/":                            ErrForbiddenURL,
		"http://user:password@8.8.8.8/":                ErrForbiddenURL,
		"http://a.example/again":                       ErrRedirect, // for ever
		"//127.0.0.1:" + port + "/":                    ErrRedirect,
		strings.Replace(inside.URL, "http", "HTTP", 1): ErrRedirect,
	} {
		target = to
		_, err := get(t, c, "http://a.example/")
		require.ErrorIs(t, err, want, to)
	}
	for _, bad := range []string{"file:///etc/passwd", "http://user:password@8.8.8.8/"} {
		_, err := get(t, c, bad)
		require.ErrorIs(t, err, ErrForbiddenURL, bad)
	}
}

func TestAllowedEndpoint(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/from" {
			http.Redirect(w, r, "/to", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, r.URL.Path+r.Header.Get("Authorization")+r.Header.Get("Referer"))
	})
	c := newClient(t, Options{Allow: []string{s.Listener.Addr().String()}})
	body, err := do(t, c, http.MethodGet, s.URL+"/from", http.Header{"Authorization": {"-me"}})
	require.NoError(t, err)
	require.Equal(t, "/to-me", body, "the same host keeps the credentials; nobody gets the referrer")
}

func TestCredentialsStayAtHome(t *testing.T) {
	var got []http.Header
	second := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = append(got, r.Header) })
	var code int
	first := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://b.a.example/", code) })
	net := &network{servers: map[string]*httptest.Server{"8.8.8.8:80": first, "8.8.4.4:80": second}}
	resolver := &names{answers: map[string][][]string{"a.example": {{"8.8.8.8"}}, "b.a.example": {{"8.8.4.4"}}}}
	c := newClient(t, Options{Resolver: resolver, dial: net.dial})
	header := http.Header{"Authorization": {"Bearer x"}, "Cookie": {"x=y"}, "X-Api-Key": {"x"}, "Accept": {"image/*"}}
	code = http.StatusFound
	_, err := do(t, c, http.MethodGet, "http://a.example/bot123:token/file", header)
	require.NoError(t, err)
	require.Len(t, got, 1)
	for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "Referer"} {
		require.Empty(t, got[0].Get(name), name)
	}
	require.Equal(t, "image/*", got[0].Get("Accept"))
	code = http.StatusTemporaryRedirect
	_, err = do(t, c, http.MethodPost, "http://a.example/", header)
	require.ErrorIs(t, err, ErrRedirect)
	require.Len(t, got, 1)
}

func TestNoDowngrade(t *testing.T) {
	c := &client{maxRedirects: 3}
	from := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: "a.example"}, Header: http.Header{}}
	to := &http.Request{URL: &url.URL{Scheme: "http", Host: "a.example"}, Header: http.Header{}}
	require.ErrorIs(t, c.checkRedirect(to, []*http.Request{from}), ErrRedirect)
}

func TestSizes(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body := strings.Repeat("x", 1000)
		switch r.URL.Path {
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, strings.Repeat("x", 1<<20))
			_ = z.Close()
		case "/chunked":
			w.(http.Flusher).Flush()
			fallthrough
		default:
			_, _ = io.WriteString(w, body)
		}
	})
	allow := []string{s.Listener.Addr().String()}
	exact := newClient(t, Options{Allow: allow, MaxBytes: 1000})
	for _, path := range []string{"/", "/chunked"} {
		body, err := get(t, exact, s.URL+path)
		require.NoError(t, err)
		require.Len(t, body, 1000)
	}
	small := newClient(t, Options{Allow: allow, MaxBytes: 999})
	for _, path := range []string{"/", "/chunked", "/bomb"} {
		body, err := get(t, small, s.URL+path)
		require.ErrorIs(t, err, ErrTooLarge, path)
		require.LessOrEqual(t, len(body), 999)
	}
}

func TestTimeoutCoversTheBody(t *testing.T) {
	stop := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	defer close(stop)
	c := newClient(t, Options{Allow: []string{s.Listener.Addr().String()}, Timeout: 50 * time.Millisecond})
	start := time.Now()
	_, err := get(t, c, s.URL)
	require.Error(t, err)
	require.Less(t, time.Since(start), 3*time.Second)
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	t.Setenv("HTTP_PROXY", proxy.URL)
	c := newClient(t, Options{Resolver: &names{answers: map[string][][]string{"a.example": {{"10.0.0.1"}}}}})
	_, err := get(t, c, "http://a.example/")
	require.ErrorIs(t, err, ErrForbiddenAddress)
}
