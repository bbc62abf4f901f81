package testkit

import (
	"cmp"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

//go:embed guard.sh
var guardScript string

// workspace is the directory of this test process and the guard that cleans it up.
type workspace struct {
	dir   string
	guard *os.File // the pipe's end that the guard waits on; kept open as long as the process lives
}

var (
	openWorkspace = sync.OnceValues(func() (*workspace, error) { return newWorkspace(tempRoot()) })
	// openMemory opens a workspace that no disk is behind, where the machine has such a place.
	openMemory = sync.OnceValues(func() (*workspace, error) { return newWorkspace(cmp.Or(memoryRoot(), tempRoot())) })
)

func newWorkspace(root string) (*workspace, error) {
	dir, err := os.MkdirTemp(root, "switchboard-test-")
	if err != nil {
		return nil, fmt.Errorf("create the test directory: %w", err)
	}
	// Others may pass through, not look: PostgreSQL runs as another user when the tests run as root.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, fmt.Errorf("open the test directory: %w", err)
	}
	guard, err := startGuard(dir)
	if err != nil {
		return nil, err
	}
	return &workspace{dir: dir, guard: guard}, nil
}

// subdir makes a new directory for one server.
func (w *workspace) subdir(name string) (string, error) {
	dir, err := os.MkdirTemp(w.dir, name+"-")
	if err != nil {
		return "", fmt.Errorf("create the directory of %s: %w", name, err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", fmt.Errorf("open the directory of %s: %w", name, err)
	}
	return dir, nil
}

// tempRoot is the temporary directory, or /tmp when root's own one would be closed to the user PostgreSQL runs as.
func tempRoot() string {
	root := os.TempDir()
	if os.Geteuid() != 0 {
		return root
	}
	for dir := root; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return "/tmp"
		}
		if dir == filepath.Dir(dir) {
			return root
		}
	}
}

func startGuard(dir string) (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the guard's pipe: %w", err)
	}
	defer func() { _ = read.Close() }()
	// A session of its own keeps the terminal's Ctrl-C away; no output is inherited, or `go test` would wait for it.
	guard := exec.Command("/bin/sh", "-c", guardScript, "testkit-guard", dir)
	guard.Dir = "/"
	guard.Stdin = read
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := guard.Start(); err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("start the guard of the test processes: %w", err)
	}
	return write, nil
}
