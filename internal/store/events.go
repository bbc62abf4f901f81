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
	var head struct {
		Seq, OldestSeq int64
		Epoch          string
	}
	err := s.db.WithContext(ctx).
		Raw("SELECT seq, oldest_seq, epoch FROM event_heads WHERE organization_id = ?", organizationID).Scan(&head).Error
	if err != nil {
		return domain.EventPage{}, err
	}
	if head.Epoch == "" {
		return domain.EventPage{}, domain.NotFound("organization")
	}
	page := domain.EventPage{Head: head.Seq, Epoch: head.Epoch, Events: []domain.Event{}}
	if after > head.Seq || after < 0 || after+1 < head.OldestSeq {
		page.Resync = true
		return page, nil
	}
	if limit <= 0 || limit > MaxEventPage {
		limit = MaxEventPage
	}
	var rows []struct {
		Seq  int64
		Name string
		Data string
		At   domain.Time
	}
	err = s.db.WithContext(ctx).
		Raw("SELECT seq, name, data, at FROM events WHERE organization_id = ? AND seq > ? ORDER BY seq LIMIT ?", organizationID, after, limit).
		Scan(&rows).Error
	if err != nil {
		return domain.EventPage{}, err
	}
	for _, r := range rows {
		page.Events = append(page.Events, domain.Event{
			OrganizationID: organizationID, Seq: r.Seq, Epoch: head.Epoch, Name: r.Name, Data: json.RawMessage(r.Data), At: r.At,
		})
	}
	// Retention may have run between the two reads: a page that does not begin
	// where it must is a gap.
	if len(rows) > 0 && rows[0].Seq != after+1 {
		page.Resync, page.Events = true, []domain.Event{}
	}
	return page, nil
}

// Head is where an organization's log stands.
type Head struct {
	Seq   int64
	Epoch string
}

// Heads returns the heads of many logs with one query. Organizations that do
// not exist are absent.
func (s *Store) Heads(ctx context.Context, organizationIDs []int64) (map[int64]Head, error) {
	var rows []struct {
		OrganizationID, Seq int64
		Epoch               string
	}
	if len(organizationIDs) == 0 {
		return map[int64]Head{}, nil
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

// PruneEvents deletes an organization's events that are older than before, in
// steps that hold no lock for long, and returns how many went. The log's
// oldest seq moves first, so that a reader never takes a hole for the log.
func (s *Store) PruneEvents(ctx context.Context, organizationID int64, before domain.Time) (int64, error) {
	var last int64
	err := s.db.WithContext(ctx).
		Raw("SELECT COALESCE(MAX(seq), 0) FROM events WHERE organization_id = ? AND at < ?", organizationID, before).Scan(&last).Error
	if err != nil || last == 0 {
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
