package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

// clock is a clock that tests move. It drives the throttle and, if there is one, its Redis.
type clock struct {
	mu    sync.Mutex // guards t
	t     time.Time
	redis *miniredis.Miniredis
}

func newClock() *clock { return &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	if c.redis != nil {
		c.redis.SetTime(c.t)
		c.redis.FastForward(d)
	}
}

func withRedis(t *testing.T) (*clock, redis.UniversalClient) {
	t.Helper()
	c := newClock()
	c.redis = miniredis.RunT(t)
	c.redis.SetTime(c.t)
	client := redis.NewClient(&redis.Options{Addr: c.redis.Addr(), MaxRetries: -1, DialTimeout: time.Second, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	return c, client
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }

func requireThrottled(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, domain.CodeRateLimited, domain.CodeOf(err))
	var e *ThrottledError
	require.ErrorAs(t, err, &e)
	require.Greater(t, e.RetryAfter, time.Duration(0))
	require.LessOrEqual(t, e.RetryAfter, ThrottleWindow)
}

// An attack on one account from 200 addresses, over three nodes, and the people who just want to sign in.
func TestAttackFromManyAddressesOverManyNodes(t *testing.T) {
	c, client := withRedis(t)
	var nodes []*Throttle
	for range 3 {
		nodes = append(nodes, NewThrottle(client, slog.New(slog.DiscardHandler), c.now))
	}
	owner := netip.MustParseAddr("203.0.113.7")
	a, err := nodes[0].Allow(t.Context(), "victim@example.com", owner)
	require.NoError(t, err)
	a.Succeeded(t.Context())

	var hashes atomic.Int64
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < 4000; i += 16 {
				account := []string{"victim@example.com", " Victim@Example.com"}[i%2]
				if _, err := nodes[i%3].Allow(t.Context(), account, address(i%200)); err == nil {
					hashes.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, AccountAttempts, hashes.Load())

	a, err = nodes[1].Allow(t.Context(), "victim@example.com", owner)
	require.NoError(t, err, "the owner at the usual place, through a node that has never seen this place")
	a.Succeeded(t.Context())
	for i := range KnownAttempts {
		_, err = nodes[i%3].Allow(t.Context(), "victim@example.com", owner)
		require.NoError(t, err)
		hashes.Add(1)
	}
	_, err = nodes[2].Allow(t.Context(), "victim@example.com", owner)
	requireThrottled(t, err)
	require.LessOrEqual(t, hashes.Load(), int64(20))

	var slowest time.Duration
	for i := range 100 {
		start := time.Now()
		a, err := nodes[i%3].Allow(t.Context(), fmt.Sprintf("other%d@example.com", i), address(1000+i))
		require.NoError(t, err)
		a.Succeeded(t.Context())
		slowest = max(slowest, time.Since(start))
	}
	require.Less(t, slowest, time.Second)
}

func forBoth(t *testing.T, test func(t *testing.T, c *clock, throttle *Throttle)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		c, client := withRedis(t)
		test(t, c, NewThrottle(client, slog.New(slog.DiscardHandler), c.now))
	})
	t.Run("alone", func(t *testing.T) {
		c := newClock()
		test(t, c, NewThrottle(nil, slog.New(slog.DiscardHandler), c.now))
	})
}

func TestWindowSlides(t *testing.T) {
	forBoth(t, func(t *testing.T, c *clock, throttle *Throttle) {
		for i := range AccountAttempts {
			_, err := throttle.Allow(t.Context(), "a", address(i))
			require.NoError(t, err)
			c.advance(time.Minute)
		}
		// The first was ten minutes ago: five to go. Refusals do not prolong the wait.
		for range 20 {
			_, err := throttle.Allow(t.Context(), "a", address(99))
			requireThrottled(t, err)
			var e *ThrottledError
			require.ErrorAs(t, err, &e)
			require.InDelta(t, 5*time.Minute, e.RetryAfter, float64(time.Second))
		}
		c.advance(5*time.Minute + time.Second)
		_, err := throttle.Allow(t.Context(), "a", address(99))
		require.NoError(t, err)
		_, err = throttle.Allow(t.Context(), "a", address(98))
		requireThrottled(t, err)
	})
}

func TestSuccessesAreFree(t *testing.T) {
	forBoth(t, func(t *testing.T, _ *clock, throttle *Throttle) {
		office := address(1)
		for i := range 3 * AddressAttempts {
			a, err := throttle.Allow(t.Context(), fmt.Sprint("user", i%150), office)
			require.NoError(t, err)
			a.Succeeded(t.Context())
		}
		for i := range AddressAttempts {
			_, err := throttle.Allow(t.Context(), fmt.Sprint("guess", i), office)
			require.NoError(t, err)
		}
		_, err := throttle.Allow(t.Context(), "user1", office)
		requireThrottled(t, err)
		_, err = throttle.Allow(t.Context(), "user1", address(2))
		require.NoError(t, err, "the account did not pay for its office")
	})
}

