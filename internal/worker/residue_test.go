package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

var errAnswerLost = errors.New("the connection broke at the answer to COMMIT")

// TestLostClaimIsReleased loses the answers of two committed claims while a
// message of another chat is under way. The chat goes on, in order, and neither
// what was claimed in vain nor what is under way leaves twice.
func TestLostClaimIsReleased(t *testing.T) {
	for _, resend := range []bool{false, true} {
		t.Run(fmt.Sprintf("resender %t", resend), func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) { lostClaim(t, w, resend) })
		})
	}
}

func lostClaim(t *testing.T, w *world, resend bool) {
	w.provider.resend = resend
	w.channel(1)
	w.chat(1, 1)
	w.chat(2, 1)
	w.queue(10, 2, 1)
	begun, finish := make(chan struct{}), make(chan struct{})
	w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
		if out.Message.ID == 10 {
			close(begun) // panics if it is sent twice
			<-finish
		}
		return s.accept(out), nil
	}
	a := w.node("a", nil)
	var left atomic.Int64
	a.loseClaim = func(claimed []domain.Outbound) error {
		if len(claimed) == 0 || left.Load() == 0 {
			return nil
		}
		left.Add(-1)
		return errAnswerLost
	}
	require.NoError(t, a.Start(t.Context()))
	<-begun
	left.Store(2)
	for id := range int64(3) {
		w.queue(id+1, 1, 1)
	}
	for id := range int64(3) {
		w.eventuallyStatus(id+1, domain.StatusSent)
	}
	require.Zero(t, left.Load(), "two answers were lost")
	require.Equal(t, "sending", w.status(10), "what is under way is not taken back")
	close(finish)
	w.eventuallyStatus(10, domain.StatusSent)
	require.Equal(t, []int64{1, 2, 3}, w.provider.sentTo(1))
	require.Equal(t, []int64{10}, w.provider.sentTo(2))
	require.Equal(t, []string{"sending", "sending", "sending", "sent"}, w.statuses(1))
	require.Equal(t, "0", w.one("SELECT MAX(retries) FROM messages"), "it does not count as a try")
}

// TestLostClaimAtTheEndOfASession: the next session knows that nothing left.
func TestLostClaimAtTheEndOfASession(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.queue(1, 1, 1)
		w.queue(2, 1, 1)
		drop := make(chan struct{})
		var first sync.Once
		w.provider.run = func(ctx context.Context, s *session) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			first.Do(func() {
				go func() {
					<-drop
					cancel()
				}()
			})
			return s.serve(ctx)
		}
		a := w.node("a", nil)
		var lose sync.Once
		a.loseClaim = func([]domain.Outbound) (err error) {
			lose.Do(func() {
				supervisor := a.supervisor(1)
				supervisor.mu.Lock()
				session := supervisor.dispatch.host.ctx
				supervisor.mu.Unlock()
				close(drop)
				<-session.Done()
				err = errAnswerLost
			})
			return err
		}
		require.NoError(t, a.Start(t.Context()))
		w.eventuallyStatus(2, domain.StatusSent)
		require.Equal(t, "sent", w.status(1))
		require.Equal(t, []int64{1, 2}, w.provider.sentTo(1))
		require.Equal(t, "0", w.one("SELECT retries FROM messages WHERE id = 1"))
	})
}

// TestSettleFailsForAWhile: however often the outcome of a send cannot be
// written, and whatever the reason, it is written in the end and sent once.
func TestSettleFailsForAWhile(t *testing.T) {
	for name, failure := range map[string]error{
		"connection": errors.New("connection refused"),
		"data":       domain.Errorf(domain.CodeInvalid, "The database does not take this."),
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) {
				w.channel(1)
				w.chat(1, 1)
				w.queue(1, 1, 1)
				w.queue(2, 1, 1)
				a := w.node("a", nil)
				var tries atomic.Int64
				a.beforeSettle = func(id int64) error {
					if id == 1 && tries.Add(1) <= 5 {
						return failure
					}
					return nil
				}
				require.NoError(t, a.Start(t.Context()))
				w.eventuallyStatus(2, domain.StatusSent)
				require.Equal(t, "sent", w.status(1))
				require.Equal(t, int64(6), tries.Load())
				require.Equal(t, []int64{1, 2}, w.provider.sentTo(1))
				require.Equal(t, []string{"sending", "sent"}, w.statuses(1))
			})
		})
	}
}

// TestKnownOutcomeIsKept refuses the outcome of a send through a lost claim and
// through a new session: the message is neither repeated nor called unknown.
func TestKnownOutcomeIsKept(t *testing.T) {
	for _, resend := range []bool{false, true} {
		t.Run(fmt.Sprintf("resender %t", resend), func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) { knownOutcome(t, w, resend) })
		})
	}
}

