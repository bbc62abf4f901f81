package realtime

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

func TestReconnectContinues(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	a, b := w.node(), w.node()
	for name, transports := range map[string][]string{"websocket": {"websocket"}, "polling": {"polling"}, "upgrade": nil} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			org := map[string]int64{"websocket": 1, "polling": 2, "upgrade": 3}[name]
			w.log.commitMany(org, 20)
			c := testkit.Connect(t, testkit.ClientOptions{
				URL: a.url, Auth: map[string]any{"token": w.user(org, 100+org), "lastSeq": 10, "epoch": testEpoch},
				Transports: transports, TrackSeq: true, Options: map[string]any{"reconnectionDelay": 100},
			})
			w.expectSeqs(c, org, 11, 20)
			done := make(chan struct{})
			go func() { // events go on while the connection breaks
				defer close(done)
				pace := time.NewTicker(2 * time.Millisecond)
				defer pace.Stop()
				for range 100 {
					w.publish(b.Emitter(), org, 5)
					<-pace.C
				}
			}()
			for i := range 3 {
				c.Drop()
				require.NoError(t, c.WaitConnected(testkit.Context(t), i+2))
			}
			<-done
			w.expectNoGap(c, 11, 520)
			require.Empty(t, c.Events(domain.EventSyncReset))
		})
	}
}

func TestPositionsOfTheHandshake(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	w.log.commitMany(1, 30)
	for name, c := range map[string]struct {
		auth  map[string]any
		reset string
		first int64 // of what is replayed, 0: nothing
	}{
		"none":           {nil, "", 0},
		"null":           {map[string]any{"lastSeq": nil}, "", 0},
		"epoch alone":    {map[string]any{"epoch": "x"}, "", 0},
		"from the start": {map[string]any{"lastSeq": 0}, "", 1},
		"known":          {map[string]any{"lastSeq": 25, "epoch": testEpoch}, "", 26},
		"up to date":     {map[string]any{"lastSeq": 30, "epoch": testEpoch}, "", 0},
		"negative":       {map[string]any{"lastSeq": -1}, "bad_position", 0},
		"a string":       {map[string]any{"lastSeq": "25"}, "bad_position", 0},
		"a fraction":     {map[string]any{"lastSeq": 25.5}, "bad_position", 0},
		"huge":           {map[string]any{"lastSeq": 1e300}, "bad_position", 0},
		"an object":      {map[string]any{"lastSeq": map[string]any{}}, "bad_position", 0},
		"odd epoch":      {map[string]any{"lastSeq": 25, "epoch": 7}, "bad_position", 0},
		"other epoch":    {map[string]any{"lastSeq": 25, "epoch": "other"}, "epoch", 0},
		"the future":     {map[string]any{"lastSeq": 31}, "future", 0},
		"the far future": {map[string]any{"lastSeq": maxInteger}, "future", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			client := w.connect(n, w.user(1, 10), c.auth)
			if c.reset != "" {
				e, err := client.WaitFor(testkit.Context(t), domain.EventSyncReset, nil)
				require.NoError(t, err)
				require.JSONEq(t, `{"head":30,"epoch":"epoch-1","reason":"`+c.reset+`","delayMs":0}`, string(e.Args[0]))
			}
			if c.first != 0 {
				w.expectSeqs(client, 1, c.first, 30)
			}
			w.quiet(client)
			if c.first == 0 {
				require.Empty(t, client.Events(domain.EventMessageNew))
			}
			client.Close()
		})
	}
}

