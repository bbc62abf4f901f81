package inbox_test

import (
	"sync"
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

// editedOnThePhone is what the owner of the number does to the message there.
func (s *sender) editedOnThePhone(content string) {
	s.receive(domain.Inbound{Edit: &domain.InboundEdit{
		Peer: peerOf(customerNumber, "Grace"), By: &domain.Author{FromMe: true}, TargetExternalID: "out-1", Content: content,
		ProviderTime: s.store.Now().Add(time.Second),
	}})
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
			s.editedOnThePhone("P")
			s.edit("C")
			s.settle(first, inbox.CommandRefused)
			s.settle(s.next(), inbox.CommandRefused)
		}, "P"},
		"edited on the phone, then taken back": {func(s *sender) {
			s.edit("B")
			s.editedOnThePhone("P")
			s.revoke()
			s.settle(s.next(), inbox.CommandRefused)
			s.settle(s.next(), inbox.CommandRefused)
		}, "P"},
		"taken back, then edited on the phone": {func(s *sender) {
			s.revoke()
			s.editedOnThePhone("P")
			s.settle(s.next(), inbox.CommandRefused)
		}, "P"},
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

// waiters waits until so many of the database's connections wait for a lock.
func (s *sender) waiters(n int) {
	s.t.Helper()
	testkit.Eventually(s.t, "somebody to wait for a lock", func() bool {
		return s.count("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") >= n
	})
}

// meet runs a transaction, which calls meeting to wait until second waits for it.
func (s *sender) meet(first func(tx *store.Tx, meeting func()) error, second func()) {
	s.t.Helper()
	reached, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		_, err := s.store.InOrg(testkit.Context(s.t), s.who.OrganizationID, func(tx *store.Tx) error {
			return first(tx, func() {
				once.Do(func() { close(reached) })
				<-goOn
			})
		})
		ended <- err
	}()
	<-reached
	over := make(chan struct{})
	go func() {
		defer close(over)
		second()
	}()
	s.waiters(1)
	close(goOn)
	require.NoError(s.t, <-ended)
	<-over
}

// Two transactions meet on one message or file: what both know holds in the end.
func TestChangesThatMeet(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, s *sender){
		"refused and taken back on the phone": func(t *testing.T, s *sender) {
			s.revoke()
			command := s.next()
			s.meet(func(tx *store.Tx, meeting func()) error {
				_, _, err := tx.AbandonCommand(command)
				meeting()
				return err
			}, s.takenBackOnThePhone)
			assert.NotNil(t, s.says(s.message).RevokedAt)
		},
		"two let go of a file": func(t *testing.T, s *sender) {
			s.file()
			_, other := s.beside()
			s.revoke()
			_, err := s.inbox.Revoke(testkit.Context(t), s.who, other)
			require.NoError(t, err)
			due, err := s.store.DueCommands(testkit.Context(t), store.CommandSearch{ChannelID: s.channelID, Limit: 10})
			require.NoError(t, err)
			require.Len(t, due, 2)
			s.meet(func(tx *store.Tx, meeting func()) error {
				defer meeting()
				return tx.FinishCommand(due[0].Command)
			}, func() { s.settle(due[1].Command, inbox.CommandDone) })
			assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
		},
		"one lets go of a file, the other's chat is deleted": func(t *testing.T, s *sender) {
			s.file()
			chat, _ := s.beside()
			s.revoke()
			command := s.next()
			s.meet(func(tx *store.Tx, meeting func()) error {
				defer meeting()
				return tx.FinishCommand(command)
			}, func() { assert.NoError(t, s.inbox.DeleteChat(testkit.Context(t), s.who, chat)) })
			assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
		},
		"both chats with a file are deleted": func(t *testing.T, s *sender) {
			s.file()
			chat, _ := s.beside()
			s.meet(func(tx *store.Tx, meeting func()) error {
				defer meeting()
				return tx.DeleteChat(s.chatID)
			}, func() { assert.NoError(t, s.inbox.DeleteChat(testkit.Context(t), s.who, chat)) })
			assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
		},
		"edited and the chat deleted": func(t *testing.T, s *sender) {
			s.edit("B")
			edits, deletes := 0, 0 // tries
			s.meet(func(tx *store.Tx, meeting func()) error {
				edits++
				if _, err := tx.LockMessage(s.message); err != nil {
					return err
				}
				meeting()
				return tx.EnqueueChange(domain.Command{ChannelID: s.channelID, ChatID: s.chatID, MessageID: s.message, Kind: domain.CommandEdit, Value: "C"})
			}, func() {
				_, err := s.store.InOrg(testkit.Context(t), s.who.OrganizationID, func(tx *store.Tx) error {
					deletes++
					return tx.DeleteChat(s.chatID)
				})
				assert.NoError(t, err)
			})
			assert.Empty(t, s.chats())
			assert.Equal(t, []int{1, 1}, []int{edits, deletes}, "the database had to untie them")
		},
	} {
		t.Run(name, func(t *testing.T) {
			withSender(t, func(t *testing.T, s *sender) {
				if !s.store.Postgres() {
					return // SQLite has one writer
				}
				test(t, s)
			})
		})
	}
}
