package whatsapp

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"

	"switchboard/internal/testkit"
)

// What is decrypted while a message is encrypted is not undone by that: it waits
// until the sessions are written.
func TestEncryptingAndDecryptingTakeTurns(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	device := s.idleDevice()
	ctx := testkit.Context(t)
	address := types.NewJID(marta, types.DefaultUserServer).SignalAddress().String()

	e := &encryption{}
	sending := context.WithValue(ctx, encryptionKey{}, e)
	_, err := device.Sessions.GetManySessions(sending, []string{address})
	require.NoError(t, err)
	begun, decrypted := make(chan struct{}), make(chan error, 1)
	go func() {
		close(begun)
		decrypted <- device.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
			return device.Sessions.PutSession(ctx, address, []byte("decrypted"))
		})
	}()
	<-begun
	require.NoError(t, device.Sessions.PutManySessions(sending, map[string][]byte{address: []byte("sent")}))
	require.NoError(t, <-decrypted)
	session, err := device.Sessions.GetSession(ctx, address)
	require.NoError(t, err)
	assert.Equal(t, "decrypted", string(session))

	// Nor is a session that is begun anew for a phone that asks for a message again.
	_, err = device.Sessions.GetManySessions(sending, []string{address})
	require.NoError(t, err)
	begun = make(chan struct{})
	renewed := make(chan error, 1)
	go func() {
		close(begun)
		renewed <- device.Sessions.PutSession(ctx, address, []byte("renewed"))
	}()
	<-begun
	require.NoError(t, device.Sessions.PutManySessions(sending, map[string][]byte{address: []byte("sent")}))
	require.NoError(t, <-renewed)
	session, err = device.Sessions.GetSession(ctx, address)
	require.NoError(t, err)
	assert.Equal(t, "renewed", string(session))

	// A send that fails between lets go, too.
	_, err = device.Sessions.GetManySessions(sending, []string{address})
	require.NoError(t, err)
	select {
	case device.EventBuffer.(*eventBuffer).turn <- struct{}{}:
		t.Fatal("the turn is free")
	default:
	}
	e.end()
	e.end()
	select {
	case device.EventBuffer.(*eventBuffer).turn <- struct{}{}:
	case <-time.After(time.Second):
		t.Fatal("the turn is kept")
	}
}
