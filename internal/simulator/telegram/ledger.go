package telegram

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"switchboard/internal/simulator/console"
)

// Kinds of ledger entries; the field of the same name is set.
const (
	KindSend     = "send"     // a call that makes or changes messages
	KindCall     = "call"     // any other call but getUpdates, and a download of a file
	KindPoll     = "poll"     // a getUpdates call that ended
	KindInbound  = "inbound"  // a customer did something
	KindDelivery = "delivery" // an attempt to deliver an update to a webhook
)

// Entry is one line of the ledger.
type Entry struct {
	Seq      uint64    `json:"seq"` // 1, 2, … without gaps; old entries are dropped
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"`
	Bot      int64     `json:"bot,omitempty"`
	Send     *Send     `json:"send,omitempty"`
	Call     *Call     `json:"call,omitempty"`
	Poll     *LongPoll `json:"poll,omitempty"`
	Inbound  *Inbound  `json:"inbound,omitempty"`
	Delivery *Delivery `json:"delivery,omitempty"`
}

// Outcomes of a Send or Call, as the caller saw them.
const (
	OutcomeAccepted = "accepted" // it took effect, and the caller was told
	OutcomeRefused  = "refused"  // it did not, and the caller was told
	OutcomeUntold   = "untold"   // it took effect, but the caller was not told (drop, hang, garbled answer)
	OutcomeLost     = "lost"     // it did not, and the caller was not told
)

// Call is a call that makes no message.
type Call struct {
	Method      string `json:"method"` // as Telegram writes it; "file" for a download
	ChatID      int64  `json:"chatId,omitempty"`
	Outcome     string `json:"outcome"`
	Code        int    `json:"code,omitempty"` // error_code, 0 for success
	Description string `json:"description,omitempty"`
	FaultID     string `json:"faultId,omitempty"` // the fault that decided the outcome

	Began time.Time `json:"began"` // when the request came; real time, not Options.Now
	Host  string    `json:"host"`  // what the caller called this server; tells apart who comes by different proxies
}

// Send is a call that makes or changes messages.
type Send struct {
	Call
	MessageIDs []int64         `json:"messageIds,omitempty"` // made or changed, if it took effect
	Args       json.RawMessage `json:"args,omitempty"`       // the parameters without files, if they are not large
}

// Inbound is something that a customer did.
type Inbound struct {
	ChatID    int64       `json:"chatId"`
	MessageID int64       `json:"messageId,omitempty"`
	From      int64       `json:"from"`
	Type      string      `json:"type"`              // a type of message, or edit, reaction, callback_query, blocked, …
	Updates   []UpdateRef `json:"updates,omitempty"` // of the bots that were told
}

// Delivery is an attempt to deliver an update to a webhook.
type Delivery struct {
	UpdateID   int64  `json:"updateId"`
	Attempt    int    `json:"attempt"` // 1, 2, …
	HTTPStatus int    `json:"httpStatus"`
	Acked      bool   `json:"acked"`
	Error      string `json:"error,omitempty"`
}

// Ends of an update.
const (
	endedConfirmed = "confirmed" // by an offset, or by a webhook's 2xx
	endedLost      = "lost"      // older than 24 hours, or the queue was full
	endedDropped   = "dropped"   // by drop_pending_updates
)

// Update is the life of an update.
type Update struct {
	Bot            int64     `json:"bot"`
	ID             int64     `json:"id"`
	Kind           string    `json:"kind"`
	ChatID         int64     `json:"chatId,omitempty"`
	MessageID      int64     `json:"messageId,omitempty"`
	From           int64     `json:"from,omitempty"`
	Bytes          int       `json:"bytes"`
	Fault          string    `json:"fault,omitempty"` // the kind of fault that made it
	QueuedAt       time.Time `json:"queuedAt"`
	FirstDelivered time.Time `json:"firstDelivered,omitzero"`
	Deliveries     int       `json:"deliveries"` // answers and webhook attempts that carried it; all but the first are redeliveries
	Ended          string    `json:"ended,omitempty"`
	EndedAt        time.Time `json:"endedAt,omitzero"`
}

// Confirmed says whether the bot confirmed the update.
func (u Update) Confirmed() bool { return u.Ended == endedConfirmed }

// Outcomes of a LongPoll.
const (
	outcomeAnswered = "answered" // with or without updates
	outcomeRefused  = "refused"  // by its parameters or a fault
	outcomeConflict = "conflict" // 409: another poll began
	outcomeWebhook  = "webhook"  // 409: a webhook is set
	outcomeRevoked  = "revoked"  // 401: the token was revoked, or the bot removed
	outcomeGone     = "gone"     // the caller hung up
	outcomeLost     = "lost"     // a fault lost the answer
	outcomeClosed   = "closed"   // the simulator was closed
)

