package telegram

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

var secretForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// hookSettings are what setWebhook sets.
type hookSettings struct {
	URL    string
	secret string
}

func (h hookSettings) check() *apiError {
	u, err := url.Parse(h.URL)
	switch {
	case err != nil || u.Host == "":
		return errBadRequest("invalid webhook URL specified")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())): // plain HTTP is the simulator's own leave
		return errBadRequest("bad webhook: An HTTPS URL must be provided for webhook")
	case !isLoopback(u.Hostname()):
		return errBadRequest("bad webhook: Failed to resolve host: the simulator reaches this machine only")
	case h.secret != "" && !secretForm.MatchString(h.secret):
		return errBadRequest("secret token contains unallowed characters")
	}
	return nil
}

// webhook is where a bot's updates go instead of getUpdates; Server.mu guards it.
type webhook struct {
	hookSettings
	running  bool
	wake     chan struct{} // of size 1
	failedAt time.Time
	failure  string
	attempts int // failed ones of the update that waits
}

// set needs Server.mu.
func (h *webhook) set(to hookSettings) {
	h.hookSettings = to
	h.failedAt, h.failure, h.attempts = time.Time{}, "", 0
	h.wakeUp()
}

// stop makes the line end; it needs Server.mu.
func (h *webhook) stop() { h.set(hookSettings{}) }

func (h *webhook) wakeUp() {
	select {
	case h.wake <- struct{}{}:
	default: // also when there is no line yet: it looks before it waits
	}
}

// startLine starts the goroutine that delivers to the bot's webhook, if it has one; it needs s.mu.
func (s *Server) startLine(b *bot) {
	if !s.started || s.closed || b.hook.running || b.hook.URL == "" {
		return
	}
	b.hook.running, b.hook.wake = true, make(chan struct{}, 1)
	ctx := s.runCtx
	s.lines.Go(func() { s.runLine(ctx, b) })
}

// runLine delivers one update after another until the webhook is deleted or the server closes.
func (s *Server) runLine(ctx context.Context, b *bot) {
	for {
		s.mu.Lock()
		set, wake := b.hook.hookSettings, b.hook.wake
		if set.URL == "" || s.closed {
			b.hook.running = false
			s.mu.Unlock()
			return
		}
		updates := s.collect(b, 0, 1)
		s.mu.Unlock()
		if len(updates) == 0 {
			select {
			case <-wake:
			case <-s.done:
			}
			continue
		}
		if wait := s.postUpdate(ctx, b, set, updates[0]); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-s.done:
			}
			timer.Stop()
		}
	}
}

// postUpdate attempts a delivery and says how long to wait before the next.
func (s *Server) postUpdate(ctx context.Context, b *bot, set hookSettings, q *queued) (wait time.Duration) {
	s.mu.Lock()
	attempt := b.hook.attempts + 1
	s.mu.Unlock()
	d := Delivery{UpdateID: q.id, Attempt: attempt}
	d.HTTPStatus, d.Error = s.post(ctx, set, q.body)
	d.Acked = d.HTTPStatus >= 200 && d.HTTPStatus < 300
	s.ledger.hooked(b.ID, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.hook.hookSettings != set { // changed meanwhile: the new one gets it
		return 0
	}
	if d.Acked {
		b.hook.attempts = 0
		s.confirm(b, q.id+1)
		return 0
	}
	b.hook.attempts, b.hook.failedAt, b.hook.failure = attempt, s.opts.Now(), d.Error
	if d.Error == "" {
		b.hook.failure = fmt.Sprintf("Wrong response from the webhook: %d %s", d.HTTPStatus, http.StatusText(d.HTTPStatus))
	}
	return s.opts.Backoff(attempt)
}

func (s *Server) post(ctx context.Context, set hookSettings, body []byte) (status int, failure string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, set.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	if set.secret != "" {
		req.Header.Set("X-Telegram-Bot-Api-Secret-Token", set.secret)
	}
	resp, err := s.client.Do(req) // #nosec G704 -- loopback only
	if err != nil {
		return 0, "Connection failed: " + err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, ""
}
