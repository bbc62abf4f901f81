// Package pacing keeps a channel below its provider's limits: how many messages
// may go in all, how many to one chat, and how long to leave a provider alone
// that has refused some.
//
// A Gate never waits. It is told what leaves and what was refused, and tells
// what may go at a moment and when to ask again; what may not go yet stays where
// it is safe.
package pacing

import (
	"sync"
	"time"

	"switchboard/internal/channel"
)

// Limit lets Burst messages through at once, and one more after each Every: in
// any stretch of time t, at most Burst + t/Every.
type Limit struct {
	Every time.Duration
	Burst int
}

// Limits are what a provider lets through.
type Limits struct {
	// All is for a channel's messages together.
	All Limit
	// Chat gives the limit of one chat by its address.
	Chat func(peer string) Limit
	// Vague: the provider does not tell whether it refuses a chat or everything.
	// When it refuses a second chat while a first one waits, it is everything.
	Vague bool
}

// The waits after refusals, beside what the provider asks for: each that comes
// after the wait of the one before is twice as long.
const (
	longestWait = 15 * time.Minute
	// forgiven is how long after a wait the next refusal counts as the first.
	forgiven = 10 * time.Minute
)

// Gate paces one channel. It is safe for concurrent use.
type Gate struct {
	limits Limits

	mu    sync.Mutex // guards what follows
	all   bucket
	chats map[int64]*bucket // those that are not as if nothing had ever been sent to them
	// lastRefused is the chat of the last refusal.
	lastRefused int64
}

// New makes a gate. It may stand for one that was lost with its process, so its
// burst is not to be had at once.
func New(now time.Time, limits Limits) *Gate {
	g := &Gate{limits: limits, chats: map[int64]*bucket{}}
	g.all.limit = limits.All
	g.all.whole = now.Add(time.Duration(limits.All.Burst-1) * limits.All.Every)
	return g
}

// SetAll changes the limit of all messages together.
func (g *Gate) SetAll(limit Limit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all.limit = limit
}

// Pace tells what may go now.
func (g *Gate) Pace(now time.Time) channel.Pace {
	g.mu.Lock()
	defer g.mu.Unlock()
	var p channel.Pace
	if p.Room = g.all.room(now); p.Room == 0 {
		p.Again = g.all.free()
	}
	for id, b := range g.chats {
		switch {
		case b.forgotten(now):
			delete(g.chats, id)
		case b.room(now) == 0:
			p.Waiting = append(p.Waiting, id)
			if free := b.free(); p.Room > 0 && (p.Again.IsZero() || free.Before(p.Again)) {
				p.Again = free
			}
		}
	}
	return p
}

// Message notes that one leaves for a chat.
func (g *Gate) Message(now time.Time, chatID int64, peer string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all.take(now)
	g.bucket(chatID, peer).take(now)
}

// Call notes that something leaves which counts for the channel, but not as a
// message to a chat.
func (g *Gate) Call(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all.take(now)
}

// Accepted notes that the provider took something for a chat.
func (g *Gate) Accepted(now time.Time, chatID int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all.accepted(now)
	if b := g.chats[chatID]; b != nil {
		b.accepted(now)
	}
}

// RefusedChat notes that the provider wants nothing for a chat for a while, at
// least asked, and returns how long the chat waits now. whole tells that all of
// the channel waits.
func (g *Gate) RefusedChat(now time.Time, chatID int64, peer string, asked time.Duration) (wait time.Duration, whole bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := g.chats[g.lastRefused]
	whole = g.limits.Vague && last != nil && g.lastRefused != chatID && now.Before(last.until)
	g.lastRefused = chatID
	wait = g.bucket(chatID, peer).refuse(now, asked)
	if whole {
		wait = max(wait, g.all.refuse(now, asked))
	}
	return wait, whole
}

// RefusedAll is RefusedChat for the whole channel.
func (g *Gate) RefusedAll(now time.Time, asked time.Duration) (wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all.refuse(now, asked)
}

func (g *Gate) bucket(chatID int64, peer string) *bucket {
	b := g.chats[chatID]
	if b == nil {
		b = &bucket{limit: g.limits.Chat(peer)}
		g.chats[chatID] = b
	}
	return b
}

// bucket is one limit at work.
type bucket struct {
	limit    Limit
	whole    time.Time // when the burst is to be had again
	until    time.Time // of the wait after a refusal
	refusals int       // one after the other
}

// room is how many messages may go now.
func (b *bucket) room(now time.Time) int {
	if now.Before(b.until) {
		return 0
	}
	missing := b.whole.Sub(now)
	if missing <= 0 {
		return b.limit.Burst
	}
	return max(b.limit.Burst-int((missing+b.limit.Every-1)/b.limit.Every), 0)
}

// free is when the next message may go.
func (b *bucket) free() time.Time {
	free := b.whole.Add(-time.Duration(b.limit.Burst-1) * b.limit.Every)
	if b.until.After(free) {
		return b.until
	}
	return free
}

func (b *bucket) take(now time.Time) {
	if b.whole.Before(now) {
		b.whole = now
	}
	b.whole = b.whole.Add(b.limit.Every)
}

// refuse begins a wait, or prolongs one: what was under way when it began does
// not count as another refusal.
func (b *bucket) refuse(now time.Time, asked time.Duration) time.Duration {
	if now.Before(b.until) {
		if until := now.Add(asked); until.After(b.until) {
			b.until = until
		}
		return b.until.Sub(now)
	}
	if now.Sub(b.until) > forgiven {
		b.refusals = 0
	}
	wait := asked
	if grown := asked << min(b.refusals, 16); grown > asked {
		wait = max(asked, min(grown, longestWait))
	}
	b.refusals++
	b.until = now.Add(wait)
	return wait
}

// accepted ends the growth of the waits, unless it was under way when the last
// one began.
func (b *bucket) accepted(now time.Time) {
	if !now.Before(b.until) {
		b.refusals = 0
	}
}

// forgotten tells that nothing of the past counts any more.
func (b *bucket) forgotten(now time.Time) bool {
	return !b.whole.After(now) && !b.until.After(now) && (b.refusals == 0 || now.Sub(b.until) > forgiven)
}
