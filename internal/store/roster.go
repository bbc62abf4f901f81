package store

import (
	"context"
	"fmt"
	"time"

	"switchboard/internal/domain"
)

// Enlistment makes a worker known to the others.
type Enlistment struct {
	WorkerID string // as in LeaseClaim
	Name     string
	// Capacity is the most channels that it can run now.
	Capacity int
	// Only are the channels of a dedicated worker, which are reserved for it;
	// empty for one of the pool.
	Only []int64
	TTL  time.Duration
}

// keepWorkers is how many TTLs a dead worker's row is kept.
const keepWorkers = 6

// Enlist says that a worker lives, for TTL from now. It also removes the rows of
// workers that died long ago.
func (s *Store) Enlist(ctx context.Context, e Enlistment) error {
	now := s.databaseNow()
	args := map[string]any{
		"id": e.WorkerID, "name": e.Name, "dedicated": len(e.Only) > 0, "capacity": e.Capacity, "ttl": e.TTL.Milliseconds(),
		"dead": keepWorkers * e.TTL.Milliseconds(),
	}
	err := s.db.WithContext(ctx).Exec(`INSERT INTO workers (id, name, dedicated, capacity, expires_at) VALUES (@id, @name, @dedicated, @capacity, `+now+` + @ttl)
		ON CONFLICT (id) DO UPDATE SET capacity = excluded.capacity, expires_at = excluded.expires_at`, args).Error
	if err != nil {
		return fmt.Errorf("enlist the worker: %w", err)
	}
	for _, id := range e.Only {
		err := s.db.WithContext(ctx).Exec("INSERT INTO reservations (channel_id, worker_id) VALUES (?, ?) ON CONFLICT DO NOTHING", id, e.WorkerID).Error
		if err != nil {
			return fmt.Errorf("reserve channel %d: %w", id, err)
		}
	}
	if err := s.db.WithContext(ctx).Exec("DELETE FROM workers WHERE expires_at < "+now+" - @dead", args).Error; err != nil {
		return fmt.Errorf("remove dead workers: %w", err)
	}
	return nil
}

// Discharge takes a worker off the roster, and its reservations with it.
func (s *Store) Discharge(ctx context.Context, workerID string) error {
	if err := s.db.WithContext(ctx).Exec("DELETE FROM workers WHERE id = ?", workerID).Error; err != nil {
		return fmt.Errorf("discharge the worker: %w", err)
	}
	return nil
}

// PoolWorker is a live worker of the pool.
type PoolWorker struct {
	ID       string
	Capacity int
	Held     int // leases that have not expired
}

// Pool lists the live workers of the pool.
func (s *Store) Pool(ctx context.Context) ([]PoolWorker, error) {
	now := s.databaseNow()
	var workers []PoolWorker
	err := s.db.WithContext(ctx).Raw(`SELECT w.id, w.capacity,
			(SELECT COUNT(*) FROM leases l WHERE l.worker_id = w.id AND l.expires_at > ` + now + `) AS held
		FROM workers w WHERE NOT w.dedicated AND w.expires_at > ` + now + ` ORDER BY w.id`).Scan(&workers).Error
	if err != nil {
		return nil, fmt.Errorf("list the workers: %w", err)
	}
	return workers, nil
}

// PoolChannels counts the channels that the pool has to run.
func (s *Store) PoolChannels(ctx context.Context, kinds []domain.ChannelKind) (int, error) {
	var n int
	err := s.db.WithContext(ctx).Raw(`SELECT COUNT(*) FROM channels c WHERE `+runnable+` AND c.kind IN ?
		AND NOT `+s.reserved(), kinds).Scan(&n).Error
	if err != nil {
		return 0, fmt.Errorf("count the channels: %w", err)
	}
	return n, nil
}

// reserved is the condition that a dedicated worker, which lives, wants a
// channel c.
func (s *Store) reserved() string {
	return `EXISTS (SELECT 1 FROM reservations r JOIN workers w ON w.id = r.worker_id
		WHERE r.channel_id = c.id AND w.expires_at > ` + s.databaseNow() + `)`
}

// AssignedChannel is a channel that a dedicated worker is told to run.
type AssignedChannel struct {
	ID               int64
	Kind             domain.ChannelKind
	Enabled, Deleted bool
	Elsewhere        bool // another dedicated worker, which lives, holds it
}

// Assigned looks up the channels of a dedicated worker, by id. Those that do
// not exist are missing.
func (s *Store) Assigned(ctx context.Context, workerID string, channelIDs []int64) (map[int64]*AssignedChannel, error) {
	now := s.databaseNow()
	var rows []*AssignedChannel
	err := s.db.WithContext(ctx).Raw(`SELECT c.id, c.kind, c.enabled, (c.deleted_at IS NOT NULL AND NOT c.unlink) AS deleted,
			EXISTS (SELECT 1 FROM leases l JOIN workers w ON w.id = l.worker_id WHERE l.channel_id = c.id AND l.expires_at > `+now+`
				AND w.dedicated AND w.expires_at > `+now+` AND w.id <> ?) AS elsewhere
		FROM channels c WHERE c.id IN ?`, workerID, channelIDs).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("look up the worker's channels: %w", err)
	}
	found := make(map[int64]*AssignedChannel, len(rows))
	for _, row := range rows {
		found[row.ID] = row
	}
	return found, nil
}

// PoolHasRoom reports whether any worker of the pool lives, and whether one of
// them could run another channel.
func (s *Store) PoolHasRoom(ctx context.Context) (lives, room bool, err error) {
	pool, err := s.Pool(ctx)
	for _, w := range pool {
		room = room || w.Held < w.Capacity
	}
	return len(pool) > 0, room, err
}
