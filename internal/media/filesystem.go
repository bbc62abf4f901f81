package media

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"
)

const (
	// tempDir is where blobs are while they are written. It is on the same file system, so that they can be renamed.
	tempDir = ".incoming"
	// abandoned is the age at which a file there is what a crash left behind. No upload takes that long.
	abandoned = 24 * time.Hour
)

// FileSystem keeps blobs as files (0600) in folders (0700) under one root. It cannot reach outside the root, not even
// through symbolic links within it.
type FileSystem struct {
	root *os.Root
	// made remembers the folders that exist and are synced, so that a write costs one folder sync and not three.
	mu   sync.Mutex // guards made
	made map[string]bool
}

var _ Blobs = (*FileSystem)(nil)

// NewFileSystem returns a FileSystem in dir, which it creates if need be, and removes what a crash left half-written.
// Close it at the end.
func NewFileSystem(dir string) (*FileSystem, error) {
	if dir == "" {
		return nil, errors.New("media folder: the path is empty")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("media folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("media folder: %w", err)
	}
	f := &FileSystem{root: root, made: map[string]bool{}}
	if err := f.sweep(); err != nil {
		return nil, errors.Join(fmt.Errorf("media folder: %w", err), root.Close())
	}
	return f, nil
}

// Close ends the use of the folder. Blobs that are open stay open.
func (f *FileSystem) Close() error { return f.root.Close() }

func (f *FileSystem) sweep() error {
	if err := f.root.MkdirAll(tempDir, 0o700); err != nil {
		return err
	}
	entries, err := fs.ReadDir(f.root.FS(), tempDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < abandoned {
			continue // gone meanwhile, or being written by another process
		}
		if err := f.root.Remove(path.Join(tempDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Put implements Blobs. When it returns nil, the blob survives a power cut.
func (f *FileSystem) Put(ctx context.Context, key string, r io.Reader, size int64, _ string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	temp := path.Join(tempDir, rand.Text())
	if err := f.write(temp, &sizedReader{ctx: ctx, r: r, size: size}); err != nil {
		_ = f.root.Remove(temp) // if that fails too, sweep does it
		return fmt.Errorf("store media %s: %w", key, err)
	}
	dir := path.Dir(key)
	err := f.makeDir(dir)
	if err == nil {
		err = f.root.Rename(temp, key)
	}
	if err != nil {
		_ = f.root.Remove(temp)
		return fmt.Errorf("store media %s: %w", key, err)
	}
	if err := f.sync(dir); err != nil {
		return fmt.Errorf("store media %s: %w", key, err)
	}
	return nil
}

func (f *FileSystem) write(name string, r io.Reader) error {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (f *FileSystem) makeDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made[dir] {
		return nil
	}
	if err := f.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for parent := path.Dir(dir); ; parent = path.Dir(parent) {
		if err := f.sync(parent); err != nil {
			return err
		}
		if parent == "." {
			break
		}
	}
	f.made[dir] = true
	return nil
}

// sync makes a folder's entries durable.
func (f *FileSystem) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Open implements Blobs.
func (f *FileSystem) Open(_ context.Context, key string) (Blob, error) {
	if err := checkKey(key); err != nil {
		return Blob{}, err
	}
	file, err := f.root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return Blob{}, notFound(key)
	}
	if err != nil {
		return Blob{}, fmt.Errorf("open media %s: %w", key, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return Blob{}, errors.Join(fmt.Errorf("open media %s: %w", key, err), file.Close())
	}
	return Blob{ReadSeekCloser: file, Size: info.Size()}, nil
}

// Delete implements Blobs.
func (f *FileSystem) Delete(_ context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := f.root.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete media %s: %w", key, err)
	}
	return nil
}

// Check implements Blobs by writing and removing a small file: a full or read-only disk opens perfectly well.
func (f *FileSystem) Check(context.Context) error {
	name := path.Join(tempDir, "check-"+rand.Text())
	err := f.root.WriteFile(name, []byte("ok"), 0o600)
	if err == nil {
		err = f.root.Remove(name)
	}
	if err != nil {
		return fmt.Errorf("media folder cannot be written: %w", err)
	}
	return nil
}
