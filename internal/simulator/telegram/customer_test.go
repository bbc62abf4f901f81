package telegram_test

import (
	"encoding/json"
	"testing"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
)

func (s *simulator) group(kind, status string) int64 {
	s.t.Helper()
	g, err := s.AddChat(telegram.Group{Type: kind, Title: "Neighbours", Username: "neighbours", Members: []int64{grete, ravi}, Bots: []telegram.ChatBot{{ID: botID, Status: status}}})
	require.NoError(s.t, err)
	return g.ID
}

// last is the newest update as it is on the wire.
func (s *simulator) last() map[string]any {
	s.t.Helper()
	list, _ := s.call("getUpdates", `{"offset":-1}`).json["result"].([]any)
	require.NotEmpty(s.t, list)
	return list[len(list)-1].(map[string]any)
}

func TestEveryTypeOfCustomersMessage(t *testing.T) {
	s := newSim(t)
	for kind, in := range map[string]telegram.Incoming{
		"text": {Text: "hi"}, "photo": {}, "video": {}, "animation": {}, "voice": {}, "audio": {}, "document": {}, "sticker": {}, "video_note": {},
		"location": {}, "venue": {}, "contact": {}, "poll": {}, "dice": {Value: 4},
		"raw": {Content: json.RawMessage(`{"simulated_novelty":{"a":1}}`)},
	} {
		in.Type = kind
		s.sends(grete, in)
		m := s.last()["message"].(map[string]any)
		if kind == "raw" {
			require.Equal(t, map[string]any{"a": 1.0}, m["simulated_novelty"])
		} else {
			require.Contains(t, m, kind)
		}
		require.Equal(t, map[string]any{
			"id": 5001001.0, "is_bot": false, "first_name": "Grete", "last_name": "Hermann", "username": "grete_h", "language_code": "de",
		}, m["from"], kind)
	}
	for _, wrong := range []telegram.Incoming{
		{}, {Type: "telepathy"}, {Type: "raw"}, {Text: "x", From: ravi}, {Text: "x", ReplyTo: 999}, {Type: "photo", Media: &telegram.IncomingMedia{File: "99"}},
	} {
		_, err := s.CustomerSend(botID, grete, wrong)
		require.Error(t, err, "%+v", wrong)
	}
	_, err := s.CustomerSend(botID, 404, telegram.Incoming{Text: "x"})
	require.ErrorIs(t, err, telegram.ErrNotFound)
}

func TestEditsReactionsVotes(t *testing.T) {
	s := newSim(t)
	s.call("getUpdates", `{"allowed_updates":["message","edited_message","message_reaction","poll","poll_answer"]}`)
	in := s.says(grete, "frist")
	_, err := s.CustomerEdit(botID, grete, in.MessageID, telegram.Incoming{Text: "first"})
	require.NoError(t, err)
	edited := s.last()["edited_message"].(map[string]any)
	require.Equal(t, "first", edited["text"])
	require.Contains(t, edited, "edit_date")

	m, err := s.bot().Send(tgbotapi.NewMessage(grete, "ok"))
	require.NoError(t, err)
	_, err = s.CustomerEdit(botID, grete, int64(m.MessageID), telegram.Incoming{Text: "not mine"})
	require.ErrorIs(t, err, telegram.ErrInvalid)
	_, err = s.CustomerReact(botID, grete, int64(m.MessageID), 0, "👍")
	require.NoError(t, err)
	_, err = s.CustomerReact(botID, grete, int64(m.MessageID), 0)
	require.NoError(t, err)
	gone := s.last()["message_reaction"].(map[string]any)
	require.Equal(t, []any{map[string]any{"type": "emoji", "emoji": "👍"}}, gone["old_reaction"])
	require.Equal(t, []any{}, gone["new_reaction"])
	_, err = s.CustomerReact(botID, grete, int64(m.MessageID), 0, "🧿")
	require.ErrorIs(t, err, telegram.ErrInvalid)

	a := s.call("sendPoll", `{"chat_id":5001001,"question":"Which?","options":[{"text":"a"},"b"],"is_anonymous":false}`)
	id := int64(a.result(t)["message_id"].(float64))
	refs, err := s.CustomerVote(botID, grete, id, 0, 1)
	require.NoError(t, err)
	require.Len(t, refs, 2, "the answer and the result")
	require.InDelta(t, 1, s.last()["poll"].(map[string]any)["total_voter_count"], 0)
	require.Equal(t, true, s.call("stopPoll", `{"chat_id":5001001,"message_id":`+itoa(int(id))+`}`).result(t)["is_closed"])
	_, err = s.CustomerVote(botID, grete, id, 0, 1)
	require.ErrorIs(t, err, telegram.ErrInvalid)
	require.NoError(t, s.CustomerDelete(botID, grete, in.MessageID))
}

