package auth_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/auth"
	"switchboard/internal/redisconn"
	"switchboard/internal/testkit"
)

// F12 whole: a real Redis, real password hashes, an attack on one account from 200 addresses through two nodes, and
// meanwhile other people who sign in. Then Redis dies, and the limits still hold.
func TestLoginsUnderAttack(t *testing.T) {
	server := testkit.StartRedis(t)
	var nodes []*auth.Throttle
	for range 2 {
		client, err := redisconn.Open(server.URL())
		require.NoError(t, err)
		t.Cleanup(func() { _ = client.Close() })
		nodes = append(nodes, auth.NewThrottle(client, slog.New(slog.DiscardHandler), time.Now))
	}
	passwords := auth.NewPasswords(0)
	hash, err := passwords.Hash(t.Context(), "the right one")
	require.NoError(t, err)

	var hashes atomic.Int64
	login := func(node *auth.Throttle, account string, from netip.Addr, password string) error {
		attempt, err := node.Allow(t.Context(), account, from)
		if err != nil {
			return err
		}
		if account == "victim" {
			hashes.Add(1)
		}
		ok, _, err := passwords.Verify(t.Context(), hash, password)
		if ok {
			attempt.Succeeded(t.Context())
		}
		return err
	}
	from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
	home := netip.MustParseAddr("2001:db8:1:2::3")
	require.NoError(t, login(nodes[0], "victim", home, "the right one"))
	hashes.Store(0)

	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < 10000; i += 8 {
				_ = login(nodes[i%2], "victim", from(i%200), "a guess")
			}
		})
	}
	var took []time.Duration
	for i := range 40 {
		start := time.Now()
		require.NoError(t, login(nodes[i%2], fmt.Sprint("other", i), from(1000+i), "the right one"))
		took = append(took, time.Since(start))
	}
	wg.Wait()
	require.LessOrEqual(t, hashes.Load(), int64(20))
	require.EqualValues(t, auth.AccountAttempts, hashes.Load())
	slices.Sort(took)
	require.Less(t, took[len(took)*95/100], testkit.Slack(time.Second), "p95 of the others")
	require.NoError(t, login(nodes[1], "victim", netip.MustParseAddr("2001:db8:1:2::4"), "the right one"), "the owner, at home")

	server.Kill()
	for i := range 50 {
		_ = login(nodes[i%2], "victim", from(i), "a guess")
	}
	require.LessOrEqual(t, hashes.Load(), int64(20), "what the nodes counted themselves still holds")
	require.NoError(t, login(nodes[0], "other", from(2000), "the right one"))
	require.NoError(t, login(nodes[0], "victim", home, "the right one"), "the node at which the owner signed in remembers it")
}
