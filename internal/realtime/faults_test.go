package realtime

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	redisadapter "github.com/zishang520/socket.io/adapters/redis/v3"
	"github.com/zishang520/socket.io/adapters/redis/v3/emitter"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// The stock adapter loses what is sent to no room and to two rooms from elsewhere.
func TestEmitsToNoOneAndTwoRooms(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	a, b := w.node(), w.node()
	clients := []*testkit.SocketClient{w.connect(a, w.user(1, 10), nil), w.connect(b, w.user(1, 11), nil), w.connect(b, w.user(2, 20), nil)}
	foreign := emitter.NewEmitter(redisadapter.NewRedisClient(t.Context(), w.redis), nil)
	count := func(c *testkit.SocketClient, name string) int { return len(c.Events(name)) }
	wait := func(name string, want ...int) {
		t.Helper()
		for i, n := range want {
			_, err := clients[i].WaitCount(testkit.Context(t), name, n)
			require.NoError(t, err)
		}
		for i, n := range want {
			w.quiet(clients[i])
			require.Equal(t, n, count(clients[i], name), "client %d", i)
		}
	}
	require.NoError(t, foreign.Emit("none", 1))
	wait("none", 1, 1, 1)
	require.NoError(t, foreign.To("org_1").Emit("one", map[string]any{"n": 1}))
	wait("one", 1, 1, 0)
	require.NoError(t, foreign.To("org_1", "user_11").Emit("two", "x", 2.5))
	wait("two", 1, 1, 0)
	require.NoError(t, foreign.To("user_10", "user_20").Except("user_10").Emit("except"))
	wait("except", 0, 0, 1)
	// From a node through the adapter.
	a.io.Emit("node:none", 1)
	wait("node:none", 1, 1, 1)
	require.NoError(t, a.io.To("org_1").Emit("node:one", 1))
	wait("node:one", 1, 1, 0)
	require.NoError(t, a.io.To("user_10", "user_20").Emit("node:two", 1))
	wait("node:two", 1, 0, 1)
	// Binary data of third parties passes.
	require.NoError(t, foreign.To("user_11").Emit("binary", []byte{1, 2}))
	wait("binary", 0, 1, 0)
	// To users, with tags of JSON kept.
	require.NoError(t, a.Emitter().User(11, domain.EventUserNotification, domain.Notification{ID: 1 << 50, Title: "x"}))
	e, err := clients[1].WaitFor(testkit.Context(t), domain.EventUserNotification, nil)
	require.NoError(t, err)
	require.Contains(t, string(e.Args[0]), `"id":1125899906842624`)
	require.Contains(t, string(e.Args[0]), `"createdAt":"1970-01-01T00:00:00.000Z"`)
	require.Error(t, a.Emitter().User(1, "x", make(chan int)))
}

