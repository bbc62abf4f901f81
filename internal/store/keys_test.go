package store_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/store"
)

var sqliteParams = strings.NewReplacer("$", "?")

// keysWorld is a held channel, and the table of a library.
func keysWorld(t *testing.T, s *store.Store) store.Lease {
	t.Helper()
	seedChannels(t, s, 1)
	kind := "BLOB"
	if s.Postgres() {
		kind = "BYTEA"
	}
	_, err := s.SQL().ExecContext(t.Context(), "CREATE TABLE ratchets (id TEXT PRIMARY KEY, state "+kind+" NOT NULL, fresh BOOLEAN, note TEXT)")
	require.NoError(t, err)
	leases, err := s.AcquireLeases(t.Context(), claimOf("w1", time.Minute, 1))
	require.NoError(t, err)
	require.Len(t, leases, 1)
	return leases[0]
}

// param writes parameters as the database at hand wants them.
func param(s *store.Store, query string) string {
	if s.Postgres() {
		return query
	}
	return sqliteParams.Replace(query)
}

func TestKeysAreADatabase(t *testing.T) {
	t.Parallel()
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		keys := s.Keys(keysWorld(t, s))
		defer keys.Close()
		ctx := t.Context()
		insert := param(s, "INSERT INTO ratchets (id, state, fresh, note) VALUES ($1, $2, $3, $4)")
		result, err := keys.ExecContext(ctx, insert, "a", []byte{0, 1, 2}, true, nil)
		require.NoError(t, err)
		n, err := result.RowsAffected()
		require.NoError(t, err)
		assert.EqualValues(t, 1, n)

		tx, err := keys.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, insert, "b", []byte("x"), false, "noted")
		require.NoError(t, err)
		var inside int
		require.NoError(t, tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM ratchets").Scan(&inside))
		assert.Equal(t, 2, inside)
		require.NoError(t, tx.Rollback())
		tx, err = keys.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, insert, "c", []byte("y"), false, "noted")
		require.NoError(t, err)
		require.NoError(t, tx.Commit())

		rows, err := keys.QueryContext(ctx, "SELECT id, state, fresh, note FROM ratchets ORDER BY id")
		require.NoError(t, err)
		defer rows.Close()
		var ids []string
		for rows.Next() {
			var id string
			var state []byte
			var fresh bool
			var note sql.NullString
			require.NoError(t, rows.Scan(&id, &state, &fresh, &note))
			ids = append(ids, id)
			if id == "a" {
				assert.Equal(t, []byte{0, 1, 2}, state)
				assert.True(t, fresh)
				assert.False(t, note.Valid)
			}
		}
		require.NoError(t, rows.Err())
		assert.Equal(t, []string{"a", "c"}, ids)
		var missing string
		err = keys.QueryRowContext(ctx, param(s, "SELECT id FROM ratchets WHERE id = $1"), "none").Scan(&missing)
		assert.ErrorIs(t, err, sql.ErrNoRows)
	})
}

// Whoever has lost the lease writes nothing, in a transaction or without one,
// and is told so before the call returns. Reading harms nobody.
func TestKeysNeedTheLease(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]string{
		"taken":   "UPDATE leases SET worker_id = 'w2', term = term + 1",
		"expired": "UPDATE leases SET expires_at = 1",
		"gone":    "DELETE FROM leases",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leaseStores(t, func(t *testing.T, open func() *store.Store) {
				s := open()
				keys := s.Keys(keysWorld(t, s))
				defer keys.Close()
				ctx := t.Context()
				var failures []error
				keys.OnFailure(func(err error) { failures = append(failures, err) })
				insert := param(s, "INSERT INTO ratchets (id, state) VALUES ($1, $2)")
				_, err := keys.ExecContext(ctx, insert, "before", []byte("x"))
				require.NoError(t, err)
				_, err = s.SQL().ExecContext(ctx, lose)
				require.NoError(t, err)

				_, err = keys.ExecContext(ctx, insert, "after", []byte("x"))
				require.ErrorIs(t, err, store.ErrLeaseLost)
				_, err = keys.BeginTx(ctx, nil)
				require.ErrorIs(t, err, store.ErrLeaseLost)
				require.Len(t, failures, 2)
				assert.ErrorIs(t, failures[0], store.ErrLeaseLost)
				for _, sneaky := range []string{
					"DELETE FROM ratchets RETURNING id", "UPDATE ratchets SET note = 'x' RETURNING id",
					"WITH gone AS (SELECT 1) DELETE FROM ratchets RETURNING id", "SELECT id FROM ratchets FOR UPDATE",
				} {
					rows, err := keys.QueryContext(ctx, sneaky)
					require.Error(t, err, sneaky)
					require.Nil(t, rows)
				}
				var n int
				require.NoError(t, keys.QueryRowContext(ctx, "SELECT COUNT(*) FROM ratchets").Scan(&n))
				assert.Equal(t, 1, n)
			})
		})
	}
}

