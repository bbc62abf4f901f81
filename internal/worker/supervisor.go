package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

// Why a supervisor ends or begins anew.
var (
	errDisabled = errors.New("the channel is disabled or deleted")
	errReserved = errors.New("a dedicated worker wants the channel")
	errSpread   = errors.New("another worker has fewer channels")
	errReload   = errors.New("the channel was changed")
)

// steady is how long a session must have run for its next failure to count as
// the first.
const steady = time.Minute

// supervisor runs the sessions of one channel under one lease, one after the
// other.
type supervisor struct {
	w         *Worker
	began     time.Time
	holding   *holding
	logger    *slog.Logger
	reload    chan struct{} // capacity 1: the channel was changed
	retired   chan struct{} // closed by retire
	hurried   chan struct{} // closed when it is retired for a reason that cannot wait
	failing   atomic.Bool   // the last session failed, and none has connected since
	answering atomic.Bool   // a round of answers to requests is under way
	residue   residue       // belongs to the loop of the present session's dispatcher
	paused    time.Time     // the same: until when the provider wants nothing of the channel
	// leftover is the channel whose sends of dead workers are not settled yet, nil
	// once they are. It is the loop's while a session runs.
	leftover *inbox.OpenChannel
	last     *dispatcher // of the last session, if it has left something; its loop has ended

	mu        sync.Mutex // guards what follows
	reason    error      // why it is retired
	version   int64      // of the channel that is loaded; 0 before the first
	kind      domain.ChannelKind
	status    *status     // of the loaded channel, nil before
	dispatch  *dispatcher // of the present session, nil without one
	session   channel.Session
	typingFor map[int64]struct{} // chats with a signal under way
}

func newSupervisor(w *Worker, h *holding) *supervisor {
	return &supervisor{
		w: w, began: time.Now(), holding: h, reload: make(chan struct{}, 1), retired: make(chan struct{}), hurried: make(chan struct{}),
		typingFor: map[int64]struct{}{},
		residue:   residue{unsettled: map[int64]unsettledSend{}},
		logger:    w.logger.With(slog.Int64("channel", h.lease.ChannelID), slog.Int64("term", h.lease.Term)),
	}
}

func (s *supervisor) channelID() int64 { return s.holding.lease.ChannelID }

// retire ends the supervisor in good order. One that is being moved may be told
// to hurry by another reason.
func (s *supervisor) retire(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil && !patient(s.reason) {
		return
	}
	if s.reason == nil {
		close(s.retired)
	} else if patient(reason) {
		return
	}
	s.reason = reason
	if !patient(reason) {
		close(s.hurried)
	}
}

// patient reports whether a supervisor that is retired for this reason may take
// its time: the channel goes on here until another worker has it.
func patient(reason error) bool {
	return errors.Is(reason, errReserved) || errors.Is(reason, errSpread)
}

// moves reports whether the channel is being handed back.
func (s *supervisor) moves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return patient(s.reason)
}

func (s *supervisor) over() bool {
	select {
	case <-s.retired:
		return true
	case <-s.holding.ctx.Done():
		return true
	default:
		return false
	}
}

// run opens the channel again and again until the supervisor is retired or the
// lease is lost.
func (s *supervisor) run() {
	defer s.w.finished(s)
	wait := newBackoff(s.w.o.MinBackoff, s.w.o.MaxBackoff)
	for !s.over() {
		began := time.Now()
		err := s.once()
		switch {
		case s.over():
		case errors.Is(err, errReload):
			wait.reset()
			s.failing.Store(false)
		default:
			if time.Since(began) > steady {
				wait.reset()
			}
			s.rest(err, wait)
		}
	}
	s.farewell()
}

