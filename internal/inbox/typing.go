package inbox

import (
	"context"
	"sync"
	"time"

	"switchboard/internal/domain"
)

const (
	// typingPause is the least time between two signals that a customer begins to
	// write which are passed on for one chat.
	typingPause = 2 * time.Second
	// typingLife is how long a signal that nobody ended is remembered.
	typingLife = time.Minute
	// maxTypists bounds the chats in which somebody writes. What is beyond is not
	// shown.
	maxTypists = 10_000
)

// CustomerTyping tells those who have a chat open that the customer begins or
// ends to write. sender is who writes in a group, else empty. Signals that come
// too often, or from a chat that is not known, go nowhere.
func (s *Service) CustomerTyping(ctx context.Context, channelID int64, peer, sender string, on bool) error {
	if !s.typists.pass(typistKey{channelID, peer}, on, time.Now()) {
		return nil
	}
	organizationID, err := s.organizationOf(ctx, channelID)
	if err != nil {
		return err
	}
	who, err := s.store.Typist(ctx, organizationID, channelID, peer, sender)
	if err != nil || who.ChatID == 0 {
		return err
	}
	return s.publisher.Typing(who.ChatID, on, domain.Typing{ChatID: who.ChatID, ContactID: who.ContactID})
}

// typistKey is a chat as its channel knows it.
type typistKey struct {
	channelID int64
	peer      string
}

// typists remembers what was last passed on of each chat. The zero value is
// ready.
type typists struct {
	mu   sync.Mutex // guards last
	last map[typistKey]typed
}

type typed struct {
	began time.Time
	on    bool
}

// pass reports whether a signal shall be passed on, and counts it as passed. An
// end is passed on only after a beginning.
func (t *typists) pass(key typistKey, on bool, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, known := t.last[key]
	if !on {
		if known && was.on {
			t.last[key] = typed{began: was.began}
			return true
		}
		return false
	}
	if known && now.Sub(was.began) < typingPause {
		return false
	}
	if !known && len(t.last) >= maxTypists {
		t.forget(now)
		if len(t.last) >= maxTypists {
			return false
		}
	}
	if t.last == nil {
		t.last = map[typistKey]typed{}
	}
	t.last[key] = typed{began: now, on: true}
	return true
}

// forget drops what is of no more use. t.mu is held.
func (t *typists) forget(now time.Time) {
	for key, was := range t.last {
		if age := now.Sub(was.began); age > typingLife || !was.on && age > typingPause {
			delete(t.last, key)
		}
	}
}
