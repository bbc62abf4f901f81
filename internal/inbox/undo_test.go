package inbox_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// sender is a customer whose bot sent a message, and the worker that runs the bot.
type sender struct {
	*customer
	lease   store.Lease
	chatID  int64
	message int64
}

func withSender(t *testing.T, test func(t *testing.T, s *sender)) {
	t.Helper()
	onBoth(t, func(t *testing.T, c *customer) {
		c.exec("UPDATE channels SET kind = 'telegram'")
		leases, err := c.store.AcquireLeases(testkit.Context(t), store.LeaseClaim{
			WorkerID: "w", TTL: time.Hour, Limit: 1, Kinds: []domain.ChannelKind{domain.KindTelegram},
		})
		require.NoError(t, err)
		require.Len(t, leases, 1)
		c.receive(text("1", "hi", c.store.Now()))
		s := &sender{customer: c, lease: leases[0], chatID: c.chats()[0].ID}
		s.message = s.sends("A")
		test(t, s)
	})
}

// sends is a message that the provider has taken.
func (s *sender) sends(content string) int64 {
	s.t.Helper()
	m, _, err := s.inbox.Send(testkit.Context(s.t), s.who, inbox.SendInput{ChatID: s.chatID, Content: content})
	require.NoError(s.t, err)
	s.exec("UPDATE messages SET status = 'sent', external_id = 'out-1', sent_at = $1 WHERE id = $2", s.store.Now(), m.ID)
	return m.ID
}

func (s *sender) says(id int64) domain.Message {
	s.t.Helper()
	for _, m := range s.messages(s.chatID) {
		if m.ID == id {
			return m
		}
	}
	s.t.Fatalf("message %d is not there", id)
	return domain.Message{}
}

func (s *sender) edit(content string) {
	s.t.Helper()
	_, err := s.inbox.Edit(testkit.Context(s.t), s.who, s.message, content)
	require.NoError(s.t, err)
}

func (s *sender) revoke() {
	s.t.Helper()
	m, err := s.inbox.Revoke(testkit.Context(s.t), s.who, s.message)
	require.NoError(s.t, err)
	require.NotNil(s.t, m.RevokedAt)
	require.Empty(s.t, m.Content)
	require.Nil(s.t, m.Media)
}

// next is the command that a worker would take up now.
func (s *sender) next() domain.Command {
	s.t.Helper()
	due, err := s.store.DueCommands(testkit.Context(s.t), store.CommandSearch{ChannelID: s.channelID, Limit: 10})
	require.NoError(s.t, err)
	require.Len(s.t, due, 1)
	return due[0].Command
}

func (s *sender) settle(c domain.Command, outcome inbox.CommandOutcome) {
	s.t.Helper()
	var reason *domain.SendError
	if outcome == inbox.CommandRefused {
		reason = &domain.SendError{Code: "refused", Message: "Telegram does not want to."}
	}
	require.NoError(s.t, s.inbox.SettleCommand(testkit.Context(s.t), s.who.OrganizationID, s.lease, c, outcome, 0, reason))
}

// shown checks what operators see of the message and under the chat's name.
func (s *sender) shown(content string, edited bool) {
	s.t.Helper()
	m := s.says(s.message)
	assert.Equal(s.t, content, m.Content)
	assert.Equal(s.t, edited, m.EditedAt != nil)
	assert.Nil(s.t, m.RevokedAt)
}

// lastUpdate is the last message:updated of the log.
func (s *sender) lastUpdate() string {
	s.t.Helper()
	found := ""
	for _, e := range s.events() {
		if e.Name == domain.EventMessageUpdated {
			found = string(e.Data)
		}
	}
	return found
}

// What the provider does not take back is as it was on every screen, file and all, and a line says why.
func TestARefusedRevocationIsUndone(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		s.exec("INSERT INTO media (id, organization_id, mime, state, blob_key, created_at) VALUES (7, $1, 'image/png', 'ready', 'k', 0)", s.who.OrganizationID)
		s.exec(`UPDATE messages SET media_id = 7, type = 'image', location = '{"latitude":1,"longitude":2}' WHERE id = $1`, s.message)
		before := s.says(s.message)
		s.revoke()
		s.settle(s.next(), inbox.CommandRefused)
		assert.Equal(t, before, s.says(s.message))
		assert.Contains(t, s.lastUpdate(), `"content":"A"`)
		assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'ready'"))
		assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM messages WHERE type = 'system' AND content LIKE '%could not be taken back%does not want to%'"))

		s.revoke()
		require.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'ready'"), "the provider has not agreed yet")
		s.settle(s.next(), inbox.CommandDone)
		assert.NotNil(t, s.says(s.message).RevokedAt)
		assert.Zero(t, s.count("SELECT COUNT(*) FROM commands"), "nothing is kept of it")
		assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
	})
}