// One such byte ends the process of a stock node.
func TestGarbageFromRedis(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	n := w.node()
	c := w.connect(n, w.user(1, 10), nil)
	pack := func(v any) []byte {
		b, err := msgpack.Marshal(v)
		require.NoError(t, err)
		return b
	}
	packet := func(kind any, nsp any, data any) []byte {
		return pack([]any{"uid", map[string]any{"type": kind, "nsp": nsp, "data": data}, map[string]any{"rooms": []string{}}})
	}
	deep := append([]byte{0x93, 0xa1, 'u'}, []byte(strings.Repeat("\x91", 1<<20))...)
	messages := [][]byte{
		{0xc0},
		{},
		{0},
		{0xff},
		{0xc1},
		{0x90},
		{0x93},
		{0xdf, 0xff, 0xff, 0xff, 0xff},
		{0xdd, 0xff, 0xff, 0xff, 0xff},
		{0xc6, 0xff, 0xff, 0xff, 0xff},
		[]byte("null"), []byte("{}"), []byte("[]"), []byte(`{"type":7}`), []byte(`{"type":6}`),
		[]byte(`{"type":7,"requestId":"x","opts":{}}`), []byte(`{"type":5,"requestId":"x"}`), []byte(`{"type":0,"requestId":"x"}`),
		[]byte(`{"type":6,"data":["connection",1]}`), []byte(`{"type":6,"data":["event"]}`), []byte(`{"type":6,"data":[null]}`),
		[]byte(`{"type":6,"data":["event","x",1,"n",{},"t","e"]}`), []byte(`{"type":6,"data":["event",1,-1,"n",{},"2026-01-01T00:00:00Z","e"]}`),
		[]byte(`{"type":4}`), []byte(`{"type":4,"sid":"x"}`), []byte(`{"type":"4"}`), []byte(strings.Repeat("[", 100_000)),
		[]byte(`{"type":2,"opts":{"rooms":["no such"]},"rooms":["x"]}`), deep,
		packet(2, "/", nil), packet(2, "/", []any{}), packet(2, "/", []any{1}), packet(2, "/", []any{"disconnect"}),
		packet(2, "/other", []any{"bad"}), packet(77, "/", []any{"bad"}), packet(1, "/", []any{"bad"}), packet("2", "/", []any{"bad"}),
		packet(2, "/", []any{"bad", nan()}), packet(2, 5, []any{"bad"}), packet(2, "/", "bad"), packet(5, "/", []any{"bad"}),
		pack([]any{"uid", map[string]any{"type": 2, "nsp": "/", "data": []any{"bad"}, "id": 5}, map[string]any{"rooms": []string{}}}),
		[]byte(`{"type":6,"data":["event",1,1,"bad",{"x":"` + "\xff" + `"},"2026-01-01T00:00:00.000Z","` + testEpoch + `"]}`),
		pack([]any{"uid", nil, nil}), pack([]any{}), pack(map[string]any{"a": 1}), pack([]any{1, 2, 3}),
		pack([]any{"uid", map[string]any{"type": 2, "nsp": "/", "data": []any{"bad", map[any]any{1: 2}}}, nil}),
	}
	for _, channel := range []string{
		"socket.io#/#", "socket.io#/#org_1#", "socket.io#/#x", "socket.io#/##", "socket.io-request#/#", "socket.io-response#/#",
	} {
		for _, m := range messages {
			require.NoError(t, w.redis.Publish(t.Context(), channel, m).Err())
		}
	}
	require.NoError(t, n.Emitter().User(10, "after", 1))
	_, err := c.WaitFor(testkit.Context(t), "after", nil)
	require.NoError(t, err)
	w.publish(n.Emitter(), 1, 3)
	w.expectSeqs(c, 1, 1, 3)
	require.Empty(t, c.Events("bad"))
	require.Equal(t, 1, c.Connections(), "no client was disturbed")
	require.NotZero(t, w.counts.of("dropped redis_message"))
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}

