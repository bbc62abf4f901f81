package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// statusTimeout bounds the writing of one state, farewellTimeout that of the last
// one: the channel waits for it to be released.
const (
	statusTimeout   = 5 * time.Second
	farewellTimeout = time.Second
)

// status is what a channel shows. What could not be written is written at a
// later poll, unless something newer has taken its place.
type status struct {
	s *supervisor

	writing chan struct{} // full while a state is written: states are told in order

	mu   sync.Mutex // guards what follows
	want domain.ChannelStatus
	told domain.ChannelStatus
	busy bool // a retry is under way
}

func newStatus(s *supervisor) *status { return &status{s: s, writing: make(chan struct{}, 1)} }

func (t *status) state() domain.ChannelState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.want.State
}

// set tells how the channel is. The same again does nothing. retries: somebody
// sees to it as long as the channel is held.
func (t *status) set(ctx context.Context, state domain.ChannelState, code, reason string, retries bool) error {
	t.mu.Lock()
	if t.want.State != state || t.want.Code != code || t.want.Reason != reason || t.want.Retries != retries {
		t.want = domain.ChannelStatus{
			ChannelID: t.s.channelID(), State: state, Code: code, Reason: reason, Since: t.s.w.o.Store.Now(), Worker: t.s.w.o.ID,
			Retries: retries,
		}
	}
	t.mu.Unlock()
	return t.tell(ctx)
}

func (t *status) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	select {
	case t.writing <- struct{}{}:
		defer func() { <-t.writing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	t.mu.Lock()
	want, told := t.want, t.told
	t.mu.Unlock()
	if want == told {
		return nil
	}
	err := t.s.w.o.Inbox.SetChannelStatus(ctx, t.s.channelID(), want, store.Holding(t.s.holding.lease))
	if err != nil {
		t.s.holding.check(err)
		return err
	}
	t.mu.Lock()
	t.told = want
	t.mu.Unlock()
	return nil
}

// retry writes, in the background, what could not be written before.
func (t *status) retry() {
	t.mu.Lock()
	idle := t.want == t.told || t.busy
	if !idle {
		t.busy = true
	}
	t.mu.Unlock()
	if idle {
		return
	}
	t.s.w.beside.Go(func() {
		err := t.tell(t.s.holding.ctx)
		t.mu.Lock()
		t.busy = false
		t.mu.Unlock()
		if err != nil && t.s.holding.ctx.Err() == nil {
			t.s.logger.Warn("state of the channel cannot be shown yet", slog.Any("error", err))
		}
	})
}

// show is set for the supervisor itself, which goes on without it.
func (s *supervisor) show(ctx context.Context, state domain.ChannelState, code, reason string, retries bool) {
	s.mu.Lock()
	shown := s.status
	s.mu.Unlock()
	if shown == nil {
		return // the channel could not even be loaded
	}
	if err := shown.set(ctx, state, code, reason, retries); err != nil && s.holding.ctx.Err() == nil {
		s.logger.Warn("state of the channel cannot be shown yet", slog.Any("error", err))
	}
}

// withoutURL drops addresses from an error: a provider's may hold a token.
func withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}
