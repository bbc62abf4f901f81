package realtime

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"
)

// What becomes of a request for a new connection, as Metrics.Admission is told.
const (
	admittedAtOnce = "admitted"
	admittedLater  = "delayed"
	admissionFull  = "refused"
	admissionGone  = "gone" // the client left, or the server closes
)

// gate lets new connections in at a bounded rate. After a node or a network has died, thousands of clients come at once, and
// each costs a handshake, an authentication and a replay: taken all together, they would be late all together, and the sockets
// that are here with them. Those above the rate wait in the order in which they came, no longer than patience and therefore no
// more than pass in that time; the rest is refused at once, before anything was done for them, and spread out by their own
// back-off. What belongs to a connection that is open never comes here.
//
// A place in the line that a client gives up stays empty: that never lets more in than the rate, and costs those behind nothing.
type gate struct {
	limiter  *rate.Limiter
	patience time.Duration
	ctx      context.Context //nolint:containedctx // ends when nobody is let in any more
	close    context.CancelFunc
}

func newGate(limits Limits) *gate {
	g := &gate{limiter: rate.NewLimiter(rate.Limit(limits.AdmissionRate), limits.AdmissionRate), patience: limits.AdmissionWait}
	g.ctx, g.close = context.WithCancel(context.Background())
	return g
}

// enter waits until the caller's turn has come, and says what became of it.
func (g *gate) enter(ctx context.Context) string {
	if g.ctx.Err() != nil {
		return admissionGone
	}
	if g.limiter.Allow() {
		return admittedAtOnce
	}
	waiting, cancel := context.WithTimeout(ctx, g.patience)
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)() //nolint:contextcheck // it ends with the server too
	// It knows when the turn will come, and refuses at once when that is beyond the deadline.
	err := g.limiter.Wait(waiting)
	switch {
	case g.ctx.Err() != nil || ctx.Err() != nil:
		return admissionGone
	case err != nil:
		return admissionFull
	}
	return admittedLater
}

// retryAfter is what a refused client is asked to wait, in whole seconds: different for each, and no less than those take who
// are waiting now.
func (g *gate) retryAfter() string {
	wait := g.patience + rand.N(2*g.patience+1) //nolint:gosec // jitter
	return strconv.Itoa(max(1, int((wait+time.Second-1)/time.Second)))
}

// beginsConnection reports whether a request asks for a new connection. Polls, posts and upgrades of an open one carry its
// id; preflights of browsers open nothing, and what else has no id is refused by the library as soon as it is read.
func beginsConnection(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Query().Get("sid") == ""
}

// pass lets a request for a new connection through, or answers it.
func (s *Server) pass(w http.ResponseWriter, r *http.Request) bool {
	result := s.gate.enter(r.Context())
	s.metrics.Admission(result)
	switch result {
	case admissionFull:
		w.Header().Set("Retry-After", s.gate.retryAfter())
		refuse(w, http.StatusServiceUnavailable, "Too many clients connect at this moment. Try again.")
		return false
	case admissionGone:
		refuse(w, http.StatusServiceUnavailable, messageStopping)
		return false
	}
	return true
}

// turnToAuthenticate waits for one of the places of those who are being authenticated, each of which may cost the database
// a query. The caller gives the place back with done.
func (s *Server) turnToAuthenticate(ctx context.Context) (done func(), err error) {
	select {
	case s.authenticating <- struct{}{}:
		return func() { <-s.authenticating }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("realtime: wait for a turn to authenticate: %w", ctx.Err())
	}
}
