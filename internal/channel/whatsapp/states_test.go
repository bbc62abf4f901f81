package whatsapp

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mau.fi/util/jsontime"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// Every way in which WhatsApp lets a number down is a state of its own, and the
// number comes back by itself when it can.
func TestCodedStates(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault whatsapp.Fault
		state domain.ChannelState
		code  string
	}{
		"banned":      {whatsapp.Fault{Kind: whatsapp.FaultBan, Code: 102, ExpireSeconds: 2}, domain.ChannelBanned, codeBanned},
		"outdated":    {whatsapp.Fault{Kind: whatsapp.FaultOutdated}, domain.ChannelError, codeOutdated},
		"refused":     {whatsapp.Fault{Kind: whatsapp.FaultFailure, Code: 409}, domain.ChannelError, "connect_409"},
		"unavailable": {whatsapp.Fault{Kind: whatsapp.FaultUnavailable}, domain.ChannelConnecting, codeUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, linkable(t, testkit.PostgresFrom))
			s.worker("w1")
			c := s.linked(ourNumber)
			tt.fault.Number = ourNumber
			if tt.fault.Kind != whatsapp.FaultBan {
				tt.fault.Count = 0
			} else {
				tt.fault.Count = 1
			}
			id, err := s.sim.SetFault(tt.fault)
			require.NoError(t, err)
			_, err = s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultDrop, Number: ourNumber, Count: 1})
			require.NoError(t, err)
			down := s.await(c.ID, tt.state, tt.code)
			assert.NotEmpty(t, down.Status.Reason)
			assert.True(t, down.Enabled)
			if tt.fault.Count == 0 {
				require.NoError(t, s.sim.ClearFault(id))
			}
			s.await(c.ID, domain.ChannelConnected, "")
			s.row(s.says(whatsapp.Incoming{From: marta, Text: "Back"}), nil)
		})
	}
}

// Another program with the same keys is shown; ours does not fight it at full
// speed.
func TestReplaced(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	c := s.linked(ourNumber)
	require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		s.await(c.ID, domain.ChannelConflict, codeReplaced)
	}()
	_, err := s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultReplace, Number: ourNumber, Count: 1})
	require.NoError(t, err)
	<-seen
	s.await(c.ID, domain.ChannelConnected, "")
}

// Why WhatsApp closes a connection may be handled after its end is seen.
func TestLastWords(t *testing.T) {
	t.Parallel()
	s := &Session{logger: testkit.Logger(t)}
	replaced := begin(t.Context())
	s.handle(replaced, &events.Disconnected{})
	s.handle(replaced, &events.StreamReplaced{})
	var down *channel.Down
	require.ErrorAs(t, replaced.cause(), &down)
	assert.Equal(t, codeReplaced, down.Code)

	broken := begin(t.Context())
	s.handle(broken, &events.Disconnected{})
	<-broken.ctx.Done()
	assert.ErrorIs(t, broken.cause(), errBroken)
}

// A wire ends with its last read, and when the library closes it without one; what waits for answers ends within that.
func TestTheEndOfAWire(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(io.ReadWriteCloser){
		"read":  func(s io.ReadWriteCloser) { _, _ = s.Read(make([]byte, 1)) },
		"close": func(s io.ReadWriteCloser) { _ = s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := net.Pipe()
			require.NoError(t, there.Close())
			w := begin(t.Context()).wire
			w.opened()
			close(w.settled)
			asking, cancel := w.asking(t.Context())
			defer cancel()
			require.NoError(t, asking.Err())
			end(newCountedStream(here, w))
			require.Error(t, asking.Err())
			require.NoError(t, here.Close())
		})
	}
}

// The end of a connection reaches the library when that has connected, or has
// given up: between there is nobody to tell.
func TestTheEndOfAHandshake(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	w := begin(t.Context()).wire
	w.opened()
	stream := newCountedStream(here, w)
	read := make(chan error, 1)
	go func() {
		_, err := stream.Read(make([]byte, 1))
		read <- err
	}()
	require.NoError(t, there.Close())
	<-w.live.Done()
	select {
	case err := <-read:
		t.Fatal("the library was told", err)
	default:
	}
	close(w.settled)
	require.Error(t, <-read)
	require.NoError(t, stream.Close())

	w = begin(t.Context()).wire
	w.opened()
	stream = newCountedStream(here, w)
	require.NoError(t, stream.Close())
	_, err := stream.Read(make([]byte, 1))
	require.Error(t, err, "one that the library has closed itself waits for nothing")
}

// A connection that breaks is made again at once, and nothing is lost by it.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	c := s.linked(ourNumber)
	for _, kind := range []whatsapp.FaultKind{whatsapp.FaultDrop, whatsapp.FaultStreamError, whatsapp.FaultDrop} {
		_, err := s.sim.SetFault(whatsapp.Fault{Kind: kind, Number: ourNumber, Count: 1})
		require.NoError(t, err)
		s.row(s.says(whatsapp.Incoming{From: marta, Text: string(kind)}), nil)
	}
	s.await(c.ID, domain.ChannelConnected, "")
	require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
	assert.Len(t, s.all(), 3)
	assert.Empty(t, s.sim.Ledger().Overlaps(ourNumber))
}

// With no server there, the channel says so and tries again.
func TestNoNetwork(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.server.Close()
	s.worker("w1")
	c := s.create(map[string]any{})
	_, err := s.inbox.ConnectChannel(testkit.Context(t), s.who, c.ID)
	require.NoError(t, err)
	down := s.await(c.ID, domain.ChannelConnecting, codeUnreachable)
	assert.Contains(t, down.Status.Reason, "cannot be reached")
	assert.Contains(t, down.Status.Reason, "Next try")
	_, err = s.inbox.LinkCode(testkit.Context(t), s.who, c.ID)
	assert.Equal(t, domain.CodeUnavailable, domain.CodeOf(err))
}

