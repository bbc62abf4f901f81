package testkit_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// orphanMaker makes the test binary play the test process that is killed.
const orphanMaker = "TESTKIT_TEST_MAKE_ORPHANS"

// TestNothingOutlivesTheTestProcess kills a test process that runs servers, one of them paused, and looks for what is left.
func TestNothingOutlivesTheTestProcess(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	require.NoError(t, os.Chmod(temp, 0o755))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOrphans$", "-test.v")
	cmd.Env = append(os.Environ(), orphanMaker+"=1")
	if usable(temp) {
		cmd.Env = append(cmd.Env, "TMPDIR="+temp)
	}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	var made orphans
	lines := bufio.NewReader(out)
	for made.Dir == "" {
		line, err := lines.ReadString('\n')
		require.NoError(t, err, "the other process ended too early")
		if text, found := strings.CutPrefix(line, "ORPHANS "); found {
			require.NoError(t, json.Unmarshal([]byte(text), &made))
		}
	}
	require.GreaterOrEqual(t, len(made.running(t)), 4, "PostgreSQL with its children, Redis, Node")
	require.NoError(t, cmd.Process.Kill())
	_, _ = io.Copy(io.Discard, lines)
	require.Error(t, cmd.Wait())

	testkit.Eventually(t, "the end of the servers", func() bool { return len(made.running(t)) == 0 })
	testkit.Eventually(t, "the directory to go", func() bool {
		_, err := os.Stat(made.Dir)
		return os.IsNotExist(err)
	})
}

// usable tells whether another user can reach the directory, as PostgreSQL must when the tests run as root.
func usable(dir string) bool {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

type orphans struct {
	Dir string `json:"dir"`
}

// running lists the processes that work in the directory.
func (o orphans) running(t *testing.T) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	var found []string
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, o.Dir) {
			found = append(found, link)
		}
	}
	return found
}

// TestOrphans is the killed process's part.
func TestOrphans(t *testing.T) {
	if os.Getenv(orphanMaker) == "" {
		t.Skip("a part of TestNothingOutlivesTheTestProcess")
	}
	testkit.Postgres(t)
	testkit.Redis(t)
	testkit.StartPostgres(t, testkit.PostgresOptions{Durable: true}).Pause()
	testkit.Client(t, testkit.ClientOptions{URL: "http://127.0.0.1:1"})
	line, err := json.Marshal(orphans{Dir: testkit.WorkspaceDir()})
	require.NoError(t, err)
	_, err = fmt.Fprintf(os.Stdout, "ORPHANS %s\n", line)
	require.NoError(t, err)
	<-t.Context().Done() // never: the process is killed
}
