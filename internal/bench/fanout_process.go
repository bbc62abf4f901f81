package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process that a benchmark started: a server that is measured, or its load.
type child struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  *bufio.Reader // its standard output
	errors *tail

	once  sync.Once
	ended error
}

// startChild starts a process; stop ends it. env is added to this process's own.
func startChild(name string, env []string, program string, args ...string) (*child, error) {
	c := &child{name: name, cmd: exec.Command(program, args...), errors: &tail{}} //nolint:gosec // this program, or Node.js
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), env...), c.errors
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is ours to pass on
	// A process that is stopped leaves nothing behind that would hold the pipes.
	c.cmd.WaitDelay = time.Second
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c.in, c.lines = in, bufio.NewReaderSize(out, 64<<10)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := raiseFiles(c.cmd.Process.Pid); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// startSelf starts another process of this program.
func startSelf(name string, env []string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return startChild(name, append(env, selfEnv+"=1"), self, args...)
}

// selfEnv tells a test binary that it is to be the program.
const selfEnv = "SWITCHBOARD_BENCH_PROCESS"

// raiseFiles lets a process open as many files as it may. Go gives its children the limit that it was started with.
func raiseFiles(pid int) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return fmt.Errorf("ask for the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}

// needFiles says whether n connections fit the limit of open files.
func needFiles(n int) error {
	const spare = 200
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("ask for the limit of open files: %w", err)
	}
	if limit.Max < uint64(n+spare) { //nolint:gosec // a count of clients
		return fmt.Errorf("%d clients need as many open files, and this user may have %d: raise `ulimit -Hn` or take fewer", n, limit.Max)
	}
	return nil
}

// address reads the line in which a server says where it listens: the last word is host:port.
func (c *child) address() (string, error) {
	line, err := c.lines.ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) == 0 {
		return "", c.failed(fmt.Errorf("it did not say where it listens: %w", err))
	}
	// Whatever else it prints is of no interest, but must not hold it.
	go func() { _, _ = io.Copy(io.Discard, c.lines) }()
	return words[len(words)-1], nil
}

// failed explains an error by what the process printed.
func (c *child) failed(err error) error {
	if printed := c.errors.String(); printed != "" {
		return fmt.Errorf("%s: %w; it printed: %s", c.name, err, printed)
	}
	return fmt.Errorf("%s: %w", c.name, err)
}

// stop ends the process: with its input, by SIGTERM, or the hard way.
func (c *child) stop() error {
	c.once.Do(func() {
		_ = c.in.Close()
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		const patience = 20 * time.Second
		kill := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
		err := c.cmd.Wait()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM { //nolint:forcetypeassert // Linux
			err = nil
		}
		if !kill.Stop() {
			err = errors.Join(err, fmt.Errorf("it did not end within %s", patience))
		}
		if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			c.ended = c.failed(err)
		}
	})
	return c.ended
}

// cpu is what the process has used of the cores.
func (c *child) cpu() (time.Duration, error) {
	text, err := os.ReadFile(c.proc("stat"))
	if err != nil {
		return 0, c.failed(err)
	}
	return parseCPU(string(text))
}

func (c *child) proc(file string) string {
	return "/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/" + file
}

// parseCPU reads user and system time of /proc/PID/stat. The program's name, the second field, may hold anything.
func parseCPU(stat string) (time.Duration, error) {
	const utime, stime, tick = 11, 12, 10 * time.Millisecond // fields behind the name; the kernel's USER_HZ
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= stime {
		return 0, fmt.Errorf("CPU time: %q is no line of /proc/PID/stat", stat)
	}
	user, err := strconv.ParseInt(fields[utime], 10, 64)
	system, err2 := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err, err2)
}

// rss is the process's resident memory in bytes.
func (c *child) rss() (float64, error) {
	kib, err := strconv.ParseFloat(strings.TrimSuffix(firstValue(c.proc("status"), "VmRSS"), " kB"), 64)
	if err != nil {
		return 0, c.failed(fmt.Errorf("resident memory: %w", err))
	}
	return kib * 1024, nil
}

// scrape reads a node's Prometheus page and returns the samples by name and labels, as they are written there.
func scrape(ctx context.Context, address string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the metrics were answered with %s", answer.Status)
	}
	samples := map[string]float64{}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, found := cutLast(lines.Text(), " ")
		if !found || strings.HasPrefix(name, "#") {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			samples[name] = n
		}
	}
	return samples, lines.Err()
}

func cutLast(s, sep string) (before, after string, found bool) {
	at := strings.LastIndex(s, sep)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(sep):], true
}

// tail keeps the last few lines that were written to it.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 2 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > most {
		t.text = append(t.text[:0], t.text[len(t.text)-most:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
