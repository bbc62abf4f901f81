package store_test

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// logs are the event logs of two organizations in a database that is going to be moved about.
type logs struct {
	*store.Store
	t       *testing.T
	url     string
	orgs    []int64
	reasons chan string // why this process gave new epochs
}

func openLogs(t *testing.T, databaseURL string) *logs {
	t.Helper()
	l := &logs{t: t, url: databaseURL, reasons: make(chan string, 100)}
	s, err := store.Open(testkit.Context(t), databaseURL, store.Options{Renewed: func(reason string) { l.reasons <- reason }})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	l.Store = s
	if l.orgs, err = s.OrganizationIDs(testkit.Context(t)); len(l.orgs) > 0 || err != nil {
		require.NoError(t, err)
		return l
	}
	for _, name := range []string{"a", "b"} {
		user, err := s.CreateOrganization(testkit.Context(t), store.Registration{OrganizationName: name, UserName: name, Email: name + "@example.com", PasswordHash: "x"}, false)
		require.NoError(t, err)
		l.orgs = append(l.orgs, user.OrganizationID)
	}
	l.write(10)
	return l
}

// write appends events to the first log and returns the epoch that the last one was given. It reads nothing before.
func (l *logs) write(n int) (epoch string) {
	l.t.Helper()
	for range n {
		var committed store.Committed
		testkit.EventuallyNoError(l.t, "a commit", func(ctx context.Context) (err error) {
			committed, err = l.InOrg(ctx, l.orgs[0], func(tx *store.Tx) error {
				tx.Broadcast("test", map[string]int{"n": n})
				return nil
			})
			return err
		})
		epoch = committed.Events[0].Epoch
	}
	return epoch
}

func (l *logs) heads() map[int64]store.Head {
	l.t.Helper()
	var heads map[int64]store.Head
	testkit.EventuallyNoError(l.t, "the heads", func(ctx context.Context) (err error) {
		heads, err = l.Heads(ctx, l.orgs)
		return err
	})
	require.Len(l.t, heads, len(l.orgs))
	return heads
}

// requireNew checks that every log has another epoch than before, and that they differ.
func requireNew(t *testing.T, before, after map[int64]store.Head) {
	t.Helper()
	epochs := map[string]bool{}
	for id, head := range after {
		require.NotEqual(t, before[id].Epoch, head.Epoch)
		require.Len(t, head.Epoch, 16)
		epochs[head.Epoch] = true
	}
	require.Len(t, epochs, len(before))
}

func (l *logs) requireReasons(want ...string) {
	l.t.Helper()
	var got []string
	for len(l.reasons) > 0 {
		got = append(got, <-l.reasons)
	}
	require.Equal(l.t, want, got)
}

func (l *logs) exec(statement string) {
	l.t.Helper()
	_, err := l.SQL().ExecContext(testkit.Context(l.t), statement)
	require.NoError(l.t, err)
}

func (l *logs) ask(question string) (answer string) {
	l.t.Helper()
	require.NoError(l.t, l.SQL().QueryRowContext(testkit.Context(l.t), question).Scan(&answer))
	return answer
}

// tool runs one of the server's programs.
func (l *logs) tool(name string, args ...string) {
	l.t.Helper()
	program := filepath.Join(l.ask("SELECT setting FROM pg_config WHERE name = 'BINDIR'"), name)
	out, err := exec.CommandContext(testkit.Context(l.t), program, args...).CombinedOutput() // #nosec G204 -- the server's own
	require.NoError(l.t, err, "%s: %s", name, out)
}

func (l *logs) dump() (file string) {
	l.t.Helper()
	file = filepath.Join(l.t.TempDir(), "dump")
	l.tool("pg_dump", "--format=custom", "--file="+file, l.url)
	return file
}

