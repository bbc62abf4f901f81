package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

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

// standalone starts the whole product on a data folder, as the command does.
func standalone(t *testing.T, data string) (running, *terminal) {
	t.Helper()
	settings := map[string]string{"DATA_DIR": data, "PORT": "0"}
	cfg, err := config.Load(config.Standalone, nil, func(name string) (string, bool) { v, ok := settings[name]; return v, ok })
	require.NoError(t, err)
	out := &terminal{}
	p, err := app.NewStandalone(context.Background(), cfg, testkit.Logger(t), out)
	r := (&house{t: t}).run(p, err)
	testkit.Eventually(t, "the greeting", func() bool { return strings.Contains(out.String(), "Stop ") })
	return r, out
}

var (
	printedToken = regexp.MustCompile(`#refresh=(\S+)`)
	simulator    = regexp.MustCompile(`Be a customer\s+(http://\S+)/`)
)

// A newcomer's walk, and a restart: one command, a printed sign-in, the first
// message on a socket, and nothing lost by stopping.
func TestStandaloneFromAnEmptyFolder(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	node, out := standalone(t, data)
	ada := &person{t: t, base: node.URL}
	ada.token = ada.must(http.MethodPost, "/api/auth/refresh", map[string]any{
		"refreshToken": printedToken.FindStringSubmatch(out.String())[1],
	})["accessToken"].(string)
	screen := testkit.Connect(t, testkit.ClientOptions{URL: node.URL, Auth: map[string]any{"token": ada.token}, Transports: []string{"websocket"}})

	customer := &person{t: t, base: simulator.FindStringSubmatch(out.String())[1]}
	customer.must(http.MethodPost, "/control/numbers/106540352242922/customers/15550100001/messages", map[string]any{"type": "text", "text": "Hello?"})
	message := waitEvent(t, screen, "message:new", nil)
	require.Equal(t, "Hello?", message["content"])
	screen.Close()
	node.stop()

	var kept struct{ Email, Password string }
	raw, err := os.ReadFile(filepath.Join(data, "demo.json")) // #nosec G304 -- the test's own folder
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &kept))

	node, out = standalone(t, data)
	require.Contains(t, out.String(), kept.Password, "the sign-in of the first start still holds")
	again := &person{t: t, base: node.URL}
	again.token = again.must(http.MethodPost, "/api/auth/login", map[string]any{"email": kept.Email, "password": kept.Password})["accessToken"].(string)
	chats := again.must(http.MethodGet, "/api/chats", nil)["items"].([]any)
	require.Len(t, chats, 1)
	require.Equal(t, "Hello?", chats[0].(map[string]any)["lastMessage"].(map[string]any)["content"])
	require.Len(t, again.must(http.MethodGet, "/api/channels", nil)["items"], 1, "the demo's channel is made once")
}