func TestBlockAndUnblock(t *testing.T) {
	s := newSim(t)
	s.says(grete, "hello")
	require.NoError(t, s.SetBlocked(botID, grete, true))
	u := s.last()["my_chat_member"].(map[string]any)
	require.Equal(t, "member", u["old_chat_member"].(map[string]any)["status"])
	require.Equal(t, "kicked", u["new_chat_member"].(map[string]any)["status"])
	require.Equal(t, 403, s.call("sendMessage", `{"chat_id":5001001,"text":"x"}`).status)
	require.Equal(t, 200, s.call("getChat", `{"chat_id":5001001}`).status)
	s.says(grete, "I am back") // unblocks
	require.Equal(t, 200, s.call("sendMessage", `{"chat_id":5001001,"text":"x"}`).status)
}

func TestGroups(t *testing.T) {
	s := newSim(t, func(o *telegram.Options) {
		o.Bots = append(o.Bots, telegram.Bot{Token: "7771234:AAFreshTokenOfSomeOtherBot-_", Username: "shy_bot", Privacy: true})
	})
	id := s.group(telegram.ChatGroup, telegram.StatusMember)
	require.NoError(t, s.SetBotStatus(id, 7771234, telegram.StatusMember))
	joined := s.last()["message"].(map[string]any)
	require.Contains(t, joined, "new_chat_members")

	both := s.sends(id, telegram.Incoming{From: ravi, Text: "hey @shy_bot"})
	require.Len(t, both.Updates, 2)
	one := s.sends(id, telegram.Incoming{From: ravi, Text: "not for the shy one"})
	require.Equal(t, botID, one.Updates[0].Bot)
	require.Len(t, one.Updates, 1)
	m := s.last()["message"].(map[string]any)
	require.Equal(t, "Neighbours", m["chat"].(map[string]any)["title"])
	require.InDelta(t, ravi, m["from"].(map[string]any)["id"], 0)

	api := s.bot()
	byName := tgbotapi.NewMessageToChannel("@neighbours", "by name")
	_, err := api.Send(byName)
	require.NoError(t, err)
	require.NoError(t, s.SetMember(id, ravi, telegram.StatusLeft))
	require.Contains(t, s.last()["message"], "left_chat_member")
	_, err = s.CustomerSend(botID, id, telegram.Incoming{From: ravi, Text: "x"})
	require.ErrorIs(t, err, telegram.ErrInvalid)
	require.NoError(t, s.Rename(id, "New title"))
	require.Equal(t, "New title", s.last()["message"].(map[string]any)["new_chat_title"])

	n, err := api.GetChatMembersCount(tgbotapi.ChatMemberCountConfig{ChatConfig: tgbotapi.ChatConfig{ChatID: id}})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	who, err := api.GetChatMember(tgbotapi.GetChatMemberConfig{ChatConfigWithUser: tgbotapi.ChatConfigWithUser{ChatID: id, UserID: ravi}})
	require.NoError(t, err)
	require.Equal(t, "left", who.Status)
	require.Equal(t, 400, s.call("pinChatMessage", `{"chat_id":`+itoa(int(id))+`,"message_id":1}`).status)
	require.NoError(t, s.SetBotStatus(id, botID, telegram.StatusAdministrator))
	admins, err := api.GetChatAdministrators(tgbotapi.ChatAdministratorsConfig{ChatConfig: tgbotapi.ChatConfig{ChatID: id}})
	require.NoError(t, err)
	require.Len(t, admins, 1)

	require.NoError(t, s.SetBotStatus(id, botID, telegram.StatusKicked))
	require.Equal(t, "kicked", s.last()["my_chat_member"].(map[string]any)["new_chat_member"].(map[string]any)["status"])
	a := s.call("sendMessage", `{"chat_id":`+itoa(int(id))+`,"text":"x"}`)
	require.Equal(t, "Forbidden: bot was kicked from the group chat", a.json["description"])
	require.Empty(t, s.sends(id, telegram.Incoming{Text: "without the bot"}).Updates)
}