func TestRestoredCopyGetsNewEpochsOnce(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	original := openLogs(t, server.CreateDatabase("original"))
	before := original.heads()
	dump := original.dump()
	restored := server.CreateDatabase("restored")
	original.tool("pg_restore", "--dbname="+restored, dump)

	// Several processes start at once.
	const processes = 5
	all := make([]*logs, processes)
	var starting sync.WaitGroup
	for i := range all {
		starting.Go(func() { all[i] = openLogs(t, restored) })
	}
	starting.Wait()
	renewals := 0
	after := all[0].heads()
	for _, l := range all {
		renewals += len(l.reasons)
		require.Equal(t, after, l.heads(), "one new epoch for all")
	}
	for _, l := range all {
		require.Equal(t, after[l.orgs[0]].Epoch, l.write(1))
	}
	require.Equal(t, 1, renewals, "whoever sees it first")
	requireNew(t, before, after)
	again := openLogs(t, restored)
	require.Equal(t, after[again.orgs[1]], again.heads()[again.orgs[1]], "a restart changes nothing")
	require.Equal(t, before, original.heads(), "the original is as it was")
	original.requireReasons()

	// A copy that PostgreSQL makes by itself.
	require.NoError(t, original.Close())
	admin := openLogs(t, server.CreateDatabase("admin"))
	admin.exec("CREATE DATABASE cloned TEMPLATE original")
	cloned := openLogs(t, server.URL("cloned"))
	requireNew(t, before, cloned.heads())
	cloned.requireReasons("database")
}

// The database is restored under the same name while a process runs, which writes on, beyond where its clients stand, before
// it ever looks: the first thing that it writes belongs to another log.
func TestRestoredUnderTheSameName(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	l := openLogs(t, server.CreateDatabase("product"))
	admin := openLogs(t, server.CreateDatabase("admin"))
	dump := l.dump()
	old := l.write(5)
	clientAt := l.heads()

	admin.exec("DROP DATABASE product WITH (FORCE)")
	server.CreateDatabase("product")
	admin.tool("pg_restore", "--dbname="+l.url, dump)
	// What is broken is found out by the first one who uses it.
	epoch := l.write(20)
	require.NotEqual(t, old, epoch)
	page, err := l.EventsAfter(testkit.Context(t), l.orgs[0], clientAt[l.orgs[0]].Seq, 100)
	require.NoError(t, err)
	require.Greater(t, page.Head, clientAt[l.orgs[0]].Seq, "forward again past the client: only the epoch tells")
	require.Equal(t, epoch, page.Epoch)
	requireNew(t, clientAt, l.heads())
	require.Len(t, l.reasons, 1)
}

// The tables are restored in place, and no connection breaks.
func TestTablesRestoredInPlace(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	l := openLogs(t, server.CreateDatabase("product"))
	dump := l.dump()
	for _, args := range [][]string{
		{"--clean", "--if-exists"},
		{"--clean", "--if-exists", "--table=event_heads", "--table=events"},
	} {
		before := l.heads()
		l.write(3)
		l.tool("pg_restore", append(args, "--single-transaction", "--dbname="+l.url, dump)...)
		requireNew(t, before, l.heads())
		l.requireReasons("copied")
	}
	before := l.heads()
	l.write(3)
	l.exec("TRUNCATE event_log_place, event_heads, events")
	l.tool("pg_restore", "--data-only", "--table=event_log_place", "--table=event_heads", "--table=events", "--dbname="+l.url, dump)
	requireNew(t, before, l.heads())
	l.requireReasons("copied")
}

func TestPromotionGivesNewEpochs(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	l := openLogs(t, server.CreateDatabase("product"))
	before := l.heads()
	signal := filepath.Join(l.ask("SHOW data_directory"), "standby.signal")
	server.Stop()
	require.NoError(t, os.WriteFile(signal, nil, 0o600))
	require.NoError(t, os.Chmod(signal, 0o666)) // #nosec G302 -- the server runs as another user
	server.Start()

	_, err := store.Open(testkit.Context(t), l.url, store.Options{})
	require.ErrorContains(t, err, "standby")
	require.True(t, store.IsUnavailable(err), "it is waited for: %v", err)
	_, err = l.InOrg(testkit.Context(t), l.orgs[0], func(tx *store.Tx) error { return nil })
	require.Error(t, err)

	promote(t, server)
	require.NotEqual(t, before[l.orgs[0]].Epoch, l.write(20))
	requireNew(t, before, l.heads())
	l.requireReasons("timeline")
}

// promote makes a primary of a standby.
func promote(t *testing.T, server *testkit.PostgresServer) {
	t.Helper()
	u, err := url.Parse(server.URL("postgres"))
	require.NoError(t, err)
	conn := openPlain(t, u.String())
	var done bool
	require.NoError(t, conn.QueryRowContext(testkit.Context(t), "SELECT pg_promote()").Scan(&done))
	require.True(t, done)
}

