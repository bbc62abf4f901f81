package telegram

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// Telegram's limits of text, in characters.
const (
	maxText    = 4096
	maxCaption = 1024
)

// outgoing is a call that sends a message.
type outgoing struct {
	method string
	params tgbotapi.Params
	file   *outFile // nil: no file
}

// Send hands one message to Telegram. See the package comment for what its
// errors tell.
func (s *Session) Send(ctx context.Context, m domain.Outbound) (channel.Sent, error) {
	chat, err := parseAddress(m.Peer)
	if err != nil {
		return channel.Sent{}, refusal(codeChatAbsent, "The chat's address is no Telegram chat.")
	}
	out, err := s.compose(m.Message)
	if err != nil {
		return channel.Sent{}, err
	}
	out.params["chat_id"] = address(chat)
	if quoted, id, ok := parseExternalID(m.ReplyToExternalID); ok && quoted == chat {
		out.params["reply_parameters"] = fmt.Sprintf(`{"message_id":%d,"allow_sending_without_reply":true}`, id)
	}
	sent, err := s.post(ctx, out)
	if err != nil {
		return channel.Sent{}, s.failed(ctx, place{m.Message.ChatID, m.Peer, chat}, err, false)
	}
	s.pace.Accepted(time.Now(), m.Message.ChatID)
	when, err := at(sent.Date)
	if err != nil {
		when = 0 // not told
	}
	return channel.Sent{ExternalID: externalID(sent.Chat.ID, sent.MessageID), At: when}, nil
}

// place is a chat: our id of it, its address, and Telegram's number.
type place struct {
	chatID int64
	peer   string
	number int64
}

// accepted is the answer to a message.
type accepted struct {
	MessageID int   `json:"message_id"`
	Date      int64 `json:"date"`
	Chat      struct {
		ID int64 `json:"id"`
	} `json:"chat"`
}

func (s *Session) post(ctx context.Context, out outgoing) (accepted, error) {
	var sent accepted
	var err error
	if out.file == nil {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err = s.client.decode(ctx, &sent, out.method, out.params)
	} else {
		err = s.upload(ctx, out, &sent)
	}
	if err == nil && (sent.MessageID <= 0 || sent.Chat.ID == 0) {
		err = &transportError{written: true, cause: errors.New("the answer has no message id")}
	}
	return sent, err
}

// failed turns an error into an outcome, and acts on what it tells of the bot
// or the chat.
func (s *Session) failed(ctx context.Context, in place, err error, harmless bool) error {
	var ours *channel.SendError
	if errors.As(err, &ours) { // of the file, before anything left
		return ours
	}
	e := outcome(err, harmless)
	switch e.Code {
	case codeTokenRevoked:
		s.doubt()
	case codeFlood:
		s.limited(in.chatID, in.peer, e)
	case codeMoved:
		var said *apiError
		if errors.As(err, &said) {
			s.follow(ctx, in.number, said.migrateTo)
		}
	}
	return e
}

// follow lets a group's chat go on under its new address, of which an answer
// told before the update did.
func (s *Session) follow(ctx context.Context, from, to int64) {
	if err := s.host.Receive(ctx, []domain.Inbound{{Message: moved(from, to, "")}}); err != nil && ctx.Err() == nil {
		s.logger.WarnContext(ctx, "a group's new address could not be stored", slog.Any("error", err))
	}
}

// compose chooses the method and its parameters.
func (s *Session) compose(m domain.Message) (outgoing, error) {
	out := outgoing{params: tgbotapi.Params{}}
	switch m.Type {
	case domain.TypeText:
		if err := checkLength("A message", m.Content, maxText); err != nil {
			return out, err
		}
		out.method, out.params["text"] = "sendMessage", m.Content
		return out, nil
	case domain.TypeLocation:
		return out, out.locate(m)
	case domain.TypeImage, domain.TypeVideo, domain.TypeAudio, domain.TypeVoice, domain.TypeDocument, domain.TypeSticker:
		return out, out.attach(m)
	case domain.TypeTemplate:
		return out, refusal(codeUnsupported, "Telegram has no templates. Send the text itself.")
	case domain.TypeContact, domain.TypeSystem, domain.TypeUnsupported:
	}
	return out, refusal(codeUnsupported, fmt.Sprintf("A message of type %q cannot be sent by a Telegram bot.", m.Type))
}

