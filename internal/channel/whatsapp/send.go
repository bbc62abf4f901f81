package whatsapp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
	"unicode/utf8"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

const (
	maxText = 65536
	// ackTimeout is how long WhatsApp may take to take a message. The library
	// sends one after the other, so it holds up the next.
	ackTimeout = 20 * time.Second
)

// NewExternalID implements channel.Resender: WhatsApp recognises a message by
// the id that its sender chose.
func (s *Session) NewExternalID() string {
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	if client == nil { // nothing is claimed before Ready
		client = whatsmeow.NewClient(s.keys.fresh(), nil)
	}
	return client.GenerateMessageID()
}

// Send implements channel.Session.
func (s *Session) Send(ctx context.Context, m domain.Outbound) (channel.Sent, error) {
	client, conn, open := s.open()
	if !open {
		return channel.Sent{}, notConnected(nil)
	}
	to, err := parseAddress(m.Peer)
	if err != nil {
		return channel.Sent{}, refusal(codeBadAddress, "The chat's address is none of WhatsApp's.")
	}
	s.presence.active(conn.ctx) //nolint:contextcheck // being online outlives the call
	message, err := s.compose(ctx, client, to, m)
	if err != nil {
		return channel.Sent{}, s.sendFailed(err)
	}
	sent, err := sendMessage(ctx, client, to, message, whatsmeow.SendRequestExtra{ID: m.Message.ExternalID, Timeout: ackTimeout})
	if err != nil {
		return channel.Sent{}, s.sendFailed(err)
	}
	return channel.Sent{ExternalID: sent.ID, At: timeOf(sent.Timestamp)}, nil
}

// compose makes the library's form of a message. An error is a
// *channel.SendError or one of an upload.
func (s *Session) compose(ctx context.Context, client *whatsmeow.Client, to types.JID, m domain.Outbound) (*waE2E.Message, error) {
	about := s.quote(client, to, m)
	content := m.Message.Content
	if utf8.RuneCountInString(content) > maxText {
		return nil, refusal("too_long", fmt.Sprintf("The message is longer than the %d characters that WhatsApp allows. Send it in parts.", maxText))
	}
	switch t := m.Message.Type; t {
	case domain.TypeText:
		if about == nil {
			return &waE2E.Message{Conversation: &content}, nil
		}
		return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: &content, ContextInfo: about}}, nil
	case domain.TypeLocation:
		l := m.Message.Location
		if l == nil {
			return nil, refusal(codeUnsupported, "The message has no location.")
		}
		where := &waE2E.LocationMessage{DegreesLatitude: &l.Latitude, DegreesLongitude: &l.Longitude, ContextInfo: about}
		if l.Name != "" {
			where.Name = &l.Name
		}
		if l.Address != "" {
			where.Address = &l.Address
		}
		return &waE2E.Message{LocationMessage: where}, nil
	case domain.TypeContact:
		return &waE2E.Message{ContactMessage: cardOf(content, about)}, nil
	default:
		if t.HasMedia() {
			return s.composeMedia(ctx, client, m, about)
		}
		return nil, refusal(codeUnsupported, fmt.Sprintf("WhatsApp Web has no messages of type %s.", t))
	}
}

// quote is what a reply says of the message that it answers.
func (s *Session) quote(client *whatsmeow.Client, to types.JID, m domain.Outbound) *waE2E.ContextInfo {
	if m.ReplyToExternalID == "" {
		return nil
	}
	author := to
	switch {
	case m.ReplyToFromMe && to.Server == types.HiddenUserServer:
		author = client.Store.GetLID().ToNonAD()
	case m.ReplyToFromMe:
		author = client.Store.GetJID().ToNonAD()
	case m.ReplyToSender != "":
		if jid, err := parseAddress(m.ReplyToSender); err == nil {
			author = jid
		}
	}
	said := ""
	if m.Message.ReplyTo != nil {
		said = m.Message.ReplyTo.Content
	}
	return &waE2E.ContextInfo{
		StanzaID: &m.ReplyToExternalID, Participant: proto.String(author.String()), QuotedMessage: &waE2E.Message{Conversation: &said},
	}
}

