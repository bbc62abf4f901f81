package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
)

// leaseStores runs a test on both databases. open gives one more connection
// pool to the same database, as another process would have.
func leaseStores(t *testing.T, test func(t *testing.T, open func() *store.Store)) {
	for _, database := range []struct {
		name string
		url  func(testing.TB) string
	}{{"PostgreSQL", storetest.Postgres}, {"SQLite", storetest.SQLite}} {
		t.Run(database.name, func(t *testing.T) {
			t.Parallel()
			url := database.url(t)
			test(t, func() *store.Store {
				s, err := store.Open(t.Context(), url, store.Options{MaxConnections: 4})
				require.NoError(t, err)
				t.Cleanup(func() { _ = s.Close() })
				return s
			})
		})
	}
}

// seedChannels makes an organization with n channels and returns its id and
// theirs.
func seedChannels(t *testing.T, s *store.Store, n int) (organizationID int64, channelIDs []int64) {
	t.Helper()
	exec := func(query string, args ...any) {
		_, err := s.SQL().ExecContext(t.Context(), fmt.Sprintf(query, args...))
		require.NoError(t, err)
	}
	exec("INSERT INTO organizations (id, name, created_at) VALUES (1, 'Acme', 0)")
	exec("INSERT INTO event_heads (organization_id, epoch) VALUES (1, 'e')")
	for i := range n {
		exec(`INSERT INTO channels (id, organization_id, kind, name, config, enabled, state, state_since, created_at, updated_at)
			VALUES (%d, 1, 'telegram', 'c', '{}', true, 'disconnected', 0, 0, 0)`, i+1)
		channelIDs = append(channelIDs, int64(i+1))
	}
	return 1, channelIDs
}

func claimOf(worker string, ttl time.Duration, limit int) store.LeaseClaim {
	return store.LeaseClaim{WorkerID: worker, TTL: ttl, Limit: limit, Kinds: []domain.ChannelKind{domain.KindTelegram}}
}

func ids(leases []store.Lease) []int64 {
	var all []int64
	for _, l := range leases {
		all = append(all, l.ChannelID)
	}
	slices.Sort(all)
	return all
}

func TestLeaseLife(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		org, channels := seedChannels(t, s, 5)
		ctx := testkit.Context(t)
		exec := func(query string) {
			_, err := s.SQL().ExecContext(ctx, query)
			require.NoError(t, err)
		}
		exec("UPDATE channels SET enabled = false WHERE id = 4")
		exec("UPDATE channels SET deleted_at = 1 WHERE id = 5")
		write := func(l store.Lease) error {
			_, err := s.InOrg(ctx, org, func(*store.Tx) error { return nil }, store.Holding(l))
			return err
		}

		a, err := s.AcquireLeases(ctx, claimOf("a", time.Minute, 2))
		require.NoError(t, err)
		require.Equal(t, channels[:2], ids(a), "as many as asked for, oldest first")
		b, err := s.AcquireLeases(ctx, claimOf("b", time.Minute, 10))
		require.NoError(t, err)
		require.Equal(t, channels[2:3], ids(b), "neither held, nor disabled, nor deleted ones")

		only := claimOf("b", time.Minute, 10)
		only.Only = []int64{1}
		none, err := s.AcquireLeases(ctx, only)
		require.NoError(t, err)
		require.Empty(t, none)

		kept, busy, err := s.RenewLeases(ctx, "a", time.Minute, []int64{1, 2, 3})
		require.NoError(t, err)
		require.Empty(t, busy)
		require.Equal(t, channels[:2], ids(kept), "another's lease is not renewed")
		require.NoError(t, write(a[0]))

		// Neither another worker nor an older term can release it.
		require.NoError(t, s.ReleaseLease(ctx, store.Lease{ChannelID: 1, WorkerID: "b", Term: a[0].Term}))
		require.NoError(t, s.ReleaseLease(ctx, store.Lease{ChannelID: 1, WorkerID: "a", Term: a[0].Term - 1}))
		require.NoError(t, write(a[0]))

		require.NoError(t, s.ReleaseLease(ctx, a[0]))
		require.ErrorIs(t, write(a[0]), store.ErrLeaseLost)
		kept, busy, err = s.RenewLeases(ctx, "a", time.Minute, []int64{1, 2})
		require.NoError(t, err)
		require.Empty(t, busy)
		require.Equal(t, []int64{2}, ids(kept), "what has ended is not revived")
		next, err := s.AcquireLeases(ctx, only)
		require.NoError(t, err)
		require.Equal(t, []store.Lease{{ChannelID: 1, WorkerID: "b", Term: a[0].Term + 1}}, next, "at once, under a higher term")
		require.ErrorIs(t, write(a[0]), store.ErrLeaseLost)
		require.NoError(t, write(next[0]))
	})
}

