package inbox_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/testkit"
)

// twice puts the message into a second chat as well, of an address that turns out to be the same person's.
func (s *sender) twice() (gone int64) {
	s.exec("UPDATE channels SET kind = 'whatsapp'")
	s.receive(from(byLID(""), "2", "by my LID", s.store.Now()))
	m, _, err := s.inbox.Send(testkit.Context(s.t), s.who, inbox.SendInput{ChatID: s.other(), Content: "A"})
	require.NoError(s.t, err)
	s.exec("UPDATE messages SET status = 'sent', external_id = 'out-1', sent_at = $1 WHERE id = $2", s.store.Now(), m.ID)
	s.exec("UPDATE messages SET channel_kind = 'whatsapp'")
	return m.ID
}

// Chats become one while changes are on their way: what comes back is what the customer sees.
func TestChangesAreUndoneAfterAMerge(t *testing.T) {
	// earlier makes the last edit of the message one of a moment ago.
	earlier := func(s *sender) { s.exec("UPDATE messages SET edited_at = edited_at - 1000 WHERE id = $1", s.message) }
	for name, tt := range map[string]struct {
		happens func(s *sender, kept, gone int64, merge func())
		content string
	}{
		"one taken back": {func(s *sender, _, gone int64, merge func()) {
			s.message = gone
			s.file()
			s.revoke()
			command := s.next()
			merge()
			require.NotNil(s.t, s.says(s.message).RevokedAt)
			s.settle(command, inbox.CommandRefused)
			require.NotNil(s.t, s.says(s.message).Media)
			assert.Equal(s.t, 1, s.count("SELECT COUNT(*) FROM messages WHERE content LIKE '%could not be taken back%'"))
		}, "A"},
		"one edited": {func(s *sender, _, gone int64, merge func()) {
			s.message = gone
			s.edit("B")
			command := s.next()
			merge()
			s.shown("B", true)
			s.settle(command, inbox.CommandRefused)
		}, "A"},
		"both edited, the second refused": {func(s *sender, _, gone int64, merge func()) {
			s.edit("B")
			earlier(s)
			s.message = gone
			s.edit("C")
			merge()
			s.shown("C", true)
			s.settle(s.next(), inbox.CommandDone)
			s.settle(s.next(), inbox.CommandRefused)
		}, "B"},
		"both edited, the first refused": {func(s *sender, _, gone int64, merge func()) {
			s.edit("B")
			earlier(s)
			s.message = gone
			s.edit("C")
			merge()
			s.settle(s.next(), inbox.CommandRefused)
			s.settle(s.next(), inbox.CommandDone)
		}, "C"},
		"one replaced after that": {func(s *sender, _, gone int64, merge func()) {
			s.message = gone
			s.edit("B")
			first := s.next()
			merge()
			s.edit("C")
			s.settle(first, inbox.CommandDone)
			s.settle(s.next(), inbox.CommandRefused)
		}, "B"},
		"one taken back, the other edited on the phone": {func(s *sender, _, gone int64, merge func()) {
			s.revoke()
			s.exec("UPDATE messages SET content = 'P', edited_at = $1 WHERE id = $2", s.store.Now(), gone)
			merge()
			s.settle(s.next(), inbox.CommandRefused)
		}, "P"},
		"one taken back, the other edited by us": {func(s *sender, kept, gone int64, merge func()) {
			s.message = gone
			s.revoke()
			s.message = kept
			s.edit("B")
			merge()
			s.settle(s.next(), inbox.CommandRefused)
			s.settle(s.next(), inbox.CommandDone)
		}, "B"},
		"one edited, the other taken back": {func(s *sender, _, gone int64, merge func()) {
			s.edit("B")
			s.message = gone
			s.revoke()
			merge()
			s.settle(s.next(), inbox.CommandDone)
			s.settle(s.next(), inbox.CommandRefused)
		}, "B"},
	} {
		t.Run(name, func(t *testing.T) {
			withSender(t, func(t *testing.T, s *sender) {
				kept, gone := s.message, s.twice()
				tt.happens(s, kept, gone, func() {
					s.receive(learned("Grace"))
					require.Len(t, s.chats(), 1)
					s.message = kept
				})
				s.shown(tt.content, tt.content != "A")
				s.settled()
			})
		})
	}
}

// Two reactions to one message become one with it.
func TestReactionsAreUndoneAfterAMerge(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		kept, gone := s.message, s.twice()
		s.reacts(kept, "👍")
		s.exec("UPDATE reactions SET reacted_at = reacted_at - 1000")
		_, err := s.inbox.React(testkit.Context(t), s.who, gone, "🎉")
		require.NoError(t, err)
		s.receive(learned("Grace"))
		assert.Equal(t, "🎉Ada", s.reaction())
		s.settle(s.next(), inbox.CommandDone)
		s.settle(s.next(), inbox.CommandRefused)
		assert.Equal(t, "👍", s.reaction())
		s.settled()
	})
}

// A file that is still fetched when its message is taken back and merged is the kept message's.
func TestAFileOfAMergedMessage(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		kept, gone := s.message, s.twice()
		s.exec(`INSERT INTO media (id, organization_id, channel_id, message_id, mime, state, provider_ref, created_at)
			VALUES (7, $1, $2, $3, 'image/png', 'pending', 'r', 0)`, s.who.OrganizationID, s.channelID, gone)
		s.exec("UPDATE messages SET media_id = 7, type = 'image' WHERE id = $1", gone)
		s.message = gone
		s.revoke()
		command := s.next()
		s.receive(learned("Grace"))
		s.message = kept
		s.settle(command, inbox.CommandRefused)
		assert.Equal(t, domain.MediaPending, s.says(kept).Media.State)
		require.NoError(t, s.inbox.DeleteChannel(testkit.Context(t), s.who, s.channelID))
		assert.Equal(t, domain.MediaFailed, s.says(kept).Media.State)
	})
}

// Each row has a file of its own, which goes with the message.
func TestFilesOfMergedMessagesGo(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		s.file()
		s.exec("INSERT INTO media (id, organization_id, mime, state, blob_key, created_at) VALUES (8, $1, 'image/png', 'ready', 'k2', 0)", s.who.OrganizationID)
		kept, gone := s.message, s.twice()
		s.exec("UPDATE messages SET media_id = 8, type = 'image' WHERE id = $1", gone)
		s.edit("B")
		s.exec("UPDATE messages SET content = 'P', edited_at = $1 WHERE id = $2", s.store.Now(), gone)
		s.receive(learned("Grace"))
		s.message = kept
		s.revoke()
		s.settle(s.next(), inbox.CommandDone)
		s.settle(s.next(), inbox.CommandDone)
		s.settled()
		assert.Equal(t, 2, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
	})
}

// The same message was taken back in both chats before they became one: what the provider says of one holds for both.
func TestRevocationsAreMerged(t *testing.T) {
	for name, elsewhere := range map[string]bool{"both by us": false, "one on the phone": true} {
		t.Run(name, func(t *testing.T) {
			withSender(t, func(t *testing.T, s *sender) {
				kept, gone := s.message, s.twice()
				if s.revoke(); elsewhere {
					s.settle(s.next(), inbox.CommandDone)
				}
				s.message = gone
				s.revoke()
				s.receive(learned("Grace"))
				s.message = kept
				if !elsewhere {
					s.settle(s.next(), inbox.CommandDone)
				}
				s.settled()
				assert.NotNil(t, s.says(kept).RevokedAt)
			})
		})
	}
}