// Numbers that fail do not disturb one that works.
func TestBadNumbersBesideAGoodOne(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	s.linked(ourNumber)
	for i, fault := range []whatsapp.FaultKind{whatsapp.FaultOutdated, whatsapp.FaultHang} {
		number := []string{"15550200011", "15550200012"}[i]
		_, err := s.sim.AddPhone(whatsapp.Phone{Number: number, Name: "Bad"})
		require.NoError(t, err)
		c := s.linked(number)
		_, err = s.sim.SetFault(whatsapp.Fault{Kind: fault, Number: number})
		require.NoError(t, err)
		_, err = s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultDrop, Number: number, Count: 1})
		require.NoError(t, err)
		testkit.Eventually(t, "down", func() bool {
			now, err := s.inbox.Channel(testkit.Context(t), s.who, c.ID)
			require.NoError(t, err)
			return now.Status.State != domain.ChannelConnected
		})
	}
	for range 20 {
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
	}
}

// A connection on which nothing comes back any more is given up and made anew.
func TestKeepAliveLost(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	s.linked(ourNumber)
	s.row(s.says(whatsapp.Incoming{From: marta, Text: "Before"}), nil)
	_, err := s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultHalfOpen, Number: ourNumber, Count: 1})
	require.NoError(t, err)
	s.row(s.says(whatsapp.Incoming{From: marta, Text: "Into the void"}), nil)
	require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
	assert.Len(t, s.all(), 2)
}

// A ban whose end makes no sense is not asked about all the time.
func TestBanWithoutAnEnd(t *testing.T) {
	t.Parallel()
	for _, expire := range []time.Duration{0, -time.Hour, 1 << 62} {
		down := ban(&events.TemporaryBan{Expire: expire})
		assert.GreaterOrEqual(t, time.Until(down.Until), leastBan-time.Second)
		assert.LessOrEqual(t, time.Until(down.Until), mostBan)
	}
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	c := s.linked(ourNumber)
	in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
	_, err := s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultBan, Number: ourNumber, ExpireSeconds: 3600})
	require.NoError(t, err)
	_, err = s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultDrop, Number: ourNumber, Count: 1})
	require.NoError(t, err)
	s.await(c.ID, domain.ChannelBanned, codeBanned)
	before := s.sim.Ledger().Counts().Logins + s.sim.Ledger().Counts().Failures
	waits := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "When we are back"})
	testkit.Eventually(t, "a look at the outbox", func() bool { return s.count("SELECT COUNT(*) FROM messages WHERE status = 'queued'") == 1 })
	assert.Equal(t, domain.StatusQueued, s.status(waits.ID, domain.StatusQueued).Status)
	assert.Equal(t, 0, s.count("SELECT COALESCE(MAX(attempt), 0) FROM messages"), "no try is spent on it")
	assert.LessOrEqual(t, s.sim.Ledger().Counts().Logins+s.sim.Ledger().Counts().Failures-before, 1)
	assert.Equal(t, domain.ChannelBanned, s.await(c.ID, domain.ChannelBanned, codeBanned).Status.State)
}

// WhatsApp that takes the connection and lets nobody in is no connection that
// worked: it is shown, and not tried at full speed.
func TestNobodyIsLetIn(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	c := s.linked(ourNumber)
	_, err := s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultUnavailable, Number: ourNumber})
	require.NoError(t, err)
	_, err = s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultSlowLogin, Number: ourNumber, Delay: 6 * time.Second})
	require.NoError(t, err)
	_, err = s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultDrop, Number: ourNumber, Count: 1})
	require.NoError(t, err)
	s.await(c.ID, domain.ChannelConnecting, codeUnreachable)
}

// The limit on new chats ends when WhatsApp says, and is taken off the screen.
func TestReachOutLimitEnds(t *testing.T) {
	t.Parallel()
	var shown []string
	s := &Session{phone: ourNumber, host: states(func(code string) { shown = append(shown, code) })}
	conn := begin(t.Context())
	conn.open()
	s.conn = conn
	s.reachOut(conn, &events.NotifyAccountReachoutTimelock{IsActive: true, TimeEnforcementEnds: jsontime.UnixString{Time: time.Now().Add(time.Hour)}})
	s.reachOut(conn, &events.NotifyAccountReachoutTimelock{IsActive: true})
	s.reachOut(conn, &events.NotifyAccountReachoutTimelock{})
	assert.Equal(t, []string{codeReachOut, codeReachOut, ""}, shown)
}

// states is a host that only hears of states.
type states func(code string)

func (s states) SetStatus(_ context.Context, _ domain.ChannelState, code, _ string) error {
	s(code)
	return nil
}
func (states) Receive(context.Context, []domain.Inbound) error { return nil }
func (states) Ready()                                          {}
func (states) Typing(context.Context, string, string, bool)    {}
func (states) OpenMedia(context.Context, int64) (io.ReadCloser, domain.Media, error) {
	return nil, domain.Media{}, errMeddled
}

// What an ended connection still has to show covers nothing that came after it.
func TestLateStatesAreNotShown(t *testing.T) {
	t.Parallel()
	var shown []string
	s := &Session{phone: ourNumber, host: states(func(code string) { shown = append(shown, code) })}
	conn := begin(t.Context())
	conn.open()
	require.NoError(t, s.showConnected(conn))
	conn.cancel(errBroken)
	s.hush()
	require.NoError(t, s.showConnected(conn))
	assert.Len(t, shown, 1)

	closing := begin(t.Context())
	closing.open()
	closing.end(errBroken) // its reason may be still to come
	require.NoError(t, s.showConnected(closing))
	assert.Len(t, shown, 1)
}
