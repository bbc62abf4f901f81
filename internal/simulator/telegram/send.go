package telegram

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"
)

// Telegram's limits on content.
const (
	maxText         = 4096 // characters
	maxCaption      = 1024
	maxCallbackData = 64 // bytes
)

// draft makes the content of a message; the chat is known and may be written in, and Server.mu is held.
type draft func(m *Message) *apiError

// send makes messages of the drafts in the chat that the call names. All that can be wrong is checked before any is made.
func (s *Server) send(c *call, drafts ...draft) ([]*kept, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendLocked(c, drafts...)
}

// sendLocked needs s.mu.
func (s *Server) sendLocked(c *call, drafts ...draft) ([]*kept, *apiError) {
	ch, e := s.resolve(c, "chat_id")
	if e == nil {
		e = s.writable(c.bot, ch)
	}
	if e != nil {
		return nil, e
	}
	base := Message{MessageThreadID: c.args.number("message_thread_id", 0, 0, 1<<53), HasProtected: c.args.flag("protect_content")}
	base.IsTopicMessage = base.MessageThreadID != 0
	from := c.bot.user()
	if ch.Type == ChatChannel {
		sender := ch.Chat
		base.SenderChat = &sender
	} else {
		base.From = &from
	}
	if e := s.setReply(c, ch, &base); e != nil {
		return nil, e
	}
	if e := setMarkup(c, &base); e != nil {
		return nil, e
	}
	messages := make([]*Message, 0, len(drafts))
	for _, d := range drafts {
		m := base
		if e := d(&m); e != nil {
			return nil, e
		}
		messages = append(messages, &m)
	}
	if wait := s.allow(c.bot, ch, len(messages)); wait > 0 {
		return nil, errTooMany(wait)
	}
	out := make([]*kept, 0, len(messages))
	for _, m := range messages {
		k := s.keep(ch, m, c.bot.ID)
		c.made = append(c.made, m.MessageID)
		out = append(out, k)
	}
	return out, nil
}

// sendOne answers with the message.
func (s *Server) sendOne(c *call, d draft) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, e := s.sendLocked(c, d)
	if e != nil {
		return nil, e
	}
	return sent[0].forBot(c.bot.ID), nil
}

// replyParameters is the parameter of this name.
type replyParameters struct {
	MessageID                int64           `json:"message_id"`
	ChatID                   json.RawMessage `json:"chat_id"`
	AllowSendingWithoutReply bool            `json:"allow_sending_without_reply"`
	Quote                    string          `json:"quote"`
	QuotePosition            int             `json:"quote_position"`
}

// setReply sets what the message answers; it needs s.mu.
func (s *Server) setReply(c *call, ch *chat, m *Message) *apiError {
	p := replyParameters{
		MessageID:                c.args.number("reply_to_message_id", 0, 0, 1<<53),
		AllowSendingWithoutReply: c.args.flag("allow_sending_without_reply"),
	}
	if e := c.args.object("reply_parameters", &p); e != nil {
		return e
	}
	if p.MessageID == 0 {
		return nil
	}
	k := ch.byID[p.MessageID]
	if k == nil || k.deleted {
		if p.AllowSendingWithoutReply {
			return nil
		}
		return errBadRequest("message to be replied not found")
	}
	m.ReplyToMessage = snapshot(k.Message)
	if p.Quote != "" {
		at := strings.Index(k.Text+k.Caption, p.Quote)
		if at < 0 {
			return errBadRequest("QUOTE_TEXT_INVALID")
		}
		m.Quote = &Quote{Text: p.Quote, Position: utf16Len((k.Text + k.Caption)[:at]), IsManual: true}
	}
	return nil
}

// snapshot is a copy of a message to embed in another.
func snapshot(m *Message) *Message {
	c := *m
	c.ReplyToMessage, c.PinnedMessage, c.Quote = nil, nil, nil
	return &c
}

// setMarkup checks a keyboard; only inline keyboards stay with the message.
func setMarkup(c *call, m *Message) *apiError {
	raw := c.args.str("reply_markup")
	if raw == "" || raw == "null" {
		return nil
	}
	var markup struct {
		Inline [][]map[string]any `json:"inline_keyboard"`
		Keys   [][]any            `json:"keyboard"`
	}
	if json.Unmarshal([]byte(raw), &markup) != nil {
		return errBadRequest("can't parse reply keyboard markup JSON object")
	}
	for _, row := range markup.Inline {
		for _, b := range row {
			if e := checkButton(b); e != nil {
				return e
			}
		}
	}
	for _, row := range markup.Keys {
		if len(row) == 0 {
			return errBadRequest("object expected as reply markup")
		}
	}
	if markup.Inline != nil {
		m.ReplyMarkup = json.RawMessage(raw)
	}
	return nil
}

