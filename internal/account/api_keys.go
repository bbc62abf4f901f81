package account

import (
	"context"
	"encoding/hex"
	"fmt"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// CreateAPIKey makes a key that acts in the caller's name with the given role, and returns its secret, which cannot be
// had again. For admins. Codes: forbidden, invalid.
func (s *Service) CreateAPIKey(ctx context.Context, who domain.Principal, name string, role domain.Role) (key domain.APIKey, secret string, err error) {
	if err := mustBeAdmin(who); err != nil {
		return domain.APIKey{}, "", err
	}
	name, err = cleanName("name", name)
	if err != nil {
		return domain.APIKey{}, "", err
	}
	if err := checkRole(role); err != nil {
		return domain.APIKey{}, "", err
	}
	made := auth.NewAPIKey()
	hash, err := hex.DecodeString(made.Hash)
	if err != nil {
		return domain.APIKey{}, "", fmt.Errorf("hash of an API key: %w", err)
	}
	key, err = s.store.CreateAPIKey(ctx, store.NewAPIKey{
		OrganizationID: who.OrganizationID, UserID: who.UserID, Name: name, Role: role, Prefix: made.ID, Hash: hash,
	})
	return key, made.Key, err
}

// APIKeys lists the keys of the caller's organization with ids above after, at most limit, by id. For admins.
func (s *Service) APIKeys(ctx context.Context, who domain.Principal, after int64, limit int) ([]domain.APIKey, error) {
	if err := mustBeAdmin(who); err != nil {
		return nil, err
	}
	return s.store.APIKeys(ctx, who.OrganizationID, after, limit)
}

// DeleteAPIKey ends a key of the caller's organization, and its sockets. For admins. Codes: forbidden, not_found.
func (s *Service) DeleteAPIKey(ctx context.Context, who domain.Principal, id int64) error {
	if err := mustBeAdmin(who); err != nil {
		return err
	}
	if err := s.store.DeleteAPIKey(ctx, who.OrganizationID, id); err != nil {
		return orNotFound(err, "API key")
	}
	s.disconnecter.DisconnectAPIKey(id)
	return nil
}
