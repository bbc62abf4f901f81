package bench

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // for connections of the benchmark's own
)

// printMachine writes what the figures depend on. The settings are those that differ most between servers.
func printMachine(ctx context.Context, out io.Writer, databaseURL string) error {
	db, err := sql.Open("pgx", databaseURL)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer func() { _ = db.Close() }()
	var version, fsync, commit, buffers string
	err = db.QueryRowContext(ctx, "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'), current_setting('shared_buffers')").
		Scan(&version, &fsync, &commit, &buffers)
	if err != nil {
		return fmt.Errorf("ask the server for its settings: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s, %d cores, %s memory, %s %s; load before the run %s\nPostgreSQL %s: fsync %s, synchronous_commit %s, shared_buffers %s\n\n",
		firstValue("/proc/cpuinfo", "model name"), runtime.NumCPU(), memory(), runtime.GOOS, runtime.Version(), loadAverage(), version, fsync, commit, buffers)
	return err
}

func memory() string {
	kib, err := strconv.ParseFloat(strings.TrimSuffix(firstValue("/proc/meminfo", "MemTotal"), " kB"), 64)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// loadAverage is the number of processes that wanted a core, over the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}

// firstValue finds "key : value" in a file of the kernel's.
func firstValue(file, key string) string {
	text, err := os.ReadFile(file) //nolint:gosec // one of the two names above
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// busySeconds is how long the machine's cores have worked since it started, whoever for.
func busySeconds() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var busy float64
	for i, field := range strings.Fields(line) {
		ticks, err := strconv.ParseFloat(field, 64)
		// The name, then user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in user.
		if err == nil && i != 4 && i != 5 && i <= 8 {
			busy += ticks
		}
	}
	const ticksPerSecond = 100
	return busy / ticksPerSecond
}

// cpuTime is what this process has used of the cores.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// findProgram looks in PATH, then where Debian keeps PostgreSQL's programs, the newest version first.
func findProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	packaged, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(packaged) == 0 {
		return "", fmt.Errorf("%s is not installed; on Debian: apt-get install postgresql", name)
	}
	slices.Sort(packaged)
	return packaged[len(packaged)-1], nil
}
