package worker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"switchboard/internal/store"
)

const (
	// enlistPart of a lease's time goes by between two signs of life.
	enlistPart = 3
	// moves is how many channels are handed back at one look: what is moved is
	// away from its customers for a moment.
	moves = 10
	// stubborn is the most that nothing is handed back after a channel that was
	// came back, because nobody took it. The first time it is up to two lease times,
	// for the other worker may just have been slow; and so it is again after as long
	// without that.
	stubborn = 5 * time.Minute
	// dischargeTimeout bounds the sign-off of a worker that stops.
	dischargeTimeout = time.Second
)

// Why channels are handed back, for Measures.
const (
	reasonReserved = "reserved"
	reasonSpread   = "spread"
)

// crew is what a worker knows of the others, and of what it handed back to them.
type crew struct {
	since    time.Time        // when the worker first looked at it
	enlisted time.Time        // when the last sign of life was given
	idle     map[int64]string // channels of dedicated mode that do not run here, and why
	pool     []string         // the workers of the pool at the last look
	given    map[int64]gift   // channels that were handed back to them
	quiet    time.Time        // nothing is handed back before
	patience *backoff         // how long that is, the next time
}

// gift is a channel that was handed back.
type gift struct {
	term  int64     // of the lease under which it was held
	until time.Time // when it is not left to the others any more
}

func newCrew(leaseTTL time.Duration) crew {
	return crew{given: map[int64]gift{}, patience: newBackoff(2*leaseTTL, max(stubborn, 2*leaseTTL))}
}

// enlist gives a sign of life when one is due and returns how many channels the
// worker may hold now. What it holds beyond that, while others have fewer, it
// hands back.
func (w *Worker) enlist(ctx context.Context) (share, error) {
	all := share{now: w.o.MaxChannels, soon: w.o.MaxChannels}
	if now := time.Now(); now.Sub(w.crew.enlisted) >= w.o.LeaseTTL/enlistPart {
		if err := w.beforeSign(ctx); err != nil {
			return share{}, err
		}
		err := w.o.Store.Enlist(ctx, store.Enlistment{
			WorkerID: w.holder, Name: w.o.ID, Capacity: w.o.MaxChannels - len(w.ending()), Only: w.o.Channels, TTL: w.o.LeaseTTL,
		})
		if err != nil {
			return share{}, err
		}
		if w.crew.enlisted = now; w.crew.since.IsZero() {
			w.crew.since = now
		}
		if err := w.checkOwn(ctx); err != nil {
			return share{}, err
		}
	}
	if w.dedicated() {
		return share{now: len(w.o.Channels)}, nil
	}
	pool, err := w.o.Store.Pool(ctx)
	if err != nil {
		return share{}, err
	}
	if w.o.Measures.PoolWorkers != nil {
		w.o.Measures.PoolWorkers(len(pool))
	}
	w.crew.meet(pool)
	w.accompanied.Store(len(pool) > 1)
	if len(pool) < 2 {
		return all, nil
	}
	channels, err := w.o.Store.PoolChannels(ctx, w.o.kinds())
	if err != nil {
		return share{}, err
	}
	mine := shareOut(w.holder, channels, pool)
	w.spread(mine.give)
	return mine, nil
}

// meet notes who is in the pool. What was handed back to others is not left to
// them when they change: it may be for one who is gone.
func (c *crew) meet(pool []store.PoolWorker) {
	ids := make([]string, len(pool))
	for i, p := range pool {
		ids[i] = p.ID
	}
	if !slices.Equal(ids, c.pool) {
		c.pool = ids
		clear(c.given)
	}
}

// ending are the channels whose lease was lost or given up and whose session has
// not ended: they take room, and are not opened again beside it.
func (w *Worker) ending() (ids []int64) {
	for _, s := range w.running() {
		if !s.holding.trusted() {
			ids = append(ids, s.channelID())
		}
	}
	return ids
}

func (w *Worker) dedicated() bool { return len(w.o.Channels) > 0 }

// spread hands so many channels back that others should run, a few at each look.
// The newest go first, but none that came a moment ago.
func (w *Worker) spread(give int) {
	now := time.Now()
	if now.Before(w.crew.quiet) {
		return
	}
	var mine []*supervisor
	for _, s := range w.running() {
		if !s.over() {
			mine = append(mine, s)
		} else if s.moves() && s.holding.trusted() {
			give-- // it is on its way, and still counts as held
		}
	}
	give = min(give, moves)
	slices.SortFunc(mine, func(a, b *supervisor) int {
		return cmp.Or(b.began.Compare(a.began), cmp.Compare(b.channelID(), a.channelID()))
	})
	for _, s := range mine {
		if give <= 0 {
			return
		}
		if now.Sub(s.began) < w.o.LeaseTTL {
			continue
		}
		w.handBack(s, errSpread)
		give--
	}
}

// handBack ends a channel's session here so that another worker takes it. For a
// dedicated one the channel is reserved; one of the pool gets some time.
func (w *Worker) handBack(s *supervisor, why error) {
	if s.over() {
		return
	}
	reason := reasonReserved
	if errors.Is(why, errSpread) {
		reason = reasonSpread
		w.crew.given[s.channelID()] = gift{term: s.holding.lease.Term, until: time.Now().Add(w.o.LeaseTTL)}
	}
	s.logger.Info("channel handed back", slog.String("reason", why.Error()))
	if w.o.Measures.HandedBack != nil {
		w.o.Measures.HandedBack(reason)
	}
	s.retire(why)
}

