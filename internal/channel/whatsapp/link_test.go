package whatsapp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

func TestLinkByCode(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		c := s.create(map[string]any{keyPhone: "+1 555 020-0001"})
		ctx := testkit.Context(t)
		_, err := s.inbox.PairCode(ctx, s.who, c.ID, ourNumber)
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err), "not connected")
		_, err = s.inbox.ConnectChannel(ctx, s.who, c.ID)
		require.NoError(t, err)
		s.await(c.ID, domain.ChannelQR, "")
		_, err = s.inbox.PairCode(ctx, s.who, c.ID, otherNumber)
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err), "another number")
		_, err = s.inbox.PairCode(ctx, s.who, c.ID, "12")
		assert.Equal(t, domain.CodeInvalid, domain.CodeOf(err))
		code, err := s.inbox.PairCode(ctx, s.who, c.ID, "+1 (555) 020-0001")
		require.NoError(t, err)
		assert.Regexp(t, `^[A-Z0-9]{4}-[A-Z0-9]{4}$`, code.Code)
		assert.Greater(t, code.ExpiresAt, s.store.Now())
		s.await(c.ID, domain.ChannelPairing, codePairCode)
		require.NoError(t, s.sim.EnterCode(ourNumber, code.Code))
		s.await(c.ID, domain.ChannelConnected, "")
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "It works"}), nil)
	})
}

// A pairing code is good for as long as it is said to be: not beyond the attempt
// in which it was given, and one that is about to end gives way to a new one.
func TestPairCodeOfALateAttempt(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom), func(o *whatsapp.Options) { o.Refs = 3 }) // the library shows them for a minute
	s.worker("w1")
	c := s.create(map[string]any{})
	ctx := testkit.Context(t)
	_, err := s.inbox.ConnectChannel(ctx, s.who, c.ID)
	require.NoError(t, err)
	s.await(c.ID, domain.ChannelQR, "")
	first, err := s.inbox.LinkCode(ctx, s.who, c.ID)
	require.NoError(t, err)
	s.statuses()
	code, err := s.inbox.PairCode(ctx, s.who, c.ID, ourNumber)
	require.NoError(t, err)
	assert.LessOrEqual(t, code.ExpiresAt, s.store.Now().Add(time.Minute))
	assert.Greater(t, code.ExpiresAt, s.store.Now())
	second, err := s.inbox.LinkCode(ctx, s.who, c.ID)
	require.NoError(t, err)
	assert.NotEqual(t, first.QR, second.QR)
	for _, status := range s.statuses() {
		assert.NotEqual(t, domain.ChannelConnecting, status.State, "the page with the form goes by the state")
	}
	require.NoError(t, s.sim.EnterCode(ourNumber, code.Code))
	s.await(c.ID, domain.ChannelConnected, "")
}

// An attempt that gives way does not count as the new one, whatever it still
// shows; and all who ask meanwhile get the new one.
func TestRenewedPairing(t *testing.T) {
	t.Parallel()
	p := &pairing{renew: make(chan struct{}, 1)}
	old, next := &whatsmeow.Client{}, &whatsmeow.Client{}
	p.given(1)
	p.begin(old)
	got := make(chan *whatsmeow.Client, 2)
	for range 2 {
		go func() { got <- p.fresh(t.Context()) }()
	}
	<-p.renew
	p.begin(old)
	p.end()
	p.given(6)
	p.begin(next)
	assert.Same(t, next, <-got)
	assert.Same(t, next, <-got)
	assert.Same(t, next, p.fresh(t.Context()), "it has long enough")
	assert.Empty(t, p.renew)
}

// Codes are for the admin who asked, and for nobody else.
func TestWhoSeesTheCode(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		ctx := testkit.Context(t)
		c := s.create(map[string]any{})
		second, operator, stranger := s.who, s.who, s.who
		second.UserID, operator.Role, stranger.OrganizationID = s.who.UserID+1, domain.RoleOperator, s.who.OrganizationID+1
		_, err := s.inbox.LinkCode(ctx, s.who, c.ID)
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err), "nobody has connected it")
		_, err = s.inbox.ConnectChannel(ctx, s.who, c.ID)
		require.NoError(t, err)
		code, err := s.inbox.LinkCode(ctx, s.who, c.ID)
		require.NoError(t, err)
		assert.Contains(t, code.QR, "https://wa.me/settings/linked_devices#")
		for who, want := range map[domain.Principal]domain.Code{
			second: domain.CodeConflict, operator: domain.CodeForbidden, stranger: domain.CodeNotFound,
		} {
			_, err := s.inbox.LinkCode(ctx, who, c.ID)
			assert.Equal(t, want, domain.CodeOf(err))
			_, err = s.inbox.PairCode(ctx, who, c.ID, ourNumber)
			assert.Equal(t, want, domain.CodeOf(err))
		}
		var stored string
		require.NoError(t, s.store.SQL().QueryRowContext(ctx, "SELECT CAST(code AS text) FROM link_codes").Scan(&stored))
		assert.NotContains(t, stored, "wa.me", "sealed at rest")
		s.mu.Lock()
		for _, told := range s.told {
			assert.Equal(t, s.who.UserID, told.user)
		}
		s.mu.Unlock()

		// The second admin takes the linking over; the first one's code is gone.
		_, err = s.inbox.ConnectChannel(ctx, second, c.ID)
		require.NoError(t, err)
		_, err = s.inbox.LinkCode(ctx, s.who, c.ID)
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err))
		code, err = s.inbox.LinkCode(ctx, second, c.ID)
		require.NoError(t, err)
		require.NoError(t, s.sim.Scan(ourNumber, code.QR))
		s.await(c.ID, domain.ChannelConnected, "")
		var codes int
		require.NoError(t, s.store.SQL().QueryRowContext(ctx, "SELECT COUNT(*) FROM link_codes").Scan(&codes))
		assert.Zero(t, codes, "nothing is left of it")
		_, err = s.inbox.LinkCode(ctx, second, c.ID)
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err), "linked already")
	})
}

