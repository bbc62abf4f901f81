package whatsapp

import (
	"context"
	"sync"
	"time"

	"switchboard/internal/domain"
)

const (
	// maxFound bounds the answers that are remembered.
	maxFound = 1024
	// Nobody leaves WhatsApp within the hour; who is not there may be a minute
	// later.
	foundFor, missedFor = time.Hour, time.Minute
	// directoryEvery is the time between two questions: WhatsApp bans numbers that
	// look up many others.
	directoryEvery = time.Second
)

// directory is who has which phone number, as WhatsApp said lately.
type directory struct {
	mu    sync.Mutex // guards what follows
	next  time.Time  // when WhatsApp may be asked again
	found map[string]finding
}

// finding is an answer of WhatsApp's; err is that of nobody.
type finding struct {
	peer  domain.Peer
	err   error
	until time.Time
}

// find returns what WhatsApp said of a number, or asks, one question a second.
func (d *directory) find(ctx context.Context, phone string, ask func(context.Context) (domain.Peer, error)) (domain.Peer, error) {
	if known, ok := d.recall(phone); ok {
		return known.peer, known.err
	}
	if err := d.turn(ctx); err != nil {
		return domain.Peer{}, err
	}
	if known, ok := d.recall(phone); ok { // somebody else asked meanwhile
		return known.peer, known.err
	}
	peer, err := ask(ctx)
	switch {
	case err == nil:
		d.remember(phone, finding{peer: peer, until: time.Now().Add(foundFor)})
	case domain.CodeOf(err) == domain.CodeNotFound:
		d.remember(phone, finding{err: err, until: time.Now().Add(missedFor)})
	}
	return peer, err
}

// turn waits until WhatsApp may be asked.
func (d *directory) turn(ctx context.Context) error {
	d.mu.Lock()
	wait := max(0, time.Until(d.next))
	d.next = time.Now().Add(wait + directoryEvery)
	d.mu.Unlock()
	if wait > 0 && !pause(ctx, wait) {
		return context.Cause(ctx)
	}
	return nil
}

func (d *directory) recall(phone string) (finding, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.found[phone]
	return known, ok && time.Now().Before(known.until)
}

func (d *directory) remember(phone string, f finding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found == nil || len(d.found) >= maxFound {
		d.found = map[string]finding{}
	}
	d.found[phone] = f
}
