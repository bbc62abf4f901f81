package realtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"switchboard/internal/domain"
)

// expireTurns is in how many polls, roughly, every idle feed has its turn to drop frames that are too old.
const expireTurns = 32

var errHubClosed = errors.New("realtime: the server is closed")

// hub owns the feeds of a node: it starts them with their first socket, polls the heads of all of them with one query, and
// ends them when nobody has needed them for a while.
type hub struct {
	log     Log
	logger  *slog.Logger
	metrics Metrics
	limits  Limits
	pages   *pageCache

	ctx    context.Context //nolint:containedctx // the life of the hub's goroutines
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	reads  chan struct{} // one token for each read under way
	kick   chan struct{} // one token: poll now

	mu     sync.RWMutex // guards what follows, and the feeds' refs and idleSince
	feeds  map[int64]*feed
	closed bool
}

func newHub(log Log, logger *slog.Logger, metrics Metrics, limits Limits) *hub {
	ctx, cancel := context.WithCancel(context.Background())
	return &hub{
		log: log, logger: logger, metrics: metrics, limits: limits, pages: newPageCache(limits.PageCacheBytes),
		ctx: ctx, cancel: cancel,
		reads: make(chan struct{}, limits.ConcurrentReads), kick: make(chan struct{}, 1), feeds: map[int64]*feed{},
	}
}

func (h *hub) start() { h.tasks.Go(h.poll) }

// close ends all feeds and waits for every goroutine.
func (h *hub) close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		for id, f := range h.feeds {
			close(f.quit)
			delete(h.feeds, id)
		}
	}
	h.mu.Unlock()
	h.cancel()
	h.tasks.Wait()
}

// acquire returns the feed of an organization once it knows where its log stands. Every acquire wants one release.
func (h *hub) acquire(ctx context.Context, organizationID int64) (*feed, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, errHubClosed
	}
	f := h.feeds[organizationID]
	if f == nil {
		f = newFeed(h, organizationID)
		h.feeds[organizationID] = f
		h.tasks.Go(f.run)
	}
	f.refs++
	h.mu.Unlock()

	select {
	case <-f.ready:
		return f, nil
	default:
		h.askHeads()
	}
	select {
	case <-f.ready:
		return f, nil
	case <-f.quit:
		h.release(f)
		return nil, errHubClosed
	case <-ctx.Done():
		h.release(f)
		return nil, fmt.Errorf("realtime: learn where the log of organization %d stands: %w", organizationID, ctx.Err())
	}
}

func (h *hub) release(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.refs--
	if f.refs == 0 {
		f.idleSince = time.Now()
	}
}

// hear passes an event from Redis to its feed, if this node has one.
func (h *hub) hear(e domain.Event) {
	if f := h.feed(e.OrganizationID); f != nil {
		f.hear(e)
	}
}

// wants reports whether this node has a feed for an organization.
func (h *hub) wants(organizationID int64) bool { return h.feed(organizationID) != nil }

func (h *hub) feed(organizationID int64) *feed {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.feeds[organizationID]
}

// count is how many feeds there are.
func (h *hub) count() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.feeds)
}

// askHeads makes the next poll happen now.
func (h *hub) askHeads() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// poll asks for the heads again and again. A kick is served at once, but not more often than ten times a second.
func (h *hub) poll() {
	const rest = 100 * time.Millisecond
	timer := time.NewTimer(h.pollInterval())
	defer timer.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.kick:
		case <-timer.C:
		}
		h.sweep()
		began := time.Now()
		h.pollOnce()
		if !h.wait(rest - time.Since(began)) {
			return
		}
		timer.Reset(h.pollInterval())
	}
}

// wait rests, and reports false when the hub is closed.
func (h *hub) wait(d time.Duration) bool {
	if d <= 0 {
		return h.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.ctx.Done():
		return false
	}
}

// pollInterval varies, so that the nodes do not poll in step.
func (h *hub) pollInterval() time.Duration {
	return h.limits.HeadsEvery + rand.N(h.limits.HeadsEvery/4+1) //nolint:gosec // jitter
}

// sweep ends the feeds that nobody needs, and lets go of pages.
func (h *hub) sweep() {
	h.pages.expire(time.Now().Add(-h.limits.PageCacheAge))
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, f := range h.feeds {
		if f.refs == 0 && time.Since(f.idleSince) > h.limits.FeedLinger {
			close(f.quit)
			delete(h.feeds, id)
			h.pages.forget(id)
		}
	}
}

func (h *hub) pollOnce() {
	h.mu.RLock()
	feeds := make(map[int64]*feed, len(h.feeds))
	ids := make([]int64, 0, len(h.feeds))
	for id, f := range h.feeds {
		feeds[id] = f
		ids = append(ids, id)
	}
	h.mu.RUnlock()
	if len(ids) == 0 {
		h.metrics.Behind(0)
		return
	}
	before := make(map[int64]Head, len(feeds))
	for id, f := range feeds {
		before[id] = f.at()
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.limits.RequestTimeout)
	defer cancel()
	heads, err := h.log.Heads(ctx, ids)
	if err != nil {
		if h.ctx.Err() == nil {
			h.logger.Warn("[Socket.IO] could not poll the heads of the event logs", slog.Int("organizations", len(ids)), slog.Any("error", err))
		}
		return
	}
	turn := time.Now().Unix() % expireTurns
	behind := 0
	for id, head := range heads {
		if known := before[id]; known.Epoch == head.Epoch {
			behind += max(0, int(head.Seq-feeds[id].at().Seq))
		}
		// Most feeds stand where the log stands: they are woken only now and then, to let go of old frames.
		if f := feeds[id]; f != nil && (head != before[id] || id%expireTurns == turn) {
			f.post(func(f *feed) { f.learn(head, before[id]) })
		}
	}
	h.metrics.Behind(behind)
}

// read fetches a stretch of a log and calls done with it from a goroutine of the hub. purpose is for the metrics.
func (h *hub) read(organizationID, after int64, limit int, purpose string, done func(domain.EventPage, error)) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.closed {
		return
	}
	h.tasks.Go(func() {
		p, err := h.readNow(h.ctx, organizationID, after, limit, purpose)
		if h.ctx.Err() != nil {
			return
		}
		if err != nil {
			h.logger.Warn("[Socket.IO] could not read the event log", slog.Int64("organizationId", organizationID), slog.Any("error", err))
		}
		done(p, err)
	})
}

// readNow is read for a caller who waits.
func (h *hub) readNow(ctx context.Context, organizationID, after int64, limit int, purpose string) (domain.EventPage, error) {
	ctx, cancel := context.WithTimeout(ctx, h.limits.RequestTimeout)
	defer cancel()
	select {
	case h.reads <- struct{}{}:
		defer func() { <-h.reads }()
	case <-ctx.Done():
		return domain.EventPage{}, fmt.Errorf("realtime: wait for a turn to read the log: %w", ctx.Err())
	}
	h.metrics.LogRead(purpose)
	p, err := h.log.EventsAfter(ctx, organizationID, after, limit)
	if err != nil {
		return domain.EventPage{}, fmt.Errorf("realtime: read the log of organization %d after %d: %w", organizationID, after, err)
	}
	return p, nil
}
