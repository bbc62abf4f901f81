package app_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/testkit"
)

// scrape reads the samples of a process by series, and the names of its metrics.
func scrape(t *testing.T, base string) (samples, names map[string]string) {
	t.Helper()
	resp, err := http.Get(base + "/metrics") //nolint:noctx // the test's own server
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	samples, names = map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if after, isType := strings.CutPrefix(line, "# TYPE "); isType {
			name, kind, _ := strings.Cut(after, " ")
			names[name] = kind
		} else if !strings.HasPrefix(line, "#") {
			i := strings.LastIndexByte(line, ' ')
			samples[line[:i]] = line[i+1:]
		}
	}
	return samples, names
}

// Running processes export what docs/operations.md names, and nothing of ours besides; and the numbers of sockets are true.
func TestProcessesExportWhatIsDocumented(t *testing.T) {
	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	node := h.api()
	worker := h.worker("w1")
	ada := h.register(node, "acme")
	h.waitConnected(ada, h.connect(ada, node, "1001"))
	screen := h.socket(ada, node)
	polling := testkit.Connect(t, testkit.ClientOptions{URL: node.URL, Auth: map[string]any{"token": ada.token}, Transports: []string{"polling"}})
	_, err := h.cloud.CustomerSend("1001", "491700000001", cloudapi.Incoming{Type: "text", Text: "Hello"})
	require.NoError(t, err)
	message := waitEvent(t, screen, "message:new", nil)
	waitEvent(t, polling, "message:new", nil)
	ada.must(http.MethodPost, "/api/messages/send", map[string]any{"chatId": message["chatId"], "content": "Hello yourself"})
	waitEvent(t, screen, "message:status", func(s map[string]any) bool { return s["status"] == "delivered" })
	ada.must(http.MethodPost, "/api/auth/login", map[string]any{"email": "acme@example.com", "password": "correct horse acme"})
	_, err = screen.EmitAck(testkit.Context(t), "subscribe:chat", map[string]any{"chatId": message["chatId"]})
	require.NoError(t, err)

	samples, exported := scrape(t, node.URL)
	_, ofWorker := scrape(t, worker.URL)
	for name, kind := range ofWorker {
		exported[name] = kind
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	require.NoError(t, err)
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`(?:switchboard|socketio)_[^|]*)\\|").FindAllSubmatch(text, -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllSubmatch(row[1], -1) {
			documented[string(name[1])] = true
			require.Contains(t, exported, string(name[1]), "docs/operations.md promises it")
		}
	}
	for name := range exported {
		if strings.HasPrefix(name, "switchboard_") || strings.HasPrefix(name, "socketio_") {
			require.True(t, documented[name], "%s is not in docs/operations.md", name)
		}
	}
	for series, want := range map[string]string{
		"socketio_connected_clients": "2", `socketio_connections{transport="websocket"}`: "1", `socketio_connections{transport="polling"}`: "1",
		"socketio_joined_sockets": "2", "switchboard_feeds": "1", "switchboard_socket_queue_bytes": "0", "switchboard_feed_lag_events": "0",
		`switchboard_socket_admissions_total{result="admitted"}`: "2", `switchboard_socket_admissions_total{result="refused"}`: "0",
		`switchboard_sockets_cut_total{reason="slow"}`: "0", `switchboard_client_events_total{event="subscribe:chat",result="ok"}`: "1",
		`switchboard_new_epochs_total{reason="copied"}`: "0",
	} {
		require.Equal(t, want, samples[series], series)
	}
	require.NotEqual(t, "0", samples["switchboard_deliveries_total"])
}
