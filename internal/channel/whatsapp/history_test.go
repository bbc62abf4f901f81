package whatsapp

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/proto/waE2E"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// old is a phone's history: some chats with many messages.
func old(s *shop, chats, messages int) []whatsapp.HistoryChat {
	s.t.Helper()
	began := time.Now().Add(-48 * time.Hour)
	all := make([]whatsapp.HistoryChat, chats)
	for i := range all {
		number := fmt.Sprintf("1555010%04d", 1000+i)
		_, err := s.sim.AddPerson(whatsapp.Person{Number: number, Name: fmt.Sprintf("Customer %d", i)})
		require.NoError(s.t, err)
		all[i] = whatsapp.HistoryChat{Peer: number, Name: fmt.Sprintf("Customer %d", i), Unread: 7}
		for n := range messages {
			all[i].Messages = append(all[i].Messages, whatsapp.HistoryMessage{
				ID: fmt.Sprintf("OLD%d-%d", i, n), FromMe: n%3 == 2, Text: fmt.Sprintf("Old %d of %d", n, i),
				At: began.Add(time.Duration(i*messages+n) * time.Second),
			})
		}
	}
	return all
}

func TestHistory(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		const chats, messages = 45, 12
		require.NoError(t, s.sim.History(ourNumber, old(s, chats, messages)))
		s.worker("w1")
		c := s.linked(ourNumber)
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "Not held up by it"}), nil)
		testkit.Eventually(t, "all of the history", func() bool { return s.count("SELECT COUNT(*) FROM messages") == chats*messages+1 })
		s.await(c.ID, domain.ChannelConnected, "")
		for _, chat := range s.chats() {
			if chat.Contact.Phone == marta {
				continue
			}
			assert.Zero(t, chat.UnreadCount, chat.Contact.Name)
			assert.Contains(t, chat.Contact.Name, "Customer")
			assert.NotNil(t, chat.LastMessage)
		}
		s.mu.Lock()
		counts := map[string]int{}
		for _, e := range s.events {
			counts[e.Name]++
		}
		s.mu.Unlock()
		assert.Equal(t, 1, counts[domain.EventMessageNew], "no flood")
		assert.LessOrEqual(t, counts[domain.EventChatNew]+counts[domain.EventChatUpdated], 4*chats)
		assert.Positive(t, counts[domain.EventMessagesImported])
		assert.Zero(t, s.count("SELECT COUNT(*) FROM notifications"))
		rows := s.all()
		var sent, received int
		for _, m := range rows {
			if m.FromMe {
				sent++
				assert.NotEqual(t, domain.StatusReceived, m.Status)
			} else {
				received++
			}
		}
		assert.Positive(t, sent)
		assert.Greater(t, received, sent)

		// The same once more, as after linking again, changes nothing.
		require.NoError(t, s.sim.SyncHistory(ourNumber))
		require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "After it"}), nil)
		testkit.Eventually(t, "imported again", func() bool { return s.count("SELECT COUNT(*) FROM intakes WHERE position <> ''") == 0 })
		assert.Equal(t, chats*messages+2, s.count("SELECT COUNT(*) FROM messages"))
	})
}

// An import that is broken off is taken up where it was.
func TestHistoryIsTakenUp(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	const chats, messages = 40, 30
	require.NoError(t, s.sim.History(ourNumber, old(s, chats, messages)))
	first := s.worker("w1")
	s.linked(ourNumber)
	testkit.Eventually(t, "some of it", func() bool { return s.count("SELECT COUNT(*) FROM messages") > 0 })
	first.Stop()
	s.worker("w2")
	testkit.Eventually(t, "all of it", func() bool { return s.count("SELECT COUNT(*) FROM messages") == chats*messages })
	testkit.Eventually(t, "nothing left", func() bool { return s.count("SELECT COUNT(*) FROM intakes WHERE position <> ''") == 0 })
	assert.Equal(t, chats*messages, s.count("SELECT COUNT(*) FROM messages"))
}

// receipts are the ids of which the phone was told something.
func (s *shop) receipts(kind string) (ids []string) {
	for _, r := range s.sim.Ledger().Receipts(ourNumber) {
		if r.Type == kind {
			ids = append(ids, r.IDs...)
		}
	}
	return ids
}

// An import that fails goes on by itself, and needs no other connection for that.
func TestHistoryIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	const chats, messages = 45, 3
	require.NoError(t, s.sim.History(ourNumber, old(s, chats, messages)))
	var failures atomic.Int32
	s.intercepted("w1", func(b domain.Batch) error {
		if len(b.Items) > 0 && failures.Add(1) <= 3 {
			return errMeddled
		}
		return nil
	})
	c := s.create(map[string]any{})
	s.scan(c.ID, ourNumber)
	testkit.Eventually(t, "all of the history", func() bool { return s.count("SELECT COUNT(*) FROM messages") == chats*messages })
	s.await(c.ID, domain.ChannelConnected, "")
	assert.Len(t, s.sim.Ledger().Connections(ourNumber), 2, "one to link, one for all the rest")
	testkit.Eventually(t, "the phone is told of each part", func() bool { return len(s.receipts("hist_sync")) == 5 })
	assert.Empty(t, s.receipts("server-error"))
	testkit.Eventually(t, "nothing left", func() bool { return s.count("SELECT COUNT(*) FROM intakes WHERE position <> ''") == 0 })
}

