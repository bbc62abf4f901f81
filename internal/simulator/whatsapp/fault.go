package whatsapp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// FaultKind says what goes wrong.
type FaultKind string

// Faults of logins. All but replace and stream_error strike when a client logs in.
const (
	FaultReplace     FaultKind = "replace"      // at once: the sockets that are logged in are told that another login replaced them; for ExpireSeconds so are those that log in again
	FaultBan         FaultKind = "ban"          // failure 402 with Code (default 101) and ExpireSeconds (default 3600)
	FaultOutdated    FaultKind = "outdated"     // failure 405; at a login and before pairing
	FaultLoggedOut   FaultKind = "logged_out"   // failure 401; the device stays linked, and what waits for it is not Pending any more
	FaultUnavailable FaultKind = "unavailable"  // failure with Code: 500 or 503 (default)
	FaultFailure     FaultKind = "failure"      // failure with Code, any
	FaultHang        FaultKind = "hang"         // the Noise handshake is not answered
	FaultSlowLogin   FaultKind = "slow_login"   // success comes after Delay
	FaultStreamError FaultKind = "stream_error" // at once: stream:error with Code (default 503), then the end
)

// Faults of a socket that is logged in.
const (
	FaultHalfOpen FaultKind = "half_open" // the server reads and answers nothing from now on, while TCP stays up
	FaultDrop     FaultKind = "drop"      // TCP is reset: at once, or after After further stanzas of the client
	FaultDropSend FaultKind = "drop_send" // TCP is reset when a client's message came: it is delivered, the ack is not sent
	FaultDropBack FaultKind = "drop_back" // TCP is reset right after a message was delivered to the client
	FaultSlow     FaultKind = "slow"      // a client's stanza is handled after Delay, and so are the following ones
)

// Faults of messages.
const (
	FaultNoAck     FaultKind = "no_ack"      // a client's message is delivered to people, the ack is withheld
	FaultLose      FaultKind = "lose"        // a client's message is not delivered, and not acked
	FaultAckError  FaultKind = "ack_error"   // a client's message is refused with Code (default 500; 463 is the reach-out limit)
	FaultGarble    FaultKind = "garble"      // an inbound message's ciphertext is broken; the retry receipt is answered
	FaultDuplicate FaultKind = "duplicate"   // an inbound message is delivered twice
	FaultReorder   FaultKind = "reorder"     // an inbound message is held back until the next one was delivered
	FaultNoReceipt FaultKind = "no_receipt"  // people's phones do not confirm a client's message
	FaultNoPreKeys FaultKind = "no_pre_keys" // asking for people's keys is answered with errors
)

// Faults of the media host.
const (
	FaultMediaGone    FaultKind = "media_gone"    // downloads are answered with Code: 404 (default), 403 or 410
	FaultMediaCorrupt FaultKind = "media_corrupt" // downloads have other bytes of the same length
	FaultUploadRefuse FaultKind = "upload_refuse" // uploads are answered with Code (default 503)
	FaultNoMediaRetry FaultKind = "no_media_retry"
)

var allFaults = []FaultKind{
	FaultReplace, FaultBan, FaultOutdated, FaultLoggedOut, FaultUnavailable, FaultFailure, FaultHang, FaultSlowLogin, FaultStreamError,
	FaultHalfOpen, FaultDrop, FaultDropSend, FaultDropBack, FaultSlow,
	FaultNoAck, FaultLose, FaultAckError, FaultGarble, FaultDuplicate, FaultReorder, FaultNoReceipt, FaultNoPreKeys,
	FaultMediaGone, FaultMediaCorrupt, FaultUploadRefuse, FaultNoMediaRetry,
}

// Fault is something that shall go wrong Count times, or until it is cleared.
type Fault struct {
	ID            string        `json:"id"` // given by SetFault
	Kind          FaultKind     `json:"kind"`
	Number        string        `json:"number,omitempty"` // of a phone; empty: every phone. Faults of media, outdated and hang before the login know none
	Peer          string        `json:"peer,omitempty"`   // faults of messages: only with this person or group
	Count         int           `json:"count"`            // 0: until cleared
	Code          int           `json:"code,omitempty"`
	ExpireSeconds int           `json:"expireSeconds,omitempty"` // ban; replace: how long the other login keeps the line, default 0
	After         int           `json:"after,omitempty"`         // drop: stanzas of the client before it
	Delay         time.Duration `json:"-"`                       // JSON delayMs
	Used          int           `json:"used"`                    // how often it struck
	Until         time.Time     `json:"until,omitzero"`          // given by SetFault: when a replace with ExpireSeconds is over
}

type faultTimes struct {
	DelayMS float64 `json:"delayMs,omitempty"`
}

