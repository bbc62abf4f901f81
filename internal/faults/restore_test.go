package faults

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// The database is put back to an older state under running processes and clients, in the two ways in which that is done with
// a dump: another database takes the place, and the tables are restored where they are. The log then gives numbers
// again that clients know, for other events. Every client must be told, those too that come later and stand on a number that the
// new log has reached meanwhile.
func TestFaultRestore(t *testing.T) {
	quick(t)
	clients, perSecond := sized(30, 500), sized(20, 50)
	w := newWorld(t, plan{organizations: sized(3, 25)})
	before := w.atRest()
	stay, travel := w.herd(clients), w.herd(clients)
	w.connect(stay, clients)
	d := w.drive(perSecond)
	d.more(perSecond)
	d.stop()
	heads := w.quiet()

	for round, restore := range []func(dump string){w.restoreBeside, w.restoreInPlace} {
		w.connect(travel, clients)
		dump, known := w.dump(), w.ledger.mark()
		d = w.drive(perSecond)
		d.more(perSecond)
		d.stop()
		lost := w.quiet()
		for _, h := range []*testkit.Herd{stay, travel} {
			_, err := h.Await(testkit.Context(t), testkit.HerdGoal{Connected: clients, Heads: lost})
			require.NoError(t, err)
		}
		travel.Hold()

		restore(dump)
		w.ledger.forgetSince(known)
		restored := time.Now()
		_, err := stay.Await(testkit.Context(t), testkit.HerdGoal{Connected: clients, Resets: round + 1})
		require.NoError(t, err, "every client is told to refetch")
		told := time.Since(restored)
		w.each(4, func(i int) error { return w.awaitChannels(w.orgs[i]) })
		heads = w.outgrow(heads, lost)

		travel.Connect()
		_, err = travel.Await(testkit.Context(t), testkit.HerdGoal{Connected: clients, Resets: round + 1})
		require.NoError(t, err, "who comes with a position of the lost timeline is told to refetch")
		t.Logf("round %d: %d clients were told within %.2f s of the restore", round, clients, told.Seconds())
	}
	d = w.drive(perSecond)
	d.more(perSecond)
	d.stop()
	w.verdict(stay)
	for _, c := range w.verdict(travel).Clients {
		require.Equal(t, 2, c.Resets)
	}
	travel.Leave()
	w.end(stay, before)
}

// outgrow sends messages until every log is past where the lost one was, and checks that it is another log.
func (w *world) outgrow(old, lost map[string]testkit.HerdPosition) map[string]testkit.HerdPosition {
	w.t.Helper()
	w.each(4, func(i int) error {
		o := w.orgs[i]
		return w.burst(w.t.Context(), o, int(lost[o.name].Seq-old[o.name].Seq)+10)
	})
	heads := w.quiet()
	for _, o := range w.orgs {
		require.Greater(w.t, heads[o.name].Seq, lost[o.name].Seq)
		require.NotEqual(w.t, lost[o.name].Epoch, heads[o.name].Epoch, "a restored log is another log")
	}
	return heads
}

// dump writes the installation's database to a file.
func (w *world) dump() string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "dump")
	w.run("pg_dump", "--format=custom", "--file="+file, "--dbname="+w.postgres.URL(databaseName))
	return file
}

// restoreBeside restores into a new database, which then takes the name of the old one.
func (w *world) restoreBeside(dump string) {
	w.t.Helper()
	const beside = "restored"
	w.run("pg_restore", "--dbname="+w.postgres.CreateDatabase(beside), dump)
	for _, statement := range []string{
		"DROP DATABASE " + databaseName + " WITH (FORCE)",
		"ALTER DATABASE " + beside + " RENAME TO " + databaseName,
	} {
		err := query(testkit.Context(w.t), w.postgres.URL("postgres"), statement, nil, func(pgx.Rows) error { return nil })
		require.NoError(w.t, err)
	}
}

// restoreInPlace restores the tables in the database that is in use. Its locks may meet those of the processes.
func (w *world) restoreInPlace(dump string) {
	w.t.Helper()
	path := program(w.t, "pg_restore")
	testkit.EventuallyNoError(w.t, "the restore of the tables", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, path, "--clean", "--if-exists", "--single-transaction", "--dbname="+w.postgres.URL(databaseName),
			dump).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func (w *world) run(name string, args ...string) {
	w.t.Helper()
	out, err := exec.CommandContext(testkit.Context(w.t), program(w.t, name), args...).CombinedOutput()
	require.NoError(w.t, err, "%s: %s", name, out)
}

// program finds one of PostgreSQL's client programs.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(&testkit.MissingError{Program: name, Package: "postgresql-client"})
	}
	return path
}
