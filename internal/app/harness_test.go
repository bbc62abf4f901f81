package app_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/app"
	"switchboard/internal/config"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/testkit"
)

// house is a running installation: API nodes and workers in this process, on
// real PostgreSQL and Redis, with the Cloud API's simulator outside.
type house struct {
	t     *testing.T
	cfg   config.Config
	cloud *cloudapi.Server
}

func newHouse(t *testing.T, database, redis string) *house {
	t.Helper()
	h := &house{t: t}
	var err error
	h.cloud, err = cloudapi.New(cloudapi.Options{
		Logger:  testkit.Logger(t),
		Backoff: func(int, time.Duration) (time.Duration, bool) { return 20 * time.Millisecond, true },
	})
	require.NoError(t, err)
	require.NoError(t, h.cloud.Start(context.Background()))
	graph := httptest.NewServer(h.cloud.Handler())
	t.Cleanup(func() { _ = h.cloud.Close(); graph.Close() })

	h.cfg = config.Defaults(config.API)
	h.cfg.AppEnv = config.Test
	h.cfg.ListenHost, h.cfg.Port = "127.0.0.1", 0
	h.cfg.DatabaseURL, h.cfg.RedisURL = config.Secret(database), config.Secret(redis)
	h.cfg.JWTSecret = config.Secret(strings.Repeat("s", 32))
	h.cfg.EncryptionKey = config.Secret(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
	h.cfg.MediaURL = config.Secret("file://" + t.TempDir())
	h.cfg.WABAAPIURL = graph.URL + "/v24.0"
	h.cfg.Registration = config.RegistrationOpen
	h.cfg.LeaseTTL = 3 * time.Second
	return h
}

// running is a started process.
type running struct {
	URL  string
	stop func()
}

// run starts a process; it ends with the test, or by stop.
func (h *house) run(p interface {
	app.Process
	Addr() string
}, err error,
) running {
	h.t.Helper()
	require.NoError(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				h.t.Errorf("process ended with: %v", err)
			}
		case <-time.After(30 * time.Second):
			h.t.Error("process does not stop")
		}
	}
	h.t.Cleanup(stop)
	r := running{URL: "http://" + p.Addr(), stop: stop}
	testkit.Eventually(h.t, "readiness of "+r.URL, func() bool {
		resp, err := http.Get(r.URL + "/readyz") //nolint:noctx // the test's own server
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return r
}

func (h *house) api() running {
	h.t.Helper()
	p, err := app.NewAPI(context.Background(), h.cfg, testkit.Logger(h.t), io.Discard)
	return h.run(p, err)
}

func (h *house) worker(id string) running {
	h.t.Helper()
	cfg := h.cfg
	cfg.WorkerID = id
	p, err := app.NewWorker(context.Background(), cfg, testkit.Logger(h.t), io.Discard)
	return h.run(p, err)
}

// person calls the REST API as somebody.
type person struct {
	t     *testing.T
	base  string
	token string
}

// call sends a request and returns the status and the answer.
func (p *person) call(method, path string, body any) (int, map[string]any) {
	p.t.Helper()
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		require.NoError(p.t, err)
		reader = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(testkit.Context(p.t), method, p.base+path, reader)
	require.NoError(p.t, err)
	req.Header.Set("Content-Type", "application/json")
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	var answer map[string]any
	if len(raw) > 0 {
		require.NoError(p.t, json.Unmarshal(raw, &answer), "%s %s: %s", method, path, raw)
	}
	return resp.StatusCode, answer
}

// must is call, for what has to succeed.
func (p *person) must(method, path string, body any) map[string]any {
	p.t.Helper()
	status, answer := p.call(method, path, body)
	require.Less(p.t, status, 300, "%s %s: %v", method, path, answer)
	return answer
}

func id(t *testing.T, answer map[string]any) int64 {
	t.Helper()
	n, ok := answer["id"].(float64)
	require.True(t, ok, "no id in %v", answer)
	return int64(n)
}

// register makes an organization at a node and signs its admin in.
func (h *house) register(node running, name string) *person {
	h.t.Helper()
	p := &person{t: h.t, base: node.URL}
	answer := p.must(http.MethodPost, "/api/auth/register", map[string]any{
		"organizationName": name, "name": "Ada " + name, "email": name + "@example.com", "password": "correct horse " + name,
	})
	p.token = answer["accessToken"].(string)
	return p
}

// number registers a business number at the simulator, delivers its webhooks
// to a node, and makes a channel of it.
func (h *house) connect(p *person, node running, phoneNumberID string) (channelID int64) {
	h.t.Helper()
	number := cloudapi.Number{
		PhoneNumberID: phoneNumberID, AccessToken: "EAA-token-" + phoneNumberID, AppSecret: "app-secret-" + phoneNumberID,
		VerifyToken: "verify-" + phoneNumberID, WebhookURL: node.URL + "/webhooks/waba",
	}
	require.NoError(h.t, h.cloud.AddNumber(number))
	channel := p.must(http.MethodPost, "/api/channels", map[string]any{
		"kind": "waba", "name": "Sales", "config": map[string]any{
			"phoneNumberId": number.PhoneNumberID, "accessToken": number.AccessToken, "appSecret": number.AppSecret, "verifyToken": number.VerifyToken,
		},
	})
	channelID = id(h.t, channel)
	verified, err := h.cloud.Verify(testkit.Context(h.t), phoneNumberID)
	require.NoError(h.t, err)
	require.True(h.t, verified.OK, "%+v", verified)
	return channelID
}

func (h *house) waitConnected(p *person, channelID int64) {
	h.t.Helper()
	testkit.Eventually(h.t, "the channel's connection", func() bool {
		channel := p.must(http.MethodGet, fmt.Sprint("/api/channels/", channelID), nil)
		return channel["status"].(map[string]any)["state"] == "connected"
	})
}

// socket connects the official client to a node.
func (h *house) socket(p *person, node running) *testkit.SocketClient {
	h.t.Helper()
	return testkit.Connect(h.t, testkit.ClientOptions{
		URL: node.URL, Auth: map[string]any{"token": p.token}, Transports: []string{"websocket"}, TrackSeq: true,
	})
}

// nth returns the data of a socket's events of a name that satisfy a condition.
func waitEvent(t *testing.T, s *testkit.SocketClient, name string, match func(data map[string]any) bool) map[string]any {
	t.Helper()
	var data map[string]any
	_, err := s.WaitFor(testkit.Context(t), name, func(e testkit.Event) bool {
		data = nil
		return e.Arg(0, &data) == nil && (match == nil || match(data))
	})
	require.NoError(t, err, "waiting for %s", name)
	return data
}