// once loads the channel and runs one session of it.
func (s *supervisor) once() error {
	loaded, err := s.load()
	s.leftover = nil
	if loaded.OrganizationID != 0 {
		s.leftover = &loaded
	}
	if err != nil {
		s.recoverUnopened()
		return err
	}
	if !loaded.Channel.Enabled {
		s.retire(errDisabled)
		return nil
	}
	return s.serve(loaded)
}

func (s *supervisor) load() (inbox.OpenChannel, error) {
	ctx, cancel := context.WithTimeout(s.holding.ctx, s.w.o.LeaseTTL)
	defer cancel()
	loaded, err := s.w.o.Inbox.LoadChannel(ctx, s.channelID())
	if domain.CodeOf(err) == domain.CodeNotFound {
		s.retire(errDisabled)
		return loaded, err
	}
	if err != nil {
		err = fmt.Errorf("load the channel: %w", err)
		if loaded.Version == 0 {
			return loaded, err
		}
		// It is there, and only its credentials cannot be read: show it so.
		err = &channel.Down{
			State: domain.ChannelError, Code: "credentials", Cause: err,
			Reason: "The channel's credentials cannot be read with this ENCRYPTION_KEY. Restore the key, or enter the credentials again.",
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.kind = loaded.Version, loaded.Channel.Kind
	if s.status == nil {
		s.status = newStatus(s)
	}
	return loaded, err
}

// rest shows why a session ended and waits before the next: for a while, or,
// when trying again is useless, until the channel is changed.
//
// What is shown names the longest wait, so that a channel that fails again and
// again comes to show the same each time, which makes no event; and the tries
// in between are not shown before one succeeds.
func (s *supervisor) rest(cause error, wait *backoff) {
	down := asDown(cause)
	if context.Cause(s.holding.ctx) == nil {
		s.logger.Warn("session ended", slog.String("state", string(down.State)), slog.String("code", down.Code),
			slog.Bool("permanent", down.Permanent), slog.Any("error", withoutURL(cause)))
	}
	var again <-chan time.Time
	reason := down.Reason
	if left := time.Until(down.Until); !down.Permanent && left > 0 {
		timer := time.NewTimer(max(left, wait.next())) // if it says so again and again, less often
		defer timer.Stop()
		again = timer.C
	} else if !down.Permanent {
		reason = fmt.Sprintf("%s Next try within %d s.", reason, (wait.most()+time.Second-1)/time.Second)
		timer := time.NewTimer(wait.next())
		defer timer.Stop()
		again = timer.C
	}
	s.failing.Store(!down.Permanent)
	s.show(s.holding.ctx, down.State, down.Code, reason, !down.Permanent)
	var unsettled <-chan time.Time
	patience := newBackoff(recoverEvery, recoverMost)
	if s.leftover != nil || !s.residue.empty() {
		unsettled = time.After(patience.next())
	}
	for {
		select {
		case <-unsettled:
			if unsettled = nil; !s.settleUnopened() {
				unsettled = time.After(patience.next())
			}
		case <-again:
			return
		case <-s.reload:
			wait.reset()
			s.failing.Store(false)
			return
		case <-s.retired:
			return
		case <-s.holding.ctx.Done():
			return
		}
	}
}

// most is the longest that next may give now.
func (b *backoff) most() time.Duration {
	if b.n < 30 && b.low<<b.n < b.high {
		return b.low << b.n
	}
	return b.high
}

// asDown makes the reason of an ended session presentable.
func asDown(cause error) *channel.Down {
	var down *channel.Down
	if errors.As(cause, &down) {
		return down
	}
	down = &channel.Down{State: domain.ChannelError, Code: "session_failed", Reason: "The connection to the provider failed.", Cause: cause}
	var user *domain.Error
	if errors.As(cause, &user) && user.Code != domain.CodeInternal {
		down.Reason = user.Message
	}
	if cause == nil {
		down.Code, down.Reason = "session_ended", "The connection to the provider ended."
	}
	return down
}

// serve runs one session until it ends, the channel is changed, or the
// supervisor is retired. Nothing of it is left running when serve returns.
func (s *supervisor) serve(loaded inbox.OpenChannel) error {
	select {
	case <-s.reload: // what changed has been loaded
	default:
	}
	ctx, cancel := context.WithCancelCause(s.holding.ctx)
	defer cancel(errOver)
	host := newHost(ctx, s, loaded)
	var keys *store.Keys
	if channel.Of(loaded.Channel.Kind).Linking {
		keys = s.w.o.Store.Keys(s.holding.lease)
		defer func() { _ = keys.Close() }() // it has no connections of its own
	}
	session, err := s.open(loaded, host, keys)
	if err != nil {
		s.recoverUnopened()
		return err
	}
	dispatch := newDispatcher(s, session, host, loaded)
	s.setSession(session, dispatch)
	defer func() {
		s.setSession(nil, nil)
		if s.last = nil; !s.residue.empty() {
			s.last = dispatch
		}
	}()

	ended := make(chan error, 1)
	go func() { ended <- s.guard("run", func() error { return session.Run(ctx) }) }()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		dispatch.run(ctx)
	}()

	var why error
	select {
	case err := <-ended:
		dispatch.quit()
		s.drain(ctx, drained, true)
		cancel(errOver)
		defer s.mustEnd()()
		<-drained
		return err
	case <-s.reload:
		why = errReload
	case <-s.retired:
		why = errStopped
	}
	// Sends that are under way may finish before the session is closed.
	dispatch.quit()
	s.drain(ctx, drained, false)
	cancel(why)
	defer s.mustEnd()()
	if err := <-ended; err != nil {
		s.logger.Debug("session failed when it was told to end", slog.Any("error", withoutURL(err)))
	}
	<-drained
	return why
}

// drain waits until the sends that are under way have finished. Where the channel
// is moved or begins anew it waits for as long as a send may take: that shall
// cost no message its certainty. There is little time when the session has ended
// already, or the supervisor is told to hurry.
func (s *supervisor) drain(ctx context.Context, drained <-chan struct{}, hurry bool) {
	wait, hurried := s.w.o.SendTimeout+s.w.o.DrainTimeout, s.hurried
	if hurry {
		wait, hurried = s.w.o.DrainTimeout, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-drained:
			return
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-hurried:
			hurried = nil
			timer.Reset(s.w.o.DrainTimeout)
		}
	}
}

