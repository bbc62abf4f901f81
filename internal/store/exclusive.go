package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// ErrInUse means that another process has claimed the database.
var ErrInUse = errors.New("the database is in use by another process")

// Claim keeps others from claiming an SQLite database until release, or the end of
// the process: for who has beside it what they would not share, such as a Redis of
// its own. The database need not be there yet. On PostgreSQL it does nothing.
func Claim(databaseURL string) (release func() error, err error) {
	path, is := strings.CutPrefix(databaseURL, "sqlite://")
	if !is {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("claim the database: %w", err)
	}
	file := flock.New(path + ".claim")
	if got, err := file.TryLock(); err != nil {
		return nil, fmt.Errorf("claim the database: %w", err)
	} else if !got {
		return nil, fmt.Errorf("%w: %s", ErrInUse, path)
	}
	return file.Unlock, nil
}

// Exclusively runs fn while no other process that uses the database runs the
// same: for a library's own migrations, which cannot bear company.
func (s *Store) Exclusively(ctx context.Context, what string, fn func(context.Context) error) (err error) {
	failed := func(err error) error { return fmt.Errorf("wait for the turn of %s: %w", what, err) }
	if !s.Postgres() {
		file := flock.New(s.path + ".migrate")
		if err := file.Lock(); err != nil {
			return failed(err)
		}
		defer func() { err = errors.Join(err, file.Unlock()) }()
		return fn(ctx)
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte("switchboard:" + what))
	key := int64(sum.Sum64()) // #nosec G115 -- any 64 bits name a lock
	conn, err := s.sql.Conn(ctx)
	if err != nil {
		return failed(err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", key); err != nil {
		return failed(err)
	}
	defer func() {
		_, unlock := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", key)
		err = errors.Join(err, unlock)
	}()
	return fn(ctx)
}
