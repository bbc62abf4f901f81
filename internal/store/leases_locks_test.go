package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
)

// writer begins a transaction under a guard that stays open until it is ended.
func writer(t *testing.T, s *store.Store, org int64, guard store.Guard) (end func()) {
	t.Helper()
	open, release, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := s.InOrg(testkit.Context(t), org, func(*store.Tx) error {
			close(open)
			<-release
			return nil
		}, guard)
		over <- err
	}()
	select {
	case <-open:
	case err := <-over:
		require.NoError(t, err)
	}
	return func() {
		close(release)
		require.NoError(t, <-over)
	}
}

// A writer that waits for something keeps its lease's row from another owner, and neither its own lease nor those beside it
// from being renewed. (SQLite has one writer at a time.)
func TestWriterKeepsOwnersOutAndNoRenewal(t *testing.T) {
	s, err := store.Open(t.Context(), storetest.Postgres(t), store.Options{MaxConnections: 8})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	org, channels := seedChannels(t, s, 3)
	ctx := testkit.Context(t)
	taken, err := s.AcquireLeases(ctx, claimOf("a", time.Minute, 3))
	require.NoError(t, err)
	soon := func() context.Context { return testkit.ContextFor(t, 5*time.Second) }
	exec := func(query string) {
		t.Helper()
		_, err := s.SQL().ExecContext(soon(), query)
		require.NoError(t, err)
	}

	keys := s.Keys(taken[0])
	defer func() { require.NoError(t, keys.Close()) }()
	for name, begin := range map[string]func() (end func()){
		"a transaction": func() func() { return writer(t, s, org, store.Holding(taken[0])) },
		"a library's keys": func() func() {
			tx, err := keys.BeginTx(ctx, nil)
			require.NoError(t, err)
			return func() { require.NoError(t, tx.Commit()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			end := begin()
			kept, busy, err := s.RenewLeases(soon(), "a", time.Minute, channels)
			require.NoError(t, err)
			require.Equal(t, channels, ids(kept))
			require.Empty(t, busy)

			exec("UPDATE leases SET expires_at = 0") // as its time passes
			next, err := s.AcquireLeases(soon(), claimOf("b", time.Minute, 3))
			require.NoError(t, err)
			require.Equal(t, []int64{2, 3}, ids(next), "a writer of the old term is still at the first")
			end()
			next, err = s.AcquireLeases(soon(), claimOf("b", time.Minute, 3))
			require.NoError(t, err)
			require.Equal(t, []int64{1}, ids(next))
			exec("UPDATE leases SET worker_id = 'a', term = 1") // as it was
		})
	}

	t.Run("one that is alone", func(t *testing.T) {
		end := writer(t, s, org, store.HoldingAlone(taken[0]))
		kept, busy, err := s.RenewLeases(soon(), "a", time.Minute, channels)
		require.NoError(t, err)
		require.Equal(t, []int64{2, 3}, ids(kept), "the others need not wait for it")
		require.Equal(t, []int64{1}, busy, "it is not lost")
		end()
		kept, busy, err = s.RenewLeases(soon(), "a", time.Minute, channels)
		require.NoError(t, err)
		require.Equal(t, channels, ids(kept))
		require.Empty(t, busy)
	})

	t.Run("alone means alone", func(t *testing.T) {
		end := writer(t, s, org, store.Holding(taken[0]))
		alone := make(chan struct{})
		over := make(chan error, 1)
		go func() {
			_, err := s.InOrg(ctx, org, func(*store.Tx) error {
				close(alone)
				return nil
			}, store.HoldingAlone(taken[0]))
			over <- err
		}()
		waiting(t, s)
		select {
		case <-alone:
			require.Fail(t, "it did not wait for the other transaction")
		default:
		}
		end()
		require.NoError(t, <-over)
	})

	t.Run("a release waits for the writer", func(t *testing.T) {
		end := writer(t, s, org, store.Holding(taken[1]))
		over := make(chan error, 1)
		go func() { over <- s.ReleaseLease(ctx, taken[1]) }()
		waiting(t, s)
		kept, _, err := s.RenewLeases(soon(), "a", time.Minute, []int64{1, 3})
		require.NoError(t, err)
		require.Equal(t, []int64{1, 3}, ids(kept))
		end()
		require.NoError(t, <-over)
		next, err := s.AcquireLeases(soon(), claimOf("b", time.Minute, 3))
		require.NoError(t, err)
		require.Equal(t, []int64{2}, ids(next), "at once")
	})

	t.Run("who shows an orphan", func(t *testing.T) {
		exec("UPDATE leases SET expires_at = 0 WHERE channel_id = 3")
		end := writer(t, s, org, store.Orphaned(3, time.Millisecond))
		next, err := s.AcquireLeases(soon(), claimOf("b", time.Minute, 3))
		require.NoError(t, err)
		require.Empty(t, next, "whoever shows it is not overtaken")
		end()
		next, err = s.AcquireLeases(soon(), claimOf("b", time.Minute, 3))
		require.NoError(t, err)
		require.Equal(t, []int64{3}, ids(next))
		_, err = s.InOrg(ctx, org, func(*store.Tx) error { return errors.New("not reached") }, store.Orphaned(3, time.Millisecond))
		require.ErrorIs(t, err, store.ErrOwned)
	})
}

// waiting waits until a session of the database waits for a lock.
func waiting(t *testing.T, s *store.Store) {
	t.Helper()
	testkit.Eventually(t, "somebody to wait for a lock", func() bool {
		var n int
		require.NoError(t, s.SQL().QueryRowContext(t.Context(),
			"SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n))
		return n > 0
	})
}
