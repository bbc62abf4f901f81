package whatsapp

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
	"switchboard/internal/worker"
)

// record keeps what is logged, at every level.
type record struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// Nothing that people wrote, nobody's number or name, and no code is in a log,
// also not of what goes wrong.
func TestLogsSayNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	var logs record
	s.worker("w1", func(o *worker.Options) {
		o.Logger = slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		options := s.options()
		options.Logger = o.Logger
		numbers, err := NewFactory(options)
		require.NoError(t, err)
		o.Factories = map[domain.ChannelKind]channel.Factory{domain.KindWhatsApp: numbers}
	})
	ctx := testkit.Context(t)
	c := s.create(map[string]any{})
	_, err := s.inbox.ConnectChannel(ctx, s.who, c.ID)
	require.NoError(t, err)
	qr, err := s.inbox.LinkCode(ctx, s.who, c.ID)
	require.NoError(t, err)
	code, err := s.inbox.PairCode(ctx, s.who, c.ID, ourNumber)
	require.NoError(t, err)
	require.NoError(t, s.sim.EnterCode(ourNumber, code.Code))
	s.await(c.ID, domain.ChannelConnected, "")

	in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "canary-in"}), nil)
	s.row(s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeUndecryptable, Text: "canary-garbled"}), nil)
	s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeMalformed})
	s.status(s.send(inbox.SendInput{ChatID: in.ChatID, Content: "canary-out"}).ID, domain.StatusDelivered)
	for _, fault := range []whatsapp.Fault{
		{Kind: whatsapp.FaultAckError, Code: 400, Count: 1}, {Kind: whatsapp.FaultNoPreKeys, Count: 1, Peer: tomas},
	} {
		_, err := s.sim.SetFault(fault)
		require.NoError(t, err)
	}
	s.status(s.send(inbox.SendInput{ChatID: in.ChatID, Content: "canary-refused"}).ID, domain.StatusFailed)
	_, _, err = s.inbox.StartChat(ctx, s.who, inbox.NewChat{ChannelID: c.ID, Phone: nobody})
	require.Error(t, err)
	chat, _, err := s.inbox.StartChat(ctx, s.who, inbox.NewChat{ChannelID: c.ID, Phone: tomas})
	require.NoError(t, err)
	s.send(inbox.SendInput{ChatID: chat.ID, Content: "canary-keys"})
	_, err = s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultDrop, Number: ourNumber, Count: 1})
	require.NoError(t, err)
	s.row(s.says(whatsapp.Incoming{From: tomas, Text: "canary-after"}), nil)
	require.NoError(t, s.sim.Unlink(ourNumber))
	s.await(c.ID, domain.ChannelLoggedOut, codeRemoved)

	said := logs.String()
	require.NotEmpty(t, said)
	for _, secret := range []string{ourNumber, marta, tomas, nobody, "Marta", "Tomás", "canary", "wa.me", qr.QR[40:60], code.Code, "@lid"} {
		assert.NotContains(t, said, secret)
	}
	assert.NotContains(t, said, "%", "and no places of what is left out")
}
