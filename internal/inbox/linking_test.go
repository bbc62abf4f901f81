package inbox_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/testkit"
)

const (
	ownNumber = "15550200001"
	device    = ownNumber + ":7@s.whatsapp.net"
)

// parsePhone is a ConfigParser as that of numbers that are linked.
func parsePhone(config map[string]any) (public, secrets map[string]string, externalKey string, err error) {
	public = map[string]string{}
	if phone, is := config["phone"].(string); is {
		public["phone"], externalKey = phone, phone
	}
	return public, nil, externalKey, nil
}

// withNumbers is onBoth with an inbox that has channels for phones.
func withNumbers(t *testing.T, test func(t *testing.T, c *customer)) {
	t.Helper()
	onBoth(t, func(t *testing.T, c *customer) {
		sealer, err := auth.NewSealer([]byte(strings.Repeat("k", 32)))
		require.NoError(t, err)
		c.inbox = inbox.New(inbox.Options{
			Store: c.store, Publisher: c, Waker: c, Logger: testkit.Logger(t), Sealer: sealer,
			Kinds: map[domain.ChannelKind]inbox.ConfigParser{domain.KindWhatsApp: parsePhone},
		})
		test(t, c)
	})
}

// number makes a channel that waits for a phone.
func (c *customer) number(config map[string]any) int64 {
	c.t.Helper()
	ctx := testkit.Context(c.t)
	channel, err := c.inbox.CreateChannel(ctx, c.who, domain.KindWhatsApp, "Number", config)
	require.NoError(c.t, err)
	_, err = c.inbox.ConnectChannel(ctx, c.who, channel.ID)
	require.NoError(c.t, err)
	return channel.ID
}

// shows is what a channel's session says of it.
func (c *customer) shows(channelID int64, state domain.ChannelState) {
	c.t.Helper()
	require.NoError(c.t, c.inbox.SetChannelStatus(testkit.Context(c.t), channelID, domain.ChannelStatus{State: state}))
}

func (c *customer) load(channelID int64) inbox.OpenChannel {
	c.t.Helper()
	open, err := c.inbox.LoadChannel(testkit.Context(c.t), channelID)
	require.NoError(c.t, err)
	return open
}

func (c *customer) asked() (open int) {
	c.t.Helper()
	require.NoError(c.t, c.store.SQL().QueryRowContext(testkit.Context(c.t), "SELECT COUNT(*) FROM session_requests").Scan(&open))
	return open
}

// However many ask at once, a session has few questions open: each is a row that
// is looked at again and again, and a look-up that WhatsApp counts.
func TestQuestionsToASessionAreBounded(t *testing.T) {
	withNumbers(t, func(t *testing.T, c *customer) {
		const most, tries = 8, 20
		id := c.number(map[string]any{})
		c.shows(id, domain.ChannelConnected)
		ctx, cancel := context.WithCancel(testkit.Context(t))
		defer cancel()
		refused := make(chan error, tries)
		var all sync.WaitGroup
		for range tries {
			all.Go(func() {
				_, _, err := c.inbox.StartChat(ctx, c.who, inbox.NewChat{ChannelID: id, Phone: "+1 555 010 0101"})
				if ctx.Err() == nil {
					refused <- err
				}
			})
		}
		for range tries - most {
			select {
			case err := <-refused:
				require.Equal(t, domain.CodeRateLimited, domain.CodeOf(err), err)
				require.Contains(t, err.Error(), "Try again")
			case <-time.After(10 * time.Second):
				require.Fail(t, "more questions are open than may be", "%d", c.asked())
			}
		}
		testkit.Eventually(t, "as many questions as may be", func() bool { return c.asked() == most })

		// Another channel is asked all the same, and this one when there is room.
		other := c.number(map[string]any{})
		c.shows(other, domain.ChannelConnected)
		all.Go(func() {
			_, _, _ = c.inbox.StartChat(ctx, c.who, inbox.NewChat{ChannelID: other, Phone: "+1 555 010 0101"})
		})
		testkit.Eventually(t, "a question to the other channel", func() bool { return c.asked() == most+1 })
		cancel()
		all.Wait()
		require.Zero(t, c.asked(), "nobody waits any more")
		again, stop := context.WithCancel(testkit.Context(t))
		all.Go(func() {
			_, _, _ = c.inbox.StartChat(again, c.who, inbox.NewChat{ChannelID: id, Phone: "+1 555 010 0101"})
		})
		testkit.Eventually(t, "room", func() bool { return c.asked() == 1 })
		stop()
		all.Wait()
	})
}