// A phone links itself to one channel only, and a channel to one phone.
func TestWrongPhones(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	first := s.linked(ourNumber)
	second := s.create(map[string]any{})
	require.Error(t, s.tryScan(second.ID, ourNumber))
	refused := s.await(second.ID, domain.ChannelDisconnected, codeLinkRefused)
	assert.Contains(t, refused.Status.Reason, "is a channel already")
	assert.False(t, refused.Enabled, "nobody is shown codes without asking")
	s.await(first.ID, domain.ChannelConnected, "")

	_, err := s.inbox.LogoutChannel(testkit.Context(t), s.who, first.ID)
	require.NoError(t, err)
	s.await(first.ID, domain.ChannelLoggedOut, codeUnlinked)
	require.Error(t, s.tryScan(first.ID, otherNumber))
	again := s.await(first.ID, domain.ChannelDisconnected, codeLinkRefused)
	assert.Contains(t, again.Status.Reason, "another number")
	s.scan(first.ID, ourNumber)
	s.await(first.ID, domain.ChannelConnected, "")
	s.row(s.says(whatsapp.Incoming{From: marta, Text: "Back again"}), nil)
}

// Keys that are deleted are gone, and what is saved late does not bring them back; who still works with the device finds it
// as it was.
func TestKeysAreDeletedUnderTheLibrary(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	device := s.idleDevice()
	sessions := device.Sessions
	ctx := testkit.Context(t)
	require.ErrorIs(t, device.Delete(ctx), errDeleted)
	assert.NotNil(t, device.ID)
	assert.Equal(t, sessions, device.Sessions)
	require.ErrorIs(t, device.Save(ctx), store.ErrDeviceDeleted)
	assert.Zero(t, s.count("SELECT COUNT(*) FROM whatsmeow_device"))
}

// Logging out ends the link at WhatsApp and forgets the keys.
func TestLogout(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		c := s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
		require.Len(t, s.sim.Devices(ourNumber), 1)
		ctx := testkit.Context(t)
		_, err := s.inbox.LogoutChannel(ctx, s.who, c.ID)
		require.NoError(t, err)
		out := s.await(c.ID, domain.ChannelLoggedOut, codeUnlinked)
		assert.False(t, out.Enabled)
		assert.Empty(t, s.sim.Devices(ourNumber))
		assert.Zero(t, s.count("SELECT COUNT(*) FROM whatsmeow_device"))

		_, _, err = s.inbox.Send(ctx, s.who, inbox.SendInput{ChatID: in.ChatID, Content: "Now?"})
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err), "nothing is queued that nobody would send")
		s.scan(c.ID, ourNumber)
		s.await(c.ID, domain.ChannelConnected, "")
		sent := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "Later", ClientMessageID: "later"})
		s.status(sent.ID, domain.StatusDelivered)
		assert.Len(t, s.chats(), 1, "the chats are the number's, whichever device")
	})
}

// The phone of a channel that is deleted is told, whatever comes in meanwhile;
// switched off before or not.
func TestDeletedChannelsSayGoodbye(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		w := s.worker("w1")
		s.linked(otherNumber)
		gone := s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
		ctx := testkit.Context(t)
		_, err := s.inbox.DisconnectChannel(ctx, s.who, gone.ID)
		require.NoError(t, err)
		testkit.Eventually(t, "one channel", func() bool { return len(w.Held()) == 1 })
		s.says(whatsapp.Incoming{From: marta, Text: "Are you there?"}) // waits for the next connection
		require.NoError(t, s.inbox.DeleteChannel(ctx, s.who, gone.ID))
		testkit.Eventually(t, "the end of the link", func() bool {
			return len(s.sim.Devices(ourNumber)) == 0 && s.count("SELECT COUNT(*) FROM channels WHERE device <> ''") == 1
		})
		testkit.Eventually(t, "one channel", func() bool { return len(w.Held()) == 1 })
		assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM whatsmeow_device"))
		assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM messages"))
		_, err = s.inbox.Channel(ctx, s.who, gone.ID)
		assert.Equal(t, domain.CodeNotFound, domain.CodeOf(err))

		again := s.linked(ourNumber) // the number is free at once
		assert.NotEqual(t, gone.ID, again.ID)
		assert.NotEqual(t, in.ID, s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello again"}), nil).ID)
	})
}

