package store

import (
	"context"
	"fmt"
	"strconv"

	"switchboard/internal/domain"
)

// NewFile is an uploaded file whose bytes are stored already.
type NewFile struct {
	MIME, Filename, SHA256 string
	Size                   int64
	Width, Height          int
	BlobKey                string
	CreatedBy              int64
}

// InsertFile adds the row of an uploaded file.
func (s *Store) InsertFile(ctx context.Context, organizationID int64, f NewFile) (domain.Media, error) {
	media := domain.Media{MIME: f.MIME, Size: f.Size, Filename: f.Filename, Width: f.Width, Height: f.Height, State: domain.MediaReady}
	var by *int64
	if f.CreatedBy != 0 {
		by = &f.CreatedBy
	}
	err := s.db.WithContext(ctx).Raw(`INSERT INTO media (organization_id, mime, size, filename, width, height, sha256, state, blob_key, created_by, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, 'ready', ?, ?, ?) RETURNING id`,
		organizationID, f.MIME, f.Size, f.Filename, f.Width, f.Height, f.SHA256, f.BlobKey, by, s.Now()).Scan(&media.ID).Error
	if err != nil {
		return media, fmt.Errorf("insert media: %w", err)
	}
	return media, nil
}

// MediaFile returns a file of an organization and the key of its bytes, which is empty while they are not there. A file that is
// not the organization's, or whose chat was deleted, is domain.NotFound.
func (s *Store) MediaFile(ctx context.Context, organizationID, id int64) (domain.Media, string, error) {
	var row mediaRow
	err := s.db.WithContext(ctx).Raw("SELECT * FROM media WHERE id = ? AND organization_id = ? AND state <> 'deleted'", id, organizationID).Scan(&row).Error
	if err != nil {
		return domain.Media{}, "", fmt.Errorf("read media %d: %w", id, err)
	}
	if row.ID == 0 {
		return domain.Media{}, "", domain.NotFound("media")
	}
	return *row.media(), row.BlobKey, nil
}

// DeletedFile is a file whose chat was deleted and whose bytes may still be there.
type DeletedFile struct {
	ID      int64
	BlobKey string // empty: there are none
}

// DeletedMedia lists files that wait for the removal of their bytes, of all organizations.
func (s *Store) DeletedMedia(ctx context.Context, limit int) ([]DeletedFile, error) {
	var files []DeletedFile
	err := s.db.WithContext(ctx).Raw("SELECT id, blob_key FROM media WHERE state = 'deleted' ORDER BY id LIMIT " + strconv.Itoa(max(limit, 1))).Scan(&files).Error
	if err != nil {
		return nil, fmt.Errorf("list deleted media: %w", err)
	}
	return files, nil
}

// ForgetMedia removes the rows of deleted files.
func (s *Store) ForgetMedia(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	if err := s.db.WithContext(ctx).Exec("DELETE FROM media WHERE state = 'deleted' AND id IN ?", ids).Error; err != nil {
		return fmt.Errorf("forget deleted media: %w", err)
	}
	return nil
}
