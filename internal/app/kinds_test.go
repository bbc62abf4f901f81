package app

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel/whatsapp"
	"switchboard/internal/config"
	"switchboard/internal/safehttp"
)

// Files get the time that they need on a slow line, and go nowhere else for it.
func TestMediaClient(t *testing.T) {
	t.Parallel()
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 100)) }))
	defer inside.Close()
	fetch := func(cfg config.Config, seal int64) error {
		client := mediaClient(cfg, seal)
		defer client.CloseIdleConnections()
		const largest, slow = 100 << 20, 200_000 // bytes, and bytes a second
		require.GreaterOrEqual(t, client.Timeout, largest/slow*time.Second)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, inside.URL, http.NoBody)
		require.NoError(t, err)
		response, err := client.Do(r)
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	require.ErrorIs(t, fetch(config.Config{MediaMaxBytes: 1000}, 0), safehttp.ErrForbiddenAddress)
	require.NoError(t, fetch(config.Config{MediaMaxBytes: 100, WhatsAppEndpoint: inside.URL}, 0))
	require.ErrorIs(t, fetch(config.Config{MediaMaxBytes: 99, WhatsAppEndpoint: inside.URL}, 0), safehttp.ErrTooLarge)
	require.NoError(t, fetch(config.Config{MediaMaxBytes: 74, WhatsAppEndpoint: inside.URL}, whatsapp.SealBytes))
	require.ErrorIs(t, fetch(config.Config{MediaMaxBytes: 73, WhatsAppEndpoint: inside.URL}, whatsapp.SealBytes), safehttp.ErrTooLarge)
}
