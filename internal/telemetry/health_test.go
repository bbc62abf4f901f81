package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Anybody may ask /readyz: the words are for them, the details for the log.
func TestReadyTellsNoDetails(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := listener.Addr().String()
	require.NoError(t, listener.Close())
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and never answers
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	postgres := func(address string) Check {
		return func(ctx context.Context) error {
			c, err := pgx.Connect(ctx, "postgres://switchboard:"+planted+"@"+address+"/inbox?sslmode=disable")
			if err != nil {
				return err
			}
			return c.Close(ctx)
		}
	}
	cache := redis.NewClient(&redis.Options{Addr: nobody, MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = cache.Close() }()
	for name, c := range map[string]struct {
		check Check
		want  string
	}{
		"PostgreSQL that nobody runs":  {postgres(nobody), "connection refused"},
		"PostgreSQL that does not say": {postgres(silent.Addr().String()), "no answer in time"},
		"Redis that nobody runs":       {func(ctx context.Context) error { return cache.Ping(ctx).Err() }, "connection refused"},
		"a timeout of the network":     {func(context.Context) error { return &net.DNSError{Err: "lookup", Name: "db.internal", IsTimeout: true} }, "no answer in time"},
		"a name that is unknown":       {func(context.Context) error { return &net.DNSError{Err: "no such host", Name: "db.internal"} }, "not available"},
		"a folder that is full":        {func(context.Context) error { return errors.New("write /data/media: no space left") }, "not available"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			logger, err := NewLogger(&log, "debug", "json")
			require.NoError(t, err)
			h := NewHealth()
			h.LogTo(logger)
			h.Register("part", 300*time.Millisecond, c.check)
			require.JSONEq(t, fmt.Sprintf(`{"status":"unavailable","checks":{"part":{"status":"down","error":%q}}}`, c.want), get(t, h.Ready()).Body.String())
			require.Contains(t, log.String(), `"part":"part"`)
			require.Contains(t, log.String(), `"error":`)
			require.NotContains(t, log.String(), planted)
		})
	}
}

// A probe comes every few seconds, from anybody: the log is told of changes only.
func TestHealthLogsChangesOnly(t *testing.T) {
	var log bytes.Buffer
	logger, err := NewLogger(&log, "info", "json")
	require.NoError(t, err)
	var now error
	h := NewHealth()
	h.LogTo(logger)
	h.RegisterOptional("redis", time.Minute, func(context.Context) error { return now })
	lines := func() int {
		for range 3 {
			get(t, h.Ready())
		}
		return strings.Count(log.String(), "\n")
	}
	require.Equal(t, 0, lines())
	now = errors.New("dial redis.internal: broken pipe")
	require.Equal(t, 1, lines())
	require.Contains(t, log.String(), "redis.internal: broken pipe")
	now = fmt.Errorf("another: %w", context.DeadlineExceeded)
	require.Equal(t, 2, lines())
	now = nil
	require.Equal(t, 3, lines())

	now = errors.New("unseen")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	h.Report(gone)
	require.Equal(t, 3, strings.Count(log.String(), "\n"), "whoever goes before the answer proves nothing")
}
