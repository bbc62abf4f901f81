package realtime

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// F13: rights end in the middle of 100 events a second. Nothing may arrive after 2 s, on any node, by any transport; while
// Redis is down, after RevalidateEvery. A reconnect gets no replay. (With real accounts: internal/app.)

// revokee is a user whose rights end, with sockets on both nodes.
type revokee struct {
	organizationID, userID int64
	token                  string
	clients                []*testkit.SocketClient
	ended                  time.Time
}

func TestFaultF13_Revocation(t *testing.T) {
	revalidate := time.Second
	if testkit.Full() {
		revalidate = 30 * time.Second
	}
	w := newWorldOf(t, testkit.StartRedis(t))
	limits := func(o *Options) { o.Limits.RevalidateEvery = revalidate }
	a, b := w.node(limits), w.node(limits)
	worker, err := NewEmitter(w.redis, EmitterOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, worker.Close(testkit.Context(t))) }()
	var stops []func() int64
	for _, organizationID := range []int64{1, 2} {
		stops = append(stops, w.pump(worker, organizationID, 10*time.Millisecond, func(i int) any { return message(organizationID, i) }))
	}
	staying := w.connect(b, w.user(1, 99), map[string]any{"lastSeq": 0})

	join := func(organizationID, userID int64, token string) *revokee {
		t.Helper()
		r := &revokee{organizationID: organizationID, userID: userID, token: token}
		for _, n := range []*testNode{a, b} {
			r.clients = append(r.clients, w.connect(n, token, nil),
				testkit.Connect(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": token}, Transports: []string{"polling"}}))
		}
		for _, c := range r.clients {
			_, err := c.WaitCount(testkit.Context(t), domain.EventMessageNew, 5)
			require.NoError(t, err)
		}
		return r
	}
	var all []*revokee
	revoke := func(what string, r *revokee, bound time.Duration, tell func()) {
		t.Helper()
		w.auth.set(func(f *fakeAuth) { f.invalid[r.userID] = true })
		began := time.Now()
		tell()
		for _, c := range r.clients {
			reason, err := c.WaitDisconnect(testkit.ContextFor(t, time.Minute), 1)
			require.NoError(t, err, what)
			require.Equal(t, "io server disconnect", reason, what)
		}
		took := time.Since(began)
		t.Logf("%s: closed on both nodes after %s", what, took.Round(time.Millisecond))
		require.Less(t, took, testkit.Slack(bound), what)
		r.ended = time.Now()
		all = append(all, r)
	}

	const promised = 2 * time.Second
	revoke("user deactivated", join(1, 10, w.user(1, 10)), promised, func() { worker.DisconnectUser(10) })
	revoke("signed out", join(1, 11, w.user(1, 11)), promised, func() { worker.DisconnectSession("sign-in-11") })
	key := w.auth.add(domain.Principal{OrganizationID: 1, UserID: 12, APIKeyID: 77})
	revoke("API key deleted", join(1, 12, key), promised, func() { worker.DisconnectAPIKey(77) })
	revoke("organization removed", join(2, 20, w.user(2, 20)), promised, func() { worker.DisconnectOrganization(2) })
	soon := time.Now().Add(3 * time.Second)
	expiring := join(1, 13, w.auth.add(domain.Principal{OrganizationID: 1, UserID: 13, SessionID: "short", ExpiresAt: soon}))
	revoke("token expired", expiring, time.Until(soon)+promised, func() {})
	require.WithinDuration(t, soon, expiring.ended, testkit.Slack(promised))

	unsubscribed(t, w.world, a, b)

	cutOff := join(1, 14, w.user(1, 14))
	w.server.Kill()
	testkit.Eventually(t, "the loss of Redis", func() bool { return !a.RedisUp() && !b.RedisUp() })
	revoke("user deactivated without Redis", cutOff, revalidate+promised, func() { worker.DisconnectUser(14) })
	w.server.Start()
	testkit.Eventually(t, "the return of Redis", func() bool { return a.RedisUp() && b.RedisUp() })

	for _, r := range all {
		for i, n := range []*testNode{a, b, a, b} {
			options := w.client(n, r.token, map[string]any{"lastSeq": 0, "epoch": testEpoch})
			if i > 1 {
				options.Transports = []string{"polling"}
			}
			back := testkit.Client(t, options)
			var refused *testkit.ConnectError
			require.ErrorAs(t, back.Connect(testkit.Context(t)), &refused, "user %d", r.userID)
			require.Equal(t, messageInvalid, refused.Message)
			require.Empty(t, back.Events(""))
		}
	}
	// A second's worth of further events: none of those who are gone gets one.
	mark := time.Now()
	testkit.Eventually(t, "further events", func() bool { return time.Since(mark) > time.Second })
	ends := make([]int64, len(stops))
	for i, stop := range stops {
		ends[i] = stop()
	}
	w.expectSeqs(staying, 1, 1, ends[0])
	for _, r := range all {
		for i, c := range r.clients {
			events := c.Events("")
			require.Falsef(t, events[len(events)-1].At.After(r.ended), "user %d, client %d: an event after the end", r.userID, i)
			require.Equal(t, 1, c.Connections())
		}
	}
	require.Equal(t, 1, staying.Connections())
}

// Rights that end while a socket is being let in: after its token was read, or while it waits for its turn to replay. It is in
// no room then. It is refused, and gets no event.
func TestRevokedWhileItIsLetIn(t *testing.T) {
	t.Parallel()
	key := domain.Principal{OrganizationID: 1, UserID: 12, APIKeyID: 77}
	for name, revoke := range map[string]func(e *Emitter){
		"user":         func(e *Emitter) { e.DisconnectUser(12) },
		"organization": func(e *Emitter) { e.DisconnectOrganization(1) },
		"API key":      func(e *Emitter) { e.DisconnectAPIKey(77) },
	} {
		t.Run(name+", in the replay queue", func(t *testing.T) {
			t.Parallel()
			w, _ := miniWorld(t)
			n := w.node(func(o *Options) { o.Limits.ConcurrentReplays, o.Limits.ConnectTimeout = 1, time.Hour })
			w.log.commitMany(1, 2*replayAtOnce)
			n.turns.places <- struct{}{} // somebody else replays
			c := openWire(t, n)
			c.send(fmt.Sprintf(`40{"token":%q,"lastSeq":0}`, w.auth.add(key)))
			testkit.Eventually(t, "the wait", func() bool { return n.sessionsOf(12) == 1 })
			revoke(n.Emitter())
			waiting := n.onlySession(t)
			testkit.Eventually(t, "the end to be heard", func() bool { return waiting.cause.Load() != nil })
			<-n.turns.places
			require.Equal(t, `44{"data":{"code":"unauthenticated","retry":false},"message":"`+messageInvalid+`"}`, c.text())
			require.Zero(t, n.sessionsOf(12))
		})
		t.Run(name+", after the token was read", func(t *testing.T) {
			t.Parallel()
			w, _ := miniWorld(t)
			auth := &lateAuth{fakeAuth: w.auth, read: make(chan struct{}), answer: make(chan struct{})}
			n := w.node(func(o *Options) { o.Authenticator, o.Limits.RequestTimeout = auth, time.Hour })
			c := openWire(t, n)
			c.send(fmt.Sprintf(`40{"token":%q}`, w.auth.add(key)))
			within(t, "the token to be read", auth.read)
			revoke(n.Emitter())
			testkit.Eventually(t, "the end to be heard", func() bool { return n.endings.since(time.Time{}.Add(1), key) })
			close(auth.answer)
			require.Contains(t, c.text(), messageInvalid)
			require.Zero(t, n.sessionsOf(12))
			// Who asks afterwards is not concerned.
			auth.set(func(a *fakeAuth) { a.invalid = map[int64]bool{} })
			joinWire(t, n, w.user(1, 13)).alive(1)
		})
	}
}

// lateAuth reads a token at once and answers later.
type lateAuth struct {
	*fakeAuth
	read   chan struct{} // gets one token for each that was read
	answer chan struct{} // closed: answer
}

func (a *lateAuth) Authenticate(ctx context.Context, token string) (domain.Principal, error) {
	p, err := a.fakeAuth.Authenticate(ctx, token)
	select {
	case a.read <- struct{}{}:
		<-a.answer
	case <-a.answer:
	}
	return p, err
}

// Endings are remembered within bounds: when there are too many, nobody is let in who asked before.
func TestEndingsAreBounded(t *testing.T) {
	t.Parallel()
	var e endings
	p := domain.Principal{UserID: 1, OrganizationID: 2, SessionID: "x"}
	began := time.Now()
	require.False(t, e.since(began, p))
	e.note(sessionRoom("y"))
	e.note(domain.UserRoom(2))
	require.False(t, e.since(began, p))
	e.note(sessionRoom("x"))
	require.True(t, e.since(began, p))
	require.False(t, e.since(time.Now().Add(time.Second), p))
	e.expire(time.Now().Add(time.Second))
	require.False(t, e.since(began, p))
	for i := range 2 * endingsKept {
		e.note(domain.UserRoom(int64(i + 10)))
	}
	require.Len(t, e.at, endingsKept)
	require.True(t, e.since(began, p))
	require.False(t, e.since(time.Now().Add(time.Second), p))
}

// unsubscribed checks that who left a chat hears nothing more from it, on the other node too.
func unsubscribed(t *testing.T, w *world, a, b *testNode) {
	t.Helper()
	talker, leaver, listener := w.connect(a, w.user(1, 30), nil), w.connect(b, w.user(1, 31), nil), w.connect(b, w.user(1, 32), nil)
	chat := map[string]any{"chatId": 1001}
	for _, c := range []*testkit.SocketClient{talker, leaver, listener} {
		require.JSONEq(t, okAnswer, ask(t, c, "subscribe:chat", chat))
	}
	say := func(name string, hears ...*testkit.SocketClient) {
		t.Helper()
		require.JSONEq(t, okAnswer, ask(t, talker, name, chat))
		for _, c := range hears {
			_, err := c.WaitFor(testkit.Context(t), name, nil)
			require.NoError(t, err, fmt.Sprint(name))
		}
	}
	say("typing:start", leaver, listener)
	require.JSONEq(t, okAnswer, ask(t, leaver, "unsubscribe:chat", chat))
	say("typing:stop", listener)
	w.quiet(leaver)
	require.Empty(t, leaver.Events("typing:stop"))
	for _, c := range []*testkit.SocketClient{talker, leaver, listener} {
		c.Close()
	}
}
