package telegram_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/simulator/telegram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	botID = int64(110201543)
	grete = int64(5001001)
	ravi  = int64(5001002)
)

var token = telegram.DemoBot().Token

// simulator is a started server over HTTP with one bot and two customers.
type simulator struct {
	*telegram.Server
	t    *testing.T
	http *httptest.Server
}

func newSim(t *testing.T, change ...func(*telegram.Options)) *simulator {
	t.Helper()
	o := telegram.Options{NoLimits: true, FirstMessageID: 1, Bots: []telegram.Bot{telegram.DemoBot()}, Customers: telegram.DemoCustomers()}
	for _, c := range change {
		c(&o)
	}
	s, err := telegram.New(o)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		srv.CloseClientConnections()
		srv.Close()
	})
	return &simulator{Server: s, t: t, http: srv}
}

// client is the real library, unmodified.
func (s *simulator) client(token string) *tgbotapi.BotAPI {
	s.t.Helper()
	api, err := tgbotapi.NewBotAPIWithClient(token, s.http.URL+"/bot%s/%s", s.http.Client())
	require.NoError(s.t, err)
	return api
}

func (s *simulator) bot() *tgbotapi.BotAPI { return s.client(token) }

// says makes a customer write to the bot.
func (s *simulator) says(from int64, text string) telegram.Sent {
	s.t.Helper()
	return s.sends(from, telegram.Incoming{Text: text})
}

func (s *simulator) sends(chat int64, in telegram.Incoming) telegram.Sent {
	s.t.Helper()
	sent, err := s.CustomerSend(botID, chat, in)
	require.NoError(s.t, err)
	return sent
}

// updates takes what waits, confirming below the offset.
func (s *simulator) updates(api *tgbotapi.BotAPI, offset int) []tgbotapi.Update {
	s.t.Helper()
	got, err := api.GetUpdates(tgbotapi.UpdateConfig{Offset: offset})
	require.NoError(s.t, err)
	return got
}

// wait fails the test if the condition does not become true.
func (s *simulator) wait(what string, cond func(*telegram.Ledger) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(s.t, s.Ledger().Wait(ctx, cond), what)
}

func (s *simulator) fault(f telegram.Fault) string {
	s.t.Helper()
	id, err := s.SetFault(f)
	require.NoError(s.t, err)
	return id
}

type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func (a answer) result(t *testing.T) map[string]any {
	t.Helper()
	require.Equal(t, true, a.json["ok"], a.body)
	m, _ := a.json["result"].(map[string]any)
	return m
}

func (s *simulator) request(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.http.URL+path, body)
	require.NoError(s.t, err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return s.http.Client().Do(req)
}

// do calls with a JSON body.
func (s *simulator) do(method, path, body string) answer {
	s.t.Helper()
	resp, err := s.request(s.t.Context(), method, path, "application/json", strings.NewReader(body))
	require.NoError(s.t, err)
	return read(s.t, resp)
}

// call calls a method of the Bot API with JSON parameters.
func (s *simulator) call(method, params string) answer {
	s.t.Helper()
	return s.do(http.MethodPost, "/bot"+token+"/"+method, params)
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

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func itoa(n int) string { return strconv.Itoa(n) }