func checkButton(b map[string]any) *apiError {
	text, _ := b["text"].(string)
	if strings.TrimSpace(text) == "" {
		return errBadRequest("can't parse inline keyboard button: Field \"text\" must be of type String")
	}
	data, has := b["callback_data"].(string)
	switch {
	case len(b) < 2:
		return errBadRequest("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
	case has && (data == "" || len(data) > maxCallbackData):
		return errBadRequest("BUTTON_DATA_INVALID")
	}
	return nil
}

// formatted reads a text with its parse_mode or entities.
func (c *call) formatted(field, entities string, longest int) (string, []Entity, *apiError) {
	text := c.args.str(field)
	var marks []Entity
	if mode := c.args.str("parse_mode"); mode != "" {
		var err error
		if text, marks, err = parseText(text, mode); err != nil {
			return "", nil, errBadRequest("%s", err.Error())
		}
	} else if e := c.args.object(entities, &marks); e != nil {
		return "", nil, e
	}
	if !utf8.ValidString(text) {
		return "", nil, errBadRequest("strings must be encoded in UTF-8")
	}
	text, marks = trim(text, marks)
	if utf8.RuneCountInString(text) > longest {
		if field == "caption" {
			return "", nil, errBadRequest("message caption is too long")
		}
		return "", nil, errBadRequest("message is too long")
	}
	return text, detect(text, marks), nil
}

func (s *Server) sendMessage(c *call) (any, *apiError) {
	return s.sendOne(c, c.textDraft())
}

func (c *call) textDraft() draft {
	return func(m *Message) (e *apiError) {
		if m.Text, m.Entities, e = c.formatted("text", "entities", maxText); e != nil {
			return e
		}
		if m.Text == "" {
			return errBadRequest("message text is empty")
		}
		if raw := c.args.str("link_preview_options"); raw != "" {
			var options map[string]any
			if e := c.args.object("link_preview_options", &options); e != nil {
				return e
			}
			m.LinkPreviewOptions = json.RawMessage(raw)
		} else if c.args.flag("disable_web_page_preview") {
			m.LinkPreviewOptions = json.RawMessage(`{"is_disabled":true}`)
		}
		return nil
	}
}

func (c *call) location() (*Location, *apiError) {
	if c.args.str("latitude") == "" || c.args.str("longitude") == "" {
		return nil, errBadRequest("latitude and longitude must be specified")
	}
	l := &Location{
		Latitude: c.args.float("latitude"), Longitude: c.args.float("longitude"),
		HorizontalAccuracy: c.args.float("horizontal_accuracy"),
		LivePeriod:         int(c.args.number("live_period", 0, 0, maxUpdateID)), Heading: int(c.args.number("heading", 0, 0, 360)),
	}
	if l.Latitude < -90 || l.Latitude > 90 || l.Longitude < -180 || l.Longitude > 180 {
		return nil, errBadRequest("wrong location specified")
	}
	return l, nil
}

func (s *Server) sendLocation(c *call) (any, *apiError) {
	return s.sendOne(c, func(m *Message) (e *apiError) {
		m.Location, e = c.location()
		return e
	})
}

func (s *Server) sendVenue(c *call) (any, *apiError) {
	return s.sendOne(c, func(m *Message) *apiError {
		l, e := c.location()
		if e != nil {
			return e
		}
		v := &Venue{Location: *l, Title: c.args.str("title"), Address: c.args.str("address"), FoursquareID: c.args.str("foursquare_id")}
		if v.Title == "" || v.Address == "" {
			return errBadRequest("title and address must be specified")
		}
		m.Venue, m.Location = v, l
		return nil
	})
}

func (s *Server) sendContact(c *call) (any, *apiError) {
	return s.sendOne(c, func(m *Message) *apiError {
		m.Contact = &Contact{
			PhoneNumber: c.args.str("phone_number"), FirstName: c.args.str("first_name"), LastName: c.args.str("last_name"),
			VCard: c.args.str("vcard"),
		}
		if m.Contact.PhoneNumber == "" || m.Contact.FirstName == "" {
			return errBadRequest("phone_number and first_name must be specified")
		}
		return nil
	})
}

func (s *Server) sendPoll(c *call) (any, *apiError) {
	return s.sendOne(c, func(m *Message) *apiError {
		p := &Poll{
			Question: c.args.str("question"), Type: "regular", IsAnonymous: c.args.str("is_anonymous") == "" || c.args.flag("is_anonymous"),
			AllowsMultipleAnswers: c.args.flag("allows_multiple_answers"), Explanation: c.args.str("explanation"),
			IsClosed: c.args.flag("is_closed"),
		}
		if c.args.str("type") == "quiz" {
			right := int(c.args.number("correct_option_id", 0, 0, 11))
			p.Type, p.CorrectOptionID = "quiz", &right
		}
		var options []json.RawMessage
		if e := c.args.object("options", &options); e != nil {
			return e
		}
		for _, raw := range options {
			var o PollOption
			if json.Unmarshal(raw, &o.Text) != nil && json.Unmarshal(raw, &o) != nil {
				return errBadRequest("can't parse options JSON object")
			}
			o.VoterCount = 0
			p.Options = append(p.Options, o)
		}
		if e := p.check(); e != nil {
			return e
		}
		p.ID = fmt.Sprint(s.nextID())
		m.Poll = p
		return nil
	})
}

func (p *Poll) check() *apiError {
	switch {
	case p.Question == "":
		return errBadRequest("poll question must be non-empty")
	case utf8.RuneCountInString(p.Question) > 300:
		return errBadRequest("poll question length must not exceed 300")
	case len(p.Options) < 2:
		return errBadRequest("poll must have at least 2 option")
	case len(p.Options) > 12:
		return errBadRequest("poll can't have more than 12 options")
	case slices.ContainsFunc(p.Options, func(o PollOption) bool { return o.Text == "" || utf8.RuneCountInString(o.Text) > 100 }):
		return errBadRequest("poll options length must not exceed 100")
	}
	return nil
}

// diceValues are how many values each animated emoji has.
var diceValues = map[string]int{"🎲": 6, "🎯": 6, "🎳": 6, "🏀": 5, "⚽": 5, "🎰": 64}

func (s *Server) sendDice(c *call) (any, *apiError) {
	return s.sendOne(c, func(m *Message) *apiError {
		emoji := c.args.str("emoji")
		if emoji == "" {
			emoji = "🎲"
		}
		values, ok := diceValues[emoji]
		if !ok {
			return errBadRequest("wrong dice emoji specified")
		}
		m.Dice = &Dice{emoji, 1 + rand.IntN(values)} // #nosec G404 -- a die
		return nil
	})
}

// source finds the message that the call forwards or copies; it needs s.mu.
func (s *Server) source(c *call, missing string) (*kept, *apiError) {
	to := c.chatID
	from, e := s.resolve(c, "from_chat_id")
	c.chatID = to
	if e != nil {
		return nil, e
	}
	k, e := s.target(c, from, "message_id", missing)
	if e == nil && (k.service() || k.HasProtected) {
		return nil, errBadRequest("the message can't be forwarded")
	}
	return k, e
}

func (s *Server) forwardMessage(c *call) (any, *apiError) {
	return s.sendOne(c, func(m *Message) *apiError {
		k, e := s.source(c, "message to forward not found")
		if e != nil {
			return e
		}
		copyContent(m, k.Message)
		m.ForwardOrigin = k.ForwardOrigin
		switch {
		case m.ForwardOrigin != nil:
		case k.Chat.Type == ChatChannel:
			from := k.Chat
			m.ForwardOrigin = &ForwardOrigin{Type: "channel", Date: k.Date, Chat: &from, MessageID: k.MessageID}
		default:
			m.ForwardOrigin = &ForwardOrigin{Type: "user", Date: k.Date, SenderUser: k.From}
		}
		return nil
	})
}

func (s *Server) copyMessage(c *call) (any, *apiError) {
	sent, e := s.send(c, func(m *Message) *apiError {
		k, e := s.source(c, "message to copy not found")
		if e != nil {
			return e
		}
		markup := m.ReplyMarkup
		copyContent(m, k.Message)
		m.ReplyMarkup = markup
		if _, ok := c.args.values["caption"]; ok && k.hasCaption() {
			m.Caption, m.CaptionEntities, e = c.formatted("caption", "caption_entities", maxCaption)
		}
		return e
	})
	if e != nil {
		return nil, e
	}
	return map[string]int64{"message_id": sent[0].MessageID}, nil
}

// copyContent copies what a message says, not who said it where.
func copyContent(to, from *Message) {
	c := *from
	c.MessageID, c.MessageThreadID, c.IsTopicMessage, c.From, c.SenderChat, c.Date, c.EditDate = 0, to.MessageThreadID, to.IsTopicMessage, to.From, to.SenderChat, 0, 0
	c.ReplyToMessage, c.Quote, c.ForwardOrigin, c.MediaGroupID = to.ReplyToMessage, to.Quote, nil, ""
	c.ExternalReply = nil
	*to = c
}

func (s *Server) sendChatAction(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e == nil {
		e = s.writable(c.bot, ch)
	}
	if e != nil {
		return nil, e
	}
	action := c.args.str("action")
	if !slices.Contains(chatActions, action) {
		return nil, errBadRequest("wrong parameter action in request")
	}
	ch.action, ch.actionUntil = action, s.opts.Now().Add(actionLength)
	s.events.Publish("action", chatAction{Bot: c.bot.ID, ChatID: ch.ID, Action: action, ForMS: actionLength.Milliseconds()})
	return true, nil
}

type chatAction struct {
	Bot    int64  `json:"bot"`
	ChatID int64  `json:"chatId"`
	Action string `json:"action"`
	ForMS  int64  `json:"forMs"`
}

var chatActions = []string{
	"typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "record_audio", "upload_audio",
	"upload_document", "choose_sticker", "find_location", "record_video_note", "upload_video_note", "cancel",
}
