package whatsapp

import (
	"context"
	"slices"
	"sync"
	"time"

	"switchboard/internal/simulator/console"
)

// Kinds of ledger entries; the field of the same name is set.
const (
	KindInbound    = "inbound"    // a message was queued for a device, delivered to it, or acknowledged
	KindSend       = "send"       // a client sent a message
	KindReceipt    = "receipt"    // a client confirmed something to people
	KindConnection = "connection" // a socket logged in or ended
)

// Entry is one line of the ledger.
type Entry struct {
	Seq        uint64      `json:"seq"` // 1, 2, … without gaps; old entries are dropped
	At         time.Time   `json:"at"`
	Kind       string      `json:"kind"`
	What       string      `json:"what"` // queued, delivered, acked, lost; sent, repeated; read, …; login, end, …
	Number     string      `json:"number,omitempty"`
	Device     uint16      `json:"device,omitempty"`
	Inbound    *Inbound    `json:"inbound,omitempty"`
	Send       *Sent       `json:"send,omitempty"`
	Receipt    *Receipt    `json:"receipt,omitempty"`
	Connection *Connection `json:"connection,omitempty"`
}

// Handover is one time that an inbound message was written to a socket.
type Handover struct {
	Connection uint64    `json:"connection"` // Connection.Seq
	At         time.Time `json:"at"`
	Offline    bool      `json:"offline"` // after a login, with the offline attribute
}

// Inbound is the life of a message that waits, or waited, for a device.
type Inbound struct {
	Number     string     `json:"number"` // of the phone
	Device     uint16     `json:"device"`
	ID         string     `json:"id"`
	From       string     `json:"from"`            // number of who wrote
	Group      string     `json:"group,omitempty"` // Group.ID
	FromMe     bool       `json:"fromMe,omitempty"`
	Type       string     `json:"type"` // of Incoming, or "peer" for what the phone tells its devices
	QueuedAt   time.Time  `json:"queuedAt"`
	Deliveries []Handover `json:"deliveries,omitempty"` // all but the first are redeliveries; the first 16 are kept
	Times      int        `json:"times"`                // how often it was delivered
	// Acked is how the client let the server forget it: "receipt", "receipt inactive", "receipt sender", "receipt peer_msg",
	// "retry", "ack", or "ack 491" with the error that the client gave. Empty while it waits.
	Acked   string    `json:"acked,omitempty"`
	AckedAt time.Time `json:"ackedAt,omitzero"`
	Retry   int       `json:"retry,omitempty"` // it answers the client's retry receipt of this count
	Lost    bool      `json:"lost,omitempty"`  // the queue was full, or the device was unlinked
}

// Outcomes of a Sent.
const (
	OutcomeAccepted = "accepted" // people got it, and the client was told
	OutcomeRefused  = "refused"  // nobody got it, and the client was told the error
	OutcomeUntold   = "untold"   // people got it, but the client was not told
	OutcomeLost     = "lost"     // nobody got it, and the client was not told
)

// Sent is a message that a client sent.
type Sent struct {
	Number     string    `json:"number"`
	Device     uint16    `json:"device"`
	Connection uint64    `json:"connection"`
	ID         string    `json:"id"`
	To         string    `json:"to"` // number of a person, Group.ID, or the own number for a peer message
	Addressing string    `json:"addressing"`
	At         time.Time `json:"at"`
	Devices    []string  `json:"devices,omitempty"` // JIDs that it was encrypted to
	Type       string    `json:"type"`              // as of Incoming, or "peer"
	Text       string    `json:"text,omitempty"`    // text or caption
	Outcome    string    `json:"outcome"`
	Code       int       `json:"code,omitempty"` // of a refusal
	FaultID    string    `json:"faultId,omitempty"`
	// Repeats counts the times that the same id came again. People are shown it once.
	Repeats int `json:"repeats,omitempty"`
	// Retried counts the times that it was sent again for a retry receipt.
	Retried int `json:"retried,omitempty"`
	// Unreadable counts the devices of people, or of the phone, that could not decrypt it.
	Unreadable int `json:"unreadable,omitempty"`
}

