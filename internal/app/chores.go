package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"switchboard/internal/account"
	"switchboard/internal/domain"
)

const (
	// choreInterval is the pause between two rounds of housekeeping. Every API
	// node does them; doing them twice harms nothing.
	choreInterval = 10 * time.Minute
	// orphanInterval is the pause between two looks for channels whose worker
	// is gone.
	orphanInterval = 5 * time.Second
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
		ticker := time.NewTicker(choreInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if _, err := core.inbox.SweepMedia(ctx, core.blobs); err != nil && ctx.Err() == nil {
				core.logger.WarnContext(ctx, "files of deleted chats were not removed; it will be tried again", slog.Any("error", err))
			}
			if err := core.inbox.Forget(ctx); err != nil && ctx.Err() == nil {
				core.logger.WarnContext(ctx, "old updates were not forgotten; it will be tried again", slog.Any("error", err))
			}
			if err := core.prune(ctx); err != nil && ctx.Err() == nil {
				core.logger.WarnContext(ctx, "old events were not removed; it will be tried again", slog.Any("error", err))
			}
			if err := accounts.Prune(ctx); err != nil && ctx.Err() == nil {
				core.logger.WarnContext(ctx, "ended sessions were not removed; it will be tried again", slog.Any("error", err))
			}
		}
	})
}

// watchOrphans shows channels as dead that nobody runs. Workers get the time of
// a take-over before.
func (c *chores) watchOrphans(ctx context.Context, core *core) {
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := core.inbox.ShowOrphans(ctx, core.cfg.LeaseTTL+orphanInterval); err != nil && ctx.Err() == nil {
			core.logger.WarnContext(ctx, "channels without a worker could not be shown so; it will be tried again", slog.Any("error", err))
		}
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