// Do implements channel.Commander.
func (s *Session) Do(ctx context.Context, c domain.Command) error {
	client, conn, open := s.open()
	if !open {
		return notConnected(nil)
	}
	chat, err := parseAddress(c.Peer)
	if err != nil {
		return refusal(codeBadAddress, "The chat's address is none of WhatsApp's.")
	}
	author := types.EmptyJID // our own
	if !c.TargetFromMe {
		author = chat
		if c.TargetSender != "" {
			if author, err = parseAddress(c.TargetSender); err != nil {
				return refusal(codeBadAddress, "The message's author has no address of WhatsApp's.")
			}
		}
	}
	s.presence.active(conn.ctx) //nolint:contextcheck // being online outlives the call
	switch c.Kind {
	case domain.CommandRead:
		return s.markRead(ctx, client, chat, c)
	case domain.CommandReaction:
		return s.act(ctx, client, chat, client.BuildReaction(chat, author, c.TargetExternalID, c.Value))
	case domain.CommandEdit:
		content := edited(c.TargetType, c.Value)
		if content == nil {
			return refusal(codeUnsupported, "On WhatsApp there is no text under a file of this kind.")
		}
		return s.act(ctx, client, chat, client.BuildEdit(chat, c.TargetExternalID, content))
	case domain.CommandRevoke:
		return s.act(ctx, client, chat, client.BuildRevoke(chat, author, c.TargetExternalID))
	default:
		return refusal(codeUnsupported, "WhatsApp cannot do this.")
	}
}

// edited is the new content of a message: of one with a file, its caption. Nil:
// it can have none.
func edited(kind domain.MessageType, text string) *waE2E.Message {
	switch kind {
	case domain.TypeImage:
		return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: &text}}
	case domain.TypeVideo:
		return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{Caption: &text}}
	case domain.TypeDocument:
		return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{Caption: &text}}
	case domain.TypeText:
		return &waE2E.Message{Conversation: &text}
	default:
		return nil
	}
}

// act sends what changes another message. To send it twice does no harm.
func (s *Session) act(ctx context.Context, client *whatsmeow.Client, chat types.JID, message *waE2E.Message) error {
	_, err := sendMessage(ctx, client, chat, message, whatsmeow.SendRequestExtra{Timeout: ackTimeout})
	if err == nil {
		return nil
	}
	return s.sendFailed(err)
}

// markRead tells the customers' apps what was read: each message is named, and
// in a group to each author.
func (s *Session) markRead(ctx context.Context, client *whatsmeow.Client, chat types.JID, c domain.Command) error {
	ids := map[string][]types.MessageID{c.TargetSender: {c.TargetExternalID}}
	for _, m := range c.Earlier {
		ids[m.Sender] = append(ids[m.Sender], m.ExternalID)
	}
	for sender, read := range ids {
		author := types.EmptyJID
		if sender != "" {
			jid, err := parseAddress(sender)
			if err != nil {
				continue
			}
			author = jid
		}
		if err := client.MarkRead(ctx, read, time.Now(), chat, author); err != nil {
			return s.sendFailed(err)
		}
	}
	return nil
}

// Resolve implements channel.Resolver. It asks WhatsApp once a second at most, and
// not again what it said lately.
func (s *Session) Resolve(ctx context.Context, phone string) (domain.Peer, error) {
	return s.lookups.directory.find(ctx, phone, func(ctx context.Context) (domain.Peer, error) { return s.resolve(ctx, phone) })
}

func (s *Session) resolve(ctx context.Context, phone string) (domain.Peer, error) {
	client, conn, open := s.open()
	if !open {
		return domain.Peer{}, errNoWire
	}
	asking, cancel := conn.wire.asking(ctx)
	defer cancel()
	found, err := client.IsOnWhatsApp(asking, []string{"+" + phone})
	if err != nil && conn.wire.live.Err() != nil {
		return domain.Peer{}, errNoWire
	}
	if err != nil {
		return domain.Peer{}, fmt.Errorf("look a number up: %w", err)
	}
	for _, r := range found {
		if !r.IsIn {
			continue
		}
		known := s.people(ctx)
		who := known.find(r.JID, r.PhoneNumber)
		if who.pn.IsEmpty() {
			who.pn = types.NewJID(phone, types.DefaultUserServer)
		}
		peer := who.peer("")
		if r.VerifiedName != nil {
			peer.Name = cleanName(r.VerifiedName.Details.GetVerifiedName())
		}
		return peer, nil
	}
	return domain.Peer{}, domain.NewError(domain.CodeNotFound, "This number is not on WhatsApp.")
}

var errNoWire = domain.NewError(domain.CodeUnavailable, "The number is not connected to WhatsApp at the moment. Try again in a moment.")

// jitter spreads what many sessions would do at once.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) // #nosec G404 -- spreads load, guards nothing
}
