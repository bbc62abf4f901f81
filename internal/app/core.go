package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"

	"switchboard/internal/auth"
	"switchboard/internal/channel/whatsapp"
	"switchboard/internal/config"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/media"
	"switchboard/internal/realtime"
	"switchboard/internal/redisconn"
	"switchboard/internal/store"
	"switchboard/internal/telemetry"
	"switchboard/internal/worker"
)

// core is what every process has. It is made by newCore and freed by close.
type core struct {
	cfg     config.Config
	logger  *slog.Logger
	metrics *telemetry.Metrics
	health  *telemetry.Health
	store   *store.Store
	redis   redis.UniversalClient
	blobs   media.Blobs
	sealer  *auth.Sealer
	emitter *realtime.Emitter
	wakes   *worker.Wakes
	inbox   *inbox.Service

	closers []func() error // run from the last to the first
}

// emitterPatience is how long the end of a process waits for Redis to take
// what is queued.
const emitterPatience = 2 * time.Second

// checkTimeout bounds one look at a part's health.
const checkTimeout = 2 * time.Second

func newCore(ctx context.Context, cfg config.Config, logger *slog.Logger) (c *core, err error) {
	c = &core{cfg: cfg, logger: logger, metrics: telemetry.NewMetrics(), health: telemetry.NewHealth()}
	c.health.LogTo(logger)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.store, err = openStore(ctx, cfg, logger, c.epochsRenewed); err != nil {
		return c, err
	}
	c.onClose(c.store.Close)
	if err = c.migrateSessions(ctx); err != nil {
		return c, err
	}
	c.health.Register("database", checkTimeout, c.store.Ping)

	if c.redis, err = redisconn.Open(cfg.RedisURL.Reveal()); err != nil {
		return c, fmt.Errorf("REDIS_URL: %w", err)
	}
	c.onClose(c.redis.Close)
	c.health.RegisterOptional("redis", checkTimeout, func(ctx context.Context) error { return c.redis.Ping(ctx).Err() })

	if c.blobs, err = media.Open(cfg.MediaURL.Reveal()); err != nil {
		return c, fmt.Errorf("MEDIA_URL: %w", err)
	}
	if closer, ok := c.blobs.(io.Closer); ok {
		c.onClose(closer.Close)
	}
	c.health.Register("media", checkTimeout, c.blobs.Check)

	if c.sealer, err = auth.NewSealer(cfg.EncryptionKeyBytes()); err != nil {
		return c, fmt.Errorf("ENCRYPTION_KEY: %w", err)
	}
	if err = c.openWire(); err != nil {
		return c, err
	}
	c.inbox = inbox.New(inbox.Options{
		Store: c.store, Publisher: counting{c.emitter, c.metrics}, Waker: c.wakes, Sealer: c.sealer, Kinds: kinds(), Logger: logger,
		Measures: inbox.Measures{
			Ingested: func(kind domain.ChannelKind, delay time.Duration) {
				c.metrics.IngestLatency.WithLabelValues(string(kind)).Observe(delay.Seconds())
			},
			Duplicate: func(domain.ChannelKind) { c.metrics.Webhooks.WithLabelValues("duplicate").Inc() },
			Rejected:  func() { c.metrics.Webhooks.WithLabelValues("rejected").Inc() },
		},
	})
	return c, nil
}

// migrateSessions brings the tables up to date in which WhatsApp sessions keep
// their keys.
func (c *core) migrateSessions(ctx context.Context) error {
	return c.store.Exclusively(ctx, "the migration of WhatsApp sessions", func(ctx context.Context) error {
		return whatsapp.Migrate(ctx, c.store.SQL(), c.store.KeysDialect(), c.logger)
	})
}

// counting is the emitter, with a count of what it is given.
type counting struct {
	*realtime.Emitter
	metrics *telemetry.Metrics
}

// Publish implements inbox.Publisher.
func (c counting) Publish(events []domain.Event) {
	c.metrics.EventsPublished.Add(float64(len(events)))
	c.Emitter.Publish(events)
}

// openWire makes what leaves by Redis: events for the sockets, wake-ups for
// the workers.
func (c *core) openWire() error {
	emitter, err := realtime.NewEmitter(c.redis, realtime.EmitterOptions{Logger: c.logger, Metrics: c.realtimeMetrics()})
	if err != nil {
		return err
	}
	c.emitter = emitter
	c.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), emitterPatience)
		defer cancel()
		// What cannot be sent is read from the log by the nodes.
		if err := c.emitter.Close(ctx); err != nil {
			c.logger.Warn("not every event could be handed to Redis before the end", slog.Any("error", err))
		}
		return nil
	})
	c.wakes = worker.NewWakes(c.redis, c.logger)
	c.wakes.Start(context.Background())
	c.onClose(func() error { c.wakes.Stop(); return nil })
	return nil
}

func (c *core) onClose(f func() error) { c.closers = append(c.closers, f) }

func (c *core) close() error {
	var failed error
	for i := len(c.closers) - 1; i >= 0; i-- {
		failed = errors.Join(failed, c.closers[i]())
	}
	c.closers = nil
	return failed
}

// epochsRenewed is called when this process has given the event logs new
// epochs.
func (c *core) epochsRenewed(reason string) {
	c.metrics.NewEpochs.WithLabelValues(reason).Inc()
	c.logger.Warn("the database is not the one that it was: all clients are told to fetch everything anew", slog.String("reason", reason))
}

// waitForDatabase is how long a process waits for PostgreSQL at its start: in
// a cluster everything starts at once.
const waitForDatabase = time.Minute

// openStore opens the database, waiting for one that is still starting.
func openStore(ctx context.Context, cfg config.Config, logger *slog.Logger, renewed func(reason string)) (*store.Store, error) {
	options := store.Options{MaxConnections: cfg.DatabaseMaxConns, Renewed: renewed}
	// A worker that is cut off must not hold its leases' rows beyond the leases.
	options.Patience = min(5*time.Second, cfg.LeaseTTL/2)
	deadline := time.Now().Add(waitForDatabase)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		s, err := store.Open(ctx, cfg.DatabaseURL.Reveal(), options)
		if err == nil {
			return s, nil
		}
		if !store.IsUnavailable(err) || time.Now().Add(pause).After(deadline) {
			return nil, err
		}
		logger.Warn("database is not there yet; waiting for it", slog.Any("error", err))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// endpoints are the provider addresses that were set by the operator: they may
// lie in private networks, unlike what providers name in their answers.
func endpoints(cfg config.Config) []string {
	var allowed []string
	for _, raw := range []string{cfg.WABAAPIURL, cfg.WhatsAppEndpoint} {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			continue
		}
		host := u.Host
		if u.Port() == "" {
			port := "443"
			if u.Scheme == "http" {
				port = "80"
			}
			host += ":" + port
		}
		allowed = append(allowed, host)
	}
	return allowed
}

// newHTTPServer wraps a handler with the bounds that every server here has.
func newHTTPServer(cfg config.Config, handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: cfg.HTTPHeaderTimeout, IdleTimeout: cfg.HTTPIdleTimeout,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}
