package testkit

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a Redis of one test, to be killed, paused and started again. It keeps nothing on disk: a server that was
// ended comes back empty.
type RedisServer struct{ Server }

// StartRedis starts a Redis server for this test alone, whatever TEST_REDIS_URL says, and ends it with the test. args are
// further arguments of redis-server, such as "--maxmemory", "64mb".
func StartRedis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	binary, err := lookPath("redis-server", "redis-server")
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	space, err := openWorkspace()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	dir, err := space.subdir("redis")
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	d := &daemon{
		name: "Redis",
		dir:  dir,
		command: func(port int, data string) command {
			return command{
				path: binary,
				args: append([]string{
					"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", data, "--save", "", "--appendonly", "no",
					"--daemonize", "no", "--databases", "16",
				}, args...),
				deathSignal: syscall.SIGKILL,
			}
		},
		ready:  redisReady,
		stopOn: syscall.SIGTERM,
	}
	if err := os.Mkdir(d.data(), 0o700); err != nil {
		t.Fatalf("testkit: create the data directory of Redis: %v", err)
	}
	return &RedisServer{Server: newServer(t, d)}
}

// URL is the redis:// URL of the server's first database.
func (s *RedisServer) URL() string { return "redis://" + s.Addr() + "/0" }

// Redis returns the URL of a Redis that this test has to itself: a private server, started in some 20 ms, because pub/sub
// does not keep to the numbered databases.
//
// When TEST_REDIS_URL names a server, the test gets one of its databases, emptied, that no other test holds; pub/sub then
// is shared with the other tests, so these must not run at the same time (go test -p 1 -parallel 1).
func Redis(t testing.TB) string {
	t.Helper()
	given := os.Getenv("TEST_REDIS_URL")
	if given == "" {
		return StartRedis(t).URL()
	}
	options, err := redis.ParseURL(given)
	if err != nil {
		t.Fatalf("testkit: TEST_REDIS_URL: want redis://host:port, got one that cannot be read")
	}
	number := claimRedisDatabase(t, options)
	u, err := url.Parse(given)
	if err != nil {
		t.Fatalf("testkit: TEST_REDIS_URL: %v", err)
	}
	u.Path = "/" + strconv.Itoa(number)
	return u.String()
}

// claimRedisDatabase takes a numbered database of a given server until the test ends. The claims are keys of database 0,
// which no test gets; they expire by themselves should a test process die.
func claimRedisDatabase(t testing.TB, options *redis.Options) int {
	t.Helper()
	const highest, claimFor = 15, 30 * time.Minute
	zero := *options
	zero.DB = 0
	claims := redis.NewClient(&zero)
	t.Cleanup(func() { _ = claims.Close() })

	number := 0
	Eventually(t, "a free database on the server of TEST_REDIS_URL", func() bool {
		for n := 1; n <= highest; n++ {
			taken, err := claims.SetNX(t.Context(), claimKey(n), t.Name(), claimFor).Result()
			if err != nil {
				t.Fatalf("testkit: use the server of TEST_REDIS_URL: %v", err)
			}
			if taken {
				number = n
				return true
			}
		}
		return false
	})
	own := *options
	own.DB = number
	database := redis.NewClient(&own)
	flush := func(ctx context.Context) {
		if err := database.FlushDB(ctx).Err(); err != nil {
			t.Errorf("testkit: empty database %d of TEST_REDIS_URL: %v", number, err)
		}
	}
	flush(t.Context())
	t.Cleanup(func() {
		flush(context.Background())
		_ = database.Close()
		if err := claims.Del(context.Background(), claimKey(number)).Err(); err != nil {
			t.Errorf("testkit: give back database %d of TEST_REDIS_URL: %v", number, err)
		}
	})
	return number
}

func claimKey(n int) string { return "switchboard:testkit:database:" + strconv.Itoa(n) }

func redisReady(ctx context.Context, addr string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("wait for the ping's answer: %w", err)
	}
	// A server that wants a password (args may say so) is up as well.
	if !strings.HasPrefix(answer, "+PONG") && !strings.HasPrefix(answer, "-NOAUTH") {
		return fmt.Errorf("ping was answered with %q", answer)
	}
	return nil
}
