package realtime

import (
	"context"
	"sync"
	"time"
)

// replayAtOnce is how many events a socket may have missed and still be let in without waiting for a turn.
const replayAtOnce = 100

// turns bounds how many sockets replay at a time. When a herd comes back far behind, all of them together would each hold a
// quarter of a megabyte and be done only when the last one is; a few at a time are done at once, and those who wait are told
// that they are connected when their turn has come.
type turns struct {
	places   chan struct{}
	patience time.Duration // who has waited that long goes ahead
	longest  time.Duration // who is slower than that leaves its place to others
}

func newTurns(limits Limits) *turns {
	const longest = 2 * time.Second
	return &turns{places: make(chan struct{}, limits.ConcurrentReplays), patience: limits.ConnectTimeout * 8 / 10, longest: longest}
}

// wait returns when it is the caller's turn, or it has waited long enough, or ctx or gone end. done must be called when the
// replay is over; it may be called again, and from anywhere.
func (t *turns) wait(ctx context.Context, gone <-chan struct{}) (done func()) {
	patience := time.NewTimer(t.patience)
	defer patience.Stop()
	select {
	case t.places <- struct{}{}:
	case <-patience.C:
		return func() {}
	case <-gone:
		return func() {}
	case <-ctx.Done():
		return func() {}
	}
	leave := sync.OnceFunc(func() { <-t.places })
	late := time.AfterFunc(t.longest, leave)
	return func() {
		late.Stop()
		leave()
	}
}

// waitForReplay waits for the session's turn, if it has much to catch up with.
func (s *Server) waitForReplay(n *session, gone <-chan struct{}) {
	now := n.feed.at()
	if n.from.bad || (n.from.epoch != "" && n.from.epoch != now.Epoch) || now.Seq-n.from.seq <= replayAtOnce {
		return
	}
	done := s.turns.wait(s.ctx, gone)
	n.mu.Lock()
	over := n.ended
	if !over {
		n.turn = done
	}
	n.mu.Unlock()
	if over {
		done()
	}
}
