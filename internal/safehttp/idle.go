package safehttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// watch ends an exchange of which nothing moves for too long: no part of the request is taken, no response comes, a read of
// the response gets nothing. What the caller does between two reads does not count. A nil watch does nothing.
type watch struct {
	idle   time.Duration
	ctx    context.Context //nolint:containedctx // the request's
	cancel context.CancelCauseFunc
	timer  *time.Timer

	mu       sync.Mutex // guards answered
	answered bool       // the request's body counts no more
}

// watched returns r with a watch over it.
func watched(r *http.Request, idle time.Duration) (*http.Request, *watch) {
	if idle <= 0 {
		return r, nil
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{idle: idle, ctx: ctx, cancel: cancel, timer: time.AfterFunc(idle, func() { cancel(ErrIdle) })}
	r = r.Clone(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = sentBody{ReadCloser: r.Body, watch: w}
		if again := r.GetBody; again != nil {
			r.GetBody = func() (io.ReadCloser, error) {
				body, err := again()
				return sentBody{ReadCloser: body, watch: w}, err
			}
		}
	}
	return r, w
}

// sending notes that a part of the request was taken.
func (w *watch) sending() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.answered {
		w.timer.Reset(w.idle)
	}
}

// answer lays the watch over the response's body.
func (w *watch) answer(body io.ReadCloser) io.ReadCloser {
	if w == nil {
		return body
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = true
	w.timer.Stop()
	return readBody{ReadCloser: body, watch: w}
}

// end frees what the watch holds. It says why err came about.
func (w *watch) end(err error) error {
	if w == nil {
		return err
	}
	err = w.why(err)
	w.timer.Stop()
	w.cancel(nil)
	return err
}

func (w *watch) why(err error) error {
	if err != nil && errors.Is(context.Cause(w.ctx), ErrIdle) {
		return ErrIdle
	}
	return err
}

// sentBody is a request's body under a watch.
type sentBody struct {
	io.ReadCloser
	watch *watch
}

func (b sentBody) Read(p []byte) (int, error) {
	b.watch.sending()
	return b.ReadCloser.Read(p)
}

// readBody is a response's.
type readBody struct {
	io.ReadCloser
	watch *watch
}

func (b readBody) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.watch.idle)
	n, err := b.ReadCloser.Read(p)
	b.watch.timer.Stop()
	if errors.Is(err, io.EOF) {
		return n, err
	}
	return n, b.watch.why(err)
}

func (b readBody) Close() error {
	err := b.ReadCloser.Close()
	return b.watch.end(err)
}
