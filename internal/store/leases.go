package store

import (
	"context"
	"fmt"
	"time"

	"switchboard/internal/domain"
)

// LeaseClaim says which channels a worker wants to own.
type LeaseClaim struct {
	// WorkerID is the holder. It must be of one running process alone: a
	// process that starts again under a used id would own the sessions of the
	// one before it.
	WorkerID string
	TTL      time.Duration
	// Limit is the most channels to take now.
	Limit int
	// Kinds are those that the worker can run.
	Kinds []domain.ChannelKind
	// Only restricts the claim to these channels, reserved or not; empty means
	// any that is not reserved for a dedicated worker.
	Only []int64
	// Except are channels that are passed over.
	Except []int64
	// Idle passes over channels that nobody has held for less than this, or that
	// were changed since: a channel is free from when it is switched on.
	Idle time.Duration
}

// AcquireLeases takes free channels, and those whose lease has expired, for a
// worker: enabled, not deleted, oldest id first. Each comes with a term higher
// than all before it. No two callers get the same channel, and none waits for
// another: what somebody else is taking is passed over.
//
// A lease runs from somewhere between call and return, by the database's
// clock; the caller may trust it only for TTL from before the call.
func (s *Store) AcquireLeases(ctx context.Context, claim LeaseClaim) ([]Lease, error) {
	if claim.Limit <= 0 || len(claim.Kinds) == 0 {
		return nil, nil
	}
	args := map[string]any{
		"worker": claim.WorkerID, "ttl": claim.TTL.Milliseconds(), "kinds": claim.Kinds, "limit": claim.Limit,
		"idle": claim.Idle.Milliseconds(),
	}
	wanted := " AND NOT " + s.reserved()
	if len(claim.Only) > 0 {
		wanted, args["only"] = " AND c.id IN @only", claim.Only
	}
	if claim.Idle > 0 {
		wanted, args["since"] = wanted+" AND c.updated_at <= @since", s.Now().Add(-claim.Idle)
	}
	if len(claim.Except) > 0 {
		wanted, args["except"] = wanted+" AND c.id NOT IN @except", claim.Except
	}
	lock := ""
	if s.Postgres() {
		// A row that is locked is being taken, or a writer of the old term is
		// still at it: the next round finds it.
		lock = " FOR UPDATE OF l SKIP LOCKED"
	}
	now := s.databaseNow()
	var expired []Lease
	err := s.db.WithContext(ctx).Raw(`WITH open AS (
			SELECT l.channel_id FROM leases l JOIN channels c ON c.id = l.channel_id
			WHERE l.expires_at <= `+now+` - @idle AND `+runnable+` AND c.kind IN @kinds`+wanted+`
			ORDER BY l.channel_id LIMIT @limit`+lock+`)
		UPDATE leases SET worker_id = @worker, term = term + 1, expires_at = `+now+` + @ttl
		WHERE channel_id IN (SELECT channel_id FROM open) AND expires_at <= `+now+`
		RETURNING channel_id, worker_id, term`, args).Scan(&expired).Error
	if err != nil {
		return nil, fmt.Errorf("take expired leases: %w", err)
	}
	if args["limit"] = claim.Limit - len(expired); len(expired) == claim.Limit {
		return expired, nil
	}
	// A channel that was never taken has no row to lock. Of those who insert
	// it at once, the primary key lets one through.
	var fresh []Lease
	err = s.db.WithContext(ctx).Raw(`INSERT INTO leases (channel_id, worker_id, term, expires_at)
		SELECT c.id, @worker, 1, `+now+` + @ttl FROM channels c
		WHERE `+runnable+` AND c.kind IN @kinds`+wanted+`
			AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.channel_id = c.id)
		ORDER BY c.id LIMIT @limit
		ON CONFLICT (channel_id) DO NOTHING
		RETURNING channel_id, worker_id, term`, args).Scan(&fresh).Error
	if err != nil {
		// What was taken so far is the caller's, and expires if it goes.
		return expired, fmt.Errorf("take free leases: %w", err)
	}
	return append(expired, fresh...), nil
}

