package testkit

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresUser is the superuser of private servers; it has no password, and only this machine can connect.
const postgresUser = "switchboard"

// PostgresOptions chooses how a private PostgreSQL runs.
type PostgresOptions struct {
	// Durable keeps fsync, synchronous_commit and full_page_writes on, as in production, and the data on a disk. Without it
	// they are off, and the data is in memory where the machine has room: faster, and enough unless the test asks what a
	// killed server kept.
	Durable bool
	// Settings are further server settings, such as "max_connections": "50".
	Settings map[string]string
}

// PostgresServer is a PostgreSQL of one test, to be killed, paused and started again.
type PostgresServer struct{ Server }

// StartPostgres starts a PostgreSQL server for this test alone, whatever TEST_DATABASE_URL says, and ends it with the test.
// The test fails when it cannot be started. It holds the empty database "postgres"; CreateDatabase makes others.
func StartPostgres(t testing.TB, options PostgresOptions) *PostgresServer {
	t.Helper()
	d, err := newPostgres(options)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return &PostgresServer{Server: newServer(t, d)}
}

// URL is the postgres:// URL of a database on this server.
func (s *PostgresServer) URL(database string) string { return postgresURL(s.Addr(), database) }

// CreateDatabase makes an empty database and returns its URL. The test fails when it cannot be made.
func (s *PostgresServer) CreateDatabase(name string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), serverTimeout)
	defer cancel()
	if err := execute(ctx, s.URL("postgres"), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		s.t.Fatalf("testkit: create the database %s: %v", name, err)
	}
	return s.URL(name)
}

func postgresURL(addr, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(postgresUser), Host: addr, Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// newPostgres prepares a server's data; it is not started yet.
func newPostgres(options PostgresOptions) (*daemon, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	owner, err := serverOwner()
	if err != nil {
		return nil, err
	}
	open := openMemory
	if options.Durable {
		open = openWorkspace
	}
	space, err := open()
	if err != nil {
		return nil, err
	}
	dir, err := space.subdir("postgres")
	if err != nil {
		return nil, err
	}
	if err := newCluster(dir, bin, owner); err != nil {
		return nil, err
	}
	return &daemon{
		name: "PostgreSQL",
		dir:  dir,
		command: func(port int, data string) command {
			return command{
				path: bin.postgres, args: postgresArgs(port, data, options), credential: owner,
				// Immediate shutdown: unlike SIGKILL it gives the shared memory back.
				deathSignal: syscall.SIGQUIT,
			}
		},
		ready:   postgresReady,
		stopOn:  syscall.SIGINT, // fast shutdown: connections are closed, not waited for
		release: removeSharedMemory,
	}, nil
}

func postgresArgs(port int, data string, options PostgresOptions) []string {
	settings := map[string]string{
		"listen_addresses":           "127.0.0.1",
		"port":                       strconv.Itoa(port),
		"unix_socket_directories":    "",
		"max_connections":            "200",
		"shared_buffers":             "64MB",
		"dynamic_shared_memory_type": "mmap", // in the data directory, so that it goes with it
		"timezone":                   "UTC",
		"log_timezone":               "UTC",
		"jit":                        "off",
	}
	if !options.Durable {
		settings["fsync"], settings["synchronous_commit"], settings["full_page_writes"] = "off", "off", "off"
		settings["min_wal_size"], settings["max_wal_size"] = "64MB", "192MB" // it may lie in memory
	}
	for key, value := range options.Settings {
		settings[key] = value
	}
	args := []string{"-D", data}
	for key, value := range settings {
		args = append(args, "-c", key+"="+value)
	}
	return args
}

func postgresReady(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return execute(ctx, postgresURL(addr, "postgres"), "SELECT 1")
}

// execute runs one statement on a connection of its own.
func execute(ctx context.Context, databaseURL, statement string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("execute: %w", err)
	}
	return nil
}
