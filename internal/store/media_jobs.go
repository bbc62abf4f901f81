package store

import (
	"context"
	"fmt"
	"slices"

	"switchboard/internal/domain"
)

// MediaJob is a file that a provider holds for us and that has to be fetched.
type MediaJob struct {
	ID        int64
	MessageID int64 // 0: it is a contact's picture
	ChatID    int64
	Ref       string // the provider's handle
	MIME      string // as the sender says
	Size      int64  // bytes, as the sender says; 0 where not told
	SHA256    string `gorm:"column:sha256"` // lower-case hex; empty where not told
	Attempts  int    // those before this one
	Imported  bool   // it came with a phone's history
}

// MediaSearch says which downloads are wanted.
type MediaSearch struct {
	ChannelID int64
	Limit     int
	Imported  int     // at most so many of the Limit are of a phone's history
	Busy      []int64 // these are passed over
}

// DueMedia returns downloads of a channel that are due, oldest first; those of a
// phone's history last.
func (s *Store) DueMedia(ctx context.Context, search MediaSearch) ([]MediaJob, error) {
	without := ""
	args := map[string]any{"channel": search.ChannelID, "now": s.Now(), "limit": search.Limit}
	if len(search.Busy) > 0 {
		without, args["busy"] = " AND f.id NOT IN @busy", search.Busy
	}
	if search.Imported <= 0 {
		without += " AND NOT f.imported"
	}
	var jobs []MediaJob
	err := s.db.WithContext(ctx).Raw(`SELECT f.id, COALESCE(m.id, 0) AS message_id, COALESCE(m.chat_id, 0) AS chat_id, f.provider_ref AS ref, f.mime, f.size, f.sha256, f.attempts, f.imported
		FROM media f LEFT JOIN messages m ON m.id = f.message_id
		WHERE f.channel_id = @channel AND f.state = 'pending' AND f.next_attempt_at <= @now AND (m.id IS NOT NULL OR f.contact_id IS NOT NULL)`+without+`
		ORDER BY f.imported, f.next_attempt_at, f.id LIMIT @limit`, args).Scan(&jobs).Error
	if err != nil {
		return nil, fmt.Errorf("look for due downloads: %w", err)
	}
	if first := slices.IndexFunc(jobs, func(j MediaJob) bool { return j.Imported }); first >= 0 && len(jobs) > first+search.Imported {
		jobs = jobs[:first+search.Imported]
	}
	return jobs, nil
}

// BeginMedia counts an attempt before it is made, and puts the next one off:
// should this one take the process down, it does not do so again at once.
// begun is false when the file is not pending any more.
func (tx *Tx) BeginMedia(id int64, next domain.Time) (begun bool, err error) {
	result := tx.db.Exec("UPDATE media SET attempts = attempts + 1, next_attempt_at = ? WHERE id = ? AND organization_id = ? AND state = 'pending'",
		next, id, tx.organizationID)
	return result.RowsAffected == 1, result.Error
}

// PostponeMedia sets when a download is tried again.
func (tx *Tx) PostponeMedia(id int64, next domain.Time) error {
	return tx.db.Exec("UPDATE media SET next_attempt_at = ? WHERE id = ? AND organization_id = ? AND state = 'pending'",
		next, id, tx.organizationID).Error
}

// FetchedMedia is what a download brought.
type FetchedMedia struct {
	ID            int64
	BlobKey       string
	MIME          string
	Size          int64 // bytes
	Width, Height int   // pixels; 0 where not known
	SHA256        string
}

// FinishMedia marks a file as ready. done is false when it is not pending any
// more (its chat was deleted): the blob belongs to nobody then.
func (tx *Tx) FinishMedia(f FetchedMedia) (done bool, err error) {
	result := tx.db.Exec(`UPDATE media SET state = 'ready', error = '', blob_key = ?, mime = ?, size = ?, sha256 = ?,
			width = CASE WHEN ? > 0 THEN ? ELSE width END, height = CASE WHEN ? > 0 THEN ? ELSE height END
		WHERE id = ? AND organization_id = ? AND state = 'pending'`,
		f.BlobKey, f.MIME, f.Size, f.SHA256, f.Width, f.Width, f.Height, f.Height, f.ID, tx.organizationID)
	return result.RowsAffected == 1, result.Error
}

// FailMedia marks a file as one that cannot be had, with a sentence that says
// why.
func (tx *Tx) FailMedia(id int64, reason string) (done bool, err error) {
	result := tx.db.Exec("UPDATE media SET state = 'failed', error = ? WHERE id = ? AND organization_id = ? AND state = 'pending'",
		reason, id, tx.organizationID)
	return result.RowsAffected == 1, result.Error
}
