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

// A state that promises another try does so only while somebody is there to make it. One that waits for an admin stays.
func TestPromiseOfADeadWorkerEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		cases := []struct {
			state   domain.ChannelState
			retries bool
			want    domain.ChannelState
		}{
			{domain.ChannelError, true, domain.ChannelDisconnected},
			{domain.ChannelConflict, true, domain.ChannelDisconnected},
			{domain.ChannelError, false, domain.ChannelError},
			{domain.ChannelLoggedOut, false, domain.ChannelLoggedOut},
		}
		for _, k := range cases {
			require.NoError(t, c.inbox.SetChannelStatus(ctx, c.channelID, domain.ChannelStatus{
				State: k.state, Code: "code", Reason: "As the worker said.", Worker: "w", Retries: k.retries,
			}))
			before := len(c.events())
			require.NoError(t, c.inbox.ShowOrphans(ctx, time.Millisecond))
			require.NoError(t, c.inbox.ShowOrphans(ctx, time.Millisecond))
			channel, err := c.store.Channel(ctx, c.who.OrganizationID, c.channelID)
			require.NoError(t, err)
			require.Equal(t, k.want, channel.Status.State, "%+v", k)
			if k.retries {
				require.Equal(t, "no_worker", channel.Status.Code)
				require.Len(t, c.events(), before+1, "told once")
			} else {
				require.Equal(t, "As the worker said.", channel.Status.Reason)
				require.Len(t, c.events(), before)
			}
		}
		// Whether somebody tries again is nobody's news.
		before := len(c.events())
		require.NoError(t, c.inbox.SetChannelStatus(ctx, c.channelID, domain.ChannelStatus{
			State: domain.ChannelLoggedOut, Code: "code", Reason: "As the worker said.", Worker: "w", Retries: true,
		}))
		require.Len(t, c.events(), before)
		require.NoError(t, c.inbox.ShowOrphans(ctx, time.Millisecond))
		require.Len(t, c.events(), before+1)
	})
}
