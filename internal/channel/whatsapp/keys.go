package whatsapp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/util/dbutil"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/store/sqlstore/upgrades"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
)

// Migrate brings the library's tables up to date. The caller sees to it that
// nobody else does at the same time: the library's own migration cannot bear
// that.
func Migrate(ctx context.Context, db *sql.DB, dialect string, logger *slog.Logger) error {
	wrapped, err := wrap(db, dialect)
	if err != nil {
		return err
	}
	if err := sqlstore.NewWithWrappedDB(wrapped, newLog(logger)).Upgrade(ctx); err != nil {
		return fmt.Errorf("migrate the tables of WhatsApp sessions: %w", err)
	}
	if err := wrapped.Child("whatsapp_version", besides, nil).Upgrade(ctx); err != nil {
		return fmt.Errorf("migrate what goes with the tables of WhatsApp sessions: %w", err)
	}
	return nil
}

// besides is what we have in and beside the library's tables. It comes after the
// library's own migrations, and so not with those of the store.
var besides = dbutil.BuildUpgradeTable().
	WithRaw(0, 1, 1, "notes, and indexes by age", dbutil.TxnModeOn, func(ctx context.Context, db *dbutil.Database) error {
		for _, statement := range []string{
			// What was acknowledged and may not be stored: see eventbuffer.go.
			`CREATE TABLE IF NOT EXISTS whatsapp_notes (
				device   TEXT   NOT NULL,
				kind     TEXT   NOT NULL,
				id       TEXT   NOT NULL,
				content  bytea  NOT NULL,
				noted_at BIGINT NOT NULL, -- Unix milliseconds
				PRIMARY KEY (device, kind, id),
				FOREIGN KEY (device) REFERENCES whatsmeow_device(jid) ON DELETE CASCADE ON UPDATE CASCADE
			)`,
			// For Prune.
			"CREATE INDEX IF NOT EXISTS whatsapp_event_buffer_age ON whatsmeow_event_buffer (insert_timestamp)",
			"CREATE INDEX IF NOT EXISTS whatsapp_retry_buffer_age ON whatsmeow_retry_buffer (timestamp)",
		} {
			if _, err := db.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	}).Finish()

const (
	// bufferedFor is how long what was decrypted is known: WhatsApp brings nothing
	// again after that. sentFor is how long a sent message is kept for phones that
	// cannot decrypt it. Both are the library's.
	bufferedFor = 14 * 24 * time.Hour
	sentFor     = 7 * 24 * time.Hour
	pruneBatch  = 1000
)

// Prune removes what the buffers of all devices need no more. The statements are
// small: others write to these tables all the time.
//
// It leaves whatsmeow_message_secrets alone: the table has no time, and a secret
// comes before its message. It is about 200 bytes for each message, and goes with
// the device.
func Prune(ctx context.Context, db *sql.DB, dialect string) (removed int64, err error) {
	wrapped, err := wrap(db, dialect)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	for _, table := range []struct {
		statement string
		before    time.Time
	}{
		{`DELETE FROM whatsmeow_event_buffer WHERE (our_jid, ciphertext_hash) IN (
			SELECT our_jid, ciphertext_hash FROM whatsmeow_event_buffer WHERE insert_timestamp < $1 ORDER BY insert_timestamp LIMIT $2)`, now.Add(-bufferedFor)},
		{`DELETE FROM whatsmeow_retry_buffer WHERE (our_jid, chat_jid, message_id) IN (
			SELECT our_jid, chat_jid, message_id FROM whatsmeow_retry_buffer WHERE timestamp < $1 ORDER BY timestamp LIMIT $2)`, now.Add(-sentFor)},
	} {
		for n := int64(pruneBatch); n == pruneBatch; {
			result, err := wrapped.Exec(ctx, table.statement, table.before.UnixMilli(), pruneBatch)
			if err == nil {
				n, err = result.RowsAffected()
			}
			if err != nil {
				return removed, fmt.Errorf("remove old rows of WhatsApp sessions: %w", err)
			}
			removed += n
		}
	}
	return removed, nil
}

func wrap(db *sql.DB, dialect string) (*dbutil.Database, error) {
	wrapped, err := dbutil.NewWithDB(db, dialect)
	if err != nil {
		return nil, fmt.Errorf("whatsapp: %w", err)
	}
	wrapped.UpgradeTable, wrapped.VersionTable = upgrades.Table, "whatsmeow_version"
	return wrapped, nil
}

// Sweep removes the keys of devices that are no channel's any more, and what
// was learned by them. kept tells the devices of the channels that there are.
// It is asked after the keys are listed: a channel knows its device before the
// device has keys, so none is removed that is just being linked.
func Sweep(ctx context.Context, db *sql.DB, dialect string, kept func(context.Context) ([]string, error)) (removed int, err error) {
	wrapped, err := wrap(db, dialect)
	if err != nil {
		return 0, err
	}
	tables := []struct{ list, remove string }{
		{"SELECT jid FROM whatsmeow_device", "DELETE FROM whatsmeow_device WHERE jid=$1"},
		{"SELECT DISTINCT device FROM whatsapp_lids", "DELETE FROM whatsapp_lids WHERE device=$1"},
		{"SELECT DISTINCT our_jid FROM whatsmeow_privacy_tokens", "DELETE FROM whatsmeow_privacy_tokens WHERE our_jid=$1"},
	}
	found := make([][]string, len(tables))
	some := false
	for i, table := range tables {
		rows, err := wrapped.Query(ctx, table.list)
		if found[i], err = dbutil.ConvertRowFn[string](dbutil.ScanSingleColumn[string]).NewRowIter(rows, err).AsList(); err != nil {
			return 0, fmt.Errorf("list linked devices: %w", err)
		}
		some = some || len(found[i]) > 0
	}
	if !some {
		return 0, nil
	}
	devices, err := kept(ctx)
	if err != nil {
		return 0, err
	}
	for i, table := range tables {
		for _, device := range found[i] {
			if slices.Contains(devices, device) {
				continue
			}
			if _, err := wrapped.Exec(ctx, table.remove, device); err != nil {
				return removed, fmt.Errorf("remove a device's keys: %w", err)
			}
			removed++
		}
	}
	return removed, nil
}

// keyring is the library's store for one session.
type keyring struct {
	db        *dbutil.Database
	container *sqlstore.Container
	learned   func(person)
	named     func(string)
}

// newKeyring returns the keys in a database. learned is told of pairs of a number
// and a LID, named of the device's own name; neither may block.
func newKeyring(db *sql.DB, dialect string, logger *slog.Logger, learned func(person), named func(string)) (*keyring, error) {
	wrapped, err := wrap(db, dialect)
	if err != nil {
		return nil, err
	}
	return &keyring{db: wrapped, container: sqlstore.NewWithWrappedDB(wrapped, newLog(logger)), learned: learned, named: named}, nil
}

// device returns a linked device, or nil if its keys are not there.
func (k *keyring) device(ctx context.Context, name string) (*store.Device, error) {
	jid, err := types.ParseJID(name)
	if err != nil {
		return nil, fmt.Errorf("whatsapp: the channel's device is no address: %w", err)
	}
	device, err := k.container.GetDevice(ctx, jid)
	if err != nil || device == nil {
		return nil, err
	}
	device.LIDs = newLIDs(k.db, device, k.learned)
	device.PreKeys = &preKeys{PreKeyStore: device.PreKeys, db: k.db, device: device.ID.String()}
	turn := newTurn()
	device.Sessions = ratchets{SessionStore: device.Sessions, turn: turn}
	device.EventBuffer = newEventBuffer(device, k.db, turn)
	device.Contacts = &contacts{ContactStore: device.Contacts}
	device.Container = &inUse{DeviceContainer: device.Container, named: k.named}
	k.named(device.PushName)
	return device, nil
}

// inUse deletes the keys of a device for the library, which does so when the link
// is ended, and keeps it from changing the device: what it has under way still
// reads that, and it would be a data race.
type inUse struct {
	store.DeviceContainer

	named   func(string)
	deleted atomic.Bool
}

// errDeleted makes the library leave the device as it is.
var errDeleted = errors.New("the keys are deleted, the device is still in use")

// DeleteDevice implements store.DeviceContainer.
func (c *inUse) DeleteDevice(ctx context.Context, device *store.Device) error {
	c.deleted.Store(true)
	if err := c.DeviceContainer.DeleteDevice(ctx, device); err != nil {
		return err
	}
	return errDeleted
}

// PutDevice implements store.DeviceContainer. Whoever changed the name saves it:
// only here can it be read safely. What is saved late does not bring the keys back.
func (c *inUse) PutDevice(ctx context.Context, device *store.Device) error {
	c.named(device.PushName)
	if c.deleted.Load() {
		return store.ErrDeviceDeleted
	}
	return c.DeviceContainer.PutDevice(ctx, device)
}

// preKeys makes new keys and then stores them with one statement. The library
// stores the 812 of a new device one by one: a link would take as many round
// trips, and on SQLite nobody else could write all the while.
type preKeys struct {
	store.PreKeyStore

	db     *dbutil.Database
	device string

	making sync.Mutex // no two take the same ids
}

// newKey is a row of whatsmeow_pre_keys.
type newKey struct{ *keys.PreKey }

// GetMassInsertValues implements dbutil.MassInsertable.
func (k newKey) GetMassInsertValues() [2]any { return [2]any{k.KeyID, k.Priv[:]} }

var insertNewKeys = dbutil.NewMassInsertBuilder[newKey, [2]any](
	"INSERT INTO whatsmeow_pre_keys (jid, uploaded, key_id, key) VALUES ($1, $2, $3, $4)", "($1, $2, $%d, $%d)",
)

// GenOnePreKey implements store.PreKeyStore.
func (p *preKeys) GenOnePreKey(ctx context.Context) (*keys.PreKey, error) {
	p.making.Lock()
	defer p.making.Unlock()
	return p.PreKeyStore.GenOnePreKey(ctx)
}

// GetOrGenPreKeys implements store.PreKeyStore: those that WhatsApp does not have
// yet, and new ones up to the count.
func (p *preKeys) GetOrGenPreKeys(ctx context.Context, count uint32) ([]*keys.PreKey, error) {
	p.making.Lock()
	defer p.making.Unlock()
	made, err := p.waiting(ctx, count)
	if err != nil {
		return nil, fmt.Errorf("query the keys that are not uploaded: %w", err)
	}
	if len(made) >= int(count) {
		return made, nil
	}
	var last sql.NullInt32 // WhatsApp's key ids have 24 bits
	if err := p.db.QueryRow(ctx, "SELECT MAX(key_id) FROM whatsmeow_pre_keys WHERE jid=$1", p.device).Scan(&last); err != nil {
		return nil, fmt.Errorf("query the last key's id: %w", err)
	}
	var rows []newKey
	for id := uint32(last.Int32) + 1; len(made) < int(count); id++ { // #nosec G115 -- ids are not negative
		key := keys.NewPreKey(id)
		made, rows = append(made, key), append(rows, newKey{key})
	}
	query, params := insertNewKeys.Build([2]any{p.device, false}, rows)
	if _, err := p.db.Exec(ctx, query, params...); err != nil {
		return nil, fmt.Errorf("store new keys: %w", err)
	}
	return made, nil
}

// waiting returns the stored keys that were not uploaded yet, the oldest first.
func (p *preKeys) waiting(ctx context.Context, most uint32) ([]*keys.PreKey, error) {
	return dbutil.ConvertRowFn[*keys.PreKey](func(row dbutil.Scannable) (*keys.PreKey, error) {
		var id uint32
		var private []byte
		if err := row.Scan(&id, &private); err != nil {
			return nil, err
		}
		if len(private) != curve25519.ScalarSize {
			return nil, sqlstore.ErrInvalidLength
		}
		return &keys.PreKey{KeyPair: *keys.NewKeyPairFromPrivateKey([32]byte(private)), KeyID: id}, nil
	}).NewRowIter(p.db.Query(ctx, `SELECT key_id, key FROM whatsmeow_pre_keys WHERE jid=$1 AND uploaded=false
		ORDER BY key_id LIMIT $2`, p.device, most)).AsList()
}

// fresh makes a device that is not linked yet. It serves for the linking alone:
// after that it is opened anew by device, with its own LIDs.
func (k *keyring) fresh() *store.Device { return k.container.NewDevice() }
