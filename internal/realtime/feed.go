package realtime

import (
	"log/slog"
	"sync"
	"time"

	"switchboard/internal/domain"
)

const (
	// heardLimit bounds the events that wait for the feed's goroutine, and earlyLimit those that arrived ahead of their
	// turn. What is dropped beyond is read from the log.
	heardLimit = 1024
	earlyLimit = 1024
	// retryRead is the pause after a failed read of the log.
	retryRead = 500 * time.Millisecond
)

// feed brings the event log of one organization to the sockets of this node: see the package documentation.
type feed struct {
	hub            *hub
	organizationID int64
	wake           chan struct{} // one token: something is in the inbox
	quit           chan struct{} // closed by the hub
	ready          chan struct{} // closed when the first head is known

	mu       sync.Mutex // guards the inbox and the copy of the position that others read
	heard    []domain.Event
	commands []command
	position Head

	refs      int       // guarded by hub.mu: sessions that use the feed
	idleSince time.Time // guarded by hub.mu

	// What follows belongs to the goroutine of run.
	cursor  int64  // the last event that went to the live sockets
	epoch   string // of the log that cursor counts in
	target  int64  // the highest seq known to exist
	ring    ring
	early   map[int64]domain.Event
	members []*member
	pages   map[int64]*pageRequest // reads for replays, by page number
	reading bool                   // a read for a gap is under way
	gap     *time.Timer
	gapSet  bool
}

// command is what others want of the feed's goroutine.
type command func(f *feed)

func newFeed(h *hub, organizationID int64) *feed {
	gap := time.NewTimer(time.Hour)
	gap.Stop()
	return &feed{
		hub: h, organizationID: organizationID,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ready: make(chan struct{}),
		ring: ring{limits: h.limits}, early: map[int64]domain.Event{},
		pages: map[int64]*pageRequest{}, gap: gap,
	}
}

// hear takes an event that Redis brought. It never blocks: when too many wait, the event is left to the log.
func (f *feed) hear(e domain.Event) {
	f.mu.Lock()
	full := len(f.heard) >= heardLimit
	if !full {
		f.heard = append(f.heard, e)
	}
	f.mu.Unlock()
	if full {
		f.hub.metrics.Dropped("feed_queue")
	}
	f.rouse()
}

// post hands the goroutine a command. Nothing happens after the feed has ended.
func (f *feed) post(c command) {
	f.mu.Lock()
	f.commands = append(f.commands, c)
	f.mu.Unlock()
	f.rouse()
}

