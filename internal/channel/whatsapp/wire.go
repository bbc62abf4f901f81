package whatsapp

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
)

// wire knows when the network connection under a client has closed. A client is
// ended by its context alone: Disconnect beside a connection that ends at the
// same moment is a data race in the library, in which it may call a nil
// function.
type wire struct {
	// live ends when nothing more can be read: before the library tells those who
	// wait for answers, and lets them wait five seconds for a connection that it
	// does not make.
	live context.Context //nolint:containedctx // it is the connection's
	cut  context.CancelFunc

	settled chan struct{} // closed when the library has connected, or failed to

	mu     sync.Mutex // guards what follows
	open   int        // network connections
	closed chan struct{}
}

type wireKey struct{}

// withWire returns a context whose connections are counted.
func withWire(ctx context.Context) (context.Context, *wire) {
	w := &wire{closed: make(chan struct{}), settled: make(chan struct{})}
	w.live, w.cut = context.WithCancel(ctx) // #nosec G118 -- it ends with ctx
	close(w.closed)
	return context.WithValue(ctx, wireKey{}, w), w
}

// asking returns a context for a question to WhatsApp that is no message (see sendMessage). It ends with the call's
// context, and with the wire before the library does: two questions that wait
// there for the next connection are a data race in the library.
func (w *wire) asking(ctx context.Context) (context.Context, context.CancelFunc) {
	asking, cancel := context.WithCancel(w.live) // a child ends within cut, unlike what follows live by a goroutine
	stop := context.AfterFunc(ctx, cancel)
	return asking, func() {
		stop()
		cancel()
	}
}

// dial connects a client, whose context must have this wire.
func (w *wire) dial(ctx context.Context, client *whatsmeow.Client) error {
	defer close(w.settled)
	return client.ConnectContext(ctx)
}

func (w *wire) opened() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open++; w.open == 1 {
		w.closed = make(chan struct{})
	}
}

func (w *wire) ended() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open--; w.open == 0 {
		close(w.closed)
	}
}

const hangUpTimeout = 2 * time.Second

// hangUp waits until the connections are closed; their context has ended. It is
// what keeps the next worker from finding this one still connected.
func (w *wire) hangUp(client *whatsmeow.Client) {
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	timer := time.NewTimer(hangUpTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		client.Disconnect()
	}
}

// counted makes a client's connections known to the wire of their context.
func counted(client *http.Client) *http.Client {
	next := client.Transport
	clone := *client
	clone.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(r)
		w, is := r.Context().Value(wireKey{}).(*wire)
		if err != nil || !is || response.StatusCode != http.StatusSwitchingProtocols {
			return response, err
		}
		if stream, can := response.Body.(io.ReadWriteCloser); can {
			w.opened()
			response.Body = newCountedStream(stream, w)
		}
		return response, nil
	})
	return &clone
}

type countedStream struct {
	io.ReadWriteCloser

	wire   *wire
	once   sync.Once
	closed chan struct{}
}

func newCountedStream(stream io.ReadWriteCloser, w *wire) *countedStream {
	return &countedStream{ReadWriteCloser: stream, wire: w, closed: make(chan struct{})}
}

// Read keeps the end to itself until the library has connected: one that comes
// between the last word of the handshake and the note of whom to tell of an end is
// told to nobody, and a data race. The library would not look at it before either.
func (s *countedStream) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	if err == nil {
		return n, nil
	}
	s.wire.cut()
	select {
	case <-s.wire.settled:
	case <-s.closed:
	}
	return n, err
}

// Close is also how the library ends a connection that was closed in due form, without another Read.
func (s *countedStream) Close() error {
	s.wire.cut()
	err := s.ReadWriteCloser.Close()
	s.once.Do(func() {
		close(s.closed)
		s.wire.ended()
	})
	return err
}