func TestSuccessDoesNotForgiveTheAttacker(t *testing.T) {
	forBoth(t, func(t *testing.T, _ *clock, throttle *Throttle) {
		allowed := 0
		for i := range 100 {
			a, err := throttle.Allow(t.Context(), "a", netip.MustParseAddr("203.0.113.7"))
			if err == nil {
				a.Succeeded(t.Context())
			}
			if _, err := throttle.Allow(t.Context(), "a", address(i)); err == nil {
				allowed++
			}
		}
		require.Equal(t, AccountAttempts, allowed)
	})
}

func TestKnownAddressesAreBoundedAndExpire(t *testing.T) {
	forBoth(t, func(t *testing.T, c *clock, throttle *Throttle) {
		signIn := func(i int) {
			a, err := throttle.Allow(t.Context(), "a", address(i))
			require.NoError(t, err)
			a.Succeeded(t.Context())
			c.advance(time.Second)
		}
		for i := range knownAddresses + 1 {
			signIn(i)
		}
		for i := range AccountAttempts {
			_, err := throttle.Allow(t.Context(), "a", address(1000+i))
			require.NoError(t, err)
		}
		_, err := throttle.Allow(t.Context(), "a", address(0))
		requireThrottled(t, err) // the oldest place was forgotten
		_, err = throttle.Allow(t.Context(), "a", address(knownAddresses))
		require.NoError(t, err)
		c.advance(knownFor + time.Hour)
		for i := range AccountAttempts {
			_, err := throttle.Allow(t.Context(), "a", address(1000+i))
			require.NoError(t, err)
		}
		_, err = throttle.Allow(t.Context(), "a", address(knownAddresses))
		requireThrottled(t, err)
	})
}

func TestRedisLostAndForgetful(t *testing.T) {
	c, client := withRedis(t)
	throttle := NewThrottle(client, slog.New(slog.DiscardHandler), c.now)
	owner := netip.MustParseAddr("203.0.113.7")
	a, err := throttle.Allow(t.Context(), "a", owner)
	require.NoError(t, err)
	a.Succeeded(t.Context())
	for i := range AccountAttempts {
		_, err := throttle.Allow(t.Context(), "a", address(i))
		require.NoError(t, err)
	}
	check := func(when string) {
		_, err := throttle.Allow(t.Context(), "a", address(100))
		requireThrottled(t, err)
		a, err := throttle.Allow(t.Context(), "a", owner)
		require.NoError(t, err, when)
		a.Succeeded(t.Context())
		_, err = throttle.Allow(t.Context(), "other", address(101))
		require.NoError(t, err, when)
	}
	check("up")
	c.redis.FlushAll()
	check("flushed")
	c.redis.SetError("LOADING")
	check("down")
	check("paused")
	c.redis.SetError("")
	c.advance(redisPause)
	check("up again")
}

func TestCancelledContextIsNotARedisFailure(t *testing.T) {
	c, client := withRedis(t)
	throttle := NewThrottle(client, slog.New(slog.DiscardHandler), c.now)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := throttle.Allow(ctx, "a", address(1))
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, throttle.redisUsable(c.now()))
}

func TestLocalMemoryIsBounded(t *testing.T) {
	c := newClock()
	throttle := NewThrottle(nil, slog.New(slog.DiscardHandler), c.now)
	throttle.local = newLocalWindows(100)
	allowed := 0
	for i := range 5000 {
		_, _ = throttle.Allow(t.Context(), fmt.Sprint("noise", i), address(i))
		if _, err := throttle.Allow(t.Context(), "victim", address(10000+i)); err == nil {
			allowed++
		}
	}
	require.Len(t, throttle.local.entries, 100)
	require.Equal(t, 100, throttle.local.recent.Len())
	require.Equal(t, AccountAttempts, allowed, "the account under attack is not what is forgotten")
}

func TestNetwork(t *testing.T) {
	same := func(a, b string) bool { return network(netip.MustParseAddr(a)) == network(netip.MustParseAddr(b)) }
	require.True(t, same("2001:db8::1", "2001:db8::ffff:1"))
	require.False(t, same("2001:db8::1", "2001:db8:0:1::1"))
	require.True(t, same("::ffff:192.0.2.1", "192.0.2.1"))
	require.False(t, same("192.0.2.1", "192.0.2.2"))
	require.True(t, same("fe80::1%eth0", "fe80::1%eth1"))
	require.NotPanics(t, func() { network(netip.Addr{}) })
}

func TestThrottleRace(t *testing.T) {
	forBoth(t, func(t *testing.T, _ *clock, throttle *Throttle) {
		var allowed atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 50 {
					_, err := throttle.Allow(t.Context(), "a", address(i*50+j))
					if err == nil {
						allowed.Add(1)
					} else if !errors.As(err, new(*ThrottledError)) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, AccountAttempts, allowed.Load())
	})
}
