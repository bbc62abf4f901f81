package account

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// SignedIn is what a client keeps to stay signed in.
type SignedIn struct {
	AccessToken  string
	RefreshToken string
	ExpiresIn    time.Duration // life of the access token
	User         domain.User
}

// Registration is what a new organization needs.
type Registration struct {
	OrganizationName string
	Name             string // of the admin
	Email            string
	Password         string
}

// Register creates an organization with its admin and signs the admin in. Unless registration is open, it works only as
// long as there is no organization; of several at the same moment one succeeds. Codes: registration_closed, invalid,
// conflict (the e-mail address is in use).
func (s *Service) Register(ctx context.Context, r Registration) (SignedIn, error) {
	// Before the costly part; what counts is the check within the transaction.
	if err := s.registrationAllowed(ctx); err != nil {
		return SignedIn{}, err
	}
	organizationName, err := cleanName("organizationName", r.OrganizationName)
	if err != nil {
		return SignedIn{}, err
	}
	name, err := cleanName("name", r.Name)
	if err != nil {
		return SignedIn{}, err
	}
	email, err := cleanEmail(r.Email)
	if err != nil {
		return SignedIn{}, err
	}
	hash, err := s.passwords.Hash(ctx, r.Password)
	if err != nil {
		return SignedIn{}, err
	}
	user, err := s.store.CreateOrganization(ctx, store.Registration{
		OrganizationName: organizationName, UserName: name, Email: email, PasswordHash: hash,
	}, !s.open)
	switch {
	case errors.Is(err, store.ErrOrganizationExists):
		return SignedIn{}, registrationClosed()
	case errors.Is(err, store.ErrEmailTaken):
		return SignedIn{}, emailTaken()
	case err != nil:
		return SignedIn{}, err
	}
	s.logger.LogAttrs(ctx, slog.LevelInfo, "organization registered",
		slog.Int64("organization_id", user.OrganizationID), slog.Int64("user_id", user.ID))
	return s.begin(ctx, user, hash)
}

// RegistrationOpen reports whether Register would take a new organization now.
func (s *Service) RegistrationOpen(ctx context.Context) (bool, error) {
	err := s.registrationAllowed(ctx)
	if domain.CodeOf(err) == domain.CodeRegistration {
		return false, nil
	}
	return err == nil, err
}

func (s *Service) registrationAllowed(ctx context.Context) error {
	if s.open {
		return nil
	}
	exists, err := s.store.HasOrganizations(ctx)
	if err == nil && exists {
		err = registrationClosed()
	}
	return err
}

func registrationClosed() error {
	return domain.NewError(domain.CodeRegistration,
		"Registration is closed. Ask an admin of your organization for an account, or the operator of this server to set REGISTRATION=open.")
}

// Login signs a user in from an address. An unknown address, an inactive user and a wrong password look the same and cost
// the same. Codes: unauthenticated, rate_limited (with an *auth.ThrottledError inside), unavailable.
func (s *Service) Login(ctx context.Context, email, password string, from netip.Addr) (SignedIn, error) {
	attempt, err := s.throttle.Allow(ctx, email, from)
	if err != nil {
		if domain.CodeOf(err) == domain.CodeRateLimited {
			s.countLogin(LoginThrottled)
		}
		return SignedIn{}, err
	}
	signedIn, err := s.checkAndBegin(ctx, email, password)
	if errors.Is(err, store.ErrNotFound) {
		// The password was changed, or its hash made anew by another sign-in, between the check and the session.
		signedIn, err = s.checkAndBegin(ctx, email, password)
	}
	switch {
	case errors.Is(err, errDenied) || errors.Is(err, store.ErrNotFound):
		s.countLogin(LoginDenied)
		return SignedIn{}, domain.NewError(domain.CodeUnauthenticated, "E-mail address or password is wrong.")
	case err != nil:
		return SignedIn{}, err
	}
	attempt.Succeeded(ctx)
	s.countLogin(LoginOK)
	return signedIn, nil
}

var errDenied = errors.New("unknown e-mail address, inactive user or wrong password")

// checkAndBegin returns errDenied, or store.ErrNotFound if what it checked holds no more.
func (s *Service) checkAndBegin(ctx context.Context, email, password string) (SignedIn, error) {
	credentials := store.Credentials{}
	if clean, invalid := cleanEmail(email); invalid == nil {
		var err error
		credentials, err = s.store.CredentialsByEmail(ctx, clean)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return SignedIn{}, err
		}
	}
	ok, outdated, err := s.passwords.Verify(ctx, credentials.PasswordHash, password)
	if err != nil {
		return SignedIn{}, err
	}
	if !ok || !credentials.User.Active {
		return SignedIn{}, errDenied
	}
	if outdated {
		credentials.PasswordHash = s.rehash(ctx, credentials, password)
	}
	return s.begin(ctx, credentials.User, credentials.PasswordHash)
}

