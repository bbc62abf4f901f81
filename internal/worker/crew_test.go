package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

func TestLevel(t *testing.T) {
	for _, c := range []struct {
		channels   int
		capacities []int
		want       int
	}{
		{0, []int{5, 5}, 0},
		{1, []int{5, 5}, 0},
		{9, []int{200, 200}, 4},
		{9, []int{200, 200, 200}, 3},
		{10, []int{2, 200, 200}, 4},
		{11, []int{2, 200, 200}, 4},
		{10, []int{200, 2, 3}, 5},
		{10, []int{3, 3, 3}, 3}, // one too many
		{10, nil, 0},
		{1000, []int{10, 300}, 300},
	} {
		pool := make([]store.PoolWorker, len(c.capacities))
		for i, capacity := range c.capacities {
			pool[i].Capacity = capacity
		}
		assert.Equal(t, c.want, level(c.channels, pool), "%d channels over %v", c.channels, c.capacities)
	}
}

func sum(numbers []int) (total int) {
	for _, n := range numbers {
		total += n
	}
	return total
}

// shares are how many sessions each worker has, largest first.
func (p *provider) shares() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := map[string]int{}
	for _, name := range p.live {
		count[name]++
	}
	var all []int
	for _, n := range count {
		all = append(all, n)
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all
}

func TestChannelsAreSpreadWhenWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(9) {
			w.channel(id + 1)
		}
		var looked, moved atomic.Int64
		steady := func(o *Options) {
			o.LeaseTTL = 4 * time.Second // none is lost on a busy machine
			o.Measures.PoolWorkers = func(int) { looked.Add(1) }
			o.Measures.HandedBack = func(string) { moved.Add(1) }
		}
		a := w.start("a", steady)
		w.eventually("a to run all", func() bool { return slices.Equal(w.provider.shares(), []int{9}) })
		w.start("b", steady)
		w.eventually("two shares", func() bool { return slices.Equal(w.provider.shares(), []int{5, 4}) })
		c := w.start("c", steady)
		w.eventually("three shares", func() bool { return slices.Equal(w.provider.shares(), []int{3, 3, 3}) })

		settled, after := moved.Load(), looked.Load()
		w.eventually("many looks", func() bool { return looked.Load() > after+3*80 }) // of all three, longer than a lease's time
		require.Equal(t, settled, moved.Load(), "what is even stays where it is")

		c.Stop()
		w.eventually("two shares again", func() bool { return slices.Equal(w.provider.shares(), []int{5, 4}) })
		a.kill()
		w.eventually("the last one to run all", func() bool { return slices.Equal(w.provider.owners(), slices.Repeat([]string{"b"}, 9)) })
	})
}

// Workers that begin together take their shares at once, without moving anything.
func TestWorkersThatBeginTogether(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(30) {
			w.channel(id + 1)
		}
		long := func(o *Options) { o.LeaseTTL = 30 * time.Second }
		nodes := []*node{w.node("a", long), w.node("b", long), w.node("c", long)}
		for _, n := range nodes { // as if each had given its first sign of life before any took a channel
			require.NoError(t, n.store.Enlist(t.Context(), store.Enlistment{WorkerID: n.holder, Name: n.o.ID, Capacity: n.o.MaxChannels, TTL: n.o.LeaseTTL}))
		}
		for _, n := range nodes {
			require.NoError(t, n.Start(t.Context()))
		}
		w.eventually("all to run", func() bool { return slices.Equal(w.provider.shares(), []int{10, 10, 10}) })
		require.Equal(t, "30", w.one("SELECT SUM(term) FROM leases"))
	})
}

// A send that is under way when its channel is moved is waited for, though it takes longer than a worker that stops would wait.
func TestMovingCostsNoCertainty(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(4) {
			w.channel(id + 1)
			w.chat(id+1, id+1)
		}
		release, begun := make(chan struct{}), make(chan struct{}, 4)
		w.provider.send = func(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			begun <- struct{}{}
			select {
			case <-release:
				return s.accept(out), nil
			case <-ctx.Done():
				return channel.Sent{}, ctx.Err()
			}
		}
		handed := make(chan string, 16)
		brief := func(o *Options) {
			o.LeaseTTL, o.DrainTimeout = 5*time.Second, time.Millisecond
			o.Measures.HandedBack = func(reason string) { handed <- reason }
		}
		w.start("a", brief)
		for id := range int64(4) {
			w.queue(100+id, id+1, id+1)
		}
		for range 4 {
			<-begun
		}
		w.start("b", brief)
		require.Equal(t, reasonSpread, <-handed)
		require.Equal(t, reasonSpread, <-handed)
		close(release)
		for id := range int64(4) {
			w.eventuallyStatus(100+id, domain.StatusSent)
		}
		w.eventually("two shares", func() bool { return slices.Equal(w.provider.shares(), []int{2, 2}) })
	})
}

