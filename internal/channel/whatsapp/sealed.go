package whatsapp

import (
	"context"
	"errors"
	"slices"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/domain"
)

// Some changes of messages come sealed once more, with a secret that came with
// the message that they are about: edits as newer apps make them, and reactions
// and comments in some groups. Who has not got that message cannot read them.

// opener is a people that has the secrets.
type opener interface {
	// open returns what is sealed in e: an edit, a comment, or a message with
	// nothing but a reaction.
	open(e *events.Message) (*waE2E.Message, error)
}

// sealed is what a sealed change tells, or a line that says that there was one.
func (at place) sealed(e *events.Message, known people) []domain.Inbound {
	var key *waCommon.MessageKey
	var unreadable string
	edit := e.Message.SecretEncryptedMessage
	switch {
	case edit != nil:
		key, unreadable = edit.GetTargetMessageKey(), "An edit that cannot be read here. See the phone."
		if edit.GetSecretEncType() != waE2E.SecretEncryptedMessage_MESSAGE_EDIT {
			return at.line("A change of a poll or an event that cannot be shown here. See the phone.")
		}
		if !key.GetFromMe() { // nobody edits what others wrote
			return at.line(unreadable)
		}
	case e.Message.EncReactionMessage != nil:
		key, unreadable = e.Message.EncReactionMessage.GetTargetMessageKey(), "A reaction that cannot be read here. See the phone."
	default:
		key, unreadable = e.Message.EncCommentMessage.GetTargetMessageKey(), "A comment that cannot be read here. See the phone."
	}
	secrets, has := known.(opener)
	target := clean(key.GetID())
	if !has || target == "" {
		return at.line(unreadable)
	}
	opened, err := secrets.open(e)
	if err != nil {
		return at.line(unreadable)
	}
	var items []domain.Inbound
	switch {
	case edit != nil:
		items = at.edit(target, editedContent(opened))
	case opened.ReactionMessage != nil:
		opened.ReactionMessage.Key = key
		return at.reaction(opened.ReactionMessage)
	default:
		out := at.base()
		if !fill(&out, opened, at) {
			break
		}
		out.Content = bounded(out.Content)
		if out.ReplyToExternalID == "" {
			out.ReplyToExternalID = target
		}
		items = []domain.Inbound{{Message: &out}}
	}
	if items == nil {
		return at.line(unreadable)
	}
	return items
}

// editedContent is the new content in an edit: bare, or in the form that edits
// have that are not sealed.
func editedContent(m *waE2E.Message) *waE2E.Message {
	m = (&events.Message{RawMessage: m}).UnwrapRaw().Message
	if p := m.GetProtocolMessage(); p.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT && p.GetEditedMessage() != nil {
		return p.GetEditedMessage()
	}
	return m
}

// line is a row that says what cannot be shown.
func (at place) line(text string) []domain.Inbound {
	out := at.base()
	out.Type, out.Content = domain.TypeUnsupported, text
	return []domain.Inbound{{Message: &out}}
}

var _ opener = addressBook{}

// open implements opener.
func (b addressBook) open(e *events.Message) (*waE2E.Message, error) {
	device := *b.device
	device.MsgSecrets = secrets{MsgSecretStore: device.MsgSecrets, people: b}
	client := whatsmeow.NewClient(&device, nil) // it is not connected: it opens, and no more
	switch m := e.Message; {
	case m.SecretEncryptedMessage != nil:
		return client.DecryptSecretEncryptedMessage(b.ctx, e)
	case m.EncReactionMessage != nil:
		reaction, err := client.DecryptReaction(b.ctx, e)
		return &waE2E.Message{ReactionMessage: reaction}, err
	case m.EncCommentMessage != nil:
		return client.DecryptComment(b.ctx, e)
	default:
		return nil, errors.New("whatsapp: nothing is sealed in the message")
	}
}

// secrets finds the secret of a message whose chat or author went by the other
// address when it came. The library looks them up in a table of its own, which
// is empty: see lids.
type secrets struct {
	store.MsgSecretStore

	people addressBook
}

// GetMessageSecret implements store.MsgSecretStore.
func (s secrets) GetMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID) ([]byte, types.JID, error) {
	for _, c := range s.addresses(chat) {
		for _, by := range s.addresses(sender) {
			if key, found, err := s.MsgSecretStore.GetMessageSecret(ctx, c, by, id); err != nil || key != nil {
				return key, found, err
			}
		}
	}
	return nil, types.EmptyJID, nil
}

// addresses are those of somebody, or of a group, the given one first.
func (s secrets) addresses(jid types.JID) []types.JID {
	jid = jid.ToNonAD()
	all := []types.JID{jid}
	if jid.Server != types.DefaultUserServer && jid.Server != types.HiddenUserServer {
		return all
	}
	who := s.people.find(jid, types.EmptyJID)
	own := personOf(s.people.device.GetJID(), s.people.device.GetLID())
	if jid == own.pn || jid == own.lid {
		who = own
	}
	for _, other := range []types.JID{who.pn, who.lid} {
		if !other.IsEmpty() && !slices.Contains(all, other) {
			all = append(all, other)
		}
	}
	return all
}
