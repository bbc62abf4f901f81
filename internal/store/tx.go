package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"

	"switchboard/internal/domain"
)

// Tx is a transaction of one organization. It is a domain.Notifier: what it is
// told is appended to the organization's event log as the transaction's last
// statement. It is used by one goroutine and is dead after commit.
type Tx struct {
	store          *Store
	db             *gorm.DB
	organizationID int64
	now            domain.Time
	events         []domain.Event
	users          []UserEvent
	dropped        []int64         // webhooks to remove with the last statement
	absorbed       map[int64]int64 // chats that others have absorbed
	err            error
}

var _ domain.Notifier = (*Tx)(nil)

// UserEvent is an event for one user's sockets, outside the log.
type UserEvent struct {
	UserID int64
	Name   string
	Data   json.RawMessage
}

// Committed is what a committed transaction has to tell the sockets.
type Committed struct {
	Events []domain.Event
	Users  []UserEvent
}

// Lease is the proof that a worker owns a channel.
type Lease struct {
	ChannelID int64
	WorkerID  string
	Term      int64
}

// ErrLeaseLost is returned when a channel's lease is not held any more under
// the term that a writer named. Nothing was written.
var ErrLeaseLost = errors.New("the lease on the channel is held by another worker or has ended")

// Guard makes a transaction conditional on a lease: see InOrg.
type Guard func(*Tx) error

// Holding is the guard of everything that a worker writes for a channel. It
// locks the lease's row against a change of owner until the commit, and not
// against a renewal: a transaction that waits for something, however long, must
// not cost the worker its other leases.
func Holding(lease Lease) Guard {
	return func(tx *Tx) error {
		query := "SELECT 1 FROM leases WHERE channel_id = ? AND worker_id = ? AND term = ? AND expires_at > " + tx.store.databaseNow()
		if tx.store.Postgres() {
			query += sharesLease
		}
		var held int
		if err := tx.db.Raw(query, lease.ChannelID, lease.WorkerID, lease.Term).Scan(&held).Error; err != nil {
			return err
		}
		if held != 1 {
			return ErrLeaseLost
		}
		return nil
	}
}

// sharesLease locks a lease's row as Holding does: against whoever takes or
// releases the lease, or wants to be alone with it, all of whom lock it FOR
// UPDATE. A renewal changes no key and does not conflict with it.
const sharesLease = " FOR KEY SHARE"

// attempts is how often a transaction that lost against another one is tried.
const attempts = 4

// InOrg runs fn in a transaction of an organization and commits it together
// with the events that fn told of. Guards run first. When the database ends
// the transaction because of others beside it, fn runs again from the start:
// it must have no effect outside the transaction.
func (s *Store) InOrg(ctx context.Context, organizationID int64, fn func(*Tx) error, guards ...Guard) (Committed, error) {
	var err error
	for range attempts {
		var committed Committed
		committed, err = s.inOrgOnce(ctx, organizationID, fn, guards)
		if err == nil || !isConcurrency(err) || ctx.Err() != nil {
			return committed, err
		}
	}
	return Committed{}, err
}

func (s *Store) inOrgOnce(ctx context.Context, organizationID int64, fn func(*Tx) error, guards []Guard) (Committed, error) {
	tx := &Tx{store: s, organizationID: organizationID, now: s.Now()}
	err := s.db.WithContext(ctx).Transaction(func(db *gorm.DB) error {
		tx.db = db
		for _, guard := range guards {
			if err := guard(tx); err != nil {
				return err
			}
		}
		if err := fn(tx); err != nil {
			return err
		}
		if tx.err != nil {
			return tx.err
		}
		return tx.appendEvents()
	})
	if err != nil {
		return Committed{}, err
	}
	return Committed{Events: tx.events, Users: tx.users}, nil
}

// Try runs fn and, if it fails, takes back what it did and told, so that the
// transaction can go on without it.
func (tx *Tx) Try(fn func() error) error {
	events, users, dropped, absorbed, told := slices.Clone(tx.events), slices.Clone(tx.users), slices.Clone(tx.dropped), maps.Clone(tx.absorbed), tx.err
	if err := tx.db.Exec("SAVEPOINT try").Error; err != nil {
		return err
	}
	err := fn()
	if err == nil {
		return tx.db.Exec("RELEASE SAVEPOINT try").Error
	}
	tx.events, tx.users, tx.dropped, tx.absorbed, tx.err = events, users, dropped, absorbed, told
	if undo := tx.db.Exec("ROLLBACK TO SAVEPOINT try").Error; undo != nil {
		return errors.Join(err, undo)
	}
	return errors.Join(err, tx.db.Exec("RELEASE SAVEPOINT try").Error)
}

// Now is the time of the transaction by the process's clock, for created_at
// and the like.
func (tx *Tx) Now() domain.Time { return tx.now }

// OrganizationID is whose transaction it is.
func (tx *Tx) OrganizationID() int64 { return tx.organizationID }

// appendEvents writes the log. The counter row stays locked from here to the
// commit, so nothing may come after it: that is what makes seq free of gaps.
func (tx *Tx) appendEvents() error {
	n := len(tx.events)
	if n == 0 {
		return tx.dropRest()
	}
	write := tx.appendOneByOne
	if tx.store.Postgres() {
		write = tx.appendAtOnce
	}
	head, err := write()
	if err != nil {
		return fmt.Errorf("append events: %w", err)
	}
	if head.Seq == 0 {
		return fmt.Errorf("organization %d has no event log: %w", tx.organizationID, ErrNotFound)
	}
	for i := range tx.events {
		tx.events[i].Seq = head.Seq - int64(n) + int64(i) + 1
		tx.events[i].Epoch = head.Epoch
	}
	return nil
}

