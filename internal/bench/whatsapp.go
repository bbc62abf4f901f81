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

// whatsappOptions are the flags of whatsapp.
type whatsappOptions struct {
	only          []string
	numbers       int
	idle          time.Duration
	settle        time.Duration
	rounds        int
	writers       int
	organizations int
	messages      int
	rate          int
	paced         time.Duration
	mortal        int
	leaseTTL      time.Duration
	parallel      int
	profile       string
}

// The parts of whatsapp, beside partIdle, partInbound and partTakeover.
const (
	partRestart = "restart"
	partTrips   = "trips"
	partLatency = "latency"
)

func whatsappParts() []string {
	return []string{partIdle, partRestart, partInbound, partTrips, partLatency, partTakeover}
}

func (o *whatsappOptions) has(part string) bool { return slices.Contains(o.only, part) }

func runWhatsApp(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	o := whatsappOptions{only: whatsappParts()}
	flags.Func("only", "the parts to run, of "+strings.Join(whatsappParts(), ",")+" (default all)", func(list string) error {
		o.only = strings.Split(list, ",")
		for _, part := range o.only {
			if !slices.Contains(whatsappParts(), part) {
				return fmt.Errorf("there is no part %q", part)
			}
		}
		return nil
	})
	flags.IntVar(&o.rounds, "rounds", 3, "restart, inbound, latency, takeover: rounds")
	flags.IntVar(&o.numbers, "numbers", 200, "idle, restart: linked numbers of the worker")
	flags.DurationVar(&o.idle, "idle", time.Minute, "idle: how long the CPU is watched; a connection pings every 20 to 30 seconds")
	flags.DurationVar(&o.settle, "settle", 150*time.Second, "idle: longest wait for a process's memory to settle")
	flags.IntVar(&o.writers, "writers", 20, "inbound, trips, latency: linked numbers that people write to")
	flags.IntVar(&o.organizations, "organizations", 5, "organizations that share the numbers; the log of each takes one transaction at a time")
	flags.IntVar(&o.messages, "messages", 5000, "inbound: messages of a turn, as fast as they go")
	flags.IntVar(&o.rate, "rate", 50, "latency: messages per second")
	flags.DurationVar(&o.paced, "paced", 20*time.Second, "latency: for how long")
	flags.IntVar(&o.mortal, "mortal", 50, "takeover: linked numbers of each of the two workers")
	flags.DurationVar(&o.leaseTTL, "lease-ttl", 10*time.Second, "takeover: LEASE_TTL of the workers")
	flags.IntVar(&o.parallel, "parallel", 8, "how many numbers are linked at once")
	flags.StringVar(&o.profile, "profile", "", "inbound: a folder for CPU profiles of the worker, one for each turn")
	if err := parse(flags, args); err != nil {
		return err
	}
	if min(o.rounds, o.numbers, o.writers, o.organizations, o.messages, o.rate, o.mortal, o.parallel) < 1 || min(o.idle, o.settle, o.paced, o.leaseTTL) <= 0 {
		return errors.New("every flag must be above 0")
	}
	if o.organizations > min(o.numbers, o.writers, 2*o.mortal) {
		return errors.New("there can be no more organizations than numbers")
	}
	return withScope(ctx, func(s *scope) error {
		b, err := newWhatsAppBench(s, o)
		if err != nil {
			return err
		}
		if err := printMachine(s.ctx, out, b.server.URL("postgres")); err != nil {
			return err
		}
		// Numbers are linked by the real protocol, which takes a while: the parts of a group share theirs.
		for _, group := range []struct {
			parts []string
			run   func(context.Context, io.Writer) error
		}{
			{[]string{partIdle, partRestart}, b.quietNumbers},
			{[]string{partInbound, partTrips, partLatency}, b.busyNumbers},
			{[]string{partTakeover}, b.takeoverNumbers},
		} {
			if !slices.ContainsFunc(group.parts, o.has) {
				continue
			}
			if err := group.run(s.ctx, out); err != nil {
				return fmt.Errorf("%s: %w", strings.Join(group.parts, ", "), err)
			}
			_, _ = fmt.Fprintln(out)
		}
		return nil
	})
}
