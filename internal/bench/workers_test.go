package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// A small run of every part, with all processes. It fails by itself when a message is lost or doubled.
func TestWorkersMeasures(t *testing.T) {
	var out, progress strings.Builder
	err := Run(t.Context(), []string{
		"workers", "-rounds", "1", "-bots", "6", "-organizations", "2", "-idle", "300ms", "-messages", "60", "-rate", "50", "-paced", "300ms",
		"-replies", "5", "-lease-ttl", "3s",
	}, &out, &progress)
	require.NoError(t, err, "%s", out.String())
	for _, wanted := range []string{
		"idle CPU", "RSS per bot", "60 messages for 6 bots", "60 messages for 1 bots", "switchboard ", "floor ", "of the floor's rate",
		"take-over after kill -9", "take-over after SIGTERM", "polls of one bot at once: 0 ", "telegram ", "waba ", "a reply leaves, p99",
	} {
		assert.Contains(t, out.String(), wanted)
	}
}

func TestWorkersRefusesWhatMakesNoSense(t *testing.T) {
	for name, args := range map[string][]string{
		"part": {"-only", "idle,busy"}, "no bots": {"-bots", "0"}, "more organizations than bots": {"-bots", "2", "-organizations", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, progress strings.Builder
			require.Error(t, Run(testkit.Context(t), append([]string{"workers"}, args...), &out, &progress))
			assert.Empty(t, out.String())
		})
	}
}

func TestTheObserverCountsAMessageOnce(t *testing.T) {
	o := &observer{took: map[int]time.Duration{}, changed: make(chan struct{})}
	at := time.Unix(100, 0)
	o.note("…bench-7-100000000000;… …bench-8-100000000000;…", at.Add(time.Second))
	o.note("a chat whose last message is bench-7-100000000000;", at.Add(time.Minute))
	require.NoError(t, o.until(t.Context(), 2))
	p50, p99 := o.latency(0)
	assert.Equal(t, time.Second, p50)
	assert.Equal(t, time.Second, p99)
	_, p99 = o.latency(9)
	assert.Zero(t, p99)
}