func TestMigration(t *testing.T) {
	s := newSim(t)
	old := s.group(telegram.ChatGroup, telegram.StatusMember)
	s.sends(old, telegram.Incoming{Text: "before"})
	id, err := s.Migrate(old)
	require.NoError(t, err)
	require.Less(t, id, int64(-1_000_000_000_000))
	updates := s.updates(s.bot(), 0)
	require.Equal(t, id, updates[1].Message.MigrateToChatID)
	require.Equal(t, old, updates[1].Message.Chat.ID)
	require.Equal(t, old, updates[2].Message.MigrateFromChatID)
	require.Equal(t, id, updates[2].Message.Chat.ID)
	require.Equal(t, "supergroup", updates[2].Message.Chat.Type)

	_, err = s.bot().Send(tgbotapi.NewMessage(old, "x"))
	var e *tgbotapi.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "Bad Request: group chat was upgraded to a supergroup chat", e.Message)
	require.Equal(t, id, e.MigrateToChatID)
	_, err = s.bot().Send(tgbotapi.NewMessage(id, "x"))
	require.NoError(t, err)
	_, err = s.CustomerSend(botID, old, telegram.Incoming{Text: "x"})
	require.ErrorIs(t, err, telegram.ErrInvalid)
	_, err = s.Migrate(id)
	require.ErrorIs(t, err, telegram.ErrInvalid)
}

func TestChannels(t *testing.T) {
	s := newSim(t)
	id := s.group(telegram.ChatChannel, "")
	sent := s.sends(id, telegram.Incoming{Text: "news"})
	post := s.last()["channel_post"].(map[string]any)
	require.NotContains(t, post, "from")
	require.InDelta(t, id, post["sender_chat"].(map[string]any)["id"], 0)
	_, err := s.CustomerEdit(botID, id, sent.MessageID, telegram.Incoming{Text: "old news"})
	require.NoError(t, err)
	require.Contains(t, s.last(), "edited_channel_post")
	m, err := s.bot().Send(tgbotapi.NewMessage(id, "from the bot"))
	require.NoError(t, err)
	require.Nil(t, m.From)
	require.NoError(t, s.SetBotStatus(id, botID, telegram.StatusMember))
	require.Equal(t, 400, s.call("sendMessage", `{"chat_id":`+itoa(int(id))+`,"text":"x"}`).status)
	_, err = s.bot().Request(tgbotapi.LeaveChatConfig{ChatID: id})
	require.NoError(t, err)
	require.Equal(t, "Forbidden: bot is not a member of the channel chat", s.call("sendMessage", `{"chat_id":`+itoa(int(id))+`,"text":"x"}`).json["description"])
}

func TestHistoryIsBounded(t *testing.T) {
	s := newSim(t, func(o *telegram.Options) { o.LedgerSize, o.MediaBytes = 100, 1<<20 })
	for range 600 {
		s.says(grete, "x")
	}
	conv, err := s.Conversation(botID, grete)
	require.NoError(t, err)
	require.Len(t, conv.Messages, 500)
	require.Equal(t, int64(101), conv.Messages[0].Message.MessageID)
	require.Len(t, s.Ledger().Entries(telegram.Filter{}), 100)
	require.Len(t, s.Ledger().Updates(botID), 100)
	require.Equal(t, 600, s.Ledger().Counts().Inbound)
	s.sends(grete, telegram.Incoming{Type: "document", Media: &telegram.IncomingMedia{Data: make([]byte, 900<<10)}})
	id := s.updates(s.bot(), -1)[0].Message.Document.FileID
	s.sends(grete, telegram.Incoming{Type: "document", Media: &telegram.IncomingMedia{Data: make([]byte, 900<<10)}})
	_, err = s.bot().GetFile(tgbotapi.FileConfig{FileID: id})
	require.EqualError(t, err, "Bad Request: wrong file_id or the file is temporarily unavailable")
}