func knownOutcome(t *testing.T, w *world, resend bool) {
	w.provider.resend = resend
	w.channel(1)
	w.chat(1, 1)
	w.chat(2, 1)
	w.queue(1, 1, 1)
	w.queue(2, 1, 1)
	drop := make(chan struct{}, 1)
	w.provider.run = func(ctx context.Context, s *session) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-drop:
				cancel()
			case <-ctx.Done():
			}
		}()
		return s.serve(ctx)
	}
	a := w.node("a", nil)
	var taken, lose atomic.Bool
	var tries atomic.Int64
	a.beforeSettle = func(id int64) error {
		if id == 1 && !taken.Load() {
			tries.Add(1)
			return domain.Errorf(domain.CodeInvalid, "The database does not take this.")
		}
		return nil
	}
	a.loseClaim = func(claimed []domain.Outbound) error {
		if len(claimed) > 0 && lose.CompareAndSwap(true, false) {
			return errAnswerLost
		}
		return nil
	}
	require.NoError(t, a.Start(t.Context()))
	w.eventually("the outcome to be kept", func() bool { return tries.Load() > 2 })

	lose.Store(true)
	w.queue(10, 2, 1)
	w.eventuallyStatus(10, domain.StatusSent)
	require.False(t, lose.Load(), "an answer was lost")
	require.Equal(t, "sending", w.status(1))

	drop <- struct{}{}
	w.eventually("the next session", func() bool {
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		return w.provider.opened[1] == 2
	})
	w.queue(11, 2, 1)
	w.eventuallyStatus(11, domain.StatusSent) // it has looked at what the first one left
	require.Equal(t, "sending", w.status(1))
	require.Equal(t, "queued", w.status(2), "the chat keeps its order")

	taken.Store(true)
	w.eventuallyStatus(2, domain.StatusSent)
	require.Equal(t, "sent", w.status(1))
	require.Equal(t, []int64{1, 2}, w.provider.sentTo(1))
	require.Equal(t, []int64{10, 11}, w.provider.sentTo(2))
	require.Equal(t, []string{"sending", "sent"}, w.statuses(1))
}

// acquire takes the lease of the only channel for nobody's worker.
func (w *world) acquire() store.Lease {
	w.t.Helper()
	leases, err := w.db.AcquireLeases(w.t.Context(), store.LeaseClaim{
		WorkerID: "test", TTL: time.Minute, Limit: 1, Kinds: []domain.ChannelKind{domain.KindTelegram},
	})
	require.NoError(w.t, err)
	require.Len(w.t, leases, 1)
	return leases[0]
}

// TestReleaseWaitsForTheLostCommit: the COMMIT whose answer was lost may still
// be under way in the database when the claim is taken back.
func TestReleaseWaitsForTheLostCommit(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		if !w.db.Postgres() {
			return // a COMMIT of SQLite is over when it returns
		}
		w.channel(1)
		w.chat(1, 1)
		w.queue(1, 1, 1)
		lease := w.acquire()
		claim, err := w.db.SQL().BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = claim.Rollback() }()
		for _, query := range []string{
			"SELECT 1 FROM leases WHERE channel_id = 1 FOR SHARE",
			fmt.Sprintf("UPDATE messages SET status = 'sending', attempt = 1, sending_term = %d WHERE id = 1", lease.Term),
		} {
			_, err = claim.ExecContext(t.Context(), query)
			require.NoError(t, err)
		}
		type answer struct {
			n   int
			err error
		}
		released := make(chan answer, 1)
		service := w.node("a", nil).inbox
		go func() {
			n, err := service.ReleaseClaims(t.Context(), 1, lease, nil)
			released <- answer{n, err}
		}()
		w.eventually("the release to wait, or to be over", func() bool {
			return len(released) == 1 ||
				w.one("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
		})
		require.NoError(t, claim.Commit())
		require.Equal(t, answer{n: 1}, <-released)
		require.Equal(t, "queued", w.status(1))
	})
}

func TestReleaseNeedsTheLease(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		lease := w.acquire()
		lease.Term--
		_, err := w.node("a", nil).inbox.ReleaseClaims(t.Context(), 1, lease, nil)
		require.ErrorIs(t, err, store.ErrLeaseLost)
	})
}

// TestLongestPauseHolds: sends beside each other ask for different pauses.
func TestLongestPauseHolds(t *testing.T) {
	d := &dispatcher{s: &supervisor{}, sending: map[int64]struct{}{}, busy: map[int64]struct{}{}}
	d.running[sends] = 3
	d.retire(task{lane: sends, id: 1, chat: 1, pause: time.Hour})
	long := d.s.paused
	require.WithinDuration(t, time.Now().Add(time.Hour), long, time.Minute)
	d.retire(task{lane: sends, id: 2, chat: 2, pause: time.Second})
	require.Equal(t, long, d.s.paused, "a shorter one does not end it")
	d.retire(task{lane: sends, id: 3, chat: 3, pause: 2 * time.Hour})
	require.True(t, d.s.paused.After(long), "a longer one prolongs it")
}
