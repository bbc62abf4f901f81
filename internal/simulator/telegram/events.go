package telegram

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
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

// broker hands events to the streams of GET /control/events.
type broker struct {
	mu      sync.Mutex // guards streams
	streams []chan streamEvent
}

func (b *broker) publish(name string, data any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams = slices.DeleteFunc(b.streams, func(ch chan streamEvent) bool {
		select {
		case ch <- streamEvent{name, data}:
			return false
		default:
			close(ch)
			return true
		}
	})
}

// watched says whether anybody would see an event.
func (b *broker) watched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.streams) > 0
}

func (b *broker) subscribe() (ch chan streamEvent, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.streams) >= streamsLimit {
		return nil, false
	}
	ch = make(chan streamEvent, streamQueue)
	b.streams = append(b.streams, ch)
	return ch, true
}

func (b *broker) unsubscribe(ch chan streamEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams = slices.DeleteFunc(b.streams, func(have chan streamEvent) bool { return have == ch })
}

// serveEvents streams events until the client goes, falls behind, or the server closes.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	ch, ok := s.events.subscribe()
	if !ok {
		writeControl(w, http.StatusServiceUnavailable, map[string]string{"error": "too many event streams are open"})
		return
	}
	defer s.events.unsubscribe(ch)
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	write := func(text string) bool {
		if _, err := w.Write([]byte(text)); err != nil {
			return false
		}
		return rc.Flush() == nil
	}
	if !write("retry: 1000\n\nevent: hello\ndata: {}\n\n") {
		return
	}
	ping := time.NewTicker(keepAlive)
	defer ping.Stop()
	for {
		text := ": still here\n\n"
		select {
		case ev, open := <-ch:
			if !open {
				return
			}
			data, err := marshalPlain(ev.data)
			if err != nil {
				s.log.Error("an event could not be encoded", slogErr(err))
				continue
			}
			text = fmt.Sprintf("event: %s\ndata: %s\n\n", ev.name, data)
		case <-ping.C:
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		}
		if !write(text) {
			return
		}
	}
}

// contextUntil is ctx that also ends when a channel closes or after the timeout.
func contextUntil(ctx context.Context, done <-chan struct{}, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	go func() { // ends with ctx, which the caller cancels
		select {
		case <-done:
		case <-ctx.Done():
		}
		cancel()
	}()
	return ctx, cancel
}

// inlineTypes are shown by the page; everything else is a download.
var inlineTypes = []string{
	"image/jpeg", "image/png", "image/webp", "image/gif", "audio/aac", "audio/mp4", "audio/mpeg", "audio/amr", "audio/ogg",
	"audio/opus", "audio/wav", "audio/webm", "video/mp4", "video/3gpp", "video/webm",
}

// serveControlFile gives the page a file. What a browser could run is only ever a download.
func (s *Server) serveControlFile(w http.ResponseWriter, r *http.Request) {
	f, err := s.uploaded(r.PathValue("file"))
	if err != nil {
		writeControl(w, http.StatusNotFound, map[string]string{"error": err.Error()})
		return
	}
	data := f.bytes()
	base, _, _ := mime.ParseMediaType(f.mimeType)
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if slices.Contains(inlineTypes, base) {
		h.Set("Content-Type", f.mimeType)
	} else {
		h.Set("Content-Type", "application/octet-stream")
		name := strings.Map(func(c rune) rune {
			if c < ' ' || c == '"' || c == '\\' || c > '~' {
				return '_'
			}
			return c
		}, f.name)
		h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data)) // with ranges, so that browsers can seek
}
