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
	// stubborn is how long nothing is handed back after a channel that was came
	// back, because nobody took it.
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
	since    time.Time           // when the worker first looked at it
	enlisted time.Time           // when the last sign of life was given
	missing  []int64             // channels of dedicated mode that cannot be run
	given    map[int64]time.Time // channels that were handed back, and until when they are left to others
	quiet    time.Time           // nothing is handed back before
}

func newCrew() crew { return crew{given: map[int64]time.Time{}} }

// enlist gives a sign of life when one is due and returns how many channels the
// worker may hold now. What it holds beyond that, while others have fewer, it
// hands back.
func (w *Worker) enlist(ctx context.Context) (share int, err error) {
	if now := time.Now(); now.Sub(w.crew.enlisted) >= w.o.LeaseTTL/enlistPart {
		err := w.o.Store.Enlist(ctx, store.Enlistment{
			WorkerID: w.holder, Name: w.o.ID, Capacity: w.o.MaxChannels, Only: w.o.Channels, TTL: w.o.LeaseTTL,
		})
		if err != nil {
			return 0, err
		}
		if w.crew.enlisted = now; w.crew.since.IsZero() {
			w.crew.since = now
		}
		if err := w.checkOwn(ctx); err != nil {
			return 0, err
		}
	}
	if w.dedicated() {
		return len(w.o.Channels), nil
	}
	pool, err := w.o.Store.Pool(ctx)
	if err != nil {
		return 0, err
	}
	if w.o.Measures.PoolWorkers != nil {
		w.o.Measures.PoolWorkers(len(pool))
	}
	w.accompanied.Store(len(pool) > 1)
	if len(pool) < 2 {
		return w.o.MaxChannels, nil
	}
	channels, err := w.o.Store.PoolChannels(ctx, w.o.kinds())
	if err != nil {
		return 0, err
	}
	most := level(channels, pool)
	w.spread(most, pool)
	return min(most, w.o.MaxChannels), nil
}

func (w *Worker) dedicated() bool { return len(w.o.Channels) > 0 }

// level is the least number of channels that, if no worker has more than it,
// leaves none over. Where there are too many channels, it is the largest
// capacity.
func level(channels int, pool []store.PoolWorker) int {
	capacities := make([]int, len(pool))
	for i, p := range pool {
		capacities[i] = p.Capacity
	}
	slices.Sort(capacities)
	for i, capacity := range capacities {
		rest := len(capacities) - i
		if even := (channels + rest - 1) / rest; even <= capacity {
			return even
		}
		channels -= capacity
	}
	return capacities[len(capacities)-1]
}

// spread hands channels back that others should run: what is above the level,
// and one if somebody with room has two fewer. The newest go first, but none
// that came a moment ago.
func (w *Worker) spread(most int, pool []store.PoolWorker) {
	now := time.Now()
	if now.Before(w.crew.quiet) {
		return
	}
	var mine []*supervisor
	for _, s := range w.running() {
		if !s.over() {
			mine = append(mine, s)
		}
	}
	excess := len(mine) - most
	if excess <= 0 && w.lighter(len(mine)-2, pool) {
		excess = 1
	}
	slices.SortFunc(mine, func(a, b *supervisor) int {
		return cmp.Or(b.began.Compare(a.began), cmp.Compare(b.channelID(), a.channelID()))
	})
	for _, s := range mine {
		if excess = min(excess, moves); excess <= 0 {
			return
		}
		if now.Sub(s.began) < w.o.LeaseTTL {
			continue
		}
		w.handBack(s, errSpread)
		excess--
	}
}

// lighter reports whether another worker with room has at most so many channels.
func (w *Worker) lighter(most int, pool []store.PoolWorker) bool {
	for _, p := range pool {
		if p.ID != w.holder && p.Held <= most && p.Held < p.Capacity {
			return true
		}
	}
	return false
}

// handBack ends a channel's session here so that another worker takes it, which
// gets the time that a lease takes to expire.
func (w *Worker) handBack(s *supervisor, why error) {
	if s.over() {
		return
	}
	w.crew.given[s.channelID()] = time.Now().Add(w.o.LeaseTTL)
	s.logger.Info("channel handed back", slog.String("reason", why.Error()))
	if w.o.Measures.HandedBack != nil {
		reason := reasonSpread
		if errors.Is(why, errReserved) {
			reason = reasonReserved
		}
		w.o.Measures.HandedBack(reason)
	}
	s.retire(why)
}

// take acquires leases up to the worker's share and starts a supervisor for
// each. A channel that nobody has taken for a while is taken beyond the share:
// whoever should have it is full, or in trouble. When all begin at once, all
// channels look like that; so this waits until everybody could take theirs.
func (w *Worker) take(ctx, life context.Context, share int) error {
	claim := store.LeaseClaim{
		WorkerID: w.holder, TTL: w.o.LeaseTTL, Kinds: w.o.kinds(), Only: w.o.Channels, Limit: share - len(w.running()),
	}
	ending := w.ending()
	claim.Except = append(w.givenAway(), ending...)
	if w.dedicated() {
		claim.Limit = share
	}
	err := w.acquire(ctx, life, claim)
	if err != nil || share >= w.o.MaxChannels || w.dedicated() || time.Since(w.crew.since) < w.o.LeaseTTL {
		return err
	}
	claim.Limit, claim.Except, claim.Idle = w.o.MaxChannels-len(w.running()), ending, w.o.LeaseTTL/2
	return w.acquire(ctx, life, claim)
}

func (w *Worker) acquire(ctx, life context.Context, claim store.LeaseClaim) error {
	start := time.Now()
	leases, err := w.o.Store.AcquireLeases(ctx, claim)
	for _, lease := range leases {
		if _, back := w.crew.given[lease.ChannelID]; back {
			delete(w.crew.given, lease.ChannelID)
			w.crew.quiet = start.Add(stubborn)
		}
		w.adopt(life, lease, start.Add(w.o.LeaseTTL-w.o.margin()))
	}
	return err
}

// givenAway are the channels that are left to others for now.
func (w *Worker) givenAway() []int64 {
	now := time.Now()
	var ids []int64
	for id, until := range w.crew.given {
		if now.After(until) {
			delete(w.crew.given, id)
			continue
		}
		ids = append(ids, id)
	}
	return ids
}

// ending are the channels whose lease was lost and whose session has not ended:
// they are not opened again beside it.
func (w *Worker) ending() (ids []int64) {
	for _, s := range w.running() {
		if !s.holding.trusted() {
			ids = append(ids, s.channelID())
		}
	}
	return ids
}

// checkOwn tells when channels of dedicated mode cannot be run, or can again.
func (w *Worker) checkOwn(ctx context.Context) error {
	if !w.dedicated() {
		return nil
	}
	runnable, err := w.o.Store.Runnable(ctx, w.o.Channels, w.o.kinds())
	if err != nil {
		return err
	}
	var missing []int64
	for _, id := range w.o.Channels {
		if !slices.Contains(runnable, id) {
			missing = append(missing, id)
		}
	}
	switch {
	case slices.Equal(missing, w.crew.missing):
	case len(missing) == 0:
		w.logger.InfoContext(ctx, "all channels of this worker exist now")
	default:
		w.logger.WarnContext(ctx, "channels of this worker do not exist, or are of a kind that it cannot run; the others run. Check -channels or WORKER_CHANNELS",
			slog.Any("channels", missing))
	}
	w.crew.missing = missing
	return nil
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
