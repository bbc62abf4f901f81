package testkit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres returns the URL of a fresh, empty database for this test alone, dropped when the test ends. It lives on
// the server that TEST_DATABASE_URL names, or else on a private one that the tests of this process share.
func Postgres(t testing.TB) string {
	t.Helper()
	admin, err := adminURL()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return createDatabase(t, admin, "")
}

// PostgresFrom is Postgres with content: prepare (migrations, for example) runs once per test process and name, on a database
// of which each test gets its own copy in some 30 ms. prepare must close its connections before it returns.
func PostgresFrom(t testing.TB, name string, prepare func(databaseURL string) error) string {
	t.Helper()
	if os.Getenv("TEST_DATABASE_URL") != "" {
		// Templates would stay on a server that is not ours to tidy up: prepare each database.
		database := Postgres(t)
		if err := prepare(database); err != nil {
			t.Fatalf("testkit: prepare the database %s: %v", name, err)
		}
		return database
	}
	admin, err := adminURL()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	template, err := preparedDatabase(admin, name, prepare)
	if err != nil {
		t.Fatalf("testkit: prepare the database %s: %v", name, err)
	}
	return createDatabase(t, admin, template)
}

// SQLite returns the sqlite:// URL of a database file that does not exist yet, in a directory of the test's own. Where the
// machine has a file system in memory it lies there: a commit waits for the disk, several milliseconds each, and no test
// here can cut the power. It outlives the test's processes all the same.
func SQLite(t testing.TB) string {
	t.Helper()
	dir, err := memoryDir(t)
	if err != nil {
		t.Fatalf("testkit: make a directory for a database: %v", err)
	}
	return sqliteScheme + filepath.ToSlash(filepath.Join(dir, "switchboard.db"))
}

func memoryDir(t testing.TB) (string, error) {
	memory, err := openMemory()
	if err != nil {
		return "", err
	}
	dir, err := memory.subdir("sqlite")
	if err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("testkit: remove the database of the test: %v", err)
		}
	})
	return dir, nil
}

// SQLiteFrom is PostgresFrom for SQLite: a copy of the file that prepare makes once. What prepare leaves in the file's
// write-ahead log when it returns is lost, so it must close the database.
func SQLiteFrom(t testing.TB, name string, prepare func(databaseURL string) error) string {
	t.Helper()
	made, _ := preparedFiles.LoadOrStore(name, sync.OnceValues(func() ([]byte, error) { return preparedFile(prepare) }))
	content, err := made.(func() ([]byte, error))()
	if err != nil {
		t.Fatalf("testkit: prepare the database %s: %v", name, err)
	}
	databaseURL := SQLite(t)
	if err := os.WriteFile(strings.TrimPrefix(databaseURL, sqliteScheme), content, 0o600); err != nil {
		t.Fatalf("testkit: copy the database %s: %v", name, err)
	}
	return databaseURL
}

// preparedFiles holds, by name, what makes a SQLite database once and then answers its content: a func() ([]byte, error).
var preparedFiles sync.Map

func preparedFile(prepare func(databaseURL string) error) (content []byte, err error) {
	memory, err := openMemory()
	if err != nil {
		return nil, err
	}
	dir, err := memory.subdir("sqlite")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "prepared.db")
	if err := prepare(sqliteScheme + filepath.ToSlash(file)); err != nil {
		return nil, err
	}
	return os.ReadFile(file) // #nosec G304 -- made above
}

const sqliteScheme = "sqlite://"

// shared is the server of this test process.
var shared struct {
	mu        sync.Mutex // guards what follows
	server    *daemon
	err       error
	templates map[string]func() (string, error) // by name: makes the template once, then answers its database
}

// adminURL is a database of the server to create databases on.
func adminURL() (string, error) {
	if given := os.Getenv("TEST_DATABASE_URL"); given != "" {
		u, err := url.Parse(given)
		if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			return "", errors.New("TEST_DATABASE_URL: want postgres://user:password@host:port/database")
		}
		return given, nil
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = newPostgres(PostgresOptions{})
		if shared.err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
			defer cancel()
			shared.err = shared.server.start(ctx)
		}
	}
	if shared.err != nil {
		return "", shared.err
	}
	return postgresURL(shared.server.addr(), "postgres"), nil
}

// stopShared ends the shared server; the next test that needs one starts another.
func stopShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	server := shared.server
	shared.server, shared.err, shared.templates = nil, nil, nil
	if server == nil {
		return nil
	}
	return server.close()
}

func preparedDatabase(admin, name string, prepare func(string) error) (string, error) {
	shared.mu.Lock()
	if shared.templates == nil {
		shared.templates = map[string]func() (string, error){}
	}
	once, known := shared.templates[name]
	if !known {
		once = sync.OnceValues(func() (string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
			defer cancel()
			database := databaseName("template " + name)
			if err := execute(ctx, admin, "CREATE DATABASE "+pgx.Identifier{database}.Sanitize()); err != nil {
				return "", err
			}
			return database, prepare(withDatabase(admin, database))
		})
		shared.templates[name] = once
	}
	shared.mu.Unlock()
	return once()
}

func createDatabase(t testing.TB, admin, template string) string {
	t.Helper()
	name := databaseName(t.Name())
	quoted := pgx.Identifier{name}.Sanitize()
	statement := "CREATE DATABASE " + quoted
	if template != "" {
		statement += " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	}
	ctx, cancel := context.WithTimeout(t.Context(), serverTimeout)
	defer cancel()
	err := poll(ctx, func(ctx context.Context) error {
		err := execute(ctx, admin, statement)
		// A connection that was closed a moment ago still counts as a user of the template.
		const objectInUse = "55006"
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == objectInUse {
			return err
		}
		if err != nil {
			return permanent(err)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("testkit: create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
		defer cancel()
		if err := execute(ctx, admin, "DROP DATABASE IF EXISTS "+quoted+" WITH (FORCE)"); err != nil {
			t.Errorf("testkit: drop the database %s of the test: %v", name, err)
		}
	})
	return withDatabase(admin, name)
}

func withDatabase(databaseURL, name string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return databaseURL // adminURL has parsed it already
	}
	u.Path = "/" + name
	return u.String()
}

// databaseName makes a name that is unique on the server and still shows, in the server's log, whose it is.
func databaseName(owner string) string {
	const longest = 40
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '_'
		}
	}, owner)
	return fmt.Sprintf("t%012x_%s", rand.Uint64()>>16, readable[:min(len(readable), longest)])
}
