package whatsapp

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

func TestPendingMessagesComeInOrder(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.idle()
	c.Disconnect()
	b.wait(func(l *Ledger) bool { return len(l.Sessions(shop)) == 0 })
	var ids []string
	for i := range 20 {
		ids = append(ids, b.says(Incoming{From: []string{marta, tomas}[i%2], Text: fmt.Sprint(i)}))
	}
	require.Equal(t, 20, b.Pending())
	c.connect()
	find(c, func(e *events.OfflineSyncCompleted) bool { return e.Count == 20 })
	b.idle()
	var got []string
	c.mu.Lock()
	for _, evt := range c.seen {
		if m, ok := evt.(*events.Message); ok {
			got = append(got, m.Info.ID)
		}
	}
	c.mu.Unlock()
	require.Equal(t, ids, got)
}

func TestRedeliveryUntilAcked(t *testing.T) {
	b := start(t)
	var fail atomic.Bool
	refused := make(chan struct{}, 1)
	c := b.link(shop, func(c *client) {
		c.refuse = func(evt any) bool {
			if _, ok := evt.(*events.Message); !ok || !fail.Load() {
				return false
			}
			refused <- struct{}{}
			return true
		}
	})
	fail.Store(true)
	id := b.says(Incoming{From: marta, Text: "stored at last"})
	<-refused
	require.Equal(t, 1, b.Pending())
	c.Disconnect()
	fail.Store(false)
	c.connect()
	c.message(id)
	b.idle()
	life := b.Ledger().InboundByID(shop, id)[0]
	require.Equal(t, 2, life.Times)
	require.True(t, life.Deliveries[1].Offline)
	require.Equal(t, "receipt inactive", life.Acked)
	require.Empty(t, b.Ledger().Overlaps(shop))
}

func TestDropRightAfterDelivery(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.idle()
	b.fault(Fault{Kind: FaultDropBack, Count: 1})
	id := b.says(Incoming{From: marta, Text: "did you get it?"})
	find(c, any1[*events.Disconnected])
	require.Equal(t, 1, b.Pending())
	c.connect()
	b.idle()
	require.Equal(t, 2, b.Ledger().InboundByID(shop, id)[0].Times)
}

func TestDuplicateAndReorder(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.fault(Fault{Kind: FaultReorder, Count: 1})
	late := b.says(Incoming{From: marta, Text: "first"})
	early := b.says(Incoming{From: marta, Text: "second"})
	b.idle()
	c.mu.Lock()
	var order []string
	for _, evt := range c.seen {
		if m, ok := evt.(*events.Message); ok && m.Info.Category != "peer" {
			order = append(order, m.Info.ID)
		}
	}
	c.mu.Unlock()
	require.Equal(t, []string{early, late}, order)
	twice := b.says(Incoming{From: marta, Text: "again", ID: "FORCED1"})
	b.says(Incoming{From: marta, Text: "again", ID: "FORCED1"})
	b.idle()
	require.Equal(t, 2, c.count(twice))
	b.fault(Fault{Kind: FaultDuplicate, Count: 1})
	dup := b.says(Incoming{From: marta, Text: "dup"})
	b.wait(func(l *Ledger) bool { return l.InboundByID(shop, dup)[0].Times == 2 })
}

