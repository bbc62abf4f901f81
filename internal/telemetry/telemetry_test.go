package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const planted = "PLANTED-s3cr3t"

type holder struct{ Anything string }

type valuer struct{}

func (valuer) LogValue() slog.Value {
	return slog.GroupValue(slog.String("password", planted), slog.String("name", "visible"))
}

func TestPlantedSecretsDoNotComeThrough(t *testing.T) {
	jwt := "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOjF9.c2lnbmF0dXJl"
	for _, format := range []string{"json", "text", "auto"} {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			log, err := NewLogger(&out, "debug", format)
			require.NoError(t, err)
			for _, key := range []string{
				"token", "accessToken", "refresh_token", "botToken", "jwtSecret", "app-secret", "password", "newPassword",
				"Authorization", "phone", "phoneNumber", "customer.phone", "content", "message_content", "text", "body", "apiKey",
				"api_key", "encryptionKey", "cookie", "set-cookie", "email", "jid", "senderLid", "database_url", "qr", "caption", "tokens",
			} {
				log.Info("message", slog.String(key, planted))
				log.With(slog.String(key, planted)).Info("early")
				log.WithGroup(key).Info("group", slog.String("inner", planted))
				log.Info("group", slog.Group("outer", slog.String(key, planted)))
				log.Info("bytes", slog.Any(key, []byte(planted)))
			}
			log.Info("struct", slog.Any("value", holder{planted}), slog.Any("pointer", &holder{planted}), slog.Any("map", map[string]string{"a": planted}))
			log.Info("bytes", slog.Any("raw", []byte(planted)))
			log.Info("valuer", slog.Any("user", valuer{}))
			log.Error("failed with "+jwt, slog.Any("error", fmt.Errorf("dial: %w", errors.New("postgres://app:"+planted+"@db/x refused")))) //nolint:sloglint // a careless caller
			u, err := url.Parse("https://x.example/p?access_token=" + planted + "&a=1")
			require.NoError(t, err)
			log.Info("url", slog.Any("url", u), slog.String("again", u.String()), slog.String("header", "Bearer "+planted), slog.String("jwt2", jwt))
			log.Info("telegram", slog.String("endpoint", "https://api.telegram.org/bot123456789:AAPLANTED-s3cr3tAAAAAAAAAAAAAAAAAAAAAAA/getMe"))
			log.Info("key", slog.String("id", "sb_AbCdEf_"+planted+planted))

			for line := range strings.Lines(out.String()) {
				for _, secret := range []string{planted, "PLANTED", "c2lnbmF0dXJl", jwt} {
					require.NotContains(t, line, secret)
				}
			}
		})
	}
}

func TestLogKeepsWhatIsHarmless(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "info", "json")
	require.NoError(t, err)
	log.Debug("hidden")
	log.Info("[Socket.IO] connected", slog.Int64("chatId", 7), slog.Duration("took", time.Second), slog.Bool("ok", true),
		slog.String("contentType", "image/png"), slog.Any("error", errors.New("it broke")), slog.Any("channels", []int64{3, 7}),
		slog.Any("user", valuer{}), slog.Any("level2", slog.LevelWarn), slog.Any("none", nil))
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	require.Equal(t, "[Socket.IO] connected", line["msg"])
	require.EqualValues(t, 7, line["chatId"])
	require.Equal(t, true, line["ok"])
	require.Equal(t, "image/png", line["contentType"])
	require.Equal(t, "it broke", line["error"])
	require.Equal(t, "[3 7]", line["channels"])
	require.Equal(t, "WARN", line["level2"])
	require.Equal(t, map[string]any{"password": redacted, "name": "visible"}, line["user"])
	require.NotContains(t, out.String(), "hidden")
}

func TestNewLoggerRefuses(t *testing.T) {
	_, err := NewLogger(&bytes.Buffer{}, "loud", "json")
	require.Error(t, err)
	_, err = NewLogger(&bytes.Buffer{}, "info", "xml")
	require.Error(t, err)
}

