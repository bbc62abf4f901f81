package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"regexp"

	"github.com/gin-gonic/gin"

	"switchboard/internal/domain"
)

// requestIDHeader names a request in the answer and in the log. A balancer in front may set it.
const requestIDHeader = "X-Request-Id"

// wellFormedID keeps what a client sends as an id from becoming a way to write into the log.
var wellFormedID = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// request is what the middlewares know of a request. It belongs to the request's goroutine.
type request struct {
	id        string
	clientIP  netip.Addr
	logger    *slog.Logger
	principal domain.Principal // of private routes, once authenticated
}

type requestKey struct{}

// requestOf returns the request that ctx belongs to; an empty one if there is none.
func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{logger: slog.New(slog.DiscardHandler)}
}

// requestID returns the id under which the request of ctx is in the log.
func requestID(ctx context.Context) string { return requestOf(ctx).id }

// clientIP returns the address that the request of ctx came from: the peer's, or what a trusted proxy says.
func clientIP(ctx context.Context) netip.Addr { return requestOf(ctx).clientIP }

// identify is the outermost middleware: it gives the request its id.
func (s *Server) identify(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if !wellFormedID.MatchString(id) {
		var b [12]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		id = hex.EncodeToString(b[:])
	}
	address, _ := netip.ParseAddr(c.ClientIP()) // an address that cannot be read counts as one of its own, the zero one
	r := &request{id: id, clientIP: address.Unmap(), logger: s.options.Logger}
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), requestKey{}, r))
	c.Header(requestIDHeader, id)
	c.Next()
}
