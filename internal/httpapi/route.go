package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"switchboard/internal/domain"
)

const (
	// defaultTimeout bounds the work of a handler; waiting for the database included.
	defaultTimeout = 30 * time.Second
)

// route is what the base has to know about a route beside its types.
type route struct {
	method, path string // the path in OpenAPI's form: /api/chats/{id}
	id           string // operation id, camelCase: the name of the call in generated clients
	tag          string // heading in the documentation
	summary      string // a few words
	description  string // Markdown; what the summary does not say
	status       int    // of success; 0: 200, or 204 without a body
	errors       []int  // statuses to document beside those that follow from access, path and body
	maxBody      int64  // bytes; 0: Options.MaxBody
	timeout      time.Duration
}

// noContent is the output of a route that answers 204.
type noContent struct{}

// noInput is the input of a route that takes nothing.
type noInput struct{}

// answer is an output with a JSON body and the route's status.
type answer[T any] struct {
	Body T
}

// answerOf makes what a handler returns of what a use case returned.
func answerOf[T any](body T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{Body: body}, nil
}

// IDPath is the {id} of a path.
type IDPath struct {
	ID int64 `path:"id" minimum:"1" doc:"Its id." example:"42"`
}

// public registers a route that anyone may call.
func public[I, O any](s *Server, r route, handler func(context.Context, *I) (*O, error)) {
	register(s, r, nil, []map[string][]string{}, handler)
}

// operator registers a route for everyone who is signed in, whatever the role.
func operator[I, O any](s *Server, r route, handler func(context.Context, domain.Principal, *I) (*O, error)) {
	private(s, r, domain.RoleOperator, handler)
}

// admin registers a route for admins.
func admin[I, O any](s *Server, r route, handler func(context.Context, domain.Principal, *I) (*O, error)) {
	r.errors = append(r.errors, http.StatusForbidden)
	private(s, r, domain.RoleAdmin, handler)
}

func private[I, O any](s *Server, r route, role domain.Role, handler func(context.Context, domain.Principal, *I) (*O, error)) {
	r.errors = append(r.errors, http.StatusUnauthorized)
	security := []map[string][]string{{bearerScheme: {}}}
	register(s, r, huma.Middlewares{s.authenticate(role)}, security, func(ctx context.Context, in *I) (*O, error) {
		return handler(ctx, requestOf(ctx).principal, in)
	})
}

func register[I, O any](s *Server, r route, middlewares huma.Middlewares, security []map[string][]string, handler func(context.Context, *I) (*O, error)) {
	if strings.Contains(r.path, "{id}") {
		r.errors = append(r.errors, http.StatusNotFound)
	}
	if r.maxBody == 0 {
		r.maxBody = s.options.MaxBody
	}
	if r.timeout == 0 {
		r.timeout = defaultTimeout
	}
	huma.Register(s.api, huma.Operation{
		Method: r.method, Path: r.path, OperationID: r.id, Tags: []string{r.tag}, Summary: r.summary, Description: r.description,
		DefaultStatus: r.status, Errors: append(r.errors, http.StatusServiceUnavailable), Security: security, Middlewares: middlewares,
		MaxBodyBytes:    r.maxBody + 1, // huma refuses what reaches its limit; ours is the largest that is accepted
		BodyReadTimeout: s.options.ReadTimeout,
	}, func(ctx context.Context, in *I) (*O, error) {
		ctx, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		return handler(ctx, in)
	})
}

// authenticate is the middleware of private routes: it finds out who calls, before anything of the body is read.
func (s *Server) authenticate(role domain.Role) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		principal, err := s.authenticateHeader(c.Context(), c.Header("Authorization"))
		if err == nil && role == domain.RoleAdmin && !principal.IsAdmin() {
			err = domain.NewError(domain.CodeForbidden, "Only an admin of your organization may do this.")
		}
		if err != nil {
			s.refuse(c, err)
			return
		}
		requestOf(c.Context()).principal = principal
		next(c)
	}
}

func (s *Server) authenticateHeader(ctx context.Context, header string) (domain.Principal, error) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return domain.Principal{}, domain.NewError(domain.CodeUnauthenticated,
			"Sign in first: send the header Authorization: Bearer with an access token or an API key.")
	}
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	return s.options.Accounts.Authenticate(ctx, token)
}

// refuse answers a huma request with err.
func (s *Server) refuse(c huma.Context, err error) {
	_ = huma.WriteErr(s.api, c, http.StatusInternalServerError, "", err)
}
