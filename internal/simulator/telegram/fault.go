package telegram

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FaultKind says what goes wrong.
type FaultKind string

// Faults of calls. Method chooses which calls.
const (
	FaultFail       FaultKind = "fail"        // refuse with Code and Message; nothing takes effect
	FaultRateLimit  FaultKind = "rate_limit"  // refuse with 429 and retry_after
	FaultDrop       FaultKind = "drop"        // close the connection; nothing takes effect
	FaultHang       FaultKind = "hang"        // no answer for Delay, or until the caller goes or the fault is cleared; nothing takes effect
	FaultDelay      FaultKind = "delay"       // wait Delay before working
	FaultAcceptDrop FaultKind = "accept_drop" // do what was asked, then close the connection
	FaultAcceptHang FaultKind = "accept_hang" // do what was asked, then as hang
	FaultGarble     FaultKind = "garble"      // do what was asked, then answer 502 with HTML
	FaultTruncate   FaultKind = "truncate"    // do what was asked, then break off in the middle of the answer
)

// Faults of updates.
const (
	FaultUpdateUnknown   FaultKind = "update_unknown"   // an update of an unknown kind comes before each
	FaultUpdateMalformed FaultKind = "update_malformed" // an update with fields of wrong types comes before each
	FaultUpdateHuge      FaultKind = "update_huge"      // an update of Size bytes (default 1 MiB) comes before each
	FaultUpdateRepeat    FaultKind = "update_repeat"    // getUpdates answers the newest confirmed updates again
)

// Faults of files.
const (
	FaultFileMissing   FaultKind = "file_missing"   // getFile: temporarily unavailable
	FaultFileTooBig    FaultKind = "file_too_big"   // getFile: file is too big
	FaultFileExpired   FaultKind = "file_expired"   // links of getFile are already expired: 404
	FaultFileSlow      FaultKind = "file_slow"      // the download stops halfway for Delay
	FaultFileTruncated FaultKind = "file_truncated" // the download breaks off halfway
	FaultFileWrong     FaultKind = "file_wrong"     // the download has other bytes of the same length
)

var allFaults = []FaultKind{
	FaultFail, FaultRateLimit, FaultDrop, FaultHang, FaultDelay, FaultAcceptDrop, FaultAcceptHang, FaultGarble, FaultTruncate,
	FaultUpdateUnknown, FaultUpdateMalformed, FaultUpdateHuge, FaultUpdateRepeat,
	FaultFileMissing, FaultFileTooBig, FaultFileExpired, FaultFileSlow, FaultFileTruncated, FaultFileWrong,
}

// Fault is something that shall go wrong Count times, or until it is cleared.
type Fault struct {
	ID     string    `json:"id"` // given by SetFault
	Kind   FaultKind `json:"kind"`
	Bot    int64     `json:"bot,omitempty"`    // 0: every bot
	ChatID int64     `json:"chatId,omitempty"` // calls and updates: only of this chat
	// Method is a method's name, "file" for downloads, "*" for all, or empty for those that make or change messages.
	Method     string        `json:"method,omitempty"`
	Count      int           `json:"count"`             // 0: until cleared
	Code       int           `json:"code,omitempty"`    // fail: error_code and HTTP status, default 500
	Message    string        `json:"message,omitempty"` // fail: the description, default the status's text
	MigrateTo  int64         `json:"migrateTo,omitempty"`
	RetryAfter time.Duration `json:"-"` // JSON retryAfterSeconds; default for rate_limit 1 s
	Delay      time.Duration `json:"-"` // JSON delayMs
	Size       int           `json:"size,omitempty"`
	Used       int           `json:"used"` // how often it struck
}

type faultTimes struct {
	RetryAfterSeconds float64 `json:"retryAfterSeconds,omitempty"`
	DelayMS           float64 `json:"delayMs,omitempty"`
}

// MarshalJSON writes the durations as numbers.
func (f Fault) MarshalJSON() ([]byte, error) {
	type plain Fault
	return json.Marshal(struct {
		plain
		faultTimes
	}{plain(f), faultTimes{f.RetryAfter.Seconds(), float64(f.Delay) / float64(time.Millisecond)}})
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
	return nil
}

// Bounds of a fault's numbers, so that a slip of the pen costs little.
const (
	maxFaultSize = 32 << 20
	maxFaults    = 1000
)

func (f *Fault) normalize() error {
	if !slices.Contains(allFaults, f.Kind) {
		return fmt.Errorf("%w fault kind %q: use one of %v", ErrInvalid, f.Kind, allFaults)
	}
	if f.Count < 0 || f.Size < 0 || f.Size > maxFaultSize || f.Delay < 0 || f.RetryAfter < 0 {
		return fmt.Errorf("%w fault %s: count, size (at most 32 MiB) and durations must not be negative", ErrInvalid, f.Kind)
	}
	if f.Code != 0 && (f.Code < 400 || f.Code > 599) {
		return fmt.Errorf("%w fault %s: code %d must be 400 to 599", ErrInvalid, f.Kind, f.Code)
	}
	if f.Method != "" && f.Method != "*" && f.Method != "file" {
		m, ok := methods[strings.ToLower(f.Method)]
		if !ok {
			return fmt.Errorf("%w fault %s: method %q is not one of the simulator's", ErrInvalid, f.Kind, f.Method)
		}
		f.Method = m.name
	}
	switch f.Kind {
	case FaultFail:
		f.Code = orDefault(f.Code, http.StatusInternalServerError)
	case FaultRateLimit:
		f.RetryAfter = orDefault(f.RetryAfter, time.Second)
	}
	return nil
}

func (f *activeFault) refusal() *apiError {
	if f.Kind == FaultRateLimit {
		e := errTooMany(max(int((f.RetryAfter+time.Second-1)/time.Second), 1))
		e.faultID = f.ID
		return e
	}
	e := &apiError{code: f.Code, description: f.Message, migrateTo: f.MigrateTo, faultID: f.ID}
	if e.description == "" {
		e.description = http.StatusText(f.Code)
	}
	return e
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

// target is what a fault is matched against.
type target struct {
	bot, chat int64
	method    string // empty for faults of updates and files
	sends     bool   // the method makes or changes messages
}

func (f *activeFault) matches(kind FaultKind, t target) bool {
	if f.Kind != kind || !f.live() || (f.Bot != 0 && f.Bot != t.bot) || (f.ChatID != 0 && f.ChatID != t.chat) {
		return false
	}
	return t.method == "" || f.Method == "*" || f.Method == t.method || (f.Method == "" && t.sends)
}

// take uses the oldest matching fault once.
func (s *faultSet) take(kind FaultKind, t target) *activeFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		if f.matches(kind, t) {
			f.Used++
			found := *f
			return &found
		}
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
	s.events.Publish("faults", s.Faults())
	return n
}
