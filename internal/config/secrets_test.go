package config

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func loadStandalone(t *testing.T, dir string) (Config, error) {
	t.Helper()
	return Load(Standalone, []string{"-data-dir", dir}, nothing)
}

func TestGeneratedSecretsStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, err := loadStandalone(t, dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(first.JWTSecret), 32)
	require.Len(t, first.EncryptionKeyBytes(), 32)
	second, err := loadStandalone(t, dir)
	require.NoError(t, err)
	require.Equal(t, first.JWTSecret.Reveal(), second.JWTSecret.Reveal())
	require.Equal(t, first.EncryptionKey.Reveal(), second.EncryptionKey.Reveal())

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "no temporary files are left")
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), e.Name())
	}
	other, err := loadStandalone(t, t.TempDir())
	require.NoError(t, err)
	require.NotEqual(t, first.JWTSecret.Reveal(), other.JWTSecret.Reveal())
}

func TestSeveralFirstStartsAgree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var wg sync.WaitGroup
	var mu sync.Mutex // guards keys
	keys := map[string]bool{}
	for range 16 {
		wg.Go(func() {
			c, err := loadStandalone(t, dir)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			keys[c.EncryptionKey.Reveal()+c.JWTSecret.Reveal()] = true
		})
	}
	wg.Wait()
	require.Len(t, keys, 1)
}

func TestDamagedSecretIsAnError(t *testing.T) {
	for _, damage := range []string{"", "aGFsZg==", "not base64 at all, though it is long enough to be a key"} {
		dir := t.TempDir()
		_, err := loadStandalone(t, dir)
		require.NoError(t, err)
		path := filepath.Join(dir, "encryption_key")
		require.NoError(t, os.WriteFile(path, []byte(damage), 0o600))
		_, err = loadStandalone(t, dir)
		requireLine(t, err, "ENCRYPTION_KEY")
		require.Contains(t, err.Error(), "restore it from a backup")
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, damage, string(left), "a damaged key is never replaced by itself")
	}
}

func TestUnwritableDataDir(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := loadStandalone(t, file)
	requireLine(t, err, "JWT_SECRET")
}
