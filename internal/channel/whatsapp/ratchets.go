package whatsapp

import (
	"context"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// ratchets are the library's sessions with other devices. The library reads the
// sessions that a message is encrypted with, and writes them later; what it
// decrypts meanwhile would be undone by that, and what comes next could not be
// decrypted. So encrypting and decrypting take turns.
//
// They also tell a decryption whose session it uses. That cannot be forged, unlike
// what a message says of itself.
type ratchets struct {
	store.SessionStore

	turn turn
}

// turnPatience bounds the wait of what is neither a send nor a decryption.
const turnPatience = 5 * time.Second

// turn is held by who changes sessions.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) lock()   { t <- struct{}{} }
func (t turn) unlock() { <-t }

// encryption is a message that is being sent; its context has it. It holds the turn
// from reading the sessions to writing them.
type encryption struct {
	mu      sync.Mutex // guards release
	release func()
}

type encryptionKey struct{}

// begin takes the turn. It waits as long as a decryption takes, which a time-out of
// the database ends.
func (e *encryption) begin(t turn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.release == nil {
		t.lock()
		e.release = t.unlock
	}
}

func (e *encryption) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.release != nil {
		e.release()
		e.release = nil
	}
}

// sendMessage is the client's SendMessage, whose encryption takes its turn. Its context does not end with the wire: the
// library closes what an answer is handed over by when the context ends, and WhatsApp's last answer may be on its way there.
func sendMessage(ctx context.Context, client *whatsmeow.Client, to types.JID, m *waE2E.Message, extra whatsmeow.SendRequestExtra) (whatsmeow.SendResponse, error) {
	e := &encryption{}
	defer e.end() // it failed before it wrote
	return client.SendMessage(context.WithValue(ctx, encryptionKey{}, e), to, m, extra)
}

// GetManySessions implements store.SessionStore.
func (r ratchets) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	e, in := ctx.Value(encryptionKey{}).(*encryption)
	if !in || len(addresses) == 0 {
		return r.SessionStore.GetManySessions(ctx, addresses)
	}
	e.begin(r.turn)
	sessions, err := r.SessionStore.GetManySessions(ctx, addresses)
	if err != nil {
		e.end()
	}
	return sessions, err
}

// PutManySessions implements store.SessionStore.
func (r ratchets) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	err := r.SessionStore.PutManySessions(ctx, sessions)
	if e, in := ctx.Value(encryptionKey{}).(*encryption); in {
		e.end()
	}
	return err
}

// bystanding waits until nobody has the turn, for what the library does with
// sessions beside: it encrypts again what a phone asks for, and that may begin the
// session anew. To wait there for long is worse than to go on: a message that
// cannot be decrypted is asked for again.
func (r ratchets) bystanding(ctx context.Context) (end func()) {
	_, sends := ctx.Value(encryptionKey{}).(*encryption)
	_, receives := ctx.Value(decryptionKey{}).(*decryption)
	if sends || receives {
		return func() {}
	}
	timer := time.NewTimer(turnPatience)
	defer timer.Stop()
	select {
	case r.turn <- struct{}{}:
		return r.turn.unlock
	case <-timer.C:
	case <-ctx.Done():
	}
	return func() {}
}

// GetSession implements store.SessionStore.
func (r ratchets) GetSession(ctx context.Context, address string) ([]byte, error) {
	defer r.bystanding(ctx)()
	return r.SessionStore.GetSession(ctx, address)
}

// PutSession implements store.SessionStore.
func (r ratchets) PutSession(ctx context.Context, address string, session []byte) error {
	if d, in := ctx.Value(decryptionKey{}).(*decryption); in {
		d.from = address
	}
	defer r.bystanding(ctx)()
	return r.SessionStore.PutSession(ctx, address, session)
}