// Receipt is what a client confirmed to people.
type Receipt struct {
	Type       string   `json:"type"` // "" (delivered), inactive, read, read-self, played, retry, sender, peer_msg, hist_sync, server-error
	IDs        []string `json:"ids"`
	Peer       string   `json:"peer"` // number or Group.ID
	Connection uint64   `json:"connection"`
}

// Ends of a Connection.
const (
	endClient   = "client"   // the client closed it, or its process died
	endReplaced = "replaced" // another socket of the device logged in
	endRemoved  = "removed"  // the device was unlinked
	endFailure  = "failure"  // the login was refused
	endRestart  = "restart"  // 515 after pairing
	endFault    = "fault"    // a fault cut it
	endClosed   = "closed"   // the simulator was closed
	endSlow     = "slow"     // the client read too slowly
	endProtocol = "protocol" // the client broke the protocol
)

// Connection is the life of a socket.
type Connection struct {
	Seq         uint64    `json:"seq"` // by beginning
	Number      string    `json:"number,omitempty"`
	Device      uint16    `json:"device,omitempty"`
	Remote      string    `json:"remote"`
	ConnectedAt time.Time `json:"connectedAt"` // real time, as all of these
	LoggedInAt  time.Time `json:"loggedInAt,omitzero"`
	ActiveAt    time.Time `json:"activeAt,omitzero"` // when it asked for messages
	EndedAt     time.Time `json:"endedAt,omitzero"`
	// Ended is why: client, replaced, removed, failure, restart, fault, closed, slow, protocol; empty while it is open.
	Ended string `json:"ended,omitempty"`
	Code  int    `json:"code,omitempty"` // of a failure
}

// Overlap is two logged-in sockets of one device, while both clients were there.
type Overlap struct {
	Number  string    `json:"number"`
	Device  uint16    `json:"device"`
	Earlier uint64    `json:"earlier"` // Connection.Seq
	Later   uint64    `json:"later"`
	At      time.Time `json:"at"` // when the later one logged in
}

// Counts are totals since the start or the last Reset; unlike entries they do not forget.
type Counts struct {
	Inbound   int `json:"inbound"`   // messages queued, per device
	Delivered int `json:"delivered"` // at least once
	Again     int `json:"again"`     // deliveries after the first
	Acked     int `json:"acked"`
	Lost      int `json:"lost"`
	Sends     int `json:"sends"`    // different ids
	Accepted  int `json:"accepted"` // people got them
	Told      int `json:"told"`     // the client was told
	Repeats   int `json:"repeats"`
	Receipts  int `json:"receipts"`
	Logins    int `json:"logins"`
	Failures  int `json:"failures"`
	Overlaps  int `json:"overlaps"`
}

type sendKey struct {
	number, id string
}

// inboundKey names a message that waits for a device; the serial tells apart those with the same id.
type inboundKey struct {
	number string
	device uint16
	serial uint64
}

// Ledger is a bounded, ordered record. Its methods may be called from any goroutine; what they return is a copy.
type Ledger struct {
	limit    int
	now      func() time.Time
	onAppend func(Entry) // called in order, under mu; must not block

	mu       sync.Mutex // guards everything below
	entries  console.Ring[Entry]
	seq      uint64
	serial   uint64
	inbound  map[inboundKey]*Inbound
	known    console.Ring[inboundKey] // keys of inbound, oldest first
	sends    map[sendKey]*Sent
	sent     console.Ring[sendKey]
	open     []*Connection
	ended    console.Ring[*Connection]
	connSeq  uint64
	overlaps []Overlap
	counts   Counts
	changed  chan struct{} // closed and replaced by every change
}