// RenewLeases prolongs a worker's leases by one statement and returns those
// that are still its own: the ones that are missing are lost. A lease that has
// expired is not revived, even if nobody has taken it yet.
//
// It waits for nobody, for it is for all channels of the worker: a lease whose
// row somebody else has locked alone (HoldingAlone) is passed over. It is in
// busy, neither prolonged nor lost, and to be tried again soon.
func (s *Store) RenewLeases(ctx context.Context, workerID string, ttl time.Duration, channelIDs []int64) (held []Lease, busy []int64, err error) {
	if len(channelIDs) == 0 {
		return nil, nil, nil
	}
	now := s.databaseNow()
	const mine = "worker_id = @worker AND channel_id IN @channels AND expires_at > "
	query := "UPDATE leases SET expires_at = " + now + " + @ttl WHERE " + mine + now + " RETURNING channel_id, worker_id, term, TRUE AS renewed"
	if s.Postgres() {
		query = `WITH free AS (SELECT channel_id FROM leases WHERE ` + mine + now + ` FOR NO KEY UPDATE SKIP LOCKED),
			renewed AS (UPDATE leases SET expires_at = ` + now + ` + @ttl WHERE channel_id IN (SELECT channel_id FROM free)
				RETURNING channel_id, worker_id, term)
			SELECT channel_id, worker_id, term, TRUE AS renewed FROM renewed
			UNION ALL SELECT channel_id, worker_id, term, FALSE FROM leases WHERE ` + mine + now + ` AND channel_id NOT IN (SELECT channel_id FROM renewed)`
	}
	var rows []struct {
		Lease   Lease `gorm:"embedded"`
		Renewed bool
	}
	err = s.db.WithContext(ctx).Raw(query, map[string]any{"worker": workerID, "ttl": ttl.Milliseconds(), "channels": channelIDs}).Scan(&rows).Error
	if err != nil {
		return nil, nil, fmt.Errorf("renew leases: %w", err)
	}
	for _, r := range rows {
		if r.Renewed {
			held = append(held, r.Lease)
		} else {
			busy = append(busy, r.Lease.ChannelID)
		}
	}
	return held, busy, nil
}

// ReleaseLease ends a lease at once, so that the next worker need not wait for
// its expiry. It waits for the writers under the lease, so that whoever is woken
// afterwards finds the row free. A lease that is held under another term or by
// another worker stays as it is.
func (s *Store) ReleaseLease(ctx context.Context, lease Lease) error {
	now := s.databaseNow()
	mine := "SELECT channel_id FROM leases WHERE channel_id = ? AND worker_id = ? AND term = ? AND expires_at > " + now
	if s.Postgres() {
		mine += " FOR UPDATE"
	}
	err := s.db.WithContext(ctx).Exec("UPDATE leases SET expires_at = "+now+" WHERE channel_id IN ("+mine+")",
		lease.ChannelID, lease.WorkerID, lease.Term).Error
	if err != nil {
		return fmt.Errorf("release the lease on channel %d: %w", lease.ChannelID, err)
	}
	return nil
}

// Duty is what waits for the worker that holds a channel, and how the channel
// should be.
type Duty struct {
	ChannelID     int64
	ConfigVersion int64
	Enabled       bool // false as well when the channel is deleted
	Reserved      bool // a dedicated worker wants the channel
	Outbox        bool // a message may be due
	Commands      bool // a command may be due
	Media         bool // a download is due
	Asked         bool // somebody asks the session something
}

// Idle reports whether nothing waits.
func (d Duty) Idle() bool { return !d.Outbox && !d.Commands && !d.Media }

// Duties looks over all channels of a worker with one query: what is due, and
// which channels were changed, disabled or deleted.
func (s *Store) Duties(ctx context.Context, workerID string) ([]Duty, error) {
	var duties []Duty
	err := s.db.WithContext(ctx).Raw(`SELECT l.channel_id, c.config_version, (`+runnable+`) AS enabled, `+s.reserved()+` AS reserved,
			(EXISTS (SELECT 1 FROM outbox o WHERE o.channel_id = l.channel_id AND o.priority = 0 AND o.due_at <= `+s.dueBy()+`)
				OR EXISTS (SELECT 1 FROM outbox o WHERE o.channel_id = l.channel_id AND o.priority = 1 AND o.due_at <= `+s.dueBy()+`)) AS outbox,
			EXISTS (SELECT 1 FROM commands k WHERE k.channel_id = l.channel_id AND k.next_attempt_at <= @now) AS commands,
			EXISTS (SELECT 1 FROM media f WHERE f.channel_id = l.channel_id AND f.state = 'pending' AND f.next_attempt_at <= @now) AS media,
			EXISTS (SELECT 1 FROM session_requests r WHERE r.channel_id = l.channel_id AND NOT r.done AND r.expires_at > `+s.databaseNow()+`) AS asked
		FROM leases l JOIN channels c ON c.id = l.channel_id WHERE l.worker_id = @worker`,
		map[string]any{"worker": workerID, "now": s.Now()}).Scan(&duties).Error
	if err != nil {
		return nil, fmt.Errorf("look for due work: %w", err)
	}
	return duties, nil
}

// OutboxDepth counts the messages that wait to be sent on a worker's channels.
func (s *Store) OutboxDepth(ctx context.Context, workerID string) (int64, error) {
	var depth int64
	err := s.db.WithContext(ctx).Raw(`SELECT COUNT(*) FROM messages m WHERE m.status IN ('queued', 'sending') AND m.status = 'queued'
		AND m.channel_id IN (SELECT channel_id FROM leases WHERE worker_id = ?)`, workerID).Scan(&depth).Error
	return depth, err
}