// rehash stores the password's hash with today's costs and returns the hash that is stored then.
func (s *Service) rehash(ctx context.Context, c store.Credentials, password string) string {
	hash, err := s.passwords.Hash(ctx, password)
	if err == nil {
		err = s.store.ReplacePasswordHash(ctx, c.User.ID, c.PasswordHash, hash)
	}
	if err != nil {
		s.logger.LogAttrs(ctx, slog.LevelWarn, "an outdated password hash stays as it is",
			slog.Int64("user_id", c.User.ID), slog.Any("error", err))
		return c.PasswordHash
	}
	return hash
}

// begin starts a session for a user who has proven the password behind hash, or returns store.ErrNotFound if that is no
// longer the user's.
func (s *Service) begin(ctx context.Context, user domain.User, hash string) (SignedIn, error) {
	refresh := auth.NewRefreshToken("")
	stored, err := s.stored(refresh)
	if err != nil {
		return SignedIn{}, err
	}
	if err := s.store.CreateSession(ctx, user.ID, hash, stored); err != nil {
		return SignedIn{}, err
	}
	return s.signedIn(user, refresh)
}

// Refresh exchanges a refresh token for a fresh pair. A token that was replaced before ends its session, but see the
// package comment for the first seconds. Code: unauthenticated.
func (s *Service) Refresh(ctx context.Context, token string) (SignedIn, error) {
	presented, err := auth.ParseRefreshToken(token)
	if err != nil {
		return SignedIn{}, err
	}
	hash, err := hex.DecodeString(presented.Hash)
	if err != nil {
		return SignedIn{}, fmt.Errorf("hash of a refresh token: %w", err)
	}
	next := auth.NewRefreshToken(presented.Family)
	stored, err := s.stored(next)
	if err != nil {
		return SignedIn{}, err
	}
	user, err := s.store.RotateRefreshToken(ctx, hash, stored, RefreshGrace)
	switch {
	case errors.Is(err, store.ErrTokenReused):
		s.logger.LogAttrs(ctx, slog.LevelWarn, "session revoked, because a refresh token was used twice",
			slog.Int64("organization_id", user.OrganizationID), slog.Int64("user_id", user.ID))
		s.disconnecter.DisconnectSession(presented.Family)
		return SignedIn{}, sessionEnded(err)
	case errors.Is(err, store.ErrNotFound):
		return SignedIn{}, sessionEnded(err)
	case err != nil:
		return SignedIn{}, err
	}
	return s.signedIn(user, next)
}

func sessionEnded(cause error) error {
	return domain.NewError(domain.CodeUnauthenticated, "The session has ended. Sign in again.").WithCause(cause)
}

func (s *Service) stored(token auth.RefreshToken) (store.RefreshToken, error) {
	hash, err := hex.DecodeString(token.Hash)
	if err != nil {
		return store.RefreshToken{}, fmt.Errorf("hash of a refresh token: %w", err)
	}
	return store.RefreshToken{SessionID: token.Family, Hash: hash, ExpiresAt: domain.At(s.now().Add(s.refreshTTL))}, nil
}

func (s *Service) signedIn(user domain.User, refresh auth.RefreshToken) (SignedIn, error) {
	access, expiresAt, err := s.tokens.Issue(domain.Principal{
		UserID: user.ID, OrganizationID: user.OrganizationID, Role: user.Role, SessionID: refresh.Family,
	})
	if err != nil {
		return SignedIn{}, err
	}
	return SignedIn{AccessToken: access, RefreshToken: refresh.Token, ExpiresIn: expiresAt.Sub(s.now()), User: user}, nil
}

// Logout ends the caller's session: its tokens and its sockets.
func (s *Service) Logout(ctx context.Context, who domain.Principal) error {
	if who.SessionID == "" {
		return domain.NewError(domain.CodeConflict, "An API key has no session to end. Delete the key instead.")
	}
	if err := s.store.RevokeSession(ctx, who.UserID, who.SessionID); err != nil {
		return err
	}
	s.disconnecter.DisconnectSession(who.SessionID)
	return nil
}
