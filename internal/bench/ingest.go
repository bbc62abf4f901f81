package bench

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strconv"
	"time"

	"switchboard/internal/testkit"
)

// ingestOptions are the flags of ingest.
type ingestOptions struct {
	customers   Customers
	rounds      int
	duration    time.Duration
	connections int
	posters     int
	profile     string
}

func runIngest(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	var o ingestOptions
	flags.IntVar(&o.customers.Organizations, "organizations", 50, "organizations, each with one WABA channel")
	flags.IntVar(&o.customers.Chats, "chats", 200, "known chats of each organization")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; in each, everyone has a turn")
	flags.DurationVar(&o.duration, "duration", 10*time.Second, "length of a turn, whole seconds")
	flags.IntVar(&o.connections, "connections", 20, "connections to PostgreSQL, of Switchboard and of pgbench")
	flags.IntVar(&o.posters, "posters", 40, "connections on which webhooks are posted")
	flags.StringVar(&o.profile, "cpuprofile", "", "`file` for a CPU profile of Switchboard's turns")
	if err := parse(flags, args); err != nil {
		return err
	}
	if min(o.customers.Organizations, o.customers.Chats, o.rounds, o.connections, o.posters) < 1 || o.duration < time.Second {
		return errors.New("every flag must be at least 1")
	}
	return withScope(ctx, func(s *scope) error { return ingest(ctx, s, o, out) })
}

// ingestBench is one run of the benchmark.
type ingestBench struct {
	ingestOptions
	server   *testkit.PostgresServer
	redisURL string
	probe    probe
	database int // databases made so far
}

// turn is one measurement of one contender.
type turn struct {
	perSecond float64
	p50, p99  time.Duration // of a POST
	cpu, load time.Duration // of the product's and of the load's process
	cores     float64       // busy, of the whole machine
	batch     float64       // messages in a transaction
	messages  int
}

func ingest(ctx context.Context, s *scope, o ingestOptions, out io.Writer) error {
	b := &ingestBench{ingestOptions: o}
	b.server = testkit.StartPostgres(s, testkit.PostgresOptions{Durable: true, Settings: map[string]string{"shared_buffers": "128MB"}})
	b.redisURL = testkit.StartRedis(s).URL()
	if err := printMachine(ctx, out, b.server.URL("postgres")); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	stop, err := startProfile(o.profile)
	if err != nil {
		return err
	}
	defer stop()
	contenders := []struct {
		name string
		take func(context.Context) (turn, error)
	}{
		{"pgbench", b.pgbench},
		{"switchboard", func(ctx context.Context) (turn, error) { return b.switchboard(ctx, "") }},
		{"switchboard+redis", func(ctx context.Context) (turn, error) { return b.switchboard(ctx, b.redisURL) }},
	}
	turns := map[string][]turn{}
	progress := newTable(out, "round", "who", "messages/s", "POST p50 ms", "POST p99 ms", "product CPU s", "load CPU s", "cores busy", "messages/transaction")
	for round := range o.rounds {
		for i := range contenders {
			c := contenders[(round+i)%len(contenders)]
			t, err := c.take(ctx)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			turns[c.name] = append(turns[c.name], t)
			progress.row(append([]string{strconv.Itoa(round + 1), c.name}, t.cells()...)...)
		}
	}
	if err := progress.flush(); err != nil {
		return err
	}
	return b.summarize(out, turns)
}

// prepare makes the database that every turn gets a copy of, and looks at what one message costs.
func (b *ingestBench) prepare(ctx context.Context) error {
	if err := withProduct(ctx, productOptions{databaseURL: b.server.CreateDatabase("template_ingest")}, func(p *product) error {
		return p.seed(ctx, b.customers)
	}); err != nil {
		return err
	}
	databaseURL, err := b.copyDatabase(ctx)
	if err != nil {
		return err
	}
	if b.probe, err = probeMessage(ctx, databaseURL, false); err != nil {
		return err
	}
	return checkScript(b.probe.Statements)
}

