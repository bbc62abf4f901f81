package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"switchboard/internal/config"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/telemetry"
	"switchboard/internal/worker"
)

// Worker is a worker process. Its port serves health and metrics only.
type Worker struct {
	core     *core
	worker   *worker.Worker
	listener net.Listener
	out      io.Writer
}

// NewWorker opens everything that a worker needs.
func NewWorker(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (*Worker, error) {
	listener, err := listen(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c, err := newCore(ctx, cfg, logger)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	w, err := newWorker(c, out)
	if err != nil {
		return nil, errors.Join(err, c.close(), listener.Close())
	}
	return &Worker{core: c, worker: w, listener: listener, out: out}, nil
}

// Addr is host:port of the open port.
func (w *Worker) Addr() string { return addr(w.listener) }

// Run works until ctx ends, then gives its channels back and frees everything.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.worker.Start(context.WithoutCancel(ctx)); err != nil {
		return errors.Join(err, w.core.close(), w.listener.Close())
	}
	server := serve(w.listener, healthHandler(w.core, w.worker), w.core.cfg, w.core.logger)
	_, _ = fmt.Fprintf(w.out, "Switchboard worker %s serves health and metrics on %s\n", w.core.cfg.WorkerID, w.Addr())
	failed := server.wait(ctx)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.core.cfg.ShutdownTimeout)
	defer cancel()
	w.core.health.Drain()
	w.worker.Stop() // bounded by its own time-outs
	return errors.Join(failed, server.drain(stop), w.core.close())
}

// workerHealth is what /healthz of a worker says: that it answers, and what it
// is.
type workerHealth struct {
	Status string `json:"status"` // ok
	Worker string `json:"worker"`
	Mode   string `json:"mode"` // pool or dedicated
	// Channels are those of dedicated mode, MaxChannels is the bound of pool mode.
	Channels    []int64 `json:"channels,omitempty"`
	MaxChannels int     `json:"maxChannels,omitempty"`
	Held        int     `json:"held"` // channels that it runs now
}

func live(cfg config.Config, w *worker.Worker) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		health := workerHealth{Status: "ok", Worker: cfg.WorkerID, Mode: "pool", MaxChannels: cfg.WorkerMaxChannels, Held: len(w.Held())}
		if len(cfg.WorkerChannels) > 0 {
			health.Mode, health.Channels, health.MaxChannels = "dedicated", cfg.WorkerChannels, 0
		}
		out.Header().Set("Content-Type", "application/json")
		out.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(out).Encode(health) // the client has gone: nobody is left to tell
	})
}

func healthHandler(c *core, w *worker.Worker) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", live(c.cfg, w))
	mux.Handle("GET /readyz", c.health.Ready())
	mux.Handle("GET /metrics", c.metrics.Handler(c.cfg.MetricsToken.Reveal()))
	return mux
}

func newWorker(c *core, out io.Writer) (*worker.Worker, error) {
	factories, err := factories(c.cfg, c.logger)
	if err != nil {
		return nil, err
	}
	return worker.New(worker.Options{
		ID: c.cfg.WorkerID, Store: c.store, Inbox: c.inbox, Factories: factories, Logger: c.logger,
		OpenMedia: c.openMedia, Media: inbox.NewMediaFetch(c.inbox, c.blobs, int64(c.cfg.MediaMaxBytes)),
		Wakes: c.wakes, Measures: workerMeasures(c.metrics), ShowQR: showQR(out),
		MaxChannels: c.cfg.WorkerMaxChannels, Channels: c.cfg.WorkerChannels, LeaseTTL: c.cfg.LeaseTTL,
	})
}

// openMedia opens a stored file for sending.
func (c *core) openMedia(ctx context.Context, organizationID, mediaID int64) (io.ReadCloser, domain.Media, error) {
	file, key, err := c.store.MediaFile(ctx, organizationID, mediaID)
	if err != nil {
		return nil, domain.Media{}, err
	}
	blob, err := c.blobs.Open(ctx, key)
	if err != nil {
		return nil, domain.Media{}, fmt.Errorf("open file %d: %w", mediaID, err)
	}
	return blob, file, nil
}

func workerMeasures(m *telemetry.Metrics) worker.Measures {
	return worker.Measures{
		LeasesHeld:  func(n int) { m.LeasesHeld.Set(float64(n)) },
		LeaseLost:   m.LeaseLosses.Inc,
		PoolWorkers: func(n int) { m.PoolWorkers.Set(float64(n)) },
		HandedBack:  func(reason string) { m.HandedBack.WithLabelValues(reason).Inc() },
		Sent: func(kind domain.ChannelKind, result string, latency time.Duration) {
			m.Sends.WithLabelValues(string(kind), result).Inc()
			if result == "sent" {
				m.SendLatency.WithLabelValues(string(kind)).Observe(latency.Seconds())
			}
		},
		OutboxDepth: func(n int64) { m.QueueDepth.WithLabelValues(telemetry.QueueOutbox).Set(float64(n)) },
		Channels: func(counts map[worker.ChannelCount]int) {
			m.Channels.Reset()
			for key, n := range counts {
				m.Channels.WithLabelValues(string(key.Kind), string(key.State)).Set(float64(n))
			}
		},
	}
}
