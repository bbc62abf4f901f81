package account

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// Me returns the calling user.
func (s *Service) Me(ctx context.Context, who domain.Principal) (domain.User, error) {
	return s.User(ctx, who, who.UserID)
}

// User returns one user of the caller's organization.
func (s *Service) User(ctx context.Context, who domain.Principal, id int64) (domain.User, error) {
	user, err := s.store.User(ctx, who.OrganizationID, id)
	return user, orNotFound(err, "user")
}

// Users lists the users of the caller's organization with ids above after, at most limit, by id. Every operator may see
// the colleagues: chats are assigned to them.
func (s *Service) Users(ctx context.Context, who domain.Principal, after int64, limit int) ([]domain.User, error) {
	return s.store.Users(ctx, who.OrganizationID, after, limit)
}

// NewUser is what an admin says of a new user.
type NewUser struct {
	Name     string
	Email    string
	Password string
	Role     domain.Role
}

// CreateUser adds a user to the caller's organization. For admins. Codes: forbidden, invalid, conflict (e-mail in use).
func (s *Service) CreateUser(ctx context.Context, who domain.Principal, n NewUser) (domain.User, error) {
	if err := mustBeAdmin(who); err != nil {
		return domain.User{}, err
	}
	name, err := cleanName("name", n.Name)
	if err != nil {
		return domain.User{}, err
	}
	email, err := cleanEmail(n.Email)
	if err != nil {
		return domain.User{}, err
	}
	if err := checkRole(n.Role); err != nil {
		return domain.User{}, err
	}
	hash, err := s.passwords.Hash(ctx, n.Password)
	if err != nil {
		return domain.User{}, err
	}
	user, err := s.store.CreateUser(ctx, store.NewUser{
		OrganizationID: who.OrganizationID, Name: name, Email: email, PasswordHash: hash, Role: n.Role,
	})
	if errors.Is(err, store.ErrEmailTaken) {
		return domain.User{}, emailTaken()
	}
	return user, err
}

// UserChange is what an admin changes about a user; nil leaves a thing as it is.
type UserChange struct {
	Name     *string
	Role     *domain.Role
	Active   *bool
	Password *string
}

// UpdateUser changes a user of the caller's organization. For admins. A change of role, activity or password ends the
// user's sessions and sockets. Codes: forbidden, invalid, not_found, conflict (the last active admin).
func (s *Service) UpdateUser(ctx context.Context, who domain.Principal, id int64, c UserChange) (domain.User, error) {
	if err := mustBeAdmin(who); err != nil {
		return domain.User{}, err
	}
	if c.Role != nil {
		if err := checkRole(*c.Role); err != nil {
			return domain.User{}, err
		}
	}
	change := store.UserChange{Role: c.Role, Active: c.Active}
	// Before any hash is computed: an id that is not there must not cost what one of ours does.
	if _, err := s.User(ctx, who, id); err != nil {
		return domain.User{}, err
	}
	if err := s.prepare(ctx, &change, c.Name, c.Password); err != nil {
		return domain.User{}, err
	}
	return s.change(ctx, who, id, change)
}

// prepare checks and fills in what admins and users themselves may change.
func (s *Service) prepare(ctx context.Context, change *store.UserChange, name, password *string) error {
	if name != nil {
		clean, err := cleanName("name", *name)
		if err != nil {
			return err
		}
		change.Name = &clean
	}
	if password != nil {
		hash, err := s.passwords.Hash(ctx, *password)
		if err != nil {
			return err
		}
		change.PasswordHash = &hash
	}
	return nil
}

func (s *Service) change(ctx context.Context, who domain.Principal, id int64, change store.UserChange) (domain.User, error) {
	changed, err := s.store.UpdateUser(ctx, who.OrganizationID, id, change)
	switch {
	case errors.Is(err, store.ErrLastAdmin):
		return domain.User{}, domain.NewError(domain.CodeConflict, "This is the last active admin. Make another user an admin first.")
	case err != nil:
		return domain.User{}, orNotFound(err, "user")
	}
	if changed.AccessChanged {
		s.disconnecter.DisconnectUser(id)
	}
	for _, session := range changed.Revoked {
		s.disconnecter.DisconnectSession(session)
	}
	if changed.AccessChanged || len(changed.Revoked) > 0 {
		s.logger.LogAttrs(ctx, slog.LevelInfo, "sessions of a user ended by a change of role, activity or password",
			slog.Int64("organization_id", who.OrganizationID), slog.Int64("user_id", id), slog.Int64("by_user_id", who.UserID),
			slog.Int("sessions", len(changed.Revoked)))
	}
	return changed.User, nil
}

// DeactivateUser takes a user's access away; what the user wrote stays. Doing it again changes nothing. Codes as of
// UpdateUser.
func (s *Service) DeactivateUser(ctx context.Context, who domain.Principal, id int64) error {
	inactive := false
	_, err := s.UpdateUser(ctx, who, id, UserChange{Active: &inactive})
	return err
}

// MeChange is what users change about themselves; nil leaves a thing as it is.
type MeChange struct {
	Name            *string
	Password        *string
	CurrentPassword *string // needed for a new password
}

// UpdateMe changes the calling user. A new password ends all sessions but the caller's own. Guessing the current password
// is throttled like logins. Codes: invalid, rate_limited.
func (s *Service) UpdateMe(ctx context.Context, who domain.Principal, c MeChange, from netip.Addr) (domain.User, error) {
	change := store.UserChange{KeepSession: who.SessionID}
	if c.Password != nil {
		if err := checkPassword("password", *c.Password); err != nil {
			return domain.User{}, err
		}
		if err := s.proveCurrent(ctx, who, c.CurrentPassword, from); err != nil {
			return domain.User{}, err
		}
	}
	if err := s.prepare(ctx, &change, c.Name, c.Password); err != nil {
		return domain.User{}, err
	}
	return s.change(ctx, who, who.UserID, change)
}

// proveCurrent checks that the caller knows the password, so that an open screen is not enough to take an account over.
func (s *Service) proveCurrent(ctx context.Context, who domain.Principal, current *string, from netip.Addr) error {
	if current == nil {
		return domain.Invalid("currentPassword", "The current password is needed to set a new one.")
	}
	credentials, err := s.store.CredentialsOf(ctx, who.OrganizationID, who.UserID)
	if err != nil {
		return orNotFound(err, "user")
	}
	attempt, err := s.throttle.Allow(ctx, credentials.User.Email, from)
	if err != nil {
		return err
	}
	ok, _, err := s.passwords.Verify(ctx, credentials.PasswordHash, *current)
	if err != nil {
		return err
	}
	if !ok {
		return domain.Invalid("currentPassword", "The current password is wrong.")
	}
	attempt.Succeeded(ctx)
	return nil
}
