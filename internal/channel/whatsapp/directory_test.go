package whatsapp

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

// WhatsApp is asked once a second at most, and not again for what it said.
func TestDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d directory
		var mu sync.Mutex // guards asked
		var asked []time.Time
		answer := func(peer domain.Peer, err error) func(context.Context) (domain.Peer, error) {
			return func(context.Context) (domain.Peer, error) {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, time.Now())
				return peer, err
			}
		}
		nobody := domain.NewError(domain.CodeNotFound, "Nobody.")
		ctx := t.Context()

		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() {
				peer, err := d.find(ctx, strconv.Itoa(i), answer(domain.Peer{Address: strconv.Itoa(i)}, nil))
				require.NoError(t, err)
				require.Equal(t, strconv.Itoa(i), peer.Address)
			})
		}
		all.Wait()
		require.Len(t, asked, 5)
		for i := range 4 {
			require.GreaterOrEqual(t, asked[i+1].Sub(asked[i]), time.Second, "paced")
		}
		began := time.Now()
		for range 100 {
			peer, err := d.find(ctx, "3", answer(domain.Peer{}, nil))
			require.NoError(t, err)
			require.Equal(t, "3", peer.Address)
		}
		require.Zero(t, time.Since(began), "what is known costs nothing")
		require.Len(t, asked, 5)

		_, err := d.find(ctx, "9", answer(domain.Peer{}, nobody))
		require.ErrorIs(t, err, nobody)
		_, err = d.find(ctx, "9", answer(domain.Peer{}, nil))
		require.ErrorIs(t, err, nobody)
		require.Len(t, asked, 6)
		require.True(t, pause(ctx, missedFor))
		_, err = d.find(ctx, "9", answer(domain.Peer{}, nil))
		require.NoError(t, err, "who was not there a minute ago may be now")
		require.True(t, pause(ctx, foundFor))
		_, err = d.find(ctx, "9", answer(domain.Peer{}, errors.New("no connection")))
		require.Error(t, err)
		_, err = d.find(ctx, "9", answer(domain.Peer{}, nil))
		require.NoError(t, err, "a failure is no answer")
		require.Len(t, asked, 9)

		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err = d.find(ended, "10", answer(domain.Peer{}, nil))
		require.ErrorIs(t, err, context.Canceled)
		require.Len(t, asked, 9)
		for i := range 2 * maxFound {
			d.remember("n"+strconv.Itoa(i), finding{until: time.Now().Add(time.Hour)})
		}
		require.LessOrEqual(t, len(d.found), maxFound)
	})
}

// The session goes by it: what is known needs no connection.
func TestResolveRemembers(t *testing.T) {
	t.Parallel()
	var s Session
	_, err := s.Resolve(t.Context(), tomas)
	require.Equal(t, domain.CodeUnavailable, domain.CodeOf(err))
	s.lookups.directory.remember(tomas, finding{peer: domain.Peer{Address: tomas}, until: time.Now().Add(time.Minute)})
	peer, err := s.Resolve(t.Context(), tomas)
	require.NoError(t, err)
	require.Equal(t, tomas, peer.Address)
}
