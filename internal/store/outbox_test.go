package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
)

// outbox is a channel with chats and a picture of what waits in them.
type outbox struct {
	t        *testing.T
	s        *store.Store
	random   *rand.Rand
	lastID   int64
	messages map[int64]*waitingMessage
}

type waitingMessage struct {
	id, chat int64
	bulk     bool
	status   string // queued, later or sending
}

const outboxChats = 12

func newOutbox(t *testing.T, s *store.Store) *outbox {
	t.Helper()
	seedChannels(t, s, 2)
	o := &outbox{t: t, s: s, random: testkit.Rand(t), messages: map[int64]*waitingMessage{}}
	o.exec("INSERT INTO contacts (id, organization_id, created_at, updated_at) VALUES (1, 1, 0, 0)")
	for chat := range outboxChats {
		o.exec(`INSERT INTO chats (id, organization_id, channel_id, channel_kind, kind, peer, contact_id, status, activity_at, created_at, updated_at)
			VALUES (%d, 1, 1, 'telegram', 'direct', 'p%d', 1, 'open', 0, 0, 0)`, chat+1, chat+1)
	}
	return o
}

func (o *outbox) exec(query string, args ...any) {
	o.t.Helper()
	_, err := o.s.SQL().ExecContext(o.t.Context(), fmt.Sprintf(query, args...))
	require.NoError(o.t, err)
}

// queue puts a message into the outbox as the API does, and returns its id.
func (o *outbox) queue(chat int64, bulk bool) int64 {
	o.t.Helper()
	in := store.NewMessageInput{
		ChatID: chat, ChannelID: 1, ChannelKind: domain.KindTelegram, Type: domain.TypeText, Content: "x", FromMe: true,
		SenderKey: store.SenderMe, Status: domain.StatusQueued,
	}
	if bulk {
		in.Priority = domain.MessageBulk
	}
	_, err := o.s.InOrg(o.t.Context(), 1, func(tx *store.Tx) error {
		var err error
		o.lastID, _, err = tx.InsertMessage(in)
		return err
	})
	require.NoError(o.t, err)
	o.messages[o.lastID] = &waitingMessage{id: o.lastID, chat: chat, bulk: bulk, status: "queued"}
	return o.lastID
}

func (o *outbox) claim(c store.SendClaim) store.SendsClaimed {
	o.t.Helper()
	c.ChannelID, c.Term = 1, 1
	var claimed store.SendsClaimed
	_, err := o.s.InOrg(o.t.Context(), 1, func(tx *store.Tx) error {
		var err error
		claimed, err = tx.ClaimSends(c)
		return err
	})
	require.NoError(o.t, err)
	return claimed
}

// head is the oldest message of a chat; nil if nothing waits. urgent tells that
// a normal one waits among the chat's queued ones.
func (o *outbox) head(chat int64) (head *waitingMessage, urgent bool) {
	for _, m := range o.messages {
		if m.chat != chat {
			continue
		}
		if head == nil || m.id < head.id {
			head = m
		}
		urgent = urgent || !m.bulk
	}
	return head, urgent
}

// eligible are the chats that a claim may take, by class.
func (o *outbox) eligible(passed []int64) (normal, bulk []int64) {
	for chat := range int64(outboxChats) {
		head, urgent := o.head(chat + 1)
		switch {
		case head == nil || head.status != "queued" || slices.Contains(passed, chat+1):
		case urgent:
			normal = append(normal, chat+1)
		default:
			bulk = append(bulk, chat+1)
		}
	}
	return normal, bulk
}

// sending are the chats with a message under way.
func (o *outbox) sending() (chats []int64) {
	for _, m := range o.messages {
		if m.status == "sending" {
			chats = append(chats, m.chat)
		}
	}
	return chats
}

