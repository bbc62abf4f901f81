package webhook

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// releaseTimeout bounds the giving back of claims at the end.
const releaseTimeout = 2 * time.Second

// claims are the deliveries that this node works on. A claim is short, so that
// another node soon takes up what a dead one left, and is renewed for what takes
// longer.
type claims struct {
	mu   sync.Mutex // guards held
	held map[int64]time.Time
}

// add notes deliveries that were claimed just now.
func (c *claims) add(ids ...int64) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[int64]time.Time{}
	}
	for _, id := range ids {
		c.held[id] = now
	}
}

// drop forgets deliveries that are processed, or left to whoever comes.
func (c *claims) drop(jobs ...job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range jobs {
		delete(c.held, j.id)
	}
}

// olderThan are those that were claimed before that time; all of them begin anew.
func (c *claims) olderThan(age time.Duration) []int64 {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []int64
	for id, since := range c.held {
		if now.Sub(since) >= age {
			ids = append(ids, id)
			c.held[id] = now
		}
	}
	slices.Sort(ids)
	return ids
}

// take empties the set.
func (c *claims) take() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := slices.Sorted(maps.Keys(c.held))
	c.held = nil
	return ids
}

// keep renews the claims of what takes longer than a third of one. A renewal
// that fails is not tried again before the next: at worst another node takes
// the delivery up as well, and its content is stored once all the same.
func (in *Intake) keep(ctx context.Context) {
	age := in.options.Claim / 3
	ticker := time.NewTicker(age)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		ids := in.claims.olderThan(age)
		if len(ids) == 0 {
			continue
		}
		call, cancel := context.WithTimeout(ctx, in.options.Claim)
		err := in.options.Inbox.RenewWebhooks(call, ids, in.options.Claim)
		cancel()
		if err != nil && ctx.Err() == nil {
			in.options.Logger.WarnContext(ctx, "claims of webhooks could not be renewed", slog.Int("deliveries", len(ids)), slog.Any("error", err))
		}
	}
}

// release gives back what is still queued at the end, so that another node need
// not wait for the claims to run out.
func (in *Intake) release() {
	ids := in.claims.take()
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if err := in.options.Inbox.ReleaseWebhooks(ctx, ids); err != nil {
		in.options.Logger.WarnContext(ctx, "webhooks could not be given back; they are taken up when their claims run out",
			slog.Int("deliveries", len(ids)), slog.Any("error", err))
	}
}
