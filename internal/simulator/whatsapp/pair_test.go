package whatsapp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

func TestPairByQR(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	require.Equal(t, shop, c.Store.ID.User)
	require.Equal(t, uint16(1), c.Store.ID.Device)
	require.NotEmpty(t, c.Store.LID.User)
	d := b.Devices(shop)
	require.Len(t, d, 1)
	require.True(t, d[0].Active)
	require.Positive(t, d[0].PreKeys)
	find(c, func(e *events.AppStateSyncComplete) bool { return e.Name == appstate.WAPatchCriticalBlock })
	require.Equal(t, "Shop", c.Store.PushName)
	id := b.says(Incoming{From: marta, Text: "Hello?"})
	m := c.message(id)
	require.Equal(t, "Hello?", m.Message.GetConversation())
	require.Equal(t, marta, m.Info.Sender.User)
	b.idle()
	out := c.text(m.Info.Chat, "Hello!")
	require.Equal(t, "Hello!", b.chat(marta)[1].Text)
	find(c, func(r *events.Receipt) bool { return r.MessageIDs[0] == out })
}

func TestPairByCode(t *testing.T) {
	b := start(t)
	c := b.newClient()
	require.NoError(t, c.ConnectContext(b.ctx))
	find(c, any1[*events.QR])
	_, err := c.PairPhone(b.ctx, shop, true, whatsmeow.PairClientChrome, "Somebody's toaster")
	require.Error(t, err)
	require.ErrorIs(t, b.EnterCode(shop, "AAAA-AAAA"), ErrInvalid)
	code, err := c.PairPhone(b.ctx, shop, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	require.NoError(t, err)
	require.ErrorIs(t, b.EnterCode(shop, "AAAA-AAAA"), ErrInvalid)
	require.NoError(t, b.EnterCode(shop, code))
	find(c, any1[*events.Connected])
	require.Len(t, b.Devices(shop), 1)
}

func TestPairWithPasskey(t *testing.T) {
	b := start(t, func(o *Options) { o.Phones[0].PasskeyRequired = true })
	c := b.newClient()
	ch, err := c.GetQRChannel(b.ctx)
	require.NoError(t, err)
	require.NoError(t, c.ConnectContext(b.ctx))
	item := <-ch
	require.Equal(t, whatsmeow.QRChannelEventCode, item.Event)
	var scanned struct{ Linked bool }
	b.call("POST", "/control/phones/"+shop+"/scan", map[string]string{"qr": item.Code}, 200, &scanned)
	require.False(t, scanned.Linked)
	item = <-ch
	require.Equal(t, whatsmeow.QRChannelEventPasskeyRequest, item.Event)
	require.Empty(t, b.Devices(shop))
	require.NoError(t, c.SendPasskeyResponse(b.ctx, &types.WebAuthnResponse{ID: "x", RawID: []byte("x"), Type: "public-key"}))
	item = <-ch
	require.Equal(t, whatsmeow.QRChannelSuccess, item)
	find(c, any1[*events.Connected])
}

func TestScanRefuses(t *testing.T) {
	b := start(t, func(o *Options) { o.RefTTL = time.Nanosecond })
	c := b.newClient()
	require.NoError(t, c.ConnectContext(b.ctx))
	qr := find(c, any1[*events.QR])
	require.ErrorIs(t, b.Scan("15550999999", qr.Codes[0]), ErrNotFound)
	require.ErrorIs(t, b.Scan(shop, qr.Codes[0]), ErrInvalid) // expired
	require.ErrorIs(t, b.Scan(shop, "https://wa.me/settings/linked_devices#x,y,z,w,1"), ErrInvalid)

	b = start(t)
	c = b.newClient(func(c *client) { c.PrePairCallback = func(types.JID, string, string) bool { return false } })
	require.NoError(t, c.ConnectContext(b.ctx))
	qr = find(c, any1[*events.QR])
	require.ErrorContains(t, b.Scan(shop, qr.Codes[0]), "internal-error")
	find(c, any1[*events.PairError])
	require.Empty(t, b.Devices(shop))
	b.fault(Fault{Kind: FaultOutdated, Count: 1})
	c = b.newClient()
	require.NoError(t, c.ConnectContext(b.ctx))
	find(c, any1[*events.ClientOutdated])
}
