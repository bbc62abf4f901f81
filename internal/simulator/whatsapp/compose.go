package whatsapp

import (
	"encoding/hex"
	"fmt"
	"strings"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// messageID makes an id as phones do.
func messageID() string { return "3A" + strings.ToUpper(hex.EncodeToString(random(9))) }

// Send lets a person, or the phone itself, write. Every linked device gets it, now or when it comes back; Delivery.Devices
// are those. Without linked devices the message is in the conversation only.
func (s *Server) Send(number string, in Incoming) (Delivery, error) {
	if in.Type == "" {
		in.Type = TypeText
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Delivery{}, ErrClosed
	}
	p, o, err := s.outgoingLocked(number, &in)
	if err != nil {
		return Delivery{}, err
	}
	if err := s.compose(p, &in, o); err != nil {
		return Delivery{}, err
	}
	if !o.garbled && s.faults.take(FaultGarble, number, o.chat) != nil {
		o.garbled, o.answered = true, true
	}
	s.showLocked(p, o)
	if in.Sealed {
		if err := s.sealLocked(p, o); err != nil {
			return Delivery{}, err
		}
	}
	if o.group != nil {
		return s.sendGroupLocked(p, o)
	}
	devices, err := s.postLocked(p, o)
	return Delivery{ID: o.id, Devices: devices}, err
}

// sendGroupLocked lets all phones of the group have it; the answer is about the one that was asked for.
func (s *Server) sendGroupLocked(p *phone, o *outgoing) (Delivery, error) {
	for _, member := range o.group.Members {
		other := s.phones[member]
		if other == nil || other == p {
			continue
		}
		theirs := *o
		theirs.fromMe = false
		s.showLocked(other, &theirs)
		if _, err := s.postLocked(other, &theirs); err != nil {
			return Delivery{}, err
		}
	}
	devices, err := s.postLocked(p, o)
	return Delivery{ID: o.id, Devices: devices}, err
}

// outgoingLocked finds who writes where.
func (s *Server) outgoingLocked(number string, in *Incoming) (*phone, *outgoing, error) {
	p, err := s.findPhone(number)
	if err != nil {
		return nil, nil, err
	}
	o := &outgoing{id: in.ID, typ: in.Type, from: in.From, chat: in.From, fromMe: in.FromMe, at: in.At, stanzaType: "text"}
	if o.id == "" {
		o.id = messageID()
	}
	if o.at.IsZero() {
		o.at = s.opts.Now()
	}
	if in.Group != "" {
		if o.group = s.groups[in.Group]; o.group == nil {
			return nil, nil, fmt.Errorf("group %s: %w", in.Group, ErrNotFound)
		}
		o.chat = in.Group
	}
	if in.FromMe {
		o.from, o.actor, o.name = number, p.actor, p.Name
	}
	if !in.FromMe || in.Group == "" {
		who := s.people[in.From]
		if who == nil || who.NotOnWhatsApp {
			return nil, nil, fmt.Errorf("person %s: %w", in.From, ErrNotFound)
		}
		if !in.FromMe {
			o.actor, o.name = who.actor, who.Name
		}
	}
	if o.group != nil && !contains(o.group.Members, o.from) {
		return nil, nil, fmt.Errorf("%w sender %s: not a member of the group", ErrInvalid, o.from)
	}
	return p, o, nil
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// compose makes the content.
func (s *Server) compose(p *phone, in *Incoming, o *outgoing) error {
	m, err := s.body(p, in, o)
	if err != nil {
		return err
	}
	if in.FromMe && o.group == nil {
		peer, _ := s.names(o.chat, s.modeOf(p, o.chat))
		m = &waE2E.Message{DeviceSentMessage: &waE2E.DeviceSentMessage{DestinationJID: proto.String(peer.String()), Message: m}}
	}
	o.message = m
	return nil
}

func (s *Server) body(p *phone, in *Incoming, o *outgoing) (*waE2E.Message, error) {
	info := s.contextOf(p, in, o)
	switch in.Type {
	case TypeText, TypeUndecryptable, TypeMalformed, TypeUnavailable:
		o.garbled, o.answered = in.Type == TypeUndecryptable, in.RetryAnswered || in.Type == TypeUnavailable
		o.bare, o.absent = in.Type == TypeMalformed, in.Type == TypeUnavailable
		m := textBody(in.Text, info)
		if in.Secret {
			m.MessageContextInfo = &waE2E.MessageContextInfo{MessageSecret: secretOf(o.id)}
		}
		return m, nil
	case TypeImage, TypeVideo, TypeAudio, TypeVoice, TypeDocument, TypeSticker, TypeViewOnce:
		o.stanzaType = "media"
		return s.mediaBody(in, o, info)
	case TypeLocation, TypeLiveLocation, TypeContact, TypePoll:
		return plainBody(in, o, info)
	case TypeReaction, TypeEdit, TypeRevoke:
		return s.actionBody(p, in, o)
	case TypeEphemeral:
		if info == nil {
			info = &waE2E.ContextInfo{}
		}
		info.Expiration = proto.Uint32(86400)
		return &waE2E.Message{EphemeralMessage: &waE2E.FutureProofMessage{Message: textBody(in.Text, info)}}, nil
	case TypeTimer:
		if o.group != nil {
			return nil, fmt.Errorf("%w timer: a group has no such message", ErrInvalid)
		}
		return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(), EphemeralExpiration: &in.ExpireSeconds,
			EphemeralSettingTimestamp: proto.Int64(o.at.Unix()),
		}}, nil
	case TypeUnknown:
		m := &waE2E.Message{}
		if in.Text != "" {
			m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 9999, protowire.BytesType), in.Text))
		}
		return m, nil
	}
	return nil, fmt.Errorf("%w type %q", ErrInvalid, in.Type)
}

