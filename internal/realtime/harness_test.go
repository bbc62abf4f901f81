package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// TestMain ignores one goroutine of the library's: a connection that ends just as its ping timer is renewed leaves the timer
// behind, until it fires (PingInterval and PingTimeout, 45 s at most).
func TestMain(m *testing.M) {
	testkit.Main(m, goleak.IgnoreAnyFunction("github.com/zishang520/socket.io/v3/pkg/utils.SetTimeout.func1"))
}

const testEpoch = "epoch-1"

// fakeLog is an event log in memory that counts who reads it.
type fakeLog struct {
	mu     sync.Mutex // guards what follows
	events map[int64][]domain.Event
	oldest map[int64]int64
	epoch  string
	down   error
	reads  map[string]int // "organization/after" of EventsAfter
	heads  int
}

func newFakeLog() *fakeLog {
	return &fakeLog{events: map[int64][]domain.Event{}, oldest: map[int64]int64{}, epoch: testEpoch, reads: map[string]int{}}
}

// commit appends an event as a transaction would.
func (l *fakeLog) commit(organizationID int64, name string, data any) domain.Event {
	encoded, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := domain.Event{
		OrganizationID: organizationID, Seq: int64(len(l.events[organizationID])) + 1, Epoch: l.epoch,
		Name: name, Data: encoded, At: domain.At(time.Now()),
	}
	l.events[organizationID] = append(l.events[organizationID], e)
	return e
}

func (l *fakeLog) commitMany(organizationID int64, n int) []domain.Event {
	var events []domain.Event
	for i := range n {
		events = append(events, l.commit(organizationID, domain.EventMessageNew, message(organizationID, i)))
	}
	return events
}

// message is a payload with the organization's canary in it.
func message(organizationID int64, n int) map[string]any {
	return map[string]any{"n": n, "content": canary(organizationID) + " <b>&\u2028 é", "id": n}
}

func canary(organizationID int64) string { return fmt.Sprintf("canary-of-%d-", organizationID) }

func (l *fakeLog) EventsAfter(_ context.Context, organizationID, after int64, limit int) (domain.EventPage, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads[fmt.Sprintf("%d/%d", organizationID, after)]++
	if l.down != nil {
		return domain.EventPage{}, l.down
	}
	all := l.events[organizationID]
	p := domain.EventPage{Head: int64(len(all)), Epoch: l.epoch, Events: []domain.Event{}}
	if after < 0 || after > p.Head || after+1 < l.oldest[organizationID] {
		p.Resync = true
		return p, nil
	}
	p.Events = slices.Clone(all[after:min(p.Head, after+int64(limit))])
	return p, nil
}

func (l *fakeLog) Heads(_ context.Context, ids []int64) (map[int64]Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heads++
	if l.down != nil {
		return nil, l.down
	}
	heads := map[int64]Head{}
	for _, id := range ids {
		heads[id] = Head{Seq: int64(len(l.events[id])), Epoch: l.epoch}
	}
	return heads, nil
}

func (l *fakeLog) set(change func(l *fakeLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

func (l *fakeLog) readCounts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for k, v := range l.reads {
		counts[k] = v
	}
	return counts
}

// fakeAuth knows tokens of the form "user@organization".
type fakeAuth struct {
	mu      sync.Mutex // guards what follows
	known   map[string]domain.Principal
	invalid map[int64]bool // users
	down    error
	asked   int
}

func newFakeAuth() *fakeAuth {
	return &fakeAuth{known: map[string]domain.Principal{}, invalid: map[int64]bool{}}
}

func (a *fakeAuth) add(p domain.Principal) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	token := fmt.Sprintf("token-%d-%d-%s-%d", p.OrganizationID, p.UserID, p.SessionID, len(a.known))
	a.known[token] = p
	return token
}

func (a *fakeAuth) set(change func(a *fakeAuth)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *fakeAuth) Authenticate(_ context.Context, token string) (domain.Principal, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down != nil {
		return domain.Principal{}, a.down
	}
	p, found := a.known[token]
	if !found || a.invalid[p.UserID] {
		return domain.Principal{}, domain.NewError(domain.CodeUnauthenticated, "no")
	}
	return p, nil
}

