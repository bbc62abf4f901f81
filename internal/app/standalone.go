package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/alicebob/miniredis/v2"

	"switchboard/internal/auth"
	"switchboard/internal/config"
	"switchboard/internal/store"
	"switchboard/internal/worker"
)

// Standalone is an API node and a worker on one core, with an in-process Redis
// where no other is set, and the demo.
type Standalone struct {
	core     *core
	node     *apiNode
	worker   *worker.Worker
	demo     *demo // nil without -demo
	listener net.Listener
	release  func() error // of the database; nil where others may use it, too
	out      io.Writer
}

// claim takes the database for this process alone: its screens would not hear of
// what another one does, for each has a Redis of its own.
func claim(cfg config.Config) (release func() error, err error) {
	release, err = store.Claim(cfg.DatabaseURL.Reveal())
	if errors.Is(err, store.ErrInUse) {
		return nil, fmt.Errorf("%w. Another standalone runs on it: end that one, or give this one a directory of its own (-data-dir)", err)
	}
	return release, err
}

// NewStandalone opens everything. With cfg.Demo it also starts the simulated
// providers for which no other endpoint is set.
func NewStandalone(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (_ *Standalone, err error) {
	s := &Standalone{out: out}
	var closers []func() error
	defer func() {
		if err != nil {
			for i := len(closers) - 1; i >= 0; i-- {
				err = errors.Join(err, closers[i]())
			}
		}
	}()
	if s.listener, err = listen(ctx, cfg); err != nil {
		return nil, err
	}
	closers = append(closers, s.listener.Close)
	if cfg.RedisURL == "" { // before anything is touched that another one may be using
		if s.release, err = claim(cfg); err != nil {
			return nil, err
		}
		closers = append(closers, s.release)
	}
	if cfg.Demo {
		if s.demo, err = newDemo(ctx, &cfg, addr(s.listener), logger); err != nil {
			return nil, err
		}
		closers = append(closers, s.demo.close)
	}
	var stopRedis func() error
	if cfg.RedisURL == "" {
		if cfg.RedisURL, stopRedis, err = embeddedRedis(); err != nil {
			return nil, err
		}
		closers = append(closers, stopRedis)
	}
	if s.core, err = newCore(ctx, cfg, logger); err != nil {
		return nil, err
	}
	if stopRedis != nil { // the last thing that the core frees
		s.core.closers = append([]func() error{stopRedis}, s.core.closers...)
		closers = closers[:len(closers)-1]
	}
	closers = append(closers, s.core.close)
	if s.node, err = newAPINode(s.core); err != nil {
		return nil, err
	}
	s.worker, err = newWorker(s.core, out)
	return s, err
}

// embeddedRedis starts a Redis in this process, on loopback with a password of
// its own: other users of the machine could reach the port.
func embeddedRedis() (config.Secret, func() error, error) {
	password := strings.TrimPrefix(auth.NewAPIKey().Key, "sb_")
	server := miniredis.NewMiniRedis()
	server.RequireAuth(password)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return "", nil, fmt.Errorf("start the in-process Redis: %w", err)
	}
	url := config.Secret("redis://:" + password + "@" + server.Addr())
	return url, func() error { server.Close(); return nil }, nil
}

// Addr is host:port of the open port.
func (s *Standalone) Addr() string { return addr(s.listener) }

// Run serves until ctx ends, then drains and frees everything.
func (s *Standalone) Run(ctx context.Context) error {
	err := s.start(ctx)
	if err != nil {
		return errors.Join(err, s.free(), s.listener.Close())
	}
	server := serve(s.listener, s.node.handler, s.core.cfg, s.core.logger)
	err = s.greet(ctx)
	if err == nil {
		err = server.wait(ctx)
	}
	stopped := s.node.stop(ctx, server)
	s.worker.Stop()
	return errors.Join(err, stopped, s.free())
}

func (s *Standalone) start(ctx context.Context) error {
	if err := s.node.start(ctx); err != nil {
		return err
	}
	return s.worker.Start(context.WithoutCancel(ctx))
}

func (s *Standalone) free() error {
	var err error
	if s.demo != nil {
		err = s.demo.close()
	}
	err = errors.Join(err, s.core.close())
	if s.release != nil {
		err = errors.Join(err, s.release())
	}
	return err
}

// greet prints where everything is. With the demo it makes what is missing of
// it first; that needs the server to answer.
func (s *Standalone) greet(ctx context.Context) error {
	base := s.core.cfg.PublicURL
	if s.demo == nil {
		_, err := fmt.Fprintf(s.out, "Switchboard listens on %s\n  Dashboard  %s/\n  API        %s/docs\n", s.Addr(), base, base)
		return err
	}
	return s.demo.greet(ctx, s)
}
