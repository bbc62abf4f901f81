package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// scope is the life of a benchmark's servers: it stands in for a test where the test kit wants one. What is not
// overridden here is not called by the parts of the test kit that start servers.
type scope struct {
	testing.TB                 // nil: only to have the interface's unexported method
	ctx        context.Context //nolint:containedctx // as testing.TB has one

	mu       sync.Mutex // guards what follows
	cleanups []func()
	failed   error
}

// fatal is what Fatalf panics with, up to withScope.
type fatal struct{ err error }

// withScope runs fn and then ends, in reverse order, what was started in the scope.
func withScope(ctx context.Context, fn func(*scope) error) (err error) {
	s := &scope{ctx: ctx}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fatal:
			err = r.err
		default:
			panic(r)
		}
		for _, cleanup := range slices.Backward(s.cleanups) {
			cleanup()
		}
		err = errors.Join(err, s.failed)
	}()
	return fn(s)
}

func (s *scope) Helper()                  {}
func (s *scope) Name() string             { return "bench" }
func (s *scope) Logf(string, ...any)      {}
func (s *scope) Context() context.Context { return s.ctx }

func (s *scope) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *scope) Errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = errors.Join(s.failed, fmt.Errorf(format, args...))
}

// Fatalf ends the scope's function from its own goroutine.
func (s *scope) Fatalf(format string, args ...any) {
	panic(fatal{fmt.Errorf(format, args...)})
}
