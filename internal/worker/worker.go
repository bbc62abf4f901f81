package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// Worker owns channels: see the package's comment. It is used once: Start,
// then Stop.
type Worker struct {
	o      Options
	logger *slog.Logger
	// holder names this process in leases. It is never used again, so that a
	// process that starts under the same ID cannot be taken for this one.
	holder string

	look      chan struct{} // capacity 1: look for channels and work now
	looked    atomic.Int64  // when that was done last, Unix milliseconds
	mediaRoom chan struct{} // a place for each download that may run
	// importRoom has fewer: phones' histories leave room for what comes in now.
	importRoom chan struct{}
	typeRoom   chan struct{} // a place for each typing signal under way
	crew       crew          // belongs to the search loop
	// accompanied: at the last look another worker of the pool lived.
	accompanied atomic.Bool

	mu          sync.Mutex // guards what follows
	state       workerState
	supervisors map[int64]*supervisor
	stopSearch  context.CancelFunc // ends the loops that look for work
	die         context.CancelCauseFunc
	dead        bool           // as after kill -9: nothing is given back
	searching   sync.WaitGroup // who may take channels or start work: Stop waits for it before it gives anything back
	beside      sync.WaitGroup // what goes on beside that, and may outlast the search; ends with the leases
	renewing    sync.WaitGroup
	ended       chan struct{} // closed when Stop is through
	changed     chan struct{} // closed and replaced when a supervisor ends

	// Test signals; nil outside of tests. beforeRenew may hold up and fail what
	// prolongs something: the leases, and the worker's signs of life.
	beforeRenew func(ctx context.Context) error
	afterClaim  func(messageID int64)
	// loseClaim may fail a claim that is committed, beforeSettle one try to
	// settle a send.
	loseClaim    func(claimed []domain.Outbound) error
	beforeSettle func(messageID int64) error
}

type workerState int

const (
	workerNew workerState = iota
	workerRunning
	workerStopping
)

// maxTypingCalls bounds the typing signals that are given to providers at once;
// more are dropped.
const maxTypingCalls = 16

// lookRest is the least time between looks for reasons that may be none.
const lookRest = 500 * time.Millisecond

// New makes a Worker. It fails when a required option is missing.
func New(o Options) (*Worker, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	var nonce [6]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return &Worker{
		o: o, logger: o.Logger.With(slog.String("worker", o.ID)), holder: o.ID + "#" + hex.EncodeToString(nonce[:]),
		look: make(chan struct{}, 1), mediaRoom: make(chan struct{}, o.ParallelMedia), importRoom: make(chan struct{}, max(1, o.ParallelMedia/2)), typeRoom: make(chan struct{}, maxTypingCalls),
		supervisors: map[int64]*supervisor{}, ended: make(chan struct{}), changed: make(chan struct{}), crew: newCrew(o.LeaseTTL),
	}, nil
}

// Start begins to take channels and returns at once. When ctx ends, the worker
// stops as by Stop, which must be called all the same to wait for it.
func (w *Worker) Start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != workerNew {
		return errors.New("worker: it was started or stopped before")
	}
	w.state = workerRunning
	// The sessions outlive ctx until they are drained.
	life, die := context.WithCancelCause(context.WithoutCancel(ctx))
	search, stopSearch := context.WithCancel(ctx)
	w.die, w.stopSearch = die, stopSearch
	w.searching.Go(func() { w.searchLoop(search, life) })
	if w.o.Wakes != nil {
		w.searching.Go(func() { w.o.Wakes.listen(search, w.listener(search)) })
	}
	w.renewing.Go(func() { w.renewLoop(life) })
	w.searching.Go(func() {
		<-search.Done()
		go w.Stop() //nolint:contextcheck // it waits for this goroutine among others, and has a time of its own
	})
	return nil
}

// Stop gives all channels back and waits until everything of the worker has
// ended. It may be called again, and before Start.
func (w *Worker) Stop() {
	w.mu.Lock()
	switch w.state {
	case workerNew:
		w.state = workerStopping
		close(w.ended)
		w.mu.Unlock()
		return
	case workerStopping:
		w.mu.Unlock()
		<-w.ended
		return
	}
	w.state = workerStopping
	w.mu.Unlock()

	w.stopSearch()
	w.searching.Wait()
	w.discharge()
	for _, s := range w.running() {
		s.retire(errStopped)
	}
	if !w.waitForNone(w.o.StopTimeout) {
		for _, s := range w.running() {
			w.logger.Error("session does not end; its channel is left to expire", slog.Int64("channel", s.channelID()))
			s.holding.end(errStopped)
		}
	}
	w.die(errStopped)
	w.beside.Wait()
	w.renewing.Wait()
	close(w.ended)
}

// Ended is closed when Stop is through.
func (w *Worker) Ended() <-chan struct{} { return w.ended }

// Held returns the channels that the worker owns now.
func (w *Worker) Held() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]int64, 0, len(w.supervisors))
	for id := range w.supervisors {
		ids = append(ids, id)
	}
	return ids
}

func (w *Worker) running() []*supervisor {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*supervisor, 0, len(w.supervisors))
	for _, s := range w.supervisors {
		all = append(all, s)
	}
	return all
}

