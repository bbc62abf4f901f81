package testkit_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fakeTB stands in for a test that fails or has ended. Only what the helpers use is there.
type fakeTB struct {
	testing.TB
	failed   string
	deadline time.Time
	cleanups []func()
	ended    bool
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Cleanup(clean func()) { f.cleanups = append(f.cleanups, clean) }

// end is the end of the test.
func (f *fakeTB) end() {
	for _, clean := range slices.Backward(f.cleanups) {
		clean()
	}
	f.ended = true
}

func (f *fakeTB) Deadline() (time.Time, bool) { return f.deadline, !f.deadline.IsZero() }

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.failed = errors.Join(errors.New(format), asError(args)).Error()
}

func (f *fakeTB) Log(args ...any) {
	if f.ended {
		panic("Log in goroutine after the test has completed")
	}
	f.TB.Log(args...)
}

func asError(args []any) error {
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			return err
		}
	}
	return nil
}

func TestEventuallyReturnsAsSoonAsItHolds(t *testing.T) {
	t.Parallel()
	calls := 0
	testkit.Eventually(t, "the third call", func() bool { calls++; return calls == 3 })
	assert.Equal(t, 3, calls)
}

func TestEventuallyKeepsToTheTestsDeadline(t *testing.T) {
	t.Parallel()
	// What is left is less than the reserve: the wait is over at once.
	test := &fakeTB{TB: t, deadline: time.Now().Add(time.Second)}
	start := time.Now()
	testkit.EventuallyNoError(test, "nothing", func(context.Context) error { return errors.New("the last reason") })
	assert.Less(t, time.Since(start), time.Second)
	assert.Contains(t, test.failed, "the last reason")
}

func TestContextKeepsToTheTestsDeadline(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(10 * time.Second)
	limit, set := testkit.Context(&fakeTB{TB: t, deadline: end}).Deadline()
	require.True(t, set)
	assert.True(t, limit.Before(end.Add(-time.Second)), "time is left to tell the failure")
}

func TestLoggerOutlivesTheTest(t *testing.T) {
	t.Parallel()
	test := &fakeTB{TB: t}
	logger := testkit.Logger(test)
	logger.Debug("while the test runs")
	test.end()
	assert.NotPanics(t, func() { logger.Info("after the test") })
}

func TestRandRepeatsASeed(t *testing.T) {
	t.Setenv("TEST_SEED", "42")
	a, b := testkit.Rand(t), testkit.Rand(t)
	assert.Equal(t, a.Uint64(), b.Uint64())
	t.Setenv("TEST_SEED", "43")
	assert.NotEqual(t, testkit.Rand(t).Uint64(), a.Uint64())

	test := &fakeTB{TB: t}
	t.Setenv("TEST_SEED", "forty-two")
	testkit.Rand(test)
	assert.Contains(t, test.failed, "TEST_SEED")
}