func FuzzRedisMessages(f *testing.F) {
	for _, seed := range []string{"\xc0", "{}", `{"type":7}`, `{"type":6,"data":["event",1,1,"n",{},"2026-01-01T00:00:00Z","e"]}`, "\x93\xa1u\x81\xa4type\x02\xc0"} {
		f.Add([]byte(seed))
	}
	good, err := msgpack.Marshal([]any{"u", map[string]any{"type": 2, "nsp": "/", "data": []any{"n", 1.5, nil, []byte{1}}}, map[string]any{"rooms": []string{"a"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := checkBroadcast(string(raw)); err == nil {
			var p *redisadapter.RedisPacket
			if msgpack.Unmarshal(raw, &p) != nil || p == nil || p.Packet == nil {
				t.Fatalf("accepted what the adapter cannot read: %x", raw)
			}
		}
		everyone := func(int64) bool { return true }
		if r, err := checkRequest(string(raw), everyone); err == nil && r.event == nil && r.canonical == "" && r.ended == "" {
			t.Fatalf("accepted nothing: %q", raw)
		}
	})
}

// A stock node spins at 45,000 errors a second, and the caller of a hung Redis waits three seconds.
func TestRedisAway(t *testing.T) {
	w := newWorldOf(t, testkit.StartRedis(t))
	a, b := w.node(), w.node()
	onA, onB := w.connect(a, w.user(1, 10), nil), w.connect(b, w.user(1, 11), nil)
	w.publish(a.Emitter(), 1, 5)
	w.expectSeqs(onA, 1, 1, 5)

	w.server.Kill()
	testkit.Eventually(t, "the loss to be noticed", func() bool { return !a.RedisUp() && !b.RedisUp() })
	before, began := cpu(t), time.Now()
	timer := time.NewTimer(1500 * time.Millisecond)
	<-timer.C
	used := float64(cpu(t)-before) / float64(time.Since(began))
	require.Less(t, used, 0.25, "CPU while Redis is down, of one core")

	start := time.Now()
	w.publish(a.Emitter(), 1, 20)
	require.Less(t, time.Since(start), testkit.Slack(100*time.Millisecond), "publishing must not wait")
	w.expectSeqs(onA, 1, 1, 25)
	w.expectSeqs(onB, 1, 1, 25)
	require.Less(t, time.Since(start), testkit.Slack(2500*time.Millisecond))

	w.server.Start()
	testkit.Eventually(t, "the return", func() bool { return a.RedisUp() && b.RedisUp() })
	require.NoError(t, a.Emitter().User(11, "back", 1))
	_, err := onB.WaitFor(testkit.Context(t), "back", nil)
	require.NoError(t, err)

	// Stopped, but its connections stay open: the hardest to notice.
	w.server.Pause()
	start = time.Now()
	w.publish(b.Emitter(), 1, 20)
	require.JSONEq(t, okAnswer, ask(t, onA, "subscribe:chat", map[string]any{"chatId": 1001}))
	require.JSONEq(t, okAnswer, ask(t, onA, "typing:start", map[string]any{"chatId": 1001}))
	require.Less(t, time.Since(start), testkit.Slack(time.Second), "clients must not wait for Redis")
	w.expectSeqs(onA, 1, 1, 45)
	require.Less(t, time.Since(start), testkit.Slack(2500*time.Millisecond))
	w.server.Resume()
	require.NoError(t, w.redis.FlushAll(t.Context()).Err())
	w.publish(b.Emitter(), 1, 5)
	w.expectSeqs(onA, 1, 1, 50)
	w.expectSeqs(onB, 1, 1, 50)
	require.Equal(t, 1, onA.Connections())
	require.Equal(t, 1, onB.Connections())
}

type redisWorldOf struct {
	*world
	server *testkit.RedisServer
}

func newWorldOf(t *testing.T, server *testkit.RedisServer) redisWorldOf {
	t.Helper()
	return redisWorldOf{world: newWorld(t, server.Addr()), server: server}
}

// cpu is the processor time of this process so far.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestEmitterIsBounded(t *testing.T) {
	t.Parallel()
	stuck := &stuckRedis{release: make(chan struct{}), published: make(chan string, 100)}
	c := newCounts()
	e, err := NewEmitter(stuck, EmitterOptions{Metrics: c.metrics(), Limits: Limits{EmitterQueue: 10, PublishTimeout: time.Minute}})
	require.NoError(t, err)
	log := newFakeLog()
	e.Publish(log.commitMany(1, 1))
	testkit.Eventually(t, "the first to be under way", func() bool { return stuck.waiting() })
	e.Publish(log.commitMany(1, 100))
	e.DisconnectUser(5)
	require.Equal(t, 90, c.of("dropped emitter_queue"))
	close(stuck.release)
	require.NoError(t, e.Close(testkit.Context(t)))
	require.NoError(t, e.Close(testkit.Context(t)))
	close(stuck.published)
	var all []string
	for m := range stuck.published {
		all = append(all, m)
	}
	require.Len(t, all, 12)
	require.Contains(t, all[1], `"user_5"`, "disconnections overtake")
	require.Contains(t, all[2], `["event",1,92,`, "the oldest were dropped")
	require.Contains(t, all[11], `["event",1,101,`)
	e.Publish(log.commitMany(1, 1))
	require.Equal(t, 91, c.of("dropped emitter_queue"), "after the end, nothing is taken")
}

// stuckRedis publishes nothing until it is released.
type stuckRedis struct {
	redis.UniversalClient
	release   chan struct{}
	published chan string
}

func (s *stuckRedis) waiting() bool { return len(s.published) > 0 }

func (s *stuckRedis) Publish(ctx context.Context, _ string, message any) *redis.IntCmd {
	s.published <- fmt.Sprintf("%s", message)
	<-s.release
	return redis.NewIntCmd(ctx)
}

func (s *stuckRedis) Pipelined(ctx context.Context, fill func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	client := redis.NewClient(&redis.Options{})
	defer func() { _ = client.Close() }()
	p := client.Pipeline() // never sent
	if err := fill(p); err != nil {
		return nil, err
	}
	for _, command := range p.Cmds() {
		s.Publish(ctx, "", command.Args()[2])
	}
	return p.Cmds(), nil
}

// A stock node keeps every attachment of a packet that announced none.
func TestBinaryIsRefused(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	healthy := w.connect(n, w.user(1, 10), nil)
	for name, send := range map[string]func(*rawClient){
		"a binary event without attachments": func(r *rawClient) { r.text(`450-["x"]`) },
		"a binary event":                     func(r *rawClient) { r.text(`451-["x",{"_placeholder":true,"num":0}]`) },
		"a binary ack":                       func(r *rawClient) { r.text(`461-0[{"_placeholder":true,"num":0}]`) },
		"a stray attachment":                 func(r *rawClient) { r.binary(make([]byte, 1000)) },
		"a base64 attachment":                func(r *rawClient) { r.text("bAQID") },
		"garbage":                            func(r *rawClient) { r.text("4x") },
		"an unknown engine packet":           func(r *rawClient) { r.text("9") },
		"a huge frame":                       func(r *rawClient) { r.text(`42["x","` + strings.Repeat("x", 70_000) + `"]`) },
		"a connect too many": func(r *rawClient) {
			for range 10 {
				r.text("40/nowhere,")
			}
		},
		"a second connect": func(r *rawClient) { r.text(`40{"token":"x"}`) },
		"not JSON":         func(r *rawClient) { r.text(`42["x"`) },
		"a reserved event": func(r *rawClient) { r.text(`42["disconnecting"]`) },
		"a flood": func(r *rawClient) {
			for range 3000 {
				r.text("3")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, n, w.user(1, 50), nil)
			send(r)
			require.Error(t, r.expectEnd())
		})
	}
	// A second socket on one connection would get every event twice.
	token := w.user(1, 51)
	r := dialRaw(t, n, token, nil)
	r.text(fmt.Sprintf(`40{"token":%q}`, token))
	if err := r.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, answer, err := r.conn.ReadMessage(); err == nil {
		require.Contains(t, string(answer), messageAgain)
	}
	w.quiet(healthy)
	w.publish(n.Emitter(), 1, 2)
	w.expectSeqs(healthy, 1, 1, 2)
	require.Equal(t, 1, healthy.Connections())
}

