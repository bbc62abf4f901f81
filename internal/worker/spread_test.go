package worker

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// drains is how many looks a channel may take to become free that is handed back, in these tests.
const drains = 3

// fleet is the pool as its workers see it by their rows, without a database: what each holds, what is being handed back and
// still counts as held, and what is free.
type fleet struct {
	random   *rand.Rand
	pool     []store.PoolWorker
	draining map[string][]int // the rounds in which channels that are handed back become free
	free     int
	moved    int
	round    int
}

func (f *fleet) channels() int {
	n := f.free
	for _, p := range f.pool {
		n += p.Held
	}
	return n
}

// look is a worker's look at the others, as Worker.search does it.
func (f *fleet) look(i int) {
	me := &f.pool[i]
	due := f.draining[me.ID]
	for len(due) > 0 && due[0] <= f.round {
		me.Held--
		f.free++
		due = due[1:]
	}
	part := shareOut(me.ID, f.channels(), f.pool)
	for range min(part.give-len(due), moves) {
		due = append(due, f.round+f.random.IntN(drains))
		f.moved++
	}
	slices.Sort(due)
	f.draining[me.ID] = due
	taken := min(f.free, max(part.now-me.Held, 0))
	me.Held += taken
	f.free -= taken
}

func (f *fleet) everybodyLooks() {
	f.round++
	for _, i := range f.random.Perm(len(f.pool)) {
		f.look(i)
	}
}

// even reports whether nothing can be shared out better: nothing is free while somebody has room, and nobody has two more than
// another one with room.
func (f *fleet) even() bool {
	most, least, room := 0, 1<<30, false
	for _, p := range f.pool {
		most = max(most, p.Held)
		if p.Held < p.Capacity {
			least, room = min(least, p.Held), true
		}
	}
	return !room || f.free == 0 && most-least <= 1
}

func (f *fleet) leave(i int) {
	f.free += f.pool[i].Held
	delete(f.draining, f.pool[i].ID)
	f.pool = slices.Delete(f.pool, i, i+1)
}

// given is how many channels workers have less than at another moment.
func (f *fleet) given(since []store.PoolWorker) (n int) {
	for _, p := range f.pool {
		for _, before := range since {
			if before.ID == p.ID {
				n += max(before.Held-p.Held, 0)
			}
		}
	}
	return n
}

func (f *fleet) quiet() bool {
	for _, due := range f.draining {
		if len(due) > 0 {
			return false
		}
	}
	return f.even()
}

// change lets workers of all sizes come, go and die, and channels come.
func (f *fleet) change(name string) {
	for n := range 1 + f.random.IntN(4) {
		switch {
		case len(f.pool) > 1 && f.random.IntN(3) == 0:
			f.leave(f.random.IntN(len(f.pool)))
		case f.random.IntN(4) == 0:
			f.free += f.random.IntN(20)
		default:
			capacity := 200
			if f.random.IntN(3) == 0 {
				capacity = 1 + f.random.IntN(60)
			}
			f.pool = append(f.pool, store.PoolWorker{ID: fmt.Sprintf("%d %s %d", f.random.IntN(1000), name, n), Capacity: capacity})
		}
	}
	slices.SortFunc(f.pool, func(a, b store.PoolWorker) int { return cmp.Compare(a.ID, b.ID) })
}

// Whatever happened, within as many looks as the moves take everything is even, by as few moves as can be; and what is even does
// not move.
func TestSharesConverge(t *testing.T) {
	random := testkit.Rand(t)
	for range 2000 {
		f := &fleet{random: random, draining: map[string][]int{}, free: random.IntN(300)}
		for change := range 6 {
			f.change(fmt.Sprint(change))
			channels, before, looks := f.channels(), slices.Clone(f.pool), 0
			f.moved = 0
			for ; !f.quiet(); looks++ {
				require.Less(t, looks, 10+channels*drains/moves, "it does not become even: %+v", *f)
				f.everybodyLooks()
			}
			require.Equal(t, channels, f.channels(), "none is lost")
			require.Equal(t, f.given(before), f.moved, "moves to and fro: %+v", *f)
			held := slices.Clone(f.pool)
			for range 5 {
				f.everybodyLooks()
			}
			require.Equal(t, held, f.pool, "what is even does not move")
		}
	}
}