// take acquires leases up to the worker's share and starts a supervisor for
// each. What others do not take it takes itself, sooner within its share than
// beyond: whoever should have it is full, or in trouble. When all begin at once,
// all channels look like that; so this waits until everybody could take theirs.
func (w *Worker) take(ctx, life context.Context, mine share) error {
	ending := w.ending()
	claim := store.LeaseClaim{
		WorkerID: w.holder, TTL: w.o.LeaseTTL, Kinds: w.o.kinds(), Only: w.o.Channels, Limit: min(mine.now, w.o.MaxChannels) - len(w.running()),
		Except: append(w.givenAway(), ending...),
	}
	if w.dedicated() {
		claim.Limit = mine.now
	}
	err := w.acquire(ctx, life, claim)
	if err != nil || w.dedicated() || mine.now >= w.o.MaxChannels && len(w.crew.given) == 0 {
		return err
	}
	claim.Limit, claim.Idle = min(mine.soon, w.o.MaxChannels)-len(w.running()), min(2*w.o.PollInterval, w.o.LeaseTTL/2)
	if err := w.acquire(ctx, life, claim); err != nil || time.Since(w.crew.since) < w.o.LeaseTTL {
		return err
	}
	claim.Limit, claim.Except, claim.Idle = w.o.MaxChannels-len(w.running()), ending, w.o.LeaseTTL/2
	return w.acquire(ctx, life, claim)
}

func (w *Worker) acquire(ctx, life context.Context, claim store.LeaseClaim) error {
	start := time.Now()
	leases, err := w.o.Store.AcquireLeases(ctx, claim)
	for _, lease := range leases {
		w.crew.cameBack(lease, start)
		w.adopt(life, lease, start.Add(w.o.LeaseTTL-w.o.margin()))
	}
	return err
}

// cameBack notes that a lease was taken, perhaps again, because nobody else took
// the channel that was handed back. Those that come back together count once.
func (c *crew) cameBack(lease store.Lease, now time.Time) {
	given, was := c.given[lease.ChannelID]
	delete(c.given, lease.ChannelID)
	if !was || lease.Term != given.term+1 || now.Before(c.quiet) { // a higher term: somebody had it
		return
	}
	if now.Sub(c.quiet) > stubborn {
		c.patience.reset()
	}
	c.quiet = now.Add(c.patience.next())
}

// givenAway are the channels that are left to others for now: for a lease's time
// from when they are free. They are remembered for longer, to see that nobody took
// them.
func (w *Worker) givenAway() []int64 {
	now := time.Now()
	var ids []int64
	for id, given := range w.crew.given {
		switch {
		case w.supervisor(id) != nil: // its sends are finished first
			given.until = now.Add(w.o.LeaseTTL)
			w.crew.given[id] = given
			ids = append(ids, id)
		case now.Before(given.until):
			ids = append(ids, id)
		case now.After(given.until.Add(w.o.LeaseTTL)):
			delete(w.crew.given, id)
		}
	}
	return ids
}

// checkOwn logs which channels of dedicated mode do not run here and why, once
// for each change.
func (w *Worker) checkOwn(ctx context.Context) error {
	if !w.dedicated() {
		return nil
	}
	found, err := w.o.Store.Assigned(ctx, w.holder, w.o.Channels)
	if err != nil {
		return err
	}
	idle := map[int64]string{}
	for _, id := range w.o.Channels {
		why := w.idle(found[id])
		if why != "" {
			idle[id] = why
		}
		if why == w.crew.idle[id] {
			continue
		}
		switch why {
		case "":
			w.logger.InfoContext(ctx, "a channel of this worker can run now", slog.Int64("channel", id))
		case standsBy:
			w.logger.InfoContext(ctx, "a channel of this worker does not run here", slog.Int64("channel", id), slog.String("why", why))
		default:
			w.logger.WarnContext(ctx, "a channel of this worker cannot run; see -channels or WORKER_CHANNELS",
				slog.Int64("channel", id), slog.String("why", why))
		}
	}
	w.crew.idle = idle
	return nil
}

const standsBy = "another dedicated worker has it, and this one stands by"

// idle says why a channel of dedicated mode cannot run here; empty: it can.
func (w *Worker) idle(c *store.AssignedChannel) string {
	switch {
	case c == nil:
		return "there is none with this id"
	case c.Deleted:
		return "it is deleted"
	case w.o.Factories[c.Kind] == nil:
		return "this worker cannot run channels of the kind " + string(c.Kind)
	case !c.Enabled:
		return "it is disconnected; connect it to have it run"
	case c.Elsewhere:
		return standsBy
	default:
		return ""
	}
}

// discharge signs off, so that the others take over at once what is released
// next.
func (w *Worker) discharge() {
	w.mu.Lock()
	dead := w.dead
	w.mu.Unlock()
	if dead {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dischargeTimeout)
	defer cancel()
	if err := w.o.Store.Discharge(ctx, w.holder); err != nil {
		w.logger.WarnContext(ctx, "the worker could not sign off; the others wait for its time to run out", slog.Any("error", err))
	}
}
