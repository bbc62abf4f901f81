package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

func TestSendSettles(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.inbound(1, 1, 1)
		w.queue(2, 1, 1)
		w.exec("UPDATE messages SET reply_to_id = 1 WHERE id = 2")
		got := make(chan domain.Outbound, 1)
		w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			got <- out
			return s.accept(out), nil
		}
		a := w.start("a", calm)
		out := <-got
		require.Equal(t, "peer-1", out.Peer)
		require.Equal(t, 1, out.Attempt)
		require.Equal(t, "in-1", out.ReplyToExternalID)
		require.Equal(t, "m2", out.Message.Content)
		require.Equal(t, "m1", out.Message.ReplyTo.Content)
		w.eventuallyStatus(2, domain.StatusSent)
		require.Equal(t, "out-2-1", w.one("SELECT external_id FROM messages WHERE id = 2"))
		require.Equal(t, []string{"sending", "sent"}, w.statuses(2))
		a.Stop()
		require.Equal(t, "disconnected", w.one("SELECT state FROM channels WHERE id = 1"))
	})
}

// A file on its way up gets the time of a slow line.
func TestSendTimeout(t *testing.T) {
	t.Parallel()
	o := Options{SendTimeout: 90 * time.Second}
	with := func(size int64) domain.Message { return domain.Message{Media: &domain.Media{Size: size}} }
	require.Equal(t, 90*time.Second, o.timeoutOf(domain.Message{}))
	require.Equal(t, 90*time.Second, o.timeoutOf(with(0)))
	require.Greater(t, o.timeoutOf(with(100<<20)), 8*time.Minute)
	require.Equal(t, 90*time.Second+maxUpload, o.timeoutOf(with(1<<62)))
}

// TestOrderWithinChats sends 100 messages over 10 chats while the provider
// fails in every way it may. Each chat's accepted messages arrive in order, and
// nothing of unknown fate is repeated.
func TestOrderWithinChats(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const chats, each = 10, 10
		w.channel(1)
		for c := range int64(chats) {
			w.chat(c+1, 1)
		}
		for i := range int64(chats * each) {
			w.queue(i+1, i%chats+1, 1)
		}
		var mu sync.Mutex
		random := testkit.Rand(t)
		var together sync.WaitGroup // of the first messages of two chats
		together.Add(2)
		refused, lost := map[int64]bool{}, map[int64]bool{}
		w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			if out.Message.ID <= 2 && out.Attempt == 1 {
				together.Done() // chats do not wait for each other
				together.Wait()
			}
			id := out.Message.ID
			mu.Lock()
			defer mu.Unlock()
			switch random.IntN(20) {
			case 0:
				refused[id] = true
				return channel.Sent{}, &channel.SendError{Outcome: channel.Refused, Code: "blocked", Message: "The customer blocked the bot."}
			case 1:
				lost[id] = true
				s.accept(out)
				return channel.Sent{}, errors.New("connection reset")
			case 2:
				if out.Attempt < 2 { // each waits a second
					return channel.Sent{}, &channel.SendError{Outcome: channel.NotSent, Code: "rate_limited"}
				}
			case 3:
				lost[id] = true
				panic("poison")
			}
			return s.accept(out), nil
		}
		w.start("a", calm)
		w.eventually("the outbox to be empty", func() bool {
			return w.one("SELECT COUNT(*) FROM messages WHERE status IN ('queued', 'sending')") == "0"
		})
		for c := range int64(chats) {
			order := w.provider.sentTo(c + 1)
			require.True(t, slices.IsSorted(order), "chat %d: %v", c+1, order)
			require.Len(t, slices.Compact(order), len(order), "nothing twice")
		}
		mu.Lock()
		defer mu.Unlock()
		for i := range int64(chats * each) {
			want := domain.StatusSent
			if refused[i+1] {
				want = domain.StatusFailed
			} else if lost[i+1] {
				want = domain.StatusUnknown
			}
			require.Equal(t, string(want), w.status(i+1), "message %d", i+1)
		}
		require.Empty(t, w.one("SELECT COALESCE(MAX(error_message), '') FROM messages WHERE status = 'sent'"))
		require.NotEmpty(t, refused)
		require.NotEmpty(t, lost)
	})
}

// TestCrashAtEachStateOfASend is F2 for a provider without idempotency: what
// may have left is unknown afterwards and not repeated.
func TestCrashAtEachStateOfASend(t *testing.T) {
	for _, at := range []string{"claimed", "while sending", "sent, not settled"} {
		for _, resend := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, resender %t", at, resend), func(t *testing.T) {
				onBoth(t, func(t *testing.T, w *world) { crash(t, w, at, resend) })
			})
		}
	}
}

