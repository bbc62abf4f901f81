package httpapi

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// Webhooks takes in what providers deliver. It gets the request as it came, since signatures are over raw bytes, and
// reports errors to fail, which answers with a problem.
type Webhooks interface {
	Verify(fail func(w http.ResponseWriter, r *http.Request, err error)) http.HandlerFunc
	Deliver(fail func(w http.ResponseWriter, r *http.Request, err error)) http.HandlerFunc
}

// webhookPattern is the address to enter at Meta, behind PUBLIC_URL.
const webhookPattern = "/webhooks/waba"

// webhookRoutes are plain Gin: what is not typed JSON of ours is no part of OpenAPI.
func (s *Server) webhookRoutes() {
	if s.options.Webhooks == nil {
		return
	}
	through := func(handler func(func(http.ResponseWriter, *http.Request, error)) http.HandlerFunc) gin.HandlerFunc {
		return func(c *gin.Context) {
			// The next request on the connection sets its own.
			_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(s.options.ReadTimeout))
			handler(func(_ http.ResponseWriter, _ *http.Request, err error) { fail(c, err) })(c.Writer, c.Request)
		}
	}
	s.engine.GET(webhookPattern, through(s.options.Webhooks.Verify))
	s.engine.POST(webhookPattern, through(s.options.Webhooks.Deliver))
}
