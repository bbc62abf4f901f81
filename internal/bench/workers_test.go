package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
	"switchboard/internal/testkit"
)

// A small run of every part, with all processes. It fails by itself when a message is lost or doubled.
func TestWorkersMeasures(t *testing.T) {
	t.Parallel()
	var out, progress strings.Builder
	err := Run(t.Context(), []string{
		"workers", "-rounds", "1", "-bots", "6", "-organizations", "2", "-idle", "300ms", "-settle", "300ms", "-messages", "60", "-rate", "50",
		"-paced", "300ms", "-replies", "5", "-lease-ttl", "3s",
	}, &out, &progress)
	require.NoError(t, err, "%s", out.String())
	for _, wanted := range []string{
		"idle CPU", "RSS per bot", "inbound, bots: 6", "inbound, bots: 1", "switchboard ", "floor ", "of the floor's rate",
		"take-over after kill -9", "take-over after SIGTERM", "polls of one bot at once: ", "telegram ", "waba ", "a reply leaves, p99",
	} {
		assert.Contains(t, out.String(), wanted)
	}
}

func TestWorkersRefusesWhatMakesNoSense(t *testing.T) {
	for name, args := range map[string][]string{
		"part": {"-only", "idle,busy"}, "no bots": {"-bots", "0"}, "more organizations than bots": {"-bots", "2", "-organizations", "3"},
		"no time": {"-idle", "0s"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, progress strings.Builder
			require.Error(t, Run(testkit.Context(t), append([]string{"workers"}, args...), &out, &progress))
			assert.Empty(t, out.String())
		})
	}
}

func TestTheObserverTimesEachMessage(t *testing.T) {
	o := &observer{took: map[int]time.Duration{}, changed: make(chan struct{})}
	at := time.Unix(100, 0)
	o.note(`{"content":"bench-7-100000000000;"}`, at.Add(time.Second))
	o.note(`{"content":"bench-8-100000000000;"}`, at.Add(time.Minute))
	o.note(`{"content":"somebody else's"}`, at.Add(time.Hour))
	require.NoError(t, o.until(t.Context(), 2))
	p50, p99 := o.latency(0)
	assert.Equal(t, time.Second, p50)
	assert.Equal(t, time.Minute, p99)
	p50, _ = o.latency(8)
	assert.Equal(t, time.Minute, p50)
	_, p99 = o.latency(9)
	assert.Zero(t, p99)
}

func TestTheObserverRefusesAMessageThatComesTwice(t *testing.T) {
	o := &observer{took: map[int]time.Duration{}, changed: make(chan struct{})}
	for range 2 {
		o.note("bench-7-100000000000;", time.Unix(101, 0))
	}
	require.ErrorContains(t, o.until(t.Context(), 1), "published again")
}

func TestTheFirstPollOfEachBot(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	polls := []telegram.LongPoll{
		{Bot: 1, Host: "localhost:80", Start: at(1)},  // before its worker's end
		{Bot: 1, Host: "127.0.0.1:80", Start: at(12)}, // by the worker that ends
		{Bot: 1, Host: "localhost:80", Start: at(15)},
		{Bot: 1, Host: "localhost:80", Start: at(14)},
		{Bot: 2, Host: "localhost:80", Start: at(13)},
		{Bot: 3, Host: "localhost:80", Start: at(11)}, // never was that worker's
		{Bot: 4, Host: "127.0.0.1:80", Start: at(16)}, // not taken over yet
	}
	assert.Equal(t, map[int64]time.Time{1: at(14), 2: at(13)}, firstPolls(polls, survivorHost, []int64{1, 2, 4}, at(10)))
}

func TestNoVerdictOnAMachineThatCommitsSlowly(t *testing.T) {
	assert.Empty(t, tooBusy(9*time.Millisecond))
	assert.Contains(t, tooBusy(10*time.Millisecond), "10.0 ms")
}

func TestAGoalThatShouldBeExceeded(t *testing.T) {
	for value, verdict := range map[float64]string{999: ": MISSED\n", 1000: ": met\n", 1001: ": met\n"} {
		var out strings.Builder
		goalAtLeast(&out, "a rate", value, "/s", 1000)
		assert.Contains(t, out.String(), verdict)
	}
}