func TestDedicatedWorkersComeFirst(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(4) {
			w.channel(id + 1)
		}
		only := func(ids ...int64) func(*Options) { return func(o *Options) { brief(o); o.Channels = ids } }
		w.start("pool", brief)
		w.eventually("the pool to run all", func() bool { return len(w.provider.owners()) == 4 })

		d := w.start("d", only(2, 3, 99))
		w.eventually("d to have its own", func() bool {
			return slices.Equal(w.provider.owners(), []string{"d", "d", "pool", "pool"}) && w.provider.owner(2) == "d" && w.provider.owner(3) == "d"
		})
		w.channel(99) // it was wanted before it was there
		w.eventually("d to have what comes later", func() bool { return w.provider.owner(99) == "d" })

		standby := w.start("standby", only(3))
		d.Stop()
		w.eventually("the stand-by and the pool to take over", func() bool {
			return w.provider.owner(2) == "pool" && w.provider.owner(3) == "standby" && w.provider.owner(99) == "pool"
		})
		standby.kill()
		w.eventually("the pool to take over from the dead", func() bool { return w.provider.owner(3) == "pool" })
		w.start("d", only(3))
		w.eventually("the channel to come back", func() bool { return w.provider.owner(3) == "d" })
	})
}

// A dedicated worker says of each of its channels why it does not run, once, and when it can.
func TestDedicatedWorkerSaysWhatCannotRun(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(5) {
			w.channel(id + 1)
		}
		w.exec("UPDATE channels SET enabled = FALSE WHERE id = 2")
		w.exec("UPDATE channels SET enabled = FALSE, deleted_at = 1 WHERE id = 3")
		w.exec("UPDATE channels SET kind = 'whatsapp' WHERE id = 4")
		w.start("d1", func(o *Options) { o.Channels = []int64{5} })
		w.eventually("d1 to run its own", func() bool { return w.provider.owner(5) == "d1" })
		said := make(logLines, 100)
		w.start("d2", func(o *Options) {
			brief(o)
			o.Channels, o.Logger = []int64{1, 2, 3, 4, 5, 77}, slog.New(slog.NewTextHandler(said, nil))
		})
		for _, want := range []string{
			`level=WARN .* channel=2 why="it is disconnected`, `level=WARN .* channel=3 why="it is deleted"`,
			`level=WARN .* channel=4 why="this worker cannot run channels of the kind whatsapp"`, `level=INFO .* channel=5 why="another dedicated worker has it`,
			`level=WARN .* channel=77 why="there is none with this id"`,
		} {
			require.Regexp(t, want, <-said)
		}
		w.eventually("the rest to run", func() bool { return w.provider.owner(1) == "d2" })
		w.exec("UPDATE channels SET enabled = TRUE WHERE id = 2")
		require.Regexp(t, `level=INFO .*can run now.* channel=2`, <-said)
		w.eventually("what was connected to run", func() bool { return w.provider.owner(2) == "d2" })
		require.Empty(t, said, "nothing is said twice")
	})
}

// logLines takes what is logged, a line for each value.
type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// Whoever should take a channel and does not must not keep it from the others.
func TestNobodyWaitsForTheUnwilling(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(6) {
			w.channel(id + 1)
		}
		a := w.start("a", brief)
		w.eventually("a to run all", func() bool { return len(w.provider.owners()) == 6 })
		// A worker that lives and takes nothing.
		require.NoError(t, w.db.Enlist(t.Context(), store.Enlistment{WorkerID: "idle", Name: "idle", Capacity: 100, TTL: time.Minute}))
		w.eventually("a to hand back", func() bool { return len(a.Held()) == 3 })
		w.eventually("a to take them again", func() bool { return len(w.provider.owners()) == 6 })
		w.channel(7)
		w.eventually("a to take what is new", func() bool { return w.provider.owner(7) == "a" })
	})
}

