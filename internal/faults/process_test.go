package faults

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator"
	"switchboard/internal/testkit"
)

// Programs of an installation: the names of commands, and of roles of the test binary.
const (
	programAPI       = "api"
	programWorker    = "worker"
	programSimulator = "simulator"
)

// Parts of the simulator, by the names that it gives them.
const (
	partCloud    = simulator.NameBusiness
	partTelegram = simulator.NameTelegram
	partWhatsApp = simulator.NamePhones
)

// startLimit is how long a process may take until it listens, and endLimit until it has ended after SIGTERM.
const (
	startLimit = 60 * time.Second
	endLimit   = 30 * time.Second
)

// process is a real process of an installation.
type process struct {
	*testkit.Child

	t    testing.TB
	name string // "api", "worker", …
	// URL is where it listens, the first of them. A process that is started anew gets another port.
	URL     string
	parts   map[string]string // of the simulators, by name: where each listens
	logFile string
	stdin   io.WriteCloser
	stdout  *bufio.Reader // what follows the line that names the address
	killed  bool
}

var listens = regexp.MustCompile(`^(.*?) (?:simulator listens|listens|serves health and metrics) on (?:http://)?(127\.0\.0\.1:\d+)`)

// launch starts a program with these settings and returns once it listens. It is ended with the test.
func launch(t testing.TB, program string, settings ...string) *process {
	t.Helper()
	return start(t, program, settings...).listening()
}

// listening waits until the process has said where it listens, with all these parts.
func (p *process) listening(parts ...string) *process {
	p.t.Helper()
	timer := time.AfterFunc(startLimit, func() { _ = p.Signal(syscall.SIGKILL) })
	defer timer.Stop()
	p.parts = map[string]string{}
	missing := func(part string) bool { return p.parts[part] == "" }
	for p.URL == "" || slices.ContainsFunc(parts, missing) {
		line, err := p.stdout.ReadString('\n')
		require.NoError(p.t, err, "%s does not start:\n%s", p.name, p.logTail())
		if found := listens.FindStringSubmatch(line); found != nil {
			p.parts[found[1]] = "http://" + found[2]
			p.URL = cmp.Or(p.URL, p.parts[found[1]])
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
	log, err := os.OpenFile(filepath.Join(cmd.Dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, writer, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = writer

	child, err := testkit.StartChild(cmd)
	_ = writer.Close()
	require.NoError(t, err, "start %s", path)
	p := &process{Child: child, t: t, name: program, logFile: log.Name(), stdin: in, stdout: bufio.NewReader(out)}
	t.Cleanup(func() {
		p.kill()
		_ = out.Close()
		if t.Failed() {
			t.Logf("last lines of %s (pid %d):\n%s", program, p.PID(), p.logTail())
		}
	})
	return p
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
				args = []string{"-listen", "127.0.0.1:0", "-telegram-listen", "127.0.0.1:0", "-whatsapp-listen", "127.0.0.1:0"}
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

// kill ends the process with SIGKILL and returns when it is gone.
func (p *process) kill() {
	p.killed = true
	_ = p.Signal(syscall.SIGKILL)
	<-p.Done()
}

// pause stops the process where it stands: nothing of it runs when pause returns.
func (p *process) pause() {
	p.t.Helper()
	require.NoError(p.t, p.Pause(testkit.Context(p.t)))
}

// resume lets a paused process go on.
func (p *process) resume() {
	p.t.Helper()
	require.NoError(p.t, p.Signal(syscall.SIGCONT))
}

// terminate asks for an orderly end and does not wait for it; stop does.
func (p *process) terminate() {
	_ = p.stdin.Close()
	_ = p.Signal(syscall.SIGTERM)
}

// stop asks for an orderly end, and checks that it came. A process that was killed is left alone.
func (p *process) stop() {
	p.t.Helper()
	if p.killed {
		return
	}
	p.terminate()
	timer := time.NewTimer(endLimit)
	defer timer.Stop()
	select {
	case <-p.Done():
		if p.Err() != nil {
			p.t.Errorf("%s did not end well after SIGTERM: %v", p.name, p.Err())
		}
	case <-timer.C:
		p.t.Errorf("%s did not end within %s after SIGTERM", p.name, endLimit)
	}
}

// cpu is the processor time that the process has used so far.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	fields, err := p.stat()
	require.NoError(p.t, err)
	// In ticks.
	const utime, stime, tick = 11, 12, 10 * time.Millisecond
	user, userErr := strconv.ParseInt(fields[utime], 10, 64)
	system, systemErr := strconv.ParseInt(fields[stime], 10, 64)
	require.NoError(p.t, errors.Join(userErr, systemErr))
	return time.Duration(user+system) * tick
}

// stat is what the kernel says of the process, from its state, the third field of /proc/<pid>/stat, on.
func (p *process) stat() ([]string, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "stat"))
	if err != nil {
		return nil, err
	}
	// The command's name, in parentheses, may hold anything.
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:])), nil
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