func (a *fakeAuth) StillValid(_ context.Context, principals []domain.Principal) ([]domain.Principal, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	var invalid []domain.Principal
	for _, p := range principals {
		if a.invalid[p.UserID] {
			invalid = append(invalid, p)
		}
	}
	return invalid, a.down
}

// fakeChats: chat ids of organization N are N*1000 to N*1000+999.
type fakeChats struct{}

func (fakeChats) ChatInOrganization(_ context.Context, organizationID, chatID int64) (bool, error) {
	if chatID == 666 {
		panic("a fault in a handler")
	}
	if chatID == 667 {
		return false, errors.New("database is gone: secret detail")
	}
	return chatID/1000 == organizationID, nil
}

type fakeTyping struct{ calls chan string }

func (f fakeTyping) CustomerTyping(_ context.Context, p domain.Principal, chatID int64, on bool) {
	f.calls <- fmt.Sprintf("%d %d %t", p.UserID, chatID, on)
}

// world is what the nodes of a test share.
type world struct {
	t      testing.TB
	log    *fakeLog
	auth   *fakeAuth
	typing fakeTyping
	counts *counts
	redis  redis.UniversalClient
	logged *lockedBuffer
}

func newWorld(t testing.TB, addr string) *world {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, DialTimeout: time.Second, ReadTimeout: 500 * time.Millisecond,
		WriteTimeout: 500 * time.Millisecond, MaxRetries: 1, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	w := &world{
		t: t, log: newFakeLog(), auth: newFakeAuth(), typing: fakeTyping{calls: make(chan string, 100)},
		counts: newCounts(), redis: client, logged: &lockedBuffer{},
	}
	t.Cleanup(func() {
		if t.Failed() {
			text := w.logged.String()
			t.Logf("the nodes' log ends:\n%s", text[max(0, len(text)-8000):])
		}
	})
	return w
}

func redisWorld(t testing.TB) *world {
	t.Helper()
	options, err := redis.ParseURL(testkit.Redis(t))
	require.NoError(t, err)
	return newWorld(t, options.Addr)
}

func miniWorld(t testing.TB) (*world, *miniredis.Miniredis) {
	t.Helper()
	mini := miniredis.RunT(t)
	return newWorld(t, mini.Addr()), mini
}

// testNode is an API node of a test.
type testNode struct {
	*Server
	http *httptest.Server
	url  string
}

// address is host:port.
func (n *testNode) address() string { return n.http.Listener.Addr().String() }

func (w *world) node(change ...func(*Options)) *testNode {
	w.t.Helper()
	o := Options{
		Redis: w.redis, Authenticator: w.auth, Chats: fakeChats{}, Log: w.log, Typing: w.typing,
		Logger: slog.New(slog.NewJSONHandler(w.logged, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: w.counts.metrics(),
	}
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	require.NoError(w.t, err)
	require.NoError(w.t, s.Start(w.t.Context()))
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", s.Handler())
	server := httptest.NewServer(mux)
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			w.t.Errorf("close the node: %v", err)
		}
		server.Close()
	})
	n := &testNode{Server: s, http: server, url: server.URL}
	testkit.Eventually(w.t, "the node's subscription", n.RedisUp)
	return n
}

// user makes a token of a user.
func (w *world) user(organizationID, userID int64) string {
	return w.auth.add(domain.Principal{
		UserID: userID, OrganizationID: organizationID, Role: domain.RoleOperator,
		SessionID: fmt.Sprintf("sign-in-%d", userID), ExpiresAt: time.Now().Add(time.Hour),
	})
}

func (w *world) connect(n *testNode, token string, auth map[string]any) *testkit.SocketClient {
	w.t.Helper()
	return testkit.Connect(w.t, w.client(n, token, auth))
}