// A worker that was too slow to take what was handed back to it gets its share when it has come round, not minutes later.
func TestTheSlowGetTheirShareLater(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for id := range int64(6) {
			w.channel(id + 1)
		}
		a := w.start("a", brief)
		w.eventually("a to run all", func() bool { return len(w.provider.owners()) == 6 })
		b := w.node("b", brief)
		require.NoError(t, b.store.Enlist(t.Context(), store.Enlistment{WorkerID: b.holder, Name: b.o.ID, Capacity: b.o.MaxChannels, TTL: time.Minute}))
		w.eventually("a to hand back", func() bool { return len(a.Held()) == 3 })
		w.eventually("a to take them again", func() bool { return len(w.provider.owners()) == 6 })
		require.NoError(t, b.Start(t.Context()))
		w.eventually("two shares", func() bool { return slices.Equal(w.provider.shares(), []int{3, 3}) })
	})
}

// What comes back without anybody having had it stops hand-backs, for longer each time, until it has not happened for long.
func TestWhatNobodyTookComesBack(t *testing.T) {
	const ttl = 10 * time.Second
	c := newCrew(ttl)
	now := time.Now()
	back := func(held, term int64) time.Duration {
		c.given[1] = gift{term: held}
		c.cameBack(store.Lease{ChannelID: 1, Term: term}, now)
		require.Empty(t, c.given)
		return c.quiet.Sub(now)
	}
	require.Negative(t, back(3, 5), "somebody had it")
	require.LessOrEqual(t, back(5, 6), 2*ttl)
	first := c.quiet
	back(6, 7)
	require.Equal(t, first, c.quiet, "those that come back together count once")
	for range 10 {
		now = c.quiet.Add(time.Second)
		back(7, 8)
	}
	require.GreaterOrEqual(t, c.quiet.Sub(now), stubborn/2)
	now = c.quiet.Add(stubborn + time.Second)
	require.LessOrEqual(t, back(8, 9), 2*ttl)
}

// Workers come, stop and die at random; in the end every channel runs, evenly.
func TestSpreadAtRandom(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		random := testkit.Rand(t)
		const channels = 12
		for id := range int64(channels) {
			w.channel(id + 1)
		}
		var alive []*node
		var stopping sync.WaitGroup
		defer stopping.Wait()
		steps := 8
		if testkit.Full() {
			steps = 60
		}
		for i := range steps {
			if len(alive) > 1 && random.IntN(2) == 0 {
				n := random.IntN(len(alive))
				gone := alive[n]
				alive = slices.Delete(alive, n, n+1)
				if random.IntN(2) == 0 {
					gone.kill()
				} else {
					stopping.Go(gone.Stop)
				}
			} else {
				alive = append(alive, w.start(fmt.Sprint("w", i), func(o *Options) {
					o.LeaseTTL = time.Second
					o.MaxChannels = channels
				}))
			}
			if random.IntN(2) == 0 {
				w.eventually("all to run", func() bool { return len(w.provider.owners()) == channels })
			}
		}
		w.eventually("even shares", func() bool {
			shares := w.provider.shares()
			return sum(shares) == channels && len(shares) == min(len(alive), channels) && shares[0] <= (channels+len(alive)-1)/len(alive)
		})
	})
}

// A channel that nobody runs does not look as if it were open, and says what to do.
func TestChannelsWithoutAWorkerAreShown(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.channel(2)
		w.exec("UPDATE channels SET state = 'connecting'")
		a := w.start("a", func(o *Options) { brief(o); o.MaxChannels = 1 })
		w.eventually("a to be full", func() bool { return len(w.provider.owners()) == 1 })
		const grace = 300 * time.Millisecond
		shown := func(id int) string {
			require.NoError(t, a.inbox.ShowOrphans(t.Context(), grace))
			return w.one("SELECT state || ' ' || state_code FROM channels WHERE id = %d", id)
		}
		w.eventually("the one that has no place to be shown", func() bool { return shown(2) == "disconnected no_room" })
		w.eventually("the other to be connected", func() bool { return shown(1) == "connected " })
		require.EqualValues(t, 1, must(a.inbox.ChannelsWithoutWorker(t.Context(), grace))(t))
		events := w.one("SELECT COUNT(*) FROM events")
		require.Equal(t, "disconnected no_room", shown(2))
		require.Equal(t, events, w.one("SELECT COUNT(*) FROM events"), "once is enough")

		a.kill()
		w.eventually("the dead one's channel to be shown", func() bool { return shown(1) == "disconnected no_worker" })
		w.start("b", brief)
		w.eventually("both to run", func() bool { return len(w.provider.owners()) == 2 })
		w.eventually("nothing to be amiss", func() bool { return must(a.inbox.ChannelsWithoutWorker(t.Context(), grace))(t) == 0 })
	})
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		require.NoError(t, err)
		return value
	}
}
