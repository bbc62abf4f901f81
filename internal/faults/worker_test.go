package faults

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// worker is a worker process. It reaches the database and each provider by a way of its own, which can be cut, and by which
// its doings are known.
type worker struct {
	*process
	// name is its WORKER_ID, the beginning of its name in leases, and what the database knows it by.
	name                      string
	database                  *testkit.Proxy
	cloud, telegram, whatsapp *testkit.Proxy
	frozen                    time.Time // when it was paused, if it was
}

// newWorker starts a worker and does not wait for it. Every worker has another name.
func (w *world) newWorker() *worker {
	w.t.Helper()
	w.started++
	x := &worker{
		name:     fmt.Sprintf("worker-%d", w.started),
		database: testkit.StartProxy(w.t, w.postgres.Addr()),
		cloud:    testkit.StartProxy(w.t, strings.TrimPrefix(w.cloud, "http://")),
		telegram: testkit.StartProxy(w.t, strings.TrimPrefix(w.telegram, "http://")),
		whatsapp: testkit.StartProxy(w.t, strings.TrimPrefix(w.whatsapp, "http://")),
	}
	database, err := url.Parse(w.postgres.URL(databaseName))
	require.NoError(w.t, err)
	database.Host = x.database.Addr()
	query := database.Query()
	query.Set("application_name", x.name)
	database.RawQuery = query.Encode()
	x.process = start(w.t, programWorker, append(
		slices.Clone(w.settings), "WORKER_ID="+x.name, "LEASE_TTL="+leaseTTL.String(), "WORKER_MAX_CHANNELS=1000",
		"DATABASE_URL="+database.String(), "WABA_API_URL=http://"+x.cloud.Addr()+"/v24.0",
		"TELEGRAM_API_ENDPOINT=http://"+x.telegram.Addr()+"/bot%s/%s", "WHATSAPP_ENDPOINT=http://"+x.whatsapp.Addr(),
	)...)
	w.workers, w.everyWorker, w.all = append(w.workers, x), append(w.everyWorker, x), append(w.all, x.process)
	return x
}

// startWorker starts a further worker, or one in the place of one that is gone.
func (w *world) startWorker() *worker {
	w.t.Helper()
	x := w.newWorker()
	x.listening()
	return x
}

// awaitServing waits until a worker, the only one, has opened every channel.
func (w *world) awaitServing(x *worker) {
	w.t.Helper()
	testkit.EventuallyNoError(w.t, "all channels to be open", func(ctx context.Context) error {
		closed := 0
		err := w.query(ctx, "SELECT count(*) FROM channels WHERE enabled AND NOT (state = 'connected' AND state_worker = $1)", []any{x.name},
			func(r pgx.Rows) error { return r.Scan(&closed) })
		if err == nil && closed > 0 {
			err = fmt.Errorf("%d channels are not connected by %s", closed, x.name)
		}
		return err
	})
}

// killWorker ends a worker as a power cut would: what it has under way is lost, also what waits on a way that is cut.
func (w *world) killWorker(x *worker) {
	x.kill()
	for _, p := range []*testkit.Proxy{x.database, x.cloud, x.telegram, x.whatsapp} {
		p.Break()
	}
	w.workers = slices.DeleteFunc(w.workers, func(other *worker) bool { return other == x })
}

// stopWorker asks a worker to end and does not wait for it.
func (w *world) stopWorker(x *worker) {
	x.terminate()
	w.workers = slices.DeleteFunc(w.workers, func(other *worker) bool { return other == x })
}

// lease is a row of leases.
type lease struct {
	channel int64
	worker  string // its name
	holder  string // of the lease
	term    int64
	left    time.Duration // until it expires
}

// leases reads who holds what, by channel.
func (w *world) leases(ctx context.Context) (map[int64]lease, error) {
	all := map[int64]lease{}
	err := w.query(ctx, `SELECT channel_id, worker_id, term, expires_at - (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM leases`, nil,
		func(r pgx.Rows) error {
			var l lease
			var left int64
			if err := r.Scan(&l.channel, &l.holder, &l.term, &left); err != nil {
				return err
			}
			l.worker, _, _ = strings.Cut(l.holder, "#")
			l.left = time.Duration(left) * time.Millisecond
			all[l.channel] = l
			return nil
		})
	return all, err
}