func newLedger(limit int, now func() time.Time) *Ledger {
	l := &Ledger{limit: limit, now: now, changed: make(chan struct{})}
	l.clear()
	return l
}

// clear needs l.mu.
func (l *Ledger) clear() {
	l.entries, l.known, l.sent, l.ended = console.Ring[Entry]{}, console.Ring[inboundKey]{}, console.Ring[sendKey]{}, console.Ring[*Connection]{}
	l.inbound, l.sends, l.overlaps, l.counts = map[inboundKey]*Inbound{}, map[sendKey]*Sent{}, nil, Counts{}
}

func (l *Ledger) appendLocked(e Entry) {
	l.seq++
	e.Seq, e.At = l.seq, l.now().UTC()
	l.entries.Push(e, l.limit)
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

// Filter selects entries; zero fields select all.
type Filter struct {
	Number string
	Kind   string
	After  uint64 // only entries with a larger Seq
	Limit  int    // at most so many; with After the oldest, without it the newest
}

// Entries returns what matches, oldest first.
func (l *Ledger) Entries(f Filter) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Entry{}
	for e := range l.entries.All {
		if e.Seq <= f.After || (f.Kind != "" && e.Kind != f.Kind) || (f.Number != "" && e.Number != f.Number) {
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

// Inbound returns the messages that were queued for a phone's devices, or all for "", oldest first.
func (l *Ledger) Inbound(number string) []Inbound {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Inbound{}
	for key := range l.known.All {
		if in := l.inbound[key]; in != nil && (number == "" || key.number == number) {
			got := *in
			got.Deliveries = slices.Clone(in.Deliveries)
			out = append(out, got)
		}
	}
	return out
}

// InboundByID returns the lives of a message in all devices of a phone.
func (l *Ledger) InboundByID(number, id string) []Inbound {
	return slices.DeleteFunc(l.Inbound(number), func(in Inbound) bool { return in.ID != id })
}

// Sends returns what a phone's devices sent, or all for "", oldest first; each id once.
func (l *Ledger) Sends(number string) []Sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Sent{}
	for key := range l.sent.All {
		if s := l.sends[key]; s != nil && (number == "" || key.number == number) {
			out = append(out, *s)
		}
	}
	return out
}

// SendByID returns what a phone's devices sent under an id.
func (l *Ledger) SendByID(number, id string) (Sent, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sends[sendKey{number, id}]
	if s == nil {
		return Sent{}, false
	}
	return *s, true
}

// Receipts returns what a phone's devices confirmed to people, or all for "", oldest first.
func (l *Ledger) Receipts(number string) []Receipt {
	out := []Receipt{}
	for _, e := range l.Entries(Filter{Kind: KindReceipt, Number: number}) {
		out = append(out, *e.Receipt)
	}
	return out
}

// Connections returns the sockets of a phone's devices, or all for "": those that ended by their ends, then the open ones.
// A socket belongs to a phone from its login, or its pairing, on.
func (l *Ledger) Connections(number string) []Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Connection{}
	for c := range l.ended.All {
		if number == "" || c.Number == number {
			out = append(out, *c)
		}
	}
	for _, c := range l.open {
		if number == "" || c.Number == number {
			out = append(out, *c)
		}
	}
	return out
}

// Sessions returns the sockets of a phone's devices, or all for "", that are logged in now.
func (l *Ledger) Sessions(number string) []Connection {
	return slices.DeleteFunc(l.Connections(number), func(c Connection) bool {
		return c.LoggedInAt.IsZero() || !c.EndedAt.IsZero()
	})
}

// Overlaps returns where a device of a phone, or any for "", had two logged-in sockets at once. A socket whose client was
// gone within Options.GoneGrace does not count.
func (l *Ledger) Overlaps(number string) []Overlap {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Overlap{}
	for _, o := range l.overlaps {
		if number == "" || o.Number == number {
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

// Reset forgets all entries, messages, ended sockets and counts; Seq goes on.
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
