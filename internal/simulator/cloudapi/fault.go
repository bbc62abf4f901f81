package cloudapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// FaultKind says what goes wrong.
type FaultKind string

// Faults of Graph calls. Endpoint chooses which calls.
const (
	FaultFail       FaultKind = "fail"        // refuse with Code, HTTPStatus, Message, Details; nothing is accepted
	FaultRateLimit  FaultKind = "rate_limit"  // refuse with 130429 (or Code), status 429 and Retry-After
	FaultDrop       FaultKind = "drop"        // close the connection; nothing is accepted
	FaultHang       FaultKind = "hang"        // no answer for Delay, or until the caller goes or the fault is cleared; nothing is accepted
	FaultDelay      FaultKind = "delay"       // wait Delay before working
	FaultAcceptDrop FaultKind = "accept_drop" // accept the message, then close the connection
	FaultAcceptHang FaultKind = "accept_hang" // accept the message, then as hang
	FaultGarble     FaultKind = "garble"      // accept the message, then answer 502 with HTML
)

// Faults of messages.
const (
	FaultStatuses     FaultKind = "statuses"      // accepted messages get Statuses, in this order; Early: before the answer to the send
	FaultUndelivered  FaultKind = "undelivered"   // accepted messages get one status: failed, with Code (default 131026)
	FaultWindowClosed FaultKind = "window_closed" // only templates may be sent
)

// Faults of webhooks.
const (
	FaultWebhookRepeat    FaultKind = "webhook_repeat"    // post each Times more (default 2); Parallel: all at once
	FaultWebhookReorder   FaultKind = "webhook_reorder"   // collect Size (default 2) for at most Hold, deliver in reverse
	FaultWebhookBatch     FaultKind = "webhook_batch"     // collect Size (default 2) for at most Hold, deliver as one, by Layout
	FaultWebhookDelay     FaultKind = "webhook_delay"     // wait Delay before the attempt
	FaultWebhookSignature FaultKind = "webhook_signature" // Mode "wrong" (default), "missing", or "body": the body is altered after signing
	FaultWebhookDrop      FaultKind = "webhook_drop"      // the attempt is lost on the way (it is tried again); Mode "forever": given up
)

// Faults of media.
const (
	FaultMediaMissing   FaultKind = "media_missing"   // GET of the link answers 404
	FaultMediaExpired   FaultKind = "media_expired"   // links are made already expired
	FaultMediaSlow      FaultKind = "media_slow"      // the link's answer stops halfway for Delay
	FaultMediaTruncated FaultKind = "media_truncated" // the connection closes halfway
)

// Fault is something that shall go wrong Count times, or until it is cleared.
type Fault struct {
	ID            string        `json:"id"` // given by SetFault
	Kind          FaultKind     `json:"kind"`
	PhoneNumberID string        `json:"phoneNumberId,omitempty"` // empty: every number
	To            string        `json:"to,omitempty"`            // sends and window: only this customer
	Endpoint      string        `json:"endpoint,omitempty"`      // "messages" (default), "read", "media", "account" or "*"
	Count         int           `json:"count"`                   // 0: until cleared
	HTTPStatus    int           `json:"httpStatus,omitempty"`
	Code          int           `json:"code,omitempty"` // Meta's; default 131000
	Message       string        `json:"message,omitempty"`
	Details       string        `json:"details,omitempty"`
	RetryAfter    time.Duration `json:"-"` // JSON retryAfterSeconds; default for rate_limit 1 s
	Delay         time.Duration `json:"-"` // JSON delayMs
	Hold          time.Duration `json:"-"` // JSON holdMs; default 500 ms
	Times         int           `json:"times,omitempty"`
	Parallel      bool          `json:"parallel,omitempty"`
	Size          int           `json:"size,omitempty"`
	Layout        string        `json:"layout,omitempty"` // LayoutMessages (default), LayoutChanges, LayoutEntries
	Mode          string        `json:"mode,omitempty"`
	Statuses      []string      `json:"statuses,omitempty"`
	Early         bool          `json:"early,omitempty"`
	Used          int           `json:"used"` // how often it struck
}

