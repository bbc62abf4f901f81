package worker

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

// Bounds of what one channel has under way beside its sends.
const (
	parallelCommands = 4
	parallelMedia    = 3
	parallelImports  = 1 // of those: the phone may have to be asked for each
	commandTimeout   = 30 * time.Second
	// claimTimeout bounds a look for work, settleTimeout one try to write what
	// became of it.
	claimTimeout  = 5 * time.Second
	settleTimeout = 5 * time.Second
)

// dispatcher carries out what waits in the database for one session. Its loop
// runs in one goroutine, which owns all fields but the channels and gives each
// piece of work a goroutine of its own.
type dispatcher struct {
	s       *supervisor
	session channel.Session
	host    *host
	org     int64
	kind    domain.ChannelKind
	resend  channel.Resender // nil: sends must not be repeated
	pacer   channel.Pacer    // nil: nothing limits the channel's pace
	lease   store.Lease

	signal   chan struct{} // capacity 1: dirty was set
	finished chan task     // room for all that can be under way
	quitting chan struct{} // closed by quit
	quitOnce sync.Once

	mu    sync.Mutex // guards dirty
	dirty [lanes]bool

	running  [lanes]int
	bulk     int                // sends under way of chats with nothing but bulk
	backlog  bool               // the last claim left something behind that could go
	sending  map[int64]struct{} // messages with a send under way
	busy     map[int64]struct{} // chats with a send or a command under way
	fetching map[int64]bool     // media; true: it came with a phone's history

	again    <-chan time.Time // when mend is due; nil: nothing to mend
	mendWait *backoff

	wake   *time.Timer // when work that waits may go
	wakeAt time.Time   // zero: the timer is not set
}

// lane is a kind of work.
type lane int

const (
	sends lane = iota
	commands
	downloads
	lanes
)

// task is a piece of work that is under way, and afterwards what it leaves to
// the loop.
type task struct {
	lane      lane
	id        int64
	chat      int64             // 0 for downloads, which nothing waits for
	bulk      bool              // a send of a chat with nothing but bulk
	pause     time.Duration     // the provider asks this of the whole channel
	unsettled *inbox.SendResult // of a send, when the database refuses to take it
}

func newDispatcher(s *supervisor, session channel.Session, h *host, loaded inbox.OpenChannel) *dispatcher {
	d := &dispatcher{
		s: s, session: session, host: h, org: loaded.OrganizationID, kind: loaded.Channel.Kind, lease: s.holding.lease,
		signal: make(chan struct{}, 1), quitting: make(chan struct{}),
		sending: map[int64]struct{}{}, busy: map[int64]struct{}{}, fetching: map[int64]bool{},
		mendWait: newBackoff(100*time.Millisecond, 5*time.Second),
		wake:     time.NewTimer(time.Hour),
	}
	d.wake.Stop()
	d.finished = make(chan task, s.w.o.Parallel+parallelCommands+parallelMedia)
	d.resend, _ = session.(channel.Resender)
	d.pacer, _ = session.(channel.Pacer)
	return d
}

