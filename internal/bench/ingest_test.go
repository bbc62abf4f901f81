package bench

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

func someCustomers() Customers { return Customers{Organizations: 3, Chats: 4} }

// seeded is a database with the customers' chats.
func seeded(t *testing.T) string {
	t.Helper()
	return testkit.PostgresFrom(t, "ingest", func(databaseURL string) error {
		return withProduct(t.Context(), productOptions{databaseURL: databaseURL}, func(p *product) error {
			return p.seed(t.Context(), someCustomers())
		})
	})
}

// A message in a known chat may wait for PostgreSQL eight times: also the first one of a channel, which this process has to
// look up. What is counted are the waits themselves, in the protocol.
func TestAMessageTakesFewRoundTrips(t *testing.T) {
	for name, first := range map[string]bool{"busy channel": false, "first message of a channel": true} {
		t.Run(name, func(t *testing.T) {
			found, err := probeMessage(testkit.Context(t), seeded(t), first)
			require.NoError(t, err)
			assert.LessOrEqual(t, found.RoundTrips, maxRoundTrips, "%q", found.Statements)
			assert.Len(t, found.Statements, found.RoundTrips, "each statement is one round trip")
			assert.Contains(t, found.Statements, "commit", "the wiretap saw nothing")
		})
	}
}

func TestTheScriptIsWhatTheProductDoes(t *testing.T) {
	found, err := probeMessage(testkit.Context(t), seeded(t), false)
	require.NoError(t, err)
	require.NoError(t, checkScript(found.Statements))
	changed := append([]string{}, found.Statements...)
	changed[2] += " AND TRUE"
	require.ErrorContains(t, checkScript(changed), "statement 3 ")
	require.Error(t, checkScript(found.Statements[1:]))
	require.Error(t, checkScript(append(found.Statements, "SELECT 1")))
}

func TestTheWiretapCountsEveryWait(t *testing.T) {
	wire, throughURL, err := tap(testkit.Postgres(t))
	require.NoError(t, err)
	db, err := sql.Open("pgx", throughURL)
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	ctx := testkit.Context(t)
	for range 2 { // the driver itself looks at a connection that it has not used for a second, or never
		require.NoError(t, db.PingContext(ctx))
	}

	wire.reset()
	for range 9 {
		var n int
		require.NoError(t, db.QueryRowContext(ctx, "SELECT $1::int", 7).Scan(&n))
	}
	roundTrips, statements := wire.seen()
	assert.Equal(t, 1+9, roundTrips, "one to prepare the statement, nine to run it")
	assert.Len(t, statements, 9)
	assert.Equal(t, "SELECT $1::int", statements[8])

	wire.reset()
	_, err = db.ExecContext(ctx, "SELECT 1")
	require.NoError(t, err)
	roundTrips, statements = wire.seen()
	assert.Equal(t, 1, roundTrips, "the simple protocol")
	assert.Equal(t, []string{"SELECT 1"}, statements)
	require.NoError(t, db.Close())
	require.NoError(t, wire.close())
}

// The load, the product and the check together, without measuring.
func TestLoadArrivesOnce(t *testing.T) {
	databaseURL := seeded(t)
	require.NoError(t, withProduct(t.Context(), productOptions{databaseURL: databaseURL, redisURL: testkit.Redis(t)}, func(p *product) error {
		ctx := testkit.Context(t)
		result, err := load(ctx, loadOrder{Address: p.address, Path: webhookPath, Posters: 6, Duration: 300 * time.Millisecond, Customers: someCustomers()})
		require.NoError(t, err)
		require.NoError(t, p.drained(ctx))
		assert.Positive(t, result.Posted)
		assert.LessOrEqual(t, result.P50, result.P99)
		require.NoError(t, check(ctx, p.store.SQL(), result.Posted))
		require.Error(t, check(ctx, p.store.SQL(), result.Posted+1), "a lost message")
		shared, err := perTransaction(ctx, p.store.SQL())
		assert.GreaterOrEqual(t, shared, 1.0)
		return err
	}))
}

func TestPgbenchPlaysTheScript(t *testing.T) {
	if _, err := findProgram("pgbench"); err != nil {
		t.Fatal(err)
	}
	const quoted = `{"content":"\"quoted\" \\ {braces}"}`
	databaseURL := seeded(t)
	ctx := testkit.Context(t)
	result, err := pgbenchRun{
		databaseURL: databaseURL, customers: someCustomers(), connections: 2, duration: time.Second,
		probe: probe{MessageEvent: quoted, ChatEvent: `{}`},
	}.run(ctx)
	require.NoError(t, err)
	assert.Positive(t, result.messages)
	db, err := sql.Open("pgx", databaseURL)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, check(ctx, db, result.messages))
	var data string
	require.NoError(t, db.QueryRowContext(ctx, "SELECT data FROM events WHERE name = 'message:new' LIMIT 1").Scan(&data))
	assert.Equal(t, quoted, data, "an event's data arrives as it was recorded") //nolint:testifylint // byte for byte
}

func TestAFailedPgbenchIsNoFigure(t *testing.T) {
	_, err := readPgbench("number of failed transactions: 3 (0.1%)\ntps = 1000.1 (without initial connection time)\n")
	require.Error(t, err)
	_, err = readPgbench("pgbench (15)\n")
	require.Error(t, err)
}
