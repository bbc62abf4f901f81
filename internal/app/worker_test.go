package app_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/app"
	"switchboard/internal/testkit"
)

// A worker says what it is, and that it lives whether or not its channels can run.
func TestHealthOfAWorker(t *testing.T) {
	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	health := func(url string) string {
		t.Helper()
		resp, err := http.Get(url + "/healthz") //nolint:noctx // the test's own server
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}
	require.JSONEq(t, `{"status":"ok","worker":"w1","mode":"pool","maxChannels":200,"held":0}`, health(h.worker("w1").URL))
	cfg := h.cfg
	cfg.WorkerID, cfg.WorkerChannels = "w2", []int64{3, 7}
	p, err := app.NewWorker(context.Background(), cfg, testkit.Logger(t), io.Discard)
	require.JSONEq(t, `{"status":"ok","worker":"w2","mode":"dedicated","channels":[3,7],"held":0}`, health(h.run(p, err).URL))
}
