package httpapi

import (
	"context"
	"net/http"

	"switchboard/internal/account"
	"switchboard/internal/domain"
)

func (s *Server) authRoutes() {
	public(s, route{
		method: http.MethodPost, path: "/api/auth/register", id: "register", tag: tagAuth, summary: "Create an organization",
		description: "Creates an organization and its first admin, and signs the admin in. Unless the server runs with " +
			"`REGISTRATION=open`, this works once: afterwards the answer is 403 with code `registration_closed`.",
		status: http.StatusCreated, errors: []int{http.StatusForbidden, http.StatusConflict},
	}, s.register)
	public(s, route{
		method: http.MethodGet, path: "/api/auth/register", id: "getRegistration", tag: tagAuth,
		summary: "Whether an organization can be created", description: "What a sign-in page has to know.",
	}, s.registration)
	public(s, route{
		method: http.MethodPost, path: "/api/auth/login", id: "login", tag: tagAuth, summary: "Sign in",
		description: "An unknown address, an inactive user and a wrong password get the same answer. Too many attempts get 429.",
		errors:      []int{http.StatusUnauthorized, http.StatusTooManyRequests},
	}, s.login)
	public(s, route{
		method: http.MethodPost, path: "/api/auth/refresh", id: "refresh", tag: tagAuth, summary: "Stay signed in",
		description: "Exchanges a refresh token for a fresh pair. Each refresh token is good for one use. Using one again " +
			"later than 10 seconds after that ends the session, because somebody else may have it; until then (two tabs at " +
			"once, a lost answer) it gets another fresh pair.",
		errors: []int{http.StatusUnauthorized},
	}, s.refresh)
	operator(s, route{
		method: http.MethodPost, path: "/api/auth/logout", id: "logout", tag: tagAuth, summary: "Sign out",
		description: "Ends this session: its access token, its refresh tokens, its sockets. An API key has none: 409.",
		errors:      []int{http.StatusConflict},
	}, s.logout)

	operator(s, route{method: http.MethodGet, path: "/api/me", id: "getMe", tag: tagAccount, summary: "Who is calling"}, s.getMe)
	operator(s, route{
		method: http.MethodPatch, path: "/api/me", id: "updateMe", tag: tagAccount, summary: "Change one's own name or password",
		description: "A new password needs the current one, and ends all other sessions of the user.",
		errors:      []int{http.StatusTooManyRequests},
	}, s.updateMe)
	operator(s, route{
		method: http.MethodGet, path: "/api/organization", id: "getOrganization", tag: tagAccount, summary: "The caller's organization",
	}, s.getOrganization)
}

// Session is what a client needs to stay signed in.
type Session struct {
	AccessToken  string      `json:"accessToken" doc:"Send it as Authorization: Bearer, and as auth.token of Socket.IO." example:"eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.…"`
	RefreshToken string      `json:"refreshToken" doc:"For one call of refresh." example:"sbr_…"`
	ExpiresIn    int64       `json:"expiresIn" doc:"Seconds until the access token expires." example:"900"`
	User         SessionUser `json:"user"`
}

// SessionUser is who is signed in.
type SessionUser struct {
	ID             int64       `json:"id" example:"7"`
	OrganizationID int64       `json:"organizationId" example:"3"`
	Name           string      `json:"name" example:"Ada Lovelace"`
	Email          string      `json:"email" format:"email" example:"ada@example.com"`
	Role           domain.Role `json:"role" example:"admin"`
}

func sessionOf(in account.SignedIn, err error) (*answer[Session], error) {
	u := in.User
	return answerOf(Session{
		AccessToken: in.AccessToken, RefreshToken: in.RefreshToken, ExpiresIn: int64(in.ExpiresIn.Seconds()),
		User: SessionUser{ID: u.ID, OrganizationID: u.OrganizationID, Name: u.Name, Email: u.Email, Role: u.Role},
	}, err)
}

type registerInput struct {
	Body struct {
		OrganizationName string `json:"organizationName" minLength:"1" maxLength:"200" example:"Analytical Engines Ltd"`
		Name             string `json:"name" minLength:"1" maxLength:"200" doc:"Of the admin." example:"Ada Lovelace"`
		Email            string `json:"email" maxLength:"254" doc:"Of the admin; unique on this server." example:"ada@example.com"`
		Password         string `json:"password" doc:"8 to 256 bytes." example:"correct horse battery staple"`
	} `nameHint:"Registration"`
}

func (s *Server) register(ctx context.Context, in *registerInput) (*answer[Session], error) {
	return sessionOf(s.options.Accounts.Register(ctx, account.Registration{
		OrganizationName: in.Body.OrganizationName, Name: in.Body.Name, Email: in.Body.Email, Password: in.Body.Password,
	}))
}

// RegistrationState says whether this server takes new organizations.
type RegistrationState struct {
	Open bool `json:"open" example:"false"`
}

func (s *Server) registration(ctx context.Context, _ *struct{}) (*answer[RegistrationState], error) {
	open, err := s.options.Accounts.RegistrationOpen(ctx)
	return answerOf(RegistrationState{Open: open}, err)
}

type loginInput struct {
	Body struct {
		Email    string `json:"email" maxLength:"1000" example:"ada@example.com"`
		Password string `json:"password" maxLength:"1000" example:"correct horse battery staple"`
	} `nameHint:"Login"`
}

func (s *Server) login(ctx context.Context, in *loginInput) (*answer[Session], error) {
	return sessionOf(s.options.Accounts.Login(ctx, in.Body.Email, in.Body.Password, clientIP(ctx)))
}

type refreshInput struct {
	Body struct {
		RefreshToken string `json:"refreshToken" maxLength:"1000" example:"sbr_…"`
	} `nameHint:"Refresh"`
}

func (s *Server) refresh(ctx context.Context, in *refreshInput) (*answer[Session], error) {
	return sessionOf(s.options.Accounts.Refresh(ctx, in.Body.RefreshToken))
}

func (s *Server) logout(ctx context.Context, who domain.Principal, _ *noInput) (*noContent, error) {
	return nil, s.options.Accounts.Logout(ctx, who)
}

func (s *Server) getMe(ctx context.Context, who domain.Principal, _ *noInput) (*answer[domain.User], error) {
	return answerOf(s.options.Accounts.Me(ctx, who))
}

type updateMeInput struct {
	Body struct {
		Name            *string `json:"name,omitempty" minLength:"1" maxLength:"200" example:"Ada King"`
		Password        *string `json:"password,omitempty" doc:"The new one, 8 to 256 bytes." example:"another horse battery staple"`
		CurrentPassword *string `json:"currentPassword,omitempty" maxLength:"1000" doc:"Needed with password." example:"correct horse battery staple"`
	} `nameHint:"MeChange"`
}

func (s *Server) updateMe(ctx context.Context, who domain.Principal, in *updateMeInput) (*answer[domain.User], error) {
	return answerOf(s.options.Accounts.UpdateMe(ctx, who, account.MeChange{
		Name: in.Body.Name, Password: in.Body.Password, CurrentPassword: in.Body.CurrentPassword,
	}, clientIP(ctx)))
}

func (s *Server) getOrganization(ctx context.Context, who domain.Principal, _ *noInput) (*answer[domain.Organization], error) {
	return answerOf(s.options.Accounts.Organization(ctx, who))
}
