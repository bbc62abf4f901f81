package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
)

func TestTakeoverAfterKill(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(5) {
			w.channel(id + 1)
		}
		a := w.start("a", brief)
		w.eventually("a to run all", func() bool { return len(w.provider.owners()) == 5 })
		w.start("b", brief)
		a.kill()
		killed := time.Now()
		w.eventually("b to run all", func() bool { return slices.Equal(w.provider.owners(), []string{"b", "b", "b", "b", "b"}) })
		took := time.Since(killed)
		t.Logf("take-over after a kill: %s with a TTL of %s", took, a.o.LeaseTTL)
		require.LessOrEqual(t, took, a.o.LeaseTTL+testkit.Slack(3*time.Second))
	})
}

func TestHandOverAtStop(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const channels = 20
		for id := range int64(channels) {
			w.channel(id + 1)
		}
		slow := func(o *Options) { o.LeaseTTL, o.PollInterval = time.Minute, 500*time.Millisecond }
		a := w.start("a", slow)
		w.eventually("a to run all", func() bool { return len(w.provider.owners()) == channels })
		w.start("b", slow)
		stopped := time.Now()
		a.Stop()
		require.Empty(t, a.Held())
		w.eventually("b to run all", func() bool {
			owners := w.provider.owners()
			return len(owners) == channels && owners[0] == "b"
		})
		took := time.Since(stopped)
		t.Logf("hand-over of %d channels at a stop: %s", channels, took)
		require.LessOrEqual(t, took, testkit.Slack(2*time.Second))
	})
}

// TestPausedWorker blocks the renewals of a worker, as a pause of its process or
// a cut from the database would, while its session goes on writing.
func TestPausedWorker(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		var lateWrites, refused atomic.Int64
		ended := make(chan time.Time, 1)
		w.provider.run = func(ctx context.Context, s *session) error {
			if s.worker != "a" {
				return s.serve(ctx)
			}
			s.config.Host.Ready()
			<-ctx.Done()
			select {
			case ended <- time.Now(): // the first time; it may take the channel again under another term
			default:
			}
			return nil
		}
		a := w.node("a", brief)
		var block atomic.Bool
		a.beforeRenew = func(ctx context.Context) error {
			if block.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		require.NoError(t, a.Start(t.Context()))
		w.eventually("a to run the channel", func() bool { return w.provider.owner(1) == "a" })
		lease := a.supervisor(1).holding.lease
		block.Store(true)
		blocked := time.Now()
		w.start("b", brief)
		endedAt := <-ended
		w.eventually("the lease to expire", func() bool {
			return w.one("SELECT term FROM leases WHERE channel_id = 1") != fmt.Sprint(lease.Term)
		})
		require.Less(t, endedAt.Sub(blocked), a.o.LeaseTTL, "the session ends before its lease")
		// Whoever has not noticed goes around the worker's own checks, straight
		// to the guarded transaction.
		for range 20 {
			err := a.inbox.Receive(t.Context(), 1, []domain.Inbound{{Message: &domain.InboundMessage{
				ExternalID: "late", Peer: domain.Peer{Address: "peer-1"}, Type: domain.TypeText, Content: "late",
			}}}, store.Holding(lease))
			if errors.Is(err, store.ErrLeaseLost) {
				refused.Add(1)
			} else {
				lateWrites.Add(1)
			}
		}
		require.Zero(t, lateWrites.Load())
		require.EqualValues(t, 20, refused.Load())
		require.Equal(t, "0", w.one("SELECT COUNT(*) FROM messages"))
		w.eventually("b to run the channel", func() bool { return w.provider.owner(1) == "b" })
	})
}

// TestTrust pins when a lease is trusted, whatever the database answers.
func TestTrust(t *testing.T) {
	t.Parallel()
	start := time.Now()
	h := newHolding(context.Background(), store.Lease{}, start.Add(50*time.Millisecond))
	require.True(t, h.trusted())
	h.extend(start.Add(30 * time.Millisecond)) // a renewal that was overtaken
	h.mu.Lock()
	require.Equal(t, start.Add(50*time.Millisecond), h.until)
	h.mu.Unlock()
	h.extend(start.Add(80 * time.Millisecond))
	<-h.ctx.Done()
	require.GreaterOrEqual(t, time.Since(start), 80*time.Millisecond)
	require.ErrorIs(t, context.Cause(h.ctx), errDistrusted)
	h.extend(time.Now().Add(time.Hour)) // an answer that came too late
	require.False(t, h.trusted())
	require.True(t, h.lost())
}

