package redisconn

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestParseForms(t *testing.T) {
	tests := []struct {
		url   string
		check func(t *testing.T, got target)
	}{
		{"redis://localhost", func(t *testing.T, got target) {
			t.Helper()
			require.Equal(t, "localhost:6379", got.single.Addr)
			require.Nil(t, got.single.TLSConfig)
		}},
		{"rediss://u:p%40ss@h:7000/3?pool_size=7&read_timeout=2s", func(t *testing.T, got target) {
			t.Helper()
			require.Equal(t, "h:7000", got.single.Addr)
			require.Equal(t, "u", got.single.Username)
			require.Equal(t, "p@ss", got.single.Password)
			require.Equal(t, 3, got.single.DB)
			require.Equal(t, 7, got.single.PoolSize)
			require.Equal(t, 2*time.Second, got.single.ReadTimeout)
			require.Equal(t, "h", got.single.TLSConfig.ServerName)
		}},
		{"redis://[::1]:6380/1", func(t *testing.T, got target) {
			t.Helper()
			require.Equal(t, "[::1]:6380", got.single.Addr)
		}},
		{"redis://:secret@h1:1,h2:2,h3?cluster=true", func(t *testing.T, got target) {
			t.Helper()
			require.Equal(t, []string{"h1:1", "h2:2", "h3:6379"}, got.cluster.Addrs)
			require.Equal(t, "secret", got.cluster.Password)
		}},
		{"rediss+cluster://h1:1/0", func(t *testing.T, got target) {
			t.Helper()
			require.Equal(t, []string{"h1:1"}, got.cluster.Addrs)
			require.NotNil(t, got.cluster.TLSConfig)
		}},
		{"redis-sentinel://app:pw@h1:26379,h2/2?master=mymaster&sentinel_password=spw", func(t *testing.T, got target) {
			t.Helper()
			require.Equal(t, []string{"h1:26379", "h2:26379"}, got.sentinel.SentinelAddrs)
			require.Equal(t, "mymaster", got.sentinel.MasterName)
			require.Equal(t, "app", got.sentinel.Username)
			require.Equal(t, "pw", got.sentinel.Password)
			require.Equal(t, "spw", got.sentinel.SentinelPassword)
			require.Equal(t, 2, got.sentinel.DB)
		}},
		{"rediss+sentinel://h1?master=m", func(t *testing.T, got target) {
			t.Helper()
			require.Equal(t, []string{"h1:26379"}, got.sentinel.SentinelAddrs)
			require.NotNil(t, got.sentinel.TLSConfig)
			require.Empty(t, got.sentinel.SentinelPassword)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			got, err := parse(tt.url)
			require.NoError(t, err)
			tt.check(t, got)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "localhost:6379", "http://localhost", "redis://", "redis://h1,h2", "redis://h:port", "redis://h/notanumber",
		"redis://h?colour=blue", "redis+sentinel://h1:26379", "redis://h1,h2/3?cluster=true", "redis://h1,,h2?cluster=true",
		"redis://user:hunter2/x@h:1", "redis://user:hunter2%zz@h:1", "redis://h/0/1", "redis://u:hunter2@h:99999999x",
		"redis://user:123/hunter2@h", "redis://user:123?hunter2@h", "redis+sentinel://h?master=m&hunter2=1",
	} {
		t.Run(bad, func(t *testing.T) {
			err := Check(bad)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "hunter2", "an error must not repeat the password")
			_, err = Open(bad)
			require.Error(t, err)
		})
	}
}

func TestOpenTalks(t *testing.T) {
	server := miniredis.RunT(t)
	client, err := Open("redis://" + server.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	require.Equal(t, "v", client.Get(t.Context(), "k").Val())
}

// A Redis that accepts and never answers must not hold a caller for seconds.
func TestHungServerFailsFast(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	client, err := Open("redis://" + ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })

	start := time.Now()
	require.Error(t, client.Ping(context.Background()).Err())
	require.Less(t, time.Since(start), 4*time.Second, "without a deadline")

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start = time.Now()
	require.Error(t, client.Ping(ctx).Err())
	require.Less(t, time.Since(start), time.Second, "the context's deadline holds")
}

func TestClusterAndSentinelClients(t *testing.T) {
	cluster, err := Open("redis://127.0.0.1:1,127.0.0.1:2?cluster=true")
	require.NoError(t, err)
	t.Cleanup(func() { _ = cluster.Close() })
	require.IsType(t, &redis.ClusterClient{}, cluster)
	sentinel, err := Open("sentinel://127.0.0.1:1?master=m")
	require.NoError(t, err)
	t.Cleanup(func() { _ = sentinel.Close() })
	require.IsType(t, &redis.Client{}, sentinel)
}
