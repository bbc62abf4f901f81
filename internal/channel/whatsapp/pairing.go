package whatsapp

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
)

const (
	// codeLife is how long a pairing code can be typed in, while the attempt lasts in
	// which WhatsApp gave it: as long as there are codes to scan. One that has less
	// than leastLife left is begun anew before.
	codeLife  = 160 * time.Second
	leastLife = 100 * time.Second
	// renewPatience bounds the wait for the new attempt.
	renewPatience = 8 * time.Second
)

// pairing is the attempt to link a phone that is under way: who shows codes, and
// may be asked for a pairing code.
type pairing struct {
	renew chan struct{} // asks for a new attempt

	mu     sync.Mutex // guards what follows
	client *whatsmeow.Client
	left   *whatsmeow.Client // of an attempt that gives way: it may not know yet
	opened chan struct{}     // closed when there is another client; nil when none is waited for
	ends   time.Time         // when the codes have run out
	typed  time.Time         // until when a pairing code can be typed in
}

// begin notes an attempt that shows codes.
func (p *pairing) begin(client *whatsmeow.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if client == p.left {
		return
	}
	if p.client, p.left = client, nil; p.opened != nil {
		close(p.opened)
		p.opened = nil
	}
}

// end notes that an attempt is over. A renewal that is waited for goes on.
func (p *pairing) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client, p.typed, p.ends = nil, time.Time{}, time.Time{}
}

// giveUp ends the wait for a renewal that nobody makes.
func (p *pairing) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left = nil; p.opened != nil {
		close(p.opened)
		p.opened = nil
	}
}

// given notes the codes that an attempt has: the library shows each for a while.
func (p *pairing) given(codes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const whole, first, each = 6, time.Minute, 20 * time.Second
	p.ends = time.Now().Add(time.Duration(codes) * each)
	if codes >= whole {
		p.ends = p.ends.Add(first - each)
	}
}

// typing reports whether somebody may be typing a pairing code.
func (p *pairing) typing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.typed)
}

// shown notes that a pairing code was given, and returns until when it is good.
func (p *pairing) shown() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.typed = time.Now().Add(codeLife); p.ends.Before(p.typed) {
		p.typed = p.ends
	}
	return p.typed
}

// fresh returns the attempt under way, or a new one in its place where that would
// end while somebody is still typing. Nil: there is none.
func (p *pairing) fresh(ctx context.Context) *whatsmeow.Client {
	p.mu.Lock()
	if p.opened == nil {
		if p.client == nil || time.Until(p.ends) >= leastLife {
			defer p.mu.Unlock()
			return p.client
		}
		p.client, p.left, p.opened = nil, p.client, make(chan struct{})
		select {
		case p.renew <- struct{}{}:
		default:
		}
	}
	opened := p.opened
	p.mu.Unlock()
	timer := time.NewTimer(renewPatience)
	defer timer.Stop()
	select {
	case <-opened:
	case <-timer.C:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client
}

// errRenewed ends an attempt in whose place a new one begins.
var errRenewed = errors.New("new codes are wanted")
