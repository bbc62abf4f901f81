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

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// slowSends makes every send last until release is closed or it is cancelled;
// begun gets one value for each.
func (w *world) slowSends() (begun chan int64, release chan struct{}) {
	begun, release = make(chan int64, 16), make(chan struct{})
	w.provider.send = func(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
		begun <- out.Message.ID
		select {
		case <-release:
			return s.accept(out), nil
		case <-ctx.Done():
			return channel.Sent{}, ctx.Err()
		}
	}
	return begun, release
}

// quitting is closed when the present session of a channel takes up no more.
func (n *node) quitting(channelID int64) <-chan struct{} {
	s := n.supervisor(channelID)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dispatch.quitting
}

// looks waits until a worker has looked for work a few more times.
func (w *world) looks(n *node) {
	w.t.Helper()
	for range 3 {
		last := n.looked.Load()
		w.eventually("another look", func() bool { return n.looked.Load() > last })
	}
}

// A worker that is told to stop while it moves channels does not wait for their
// sends as it would otherwise: the others shall have the channels at once.
func TestStopHurriesAMove(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(4) {
			w.channel(id + 1)
			w.chat(id+1, id+1)
		}
		begun, _ := w.slowSends()
		handed := make(chan string, 16)
		change := func(o *Options) {
			o.LeaseTTL, o.DrainTimeout, o.StopTimeout = 5*time.Second, time.Millisecond, time.Hour
			o.Measures.HandedBack = func(reason string) { handed <- reason }
		}
		a := w.start("a", change)
		for id := range int64(4) {
			w.queue(100+id, id+1, id+1)
		}
		for range 4 {
			<-begun
		}
		w.start("b", change)
		for range 2 {
			require.Equal(t, reasonSpread, <-handed)
		}
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			a.Stop()
		}()
		w.eventually("a to stop", func() bool {
			select {
			case <-stopped:
				return true
			default:
				return false
			}
		})
		w.eventually("b to run all", func() bool { return slices.Equal(w.provider.owners(), []string{"b", "b", "b", "b"}) })
		for id := range int64(4) {
			require.Equal(t, "unknown", w.status(100+id))
		}
	})
}

// Neither a change of the channel nor the end of its session cuts a send short
// that the provider is about to answer.
func TestSendsOutlastTheSession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		drain time.Duration
		end   func(w *world, fail func())
	}{
		"the channel is changed": {time.Millisecond, func(w *world, _ func()) { w.exec("UPDATE channels SET config_version = 2 WHERE id = 1") }},
		"the session fails":      {time.Hour, func(_ *world, fail func()) { fail() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, w *world) {
				w.channel(1)
				w.chat(1, 1)
				begun, release := w.slowSends()
				broken, fail := context.WithCancel(t.Context())
				defer fail()
				w.provider.run = func(ctx context.Context, s *session) error {
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					defer context.AfterFunc(broken, cancel)()
					if err := s.serve(ctx); err != nil {
						return err
					}
					return errors.New("the connection broke")
				}
				a := w.start("a", func(o *Options) { o.LeaseTTL, o.DrainTimeout = time.Minute, c.drain })
				w.queue(1, 1, 1)
				<-begun
				quitting := a.quitting(1)
				c.end(w, fail)
				w.eventually("the session to end", func() bool {
					select {
					case <-quitting:
						return true
					default:
						return false
					}
				})
				w.looks(a)
				close(release)
				w.eventuallyStatus(1, domain.StatusSent)
				require.Equal(t, "1", w.one("SELECT attempt FROM messages WHERE id = 1"))
			})
		})
	}
}

// A channel whose session does not end with its lease is left to others: the
// worker does not take it only to give it back again and again.
func TestStuckSessionIsNotOpenedBeside(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		release := make(chan struct{})
		w.provider.run = func(ctx context.Context, s *session) error {
			err := s.serve(ctx)
			<-release
			return err
		}
		a := w.node("a", brief)
		var block atomic.Bool
		a.beforeRenew = func(context.Context) error {
			if block.Load() {
				return errors.New("cut off")
			}
			return nil
		}
		require.NoError(t, a.Start(t.Context()))
		w.eventually("a to run the channel", func() bool { return w.provider.owner(1) == "a" })
		stuck := a.supervisor(1)
		term := stuck.holding.lease.Term
		block.Store(true)
		<-stuck.holding.ctx.Done()
		w.eventually("the lease to expire", func() bool {
			return w.one("SELECT COUNT(*) FROM leases WHERE expires_at <= %d", w.db.Now()) == "1"
		})
		block.Store(false) // it may take channels again
		w.looks(a)
		require.Equal(t, fmt.Sprint(term), w.one("SELECT term FROM leases WHERE channel_id = 1"))
		close(release)
		w.eventually("a to open it anew", func() bool {
			s := a.supervisor(1)
			return s != nil && s != stuck && w.provider.owner(1) == "a"
		})
		require.Equal(t, fmt.Sprint(term+1), w.one("SELECT term FROM leases WHERE channel_id = 1"))
	})
}
