package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"switchboard/internal/app"
	"switchboard/internal/config"
	"switchboard/internal/simulator"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// roleVariable makes the test binary be another program: see program.
const roleVariable = "SWITCHBOARD_FAULTS_ROLE"

// TestMain runs the tests, or plays the role of one of the product's commands.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role)) //nolint:forbidigo // this process is a command, not a test
	}
	testkit.Main(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(built)
		os.Exit(code) //nolint:forbidigo // what goleak would do
	}))
}

// play is what the main function of the command does.
func play(role string) int {
	switch role {
	case programAPI:
		return app.Main(config.API, nil, os.Stdout, os.Stderr,
			func(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (app.Process, error) {
				return app.NewAPI(ctx, cfg, logger, out)
			})
	case programWorker:
		return app.Main(config.Worker, nil, os.Stdout, os.Stderr,
			func(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (app.Process, error) {
				return app.NewWorker(ctx, cfg, logger, out)
			})
	}
	// Never undone: SIGTERM may come while the process ends by itself, because its input did.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch role {
	case programSimulator:
		err = playSimulator(ctx)
	case roleEmitter:
		err = playEmitter(ctx, os.Stdin, os.Stdout)
	default:
		err = errors.New("unknown role " + role)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

func playSimulator(ctx context.Context) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	cloud, err := cloudapi.New(cloudapi.Options{Logger: logger})
	if err != nil {
		return err
	}
	// On a busy machine it may take long until one sees that the other end of a connection was closed.
	const grace = 2 * time.Second
	bots, err := telegram.New(telegram.Options{Logger: logger, GoneGrace: grace})
	if err != nil {
		return err
	}
	phones, err := whatsapp.New(whatsapp.Options{Logger: logger, RootKey: whatsapp.DemoRootKey(), GoneGrace: grace})
	if err != nil {
		return err
	}
	return simulator.Run(
		ctx, logger, os.Stdout,
		simulator.Part{Name: partCloud, Listen: "127.0.0.1:0", Provider: cloud},
		simulator.Part{Name: partTelegram, Listen: "127.0.0.1:0", Provider: bots},
		simulator.Part{Name: partWhatsApp, Listen: "127.0.0.1:0", Provider: phones},
	)
}
