// Package simulator serves simulated providers from one process. Each provider is a Part with an address of its own, so
// that WhatsApp Web, the Cloud API and Telegram can stand side by side.
package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// drainTimeout is how long requests under way may take after the end was asked for.
const drainTimeout = 5 * time.Second

// Provider is a simulated provider. Close must end its long-lived requests.
type Provider interface {
	Handler() http.Handler
	Start(ctx context.Context) error
	Close() error
}

// The names of the simulators, as people and tests read them where they start.
const (
	NameBusiness = "WhatsApp Business"
	NameTelegram = "Telegram"
	NamePhones   = "WhatsApp by QR"
)

// Part is a Provider and where it listens.
type Part struct {
	Name   string // for people: one of the names above
	Listen string // host:port; port 0 takes a free one
	Flag   string // of the command that sets Listen
	Provider
	// Hint says, given the base URL "http://host:port", what to set in the product; one line each.
	Hint func(baseURL string) []string
}

// Run listens on every part's address, says so on out, and serves until ctx ends; then it drains and returns nil. An
// address that cannot be listened on is an error, before anything is served.
func Run(ctx context.Context, log *slog.Logger, out io.Writer, parts ...Part) error {
	listeners := make([]net.Listener, 0, len(parts))
	for _, p := range parts {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Listen)
		if err != nil {
			for _, open := range listeners {
				_ = open.Close()
			}
			return fmt.Errorf("%s cannot listen on %q: %w; choose another address with -%s", p.Name, p.Listen, err, p.Flag)
		}
		listeners = append(listeners, ln)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i, p := range parts {
		announce(out, p, listeners[i])
		wg.Go(func() {
			if err := serve(ctx, log, p, listeners[i]); err != nil {
				cancel(fmt.Errorf("%s: %w", p.Name, err))
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func announce(out io.Writer, p Part, ln net.Listener) {
	base := "http://" + ln.Addr().String()
	_, _ = fmt.Fprintf(out, "%s simulator listens on %s\n", p.Name, base)
	if p.Hint != nil {
		for _, line := range p.Hint(base) {
			_, _ = fmt.Fprintf(out, "  %s\n", line)
		}
	}
}

// serve runs one part until ctx ends, then drains it.
func serve(ctx context.Context, log *slog.Logger, p Part, ln net.Listener) error {
	if err := p.Start(context.WithoutCancel(ctx)); err != nil { // it ends by Close, which drains
		_ = ln.Close()
		return err
	}
	srv := &http.Server{
		Handler: p.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("the simulator drains", slog.String("part", p.Name))
	}
	closeErr := p.Close()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if srv.Shutdown(drain) != nil {
		_ = srv.Close()
	}
	if err == nil {
		if ended := <-failed; !errors.Is(ended, http.ErrServerClosed) {
			err = ended
		}
	}
	return errors.Join(err, closeErr)
}
