package testkit_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

func TestRedisIsPrivateToEachTest(t *testing.T) {
	t.Parallel()
	a, b := redisClient(t, testkit.Redis(t)), redisClient(t, testkit.Redis(t))
	heard := b.Subscribe(t.Context(), "org")
	defer func() { assert.NoError(t, heard.Close()) }()
	_, err := heard.Receive(t.Context())
	require.NoError(t, err)

	require.NoError(t, a.Set(t.Context(), "chat", "1", 0).Err())
	require.ErrorIs(t, b.Get(t.Context(), "chat").Err(), redis.Nil)
	listeners, err := a.Publish(t.Context(), "org", "x").Result()
	require.NoError(t, err)
	assert.Zero(t, listeners, "pub/sub is private too")
}

func TestRedisForgetsWhenKilled(t *testing.T) {
	t.Parallel()
	server := testkit.StartRedis(t)
	addr, client := server.Addr(), redisClient(t, server.URL())
	require.NoError(t, client.Set(t.Context(), "chat", "1", 0).Err())

	server.Kill()
	require.Error(t, client.Ping(t.Context()).Err())
	server.Start()
	assert.Equal(t, addr, server.Addr())
	require.ErrorIs(t, client.Get(t.Context(), "chat").Err(), redis.Nil)

	server.Stop()
	require.Error(t, client.Ping(t.Context()).Err())
	server.Start()
	require.NoError(t, client.Ping(t.Context()).Err())
}

func TestRedisPauses(t *testing.T) {
	t.Parallel()
	server := testkit.StartRedis(t)
	client := redisClient(t, server.URL())
	require.NoError(t, client.Ping(t.Context()).Err())

	server.Pause()
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := client.Ping(short).Err()
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	assert.True(t, timeout.Timeout(), "a paused server keeps connections and answers nothing")
	server.Resume()
	require.NoError(t, client.Ping(t.Context()).Err())
}

func TestRedisHonoursTheGivenServer(t *testing.T) {
	server := testkit.StartRedis(t)
	t.Setenv("TEST_REDIS_URL", server.URL())
	var used []string
	t.Run("two at once", func(t *testing.T) {
		first, second := testkit.Redis(t), testkit.Redis(t)
		used = append(used, first, second)
		assert.NotEqual(t, first, second)
		assert.NotContains(t, used, server.URL(), "database 0 holds the claims")
		require.NoError(t, redisClient(t, first).Set(t.Context(), "chat", "1", 0).Err())
	})
	t.Run("given back and emptied", func(t *testing.T) {
		again := testkit.Redis(t)
		assert.Equal(t, used[0], again)
		keys, err := redisClient(t, again).DBSize(t.Context()).Result()
		require.NoError(t, err)
		assert.Zero(t, keys)
	})
}

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	options.ContextTimeoutEnabled = true
	options.MaxRetries, options.DialerRetries = -1, 1
	client := redis.NewClient(options)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client
}