// The library listens to a connection after it has told the client that it is open.
func TestNoHandshakeIsMissed(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.SocketsPerUser = 1000 })
	token := w.user(1, 1)
	var busy sync.WaitGroup
	defer busy.Wait()
	for range 4 {
		busy.Go(func() {
			for range 50 {
				_ = dialRaw(t, n, token, nil).conn.Close()
			}
		})
	}
}

// rawClient speaks the protocol by hand.
type rawClient struct {
	t    *testing.T
	conn *websocket.Conn
}

func dialRaw(t *testing.T, n *testNode, token string, header http.Header) *rawClient {
	t.Helper()
	address := "ws" + strings.TrimPrefix(n.url, "http") + "/socket.io/?EIO=4&transport=websocket"
	conn, response, err := websocket.DefaultDialer.DialContext(testkit.Context(t), address, header)
	require.NoError(t, err)
	_ = response.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	r := &rawClient{t: t, conn: conn}
	require.Contains(t, r.read(), `"sid"`)
	if token != "" {
		r.text(fmt.Sprintf(`40{"token":%q}`, token))
		require.True(t, strings.HasPrefix(r.read(), "40{"))
	}
	return r
}

// text and binary may fail once the server has had enough.
func (r *rawClient) text(s string) { _ = r.conn.WriteMessage(websocket.TextMessage, []byte(s)) }

func (r *rawClient) binary(b []byte) { _ = r.conn.WriteMessage(websocket.BinaryMessage, b) }

func (r *rawClient) read() string {
	r.t.Helper()
	require.NoError(r.t, r.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, message, err := r.conn.ReadMessage()
	require.NoError(r.t, err)
	return string(message)
}

func (r *rawClient) expectEnd() error {
	r.t.Helper()
	require.NoError(r.t, r.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	for {
		if _, _, err := r.conn.ReadMessage(); err != nil {
			timeout := net.Error(nil)
			if asTimeout(err, &timeout) {
				r.t.Fatal("the server keeps the connection")
			}
			return err
		}
	}
}

func asTimeout(err error, into *net.Error) bool {
	e, is := err.(net.Error) //nolint:errorlint // what gorilla returns
	*into = e
	return is && e.Timeout()
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.AllowedOrigins = []string{"https://App.example.com"} })
	u, err := url.Parse(n.url)
	require.NoError(t, err)
	for origin, want := range map[string]int{
		"": http.StatusOK, n.url: http.StatusOK, "https://" + u.Host: http.StatusOK, "https://app.example.com": http.StatusOK,
		"http://app.example.com": http.StatusForbidden, "https://app.example.com.evil.org": http.StatusForbidden, "null": http.StatusForbidden,
		"https://evil.org": http.StatusForbidden, "http://127.0.0.1:1": http.StatusForbidden, "garbage": http.StatusForbidden,
	} {
		polling, response := get(t, n, "EIO=4&transport=polling", origin, nil)
		require.Equal(t, want, response.StatusCode, "polling from %q: %s", origin, polling)
		if want == http.StatusOK && origin != "" {
			require.Equal(t, origin, response.Header.Get("Access-Control-Allow-Origin"))
		}
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		conn, response, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(n.url, "http")+"/socket.io/?EIO=4&transport=websocket", header)
		if want == http.StatusOK {
			require.NoError(t, err, "upgrade from %q", origin)
			_ = conn.Close()
		} else {
			require.Error(t, err, "upgrade from %q", origin)
			require.Equal(t, want, response.StatusCode)
		}
		_ = response.Body.Close()
	}
	// The upgrade of a session that another origin opened, too.
	opened, response := get(t, n, "EIO=4&transport=polling", "", nil)
	require.Equal(t, http.StatusOK, response.StatusCode)
	sid := strings.Split(strings.SplitN(opened, `"sid":"`, 2)[1], `"`)[0]
	_, response = get(t, n, "EIO=4&transport=websocket&sid="+sid, "https://evil.org", http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	})
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	_, response = get(t, n, "EIO=4&transport=polling&j=0", "", nil)
	require.Equal(t, http.StatusBadRequest, response.StatusCode, "JSONP")
	_, err = New(Options{Redis: w.redis, Authenticator: w.auth, Chats: fakeChats{}, Log: w.log, AllowedOrigins: []string{"example.com"}})
	require.ErrorContains(t, err, "https://app.example.com")
}

