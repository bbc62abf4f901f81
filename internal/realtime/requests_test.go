package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

const okAnswer = `{"ok":true}`

func TestSubscriptionsAndTyping(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	a, b := w.node(), w.node()
	typist := w.connect(a, w.user(1, 10), nil)
	sameNode := w.connect(a, w.user(1, 11), nil)
	otherNode := w.connect(b, w.user(1, 12), nil)
	absent := w.connect(b, w.user(1, 13), nil)
	chat := map[string]any{"chatId": 1001}

	for _, chatID := range []int{1001, 2001, 666} { // its own, another organization's, one whose look-up fails
		require.JSONEq(t, `{"ok":false,"error":{"code":"conflict","message":"This connection has not opened that chat: send subscribe:chat first."}}`,
			ask(t, typist, "typing:start", map[string]any{"chatId": chatID}), "whether it exists is nobody's business")
	}
	for _, c := range []*testkit.SocketClient{typist, sameNode, otherNode} {
		require.JSONEq(t, okAnswer, ask(t, c, "subscribe:chat", chat))
		require.JSONEq(t, okAnswer, ask(t, c, "subscribe:chat", chat), "twice is no error")
	}
	require.JSONEq(t, okAnswer, ask(t, typist, "typing:start", chat))
	for range 5 {
		require.JSONEq(t, okAnswer, ask(t, typist, "typing:start", chat), "throttled, not refused")
	}
	require.JSONEq(t, okAnswer, ask(t, typist, "typing:stop", chat))
	require.JSONEq(t, okAnswer, ask(t, typist, "typing:stop", chat))
	for _, c := range []*testkit.SocketClient{sameNode, otherNode} {
		e, err := c.WaitFor(testkit.Context(t), "typing:stop", nil)
		require.NoError(t, err)
		require.JSONEq(t, `{"chatId":1001,"userId":10}`, string(e.Args[0]))
		require.Len(t, e.Args, 1)
		require.Len(t, c.Events("typing:start"), 1)
		require.Len(t, c.Events("typing:stop"), 1)
	}
	w.quiet(typist)
	require.Empty(t, typist.Events("typing:start"), "not to the one who types")
	require.Empty(t, absent.Events(""))
	require.Equal(t, "10 1001 true", <-w.typing.calls)
	require.Equal(t, "10 1001 false", <-w.typing.calls)
	require.Empty(t, w.typing.calls)

	// A typist who goes away has stopped.
	ask(t, typist, "typing:start", chat)
	require.NoError(t, typist.Disconnect(testkit.Context(t)))
	_, err := otherNode.WaitCount(testkit.Context(t), "typing:stop", 2)
	require.NoError(t, err)

	// After leaving, nothing comes and nothing may be sent.
	require.JSONEq(t, okAnswer, ask(t, otherNode, "unsubscribe:chat", chat))
	require.Contains(t, ask(t, otherNode, "typing:start", chat), "conflict")
	otherNode.Forget()
	ask(t, sameNode, "typing:start", chat)
	require.NoError(t, b.Emitter().Typing(1001, true, domain.Typing{ChatID: 1001, ContactID: 5}))
	_, err = sameNode.WaitFor(testkit.Context(t), "typing:start", func(e testkit.Event) bool {
		return string(e.Args[0]) == `{"chatId":1001,"contactId":5}`
	})
	require.NoError(t, err)
	w.quiet(otherNode)
	require.Empty(t, otherNode.Events(""))
}

