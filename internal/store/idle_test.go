package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// A worker that stands still in the middle of a transaction holds its lease's
// row locked. The take-over must not wait for it to wake up, and what it writes
// then must not stand.
func TestTakeOverFromAWorkerThatStandsStillInATransaction(t *testing.T) {
	s, err := store.Open(testkit.Context(t), testkit.Postgres(t)+"&idle_in_transaction_session_timeout=300", store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	user, err := s.CreateOrganization(testkit.Context(t), store.Registration{OrganizationName: "o", UserName: "u", Email: "u@example.com", PasswordHash: "x"}, false)
	require.NoError(t, err)
	_, err = s.SQL().ExecContext(testkit.Context(t), `INSERT INTO channels (organization_id, kind, name, config, enabled, state, state_since, created_at, updated_at)
		VALUES ($1, 'waba', 'Sales', '{}', true, 'connected', 1, 1, 1)`, user.OrganizationID)
	require.NoError(t, err)
	claim := store.LeaseClaim{WorkerID: "still", TTL: 200 * time.Millisecond, Limit: 1, Kinds: []domain.ChannelKind{domain.KindWABA}}
	old, err := s.AcquireLeases(testkit.Context(t), claim)
	require.NoError(t, err)
	require.Len(t, old, 1)

	_, err = s.InOrg(testkit.Context(t), user.OrganizationID, func(tx *store.Tx) error {
		tx.Broadcast("late", map[string]int{"n": 1})
		claim.WorkerID = "next"
		testkit.Eventually(t, "the take-over", func() bool {
			taken, err := s.AcquireLeases(testkit.Context(t), claim)
			return err == nil && len(taken) == 1 && taken[0].Term == old[0].Term+1
		})
		return nil
	}, store.Holding(old[0]))
	require.Error(t, err)
	page, err := s.EventsAfter(testkit.Context(t), user.OrganizationID, 0, 10)
	require.NoError(t, err)
	require.Empty(t, page.Events, "a write under the old term stands")
}
