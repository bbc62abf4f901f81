package deployments

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/realtime"
	"switchboard/internal/redisconn"
	"switchboard/internal/worker"
)

const developmentPassword = "development-only-redis" // whose hash is in users.acl

// startRedis runs a Redis with the committed files, changed in nothing but the address, and one more user for the test.
func startRedis(t *testing.T) (address string) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed (Debian's package redis-server): redis.conf and users.acl were not tried")
	}
	users, err := os.ReadFile("redis/users.acl")
	require.NoError(t, err)
	acl := filepath.Join(t.TempDir(), "users.acl")
	require.NoError(t, os.WriteFile(acl, append(users, []byte("user test on nopass ~* &* +@all\n")...), 0o600))
	address = freePort(t)
	_, port, _ := strings.Cut(address, ":")
	conf, err := filepath.Abs("redis/redis.conf")
	require.NoError(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary, conf,
		"--bind", "127.0.0.1", "--port", port, "--aclfile", acl, "--dir", t.TempDir())
	output := startServer(t, cmd)
	health := open(t, "redis://health:any@"+address+"/0?client_name=")
	require.Eventually(t, func() bool { return health.Ping(t.Context()).Err() == nil }, 10*time.Second, 50*time.Millisecond,
		"Redis does not start, or its health user may not ask; it wrote to %s", output)
	return address
}

func open(t *testing.T, url string) redis.UniversalClient {
	client, err := redisconn.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestRedisCarriesWhatSwitchboardSends(t *testing.T) {
	address := startRedis(t)
	client := open(t, "redis://switchboard:"+developmentPassword+"@"+address+"/0")
	require.NoError(t, client.Ping(t.Context()).Err())

	// The subscriptions of an API node: requests, and the pattern of broadcasts.
	sub := client.Subscribe(t.Context(), "socket.io-request#/#")
	defer sub.Close()
	require.NoError(t, sub.PSubscribe(t.Context(), "socket.io#/#*"))
	for range 2 {
		confirmed, err := sub.ReceiveTimeout(t.Context(), 5*time.Second)
		require.NoError(t, err)
		require.IsType(t, &redis.Subscription{}, confirmed)
	}
	// What the product's own emitter sends arrives.
	emitter, err := realtime.NewEmitter(client, realtime.EmitterOptions{})
	require.NoError(t, err)
	defer emitter.Close(context.WithoutCancel(t.Context()))
	emitter.Publish([]domain.Event{{OrganizationID: 1, Seq: 1, Epoch: "e", Name: "chat:new", Data: []byte(`{}`)}})
	requireMessage(t, sub, "socket.io-request#/#")
	require.NoError(t, emitter.User(7, "user:notification", map[string]any{"id": 1}))
	requireMessage(t, sub, "socket.io#/#user_7#")

	// Wake-ups of workers.
	listener := client.Subscribe(t.Context(), "switchboard:wakes")
	defer listener.Close()
	_, err = listener.ReceiveTimeout(t.Context(), 5*time.Second)
	require.NoError(t, err)
	wakes := worker.NewWakes(client, slog.New(slog.DiscardHandler))
	wakes.Start(t.Context())
	defer wakes.Stop()
	wakes.Wake(3)
	requireMessage(t, listener, "switchboard:wakes")
}

func requireMessage(t *testing.T, sub *redis.PubSub, channel string) {
	t.Helper()
	got, err := sub.ReceiveTimeout(t.Context(), 5*time.Second)
	require.NoError(t, err)
	message, isMessage := got.(*redis.Message)
	require.True(t, isMessage, "%T", got)
	require.Equal(t, channel, message.Channel)
}

func TestRedisCountsLogins(t *testing.T) {
	address := startRedis(t)
	client := open(t, "redis://switchboard:"+developmentPassword+"@"+address+"/0")
	var log strings.Builder
	throttle := auth.NewThrottle(client, slog.New(slog.NewTextHandler(&log, nil)), time.Now)
	where := netip.MustParseAddr("203.0.113.7")
	attempt, err := throttle.Allow(t.Context(), "ada@example.com", where)
	require.NoError(t, err)
	attempt.Succeeded(t.Context())
	_, err = throttle.Allow(t.Context(), "ada@example.com", where)
	require.NoError(t, err)
	require.Empty(t, log.String(), "the throttle could not use Redis")
	test := open(t, "redis://test:any@"+address+"/0")
	keys, err := test.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.NotEmpty(t, keys)
	for _, key := range keys {
		require.True(t, strings.HasPrefix(key, "switchboard:"), key)
	}
}

func TestRedisRefusesEverythingElse(t *testing.T) {
	address := startRedis(t)
	ours := open(t, "redis://switchboard:"+developmentPassword+"@"+address+"/0")
	health := open(t, "redis://health:any@"+address+"/0?client_name=")
	for name, refused := range map[string]error{
		"another channel":          ours.Publish(t.Context(), "other", "x").Err(),
		"another key":              ours.ZAdd(t.Context(), "other", redis.Z{Member: "x"}).Err(),
		"a value":                  ours.Set(t.Context(), "switchboard:x", "x", 0).Err(),
		"the keys":                 ours.Keys(t.Context(), "*").Err(),
		"the settings":             ours.ConfigGet(t.Context(), "*").Err(),
		"the users":                ours.Do(t.Context(), "ACL", "LIST").Err(),
		"emptying it":              ours.FlushAll(t.Context()).Err(),
		"watching all":             ours.Do(t.Context(), "MONITOR").Err(),
		"health publishes":         health.Publish(t.Context(), "socket.io#/#", "x").Err(),
		"a wrong password":         open(t, "redis://switchboard:wrong@"+address+"/0").Ping(t.Context()).Err(),
		"nobody in particular":     open(t, "redis://"+address+"/0").Ping(t.Context()).Err(),
		"a pattern of all":         psubscribe(t, ours, "*"),
		"a pattern of all our own": psubscribe(t, ours, "socket.io-request*"),
	} {
		require.ErrorContains(t, refused, refusalWord(refused), name)
	}
	saved, err := open(t, "redis://test:any@"+address+"/0").ConfigGet(t.Context(), "save").Result()
	require.NoError(t, err)
	require.Empty(t, saved["save"], "nothing is written to disk")
}

// refusalWord is the word by which Redis refuses: NOPERM for a known user, NOAUTH or WRONGPASS for the others.
func refusalWord(err error) string {
	for _, word := range []string{"NOAUTH", "WRONGPASS"} {
		if err != nil && strings.Contains(err.Error(), word) {
			return word
		}
	}
	return "NOPERM"
}

func psubscribe(t *testing.T, client redis.UniversalClient, pattern string) error {
	sub := client.PSubscribe(t.Context(), pattern)
	defer sub.Close()
	_, err := sub.ReceiveTimeout(t.Context(), 5*time.Second)
	if err == io.EOF { //nolint:errorlint // what the client returns when the server closes
		return nil
	}
	return err
}