const advanceHead = "UPDATE event_heads SET seq = seq + $1 WHERE organization_id = $2 RETURNING seq, epoch"

// appendAtOnce does it with one round trip under the lock. The events come as arrays: the statement is the same however
// many there are, and is prepared once. Webhooks of which all is stored go with it.
func (tx *Tx) appendAtOnce() (head Head, err error) {
	const appendEvents = "WITH head AS (" + advanceHead + "), appended AS (" +
		"INSERT INTO events (organization_id, seq, name, data, at) " +
		"SELECT $2, head.seq - $1 + line.n, line.name, line.data, $3 " +
		"FROM head, unnest($4::text[], $5::text[]) WITH ORDINALITY AS line (name, data, n))"
	const dropDeliveries = ", dropped AS (DELETE FROM webhook_deliveries WHERE id = ANY($6::bigint[]))"
	const selectHead = " SELECT seq, epoch FROM head"
	names, data := make([]string, len(tx.events)), make([]string, len(tx.events))
	for i, e := range tx.events {
		names[i], data[i] = e.Name, string(e.Data)
	}
	query := appendEvents + selectHead
	args := []any{len(tx.events), tx.organizationID, int64(tx.now), names, data}
	if len(tx.dropped) > 0 {
		query = appendEvents + dropDeliveries + selectHead
		args = append(args, tx.dropped)
	}
	// Not through GORM, which would take the arrays apart.
	err = tx.db.Statement.ConnPool.QueryRowContext(tx.db.Statement.Context, query, args...).Scan(&head.Seq, &head.Epoch)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return head, err
}

// appendOneByOne is for SQLite, where a statement in a WITH clause may change nothing.
func (tx *Tx) appendOneByOne() (head Head, err error) {
	if err := tx.dropRest(); err != nil {
		return head, err
	}
	if err := tx.db.Raw(strings.NewReplacer("$1", "?", "$2", "?").Replace(advanceHead), len(tx.events), tx.organizationID).Scan(&head).Error; err != nil {
		return head, err
	}
	first := head.Seq - int64(len(tx.events)) + 1
	for i, e := range tx.events {
		err := tx.db.Exec("INSERT INTO events (organization_id, seq, name, data, at) VALUES (?, ?, ?, ?, ?)",
			tx.organizationID, first+int64(i), e.Name, string(e.Data), tx.now).Error
		if err != nil {
			return head, err
		}
	}
	return head, nil
}

// dropRest removes the webhooks that no other statement takes along.
func (tx *Tx) dropRest() error {
	if len(tx.dropped) == 0 {
		return nil
	}
	return dropDeliveries(tx.db, tx.dropped)
}

func (tx *Tx) record(name string, data any) {
	body, err := json.Marshal(data)
	if err != nil {
		tx.err = errors.Join(tx.err, fmt.Errorf("encode %s: %w", name, err))
		return
	}
	tx.events = append(tx.events, domain.Event{OrganizationID: tx.organizationID, Name: name, Data: body, At: tx.now})
}

// NewChat logs chat:new.
func (tx *Tx) NewChat(chat domain.Chat) { tx.record(domain.EventChatNew, chat) }

// NewMessage logs message:new.
func (tx *Tx) NewMessage(message domain.Message) { tx.record(domain.EventMessageNew, message) }

// ChatUpdated logs chat:updated. Within a transaction only the last state of a
// chat is told: the ones before it were never visible to anyone.
func (tx *Tx) ChatUpdated(chat domain.Chat) {
	prefix := []byte(fmt.Sprintf(`{"id":%d,`, chat.ID))
	for i, e := range tx.events {
		if e.Name == domain.EventChatUpdated && len(e.Data) > len(prefix) && string(e.Data[:len(prefix)]) == string(prefix) {
			tx.events = append(tx.events[:i], tx.events[i+1:]...)
			break
		}
	}
	tx.record(domain.EventChatUpdated, chat)
}

// MessagesRead logs messages:read.
func (tx *Tx) MessagesRead(read domain.MessagesRead) { tx.record(domain.EventMessagesRead, read) }

// MessageStatus logs message:status.
func (tx *Tx) MessageStatus(change domain.MessageStatusChange) {
	tx.record(domain.EventMessageStatus, change)
}

// ChatDeleted logs chat:deleted.
func (tx *Tx) ChatDeleted(chatID int64) {
	tx.record(domain.EventChatDeleted, domain.ChatDeleted{ChatID: chatID})
}

// User tells one user's sockets after the commit; it is not in the log.
func (tx *Tx) User(userID int64, event string, data any) {
	body, err := json.Marshal(data)
	if err != nil {
		tx.err = errors.Join(tx.err, fmt.Errorf("encode %s: %w", event, err))
		return
	}
	tx.users = append(tx.users, UserEvent{UserID: userID, Name: event, Data: body})
}

// Broadcast logs any other event of the organization.
func (tx *Tx) Broadcast(event string, data any) { tx.record(event, data) }

// newEpoch names a log.
func newEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