func TestBadPayloads(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.EventsPerSecond = 1000 })
	c := w.connect(n, w.user(1, 10), nil)
	foreign := ask(t, c, "subscribe:chat", map[string]any{"chatId": 2001})
	require.Equal(t, foreign, ask(t, c, "subscribe:chat", map[string]any{"chatId": 1 << 50}), "foreign and missing look the same")
	require.Contains(t, foreign, `"code":"not_found"`)

	bad := []any{
		nil, 7, "1001", true,
		[]any{},
		[]any{1001},
		map[string]any{},
		map[string]any{"chatId": nil},
		map[string]any{"chatId": "1001"},
		map[string]any{"chatId": 1.5},
		map[string]any{"chatId": 0},
		map[string]any{"chatId": -1001},
		map[string]any{"chatId": 1e300},
		map[string]any{"chatId": uint64(1) << 53},
		map[string]any{"chatId": []any{1001}},
		map[string]any{"chatId": map[string]any{}},
		map[string]any{"chatId": 1001, "more": 1},
		map[string]any{"ChatId": 1001},
		map[string]any{"chatId": true},
	}
	for _, name := range []string{"subscribe:chat", "unsubscribe:chat", "typing:start", "typing:stop"} {
		for _, payload := range bad {
			answer := ask(t, c, name, payload)
			require.Contains(t, answer, `"ok":false`, "%s %v", name, payload)
			require.Contains(t, answer, `"code":"invalid"`, "%s %v", name, payload)
		}
		require.Contains(t, ask(t, c, name), `"code":"invalid"`)
		require.Contains(t, ask(t, c, name, map[string]any{"chatId": 1001}, 2), `"code":"invalid"`)
		c.Emit(name)
		c.Emit(name, bad...)
	}
	for _, payload := range []any{nil, "x", map[string]any{"after": -1}, map[string]any{"after": "1"}, map[string]any{"after": 1, "epoch": 3}} {
		require.Contains(t, ask(t, c, "sync", payload), `"code":"invalid"`)
	}
	require.Contains(t, ask(t, c, "sync"), `"field":"after"`)
	for _, name := range []string{"nothing", "message:new", "toString", strings.Repeat("x", 5000), "error", "close"} {
		require.Contains(t, ask(t, c, name, map[string]any{"chatId": 1001}), `"code":"invalid"`)
	}
	require.Contains(t, ask(t, c, "subscribe:chat", map[string]any{"chatId": 666}), `"code":"internal"`, "a panic")
	gone := ask(t, c, "subscribe:chat", map[string]any{"chatId": 667})
	require.Contains(t, gone, `"code":"internal"`)
	require.NotContains(t, gone, "secret detail")
	require.Equal(t, 3, n.onlySession(t).socket.Rooms().Len(), "no room was joined")
	require.True(t, c.Connected())
}

// onlySession returns the one session of a node.
func (n *testNode) onlySession(t *testing.T) *session {
	t.Helper()
	n.mu.RLock()
	defer n.mu.RUnlock()
	require.Len(t, n.sessions, 1)
	for s := range n.sessions {
		return s
	}
	return nil
}

func TestEventsOfASocketKeepTheirOrder(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.EventsPerSecond = 1000 })
	c := w.connect(n, w.user(1, 10), nil)
	for range 60 {
		c.Emit("subscribe:chat", map[string]any{"chatId": 1005})
		c.Emit("unsubscribe:chat", map[string]any{"chatId": 1005})
	}
	c.Emit("subscribe:chat", map[string]any{"chatId": 1005})
	require.JSONEq(t, okAnswer, ask(t, c, "typing:start", map[string]any{"chatId": 1005}))
}

func TestSync(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	events := w.log.commitMany(1, 700)
	c := w.connect(n, w.user(1, 10), nil)
	sync := func(payload map[string]any) syncAck {
		t.Helper()
		var answer syncAck
		require.NoError(t, json.Unmarshal([]byte(ask(t, c, "sync", payload)), &answer))
		require.True(t, answer.OK)
		return answer
	}
	answer := sync(map[string]any{"after": 690})
	require.Len(t, answer.Events, 10)
	require.EqualValues(t, 700, answer.Head)
	require.Equal(t, testEpoch, answer.Epoch)
	require.False(t, answer.Resync)
	require.EqualValues(t, 691, answer.Events[0].Seq)
	require.Equal(t, domain.EventMessageNew, answer.Events[0].Event)
	require.Equal(t, events[690].At, answer.Events[0].At)
	require.JSONEq(t, string(events[690].Data), string(answer.Events[0].Data))
	require.Empty(t, sync(map[string]any{"after": 700}).Events)
	require.True(t, sync(map[string]any{"after": 701}).Resync)
	require.True(t, sync(map[string]any{"after": 600, "epoch": "other"}).Resync)
	require.Len(t, sync(map[string]any{"after": 100, "epoch": testEpoch}).Events, pageSize)
	require.Contains(t, ask(t, c, "sync", map[string]any{"after": 0}), `"events":[{"seq":1,`)

	// Without an acknowledgement to answer with, they come as events.
	c.Emit("sync", map[string]any{"after": 698})
	got, err := c.WaitCount(testkit.Context(t), domain.EventMessageNew, 2)
	require.NoError(t, err)
	require.EqualValues(t, 699, got[0].Seq())
	w.publish(n.Emitter(), 1, 3)
	w.expectSeqs(c, 1, 699, 703)

	// The database is asked at a bounded rate.
	refused := 0
	for range 30 {
		if strings.Contains(ask(t, c, "sync", map[string]any{"after": 700}), "rate_limited") {
			refused++
		}
	}
	require.NotZero(t, refused)

	// And a large answer comes in parts.
	big := w.connect(n, w.user(2, 20), nil)
	for range 20 {
		w.log.commit(2, domain.EventMessageNew, strings.Repeat("x", 50<<10))
	}
	raw := ask(t, big, "sync", map[string]any{"after": 0})
	require.NoError(t, json.Unmarshal([]byte(raw), &answer))
	require.Less(t, len(raw), syncBytes+60<<10)
	require.NotEmpty(t, answer.Events)
	require.Less(t, len(answer.Events), 20)
}

