package whatsapp

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/util/dbutil"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// Two kinds of things the library acknowledges before its handler has stored
// them: the own phone's notices of parts of its history, and what cannot be
// decrypted. Of both a note is committed before the acknowledgement can leave, and taken away
// when the handler is done. What a crash, or a failure of the database, leaves is
// done by the next connection before it begins (replay).

// Kinds of notes, in the table whatsapp_notes.
const (
	// notePhone is a notice of the own phone: id is the hash of its ciphertext,
	// content the message.
	notePhone = "phone"
	// noteUnreadable is a message that cannot be decrypted: id is its id, content
	// where it came from, in the library's words.
	noteUnreadable = "unreadable"
)

// note is what was acknowledged and may not be stored.
type note struct {
	kind, id string
	content  []byte
	at       time.Time
}

// eventBuffer is the library's buffer of what was decrypted and what was sent,
// with our notes beside it.
type eventBuffer struct {
	store.EventBuffer

	db     *dbutil.Database
	device string
	phone  []string // the own phone's addresses, as sessions name them
	turn   turn

	mu    sync.Mutex // guards noted
	noted map[[32]byte]bool
}

var _ store.EventBuffer = (*eventBuffer)(nil)

func newEventBuffer(device *store.Device, db *dbutil.Database, turn turn) *eventBuffer {
	b := &eventBuffer{EventBuffer: device.EventBuffer, db: db, device: device.ID.String(), turn: turn, noted: map[[32]byte]bool{}}
	for _, own := range []types.JID{*device.ID, device.LID} {
		if !own.IsEmpty() {
			own.Device = 0
			b.phone = append(b.phone, own.SignalAddress().String())
		}
	}
	return b
}

// decryption is a transaction in which something is decrypted; its context has
// it.
type decryption struct {
	from string // whose session it was decrypted with; empty in groups
}

type decryptionKey struct{}

// DoDecryptionTxn implements store.EventBuffer.
func (b *eventBuffer) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	b.turn.lock()
	defer b.turn.unlock()
	return b.EventBuffer.DoDecryptionTxn(context.WithValue(ctx, decryptionKey{}, &decryption{}), fn)
}

// PutBufferedEvent implements store.EventBuffer. It is called in the transaction
// that changes the keys: nothing is acknowledged before that is committed.
func (b *eventBuffer) PutBufferedEvent(ctx context.Context, hash [32]byte, plaintext []byte, at time.Time) error {
	if err := b.EventBuffer.PutBufferedEvent(ctx, hash, plaintext, at); err != nil {
		return err
	}
	d, in := ctx.Value(decryptionKey{}).(*decryption)
	if !in || !slices.Contains(b.phone, d.from) {
		return nil
	}
	content := unpad(plaintext)
	if noticeOf(content) == nil {
		return nil
	}
	if err := b.put(ctx, note{kind: notePhone, id: hex.EncodeToString(hash[:]), content: content}); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noted[hash] = true
	return nil
}

// ClearBufferedEventPlaintext implements store.EventBuffer. It is called when the
// handler is done; in one case of the library's also when the handler has failed,
// but then the connection is over.
func (b *eventBuffer) ClearBufferedEventPlaintext(ctx context.Context, hash [32]byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.mu.Lock()
	noted := b.noted[hash]
	b.mu.Unlock()
	if !noted {
		return b.EventBuffer.ClearBufferedEventPlaintext(ctx, hash)
	}
	err := b.db.DoTxn(ctx, nil, func(ctx context.Context) error {
		if err := b.EventBuffer.ClearBufferedEventPlaintext(ctx, hash); err != nil {
			return err
		}
		return b.forget(ctx, notePhone, hex.EncodeToString(hash[:]))
	})
	if err == nil {
		b.mu.Lock()
		delete(b.noted, hash)
		b.mu.Unlock()
	}
	return err
}

// DeleteOldBufferedHashes implements store.EventBuffer. The library's looks
// through the rows of all numbers; Prune does that for all at once.
func (*eventBuffer) DeleteOldBufferedHashes(context.Context) error { return nil }

// DeleteOldOutgoingEvents implements store.EventBuffer. The library calls it with
// every message that it sends; Prune does it.
func (*eventBuffer) DeleteOldOutgoingEvents(context.Context) error { return nil }

func (b *eventBuffer) put(ctx context.Context, n note) error {
	_, err := b.db.Exec(ctx, `INSERT INTO whatsapp_notes (device, kind, id, content, noted_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (device, kind, id) DO NOTHING`, b.device, n.kind, n.id, n.content, time.Now().UnixMilli())
	if err != nil {
		return fmt.Errorf("note what comes in: %w", err)
	}
	return nil
}

func (b *eventBuffer) forget(ctx context.Context, kind, id string) error {
	_, err := b.db.Exec(ctx, "DELETE FROM whatsapp_notes WHERE device=$1 AND kind=$2 AND id=$3", b.device, kind, id)
	if err != nil {
		return fmt.Errorf("forget a note: %w", err)
	}
	return nil
}

