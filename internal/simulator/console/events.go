package console

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	streamQueue  = 1024 // events that a slow page may be behind; then its stream ends and it comes back for a fresh view
	streamsLimit = 64
	keepAlive    = 20 * time.Second
)

type streamEvent struct {
	name string
	data any
}

// Events hands what happens to the streams of server-sent events that it serves. Make it with NewEvents. Its methods may be
// called from any goroutine.
type Events struct {
	log  *slog.Logger
	done <-chan struct{}

	mu      sync.Mutex // guards streams
	streams []chan streamEvent
}

// NewEvents makes Events whose streams end when done is closed.
func NewEvents(log *slog.Logger, done <-chan struct{}) *Events { return &Events{log: log, done: done} }

// Publish sends an event to every stream, as JSON. It never blocks: a stream that is too far behind ends. The data is
// encoded later and must not change.
func (e *Events) Publish(name string, data any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams = slices.DeleteFunc(e.streams, func(ch chan streamEvent) bool {
		select {
		case ch <- streamEvent{name, data}:
			return false
		default:
			close(ch)
			return true
		}
	})
}

// Watched says whether anybody would see an event.
func (e *Events) Watched() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.streams) > 0
}

func (e *Events) subscribe() (ch chan streamEvent, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.streams) >= streamsLimit {
		return nil, false
	}
	ch = make(chan streamEvent, streamQueue)
	e.streams = append(e.streams, ch)
	return ch, true
}

func (e *Events) unsubscribe(ch chan streamEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams = slices.DeleteFunc(e.streams, func(have chan streamEvent) bool { return have == ch })
}

// ServeHTTP streams events until the client goes, falls behind, or done is closed.
func (e *Events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ch, ok := e.subscribe()
	if !ok {
		WriteError(w, http.StatusServiceUnavailable, "too many event streams are open")
		return
	}
	defer e.unsubscribe(ch)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ping := time.NewTicker(keepAlive)
	defer ping.Stop()
	flusher := http.NewResponseController(w)
	text := "retry: 1000\n\nevent: hello\ndata: {}\n\n"
	for ok {
		if _, err := io.WriteString(w, text); err != nil || flusher.Flush() != nil {
			return
		}
		text, ok = e.next(r.Context(), ch, ping.C)
	}
}

// next waits for what a stream writes next, which is nothing for an event that cannot be encoded; not ok is the end.
func (e *Events) next(ctx context.Context, ch <-chan streamEvent, ping <-chan time.Time) (text string, ok bool) {
	select {
	case ev, open := <-ch:
		if !open {
			return "", false
		}
		data, err := MarshalPlain(ev.data)
		if err != nil {
			e.log.Error("an event could not be encoded", slog.Any("error", err))
			return "", true
		}
		return fmt.Sprintf("event: %s\ndata: %s\n\n", ev.name, data), true
	case <-ping:
		return ": still here\n\n", true
	case <-ctx.Done():
	case <-e.done:
	}
	return "", false
}