// mustEnd gives a session that was cancelled some time to end. After that its
// lease is left to expire, so that another worker can open the channel: a
// channel must not stay with a session that is no more than a memory. The
// caller calls stop when the session has ended.
func (s *supervisor) mustEnd() (stop func() bool) {
	return time.AfterFunc(s.w.o.StopTimeout, func() {
		if s.holding.trusted() {
			s.logger.Error("session does not end; its channel is left to expire")
			s.holding.end(errStuck)
		}
	}).Stop
}

func (s *supervisor) setSession(session channel.Session, dispatch *dispatcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session, s.dispatch = session, dispatch
}

func (s *supervisor) open(loaded inbox.OpenChannel, host *host, keys *store.Keys) (channel.Session, error) {
	factory := s.w.o.Factories[loaded.Channel.Kind]
	if factory == nil {
		return nil, &channel.Down{
			State: domain.ChannelError, Code: "unsupported_kind", Reason: "This worker cannot run channels of this kind.", Permanent: true,
		}
	}
	config := channel.Config{Channel: loaded.Channel, Secrets: loaded.Secrets, Host: host, Intake: host, Logger: s.logger}
	if keys != nil {
		config.Link, config.Device, config.Unlink, config.Leaving = link{host}, loaded.Device, loaded.Unlink, loaded.Deleted
		config.Keys, config.KeysDialect = keys.DB, s.w.o.Store.KeysDialect()
		config.KeysFailed = func(tell func(error)) {
			keys.OnFailure(func(err error) {
				s.holding.check(err)
				tell(err)
			})
		}
	}
	var session channel.Session
	err := s.guard("open", func() error {
		var err error
		session, err = factory(config)
		return err
	})
	return session, err
}

