package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

var errBadQuery = errors.New("invalid")

// QueryNumber is a whole number of the query, which is not negative, or the default.
func QueryNumber(r *http.Request, name string, def int64) (int64, error) {
	q := r.URL.Query().Get(name)
	if q == "" {
		return def, nil
	}
	v, err := strconv.ParseInt(q, 10, 64)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%w %s %q: it must be a whole number", errBadQuery, name, q)
	}
	return v, nil
}

// ContextUntil is ctx that also ends when a channel closes or after the timeout.
func ContextUntil(ctx context.Context, done <-chan struct{}, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	go func() { // ends with ctx, which the caller cancels
		select {
		case <-done:
		case <-ctx.Done():
		}
		cancel()
	}()
	return ctx, cancel
}
