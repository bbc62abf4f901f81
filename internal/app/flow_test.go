package app_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/testkit"
)

// The main job, on real parts: a customer's message reaches the screens on
// both nodes, and the answer reaches the customer.
func TestMessageFlowsThroughTwoNodesAndAWorker(t *testing.T) {
	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	one, two := h.api(), h.api()
	h.worker("w1")
	ada := h.register(one, "acme")
	mallory := h.register(two, "rival")
	channelID := h.connect(ada, one, "1001")
	h.waitConnected(ada, channelID)

	screens := []*testkit.SocketClient{h.socket(ada, one), h.socket(ada, two)}
	stranger := h.socket(mallory, two)

	require.NoError(t, h.cloud.AddCustomer(cloudapi.Customer{WaID: "491700000001", Name: "Grace"}))
	wamid, err := h.cloud.CustomerSend("1001", "491700000001", cloudapi.Incoming{Type: "text", Text: "Is it open today? 👋"})
	require.NoError(t, err)

	var chatID float64
	for _, screen := range screens {
		message := waitEvent(t, screen, "message:new", func(m map[string]any) bool { return m["externalId"] == wamid })
		require.Equal(t, "Is it open today? 👋", message["content"])
		require.Equal(t, "whatsapp", message["channel"])
		chatID = message["chatId"].(float64)
		chat := waitEvent(t, screen, "chat:new", nil)
		require.InEpsilon(t, chatID, chat["id"], 0)
	}

	answer := (&person{t: t, base: two.URL, token: ada.token}).must(http.MethodPost, "/api/messages/send", map[string]any{
		"chatId": chatID, "content": "Until six.", "clientMessageId": "c-1", "replyToId": lastMessage(ada, chatID),
	})
	require.Equal(t, "queued", answer["status"])
	for _, screen := range screens {
		waitEvent(t, screen, "message:new", func(m map[string]any) bool { return m["id"] == answer["id"] })
		for _, status := range []string{"sending", "sent", "delivered"} {
			waitEvent(t, screen, "message:status", func(s map[string]any) bool { return s["messageId"] == answer["id"] && s["status"] == status })
		}
	}
	sends := h.cloud.Ledger().Sends("1001")
	require.Len(t, sends, 1)
	require.Equal(t, "accepted", string(sends[0].Outcome))

	status, again := ada.call(http.MethodPost, "/api/messages/send", map[string]any{"chatId": chatID, "content": "Until six.", "clientMessageId": "c-1"})
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, answer["id"], again["id"])

	read := ada.must(http.MethodPost, fmt.Sprintf("/api/chats/%d/read", int64(chatID)), map[string]any{})
	require.Zero(t, read["unreadCount"])
	require.NoError(t, h.cloud.Ledger().Wait(testkit.Context(t), func(l *cloudapi.Ledger) bool { return l.Counts().Reads == 1 }),
		"the customer's app learns that the message was read")

	for i, screen := range screens {
		ledger, err := screen.Ledger(testkit.Context(t))
		require.NoError(t, err)
		require.Empty(t, ledger.Gaps, "screen %d", i)
		require.Empty(t, ledger.Twice, "screen %d", i)
	}
	ledger, err := stranger.Ledger(testkit.Context(t))
	require.NoError(t, err)
	require.Zero(t, ledger.Count, "another organization saw something: %v", stranger.Events(""))
}

func lastMessage(p *person, chatID float64) any {
	page := p.must(http.MethodGet, fmt.Sprintf("/api/messages?chatId=%d&limit=1", int64(chatID)), nil)
	return page["items"].([]any)[0].(map[string]any)["id"]
}

func TestMediaComesInAndGoesOut(t *testing.T) {
	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	node := h.api()
	h.worker("w1")
	ada := h.register(node, "acme")
	h.waitConnected(ada, h.connect(ada, node, "1001"))
	screen := h.socket(ada, node)

	_, err := h.cloud.CustomerSend("1001", "491700000001", cloudapi.Incoming{
		Type: "image", Media: &cloudapi.IncomingMedia{Data: png, MIMEType: "image/png", Caption: "look"},
	})
	require.NoError(t, err)
	message := waitEvent(t, screen, "message:new", nil)
	require.Equal(t, "pending", message["media"].(map[string]any)["state"])
	updated := waitEvent(t, screen, "message:updated", func(m map[string]any) bool {
		return m["id"] == message["id"] && m["media"].(map[string]any)["state"] == "ready"
	})
	mediaID := int64(updated["media"].(map[string]any)["id"].(float64))
	fresh := ada.must(http.MethodGet, fmt.Sprintf("/api/media/%d", mediaID), nil)
	resp, err := http.Get(absolute(node.URL, fresh["url"].(string))) //nolint:noctx // the test's own server
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, png, body)
	require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))

	ada.must(http.MethodPost, "/api/messages/send", map[string]any{"chatId": message["chatId"], "mediaId": mediaID, "content": "back to you"})
	waitEvent(t, screen, "message:status", func(s map[string]any) bool { return s["status"] == "delivered" })
	sends := h.cloud.Ledger().Sends("1001")
	require.Len(t, sends, 1)
	require.Equal(t, "image", sends[0].Type)
}

func absolute(base, url string) string {
	if url != "" && url[0] == '/' {
		return base + url
	}
	return url
}

// png is a picture of one pixel.
var png = []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89" +
	"\x00\x00\x00\nIDATx\x9cc\x00\x01\x00\x00\x05\x00\x01\r\n-\xb4\x00\x00\x00\x00IEND\xaeB`\x82")
