package telegram

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"switchboard/internal/simulator/console"
)

const notModified = "message is not modified: specified new message content and reply markup are exactly the same as a current " +
	"content and reply markup of the message"

// edit changes a message of the bot's and answers with it.
func (s *Server) edit(c *call, missing string, change func(m *Message) *apiError) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.args.str("inline_message_id") != "" {
		return nil, errBadRequest("message to edit not found")
	}
	ch, e := s.resolve(c, "chat_id")
	if e == nil {
		e = s.writable(c.bot, ch)
	}
	if e != nil {
		return nil, e
	}
	k, e := s.target(c, ch, "message_id", missing)
	if e != nil {
		return nil, e
	}
	if k.bot != c.bot.ID && ch.Type != ChatChannel {
		return nil, errBadRequest("message can't be edited")
	}
	next := *k.Message
	next.ReplyMarkup = nil
	if e := setMarkup(c, &next); e != nil {
		return nil, e
	}
	if e := change(&next); e != nil {
		return nil, e
	}
	if same(&next, k.Message) {
		return nil, errBadRequest(notModified)
	}
	next.EditDate = s.unix()
	k.Message = &next
	c.made = []int64{k.MessageID}
	s.show(k)
	return k.forBot(c.bot.ID), nil
}

func same(a, b *Message) bool {
	x, err1 := console.MarshalPlain(a)
	y, err2 := console.MarshalPlain(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y) && a.file() == b.file()
}

func (s *Server) editMessageText(c *call) (any, *apiError) {
	return s.edit(c, "message to edit not found", func(m *Message) *apiError {
		if m.Text == "" {
			return errBadRequest("there is no text in the message to edit")
		}
		m.LinkPreviewOptions = nil
		return c.textDraft()(m)
	})
}

func (s *Server) editMessageCaption(c *call) (any, *apiError) {
	return s.edit(c, "message to edit not found", func(m *Message) (e *apiError) {
		if !m.hasCaption() {
			return errBadRequest("there is no caption in the message to edit")
		}
		m.Caption, m.CaptionEntities, e = c.formatted("caption", "caption_entities", maxCaption)
		return e
	})
}

func (s *Server) editMessageReplyMarkup(c *call) (any, *apiError) {
	return s.edit(c, "message to edit not found", func(*Message) *apiError { return nil })
}

func (s *Server) editMessageMedia(c *call) (any, *apiError) {
	var it albumItem
	if e := c.args.object("media", &it); e != nil {
		return nil, e
	}
	if !slices.Contains([]string{"photo", "video", "animation", "audio", "document"}, it.Type) {
		return nil, errBadRequest("can't parse InputMedia: wrong type")
	}
	d, e := s.itemDraft(c, it)
	if e != nil {
		return nil, e
	}
	return s.edit(c, "message to edit not found", func(m *Message) *apiError {
		if !m.hasCaption() {
			return errBadRequest("there is no media in the message to edit")
		}
		for _, p := range m.media() {
			*p = nil
		}
		m.Photo = nil
		return d(m)
	})
}

