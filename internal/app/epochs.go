package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"switchboard/internal/config"
)

// cutNewEpoch takes the flag -new-epoch out of the arguments of a process that
// has it. It is an order and no setting: an environment that kept it would
// send all clients to refetch at each start.
func cutNewEpoch(process config.Process, args []string) (rest []string, ordered bool) {
	if process == config.Worker {
		return args, false
	}
	rest = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "-new-epoch" || arg == "--new-epoch" })
	return rest, len(rest) < len(args)
}

// giveNewEpochs is what -new-epoch does, in place of serving.
func giveNewEpochs(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (err error) {
	if file, is := strings.CutPrefix(cfg.DatabaseURL.Reveal(), "sqlite://"); is {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("there is no database to give new epochs to; see DATABASE_URL and DATA_DIR: %w", err)
		}
	}
	s, err := openStore(ctx, cfg, logger, func(string) {})
	if err != nil {
		return err
	}
	defer func() {
		if closed := s.Close(); err == nil {
			err = closed
		}
	}()
	n, err := s.NewEpochs(ctx)
	if err != nil {
		return fmt.Errorf("give the event logs new epochs: %w", err)
	}
	_, err = fmt.Fprintf(out, "The event logs of %d organization(s) have a new epoch: every client will fetch everything anew.\n", n)
	return err
}
