package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ensureSecrets gives standalone the secrets that were not set: read from DATA_DIR, or made on the first run. They stay
// the same from then on, or all sessions and sealed credentials would be lost.
func (c *Config) ensureSecrets() error {
	if c.JWTSecret == "" {
		s, err := keepSecret(filepath.Join(c.DataDir, "jwt_secret"), 48, "everybody must sign in again")
		if err != nil {
			return keepError("JWT_SECRET", err)
		}
		c.JWTSecret = s
	}
	if c.EncryptionKey == "" {
		s, err := keepSecret(filepath.Join(c.DataDir, "encryption_key"), keyBytes, "all channels must then be linked again")
		if err != nil {
			return keepError("ENCRYPTION_KEY", err)
		}
		c.EncryptionKey = s
	}
	return nil
}

func keepError(setting string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.Setting = setting
		return e
	}
	return &Error{Setting: setting, Got: "no value, and none can be kept: " + err.Error(), Want: "a DATA_DIR that can be written, or the setting itself"}
}

// keepSecret reads the secret of path, or makes one of n random bytes in base64. Of several processes that start at
// once, one makes it and all use the same.
func keepSecret(path string, n int, loss string) (Secret, error) {
	secret, err := readKept(path, n, loss)
	if !errors.Is(err, os.ErrNotExist) {
		return secret, err
	}
	if err := createSecret(path, n); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return readKept(path, n, loss)
}

// readKept refuses a file of another size than was written: half of a key would silently lose what the whole one sealed.
func readKept(path string, n int, loss string) (Secret, error) {
	text, err := readSmall(path)
	if err != nil {
		return "", err
	}
	if key, err := base64.StdEncoding.DecodeString(string(text)); err != nil || len(key) != n {
		return "", &Error{
			Got:  fmt.Sprintf("the damaged file %s (%d bytes)", path, len(text)),
			Want: fmt.Sprintf("%d characters of base64: restore it from a backup, or delete it (%s)", base64.StdEncoding.EncodedLen(n), loss),
		}
	}
	// A backup may have been restored with other rights.
	if err := os.Chmod(path, 0o600); err != nil {
		return "", err
	}
	return Secret(text), nil
}

// createSecret writes a whole, synced file and only then gives it its name, unless the name was taken meanwhile.
func createSecret(path string, n int) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".secret-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	key := make([]byte, n)
	if _, err := rand.Read(key); err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // DATA_DIR
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
