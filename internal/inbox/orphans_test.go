package inbox_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

func TestChannelWithoutAWorkerLooksDead(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		state := func() domain.ChannelStatus {
			t.Helper()
			channel, err := c.store.Channel(ctx, c.who.OrganizationID, c.channelID)
			require.NoError(t, err)
			return channel.Status
		}
		claim := store.LeaseClaim{WorkerID: "w", TTL: time.Minute, Limit: 1, Kinds: []domain.ChannelKind{domain.KindWABA}}
		leases, err := c.store.AcquireLeases(ctx, claim)
		require.NoError(t, err)
		require.Len(t, leases, 1)
		require.NoError(t, c.inbox.ShowOrphans(ctx, 0))
		require.Equal(t, domain.ChannelConnected, state().State, "it has a worker")

		require.NoError(t, c.store.ReleaseLease(ctx, leases[0]))
		require.NoError(t, c.inbox.ShowOrphans(ctx, time.Minute))
		require.Equal(t, domain.ChannelConnected, state().State, "another worker has the time to take it")
		testkit.Eventually(t, "the channel to be shown", func() bool {
			require.NoError(t, c.inbox.ShowOrphans(ctx, time.Millisecond))
			return state().State == domain.ChannelDisconnected
		})
		require.Equal(t, "no_worker", state().Code)
		events := len(c.events())
		require.NoError(t, c.inbox.ShowOrphans(ctx, time.Millisecond))
		require.Len(t, c.events(), events, "told once")
	})
}
