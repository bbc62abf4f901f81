package realtime

import (
	"encoding/json"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/realtime/websocket"
)

const (
	// replayAhead is how many bytes a replay may queue for a socket before it waits for the socket to take them; a live
	// socket that lags further behind than that goes on as a replay.
	replayAhead = 256 << 10
	// resetSpread is the longest delay that a herd of sockets is asked to keep before it refetches.
	resetSpread = 5 * time.Second
)

// outlet is where a member's frames go.
type outlet interface {
	// send queues a frame. It does not block.
	send(f *websocket.Frame)
	// pending is how many bytes are queued that the transport has not taken.
	pending() int64
	// tell asks for feed.drained to be called when the transport has taken some of them.
	tell()
	// live is called when the member has caught up.
	live()
}

// member is a socket on a feed. All fields but resume belong to the feed's goroutine.
type member struct {
	out    outlet
	at     int64 // the last event that the socket was sent, or said to have
	live   bool  // false: at is behind the cursor, and a replay goes on
	page   *page // the stretch of the log that the replay is in
	resume atomic.Bool

	attached bool
	index    int // in the feed's members
}

// start is where a socket wants to begin.
type start struct {
	seq   int64
	epoch string // empty: whatever the log's is
	bad   bool   // the position made no sense
}

// attach adds a member to the feed. It gets every event behind from, in order, each once.
func (f *feed) attach(m *member, from start) {
	m.attached, m.index = true, len(f.members)
	f.members = append(f.members, m)
	f.place(m, from)
}

// place sets where a member goes on.
func (f *feed) place(m *member, from start) {
	m.page, m.live = nil, true
	switch {
	case from.bad:
		f.resetMember(m, "bad_position", 1)
	case from.epoch != "" && from.epoch != f.epoch:
		// Perhaps it is this node that has not heard of a new epoch yet.
		f.hub.askHeads()
		f.resetMember(m, "epoch", 1)
	case from.seq > f.cursor:
		m.at = from.seq
		f.verify(m)
	default:
		m.at, m.live = from.seq, false
		f.step(m)
	}
}

// seek sends a member again what lies behind seq.
func (f *feed) seek(m *member, from start) {
	if m.attached && (from.bad || from.epoch != "" || from.seq < m.at) {
		f.place(m, from)
	}
}

func (f *feed) detach(m *member) {
	if !m.attached {
		return
	}
	last := len(f.members) - 1
	f.members[m.index] = f.members[last]
	f.members[m.index].index = m.index
	f.members[last] = nil
	f.members = f.members[:last]
	m.attached, m.live, m.page = false, false, nil
}

// offer sends a live member the newest frame, unless it has it or cannot take it now.
func (f *feed) offer(m *member, fr *frame) bool {
	if !m.live || fr.seq <= m.at {
		return false
	}
	if m.out.pending() > replayAhead {
		m.live = false
		f.pause(m)
		return false
	}
	m.at = fr.seq
	m.out.send(fr.wire)
	return true
}

// pause waits for the socket to take what is queued: drained calls the feed again.
func (f *feed) pause(m *member) {
	m.resume.Store(true)
	m.out.tell()
	if m.out.pending() <= replayAhead && m.resume.CompareAndSwap(true, false) {
		// It drained between the look and the note.
		f.post(func(f *feed) { f.step(m) })
	}
}

// drained tells that the transport took what was queued for m. Any goroutine may call it.
func (f *feed) drained(m *member) {
	if m.resume.CompareAndSwap(true, false) {
		f.post(func(f *feed) { f.step(m) })
	}
}

// step sends a member what it missed, as far as it can take it now.
func (f *feed) step(m *member) {
	if !m.attached || m.live {
		return
	}
	sent := 0
	defer func() {
		if sent > 0 {
			f.hub.metrics.Replayed(sent)
		}
	}()
	for m.at < f.cursor {
		frames := f.missedBy(m)
		if frames == nil {
			f.request(m)
			return
		}
		for _, fr := range frames {
			if m.out.pending() > replayAhead {
				f.pause(m)
				return
			}
			m.at = fr.seq
			m.out.send(fr.wire)
			sent++
		}
	}
	m.live, m.page = true, nil
	m.out.live()
}

// missedBy finds the next frames for m without asking the database.
func (f *feed) missedBy(m *member) []*frame {
	if frames := m.page.after(m.at); frames != nil {
		return frames
	}
	m.page = nil
	if frames := f.ring.after(m.at); frames != nil {
		return frames
	}
	m.page = f.hub.pages.get(pageKey{f.organizationID, f.epoch, m.at / pageSize})
	return m.page.after(m.at)
}

// pageRequest is a read for replays under way, and who waits for it.
type pageRequest struct {
	waiting []*member
	epoch   string
	lowest  int64 // the lowest position among those who waited when the read began
}

// request reads the page that m needs next, or waits with the others who asked before.
func (f *feed) request(m *member) {
	number := m.at / pageSize
	if r := f.pages[number]; r != nil {
		r.waiting = append(r.waiting, m)
		return
	}
	r := &pageRequest{waiting: []*member{m}, epoch: f.epoch, lowest: m.at}
	f.pages[number] = r
	f.readPage(number, r)
}

