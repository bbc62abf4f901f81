package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// A customer's typing, told by a worker that has no sockets, reaches those who have the chat open, on every node, and
// nobody else.
func TestACustomersTypingReachesWhoHasTheChatOpen(t *testing.T) {
	t.Parallel()
	w := redisWorld(t)
	a, b := w.node(), w.node()
	here, there := w.connect(a, w.user(1, 10), nil), w.connect(b, w.user(1, 11), nil)
	absent, foreign := w.connect(a, w.user(1, 12), nil), w.connect(b, w.user(2, 20), nil)
	chat := map[string]any{"chatId": 1001}
	for _, c := range []*testkit.SocketClient{here, there} {
		require.JSONEq(t, okAnswer, ask(t, c, "subscribe:chat", chat))
	}
	require.Contains(t, ask(t, foreign, "subscribe:chat", chat), "not_found")
	worker, err := NewEmitter(w.redis, EmitterOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, worker.Close(testkit.Context(t))) }()

	require.NoError(t, worker.Typing(1001, true, domain.Typing{ChatID: 1001, ContactID: 5}))
	require.NoError(t, worker.Typing(1001, false, domain.Typing{ChatID: 1001, ContactID: 5}))
	for _, c := range []*testkit.SocketClient{here, there} {
		for _, name := range []string{"typing:start", "typing:stop"} {
			e, err := c.WaitFor(testkit.Context(t), name, nil)
			require.NoError(t, err)
			require.JSONEq(t, `{"chatId":1001,"contactId":5}`, string(e.Args[0]))
			require.Len(t, e.Args, 1, "it is not in the log")
		}
	}
	for _, c := range []*testkit.SocketClient{absent, foreign} {
		w.quiet(c)
		require.Empty(t, c.Events(""))
	}
}