func (w *world) client(n *testNode, token string, auth map[string]any) testkit.ClientOptions {
	all := map[string]any{"token": token}
	for k, v := range auth {
		all[k] = v
	}
	return testkit.ClientOptions{URL: n.url, Auth: all, Transports: []string{"websocket"}}
}

// publish commits events and sends them by an emitter, as the product does.
func (w *world) publish(e *Emitter, organizationID int64, n int) []domain.Event {
	events := w.log.commitMany(organizationID, n)
	e.Publish(events)
	return events
}

// expectSeqs waits until the client has the events first..last, and checks that it has each once, in order, whole.
func (w *world) expectSeqs(c *testkit.SocketClient, organizationID, first, last int64) {
	w.t.Helper()
	_, err := c.WaitFor(testkit.Context(w.t), domain.EventMessageNew, func(e testkit.Event) bool { return e.Seq() >= last })
	require.NoError(w.t, err)
	want := first
	for _, e := range c.Events(domain.EventMessageNew) {
		require.Equal(w.t, want, e.Seq(), "events must rise by one")
		require.Len(w.t, e.Args, 2)
		require.Contains(w.t, string(e.Args[0]), canary(organizationID))
		want++
	}
	require.Equal(w.t, want, last+1)
}

// expectNoGap is expectSeqs over reconnects. The official client decodes packets before and hands them over after the end of
// a connection, some only when the next one is made and has asked for them again: a client has to drop what it has.
func (w *world) expectNoGap(c *testkit.SocketClient, first, last int64) {
	w.t.Helper()
	_, err := c.WaitFor(testkit.Context(w.t), domain.EventMessageNew, func(e testkit.Event) bool { return e.Seq() >= last })
	require.NoError(w.t, err)
	next := first
	for _, e := range c.Events(domain.EventMessageNew) {
		require.LessOrEqual(w.t, e.Seq(), next, "a gap")
		next = max(next, e.Seq()+1)
	}
	require.Equal(w.t, last+1, next)
}

// quiet makes sure that all that was sent to a client has arrived: an ack travels behind it.
func (w *world) quiet(c *testkit.SocketClient) {
	w.t.Helper()
	_, err := c.EmitAck(testkit.Context(w.t), "no such event")
	require.NoError(w.t, err)
}

func ask(t *testing.T, c *testkit.SocketClient, name string, args ...any) string {
	t.Helper()
	answer, err := c.EmitAck(testkit.Context(t), name, args...)
	require.NoError(t, err)
	return string(answer)
}

// counts remembers what the metrics were told.
type counts struct {
	mu   sync.Mutex // guards seen
	seen map[string]int
}

func newCounts() *counts { return &counts{seen: map[string]int{}} }

func (c *counts) add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[what] += n
}

func (c *counts) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[what]
}

func (c *counts) metrics() Metrics {
	return Metrics{
		AuthenticationFailed: func(r string) { c.add("auth "+r, 1) },
		Admission:            func(r string) { c.add("admission "+r, 1) },
		ClientEvent:          func(e, r string) { c.add("event "+e+" "+r, 1) },
		Broadcast:            func(_ string, n int) { c.add("delivered", n) },
		Healed:               func(n int) { c.add("healed", n) },
		Replayed:             func(n int) { c.add("replayed", n) },
		Reset:                func(r string) { c.add("reset "+r, 1) },
		LogRead:              func(p string) { c.add("read "+p, 1) },
		Cut:                  func(r string) { c.add("cut "+r, 1) },
		Dropped:              func(what string) { c.add("dropped "+what, 1) },
	}
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// kept is how much memory the test itself holds: the events of its log, and what the nodes logged.
func (w *world) kept() int64 {
	w.logged.mu.Lock()
	defer w.logged.mu.Unlock()
	return w.log.bytes() + int64(w.logged.b.Cap())
}

// lines returns the log lines with a message.
func (l *lockedBuffer) lines(message string) []map[string]any {
	var found []map[string]any
	for text := range strings.SplitSeq(l.String(), "\n") {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == message {
			found = append(found, line)
		}
	}
	return found
}