// A part that is gone holds up no other. It is asked of the phone once, and tried
// again.
func TestHistoryPartGone(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	const chats, messages = 45, 3
	require.NoError(t, s.sim.History(ourNumber, old(s, chats, messages)))
	_, err := s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultMediaGone, Code: 410, Count: 1})
	require.NoError(t, err)
	s.worker("w1")
	c := s.create(map[string]any{})
	s.scan(c.ID, ourNumber)
	testkit.Eventually(t, "the parts behind it", func() bool { return s.count("SELECT COUNT(*) FROM messages") == chats*messages })
	assert.Len(t, s.receipts("server-error"), 1)
	assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM intakes WHERE position <> ''"))
	testkit.Eventually(t, "the part itself", func() bool { return s.count("SELECT COUNT(*) FROM intakes WHERE position <> ''") == 0 })
	s.await(c.ID, domain.ChannelConnected, "")
	assert.Len(t, s.receipts("server-error"), 1)
}

// What cannot be had is shown, until it comes.
func TestHistoryIncomplete(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	const chats, messages = 45, 3
	require.NoError(t, s.sim.History(ourNumber, old(s, chats, messages)))
	fault, err := s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultMediaGone, Code: 404})
	require.NoError(t, err)
	first := s.worker("w1")
	c := s.create(map[string]any{})
	s.scan(c.ID, ourNumber)
	shown := s.await(c.ID, domain.ChannelConnected, codeIncomplete)
	assert.Contains(t, shown.Status.Reason, "could not be imported")
	assert.Equal(t, chats, s.count("SELECT COUNT(*) FROM messages"), "what came with the notice itself")
	testkit.Eventually(t, "asked for once each", func() bool { return len(s.receipts("server-error")) == 4 })
	first.Stop()
	s.worker("w2")
	s.await(c.ID, domain.ChannelConnected, codeIncomplete)

	require.NoError(t, s.sim.ClearFault(fault))
	require.NoError(t, s.sim.SyncHistory(ourNumber))
	testkit.Eventually(t, "all of the history", func() bool { return s.count("SELECT COUNT(*) FROM messages") == chats*messages })
	s.await(c.ID, domain.ChannelConnected, "")
	assert.Len(t, s.receipts("server-error"), 4)
}

// Tries are those in which nothing was stored.
func TestHistoryTries(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	const chats, messages = 20, 80 // more than three chunks in one part
	require.NoError(t, s.sim.History(ourNumber, old(s, chats, messages)))
	var chunks atomic.Int32
	s.intercepted("w1", func(b domain.Batch) error {
		if len(b.Items) > 0 && chunks.Add(1) == 4 { // the second chunk of the last part
			assert.Contains(t, b.Position, `"tries":0`)
			assert.Contains(t, b.Position, `"done":2`)
		}
		return nil
	})
	s.scan(s.create(map[string]any{}).ID, ourNumber)
	testkit.Eventually(t, "all of it", func() bool { return s.count("SELECT COUNT(*) FROM messages") == chats*messages })
	assert.Greater(t, chunks.Load(), int32(4))
}

// What is left of a link's history means nothing to the next link.
func TestHistoryEndsWithTheLink(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		c := s.linked(ourNumber)
		leave := func() {
			_, err := s.store.SQL().ExecContext(testkit.Context(t), `INSERT INTO intakes (channel_id, position, updated_at)
				VALUES ($1, '[{"notice":"","done":0,"tries":0,"lost":true}]', 0)`, c.ID)
			require.NoError(t, err)
		}
		leave()
		_, err := s.inbox.LogoutChannel(testkit.Context(t), s.who, c.ID)
		require.NoError(t, err)
		s.await(c.ID, domain.ChannelLoggedOut, codeUnlinked)
		assert.Zero(t, s.count("SELECT COUNT(*) FROM intakes"))
		leave()
		s.scan(c.ID, ourNumber)
		s.await(c.ID, domain.ChannelConnected, "")
		assert.Zero(t, s.count("SELECT COUNT(*) FROM intakes"))
	})
}

// A notice without a file, such as that there is no history, is nothing that
// could be missing later.
func TestNoticeWithoutAFile(t *testing.T) {
	t.Parallel()
	for _, kind := range []waE2E.HistorySyncType{waE2E.HistorySyncType_NO_HISTORY, waE2E.HistorySyncType_MESSAGE_ACCESS_STATUS} {
		h := &history{loaded: true}
		assert.True(t, h.take(&Session{}, &connection{ctx: t.Context()}, "1", &waE2E.HistorySyncNotification{SyncType: kind.Enum()}))
		assert.Empty(t, h.parts)
	}
}
