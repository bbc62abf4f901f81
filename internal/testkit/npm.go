package testkit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// oldestNode is the first major version of Node.js that the client runs on.
const oldestNode = 20

// nodeTools is what it takes to run a script with the pinned npm packages.
type nodeTools struct {
	node string // the binary
	dir  string // internal/testkit/client, its packages installed
}

var findNode = sync.OnceValues(func() (nodeTools, error) {
	node, err := checkedNode()
	if err != nil {
		return nodeTools{}, err
	}
	dir, err := clientDir()
	if err != nil {
		return nodeTools{}, err
	}
	return nodeTools{node: node, dir: dir}, installPackages(dir)
})

// Node returns the path of a Node.js that is new enough, and the folder in which the pinned npm packages are installed
// (socket.io-client, socket.io, @socket.io/redis-adapter, @socket.io/redis-emitter, redis): a script in that folder can import
// them. It fails the test when Node.js is missing or too old.
func Node(t testing.TB) (binary, dir string) {
	t.Helper()
	tools, err := findNode()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return tools.node, tools.dir
}

func checkedNode() (string, error) {
	node, err := lookPath("node", "nodejs")
	if err != nil {
		return "", err
	}
	version, err := programVersion(node)
	if err != nil {
		return "", err
	}
	return node, checkNodeVersion(node, version)
}

// checkNodeVersion reads what `node --version` prints: v20.20.2.
func checkNodeVersion(node, version string) error {
	digits, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	major, err := strconv.Atoi(digits)
	if err != nil {
		return fmt.Errorf("ask %s for its version: want v%d.0.0 or the like, got %q", node, oldestNode, version)
	}
	if major < oldestNode {
		return fmt.Errorf("%s is Node.js %s: the tests' Socket.IO client needs %d or later, please update it", node, version, oldestNode)
	}
	return nil
}

// clientDir finds internal/testkit/client from the working directory, which in a test is the package's folder.
func clientDir() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		client := filepath.Join(dir, "internal", "testkit", "client")
		if _, err := os.Stat(filepath.Join(client, "driver.mjs")); err == nil {
			return client, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find internal/testkit/client above %s: the test must run in the project's folder", start)
		}
	}
}

// installPackages runs `npm ci` when the installed packages are not those of package-lock.json. Test processes that find
// that at the same moment wait for the first.
func installPackages(dir string) error {
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return fmt.Errorf("read the npm lock file: %w", err)
	}
	sum := sha256.Sum256(lock)
	want, stamp := hex.EncodeToString(sum[:]), filepath.Join(dir, "node_modules", ".installed")
	if installed(stamp, want) {
		return nil
	}
	unlock, err := lockFile(filepath.Join(dir, ".install.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if installed(stamp, want) {
		return nil
	}
	npm, err := lookPath("npm", "npm")
	if err != nil {
		return err
	}
	install := exec.Command(npm, "ci", "--no-progress")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("install the Socket.IO client with `npm ci` in %s: %w", dir, err), errors.New(string(out)))
	}
	if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
		return fmt.Errorf("note what is installed: %w", err)
	}
	return nil
}

func installed(stamp, want string) bool {
	got, err := os.ReadFile(stamp)
	return err == nil && string(got) == want
}
