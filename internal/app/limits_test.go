package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/testkit"
)

// TestQueuedMessagesKeepMetasLimits: 300 messages to 60 customers, queued while
// no worker runs, all leave once it does. The simulator enforces Meta's limits,
// and refuses none of them; a reply overtakes the bulk.
func TestQueuedMessagesKeepMetasLimits(t *testing.T) {
	t.Parallel()
	const customers, each = 60, 5
	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	node := h.api()
	admin := h.register(node, "acme")
	first := h.worker("w1")
	channel := h.connect(admin, node, "1001")
	h.waitConnected(admin, channel)
	first.stop()
	for i := range customers {
		_, err := h.cloud.CustomerSend("1001", fmt.Sprintf("4917000%05d", i), cloudapi.Incoming{Type: "text", Text: "hello"})
		require.NoError(t, err)
	}
	require.NoError(t, h.cloud.WaitIdle(testkit.Context(t)))
	var chats []int64
	testkit.Eventually(t, "all chats", func() bool {
		chats = nil
		for _, item := range admin.must(http.MethodGet, "/api/chats?limit=100", nil)["items"].([]any) {
			chats = append(chats, id(t, item.(map[string]any)))
		}
		return len(chats) == customers
	})
	for n := range each {
		for _, chat := range chats {
			admin.must(http.MethodPost, "/api/messages/send", map[string]any{
				"chatId": chat, "content": fmt.Sprintf("%d of %d", n+1, each), "priority": "bulk",
			})
		}
	}
	admin.must(http.MethodPost, "/api/messages/send", map[string]any{"chatId": chats[0], "content": "a reply"})

	h.worker("w2")
	require.NoError(t, h.cloud.Ledger().Wait(testkit.Context(t), func(l *cloudapi.Ledger) bool { return l.Counts().Accepted == customers*each+1 }))
	order := map[string][]string{}
	for i, send := range h.cloud.Ledger().Sends("1001") {
		require.Equal(t, cloudapi.OutcomeAccepted, send.Outcome, "%+v", send)
		var body struct {
			Text struct{ Body string }
		}
		require.NoError(t, json.Unmarshal(send.Body, &body))
		order[send.To] = append(order[send.To], body.Text.Body)
		if body.Text.Body == "a reply" {
			assert.Less(t, i, customers, "the reply's chat goes before the others, the bulk before it in the chat included")
		}
	}
	require.Len(t, order, customers)
	for to, texts := range order {
		require.Subset(t, []int{each, each + 1}, []int{len(texts)})
		for n := range each {
			assert.Equal(t, fmt.Sprintf("%d of %d", n+1, each), texts[n], "to %s", to)
		}
	}
}
