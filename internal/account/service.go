package account

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// RefreshGrace is how long after its first use a refresh token may be used again.
const RefreshGrace = 10 * time.Second

// keepRevoked is how long the row of a revoked session stays.
const keepRevoked = 24 * time.Hour

// Disconnecter closes the sockets, on every node, that were opened with rights that have ended. It is called after the
// commit, must not block, and may fail silently: whoever holds sockets asks StillValid as well.
type Disconnecter interface {
	DisconnectUser(userID int64)
	DisconnectSession(sessionID string)
	DisconnectAPIKey(keyID int64)
}

// Results of a login, as CountLogin gets them.
const (
	LoginOK        = "ok"
	LoginDenied    = "denied"
	LoginThrottled = "throttled"
)

// Options are what a Service is made from. Those without a remark are required.
type Options struct {
	Store     *store.Store
	Tokens    *auth.Tokens
	Passwords *auth.Passwords
	Throttle  *auth.Throttle
	Logger    *slog.Logger

	Disconnecter     Disconnecter        // optional
	CountLogin       func(result string) // optional; gets one of the Login… constants
	RegistrationOpen bool                // whether anyone may create an organization, or only the first one
	RefreshTTL       time.Duration       // how long a session lives without being used; 0: 30 days
	Now              func() time.Time    // optional: the clock
}

// Service is the accounts. It is safe for concurrent use.
type Service struct {
	store        *store.Store
	tokens       *auth.Tokens
	passwords    *auth.Passwords
	throttle     *auth.Throttle
	logger       *slog.Logger
	disconnecter Disconnecter
	countLogin   func(string)
	open         bool
	refreshTTL   time.Duration
	now          func() time.Time
}

// New makes a Service.
func New(o Options) *Service {
	s := &Service{
		store: o.Store, tokens: o.Tokens, passwords: o.Passwords, throttle: o.Throttle, logger: o.Logger,
		disconnecter: o.Disconnecter, countLogin: o.CountLogin, open: o.RegistrationOpen, refreshTTL: o.RefreshTTL, now: o.Now,
	}
	if s.disconnecter == nil {
		s.disconnecter = nobody{}
	}
	if s.countLogin == nil {
		s.countLogin = func(string) {}
	}
	if s.refreshTTL == 0 {
		s.refreshTTL = 30 * 24 * time.Hour
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// nobody is the Disconnecter of a process without sockets.
type nobody struct{}

func (nobody) DisconnectUser(int64)     {}
func (nobody) DisconnectSession(string) {}
func (nobody) DisconnectAPIKey(int64)   {}

// Prune deletes sessions that have ended. Call it now and then, from one process or from many.
func (s *Service) Prune(ctx context.Context) error {
	deleted, err := s.store.PruneSessions(ctx, domain.At(s.now().Add(-keepRevoked)))
	if err == nil && deleted > 0 {
		s.logger.LogAttrs(ctx, slog.LevelInfo, "deleted ended sessions", slog.Int64("sessions", deleted))
	}
	return err
}

// Organization returns the caller's organization.
func (s *Service) Organization(ctx context.Context, who domain.Principal) (domain.Organization, error) {
	organization, err := s.store.Organization(ctx, who.OrganizationID)
	return organization, orNotFound(err, "organization")
}

// orNotFound makes the store's ErrNotFound into an error for the user.
func orNotFound(err error, what string) error {
	if errors.Is(err, store.ErrNotFound) {
		return domain.NotFound(what)
	}
	return err
}

// mustBeAdmin guards what only admins may do, whatever a transport has checked already.
func mustBeAdmin(who domain.Principal) error {
	if !who.IsAdmin() {
		return domain.NewError(domain.CodeForbidden, "Only an admin of your organization may do this.")
	}
	return nil
}