// withProduct runs fn with a product and ends that.
func withProduct(ctx context.Context, o productOptions, fn func(*product) error) error {
	p, err := startProduct(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(fn(p), p.close())
}

// copyDatabase makes a fresh database, checkpointed, so that no turn pays for the one before.
func (b *ingestBench) copyDatabase(ctx context.Context) (databaseURL string, err error) {
	admin, err := sql.Open("pgx", b.server.URL("postgres"))
	if err != nil {
		return "", fmt.Errorf("open the database: %w", err)
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	drop := "turn_" + strconv.Itoa(b.database)
	b.database++
	name := "turn_" + strconv.Itoa(b.database)
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + drop + " WITH (FORCE)", "CREATE DATABASE " + name + " TEMPLATE template_ingest", "CHECKPOINT"} {
		if _, err := admin.ExecContext(ctx, statement); err != nil {
			return "", fmt.Errorf("make a fresh database: %w", err)
		}
	}
	return b.server.URL(name), nil
}

func (b *ingestBench) pgbench(ctx context.Context) (turn, error) {
	databaseURL, err := b.copyDatabase(ctx)
	if err != nil {
		return turn{}, err
	}
	begin, busy := time.Now(), busySeconds()
	result, err := pgbenchRun{databaseURL: databaseURL, customers: b.customers, connections: b.connections, duration: b.duration, probe: b.probe}.run(ctx)
	if err != nil {
		return turn{}, err
	}
	t := turn{perSecond: result.perSecond, cores: (busySeconds() - busy) / time.Since(begin).Seconds(), messages: result.messages}
	db, err := sql.Open("pgx", databaseURL)
	if err != nil {
		return turn{}, fmt.Errorf("open the database: %w", err)
	}
	return t, errors.Join(check(ctx, db, result.messages), db.Close())
}

// switchboard lets the load process post for the turn's time, and counts up to the end of the last message's processing.
func (b *ingestBench) switchboard(ctx context.Context, redisURL string) (t turn, err error) {
	databaseURL, err := b.copyDatabase(ctx)
	if err != nil {
		return t, err
	}
	err = withProduct(ctx, productOptions{databaseURL: databaseURL, connections: b.connections, redisURL: redisURL}, func(p *product) error {
		begin, busy, cpu := time.Now(), busySeconds(), cpuTime()
		result, err := startLoad(ctx, loadOrder{
			Address: p.address, Path: webhookPath, Posters: b.posters, Duration: b.duration, Customers: b.customers,
		})
		if err != nil {
			return err
		}
		if err := p.drained(ctx); err != nil {
			return err
		}
		end := time.Now()
		t = turn{
			perSecond: float64(result.Posted) / end.Sub(result.Started).Seconds(), p50: result.P50, p99: result.P99,
			cpu: cpuTime() - cpu, load: result.CPU, cores: (busySeconds() - busy) / end.Sub(begin).Seconds(), messages: result.Posted,
		}
		t.batch, err = perTransaction(ctx, p.store.SQL())
		return errors.Join(err, check(ctx, p.store.SQL(), result.Posted))
	})
	return t, err
}

// perTransaction is how many messages shared a transaction, on average: rows of one transaction have one xmin.
func perTransaction(ctx context.Context, db *sql.DB) (n float64, err error) {
	err = db.QueryRowContext(ctx, "SELECT count(*)::float8 / greatest(count(DISTINCT xmin::text), 1) FROM messages").Scan(&n)
	return n, err
}

// check looks whether a turn did all of its work: every message stored once, the logs without a gap, nothing left or set aside.
func check(ctx context.Context, db *sql.DB, messages int) error {
	var stored, events, heads, pending, rejected int
	err := db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM events), (SELECT sum(seq) FROM event_heads),
		(SELECT count(*) FROM webhook_deliveries), (SELECT count(*) FROM webhook_rejects)`).Scan(&stored, &events, &heads, &pending, &rejected)
	if err != nil {
		return fmt.Errorf("check the result: %w", err)
	}
	if stored != messages || events != heads || pending != 0 || rejected != 0 {
		return fmt.Errorf("%d messages were sent: %d are stored, with %d events where the logs' heads say %d; %d webhooks are left, %d set aside",
			messages, stored, events, heads, pending, rejected)
	}
	return nil
}

func startProfile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file) //nolint:gosec // the file that the user named
	if err != nil {
		return nil, fmt.Errorf("-cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("-cpuprofile: %w", err)
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

func (t turn) cells() []string {
	if t.p50 == 0 {
		return []string{fmt.Sprintf("%.0f", t.perSecond), "–", "–", "–", "–", fmt.Sprintf("%.2f", t.cores), "1.0"}
	}
	return []string{
		fmt.Sprintf("%.0f", t.perSecond), fmt.Sprintf("%.1f", milliseconds(t.p50)), fmt.Sprintf("%.1f", milliseconds(t.p99)),
		fmt.Sprintf("%.1f", t.cpu.Seconds()), fmt.Sprintf("%.1f", t.load.Seconds()), fmt.Sprintf("%.2f", t.cores), fmt.Sprintf("%.1f", t.batch),
	}
}

// summarize prints medians and, round by round against pgbench, ratios.
func (b *ingestBench) summarize(out io.Writer, turns map[string][]turn) error {
	_, _ = fmt.Fprintf(out, "\nmedians of %d rounds of %s (lowest … highest); %d connections to PostgreSQL, %d posters\n\n",
		b.rounds, b.duration, b.connections, b.posters)
	t := newTable(out, "who", "messages/s", "of pgbench's rate", "POST p50 ms", "POST p99 ms", "product CPU µs/message")
	for _, name := range []string{"pgbench", "switchboard", "switchboard+redis"} {
		var rate, ratio, p50, p99, cpu []float64
		for i, one := range turns[name] {
			rate = append(rate, one.perSecond)
			ratio = append(ratio, one.perSecond/turns["pgbench"][i].perSecond)
			p50, p99 = append(p50, milliseconds(one.p50)), append(p99, milliseconds(one.p99))
			cpu = append(cpu, float64(one.cpu.Microseconds())/float64(one.messages))
		}
		if name == "pgbench" {
			t.row(name, spread(rate, "%.0f"), "1", "–", "–", "–")
			continue
		}
		t.row(name, spread(rate, "%.0f"), spread(ratio, "%.2f"), spread(p50, "%.1f"), spread(p99, "%.1f"), spread(cpu, "%.0f"))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\none lone message in a known chat: %d round trips to PostgreSQL (at most %d are allowed); the statements are pgbench's\n",
		b.probe.RoundTrips, maxRoundTrips)
	return err
}

// maxRoundTrips is what a message in a known chat may cost.
const maxRoundTrips = 8
