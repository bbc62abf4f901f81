package testkit

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNodeVersionIsChecked(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"v20.0.0":   "",
		"v24.11.1":  "",
		"v18.20.4":  "needs 20 or later",
		"v9.9.9":    "needs 20 or later",
		"something": "for its version",
	} {
		err := checkNodeVersion("/usr/bin/node", version)
		if want == "" {
			assert.NoError(t, err, version)
		} else {
			assert.ErrorContains(t, err, want, version)
		}
	}
}

func TestPackagesAreInstalledOnce(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	lock := filepath.Join(dir, "package-lock.json")
	require.NoError(t, os.WriteFile(lock, []byte("{}"), 0o600))
	npm := "#!/bin/sh\necho \"$@\" >>calls\nrm -rf node_modules\nmkdir node_modules\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "npm"), []byte(npm), 0o700))
	t.Setenv("PATH", bin+":/bin:/usr/bin")

	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { assert.NoError(t, installPackages(dir)) })
	}
	all.Wait()
	assert.Equal(t, []string{"ci --no-progress"}, calls(t, dir))

	require.NoError(t, os.WriteFile(lock, []byte(`{"lockfileVersion":3}`), 0o600))
	require.NoError(t, installPackages(dir))
	assert.Len(t, calls(t, dir), 2, "another lock file is another installation")
}

func TestAFailedInstallationSaysWhy(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "package-lock.json"), []byte("{}"), 0o600))
	npm := "#!/bin/sh\necho 'npm error no network' >&2\nexit 1\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "npm"), []byte(npm), 0o700))
	t.Setenv("PATH", bin+":/bin:/usr/bin")
	require.ErrorContains(t, installPackages(dir), "no network")
}

func TestMissingProgramsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := lookPath("redis-server", "redis-server")
	require.ErrorContains(t, err, "apt-get install redis-server")
	require.ErrorContains(t, err, "make test-setup")
	_, err = checkedNode()
	require.ErrorContains(t, err, "apt-get install nodejs")
	require.ErrorContains(t, installPackagesIn(t), "apt-get install npm")
}

func installPackagesIn(t *testing.T) error {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "package-lock.json"), []byte("{}"), 0o600))
	return installPackages(dir)
}

func calls(t *testing.T, dir string) []string {
	t.Helper()
	recorded, err := os.ReadFile(filepath.Join(dir, "calls"))
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(recorded)), "\n")
}