// While a transaction with keys is open, nobody takes the lease over.
func TestKeysHoldTheLease(t *testing.T) {
	t.Parallel()
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s, other := open(), open()
		lease := keysWorld(t, s)
		keys := s.Keys(lease)
		defer keys.Close()
		tx, err := keys.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), param(s, "INSERT INTO ratchets (id, state) VALUES ($1, $2)"), "a", []byte("x"))
		require.NoError(t, err)
		if s.Postgres() { // SQLite has one writer, who is waited for
			_, err = other.SQL().ExecContext(t.Context(), "UPDATE leases SET expires_at = 1")
			require.NoError(t, err)
			taken, err := other.AcquireLeases(t.Context(), claimOf("w2", time.Minute, 1))
			require.NoError(t, err)
			require.Empty(t, taken)
		}
		require.NoError(t, tx.Commit())
		_, err = other.SQL().ExecContext(t.Context(), "UPDATE leases SET expires_at = 1")
		require.NoError(t, err)
		taken, err := other.AcquireLeases(t.Context(), claimOf("w2", time.Minute, 1))
		require.NoError(t, err)
		require.Len(t, taken, 1)
	})
}

// Many sessions share the Store's connections.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		lease := keysWorld(t, s)
		insert := param(s, "INSERT INTO ratchets (id, state) VALUES ($1, $2)")
		var all sync.WaitGroup
		failed := make(chan error, 400)
		for i := range 20 {
			all.Go(func() {
				keys := s.Keys(lease)
				defer keys.Close()
				for n := range 20 {
					_, err := keys.ExecContext(context.WithoutCancel(t.Context()), insert, string(rune('a'+i))+string(rune('a'+n)), []byte("x"))
					failed <- err
				}
			})
		}
		all.Wait()
		close(failed)
		for err := range failed {
			require.NoError(t, err)
		}
		var n int
		require.NoError(t, s.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM ratchets").Scan(&n))
		assert.Equal(t, 400, n)
	})
}

func TestExclusively(t *testing.T) {
	t.Parallel()
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		one, two := open(), open()
		inside := make(chan struct{})
		leave := make(chan struct{})
		done := make(chan error, 2)
		go func() {
			done <- one.Exclusively(context.WithoutCancel(t.Context()), "a thing", func(context.Context) error {
				close(inside)
				<-leave
				return errors.New("mine")
			})
		}()
		<-inside
		var order []string
		var mu sync.Mutex // guards order
		note := func(who string) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, who)
		}
		go func() {
			done <- two.Exclusively(context.WithoutCancel(t.Context()), "a thing", func(context.Context) error {
				note("second")
				return nil
			})
		}()
		note("first")
		close(leave)
		first, second := <-done, <-done
		require.EqualError(t, errors.Join(first, second), "mine")
		assert.Equal(t, []string{"first", "second"}, order)
	})
}

// What fails leaves nothing behind: no half of a transaction, and no connection
// that nobody gets back.
func TestKeysThatFail(t *testing.T) {
	t.Parallel()
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		keys := s.Keys(keysWorld(t, s))
		defer keys.Close()
		insert := param(s, "INSERT INTO ratchets (id, state) VALUES ($1, $2)")
		_, err := keys.ExecContext(t.Context(), insert, "taken", []byte("x"))
		require.NoError(t, err)
		for range 10 { // more than there are connections
			_, err = keys.ExecContext(t.Context(), insert, "taken", []byte("x"))
			require.Error(t, err)
			require.NotErrorIs(t, err, store.ErrLeaseLost)

			tx, err := keys.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), insert, "half", []byte("x"))
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), insert, "taken", []byte("x"))
			require.Error(t, err)
			if s.Postgres() {
				require.Error(t, tx.Commit(), "it was rolled back")
			} else {
				require.NoError(t, tx.Rollback())
			}

			ctx, cancel := context.WithCancel(t.Context())
			tx, err = keys.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, insert, "canceled", []byte("x"))
			require.NoError(t, err)
			cancel()
			_, err = tx.ExecContext(ctx, insert, "later", []byte("x"))
			require.Error(t, err)
			_ = tx.Rollback() // it is over already
		}
		_, err = keys.ExecContext(t.Context(), insert, "after", []byte("x"))
		require.NoError(t, err)
		var n int
		require.NoError(t, keys.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM ratchets").Scan(&n))
		assert.Equal(t, 2, n)
	})
}
