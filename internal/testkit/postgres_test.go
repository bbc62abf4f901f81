package testkit_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

func TestPostgresIsPrivateToEachTest(t *testing.T) {
	t.Parallel()
	first, second := testkit.Postgres(t), testkit.Postgres(t)
	require.NotEqual(t, first, second)

	a, b := connect(t, first), connect(t, second)
	execSQL(t, a, "CREATE TABLE chats (id bigint)")
	execSQL(t, b, "CREATE TABLE chats (id bigint)")
	execSQL(t, a, "INSERT INTO chats VALUES (1)")
	assert.Equal(t, 1, count(t, a))
	assert.Equal(t, 0, count(t, b))
}

func TestPostgresDropsTheDatabase(t *testing.T) {
	t.Parallel()
	admin := connect(t, testkit.Postgres(t))
	var name string
	t.Run("inner", func(t *testing.T) {
		// Left open on purpose: a test that leaks a connection does not keep its database alive.
		conn, err := pgx.Connect(t.Context(), testkit.Postgres(t))
		require.NoError(t, err)
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&name))
		assert.True(t, databaseExists(t, admin, name))
	})
	assert.False(t, databaseExists(t, admin, name))
}

func TestPostgresKnowsLettersBeyondASCII(t *testing.T) {
	t.Parallel()
	var lower string
	require.NoError(t, connect(t, testkit.Postgres(t)).QueryRow(t.Context(), "SELECT lower('ПРИВЕТ ÅÉ')").Scan(&lower))
	assert.Equal(t, "привет åé", lower)
}

var preparedNames atomic.Int64

func TestPostgresFromPreparesOnce(t *testing.T) {
	t.Parallel()
	name := t.Name() + strconv.FormatInt(preparedNames.Add(1), 10) // another one when go test -count repeats the test
	prepared := 0
	prepare := func(url string) error {
		prepared++
		conn := connect(t, url)
		execSQL(t, conn, "CREATE TABLE chats (id bigint)")
		return conn.Close(t.Context())
	}
	a := connect(t, testkit.PostgresFrom(t, name, prepare))
	b := connect(t, testkit.PostgresFrom(t, name, prepare))
	assert.Equal(t, 1, prepared)
	execSQL(t, a, "INSERT INTO chats VALUES (1)")
	assert.Equal(t, 1, count(t, a))
	assert.Equal(t, 0, count(t, b))
}

func TestPostgresHonoursTheGivenServer(t *testing.T) {
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	t.Setenv("TEST_DATABASE_URL", server.CreateDatabase("given"))
	url := testkit.Postgres(t)
	assert.Contains(t, url, server.Addr())
	assert.NotContains(t, url, "/given")
	execSQL(t, connect(t, url), "CREATE TABLE chats (id bigint)")
}

func TestPostgresSurvivesAKill(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{Durable: true, Settings: map[string]string{"max_connections": "20"}})
	addr, url := server.Addr(), server.CreateDatabase("log")
	conn := connect(t, url)
	assert.Equal(t, "on", show(t, conn, "fsync"))
	assert.Equal(t, "20", show(t, conn, "max_connections"))
	execSQL(t, conn, "CREATE TABLE chats (id bigint)")
	execSQL(t, conn, "INSERT INTO chats VALUES (1)")

	for range 2 {
		server.Kill()
		require.Error(t, conn.Ping(t.Context()), "an open connection must have died with the server")
		_, err := pgx.Connect(t.Context(), url)
		require.Error(t, err, "nothing may listen any more")

		server.Start()
		assert.Equal(t, addr, server.Addr())
		conn = connect(t, url)
		assert.Equal(t, 1, count(t, conn), "what was committed is there after the restart")
	}
	server.Stop()
	require.Error(t, conn.Ping(t.Context()))
	server.Start()
	assert.Equal(t, 1, count(t, connect(t, url)))
}

func TestPostgresPauses(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	url := server.URL("postgres")
	conn := connect(t, url)

	server.Pause()
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 1")
		answered <- err
	}()
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := pgx.Connect(short, url)
	require.ErrorIs(t, err, context.DeadlineExceeded, "a paused server accepts no session")
	select {
	case err := <-answered:
		require.Fail(t, "a paused server answered", "error: %v", err)
	default:
	}

	server.Resume()
	require.NoError(t, <-answered, "the statement goes on after the pause")

	server.Pause()
	server.Stop()
	require.Error(t, conn.Ping(t.Context()), "a paused server can be stopped")
}

func TestSQLiteIsAFileOfTheTest(t *testing.T) {
	t.Parallel()
	first, second := testkit.SQLite(t), testkit.SQLite(t)
	assert.NotEqual(t, first, second)
	assert.Regexp(t, `^sqlite:///.+\.db$`, first)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil && !errors.Is(err, context.Canceled) {
			t.Logf("close: %v", err)
		}
	})
	return conn
}

func execSQL(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement)
	require.NoError(t, err)
}

func count(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM chats").Scan(&n))
	return n
}

func show(t *testing.T, conn *pgx.Conn, setting string) string {
	t.Helper()
	var value string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&value))
	return value
}

func databaseExists(t *testing.T, conn *pgx.Conn, name string) bool {
	t.Helper()
	var exists bool
	query := "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
	require.NoError(t, conn.QueryRow(t.Context(), query, name).Scan(&exists))
	return exists
}