func textBody(text string, info *waE2E.ContextInfo) *waE2E.Message {
	if info == nil {
		return &waE2E.Message{Conversation: proto.String(text)}
	}
	return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String(text), ContextInfo: info}}
}

// contextOf is nil for a message that neither quotes nor mentions.
func (s *Server) contextOf(p *phone, in *Incoming, o *outgoing) *waE2E.ContextInfo {
	if in.Quote == "" && len(in.Mentions) == 0 {
		return nil
	}
	mode := s.modeIn(p, o)
	info := &waE2E.ContextInfo{}
	if in.Quote != "" {
		info.StanzaID = proto.String(in.Quote)
		info.QuotedMessage = &waE2E.Message{Conversation: proto.String("")}
		if quoted := p.chat(o.chat).find(in.Quote); quoted != nil {
			author, _ := s.names(quoted.From, mode)
			info.Participant = proto.String(author.String())
			info.QuotedMessage.Conversation = proto.String(quoted.Text)
		}
	}
	for _, number := range in.Mentions {
		if _, _, ok := s.memberLocked(number); ok {
			name, _ := s.names(number, mode)
			info.MentionedJID = append(info.MentionedJID, name.String())
		}
	}
	return info
}

// modeIn is the addressing mode of the chat in which a message is.
func (s *Server) modeIn(p *phone, o *outgoing) string {
	if o.group != nil {
		return o.group.AddressingMode
	}
	return s.modeOf(p, o.chat)
}

