package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"switchboard/internal/store"
)

// release gives a lease back and tells the others. When that fails, the lease
// expires by itself.
func (w *Worker) release(ctx context.Context, lease store.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.o.LeaseTTL)
	defer cancel()
	if err := w.o.Store.ReleaseLease(ctx, lease); err != nil {
		w.logger.WarnContext(ctx, "lease could not be released and will expire", slog.Int64("channel", lease.ChannelID), slog.Any("error", err))
		return
	}
	if w.o.Wakes != nil {
		w.o.Wakes.Released()
	}
}

// renewLoop renews all leases every third of their time, and sooner after a
// failure.
func (w *Worker) renewLoop(ctx context.Context) {
	const failedPart, part = 12, 3
	for {
		wait := w.o.LeaseTTL / part
		if err := w.renew(ctx); err != nil {
			wait = w.o.LeaseTTL / failedPart
			if ctx.Err() == nil {
				w.logger.WarnContext(ctx, "leases could not be renewed", slog.Any("error", err))
			}
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return
		}
	}
}

func (w *Worker) renew(ctx context.Context) error {
	var held []*supervisor
	var ids []int64
	for _, s := range w.running() {
		// A session may linger after its lease is given up: the lease must not.
		if s.holding.trusted() {
			held, ids = append(held, s), append(ids, s.channelID())
		}
	}
	if len(held) == 0 {
		return nil
	}
	start := time.Now()
	// Later than this the answer is of no use.
	ctx, cancel := context.WithTimeout(ctx, w.o.LeaseTTL-w.o.margin())
	defer cancel()
	if err := w.beforeSign(ctx); err != nil {
		return err
	}
	kept, busy, err := w.o.Store.RenewLeases(ctx, w.holder, w.o.LeaseTTL, ids)
	if err != nil {
		return err
	}
	terms := make(map[int64]int64, len(kept))
	for _, lease := range kept {
		terms[lease.ChannelID] = lease.Term
	}
	for _, s := range held {
		switch {
		case terms[s.channelID()] == s.holding.lease.Term:
			s.holding.extend(start.Add(w.o.LeaseTTL - w.o.margin()))
		case !slices.Contains(busy, s.channelID()):
			s.holding.check(store.ErrLeaseLost)
		}
	}
	if len(busy) > 0 {
		return fmt.Errorf("the rows of channels %v are locked", busy)
	}
	return nil
}

// beforeSign is where a test cuts the worker off.
func (w *Worker) beforeSign(ctx context.Context) error {
	if w.beforeRenew == nil {
		return nil
	}
	return w.beforeRenew(ctx)
}
