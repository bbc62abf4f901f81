package realtime

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

func TestHandshake(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	n := w.node()
	good := w.user(1, 10)
	expired := w.auth.add(domain.Principal{UserID: 11, OrganizationID: 1, ExpiresAt: time.Now().Add(-time.Second)})

	for name, c := range map[string]struct {
		auth       map[string]any
		transports []string
		header     string
		want       string
	}{
		"no token":            {nil, []string{"websocket"}, "", "Authentication failed: No token provided"},
		"no token, polling":   {map[string]any{}, []string{"polling"}, "", "Authentication failed: No token provided"},
		"empty token":         {map[string]any{"token": ""}, nil, "", "Authentication failed: No token provided"},
		"null token":          {map[string]any{"token": nil}, nil, "", "Authentication failed: No token provided"},
		"bad token":           {map[string]any{"token": "x"}, []string{"websocket"}, "", "Authentication failed: Invalid token"},
		"bad token, polling":  {map[string]any{"token": "x"}, []string{"polling"}, "", "Authentication failed: Invalid token"},
		"a number":            {map[string]any{"token": 7}, nil, "", "Authentication failed: Invalid token"},
		"an object":           {map[string]any{"token": map[string]any{}}, nil, "", "Authentication failed: Invalid token"},
		"expired":             {map[string]any{"token": expired}, nil, "", "Authentication failed: Invalid token"},
		"huge":                {map[string]any{"token": strings.Repeat("x", 20_000)}, nil, "", "Authentication failed: Invalid token"},
		"bad header":          {nil, []string{"polling"}, "Bearer x", "Authentication failed: Invalid token"},
		"good":                {map[string]any{"token": good}, []string{"websocket"}, "", ""},
		"good, polling":       {map[string]any{"token": good}, []string{"polling"}, "", ""},
		"good, upgrade":       {map[string]any{"token": good}, nil, "", ""},
		"good header":         {nil, []string{"polling"}, "Bearer " + good, ""},
		"auth wins over head": {map[string]any{"token": good}, []string{"polling"}, "Bearer x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			options := testkit.ClientOptions{URL: n.url, Auth: c.auth, Transports: c.transports}
			if c.header != "" {
				options.Options = map[string]any{"extraHeaders": map[string]any{"Authorization": c.header}}
			}
			err := testkit.Client(t, options).Connect(testkit.Context(t))
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			var refused *testkit.ConnectError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.want, refused.Message)
			require.JSONEq(t, `{"code":"unauthenticated","retry":false}`, string(refused.Data))
		})
	}
	require.NotContains(t, w.logged.String(), good, "a token in the log")
	require.NotZero(t, w.counts.of("auth no_token"))
	require.NotZero(t, w.counts.of("auth invalid_token"))
}

func TestHandshakeWhenTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.RequestTimeout = 500 * time.Millisecond })
	token := w.user(1, 10)
	check := func() {
		t.Helper()
		err := testkit.Client(t, w.client(n, token, nil)).Connect(testkit.Context(t))
		var refused *testkit.ConnectError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "Authentication failed: Temporarily unavailable", refused.Message)
		require.JSONEq(t, `{"code":"unavailable","retry":true}`, string(refused.Data))
	}
	w.auth.set(func(a *fakeAuth) { a.down = errors.New("connection refused") })
	check()
	w.auth.set(func(a *fakeAuth) { a.down = nil })
	w.log.set(func(l *fakeLog) { l.down = errors.New("connection refused") })
	check()
	w.log.set(func(l *fakeLog) { l.down = nil })
	w.connect(n, token, nil)
}

func TestRoomsAndMetrics(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	c := w.connect(n, w.user(1, 10), nil)
	w.quiet(c)
	require.Equal(t, 1, n.ConnectedClients())
	var rooms []string
	for _, r := range n.io.Sockets().Adapter().Rooms().Keys() {
		rooms = append(rooms, string(r))
	}
	require.ElementsMatch(t, []string{"org_1", "user_10", c.ID()}, rooms)
	require.Len(t, rooms, n.Rooms())
	require.NoError(t, c.Disconnect(testkit.Context(t)))
	testkit.Eventually(t, "the end of the socket", func() bool { return n.ConnectedClients() == 0 && n.Rooms() == 0 })
	testkit.Eventually(t, "its log line", func() bool { return len(w.logged.lines("[Socket.IO] disconnected")) == 1 })
	for _, message := range []string{"[Socket.IO] connected", "[Socket.IO] disconnected"} {
		line := w.logged.lines(message)[0]
		require.Equal(t, "INFO", line["level"])
		require.Equal(t, c.ID(), line["socketId"])
		require.InDelta(t, 10, line["userId"], 0)
	}
	// The client says goodbye and closes: which of the two is seen first is open.
	require.Contains(t, []any{"client namespace disconnect", "transport close"}, w.logged.lines("[Socket.IO] disconnected")[0]["reason"])
	testkit.Eventually(t, "no session left", func() bool {
		n.mu.RLock()
		defer n.mu.RUnlock()
		return len(n.sessions) == 0 && len(n.perUser) == 0
	})
}

func TestEventsReachBothNodesInOrder(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	a, b := w.node(), w.node()
	worker, err := NewEmitter(w.redis, EmitterOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, worker.Close(testkit.Context(t))) }()

	onA := w.connect(a, w.user(1, 10), nil)
	onB := w.connect(b, w.user(1, 11), nil)
	polling := testkit.Connect(t, testkit.ClientOptions{
		URL: b.url, Auth: map[string]any{"token": w.user(1, 12)}, Transports: []string{"polling"},
	})
	stranger := w.connect(b, w.user(2, 20), nil)

	w.publish(worker, 1, 300)
	w.publish(a.Emitter(), 2, 5)
	w.publish(b.Emitter(), 1, 100)
	for _, c := range []*testkit.SocketClient{onA, onB, polling} {
		w.expectSeqs(c, 1, 1, 400)
	}
	w.expectSeqs(stranger, 2, 1, 5)
	for _, e := range stranger.Events("") {
		for _, arg := range e.Args {
			require.NotContains(t, string(arg), canary(1))
		}
	}
	// Byte for byte what was committed.
	got := onA.Events(domain.EventMessageNew)[7]
	require.JSONEq(t, string(w.log.events[1][7].Data), string(got.Args[0]))
	var meta domain.Meta
	require.NoError(t, json.Unmarshal(got.Args[1], &meta))
	require.Equal(t, w.log.events[1][7].Meta(), meta)
}