// A process that ends while somebody waits leaves questions; they go by the
// database's clock, and those that are still waited for stay.
func TestQuestionsOfTheDeadAreForgotten(t *testing.T) {
	withNumbers(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		id := c.number(map[string]any{})
		for _, life := range []time.Duration{-time.Minute, time.Minute} {
			_, err := c.store.AskSession(ctx, id, "resolve", "1", life, 8)
			require.NoError(t, err)
		}
		require.NoError(t, c.store.ForgetSessionRequests(ctx))
		require.Equal(t, 1, c.asked())
		left, err := c.store.SessionRequests(ctx, id, 10)
		require.NoError(t, err)
		require.Len(t, left, 1)
	})
}

// Who disconnects a channel that is being logged out, and connects it again,
// wants it back.
func TestDisconnectTakesALogoutBack(t *testing.T) {
	withNumbers(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		id := c.number(map[string]any{})
		require.NoError(t, c.inbox.KeepLink(ctx, id, ownNumber, device))
		c.shows(id, domain.ChannelConnected)
		_, err := c.inbox.LogoutChannel(ctx, c.who, id)
		require.NoError(t, err)
		require.True(t, c.load(id).Unlink)
		_, err = c.inbox.ConnectChannel(ctx, c.who, id)
		require.NoError(t, err)
		require.True(t, c.load(id).Unlink, "it is being logged out, connected or not")
		_, err = c.inbox.DisconnectChannel(ctx, c.who, id)
		require.NoError(t, err)
		require.False(t, c.load(id).Unlink)
		_, err = c.inbox.ConnectChannel(ctx, c.who, id)
		require.NoError(t, err)
		open := c.load(id)
		require.True(t, open.Channel.Enabled)
		require.False(t, open.Unlink)
		require.Equal(t, device, open.Device)
	})
}

// A phone whose linking failed does not keep the number, nor the channel.
func TestANumberIsKeptOnceItConnected(t *testing.T) {
	withNumbers(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		ended := domain.ChannelStatus{State: domain.ChannelDisconnected, Reason: "It failed."}
		const another = "15550200002"
		first, second := c.number(map[string]any{}), c.number(map[string]any{})

		require.NoError(t, c.inbox.AdmitNumber(ctx, first, ownNumber))
		require.NoError(t, c.inbox.KeepLink(ctx, first, ownNumber, device))
		require.Equal(t, domain.CodeConflict, domain.CodeOf(c.inbox.AdmitNumber(ctx, second, ownNumber)), "it is being linked elsewhere")
		require.Equal(t, domain.CodeConflict, domain.CodeOf(c.inbox.KeepLink(ctx, second, ownNumber, device)))
		require.NoError(t, c.inbox.EndLink(ctx, first, ended))
		open := c.load(first)
		require.Empty(t, open.ExternalKey)
		require.Empty(t, open.Device)
		require.NotContains(t, open.Channel.Config, "phone")
		require.NoError(t, c.inbox.AdmitNumber(ctx, first, another))

		require.NoError(t, c.inbox.AdmitNumber(ctx, second, ownNumber))
		require.NoError(t, c.inbox.KeepLink(ctx, second, ownNumber, device))
		c.shows(second, domain.ChannelConnecting)
		require.NotContains(t, c.load(second).Channel.Config, "phone")
		c.shows(second, domain.ChannelConnected)
		require.Equal(t, ownNumber, c.load(second).Channel.Config["phone"])
		require.NoError(t, c.inbox.EndLink(ctx, second, ended))
		open = c.load(second)
		require.Equal(t, ownNumber, open.ExternalKey, "logged out, it is this number's still")
		require.Equal(t, ownNumber, open.Channel.Config["phone"])
		require.Equal(t, domain.CodeConflict, domain.CodeOf(c.inbox.AdmitNumber(ctx, second, another)))

		// What an admin gave stays, whatever becomes of the linking.
		third := c.number(map[string]any{"phone": another})
		require.NoError(t, c.inbox.KeepLink(ctx, third, another, device))
		require.NoError(t, c.inbox.EndLink(ctx, third, ended))
		assert.Equal(t, another, c.load(third).ExternalKey)
		assert.Equal(t, another, c.load(third).Channel.Config["phone"])
	})
}
