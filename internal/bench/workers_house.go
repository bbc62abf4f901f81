package bench

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"switchboard/internal/app"
	"switchboard/internal/config"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/testkit"
)

// workersProcess is a worker: what cmd/worker is, in this program.
const workersProcess = "workers-worker"

func runWorkerProcess(_ context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	if err := parse(flags, args); err != nil {
		return err
	}
	go endWithInput()
	code := app.Main(config.Worker, nil, out, os.Stderr,
		func(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (app.Process, error) {
			return app.NewWorker(ctx, cfg, logger, out)
		})
	if code != 0 {
		return fmt.Errorf("the worker ended with %d", code)
	}
	return nil
}

// workersBench is one run of the benchmark. The simulated providers are in this process, whose ledgers tell when what
// happened; the product's nodes, its workers and the floor are processes of their own.
type workersBench struct {
	workersOptions
	scope    *scope
	server   *testkit.PostgresServer
	redisURL string
	media    string
	houses   int // made so far
}

func newWorkersBench(_ context.Context, s *scope, o workersOptions) (*workersBench, error) {
	b := &workersBench{workersOptions: o, scope: s}
	b.server = testkit.StartPostgres(s, testkit.PostgresOptions{Durable: true, Settings: map[string]string{"shared_buffers": "128MB"}})
	b.redisURL = testkit.StartRedis(s).URL()
	var err error
	if b.media, err = os.MkdirTemp("", "bench-media-"); err != nil {
		return nil, fmt.Errorf("make a folder for media: %w", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(b.media) })
	return b, nil
}

// house is an installation on a database of its own: an API node, the organizations, their bots at the simulator. It
// has no worker yet.
type house struct {
	b        *workersBench
	size     int // bots
	database string
	db       *sql.DB
	telegram *telegram.Server
	botAPI   *httptest.Server
	cloud    *cloudapi.Server
	graph    *httptest.Server
	api      *fanServer
	admins   []string        // an access token for each organization
	ids      []int64         // of the bots
	bots     map[int64]int64 // the bot of each channel
	numbers  []cloudapi.Number
	closers  []func() error
}

func (b *workersBench) settings(database string) []string {
	return []string{
		"DATABASE_URL=" + database, "REDIS_URL=" + b.redisURL, "JWT_SECRET=" + strings.Repeat("workers-", 5),
		"ENCRYPTION_KEY=" + base64.StdEncoding.EncodeToString(make([]byte, 32)), "MEDIA_URL=file://" + b.media, "LISTEN_HOST=127.0.0.1", "PORT=0",
		"LOG_LEVEL=error", "APP_ENV=" + string(config.Test), "REGISTRATION=open", "ACCESS_TOKEN_TTL=24h",
	}
}

// newHouse makes an installation for so many bots, without channels.
func (b *workersBench) newHouse(ctx context.Context, size int) (h *house, err error) {
	b.houses++
	h = &house{b: b, size: size, bots: map[int64]int64{}, database: b.server.CreateDatabase(fmt.Sprintf("workers_%d", b.houses))}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if err = h.startProviders(ctx); err != nil {
		return h, err
	}
	if h.api, err = listening(startSelf("API node", append(b.settings(h.database), "WABA_API_URL="+h.graph.URL+"/v24.0"), fanAPICommand)); err != nil {
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
	return h, h.register(ctx, min(b.organizations, size))
}

func (h *house) startProviders(ctx context.Context) (err error) {
	quiet := slog.New(slog.DiscardHandler)
	if h.telegram, err = telegram.New(telegram.Options{Logger: quiet, NoLimits: true, LedgerSize: 1 << 20}); err != nil {
		return err
	}
	if h.cloud, err = cloudapi.New(cloudapi.Options{Logger: quiet}); err != nil {
		return err
	}
	if err := errors.Join(h.telegram.Start(ctx), h.cloud.Start(ctx)); err != nil {
		return err
	}
	h.botAPI, h.graph = httptest.NewServer(h.telegram.Handler()), httptest.NewServer(h.cloud.Handler())
	h.onClose(func() error {
		err := errors.Join(h.telegram.Close(), h.cloud.Close())
		h.botAPI.Close()
		h.graph.Close()
		return err
	})
	return nil
}

// register makes the organizations.
func (h *house) register(ctx context.Context, organizations int) error {
	for i := range organizations {
		var answer struct {
			AccessToken string `json:"accessToken"`
		}
		err := h.call(ctx, "", http.MethodPost, "/api/auth/register", map[string]any{
			"organizationName": fmt.Sprint("Org ", i), "name": "Ada", "email": fmt.Sprintf("ada%d@example.com", i), "password": "correct horse battery",
		}, &answer)
		if err != nil {
			return err
		}
		h.admins = append(h.admins, answer.AccessToken)
	}
	return nil
}

func (h *house) onClose(f func() error) { h.closers = append(h.closers, f) }

func (h *house) close() error {
	var err error
	for i := len(h.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, h.closers[i]())
	}
	return err
}

// call calls the API node.
func (h *house) call(ctx context.Context, token, method, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+h.api.address+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = answer.Body.Close() }()
	if raw, err = io.ReadAll(answer.Body); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s %s", method, path, answer.Status, raw)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// addBots opens the bots, spread over the organizations.
func (h *house) addBots(ctx context.Context) error {
	for i := range h.size {
		bot, err := h.telegram.AddBot(telegram.Bot{
			Token: fmt.Sprintf("%d:AABenchBenchBenchBenchBenchBenchBen", 700_000_000+i), Name: fmt.Sprint("Bot ", i), NoLimits: true,
		})
		if err != nil {
			return err
		}
		h.ids = append(h.ids, bot.ID)
		var channel struct {
			ID int64 `json:"id"`
		}
		err = h.call(ctx, h.admins[i%len(h.admins)], http.MethodPost, "/api/channels",
			map[string]any{"kind": "telegram", "name": bot.Name, "config": map[string]any{"botToken": bot.Token}}, &channel)
		if err != nil {
			return err
		}
		h.bots[channel.ID] = bot.ID
	}
	for n := range h.customers() {
		if _, err := h.telegram.AddCustomer(telegram.Customer{ID: customerID(n), FirstName: fmt.Sprint("Customer ", n)}); err != nil {
			return err
		}
	}
	return nil
}

// startWorker starts a worker. host is what it calls the Telegram simulator, by which its calls are known there.
func (h *house) startWorker(ctx context.Context, name, host string, settings ...string) (*fanServer, error) {
	_, port, err := net.SplitHostPort(h.botAPI.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	at := "http://" + net.JoinHostPort(host, port)
	w, err := listening(startSelf(name, append(append(h.b.settings(h.database),
		"WORKER_ID="+name, "WORKER_MAX_CHANNELS=1000", "WABA_API_URL="+h.graph.URL+"/v24.0",
		"TELEGRAM_API_ENDPOINT="+at+"/bot%s/%s", "TELEGRAM_FILE_ENDPOINT="+at+"/file/bot%s/%s"), settings...), workersProcess))
	if err != nil {
		return nil, err
	}
	if err := w.ready(ctx); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

// connected waits until all channels are.
func (h *house) connected(ctx context.Context) error {
	return h.until(ctx, "the connection of all channels", "SELECT COUNT(*) FROM channels WHERE state <> 'connected'", 0)
}

// until waits for a count in the database.
func (h *house) until(ctx context.Context, what, query string, want int) error {
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for last := -1; ; {
		var n int
		if err := h.db.QueryRowContext(ctx, query).Scan(&n); err == nil {
			if last = n; n == want {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: the count is %d, wanted %d", patience, what, last, want)
		case <-ticker.C:
		}
	}
}
