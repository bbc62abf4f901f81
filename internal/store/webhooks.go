package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"switchboard/internal/domain"
)

// Delivery is a webhook as it came.
type Delivery struct {
	ID         int64
	Kind       domain.ChannelKind
	ChannelIDs []int64 // the channels whose signature the body carries
	Body       []byte
	ReceivedAt domain.Time
	Attempts   int
}

// InsertDelivery commits a webhook. Until claim has passed, the caller works
// on it; afterwards any node may.
func (s *Store) InsertDelivery(ctx context.Context, d Delivery, claim time.Duration) (int64, error) {
	channels, err := json.Marshal(d.ChannelIDs)
	if err != nil {
		return 0, err
	}
	now := s.Now()
	var id int64
	err = s.db.WithContext(ctx).Raw(
		"INSERT INTO webhook_deliveries (kind, channel_ids, body, received_at, claimed_until) VALUES (?, ?, ?, ?, ?) RETURNING id",
		d.Kind, string(channels), d.Body, now, now.Add(claim)).Scan(&id).Error
	if err != nil {
		return 0, fmt.Errorf("store webhook: %w", err)
	}
	return id, nil
}

type deliveryRow struct {
	ID         int64
	Kind       domain.ChannelKind
	ChannelIDs string `gorm:"column:channel_ids"`
	Body       []byte
	ReceivedAt domain.Time
	Attempts   int
}

// ClaimDeliveries takes up to limit webhooks that nobody works on, oldest
// first, for the time of claim: what was claimed before, and failed, for a
// multiple of it, so that it is tried less and less often.
func (s *Store) ClaimDeliveries(ctx context.Context, limit int, claim time.Duration) ([]Delivery, error) {
	now := s.Now()
	candidates := "SELECT id FROM webhook_deliveries WHERE claimed_until < ? ORDER BY id LIMIT ?"
	if s.Postgres() {
		candidates += " FOR UPDATE SKIP LOCKED"
	}
	var rows []deliveryRow
	err := s.db.WithContext(ctx).Raw(
		"UPDATE webhook_deliveries SET claimed_until = ? + ? * (attempts + 1), attempts = attempts + 1 WHERE id IN ("+candidates+") "+
			"RETURNING id, kind, channel_ids, body, received_at, attempts",
		now, claim.Milliseconds(), now, limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("claim webhooks: %w", err)
	}
	slices.SortFunc(rows, func(a, b deliveryRow) int { return cmp.Compare(a.ID, b.ID) })
	deliveries := make([]Delivery, 0, len(rows))
	for _, r := range rows {
		d := Delivery{ID: r.ID, Kind: r.Kind, Body: r.Body, ReceivedAt: r.ReceivedAt, Attempts: r.Attempts}
		if err := json.Unmarshal([]byte(r.ChannelIDs), &d.ChannelIDs); err != nil {
			return nil, fmt.Errorf("webhook %d: %w", r.ID, err)
		}
		deliveries = append(deliveries, d)
	}
	return deliveries, nil
}

// RenewDeliveries prolongs claims that have not run out.
func (s *Store) RenewDeliveries(ctx context.Context, ids []int64, claim time.Duration) error {
	now := s.Now()
	err := s.db.WithContext(ctx).Exec("UPDATE webhook_deliveries SET claimed_until = ? WHERE id IN ? AND claimed_until >= ?", now.Add(claim), ids, now).Error
	if err != nil {
		return fmt.Errorf("renew the claims of webhooks: %w", err)
	}
	return nil
}

// ReleaseDeliveries ends claims, so that the next who looks takes the webhooks.
// One that somebody else has taken meanwhile is then worked on twice, which
// stores it once.
func (s *Store) ReleaseDeliveries(ctx context.Context, ids []int64) error {
	if err := s.db.WithContext(ctx).Exec("UPDATE webhook_deliveries SET claimed_until = 0 WHERE id IN ?", ids).Error; err != nil {
		return fmt.Errorf("give webhooks back: %w", err)
	}
	return nil
}

// PendingDeliveries counts the webhooks that are not processed yet.
func (s *Store) PendingDeliveries(ctx context.Context) (int64, error) {
	var n int64
	err := s.db.WithContext(ctx).Raw("SELECT COUNT(*) FROM webhook_deliveries").Scan(&n).Error
	return n, err
}

// DropDeliveries removes webhooks of which everything is stored.
func (s *Store) DropDeliveries(ctx context.Context, ids []int64) error {
	return dropDeliveries(s.db.WithContext(ctx), ids)
}