func checkLength(what, text string, limit int) error {
	switch {
	case limit == maxText && strings.TrimSpace(text) == "":
		return refusal(codeUnsupported, "A message without text cannot be sent.")
	case utf8.RuneCountInString(text) > limit:
		return refusal(codeTooLong, fmt.Sprintf("%s may have at most %d characters on Telegram. Send it in parts.", what, limit))
	}
	return nil
}

// locate sends a place with a name or address as a venue, which wants both.
func (o *outgoing) locate(m domain.Message) error {
	if m.Location == nil {
		return refusal(codeUnsupported, "The message has no location to send.")
	}
	l := m.Location
	o.method = "sendLocation"
	o.params["latitude"] = strconv.FormatFloat(l.Latitude, 'f', -1, 64)
	o.params["longitude"] = strconv.FormatFloat(l.Longitude, 'f', -1, 64)
	if l.Name != "" || l.Address != "" {
		o.method = "sendVenue"
		o.params["title"], o.params["address"] = orElse(l.Name, l.Address), orElse(l.Address, l.Name)
	}
	return nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Do carries out a command: reactions, edits and revocations. Telegram does not
// tell customers that a bot has read something, so reading is nothing to do.
func (s *Session) Do(ctx context.Context, c domain.Command) error {
	if c.Kind == domain.CommandRead {
		return nil
	}
	chat, err := parseAddress(c.Peer)
	if err != nil {
		return refusal(codeChatAbsent, "The chat's address is no Telegram chat.")
	}
	in, id, ok := parseExternalID(c.TargetExternalID)
	switch {
	case !ok:
		return refusal(codeUnsupported, "This line is not a message at Telegram, so nothing can be done with it there.")
	case in != chat:
		return refusal(codeGone, "The message is from before the group became a supergroup; Telegram does not let it be changed any more.")
	}
	params := tgbotapi.Params{"chat_id": address(chat), "message_id": strconv.Itoa(id)}
	switch c.Kind {
	case domain.CommandReaction:
		params["reaction"] = reactionOf(c.Value)
		err = s.act(ctx, "setMessageReaction", params)
	case domain.CommandEdit:
		err = s.edit(ctx, params, c.Value)
	case domain.CommandRevoke:
		err = s.act(ctx, "deleteMessage", params)
		if said := new(apiError); errors.As(err, &said) && said.has("message to delete not found") {
			err = nil // it is gone
		}
	default:
		return refusal(codeUnsupported, fmt.Sprintf("A Telegram bot has no action %q.", c.Kind))
	}
	if err != nil {
		return s.failed(ctx, place{c.ChatID, c.Peer, chat}, err, true)
	}
	s.pace.Accepted(time.Now(), c.ChatID)
	return nil
}

// edit replaces a text, or the caption of what turns out to have none.
func (s *Session) edit(ctx context.Context, params tgbotapi.Params, text string) error {
	if err := checkLength("A message", text, maxText); err != nil {
		return err
	}
	params["text"] = text
	err := s.act(ctx, "editMessageText", params)
	said := new(apiError)
	if errors.As(err, &said) && said.has("no text in the message") {
		if err := checkLength("The text under a file", text, maxCaption); err != nil {
			return err
		}
		delete(params, "text")
		params["caption"] = text
		err = s.act(ctx, "editMessageCaption", params)
	}
	if errors.As(err, &said) && said.has("message is not modified") {
		return nil // it was done already
	}
	return err
}

// act calls a method that may be repeated.
func (s *Session) act(ctx context.Context, method string, params tgbotapi.Params) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.client.call(ctx, method, params)
	return err
}

// reactionOf is the one reaction that a bot may put on a message, or none.
// Telegram's own list of emoji has no variation selectors.
func reactionOf(emoji string) string {
	if emoji == "" {
		return "[]"
	}
	return mustJSON([]reactionEmoji{{Type: "emoji", Emoji: strings.ReplaceAll(emoji, "\uFE0F", "")}})
}

// Typing shows the customer for five seconds that somebody writes. There is no
// way to end it early.
func (s *Session) Typing(ctx context.Context, peer, _ string, on bool) error {
	if !on {
		return nil
	}
	chat, err := parseAddress(peer)
	if err != nil {
		return err
	}
	_, err = s.client.call(ctx, "sendChatAction", tgbotapi.Params{"chat_id": address(chat), "action": "typing"})
	if err != nil {
		return outcome(err, true)
	}
	return nil
}
