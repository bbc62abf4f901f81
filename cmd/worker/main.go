// Command worker owns channel sessions: it connects, receives and sends.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"switchboard/internal/app"
	"switchboard/internal/config"
)

func main() {
	os.Exit(app.Main(config.Worker, os.Args[1:], os.Stdout, os.Stderr,
		func(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (app.Process, error) {
			return app.NewWorker(ctx, cfg, logger, out)
		}))
}
