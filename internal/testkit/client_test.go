package testkit_test

import (
	"bufio"
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

func TestClientConnectsOverEachTransport(t *testing.T) {
	t.Parallel()
	url := socketServer(t)
	for _, transport := range []string{"websocket", "polling"} {
		client := testkit.Connect(t, testkit.ClientOptions{URL: url, Auth: goodAuth, Transports: []string{transport}})
		assert.Equal(t, transport, client.Transport())
		assert.True(t, client.Connected())
		assert.NotEmpty(t, client.ID())
	}
	upgraded := testkit.Connect(t, testkit.ClientOptions{URL: url, Auth: goodAuth})
	require.NoError(t, upgraded.WaitTransport(testkit.Context(t), "websocket"))
}

func TestClientIsRefused(t *testing.T) {
	t.Parallel()
	url := socketServer(t)
	client := testkit.Client(t, testkit.ClientOptions{URL: url, Auth: map[string]any{"token": "bad"}})
	err := client.Connect(testkit.Context(t))
	var refused *testkit.ConnectError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "Authentication failed: Invalid token", refused.Message)
	assert.JSONEq(t, `{"code":"invalid_token"}`, string(refused.Data))
	assert.True(t, refused.Final)
	assert.False(t, client.Connected())

	client.SetAuth(goodAuth)
	require.NoError(t, client.Connect(testkit.Context(t)))
}

func TestClientTellsThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	client := testkit.Client(t, testkit.ClientOptions{URL: gone.URL, Options: map[string]any{"reconnectionDelay": 20}})
	ctx, cancel := context.WithTimeout(testkit.Context(t), 3*time.Second)
	defer cancel()
	err := client.Connect(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "xhr poll error")
	again, err := client.WaitConnectError(testkit.Context(t), 2)
	require.NoError(t, err)
	assert.False(t, again.Final, "the client goes on trying")
}

func TestClientEmitsAndCollectsInOrder(t *testing.T) {
	t.Parallel()
	url := socketServer(t)
	client := testkit.Connect(t, testkit.ClientOptions{URL: url, Auth: goodAuth, Transports: []string{"websocket"}})
	before := time.Now()
	answer, err := client.EmitAck(testkit.Context(t), "echo", map[string]any{"chatId": 7}, "второй")
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":true}`, string(answer))
	event, err := client.WaitFor(testkit.Context(t), "echoed", nil)
	require.NoError(t, err)
	require.Len(t, event.Args, 2)
	assert.JSONEq(t, `{"chatId":7}`, string(event.Args[0]))
	assert.JSONEq(t, `"второй"`, string(event.Args[1]))
	assert.WithinRange(t, event.At, before.Add(-time.Second), time.Now().Add(time.Second))

	client.Forget()
	const many = 500
	client.Emit("count", many)
	events, err := client.WaitCount(testkit.Context(t), "message:new", many)
	require.NoError(t, err)
	require.Len(t, events, many)
	for i, e := range events {
		require.Equal(t, int64(i+1), e.Seq())
	}
	last, err := client.WaitFor(testkit.Context(t), "", func(e testkit.Event) bool { return e.Seq() == many })
	require.NoError(t, err)
	assert.Equal(t, "message:new", last.Name)
	assert.Empty(t, client.Events("chat:new"))
}

func TestClientWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	url := socketServer(t)
	client := testkit.Connect(t, testkit.ClientOptions{URL: url, Auth: goodAuth})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.WaitFor(ctx, "message:new", nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = client.EmitAck(ctx, "nobody answers this")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestClientReconnectsFromItsPosition(t *testing.T) {
	t.Parallel()
	url := socketServer(t)
	client := testkit.Connect(t, testkit.ClientOptions{
		URL: url, Auth: goodAuth, Transports: []string{"websocket"}, TrackSeq: true, Options: map[string]any{"reconnectionDelay": 10},
	})
	hello, err := client.WaitFor(testkit.Context(t), "hello", nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"token":"good"}`, string(hello.Args[0]))
	client.Emit("count", 3)
	_, err = client.WaitCount(testkit.Context(t), "message:new", 3)
	require.NoError(t, err)

	client.Drop()
	reason, err := client.WaitDisconnect(testkit.Context(t), 1)
	require.NoError(t, err)
	assert.Equal(t, "transport close", reason)
	require.NoError(t, client.WaitConnected(testkit.Context(t), 2))
	assert.Equal(t, 2, client.Connections())
	hellos, err := client.WaitCount(testkit.Context(t), "hello", 2)
	require.NoError(t, err)
	assert.JSONEq(t, `{"token":"good","lastSeq":3,"epoch":"e1"}`, string(hellos[1].Args[0]))
}

func TestClientTellsWhyItWasDisconnected(t *testing.T) {
	t.Parallel()
	url := socketServer(t)

	client := testkit.Connect(t, testkit.ClientOptions{URL: url, Auth: goodAuth, Transports: []string{"websocket"}})
	client.Emit("kick me")
	reason, err := client.WaitDisconnect(testkit.Context(t), 1)
	require.NoError(t, err)
	assert.Equal(t, "io server disconnect", reason)
	assert.Equal(t, reason, client.DisconnectReason())
	assert.Empty(t, client.Transport())

	require.NoError(t, client.Connect(testkit.Context(t)))
	require.NoError(t, client.Disconnect(testkit.Context(t)))
	assert.Equal(t, "io client disconnect", client.DisconnectReason())
	client.Close()
}

func TestClientKeepsALedger(t *testing.T) {
	t.Parallel()
	url := socketServer(t)
	node := testkit.StartNode(t)
	var clients []*testkit.SocketClient
	for range 20 {
		client := node.Client(testkit.ClientOptions{URL: url, Auth: goodAuth, Transports: []string{"websocket"}, LedgerOnly: true})
		clients = append(clients, client)
		require.NoError(t, client.Connect(testkit.Context(t)))
		client.Emit("send", []int{1, 2, 5, 5, 4, 6})
	}
	for _, client := range clients {
		testkit.EventuallyNoError(t, "the ledger to be full", func(ctx context.Context) error {
			ledger, err := client.Ledger(ctx)
			if err == nil && ledger.Count < 7 { // hello and six messages
				err = assert.AnError
			}
			return err
		})
		ledger, err := client.Ledger(testkit.Context(t))
		require.NoError(t, err)
		assert.Equal(t, int64(1), ledger.First)
		assert.Equal(t, int64(6), ledger.Last)
		assert.Equal(t, [][2]int64{{3, 4}}, ledger.Gaps)
		assert.Equal(t, []int64{5, 4}, ledger.Twice)
		assert.Empty(t, client.Events(""))
	}
}

var goodAuth = map[string]any{"token": "good"}

// socketServer starts the official server and returns its URL.
func socketServer(t *testing.T) string {
	t.Helper()
	node, dir := testkit.Node(t)
	cmd := exec.CommandContext(t.Context(), node, "reference-server.mjs")
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	port, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	t.Cleanup(func() {
		// The test's context may have ended the server already.
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}
