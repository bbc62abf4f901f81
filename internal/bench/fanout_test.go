package bench

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// A small run of every measurement, with all processes. It fails by itself when a delivery is lost, doubled or out of order.
func TestFanoutMeasures(t *testing.T) {
	t.Parallel()
	var out, progress strings.Builder
	err := Run(t.Context(), []string{
		"fanout", "-rounds", "1", "-duration", "300ms", "-clients", "20", "-windows", "4", "-pace", "50",
		"-idle", "30", "-idle-organizations", "3", "-settle", "300ms", "-organizations", "6", "-organization-clients", "20", "-organization-rate", "60",
		"-strangers", "300", "-herd", "20", "-herd-behind", "1200", "-herd-organizations", "4",
	}, &out, &progress)
	require.NoError(t, err, "%s", out.String())
	for _, wanted := range []string{
		"window of 4\n", "switchboard ", "node ", "floor ", "50 events per second", "CPU per delivery, of Node's", "CPU per delivery, of the floor's",
		"30 joined sockets", "idle socket:", "goroutines for an idle socket", "20 sockets of 6 organizations", "p99 from commit to client",
		"300 events", "an event without local sockets", "20 sockets of 1 organizations", "20 sockets of 4 organizations",
		"reads of the log, per (organization, page): 1 ",
	} {
		assert.Contains(t, out.String(), wanted)
	}
}

// The run fails when a server's events have a gap, though everything else goes on.
func TestFanoutFailsWhenAnEventIsLost(t *testing.T) {
	o := fanoutOptions{
		bytes: 600, clients: 5, duration: 200 * time.Millisecond, windows: fanWindows{1}, pace: 20, idle: 1, idleOrganizations: 1, organizations: 1,
		organizationClients: 1, herd: 1, herdOrganizations: 1,
	}
	err := withScope(t.Context(), func(s *scope) error {
		b, err := newFanBench(s.ctx, s, o)
		require.NoError(t, err)
		_, err = b.takeTurn(s.ctx, floor, 4, func(b *fanBench, ctx context.Context, c *contender, duration time.Duration) error {
			c.source.sent++ // as if it had been sent
			return b.trickle(ctx, c, duration)
		})
		return err
	})
	require.ErrorContains(t, err, "5 were left out")
}

func TestFanoutRefusesWrongFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"measurement": {"-only", "saturated,nothing"}, "window": {"-windows", "1,0"}, "wide window": {"-windows", "100000"}, "rounds": {"-rounds", "0"},
		"bytes": {"-bytes", "10"}, "pace": {"-pace", "-1"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, progress strings.Builder
			require.Error(t, Run(testkit.Context(t), append([]string{"fanout"}, args...), &out, &progress))
			assert.Empty(t, out.String())
		})
	}
}

func TestHelpDoesNotNameTheProcessesOfFanout(t *testing.T) {
	var out, progress strings.Builder
	require.NoError(t, Run(testkit.Context(t), []string{"--help"}, &out, &progress))
	assert.Contains(t, out.String(), "fanout ")
	for _, name := range []string{fanLoadCommand, fanAPICommand, fanFloorCommand} {
		assert.NotContains(t, out.String(), name)
	}
}

// A figure that was not measured under the conditions of its goal is not said to meet it.
func TestAGoalIsNotMetByAnInvalidFigure(t *testing.T) {
	for name, c := range map[string]struct {
		value   float64
		invalid string
		verdict string
	}{
		"below": {0.5, "", ": met\n"}, "equal": {1, "", ": met\n"}, "above": {1.01, "", ": MISSED\n"},
		"rate kept": {0.5, tooSlow(191, 200), ": met\n"}, "rate not kept": {0.5, tooSlow(133, 200), "no verdict: the machine let the driver publish only 133 of 200"},
		"no rate": {0.5, tooSlow(10, 0), ": met\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			goal(&out, "a figure", c.value, "", 1, c.invalid)
			assert.Contains(t, out.String(), c.verdict)
		})
	}
}

func TestTheScheduleLeavesNothingOut(t *testing.T) {
	sent := 0
	began := time.Now()
	require.NoError(t, onSchedule(testkit.Context(t), 200, 100*time.Millisecond, func() error {
		if sent++; sent == 3 {
			<-time.After(50 * time.Millisecond) // a slow commit
		}
		return nil
	}))
	assert.Equal(t, 20, sent)
	assert.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
}

func TestPagesOfALog(t *testing.T) {
	assert.Equal(t, 1, pagesBetween(0, 500))
	assert.Equal(t, 2, pagesBetween(0, 501))
	assert.Equal(t, 2, pagesBetween(499, 501))
	assert.Equal(t, 1, pagesBetween(500, 1000))
	assert.Equal(t, 10, pagesBetween(0, 5000))
	assert.Equal(t, 11, pagesBetween(7, 5007))
}

func TestCPUTimeIsReadBehindAnyName(t *testing.T) {
	used, err := parseCPU("4711 (a) b (c) S 1 4711 4711 0 -1 4194560 9136 0 0 0 150 25 7 8 20 0 12 0 100 0 0")
	require.NoError(t, err)
	assert.Equal(t, 1750*time.Millisecond, used)
	_, err = parseCPU("4711 (a) S 1")
	require.Error(t, err)
}

func TestSharesAddUp(t *testing.T) {
	sum := 0
	for i := range 7 {
		sum += share(100, 7, i)
	}
	assert.Equal(t, 100, sum)
}
