package whatsapp

import (
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/domain"
)

// convert turns a message into what happened. It fails never: what cannot be
// shown becomes a line that says so. Nothing at all is what the apps do not show
// either.
func convert(e *events.Message, known people) []domain.Inbound {
	at, ok := placeOf(e.Info.MessageSource, e.Info.PushName, known)
	if !ok {
		return nil
	}
	at.id, at.time = clean(e.Info.ID), timeOf(e.Info.Timestamp)
	at.admin = at.peer.Kind == domain.ChatGroup && e.Info.Edit == types.EditAttributeAdminRevoke
	m := bare(e.Message)
	switch {
	case m == nil, proto.Size(m) == 0 && e.Info.Category != "peer":
		out := at.base()
		out.Type, out.Content = domain.TypeUnsupported, empty
		return []domain.Inbound{{Message: &out}}
	case m.ReactionMessage != nil:
		return at.reaction(m.ReactionMessage)
	case m.ProtocolMessage != nil:
		return at.protocol(m.ProtocolMessage)
	case m.SecretEncryptedMessage != nil, m.EncReactionMessage != nil, m.EncCommentMessage != nil:
		return at.sealed(e, known)
	}
	out := at.base()
	if !fill(&out, m, at) {
		return nil
	}
	if e.IsViewOnce {
		out.Content = strings.TrimSpace("(To be viewed once.) " + out.Content)
	}
	out.Content = bounded(out.Content)
	return []domain.Inbound{{Message: &out}}
}

// place is where and by whom something was said.
type place struct {
	peer   domain.Peer // the chat
	sender domain.Peer // in a group, of others; else empty
	fromMe bool
	admin  bool // of a group, who takes back what another one wrote
	id     string
	time   domain.Time
	chat   types.JID // as the library names it
	author types.JID // likewise
}

// placeOf sorts out chat and sender. ok is false for what is no chat: statuses,
// newsletters, broadcast lists of others.
func placeOf(src types.MessageSource, pushName string, known people) (at place, ok bool) {
	at = place{fromMe: src.IsFromMe, chat: src.Chat, author: src.Sender.ToNonAD()}
	if src.Chat.Server == types.GroupServer {
		at.peer = groupPeer(src.Chat, "")
		if !src.IsFromMe {
			who := known.find(src.Sender, src.SenderAlt)
			at.sender = who.peer(known.name(who, pushName))
			if at.sender.Name == "" {
				at.sender.Name = display(who)
			}
		}
		return at, true
	}
	other, alt, name := src.Chat, src.RecipientAlt, ""
	switch {
	case src.IsIncomingBroadcast() && !src.IsFromMe:
		other, alt, name = src.Sender, src.SenderAlt, pushName
	case !src.IsFromMe:
		alt, name = src.SenderAlt, pushName
	}
	if addressOf(other) == "" {
		return at, false
	}
	who := known.find(other, alt)
	at.peer = who.peer(known.name(who, name))
	return at, at.peer.Address != ""
}

// display is how somebody is called whose name is not known.
func display(p person) string {
	if p.pn.IsEmpty() {
		return "Somebody without a number"
	}
	return "+" + p.pn.User
}

func (at place) base() domain.InboundMessage {
	return domain.InboundMessage{
		ExternalID: at.id, Peer: at.peer, Sender: at.sender, FromMe: at.fromMe, Type: domain.TypeText, ProviderTime: at.time,
	}
}

func (at place) reaction(r *waE2E.ReactionMessage) []domain.Inbound {
	return []domain.Inbound{{Reaction: &domain.InboundReaction{
		ExternalID: at.id, Peer: at.peer, Sender: at.sender, FromMe: at.fromMe, TargetExternalID: clean(r.GetKey().GetID()),
		Emoji: cut(clean(r.GetText()), 32), ProviderTime: at.time,
	}}}
}

// protocol is what the apps say to each other. Only the part that people see
// becomes something.
func (at place) protocol(p *waE2E.ProtocolMessage) []domain.Inbound {
	target := clean(p.GetKey().GetID())
	switch p.GetType() {
	case waE2E.ProtocolMessage_REVOKE:
		if target != "" {
			return []domain.Inbound{{Revoke: &domain.InboundRevoke{
				ExternalID: at.id, Peer: at.peer, By: at.by(at.admin), TargetExternalID: target, ProviderTime: at.time,
			}}}
		}
	case waE2E.ProtocolMessage_MESSAGE_EDIT:
		return at.edit(target, p.GetEditedMessage())
	case waE2E.ProtocolMessage_EPHEMERAL_SETTING:
		m := at.base()
		m.Type, m.Silent = domain.TypeSystem, true
		m.Content = "Disappearing messages were turned off."
		if seconds := p.GetEphemeralExpiration(); seconds > 0 {
			m.Content = "Messages disappear from the customer's phone after " + span(time.Duration(seconds)*time.Second) + "; they stay here."
		}
		return []domain.Inbound{{Message: &m}}
	default:
	}
	return nil
}

