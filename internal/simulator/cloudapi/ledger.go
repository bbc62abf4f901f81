package cloudapi

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"switchboard/internal/simulator/console"
)

// Kinds of ledger entries; the field of the same name is set.
const (
	KindSend     = "send"     // a Graph call that sends a message
	KindRead     = "read"     // a Graph call that marks a message read, with or without a typing indicator
	KindCall     = "call"     // any other Graph call
	KindInbound  = "inbound"  // a customer did something
	KindDelivery = "delivery" // an attempt to deliver a webhook, or its end without one
	KindVerify   = "verify"   // the verification of a webhook
)

// payloadsKept is how many of the newest deliveries keep their payload in the ledger.
const payloadsKept = 1000

// Entry is one line of the ledger.
type Entry struct {
	Seq           uint64        `json:"seq"` // 1, 2, … without gaps; old entries are dropped
	At            time.Time     `json:"at"`
	Kind          string        `json:"kind"`
	PhoneNumberID string        `json:"phoneNumberId,omitempty"`
	Send          *Send         `json:"send,omitempty"`
	Read          *Read         `json:"read,omitempty"`
	Call          *Call         `json:"call,omitempty"`
	Inbound       *Inbound      `json:"inbound,omitempty"`
	Delivery      *Delivery     `json:"delivery,omitempty"`
	Verify        *VerifyResult `json:"verify,omitempty"`
}

// Outcomes of a Send, as the caller saw them.
const (
	OutcomeAccepted = "accepted" // accepted, and the caller was told
	OutcomeRefused  = "refused"  // not accepted, and the caller was told
	OutcomeUntold   = "untold"   // accepted, but the caller was not told (drop, hang, garbled answer)
	OutcomeLost     = "lost"     // not accepted, and the caller was not told
)

// Send is a Graph call that sends a message.
type Send struct {
	ID           string          `json:"id,omitempty"` // the wamid, if accepted
	To           string          `json:"to"`           // as the caller wrote it, digits only
	Type         string          `json:"type"`
	CallbackData string          `json:"callbackData,omitempty"` // biz_opaque_callback_data
	Body         json.RawMessage `json:"body,omitempty"`         // the request as it came, if it was JSON
	Accepted     bool            `json:"accepted"`
	Told         bool            `json:"told"`
	Outcome      string          `json:"outcome"`
	HTTPStatus   int             `json:"httpStatus,omitempty"` // 0 if there was no answer
	Code         int             `json:"code,omitempty"`       // Meta's error code
	FaultID      string          `json:"faultId,omitempty"`    // the fault that decided the outcome

	Began time.Time `json:"began"` // when the request came; real time, not Options.Now
	Host  string    `json:"host"`  // what the caller called this server; tells apart who comes by different proxies
}

// Read is a Graph call that marks a message, and those before it, read.
type Read struct {
	MessageID string `json:"messageId"`
	Typing    bool   `json:"typing"`
}

// Call is any other Graph call.
type Call struct {
	Method     string `json:"method"`
	Path       string `json:"path"`
	HTTPStatus int    `json:"httpStatus"`
	Code       int    `json:"code,omitempty"`

	Began time.Time `json:"began"` // as in Send
	Host  string    `json:"host"`
}

// Inbound is something that a customer did.
type Inbound struct {
	ID   string `json:"id"`
	From string `json:"from"`
	Type string `json:"type"` // a message type, or "read"
}

