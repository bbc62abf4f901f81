// Command api runs an API node: REST, webhooks, Socket.IO and the dashboard.
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
	os.Exit(app.Main(config.API, os.Args[1:], os.Stdout, os.Stderr,
		func(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (app.Process, error) {
			return app.NewAPI(ctx, cfg, logger, out)
		}))
}