func (f *feed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// at returns where the live sockets stand.
func (f *feed) at() Head {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

func (f *feed) run() {
	defer f.gap.Stop()
	for {
		select {
		case <-f.quit:
			return
		case <-f.gap.C:
			f.gapSet = false
			f.heal()
		case <-f.wake:
			f.work()
		}
	}
}

func (f *feed) work() {
	f.mu.Lock()
	heard, commands := f.heard, f.commands
	f.heard, f.commands = nil, nil
	f.mu.Unlock()
	for _, e := range heard {
		f.receive(e)
	}
	for _, c := range commands {
		c(f)
	}
}

// known reports whether the feed has learned where its log stands.
func (f *feed) known() bool { return f.epoch != "" }

// learn takes a head that was read from the database. before is where the feed stood when that read began: a head
// behind it means that the log itself went back.
func (f *feed) learn(head, before Head) {
	switch {
	case head.Epoch == "":
		return
	case !f.known():
		f.moveTo(head)
		close(f.ready)
	case head.Epoch != f.epoch:
		if before.Epoch == f.epoch { // else this answer is older than the one that brought the present epoch
			f.reset(head, "epoch")
		}
	case before.Epoch == f.epoch && head.Seq < before.Seq:
		f.reset(head, "epoch")
	case head.Seq > f.cursor:
		f.target = max(f.target, head.Seq)
		f.armGap(f.hub.limits.GapGrace)
	}
	f.ring.expire(time.Now())
}

// moveTo sets the position without sending anything.
func (f *feed) moveTo(head Head) {
	f.cursor, f.epoch, f.target = head.Seq, head.Epoch, head.Seq
	f.ring.clear()
	clear(f.early)
	f.publish()
}

func (f *feed) publish() {
	f.mu.Lock()
	f.position = Head{Seq: f.cursor, Epoch: f.epoch}
	f.mu.Unlock()
}

// reset begins anew at head: the log is not the one that the sockets know, or does not reach back to where they stand.
func (f *feed) reset(head Head, reason string) {
	f.hub.logger.Warn("[Socket.IO] the event log changed under the sockets: they are told to refetch",
		slog.Int64("organizationId", f.organizationID), slog.String("reason", reason),
		slog.Int64("fromSeq", f.cursor), slog.Int64("toSeq", head.Seq))
	f.moveTo(head)
	f.hub.pages.forget(f.organizationID)
	clear(f.pages)
	spread := len(f.members)
	for _, m := range f.members {
		f.resetMember(m, reason, spread)
	}
}

// receive takes one event that Redis brought, in whatever order and however often.
func (f *feed) receive(e domain.Event) {
	switch {
	case !f.known():
		return // the head that is being read covers it
	case e.Epoch != f.epoch:
		f.hub.askHeads() // another log, or a stale message: the database knows
	case e.Seq <= f.cursor:
		return
	case e.Seq == f.cursor+1:
		if !f.advance(e) {
			f.armGap(f.hub.limits.GapGrace)
		}
		f.advanceEarly()
	default:
		f.target = max(f.target, e.Seq)
		if len(f.early) < earlyLimit {
			f.early[e.Seq] = e
		}
		f.armGap(f.hub.limits.GapGrace)
	}
}

// advanceEarly sends what waited for its turn.
func (f *feed) advanceEarly() {
	for {
		e, found := f.early[f.cursor+1]
		if !found {
			break
		}
		delete(f.early, e.Seq)
		if !f.advance(e) {
			f.armGap(f.hub.limits.GapGrace)
		}
	}
	for seq := range f.early {
		if seq <= f.cursor { // the log was faster
			delete(f.early, seq)
		}
	}
}

// advance broadcasts the event behind the cursor. It reports false when the event cannot be sent.
func (f *feed) advance(e domain.Event) bool {
	fr, err := newFrame(e)
	if err != nil {
		// It cannot come from our own log, which holds only JSON: read what is written there instead.
		f.hub.logger.Error("[Socket.IO] send error", slog.Int64("organizationId", f.organizationID), slog.Any("error", err))
		f.target = max(f.target, e.Seq)
		return false
	}
	f.advanceFrame(fr)
	return true
}

func (f *feed) advanceFrame(fr *frame) {
	f.cursor = fr.seq
	f.target = max(f.target, fr.seq)
	f.ring.push(fr)
	f.publish()
	sent := 0
	for _, m := range f.members {
		if f.offer(m, fr) {
			sent++
		}
	}
	f.hub.metrics.Broadcast(fr.name, sent)
	f.hub.metrics.Lag(time.Since(fr.at.Std()))
}

// armGap makes sure that the log is read soon, unless the missing events arrive by themselves before.
func (f *feed) armGap(after time.Duration) {
	if !f.gapSet && !f.reading {
		f.gapSet = true
		f.gap.Reset(after)
	}
}

// heal reads what is missing behind the cursor.
func (f *feed) heal() {
	if f.cursor >= f.target || f.reading {
		return
	}
	f.reading = true
	after, epoch := f.cursor, f.epoch
	f.hub.read(f.organizationID, after, pageSize, "gap", func(p domain.EventPage, err error) {
		f.post(func(f *feed) { f.healed(after, epoch, p, err) })
	})
}

// healed takes the answer to heal.
func (f *feed) healed(after int64, epoch string, p domain.EventPage, err error) {
	f.reading = false
	switch {
	case epoch != f.epoch:
		return // reset in between
	case err != nil:
		f.armGap(retryRead)
		return
	case p.Epoch != f.epoch:
		f.reset(Head{Seq: p.Head, Epoch: p.Epoch}, "epoch")
		return
	case p.Resync && p.Head < after:
		f.hub.askHeads() // the log went back; a poll that began later confirms it
		return
	case p.Resync:
		f.reset(Head{Seq: p.Head, Epoch: p.Epoch}, "retention")
		return
	}
	f.target = max(f.target, p.Head)
	count := 0
	for _, e := range p.Events {
		if e.Seq != f.cursor+1 {
			continue
		}
		if !f.advance(e) {
			f.armGap(retryRead) // the log itself holds it: do not spin
			break
		}
		count++
	}
	f.hub.metrics.Healed(count)
	f.advanceEarly()
	if f.cursor < f.target && !f.gapSet {
		if count == 0 {
			// The head is ahead of what can be read; do not spin.
			f.target = max(f.cursor, p.Head)
			f.armGap(retryRead)
			return
		}
		f.heal()
	}
}
