package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// command describes a child process.
type command struct {
	path        string
	args        []string
	dir         string // working directory; descendants are found by it
	env         []string
	credential  *syscall.Credential // nil: the user of the tests
	deathSignal syscall.Signal      // what the kernel sends when the test process dies
	stdin       io.Reader
	stdout      io.Writer
	stderr      io.Writer
}

// process is a started child. Its one goroutine is owned by the process itself and ends when the child does.
type process struct {
	pid  int
	dir  string
	done chan struct{} // closed when the child has ended and is reaped
	err  error         // how it ended; read only after done
}

func startProcess(c command) (*process, error) {
	cmd := exec.Command(c.path, c.args...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, c.stderr
	// A group of its own keeps the terminal's Ctrl-C away: the tests decide when a server ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.credential}
	dieWithParent(cmd.SysProcAttr, c.deathSignal)

	p := &process{dir: c.dir, done: make(chan struct{})}
	return p, p.start(cmd)
}

func (p *process) start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return nil
}

// Child is a process that does not outlive the test process, however that ends. It is its starter's to end.
type Child struct{ process *process }

// StartChild starts a command as a child in a process group of its own, and waits for it in the background.
func StartChild(cmd *exec.Cmd) (*Child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	c := &Child{&process{dir: cmd.Dir, done: make(chan struct{})}}
	return c, c.process.start(cmd)
}

// PID is the child's number.
func (c *Child) PID() int { return c.process.pid }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.process.done }

// Err is how the child ended, as exec.Cmd.Wait says it. Call it after Done.
func (c *Child) Err() error { return c.process.err }

// Running reports whether the child has not ended.
func (c *Child) Running() bool { return c.process.running() }

// Signal sends a signal to the child, unless it has ended.
func (c *Child) Signal(signal syscall.Signal) error { return c.process.signal(signal) }

// Pause stops the child where it stands: nothing of it runs when Pause returns without error. Signal(SIGCONT) lets it go on.
func (c *Child) Pause(ctx context.Context) error { return c.process.halt(ctx) }

// run starts the child and waits for it on one thread: the kernel's parent-death signal goes out when the thread that
// started the child ends, so that thread must live as long as the child does.
func (p *process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	p.err = cmd.Wait()
	close(p.done)
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(signal syscall.Signal) error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", signal, p.pid, err)
	}
	return nil
}

// signalAll signals the descendants, all that work in the process's directory.
func (p *process) signalAll(signal syscall.Signal) error {
	for _, pid := range family(p.dir) {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %s to process %d: %w", signal, pid, err)
		}
	}
	return nil
}

// halt stops the process alone, and returns once it does not run.
func (p *process) halt(ctx context.Context) error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return poll(ctx, func(context.Context) error {
		if !p.running() {
			return permanent(errors.New("the process ended while it was being paused"))
		}
		if processState(p.pid) != 'T' {
			return errors.New("the process is not stopped yet")
		}
		return nil
	})
}

// pause stops the process and its descendants, and returns once none of them runs.
func (p *process) pause(ctx context.Context) error {
	// The parent first: it cannot start another child behind our back.
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return poll(ctx, func(context.Context) error {
		if !p.running() {
			return permanent(errors.New("the server ended while it was being paused"))
		}
		moving := 0
		for _, pid := range append(family(p.dir), p.pid) {
			if state := processState(pid); state != 'T' && state != 0 {
				moving++
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			}
		}
		if moving > 0 {
			return fmt.Errorf("%d processes of the server are not stopped yet", moving)
		}
		return nil
	})
}

func (p *process) resume() error {
	if err := p.signalAll(syscall.SIGCONT); err != nil {
		return err
	}
	return p.signal(syscall.SIGCONT)
}

// end sends a signal to the first process and waits until it and all its descendants are gone.
func (p *process) end(ctx context.Context, signal syscall.Signal) error {
	if err := p.signal(signal); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("process %d did not end on %s: %w", p.pid, signal, ctx.Err())
	}
	return p.awaitFamily(ctx)
}

// kill ends the process and its descendants as a power cut would: none of them gets to run another line.
func (p *process) kill(ctx context.Context) error {
	// Stopped first, so that the parent neither starts children nor tidies up after those that die.
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := p.signalAll(syscall.SIGKILL); err != nil {
		return err
	}
	return p.end(ctx, syscall.SIGKILL)
}

func (p *process) awaitFamily(ctx context.Context) error {
	return poll(ctx, func(context.Context) error {
		if left := family(p.dir); len(left) > 0 {
			return fmt.Errorf("processes %v of the server are still there", left)
		}
		return nil
	})
}

// pollEvery is short because most of what the tests wait for is a few milliseconds away.
const pollEvery = 5 * time.Millisecond

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// permanent makes poll give up at once.
func permanent(err error) error { return permanentError{err} }

// poll calls try until it returns nil, and gives up with its last error when the context ends.
func poll(ctx context.Context, try func(context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if _, final := errors.AsType[permanentError](err); final {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting: %w (last: %w)", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
