package whatsapp

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

const chatLimit = 5000 // messages of a chat; the oldest go first

// chat is what an app shows. Guarded by Server.mu.
type chat struct {
	messages []*Message
	byID     map[string]*Message
	asked    map[string]int // retry receipts of the person, by message
	to       types.JID      // by what name clients wrote to the person last
	typing   time.Time      // a client types until then
}

func (p *phone) chat(peer string) *chat {
	ch := p.chats[peer]
	if ch == nil {
		ch = &chat{byID: map[string]*Message{}, asked: map[string]int{}}
		p.chats[peer] = ch
	}
	return ch
}

func (ch *chat) find(id string) *Message { return ch.byID[id] }

func (ch *chat) add(m *Message) {
	if old := ch.byID[m.ID]; old != nil {
		return // an app shows an id once
	}
	ch.byID[m.ID] = m
	ch.messages = append(ch.messages, m)
	if len(ch.messages) > chatLimit {
		delete(ch.byID, ch.messages[0].ID)
		ch.messages = ch.messages[1:]
	}
}

// Conversation is what the app of a person, or of a group's members, shows of the chat with a phone. Peer is the person's
// number or a Group.ID.
func (s *Server) Conversation(number, peer string) ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return nil, err
	}
	if s.people[peer] == nil && s.groups[peer] == nil && s.phones[peer] == nil {
		return nil, fmt.Errorf("person or group %s: %w", peer, ErrNotFound)
	}
	out := []Message{}
	for _, m := range p.chat(peer).messages {
		out = append(out, m.copy())
	}
	return out, nil
}

func (m *Message) copy() Message {
	got := *m
	got.Reactions = maps.Clone(m.Reactions)
	got.Mentions, got.Options = slices.Clone(m.Mentions), slices.Clone(m.Options)
	if m.Media != nil {
		media := *m.Media
		got.Media = &media
	}
	return got
}

// IsTyping says whether a device of the phone shows the person, or the group, that it types.
func (s *Server) IsTyping(number, peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.phones[number]
	return p != nil && time.Now().Before(p.chat(peer).typing)
}

// showLocked puts what somebody writes into the chat.
func (s *Server) showLocked(p *phone, o *outgoing) {
	s.applyLocked(p, o.chat, &Message{ID: o.id, FromMe: o.from == p.Number, From: o.from, At: o.at.UTC(), Type: o.typ, admin: o.edit == "8"}, o.message)
}

// applyLocked shows a message's content, or changes the message that it is about.
func (s *Server) applyLocked(p *phone, peer string, m *Message, content *waE2E.Message) {
	ch := p.chat(peer)
	content = unwrap(content)
	about := ch.act(m, content)
	if about == nil {
		s.fill(m, content)
		ch.add(m)
		about = m
	}
	s.events.Publish("message", map[string]any{"number": p.Number, "peer": peer, "message": about.copy()})
}

// act does what a reaction, edit or revoke says. It is nil for other content, and for messages that are not there.
func (ch *chat) act(m *Message, content *waE2E.Message) *Message {
	if r := content.GetReactionMessage(); r != nil {
		target := ch.find(r.GetKey().GetID())
		if target == nil {
			return nil
		}
		if target.Reactions == nil {
			target.Reactions = map[string]string{}
		}
		if r.GetText() == "" {
			delete(target.Reactions, m.From)
		} else {
			target.Reactions[m.From] = r.GetText()
		}
		return target
	}
	pm := content.GetProtocolMessage()
	target := ch.find(pm.GetKey().GetID())
	if pm == nil || target == nil || target.From != m.From && !m.admin {
		return nil
	}
	switch pm.GetType() {
	case waE2E.ProtocolMessage_REVOKE:
		target.Revoked, target.Text, target.Caption = true, "", ""
	case waE2E.ProtocolMessage_MESSAGE_EDIT:
		target.Edited = true
		if target.Media != nil {
			target.Caption = captionOf(pm.GetEditedMessage())
		} else {
			target.Text = textOf(pm.GetEditedMessage())
		}
	default:
		return nil
	}
	return target
}

func textOf(m *waE2E.Message) string {
	if t := m.GetConversation(); t != "" {
		return t
	}
	return m.GetExtendedTextMessage().GetText()
}

func captionOf(m *waE2E.Message) string {
	for _, c := range []string{m.GetImageMessage().GetCaption(), m.GetVideoMessage().GetCaption(), m.GetDocumentMessage().GetCaption()} {
		if c != "" {
			return c
		}
	}
	return textOf(m)
}

// unwrap takes a message out of what it comes in.
func unwrap(m *waE2E.Message) *waE2E.Message {
	for range 4 {
		switch {
		case m.GetDeviceSentMessage().GetMessage() != nil:
			m = m.GetDeviceSentMessage().GetMessage()
		case m.GetEphemeralMessage().GetMessage() != nil:
			m = m.GetEphemeralMessage().GetMessage()
		case m.GetViewOnceMessage().GetMessage() != nil:
			m = m.GetViewOnceMessage().GetMessage()
		case m.GetViewOnceMessageV2().GetMessage() != nil:
			m = m.GetViewOnceMessageV2().GetMessage()
		case m.GetDocumentWithCaptionMessage().GetMessage() != nil:
			m = m.GetDocumentWithCaptionMessage().GetMessage()
		case m.GetEditedMessage().GetMessage() != nil:
			m = m.GetEditedMessage().GetMessage()
		default:
			return m
		}
	}
	return m
}