type faultTimes struct {
	RetryAfterSeconds float64 `json:"retryAfterSeconds,omitempty"`
	DelayMS           float64 `json:"delayMs,omitempty"`
	HoldMS            float64 `json:"holdMs,omitempty"`
}

// MarshalJSON writes the durations as numbers.
func (f Fault) MarshalJSON() ([]byte, error) {
	type plain Fault
	return json.Marshal(struct {
		plain
		faultTimes
	}{plain(f), faultTimes{
		f.RetryAfter.Seconds(), float64(f.Delay) / float64(time.Millisecond), float64(f.Hold) / float64(time.Millisecond),
	}})
}

// UnmarshalJSON reads the durations as numbers and refuses unknown fields.
func (f *Fault) UnmarshalJSON(b []byte) error {
	type plain Fault
	var in struct {
		*plain
		faultTimes
	}
	in.plain = (*plain)(f)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields() // a slip of the pen should not make a fault that does something else
	if err := dec.Decode(&in); err != nil {
		return err
	}
	const longest = 1e9 // milliseconds, 11 days
	f.RetryAfter = time.Duration(min(in.RetryAfterSeconds, longest/1e3) * float64(time.Second))
	f.Delay = time.Duration(min(in.DelayMS, longest) * float64(time.Millisecond))
	f.Hold = time.Duration(min(in.HoldMS, longest) * float64(time.Millisecond))
	return nil
}

var allFaults = []FaultKind{
	FaultFail, FaultRateLimit, FaultDrop, FaultHang, FaultDelay, FaultAcceptDrop, FaultAcceptHang, FaultGarble,
	FaultStatuses, FaultUndelivered, FaultWindowClosed,
	FaultWebhookRepeat, FaultWebhookReorder, FaultWebhookBatch, FaultWebhookDelay, FaultWebhookSignature, FaultWebhookDrop,
	FaultMediaMissing, FaultMediaExpired, FaultMediaSlow, FaultMediaTruncated,
}

// Bounds of a fault's numbers, so that a slip of the pen costs little.
const (
	maxFaultTimes = 1000
	maxFaultSize  = 1000
	maxFaults     = 1000
)

func (f *Fault) normalize() error {
	if !slices.Contains(allFaults, f.Kind) {
		return fmt.Errorf("%w fault kind %q: use one of %v", ErrInvalid, f.Kind, allFaults)
	}
	if f.Count < 0 || f.Times < 0 || f.Times > maxFaultTimes || f.Size < 0 || f.Size > maxFaultSize ||
		f.Delay < 0 || f.Hold < 0 || f.RetryAfter < 0 {
		return fmt.Errorf("%w fault %s: count, times, size (at most 1000) and durations must not be negative", ErrInvalid, f.Kind)
	}
	if f.HTTPStatus != 0 && (f.HTTPStatus < 400 || f.HTTPStatus > 599) {
		return fmt.Errorf("%w fault %s: httpStatus %d must be 400 to 599", ErrInvalid, f.Kind, f.HTTPStatus)
	}
	if !slices.Contains([]string{"", "messages", "read", "media", "account", "*"}, f.Endpoint) {
		return fmt.Errorf("%w fault %s: endpoint %q must be messages, read, media, account or *", ErrInvalid, f.Kind, f.Endpoint)
	}
	if !slices.Contains([]string{"", LayoutMessages, LayoutChanges, LayoutEntries}, f.Layout) {
		return fmt.Errorf("%w fault %s: layout %q must be messages, changes or entries", ErrInvalid, f.Kind, f.Layout)
	}
	for _, st := range f.Statuses {
		if !slices.Contains(allStatuses, st) {
			return fmt.Errorf("%w fault %s: status %q must be sent, delivered, read or failed", ErrInvalid, f.Kind, st)
		}
	}
	f.To = digits(f.To)
	f.fillDefaults()
	return nil
}