func TestDedicatedAndCapacity(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(6) {
			w.channel(id + 1)
		}
		d := w.start("d", func(o *Options) { o.Channels = []int64{3, 5} })
		w.eventually("the dedicated worker to run its own", func() bool { return w.provider.owner(3) == "d" && w.provider.owner(5) == "d" })
		p := w.start("p", func(o *Options) { o.MaxChannels = 3 })
		w.eventually("the pool to be full", func() bool { return len(p.Held()) == 3 })
		w.exec("UPDATE channels SET enabled = false WHERE id = 1")
		w.eventually("the pool to take another in place of a disabled one", func() bool {
			held := p.Held()
			slices.Sort(held)
			return slices.Equal(held, []int64{2, 4, 6})
		})
		require.ElementsMatch(t, []int64{3, 5}, d.Held())
	})
}

func TestChangedChannelStartsAnew(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		a := w.start("a", nil)
		w.eventually("the first session", func() bool { return w.provider.owner(1) == "a" })
		term := a.supervisor(1).holding.lease.Term
		w.exec("UPDATE channels SET config_version = 2 WHERE id = 1")
		w.eventually("the second session", func() bool {
			w.provider.mu.Lock()
			defer w.provider.mu.Unlock()
			return w.provider.opened[1] == 2 && w.provider.live[1] == "a"
		})
		require.Equal(t, term, a.supervisor(1).holding.lease.Term, "under the same lease")
		w.exec("UPDATE channels SET deleted_at = 1 WHERE id = 1")
		w.eventually("the channel to be given up", func() bool { return len(a.Held()) == 0 })
		require.Empty(t, w.provider.owners())
	})
}

// TestOneBadChannel lets one channel fail in every way beside a good one.
func TestOneBadChannel(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.channel(2)
		w.chat(2, 2)
		var runs atomic.Int64
		w.provider.run = func(ctx context.Context, s *session) error {
			if s.config.Channel.ID == 2 {
				return s.serve(ctx)
			}
			switch runs.Add(1) {
			case 1:
				panic("poison")
			case 2:
				return errors.New("refused")
			case 3:
				return nil
			case 4:
				return &channel.Down{State: domain.ChannelConflict, Code: "conflict", Reason: "Another program uses this bot."}
			case 5:
				return &channel.Down{State: domain.ChannelLoggedOut, Code: "logged_out", Reason: "The token was revoked.", Permanent: true}
			default:
				return s.serve(ctx)
			}
		}
		w.start("a", nil)
		w.eventually("the channel to be logged out", func() bool { return w.one("SELECT state FROM channels WHERE id = 1") == "logged_out" })
		require.EqualValues(t, 5, runs.Load())
		require.Equal(t, "The token was revoked.", w.one("SELECT state_reason FROM channels WHERE id = 1"))
		w.queue(1, 2, 2)
		w.eventuallyStatus(1, domain.StatusSent)
		require.EqualValues(t, 5, runs.Load(), "a permanent end is not tried again")
		w.exec("UPDATE channels SET config_version = config_version + 1 WHERE id = 1")
		w.eventually("the channel to be connected", func() bool { return w.one("SELECT state FROM channels WHERE id = 1") == "connected" })
		require.Equal(t, "a", w.one("SELECT state_worker FROM channels WHERE id = 1"))
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		require.Equal(t, 1, w.provider.opened[2], "the good channel was left alone")
	})
}

// TestStartStopHammered starts and stops workers at every moment of a session's
// life. What is left over is found by goleak, in the end and here.
func TestStartStopHammered(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	for id := range int64(6) {
		w.channel(id + 1)
		w.chat(id+1, id+1)
	}
	random := testkit.Rand(t)
	rounds := 25
	if testkit.Full() {
		rounds = 300
	}
	options := goleak.IgnoreCurrent()
	for i := range rounds {
		w.queue(int64(i+1), int64(i%6+1), int64(i%6+1))
		n := w.node(fmt.Sprint("w", i), func(o *Options) { o.PollInterval = 5 * time.Millisecond })
		require.NoError(t, n.Start(t.Context()))
		require.Error(t, n.Start(t.Context()), "a worker is started once")
		timer := time.NewTimer(time.Duration(random.IntN(25)) * time.Millisecond)
		<-timer.C
		done := make(chan struct{})
		go func() {
			n.Stop()
			close(done)
		}()
		n.Stop()
		<-done
		require.Empty(t, n.Held())
		require.Empty(t, w.provider.owners())
		require.NoError(t, n.store.Close())
	}
	goleak.VerifyNone(t, append(testkit.Leaks(), options)...)
	w.start("last", nil)
	w.eventually("all messages to be sent", func() bool {
		return w.one("SELECT COUNT(*) FROM messages WHERE status NOT IN ('sent', 'unknown')") == "0"
	})
	for i := range rounds {
		require.LessOrEqual(t, len(w.provider.sendsOf(int64(i+1))), 1, "message %d", i+1)
	}
	require.Equal(t, "0", w.one("SELECT COUNT(*) FROM messages WHERE status = 'unknown'"), "an orderly stop leaves no doubt")
	w.provider.check(t)
}
