package account

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// touchEvery is how exact the time of a key's last use is: a write for every request would be too much.
const touchEvery = time.Minute

// Authenticate finds out who calls with an access token or an API key, and asks the database, with one query by a unique
// key, whether user and session or key still stand. Roles are those of this moment, not those of the token. Code:
// unauthenticated, wrapping auth.ErrTokenExpired or auth.ErrTokenInvalid.
func (s *Service) Authenticate(ctx context.Context, bearer string) (domain.Principal, error) {
	if auth.IsAPIKey(bearer) {
		return s.authenticateKey(ctx, bearer)
	}
	who, err := s.tokens.Verify(bearer)
	if err != nil {
		return domain.Principal{}, err
	}
	user, err := s.store.SessionUser(ctx, who.SessionID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return domain.Principal{}, revoked()
	case err != nil:
		return domain.Principal{}, err
	case !isOf(who, user):
		return domain.Principal{}, revoked()
	}
	who.Role = user.Role
	return who, nil
}

func (s *Service) authenticateKey(ctx context.Context, bearer string) (domain.Principal, error) {
	key, err := auth.ParseAPIKey(bearer)
	if err != nil {
		return domain.Principal{}, err
	}
	hash, err := hex.DecodeString(key.Hash)
	if err != nil {
		return domain.Principal{}, fmt.Errorf("hash of an API key: %w", err)
	}
	owner, err := s.store.APIKeyOwner(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		return domain.Principal{}, domain.NewError(domain.CodeUnauthenticated,
			"The API key is not valid: it is mistyped or deleted, or its user is inactive.").WithCause(auth.ErrTokenInvalid)
	}
	if err != nil {
		return domain.Principal{}, err
	}
	s.touch(ctx, owner)
	return domain.Principal{
		UserID: owner.User.ID, OrganizationID: owner.User.OrganizationID, Role: roleOf(owner), APIKeyID: owner.KeyID,
	}, nil
}

// touch notes that a key is in use. It is a courtesy: a failure is no reason to refuse the caller.
func (s *Service) touch(ctx context.Context, owner store.KeyOwner) {
	notAfter := domain.At(s.now().Add(-touchEvery))
	if owner.LastUsedAt != nil && *owner.LastUsedAt >= notAfter {
		return
	}
	if err := s.store.TouchAPIKey(ctx, owner.KeyID, notAfter); err != nil {
		s.logger.LogAttrs(ctx, slog.LevelWarn, "the time of an API key's use was not noted",
			slog.Int64("key_id", owner.KeyID), slog.Any("error", err))
	}
}

// roleOf is the lower of the key's and the user's role.
func roleOf(owner store.KeyOwner) domain.Role {
	if owner.User.Role == domain.RoleAdmin {
		return owner.Role
	}
	return owner.User.Role
}

func isOf(who domain.Principal, user domain.User) bool {
	return who.UserID == user.ID && who.OrganizationID == user.OrganizationID
}

func revoked() error {
	return domain.NewError(domain.CodeUnauthenticated, "The session has ended. Sign in again.").WithCause(auth.ErrTokenInvalid)
}

// StillValid asks after many callers at once, with one query for sessions and one for keys (per 10,000 of them), and
// returns those whose rights have ended or changed: revoked, deleted, inactive, another role, expired. The order is kept.
// With an error nothing is known of any.
func (s *Service) StillValid(ctx context.Context, principals []domain.Principal) (ended []domain.Principal, err error) {
	sessionSet, keySet := map[string]struct{}{}, map[int64]struct{}{}
	for _, p := range principals {
		if p.APIKeyID != 0 {
			keySet[p.APIKeyID] = struct{}{}
		} else {
			sessionSet[p.SessionID] = struct{}{}
		}
	}
	users, err := s.store.SessionUsers(ctx, keysOf(sessionSet))
	if err != nil {
		return nil, err
	}
	owners, err := s.store.APIKeyOwners(ctx, keysOf(keySet))
	if err != nil {
		return nil, err
	}
	now := s.now()
	for _, p := range principals {
		user, found := users[p.SessionID]
		role := user.Role
		if p.APIKeyID != 0 {
			var owner store.KeyOwner
			owner, found = owners[p.APIKeyID]
			user, role = owner.User, roleOf(owner)
		}
		expired := !p.ExpiresAt.IsZero() && !now.Before(p.ExpiresAt)
		if !found || !isOf(p, user) || role != p.Role || expired {
			ended = append(ended, p)
		}
	}
	return ended, nil
}

func keysOf[K comparable](set map[K]struct{}) []K {
	keys := make([]K, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	return keys
}
