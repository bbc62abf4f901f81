package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"switchboard/internal/app"
	"switchboard/internal/config"
)

// The servers that are compared.
const (
	ours  = "switchboard"
	peer  = "node"
	floor = "floor"
)

// fanAPICommand is an API node: what cmd/api is, in this program.
const fanAPICommand = "fanout-api"

// runFanAPI runs an API node with the settings of its environment.
func runFanAPI(_ context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	if err := parse(flags, args); err != nil {
		return err
	}
	go endWithInput()
	code := app.Main(config.API, nil, out, os.Stderr,
		func(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (app.Process, error) {
			return app.NewAPI(ctx, cfg, logger, out)
		})
	if code != 0 {
		return fmt.Errorf("the API node ended with %d", code)
	}
	return nil
}

// endWithInput ends this process as SIGTERM does, when who started it has gone.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
}

// fanServer is a running server.
type fanServer struct {
	*child
	address string
}

func listening(c *child, err error) (*fanServer, error) {
	if err != nil {
		return nil, err
	}
	address, err := c.address()
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return &fanServer{child: c, address: address}, nil
}

// startAPI starts an API node with production's settings; of its log only warnings are written, which are kept for errors.
func (b *fanBench) startAPI(ctx context.Context) (*fanServer, error) {
	s, err := listening(startSelf("API node", []string{
		"DATABASE_URL=" + b.database, "REDIS_URL=" + b.redisURL, "JWT_SECRET=" + b.secret, "ENCRYPTION_KEY=" + b.key,
		"MEDIA_URL=file://" + b.media, "LISTEN_HOST=127.0.0.1", "PORT=0", "LOG_LEVEL=warn", "APP_ENV=" + string(config.Production),
	}, fanAPICommand))
	if err != nil {
		return nil, err
	}
	return s, errors.Join(s.ready(ctx))
}

// ready waits until a node says so: then it also hears Redis.
func (s *fanServer) ready(ctx context.Context) error {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/readyz", nil)
		if err != nil {
			return err
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Do(request)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(s.failed(fmt.Errorf("it is not ready after %s", patience)), s.stop())
		case <-ticker.C:
		}
	}
}

func (b *fanBench) startNode() (*fanServer, error) {
	node, packages := b.node()
	script := filepath.Join(packages, "..", "..", "bench", "fanout", "server.mjs")
	return listening(startChild("Node server", []string{"NODE_ENV=production"}, node, script, packages, b.redisURL))
}

func (b *fanBench) startFloor() (*fanServer, error) {
	return listening(startSelf("floor", nil, fanFloorCommand, "-redis", b.redisURL))
}
