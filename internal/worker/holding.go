package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"switchboard/internal/store"
)

// Why a session ends, as the cause of its context.
var (
	errDistrusted = errors.New("the lease could not be renewed in time")
	errStopped    = errors.New("the worker stops")
	errOver       = errors.New("the session is over")
	errStuck      = errors.New("the session does not end")
)

// holding is a lease for as long as it may be trusted: its context ends when
// the trust does.
type holding struct {
	lease  store.Lease
	ctx    context.Context //nolint:containedctx // it is the trust itself
	cancel context.CancelCauseFunc

	mu    sync.Mutex // guards what follows
	until time.Time  // by the monotonic clock
	timer *time.Timer
}

func newHolding(ctx context.Context, lease store.Lease, until time.Time) *holding {
	h := &holding{lease: lease, until: until}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(time.Until(until), h.expire)
	return h
}

// expire runs when the timer does, which may be just before an extension.
func (h *holding) expire() {
	if !h.trusted() {
		h.end(errDistrusted)
	}
}

// extend prolongs the trust. Trust that has ended stays ended, whatever the
// database says by now: the session is stopping already.
func (h *holding) extend(until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil || !time.Now().Before(h.until) || !until.After(h.until) {
		return
	}
	h.until = until
	h.timer.Reset(time.Until(until))
}

// trusted reports whether the lease may be acted on at this moment. Unlike the
// context it needs no timer to have run: a process that was paused knows at
// its first step.
func (h *holding) trusted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ctx.Err() == nil && time.Now().Before(h.until)
}

// end ends the trust for good.
func (h *holding) end(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer.Stop()
	h.cancel(cause)
}

// check ends the trust when err says that the lease is lost.
func (h *holding) check(err error) {
	if errors.Is(err, store.ErrLeaseLost) {
		h.end(store.ErrLeaseLost)
	}
}

// lost reports whether the lease went without being given up.
func (h *holding) lost() bool {
	cause := context.Cause(h.ctx)
	return errors.Is(cause, store.ErrLeaseLost) || errors.Is(cause, errDistrusted) || errors.Is(cause, errStuck)
}