func crash(t *testing.T, w *world, at string, resend bool) {
	w.provider.resend = resend
	w.channel(1)
	w.chat(1, 1)
	w.chat(2, 1)
	w.queue(1, 1, 1)
	w.queue(2, 1, 1)
	short := func(o *Options) { o.LeaseTTL = time.Second }
	a := w.node("a", short)
	var once sync.Once
	die := func() {
		once.Do(func() {
			a.kill()
			<-a.supervisor(1).holding.ctx.Done()
		})
	}
	if at == "claimed" {
		a.afterClaim = func(int64) { die() }
	}
	w.provider.send = func(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
		if s.worker == "a" && at == "while sending" {
			die()
			<-ctx.Done()
			return channel.Sent{}, ctx.Err()
		}
		sent := s.accept(out)
		if s.worker == "a" {
			die()
		}
		return sent, nil
	}
	require.NoError(t, a.Start(t.Context()))
	w.eventually("the crash", func() bool { return w.provider.owner(1) == "" && a.isDead() })
	require.Equal(t, "sending", w.status(1))
	require.Equal(t, "queued", w.status(2))
	before := w.provider.sendsOf(1)

	w.start("b", short)
	w.eventuallyStatus(2, domain.StatusSent)
	if resend {
		w.eventuallyStatus(1, domain.StatusSent)
		sends := w.provider.sendsOf(1)
		require.Len(t, sends, len(before)+1, "it is repeated")
		require.Len(t, slices.Compact(sends), 1, "under the same id: %v", sends)
		require.Equal(t, []int64{1, 2}, slices.Compact(w.provider.sentTo(1)), "and in order")
		return
	}
	require.Equal(t, "unknown", w.status(1))
	require.Equal(t, "outcome_unknown", w.one("SELECT error_code FROM messages WHERE id = 1"))
	require.Equal(t, before, w.provider.sendsOf(1), "it is not repeated")
	require.Equal(t, []string{"sending", "unknown"}, w.statuses(1))

	// Only an operator sends it again.
	w.exec("UPDATE messages SET status = 'queued', retries = 0, next_attempt_at = 0 WHERE id = 1")
	w.eventuallyStatus(1, domain.StatusSent)
	require.Len(t, w.provider.sendsOf(1), len(before)+1)
}

func (w *Worker) isDead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

// TestNotSentIsRepeated pins the back-off: not before its time, in order, and
// told as a state of the message, never as a status that goes back.
func TestNotSentIsRepeated(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.chat(2, 1)
		w.queue(1, 1, 1)
		w.queue(2, 1, 1)
		var mu sync.Mutex
		var first, second time.Time
		w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			mu.Lock()
			defer mu.Unlock()
			if out.Message.ID == 1 && out.Attempt == 1 {
				first = time.Now()
				return channel.Sent{}, &channel.SendError{
					Outcome: channel.NotSent, Code: "rate_limited", Message: "Too many messages.", RetryAfter: 1200 * time.Millisecond, WholeChannel: true,
				}
			}
			if out.Message.ID == 1 {
				second = time.Now()
			}
			return s.accept(out), nil
		}
		w.start("a", calm)
		w.eventually("the first try", func() bool { return w.one("SELECT retries FROM messages WHERE id = 1") == "1" })
		w.queue(3, 2, 1) // of another chat: the provider wants nothing of the channel
		w.eventuallyStatus(2, domain.StatusSent)
		w.eventuallyStatus(3, domain.StatusSent)
		mu.Lock()
		defer mu.Unlock()
		require.GreaterOrEqual(t, second.Sub(first), 1200*time.Millisecond)
		for _, s := range w.provider.sent {
			require.GreaterOrEqual(t, s.at.Sub(first), 1200*time.Millisecond, "message %d", s.id)
		}
		require.Equal(t, []int64{1, 2}, w.provider.sentTo(1))
		require.Equal(t, []string{"sending", "sending", "sent"}, w.statuses(1))
		require.Empty(t, w.one("SELECT error_code FROM messages WHERE id = 1"))
	})
}

func TestTriedTooOften(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.queue(1, 1, 1)
		w.queue(2, 1, 1)
		w.exec("UPDATE messages SET retries = 10 WHERE id = 1") // the bound
		w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			if out.Message.ID == 1 {
				return channel.Sent{}, &channel.SendError{Outcome: channel.NotSent, Code: "offline", Message: "The phone \x00is\xff offline."}
			}
			return s.accept(out), nil
		}
		w.start("a", calm)
		w.eventuallyStatus(1, domain.StatusFailed)
		require.Equal(t, "offline", w.one("SELECT error_code FROM messages WHERE id = 1"))
		w.eventuallyStatus(2, domain.StatusSent)
	})
}

