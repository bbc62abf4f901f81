package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// workersOptions are the flags of workers.
type workersOptions struct {
	only          []string
	bots          int
	organizations int
	rounds        int
	idle          time.Duration
	settle        time.Duration
	messages      int
	rate          int
	paced         time.Duration
	replies       int
	leaseTTL      time.Duration
}

// The parts of workers.
const (
	partIdle     = "idle"
	partInbound  = "inbound"
	partTakeover = "takeover"
	partReply    = "reply"
)

func workerParts() []string { return []string{partIdle, partInbound, partTakeover, partReply} }

func runWorkers(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	o := workersOptions{only: workerParts()}
	flags.Func("only", "the parts to run, of "+strings.Join(workerParts(), ",")+" (default all)", func(list string) error {
		o.only = strings.Split(list, ",")
		for _, part := range o.only {
			if !slices.Contains(workerParts(), part) {
				return fmt.Errorf("there is no part %q", part)
			}
		}
		return nil
	})
	flags.IntVar(&o.bots, "bots", 200, "Telegram bots of a worker, each a channel")
	flags.IntVar(&o.organizations, "organizations", 50, "organizations that share the bots")
	flags.IntVar(&o.rounds, "rounds", 3, "inbound, takeover: rounds")
	flags.DurationVar(&o.idle, "idle", time.Minute, "idle: how long a worker is watched; a long poll takes 30 seconds")
	flags.DurationVar(&o.settle, "settle", 150*time.Second, "idle: longest wait for a worker's memory to settle")
	flags.IntVar(&o.messages, "messages", 20000, "inbound: messages of a turn, as fast as they go")
	flags.IntVar(&o.rate, "rate", 200, "inbound: messages per second at which the latency is taken")
	flags.DurationVar(&o.paced, "paced", 10*time.Second, "inbound: for how long")
	flags.IntVar(&o.replies, "replies", 500, "reply: replies, one after the other, for each provider")
	flags.DurationVar(&o.leaseTTL, "lease-ttl", 10*time.Second, "takeover: LEASE_TTL of the workers")
	if err := parse(flags, args); err != nil {
		return err
	}
	if min(o.bots, o.organizations, o.rounds, o.messages, o.rate, o.replies) < 1 || min(o.idle, o.settle, o.paced, o.leaseTTL) <= 0 {
		return errors.New("every flag must be above 0")
	}
	if o.organizations > o.bots {
		return errors.New("there can be no more organizations than bots")
	}
	return withScope(ctx, func(s *scope) error {
		b, err := newWorkersBench(s.ctx, s, o)
		if err != nil {
			return err
		}
		if err := printMachine(s.ctx, out, b.server.URL("postgres")); err != nil {
			return err
		}
		for _, part := range []struct {
			name string
			run  func(context.Context, io.Writer) error
		}{{partIdle, b.idleWorker}, {partInbound, b.inbounds}, {partTakeover, b.takeovers}, {partReply, b.replyTimes}} {
			if !slices.Contains(o.only, part.name) {
				continue
			}
			if err := part.run(s.ctx, out); err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
			_, _ = fmt.Fprintln(out)
		}
		return nil
	})
}

// goalAtLeast is goal for what should be large.
func goalAtLeast(out io.Writer, what string, value float64, unit string, least float64) {
	verdict := "met"
	if value < least {
		verdict = "MISSED"
	}
	_, _ = fmt.Fprintf(out, "%s: %.4g%s (goal: at least %.4g%s): %s\n", what, value, unit, least, unit, verdict)
}