// TestLeaseIsHeldOnce lets many workers take, renew, release and forget leases
// with a TTL of moments, and keeps a ledger of who may trust what until when.
func TestLeaseIsHeldOnce(t *testing.T) {
	const (
		workers  = 6
		channels = 8
		ttl      = 120 * time.Millisecond
		margin   = ttl / 8
		terms    = 12 // of each channel, at least
	)
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		_, all := seedChannels(t, open(), channels)
		seed := testkit.Rand(t).Uint64()
		ledger := &leaseLedger{held: map[int64]*held{}}
		ctx, cancel := context.WithCancel(testkit.Context(t))
		defer cancel()
		var group sync.WaitGroup
		for i := range workers {
			s, random := open(), rand.New(rand.NewPCG(seed, uint64(i)))
			group.Go(func() {
				defer cancel()
				for ctx.Err() == nil && !ledger.reached(all, terms) {
					if err := ledger.step(ctx, s, fmt.Sprint("worker-", i), random, ttl, margin); err != nil && ctx.Err() == nil {
						ledger.fault("worker %d: %v", i, err)
						return
					}
				}
			})
		}
		group.Wait()
		require.Empty(t, ledger.faults)
		require.True(t, ledger.reached(all, terms), "every channel changed hands %d times: %v", terms, ledger.held)
	})
}

type held struct {
	lease store.Lease
	until time.Time // trusted until, by the holder's clock
	taken time.Time // when the answer came
	free  bool
}

type leaseLedger struct {
	mu     sync.Mutex // guards what follows
	held   map[int64]*held
	faults []string
}

func (l *leaseLedger) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

func (l *leaseLedger) reached(channels []int64, term int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) > 0 {
		return true
	}
	for _, id := range channels {
		if h := l.held[id]; h == nil || h.lease.Term < term {
			return false
		}
	}
	return true
}

func (l *leaseLedger) step(ctx context.Context, s *store.Store, worker string, random *rand.Rand, ttl, margin time.Duration) error {
	start := time.Now()
	taken, err := s.AcquireLeases(ctx, claimOf(worker, ttl, 1+random.IntN(4)))
	if err != nil {
		return err
	}
	now := time.Now()
	for _, lease := range taken {
		l.take(lease, start.Add(ttl-margin), now)
	}
	mine := l.of(worker)
	switch {
	case len(mine) == 0:
		return nil
	case random.IntN(3) == 0:
		lease := mine[random.IntN(len(mine))]
		l.letGo(lease) // first: from here on it is not used any more
		return s.ReleaseLease(ctx, lease)
	case random.IntN(3) == 0:
		l.letGo(mine[0]) // forgotten, as by a crash; it expires
		l.expireOf(mine[0])
		return nil
	default:
		return l.renew(ctx, s, worker, mine, ttl, margin)
	}
}

func (l *leaseLedger) renew(ctx context.Context, s *store.Store, worker string, mine []store.Lease, ttl, margin time.Duration) error {
	start := time.Now()
	kept, _, err := s.RenewLeases(ctx, worker, ttl, ids(mine))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lease := range kept {
		h := l.held[lease.ChannelID]
		if h.lease == lease && !h.free && time.Now().Before(h.until) {
			h.until = start.Add(ttl - margin)
		}
	}
	return nil
}

