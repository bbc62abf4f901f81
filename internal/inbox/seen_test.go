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

// settled checks that nothing waits, and that nothing is kept.
func (s *sender) settled() {
	s.t.Helper()
	assert.Zero(s.t, s.count("SELECT COUNT(*) FROM commands"))
	assert.Zero(s.t, s.count("SELECT COUNT(*) FROM message_seen"))
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

// file gives the message one.
func (s *sender) file() {
	s.exec("INSERT INTO media (id, organization_id, mime, state, blob_key, created_at) VALUES (7, $1, 'image/png', 'ready', 'k', 0)", s.who.OrganizationID)
	s.exec("UPDATE messages SET media_id = 7, type = 'image' WHERE id = $1", s.message)
}

// other is the chat that is not the message's.
func (s *sender) other() int64 {
	s.t.Helper()
	for _, c := range s.chats() {
		if c.ID != s.chatID {
			return c.ID
		}
	}
	s.t.Fatal("there is one chat")
	return 0
}

// beside is a message with the same file in another chat.
func (s *sender) beside() (chat, message int64) {
	s.t.Helper()
	in := text("9", "hi", s.store.Now())
	in.Message.Peer = peerOf("4915199999", "Other")
	s.receive(in)
	chat = s.other()
	m, _, err := s.inbox.Send(testkit.Context(s.t), s.who, inbox.SendInput{ChatID: chat, Content: "the same"})
	require.NoError(s.t, err)
	s.exec("UPDATE messages SET media_id = 7, type = 'image', status = 'sent', external_id = 'out-2' WHERE id = $1", m.ID)
	return chat, m.ID
}

// editedOnThePhone is what the owner of the number did to the message there, so long ago.
func (s *sender) editedOnThePhone(content string, ago time.Duration) {
	s.receive(domain.Inbound{Edit: &domain.InboundEdit{
		Peer: peerOf(customerNumber, "Grace"), By: &domain.Author{FromMe: true}, TargetExternalID: "out-1", Content: content,
		ProviderTime: s.store.Now().Add(-ago),
	}})
}

// waited makes what waits have waited for so long.
func (s *sender) waited(long time.Duration) {
	s.exec("UPDATE commands SET created_at = created_at - $1", long.Milliseconds())
	s.exec("UPDATE messages SET edited_at = edited_at - $1", long.Milliseconds())
	s.exec("UPDATE reactions SET reacted_at = reacted_at - $1", long.Milliseconds())
}

func (s *sender) takenBackOnThePhone() {
	s.receive(domain.Inbound{Revoke: &domain.InboundRevoke{
		Peer: peerOf(customerNumber, "Grace"), By: &domain.Author{FromMe: true}, TargetExternalID: "out-1", ProviderTime: s.store.Now(),
	}})
}

// What the provider does not take back is as it was on every screen, file and all, and a line says why.
func TestARefusedRevocationIsUndone(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		s.file()
		s.exec(`UPDATE messages SET location = '{"latitude":1,"longitude":2}' WHERE id = $1`, s.message)
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
		s.settled()
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
		"edited on the phone, then again": {func(s *sender) {
			s.edit("B")
			first := s.next()
			s.editedOnThePhone("P", -time.Second)
			s.edit("C")
			s.settle(first, inbox.CommandRefused)
			s.settle(s.next(), inbox.CommandRefused)
		}, "P"},
		"edited on the phone, then taken back": {func(s *sender) {
			s.edit("B")
			s.editedOnThePhone("P", -time.Second)
			s.revoke()
			s.settle(s.next(), inbox.CommandRefused)
			s.settle(s.next(), inbox.CommandRefused)
		}, "P"},
		"taken back, then edited on the phone": {func(s *sender) {
			s.revoke()
			s.editedOnThePhone("P", -time.Second)
			s.settle(s.next(), inbox.CommandRefused)
		}, "P"},
		"edited on the phone while ours was held up": {func(s *sender) {
			s.edit("B")
			s.waited(5 * time.Minute)
			s.editedOnThePhone("P", 2*time.Minute)
			s.shown("P", true)
			s.settle(s.next(), inbox.CommandDone)
			assert.Contains(s.t, s.lastUpdate(), `"content":"B"`)
		}, "B"},
		"edited on the phone just after ours": {func(s *sender) {
			s.edit("B")
			s.waited(5 * time.Second)
			s.editedOnThePhone("P", time.Second)
			s.settle(s.next(), inbox.CommandDone)
		}, "P"},
		"edited on the phone before ours, told late": {func(s *sender) {
			s.edit("B")
			s.editedOnThePhone("P", time.Second)
			s.settle(s.next(), inbox.CommandDone)
		}, "B"},
		"edited to and fro": {func(s *sender) {
			s.edit("B")
			s.edit("A")
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
				s.shown(tt.content, tt.content != "A")
				s.settled()
			})
		})
	}
}

// What is gone for another reason does not come back, and leaves no file behind.
func TestNothingIsKeptOfWhatIsGone(t *testing.T) {
	for name, gone := range map[string]func(s *sender){
		"taken back on the phone": (*sender).takenBackOnThePhone,
		"chat deleted": func(s *sender) {
			require.NoError(s.t, s.inbox.DeleteChat(testkit.Context(s.t), s.who, s.chatID))
		},
		"channel deleted": func(s *sender) {
			require.NoError(s.t, s.inbox.DeleteChannel(testkit.Context(s.t), s.who, s.channelID))
		},
	} {
		t.Run(name, func(t *testing.T) {
			withSender(t, func(t *testing.T, s *sender) {
				s.file()
				s.revoke()
				command := s.next()
				gone(s)
				s.settled()
				assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
				s.settle(command, inbox.CommandRefused)
				assert.Zero(t, s.count("SELECT COUNT(*) FROM messages WHERE media_id = 7 OR content = 'A'"))
			})
		})
	}
}

