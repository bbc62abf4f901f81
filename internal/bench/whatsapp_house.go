package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"

	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// whatsappBench is one run of the benchmark. The simulated WhatsApp is in this process, whose ledger tells when what
// happened; the API nodes, the workers and the bare clients are processes of their own.
type whatsappBench struct {
	whatsappOptions

	base   *workersBench
	server *testkit.PostgresServer
}

func newWhatsAppBench(s *scope, o whatsappOptions) (*whatsappBench, error) {
	// When a transaction was committed is asked of PostgreSQL itself.
	server := testkit.StartPostgres(s, testkit.PostgresOptions{
		Durable: true, Settings: map[string]string{"shared_buffers": "128MB", "track_commit_timestamp": "on"},
	})
	media, err := os.MkdirTemp("", "bench-media-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for media: %w", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(media) })
	base := &workersBench{scope: s, server: server, redisURL: testkit.StartRedis(s).URL(), media: media}
	return &whatsappBench{whatsappOptions: o, base: base, server: server}, nil
}

// numbersHouse is an installation with numbers at the simulator, on a database of its own. It has no worker yet.
type numbersHouse struct {
	*house

	bench    *whatsappBench
	sim      *whatsapp.Server
	web      *httptest.Server
	numbers  []string
	channels map[int64]string // the number of each channel
	orgs     []int64
}

// number is the i-th phone; those of bare clients are further on.
func number(i int) string { return fmt.Sprint(15_550_200_000 + i) }

// person is the i-th of those who write.
func person(i int) string { return fmt.Sprint(15_560_100_000 + i) }

// newNumbersHouse makes an installation and so many phones that are not linked yet, and as many for bare clients.
func (b *whatsappBench) newNumbersHouse(ctx context.Context, size, bare int) (h *numbersHouse, err error) {
	b.base.houses++
	h = &numbersHouse{
		house: &house{b: b.base, size: size, database: b.server.CreateDatabase(fmt.Sprintf("whatsapp_%d", b.base.houses))},
		bench: b, channels: map[int64]string{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if h.sim, err = whatsapp.New(whatsapp.Options{Logger: slog.New(slog.DiscardHandler), LedgerSize: 1 << 18}); err != nil {
		return h, err
	}
	h.web = httptest.NewServer(h.sim.Handler())
	h.onClose(func() error {
		err := h.sim.Close()
		h.web.CloseClientConnections()
		h.web.Close()
		return err
	})
	for i := range size + bare {
		if _, err := h.sim.AddPhone(whatsapp.Phone{Number: number(i), Name: fmt.Sprint("Shop ", i)}); err != nil {
			return h, err
		}
		if i < size {
			h.numbers = append(h.numbers, number(i))
		}
	}
	if h.api, err = listening(startSelf("API node", h.settings(), fanAPICommand)); err != nil {
		return h, err
	}
	h.onClose(h.api.stop)
	if err = h.api.ready(ctx); err != nil {
		return h, err
	}
	if h.db, err = sql.Open("pgx", h.database); err != nil {
		return h, fmt.Errorf("open the database: %w", err)
	}
	h.onClose(h.db.Close)
	if err = h.register(ctx, min(b.organizations, size)); err != nil {
		return h, err
	}
	h.orgs, err = column(ctx, h.db, "SELECT id FROM organizations ORDER BY id")
	return h, err
}

func (h *numbersHouse) settings() []string {
	return append(h.b.settings(h.database), h.sim.Settings(h.web.URL)...)
}

// startWorker starts a worker, whose database may be named otherwise.
func (h *numbersHouse) startWorker(ctx context.Context, name string, settings ...string) (*fanServer, error) {
	settings = append(append(h.settings(), "WORKER_ID="+name, "WORKER_MAX_CHANNELS=1000"), settings...)
	args := []string{whatsappWorker}
	if h.bench.profile != "" {
		args = append(args, "-profile", h.bench.profile)
	}
	w, err := listening(startSelf(name, settings, args...))
	if err != nil {
		return nil, err
	}
	if err := w.ready(ctx); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

// link makes a channel for every number and lets its phone scan the code, as an admin and a shop's owner would: by REST
// and the protocol. A worker must run. It returns when all are connected and nothing is under way.
func (h *numbersHouse) link(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex // guards failed and h.channels
		failed error
	)
	turns := make(chan struct{}, h.bench.parallel)
	for i, phone := range h.numbers {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			channel, err := h.linkOne(ctx, h.admins[i%len(h.admins)], phone)
			mu.Lock()
			defer mu.Unlock()
			h.channels[channel] = phone
			if err != nil && failed == nil {
				failed = fmt.Errorf("link number %d: %w", i, err)
				cancel()
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	if err := h.connected(ctx); err != nil {
		return err
	}
	return h.delivered(ctx)
}

func (h *numbersHouse) linkOne(ctx context.Context, token, phone string) (int64, error) {
	var channel struct {
		ID int64 `json:"id"`
	}
	err := h.call(ctx, token, http.MethodPost, "/api/channels", map[string]any{"kind": "whatsapp", "name": phone, "config": map[string]any{}}, &channel)
	if err != nil {
		return 0, err
	}
	path := fmt.Sprintf("/api/channels/%d", channel.ID)
	if err := h.call(ctx, token, http.MethodPost, path+"/connect", map[string]any{}, nil); err != nil {
		return 0, err
	}
	var code struct {
		QR string `json:"qr"`
	}
	const attempts = 3 // each waits for the code
	for attempt := 1; ; attempt++ {
		err := h.call(ctx, token, http.MethodGet, path+"/qr", nil, &code)
		if err == nil {
			break
		}
		if attempt == attempts || !strings.Contains(err.Error(), "503") {
			return 0, err
		}
	}
	return channel.ID, h.sim.Scan(phone, code.QR)
}

// delivered waits until nothing waits for any device.
func (h *numbersHouse) delivered(ctx context.Context) error {
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := h.sim.WaitIdle(ctx); err != nil {
		return fmt.Errorf("%d messages were not acknowledged within %s: %w", h.sim.Pending(), patience, err)
	}
	return nil
}

// online waits until all these numbers have a connection that began after a moment and asked for its messages, and tells
// when the last one did.
func (h *numbersHouse) online(ctx context.Context, numbers []string, since time.Time) (last time.Time, err error) {
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		active := activeSince(h.sim.Ledger().Sessions(""), numbers, since)
		if len(active) == len(numbers) {
			for _, at := range active {
				if at.After(last) {
					last = at
				}
			}
			return last, nil
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("%d of %d numbers were connected within %s", len(active), len(numbers), patience)
		case <-ticker.C:
		}
	}
}

// activeSince is when each of the numbers asked for its messages, on a connection that is open and younger than a moment.
func activeSince(sessions []whatsapp.Connection, numbers []string, since time.Time) map[string]time.Time {
	active := make(map[string]time.Time, len(numbers))
	wanted := make(map[string]bool, len(numbers))
	for _, n := range numbers {
		wanted[n] = true
	}
	for _, s := range sessions {
		if wanted[s.Number] && s.ConnectedAt.After(since) && !s.ActiveAt.IsZero() {
			active[s.Number] = s.ActiveAt
		}
	}
	return active
}

// oneSession is an error if a number ever had two connections at once.
func (h *numbersHouse) oneSession() error {
	if met := h.sim.Ledger().Overlaps(""); len(met) > 0 {
		return fmt.Errorf("%d times a number had two connections at once: %+v", len(met), met[0])
	}
	return nil
}

func column(ctx context.Context, db *sql.DB, query string, args ...any) (list []int64, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}
