package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"

	"switchboard/internal/config"
	"switchboard/internal/telemetry"
)

// Process is a running process: Run serves until ctx ends, drains, and frees
// everything.
type Process interface {
	Run(ctx context.Context) error
}

// Main is the main function of every command: it reads the settings, starts
// the process and waits for SIGTERM or an interrupt. It returns the exit code:
// 0 after a clean end or --help, 1 after a failure, said in one line.
func Main(process config.Process, args []string, stdout, stderr io.Writer,
	start func(context.Context, config.Config, *slog.Logger, io.Writer) (Process, error),
) int {
	args, newEpoch := cutNewEpoch(process, args)
	cfg, err := config.Load(process, args, os.LookupEnv)
	if errors.Is(err, config.ErrHelp) {
		_, _ = fmt.Fprint(stdout, config.Usage(process))
		return 0
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "switchboard:", err)
		return 1
	}
	logger, err := telemetry.NewLogger(stderr, cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "switchboard:", err)
		return 1
	}
	redis.SetLogger(redisLog{logger})
	for _, warning := range cfg.Warnings() {
		logger.Warn("dangerous setting", slog.String("why", warning))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if newEpoch {
		start = func(context.Context, config.Config, *slog.Logger, io.Writer) (Process, error) {
			return order(func(ctx context.Context) error { return giveNewEpochs(ctx, cfg, logger, stdout) }), nil
		}
	}
	p, err := start(ctx, cfg, logger, stdout)
	if err == nil {
		// A second signal ends a drain that takes too long.
		context.AfterFunc(ctx, stop)
		err = p.Run(ctx)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "switchboard:", err)
		return 1
	}
	return 0
}

// order is a process that does one thing and ends.
type order func(ctx context.Context) error

// Run implements Process.
func (o order) Run(ctx context.Context) error { return o(ctx) }

// redisLog takes what the Redis client would print to stderr. Those who use
// the client report its errors themselves.
type redisLog struct{ logger *slog.Logger }

// Printf implements the client's logging interface.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.logger.DebugContext(ctx, "redis client", slog.String("says", fmt.Sprintf(format, args...)))
}