func TestRepeatedSendsReachPeopleOnce(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	to := pnJID(marta)
	b.fault(Fault{Kind: FaultNoAck, Count: 1})
	extra := whatsmeow.SendRequestExtra{ID: "MINE1", Timeout: 300 * time.Millisecond}
	_, err := c.SendMessage(b.ctx, to, &waE2E.Message{Conversation: proto.String("once")}, extra)
	require.ErrorIs(t, err, whatsmeow.ErrMessageTimedOut)
	sent, _ := b.Ledger().SendByID(shop, "MINE1")
	require.Equal(t, OutcomeUntold, sent.Outcome)
	c.text(to, "once", whatsmeow.SendRequestExtra{ID: "MINE1"})
	require.Len(t, b.chat(marta), 1)
	sent, _ = b.Ledger().SendByID(shop, "MINE1")
	require.Equal(t, 1, sent.Repeats)
	require.Equal(t, OutcomeAccepted, sent.Outcome)

	b.fault(Fault{Kind: FaultAckError, Count: 1, Code: 463})
	_, err = c.SendMessage(b.ctx, to, &waE2E.Message{Conversation: proto.String("no")}, whatsmeow.SendRequestExtra{ID: "MINE2"})
	require.ErrorContains(t, err, "463")
	require.Len(t, b.chat(marta), 1)
	c.text(to, "yes", whatsmeow.SendRequestExtra{ID: "MINE2"})
	require.Equal(t, "yes", b.chat(marta)[1].Text)

	b.fault(Fault{Kind: FaultDropSend, Count: 1})
	c.AddEventHandler(func(evt any) {
		if _, ok := evt.(*events.Disconnected); ok {
			go c.Disconnect() // whatsmeow would wait for another connection
		}
	})
	_, err = c.SendMessage(b.ctx, to, &waE2E.Message{Conversation: proto.String("cut")}, whatsmeow.SendRequestExtra{ID: "MINE3"})
	require.Error(t, err)
	require.Equal(t, "cut", b.chat(marta)[2].Text)
	require.Equal(t, Counts{}.Lost, b.Ledger().Counts().Lost)
}

func TestReachOutLimit(t *testing.T) {
	b := start(t, func(o *Options) { o.Phones[0].ReachOutLimited = true })
	c := b.link(shop)
	_, err := c.SendMessage(b.ctx, pnJID(marta), &waE2E.Message{Conversation: proto.String("buy!")})
	require.ErrorContains(t, err, "463")
	b.says(Incoming{From: marta, Text: "hello"})
	c.text(pnJID(marta), "hello")
}

func TestStatusesAndChanges(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	b.says(Incoming{From: marta, Text: "hi"})
	first := c.text(pnJID(marta), "one")
	second := c.text(pnJID(marta), "two")
	find(c, func(r *events.Receipt) bool { return r.Type == types.ReceiptTypeDelivered && r.MessageIDs[0] == second })
	require.NoError(t, b.Read(shop, marta))
	r := find(c, func(r *events.Receipt) bool { return r.Type == types.ReceiptTypeRead })
	require.Equal(t, []string{first, second}, r.MessageIDs)
	require.NoError(t, b.Played(shop, marta, second))
	find(c, func(r *events.Receipt) bool { return r.Type == types.ReceiptTypePlayed })
	require.Equal(t, StatusRead, b.chat(marta)[1].Status)
	require.Equal(t, StatusPlayed, b.chat(marta)[2].Status)

	_, err := c.SendMessage(b.ctx, pnJID(marta), c.BuildEdit(pnJID(marta), first, &waE2E.Message{Conversation: proto.String("ONE")}))
	require.NoError(t, err)
	_, err = c.SendMessage(b.ctx, pnJID(marta), c.BuildReaction(pnJID(marta), types.EmptyJID, second, "🎉"))
	require.NoError(t, err)
	_, err = c.SendMessage(b.ctx, pnJID(marta), c.BuildRevoke(pnJID(marta), types.EmptyJID, second))
	require.NoError(t, err)
	got := b.chat(marta)
	require.Equal(t, "ONE", got[1].Text)
	require.True(t, got[2].Revoked)
	require.Equal(t, "🎉", got[2].Reactions[shop])
	require.Len(t, got, 3)

	in := got[0].ID
	require.NoError(t, c.MarkRead(b.ctx, []string{in}, time.Now(), pnJID(marta), types.EmptyJID))
	b.wait(func(*Ledger) bool { return b.chat(marta)[0].Status == StatusRead })
}

func TestPeopleAskForARetry(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	id := c.text(pnJID(marta), "secret")
	require.NoError(t, b.AskRetry(shop, marta, id))
	b.wait(func(l *Ledger) bool {
		s, _ := l.SendByID(shop, id)
		return s.Retried == 1
	})
	sent, _ := b.Ledger().SendByID(shop, id)
	require.Zero(t, sent.Unreadable)
	inGroup := c.text(groupJID(crowd), "to all")
	require.NoError(t, b.AskRetry(shop, tomas, inGroup))
	b.wait(func(l *Ledger) bool {
		s, _ := l.SendByID(shop, inGroup)
		return s.Retried == 1 && s.Unreadable == 0
	})
	c.text(pnJID(marta), "still works")
	require.Equal(t, "still works", b.chat(marta)[1].Text)
}