func (f *feed) readPage(number int64, r *pageRequest) {
	begin := number * pageSize
	f.hub.read(f.organizationID, begin, pageSize, "replay", func(p domain.EventPage, err error) {
		if err == nil && p.Resync && p.Head >= r.lowest && r.lowest > begin {
			// The log ends within this page: read only what is asked for.
			lowest := r.lowest
			f.hub.read(f.organizationID, lowest, int(begin+pageSize-lowest), "replay", func(p domain.EventPage, err error) {
				f.post(func(f *feed) { f.pageRead(number, r, lowest, p, err) })
			})
			return
		}
		f.post(func(f *feed) { f.pageRead(number, r, begin, p, err) })
	})
}

// pageRead takes the answer to request.
func (f *feed) pageRead(number int64, r *pageRequest, begin int64, p domain.EventPage, err error) {
	if f.pages[number] != r {
		return // reset in between
	}
	if err != nil {
		time.AfterFunc(retryRead+rand.N(retryRead), func() { //nolint:gosec // jitter
			f.post(func(f *feed) {
				if f.pages[number] == r {
					f.readPage(number, r)
				}
			})
		})
		return
	}
	delete(f.pages, number)
	if p.Epoch != f.epoch {
		f.reset(Head{Seq: p.Head, Epoch: p.Epoch}, "epoch")
		return
	}
	read, complete := newPage(begin, p)
	f.keep(number, read)
	for _, m := range r.waiting {
		if !m.attached || m.live {
			continue
		}
		switch {
		case p.Resync || !complete:
			f.resetMember(m, "retention", len(r.waiting))
		case m.at < begin:
			f.step(m) // came later and stands before what was read: asks again
		case m.at-begin >= int64(len(read.frames)) && m.at < f.cursor && m.at/pageSize == number:
			f.resetMember(m, "retention", 1) // the log does not have what it must have
		default:
			m.page = read
			f.step(m)
		}
	}
}

// newPage encodes what was read. It is not complete when the events do not follow each other from begin on.
func newPage(begin int64, p domain.EventPage) (*page, bool) {
	read := &page{start: begin, frames: make([]*frame, 0, len(p.Events))}
	for _, e := range p.Events {
		fr, err := newFrame(e)
		if err != nil || fr.seq != begin+int64(len(read.frames))+1 {
			return read, false
		}
		read.frames = append(read.frames, fr)
		read.bytes += fr.size()
	}
	return read, true
}

// keep makes what was read useful for the others of a herd: a full page goes to the cache, the log's end into the ring.
func (f *feed) keep(number int64, read *page) {
	count := int64(len(read.frames))
	if count == 0 {
		return
	}
	if count == pageSize && read.start == number*pageSize {
		f.hub.pages.put(pageKey{f.organizationID, f.epoch, number}, read)
	}
	last, first := read.start+count, f.ring.first()
	switch {
	case first == 0 && last >= f.cursor && read.start < f.cursor:
		f.ring.prepend(read.frames[:f.cursor-read.start])
	case first > read.start+1 && last >= first-1:
		f.ring.prepend(read.frames[:first-1-read.start])
	}
}

// verify asks the log whether the position of a member that is ahead of this node exists.
func (f *feed) verify(m *member) {
	at, epoch := m.at, f.epoch
	f.hub.read(f.organizationID, at, 1, "verify", func(p domain.EventPage, err error) {
		f.post(func(f *feed) {
			switch {
			case !m.attached || f.epoch != epoch || m.at != at || f.cursor >= at:
				return
			case err != nil:
				time.AfterFunc(retryRead, func() { f.post(func(f *feed) { f.verifyAgain(m, at) }) })
			case p.Epoch != f.epoch:
				f.reset(Head{Seq: p.Head, Epoch: p.Epoch}, "epoch")
			case p.Resync || p.Head < at:
				f.resetMember(m, "future", 1)
			default:
				f.target = max(f.target, p.Head)
				f.armGap(f.hub.limits.GapGrace)
			}
		})
	})
}

func (f *feed) verifyAgain(m *member, at int64) {
	if m.attached && m.at == at && f.cursor < at {
		f.verify(m)
	}
}

// resetMember tells a socket to refetch everything; it then goes on live. among is how many are told at once: they get
// different delays, so that they do not refetch together.
func (f *feed) resetMember(m *member, reason string, among int) {
	m.at, m.live, m.page = f.cursor, true, nil
	m.resume.Store(false)
	m.out.live()
	f.hub.metrics.Reset(reason)
	var delay time.Duration
	if among > 1 {
		delay = rand.N(min(resetSpread, time.Duration(among)*5*time.Millisecond)) //nolint:gosec // jitter
	}
	data, err := json.Marshal(syncReset{Head: f.cursor, Epoch: f.epoch, Reason: reason, DelayMS: delay.Milliseconds()})
	if err != nil {
		return // two numbers and two strings: cannot be
	}
	if text, err := eventText(domain.EventSyncReset, data); err == nil {
		m.out.send(websocket.Text(text))
	}
}

// syncReset is the data of sync:reset: refetch everything, after delayMs, and go on from head. Events behind head follow.
type syncReset struct {
	Head    int64  `json:"head"`
	Epoch   string `json:"epoch"`
	Reason  string `json:"reason"`
	DelayMS int64  `json:"delayMs"`
}
