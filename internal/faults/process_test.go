package faults

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// Programs of an installation: the names of commands, and of roles of the test binary.
const (
	programAPI       = "api"
	programWorker    = "worker"
	programSimulator = "simulator"
)

// startLimit is how long a process may take until it listens, and endLimit until it has ended after SIGTERM.
const (
	startLimit = 60 * time.Second
	endLimit   = 30 * time.Second
)

// process is a real process of an installation.
type process struct {
	t    testing.TB
	name string // "api", "worker", …
	// URL is where it listens. A process that is started anew gets another port.
	URL     string
	pid     int
	logFile string
	stdin   io.WriteCloser
	stdout  *bufio.Reader // what follows the line that names the address
	done    chan struct{} // closed when it has ended
	err     error         // how it ended; read only after done
	killed  bool
}

var listens = regexp.MustCompile(`(?:listens|metrics) on (?:http://)?(127\.0\.0\.1:\d+)`)

// launch starts a program with these settings and returns once it listens. It is ended with the test.
func launch(t testing.TB, program string, settings ...string) *process {
	t.Helper()
	return start(t, program, settings...).listening()
}

// listening waits until the process has said where it listens.
func (p *process) listening() *process {
	p.t.Helper()
	timer := time.AfterFunc(startLimit, func() { _ = syscall.Kill(p.pid, syscall.SIGKILL) })
	defer timer.Stop()
	for p.URL == "" {
		line, err := p.stdout.ReadString('\n')
		require.NoError(p.t, err, "%s does not start:\n%s", p.name, p.logTail())
		if found := listens.FindStringSubmatch(line); found != nil {
			p.URL = "http://" + found[1]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, p.stdout) }() // ends with the process
	return p
}

// start starts a program; what it prints is the caller's to read.
func start(t testing.TB, program string, settings ...string) *process {
	t.Helper()
	path, args := binary(t, program)
	cmd := exec.Command(path, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(inherited(), append(settings, roleVariable+"="+program)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(cmd.Dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, writer, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = writer

	p := &process{t: t, name: program, logFile: log.Name(), stdin: in, stdout: bufio.NewReader(out), done: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	err = <-started
	_ = writer.Close()
	require.NoError(t, err, "start %s", path)
	t.Cleanup(func() {
		p.kill()
		_ = out.Close()
		if t.Failed() {
			t.Logf("last lines of %s (pid %d):\n%s", program, p.pid, p.logTail())
		}
	})
	return p
}

// run holds the thread that started the process: the kernel's signal at the parent's death goes by threads.
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

// inherited are the variables that say something about the machine, not about an installation.
func inherited() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	// At its end the race detector waits for a second for what other threads have to report.
	return append(env, "GORACE=atexit_sleep_ms=100 "+os.Getenv("GORACE"))
}

// binary is what to run for a program: the test binary in another role or, for the full tests, the real command.
func binary(t testing.TB, program string) (path string, args []string) {
	t.Helper()
	if program == programSimulator || program == programAPI || program == programWorker {
		if testkit.Full() {
			dir, err := build()
			require.NoError(t, err)
			if program == programSimulator {
				args = []string{"-listen", "127.0.0.1:0"}
			}
			return filepath.Join(dir, program), args
		}
	}
	path, err := os.Executable()
	require.NoError(t, err)
	return path, nil
}

// built is the folder of the real commands, if they were built; TestMain removes it.
var built string

// build makes the real commands, with the flags of `make build`, so that what was compiled before is used.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "switchboard-faults-")
	if err != nil {
		return "", err
	}
	built = dir
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/",
		"switchboard/cmd/"+programAPI, "switchboard/cmd/"+programWorker, "switchboard/cmd/"+programSimulator)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the commands: %w: %s", err, out)
	}
	return dir, nil
})

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process with SIGKILL and returns when it is gone.
func (p *process) kill() {
	p.killed = true
	if p.running() {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	<-p.done
}

// stop asks for an orderly end, and checks that it came. A process that was killed is left alone.
func (p *process) stop() {
	p.t.Helper()
	if p.killed {
		return
	}
	_ = p.stdin.Close()
	_ = syscall.Kill(p.pid, syscall.SIGTERM)
	timer := time.NewTimer(endLimit)
	defer timer.Stop()
	select {
	case <-p.done:
		if p.err != nil {
			p.t.Errorf("%s did not end well after SIGTERM: %v", p.name, p.err)
		}
	case <-timer.C:
		p.t.Errorf("%s did not end within %s after SIGTERM", p.name, endLimit)
	}
}

// cpu is the processor time that the process has used so far.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "stat"))
	require.NoError(p.t, err)
	// The command's name, in parentheses, may hold anything; utime and stime are the 14th and 15th field, in ticks.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	const utime, stime, tick = 11, 12, 10 * time.Millisecond
	user, userErr := strconv.ParseInt(fields[utime], 10, 64)
	system, systemErr := strconv.ParseInt(fields[stime], 10, 64)
	require.NoError(p.t, errors.Join(userErr, systemErr))
	return time.Duration(user+system) * tick
}

func (p *process) log() string {
	p.t.Helper()
	log, err := os.ReadFile(p.logFile)
	require.NoError(p.t, err)
	return string(log)
}

func (p *process) logTail() string {
	const most = 6000
	log, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-most):])
}
