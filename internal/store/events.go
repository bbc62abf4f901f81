package store

import (
	"context"
	"encoding/json"

	"switchboard/internal/domain"
)

// MaxEventPage is the most events that one read of the log returns.
const MaxEventPage = 500

// EventsAfter reads the log of an organization from the first event behind
// after, at most limit (1..MaxEventPage) of them. When the log does not reach
// back that far, or after lies in its future, the page says so with Resync and
// holds no events.
func (s *Store) EventsAfter(ctx context.Context, organizationID, after int64, limit int) (domain.EventPage, error) {
	if limit <= 0 || limit > MaxEventPage {
		limit = MaxEventPage
	}
	// One statement, so that head and events are of one moment and one epoch:
	// retention, or a restored database, may come between two.
	const query = "SELECT h.seq AS head, h.oldest_seq, h.epoch, COALESCE(e.seq, 0) AS seq, COALESCE(e.name, '') AS name, " +
		"COALESCE(e.data, '') AS data, COALESCE(e.at, 0) AS at FROM event_heads h " +
		"LEFT JOIN (SELECT seq, name, data, at FROM events WHERE organization_id = ? AND seq > ? ORDER BY seq LIMIT ?) e ON 1 = 1 " +
		"WHERE h.organization_id = ? ORDER BY e.seq"
	var rows []struct {
		Head, OldestSeq int64
		Epoch           string
		Seq             int64 // 0: there is no event
		Name            string
		Data            string
		At              domain.Time
	}
	if err := s.db.WithContext(ctx).Raw(query, organizationID, after, limit, organizationID).Scan(&rows).Error; err != nil {
		return domain.EventPage{}, err
	}
	if len(rows) == 0 {
		return domain.EventPage{}, domain.NotFound("organization")
	}
	log := rows[0]
	page := domain.EventPage{Head: log.Head, Epoch: log.Epoch, Events: []domain.Event{}}
	if after > log.Head || after < 0 || after+1 < log.OldestSeq || (after < log.Head && log.Seq != after+1) {
		page.Resync = true
		return page, nil
	}
	for _, r := range rows {
		if r.Seq > 0 {
			page.Events = append(page.Events, domain.Event{
				OrganizationID: organizationID, Seq: r.Seq, Epoch: r.Epoch, Name: r.Name, Data: json.RawMessage(r.Data), At: r.At,
			})
		}
	}
	return page, nil
}

// Head is where an organization's log stands.
type Head struct {
	Seq   int64
	Epoch string
}

// Heads returns the heads of many logs with one query, after a look at where
// the database lives (CheckPlace). Organizations that do not exist are absent.
func (s *Store) Heads(ctx context.Context, organizationIDs []int64) (map[int64]Head, error) {
	var rows []struct {
		OrganizationID, Seq int64
		Epoch               string
	}
	if len(organizationIDs) == 0 {
		return map[int64]Head{}, nil
	}
	if err := s.CheckPlace(ctx); err != nil {
		return nil, err
	}
	err := s.db.WithContext(ctx).
		Raw("SELECT organization_id, seq, epoch FROM event_heads WHERE organization_id IN ?", organizationIDs).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	heads := make(map[int64]Head, len(rows))
	for _, r := range rows {
		heads[r.OrganizationID] = Head{Seq: r.Seq, Epoch: r.Epoch}
	}
	return heads, nil
}

// PruneEvents deletes an organization's events that are older than before, and
// those behind the newest keep, in steps that hold no lock for long, and
// returns how many went. The log's oldest seq moves first, so that a reader
// never takes a hole for the log.
func (s *Store) PruneEvents(ctx context.Context, organizationID int64, before domain.Time, keep int64) (int64, error) {
	var cut struct{ Old, Many int64 }
	err := s.db.WithContext(ctx).
		Raw("SELECT COALESCE((SELECT MAX(seq) FROM events WHERE organization_id = ? AND at < ?), 0) AS old, "+
			"COALESCE((SELECT seq FROM event_heads WHERE organization_id = ?), 0) - ? AS many", organizationID, before, organizationID, keep).
		Scan(&cut).Error
	last := max(cut.Old, cut.Many)
	if err != nil || last <= 0 {
		return 0, err
	}
	err = s.db.WithContext(ctx).
		Exec("UPDATE event_heads SET oldest_seq = ? WHERE organization_id = ? AND oldest_seq <= ?", last+1, organizationID, last).Error
	if err != nil {
		return 0, err
	}
	var deleted int64
	for {
		const step = "DELETE FROM events WHERE organization_id = ? AND seq <= ? AND seq < (SELECT MIN(seq) FROM events WHERE organization_id = ?) + 5000"
		result := s.db.WithContext(ctx).Exec(step, organizationID, last, organizationID)
		deleted += result.RowsAffected
		if result.Error != nil || result.RowsAffected == 0 {
			return deleted, result.Error
		}
	}
}

// OrganizationIDs lists every organization.
func (s *Store) OrganizationIDs(ctx context.Context) ([]int64, error) {
	var ids []int64
	err := s.db.WithContext(ctx).Raw("SELECT id FROM organizations ORDER BY id").Scan(&ids).Error
	return ids, err
}