func TestDisconnections(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	a, b := w.node(), w.node()
	worker, err := NewEmitter(w.redis, EmitterOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, worker.Close(testkit.Context(t))) }()
	key := w.auth.add(domain.Principal{UserID: 12, OrganizationID: 1, APIKeyID: 7})
	for name, c := range map[string]struct {
		token string
		do    func()
	}{
		"user":         {w.user(1, 10), func() { worker.DisconnectUser(10) }},
		"session":      {w.user(1, 11), func() { worker.DisconnectSession("sign-in-11") }},
		"API key":      {key, func() { worker.DisconnectAPIKey(7) }},
		"organization": {w.user(3, 13), func() { worker.DisconnectOrganization(3) }},
		"own node":     {w.user(1, 14), func() { a.Emitter().DisconnectUser(14) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			other := w.connect(a, w.user(1, 99), nil)
			clients := []*testkit.SocketClient{
				w.connect(a, c.token, nil), w.connect(b, c.token, nil),
				testkit.Connect(t, testkit.ClientOptions{URL: b.url, Auth: map[string]any{"token": c.token}, Transports: []string{"polling"}}),
			}
			for _, client := range clients {
				w.quiet(client)
			}
			began := time.Now()
			c.do()
			for _, client := range clients {
				reason, err := client.WaitDisconnect(testkit.Context(t), 1)
				require.NoError(t, err)
				require.Equal(t, "io server disconnect", reason, "so that the client does not come back by itself")
			}
			require.Less(t, time.Since(began), testkit.Slack(2*time.Second))
			w.quiet(other)
			require.True(t, other.Connected())
		})
	}
}

func TestExpiryAndRevalidation(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.RevalidateEvery = 50 * time.Millisecond })
	short := w.auth.add(domain.Principal{UserID: 10, OrganizationID: 1, ExpiresAt: time.Now().Add(time.Second)})
	expiring := w.connect(n, short, nil)
	removed, stays := w.connect(n, w.user(1, 11), nil), w.connect(n, w.user(1, 12), nil)
	reason, err := expiring.WaitDisconnect(testkit.Context(t), 1)
	require.NoError(t, err)
	require.Equal(t, "io server disconnect", reason)
	require.Equal(t, 1, w.counts.of("cut expired"))

	w.auth.set(func(a *fakeAuth) { a.down = errors.New("gone") })
	asked := func() (n int) {
		w.auth.set(func(a *fakeAuth) { n = a.asked })
		return n
	}
	before := asked()
	testkit.Eventually(t, "revalidations that fail", func() bool { return asked() > before+2 })
	require.True(t, removed.Connected(), "a database that is down revokes nobody")

	w.auth.set(func(a *fakeAuth) { a.down, a.invalid[11] = nil, true })
	reason, err = removed.WaitDisconnect(testkit.Context(t), 1)
	require.NoError(t, err)
	require.Equal(t, "io server disconnect", reason)
	w.publish(n.Emitter(), 1, 2)
	w.expectSeqs(stays, 1, 1, 2)
	require.Empty(t, removed.Events(""))
	testkit.Eventually(t, "the log lines", func() bool { return len(w.logged.lines("[Socket.IO] disconnected")) == 2 })
	require.Equal(t, "revoked", w.logged.lines("[Socket.IO] disconnected")[1]["cause"])
	var refused *testkit.ConnectError
	require.ErrorAs(t, testkit.Client(t, w.client(n, w.user(1, 11), map[string]any{"lastSeq": 0})).Connect(testkit.Context(t)), &refused)
	require.Equal(t, messageInvalid, refused.Message, "and gets no replay")
}