func get(t *testing.T, h http.Handler, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestMetrics(t *testing.T) {
	m := NewMetrics()
	m.WatchSockets(func() Sockets {
		return Sockets{Clients: 3, Rooms: 5, Joined: 2, Transports: map[string]int{"polling": 1, "websocket": 2}, Feeds: 1, QueuedBytes: 700}
	})
	m.SocketAuthFailures.WithLabelValues(AuthNoToken).Inc()
	m.EventsPublished.Inc()
	m.IngestLatency.WithLabelValues("whatsapp").Observe(.02)
	m.SendLatency.WithLabelValues("telegram").Observe(.02)
	m.QueueDepth.WithLabelValues(QueueOutbox).Set(4)
	m.LeasesHeld.Set(2)
	m.ObserveHTTP("/api/chats/:id", "GET", 200, 30*time.Millisecond)
	m.ObserveHTTP("", "BREW", 999, time.Millisecond)

	text := get(t, m.Handler("")).Body.String()
	for _, line := range []string{
		"socketio_connected_clients 3", "socketio_rooms 5", `socketio_connections{transport="websocket"} 2`, "socketio_joined_sockets 2",
		"switchboard_feeds 1", "switchboard_socket_queue_bytes 700", `switchboard_socket_admissions_total{result="refused"} 0`, `socketio_authentication_failures_total{reason="no_token"} 1`,
		`socketio_authentication_failures_total{reason="unavailable"} 0`, "switchboard_events_published_total 1",
		`switchboard_ingest_duration_seconds_count{kind="whatsapp"} 1`, `switchboard_send_duration_seconds_bucket{kind="telegram",le="0.025"} 1`,
		`switchboard_queue_depth{queue="outbox"} 4`, "switchboard_leases_held 2", "switchboard_lease_losses_total 0",
		`switchboard_http_request_duration_seconds_count{method="GET",route="/api/chats/:id",status="200"} 1`,
		`switchboard_http_request_duration_seconds_count{method="other",route="none",status="other"} 1`, "go_goroutines ",
	} {
		require.Contains(t, text, line)
	}
	problems, err := testutil.GatherAndLint(m.registry)
	require.NoError(t, err)
	require.Empty(t, problems, "names and units as Prometheus wants them")
	require.NotPanics(t, func() { NewMetrics() }, "two processes in one: registries are separate")
}

func TestMetricsToken(t *testing.T) {
	h := NewMetrics().Handler("0123456789abcdef")
	require.Equal(t, http.StatusUnauthorized, get(t, h).Code)
	require.Equal(t, http.StatusUnauthorized, get(t, h, "Authorization", "Bearer 0123456789abcdeX").Code)
	require.Equal(t, http.StatusUnauthorized, get(t, h, "Authorization", "Bearer ").Code)
	require.Equal(t, http.StatusOK, get(t, h, "Authorization", "Bearer 0123456789abcdef").Code)
}

func TestHealth(t *testing.T) {
	h := NewHealth()
	var down atomic.Bool
	h.Register("database", time.Second, func(context.Context) error {
		if down.Load() {
			return errors.New("dial postgres://app:" + planted + "@db:5432/x: refused")
		}
		return nil
	})
	h.RegisterOptional("redis", time.Second, func(context.Context) error { return fmt.Errorf("dial 127.0.0.1:6379: %w", syscall.ECONNREFUSED) })
	h.Register("panics", time.Second, func(context.Context) error {
		if down.Load() {
			panic(planted)
		}
		return nil
	})

	w := get(t, h.Live())
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, `{"status":"ok"}`, w.Body.String())
	w = get(t, h.Ready())
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, `{"status":"ok","checks":{"database":{"status":"up"},"panics":{"status":"up"},"redis":{"status":"degraded","error":"connection refused"}}}`, w.Body.String())

	down.Store(true)
	w = get(t, h.Ready())
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), `"database":{"status":"down","error":"not available"}`)
	require.Contains(t, w.Body.String(), `"panics":{"status":"down","error":"not available"}`)
	require.Contains(t, w.Body.String(), `"status":"unavailable"`)
	require.NotContains(t, w.Body.String(), planted)
	require.Equal(t, http.StatusOK, get(t, h.Live()).Code, "a dead database is no reason for a restart")

	down.Store(false)
	h.Drain()
	w = get(t, h.Ready())
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), `"status":"draining"`)
}

// A check that hangs and ignores its context must neither hang the answer nor pile up goroutines.
func TestHungCheck(t *testing.T) {
	h := NewHealth()
	release := make(chan struct{})
	var runs atomic.Int64
	ended := make(chan struct{})
	h.Register("hung", 20*time.Millisecond, func(context.Context) error {
		runs.Add(1)
		<-release
		close(ended)
		return nil
	})
	h.Register("fast", time.Minute, func(context.Context) error { return nil })
	for range 10 {
		start := time.Now()
		w := get(t, h.Ready())
		require.Less(t, time.Since(start), 2*time.Second)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Contains(t, w.Body.String(), "no answer in time")
		require.Contains(t, w.Body.String(), `"fast":{"status":"up"}`)
	}
	require.EqualValues(t, 1, runs.Load())
	close(release)
	<-ended
}

func FuzzScrub(f *testing.F) {
	f.Add("postgres://u:p@h/x")
	f.Add("Bearer abcdefgh")
	f.Fuzz(func(t *testing.T, s string) {
		require.LessOrEqual(t, len(scrub(s)), 16*len(s)+16)
		require.NotContains(t, scrub(s+" Bearer "+planted+" "), planted)
		require.NotContains(t, strings.ToLower(scrub("redis://u:"+planted+"@h/0")), strings.ToLower(planted))
	})
}
