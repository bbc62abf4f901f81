package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// A session that is told to end and does not, though its connection is closed, must not keep its channel: another worker opens
// it, and the one with the remains neither renews the lease nor takes the channel again and again.
func TestSessionThatDoesNotEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		release := make(chan struct{})
		w.provider.run = func(ctx context.Context, s *session) error {
			err := s.serve(ctx)
			if s.worker == "a" {
				s.p.mu.Lock()
				delete(s.p.live, 1)
				s.p.mu.Unlock()
				<-release
			}
			return err
		}
		looked := new(atomic.Int64)
		a := w.start("a", func(o *Options) {
			brief(o)
			o.StopTimeout = 200 * time.Millisecond
			o.Measures.PoolWorkers = func(int) { looked.Add(1) }
		})
		w.eventually("a to run the channel", func() bool { return w.provider.owner(1) == "a" })
		b := w.start("b", brief)
		w.exec("UPDATE channels SET config_version = config_version + 1 WHERE id = 1")
		w.eventually("b to take over", func() bool { return w.provider.owner(1) == "b" })
		b.Stop()
		term, looks := w.one("SELECT term FROM leases"), looked.Load()
		w.eventually("many looks of a", func() bool { return looked.Load() > looks+20 })
		require.Equal(t, term, w.one("SELECT term FROM leases"), "it takes no channel that it cannot open")
		require.Len(t, a.Held(), 1, "what remains takes room")
		close(release)
		w.eventually("a to run the channel again", func() bool { return w.provider.owner(1) == "a" })
	})
}

// A channel that fails again and again is shown so, and does not fill the log with its tries.
func TestFailingChannelIsShownOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		var tries atomic.Int64
		var mended atomic.Bool
		w.provider.run = func(ctx context.Context, s *session) error {
			tries.Add(1)
			if err := s.config.Host.SetStatus(ctx, domain.ChannelConnecting, "", "Asking the provider."); err != nil {
				return err
			}
			if mended.Load() {
				return s.serve(ctx)
			}
			return errors.New("connection refused")
		}
		w.start("a", nil)
		w.eventually("many tries", func() bool { return tries.Load() > 30 })
		require.Equal(t, "error", w.one("SELECT state FROM channels"))
		require.Contains(t, w.one("SELECT state_reason FROM channels"), "Next try within 1 s.")
		require.Equal(t, "2", w.one("SELECT COUNT(*) FROM events"), "asking, failed")
		mended.Store(true)
		w.eventually("it to be connected", func() bool { return w.one("SELECT state FROM channels") == "connected" })
		require.Equal(t, "3", w.one("SELECT COUNT(*) FROM events"))
	})
}

// When the worker dies, a channel that failed does not go on promising another try; one that waits for an admin still says so.
func TestFailedChannelOfADeadWorker(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.channel(2)
		w.provider.run = func(_ context.Context, s *session) error {
			return &channel.Down{
				State: domain.ChannelError, Code: "refused", Reason: "The provider refuses.", Permanent: s.config.Channel.ID == 2,
			}
		}
		a := w.start("a", brief)
		state := func(id int) string {
			return w.one("SELECT state || ' ' || state_code || ' ' || state_reason FROM channels WHERE id = %d", id)
		}
		const permanent = "error refused The provider refuses."
		w.eventually("the failures to be shown", func() bool {
			return state(1) == permanent+" Next try within 1 s." && state(2) == permanent
		})
		a.kill()
		w.eventually("the channel to look dead", func() bool {
			require.NoError(t, a.inbox.ShowOrphans(t.Context(), 500*time.Millisecond))
			return strings.HasPrefix(state(1), "disconnected no_worker ")
		})
		require.Equal(t, permanent, state(2))
	})
}

// The waits grow, and what is shown of them stays the same in the end.
func TestBackoffTellsItsMost(t *testing.T) {
	t.Parallel()
	wait := newBackoff(time.Second, time.Minute)
	shown := map[time.Duration]bool{}
	for range 100 {
		most := wait.most()
		shown[most] = true
		d := wait.next()
		require.LessOrEqual(t, d, most)
		require.GreaterOrEqual(t, d, most/2)
	}
	require.Len(t, shown, 7, "1, 2, 4, 8, 16, 32 and 60 s")
	require.Equal(t, time.Minute, wait.most())
}

// Ten of fifty channels fail in every way at once, all the time; the others send and receive as if nothing were.
func TestTenBadChannelsOfFifty(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const channels, bad, rounds = 50, 10, 2
		for id := range int64(channels) {
			w.channel(id + 1)
			w.chat(id+1, id+1)
		}
		w.provider.run = func(ctx context.Context, s *session) error {
			switch id := s.config.Channel.ID; {
			case id > bad || id%5 == 0: // each fifth is bad at sending only
				return s.serve(ctx)
			case id%5 == 1:
				panic("poison")
			case id%5 == 2:
				return errors.New("refused")
			case id%5 == 3:
				<-ctx.Done() // it never comes to be ready
				return nil
			default:
				return &channel.Down{State: domain.ChannelConflict, Code: "conflict", Reason: "Another program uses this bot."}
			}
		}
		w.provider.send = func(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			switch {
			case s.config.Channel.ID > bad:
				return s.accept(out), nil
			case s.config.Channel.ID > bad/2:
				panic("poison")
			default:
				<-ctx.Done()
				return channel.Sent{}, ctx.Err()
			}
		}
		a := w.start("a", func(o *Options) { o.LeaseTTL, o.SendTimeout = time.Minute, 300*time.Millisecond })
		w.eventually("the good ones to be open", func() bool {
			return w.one("SELECT COUNT(*) FROM channels WHERE state = 'connected' AND id > %d", bad) == fmt.Sprint(channels-bad)
		})
		for round := range int64(rounds) {
			queued := time.Now()
			for id := range int64(channels) {
				w.queue(1000*(round+1)+id, id+1, id+1)
			}
			for id := int64(bad + 1); id <= channels; id++ {
				require.NoError(t, a.supervisor(id).receive(testkit.Context(t), fmt.Sprint("in-", round), fmt.Sprint("peer-", id)))
			}
			w.eventually("the good ones to be sent", func() bool {
				return w.one("SELECT COUNT(*) FROM messages WHERE status = 'sent' AND channel_id > %d", bad) == fmt.Sprint((channels-bad)*(round+1))
			})
			took := time.Since(queued)
			t.Logf("%d sends and as many receipts beside %d bad channels: %s", channels-bad, bad, took)
			require.LessOrEqual(t, took, testkit.Slack(3*time.Second))
		}
		require.Equal(t, fmt.Sprint((channels-bad)*rounds), w.one("SELECT COUNT(*) FROM messages WHERE status = 'received'"))
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		for id := int64(bad + 1); id <= channels; id++ {
			require.Equal(t, 1, w.provider.opened[id], "channel %d was left alone", id)
		}
	})
}

// receive is what the channel's session does with a message from a customer.
func (s *supervisor) receive(ctx context.Context, externalID, peer string) error {
	s.mu.Lock()
	dispatch := s.dispatch
	s.mu.Unlock()
	if dispatch == nil {
		return errors.New("the channel has no session")
	}
	return dispatch.host.Receive(ctx, []domain.Inbound{{Message: &domain.InboundMessage{
		ExternalID: externalID, Peer: domain.Peer{Address: peer}, Type: domain.TypeText, Content: "hello",
	}}})
}
