package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"switchboard/internal/domain"
)

// ErrOwned means that a worker holds a channel after all.
var ErrOwned = errors.New("the channel is held by a worker")

// unowned is the condition under which a channel c counts as left alone: it
// should run, nobody has changed it, and no worker has held it, for longer than
// grace.
func (s *Store) unowned() string {
	return "c.enabled AND c.deleted_at IS NULL AND c.updated_at < @before AND " + s.unheld()
}

// unheld is the condition that no worker has held a channel c for longer than
// grace.
func (s *Store) unheld() string {
	return `NOT EXISTS (SELECT 1 FROM leases l WHERE l.channel_id = c.id AND l.expires_at >= ` + s.databaseNow() + ` - @grace)`
}

func (s *Store) graceArgs(grace time.Duration) map[string]any {
	return map[string]any{"grace": grace.Milliseconds(), "before": s.Now().Add(-grace)}
}

// orphaned is the condition under which a channel that is left alone still
// looks as if somebody saw to it or soon would, or says another reason. A state
// that waits for an admin does not.
const orphaned = ` AND (c.state IN ('connected', 'connecting', 'qr', 'pairing') OR c.state_retries
	OR c.state = 'disconnected' AND c.state_code <> @code AND c.state_code IN ('worker_stopped', 'no_worker', 'no_room'))`

// Orphans lists channels that no worker has held for longer than grace although
// their state says that they work or that they try to, or is not the given code.
func (s *Store) Orphans(ctx context.Context, grace time.Duration, code string) ([]int64, error) {
	var ids []int64
	args := s.graceArgs(grace)
	args["code"] = code
	err := s.db.WithContext(ctx).Raw("SELECT c.id FROM channels c WHERE "+s.unowned()+orphaned+" ORDER BY c.id LIMIT 1000", args).Scan(&ids).Error
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

// Leftover is a channel that has messages of which nobody knows any more whether
// they are being sent.
type Leftover struct {
	ChannelID, OrganizationID int64
	Kind                      domain.ChannelKind
}

// Leftovers lists channels that have messages under way although no worker has
// held them for longer than grace. A channel that is off, or whose session never
// opens, has no worker that would see to them.
func (s *Store) Leftovers(ctx context.Context, grace time.Duration) ([]Leftover, error) {
	var found []Leftover
	err := s.db.WithContext(ctx).Raw(`SELECT c.id AS channel_id, c.organization_id, c.kind FROM channels c
		WHERE `+s.unheld()+` AND EXISTS (SELECT 1 FROM messages m
			WHERE m.channel_id = c.id AND m.status IN ('queued', 'sending') AND m.status = 'sending') ORDER BY c.id LIMIT 1000`, s.graceArgs(grace)).Scan(&found).Error
	if err != nil {
		return nil, fmt.Errorf("list channels with messages that nobody sends: %w", err)
	}
	return found, nil
}

// Orphaned is the guard of what is written about a channel that nobody holds:
// a worker passes it over until the commit, and one that has taken it meanwhile
// ends the transaction with ErrOwned.
func Orphaned(channelID int64, grace time.Duration) Guard {
	return leftAlone(channelID, grace, (*Store).unowned)
}

// Unheld is Orphaned for a channel that need not be one that should run.
func Unheld(channelID int64, grace time.Duration) Guard {
	return leftAlone(channelID, grace, (*Store).unheld)
}

func leftAlone(channelID int64, grace time.Duration, condition func(*Store) string) Guard {
	return func(tx *Tx) error {
		if tx.store.Postgres() {
			// Where there is no row to lock, it would be taken unnoticed.
			err := tx.db.Exec("INSERT INTO leases (channel_id, worker_id, term, expires_at) VALUES (?, '', 0, 0) ON CONFLICT DO NOTHING", channelID).Error
			if err != nil {
				return err
			}
			if err := tx.db.Exec("SELECT 1 FROM leases WHERE channel_id = ?"+sharesLease, channelID).Error; err != nil {
				return err
			}
		}
		var found int64
		args := tx.store.graceArgs(grace)
		args["id"] = channelID
		err := tx.db.Raw("SELECT c.id FROM channels c WHERE c.id = @id AND "+condition(tx.store), args).Scan(&found).Error
		if err == nil && found == 0 {
			err = ErrOwned
		}
		return err
	}
}