// guard turns a panic in a session's code into an error: one channel never
// takes the others down.
func (s *supervisor) guard(what string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("session panicked", slog.String("in", what), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = &channel.Down{
				State: domain.ChannelError, Code: "internal", Cause: fmt.Errorf("panic in %s: %v", what, p),
				Reason: "The session of this channel failed on our side.",
			}
		}
	}()
	return fn()
}

// farewell shows that the channel waits for another worker. When one lives, it
// shows the channel as its own in a moment: at a stop every step of every
// channel costs time, and the operators see what matters.
func (s *supervisor) farewell() {
	s.mu.Lock()
	reason := s.reason
	s.mu.Unlock()
	if s.holding.ctx.Err() != nil {
		return // not ours any more
	}
	if errors.Is(reason, errStopped) && !s.w.accompanied.Load() {
		ctx, cancel := context.WithTimeout(s.holding.ctx, farewellTimeout)
		defer cancel()
		s.show(ctx, domain.ChannelDisconnected, "worker_stopped", "The worker that ran this channel was stopped; another one will take it over.", false)
	}
	// A channel that was disabled shows what its admin did.
}

// perform acts on what a poll found.
func (s *supervisor) perform(d store.Duty) {
	s.mu.Lock()
	version, dispatch, shown := s.version, s.dispatch, s.status
	s.mu.Unlock()
	switch {
	case !d.Enabled:
		s.retire(errDisabled)
	case d.Reserved && len(s.w.o.Channels) == 0:
		s.w.handBack(s, errReserved)
	case version != 0 && version != d.ConfigVersion:
		select {
		case s.reload <- struct{}{}:
		default:
		}
	case dispatch != nil && !d.Idle():
		dispatch.kick(d.Outbox, d.Commands, d.Media)
	}
	if shown != nil {
		shown.retry()
	}
	if d.Asked {
		s.answerRequests()
	}
}

// kick looks for all kinds of work at once; false means that there is no
// session to do it.
func (s *supervisor) kick() bool {
	s.mu.Lock()
	dispatch := s.dispatch
	s.mu.Unlock()
	if dispatch == nil {
		return false
	}
	dispatch.kick(true, true, true)
	return true
}

func (s *supervisor) count() ChannelCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := ChannelCount{Kind: s.kind, State: domain.ChannelConnecting}
	if s.status != nil {
		count.State = s.status.state()
	}
	return count
}

// typing passes a signal to the session, at most one at a time for a chat.
func (s *supervisor) typing(ctx context.Context, t typingSignal) {
	s.mu.Lock()
	typer, can := s.session.(channel.Typer)
	ready := s.dispatch != nil && s.dispatch.host.isReady()
	_, under := s.typingFor[t.ChatID]
	if can && ready && !under {
		s.typingFor[t.ChatID] = struct{}{}
	}
	s.mu.Unlock()
	if !can || !ready || under {
		return
	}
	defer func() {
		s.mu.Lock()
		delete(s.typingFor, t.ChatID)
		s.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, typingTimeout)
	defer cancel()
	stop := context.AfterFunc(s.holding.ctx, cancel) //nolint:contextcheck // the lease ends it too
	defer stop()
	target, err := s.w.o.Store.TypingTarget(ctx, t.ChannelID, t.ChatID)
	if err != nil || !s.holding.trusted() {
		return
	}
	err = s.guard("typing", func() error { return typer.Typing(ctx, target.Peer, target.LastExternalID, t.On) })
	if err != nil {
		s.logger.DebugContext(ctx, "typing signal failed", slog.Int64("chat", t.ChatID), slog.Any("error", withoutURL(err)))
	}
}

const typingTimeout = 3 * time.Second