// LongPoll is a getUpdates call.
type LongPoll struct {
	Seq       uint64    `json:"seq"` // by beginning
	Bot       int64     `json:"bot"`
	Remote    string    `json:"remote"` // address of the caller
	Host      string    `json:"host"`   // what the caller called this server
	Start     time.Time `json:"start"`  // real time, not Options.Now
	End       time.Time `json:"end,omitzero"`
	Offset    int64     `json:"offset"`
	Limit     int       `json:"limit"`
	Timeout   int       `json:"timeout"` // seconds
	UpdateIDs []int64   `json:"updateIds,omitempty"`
	Outcome   string    `json:"outcome,omitempty"` // empty while it is open

	met []uint64 // polls of the same bot that began while it was open
}

// Overlap is two polls of one bot that were open at once, while both callers were there.
type Overlap struct {
	Bot     int64  `json:"bot"`
	Earlier uint64 `json:"earlier"` // LongPoll.Seq
	Later   uint64 `json:"later"`
}

// Counts are totals since the start or the last Reset; unlike entries they do not forget.
type Counts struct {
	Sends     int `json:"sends"`
	Accepted  int `json:"accepted"`
	Told      int `json:"told"`
	Inbound   int `json:"inbound"`
	Updates   int `json:"updates"`   // queued
	Delivered int `json:"delivered"` // at least once
	Again     int `json:"again"`     // deliveries after the first
	Confirmed int `json:"confirmed"`
	Lost      int `json:"lost"` // or dropped
	Polls     int `json:"polls"`
	Conflicts int `json:"conflicts"` // polls that another one ended
	Overlaps  int `json:"overlaps"`
}

// Ledger is a bounded, ordered record. Its methods may be called from any goroutine; what they return is a copy.
type Ledger struct {
	limit    int
	now      func() time.Time
	onAppend func(Entry) // called in order, under mu; must not block

	mu       sync.Mutex // guards everything below
	entries  console.Ring[Entry]
	seq      uint64
	updates  map[UpdateRef]*Update
	known    console.Ring[UpdateRef] // keys of updates, oldest first
	open     map[int64][]*LongPoll
	polls    console.Ring[*LongPoll] // that ended
	pollSeq  uint64
	overlaps []Overlap
	counts   Counts
	changed  chan struct{} // closed and replaced by every change
}

func newLedger(limit int, now func() time.Time) *Ledger {
	l := &Ledger{limit: limit, now: now, changed: make(chan struct{})}
	l.clear()
	l.open = map[int64][]*LongPoll{}
	return l
}

// clear needs l.mu.
func (l *Ledger) clear() {
	l.entries, l.known, l.polls = console.Ring[Entry]{}, console.Ring[UpdateRef]{}, console.Ring[*LongPoll]{}
	l.updates, l.overlaps, l.counts = map[UpdateRef]*Update{}, nil, Counts{}
}

func (l *Ledger) append(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appendLocked(e)
}

func (l *Ledger) appendLocked(e Entry) {
	l.seq++
	e.Seq, e.At = l.seq, l.now().UTC()
	l.entries.Push(e, l.limit)
	switch {
	case e.Send != nil:
		l.counts.Sends++
		if e.Send.Outcome == OutcomeAccepted || e.Send.Outcome == OutcomeUntold {
			l.counts.Accepted++
		}
		if e.Send.Outcome == OutcomeAccepted || e.Send.Outcome == OutcomeRefused {
			l.counts.Told++
		}
	case e.Inbound != nil:
		l.counts.Inbound++
	}
	if l.onAppend != nil {
		l.onAppend(e)
	}
	l.wakeLocked()
}

// notify wakes those who wait, when what they wait for is not in the ledger.
func (l *Ledger) notify() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeLocked()
}

func (l *Ledger) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// queued begins the life of an update.
func (l *Ledger) queued(u Update) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ref := UpdateRef{u.Bot, u.ID}
	u.QueuedAt = l.now().UTC()
	l.updates[ref] = &u
	if old, full := l.known.Push(ref, l.limit); full {
		delete(l.updates, old)
	}
	l.counts.Updates++
	l.wakeLocked()
}

// deliveredLocked counts a delivery of an update; it needs l.mu.
func (l *Ledger) deliveredLocked(bot, id int64) {
	u := l.updates[UpdateRef{bot, id}]
	if u == nil {
		return
	}
	if u.Deliveries++; u.Deliveries == 1 {
		u.FirstDelivered = l.now().UTC()
		l.counts.Delivered++
	} else {
		l.counts.Again++
	}
}

// ended ends the life of an update.
func (l *Ledger) ended(bot, id int64, how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if how == endedConfirmed {
		l.counts.Confirmed++
	} else {
		l.counts.Lost++
	}
	if u := l.updates[UpdateRef{bot, id}]; u != nil && u.Ended == "" {
		u.Ended, u.EndedAt = how, l.now().UTC()
	}
	l.wakeLocked()
}

// hooked records an attempt to deliver to a webhook.
func (l *Ledger) hooked(bot int64, d Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deliveredLocked(bot, d.UpdateID)
	l.appendLocked(Entry{Kind: KindDelivery, Bot: bot, Delivery: &d})
}

