package testkit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serverTimeout bounds one step of a server: starting (crash recovery included), stopping, being killed.
const serverTimeout = 60 * time.Second

// daemon is a server process that can be ended and started again on the same address and data.
type daemon struct {
	name    string
	dir     string                                       // holds data/ and log
	command func(port int, data string) command          // what to run; its dir is data
	ready   func(ctx context.Context, addr string) error // nil once the server answers
	stopOn  syscall.Signal                               // asks for an orderly end
	release func(data string)                            // gives back what a killed server cannot, or nil

	mu     sync.Mutex // guards what follows and makes each step whole
	port   int        // 0 until first started
	proc   *process   // nil before the first start
	paused bool
}

func (d *daemon) addr() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.addrLocked()
}

func (d *daemon) addrLocked() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)) }

func (d *daemon) data() string { return filepath.Join(d.dir, "data") }

func (d *daemon) start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc != nil && d.proc.running() {
		return fmt.Errorf("%s is running already", d.name)
	}
	if d.port != 0 {
		return d.launch(ctx)
	}
	// Another test process may take the port between the choice and the start: choose again.
	const attempts = 5
	var err error
	for range attempts {
		if d.port, err = freePort(); err != nil {
			return err
		}
		if err = d.launch(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (d *daemon) launch(ctx context.Context) error {
	log, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", d.name, err)
	}
	defer func() { _ = log.Close() }()
	c := d.command(d.port, d.data())
	c.dir, c.stdout, c.stderr = d.data(), log, log
	proc, err := startProcess(c)
	if err != nil {
		return err
	}
	d.proc, d.paused = proc, false
	err = poll(ctx, func(ctx context.Context) error {
		if !proc.running() {
			return permanent(fmt.Errorf("it ended: %w", errors.Join(proc.err, errors.New("its last lines:\n"+d.logTail()))))
		}
		return d.ready(ctx, d.addrLocked())
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", d.name, errors.Join(err, proc.kill(context.WithoutCancel(ctx))))
	}
	return nil
}

func (d *daemon) stop(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc == nil || !d.proc.running() {
		return nil
	}
	if d.paused {
		if err := d.proc.resume(); err != nil {
			return err
		}
		d.paused = false
	}
	return d.proc.end(ctx, d.stopOn)
}

func (d *daemon) kill(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc == nil {
		return nil
	}
	d.paused = false
	return d.proc.kill(ctx)
}

func (d *daemon) pause(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc == nil || !d.proc.running() {
		return fmt.Errorf("%s is not running: nothing to pause", d.name)
	}
	d.paused = true
	return d.proc.pause(ctx)
}

func (d *daemon) resume() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc == nil || !d.proc.running() {
		return fmt.Errorf("%s is not running: nothing to resume", d.name)
	}
	d.paused = false
	return d.proc.resume()
}

// close ends the server for good and removes its data.
func (d *daemon) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
	defer cancel()
	err := d.kill(ctx)
	if d.release != nil {
		d.release(d.data())
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

func (d *daemon) logFile() string { return filepath.Join(d.dir, "log") }

// logTail is the end of the server's log.
func (d *daemon) logTail() string {
	const most = 4096
	log, err := os.ReadFile(d.logFile())
	if err != nil {
		return ""
	}
	return string(log[max(0, len(log)-most):])
}

// freePort chooses a port below the ephemeral range, so that no outgoing connection takes it while a server that a test
// stopped is away.
func freePort() (int, error) {
	const lowest, highest, attempts = 20000, 32000, 50
	var last error
	for range attempts {
		port := lowest + rand.IntN(highest-lowest)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("found no free port on 127.0.0.1: %w", last)
}

// Server is what fault tests do to a server. A step that fails is reported on the test with Errorf, so every method may be
// called from any goroutine while the test runs. Steps of one server wait for each other.
type Server struct {
	t      testing.TB
	daemon *daemon
}

func newServer(t testing.TB, d *daemon) Server {
	t.Helper()
	s := Server{t: t, daemon: d}
	t.Cleanup(func() { s.report("close", d.close()) })
	ctx, cancel := context.WithTimeout(t.Context(), serverTimeout)
	defer cancel()
	if err := d.start(ctx); err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return s
}

// Addr is the server's address, 127.0.0.1:port. It stays the same over restarts.
func (s *Server) Addr() string { return s.daemon.addr() }

// Start starts the server again after Stop or Kill, on the same address and data, and returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.step("start", s.daemon.start)
}

// Stop ends the server in order: open connections are closed, data is flushed. A paused server is resumed first.
func (s *Server) Stop() {
	s.t.Helper()
	s.step("stop", s.daemon.stop)
}

// Kill ends all processes of the server with SIGKILL at once, as a power cut would, and returns when they are gone.
func (s *Server) Kill() {
	s.t.Helper()
	s.step("kill", s.daemon.kill)
}

// Pause stops all processes of the server with SIGSTOP: connections stay open, nothing answers. The kernel still accepts
// new connections into the server's backlog.
func (s *Server) Pause() {
	s.t.Helper()
	s.step("pause", s.daemon.pause)
}

// Resume lets a paused server go on.
func (s *Server) Resume() {
	s.t.Helper()
	s.report("resume", s.daemon.resume())
}

// Log is the end of the server's own log, at most 4 KiB.
func (s *Server) Log() string { return s.daemon.logTail() }

func (s *Server) step(name string, do func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
	defer cancel()
	s.report(name, do(ctx))
}

func (s *Server) report(name string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Errorf("testkit: %s %s: %v", name, s.daemon.name, err)
	}
}