func TestTyping(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	require.NoError(t, b.Typing(shop, marta, "", true)) // nobody is available: lost
	c.Store.PushName = "Shop"
	require.NoError(t, c.SendPresence(b.ctx, types.PresenceAvailable))
	b.wait(func(*Ledger) bool { return b.Devices(shop)[0].Available })
	require.NoError(t, b.Typing(shop, tomas, "", true))
	e := find(c, any1[*events.ChatPresence])
	require.Equal(t, tomas, e.Sender.User)
	require.NoError(t, b.Typing(shop, marta, crowd, false))
	e = find(c, func(e *events.ChatPresence) bool { return e.IsGroup })
	require.Equal(t, types.ChatPresencePaused, e.State)
	require.NoError(t, c.SendChatPresence(b.ctx, pnJID(marta), types.ChatPresenceComposing, ""))
	b.wait(func(*Ledger) bool { return b.IsTyping(shop, marta) })
	active := b.says(Incoming{From: marta, Text: "seen"})
	b.idle()
	require.Equal(t, "receipt", b.Ledger().InboundByID(shop, active)[0].Acked)
}

func TestTwoDevicesOfAPhone(t *testing.T) {
	b := start(t)
	one, two := b.link(shop), b.link(shop)
	id := b.says(Incoming{From: marta, Text: "to both"})
	one.message(id)
	two.message(id)
	out := one.text(pnJID(marta), "from one")
	m := two.message(out)
	require.True(t, m.Info.IsFromMe)
	require.Equal(t, "from one", m.Message.GetConversation())
	out = two.text(groupJID(crowd), "from two")
	m = find(one, func(m *events.Message) bool { return m.Info.ID == out && m.Message.GetConversation() != "" })
	require.True(t, m.Info.IsFromMe)
	b.idle()
	require.Empty(t, b.Ledger().Overlaps(shop))
}

// cuttable is a client's way to the simulator that can die as a process does.
func (b *bench) cuttable() (*http.Client, func()) {
	var conns []net.Conn
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		conns = append(conns, conn)
		return conn, err
	}}
	base, err := url.Parse(b.url)
	require.NoError(b, err)
	return &http.Client{Transport: rewriteBy{rewrite{base}, tr}}, func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

type rewriteBy struct {
	rewrite
	tr http.RoundTripper
}

func (r rewriteBy) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Host = req.URL.Host
	out.URL.Scheme, out.URL.Host = r.base.Scheme, r.base.Host
	return r.tr.RoundTrip(out)
}

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	with := func(o *Options) { o.StateFile, o.RootKey = path, rootSeed }
	b := start(t, with)
	c := b.link(shop)
	c.text(pnJID(marta), "before")
	b.says(Incoming{From: tomas, Group: crowd, Text: "before"})
	b.idle()
	c.Disconnect()
	waiting := b.says(Incoming{From: marta, Text: "while away"})
	require.NoError(t, b.Close())

	again := start(t, with, func(o *Options) { o.RootKey = nil })
	require.Equal(t, 1, again.Pending())
	base, err := url.Parse(again.url)
	require.NoError(t, err)
	c.b = again
	h := &http.Client{Transport: rewrite{base}}
	c.SetWebsocketHTTPClient(h)
	c.SetMediaHTTPClient(h)
	c.connect()
	require.Equal(t, "while away", c.message(waiting).Message.GetConversation())
	id := again.says(Incoming{From: tomas, Group: crowd, Text: "after"})
	require.Equal(t, "after", c.message(id).Message.GetConversation())
	c.text(pnJID(marta), "after")
	chat := again.chat(marta)
	require.Equal(t, "after", chat[len(chat)-1].Text)
	again.idle()
}
