package app_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
	"switchboard/internal/testkit"
)

// The main job with a bot: what a customer writes on Telegram reaches the
// screens, and the answer reaches the customer; the token is read back nowhere.
func TestTelegramFlowsThroughANodeAndAWorker(t *testing.T) {
	bot := telegram.DemoBot()
	sim, err := telegram.New(telegram.Options{Logger: testkit.Logger(t), Bots: []telegram.Bot{bot}, Customers: telegram.DemoCustomers()})
	require.NoError(t, err)
	require.NoError(t, sim.Start(context.Background()))
	api := httptest.NewServer(sim.Handler())
	t.Cleanup(func() {
		_ = sim.Close()
		api.Close()
	})
	grete := telegram.DemoCustomers()[0]

	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	h.cfg.TelegramAPIEndpoint, h.cfg.TelegramFileEndpoint = api.URL+"/bot%s/%s", api.URL+"/file/bot%s/%s"
	node := h.api()
	h.worker("w1")
	ada := h.register(node, "acme")
	status, problem := ada.call(http.MethodPost, "/api/channels", map[string]any{"kind": "telegram", "name": "Bot", "config": map[string]any{"botToken": "no token"}})
	require.Equal(t, http.StatusUnprocessableEntity, status, "%v", problem)
	channel := ada.must(http.MethodPost, "/api/channels", map[string]any{"kind": "telegram", "name": "Bot", "config": map[string]any{"botToken": bot.Token}})
	require.Empty(t, channel["config"])
	h.waitConnected(ada, id(t, channel))
	screen := h.socket(ada, node)

	id := sim.Bots()[0].ID
	_, err = sim.CustomerSend(id, grete.ID, telegram.Incoming{Text: "Is it open today? 👋"})
	require.NoError(t, err)
	message := waitEvent(t, screen, "message:new", func(m map[string]any) bool { return m["content"] == "Is it open today? 👋" })
	require.Equal(t, "telegram", message["channel"])
	answer := ada.must(http.MethodPost, "/api/messages/send", map[string]any{"chatId": message["chatId"], "content": "Until six.", "replyToId": message["id"]})
	waitEvent(t, screen, "message:status", func(s map[string]any) bool { return s["messageId"] == answer["id"] && s["status"] == "sent" })
	talk, err := sim.Conversation(id, grete.ID)
	require.NoError(t, err)
	last := talk.Messages[len(talk.Messages)-1]
	require.Equal(t, "Until six.", last.Message.Text)
	require.NotNil(t, last.Message.ReplyToMessage)
}
