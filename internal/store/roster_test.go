package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

var telegram = []domain.ChannelKind{domain.KindTelegram}

func TestRoster(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		seedChannels(t, s, 6)
		ctx := testkit.Context(t)
		enlist := func(id string, capacity int, ttl time.Duration, only ...int64) {
			t.Helper()
			require.NoError(t, s.Enlist(ctx, store.Enlistment{WorkerID: id, Name: id, Capacity: capacity, Only: only, TTL: ttl}))
		}
		pool := func() []store.PoolWorker {
			t.Helper()
			workers, err := s.Pool(ctx)
			require.NoError(t, err)
			return workers
		}
		room := func(lives, room bool) {
			t.Helper()
			gotLives, gotRoom, err := s.PoolHasRoom(ctx)
			require.NoError(t, err)
			require.Equal(t, []bool{lives, room}, []bool{gotLives, gotRoom})
		}
		room(false, false)

		enlist("b", 5, time.Minute)
		enlist("a", 2, time.Minute)
		enlist("d", 9, time.Minute, 3, 77)
		require.Equal(t, []store.PoolWorker{{ID: "a", Capacity: 2}, {ID: "b", Capacity: 5}}, pool(), "in one order for all, without the dedicated")
		n, err := s.PoolChannels(ctx, telegram)
		require.NoError(t, err)
		require.Equal(t, 5, n, "one of six is reserved")
		n, err = s.PoolChannels(ctx, []domain.ChannelKind{domain.KindWABA})
		require.NoError(t, err)
		require.Zero(t, n)

		taken, err := s.AcquireLeases(ctx, claimOf("a", time.Minute, 3))
		require.NoError(t, err)
		require.Equal(t, []int64{1, 2, 4}, ids(taken), "the reserved one is passed over")
		duties, err := s.Duties(ctx, "a")
		require.NoError(t, err)
		for _, d := range duties {
			require.False(t, d.Reserved)
		}
		room(true, true)
		enlist("b", 0, time.Minute)
		require.Equal(t, []store.PoolWorker{{ID: "a", Capacity: 2, Held: 3}, {ID: "b"}}, pool(), "what a worker can run may change")
		room(true, false)

		own := claimOf("d", time.Minute, 2)
		own.Only = []int64{3, 77}
		taken, err = s.AcquireLeases(ctx, own)
		require.NoError(t, err)
		require.Equal(t, []int64{3}, ids(taken))
		_, err = s.SQL().ExecContext(ctx, "UPDATE channels SET deleted_at = 1, enabled = FALSE WHERE id = 5")
		require.NoError(t, err)
		enlist("e", 9, time.Minute, 1, 3, 5)
		found, err := s.Assigned(ctx, "e", []int64{1, 3, 5, 77})
		require.NoError(t, err)
		require.Equal(t, map[int64]*store.AssignedChannel{
			1: {ID: 1, Kind: domain.KindTelegram, Enabled: true},
			3: {ID: 3, Kind: domain.KindTelegram, Enabled: true, Elsewhere: true},
			5: {ID: 5, Kind: domain.KindTelegram, Deleted: true},
		}, found, "the pool's hold on 1 is no hindrance")
		duties, err = s.Duties(ctx, "a")
		require.NoError(t, err)
		for _, d := range duties {
			require.Equal(t, d.ChannelID == 1, d.Reserved, "channel %d", d.ChannelID)
		}

		require.NoError(t, s.Discharge(ctx, "e"))
		require.NoError(t, s.Discharge(ctx, "d"), "with its reservations")
		n, err = s.PoolChannels(ctx, telegram)
		require.NoError(t, err)
		require.Equal(t, 5, n, "one is deleted")
		require.NoError(t, s.Discharge(ctx, "b"))
		require.Equal(t, []store.PoolWorker{{ID: "a", Capacity: 2, Held: 3}}, pool())

		enlist("a", 2, time.Millisecond)
		testkit.Eventually(t, "the time of a to run out", func() bool { return len(pool()) == 0 })
		enlist("f", 1, time.Millisecond) // whoever comes removes who died long ago
		testkit.Eventually(t, "the row of a to go", func() bool {
			enlist("f", 1, time.Millisecond)
			var rows int
			require.NoError(t, s.SQL().QueryRowContext(ctx, "SELECT COUNT(*) FROM workers WHERE id = 'a'").Scan(&rows))
			return rows == 0
		})
	})
}

// What is free for a while can be told from what has just been given up, was just switched on, or is spoken for.
func TestIdleChannels(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		seedChannels(t, s, 4)
		ctx := testkit.Context(t)
		exec := func(query string, args ...any) {
			t.Helper()
			_, err := s.SQL().ExecContext(ctx, query, args...)
			require.NoError(t, err)
		}
		claim := claimOf("a", time.Minute, 4)
		taken, err := s.AcquireLeases(ctx, claim)
		require.NoError(t, err)
		require.Len(t, taken, 4)
		for _, lease := range taken {
			require.NoError(t, s.ReleaseLease(ctx, lease))
		}
		claim.Idle = time.Minute
		taken, err = s.AcquireLeases(ctx, claim)
		require.NoError(t, err)
		require.Empty(t, taken, "they were given up just now")
		exec("UPDATE leases SET expires_at = expires_at - 120000")
		exec("DELETE FROM leases WHERE channel_id = 4")
		exec("UPDATE channels SET updated_at = $1 WHERE id = 2", int64(s.Now()))
		claim.Except = []int64{3}
		taken, err = s.AcquireLeases(ctx, claim)
		require.NoError(t, err)
		require.Equal(t, []int64{1, 4}, ids(taken), "neither what was changed just now nor what is excepted")
	})
}