// The disk is put back to an earlier state under a running process: same cluster, same timeline, same rows.
func TestDiskPutBack(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	databaseURL := server.CreateDatabase("product")
	l, other := openLogs(t, databaseURL), openLogs(t, databaseURL)
	data := l.ask("SHOW data_directory")
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	copyTree := func(from, to string) {
		out, err := exec.CommandContext(testkit.Context(t), "cp", "-a", from, to).CombinedOutput() // #nosec G204 -- paths of the test
		require.NoError(t, err, "%s", out)
	}
	server.Stop()
	copyTree(data, snapshot)
	server.Start()
	old := l.write(5)
	l.exec("SELECT pg_switch_wal()") // some hours of a busy office
	l.write(1)
	before := l.heads()
	require.Equal(t, before, other.heads())
	server.Stop()
	require.NoError(t, os.RemoveAll(data))
	copyTree(snapshot, data)
	server.Start()

	require.NotEqual(t, old, l.write(20))
	requireNew(t, before, l.heads())
	l.requireReasons("rewound")
	require.Equal(t, l.heads(), other.heads())
	other.requireReasons()
}

// What happens to every database once in a while is no reason.
func TestOrdinaryLifeKeepsTheEpochs(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{Durable: true})
	l := openLogs(t, server.CreateDatabase("product"))
	want := l.heads()[l.orgs[0]].Epoch
	for range 3 {
		l.write(30)
		server.Kill()
		server.Start()
		require.Equal(t, want, l.write(1))
	}
	server.Stop()
	server.Start()
	require.Equal(t, want, l.write(1))
	l.exec("VACUUM FREEZE")
	require.Equal(t, want, l.write(1))
	require.Equal(t, want, l.heads()[l.orgs[0]].Epoch)
	l.exec("VACUUM FULL")
	require.Equal(t, want, l.heads()[l.orgs[0]].Epoch)
	l.exec("CHECKPOINT")
	require.Equal(t, want, openLogs(t, l.url).heads()[l.orgs[0]].Epoch)
	l.requireReasons()
}

// What the role may not read is left out; copies are still told apart.
func TestPlaceWithoutPrivileges(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	admin := openLogs(t, server.CreateDatabase("admin"))
	admin.exec("CREATE ROLE app LOGIN")
	admin.exec("CREATE DATABASE product OWNER app")
	super := openPlain(t, server.URL("product"))
	for _, function := range []string{"pg_control_system()", "pg_walfile_name(pg_lsn)", "pg_current_wal_flush_lsn()"} {
		_, err := super.ExecContext(testkit.Context(t), "REVOKE EXECUTE ON FUNCTION "+function+" FROM PUBLIC")
		require.NoError(t, err)
	}
	u, err := url.Parse(server.URL("product"))
	require.NoError(t, err)
	u.User = url.User("app")
	l := openLogs(t, u.String())
	require.Empty(t, l.ask("SELECT system_id || timeline FROM event_log_place"))
	before := l.heads()
	require.Equal(t, before, openLogs(t, l.url).heads())
	dump := filepath.Join(t.TempDir(), "dump")
	admin.tool("pg_dump", "--format=custom", "--no-privileges", "--file="+dump, l.url)
	admin.tool("pg_restore", "--clean", "--if-exists", "--single-transaction", "--dbname="+l.url, dump)
	requireNew(t, before, l.heads())
	l.requireReasons("copied")
}

// An ordinary role may read all of it unless somebody took that away.
func TestPlaceOfAnOrdinaryRole(t *testing.T) {
	t.Parallel()
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	admin := openLogs(t, server.CreateDatabase("admin"))
	admin.exec("CREATE ROLE app LOGIN")
	admin.exec("CREATE DATABASE product OWNER app")
	u, err := url.Parse(server.URL("product"))
	require.NoError(t, err)
	u.User = url.User("app")
	l := openLogs(t, u.String())
	require.Equal(t, "true", l.ask("SELECT system_id <> '' AND timeline = '00000001' AND database_oid <> '' AND table_oid <> '' FROM event_log_place"))
}

func TestNewEpochsByOrder(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(testing.TB) string{"postgres": testkit.Postgres, "sqlite": testkit.SQLite} {
		t.Run(name, func(t *testing.T) {
			l := openLogs(t, database(t))
			before := l.heads()
			other := openLogs(t, l.url)
			n, err := l.NewEpochs(testkit.Context(t))
			require.NoError(t, err)
			require.EqualValues(t, 2, n)
			after := l.heads()
			requireNew(t, before, after)
			require.Equal(t, after, other.heads(), "nobody does it again")
			require.Equal(t, after[l.orgs[0]].Epoch, other.write(1))
		})
	}
}

// openPlain opens a pool without the product's ways.
func openPlain(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", databaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