func (w *Worker) supervisor(channelID int64) *supervisor {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.supervisors[channelID]
}

// waitForNone waits until no supervisor is left.
func (w *Worker) waitForNone(most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		w.mu.Lock()
		n, changed := len(w.supervisors), w.changed
		w.mu.Unlock()
		if n == 0 {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

// searchLoop takes channels and looks for work, at every poll and whenever it
// is told to.
func (w *Worker) searchLoop(ctx, life context.Context) {
	const depthEvery = 10
	for round := 0; ctx.Err() == nil; round++ {
		w.search(ctx, life)
		if round%depthEvery == 0 {
			w.measureDepth(ctx)
		}
		timer := time.NewTimer(w.o.PollInterval*4/5 + mathrand.N(w.o.PollInterval*2/5+1)) //nolint:gosec // jitter
		select {
		case <-timer.C:
		case <-w.look:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (w *Worker) search(ctx, life context.Context) {
	w.looked.Store(time.Now().UnixMilli())
	ctx, cancel := context.WithTimeout(ctx, w.o.LeaseTTL)
	defer cancel()
	mine, err := w.enlist(ctx)
	if err == nil {
		err = w.take(ctx, life, mine)
	}
	if err != nil && ctx.Err() == nil {
		w.logger.WarnContext(ctx, "channels cannot be taken", slog.Any("error", err))
	}
	if len(w.running()) == 0 {
		return
	}
	duties, err := w.o.Store.Duties(ctx, w.holder)
	if err != nil {
		if ctx.Err() == nil {
			w.logger.WarnContext(ctx, "due work cannot be looked up", slog.Any("error", err))
		}
		return
	}
	for _, d := range duties {
		if s := w.supervisor(d.ChannelID); s != nil {
			s.perform(d) //nolint:contextcheck // what it begins has the lease's context
		}
	}
	w.measureChannels()
}

func (w *Worker) adopt(life context.Context, lease store.Lease, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.supervisors[lease.ChannelID] != nil {
		// The lease was lost and is free again, and the session under the old
		// term has not ended yet: let it, and take the channel next time.
		go w.release(life, lease)
		return
	}
	s := newSupervisor(w, newHolding(life, lease, until))
	w.supervisors[lease.ChannelID] = s
	w.measureHeld(len(w.supervisors))
	go s.run() //nolint:contextcheck // it has the lease's context
}

// finished is the last thing that a supervisor does.
func (w *Worker) finished(s *supervisor) {
	lost := s.holding.lost()
	s.holding.end(errOver)
	w.mu.Lock()
	dead := w.dead
	w.mu.Unlock()
	if !dead {
		w.release(context.WithoutCancel(s.holding.ctx), s.holding.lease)
	}
	w.mu.Lock()
	delete(w.supervisors, s.channelID())
	w.measureHeld(len(w.supervisors))
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	if lost {
		w.logger.Warn("lease lost", slog.Int64("channel", s.channelID()), slog.Int64("term", s.holding.lease.Term))
		if w.o.Measures.LeaseLost != nil {
			w.o.Measures.LeaseLost()
		}
	}
}

// lookSoon is lookNow, unless the last look was a moment ago: most wakes are
// for channels of other workers.
func (w *Worker) lookSoon() {
	if time.Since(time.UnixMilli(w.looked.Load())) > lookRest {
		w.lookNow()
	}
}

// lookNow makes the search loop run.
func (w *Worker) lookNow() {
	select {
	case w.look <- struct{}{}:
	default:
	}
}

func (w *Worker) listener(ctx context.Context) listener {
	return listener{
		wake: func(channelID int64) {
			if s := w.supervisor(channelID); s == nil || !s.kick() {
				w.lookSoon() // perhaps it was just connected or changed
			}
		},
		attend: func(channelID int64) {
			if w.supervisor(channelID) != nil {
				w.lookNow()
			} else {
				w.lookSoon()
			}
		},
		typing:   func(t typingSignal) { w.showTyping(ctx, t) },
		released: w.lookNow,
		joined:   w.lookNow,
	}
}

// showTyping passes a typing signal on, unless too many are under way: it is
// worth nothing later.
func (w *Worker) showTyping(ctx context.Context, t typingSignal) {
	s := w.supervisor(t.ChannelID)
	if s == nil {
		return
	}
	select {
	case w.typeRoom <- struct{}{}:
	default:
		return
	}
	w.beside.Go(func() {
		defer func() { <-w.typeRoom }()
		s.typing(ctx, t)
	})
}

func (w *Worker) measureHeld(n int) {
	if w.o.Measures.LeasesHeld != nil {
		w.o.Measures.LeasesHeld(n)
	}
}

func (w *Worker) measureChannels() {
	if w.o.Measures.Channels == nil {
		return
	}
	counts := map[ChannelCount]int{}
	for _, s := range w.running() {
		counts[s.count()]++
	}
	w.o.Measures.Channels(counts)
}

func (w *Worker) measureDepth(ctx context.Context) {
	if w.o.Measures.OutboxDepth == nil {
		return
	}
	if n, err := w.o.Store.OutboxDepth(ctx, w.holder); err == nil {
		w.o.Measures.OutboxDepth(n)
	}
}