// fill sets what a message shows. The type is set if it is not known yet.
func (s *Server) fill(m *Message, c *waE2E.Message) {
	typ, info := TypeUnknown, (*waE2E.ContextInfo)(nil)
	switch {
	case c.Conversation != nil || c.ExtendedTextMessage != nil:
		typ, m.Text, info = TypeText, textOf(c), c.GetExtendedTextMessage().GetContextInfo()
	case c.LocationMessage != nil:
		typ, info = TypeLocation, c.LocationMessage.GetContextInfo()
		m.Latitude, m.Longitude, m.Text = c.LocationMessage.GetDegreesLatitude(), c.LocationMessage.GetDegreesLongitude(), c.LocationMessage.GetName()
	case c.LiveLocationMessage != nil:
		typ, m.Latitude, m.Longitude = TypeLiveLocation, c.LiveLocationMessage.GetDegreesLatitude(), c.LiveLocationMessage.GetDegreesLongitude()
	case c.ContactMessage != nil:
		typ, m.Contact, info = TypeContact, c.ContactMessage.GetDisplayName(), c.ContactMessage.GetContextInfo()
	case c.ReactionMessage != nil:
		typ, m.Text = TypeReaction, c.ReactionMessage.GetText()
	case c.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT && c.ProtocolMessage != nil:
		typ, m.Text = TypeEdit, textOf(c.ProtocolMessage.GetEditedMessage())
	case c.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_EPHEMERAL_SETTING:
		typ, m.ExpireSeconds = TypeTimer, c.ProtocolMessage.GetEphemeralExpiration()
	case c.ProtocolMessage != nil:
		typ = TypeRevoke
	default:
		if poll := pollOf(c); poll != nil {
			typ, m.Text, info = TypePoll, poll.GetName(), poll.GetContextInfo()
			for _, option := range poll.GetOptions() {
				m.Options = append(m.Options, option.GetOptionName())
			}
		} else if media, kind, context := mediaOf(c); media != nil {
			typ, info, m.Media, m.Caption = kind, context, s.mediaView(media, kind), captionOf(c)
		}
	}
	if m.Type == "" {
		m.Type = typ
	}
	m.Quote = info.GetStanzaID()
	for _, jid := range info.GetMentionedJID() {
		if parsed, err := types.ParseJID(jid); err == nil {
			m.Mentions = append(m.Mentions, s.numberOf(parsed))
		}
	}
}

func pollOf(c *waE2E.Message) *waE2E.PollCreationMessage {
	for _, p := range []*waE2E.PollCreationMessage{c.GetPollCreationMessage(), c.GetPollCreationMessageV2(), c.GetPollCreationMessageV3()} {
		if p != nil {
			return p
		}
	}
	return nil
}

// downloadable is a message with a file.
type downloadable interface {
	whatsmeow.DownloadableMessage
	GetMimetype() string
	GetFileLength() uint64
}

func mediaOf(c *waE2E.Message) (downloadable, string, *waE2E.ContextInfo) {
	switch {
	case c.ImageMessage != nil:
		return c.ImageMessage, TypeImage, c.ImageMessage.GetContextInfo()
	case c.VideoMessage != nil:
		return c.VideoMessage, TypeVideo, c.VideoMessage.GetContextInfo()
	case c.AudioMessage != nil && c.AudioMessage.GetPTT():
		return c.AudioMessage, TypeVoice, c.AudioMessage.GetContextInfo()
	case c.AudioMessage != nil:
		return c.AudioMessage, TypeAudio, c.AudioMessage.GetContextInfo()
	case c.DocumentMessage != nil:
		return c.DocumentMessage, TypeDocument, c.DocumentMessage.GetContextInfo()
	case c.StickerMessage != nil:
		return c.StickerMessage, TypeSticker, c.StickerMessage.GetContextInfo()
	}
	return nil, "", nil
}

func (s *Server) mediaView(d downloadable, kind string) *Media {
	name := ""
	if doc, ok := d.(*waE2E.DocumentMessage); ok {
		name = doc.GetFileName()
	}
	id := s.media.remember(mediaKey{d.GetDirectPath(), d.GetMimetype(), name, d.GetMediaKey(), d.GetFileSHA256(), mediaKind(kind)})
	m := &Media{File: id, MIME: d.GetMimetype(), Filename: name, Size: int(d.GetFileLength()), SHA256: hex.EncodeToString(d.GetFileSHA256())} // #nosec G115 -- a file's size
	if _, ok := s.media.get(d.GetDirectPath()); !ok {
		m.Error = "the media host does not have it"
	}
	return m
}
