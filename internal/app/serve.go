package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"

	"switchboard/internal/config"
)

// server is an HTTP server on an open port.
type server struct {
	http     *http.Server
	listener net.Listener
	failed   chan error
}

// listen opens the port at once, so that a port in use is known before
// anything else begins.
func listen(ctx context.Context, cfg config.Config) (net.Listener, error) {
	address := net.JoinHostPort(cfg.ListenHost, strconv.Itoa(cfg.Port))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("PORT is %d and cannot be listened on (%w): choose another one", cfg.Port, err)
	}
	return listener, nil
}

func serve(listener net.Listener, handler http.Handler, cfg config.Config, logger *slog.Logger) *server {
	s := &server{http: newHTTPServer(cfg, handler, logger), listener: listener, failed: make(chan error, 1)}
	go func() { s.failed <- s.http.Serve(listener) }()
	return s
}

// wait returns when ctx ends (nil) or the server fails.
func (s *server) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		s.failed <- err
		return fmt.Errorf("serve HTTP: %w", err)
	}
}

// drain lets the requests that are under way finish until ctx ends.
func (s *server) drain(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	if ended := <-s.failed; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

func addr(listener net.Listener) string { return listener.Addr().String() }