// StatusRef names a status in a webhook.
type StatusRef struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// Delivery is one attempt to deliver a webhook, or (Ended set) its end without an acknowledgement.
type Delivery struct {
	ID         string          `json:"id"`      // the same for all attempts of one payload
	Attempt    int             `json:"attempt"` // 1, 2, …
	Repeat     int             `json:"repeat"`  // 0, or which extra copy a fault made of this attempt
	URL        string          `json:"url"`
	MessageIDs []string        `json:"messageIds,omitempty"`
	Statuses   []StatusRef     `json:"statuses,omitempty"`
	Bytes      int             `json:"bytes"`
	HTTPStatus int             `json:"httpStatus"` // 0 if there was no answer
	Acked      bool            `json:"acked"`      // answered 200
	Error      string          `json:"error,omitempty"`
	Faults     []string        `json:"faults,omitempty"` // kinds of the faults that touched this attempt
	Ended      string          `json:"ended,omitempty"`  // "gave_up" or "queue_full"
	TookMS     float64         `json:"tookMs"`
	Payload    json.RawMessage `json:"payload,omitempty"` // of the newest 1,000 deliveries; as posted, but compacted
}

// MessageSummary is what the ledger knows of one message id.
type MessageSummary struct {
	ID            string   `json:"id"`
	PhoneNumberID string   `json:"phoneNumberId"`
	Direction     string   `json:"direction"` // FromCustomer or FromBusiness
	Attempts      int      `json:"attempts"`  // deliveries of its webhook (customer) that were posted
	Acked         bool     `json:"acked"`     // customer: a webhook with it was answered 200
	AckedStatuses []string `json:"ackedStatuses,omitempty"`
}

// Counts are totals since the start or the last Reset; unlike entries they do not forget.
type Counts struct {
	Sends      int `json:"sends"`
	Accepted   int `json:"accepted"`
	Told       int `json:"told"`
	Reads      int `json:"reads"`
	Inbound    int `json:"inbound"` // messages of customers
	Acked      int `json:"acked"`   // of these, acknowledged
	Deliveries int `json:"deliveries"`
	Refused    int `json:"refused"` // deliveries not answered 200
	GaveUp     int `json:"gaveUp"`
	Dropped    int `json:"dropped"` // queue full
}

// Ledger is a bounded, ordered record. Its methods may be called from any goroutine; what they return is a copy.
type Ledger struct {
	limit    int
	now      func() time.Time
	onAppend func(Entry) // called in order, under mu; must not block

	mu        sync.Mutex // guards everything below
	entries   console.Ring[Entry]
	seq       uint64
	payloads  console.Ring[*Delivery] // of the newest deliveries
	summaries map[string]*MessageSummary
	known     console.Ring[string] // keys of summaries, oldest first
	counts    Counts
	changed   chan struct{} // closed and replaced by every append
}

func newLedger(limit int, now func() time.Time) *Ledger {
	return &Ledger{limit: limit, now: now, summaries: map[string]*MessageSummary{}, changed: make(chan struct{})}
}