func (l *Ledger) beginPoll(bot int64, r *http.Request, offset int64, limit int, timeout int64) *LongPoll {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pollSeq++
	p := &LongPoll{
		Seq: l.pollSeq, Bot: bot, Remote: r.RemoteAddr, Host: r.Host, Start: time.Now(), Offset: offset, Limit: limit,
		Timeout: int(timeout), Outcome: outcomeRefused,
	}
	for _, earlier := range l.open[bot] {
		earlier.met = append(earlier.met, p.Seq)
	}
	l.open[bot] = append(l.open[bot], p)
	l.counts.Polls++
	l.wakeLocked()
	return p
}

// met says whether another poll began while this one was open.
func (l *Ledger) met(p *LongPoll) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(p.met) > 0
}

// endPoll must come before a byte of the answer is written, else the bot's next poll could seem to meet this one.
func (l *Ledger) endPoll(p *LongPoll) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[p.Bot] = slices.DeleteFunc(l.open[p.Bot], func(have *LongPoll) bool { return have == p })
	if len(l.open[p.Bot]) == 0 {
		delete(l.open, p.Bot)
	}
	p.End = time.Now()
	if p.Outcome == outcomeConflict {
		l.counts.Conflicts++
	}
	if p.Outcome != outcomeGone && p.Outcome != outcomeClosed {
		for _, later := range p.met {
			l.counts.Overlaps++
			if len(l.overlaps) < l.limit {
				l.overlaps = append(l.overlaps, Overlap{p.Bot, p.Seq, later})
			}
		}
	}
	for _, id := range p.UpdateIDs {
		if p.Outcome == outcomeAnswered {
			l.deliveredLocked(p.Bot, id)
		}
	}
	l.polls.Push(p, l.limit)
	l.appendLocked(Entry{Kind: KindPoll, Bot: p.Bot, Poll: p})
}

// Filter selects entries; zero fields select all.
type Filter struct {
	Bot   int64
	Kind  string
	After uint64 // only entries with a larger Seq
	Limit int    // at most so many; with After the oldest, without it the newest
}

// Entries returns what matches, oldest first.
func (l *Ledger) Entries(f Filter) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Entry{}
	for e := range l.entries.All {
		if e.Seq <= f.After || (f.Kind != "" && e.Kind != f.Kind) || (f.Bot != 0 && e.Bot != f.Bot) {
			continue
		}
		out = append(out, e)
		if f.After > 0 && len(out) == f.Limit {
			break
		}
	}
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[len(out)-f.Limit:]
	}
	return out
}

// Sends returns the calls of a bot, or of all bots for 0, that make or change messages, oldest first.
func (l *Ledger) Sends(bot int64) []Send {
	var out []Send
	for _, e := range l.Entries(Filter{Kind: KindSend, Bot: bot}) {
		out = append(out, *e.Send)
	}
	return out
}

// Updates returns the updates of a bot, or of all bots for 0, oldest first.
func (l *Ledger) Updates(bot int64) []Update {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Update{}
	for ref := range l.known.All {
		if u := l.updates[ref]; u != nil && (bot == 0 || ref.Bot == bot) {
			out = append(out, *u)
		}
	}
	return out
}

// Update returns the life of an update.
func (l *Ledger) Update(ref UpdateRef) (Update, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.updates[ref]
	if u == nil {
		return Update{}, false
	}
	return *u, true
}

// Polls returns the polls of a bot, or of all bots for 0: those that ended in the order of their ends, then the open ones.
func (l *Ledger) Polls(bot int64) []LongPoll {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []LongPoll{}
	for p := range l.polls.All {
		if bot == 0 || p.Bot == bot {
			out = append(out, *p)
		}
	}
	for id, open := range l.open {
		for _, p := range open {
			if bot == 0 || id == bot {
				out = append(out, LongPoll{
					Seq: p.Seq, Bot: p.Bot, Remote: p.Remote, Host: p.Host, Start: p.Start, Offset: p.Offset, Limit: p.Limit,
					Timeout: p.Timeout,
				})
			}
		}
	}
	return out
}

// OpenPolls counts the open polls of a bot, or of all bots for 0.
func (l *Ledger) OpenPolls(bot int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bot != 0 {
		return len(l.open[bot])
	}
	n := 0
	for _, open := range l.open {
		n += len(open)
	}
	return n
}

// Overlaps returns where a bot, or any bot for 0, had two pollers at once. A poll whose caller had hung up does not count.
func (l *Ledger) Overlaps(bot int64) []Overlap {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Overlap{}
	for _, o := range l.overlaps {
		if bot == 0 || o.Bot == bot {
			out = append(out, o)
		}
	}
	return out
}

// Counts returns the totals.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Reset forgets all entries, updates, ended polls and counts; Seq goes on.
func (l *Ledger) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	l.wakeLocked()
}

// Wait returns nil as soon as cond is true; it asks again after every change, never by time. When ctx ends first it
// returns the context's cause.
func (l *Ledger) Wait(ctx context.Context, cond func(*Ledger) bool) error {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if cond(l) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
