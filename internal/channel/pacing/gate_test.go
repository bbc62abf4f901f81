package pacing

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

var (
	start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	slow  = Limit{Every: 4 * time.Second, Burst: 2}
	quick = Limit{Every: time.Second, Burst: 3}
	whole = Limit{Every: 100 * time.Millisecond, Burst: 5}
)

func limits() Limits {
	return Limits{All: whole, Chat: func(peer string) Limit {
		if peer == "slow" {
			return slow
		}
		return quick
	}}
}

// gate is one whose burst is whole at start.
func gate() *Gate { return New(start.Add(-time.Hour), limits()) }

func TestBurstThenOneEach(t *testing.T) {
	g, now := gate(), start
	for i := range slow.Burst {
		require.Empty(t, g.Pace(now).Waiting, "message %d", i)
		g.Message(now, 1, "slow")
	}
	p := g.Pace(now)
	assert.Equal(t, []int64{1}, p.Waiting)
	assert.Equal(t, whole.Burst-slow.Burst, p.Room)
	assert.Equal(t, start.Add(slow.Every), p.Again)
	assert.Equal(t, []int64{1}, g.Pace(p.Again.Add(-1)).Waiting)
	assert.Empty(t, g.Pace(p.Again).Waiting)
	g.Message(p.Again, 1, "slow")
	assert.Equal(t, p.Again.Add(slow.Every), g.Pace(p.Again).Again)
}

func TestRoomOfTheChannel(t *testing.T) {
	g := gate()
	for i := range int64(5) {
		g.Message(start, i, "quick")
	}
	p := g.Pace(start)
	assert.Zero(t, p.Room)
	assert.Equal(t, start.Add(whole.Every), p.Again)
	assert.Equal(t, 1, g.Pace(p.Again).Room)
	assert.Equal(t, 3, g.Pace(start.Add(3*whole.Every)).Room)
	assert.Equal(t, 5, g.Pace(start.Add(time.Hour)).Room)
	g.SetAll(Limit{Every: time.Millisecond, Burst: 50})
	assert.Equal(t, 50, g.Pace(start.Add(time.Hour)).Room)
}

func TestNewGateHasNoBurst(t *testing.T) {
	g := New(start, limits())
	assert.Equal(t, 1, g.Pace(start).Room, "the one before it may have used it up")
	assert.Equal(t, 5, g.Pace(start.Add(4*whole.Every)).Room)
}

func TestRefusalsGrowUntilAcceptance(t *testing.T) {
	g, now := gate(), start
	var waits []time.Duration
	for range 4 {
		wait, all := g.RefusedChat(now, 1, "quick", 6*time.Second)
		require.False(t, all)
		waits = append(waits, wait)
		again, _ := g.RefusedChat(now.Add(time.Second), 1, "quick", time.Second)
		assert.Equal(t, wait-time.Second, again, "it was under way when the wait began")
		g.Accepted(now.Add(time.Second), 1)
		assert.Equal(t, []int64{1}, g.Pace(now.Add(wait-1)).Waiting)
		now = now.Add(wait)
		assert.Empty(t, g.Pace(now).Waiting)
	}
	assert.Equal(t, []time.Duration{6 * time.Second, 12 * time.Second, 24 * time.Second, 48 * time.Second}, waits)
	g.Accepted(now, 1)
	wait, _ := g.RefusedChat(now, 1, "quick", 6*time.Second)
	assert.Equal(t, 6*time.Second, wait)

	for range 40 {
		wait = g.RefusedAll(now, 2*time.Second)
		assert.Zero(t, g.Pace(now).Room)
		now = now.Add(wait)
	}
	assert.Equal(t, longestWait, wait)
	assert.Equal(t, time.Hour, g.RefusedAll(now, time.Hour), "the provider knows better")
	assert.Equal(t, 2*time.Second, g.RefusedAll(now.Add(time.Hour+forgiven+1), 2*time.Second))
}

func TestSecondChatRefusedMeansAll(t *testing.T) {
	vague := limits()
	vague.Vague = true
	g := New(start.Add(-time.Hour), vague)
	all := func(g *Gate, now time.Time, chat int64) bool {
		_, all := g.RefusedChat(now, chat, "quick", time.Minute)
		return all
	}
	assert.False(t, all(g, start, 1))
	assert.False(t, all(g, start, 1))
	assert.True(t, all(g, start, 2))
	assert.Zero(t, g.Pace(start).Room)
	assert.False(t, all(g, start.Add(time.Hour), 3), "the earlier wait is over")
	precise := gate()
	assert.False(t, all(precise, start, 1))
	assert.False(t, all(precise, start, 2))
	assert.Positive(t, precise.Pace(start).Room)
}

// TestNoStretchOfTimeIsOverTheLimit sends as fast as a gate lets, to chats at
// random, and counts in windows.
func TestNoStretchOfTimeIsOverTheLimit(t *testing.T) {
	random := testkit.Rand(t)
	g, now := gate(), start
	var all []time.Time
	sent := map[int64][]time.Time{}
	for range 5000 {
		p := g.Pace(now)
		chat := random.Int64N(40)
		if p.Room == 0 || slices.Contains(p.Waiting, chat) && random.IntN(3) > 0 {
			require.False(t, p.Again.IsZero(), "somebody waits")
			require.True(t, p.Again.After(now), "at %s again is %s", now, p.Again)
			now = p.Again
			continue
		}
		if slices.Contains(p.Waiting, chat) {
			continue
		}
		peer := "quick"
		if chat%2 == 0 {
			peer = "slow"
		}
		g.Message(now, chat, peer)
		all = append(all, now)
		sent[chat] = append(sent[chat], now)
		now = now.Add(time.Duration(random.Int64N(int64(50 * time.Millisecond))))
	}
	within := func(times []time.Time, l Limit, what string) {
		for i := range times {
			for j := i; j < len(times); j++ {
				most := l.Burst + int(times[j].Sub(times[i])/l.Every)
				require.LessOrEqual(t, j-i+1, most, "%s: %s", what, times[j].Sub(times[i]))
			}
		}
	}
	within(all[:500], whole, "all")
	for chat, times := range sent {
		within(times, limits().Chat(map[bool]string{true: "slow", false: "quick"}[chat%2 == 0]), "chat "+strconv.FormatInt(chat, 10))
	}
	require.Greater(t, len(all), 500)
	g.Pace(now.Add(time.Hour))
	assert.Empty(t, g.chats, "what is over is forgotten")
}
