package telegram

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"

	"switchboard/internal/domain"
)

// converted is an update on its way to the inbox.
type converted struct {
	domain.Received

	id       int // update_id; 0 if it could not be read
	callback string
}

// convert turns an update into what happened. It is pure, and fails never: what
// cannot be read carries the reason, and, where it can be told in which chat it
// happened, a message that says so. Some updates are nothing to show.
func convert(raw json.RawMessage, bot int64) converted {
	out := converted{Received: domain.Received{Raw: raw}}
	var head struct {
		ID int `json:"update_id"`
	}
	if err := decode(raw, &head); err != nil {
		out.Poison = err
		return out
	}
	if head.ID <= 0 {
		out.Poison = errors.New("update_id is missing")
		return out
	}
	out.id = head.ID
	out.Inbound, out.callback, out.Poison = read(raw, head.ID, bot)
	if out.Poison != nil {
		out.Inbound = unreadable(raw)
	}
	return out
}

func read(raw json.RawMessage, id int, bot int64) (in domain.Inbound, callback string, err error) {
	var u update
	if err := decode(raw, &u); err != nil {
		return in, "", err
	}
	switch {
	case u.Message != nil:
		in, err = convertMessage(u.Message, bot)
	case u.ChannelPost != nil:
		in, err = convertMessage(u.ChannelPost, bot)
	case u.EditedMessage != nil:
		in, err = convertEdit(u.EditedMessage, id)
	case u.EditedChannelPost != nil:
		in, err = convertEdit(u.EditedChannelPost, id)
	case u.Callback != nil:
		in, err = u.Callback.inbound()
		callback = u.Callback.ID
	case u.Reaction != nil:
		in, err = u.Reaction.inbound(id)
	case u.Membership != nil:
		in, err = convertMembership(u.Membership)
	default:
		err = errors.New("it is of no kind that is known")
	}
	return in, callback, err
}

// unreadable is a message that says that something was there, if it can be told
// where.
func unreadable(raw json.RawMessage) domain.Inbound {
	var kinds map[string]json.RawMessage
	if json.Unmarshal(raw, &kinds) != nil {
		return domain.Inbound{}
	}
	for _, kind := range kinds {
		var stub struct {
			MessageID int            `json:"message_id"`
			Date      int64          `json:"date"`
			Chat      *tgbotapi.Chat `json:"chat"`
			From      json.RawMessage
		}
		if json.Unmarshal(kind, &stub) != nil || stub.Chat == nil || stub.Chat.ID == 0 || stub.MessageID <= 0 {
			continue
		}
		when, err := at(stub.Date)
		if err != nil {
			continue
		}
		m := message{Message: tgbotapi.Message{MessageID: stub.MessageID, Chat: stub.Chat}}
		var from tgbotapi.User
		if json.Unmarshal(stub.From, &from) == nil && from.ID != 0 {
			m.From = &from
		}
		out := m.base(domain.TypeUnsupported, when, 0)
		out.Content = "A message that could not be read. " + askAgain
		return domain.Inbound{Message: out}
	}
	return domain.Inbound{}
}

// convertMessage turns a message or a channel's post into ours.
func convertMessage(raw json.RawMessage, bot int64) (domain.Inbound, error) {
	m, err := readMessage(raw)
	if err != nil {
		return domain.Inbound{}, err
	}
	when, err := at(int64(m.Date))
	if err != nil {
		return domain.Inbound{}, err
	}
	if to := migration(m); to != nil {
		to.ProviderTime = when
		return domain.Inbound{Message: to}, nil
	}
	if notice, is := m.notice(bot); is {
		if notice == "" {
			return domain.Inbound{}, nil // told by another update
		}
		out := m.base(domain.TypeSystem, when, bot)
		out.Content, out.Silent = notice, true
		return domain.Inbound{Message: out}, nil
	}
	out := m.base(domain.TypeText, when, bot)
	if err := m.fill(out); err != nil {
		return domain.Inbound{}, err
	}
	return domain.Inbound{Message: out}, nil
}

// base is a message of ours without content.
func (m *message) base(kind domain.MessageType, when domain.Time, bot int64) *domain.InboundMessage {
	out := &domain.InboundMessage{
		ExternalID: externalID(m.Chat.ID, m.MessageID), Peer: peerOf(m.Chat), Type: kind, ProviderTime: when,
		FromMe: m.From != nil && m.From.ID == bot,
	}
	out.Sender = m.sender(out.Peer)
	if m.ReplyTo != nil && m.ReplyTo.MessageID > 0 && m.ReplyTo.TopicCreated == nil {
		out.ReplyToExternalID = externalID(m.Chat.ID, m.ReplyTo.MessageID)
	}
	return out
}