func plainBody(in *Incoming, o *outgoing, info *waE2E.ContextInfo) (*waE2E.Message, error) {
	switch in.Type {
	case TypeLocation:
		return &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
			DegreesLatitude: &in.Latitude, DegreesLongitude: &in.Longitude, Name: optionalString(in.PlaceName), ContextInfo: info,
		}}, nil
	case TypeLiveLocation:
		return &waE2E.Message{LiveLocationMessage: &waE2E.LiveLocationMessage{
			DegreesLatitude: &in.Latitude, DegreesLongitude: &in.Longitude, Caption: optionalString(in.Caption), ContextInfo: info,
			SequenceNumber: proto.Int64(1),
		}}, nil
	case TypeContact:
		if in.ContactName == "" {
			return nil, fmt.Errorf("%w contact: contactName is empty", ErrInvalid)
		}
		o.stanzaType, o.mediaType = "media", "vcard"
		card := fmt.Sprintf("BEGIN:VCARD\nVERSION:3.0\nN:;%s;;;\nFN:%s\nTEL;type=CELL;waid=%s:+%s\nEND:VCARD", in.ContactName, in.ContactName, in.ContactNumber, in.ContactNumber)
		return &waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: &in.ContactName, Vcard: &card, ContextInfo: info}}, nil
	}
	if len(in.Options) == 0 {
		return nil, fmt.Errorf("%w poll: options are empty", ErrInvalid)
	}
	o.stanzaType = "poll"
	poll := &waE2E.PollCreationMessage{Name: &in.Text, SelectableOptionsCount: proto.Uint32(1), ContextInfo: info}
	for _, option := range in.Options {
		poll.Options = append(poll.Options, &waE2E.PollCreationMessage_Option{OptionName: proto.String(option)})
	}
	return &waE2E.Message{
		PollCreationMessageV3: poll, MessageContextInfo: &waE2E.MessageContextInfo{MessageSecret: random(32)},
	}, nil
}

func optionalString(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// actionBody is about another message, which its key names as the writer sees it.
func (s *Server) actionBody(p *phone, in *Incoming, o *outgoing) (*waE2E.Message, error) {
	if in.Target == "" {
		return nil, fmt.Errorf("%w %s: target is empty", ErrInvalid, in.Type)
	}
	key := s.keyFor(p, in.Target, o)
	switch in.Type {
	case TypeReaction:
		o.stanzaType = "reaction"
		return &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{
			Key: key, Text: &in.Emoji, SenderTimestampMS: proto.Int64(o.at.UnixMilli()),
		}}, nil
	case TypeEdit:
		o.edit = "1"
		return &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Key: key, Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), EditedMessage: s.editedBody(p, in, o),
			TimestampMS: proto.Int64(o.at.UnixMilli()),
		}}}}, nil
	}
	if o.edit = "7"; in.Admin && o.group != nil {
		o.edit = "8"
	}
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Key: key, Type: waE2E.ProtocolMessage_REVOKE.Enum()}}, nil
}

// editedBody is the new content: a caption stays one.
func (s *Server) editedBody(p *phone, in *Incoming, o *outgoing) *waE2E.Message {
	if target := p.chat(o.chat).find(in.Target); target != nil && in.Caption != "" {
		switch target.Type {
		case TypeImage:
			return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: &in.Caption}}
		case TypeVideo:
			return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{Caption: &in.Caption}}
		case TypeDocument:
			return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{Caption: &in.Caption}}
		}
	}
	return textBody(in.Text, s.contextOf(p, in, o))
}

// keyFor names a message as who writes about it sees it: fromMe if it is their own.
func (s *Server) keyFor(p *phone, id string, o *outgoing) *waCommon.MessageKey {
	author := o.from
	if target := p.chat(o.chat).find(id); target != nil {
		author = target.From
	}
	mode := s.modeIn(p, o)
	key := &waCommon.MessageKey{ID: proto.String(id), FromMe: proto.Bool(author == o.from)}
	switch {
	case o.group != nil:
		name, _ := s.names(author, mode)
		key.RemoteJID, key.Participant = proto.String(groupJID(o.group.ID).String()), proto.String(name.String())
	case o.fromMe:
		name, _ := s.names(o.chat, mode)
		key.RemoteJID = proto.String(name.String())
	default:
		name, _ := s.names(p.Number, mode)
		key.RemoteJID = proto.String(name.String())
	}
	return key
}
