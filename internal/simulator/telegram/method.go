package telegram

import (
	"strconv"
	"strings"
)

// method is a method of the Bot API.
type method struct {
	name  string
	sends bool // it makes or changes messages
	do    func(*Server, *call) (any, *apiError)
}

// methods are all methods, by lower-case name: Telegram does not mind the case either.
var methods map[string]method

func init() { //nolint:gochecknoinits // the table refers to functions that refer to the table
	methods = map[string]method{}
	for _, m := range []method{
		{"getUpdates", false, (*Server).getUpdates},
		{"setWebhook", false, (*Server).setWebhook},
		{"deleteWebhook", false, (*Server).deleteWebhook},
		{"getWebhookInfo", false, (*Server).getWebhookInfo},
		{"getMe", false, (*Server).getMe},
		{"logOut", false, (*Server).logOut},
		{"close", false, (*Server).closeBot},
		{"setMyCommands", false, (*Server).yes},
		{"deleteMyCommands", false, (*Server).yes},
		{"sendMessage", true, (*Server).sendMessage},
		{"sendPhoto", true, sendMedia("photo")},
		{"sendVideo", true, sendMedia("video")},
		{"sendAnimation", true, sendMedia("animation")},
		{"sendVoice", true, sendMedia("voice")},
		{"sendAudio", true, sendMedia("audio")},
		{"sendDocument", true, sendMedia("document")},
		{"sendSticker", true, sendMedia("sticker")},
		{"sendVideoNote", true, sendMedia("video_note")},
		{"sendMediaGroup", true, (*Server).sendMediaGroup},
		{"sendLocation", true, (*Server).sendLocation},
		{"sendVenue", true, (*Server).sendVenue},
		{"sendContact", true, (*Server).sendContact},
		{"sendPoll", true, (*Server).sendPoll},
		{"sendDice", true, (*Server).sendDice},
		{"forwardMessage", true, (*Server).forwardMessage},
		{"copyMessage", true, (*Server).copyMessage},
		{"editMessageText", true, (*Server).editMessageText},
		{"editMessageCaption", true, (*Server).editMessageCaption},
		{"editMessageReplyMarkup", true, (*Server).editMessageReplyMarkup},
		{"editMessageMedia", true, (*Server).editMessageMedia},
		{"stopPoll", true, (*Server).stopPoll},
		{"deleteMessage", true, (*Server).deleteMessage},
		{"deleteMessages", true, (*Server).deleteMessages},
		{"setMessageReaction", true, (*Server).setMessageReaction},
		{"pinChatMessage", true, (*Server).pinChatMessage},
		{"unpinChatMessage", true, (*Server).unpinChatMessage},
		{"unpinAllChatMessages", true, (*Server).unpinChatMessage},
		{"sendChatAction", false, (*Server).sendChatAction},
		{"answerCallbackQuery", false, (*Server).answerCallbackQuery},
		{"getFile", false, (*Server).getFile},
		{"getChat", false, (*Server).getChat},
		{"getChatMember", false, (*Server).getChatMember},
		{"getChatAdministrators", false, (*Server).getChatAdministrators},
		{"getChatMemberCount", false, (*Server).getChatMemberCount},
		{"getChatMembersCount", false, (*Server).getChatMemberCount},
		{"getUserProfilePhotos", false, (*Server).getUserProfilePhotos},
		{"leaveChat", false, (*Server).leaveChat},
	} {
		methods[strings.ToLower(m.name)] = m
	}
}

func (s *Server) yes(*call) (any, *apiError) { return true, nil }

// resolve finds the chat that a parameter names by number or @username, as the bot may see it; it needs s.mu.
func (s *Server) resolve(c *call, param string) (*chat, *apiError) {
	raw := strings.TrimSpace(c.args.str(param))
	if raw == "" {
		return nil, errBadRequest("%s is empty", param)
	}
	if name, ok := strings.CutPrefix(raw, "@"); ok {
		for _, id := range s.groupIDs {
			if g := s.groups[id]; g.Username != "" && strings.EqualFold(g.Username, name) {
				return s.visible(c, g)
			}
		}
		return nil, errBadRequest("chat not found")
	}
	id, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		return nil, errBadRequest("chat not found")
	}
	if id < 0 {
		g := s.groups[id]
		if g == nil || (g.bots[c.bot.ID] == "" && g.Username == "") {
			return nil, errBadRequest("chat not found")
		}
		return s.visible(c, g)
	}
	if p := c.bot.private[id]; p != nil {
		c.chatID = id
		return p, nil
	}
	if s.bots[id] != nil && id != c.bot.ID {
		return nil, errForbidden("bots can't send messages to bots")
	}
	if s.customers[id] == nil {
		return nil, errBadRequest("chat not found")
	}
	p, _ := s.findChat(c.bot, id)
	c.chatID = id
	return p, nil
}

func (s *Server) visible(c *call, g *chat) (*chat, *apiError) {
	c.chatID = g.ID
	if g.migratedTo != 0 {
		e := errBadRequest("group chat was upgraded to a supergroup chat")
		e.migrateTo = g.migratedTo
		return nil, e
	}
	switch {
	case g.bots[c.bot.ID] == StatusKicked:
		return nil, errForbidden("bot was kicked from the " + g.Type + " chat")
	case g.bots[c.bot.ID] == StatusLeft, g.bots[c.bot.ID] == "" && g.Type != ChatGroup && c.method.sends:
		return nil, errForbidden("bot is not a member of the " + g.Type + " chat")
	}
	return g, nil
}

// writable says whether the bot may write in the chat; it needs s.mu.
func (s *Server) writable(b *bot, ch *chat) *apiError {
	switch {
	case ch.owner != nil && (s.customers[ch.ID] == nil || s.customers[ch.ID].Deactivated):
		return errForbidden("user is deactivated")
	case ch.owner != nil && ch.blocked:
		return errForbidden("bot was blocked by the user")
	case ch.owner != nil && !ch.started:
		return errForbidden("bot can't initiate conversation with a user")
	case ch.Type == ChatChannel && ch.bots[b.ID] != StatusAdministrator:
		return errBadRequest("need administrator rights in the channel chat")
	}
	return nil
}

// target finds the message that a parameter names in the chat; it needs s.mu.
func (s *Server) target(c *call, ch *chat, param, missing string) (*kept, *apiError) {
	k := ch.byID[c.args.number(param, 0, 0, 1<<53)]
	if k == nil || k.deleted {
		return nil, errBadRequest("%s", missing)
	}
	return k, nil
}