// take claims with random bounds until nothing more is to be had, and compares
// with the picture.
func (o *outbox) take() {
	o.t.Helper()
	limit := 1 + o.random.IntN(5)
	bulkLimit := o.random.IntN(limit + 1)
	passed := o.sending()
	for range o.random.IntN(3) {
		passed = append(passed, 1+o.random.Int64N(outboxChats))
	}
	normal, bulk := o.eligible(passed)
	due, err := o.s.SendsDue(o.t.Context(), 1, passed, bulkLimit > 0)
	require.NoError(o.t, err)
	if len(normal) > 0 || bulkLimit > 0 && len(bulk) > 0 {
		require.True(o.t, due.Now, "normal %v, bulk %v", normal, bulk)
	}
	var took []domain.Outbound
	for more, round := true, 0; more && len(took) < limit; round++ {
		require.Less(o.t, round, 50, "a claim that never ends")
		room := limit - len(took)
		ofBulk := 0
		for _, out := range took {
			passed = append(passed, out.Message.ChatID)
			if out.Bulk {
				ofBulk++
			}
		}
		claimed := o.claim(store.SendClaim{Limit: room, Bulk: min(bulkLimit-ofBulk, room), Passed: passed})
		took, more = append(took, claimed.Messages...), claimed.More
	}
	var tookNormal, tookBulk int
	for _, out := range took {
		head, urgent := o.head(out.Message.ChatID)
		require.Equal(o.t, head.id, out.Message.ID, "the oldest of its chat")
		require.Equal(o.t, "queued", head.status)
		require.Equal(o.t, !urgent, out.Bulk)
		require.Equal(o.t, head.bulk, out.Message.Priority == domain.MessageBulk)
		if urgent {
			tookNormal++
		} else {
			tookBulk++
		}
	}
	require.Equal(o.t, min(limit, len(normal)), tookNormal, "normal %v, bulk %v, limit %d", normal, bulk, limit)
	require.Equal(o.t, min(limit-tookNormal, bulkLimit, len(bulk)), tookBulk, "normal %v, bulk %v, limits %d and %d", normal, bulk, limit, bulkLimit)
	for _, out := range took {
		o.messages[out.Message.ID].status = "sending"
	}
}

// step changes one message, as a worker or an operator does.
func (o *outbox) step(m *waitingMessage) {
	change := func(fn func(tx *store.Tx) error) {
		_, err := o.s.InOrg(o.t.Context(), 1, fn)
		require.NoError(o.t, err)
	}
	switch {
	case m.status == "sending" && o.random.IntN(3) > 0:
		change(func(tx *store.Tx) error { return tx.SetSendStatus(m.id, domain.StatusSent, nil) })
		delete(o.messages, m.id)
	case m.status == "sending" && o.random.IntN(2) == 0:
		change(func(tx *store.Tx) error { return tx.RequeueSend(m.id, tx.Now().Add(1e12), true, nil) })
		m.status = "later"
	case m.status == "sending":
		change(func(tx *store.Tx) error { return tx.RequeueSend(m.id, tx.Now(), false, nil) })
		m.status = "queued"
	case m.status == "later":
		change(func(tx *store.Tx) error { return tx.Requeue(m.id, false) })
		m.status = "queued"
	case o.random.IntN(4) == 0:
		change(func(tx *store.Tx) error { return tx.Cancel(m.id, domain.SendError{Code: "canceled"}) })
		delete(o.messages, m.id)
	}
}

// TestOutboxAgainstAModel plays queueing, claims, settlements, back-offs,
// retries and cancellations at random. A claim takes just what it should.
func TestOutboxAgainstAModel(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		o := newOutbox(t, open())
		for range 400 {
			switch n := o.random.IntN(10); {
			case n < 4:
				o.queue(1+o.random.Int64N(outboxChats), o.random.IntN(2) == 0)
			case n < 7:
				o.take()
			case len(o.messages) > 0:
				keys := make([]int64, 0, len(o.messages))
				for id := range o.messages {
					keys = append(keys, id)
				}
				slices.Sort(keys)
				o.step(o.messages[keys[o.random.IntN(len(keys))]])
			}
		}
	})
}

