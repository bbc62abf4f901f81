package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

const (
	// requestTimeout bounds one answer: nobody waits for longer.
	requestTimeout = 20 * time.Second
	// maxRequests is how many questions are answered one after the other; what
	// is more waits for the next look.
	maxRequests = 16
)

// answerRequests answers, in the background, what is asked of the session. At
// most one round runs at a time.
func (s *supervisor) answerRequests() {
	if !s.answering.CompareAndSwap(false, true) {
		return
	}
	s.w.beside.Go(func() {
		defer s.answering.Store(false)
		ctx, cancel := context.WithTimeout(s.holding.ctx, requestTimeout)
		defer cancel()
		requests, err := s.w.o.Store.SessionRequests(ctx, s.channelID(), maxRequests)
		if err != nil {
			s.holding.check(err)
			s.logger.WarnContext(ctx, "questions to the session cannot be read", slog.Any("error", err))
			return
		}
		for _, r := range requests {
			value, cause := s.reply(ctx, r)
			if err := s.w.o.Inbox.Answer(ctx, s.holding.lease, r.ID, value, cause); err != nil && ctx.Err() == nil {
				s.logger.WarnContext(ctx, "a question to the session could not be answered", slog.String("kind", r.Kind), slog.Any("error", err))
			}
		}
	})
}

// reply asks the present session.
func (s *supervisor) reply(ctx context.Context, r store.SessionRequest) (value any, err error) {
	s.mu.Lock()
	session := s.session
	s.mu.Unlock()
	err = s.guard("request", func() error {
		var err error
		switch kind := channel.AskKind(r.Kind); kind {
		case channel.AskPairCode:
			if coder, can := session.(channel.PairCoder); can {
				value, err = coder.PairCode(ctx, r.Argument)
				return err
			}
		case channel.AskResolve:
			if resolver, can := session.(channel.Resolver); can {
				value, err = resolver.Resolve(ctx, r.Argument)
				return err
			}
		}
		return domain.NewError(domain.CodeUnavailable, "The channel is not open at the moment. Its status says more; try again in a moment.")
	})
	var user *domain.Error
	if err != nil && !errors.As(err, &user) && ctx.Err() == nil {
		s.logger.WarnContext(ctx, "a question to the session failed", slog.String("kind", r.Kind), slog.Any("error", withoutURL(err)))
	}
	return value, err
}

// link is host for sessions that are opened by linking a phone.
type link struct{ *host }

var _ channel.Link = link{}

// guarded runs a call of the inbox under the lease.
func (l link) guarded(ctx context.Context, call func(ctx context.Context, holding store.Guard) error) error {
	if err := l.alive(); err != nil {
		return err
	}
	ctx, cancel := l.within(ctx)
	defer cancel()
	err := call(ctx, store.Holding(l.s.holding.lease))
	l.s.holding.check(err)
	return err
}

// Show implements channel.Link. In dedicated mode the code is also shown where
// the worker was started, to whoever sits there.
func (l link) Show(ctx context.Context, qr string, expires time.Time) error {
	if l.s.w.o.ShowQR != nil && qr != "" && l.s.w.dedicated() {
		l.s.w.o.ShowQR(l.s.channelID(), qr)
	}
	return l.guarded(ctx, func(ctx context.Context, holding store.Guard) error {
		return l.s.w.o.Inbox.ShowLink(ctx, l.s.channelID(), qr, expires, holding)
	})
}

// Admit implements channel.Link.
func (l link) Admit(ctx context.Context, number string) error {
	return l.guarded(ctx, func(ctx context.Context, _ store.Guard) error {
		return l.s.w.o.Inbox.AdmitNumber(ctx, l.s.channelID(), number)
	})
}

// Linked implements channel.Link.
func (l link) Linked(ctx context.Context, number, device string) error {
	return l.guarded(ctx, func(ctx context.Context, holding store.Guard) error {
		return l.s.w.o.Inbox.KeepLink(ctx, l.s.channelID(), number, device, holding)
	})
}

// Unlinked implements channel.Link.
func (l link) Unlinked(ctx context.Context, state domain.ChannelState, code, reason string) error {
	return l.guarded(ctx, func(ctx context.Context, holding store.Guard) error {
		shown := domain.ChannelStatus{State: state, Code: code, Reason: reason, Worker: l.s.w.o.ID}
		return l.s.w.o.Inbox.EndLink(ctx, l.s.channelID(), shown, holding)
	})
}

// Typing implements channel.Host.
func (h *host) Typing(ctx context.Context, peer, sender string, on bool) {
	if h.alive() != nil {
		return
	}
	ctx, cancel := h.within(ctx)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, typingTimeout)
	defer stop()
	if err := h.s.w.o.Inbox.CustomerTyping(ctx, h.s.channelID(), peer, sender, on); err != nil {
		h.s.logger.DebugContext(ctx, "typing of a customer not shown", slog.Any("error", err))
	}
}
