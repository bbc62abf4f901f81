package realtime

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"switchboard/internal/domain"
)

// What a refused client is told. The first two are part of the contract; the seed's clients compare them.
const (
	messageNoToken     = "Authentication failed: No token provided"
	messageInvalid     = "Authentication failed: Invalid token"
	messageUnavailable = "Authentication failed: Temporarily unavailable"
	messageAgain       = "This connection is in use already"
	messageTooMany     = "Too many connections of this user: close some and try again"
)

// longestToken is more than any token of ours takes.
const longestToken = 8 << 10

// refusal is why a socket is not let in: for the metrics, for programs and for people.
type refusal struct {
	reason  string
	code    domain.Code
	message string
	cause   error // for the log
}

func (r *refusal) extended() *socket.ExtendedError {
	return socket.NewExtendedError(r.message, map[string]any{
		"code": string(r.code), "retry": r.code == domain.CodeUnavailable || r.code == domain.CodeRateLimited,
	})
}

// admit is the library's middleware: it decides about every socket before the client is told that it is connected.
func (s *Server) admit(sock *socket.Socket, next func(*socket.ExtendedError)) {
	ctx, cancel := context.WithTimeout(s.ctx, s.options.Limits.RequestTimeout)
	defer cancel()
	n, refused := s.authenticate(ctx, sock)
	if refused != nil {
		s.tellRefused(sock, refused)
		next(refused.extended())
		return
	}
	sock.SetData(n)
	// The connection may end before the library has come to begin; then no "disconnect" is ever heard.
	gone := make(chan struct{})
	_ = sock.Conn().Once("close", func(...any) {
		close(gone)
		if !sock.Connected() {
			n.end()
		}
	})
	if sock.Conn().ReadyState() != "open" {
		n.end()
		next(nil)
		return
	}
	s.waitForReplay(n, gone)
	if n.cause.Load() != nil || expired(n.principal) {
		n.end()
		s.tellRefused(sock, errInvalid)
		next(errInvalid.extended())
		return
	}
	next(nil)
	s.waitForJoin(sock, gone)
}

// errInvalid is the refusal of credentials that let nobody in, or no more.
var errInvalid = &refusal{reason: "invalid_token", code: domain.CodeUnauthenticated, message: messageInvalid}

func (s *Server) tellRefused(sock *socket.Socket, refused *refusal) {
	s.metrics.AuthenticationFailed(refused.reason)
	attributes := []any{slog.String("socketId", string(sock.Id())), slog.String("reason", refused.reason)}
	if refused.code == domain.CodeUnavailable {
		s.logger.Error("[Socket.IO] authentication failed", append(attributes, slog.Any("error", refused.cause))...)
	} else {
		s.logger.Warn("[Socket.IO] authentication failed", attributes...)
	}
}

func expired(p domain.Principal) bool {
	return !p.ExpiresAt.IsZero() && !time.Now().Before(p.ExpiresAt)
}

// waitForJoin returns when the library has let the socket in. Its caller reads the connection: the library tells the client
// that it is connected before it knows the socket itself, and would end the connection of a client whose first event is
// there in between.
func (s *Server) waitForJoin(sock *socket.Socket, gone <-chan struct{}) {
	joined := make(chan struct{})
	sock.Enqueue(func() { close(joined) }) // behind what lets it in
	patience := time.NewTimer(s.options.Limits.RequestTimeout)
	defer patience.Stop()
	select {
	case <-joined:
	case <-gone:
	case <-s.ctx.Done():
	case <-patience.C:
	}
}

func (s *Server) authenticate(ctx context.Context, sock *socket.Socket) (*session, *refusal) {
	handshake := sock.Handshake()
	auth := handshake.Auth
	token, given := tokenOf(auth, sock.Request().Headers().Peek("Authorization"))
	// What the handshake held is not kept: it must be found in no dump, and goes to other nodes with fetchSockets.
	handshake.Auth, handshake.Headers, handshake.Query = nil, nil, nil
	if !given {
		return nil, &refusal{reason: "no_token", code: domain.CodeUnauthenticated, message: messageNoToken}
	}
	if token == "" || len(token) > longestToken {
		return nil, errInvalid
	}
	began := time.Now()
	principal, err := s.identify(ctx, token)
	if err != nil {
		if code := codeOf(err); code == domain.CodeUnauthenticated || code == domain.CodeForbidden {
			return nil, errInvalid
		}
		return nil, &refusal{reason: "unavailable", code: domain.CodeUnavailable, message: messageUnavailable, cause: err}
	}
	if principal.UserID <= 0 || principal.OrganizationID <= 0 || expired(principal) {
		return nil, errInvalid
	}
	n, refused := s.open(ctx, sock, principal, auth)
	if refused == nil && s.endings.since(began, principal) {
		// They ended after the token was read, and perhaps before the session was there to be found.
		n.end()
		return nil, errInvalid
	}
	return n, refused
}

// identify asks who a token belongs to, once there is a place to.
func (s *Server) identify(ctx context.Context, token string) (domain.Principal, error) {
	done, err := s.turnToAuthenticate(ctx)
	if err != nil {
		return domain.Principal{}, err
	}
	defer done()
	return s.options.Authenticator.Authenticate(ctx, token)
}

// open makes the session. Where it starts in the log is settled here, before the client is told that it is connected: what
// is committed after that moment reaches it.
func (s *Server) open(ctx context.Context, sock *socket.Socket, p domain.Principal, auth map[string]any) (*session, *refusal) {
	f, err := s.hub.acquire(ctx, p.OrganizationID)
	if err != nil {
		return nil, &refusal{reason: "unavailable", code: domain.CodeUnavailable, message: messageUnavailable, cause: err}
	}
	from, given := parseStart(auth)
	if !given {
		now := f.at()
		from = start{seq: now.Seq, epoch: now.Epoch}
	}
	n := newSession(s, sock, p, f, from)
	if !n.connection.session.CompareAndSwap(nil, n) {
		s.hub.release(f)
		return nil, &refusal{reason: "again", code: domain.CodeConflict, message: messageAgain}
	}
	if !s.remember(n) {
		n.connection.session.Store(nil)
		s.hub.release(f)
		return nil, &refusal{reason: "too_many_sockets", code: domain.CodeRateLimited, message: messageTooMany}
	}
	return n, nil
}

// tokenOf finds the credentials in auth.token or, for programs, in the Authorization header. given is false when there are
// none; a token that is no string is given and empty.
func tokenOf(auth map[string]any, header string) (token string, given bool) {
	switch value := auth["token"].(type) {
	case nil:
	case string:
		if value != "" {
			return value, true
		}
	default:
		return "", true
	}
	scheme, credentials, found := strings.Cut(header, " ")
	if found && strings.EqualFold(scheme, "Bearer") && strings.TrimSpace(credentials) != "" {
		return strings.TrimSpace(credentials), true
	}
	return "", false
}

// codeOf is the code of the error for users in err's chain, "" if there is none.
func codeOf(err error) domain.Code {
	var e *domain.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