func (s *Server) stopPoll(c *call) (any, *apiError) {
	_, e := s.edit(c, "message with poll to stop not found", func(m *Message) *apiError {
		if m.Poll == nil {
			return errBadRequest("message is not a poll")
		}
		if m.Poll.IsClosed {
			return errBadRequest("poll has already been closed")
		}
		p := *m.Poll
		p.IsClosed = true
		m.Poll = &p
		return nil
	})
	if e != nil {
		return nil, e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	k, e := s.target(c, ch, "message_id", "message with poll to stop not found")
	if e != nil {
		return nil, e
	}
	return k.Poll, nil
}

func (s *Server) deleteMessage(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	k, e := s.target(c, ch, "message_id", "message to delete not found")
	if e != nil {
		return nil, e
	}
	return true, s.deleteOne(c, ch, k)
}

// deleteOne needs s.mu. A bot deletes its own messages, all of a private chat, and all where it is an administrator, within 48 hours.
func (s *Server) deleteOne(c *call, ch *chat, k *kept) *apiError {
	old := s.unix()-k.Date > 48*3600
	admin := ch.bots[c.bot.ID] == StatusAdministrator
	if (old && !admin) || (k.bot != c.bot.ID && ch.owner == nil && !admin) {
		return errBadRequest("message can't be deleted for everyone")
	}
	k.deleted = true
	c.made = append(c.made, k.MessageID)
	s.show(k)
	return nil
}

func (s *Server) deleteMessages(c *call) (any, *apiError) {
	var ids []int64
	if e := c.args.object("message_ids", &ids); e != nil {
		return nil, e
	}
	if len(ids) == 0 {
		return nil, errBadRequest("message identifiers are not specified")
	}
	if len(ids) > 100 {
		return nil, errBadRequest("too many message identifiers specified")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	for _, id := range ids {
		if k := ch.byID[id]; k != nil && !k.deleted { // what is gone is skipped
			if e := s.deleteOne(c, ch, k); e != nil {
				return nil, e
			}
		}
	}
	return true, nil
}

// reactionEmojis are those that a bot may use; people in private chats too.
var reactionEmojis = strings.Fields("❤ 👍 👎 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡 🥱 🥴 😍 🐳 ❤‍🔥 🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨 😐 🍓 🍾 💋 🖕 " +
	"😈 😴 😭 🤓 👻 👨‍💻 👀 🎃 🙈 😇 😨 🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿 🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾 🤷‍♂ 🤷 🤷‍♀ 😡")

// plainEmoji is an emoji without the variation selector, as Telegram writes reactions.
func plainEmoji(e string) string { return strings.ReplaceAll(e, "\uFE0F", "") }

func (s *Server) setMessageReaction(c *call) (any, *apiError) {
	var list []Reaction
	if e := c.args.object("reaction", &list); e != nil {
		return nil, e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e == nil {
		e = s.writable(c.bot, ch)
	}
	if e != nil {
		return nil, e
	}
	k, e := s.target(c, ch, "message_id", "message to react not found")
	if e != nil {
		return nil, e
	}
	if len(list) > 1 {
		return nil, errBadRequest("REACTIONS_TOO_MANY")
	}
	var emojis []string
	for _, r := range list {
		emoji := plainEmoji(r.Emoji)
		if r.Type != "emoji" || !slices.Contains(reactionEmojis, emoji) {
			return nil, errBadRequest("REACTION_INVALID")
		}
		emojis = append(emojis, emoji)
	}
	s.react(k, c.bot.ID, emojis)
	c.made = []int64{k.MessageID}
	return true, nil
}

func (s *Server) pinChatMessage(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e == nil {
		e = s.writable(c.bot, ch)
	}
	if e != nil {
		return nil, e
	}
	if ch.owner == nil && ch.bots[c.bot.ID] != StatusAdministrator {
		return nil, errBadRequest("not enough rights to manage pinned messages in the chat")
	}
	k, e := s.target(c, ch, "message_id", "message to pin not found")
	if e != nil {
		return nil, e
	}
	ch.pinned = k.MessageID
	c.made = []int64{k.MessageID}
	from := c.bot.user()
	s.broadcast(ch, &Message{From: &from, PinnedMessage: snapshot(k.Message)}, c.bot.ID)
	return true, nil
}

func (s *Server) unpinChatMessage(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	if ch.pinned == 0 && c.method.name == "unpinChatMessage" {
		return nil, errBadRequest("message to unpin not found")
	}
	ch.pinned = 0
	return true, nil
}

// callbackQuery is a button that a customer pressed.
type callbackQuery struct {
	bot     int64
	message *kept
	done    bool
	text    string
}

const queriesKept = 10_000

func (s *Server) answerCallbackQuery(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queries[c.args.str("callback_query_id")]
	if q == nil || q.bot != c.bot.ID || q.done {
		return nil, errBadRequest("query is too old and response timeout expired or query ID is invalid")
	}
	text := c.args.str("text")
	if utf8.RuneCountInString(text) > 200 {
		return nil, errBadRequest("MESSAGE_TOO_LONG")
	}
	q.done, q.text = true, text
	c.chatID = q.message.chat.ID
	s.events.Publish("callback", callbackAnswer{c.bot.ID, c.chatID, q.message.MessageID, text, c.args.flag("show_alert")})
	return true, nil
}

type callbackAnswer struct {
	Bot       int64  `json:"bot"`
	ChatID    int64  `json:"chatId"`
	MessageID int64  `json:"messageId"`
	Text      string `json:"text"`
	Alert     bool   `json:"alert"`
}

// chatInstance is the value of this name in a callback query: stands for the chat.
func chatInstance(ch *chat) string { b, _ := json.Marshal(ch.ID*7919 + 1); return string(b) }