// take is where a second holder would be seen.
func (l *leaseLedger) take(lease store.Lease, until, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.held[lease.ChannelID]
	fault := func(format string, args ...any) {
		l.faults = append(l.faults, fmt.Sprintf("channel %d: ", lease.ChannelID)+fmt.Sprintf(format, args...))
	}
	switch {
	case before == nil:
	case lease.Term == before.lease.Term:
		fault("term %d was given to %s and to %s", lease.Term, before.lease.WorkerID, lease.WorkerID)
	case lease.Term < before.lease.Term:
		// The answer came after the next holder's: good only if there is no
		// trust left in it.
		if until.After(before.taken) {
			fault("%s trusts term %d for %s into term %d", lease.WorkerID, lease.Term, until.Sub(before.taken), before.lease.Term)
		}
		return
	case !before.free && now.Before(before.until):
		fault("%s took term %d while %s trusted term %d for another %s",
			lease.WorkerID, lease.Term, before.lease.WorkerID, before.lease.Term, before.until.Sub(now))
	}
	l.held[lease.ChannelID] = &held{lease: lease, until: until, taken: now}
}

func (l *leaseLedger) of(worker string) []store.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	var mine []store.Lease
	for _, h := range l.held {
		if h.lease.WorkerID == worker && !h.free && time.Now().Before(h.until) {
			mine = append(mine, h.lease)
		}
	}
	return mine
}

func (l *leaseLedger) letGo(lease store.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.held[lease.ChannelID]; h.lease == lease {
		h.free = true
	}
}

// expireOf makes a forgotten lease count as trusted until its end: nobody may
// take it sooner.
func (l *leaseLedger) expireOf(lease store.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.held[lease.ChannelID]; h.lease == lease {
		h.free = false
		h.lease.WorkerID += " (gone)"
	}
}

func TestDuties(t *testing.T) {
	leaseStores(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		seedChannels(t, s, 4)
		ctx := testkit.Context(t)
		taken, err := s.AcquireLeases(ctx, claimOf("a", time.Minute, 4))
		require.NoError(t, err)
		require.Len(t, taken, 4)
		for _, query := range []string{
			"INSERT INTO contacts (id, organization_id, created_at, updated_at) VALUES (1, 1, 0, 0)",
			`INSERT INTO chats (id, organization_id, channel_id, channel_kind, kind, peer, contact_id, status, activity_at, created_at, updated_at)
				VALUES (1, 1, 1, 'telegram', 'direct', 'p', 1, 'open', 0, 0, 0)`,
			`INSERT INTO messages (id, organization_id, chat_id, channel_id, channel_kind, type, content, from_me, sender_key, sender_name, status, provider_time, created_at)
				VALUES (1, 1, 1, 1, 'telegram', 'text', 'x', true, 'me', '', 'queued', 0, 0)`,
			"INSERT INTO commands (organization_id, channel_id, chat_id, message_id, kind, value, created_at) VALUES (1, 2, 1, 1, 'read', '', 0)",
			"INSERT INTO media (organization_id, channel_id, mime, state, created_at) VALUES (1, 3, '', 'pending', 0)",
			"UPDATE channels SET deleted_at = 1, config_version = 7 WHERE id = 4",
		} {
			_, err := s.SQL().ExecContext(ctx, query)
			require.NoError(t, err)
		}
		duties, err := s.Duties(ctx, "a")
		require.NoError(t, err)
		slices.SortFunc(duties, func(a, b store.Duty) int { return int(a.ChannelID - b.ChannelID) })
		require.Equal(t, []store.Duty{
			{ChannelID: 1, ConfigVersion: 1, Enabled: true, Outbox: true},
			{ChannelID: 2, ConfigVersion: 1, Enabled: true, Commands: true},
			{ChannelID: 3, ConfigVersion: 1, Enabled: true, Media: true},
			{ChannelID: 4, ConfigVersion: 7},
		}, duties)
		none, err := s.Duties(ctx, "b")
		require.NoError(t, err)
		require.Empty(t, none)
	})
}
