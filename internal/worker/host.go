package worker

import (
	"context"
	"io"
	"sync"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

// host is what one session sees of the house. It serves until the session's
// context ends.
type host struct {
	ctx    context.Context //nolint:containedctx // the session's life
	s      *supervisor
	loaded inbox.OpenChannel
	once   sync.Once
	ready  chan struct{} // closed by Ready
}

var (
	_ channel.Host   = (*host)(nil)
	_ channel.Intake = (*host)(nil)
)

func newHost(ctx context.Context, s *supervisor, loaded inbox.OpenChannel) *host {
	return &host{ctx: ctx, s: s, loaded: loaded, ready: make(chan struct{})}
}

// Receive implements channel.Host.
func (h *host) Receive(ctx context.Context, items []domain.Inbound) error {
	if err := h.alive(); err != nil {
		return err
	}
	ctx, cancel := h.storing(ctx)
	defer cancel()
	err := h.s.w.o.Inbox.Receive(ctx, h.s.channelID(), items, store.Holding(h.s.holding.lease))
	h.s.holding.check(err)
	return err
}

// Position implements channel.Intake.
func (h *host) Position(ctx context.Context) (string, error) {
	if err := h.alive(); err != nil {
		return "", err
	}
	ctx, cancel := h.storing(ctx)
	defer cancel()
	return h.s.w.o.Inbox.IntakePosition(ctx, h.s.channelID())
}

// ReceiveBatch implements channel.Intake.
func (h *host) ReceiveBatch(ctx context.Context, batch domain.Batch) error {
	if err := h.alive(); err != nil {
		return err
	}
	ctx, cancel := h.storing(ctx)
	defer cancel()
	err := h.s.w.o.Inbox.ReceiveBatch(ctx, h.s.channelID(), batch, store.Holding(h.s.holding.lease))
	h.s.holding.check(err)
	return err
}

// SetStatus implements channel.Host. While tries fail one after the other, why
// they do stays on show, not that there is one more.
func (h *host) SetStatus(ctx context.Context, state domain.ChannelState, code, reason string) error {
	if err := h.alive(); err != nil {
		return err
	}
	switch state {
	case domain.ChannelConnecting:
		if h.s.failing.Load() {
			return nil
		}
	case domain.ChannelConnected, domain.ChannelQR, domain.ChannelPairing:
		h.s.failing.Store(false)
	}
	ctx, cancel := h.within(ctx)
	defer cancel()
	h.s.mu.Lock()
	shown := h.s.status
	h.s.mu.Unlock()
	return shown.set(ctx, state, code, reason, true)
}

// Ready implements channel.Host.
func (h *host) Ready() { h.once.Do(func() { close(h.ready) }) }

func (h *host) isReady() bool {
	select {
	case <-h.ready:
		return h.ctx.Err() == nil
	default:
		return false
	}
}

// OpenMedia implements channel.Host.
func (h *host) OpenMedia(ctx context.Context, mediaID int64) (io.ReadCloser, domain.Media, error) {
	if h.s.w.o.OpenMedia == nil {
		return nil, domain.Media{}, domain.NewError(domain.CodeUnavailable, "This worker has no storage for files.")
	}
	return h.s.w.o.OpenMedia(ctx, h.loaded.OrganizationID, mediaID)
}

// alive says why the session is over, if it is.
func (h *host) alive() error {
	if h.ctx.Err() != nil {
		return context.Cause(h.ctx)
	}
	if !h.s.holding.trusted() {
		return errDistrusted
	}
	return nil
}

// storing is within for what waits for locks in the database: whoever holds one
// must not keep the session for ever. What is given up is not acknowledged, so
// it comes again.
func (h *host) storing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, end := h.within(ctx)
	ctx, cancel := context.WithTimeout(ctx, h.s.w.o.ReceiveTimeout)
	return ctx, func() {
		cancel()
		end()
	}
}

// within ends a call with the session, whatever context the session gave.
func (h *host) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(h.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