// TestEarlyStatus lets the provider report on a message before the answer to
// its send, by our mark and by its own id, and pins that nothing goes back.
func TestEarlyStatus(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.chat(2, 1)
		w.queue(1, 1, 1)
		w.queue(2, 2, 1)
		reported, other := make(chan struct{}), make(chan struct{})
		w.provider.send = func(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			sent := s.accept(out)
			status := domain.InboundStatus{ExternalID: sent.ExternalID, Status: domain.StatusRead}
			if out.Message.ID == 1 {
				status.MessageID, status.Attempt, status.Status = 1, out.Attempt, domain.StatusDelivered
			}
			err := s.config.Host.Receive(ctx, []domain.Inbound{{Status: &status}})
			if out.Message.ID == 1 {
				// The chat's next message waits for the answer all the same,
				// while others go.
				close(reported)
				select {
				case <-other:
				case <-ctx.Done():
				}
			}
			return sent, err
		}
		w.start("a", calm)
		<-reported
		w.chat(3, 1)
		w.queue(3, 1, 1)
		w.queue(4, 3, 1)
		w.eventually("a later message of another chat", func() bool { return len(w.provider.sentTo(3)) == 1 })
		require.Equal(t, []int64{1}, w.provider.sentTo(1))
		close(other)
		w.eventuallyStatus(3, domain.StatusRead)
		w.eventuallyStatus(1, domain.StatusDelivered)
		w.eventuallyStatus(2, domain.StatusRead)
		require.Equal(t, []string{"sending", "delivered"}, w.statuses(1))
		require.Equal(t, []string{"sending", "sent", "read"}, w.statuses(2))
		require.Equal(t, "out-1-1", w.one("SELECT external_id FROM messages WHERE id = 1"))
		require.Equal(t, "0", w.one("SELECT COUNT(*) FROM early_updates"))
	})
}

// TestExternalIDTaken: a provider that gives two messages one id does not stop
// the chat.
func TestExternalIDTaken(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.queue(1, 1, 1)
		w.queue(2, 1, 1)
		w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			s.accept(out)
			return channel.Sent{ExternalID: "same"}, nil
		}
		w.start("a", calm)
		w.eventuallyStatus(2, domain.StatusSent)
		require.Equal(t, "same", w.one("SELECT external_id FROM messages WHERE id = 1"))
		require.Empty(t, w.one("SELECT COALESCE(external_id, '') FROM messages WHERE id = 2"))
	})
}

// TestStopLetsSendsFinish: a send under way at a stop is settled; one that does
// not finish is unknown; what was only claimed goes back.
func TestStopLetsSendsFinish(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		for c := range int64(3) {
			w.chat(c+1, 1)
			w.queue(c+1, c+1, 1)
		}
		begun, finish := make(chan struct{}, 2), make(chan struct{})
		w.provider.send = func(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			begun <- struct{}{}
			if out.Message.ID == 2 {
				<-ctx.Done()
				return channel.Sent{}, ctx.Err()
			}
			<-finish
			return s.accept(out), nil
		}
		a := w.node("a", calm)
		hold := make(chan struct{})
		a.afterClaim = func(id int64) {
			if id == 3 {
				<-hold
			}
		}
		require.NoError(t, a.Start(t.Context()))
		<-begun
		<-begun
		go func() {
			<-a.supervisor(1).retired
			close(finish)
		}()
		supervisor := a.supervisor(1)
		go func() { // lets go of the third when the session is over
			supervisor.mu.Lock()
			ctx := supervisor.dispatch.host.ctx
			supervisor.mu.Unlock()
			<-ctx.Done()
			close(hold)
		}()
		a.Stop()
		require.Equal(t, "sent", w.status(1))
		require.Equal(t, "unknown", w.status(2))
		require.Equal(t, "queued", w.status(3))
		require.Equal(t, "0", w.one("SELECT retries FROM messages WHERE id = 3"))
	})
}

// TestRandomKills plays workers that die at random under a load, and counts
// what arrived.
func TestRandomKills(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const channels, each = 4, 12
		random := testkit.Rand(t)
		for c := range int64(channels) {
			w.channel(c + 1)
			w.chat(c+1, c+1)
		}
		for i := range int64(channels * each) {
			w.queue(i+1, i%channels+1, i%channels+1)
		}
		var sends atomic.Int64
		var mu sync.Mutex
		var present *node
		killAt := map[int64]bool{}
		for range 4 {
			killAt[1+random.Int64N(channels*each)] = true
		}
		jitter := rand.New(rand.NewPCG(random.Uint64(), 0))
		w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			n := sends.Add(1)
			mu.Lock()
			dead, before := killAt[n], jitter.IntN(2) == 0
			victim := present
			mu.Unlock()
			if dead && before && victim != nil {
				victim.kill()
			}
			sent := s.accept(out)
			if dead && victim != nil {
				victim.kill()
			}
			return sent, nil
		}
		short := func(o *Options) { o.LeaseTTL = 400 * time.Millisecond }
		settled := func() bool {
			return w.one("SELECT COUNT(*) FROM messages WHERE status IN ('queued', 'sending')") == "0"
		}
		for i := 0; !settled(); i++ {
			n := w.start(fmt.Sprint("w", i), short)
			mu.Lock()
			present = n
			mu.Unlock()
			w.eventually("the outbox to be empty, or another death", func() bool { return n.isDead() || settled() })
		}
		for i := range int64(channels * each) {
			n := len(w.provider.sendsOf(i + 1))
			require.LessOrEqual(t, n, 1, "message %d", i+1)
			if w.status(i+1) == "sent" {
				require.Equal(t, 1, n, "message %d", i+1)
			}
		}
		for c := range int64(channels) {
			require.True(t, slices.IsSorted(w.provider.sentTo(c+1)))
		}
		t.Logf("sent %s, unknown %s", w.one("SELECT COUNT(*) FROM messages WHERE status = 'sent'"), w.one("SELECT COUNT(*) FROM messages WHERE status = 'unknown'"))
	})
}
