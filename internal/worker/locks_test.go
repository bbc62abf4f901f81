package worker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit/storetest"
)

// onPostgres runs a test where rows are locked one by one.
func onPostgres(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, storetest.Postgres(t))
	t.Cleanup(func() { w.provider.check(t) })
	return w
}

// lock holds a row as somebody would who works on it for long. It may be released twice.
func (w *world) lock(query string) (release func()) {
	w.t.Helper()
	tx, err := w.open().SQL().BeginTx(context.WithoutCancel(w.t.Context()), nil)
	require.NoError(w.t, err)
	_, err = tx.ExecContext(w.t.Context(), query+" FOR UPDATE")
	require.NoError(w.t, err)
	release = func() { _ = tx.Rollback() } // the second time says that it is over
	w.t.Cleanup(release)
	return release
}

// waitForLock waits until somebody waits for a lock.
func (w *world) waitForLock() {
	w.t.Helper()
	w.eventually("somebody to wait for a lock", func() bool {
		return w.one("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") != "0"
	})
}

func inboundText(id, chat string) []domain.Inbound {
	return []domain.Inbound{{Message: &domain.InboundMessage{
		ExternalID: id, Peer: domain.Peer{Address: chat, Kind: domain.ChatDirect}, Type: domain.TypeText, Content: "hello",
	}}}
}

// A session that waits for a row, for longer than a lease lasts, costs no lease: not its own, and none of the others.
func TestLockedRowCostsNoLease(t *testing.T) {
	w := onPostgres(t)
	for id := range int64(3) {
		w.channel(id + 1)
		w.chat(id+1, id+1)
	}
	received := make(chan error, 1)
	w.provider.run = func(ctx context.Context, s *session) error {
		if s.config.Channel.ID == 1 {
			received <- s.config.Host.Receive(ctx, inboundText("x", "peer-1"))
		}
		return s.serve(ctx)
	}
	release := w.lock("SELECT 1 FROM chats WHERE id = 1")
	a := w.start("a", brief)
	w.waitForLock()
	w.eventually("a to have all channels", func() bool { return len(a.Held()) == 3 })
	first := w.db.Now()
	w.eventually("all leases to be renewed for twice their time", func() bool {
		return w.one("SELECT MIN(expires_at) > %d FROM leases", first.Add(3*a.o.LeaseTTL)) == "true"
	})
	require.Equal(t, "1", w.one("SELECT MAX(term) FROM leases"))
	release()
	require.NoError(t, <-received, "it waited under a lease that it had all the time")
	require.Equal(t, "1", w.one("SELECT COUNT(*) FROM messages"))
	w.provider.mu.Lock()
	defer w.provider.mu.Unlock()
	require.Equal(t, map[int64]int{1: 1, 2: 1, 3: 1}, w.provider.opened, "no session has ended")
}

// Whoever locks a row keeps a session waiting for a bounded time. What it could not store, it can later.
func TestReceiveEnds(t *testing.T) {
	w := onPostgres(t)
	w.channel(1)
	w.chat(1, 1)
	release := w.lock("SELECT 1 FROM chats WHERE id = 1")
	results := make(chan error, 3)
	w.provider.run = func(ctx context.Context, s *session) error {
		items := inboundText("x", "peer-1")
		results <- s.config.Host.Receive(ctx, items)
		batch := domain.Batch{Position: "2", Items: []domain.Received{{Inbound: items[0], Raw: []byte("{}")}}, LastTry: true}
		results <- s.config.Intake.ReceiveBatch(ctx, batch)
		release()
		results <- s.config.Intake.ReceiveBatch(ctx, batch)
		return s.serve(ctx)
	}
	w.start("a", func(o *Options) {
		calm(o)
		o.ReceiveTimeout = 200 * time.Millisecond
	})
	require.Error(t, <-results)
	require.Error(t, <-results)
	w.eventually("it to be stored", func() bool { return w.one("SELECT COUNT(*) FROM messages") == "1" })
	require.NoError(t, <-results)
	require.Equal(t, "0", w.one("SELECT COUNT(*) FROM webhook_rejects"), "nothing is wrong with it, even at the last try")
	require.Equal(t, "2", w.one("SELECT position FROM intakes"))
}

// A state that cannot be written holds up neither the hand-over nor the end of the worker.
func TestStopDoesNotWaitForAState(t *testing.T) {
	for name, accompanied := range map[string]bool{"another worker lives": true, "alone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := onPostgres(t)
			w.channel(1)
			say := make(chan struct{})
			said := make(chan error, 1)
			w.provider.run = func(ctx context.Context, s *session) error {
				if s.worker != "a" {
					<-ctx.Done()
					return nil
				}
				_ = s.config.Host.SetStatus(ctx, domain.ChannelConnected, "", "Connected.")
				<-say
				short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
				said <- s.config.Host.SetStatus(short, domain.ChannelConflict, "conflict", "Another program.")
				<-ctx.Done()
				return nil
			}
			a := w.start("a", calm)
			w.eventually("a to run the channel", func() bool { return w.one("SELECT state FROM channels") == "connected" })
			if accompanied {
				w.start("b", calm)
				w.eventually("a to see b", a.accompanied.Load)
			}
			w.lock("SELECT 1 FROM channels WHERE id = 1")
			close(say)
			require.Error(t, <-said)
			began := time.Now()
			s := a.supervisor(1)
			s.mu.Lock()
			shown := s.status
			s.mu.Unlock()
			w.eventually("a to try again", func() bool {
				shown.mu.Lock()
				defer shown.mu.Unlock()
				return shown.busy
			})
			w.waitForLock()
			a.Stop()
			if accompanied {
				w.eventually("b to run the channel", func() bool { return w.provider.owner(1) == "b" })
			}
			require.Less(t, time.Since(began), statusTimeout*3/4, "the try to write a state takes longer")
		})
	}
}
