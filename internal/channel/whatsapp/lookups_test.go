package whatsapp

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// A look-up that fails is made again: a few times by itself, then with the next
// message. One that cannot be made for want of a connection waits for the next.
func TestLookupsAreTriedAgain(t *testing.T) {
	t.Parallel()
	one, two := types.NewJID("1", types.GroupServer), types.NewJID("2", types.GroupServer)
	l := lookups{running: true} // the test takes the place of the goroutine
	l.add(nil, one)
	l.add(nil, two)
	l.add(nil, one)
	_, some := l.next(false)
	assert.False(t, some)
	assert.False(t, l.running)
	l.running = true
	next := func() string {
		jid, some := l.next(true)
		if !some {
			l.running = true
			return ""
		}
		return jid.User
	}
	assert.Equal(t, "1", next())
	l.failed(one)
	assert.Equal(t, "2", next())
	l.add(nil, two)
	for range lookupTries - 1 {
		assert.Equal(t, "1", next())
		l.failed(one)
	}
	assert.Empty(t, next())
	l.add(nil, one)
	l.add(nil, two)
	assert.Equal(t, "1", next())
	assert.Empty(t, next(), "who was found is not asked for again")
}

func TestUnanswered(t *testing.T) {
	t.Parallel()
	for _, err := range []error{whatsmeow.ErrIQTimedOut, whatsmeow.ErrNotConnected, context.Canceled, whatsmeow.ErrIQRateOverLimit, whatsmeow.ErrIQInternalServerError, whatsmeow.ErrIQServiceUnavailable, &whatsmeow.DisconnectedError{Action: "info query"}} {
		assert.Error(t, unanswered(fmt.Errorf("ask: %w", err)))
	}
	for _, err := range []error{nil, whatsmeow.ErrProfilePictureNotSet, whatsmeow.ErrProfilePictureUnauthorized, whatsmeow.ErrIQForbidden, whatsmeow.ErrIQNotFound} {
		assert.NoError(t, unanswered(err))
	}
}