// sender is who wrote in a chat of many: a person, or a chat for those who
// write in its name. It is empty in a private chat.
func (m *message) sender(peer domain.Peer) domain.Peer {
	if peer.Kind == domain.ChatDirect {
		return domain.Peer{}
	}
	var sender domain.Peer
	switch {
	case m.SenderChat != nil:
		sender = peerOf(m.SenderChat)
		if m.AuthorSignature != "" {
			sender.Name = cut(clean(m.AuthorSignature), maxName)
		}
	case m.From != nil:
		sender = person(m.From)
	default:
		sender = peer
	}
	if m.TopicMessage && m.ReplyTo != nil && m.ReplyTo.TopicCreated != nil && m.ReplyTo.TopicCreated.Name != "" {
		// A group's topics are one chat to us; the name tells them apart.
		sender.Name = cut(sender.Name+" · "+clean(m.ReplyTo.TopicCreated.Name), maxName)
	}
	return sender
}

// migration tells that a group has become a supergroup, which Telegram says
// once in the old chat and once in the new one: both are one message of ours.
func migration(m *message) *domain.InboundMessage {
	switch {
	case m.MigrateToChatID != 0:
		return moved(m.Chat.ID, m.MigrateToChatID, m.Chat.Title)
	case m.MigrateFromChatID != 0:
		return moved(m.MigrateFromChatID, m.Chat.ID, m.Chat.Title)
	default:
		return nil
	}
}

// moved is the message by which a group's chat goes on under its new address.
func moved(from, to int64, title string) *domain.InboundMessage {
	peer := peerOf(&tgbotapi.Chat{ID: to, Type: "supergroup", Title: title})
	peer.Former = address(from)
	peer.Identities = append(peer.Identities, domain.Identity{Kind: domain.IdentityGroup, Value: address(from)})
	return &domain.InboundMessage{
		ExternalID: fmt.Sprintf("%d:moved:%d", from, to), Peer: peer, Type: domain.TypeSystem, Silent: true,
		Content: "The group became a supergroup.",
	}
}

// convertEdit takes the new text of a message. Only texts and captions change
// here; a replaced file stays as it was first seen.
func convertEdit(raw json.RawMessage, id int) (domain.Inbound, error) {
	m, err := readMessage(raw)
	if err != nil {
		return domain.Inbound{}, err
	}
	when, err := at(max(int64(m.EditDate), int64(m.Date)))
	if err != nil {
		return domain.Inbound{}, err
	}
	content := m.base(domain.TypeText, when, 0)
	if err := m.fill(content); err != nil {
		return domain.Inbound{}, err
	}
	if content.Type == domain.TypeUnsupported {
		return domain.Inbound{}, nil // it is shown as that already
	}
	return domain.Inbound{Edit: &domain.InboundEdit{
		ExternalID: updateKey("edit", id, when), Peer: content.Peer, TargetExternalID: content.ExternalID,
		Content: content.Content, ProviderTime: when,
	}}, nil
}

// updateKey names an update that makes no message. Update ids begin anew after
// a week without any, so the time is part of it.
func updateKey(kind string, id int, when domain.Time) string {
	return kind + ":" + strconv.Itoa(id) + ":" + strconv.FormatInt(int64(when), 10)
}

// inbound is a tapped button under a message: to an operator, the customer said
// what stands on it.
func (c *callback) inbound() (domain.Inbound, error) {
	if c.ID == "" || len(c.ID) > maxFileID || c.From == nil || c.From.ID == 0 {
		return domain.Inbound{}, errors.New("callback_query has no id or no sender")
	}
	out := &domain.InboundMessage{
		ExternalID: "callback:" + clean(c.ID), Peer: person(c.From), Type: domain.TypeText, Content: clean(c.label()),
	}
	// A tap has no time of its own. The inbox takes the moment of its arrival.
	if m := c.Message; m != nil && m.check() == nil {
		out.Peer = peerOf(m.Chat)
		out.ReplyToExternalID = externalID(m.Chat.ID, m.MessageID)
		if out.Peer.Kind != domain.ChatDirect {
			out.Sender = person(c.From)
		}
	}
	return domain.Inbound{Message: out}, nil
}

// label is what stands on the button, or, where the message is not there any
// more, what it means to the program that made it.
func (c *callback) label() string {
	if c.Message != nil && c.Message.ReplyMarkup != nil {
		for _, row := range c.Message.ReplyMarkup.InlineKeyboard {
			for _, button := range row {
				if button.CallbackData != nil && *button.CallbackData == c.Data && button.Text != "" {
					return button.Text
				}
			}
		}
	}
	switch {
	case c.Data != "":
		return c.Data
	case c.Game != "":
		return "Game: " + c.Game
	default:
		return "(a button)"
	}
}