// MarshalJSON writes the delay as a number.
func (f Fault) MarshalJSON() ([]byte, error) {
	type plain Fault
	return json.Marshal(struct {
		plain
		faultTimes
	}{plain(f), faultTimes{float64(f.Delay) / float64(time.Millisecond)}})
}

// UnmarshalJSON reads the delay as a number and refuses unknown fields.
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
	f.Delay = time.Duration(min(in.DelayMS, longest) * float64(time.Millisecond))
	return nil
}

const maxFaults = 1000

func (f *Fault) normalize() error {
	if !slices.Contains(allFaults, f.Kind) {
		return fmt.Errorf("%w fault kind %q: use one of %v", ErrInvalid, f.Kind, allFaults)
	}
	if f.Count < 0 || f.After < 0 || f.Delay < 0 || f.ExpireSeconds < 0 || f.Code < 0 {
		return fmt.Errorf("%w fault %s: numbers must not be negative", ErrInvalid, f.Kind)
	}
	defaults := map[FaultKind]int{
		FaultBan: 101, FaultOutdated: 405, FaultLoggedOut: 401, FaultUnavailable: 503, FaultFailure: 500, FaultStreamError: 503,
		FaultAckError: 500, FaultMediaGone: 404, FaultUploadRefuse: 503,
	}
	f.Code = orDefault(f.Code, defaults[f.Kind])
	if f.Kind == FaultBan {
		f.ExpireSeconds = orDefault(f.ExpireSeconds, 3600)
	}
	if (f.Kind == FaultMediaGone || f.Kind == FaultUploadRefuse) && (f.Code < 400 || f.Code > 599) {
		return fmt.Errorf("%w fault %s: code %d must be 400 to 599", ErrInvalid, f.Kind, f.Code)
	}
	return nil
}

// immediate faults strike the sockets that are logged in when they are set, and are used up by it, but for a replace that lasts.
func (f *Fault) immediate() bool {
	return f.Kind == FaultReplace || f.Kind == FaultStreamError || f.Kind == FaultHalfOpen || (f.Kind == FaultDrop && f.After == 0)
}

func (f *Fault) live() bool {
	return (f.Count == 0 || f.Used < f.Count) && (f.Until.IsZero() || time.Now().Before(f.Until))
}

type faultSet struct {
	mu   sync.Mutex // guards list and next
	list []*Fault
	next int
}

// take uses the oldest matching fault once.
func (s *faultSet) take(kind FaultKind, number, peer string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		if f.Kind != kind || !f.live() || (f.Number != "" && f.Number != number) || (f.Peer != "" && f.Peer != peer) {
			continue
		}
		if f.After > 0 {
			f.After--
			continue
		}
		f.Used++
		found := *f
		return &found
	}
	return nil
}

// SetFault makes a fault happen from now on and returns its id. One that strikes at once (replace, stream_error, half_open,
// drop without After) has struck when SetFault returns, and but for a replace with ExpireSeconds is kept only for the listing.
func (s *Server) SetFault(f Fault) (string, error) {
	if err := f.normalize(); err != nil {
		return "", err
	}
	f.Used, f.Until = 0, time.Time{}
	if f.immediate() {
		f.Used = s.strike(f)
		if f.Kind == FaultReplace && f.ExpireSeconds > 0 {
			f.Until = time.Now().Add(time.Duration(f.ExpireSeconds) * time.Second)
		} else {
			f.Count = max(f.Used, 1)
			f.Used = f.Count
		}
	}
	s.faults.mu.Lock()
	s.faults.next++
	f.ID = "fault-" + strconv.Itoa(s.faults.next)
	if len(s.faults.list) >= maxFaults {
		spent := slices.IndexFunc(s.faults.list, func(a *Fault) bool { return !a.live() })
		if spent < 0 {
			s.faults.mu.Unlock()
			return "", fmt.Errorf("%w: %d faults are set, clear some first", ErrInvalid, maxFaults)
		}
		s.faults.list = slices.Delete(s.faults.list, spent, spent+1)
	}
	s.faults.list = append(s.faults.list, &f)
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
		out = append(out, *f)
	}
	return out
}

// ClearFault ends one fault. Sockets that are half open stay so until they end.
func (s *Server) ClearFault(id string) error {
	if s.clearFaults(func(f *Fault) bool { return f.ID == id }) == 0 {
		return fmt.Errorf("fault %s: %w", id, ErrNotFound)
	}
	return nil
}

// ClearFaults ends all faults.
func (s *Server) ClearFaults() { s.clearFaults(func(*Fault) bool { return true }) }

func (s *Server) clearFaults(which func(*Fault) bool) int {
	s.faults.mu.Lock()
	before := len(s.faults.list)
	s.faults.list = slices.DeleteFunc(s.faults.list, which)
	n := before - len(s.faults.list)
	s.faults.mu.Unlock()
	s.events.Publish("faults", s.Faults())
	return n
}
