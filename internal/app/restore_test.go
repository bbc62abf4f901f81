package app_test

import (
	"bytes"
	"context"
	"database/sql"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/app"
	"switchboard/internal/config"
	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// reset is the data of sync:reset.
type reset struct {
	Head   int64  `json:"head"`
	Epoch  string `json:"epoch"`
	Reason string `json:"reason"`
}

func waitReset(t *testing.T, s *testkit.SocketClient) (r reset) {
	t.Helper()
	e, err := s.WaitFor(testkit.Context(t), "sync:reset", nil)
	require.NoError(t, err)
	require.NoError(t, e.Arg(0, &r))
	return r
}

// openStore opens a database as a process of the product does.
func openStore(t *testing.T, databaseURL string) *store.Store {
	t.Helper()
	s, err := store.Open(testkit.Context(t), databaseURL, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// commit appends n events to the log of an organization, behind the back of Redis.
func commit(t *testing.T, s *store.Store, organizationID int64, n int) (last domain.Event) {
	t.Helper()
	for range n {
		testkit.EventuallyNoError(t, "a commit", func(ctx context.Context) error {
			committed, err := s.InOrg(ctx, organizationID, func(tx *store.Tx) error {
				tx.Broadcast("test:event", map[string]string{})
				return nil
			})
			if err == nil {
				last = committed.Events[0]
			}
			return err
		})
	}
	return last
}

func (h *house) organization(p *person) int64 {
	me := p.must("GET", "/api/me", nil)
	return int64(me["organizationId"].(float64))
}

func seqAtLeast(seq int64) func(testkit.Event) bool {
	return func(e testkit.Event) bool { return e.Seq() >= seq }
}

// A backup is restored under the same name while a node serves sockets, and its log goes on, past where the sockets stand. They
// are told to refetch, get what follows, and a client that comes back with its old position is told so too.
func TestDatabaseRestoredUnderARunningNode(t *testing.T) {
	server := testkit.StartPostgres(t, testkit.PostgresOptions{})
	product, admin := server.CreateDatabase("product"), server.URL("postgres")
	h := newHouse(t, product, testkit.Redis(t))
	node := h.api()
	ada := h.register(node, "acme")
	org := h.organization(ada)
	writer := openStore(t, product)
	commit(t, writer, org, 20)

	db, err := sql.Open("pgx", admin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	var bin string
	require.NoError(t, db.QueryRowContext(testkit.Context(t), "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&bin))
	backup := filepath.Join(t.TempDir(), "backup")
	run := func(program string, args ...string) {
		out, err := exec.CommandContext(testkit.Context(t), filepath.Join(bin, program), args...).CombinedOutput() // #nosec G204 -- the server's own
		require.NoError(t, err, "%s", out)
	}
	run("pg_dump", "--format=custom", "--file="+backup, product)

	commit(t, writer, org, 10)
	live := h.socket(ada, node)
	away := h.socket(ada, node)
	old := commit(t, writer, org, 1)
	for _, s := range []*testkit.SocketClient{live, away} {
		_, err := s.WaitFor(testkit.Context(t), "test:event", seqAtLeast(old.Seq))
		require.NoError(t, err)
	}
	require.NoError(t, away.Disconnect(testkit.Context(t)))

	_, err = db.ExecContext(testkit.Context(t), "DROP DATABASE product WITH (FORCE)")
	require.NoError(t, err)
	server.CreateDatabase("product")
	run("pg_restore", "--dbname="+product, backup)
	newest := commit(t, writer, org, 30)
	require.Greater(t, newest.Seq, old.Seq, "the numbers are past those that clients know")
	require.NotEqual(t, old.Epoch, newest.Epoch)

	told := waitReset(t, live)
	require.Equal(t, newest.Epoch, told.Epoch)
	require.Equal(t, "epoch", told.Reason)
	next := commit(t, writer, org, 1)
	e, err := live.WaitFor(testkit.Context(t), "test:event", seqAtLeast(next.Seq))
	require.NoError(t, err)
	require.Equal(t, next.Seq, e.Seq())

	require.NoError(t, away.Connect(testkit.Context(t)))
	told = waitReset(t, away)
	require.Equal(t, newest.Epoch, told.Epoch)
	_, log := ada.call("GET", "/api/events?after=0&limit=1", nil)
	require.Equal(t, newest.Epoch, log["epoch"])
}

// Whose position the log has left behind is told to refetch, and gets what follows; also when it asks by sync or REST.
func TestWhoIsBehindTheLogIsReset(t *testing.T) {
	database := testkit.Postgres(t)
	h := newHouse(t, database, testkit.Redis(t))
	node := h.api()
	ada := h.register(node, "acme")
	org := h.organization(ada)
	writer := openStore(t, database)
	first := commit(t, writer, org, 1)
	last := commit(t, writer, org, 60)
	cut, err := writer.PruneEvents(testkit.Context(t), org, domain.At(time.Now().Add(-time.Hour)), 10)
	require.NoError(t, err)
	require.Equal(t, last.Seq-10, cut)

	behind := testkit.Connect(t, testkit.ClientOptions{
		URL: node.URL, Auth: map[string]any{"token": ada.token, "lastSeq": first.Seq, "epoch": first.Epoch}, Transports: []string{"websocket"},
	})
	require.Equal(t, reset{Head: last.Seq, Epoch: last.Epoch, Reason: "retention"}, waitReset(t, behind))
	next := commit(t, writer, org, 1)
	_, err = behind.WaitFor(testkit.Context(t), "test:event", seqAtLeast(next.Seq))
	require.NoError(t, err)
	require.Len(t, behind.Events("test:event"), 1, "nothing of what is gone")

	just := testkit.Connect(t, testkit.ClientOptions{
		URL: node.URL, Auth: map[string]any{"token": ada.token, "lastSeq": last.Seq - 10, "epoch": first.Epoch}, Transports: []string{"websocket"},
	})
	_, err = just.WaitFor(testkit.Context(t), "test:event", seqAtLeast(next.Seq))
	require.NoError(t, err)
	require.Len(t, just.Events("test:event"), 11)
	require.Empty(t, just.Events("sync:reset"))

	for position, resync := range map[int64]bool{first.Seq: true, last.Seq - 11: true, last.Seq - 10: false} {
		answer, err := just.EmitAck(testkit.Context(t), "sync", map[string]any{"after": position})
		require.NoError(t, err)
		require.Equal(t, resync, bytes.Contains(answer, []byte(`"resync":true`)), "%s", answer)
	}
	_, log := ada.call("GET", "/api/events?after=1", nil)
	require.Equal(t, true, log["resync"])
	require.Empty(t, log["events"])
	for _, query := range []string{"after=-1", "limit=0", "limit=501", "after=x"} {
		status, _ := ada.call("GET", "/api/events?"+query, nil)
		require.Equal(t, 422, status, query)
	}
}

// -new-epoch is an order to a process that then ends; running nodes notice.
func TestNewEpochByOrder(t *testing.T) {
	database, redis := testkit.Postgres(t), testkit.Redis(t)
	h := newHouse(t, database, redis)
	node := h.api()
	ada := h.register(node, "acme")
	writer := openStore(t, database)
	before := commit(t, writer, h.organization(ada), 1)
	screen := h.socket(ada, node)

	t.Setenv("DATABASE_URL", database)
	t.Setenv("REDIS_URL", redis)
	t.Setenv("JWT_SECRET", h.cfg.JWTSecret.Reveal())
	t.Setenv("ENCRYPTION_KEY", h.cfg.EncryptionKey.Reveal())
	var out, problems bytes.Buffer
	require.Zero(t, app.Main(config.API, []string{"-new-epoch"}, &out, &problems, nil), "%s", problems.String())
	require.Contains(t, out.String(), "1 organization")
	told := waitReset(t, screen)
	require.NotEqual(t, before.Epoch, told.Epoch)
	require.Equal(t, told.Epoch, commit(t, writer, h.organization(ada), 1).Epoch)

	problems.Reset()
	require.Equal(t, 1, app.Main(config.Worker, []string{"-new-epoch"}, &out, &problems, nil), "a worker takes no such order")
	require.Contains(t, problems.String(), "new-epoch")
	out.Reset()
	require.Zero(t, app.Main(config.API, []string{"--help"}, &out, &problems, nil))
	require.Contains(t, out.String(), "-new-epoch")
}
