// Command bench measures Switchboard: docs/performance.md says what the figures mean.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"switchboard/internal/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
