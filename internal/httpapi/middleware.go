package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"switchboard/internal/domain"
)

// socketPattern is the route of Socket.IO, whose requests last as long as a connection.
const socketPattern = "/socket.io/*any"

// quietPatterns are asked for so often, by machines, that a line for each would hide the rest.
var quietPatterns = []string{socketPattern, "/healthz", "/readyz", "/metrics", ""}

// observe writes the access log and the metrics. The route's pattern stands for the path: neither ids nor queries, which
// may hold a token, get into them.
func (s *Server) observe(c *gin.Context) {
	began := time.Now()
	c.Next()
	took := time.Since(began)
	pattern, status := c.FullPath(), c.Writer.Status()
	if c.Request.Context().Err() != nil && !c.Writer.Written() {
		status = statusClientGone
	}
	if s.options.Metrics != nil && pattern != socketPattern {
		s.options.Metrics.ObserveHTTP(pattern, c.Request.Method, status, took)
	}
	level := slog.LevelInfo
	if slices.Contains(quietPatterns, pattern) && status < http.StatusInternalServerError {
		level = slog.LevelDebug
	}
	r := requestOf(c.Request.Context())
	attrs := []slog.Attr{
		slog.String("request_id", r.id), slog.String("method", c.Request.Method), slog.String("route", pattern),
		slog.Int("status", status), slog.Duration("took", took),
	}
	if r.principal.OrganizationID != 0 {
		attrs = append(attrs, slog.Int64("organization_id", r.principal.OrganizationID), slog.Int64("user_id", r.principal.UserID))
	}
	s.options.Logger.LogAttrs(c.Request.Context(), level, "http request", attrs...)
}

// recoverPanics turns a panic into a 500. One that aborts the connection on purpose goes on.
func (s *Server) recoverPanics(c *gin.Context) {
	defer func() {
		switch reason := recover(); reason {
		case nil:
		case http.ErrAbortHandler:
			panic(reason)
		default:
			s.options.Logger.LogAttrs(c.Request.Context(), slog.LevelError, "panic in a handler",
				slog.String("request_id", requestID(c.Request.Context())), slog.String("route", c.FullPath()),
				slog.String("panic", panicText(reason)), slog.String("stack", string(debug.Stack())))
			fail(c, fmt.Errorf("panic: %w", errPanic))
		}
	}()
	c.Next()
}

// panicText tells what the runtime found. Of other values only the type: they may hold what a user wrote.
func panicText(reason any) string {
	if found, ok := reason.(runtime.Error); ok {
		return found.Error()
	}
	return fmt.Sprintf("%T", reason)
}

var errPanic = errors.New("a handler panicked; the line before has its stack")

// secure sets what a browser must know. Whoever serves pages (docs, dashboard) replaces the policy by one of its own.
func (s *Server) secure(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if strings.HasPrefix(s.options.PublicURL, "https://") {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	if strings.HasPrefix(c.Request.URL.Path, "/api/") {
		h.Set("Cache-Control", "no-store")
	}
	c.Next()
}

// allowOrigins answers CORS by the allow-list. Without an entry browsers keep to the same origin; what is no browser
// does not care. Credentials are never a matter of cookies here, so none are allowed.
func (s *Server) allowOrigins(c *gin.Context) {
	origin := c.GetHeader("Origin")
	preflight := c.Request.Method == http.MethodOptions && c.GetHeader("Access-Control-Request-Method") != ""
	if strings.HasPrefix(c.Request.URL.Path, "/socket.io/") || (origin == "" && !preflight) {
		c.Next()
		return
	}
	h := c.Writer.Header()
	h.Add("Vary", "Origin")
	allowed := slices.Contains(s.options.CORSOrigins, strings.ToLower(origin))
	if allowed {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate, "+requestIDHeader)
	}
	switch {
	case !preflight:
		c.Next()
	case allowed:
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+requestIDHeader)
		h.Set("Access-Control-Max-Age", "600")
		c.AbortWithStatus(http.StatusNoContent)
	default:
		fail(c, domain.NewError(domain.CodeForbidden, "Pages of this origin may not use the API. Add it to CORS_ORIGINS."))
	}
}

// refuseBadText refuses paths and queries that are not text: no database could look for it.
func refuseBadText(c *gin.Context) {
	if !isText(c.Request.URL.Path) {
		fail(c, domain.NewError(domain.CodeNotFound, "There is nothing at this address."))
		return
	}
	for name, values := range c.Request.URL.Query() {
		if !isText(name) || slices.ContainsFunc(values, func(v string) bool { return !isText(v) }) {
			fail(c, domain.Invalid(strings.ToValidUTF8(name, "?"), "The parameter is not valid text in UTF-8."))
			return
		}
	}
	c.Next()
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// ownPrefixes are the paths under which the dashboard has nothing, so that a mistyped route is a problem and not a page.
var ownPrefixes = []string{"/api/", "/socket.io/", "/webhooks/", "/docs/", "/openapi"}

// noRoute leaves what is unknown to the dashboard.
func (s *Server) noRoute(c *gin.Context) {
	path := c.Request.URL.Path
	own := path == "/api" || slices.ContainsFunc(ownPrefixes, func(p string) bool { return strings.HasPrefix(path, p) })
	reading := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead
	if own || !reading || s.options.Dashboard == nil {
		fail(c, domain.NewError(domain.CodeNotFound, "There is nothing at this address. /docs lists what there is."))
		return
	}
	c.Status(http.StatusOK) // Gin has set 404
	s.options.Dashboard.ServeHTTP(c.Writer, c.Request)
}

// noMethod answers for a path that is known, by another method; Gin has set Allow.
func noMethod(c *gin.Context) {
	abort(c, newProblem(http.StatusMethodNotAllowed, domain.CodeInvalid,
		"This address does not take "+knownMethod(c.Request.Method)+"; it takes "+c.Writer.Header().Get("Allow")+"."))
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "this method"
	}
}
