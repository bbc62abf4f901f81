package whatsapp

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

func TestFaultsOfSends(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.fault(Fault{Kind: FaultNoPreKeys, Count: 1, Peer: marta})
	id := c.text(pnJID(marta), "nobody can read this")
	require.NotEmpty(t, b.chat(marta)[0].Error)
	b.fault(Fault{Kind: FaultNoReceipt, Count: 1})
	quiet := c.text(pnJID(marta), "no second tick")
	require.Equal(t, StatusSent, b.chat(marta)[1].Status)
	require.NoError(t, b.Deliver(shop, marta, quiet))
	find(c, func(r *events.Receipt) bool { return r.MessageIDs[0] == quiet })
	b.fault(Fault{Kind: FaultLose, Count: 1, Number: shop})
	_, err := c.SendMessage(b.ctx, pnJID(marta), &waE2E.Message{Conversation: proto.String("lost")},
		whatsmeow.SendRequestExtra{ID: "LOST", Timeout: 200 * time.Millisecond})
	require.ErrorIs(t, err, whatsmeow.ErrMessageTimedOut)
	require.Len(t, b.chat(marta), 2)
	lost, _ := b.Ledger().SendByID(shop, "LOST")
	require.Equal(t, OutcomeLost, lost.Outcome)
	sent, _ := b.Ledger().SendByID(shop, id)
	require.Equal(t, OutcomeAccepted, sent.Outcome)
	b.fault(Fault{Kind: FaultSlow, Count: 1, Delay: 50 * time.Millisecond})
	c.text(pnJID(tomas), "slowly")
}

func TestHangingHandshake(t *testing.T) {
	b := start(t)
	id := b.fault(Fault{Kind: FaultHang, Count: 1})
	c := b.newClient()
	ctx, cancel := context.WithCancel(b.ctx)
	failed := make(chan error, 1)
	go func() { failed <- c.ConnectContext(ctx) }()
	b.wait(func(l *Ledger) bool { return len(l.Connections("")) == 1 && b.Faults()[0].Used == 1 })
	cancel()
	b.wait(func(l *Ledger) bool { return !l.Connections("")[0].EndedAt.IsZero() })
	require.NoError(t, b.ClearFault(id))
	require.ErrorIs(t, b.ClearFault(id), ErrNotFound)
	require.NoError(t, b.Close()) // whatsmeow waits out its own 20 seconds; nothing of the simulator does
}

func FuzzScan(f *testing.F) {
	s, err := New(Options{RootKey: rootSeed, Phones: []Phone{{Number: shop}}})
	require.NoError(f, err)
	f.Cleanup(func() { _ = s.Close() })
	f.Add("https://wa.me/settings/linked_devices#ref,bm9pc2U=,aWQ=,YWR2,1")
	f.Add("2@ref,,,,")
	f.Fuzz(func(t *testing.T, qr string) {
		require.ErrorIs(t, s.Scan(shop, qr), ErrInvalid)
		require.ErrorIs(t, s.EnterCode(shop, qr), ErrInvalid)
	})
}
