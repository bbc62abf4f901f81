package worker

import (
	"sort"

	"switchboard/internal/store"
)

// How the pool shares its channels out. Every worker computes it for itself from
// what all of them see in the database, so they come to the same result: who
// should take what is free, and who should hand how many back.

// level is up to how many channels every worker of the pool can have, or its
// capacity where that is less, so that there are enough for all.
func level(channels int, pool []store.PoolWorker) int {
	most := 0
	for _, p := range pool {
		most = max(most, p.Capacity)
	}
	return sort.Search(most, func(n int) bool { // whether n + 1 is too many
		wanted := 0
		for _, p := range pool {
			wanted += min(p.Capacity, n+1)
		}
		return wanted > channels
	})
}

// share is a worker's part in the channels of the pool.
type share struct {
	now  int // up to so many channels it takes at once
	soon int // and up to so many if nobody takes what is free
	give int // so many of those that it has others should have
}

// shareOut computes a worker's share.
//
// Everybody may have the level; the few channels that remain go to one worker
// each. What is free is first for those below the level, then for the remainder;
// what is lacking then comes from those that have most. The rest is a matter of
// who is asked first, which is by id, the order of the pool.
func shareOut(id string, channels int, pool []store.PoolWorker) share {
	low := level(channels, pool)
	remain, free, lacking, excess := channels, channels, 0, 0
	for _, p := range pool {
		remain -= min(p.Capacity, low)
		free -= p.Held
	}
	high := low
	if remain > 0 {
		high++
	}
	for _, p := range pool {
		lacking += max(min(p.Capacity, low)-p.Held, 0)
		excess += max(p.Held-min(p.Capacity, high), 0)
	}
	free = max(free, 0)
	extra, short := free-lacking, lacking-free-excess
	for _, p := range pool {
		own, most := min(p.Capacity, low), min(p.Capacity, high)
		surplus := max(p.Held-most, 0)
		switch {
		case most > own && p.Held >= most && short > 0:
			short--
			surplus++
		case most > own && p.Held < most && extra > 0:
			extra--
			own = most
		}
		if p.ID == id {
			return share{now: own, soon: most, give: surplus}
		}
	}
	return share{now: low, soon: high} // it is not in the pool, for a moment
}
