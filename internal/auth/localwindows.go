package auth

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

// localWindows is what one node counts by itself: sliding windows and known addresses in a map of bounded size. When it
// is full, the entry that was not used for longest goes; one under attack is used all the time.
type localWindows struct {
	mu      sync.Mutex // guards everything below
	limit   int
	entries map[string]*list.Element // key → element of recent, whose value is a *localEntry
	recent  *list.List               // most recently used first
}

// localEntry is a window or an account's known addresses; stamps hold when attempts were made or until when addresses
// are known, oldest first.
type localEntry struct {
	key       string
	stamps    []stamp
	fullUntil time.Time // Redis refused, counting other nodes' attempts too
}

type stamp struct {
	id string
	at time.Time
}

func newLocalWindows(limit int) *localWindows {
	return &localWindows{limit: limit, entries: map[string]*list.Element{}, recent: list.New()}
}

// entry returns the entry of key, making it if need be. mu is held.
func (l *localWindows) entry(key string) *localEntry {
	if e, found := l.entries[key]; found {
		l.recent.MoveToFront(e)
		return e.Value.(*localEntry)
	}
	for l.recent.Len() >= l.limit {
		last := l.recent.Back()
		delete(l.entries, l.recent.Remove(last).(*localEntry).key)
	}
	entry := &localEntry{key: key}
	l.entries[key] = l.recent.PushFront(entry)
	return entry
}

// wait says how long key's window stays full; 0 if it is not. allowed says that Redis let the attempt through, so that
// what it said to others meanwhile does not count. mu is held.
func (l *localWindows) wait(key string, limit int, allowed bool, now time.Time) time.Duration {
	e, found := l.entries[key]
	if !found {
		return 0
	}
	entry := e.Value.(*localEntry)
	entry.stamps = slices.DeleteFunc(entry.stamps, func(s stamp) bool { return !now.Before(s.at.Add(ThrottleWindow)) })
	wait := time.Duration(0)
	if !allowed {
		wait = max(0, entry.fullUntil.Sub(now))
	}
	if len(entry.stamps) >= limit {
		wait = max(wait, entry.stamps[0].at.Add(ThrottleWindow).Sub(now))
	}
	return wait
}

// learn remembers what Redis, which knows all nodes' attempts, said of a window: how long it stays full, 0 if it is not.
func (l *localWindows) learn(key string, wait time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, found := l.entries[key]; found || wait > 0 {
		l.entry(key).fullUntil = now.Add(wait)
	}
}

func (l *localWindows) isKnown(k attemptKeys, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, found := l.entries[k.addresses]
	if !found {
		return false
	}
	return slices.ContainsFunc(e.Value.(*localEntry).stamps, func(s stamp) bool { return s.id == k.member && now.Before(s.at) })
}

// count adds the attempt to its account's pool and its address, or says how long to wait.
func (l *localWindows) count(k attemptKeys, pool, id string, allowed bool, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait := max(l.wait(pool, k.limit(pool), allowed, now), l.wait(k.address, AddressAttempts, allowed, now)); wait > 0 {
		// Used, so that it is not what makes room for others.
		l.entry(pool)
		return wait, false
	}
	for _, key := range []string{pool, k.address} {
		e := l.entry(key)
		e.stamps = append(e.stamps, stamp{id: id, at: now})
	}
	return 0, true
}

func (l *localWindows) succeeded(k attemptKeys, pool, id string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range []string{pool, k.address} {
		if e, found := l.entries[key]; found {
			entry := e.Value.(*localEntry)
			entry.stamps = slices.DeleteFunc(entry.stamps, func(s stamp) bool { return s.id == id })
		}
	}
	e := l.entry(k.addresses)
	e.stamps = slices.DeleteFunc(e.stamps, func(s stamp) bool { return s.id == k.member })
	e.stamps = append(e.stamps, stamp{id: k.member, at: now.Add(knownFor)})
	if len(e.stamps) > knownAddresses {
		e.stamps = e.stamps[len(e.stamps)-knownAddresses:]
	}
}

// limit is the size of one of the account's pools.
func (k attemptKeys) limit(pool string) int {
	if pool == k.known {
		return KnownAttempts
	}
	return AccountAttempts
}