// notes are those that an earlier connection left, oldest first.
func (b *eventBuffer) notes(ctx context.Context) ([]note, error) {
	rows, err := b.db.Query(ctx, "SELECT kind, id, content, noted_at FROM whatsapp_notes WHERE device=$1 ORDER BY noted_at, id", b.device)
	left, err := dbutil.ConvertRowFn[note](func(row dbutil.Scannable) (n note, err error) {
		var at int64
		err = row.Scan(&n.kind, &n.id, &n.content, &at)
		n.at = time.UnixMilli(at)
		return n, err
	}).NewRowIter(rows, err).AsList()
	if err != nil {
		return nil, fmt.Errorf("read the notes of what came in: %w", err)
	}
	return left, nil
}

// unpad takes away what the sender has put behind a message; nil if it is none.
func unpad(plaintext []byte) []byte {
	if len(plaintext) == 0 {
		return nil
	}
	n := int(plaintext[len(plaintext)-1])
	if n == 0 || n > len(plaintext) {
		return nil
	}
	return plaintext[:len(plaintext)-n]
}

// noticeOf returns the notice of a part of the history that a message is; nil if it
// is none. Of what the phone tells its devices it is the one thing that the
// library acknowledges first and that does not come again: it handles the answer to
// a request before, and asks again for keys of the app state.
func noticeOf(content []byte) *waE2E.HistorySyncNotification {
	var m waE2E.Message
	if len(content) == 0 || proto.Unmarshal(content, &m) != nil {
		return nil
	}
	return m.GetProtocolMessage().GetHistorySyncNotification()
}

// replay does what an earlier connection acknowledged and did not get done. It
// runs before the connection begins, so nothing comes between.
func (s *Session) replay(conn *connection, client *whatsmeow.Client) error {
	b, is := client.Store.EventBuffer.(*eventBuffer)
	if !is {
		return nil
	}
	left, err := b.notes(conn.ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	for _, n := range left {
		switch n.kind {
		case notePhone:
			if notice := noticeOf(n.content); notice != nil {
				s.history.take(s, conn, "", notice) // which message it was is not known any more
			}
		case noteUnreadable:
			if e := unreadableOf(n, client.Store); e != nil {
				s.store(conn, undecryptable(e, s.people(conn.ctx)))
			}
		}
		if cause := conn.cause(); cause != nil {
			return cause
		}
		if err := b.forget(conn.ctx, n.kind, n.id); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
	}
	return nil
}

// unreadable stores the line that stands for a message which cannot be decrypted.
func (s *Session) unreadable(conn *connection, e *events.UndecryptableMessage) bool {
	known := s.people(conn.ctx)
	if !s.store(conn, undecryptable(e, known)) {
		return false
	}
	if b, is := known.(addressBook).device.EventBuffer.(*eventBuffer); is {
		// Left behind, it is stored once more, which changes nothing.
		if err := b.forget(conn.ctx, noteUnreadable, e.Info.ID); err != nil && conn.ctx.Err() == nil {
			s.logger.WarnContext(conn.ctx, "note of a message that cannot be decrypted not taken away", slogErr(err))
		}
	}
	return true
}

// unreadableOf is the message that a note is of; nil if it cannot be said.
func unreadableOf(n note, device *store.Device) *events.UndecryptableMessage {
	sender, chat, two := strings.Cut(string(n.content), " in ")
	if !two {
		chat = sender
	}
	info := types.MessageInfo{ID: n.id, Timestamp: n.at}
	var err error
	if info.Chat, err = types.ParseJID(chat); err != nil {
		return nil
	}
	if info.Sender, err = types.ParseJID(sender); err != nil {
		return nil
	}
	own := func(jid types.JID) bool { return jid.User == device.GetJID().User || jid.User == device.GetLID().User }
	info.IsFromMe, info.IsGroup = own(info.Sender), info.Chat.Server == types.GroupServer
	if own(info.Chat) {
		return nil // the phone told us something: it is nobody's message
	}
	return &events.UndecryptableMessage{Info: info}
}

// What the library logs of a message that it cannot decrypt, before it asks for it
// again and acknowledges it. It tells nobody else of it before that.
const (
	saidUnreadable  = "Error decrypting message %s from %s: %v"
	saidUnavailable = "Unavailable message %s from %s (type: %q)"
)

// watchedLog notes what cannot be decrypted. It is the one place where the library
// can be held up between finding that out and acknowledging.
type watchedLog struct {
	waLog.Logger

	unreadable func(id, source string)
}

// Warnf implements waLog.Logger.
func (l watchedLog) Warnf(msg string, args ...any) {
	if (msg == saidUnreadable || msg == saidUnavailable) && len(args) >= 2 {
		id, known := args[0].(string)
		source, named := args[1].(string)
		if known && named {
			l.unreadable(id, source)
		}
	}
	l.Logger.Warnf(msg, args...)
}

// watch notes what the connection's client cannot decrypt. Where that fails the
// connection is over, and nothing is acknowledged.
func (s *Session) watch(conn *connection, client *whatsmeow.Client) {
	b, is := client.Store.EventBuffer.(*eventBuffer)
	if !is {
		return
	}
	client.Log = watchedLog{Logger: client.Log, unreadable: func(id, source string) {
		if conn.ctx.Err() != nil {
			return
		}
		if err := b.put(conn.ctx, note{kind: noteUnreadable, id: id, content: []byte(source)}); err != nil {
			conn.cancel(fmt.Errorf("%w: %w", errStore, err))
		}
	}}
}