// Emoji for reactions that have none.
const (
	customReaction = "✨" // a picture of a sticker set
	paidReaction   = "⭐"
)

func (r *reactionUpdate) inbound(id int) (domain.Inbound, error) {
	if r.Chat == nil || r.Chat.ID == 0 || r.MessageID <= 0 {
		return domain.Inbound{}, errors.New("message_reaction has no chat or no message")
	}
	when, err := at(r.Date)
	if err != nil {
		return domain.Inbound{}, err
	}
	out := &domain.InboundReaction{
		ExternalID: updateKey("reaction", id, when), Peer: peerOf(r.Chat),
		TargetExternalID: externalID(r.Chat.ID, r.MessageID), ProviderTime: when,
	}
	if out.Peer.Kind != domain.ChatDirect {
		switch {
		case r.User != nil && r.User.ID != 0:
			out.Sender = person(r.User)
		case r.ActorChat != nil && r.ActorChat.ID != 0:
			out.Sender = peerOf(r.ActorChat)
		default:
			return domain.Inbound{}, errors.New("message_reaction has no sender")
		}
	}
	// People with Telegram Premium may put several on a message; the last one
	// they chose stands for all.
	for _, e := range r.New {
		switch {
		case e.Type == "paid":
			out.Emoji = paidReaction
		case e.Emoji == "" || len(e.Emoji) > 64:
			out.Emoji = customReaction
		default:
			out.Emoji = clean(e.Emoji)
		}
	}
	return domain.Inbound{Reaction: out}, nil
}

// convertMembership tells that the bot was blocked, added or removed.
func convertMembership(u *tgbotapi.ChatMemberUpdated) (domain.Inbound, error) {
	if u.Chat.ID == 0 {
		return domain.Inbound{}, errors.New("my_chat_member has no chat")
	}
	when, err := at(int64(u.Date))
	if err != nil {
		return domain.Inbound{}, err
	}
	content := membershipNotice(u)
	if content == "" {
		return domain.Inbound{}, nil
	}
	out := &domain.InboundMessage{
		ExternalID: fmt.Sprintf("%d:member:%d:%s", u.Chat.ID, u.Date, cut(clean(u.NewChatMember.Status), 32)),
		Peer:       peerOf(&u.Chat), Type: domain.TypeSystem, Silent: true, Content: content, ProviderTime: when,
	}
	if out.Peer.Kind != domain.ChatDirect {
		out.Sender = person(&u.From)
	}
	return domain.Inbound{Message: out}, nil
}

func membershipNotice(u *tgbotapi.ChatMemberUpdated) string {
	before, after := u.OldChatMember.Status, u.NewChatMember.Status
	outside := []string{"left", "kicked", ""}
	if u.Chat.Type == "private" {
		switch {
		case after == "kicked":
			return "The customer blocked this bot: nothing reaches them until they unblock it."
		case before == "kicked":
			return "The customer unblocked this bot."
		default:
			return ""
		}
	}
	who := fullName(u.From.FirstName, u.From.LastName, u.From.UserName)
	if who == "" {
		who = "Somebody"
	}
	switch {
	case after == "kicked" || after == "left":
		return who + " removed this bot: it can neither read nor write here any more."
	case after == "restricted" && !u.NewChatMember.CanSendMessages:
		return who + " took away this bot's right to write here."
	case after == "administrator" && before != after:
		return who + " made this bot an administrator."
	case slices.Contains(outside, before):
		return who + " added this bot."
	case before == "administrator":
		return who + " took away this bot's rights as an administrator."
	case before == "restricted":
		return who + " lets this bot write here again."
	default:
		return ""
	}
}

// quoted puts what a message quotes above it: our quotes name whole messages of
// the same chat only.
func (m *message) quoted() string {
	var lines []string
	if m.ExternalReply != nil {
		lines = append(lines, "In reply to a message of "+m.ExternalReply.who()+":")
	}
	if m.Quote != nil && m.Quote.Text != "" {
		lines = append(lines, strings.Split(clean(m.Quote.Text), "\n")...)
	}
	if len(lines) == 0 {
		return ""
	}
	return "> " + strings.Join(lines, "\n> ") + "\n"
}

func (r *externalReply) who() string {
	o := r.Origin
	name := ""
	switch {
	case o.SenderUser != nil:
		name = fullName(o.SenderUser.FirstName, o.SenderUser.LastName, o.SenderUser.UserName)
	case o.SenderUserName != "":
		name = cut(clean(o.SenderUserName), maxName)
	case o.SenderChat != nil:
		name = peerOf(o.SenderChat).Name
	case o.Chat != nil:
		name = peerOf(o.Chat).Name
	}
	if name == "" {
		return "another chat"
	}
	return name
}