func TestRateAndRoomLimits(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) {
		o.Limits.EventsPerSecond, o.Limits.RoomsPerSocket, o.Limits.SocketsPerUser = 30, 5, 3
	})
	c := w.connect(n, w.user(1, 10), nil)
	for i := range 6 {
		answer := ask(t, c, "subscribe:chat", map[string]any{"chatId": 1001 + i})
		if i < 5 {
			require.JSONEq(t, okAnswer, answer)
		} else {
			require.Contains(t, answer, "rate_limited")
		}
	}
	for range 60 {
		c.Emit("typing:start", map[string]any{"chatId": 1001})
	}
	require.Contains(t, ask(t, c, "typing:stop", map[string]any{"chatId": 1001}), "rate_limited")
	require.True(t, c.Connected())
	require.NotZero(t, w.counts.of("event typing:start rate_limited"))

	token := w.user(1, 11)
	for range 3 {
		w.connect(n, token, nil)
	}
	err := testkit.Client(t, w.client(n, token, nil)).Connect(testkit.Context(t))
	var refused *testkit.ConnectError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, refused.Message, "Too many connections")
	w.connect(n, w.user(1, 12), nil)
}

// slowChats answers when it is told to, or the time is over.
type slowChats struct {
	fakeChats
	asked  atomic.Int64
	answer chan struct{} // closed: answer
}

func (c *slowChats) ChatInOrganization(ctx context.Context, organizationID, chatID int64) (bool, error) {
	c.asked.Add(1)
	select {
	case <-c.answer:
		return c.fakeChats.ChatInOrganization(ctx, organizationID, chatID)
	case <-ctx.Done():
		return false, fmt.Errorf("look for a chat: %w", ctx.Err())
	}
}

// A database that hangs delays an answer by RequestTimeout, and no more; what needs none of it, and other sockets, do not wait
// beyond their turn. A client that gave up waiting is not disturbed by the late answer.
func TestAnswersWhenTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	chats := &slowChats{answer: make(chan struct{})}
	n := w.node(func(o *Options) { o.Chats, o.Limits.RequestTimeout = chats, 300*time.Millisecond })
	c, other := w.connect(n, w.user(1, 10), nil), w.connect(n, w.user(1, 11), nil)
	impatient, giveUp := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer giveUp()
	_, err := c.EmitAck(impatient, "subscribe:chat", map[string]any{"chatId": 1001})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	w.quiet(other)
	answer := ask(t, c, "subscribe:chat", map[string]any{"chatId": 1002})
	require.Contains(t, answer, `"code":"unavailable"`)
	require.EqualValues(t, 2, chats.asked.Load())
	require.Equal(t, 2, w.counts.of("event subscribe:chat unavailable"))
	close(chats.answer)
	require.JSONEq(t, okAnswer, ask(t, c, "subscribe:chat", map[string]any{"chatId": 1001}))
	require.Equal(t, 1, c.Connections())
}