func TestCloseEndsEverything(t *testing.T) {
	before := goleak.IgnoreCurrent()
	w, _ := miniWorld(t)
	n := w.node()
	other := w.node()
	clients := []*testkit.SocketClient{
		w.connect(n, w.user(1, 10), nil),
		testkit.Connect(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": w.user(1, 11)}, Transports: []string{"polling"}}),
		testkit.Connect(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": w.user(1, 12)}}),
	}
	raw := dialRaw(t, n, w.user(1, 13), nil)
	w.publish(n.Emitter(), 1, 10)
	for _, c := range clients {
		w.expectSeqs(c, 1, 1, 10)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	began := time.Now()
	require.NoError(t, n.Close(ctx))
	require.Less(t, time.Since(began), testkit.Slack(2*time.Second))
	require.NoError(t, n.Close(ctx), "twice")
	require.Error(t, n.Start(ctx))
	require.ErrorContains(t, raw.expectEnd(), "1001", "a close frame: going away")
	for _, c := range clients {
		reason, err := c.WaitDisconnect(testkit.Context(t), 1)
		require.NoError(t, err)
		require.Contains(t, []string{"transport close", "transport error"}, reason, "the client comes back by itself, to another node")
		c.Close()
	}
	_, response := get(t, n, "EIO=4&transport=polling", "", nil)
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NoError(t, n.Emitter().User(1, "x", 1), "no panic after the end")
	n.hub.mu.RLock()
	require.Empty(t, n.hub.feeds)
	n.hub.mu.RUnlock()
	require.NoError(t, other.Close(ctx))
	n.http.Close()
	other.http.Close()
	goleak.VerifyNone(t, before,
		goleak.IgnoreAnyFunction("switchboard/internal/testkit.(*process).run"),
		goleak.IgnoreAnyFunction("switchboard/internal/testkit.(*NodeProcess).read"),
		goleak.IgnoreAnyFunction("github.com/alicebob/miniredis/v2/server.(*Server).servePeer"),
		goleak.IgnoreAnyFunction("github.com/alicebob/miniredis/v2/server.(*Server).servePeer.func2"),
		goleak.IgnoreAnyFunction("github.com/alicebob/miniredis/v2/server.(*Server).serve"))
}

func TestCloseBeforeStart(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	s, err := New(Options{Redis: w.redis, Authenticator: w.auth, Chats: fakeChats{}, Log: w.log})
	require.NoError(t, err)
	require.NoError(t, s.Close(testkit.Context(t)))
	for _, o := range []Options{{}, {Redis: w.redis}, {Redis: w.redis, Authenticator: w.auth}, {Redis: w.redis, Authenticator: w.auth, Chats: fakeChats{}}} {
		_, err := New(o)
		require.ErrorContains(t, err, "is missing")
	}
	_, err = NewEmitter(nil, EmitterOptions{})
	require.Error(t, err)
}

func TestTheEndOfASocketIsHeardOnce(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	c := w.connect(n, w.user(1, 10), nil)
	w.quiet(c)
	s := n.onlySession(t)
	s.socket.EmitReserved("disconnect", "transport close")
	s.socket.EmitReserved("disconnect", "transport close")
	s.end()
	s.end()
	c.Close()
	testkit.Eventually(t, "the end", func() bool { return n.ConnectedClients() == 0 })
	require.Len(t, w.logged.lines("[Socket.IO] disconnected"), 1)
	n.hub.mu.RLock()
	defer n.hub.mu.RUnlock()
	require.Zero(t, n.hub.feeds[1].refs)
}

func TestConnectionsThatEndInTheMiddleOfTheHandshake(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	gate := &slowAuth{fakeAuth: w.auth, entered: make(chan struct{}, 10), gate: make(chan struct{})}
	n := w.node(func(o *Options) { o.Authenticator = gate })
	token := w.user(1, 10)
	for range 5 {
		r := dialRaw(t, n, "", nil)
		r.text(`40{"token":"` + token + `"}`)
		<-gate.entered
		_ = r.conn.Close()
	}
	close(gate.gate)
	testkit.Eventually(t, "nothing to be left", func() bool {
		n.mu.RLock()
		defer n.mu.RUnlock()
		return n.ConnectedClients() == 0 && len(n.sessions) == 0 && n.io.Sockets().Sockets().Len() == 0
	})
	testkit.Eventually(t, "no use of the feed", func() bool {
		n.hub.mu.RLock()
		defer n.hub.mu.RUnlock()
		return n.hub.feeds[1] == nil || n.hub.feeds[1].refs == 0
	})
}

type slowAuth struct {
	*fakeAuth
	entered chan struct{}
	gate    chan struct{}
}

func (a *slowAuth) Authenticate(ctx context.Context, token string) (domain.Principal, error) {
	a.entered <- struct{}{}
	<-a.gate
	return a.fakeAuth.Authenticate(ctx, token)
}

func TestForeignNamespacesAreRefused(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	err := testkit.Client(t, testkit.ClientOptions{URL: n.url + "/admin", Auth: map[string]any{"token": w.user(1, 1)}}).Connect(testkit.Context(t))
	require.EqualError(t, err, "Invalid namespace")
	require.NotContains(t, w.logged.String(), "token-1-1")
}
