package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/app"
	"switchboard/internal/config"
	"switchboard/internal/testkit"
)

// terminal collects what a process prints.
type terminal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (s *terminal) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *terminal) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// demonstration is the running product with its demo.
type demonstration struct {
	running
	t         *testing.T
	data      string
	out       *terminal         // what was printed
	log       *terminal         // warnings and errors
	customers map[string]string // base URLs of the simulators by provider, as printed
}

var (
	printedToken     = regexp.MustCompile(`#refresh=(\S+)`)
	printedSimulator = regexp.MustCompile(`Be a customer +(http://\S+)/ +\((\w+)(?: Business)? simulator\)`)
)

// standalone starts the whole product on a data folder, as the command does;
// settings are pairs of name and value.
func standalone(t *testing.T, data string, settings ...string) *demonstration {
	t.Helper()
	environment := map[string]string{"DATA_DIR": data, "PORT": "0"}
	for pair := range slices.Chunk(settings, 2) {
		environment[pair[0]] = pair[1]
	}
	cfg, err := config.Load(config.Standalone, nil, func(name string) (string, bool) { v, ok := environment[name]; return v, ok })
	require.NoError(t, err)
	d := &demonstration{t: t, data: data, out: &terminal{}, log: &terminal{}, customers: map[string]string{}}
	logger := slog.New(slog.NewMultiHandler(testkit.Logger(t).Handler(), slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	p, err := app.NewStandalone(context.Background(), cfg, logger, d.out)
	d.running = (&house{t: t}).run(p, err)
	testkit.Eventually(t, "the greeting", func() bool { return strings.Contains(d.out.String(), "Stop ") })
	for _, found := range printedSimulator.FindAllStringSubmatch(d.out.String(), -1) {
		d.customers[found[2]] = found[1]
	}
	return d
}

// admin signs in with what the data folder keeps.
func (d *demonstration) admin() *person {
	d.t.Helper()
	var kept struct{ Email, Password string }
	raw, err := os.ReadFile(filepath.Join(d.data, "demo.json"))
	require.NoError(d.t, err)
	require.NoError(d.t, json.Unmarshal(raw, &kept))
	require.Contains(d.t, d.out.String(), kept.Password, "the sign-in of the first start still holds")
	p := &person{t: d.t, base: d.URL}
	p.token = p.must(http.MethodPost, "/api/auth/login", map[string]any{"email": kept.Email, "password": kept.Password})["accessToken"].(string)
	return p
}

func (d *demonstration) screen(p *person) *testkit.SocketClient {
	d.t.Helper()
	return testkit.Connect(d.t, testkit.ClientOptions{URL: d.URL, Auth: map[string]any{"token": p.token}, Transports: []string{"websocket"}})
}

// channels are the names of the organization's channels, and their ids.
func (d *demonstration) channels() map[string]int64 {
	d.t.Helper()
	names := map[string]int64{}
	for _, c := range d.admin().must(http.MethodGet, "/api/channels", nil)["items"].([]any) {
		channel := c.(map[string]any)
		names[channel["name"].(string)] = id(d.t, channel)
	}
	return names
}

// writes makes the demo's first customer of a provider write.
func (d *demonstration) writes(provider, text string) {
	d.t.Helper()
	paths := map[string]string{
		"WhatsApp": "/control/numbers/106540352242922/customers/15550100001/messages",
		"Telegram": "/control/bots/110201543/chats/5001001/messages",
	}
	(&person{t: d.t, base: d.customers[provider]}).must(http.MethodPost, paths[provider], map[string]any{"type": "text", "text": text})
}

// answers sends a reply and waits until the provider has it.
func answers(p *person, screen *testkit.SocketClient, chatID any, text string) {
	p.t.Helper()
	sent := p.must(http.MethodPost, "/api/messages/send", map[string]any{"chatId": chatID, "content": text})
	waitEvent(p.t, screen, "message:status", func(s map[string]any) bool { return s["messageId"] == sent["id"] && s["status"] == "sent" })
}

func content(text string) func(map[string]any) bool {
	return func(m map[string]any) bool { return m["content"] == text }
}

var providers = []string{"WhatsApp", "Telegram"}

// A newcomer's walk, and a restart: one command, a printed sign-in, a customer
// of each provider on a socket and answered; nothing lost or doubled by
// stopping, and no error logged or goroutine left by it. The simulators forget
// everything when they stop, the product nothing.
func TestStandaloneFromAnEmptyFolder(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { // after all else is cleaned up
		http.DefaultClient.CloseIdleConnections()
		var left error
		for range 20 { // each waits a while itself
			if left = goleak.Find(append(testkit.Leaks(), before)...); left == nil {
				return
			}
		}
		t.Error(left)
	})
	data := filepath.Join(t.TempDir(), "data")
	demo := standalone(t, data)
	ada := &person{t: t, base: demo.URL}
	ada.token = ada.must(http.MethodPost, "/api/auth/refresh", map[string]any{
		"refreshToken": printedToken.FindStringSubmatch(demo.out.String())[1],
	})["accessToken"].(string)
	screen := demo.screen(ada)
	chats := map[string]any{}
	for _, provider := range providers {
		demo.writes(provider, "Hello by "+provider)
		message := waitEvent(t, screen, "message:new", content("Hello by "+provider))
		require.Equal(t, strings.ToLower(provider), message["channel"])
		chats[provider] = message["chatId"]
		demo.writes(provider, "Anyone?")
		waitEvent(t, screen, "message:new", func(m map[string]any) bool { return m["content"] == "Anyone?" && m["chatId"] == message["chatId"] })
		answers(ada, screen, message["chatId"], "Welcome!")
	}
	screen.Close()
	demo.stop()

	demo = standalone(t, data)
	ada = demo.admin()
	require.Len(t, demo.channels(), 3, "the demo's channels are made once")
	screen = demo.screen(ada)
	for _, provider := range providers {
		answers(ada, screen, chats[provider], "Are you still there?")
		demo.writes(provider, "Still here, by "+provider)
		waitEvent(t, screen, "message:new", content("Still here, by "+provider))
		var history []any
		for _, m := range ada.must(http.MethodGet, fmt.Sprint("/api/messages?chatId=", chats[provider]), nil)["items"].([]any) {
			history = append(history, m.(map[string]any)["content"])
		}
		// In any order: providers tell whole seconds, and a list is in the order of their time.
		require.ElementsMatch(t, []any{"Hello by " + provider, "Anyone?", "Welcome!", "Are you still there?", "Still here, by " + provider}, history)
	}
	screen.Close()
	demo.stop()
	require.Empty(t, demo.log.String())
}

// Two of them on one folder would hide each other's messages from their screens:
// the second is refused, and disturbs the first in nothing.
func TestStandaloneIsAloneInItsFolder(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	first := standalone(t, data)
	var out, problems bytes.Buffer
	second := func() int {
		return app.Main(config.Standalone, []string{"-data-dir", data, "-port", "0"}, &out, &problems,
			func(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (app.Process, error) {
				return app.NewStandalone(ctx, cfg, logger, out)
			})
	}
	phones, err := os.Stat(filepath.Join(data, "demo.whatsapp.json"))
	require.NoError(t, err)
	require.Equal(t, 1, second())
	after, err := os.Stat(filepath.Join(data, "demo.whatsapp.json"))
	require.NoError(t, err)
	require.Equal(t, phones.ModTime(), after.ModTime())
	require.Contains(t, problems.String(), "in use by another process")
	require.Contains(t, problems.String(), "-data-dir")
	first.admin()
	first.stop()
	standalone(t, data).stop()

	problems.Reset()
	data = filepath.Join(t.TempDir(), "elsewhere")
	require.Equal(t, 1, app.Main(config.Standalone, []string{"-new-epoch", "-data-dir", data}, &out, &problems, nil))
	require.Contains(t, problems.String(), "there is no database")
	require.NoFileExists(t, filepath.Join(data, "switchboard.db"))
}

// Providers whose address the operator set are not simulated. A folder without
// the Telegram channel, as of an earlier version, gets it; one that the
// operator removed does not come back.
func TestDemoLeavesWhatTheOperatorDecided(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for name, value := range map[string]string{
		"TELEGRAM_API_ENDPOINT": "http://127.0.0.1:9/bot%s/%s", "TELEGRAM_FILE_ENDPOINT": "http://127.0.0.1:9/file/bot%s/%s",
	} {
		demo := standalone(t, data, name, value)
		require.Contains(t, demo.customers, "WhatsApp")
		require.NotContains(t, demo.customers, "Telegram", name)
		require.Contains(t, demo.channels(), "WhatsApp (simulated)")
		require.NotContains(t, demo.channels(), "Telegram (simulated)", name)
		demo.stop()
	}
	demo := standalone(t, data)
	require.Contains(t, demo.channels(), "Telegram (simulated)")
	demo.admin().must(http.MethodDelete, fmt.Sprint("/api/channels/", demo.channels()["Telegram (simulated)"]), nil)
	demo.stop()

	demo = standalone(t, data, "WABA_API_URL", "http://127.0.0.1:9/v24.0")
	require.Equal(t, []string{"Telegram"}, slices.Collect(maps.Keys(demo.customers)))
	require.NotContains(t, demo.channels(), "Telegram (simulated)", "it was deleted")
}

// Another program on the simulators' usual ports is no obstacle.
func TestDemoWhenPortsAreTaken(t *testing.T) {
	for _, usual := range []string{"127.0.0.1:4000", "127.0.0.1:4001"} {
		if taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", usual); err == nil { // else it is taken already
			t.Cleanup(func() { _ = taken.Close() })
		}
	}
	demo := standalone(t, filepath.Join(t.TempDir(), "data"))
	screen := demo.screen(demo.admin())
	for _, provider := range providers {
		require.NotRegexp(t, ":400[01]$", demo.customers[provider])
		demo.writes(provider, "Found you on "+provider)
		waitEvent(t, screen, "message:new", content("Found you on "+provider))
	}
}
