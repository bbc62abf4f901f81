package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const hello = "retry: 1000\n\nevent: hello\ndata: {}\n\n"

// stream serves one until it ends by itself or by ctx; text is what it wrote by then.
func stream(ctx context.Context, e *Events) (text func() string, ended <-chan struct{}) {
	w, end := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(end)
		e.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/control/events", http.NoBody))
	}()
	synctest.Wait()
	return func() string { synctest.Wait(); return w.Body.String() }, end
}

func TestEventsReachEveryStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		e := NewEvents(slog.New(slog.DiscardHandler), done)
		require.False(t, e.Watched())
		e.Publish("nobody", 1)
		ctx, cancel := context.WithCancel(t.Context())
		first, firstEnded := stream(ctx, e)
		second, secondEnded := stream(t.Context(), e)
		require.True(t, e.Watched())
		e.Publish("message", map[string]string{"text": "<b>\n"})
		e.Publish("broken", func() {})
		e.Publish("typing", 2)
		want := hello + "event: message\ndata: {\"text\":\"<b>\\n\"}\n\nevent: typing\ndata: 2\n\n"
		require.Equal(t, want, first())
		require.Equal(t, want, second())
		cancel()
		<-firstEnded
		require.True(t, e.Watched())
		close(done)
		<-secondEnded
		require.False(t, e.Watched())
	})
}

func TestStreamIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*keepAlive+time.Second)
		defer cancel()
		text, ended := stream(ctx, NewEvents(slog.New(slog.DiscardHandler), nil))
		<-ended
		require.Equal(t, hello+strings.Repeat(": still here\n\n", 2), text())
	})
}

func TestSlowStreamEnds(t *testing.T) {
	e := NewEvents(slog.New(slog.DiscardHandler), nil)
	ch, ok := e.subscribe()
	require.True(t, ok)
	for range streamQueue + 1 {
		e.Publish("message", 1)
	}
	require.False(t, e.Watched())
	got := 0
	for range ch {
		got++
	}
	require.Equal(t, streamQueue, got)
	e.unsubscribe(ch)
}

func TestStreamsAreLimited(t *testing.T) {
	e := NewEvents(slog.New(slog.DiscardHandler), nil)
	for range streamsLimit {
		_, ok := e.subscribe()
		require.True(t, ok)
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest("GET", "/control/events", http.NoBody))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.JSONEq(t, `{"error":"too many event streams are open"}`, w.Body.String())
}

func TestStreamEndsWhenItCannotBeWritten(t *testing.T) {
	e := NewEvents(slog.New(slog.DiscardHandler), nil)
	e.ServeHTTP(brokenWriter{}, httptest.NewRequest("GET", "/control/events", http.NoBody))
	require.False(t, e.Watched())
}

type brokenWriter struct{}

func (brokenWriter) Header() http.Header       { return http.Header{} }
func (brokenWriter) WriteHeader(int)           {}
func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("the client is gone") }
