package inbox

import (
	"context"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// AddFile adds an uploaded file whose bytes are stored. The caller is its author.
func (s *Service) AddFile(ctx context.Context, p domain.Principal, f store.NewFile) (domain.Media, error) {
	f.CreatedBy = p.UserID
	return s.store.InsertFile(ctx, p.OrganizationID, f)
}

// Media returns what is known of a file of the caller's organization.
func (s *Service) Media(ctx context.Context, p domain.Principal, id int64) (domain.Media, error) {
	file, _, err := s.store.MediaFile(ctx, p.OrganizationID, id)
	return file, err
}

// MediaFile returns a file of an organization, and under which key its bytes are.
func (s *Service) MediaFile(ctx context.Context, organizationID, id int64) (domain.Media, string, error) {
	return s.store.MediaFile(ctx, organizationID, id)
}
