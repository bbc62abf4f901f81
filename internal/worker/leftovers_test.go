package worker

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
)

// crashSending ends a worker by force while it sends message 101.
func crashSending(w *world) {
	w.t.Helper()
	w.channel(1)
	w.chat(11, 1)
	w.queue(101, 11, 1)
	claimed := make(chan struct{})
	w.provider.send = func(ctx context.Context, _ *session, _ domain.Outbound) (channel.Sent, error) {
		close(claimed)
		<-ctx.Done()
		return channel.Sent{}, ctx.Err()
	}
	one := w.start("one", brief)
	<-claimed
	one.kill()
	require.Equal(w.t, "sending", w.status(101))
}

// No session comes after a crash: an admin has switched the channel off. The
// message does not stand as being sent for ever, but for as long as its worker
// may live.
func TestSendingEndsWithoutASession(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		crashSending(w)
		w.exec("UPDATE channels SET enabled = FALSE, config_version = config_version + 1 WHERE id = 1")
		two := w.start("two", brief)
		w.eventually("the lease to run out, and the message to be settled", func() bool {
			_, err := two.inbox.RecoverLeftovers(testkit.Context(t), two.o.LeaseTTL)
			require.NoError(t, err)
			held := w.one("SELECT COUNT(*) FROM leases WHERE expires_at > %d", time.Now().UnixMilli())
			if held == "1" {
				require.Equal(t, "sending", w.status(101))
			}
			return w.status(101) == "unknown"
		})
		require.Equal(t, []string{"sending", "unknown"}, w.statuses(101))
	})
}

// No session can be made: the channel's settings do not fit.
func TestSendingEndsWhereNoSessionCanBeMade(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		crashSending(w)
		w.start("two", func(o *Options) {
			brief(o)
			o.Factories = map[domain.ChannelKind]channel.Factory{domain.KindTelegram: func(channel.Config) (channel.Session, error) {
				return nil, &channel.Down{State: domain.ChannelError, Code: "bad_settings", Reason: "The token is none.", Permanent: true}
			}}
		})
		w.eventually("the message to be settled", func() bool { return w.status(101) == "unknown" })
	})
}

// A session comes, but the provider never lets it in.
func TestSendingEndsWithASessionThatNeverOpens(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		crashSending(w)
		w.provider.mu.Lock()
		w.provider.run = func(context.Context, *session) error {
			return &channel.Down{State: domain.ChannelLoggedOut, Code: "token_revoked", Reason: "The token was revoked.", Permanent: true}
		}
		w.provider.mu.Unlock()
		w.start("two", brief)
		w.eventually("the channel to be down", func() bool { return w.one("SELECT state FROM channels WHERE id = 1") == "logged_out" })
		w.eventually("the message to be settled", func() bool { return w.status(101) == "unknown" })
	})
}

// The session is over for good before the database has let the message be settled.
func TestSendingEndsAfterASessionThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.Postgres(t))
	crashSending(w)
	release := w.lock("SELECT 1 FROM messages WHERE id = 101")
	w.provider.mu.Lock()
	w.provider.run = func(context.Context, *session) error {
		return &channel.Down{State: domain.ChannelLoggedOut, Code: "token_revoked", Reason: "The token was revoked.", Permanent: true}
	}
	w.provider.mu.Unlock()
	w.start("two", func(o *Options) {
		calm(o)
		o.DrainTimeout = 100 * time.Millisecond
	})
	w.eventually("the channel to be down", func() bool { return w.one("SELECT state FROM channels WHERE id = 1") == "logged_out" })
	require.Equal(t, "sending", w.status(101))
	release()
	w.eventually("the message to be settled", func() bool { return w.status(101) == "unknown" })
}

// The session is over for good before the database has taken what became of its own send.
func TestOutcomesAreWrittenAfterTheLastSession(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(11, 1)
		w.queue(101, 11, 1)
		ended := &channel.Down{State: domain.ChannelLoggedOut, Code: "token_revoked", Reason: "The token was revoked.", Permanent: true}
		over := make(chan struct{})
		w.provider.run = func(ctx context.Context, s *session) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				select {
				case <-over:
					cancel()
				case <-ctx.Done():
				}
			}()
			_ = s.serve(ctx)
			return ended
		}
		a := w.node("a", calm)
		var taken atomic.Bool
		refused := make(chan struct{}, 100)
		a.beforeSettle = func(int64) error {
			if taken.Load() {
				return nil
			}
			refused <- struct{}{}
			return domain.Errorf(domain.CodeInvalid, "The database does not take this.")
		}
		require.NoError(t, a.Start(t.Context()))
		<-refused
		close(over)
		w.eventually("the channel to be down", func() bool { return w.one("SELECT state FROM channels WHERE id = 1") == "logged_out" })
		require.Equal(t, "sending", w.status(101))
		taken.Store(true)
		w.eventuallyStatus(101, domain.StatusSent)
		require.Equal(t, []string{"sending", "sent"}, w.statuses(101))
	})
}