// by is who says so. WhatsApp takes it from everybody in the chat.
func (at place) by(admin bool) *domain.Author {
	return &domain.Author{FromMe: at.fromMe, Sender: at.sender, Admin: admin}
}

func (at place) edit(target string, content *waE2E.Message) []domain.Inbound {
	var edited domain.InboundMessage
	if target == "" || !fill(&edited, content, at) {
		return nil
	}
	return []domain.Inbound{{Edit: &domain.InboundEdit{
		ExternalID: at.id, Peer: at.peer, By: at.by(false), TargetExternalID: target, Content: bounded(edited.Content), ProviderTime: at.time,
	}}}
}

func span(d time.Duration) string {
	if days := int(d / (24 * time.Hour)); days > 1 {
		return strconv.Itoa(days) + " days"
	}
	return strconv.Itoa(int(d/time.Hour)) + " hours"
}

// undecryptable is the line that stands for a message until it can be read.
func undecryptable(e *events.UndecryptableMessage, known people) []domain.Inbound {
	at, ok := placeOf(e.Info.MessageSource, e.Info.PushName, known)
	if !ok || e.DecryptFailMode == events.DecryptFailHide {
		return nil
	}
	at.id, at.time = clean(e.Info.ID), timeOf(e.Info.Timestamp)
	m := at.base()
	m.Type, m.Placeholder = domain.TypeUnsupported, true
	m.Content = "This message could not be decrypted yet. The sender's phone was asked to send it again; until then, see your phone."
	if e.UnavailableType == events.UnavailableTypeViewOnce {
		m.Content = "A photo, video or voice message to be viewed once. It can be opened on the phone only."
	}
	return []domain.Inbound{{Message: &m}}
}

// receipt tells how far our messages have come, or that the phone has read a
// chat.
func receipt(e *events.Receipt, known people) []domain.Inbound {
	var status domain.MessageStatus
	switch e.Type {
	case types.ReceiptTypeDelivered, types.ReceiptTypeInactive:
		status = domain.StatusDelivered
	case types.ReceiptTypeRead, types.ReceiptTypePlayed:
		status = domain.StatusRead
	case types.ReceiptTypeReadSelf, types.ReceiptTypePlayedSelf:
		return readHere(e, known)
	default:
		return nil
	}
	if e.IsFromMe {
		if status == domain.StatusRead {
			return readHere(e, known)
		}
		return nil
	}
	items := make([]domain.Inbound, 0, len(e.MessageIDs))
	for _, id := range e.MessageIDs {
		items = append(items, domain.Inbound{Status: &domain.InboundStatus{ExternalID: clean(id), Status: status, At: timeOf(e.Timestamp)}})
	}
	return items
}

func readHere(e *events.Receipt, known people) []domain.Inbound {
	at, ok := placeOf(e.MessageSource, "", known)
	if !ok {
		return nil
	}
	ids := make([]string, len(e.MessageIDs))
	for i, id := range e.MessageIDs {
		ids[i] = clean(id)
	}
	return []domain.Inbound{{Read: &domain.InboundRead{Peer: at.peer, ExternalIDs: ids, At: timeOf(e.Timestamp)}}}
}

// latest is the end of the year 2100: a later time is a fault, and would sort
// its message below all others for ever.
const latest = 4102444800

func timeOf(t time.Time) domain.Time {
	if t.Unix() < 1 || t.Unix() > latest {
		return 0 // now
	}
	return domain.At(t)
}

// clean takes away what a database cannot hold.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cut shortens s to at most limit runes, for what is a label and not content.
func cut(s string, limit int) string {
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return string(runes[:limit-1]) + "…"
}

const (
	maxName = 200
	// maxContent bounds a message's text, in runes: WhatsApp's own have at most
	// 65,536.
	maxContent = 1 << 16
)

func cleanName(s string) string {
	if s = strings.TrimSpace(cut(clean(s), maxName)); s == "-" {
		return ""
	}
	return s
}

func bounded(s string) string {
	if short := cut(s, maxContent); short != s {
		return short + "\n(The message is longer than can be shown.)"
	}
	return s
}
