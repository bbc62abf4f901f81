package whatsapp

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// Edits as newer apps make them are sealed with the secret of their message,
// which may have come under the other address of who wrote it.
func TestSealedEdits(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		edit := func(id, text string) string {
			return s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeEdit, Target: id, Text: text, Sealed: true})
		}
		id := s.says(whatsapp.Incoming{From: marta, Text: "Tree cacti?", Secret: true})
		s.row(id, nil)
		edit(id, "Three cacti?")
		s.row(id, func(m domain.Message) bool { return m.Content == "Three cacti?" && m.EditedAt != nil })
		require.NoError(t, s.sim.LearnLID(ourNumber, marta))
		edit(id, "Four cacti?")
		s.row(id, func(m domain.Message) bool { return m.Content == "Four cacti?" })

		group := s.says(whatsapp.Incoming{From: tomas, Group: team, Text: "Helo", Secret: true})
		s.says(whatsapp.Incoming{From: tomas, Group: team, Type: whatsapp.TypeEdit, Target: group, Text: "Hello", Sealed: true})
		s.row(group, func(m domain.Message) bool { return m.Content == "Hello" && m.EditedAt != nil })

		lost := s.says(whatsapp.Incoming{From: marta, Text: "Without a secret"})
		row := s.row(edit(lost, "With one?"), nil)
		assert.Equal(t, domain.TypeUnsupported, row.Type)
		assert.Contains(t, row.Content, "An edit that cannot be read")
		require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
		assert.Len(t, s.all(), 4, "of the edits only what cannot be read is a row")
	})
}

// locksmith opens whatever is sealed.
type locksmith struct {
	strangers

	inside *waE2E.Message
	err    error
}

func (l locksmith) open(*events.Message) (*waE2E.Message, error) { return l.inside, l.err }

func TestSealed(t *testing.T) {
	t.Parallel()
	own := &waCommon.MessageKey{ID: proto.String("TARGET"), FromMe: proto.Bool(true)}
	theirs := &waCommon.MessageKey{ID: proto.String("TARGET")}
	text := func(s string) *waE2E.Message { return &waE2E.Message{Conversation: &s} }
	secret := func(key *waCommon.MessageKey, what waE2E.SecretEncryptedMessage_SecretEncType) *waE2E.Message {
		return &waE2E.Message{SecretEncryptedMessage: &waE2E.SecretEncryptedMessage{TargetMessageKey: key, SecretEncType: &what}}
	}
	const edit = waE2E.SecretEncryptedMessage_MESSAGE_EDIT
	reaction := &waE2E.Message{EncReactionMessage: &waE2E.EncReactionMessage{TargetMessageKey: theirs}}
	comment := &waE2E.Message{EncCommentMessage: &waE2E.EncCommentMessage{TargetMessageKey: theirs}}
	one := func(m *waE2E.Message, known people) domain.Inbound {
		items := convert(direct(m), known)
		require.Len(t, items, 1, "nothing vanishes")
		return items[0]
	}

	assert.Equal(t, "New", one(secret(own, edit), locksmith{inside: text("New")}).Edit.Content)
	got := one(secret(own, edit), locksmith{inside: &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{
		ProtocolMessage: &waE2E.ProtocolMessage{
			Key: &waCommon.MessageKey{ID: proto.String("ANOTHER")}, Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), EditedMessage: text("New"),
		},
	}}}}).Edit
	assert.Equal(t, "New", got.Content)
	assert.Equal(t, "TARGET", got.TargetExternalID, "the one with whose secret it was sealed")
	reacted := one(reaction, locksmith{inside: &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Text: proto.String("👍")}}}).Reaction
	assert.Equal(t, "TARGET", reacted.TargetExternalID)
	assert.Equal(t, "👍", reacted.Emoji)
	said := one(comment, locksmith{inside: text("Nice")}).Message
	assert.Equal(t, "Nice", said.Content)
	assert.Equal(t, "TARGET", said.ReplyToExternalID)

	failing := locksmith{err: errors.New("the secret is not there")}
	for _, tt := range []struct {
		message *waE2E.Message
		known   people
		want    string
	}{
		{secret(own, edit), failing, "An edit that cannot be read"},
		{secret(own, edit), strangers{}, "An edit that cannot be read"},
		{secret(own, edit), locksmith{inside: &waE2E.Message{}}, "An edit that cannot be read"},
		{secret(nil, edit), locksmith{inside: text("New")}, "An edit that cannot be read"},
		{secret(theirs, edit), locksmith{inside: text("Not mine")}, "An edit that cannot be read"},
		{secret(own, waE2E.SecretEncryptedMessage_POLL_EDIT), locksmith{inside: text("New")}, "A change of a poll"},
		{reaction, failing, "A reaction that cannot be read"},
		{comment, failing, "A comment that cannot be read"},
		{comment, locksmith{inside: &waE2E.Message{}}, "A comment that cannot be read"},
	} {
		m := one(tt.message, tt.known).Message
		require.NotNil(t, m, tt.want)
		assert.Equal(t, domain.TypeUnsupported, m.Type)
		assert.Contains(t, m.Content, tt.want)
	}
}
