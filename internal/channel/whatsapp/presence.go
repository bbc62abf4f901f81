package whatsapp

import (
	"context"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// presence shows the number as online while operators work with it. WhatsApp
// tells who types only to those who are; but the phone of a number that is
// always online is never told of anything by its own app.
type presence struct {
	quietAfter time.Duration

	mu     sync.Mutex // guards what follows
	name   string     // the number's own, as the phone set it
	send   announce   // nil without a connection
	online bool
	last   time.Time   // when an operator last did something
	timer  *time.Timer // looks whether that was long ago
}

const presenceTimeout = 5 * time.Second

// announce tells WhatsApp the number's own name and how it is.
type announce func(ctx context.Context, name string, state types.Presence) error

// announcer does as the library's SendPresence, which reads the name while the
// library may be writing it.
func announcer(client *whatsmeow.Client) announce {
	return func(ctx context.Context, name string, state types.Presence) error {
		online := state == types.PresenceAvailable
		client.SetForceActiveDeliveryReceipts(online)
		inner := client.DangerousInternals() //nolint:staticcheck // marked so to warn, not to go
		if online {
			inner.SendUnifiedSession()
		}
		return inner.SendNode(ctx, waBinary.Node{Tag: "presence", Attrs: waBinary.Attrs{"type": string(state), "name": name}})
	}
}

// rename notes the number's own name.
func (p *presence) rename(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name = name
}

// open begins a connection, online if operators are at work.
func (p *presence) open(send announce) {
	p.mu.Lock()
	p.send, p.online = send, false
	p.mu.Unlock()
	p.named()
}

// reset ends it.
func (p *presence) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.send, p.online = nil, false
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// named tells WhatsApp how the number is; it takes that only once the number's
// own name is known.
func (p *presence) named() {
	ctx, cancel := context.WithTimeout(context.Background(), presenceTimeout)
	defer cancel()
	p.mu.Lock()
	at := time.Since(p.last) < p.quietAfter
	p.mu.Unlock()
	if at {
		p.active(ctx)
		return
	}
	p.tell(ctx, types.PresenceUnavailable)
}

// active notes that an operator does something. It reports whether the number
// is online now.
func (p *presence) active(ctx context.Context) bool {
	p.mu.Lock()
	p.last = time.Now()
	online := p.online
	p.mu.Unlock()
	return online || p.tell(ctx, types.PresenceAvailable)
}

func (p *presence) tell(ctx context.Context, state types.Presence) bool {
	p.mu.Lock()
	send, name := p.send, p.name
	p.mu.Unlock()
	if send == nil || name == "" || send(ctx, name, state) != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.online = state == types.PresenceAvailable
	if p.online && p.timer == nil {
		p.timer = time.AfterFunc(p.quietAfter, p.look)
	}
	return p.online
}

// look goes offline when the last act of an operator is long ago.
func (p *presence) look() {
	p.mu.Lock()
	if p.timer == nil {
		p.mu.Unlock()
		return // reset meanwhile
	}
	if left := p.quietAfter - time.Since(p.last); left > 0 {
		p.timer.Reset(left)
		p.mu.Unlock()
		return
	}
	p.timer = nil
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), presenceTimeout)
	defer cancel()
	p.tell(ctx, types.PresenceUnavailable)
}

// Typing implements channel.Typer.
func (s *Session) Typing(ctx context.Context, peer, _ string, on bool) error {
	client, conn, open := s.open()
	if !open {
		return notConnected(nil)
	}
	chat, err := parseAddress(peer)
	if err != nil {
		return err
	}
	if !s.presence.active(conn.ctx) { //nolint:contextcheck // being online outlives the call
		return nil // it would not be shown
	}
	state := types.ChatPresencePaused
	if on {
		state = types.ChatPresenceComposing
	}
	return client.SendChatPresence(ctx, chat, state, types.ChatPresenceMediaText)
}