// The text of an edit goes, too, with a message that is taken back.
func TestNothingIsKeptOfAnEditThatIsTakenBack(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		s.edit("B")
		s.takenBackOnThePhone()
		assert.NotNil(t, s.says(s.message).RevokedAt)
		s.settled()
	})
}

// reaction is the one of ours on the message, with its operator's name.
func (s *sender) reaction() string {
	s.t.Helper()
	found := ""
	for _, r := range s.says(s.message).Reactions {
		found += r.Emoji + r.SenderName
	}
	return found
}

// reacts puts an operator's reaction on a message.
func (s *sender) reacts(message int64, emoji string) domain.Command {
	s.t.Helper()
	_, err := s.inbox.React(testkit.Context(s.t), s.who, message, emoji)
	require.NoError(s.t, err)
	return s.next()
}

// reactedOnThePhone is what the owner of the number, Otto, did so long ago.
func (s *sender) reactedOnThePhone(emoji string, ago time.Duration) {
	s.receive(domain.Inbound{Reaction: &domain.InboundReaction{
		Peer: peerOf(customerNumber, "Grace"), FromMe: true, Sender: domain.Peer{Name: "Otto"}, TargetExternalID: "out-1", Emoji: emoji,
		ProviderTime: s.store.Now().Add(-ago),
	}})
}

func TestRefusedReactionsAreUndone(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(s *sender)
		shows   string
	}{
		"the first": {func(s *sender) { s.settle(s.reacts(s.message, "👍"), inbox.CommandRefused) }, ""},
		"another one": {func(s *sender) {
			s.settle(s.reacts(s.message, "👍"), inbox.CommandDone)
			s.settle(s.reacts(s.message, "🎉"), inbox.CommandRefused)
			assert.Contains(s.t, s.lastUpdate(), "👍")
		}, "👍Ada"},
		"its removal": {func(s *sender) {
			s.settle(s.reacts(s.message, "👍"), inbox.CommandDone)
			s.settle(s.reacts(s.message, ""), inbox.CommandRefused)
		}, "👍Ada"},
		"one that has replaced an accepted one": {func(s *sender) {
			first := s.reacts(s.message, "🎉")
			second := s.reacts(s.message, "😀")
			s.settle(first, inbox.CommandDone)
			s.settle(second, inbox.CommandRefused)
		}, "🎉"},
		"over one of the phone": {func(s *sender) {
			s.reactedOnThePhone("❤️", time.Minute)
			s.settle(s.reacts(s.message, "👍"), inbox.CommandRefused)
		}, "❤️Otto"},
		"under one of the phone": {func(s *sender) {
			command := s.reacts(s.message, "👍")
			s.reactedOnThePhone("❤️", -time.Second)
			s.settle(command, inbox.CommandRefused)
		}, "❤️Otto"},
		"before one of the phone that comes late": {func(s *sender) {
			s.settle(s.reacts(s.message, "👍"), inbox.CommandRefused)
			s.reactedOnThePhone("❤️", time.Minute)
		}, "❤️Otto"},
		"and one of the phone while ours was held up": {func(s *sender) {
			command := s.reacts(s.message, "👍")
			s.waited(5 * time.Minute)
			s.reactedOnThePhone("❤️", 2*time.Minute)
			s.settle(command, inbox.CommandDone)
		}, "👍"},
		"beside an old one of the phone": {func(s *sender) {
			s.settle(s.reacts(s.message, "🎉"), inbox.CommandDone)
			command := s.reacts(s.message, "😀")
			s.reactedOnThePhone("❤️", time.Hour)
			s.settle(command, inbox.CommandRefused)
		}, "🎉Ada"},
		"that waited when nothing was kept yet": {func(s *sender) {
			command := s.reacts(s.message, "👍")
			s.exec("DELETE FROM message_seen")
			s.settle(command, inbox.CommandRefused)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			withSender(t, func(t *testing.T, s *sender) {
				tt.happens(s)
				assert.Equal(t, tt.shows, s.reaction())
				s.settled()
			})
		})
	}
}

// What was given and taken away before it left, and is refused then, is as it should be: there is nothing to say.
func TestWhatIsAsItShouldBeMakesNoNote(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		s.reacts(s.message, "👍")
		s.settle(s.reacts(s.message, ""), inbox.CommandRefused)
		assert.Zero(t, s.count("SELECT COUNT(*) FROM messages WHERE type = 'system'"))
		s.settled()
	})
}

// A file that another chat shows, too, outlives that chat for as long as it may be needed again.
func TestASharedFileOutlivesTheOtherChat(t *testing.T) {
	withSender(t, func(t *testing.T, s *sender) {
		s.file()
		chat, _ := s.beside()
		s.revoke()
		require.NoError(t, s.inbox.DeleteChat(testkit.Context(t), s.who, chat))
		s.settle(s.next(), inbox.CommandRefused)
		require.NotNil(t, s.says(s.message).Media)
		assert.Equal(t, domain.MediaReady, s.says(s.message).Media.State)
	})
}
