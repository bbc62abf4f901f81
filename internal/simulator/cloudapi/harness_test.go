package cloudapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/simulator/cloudapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	phoneID  = "106540352242922"
	customer = "491715550123"
	token    = "EAASimulatorDemoToken"
	secret   = "simulator-demo-app-secret"
)

// hook is a webhook that records what comes and answers what it is told.
type hook struct {
	*httptest.Server

	mu     sync.Mutex // guards what is below
	bodies []string
	signed []bool
	answer func(n int) int // HTTP status of the nth post, 1, 2, …
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if r.URL.Query().Get("hub.verify_token") != "simulator-demo-verify-token" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge")) // #nosec G705 -- a test's own server
			return
		}
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.bodies = append(h.bodies, string(body))
		h.signed = append(h.signed, r.Header.Get("X-Hub-Signature-256") == cloudapi.Sign(secret, body))
		n, answer := len(h.bodies), h.answer
		h.mu.Unlock()
		if answer != nil {
			w.WriteHeader(answer(n))
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) got() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.bodies...)
}

func (h *hook) allSigned() []bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]bool{}, h.signed...)
}

// simulator is a started server over HTTP with one number.
type simulator struct {
	*cloudapi.Server
	t    *testing.T
	http *httptest.Server
	hook *hook
}

// at once repeats failed webhooks without waiting.
func atOnce(int, time.Duration) (time.Duration, bool) { return 0, true }

// never repeats failed webhooks only by RedeliverNow.
func never(int, time.Duration) (time.Duration, bool) { return time.Hour, true }

func newSim(t *testing.T, change ...func(*cloudapi.Options)) *simulator {
	t.Helper()
	h := newHook(t)
	o := cloudapi.Options{NoLimits: true, Backoff: atOnce, Numbers: []cloudapi.Number{cloudapi.DemoNumber(h.URL + "/webhooks/waba")}}
	for _, c := range change {
		c(&o)
	}
	s, err := cloudapi.New(o)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		srv.CloseClientConnections()
		srv.Close()
	})
	return &simulator{Server: s, t: t, http: srv, hook: h}
}

// wait fails the test if the condition does not become true.
func (s *simulator) wait(what string, cond func(*cloudapi.Ledger) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(s.t, s.Ledger().Wait(ctx, cond), what)
}

func (s *simulator) idle() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(s.t, s.WaitIdle(ctx), "webhooks still wait")
}

func (s *simulator) fault(f cloudapi.Fault) string {
	s.t.Helper()
	id, err := s.SetFault(f)
	require.NoError(s.t, err)
	return id
}

// says makes the customer write.
func (s *simulator) says(text string) string {
	s.t.Helper()
	id, err := s.CustomerSend(phoneID, customer, cloudapi.Incoming{Type: "text", Text: text})
	require.NoError(s.t, err)
	return id
}

type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func (a answer) errorField(name string) any {
	e, _ := a.json["error"].(map[string]any)
	return e[name]
}

func (a answer) details() any {
	e, _ := a.errorField("error_data").(map[string]any)
	return e["details"]
}

func (a answer) wamid(t *testing.T) string {
	t.Helper()
	require.Equal(t, http.StatusOK, a.status, a.body)
	return a.json["messages"].([]any)[0].(map[string]any)["id"].(string)
}

func (s *simulator) request(method, path, contentType string, body io.Reader, bearer string) (*http.Response, error) {
	url := path
	if strings.HasPrefix(path, "/") {
		url = s.http.URL + path
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, body)
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", contentType)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return s.http.Client().Do(req)
}

func (s *simulator) do(method, path, body string) answer {
	s.t.Helper()
	resp, err := s.request(method, path, "application/json", strings.NewReader(body), token)
	require.NoError(s.t, err)
	return read(s.t, resp)
}

func read(t *testing.T, resp *http.Response) answer {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	_ = json.Unmarshal(b, &a.json)
	return a
}

const messagesPath = "/v21.0/" + phoneID + "/messages"

func textBody(to, text string) string {
	b, _ := json.Marshal(map[string]any{
		"messaging_product": "whatsapp", "to": to, "type": "text", "text": map[string]any{"body": text, "preview_url": true},
		"biz_opaque_callback_data": "own-" + text,
	})
	return string(b)
}

func (s *simulator) sendText(text string) answer {
	s.t.Helper()
	return s.do("POST", messagesPath, textBody(customer, text))
}

// payload is the part of a webhook that tests look at.
type payload struct {
	Object string `json:"object"`
	Entry  []struct {
		ID      string `json:"id"`
		Changes []struct {
			Value struct {
				Metadata struct {
					PhoneNumberID string `json:"phone_number_id"`
				} `json:"metadata"`
				Contacts []any            `json:"contacts"`
				Messages []map[string]any `json:"messages"`
				Statuses []map[string]any `json:"statuses"`
			} `json:"value"`
		} `json:"changes"`
	} `json:"entry"`
}

func parse(t *testing.T, body string) payload {
	t.Helper()
	var p payload
	require.NoError(t, json.Unmarshal([]byte(body), &p))
	return p
}

// ids lists the message ids of webhooks in the order in which they came.
func messageIDs(t *testing.T, bodies []string) []string {
	t.Helper()
	var out []string
	for _, b := range bodies {
		for _, e := range parse(t, b).Entry {
			for _, c := range e.Changes {
				for _, m := range c.Value.Messages {
					out = append(out, m["id"].(string))
				}
			}
		}
	}
	return out
}

// statuses lists the statuses of webhooks in the order in which they came.
func statuses(t *testing.T, bodies []string) []string {
	t.Helper()
	var out []string
	for _, b := range bodies {
		for _, e := range parse(t, b).Entry {
			for _, c := range e.Changes {
				for _, st := range c.Value.Statuses {
					out = append(out, st["status"].(string))
				}
			}
		}
	}
	return out
}

// counting is a source of ids that repeats itself in every run.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		p[i] = c.n
	}
	return len(p), nil
}

func indent(t *testing.T, body string) string {
	t.Helper()
	var buf bytes.Buffer
	require.NoError(t, json.Indent(&buf, []byte(body), "", "  "))
	return buf.String() + "\n"
}
