package testkit

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// waitAtMost is how long a test waits for one thing: long against a busy machine, short against the suite's limit.
	waitAtMost = 90 * time.Second
	// deadlineReserve is what a wait leaves of the test's own time, so that its failure can be told.
	deadlineReserve = 3 * time.Second
)

// waitLimit is when a wait that starts now has to give up.
func waitLimit(t testing.TB, most time.Duration) time.Time {
	limit := time.Now().Add(most)
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, set := d.Deadline(); set && end.Add(-deadlineReserve).Before(limit) {
			return end.Add(-deadlineReserve)
		}
	}
	return limit
}

// Context returns a context for the waits of a test: it ends after 90 s, or shortly before the test's own time is up, or
// when the test ends. Take a new one for each step.
func Context(t testing.TB) context.Context {
	t.Helper()
	return ContextFor(t, waitAtMost)
}

// ContextFor is Context with another limit than 90 s.
func ContextFor(t testing.TB, most time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), waitLimit(t, most))
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until the condition holds, and fails the test when it does not within 90 s (or what the test has left).
// what completes the sentence "waited for …". Use it where there is nothing to wait on.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), waitLimit(t, waitAtMost))
	defer cancel()
	err := poll(ctx, func(context.Context) error {
		if !condition() {
			return fmt.Errorf("it does not hold")
		}
		return nil
	})
	if err != nil {
		t.Fatalf("waited for %s: %v", what, err)
	}
}

// EventuallyNoError is Eventually for a step that says why it does not hold yet: the test fails with the last error.
func EventuallyNoError(t testing.TB, what string, step func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), waitLimit(t, waitAtMost))
	defer cancel()
	if err := poll(ctx, step); err != nil {
		t.Fatalf("waited for %s: %v", what, err)
	}
}

// Logger returns a logger into the test's own log, from debug on. It may be used after the test has ended: what is
// logged then is dropped.
func Logger(t testing.TB) *slog.Logger {
	l := &testLog{t: t}
	t.Cleanup(l.end)
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// testLog writes to a test's log until the test ends: to log after that is a data race in the testing package, and a panic.
type testLog struct {
	t testing.TB

	mu    sync.Mutex // guards ended
	ended bool
}

var _ io.Writer = (*testLog)(nil)

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.t.Log(strings.TrimRight(string(line), "\n"))
	}
	return len(line), nil
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// Rand returns a source of random numbers for one goroutine and writes its seed to the test's log. TEST_SEED sets the seed,
// to see a failure again.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if given := os.Getenv("TEST_SEED"); given != "" {
		parsed, err := strconv.ParseUint(given, 10, 64)
		if err != nil {
			t.Fatalf("TEST_SEED: want a whole number as an earlier run printed it, got %q", given)
		}
		seed = parsed
	}
	t.Logf("random choices of this test: TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Full reports whether the long variants of tests are asked for (TEST_FULL=1, as `make faults` sets it): the full numbers of a
// fault test, where the ordinary run plays the same faults with fewer clients or for a shorter time.
func Full() bool { return os.Getenv("TEST_FULL") == "1" }

// Main is a TestMain that also fails a package whose tests leave goroutines behind:
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
// options name goroutines of libraries that cannot be stopped.
func Main(m *testing.M, options ...goleak.Option) {
	goleak.VerifyTestMain(afterTests{m}, append(options, Leaks()...)...)
}

// afterTests ends the shared server before the goroutines are counted.
type afterTests struct{ m *testing.M }

func (a afterTests) Run() int {
	code := a.m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit: stop the shared PostgreSQL:", err)
		code = max(code, 1)
	}
	return code
}

// Leaks are the options for goleak.VerifyNone in a single test: the shared PostgreSQL lives on after the test that first
// needed it.
func Leaks() []goleak.Option {
	return []goleak.Option{goleak.IgnoreAnyFunction("switchboard/internal/testkit.(*process).run")}
}

// Slack is how long something may take that a promise gives most time. With Full, on a quiet machine, that is the promise
// itself. Otherwise, beside other packages' tests and under the race detector, it is four times as long: such a run finds
// what hangs, not what is a little slow.
func Slack(most time.Duration) time.Duration {
	if Full() {
		return most
	}
	return 4 * most
}
