package simulator_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/simulator"
	"switchboard/internal/simulator/cloudapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func provider(t *testing.T) *cloudapi.Server {
	t.Helper()
	s, err := cloudapi.New(cloudapi.Options{})
	require.NoError(t, err)
	return s
}

// start runs parts and returns their base URLs once they are announced.
func start(ctx context.Context, t *testing.T, parts ...simulator.Part) (urls []string, ended chan error) {
	t.Helper()
	r, w := io.Pipe()
	ended = make(chan error, 1)
	go func() {
		ended <- simulator.Run(ctx, slog.New(slog.DiscardHandler), w, parts...)
		_ = w.Close()
	}()
	lines := bufio.NewScanner(r)
	for len(urls) < len(parts) && lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), " listens on "); ok {
			urls = append(urls, url)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return urls, ended
}

func get(t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	return resp
}

func TestPartsStandSideBySideAndDrain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	urls, ended := start(ctx, t,
		simulator.Part{Name: "one", Listen: "127.0.0.1:0", Provider: provider(t), Hint: func(base string) []string { return []string{"set X=" + base} }},
		simulator.Part{Name: "two", Listen: "127.0.0.1:0", Provider: provider(t)})
	require.Len(t, urls, 2)
	require.NotEqual(t, urls[0], urls[1])
	for _, u := range urls {
		resp := get(t, u+"/control/numbers")
		_ = resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
	}
	stream := get(t, urls[0]+"/control/events") // an open stream must not hold up the end
	cancel()
	require.NoError(t, <-ended)
	_, err := io.Copy(io.Discard, stream.Body)
	require.NoError(t, err)
	_ = stream.Body.Close()
}

func TestAnAddressInUseIsOneClearError(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	err = simulator.Run(t.Context(), slog.New(slog.DiscardHandler), io.Discard,
		simulator.Part{Name: "one", Listen: "127.0.0.1:0", Provider: provider(t)},
		simulator.Part{Name: "two", Flag: "two-listen", Listen: ln.Addr().String(), Provider: provider(t)})
	require.ErrorContains(t, err, "two cannot listen on")
	require.ErrorContains(t, err, "choose another address with -two-listen")
	require.NotContains(t, err.Error(), "\n")
}

type broken struct{ *cloudapi.Server }

func (broken) Start(context.Context) error { return errors.New("no engine") }

func TestAPartThatCannotStartEndsAll(t *testing.T) {
	_, ended := start(t.Context(), t,
		simulator.Part{Name: "one", Listen: "127.0.0.1:0", Provider: provider(t)},
		simulator.Part{Name: "two", Listen: "127.0.0.1:0", Provider: broken{provider(t)}})
	require.EqualError(t, <-ended, "two: no engine")
}