// DropDeliveries is the same within the transaction that stores their content, with its last statement.
func (tx *Tx) DropDeliveries(ids []int64) error {
	tx.dropped = append(tx.dropped, ids...)
	return nil
}

func dropDeliveries(db *gorm.DB, ids []int64) error {
	if err := db.Exec("DELETE FROM webhook_deliveries WHERE id IN ?", ids).Error; err != nil {
		return fmt.Errorf("remove webhooks: %w", err)
	}
	return nil
}

// What is kept of an item that is set aside: bytes of it, characters of why.
const (
	maxRejected = 64 << 10
	maxReason   = 1000
)

// Reject sets an item of a provider aside, with why it could not be processed:
// its first 64 KiB, since nobody bounds what it costs but we. The same item
// redelivered is kept once, known by the hash of all of it; isNew tells whether
// this was the first time.
func (tx *Tx) Reject(channelID int64, item []byte, reason string) (isNew bool, err error) {
	hash := sha256.Sum256(item)
	reason = strings.ReplaceAll(strings.ToValidUTF8(reason, "\uFFFD"), "\x00", "")
	if runes := []rune(reason); len(runes) > maxReason {
		reason = string(runes[:maxReason])
	}
	result := tx.db.Exec(`INSERT INTO webhook_rejects (organization_id, channel_id, item, item_hash, error, created_at)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		tx.organizationID, channelID, item[:min(len(item), maxRejected)], hash[:], reason, tx.now)
	if result.Error != nil {
		return false, fmt.Errorf("set aside: %w", result.Error)
	}
	return result.RowsAffected == 1, nil
}

// NoteDelivery remembers why deliveries could not be processed yet.
func (s *Store) NoteDelivery(ctx context.Context, ids []int64, reason string) error {
	return s.db.WithContext(ctx).Exec("UPDATE webhook_deliveries SET last_error = ? WHERE id IN ?", reason, ids).Error
}

// ForgetRejects removes what was set aside before a time.
func (s *Store) ForgetRejects(ctx context.Context, before domain.Time) error {
	return s.db.WithContext(ctx).Exec("DELETE FROM webhook_rejects WHERE created_at < ?", before).Error
}

// Rejects counts what was set aside on a channel.
func (s *Store) Rejects(ctx context.Context, channelID int64) (int64, error) {
	var n int64
	err := s.db.WithContext(ctx).Raw("SELECT COUNT(*) FROM webhook_rejects WHERE channel_id = ?", channelID).Scan(&n).Error
	return n, err
}

// ChannelOrganization tells whose a channel is; deleted channels count. It
// never changes, so callers may remember it.
func (s *Store) ChannelOrganization(ctx context.Context, channelID int64) (int64, error) {
	var id int64
	err := s.db.WithContext(ctx).Raw("SELECT organization_id FROM channels WHERE id = ?", channelID).Scan(&id).Error
	if err == nil && id == 0 {
		err = domain.NotFound("channel")
	}
	return id, err
}

// EarlyUpdate names something that waits for its message.
type EarlyUpdate struct {
	ChannelID, OrganizationID int64
	ExternalID                string
}

// maxEarlyTries bounds how often a waiting update is tried beside the arrival of
// its message: one that a message of another chat shares the id with never fits.
const maxEarlyTries = 3

// RipeEarlyUpdates lists waiting updates whose message is here: the two were
// stored at the same moment and did not see each other.
func (s *Store) RipeEarlyUpdates(ctx context.Context, limit int) ([]EarlyUpdate, error) {
	var rows []EarlyUpdate
	err := s.db.WithContext(ctx).Raw(`SELECT DISTINCT u.channel_id, m.organization_id, u.external_id
		FROM early_updates u JOIN messages m ON m.channel_id = u.channel_id AND m.external_id = u.external_id
		WHERE u.tries < ? LIMIT ?`, maxEarlyTries, limit).Scan(&rows).Error
	return rows, err
}

// ForgetUpdates removes the memory of updates from before a time: those that
// wait for a message that never came, and those that guard against
// redeliveries. Providers redeliver for 7 days.
func (s *Store) ForgetUpdates(ctx context.Context, before domain.Time) error {
	if err := s.db.WithContext(ctx).Exec("DELETE FROM early_updates WHERE created_at < ?", before).Error; err != nil {
		return err
	}
	return s.db.WithContext(ctx).Exec("DELETE FROM seen_updates WHERE created_at < ?", before).Error
}