func get(t *testing.T, n *testNode, query, origin string, header http.Header) (string, *http.Response) {
	t.Helper()
	r, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, n.url+"/socket.io/?"+query, http.NoBody)
	require.NoError(t, err)
	if header != nil {
		r.Header = header
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	response, err := n.http.Client().Do(r)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body), response
}

// A stock node keeps queueing for 45 s; here a stalled reader is cut while the others notice nothing.
func TestSlowReadersAreCut(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.StallTimeout = time.Second })
	stalled := dialRaw(t, n, w.user(1, 50), nil)
	if tcp, isTCP := stalled.conn.UnderlyingConn().(*net.TCPConn); isTCP {
		require.NoError(t, tcp.SetReadBuffer(4096))
	}
	healthy := w.connect(n, w.user(1, 10), nil)
	stop := make(chan struct{})
	done := make(chan int64)
	go func() { // 40 KB events of the log, and as large ones that are not in it
		var last int64
		for {
			select {
			case <-stop:
				done <- last
				return
			case <-time.After(2 * time.Millisecond):
			}
			e := w.log.commit(1, domain.EventMessageNew, canary(1)+strings.Repeat("x", 40<<10))
			n.Emitter().Publish([]domain.Event{e})
			last = e.Seq
		}
	}()
	testkit.Eventually(t, "the cut", func() bool { return w.counts.of("cut slow") == 1 })
	close(stop)
	last := <-done
	w.expectSeqs(healthy, 1, 1, last)
	require.Equal(t, 1, healthy.Connections())
	testkit.Eventually(t, "its end", func() bool { return n.ConnectedClients() == 1 })

	// What is not in the log cannot wait in it: the hard limit.
	other := dialRaw(t, n, w.user(1, 60), nil)
	_ = other
	testkit.Eventually(t, "the second cut", func() bool {
		if err := n.Emitter().User(60, "big", strings.Repeat("x", 100<<10)); err != nil {
			t.Error(err)
		}
		return w.counts.of("cut slow") == 2
	})
	w.quiet(healthy)
}

func TestUnjoinedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.ConnectTimeout = 300 * time.Millisecond })
	joined := w.connect(n, w.user(1, 10), nil)
	idle := dialRaw(t, n, "", nil)
	_, response := get(t, n, "EIO=4&transport=polling", "", nil)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Error(t, idle.expectEnd())
	testkit.Eventually(t, "the end of both", func() bool { return n.ConnectedClients() == 1 })
	w.quiet(joined)
	require.Equal(t, 1, joined.Connections())
}

func TestLineSpeaksEnoughRedis(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"*0\r\n", "*x\r\n", "+OK\r\n", "*1\r\n+x\r\n", "*9999999\r\n", "*1\r\n$-1\r\n", "*1\r\n$99999999\r\n", "*1\r\n$5\r\nab"} {
		_, err := readCommand(bufio.NewReader(strings.NewReader(bad)))
		require.Error(t, err, "%q", bad)
	}
	words, err := readCommand(bufio.NewReader(strings.NewReader("*2\r\n$4\r\nPING\r\n$0\r\n\r\n")))
	require.NoError(t, err)
	require.Equal(t, []string{"PING", ""}, words)
}
