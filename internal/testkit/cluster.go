package testkit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// initdbArgs: C.UTF-8 sorts by code point and knows the letters of every script, on every machine alike.
var initdbArgs = []string{
	"--username=" + postgresUser, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=4",
}

// newCluster fills dir/data with a fresh PostgreSQL cluster, owned by the user that the server runs as.
func newCluster(dir string, bin postgresBinaries, owner *syscall.Credential) error {
	data := filepath.Join(dir, "data")
	template, err := clusterTemplate(bin, owner)
	if err != nil {
		// No cache directory, or none that can be written: initialize in place, which takes a second longer.
		return initCluster(data, bin, owner)
	}
	if err := os.CopyFS(data, os.DirFS(template)); err != nil {
		return fmt.Errorf("copy the initialized cluster: %w", err)
	}
	if err := os.Chmod(data, 0o700); err != nil {
		return fmt.Errorf("close the data directory: %w", err)
	}
	return chownTree(data, owner)
}

// clusterTemplate returns a directory with an initialized cluster, made once per version of PostgreSQL and kept in the user's
// cache directory. Test processes that want it at the same moment wait for the first.
func clusterTemplate(bin postgresBinaries, owner *syscall.Credential) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	version, err := programVersion(bin.postgres)
	if err != nil {
		return "", err
	}
	base := filepath.Join(cache, "switchboard-testkit")
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", fmt.Errorf("create the cache directory: %w", err)
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{version}, initdbArgs...), "\x00")))
	template := filepath.Join(base, "cluster-"+hex.EncodeToString(sum[:8]))

	unlock, err := lockFile(template + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(template); err == nil {
		return template, nil
	}
	return template, makeTemplate(template, bin, owner)
}

// makeTemplate initializes a cluster where its owner may write, and moves a copy to its place in one step, so that
// a half-made one is never found there.
func makeTemplate(template string, bin postgresBinaries, owner *syscall.Credential) error {
	space, err := openWorkspace()
	if err != nil {
		return err
	}
	work, err := space.subdir("initdb")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	data := filepath.Join(work, "data")
	if err := initCluster(data, bin, owner); err != nil {
		return err
	}
	half, err := os.MkdirTemp(filepath.Dir(template), "half-made-")
	if err != nil {
		return fmt.Errorf("create the cluster's cache: %w", err)
	}
	defer func() { _ = os.RemoveAll(half) }()
	copied := filepath.Join(half, "data")
	if err := os.CopyFS(copied, os.DirFS(data)); err != nil {
		return fmt.Errorf("fill the cluster's cache: %w", err)
	}
	if err := os.Rename(copied, template); err != nil {
		return fmt.Errorf("keep the cluster's cache: %w", err)
	}
	return nil
}

func initCluster(data string, bin postgresBinaries, owner *syscall.Credential) error {
	if err := os.Mkdir(data, 0o700); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	if err := chownTree(data, owner); err != nil {
		return err
	}
	cmd := exec.Command(bin.initdb, append([]string{"--pgdata=" + data}, initdbArgs...)...)
	cmd.Dir = data
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initialize a PostgreSQL cluster with %s: %w: %s", bin.initdb, err, out)
	}
	return nil
}

// serverOwner is the user to run PostgreSQL as: nil, the tests' own user, unless that is root, which PostgreSQL refuses.
func serverOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no credential is the ordinary case and means: as we are
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root and there is neither a user postgres nor nobody: " +
		"run the tests as an ordinary user")
}

func chownTree(dir string, owner *syscall.Credential) error {
	if owner == nil {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		return fmt.Errorf("give the data to the server's user: %w", err)
	}
	return nil
}

// lockFile takes the exclusive lock on a file, waiting for whoever holds it. The kernel releases it with the process.
func lockFile(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("take the lock %s: %w", path, err)
	}
	return func() { _ = file.Close() }, nil
}
