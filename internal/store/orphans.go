package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrOwned means that a worker holds a channel after all.
var ErrOwned = errors.New("the channel is held by a worker")

// unowned is the condition under which a channel c counts as left alone: it
// should run, and no worker has held it for longer than grace.
func (s *Store) unowned() string {
	return `c.enabled AND c.deleted_at IS NULL AND c.created_at < @before AND NOT EXISTS (SELECT 1 FROM leases l
		WHERE l.channel_id = c.id AND l.expires_at >= ` + s.databaseNow() + ` - @grace)`
}

func (s *Store) graceArgs(grace time.Duration) map[string]any {
	return map[string]any{"grace": grace.Milliseconds(), "before": s.Now().Add(-grace)}
}

// orphaned is the condition under which a channel that is left alone still
// looks as if somebody saw to it, or soon would.
const orphaned = ` AND c.state IN ('connected', 'connecting', 'qr', 'pairing')`

// Orphans lists channels that no worker has held for longer than grace although
// their state says that they work.
func (s *Store) Orphans(ctx context.Context, grace time.Duration) ([]int64, error) {
	var ids []int64
	err := s.db.WithContext(ctx).Raw("SELECT c.id FROM channels c WHERE "+s.unowned()+orphaned+" ORDER BY c.id LIMIT 1000", s.graceArgs(grace)).Scan(&ids).Error
	if err != nil {
		return nil, fmt.Errorf("list orphaned channels: %w", err)
	}
	return ids, nil
}

// Unowned counts the channels that should run and that no worker has held for
// longer than grace, whatever their state says.
func (s *Store) Unowned(ctx context.Context, grace time.Duration) (int64, error) {
	var n int64
	err := s.db.WithContext(ctx).Raw("SELECT COUNT(*) FROM channels c WHERE "+s.unowned(), s.graceArgs(grace)).Scan(&n).Error
	if err != nil {
		return 0, fmt.Errorf("count channels without a worker: %w", err)
	}
	return n, nil
}

// Orphaned is the guard of what is written about a channel that nobody holds:
// a worker that takes it meanwhile waits for the commit, or ends the
// transaction with ErrOwned.
func Orphaned(channelID int64, grace time.Duration) Guard {
	return func(tx *Tx) error {
		if tx.store.Postgres() {
			if err := tx.db.Exec("SELECT 1 FROM leases WHERE channel_id = ? FOR SHARE", channelID).Error; err != nil {
				return err
			}
		}
		var found int64
		args := tx.store.graceArgs(grace)
		args["id"] = channelID
		err := tx.db.Raw("SELECT c.id FROM channels c WHERE c.id = @id AND "+tx.store.unowned()+orphaned, args).Scan(&found).Error
		if err == nil && found == 0 {
			err = ErrOwned
		}
		return err
	}
}
