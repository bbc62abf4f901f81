package app

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"switchboard/internal/account"
	"switchboard/internal/channel/whatsapp"
	"switchboard/internal/domain"
)

const (
	// choreInterval is the pause between two rounds of housekeeping. Every API
	// node does them; doing them twice harms nothing.
	choreInterval = 10 * time.Minute
	// orphanInterval is the pause between two looks for channels whose worker
	// is gone.
	orphanInterval = 5 * time.Second
	// leftoverInterval is the pause between two looks for messages whose sender is
	// gone.
	leftoverInterval = 30 * time.Second
)

// chores is the housekeeping of an API node: old events, ended sessions, files
// of deleted chats, and channels that nobody runs.
type chores struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (c *chores) start(ctx context.Context, core *core, accounts *account.Service) {
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.wg.Go(func() { c.watchOrphans(ctx, core) })
	c.wg.Go(func() {
		// Nodes that are started together, and such as never live for long, do
		// their share all the same.
		timer := time.NewTimer(rand.N(choreInterval)) // #nosec G404 -- spreads load, guards nothing
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			core.tidy(ctx, accounts)
			timer.Reset(choreInterval)
		}
	})
}

// tidy is one round of housekeeping. What fails is tried again by the next.
func (c *core) tidy(ctx context.Context, accounts *account.Service) {
	for _, chore := range []struct {
		failed string
		run    func(context.Context) error
	}{
		{"files of deleted chats were not removed; it will be tried again", c.sweepMedia},
		{"keys of deleted channels were not removed; it will be tried again", c.sweepKeys},
		{"old rows of WhatsApp sessions were not removed; it will be tried again", c.pruneKeys},
		{"old updates were not forgotten; it will be tried again", c.inbox.Forget},
		{"old events were not removed; it will be tried again", c.prune},
		{"ended sessions were not removed; it will be tried again", accounts.Prune},
		{"old questions to sessions were not removed; it will be tried again", c.store.ForgetSessionRequests},
	} {
		if err := chore.run(ctx); err != nil && ctx.Err() == nil {
			c.logger.WarnContext(ctx, chore.failed, slog.Any("error", err)) //nolint:sloglint // one of the constants above
		}
	}
}

func (c *core) sweepMedia(ctx context.Context) error {
	_, err := c.inbox.SweepMedia(ctx, c.blobs)
	return err
}

// sweepKeys forgets the keys of devices that are no channel's any more.
func (c *core) sweepKeys(ctx context.Context) error {
	removed, err := whatsapp.Sweep(ctx, c.store.SQL(), c.store.KeysDialect(), c.store.Devices)
	if removed > 0 {
		c.logger.InfoContext(ctx, "keys of devices without a channel removed", slog.Int("devices", removed))
	}
	return err
}

// pruneKeys forgets what sessions have decrypted and sent long ago.
func (c *core) pruneKeys(ctx context.Context) error {
	removed, err := whatsapp.Prune(ctx, c.store.SQL(), c.store.KeysDialect())
	if removed > 0 {
		c.logger.InfoContext(ctx, "old rows of WhatsApp sessions removed", slog.Int64("rows", removed))
	}
	return err
}

// watchOrphans shows channels as dead that nobody runs, and settles what they were
// sending. Workers get the time of a take-over before.
func (c *chores) watchOrphans(ctx context.Context, core *core) {
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	var recovered time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		grace := core.cfg.LeaseTTL + orphanInterval
		if err := core.inbox.ShowOrphans(ctx, grace); err != nil && ctx.Err() == nil {
			core.logger.WarnContext(ctx, "channels without a worker could not be shown so; it will be tried again", slog.Any("error", err))
		}
		if time.Since(recovered) >= leftoverInterval {
			recovered = time.Now()
			core.recoverLeftovers(ctx, grace)
		}
		if n, err := core.inbox.ChannelsWithoutWorker(ctx, grace); err == nil {
			core.metrics.ChannelsUnowned.Set(float64(n))
		}
	}
}

func (c *core) recoverLeftovers(ctx context.Context, grace time.Duration) {
	n, err := c.inbox.RecoverLeftovers(ctx, grace)
	if err != nil && ctx.Err() == nil {
		c.logger.WarnContext(ctx, "messages whose sender is gone were not settled; it will be tried again", slog.Any("error", err))
	}
	if n > 0 {
		c.logger.WarnContext(ctx, "messages whose sender is gone were settled", slog.Int("messages", n))
	}
}

func (c *chores) stop() {
	c.cancel()
	c.wg.Wait()
}

// prune cuts the event logs to what is kept. Whose position is cut off is told
// to refetch.
func (c *core) prune(ctx context.Context) error {
	ids, err := c.store.OrganizationIDs(ctx)
	if err != nil {
		return err
	}
	before := domain.At(time.Now().Add(-c.cfg.EventRetention))
	for _, id := range ids {
		if _, err := c.store.PruneEvents(ctx, id, before, int64(c.cfg.EventsKept)); err != nil {
			return err
		}
	}
	return nil
}
