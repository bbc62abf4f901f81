package realtime

import (
	"sync"
	"time"

	"switchboard/internal/domain"
)

// endingsKept is how many endings are remembered at a time.
const endingsKept = 10_000

// endings remembers for a while whose rights ended. A disconnection finds the sockets that are here; the one whose token was
// read just before, and which is counted among the sessions just after, would be missed, and stay until the next revalidation.
type endings struct {
	mu   sync.Mutex // guards what follows
	at   map[string]time.Time
	lost time.Time // when one was not remembered because there were too many
}

// note remembers the name of who must go: see sessionRoom.
func (e *endings) note(name string) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.at) >= endingsKept {
		e.lost = now
		return
	}
	if e.at == nil {
		e.at = map[string]time.Time{}
	}
	e.at[name] = now
}

// since reports whether a principal's rights may have ended at began or later.
func (e *endings) since(began time.Time, p domain.Principal) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.lost.Before(began) {
		return true
	}
	for _, name := range rightsOf(p) {
		if at, found := e.at[name]; found && !at.Before(began) {
			return true
		}
	}
	return false
}

// expire forgets what ended before a moment: no handshake is as old.
func (e *endings) expire(before time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, at := range e.at {
		if at.Before(before) {
			delete(e.at, name)
		}
	}
}

// rightsOf returns the names by which a principal's sockets are told to go.
func rightsOf(p domain.Principal) []string {
	names := []string{domain.UserRoom(p.UserID), domain.OrganizationRoom(p.OrganizationID)}
	if p.SessionID != "" {
		names = append(names, sessionRoom(p.SessionID))
	}
	if p.APIKeyID != 0 {
		names = append(names, apiKeyRoom(p.APIKeyID))
	}
	return names
}
