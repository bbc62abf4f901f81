package worker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// What the provider asks of the whole channel holds for the next session, too, however this one ends.
func TestPauseOutlivesTheSession(t *testing.T) {
	for _, end := range []string{"changed", "failed"} {
		t.Run(end, func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) {
				const asked = 1500 * time.Millisecond
				w.channel(1)
				w.chat(1, 1)
				w.chat(2, 1)
				fail := make(chan struct{})
				w.provider.run = func(ctx context.Context, s *session) error {
					_ = s.config.Host.SetStatus(ctx, domain.ChannelConnected, "", "Connected.")
					s.config.Host.Ready()
					select {
					case <-fail:
						return errors.New("broken")
					case <-ctx.Done():
						return nil
					}
				}
				var mu sync.Mutex
				var refused time.Time
				w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
					mu.Lock()
					defer mu.Unlock()
					if refused.IsZero() {
						refused = time.Now()
						return channel.Sent{}, &channel.SendError{
							Outcome: channel.NotSent, Code: "rate_limited", Message: "Too many.", RetryAfter: asked, WholeChannel: true, Limited: true,
						}
					}
					return s.accept(out), nil
				}
				w.queue(1, 1, 1)
				w.start("a", calm)
				w.eventually("the refusal to be settled", func() bool { return w.one("SELECT error_code FROM messages WHERE id = 1") == "rate_limited" })
				if end == "changed" {
					w.exec("UPDATE channels SET config_version = config_version + 1 WHERE id = 1")
				} else {
					fail <- struct{}{}
				}
				w.eventually("the next session", func() bool {
					w.provider.mu.Lock()
					defer w.provider.mu.Unlock()
					return w.provider.opened[1] == 2 && w.provider.live[1] == "a"
				})
				w.queue(2, 2, 1)
				w.eventuallyStatus(2, domain.StatusSent)
				w.eventuallyStatus(1, domain.StatusSent)
				w.provider.mu.Lock()
				defer w.provider.mu.Unlock()
				for _, m := range w.provider.sent {
					require.GreaterOrEqual(t, m.at.Sub(refused), asked, "message %d", m.id)
				}
			})
		})
	}
}