// kick makes the loop look for work of the given kinds.
func (d *dispatcher) kick(send, command, media bool) {
	d.mark(send, command, media)
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

// quit ends the claims; run returns when what is under way has ended.
func (d *dispatcher) quit() { d.quitOnce.Do(func() { close(d.quitting) }) }

// quits reports whether quit was called: what has not begun shall not begin.
func (d *dispatcher) quits() bool {
	select {
	case <-d.quitting:
		return true
	default:
		return false
	}
}

// run works from the session's Ready until quit or the end of ctx. What an
// earlier session left is settled at once: this one may never become ready.
func (d *dispatcher) run(ctx context.Context) {
	if !d.recover(ctx) {
		return
	}
	select {
	case <-d.host.ready:
	case <-d.quitting:
		return
	case <-ctx.Done():
		return
	}
	defer d.wake.Stop()
	defer d.leave() //nolint:contextcheck // it outlives the session
	if !d.s.residue.empty() {
		d.mendLater()
	}
	d.kick(true, true, true)
	for {
		select {
		case <-d.again:
			d.mend() //nolint:contextcheck // it outlives the session
			d.pull(ctx)
		case <-d.wake.C:
			d.wakeAt = time.Time{}
			d.mark(true, true, false)
			d.pull(ctx)
		case <-d.signal:
			d.pull(ctx)
		case t := <-d.finished:
			d.retire(t)
			d.pull(ctx)
		case <-d.quitting:
			return
		case <-ctx.Done():
			return
		}
	}
}

// leave waits for what is under way, and mends once more what can be mended.
func (d *dispatcher) leave() {
	d.wait()
	d.mend()
}

// recover settles what an earlier session left in "sending", before anything
// is sent: first what is known of the sessions under this lease, then the rest
// as the remains of a crash. It is tried until it succeeds or the session ends.
func (d *dispatcher) recover(ctx context.Context) bool {
	wait := newBackoff(100*time.Millisecond, 2*time.Second)
	for {
		n, err := 0, d.releaseClaims() //nolint:contextcheck // it outlives the session
		if err == nil {
			call, cancel := context.WithTimeout(ctx, claimTimeout)
			n, err = d.s.w.o.Inbox.RecoverSends(call, d.org, d.lease, d.resend != nil, d.held())
			cancel()
		}
		if err == nil {
			d.s.leftover = nil
			if n > 0 {
				d.s.logger.WarnContext(ctx, "sends of an earlier session were settled", slog.Int("messages", n), slog.Bool("repeated", d.resend != nil))
			}
			return true
		}
		d.s.holding.check(err)
		if ctx.Err() != nil {
			return false
		}
		d.s.logger.WarnContext(ctx, "sends of an earlier session cannot be settled yet", slog.Any("error", err))
		select {
		case <-d.quitting:
			return false
		default:
			pause(ctx, wait.next())
		}
	}
}

// wait waits for what is under way.
func (d *dispatcher) wait() {
	for d.running[sends]+d.running[commands]+d.running[downloads] > 0 {
		d.retire(<-d.finished)
	}
}

func (d *dispatcher) retire(t task) {
	d.running[t.lane]--
	if t.lane == sends {
		delete(d.sending, t.id)
	}
	if t.bulk {
		d.bulk--
	}
	if t.unsettled != nil {
		d.s.residue.unsettled[t.id] = unsettledSend{chat: t.chat, result: *t.unsettled}
		d.mendLater()
	}
	if t.chat != 0 {
		delete(d.busy, t.chat)
	}
	if t.lane == downloads {
		delete(d.fetching, t.id)
	}
	// Sends beside each other may ask for different pauses: the longest holds.
	if until := time.Now().Add(t.pause); t.pause > 0 && until.After(d.s.paused) {
		d.s.paused = until
	}
	// The chat's next message may go now, and a command may have waited for
	// this one's id.
	d.mark(t.lane != downloads, t.lane != downloads, t.lane == downloads)
}

// mark notes for the next pull that there may be work of the given kinds.
func (d *dispatcher) mark(send, command, media bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirty[sends] = d.dirty[sends] || send
	d.dirty[commands] = d.dirty[commands] || command
	d.dirty[downloads] = d.dirty[downloads] || media
}

// pull claims work as far as there is room.
func (d *dispatcher) pull(ctx context.Context) {
	limits := [lanes]int{sends: d.s.w.o.Parallel, commands: parallelCommands, downloads: parallelMedia}
	claims := [lanes]func(context.Context, int) (int, error){sends: d.claimSends, commands: d.claimCommands, downloads: d.claimDownloads}
	order := [lanes]lane{sends, commands, downloads}
	if d.backlog { // commands are few; behind messages without end they would never go
		order = [lanes]lane{commands, sends, downloads}
	}
	for _, l := range order {
		room := limits[l] - d.running[l]
		if room <= 0 || ctx.Err() != nil || !d.takeDirty(l) {
			continue
		}
		n, err := claims[l](ctx, room)
		if err != nil {
			d.s.holding.check(err)
			if ctx.Err() == nil {
				// The next poll finds what is due.
				d.s.logger.WarnContext(ctx, "work cannot be claimed", slog.Int("lane", int(l)), slog.Any("error", err))
			}
			continue
		}
		if n == room {
			d.mu.Lock()
			d.dirty[l] = true // there may be more
			d.mu.Unlock()
		}
	}
}

func (d *dispatcher) takeDirty(l lane) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	dirty := d.dirty[l]
	d.dirty[l] = false
	return dirty
}

