package realtime

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// errOver is what is written after the end of a request gets.
var errOver = errors.New("realtime: the request is over")

// response is the answer to a request, for the library's polling: it answers from goroutines of its own, which may be
// writing still when the client has gone away and the handler returns. By then the HTTP server has given the buffers of
// the connection to another one; what was meant for one client would go to the other. Here the handler's end waits for
// what is being written, and what comes later goes nowhere.
type response struct {
	inner http.ResponseWriter

	mu     sync.Mutex // guards what follows, and is held while inner is used
	over   bool
	begun  bool
	asked  int         // how often for the headers
	staged http.Header // what the first to ask gets: the library, which changes it under a lock of its own
	header http.Header // what the others get: the library, when it writes, copies the staged ones here
}

func newResponse(inner http.ResponseWriter) *response {
	return &response{inner: inner, staged: inner.Header().Clone(), header: inner.Header().Clone()}
}

// Header implements http.ResponseWriter. The headers are the response's own until they are written. When a session closes
// while a request with packets is under way, one goroutine of the library stages headers and another writes them: each has
// a map of its own.
func (r *response) Header() http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked++; r.asked == 1 {
		return r.staged
	}
	return r.header
}

// WriteHeader implements http.ResponseWriter.
func (r *response) WriteHeader(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin(status)
}

func (r *response) begin(status int) {
	if r.over || r.begun {
		return
	}
	r.begun = true
	headers := r.header
	if r.asked == 1 {
		headers = r.staged // nobody copied them
	}
	for name, values := range headers {
		r.inner.Header()[name] = values
	}
	r.inner.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *response) Write(data []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return 0, errOver
	}
	r.begin(http.StatusOK)
	return r.inner.Write(data)
}

// Hijack implements http.Hijacker, for the upgrade. What the library writes after it, when the handshake fails in the end,
// would go to a connection that is no more HTTP's.
func (r *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil, nil, errOver
	}
	conn, buffered, err := http.NewResponseController(r.inner).Hijack()
	r.over = err == nil
	return conn, buffered, err
}

// SetReadDeadline and SetWriteDeadline serve http.ResponseController.
func (r *response) SetReadDeadline(at time.Time) error {
	return r.control(func(c *http.ResponseController) error { return c.SetReadDeadline(at) })
}

// SetWriteDeadline is described at SetReadDeadline.
func (r *response) SetWriteDeadline(at time.Time) error {
	return r.control(func(c *http.ResponseController) error { return c.SetWriteDeadline(at) })
}

func (r *response) control(do func(*http.ResponseController) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return errOver
	}
	return do(http.NewResponseController(r.inner))
}

// end waits for what is being written, and lets nothing more through.
func (r *response) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}
