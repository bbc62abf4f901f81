package whatsapp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types/events"
)

func TestLoginFaults(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.idle()
	again := func(f Fault) {
		c.Disconnect()
		c.forget()
		f.Count = 1
		b.fault(f)
		require.NoError(t, c.ConnectContext(b.ctx))
	}
	again(Fault{Kind: FaultBan, Code: 102, ExpireSeconds: 60})
	ban := find(c, any1[*events.TemporaryBan])
	require.Equal(t, events.TempBanReason(102), ban.Code)
	require.Equal(t, time.Minute, ban.Expire)
	again(Fault{Kind: FaultOutdated})
	find(c, any1[*events.ClientOutdated])
	again(Fault{Kind: FaultFailure, Code: 409})
	require.Equal(t, events.ConnectFailureReason(409), find(c, any1[*events.ConnectFailure]).Reason)
	again(Fault{Kind: FaultUnavailable})
	find(c, any1[*events.Disconnected])
	again(Fault{Kind: FaultSlowLogin, Delay: 50 * time.Millisecond})
	find(c, any1[*events.Connected])
	again(Fault{Kind: FaultLoggedOut})
	out := find(c, any1[*events.LoggedOut])
	require.True(t, out.OnConnect)
	require.Equal(t, 5, b.Ledger().Counts().Failures)
}

func TestUnlink(t *testing.T) {
	b := start(t)
	online, offline := b.link(shop), b.link(shop)
	b.idle()
	offline.Disconnect()
	b.wait(func(l *Ledger) bool { return len(l.Sessions(shop)) == 1 })
	b.says(Incoming{From: marta, Text: "lost for one"})
	require.NoError(t, b.Unlink(shop))
	require.False(t, find(online, any1[*events.LoggedOut]).OnConnect)
	offline.forget()
	require.NoError(t, offline.ConnectContext(b.ctx))
	require.True(t, find(offline, any1[*events.LoggedOut]).OnConnect)
	require.Empty(t, b.Devices(shop))
	require.Zero(t, b.Pending())
	fresh := b.link(shop)
	require.Equal(t, uint16(3), fresh.Store.ID.Device)
	require.NoError(t, fresh.Logout(b.ctx))
	require.Empty(t, b.Devices(shop))
}

func TestReplacedAndOverlaps(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.idle()
	b.fault(Fault{Kind: FaultReplace, Number: shop})
	find(c, any1[*events.StreamReplaced])
	require.Empty(t, b.Ledger().Overlaps(shop)) // nobody else was there

	c.Disconnect()
	c.connect()
	other := b.clientOf(c.db, c.Store) // a second process with the same store
	other.connect()
	find(c, any1[*events.StreamReplaced])
	b.wait(func(l *Ledger) bool { return len(l.Sessions(shop)) == 1 })
	over := b.Ledger().Overlaps(shop)
	require.Len(t, over, 1)
	require.Less(t, over[0].Earlier, over[0].Later)

	// A takeover after a crash: the old process's line is dead when the new one logs in.
	h, kill := b.cuttable()
	other.Disconnect()
	b.wait(func(l *Ledger) bool { return len(l.Sessions(shop)) == 0 })
	crashing := b.clientOf(c.db, c.Store, func(c *client) { c.SetWebsocketHTTPClient(h) })
	crashing.connect()
	kill()
	b.clientOf(c.db, c.Store).connect()
	require.Len(t, b.Ledger().Overlaps(shop), 1)
	require.Len(t, b.Ledger().Sessions(shop), 1)
}

// A replacement that lasts: who logs in again meets the other login, until it leaves.
func TestReplacedForAWhile(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.idle()
	b.fault(Fault{Kind: FaultReplace, Number: "15550299999", ExpireSeconds: 60}) // another phone's
	require.Len(t, b.Ledger().Sessions(shop), 1)
	id := b.fault(Fault{Kind: FaultReplace, Number: shop, ExpireSeconds: 60})
	find(c, any1[*events.StreamReplaced])
	for range 2 {
		c.Disconnect()
		c.forget()
		require.NoError(t, c.ConnectContext(b.ctx))
		find(c, any1[*events.StreamReplaced])
	}
	require.Empty(t, b.Ledger().Sessions(shop))
	require.Equal(t, 3, b.Faults()[1].Used)
	require.Positive(t, time.Until(b.Faults()[1].Until))
	require.NoError(t, b.ClearFault(id))
	c.Disconnect()
	c.connect()
	over := Fault{Kind: FaultReplace, Until: time.Now().Add(-time.Second)}
	require.False(t, over.live())
}

// A device whose client was told that it is logged out does not come back: nobody waits for what it does not acknowledge.
func TestLoggedOutDevice(t *testing.T) {
	b := start(t)
	c, other := b.link(shop), b.link(shop)
	b.idle()
	c.Disconnect()
	b.fault(Fault{Kind: FaultLoggedOut, Number: shop, Count: 1})
	require.NoError(t, c.ConnectContext(b.ctx))
	find(c, any1[*events.LoggedOut])
	other.message(b.says(Incoming{From: marta, Text: "one of two reads it"}))
	b.idle()
	d := b.Devices(shop)
	require.True(t, d[0].LoggedOut)
	require.Equal(t, 1, d[0].Pending)
	require.False(t, d[1].LoggedOut)
	b.call("DELETE", "/control/phones/"+shop+"/devices/1", nil, 200, nil)
	b.call("DELETE", "/control/phones/"+shop+"/devices/1", nil, 404, nil)
	b.call("DELETE", "/control/phones/"+shop+"/devices/x", nil, 404, nil)
	b.call("DELETE", "/control/phones/1/devices/1", nil, 404, nil)
	require.Len(t, b.Devices(shop), 1)
	require.Equal(t, 1, b.Ledger().Counts().Lost)
}

func TestHalfOpenAndDrop(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.idle()
	b.fault(Fault{Kind: FaultHalfOpen, Number: shop})
	id := b.says(Incoming{From: marta, Text: "into the void"})
	require.Equal(t, 1, b.Pending())
	require.Len(t, b.Ledger().Sessions(shop), 1) // TCP is up
	c.Disconnect()
	c.connect()
	c.message(id)
	b.idle()
	b.fault(Fault{Kind: FaultDrop})
	find(c, any1[*events.Disconnected])
	c.connect()
	b.fault(Fault{Kind: FaultStreamError, Code: 503})
	find(c, any1[*events.Disconnected])
	c.connect()
	b.fault(Fault{Kind: FaultDrop, After: 2, Count: 1})
	for range 3 {
		b.says(Incoming{From: marta, Text: "x"})
	}
	find(c, any1[*events.Disconnected])
	c.connect()
	b.idle()
}

func TestWaitAndClose(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.idle()
	require.NoError(t, b.Close())
	find(c, any1[*events.Disconnected])
	_, err := b.Send(shop, Incoming{From: marta, Text: "?"})
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, b.Start(t.Context()), ErrClosed)
	require.NoError(t, b.Close())
}
