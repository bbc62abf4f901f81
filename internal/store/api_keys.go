package store

import (
	"context"
	"fmt"

	"switchboard/internal/domain"
)

type apiKeyRow struct {
	ID             int64 `gorm:"primaryKey"`
	OrganizationID int64
	UserID         int64
	Name           string
	Role           domain.Role
	Prefix         string
	KeyHash        []byte
	LastUsedAt     *domain.Time
	CreatedAt      domain.Time `gorm:"autoCreateTime:false"`
}

func (apiKeyRow) TableName() string { return "api_keys" }

func (r apiKeyRow) key() domain.APIKey {
	return domain.APIKey{
		ID: r.ID, Name: r.Name, Role: r.Role, Prefix: r.Prefix, UserID: r.UserID, LastUsedAt: r.LastUsedAt, CreatedAt: r.CreatedAt,
	}
}

// NewAPIKey is an API key to be created.
type NewAPIKey struct {
	OrganizationID int64
	UserID         int64 // in whose name it acts
	Name           string
	Role           domain.Role
	Prefix         string // what may be shown of it
	Hash           []byte
}

// CreateAPIKey makes a key for a user of the organization.
func (s *Store) CreateAPIKey(ctx context.Context, k NewAPIKey) (domain.APIKey, error) {
	row := apiKeyRow{
		OrganizationID: k.OrganizationID, UserID: k.UserID, Name: k.Name, Role: k.Role, Prefix: k.Prefix, KeyHash: k.Hash, CreatedAt: s.Now(),
	}
	if err := s.db.WithContext(ctx).Create(&row).Error; err != nil {
		return domain.APIKey{}, fmt.Errorf("create API key: %w", err)
	}
	return row.key(), nil
}

// APIKeys lists an organization's keys with ids above after, at most limit, by id.
func (s *Store) APIKeys(ctx context.Context, organizationID, after int64, limit int) ([]domain.APIKey, error) {
	var rows []apiKeyRow
	err := s.db.WithContext(ctx).Where("organization_id = ? AND id > ?", organizationID, after).
		Order("id").Limit(limit).Find(&rows).Error
	keys := make([]domain.APIKey, len(rows))
	for i, r := range rows {
		keys[i] = r.key()
	}
	return keys, err
}

// DeleteAPIKey ends a key of an organization, or returns ErrNotFound.
func (s *Store) DeleteAPIKey(ctx context.Context, organizationID, keyID int64) error {
	result := s.db.WithContext(ctx).Exec("DELETE FROM api_keys WHERE organization_id = ? AND id = ?", organizationID, keyID)
	if result.Error == nil && result.RowsAffected == 0 {
		return ErrNotFound
	}
	return result.Error
}

// KeyOwner is a key together with the active user in whose name it acts.
type KeyOwner struct {
	KeyID      int64
	Role       domain.Role // of the key; the user's may be lower by now
	LastUsedAt *domain.Time
	User       domain.User
}

type keyOwnerRow struct {
	KeyID      int64
	KeyRole    domain.Role
	LastUsedAt *domain.Time
	User       userColumns `gorm:"embedded"`
}

func (r keyOwnerRow) owner() KeyOwner {
	return KeyOwner{KeyID: r.KeyID, Role: r.KeyRole, LastUsedAt: r.LastUsedAt, User: r.User.user()}
}

const keyOwnerQuery = "SELECT k.id AS key_id, k.role AS key_role, k.last_used_at, " + userColumnList +
	" FROM api_keys k JOIN users u ON u.id = k.user_id AND u.organization_id = k.organization_id WHERE u.active AND "

// APIKeyOwner finds whose key has the hash, or ErrNotFound.
func (s *Store) APIKeyOwner(ctx context.Context, hash []byte) (KeyOwner, error) {
	var rows []keyOwnerRow
	if err := s.db.WithContext(ctx).Raw(keyOwnerQuery+"k.key_hash = ?", hash).Scan(&rows).Error; err != nil {
		return KeyOwner{}, err
	}
	if len(rows) == 0 {
		return KeyOwner{}, ErrNotFound
	}
	return rows[0].owner(), nil
}

// APIKeyOwners returns those of the keys that stand, in one query per 10,000.
func (s *Store) APIKeyOwners(ctx context.Context, keyIDs []int64) (map[int64]KeyOwner, error) {
	owners := make(map[int64]KeyOwner, len(keyIDs))
	for len(keyIDs) > 0 {
		chunk := keyIDs[:min(len(keyIDs), maxParameters)]
		keyIDs = keyIDs[len(chunk):]
		var rows []keyOwnerRow
		if err := s.db.WithContext(ctx).Raw(keyOwnerQuery+"k.id IN ?", chunk).Scan(&rows).Error; err != nil {
			return nil, err
		}
		for _, r := range rows {
			owners[r.KeyID] = r.owner()
		}
	}
	return owners, nil
}

// TouchAPIKey notes that a key was used, unless that was noted after notAfter.
func (s *Store) TouchAPIKey(ctx context.Context, keyID int64, notAfter domain.Time) error {
	return s.db.WithContext(ctx).Exec("UPDATE api_keys SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)",
		s.Now(), keyID, notAfter).Error
}