// held are the lines that a worker has a lease on.
func (w *world) held(x *worker) []*line {
	w.t.Helper()
	leases, err := w.leases(testkit.Context(w.t))
	require.NoError(w.t, err)
	var held []*line
	for _, l := range w.lines() {
		if have := leases[l.channel]; have.worker == x.name && have.left > 0 {
			held = append(held, l)
		}
	}
	return held
}

// heldAt are the lines that a worker had a lease on at a moment. Workers hand channels to each other to share them evenly: who
// had what when is known afterwards.
func (w *world) heldAt(x *worker, at time.Time) []*line {
	w.t.Helper()
	history := w.leaseHistory()
	var held []*line
	for _, l := range w.lines() {
		if slices.ContainsFunc(history[l.channel], func(v version) bool {
			return v.worker == x.name && !at.Before(v.from) && at.Before(v.until)
		}) {
			held = append(held, l)
		}
	}
	return held
}

// busiest is the worker that runs most lines.
func (w *world) busiest() *worker {
	w.t.Helper()
	return slices.MaxFunc(w.workers, func(a, b *worker) int { return len(w.held(a)) - len(w.held(b)) })
}

// owner is the worker that runs a line.
func (w *world) owner(l *line) *worker {
	w.t.Helper()
	var owner *worker
	testkit.EventuallyNoError(w.t, "a worker with the channel", func(ctx context.Context) error {
		leases, err := w.leases(ctx)
		if err != nil {
			return err
		}
		for _, x := range w.workers {
			if have := leases[l.channel]; have.worker == x.name && have.left > 0 {
				owner = x
				return nil
			}
		}
		return fmt.Errorf("channel %d has the lease %+v", l.channel, leases[l.channel])
	})
	return owner
}

// takenOver waits until other workers run these lines, and returns how long after the fault the last of each kind was at its
// provider: Telegram saw a poll, the Cloud API a call, WhatsApp a login.
func (w *world) takenOver(from *worker, fault time.Time, lines []*line) map[domain.ChannelKind]time.Duration {
	w.t.Helper()
	var took map[domain.ChannelKind]time.Duration
	others := arrivals{w: w, other: from, after: fault, first: map[string]time.Time{}}
	// The ledgers have the times: to look rarely leaves the machine to those who work.
	err := pollEvery(testkit.ContextFor(w.t, time.Minute), 200*time.Millisecond, func(ctx context.Context) error {
		// The database says it at less expense than the ledgers.
		leases, err := w.leases(ctx)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if have := leases[l.channel]; have.left <= 0 || have.worker == from.name {
				return fmt.Errorf("channel %d has the lease %+v", l.channel, have)
			}
		}
		if err := others.look(ctx); err != nil {
			return err
		}
		took = map[domain.ChannelKind]time.Duration{}
		for _, l := range lines {
			at, called := others.first[l.key()]
			if !called {
				return fmt.Errorf("nobody runs channel %d yet", l.channel)
			}
			took[l.kind] = max(took[l.kind], at.Sub(fault))
		}
		return nil
	})
	require.NoError(w.t, err, "waited for other workers to take over from %s", from.name)
	return took
}

// requireTakeOver checks how long others take to run what a worker had when something happened to it.
func (w *world) requireTakeOver(what string, from *worker, fault time.Time, most time.Duration) {
	w.t.Helper()
	lines := w.heldAt(from, fault)
	require.NotEmpty(w.t, lines, "%s has channels", from.name)
	for kind, took := range w.takenOver(from, fault, lines) {
		w.t.Logf("%s: the %s channels among %d are taken over within %.2f s", what, kind, len(lines), took.Seconds())
		require.Less(w.t, took, testkit.Slack(most), "%s: takeover of %s", what, kind)
	}
}
