// Command standalone runs the whole product in one process, with embedded parts and a demo.
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
	os.Exit(app.Main(config.Standalone, os.Args[1:], os.Stdout, os.Stderr,
		func(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (app.Process, error) {
			return app.NewStandalone(ctx, cfg, logger, out)
		}))
}
