package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrOwned means that a worker holds a channel after all.
var ErrOwned = errors.New("the channel is held by a worker")

// orphaned is the condition under which a channel c counts as left alone: a
// worker ran it, its lease ended longer ago than grace, and it still looks as if
// somebody saw to it.
const orphaned = `c.enabled AND c.deleted_at IS NULL AND c.state IN ('connected', 'connecting', 'qr', 'pairing') AND
	EXISTS (SELECT 1 FROM leases l WHERE l.channel_id = c.id AND l.expires_at < `

// Orphans lists channels that no worker has held for longer than grace although
// their state says that they work.
func (s *Store) Orphans(ctx context.Context, grace time.Duration) ([]int64, error) {
	var ids []int64
	err := s.db.WithContext(ctx).Raw("SELECT c.id FROM channels c WHERE "+orphaned+s.databaseNow()+" - ?) ORDER BY c.id LIMIT 1000",
		grace.Milliseconds()).Scan(&ids).Error
	if err != nil {
		return nil, fmt.Errorf("list orphaned channels: %w", err)
	}
	return ids, nil
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
		err := tx.db.Raw("SELECT c.id FROM channels c WHERE c.id = ? AND "+orphaned+tx.store.databaseNow()+" - ?)",
			channelID, grace.Milliseconds()).Scan(&found).Error
		if err == nil && found == 0 {
			err = ErrOwned
		}
		return err
	}
}