// TestBulkWaitsForNormal pins the order that the documents promise.
func TestBulkWaitsForNormal(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		o := newOutbox(t, open())
		first, second := o.queue(1, true), o.queue(2, true)
		third := o.queue(3, true)
		behind := o.queue(3, false) // lifts what is before it in its chat
		other := o.queue(4, false)
		ids := func(c store.SendsClaimed) (all []int64) {
			for _, out := range c.Messages {
				all = append(all, out.Message.ID)
			}
			return all
		}
		require.ElementsMatch(t, []int64{third, other}, ids(o.claim(store.SendClaim{Limit: 2, Bulk: 2})))
		require.Empty(t, ids(o.claim(store.SendClaim{Limit: 2, Bulk: 0, Passed: []int64{3, 4}})), "no place for bulk")
		require.Equal(t, []int64{first, second}, ids(o.claim(store.SendClaim{Limit: 8, Bulk: 8, Passed: []int64{3, 4}})))
		require.Empty(t, ids(o.claim(store.SendClaim{Limit: 8, Bulk: 8, Passed: []int64{1, 2, 4}})), "the chat's first one is under way")
		o.exec("UPDATE messages SET status = 'sent' WHERE id = %d", third)
		require.Equal(t, []int64{behind}, ids(o.claim(store.SendClaim{Limit: 8, Bulk: 0, Passed: []int64{1, 2, 4}})))
		require.Equal(t, "0", fmt.Sprint(count(t, o.s, "SELECT COUNT(*) FROM outbox")), "nothing waits any more")
	})
}

// TestRetryKeepsThePriority: what an operator or the worker puts back stays
// what it was.
func TestRetryKeepsThePriority(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		o := newOutbox(t, open())
		id := o.queue(1, true)
		for _, again := range []func(tx *store.Tx) error{
			func(tx *store.Tx) error { return tx.RequeueSend(id, tx.Now(), true, nil) },
			func(tx *store.Tx) error { return tx.Requeue(id, false) },
		} {
			require.Len(t, o.claim(store.SendClaim{Limit: 1, Bulk: 1}).Messages, 1)
			_, err := o.s.InOrg(t.Context(), 1, again)
			require.NoError(t, err)
			require.Equal(t, int64(1), count(t, o.s, "SELECT priority FROM messages"))
			require.Equal(t, int64(1), count(t, o.s, "SELECT priority FROM outbox"))
		}
	})
}

// A chat that goes on in another one takes what it has queued along.
func TestAbsorbedChatKeepsItsOutbox(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		o := newOutbox(t, open())
		urgent, later := o.queue(2, false), o.queue(2, true)
		_, err := o.s.InOrg(t.Context(), 1, func(tx *store.Tx) error {
			into, err := tx.MoveChat(1, "p1", "p2")
			require.Equal(t, int64(1), into)
			require.Equal(t, int64(1), tx.Current(2))
			return err
		})
		require.NoError(t, err)
		for _, id := range []int64{urgent, later} {
			claimed := o.claim(store.SendClaim{Limit: 8, Bulk: 8}).Messages
			require.Len(t, claimed, 1)
			require.Equal(t, id, claimed[0].Message.ID)
			require.Equal(t, "p2", claimed[0].Peer)
			o.exec("UPDATE messages SET status = 'sent' WHERE id = %d", id)
		}
	})
}

// Whatever the clocks of those who queue and those who send, what is new may go.
func TestClocksThatDifferDelayNothing(t *testing.T) {
	onBothAt := func(t *testing.T, test func(t *testing.T, open func(ahead time.Duration) *store.Store)) {
		for name, url := range map[string]func(testing.TB) string{"PostgreSQL": storetest.Postgres, "SQLite": storetest.SQLite} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				url := url(t)
				test(t, func(ahead time.Duration) *store.Store {
					s, err := store.Open(t.Context(), url, store.Options{MaxConnections: 4, Now: func() time.Time { return time.Now().Add(ahead) }})
					require.NoError(t, err)
					t.Cleanup(func() { _ = s.Close() })
					return s
				})
			})
		}
	}
	onBothAt(t, func(t *testing.T, open func(ahead time.Duration) *store.Store) {
		here := open(0)
		o := newOutbox(t, open(time.Hour)) // who queues is ahead
		want := []int64{o.queue(1, false), o.queue(1, false), o.queue(1, true)}
		senders := []*store.Store{here}
		if here.Postgres() { // SQLite has no clock but that of the one process
			senders = append(senders, open(-time.Hour))
		}
		for i, id := range want {
			s := senders[i%len(senders)]
			due, err := s.SendsDue(t.Context(), 1, nil, true)
			require.NoError(t, err)
			require.True(t, due.Now)
			o.s = s
			claimed := o.claim(store.SendClaim{Limit: 1, Bulk: 1})
			if len(claimed.Messages) == 0 && claimed.More { // it was in the wrong line
				claimed = o.claim(store.SendClaim{Limit: 1, Bulk: 1})
			}
			require.Len(t, claimed.Messages, 1)
			require.Equal(t, id, claimed.Messages[0].Message.ID)
			o.exec("UPDATE messages SET status = 'sent' WHERE id = %d", id)
		}
	})
}

