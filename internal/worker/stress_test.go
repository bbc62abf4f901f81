package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
)

// upheaval is a pool of workers with many channels, to all of which anything may happen.
type upheaval struct {
	*world
	random   *rand.Rand
	channels int64
	sane     atomic.Bool // from now on sessions work
	started  int
	alive    []*unsteady
	ending   sync.WaitGroup
	queued   int64
}

// unsteady is a worker that may be cut off from the database, as far as its renewals are concerned.
type unsteady struct {
	*node
	cut atomic.Bool
}

var errCut = errors.New("cut off")

func (u *upheaval) startWorker() {
	n := &unsteady{}
	u.started++
	n.node = u.node(fmt.Sprint("w", u.started), func(o *Options) {
		o.LeaseTTL, o.PollInterval = 800*time.Millisecond, 20*time.Millisecond
		o.DrainTimeout, o.SendTimeout = 100*time.Millisecond, 300*time.Millisecond
		o.MaxBackoff = 50 * time.Millisecond
		if u.random.IntN(5) == 0 {
			o.Channels = []int64{1, 2, u.channels + 7}
		}
		if u.random.IntN(5) == 0 {
			o.MaxChannels = 5
		}
	})
	n.beforeRenew = func(context.Context) error {
		if n.cut.Load() {
			return errCut
		}
		return nil
	}
	require.NoError(u.t, n.Start(u.t.Context()))
	u.alive = append(u.alive, n)
}

func (u *upheaval) loseWorker(kill bool) {
	i := u.random.IntN(len(u.alive))
	n := u.alive[i]
	u.alive = slices.Delete(u.alive, i, i+1)
	if kill {
		n.kill()
	}
	u.ending.Go(func() {
		n.Stop()
		_ = n.store.Close()
	})
}

// step does one thing to somebody.
func (u *upheaval) step() {
	id := 1 + u.random.Int64N(u.channels)
	switch u.random.IntN(10) {
	case 0, 1:
		u.exec("UPDATE channels SET config_version = config_version + 1 WHERE id = %d", id)
	case 2:
		u.exec("UPDATE channels SET enabled = NOT enabled, config_version = config_version + 1 WHERE id = %d", id)
	case 3:
		u.alive[u.random.IntN(len(u.alive))].cut.Store(u.random.IntN(2) == 0)
	case 4:
		if len(u.alive) < 3 {
			u.startWorker()
		} else {
			u.loseWorker(u.random.IntN(2) == 0)
		}
	default:
		u.queued++
		u.queue(u.queued, id, id)
	}
}

// mad is a session to which anything may happen; a source of random numbers is not for several goroutines, so chance is in the
// order in which they are opened.
func (u *upheaval) mad(ctx context.Context, s *session) error {
	n := int64(0)
	s.p.mu.Lock()
	for _, opened := range s.p.opened {
		n += int64(opened)
	}
	s.p.mu.Unlock()
	if u.sane.Load() {
		return s.serve(ctx)
	}
	switch n % 8 {
	case 0:
		panic("poison")
	case 1:
		return errors.New("refused")
	case 2: // it hangs before it is ready
		<-ctx.Done()
		return ctx.Err()
	case 3:
		return &channel.Down{State: domain.ChannelConflict, Code: "conflict", Reason: "Another program uses this bot."}
	default:
		return s.serve(ctx)
	}
}

func (u *upheaval) madSend(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
	if !u.sane.Load() {
		switch out.Message.ID % 11 {
		case 0:
			panic("poison")
		case 1:
			<-ctx.Done()
			return channel.Sent{}, ctx.Err()
		case 2:
			if out.Attempt < 3 {
				return channel.Sent{}, &channel.SendError{Outcome: channel.NotSent, Code: "later", Message: "Later."}
			}
		}
	}
	return s.accept(out), nil
}

// Workers and channels come, go, fail, hang and are cut off at random: at no moment two sessions of a channel live or two sends of a
// chat are under way, no message is sent twice, and when peace comes everything runs, evenly, and stays where it is. A stop leaves
// nothing behind.
func TestUpheaval(t *testing.T) {
	steps := 150
	if testkit.Full() {
		steps = 3000
	}
	for _, database := range []struct {
		name string
		url  func(testing.TB) string
	}{{"PostgreSQL", storetest.Postgres}, {"SQLite", storetest.SQLite}} {
		t.Run(database.name, func(t *testing.T) { // one after the other: goroutines are counted
			u := &upheaval{world: newWorld(t, database.url(t)), random: testkit.Rand(t), channels: 24}
			for id := range u.channels {
				u.channel(id + 1)
				u.chat(id+1, id+1)
			}
			u.provider.run, u.provider.send = u.mad, u.madSend
			leaks := append(testkit.Leaks(), goleak.IgnoreCurrent())
			u.startWorker()
			for range steps {
				u.step()
				pause(t.Context(), time.Duration(u.random.IntN(20))*time.Millisecond)
			}
			u.calm()
			for len(u.alive) > 0 {
				u.loseWorker(false)
			}
			u.ending.Wait()
			require.Empty(t, u.provider.owners())
			goleak.VerifyNone(t, leaks...)
			u.verdict()
		})
	}
}

// calm ends the upheaval and waits for peace.
func (u *upheaval) calm() {
	u.sane.Store(true)
	for _, n := range u.alive {
		n.cut.Store(false)
	}
	for len(u.alive) > 1 {
		u.loseWorker(u.random.IntN(2) == 0)
	}
	u.loseWorker(false)
	var looks, lost atomic.Int64
	for i := range 3 {
		u.alive = append(u.alive, &unsteady{node: u.start(fmt.Sprint("calm", i), func(o *Options) {
			o.LeaseTTL = 3 * time.Second
			o.Measures.PoolWorkers = func(int) { looks.Add(1) }
			o.Measures.LeaseLost = func() { lost.Add(1) }
		})})
	}
	u.exec("UPDATE channels SET enabled = TRUE, config_version = config_version + 1")
	u.eventually("all channels to run", func() bool { return u.one("SELECT COUNT(*) FROM channels WHERE state <> 'connected'") == "0" })
	u.eventually("even shares", func() bool { return slices.Equal(u.provider.shares(), []int{8, 8, 8}) })
	u.eventually("all messages to be settled", func() bool {
		return u.one("SELECT COUNT(*) FROM messages WHERE status IN ('queued', 'sending')") == "0"
	})
	terms, seen := u.one("SELECT SUM(term) FROM leases"), looks.Load()
	u.eventually("many looks", func() bool { return looks.Load() > seen+3*100 }) // longer than what a channel must have stayed before it moves
	if moved := u.one("SELECT SUM(term) FROM leases"); lost.Load() == 0 {        // else this machine is too busy to tell
		require.Equal(u.t, terms, moved, "in peace nothing moves")
	}
}

func (u *upheaval) verdict() {
	u.provider.check(u.t)
	require.Equal(u.t, "0", u.one("SELECT COUNT(*) FROM workers WHERE name LIKE 'calm%%'"), "who stops signs off")
	times := map[int64]int{}
	u.provider.mu.Lock()
	for _, s := range u.provider.sent {
		times[s.id]++
	}
	u.provider.mu.Unlock()
	for id := int64(1); id <= u.queued; id++ {
		status := u.status(id)
		require.LessOrEqual(u.t, times[id], 1, "message %d, which is %s", id, status)
		if status == string(domain.StatusSent) {
			require.Equal(u.t, 1, times[id], "message %d", id)
		}
	}
	u.t.Logf("%d messages, %d workers, %s terms", u.queued, u.started+3, u.one("SELECT SUM(term) FROM leases"))
}