func (l *Ledger) append(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	e.Seq, e.At = l.seq, l.now().UTC()
	l.entries.Push(e, l.limit)
	l.account(e)
	if l.onAppend != nil {
		l.onAppend(e.clone())
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

// account keeps the counts and summaries; it needs l.mu.
func (l *Ledger) account(e Entry) {
	switch {
	case e.Send != nil:
		l.counts.Sends++
		if e.Send.Accepted {
			l.counts.Accepted++
			l.summary(e.Send.ID, e.PhoneNumberID, FromBusiness)
		}
		if e.Send.Told {
			l.counts.Told++
		}
	case e.Read != nil:
		l.counts.Reads++
	case e.Inbound != nil && e.Inbound.Type != KindRead:
		l.counts.Inbound++
		l.summary(e.Inbound.ID, e.PhoneNumberID, FromCustomer)
	case e.Delivery != nil:
		l.accountDelivery(e.PhoneNumberID, e.Delivery)
	}
}

func (l *Ledger) accountDelivery(number string, d *Delivery) {
	switch d.Ended {
	case endedGaveUp:
		l.counts.GaveUp++
		return
	case endedQueueFull:
		l.counts.Dropped++
		return
	}
	l.counts.Deliveries++
	if !d.Acked {
		l.counts.Refused++
	}
	for _, id := range d.MessageIDs {
		sum := l.summary(id, number, FromCustomer)
		sum.Attempts++
		if d.Acked && !sum.Acked {
			sum.Acked = true
			l.counts.Acked++
		}
	}
	for _, st := range d.Statuses {
		if sum := l.summary(st.ID, number, FromBusiness); d.Acked && !slices.Contains(sum.AckedStatuses, st.Status) {
			sum.AckedStatuses = append(sum.AckedStatuses, st.Status)
		}
	}
	if old, full := l.payloads.Push(d, payloadsKept); full {
		old.Payload = nil
	}
}

func (l *Ledger) summary(id, number, direction string) *MessageSummary {
	if sum, ok := l.summaries[id]; ok {
		return sum
	}
	sum := &MessageSummary{ID: id, PhoneNumberID: number, Direction: direction}
	l.summaries[id] = sum
	if old, full := l.known.Push(id, l.limit); full {
		delete(l.summaries, old)
	}
	return sum
}

// clone copies what the ledger may still change.
func (e Entry) clone() Entry {
	if e.Delivery != nil {
		d := *e.Delivery
		e.Delivery = &d
	}
	return e
}

// Filter selects entries; zero fields select all.
type Filter struct {
	PhoneNumberID string
	Kind          string
	After         uint64 // only entries with a larger Seq
	Limit         int    // at most so many; with After the oldest, without it the newest
}

// Entries returns what matches, oldest first.
func (l *Ledger) Entries(f Filter) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Entry{}
	for e := range l.entries.All {
		if e.Seq <= f.After || (f.Kind != "" && e.Kind != f.Kind) ||
			(f.PhoneNumberID != "" && e.PhoneNumberID != f.PhoneNumberID) {
			continue
		}
		out = append(out, e.clone())
		if f.After > 0 && len(out) == f.Limit {
			break
		}
	}
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[len(out)-f.Limit:]
	}
	return out
}

// Sends returns the Graph sends of a number, or of all numbers for "", oldest first.
func (l *Ledger) Sends(phoneNumberID string) []Send {
	var out []Send
	for _, e := range l.Entries(Filter{Kind: KindSend, PhoneNumberID: phoneNumberID}) {
		out = append(out, *e.Send)
	}
	return out
}

// Deliveries returns every attempt to deliver a webhook, oldest first.
func (l *Ledger) Deliveries() []Delivery {
	var out []Delivery
	for _, e := range l.Entries(Filter{Kind: KindDelivery}) {
		out = append(out, *e.Delivery)
	}
	return out
}

// Acked says whether a webhook with this customer's message was answered 200.
func (l *Ledger) Acked(wamid string) bool {
	sum, _ := l.Message(wamid)
	return sum.Acked
}

// AckedStatus says whether a webhook with this status of a business's message was answered 200.
func (l *Ledger) AckedStatus(wamid, status string) bool {
	sum, _ := l.Message(wamid)
	return slices.Contains(sum.AckedStatuses, status)
}

// AckedMessages returns the ids of all customers' messages of a number ("" for all) that are acknowledged.
func (l *Ledger) AckedMessages(phoneNumberID string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for id := range l.known.All {
		sum := l.summaries[id]
		if sum.Acked && (phoneNumberID == "" || sum.PhoneNumberID == phoneNumberID) {
			out = append(out, id)
		}
	}
	return out
}

// Message returns what is known of a message id.
func (l *Ledger) Message(wamid string) (MessageSummary, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, ok := l.summaries[wamid]
	if !ok {
		return MessageSummary{}, false
	}
	out := *sum
	out.AckedStatuses = slices.Clone(sum.AckedStatuses)
	return out, true
}

// Counts returns the totals.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Reset forgets all entries, summaries and counts; Seq goes on.
func (l *Ledger) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.payloads, l.known = console.Ring[Entry]{}, console.Ring[*Delivery]{}, console.Ring[string]{}
	l.summaries, l.counts = map[string]*MessageSummary{}, Counts{}
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