// What a client sends while the database hangs waits within bounds; beyond, the connection is closed.
func TestWaitingEventsAreBounded(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	chats := &slowChats{answer: make(chan struct{})}
	n := w.node(func(o *Options) { o.Chats, o.Limits.RequestTimeout = chats, time.Hour })
	healthy := w.connect(n, w.user(1, 10), nil)
	const pause = 50 * time.Millisecond
	for name, send := range map[string]struct {
		every int // pauses
		many  int
		text  string
	}{ // half as fast as is allowed, whatever the machine
		"many":  {1, 25, `42["subscribe:chat",{"chatId":1001}]`},
		"large": {2, 1, `42["x","` + strings.Repeat("x", 25<<10) + `"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := int64(20 + len(name))
			c := joinWire(t, n, w.user(1, user))
			c.send(`42["subscribe:chat",{"chatId":1002}]`)
			patience := testkit.Context(t)
			for i := 0; n.sessionsOf(user) > 0; i++ {
				require.NoError(t, patience.Err(), "what waits grows without bounds")
				if i%send.every == 0 {
					c.raw(bytes.Repeat(textFrame(send.text), send.many))
				}
				<-time.After(pause)
			}
			c.ended()
		})
	}
	t.Run("healthy", func(t *testing.T) {
		t.Parallel()
		w.quiet(healthy)
	})
}

// What waited is not carried out for a socket that is gone.
func TestWaitingEventsOfASocketThatIsGone(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	chats := &slowChats{answer: make(chan struct{})}
	n := w.node(func(o *Options) { o.Chats, o.Limits.RequestTimeout = chats, time.Hour })
	c := joinWire(t, n, w.user(1, 10))
	s := n.onlySession(t)
	for i := range 20 {
		c.send(fmt.Sprintf(`42["subscribe:chat",{"chatId":%d}]`, 1001+i))
	}
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.waiting
	}
	testkit.Eventually(t, "all to wait", func() bool { return waiting() == 19 })
	require.NoError(t, c.conn.Close())
	testkit.Eventually(t, "the end", func() bool { return n.ConnectedClients() == 0 })
	close(chats.answer)
	testkit.Eventually(t, "all to be dropped", func() bool { return waiting() == 0 })
	require.EqualValues(t, 1, chats.asked.Load())
}

func FuzzPayload(f *testing.F) {
	for _, seed := range []string{
		`[{"chatId":1}]`, `[{"chatId":1.5}]`, `[{"chatId":-1}]`, `[{"chatId":"1"}]`, `[{"after":0,"epoch":"x"}]`, `[]`, `[null]`,
		`[{"chatId":9007199254740993}]`, `[{"chatId":1e30}]`, `[{"chatId":1},2]`, `{"lastSeq":3}`, `[{"chatId":{}}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var value any
		if json.Unmarshal(raw, &value) != nil {
			return
		}
		args, isList := value.([]any)
		if !isList {
			args = []any{value}
		}
		if id, problem := parseChat(args); problem == nil {
			object := args[0].(map[string]any)
			if len(args) != 1 || len(object) != 1 || id < 1 || id > maxInteger || object["chatId"] != float64(id) {
				t.Fatalf("accepted %s as chat %d", raw, id)
			}
		} else if !errors.As(error(problem), new(*domain.Error)) || problem.Code != domain.CodeInvalid {
			t.Fatalf("refused %s with %v", raw, problem)
		}
		if from, problem := parseSync(args); problem == nil && (from.seq < 0 || from.seq > maxInteger || from.bad) {
			t.Fatalf("accepted %s as %v", raw, from)
		}
		object, _ := args0(args).(map[string]any)
		from, given := parseStart(object)
		if from.seq < 0 || from.seq > maxInteger || (!given && from != start{}) || (from.bad && from != start{bad: true}) {
			t.Fatalf("read %s as %v", raw, from)
		}
	})
}

func args0(args []any) any {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

func TestWhole(t *testing.T) {
	t.Parallel()
	for value, want := range map[any]int64{
		float64(1): 1, float64(maxInteger): maxInteger, float64(maxInteger + 1): -1, 1.5: -1, math.Inf(1): -1, -1.0: -1, 0.0: -1, "1": -1, nil: -1,
	} {
		got, valid := whole(value, 1)
		require.Equal(t, want != -1, valid, fmt.Sprint(value))
		if valid {
			require.Equal(t, want, got)
		}
	}
	_, valid := whole(math.NaN(), 0)
	require.False(t, valid)
}
