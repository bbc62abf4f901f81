package bench

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// TestMain lets the test binary be one of the processes that a benchmark starts, too.
func TestMain(m *testing.M) {
	if os.Getenv(selfEnv) == "" {
		testkit.Main(m)
		return
	}
	if err := Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
		panic(err)
	}
}

func TestHelpNamesEveryBenchmarkButTheInternalOnes(t *testing.T) {
	var out, progress strings.Builder
	require.NoError(t, Run(testkit.Context(t), []string{"--help"}, &out, &progress))
	assert.Contains(t, out.String(), "ingest ")
	assert.Contains(t, out.String(), "chats ")
	assert.NotContains(t, out.String(), loadCommand)
	require.NoError(t, Run(testkit.Context(t), []string{"ingest", "-help"}, &out, &progress))
	assert.Contains(t, progress.String(), "-posters")
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for name, args := range map[string][]string{
		"none": nil, "unknown": {"nothing"}, "unknown flag": {"ingest", "-nothing"}, "argument": {"chats", "nothing"},
		"no rounds": {"ingest", "-rounds", "0"}, "no samples": {"chats", "-samples", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, progress strings.Builder
			require.Error(t, Run(testkit.Context(t), args, &out, &progress))
			assert.Empty(t, out.String())
		})
	}
}

func TestFigures(t *testing.T) {
	assert.InDelta(t, 3, median([]float64{9, 1, 3}), 0)
	assert.InDelta(t, 2, median([]float64{3, 1}), 0)
	assert.Equal(t, "2 (1 … 3)", spread([]float64{3, 1, 2}, "%.0f"))
	var samples []time.Duration
	for i := range 200 {
		samples = append(samples, time.Duration(i+1))
	}
	assert.Equal(t, time.Duration(100), percentile(samples, 0.5))
	assert.Equal(t, time.Duration(190), percentile(samples, 0.95))
	assert.Equal(t, time.Duration(198), percentile(samples, 0.99))
	assert.Equal(t, time.Duration(200), percentile(samples, 1))
	assert.Equal(t, time.Duration(7), percentile([]time.Duration{7}, 0.5))
	assert.Zero(t, percentile(nil, 0.5))
}

func TestScopeEndsWhatItStartedAndTellsWhy(t *testing.T) {
	var ended []int
	err := withScope(t.Context(), func(s *scope) error {
		s.Cleanup(func() { ended = append(ended, 1) })
		s.Cleanup(func() { ended = append(ended, 2); s.Errorf("left over") })
		s.Fatalf("no server")
		return nil
	})
	require.ErrorContains(t, err, "no server")
	require.ErrorContains(t, err, "left over")
	assert.Equal(t, []int{2, 1}, ended)
}