func (f *Fault) fillDefaults() {
	switch f.Kind {
	case FaultFail:
		f.Code = orDefault(f.Code, 131000)
	case FaultRateLimit:
		f.Code, f.HTTPStatus = orDefault(f.Code, 130429), orDefault(f.HTTPStatus, http.StatusTooManyRequests)
		f.RetryAfter = orDefault(f.RetryAfter, time.Second)
	case FaultUndelivered:
		f.Code = orDefault(f.Code, 131026)
	case FaultWebhookRepeat:
		f.Times = orDefault(f.Times, 2)
	case FaultWebhookReorder, FaultWebhookBatch:
		f.Size, f.Hold = orDefault(f.Size, 2), orDefault(f.Hold, 500*time.Millisecond)
	}
}

// activeFault is a Fault and the channel that clearing it closes.
type activeFault struct {
	Fault
	cleared chan struct{}
}

func (f *activeFault) live() bool { return f.Count == 0 || f.Used < f.Count }

type faultSet struct {
	mu   sync.Mutex // guards list and next
	list []*activeFault
	next int
}

func newFaultSet() *faultSet { return &faultSet{} }

// about is what a fault is matched against.
type about struct{ number, to, endpoint string }

func (f *activeFault) matches(kind FaultKind, a about) bool {
	if f.Kind != kind || !f.live() || (f.PhoneNumberID != "" && f.PhoneNumberID != a.number) || (f.To != "" && f.To != a.to) {
		return false
	}
	return a.endpoint == "" || f.Endpoint == "*" || f.Endpoint == a.endpoint || (f.Endpoint == "" && a.endpoint == "messages")
}

// take uses the oldest matching fault once.
func (s *faultSet) take(kind FaultKind, a about) *activeFault { return s.find(kind, a, true) }

// peek only looks.
func (s *faultSet) peek(kind FaultKind, a about) *activeFault { return s.find(kind, a, false) }

func (s *faultSet) find(kind FaultKind, a about, use bool) *activeFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		if !f.matches(kind, a) {
			continue
		}
		if use {
			f.Used++
		}
		found := *f
		return &found
	}
	return nil
}

// SetFault makes a fault happen from now on and returns its id.
func (s *Server) SetFault(f Fault) (string, error) {
	if err := f.normalize(); err != nil {
		return "", err
	}
	s.faults.mu.Lock()
	s.faults.next++
	f.ID, f.Used = "fault-"+strconv.Itoa(s.faults.next), 0
	if len(s.faults.list) >= maxFaults {
		spent := slices.IndexFunc(s.faults.list, func(a *activeFault) bool { return !a.live() })
		if spent < 0 {
			s.faults.mu.Unlock()
			return "", fmt.Errorf("%w: %d faults are set, clear some first", ErrInvalid, maxFaults)
		}
		s.faults.list = slices.Delete(s.faults.list, spent, spent+1)
	}
	s.faults.list = append(s.faults.list, &activeFault{Fault: f, cleared: make(chan struct{})})
	s.faults.mu.Unlock()
	s.events.Publish("faults", s.Faults())
	return f.ID, nil
}

// Faults lists the faults that are set, with those that are used up.
func (s *Server) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	out := make([]Fault, 0, len(s.faults.list))
	for _, f := range s.faults.list {
		out = append(out, f.Fault)
	}
	return out
}

// ClearFault ends one fault and releases the calls that hang on it.
func (s *Server) ClearFault(id string) error {
	if s.clearFaults(func(f *activeFault) bool { return f.ID == id }) == 0 {
		return fmt.Errorf("fault %s: %w", id, ErrNotFound)
	}
	return nil
}

// ClearFaults ends all faults.
func (s *Server) ClearFaults() { s.clearFaults(func(*activeFault) bool { return true }) }

func (s *Server) clearFaults(which func(*activeFault) bool) int {
	s.faults.mu.Lock()
	before := len(s.faults.list)
	s.faults.list = slices.DeleteFunc(s.faults.list, func(f *activeFault) bool {
		if !which(f) {
			return false
		}
		close(f.cleared)
		return true
	})
	n := before - len(s.faults.list)
	s.faults.mu.Unlock()
	s.wakeLines()
	s.events.Publish("faults", s.Faults())
	return n
}