func TestARefusedEditIsUndone(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		s.edit("B")
		s.shown("B", true)
		require.Equal(t, "B", s.chats()[0].LastMessage.Content)
		s.settle(s.next(), inbox.CommandRefused)
		s.shown("A", false)
		assert.Contains(t, s.lastUpdate(), `"content":"A"`)

		s.edit("B")
		s.settle(s.next(), inbox.CommandDone)
		s.edit("C")
		s.settle(s.next(), inbox.CommandRefused)
		s.shown("B", true)
	})
}

// Several changes of one message are under way: what comes back is what the customer sees.
func TestChangesUponChangesAreUndone(t *testing.T) {
	for name, tt := range map[string]struct {
		changes func(s *sender)
		content string
	}{
		"replaced before it left": {func(s *sender) {
			s.edit("B")
			s.edit("C")
			s.settle(s.next(), inbox.CommandRefused)
		}, "A"},
		"replaced while it was accepted": {func(s *sender) {
			s.edit("B")
			first := s.next()
			s.edit("C")
			s.settle(first, inbox.CommandDone)
			s.settle(s.next(), inbox.CommandRefused)
		}, "B"},
		"replaced while it was refused": {func(s *sender) {
			s.edit("B")
			first := s.next()
			s.edit("C")
			s.settle(first, inbox.CommandRefused)
			s.shown("C", true)
			s.settle(s.next(), inbox.CommandRefused)
		}, "A"},
		"edit and revocation refused": {func(s *sender) {
			s.edit("B")
			s.revoke()
			s.settle(s.next(), inbox.CommandRefused)
			require.NotNil(s.t, s.says(s.message).RevokedAt)
			s.settle(s.next(), inbox.CommandRefused)
		}, "A"},
		"edit accepted, revocation refused": {func(s *sender) {
			s.edit("B")
			s.revoke()
			s.settle(s.next(), inbox.CommandDone)
			s.settle(s.next(), inbox.CommandRefused)
		}, "B"},
	} {
		t.Run(name, func(t *testing.T) {
			withSender(t, func(t *testing.T, s *sender) {
				tt.changes(s)
				s.shown(tt.content, tt.content == "B")
				assert.Zero(t, s.count("SELECT COUNT(*) FROM commands"))
			})
		})
	}
}

// What is gone for another reason does not come back, and leaves no file behind.
func TestNothingIsKeptOfWhatIsGone(t *testing.T) {
	for name, gone := range map[string]func(s *sender){
		"taken back on the phone": func(s *sender) {
			s.receive(domain.Inbound{Revoke: &domain.InboundRevoke{
				Peer: peerOf(customerNumber, "Grace"), By: &domain.Author{FromMe: true}, TargetExternalID: "out-1", ProviderTime: s.store.Now(),
			}})
		},
		"chat deleted": func(s *sender) {
			require.NoError(s.t, s.inbox.DeleteChat(testkit.Context(s.t), s.who, s.chatID))
		},
		"channel deleted": func(s *sender) {
			require.NoError(s.t, s.inbox.DeleteChannel(testkit.Context(s.t), s.who, s.channelID))
		},
	} {
		t.Run(name, func(t *testing.T) {
			withSender(t, func(t *testing.T, s *sender) {
				s.exec("INSERT INTO media (id, organization_id, mime, state, blob_key, created_at) VALUES (7, $1, 'image/png', 'ready', 'k', 0)", s.who.OrganizationID)
				s.exec("UPDATE messages SET media_id = 7, type = 'image' WHERE id = $1", s.message)
				s.revoke()
				command := s.next()
				gone(s)
				assert.Zero(t, s.count("SELECT COUNT(*) FROM commands"))
				assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
				s.settle(command, inbox.CommandRefused)
				assert.Zero(t, s.count("SELECT COUNT(*) FROM messages WHERE media_id = 7 OR content = 'A'"))
			})
		})
	}
}