func count(t *testing.T, s *store.Store, query string) (n int64) {
	t.Helper()
	require.NoError(t, s.SQL().QueryRowContext(t.Context(), query).Scan(&n))
	return n
}

// TestOutboxBesideWriters queues from several processes while one claims: what
// a claim does not see keeps its place in the line.
func TestOutboxBesideWriters(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		const writers, each = 3, 60
		o := newOutbox(t, open())
		var wg sync.WaitGroup
		failed := make(chan error, writers)
		for range writers {
			s, seed := open(), o.random.Uint64()
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed, 0))
				for range each {
					in := store.NewMessageInput{
						ChatID: 1 + random.Int64N(4), ChannelID: 1, ChannelKind: domain.KindTelegram, Type: domain.TypeText, Content: "x",
						FromMe: true, SenderKey: store.SenderMe, Status: domain.StatusQueued,
					}
					if random.IntN(2) == 0 {
						in.Priority = domain.MessageBulk
					}
					_, err := s.InOrg(t.Context(), 1, func(tx *store.Tx) error {
						_, _, err := tx.InsertMessage(in)
						return err
					})
					if err != nil {
						failed <- err
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			wg.Wait()
		}()
		sent, over := map[int64]bool{}, false
		for !over {
			select {
			case <-done:
				over = true // one round more, in peace
			default:
			}
			for more := true; more; {
				claimed := o.claim(store.SendClaim{Limit: 3, Bulk: 2})
				for _, out := range claimed.Messages {
					require.False(t, sent[out.Message.ID], "claimed twice")
					sent[out.Message.ID] = true
					o.exec("UPDATE messages SET status = 'sent' WHERE id = %d", out.Message.ID)
				}
				more = len(claimed.Messages) > 0 || claimed.More
			}
		}
		select {
		case err := <-failed:
			require.NoError(t, err)
		default:
		}
		require.Len(t, sent, writers*each)
		require.Zero(t, count(t, o.s, "SELECT COUNT(*) FROM outbox"))
	})
}

// TestQueueingBesideAClaim interleaves the two at the moments at which a chat
// could lose its place in the line.
func TestQueueingBesideAClaim(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		if !s.Postgres() {
			return // SQLite has one writer at a time
		}
		o := newOutbox(t, s)
		first := o.queue(1, false)
		ctx := testkit.Context(t)
		insert := `INSERT INTO messages (organization_id, chat_id, channel_id, channel_kind, type, content, from_me, sender_key, sender_name, status, provider_time, created_at)
			VALUES (1, 1, 1, 'telegram', 'text', 'x', true, 'me', '', 'queued', 0, 1)`

		writer, err := open().SQL().BeginTx(ctx, nil)
		require.NoError(t, err)
		defer func() { _ = writer.Rollback() }()
		_, err = writer.ExecContext(ctx, insert)
		require.NoError(t, err)
		all := store.SendClaim{Limit: 8, Bulk: 8}
		require.Empty(t, o.claim(all).Messages, "a claim waits for nobody")
		require.NoError(t, writer.Commit())

		claimed := o.claim(all).Messages
		require.Len(t, claimed, 1)
		require.Equal(t, first, claimed[0].Message.ID)
		o.exec("UPDATE messages SET status = 'sent' WHERE id = %d", first)

		queued, other := make(chan error, 1), open()
		_, err = s.InOrg(ctx, 1, func(tx *store.Tx) error {
			all.ChannelID, all.Term = 1, 1
			claimed, err := tx.ClaimSends(all) // the chat's last message: its row is gone
			if err != nil || len(claimed.Messages) != 1 {
				return fmt.Errorf("claimed %d: %w", len(claimed.Messages), err)
			}
			go func() {
				_, err := other.SQL().ExecContext(ctx, insert)
				queued <- err
			}()
			testkit.Eventually(t, "the writer to wait", func() bool {
				return count(t, s, "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
			})
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, <-queued)
		require.Equal(t, int64(1), count(t, s, "SELECT COUNT(*) FROM outbox"), "what came meanwhile has its place")
	})
}