func (d *dispatcher) busyChats() []int64 {
	ids := make([]int64, 0, len(d.busy))
	for id := range d.busy {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// start runs a piece of work in a goroutine of its own.
func (d *dispatcher) start(t task, work func(t *task)) {
	d.running[t.lane]++
	if t.lane == sends {
		d.sending[t.id] = struct{}{}
	}
	if t.bulk {
		d.bulk++
	}
	if t.chat != 0 {
		d.busy[t.chat] = struct{}{}
	}
	go func() {
		work(&t)
		d.finished <- t
	}()
}

// wakeBy makes the loop look for work at a moment, unless it does so sooner.
func (d *dispatcher) wakeBy(at time.Time) {
	if at.IsZero() || !d.wakeAt.IsZero() && !at.Before(d.wakeAt) {
		return
	}
	d.wakeAt = at
	d.wake.Reset(time.Until(at))
}

// pace is what the provider lets through now. The loop looks again when that
// changes.
func (d *dispatcher) pace() channel.Pace {
	now := time.Now()
	if now.Before(d.s.paused) {
		d.wakeBy(d.s.paused)
		return channel.Pace{}
	}
	if d.pacer == nil {
		return channel.Pace{Room: math.MaxInt}
	}
	pace := d.pacer.Pace(now)
	d.wakeBy(pace.Again)
	return pace
}

func (d *dispatcher) claimDownloads(ctx context.Context, room int) (int, error) {
	fetcher, can := d.session.(channel.MediaFetcher)
	if !can || d.s.w.o.Media == nil {
		return 0, nil
	}
	search := store.MediaSearch{ChannelID: d.lease.ChannelID, Limit: room, Imported: parallelImports}
	for id, imported := range d.fetching {
		if search.Busy = append(search.Busy, id); imported {
			search.Imported--
		}
	}
	call, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	jobs, err := d.s.w.o.Store.DueMedia(call, search)
	if err != nil {
		return 0, err
	}
	for _, job := range jobs {
		d.fetching[job.ID] = job.Imported
		d.start(task{lane: downloads, id: job.ID}, func(*task) { d.fetch(ctx, fetcher, job) })
	}
	return len(jobs), nil
}

// settle writes what became of a piece of work, as often as it takes, while
// the lease is trusted: it matters more than the session, and outlives it.
// false means that the database cannot take what there is to write.
func (d *dispatcher) settle(what string, id int64, write func(ctx context.Context) error) bool {
	wait := newBackoff(50*time.Millisecond, 2*time.Second)
	for d.s.holding.trusted() {
		ctx, cancel := context.WithTimeout(d.s.holding.ctx, settleTimeout)
		err := write(ctx)
		cancel()
		if err == nil {
			return true
		}
		d.s.holding.check(err)
		if errors.Is(err, store.ErrLeaseLost) || d.s.holding.ctx.Err() != nil {
			return true
		}
		d.s.logger.Error("what became of a piece of work cannot be written", slog.String("work", what), slog.Int64("id", id), slog.Any("error", err))
		if store.IsPermanent(err) {
			return false
		}
		pause(d.s.holding.ctx, wait.next())
	}
	return true
}
