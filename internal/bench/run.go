package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
)

// benchmark is one subcommand.
type benchmark struct {
	name, summary string
	// run reads its flags from args; the flag set is its own.
	run func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error
	// internal ones are the processes that others start; help does not list them.
	internal bool
}

func benchmarks() []benchmark {
	return []benchmark{
		{name: "ingest", summary: "messages per second through the WABA webhook, against pgbench with the same SQL", run: runIngest},
		{name: "chats", summary: "the chat list and message pages of a database with a million chats", run: runChats},
		{name: "fanout", summary: "deliveries to sockets, idle sockets and reconnecting herds, against Node and a raw WebSocket server", run: runFanout},
		{name: "workers", summary: "idle bots, inbound messages, take-overs and replies of worker processes", run: runWorkers},
		{name: "whatsapp", summary: "linked WhatsApp numbers of worker processes: idle, restart, inbound messages, take-overs", run: runWhatsApp},
		{name: loadCommand, summary: "posts webhooks for ingest", run: runLoad, internal: true},
		{name: fanLoadCommand, summary: "the clients of fanout", run: runFanLoad, internal: true},
		{name: fanAPICommand, summary: "an API node for fanout", run: runFanAPI, internal: true},
		{name: fanFloorCommand, summary: "the floor of fanout", run: runFanFloor, internal: true},
		{name: workersProcess, summary: "a worker for workers", run: runWorkerProcess, internal: true},
		{name: whatsappWorker, summary: "a worker for whatsapp", run: runWhatsAppWorker, internal: true},
		{name: whatsappBare, summary: "the bare clients of whatsapp", run: runWhatsAppBare, internal: true},
		{name: workersFloor, summary: "the floor of workers", run: runWorkersFloor, internal: true},
	}
}

// Run runs the benchmark that args name. Results go to out, progress and help about wrong arguments to progress.
func Run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) == 0 {
		printHelp(progress)
		return errors.New("name a benchmark")
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		printHelp(out)
		return nil
	}
	for _, b := range benchmarks() {
		if b.name != args[0] {
			continue
		}
		flags := flag.NewFlagSet("bench "+b.name, flag.ContinueOnError)
		flags.SetOutput(progress)
		err := b.run(ctx, flags, args[1:], out)
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	printHelp(progress)
	return fmt.Errorf("there is no benchmark %q", args[0])
}

func printHelp(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(table, "bench <benchmark> [flags]; bench <benchmark> -help lists its flags")
	_, _ = fmt.Fprintln(table)
	for _, b := range benchmarks() {
		if !b.internal {
			_, _ = fmt.Fprintf(table, "  %s\t%s\n", b.name, b.summary)
		}
	}
	_ = table.Flush()
}

// parse reads flags; arguments behind them are an error.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; -help lists the flags", flags.Arg(0))
	}
	return nil
}
