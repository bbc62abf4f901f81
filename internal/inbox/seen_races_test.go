package inbox_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// waiters waits until so many of the database's connections wait for a lock.
func (s *sender) waiters(n int) {
	s.t.Helper()
	testkit.Eventually(s.t, "somebody to wait for a lock", func() bool {
		return s.count("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") >= n
	})
}

// meet runs a transaction, which calls meeting to wait until second and what it started, so many, wait for locks.
func (s *sender) meet(first func(tx *store.Tx, meeting func()) error, second func(), waiting int) {
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
	s.waiters(waiting)
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
			}, s.takenBackOnThePhone, 1)
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
				_, _, err := tx.FinishCommand(due[0].Command)
				return err
			}, func() { s.settle(due[1].Command, inbox.CommandDone) }, 1)
			assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
		},
		"one lets go of a file, the other's chat is deleted": func(t *testing.T, s *sender) {
			s.file()
			chat, _ := s.beside()
			s.revoke()
			command := s.next()
			s.meet(func(tx *store.Tx, meeting func()) error {
				defer meeting()
				_, _, err := tx.FinishCommand(command)
				return err
			}, func() { assert.NoError(t, s.inbox.DeleteChat(testkit.Context(t), s.who, chat)) }, 1)
			assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
		},
		"both chats with a file are deleted": func(t *testing.T, s *sender) {
			s.file()
			chat, _ := s.beside()
			s.meet(func(tx *store.Tx, meeting func()) error {
				defer meeting()
				return tx.DeleteChat(s.chatID)
			}, func() { assert.NoError(t, s.inbox.DeleteChat(testkit.Context(t), s.who, chat)) }, 1)
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
			}, 1)
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

// A change is settled while the merge of its message is not committed yet.
func TestChangesAreSettledDuringAMerge(t *testing.T) {
	for outcome, content := range map[inbox.CommandOutcome]string{inbox.CommandRefused: "A", inbox.CommandDone: "B"} {
		withSender(t, func(t *testing.T, s *sender) {
			if !s.store.Postgres() {
				return // SQLite has one writer
			}
			kept, gone := s.message, s.twice()
			s.message = gone
			s.edit("B")
			command := s.next()
			// The merge moves the doubles first, and meets this lock then.
			blocker := int64(s.count("SELECT id FROM messages WHERE external_id = '2'"))
			settled := make(chan struct{})
			s.meet(func(tx *store.Tx, meeting func()) error {
				_, err := tx.LockMessage(blocker)
				meeting()
				return err
			}, func() {
				go func() {
					defer close(settled)
					s.waiters(1)
					s.settle(command, outcome)
				}()
				s.receive(learned("Grace"))
			}, 2)
			<-settled
			require.Len(t, s.chats(), 1)
			s.message = kept
			s.shown(content, content == "B")
			s.settled()
		})
	}
}