func (s *shop) count(query string) (n int) {
	s.t.Helper()
	require.NoError(s.t, s.store.SQL().QueryRowContext(testkit.Context(s.t), query).Scan(&n))
	return n
}

// What WhatsApp wants of some accounts is said in plain words.
func TestPasskey(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom), func(o *whatsapp.Options) { o.Phones[0].PasskeyRequired = true })
	s.worker("w1")
	c := s.create(map[string]any{})
	s.scan(c.ID, ourNumber)
	down := s.await(c.ID, domain.ChannelDisconnected, codePasskey)
	assert.Contains(t, down.Status.Reason, "passkey")
	assert.Empty(t, s.sim.Devices(ourNumber))
}

func TestUnlinkedByPhone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		c := s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
		require.NoError(t, s.sim.Unlink(ourNumber))
		down := s.await(c.ID, domain.ChannelLoggedOut, codeRemoved)
		assert.False(t, down.Enabled)
		_, _, err := s.inbox.Send(testkit.Context(t), s.who, inbox.SendInput{ChatID: in.ChatID, Content: "Now?"})
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err))
		s.scan(c.ID, ourNumber)
		s.await(c.ID, domain.ChannelConnected, "")
		sent := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "Later", ClientMessageID: "later"})
		s.status(sent.ID, domain.StatusDelivered)
	})
}

// Keys that are nobody's are swept; those of a channel are not.
func TestSweep(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		w := s.worker("w1")
		s.linked(ourNumber)
		gone := s.linked(otherNumber)
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
		ctx := testkit.Context(t)
		sweep := func() int {
			n, err := Sweep(ctx, s.store.SQL(), s.store.KeysDialect(), s.store.Devices)
			require.NoError(t, err)
			return n
		}
		assert.Zero(t, sweep())
		w.Stop()
		require.NoError(t, s.inbox.DeleteChannel(ctx, s.who, gone.ID))
		assert.Zero(t, sweep(), "the phone is still to be told")
		_, err := s.store.SQL().ExecContext(ctx, "UPDATE channels SET device = '', unlink = FALSE, enabled = FALSE WHERE id = $1", gone.ID)
		require.NoError(t, err)
		assert.Positive(t, sweep())
		s.worker("w2")
		assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM whatsmeow_device"))
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "Still here"}), nil)
	})
}

// Codes that nobody scans run out, and nobody is shown new ones unasked.
func TestNobodyScans(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom), func(o *whatsapp.Options) { o.Refs = 1 }) // the library shows it for 20 seconds
	s.worker("w1")
	c := s.create(map[string]any{})
	_, err := s.inbox.ConnectChannel(testkit.Context(t), s.who, c.ID)
	require.NoError(t, err)
	s.await(c.ID, domain.ChannelQR, "")
	down := s.await(c.ID, domain.ChannelDisconnected, codeNotScanned)
	assert.False(t, down.Enabled)
	assert.Zero(t, s.count("SELECT COUNT(*) FROM link_codes"))
	_, err = s.inbox.LinkCode(testkit.Context(t), s.who, c.ID)
	assert.Equal(t, domain.CodeConflict, domain.CodeOf(err))
}

// A connection that breaks while a code is shown is not taken for nobody having
// scanned it; and linking can be ended at any moment.
func TestLinkingIsBrokenOff(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	c := s.create(map[string]any{})
	ctx := testkit.Context(t)
	for range 5 {
		_, err := s.inbox.ConnectChannel(ctx, s.who, c.ID)
		require.NoError(t, err)
		_, err = s.inbox.LinkCode(ctx, s.who, c.ID)
		require.NoError(t, err)
		_, err = s.inbox.DisconnectChannel(ctx, s.who, c.ID)
		require.NoError(t, err)
	}
	_, err := s.inbox.ConnectChannel(ctx, s.who, c.ID)
	require.NoError(t, err)
	first, err := s.inbox.LinkCode(ctx, s.who, c.ID)
	require.NoError(t, err)
	// The second admin is shown codes of their own, at once; the first one's are
	// worth nothing any more.
	second := s.who
	second.UserID++
	_, err = s.inbox.ConnectChannel(ctx, second, c.ID)
	require.NoError(t, err)
	code, err := s.inbox.LinkCode(ctx, second, c.ID)
	require.NoError(t, err)
	assert.NotEqual(t, first.QR, code.QR)
	require.Error(t, s.sim.Scan(ourNumber, first.QR))
	require.NoError(t, s.sim.Scan(ourNumber, code.QR))
	s.await(c.ID, domain.ChannelConnected, "")
}
