package bench

import (
	"context"
	"flag"
	"io"
)

func runChats(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	return nil
}
