package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fanoutOptions are the flags of fanout.
type fanoutOptions struct {
	only   string
	rounds int
	bytes  int // of an event's text

	clients  int
	duration time.Duration
	windows  fanWindows
	pace     float64 // events a second

	idle              int
	idleOrganizations int
	settle            time.Duration

	organizations       int
	organizationClients int
	organizationRate    float64

	strangers int

	herd              int
	herdBehind        int
	herdOrganizations int
}

// fanMeasurement is one of those that -only chooses from.
type fanMeasurement struct {
	name string
	run  func(*fanBench, context.Context, io.Writer) error
}

func fanMeasurements() []fanMeasurement {
	return []fanMeasurement{
		{"saturated", (*fanBench).saturated},
		{"paced", (*fanBench).paced},
		{"idle", (*fanBench).idleSockets},
		{"orgs", (*fanBench).manyOrganizations},
		{"strangers", (*fanBench).strangersEvents},
		{"herd", (*fanBench).herds},
	}
}

func runFanout(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	var o fanoutOptions
	var all []string
	for _, m := range fanMeasurements() {
		all = append(all, m.name)
	}
	flags.StringVar(&o.only, "only", strings.Join(all, ","), "`measurements` to make")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds; in each, every server has a turn")
	flags.IntVar(&o.bytes, "bytes", 600, "size of an event on the wire")
	flags.IntVar(&o.clients, "clients", 1000, "saturated, paced: clients in one organization")
	flags.DurationVar(&o.duration, "duration", 10*time.Second, "saturated, paced, orgs: length of a turn")
	o.windows = fanWindows{1, 64}
	flags.Var(&o.windows, "windows", "saturated: how many `events` the slowest client may have yet to receive; each number is a measurement")
	flags.Float64Var(&o.pace, "pace", 20, "paced: events per second")
	flags.IntVar(&o.idle, "idle", 10_000, "idle: sockets")
	flags.IntVar(&o.idleOrganizations, "idle-organizations", 100, "idle: organizations that they belong to")
	flags.DurationVar(&o.settle, "settle", 150*time.Second, "idle: longest wait for a process to settle")
	flags.IntVar(&o.organizations, "organizations", 1000, "orgs: organizations")
	flags.IntVar(&o.organizationClients, "organization-clients", 10_000, "orgs: sockets, over all organizations")
	flags.Float64Var(&o.organizationRate, "organization-rate", 200, "orgs: events per second, over all organizations")
	flags.IntVar(&o.strangers, "strangers", 100_000, "strangers: events")
	flags.IntVar(&o.herd, "herd", 2000, "herd: sockets that reconnect at once")
	flags.IntVar(&o.herdBehind, "herd-behind", 5000, "herd: events that each of them has missed")
	flags.IntVar(&o.herdOrganizations, "herd-organizations", 20, "herd: organizations, in the second of the two herds")
	if err := parse(flags, args); err != nil {
		return err
	}
	if err := o.validate(all); err != nil {
		return err
	}
	return withScope(ctx, func(s *scope) error { return fanout(ctx, s, o, out) })
}

func (o fanoutOptions) validate(all []string) error {
	for _, name := range o.chosen() {
		if !slices.Contains(all, name) {
			return fmt.Errorf("-only: there is no measurement %q, but %s", name, strings.Join(all, ", "))
		}
	}
	if min(o.rounds, o.clients, o.idle, o.idleOrganizations, o.organizations, o.organizationClients, o.strangers, o.herd,
		o.herdBehind, o.herdOrganizations) < 1 || min(o.pace, o.organizationRate) <= 0 || min(o.duration, o.settle) <= 0 {
		return errors.New("every flag must be above 0")
	}
	if o.bytes < minEventBytes || o.bytes > maxEventBytes {
		return fmt.Errorf("-bytes must be between %d and %d", minEventBytes, maxEventBytes)
	}
	return nil
}

// fanWindows is a flag: numbers of events, "1,64". Few show what a broadcast costs by itself, many what a server makes of a queue.
type fanWindows []int

func (w *fanWindows) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]int(*w)), " ", ","), "[]")
}

// Set implements flag.Value.
func (w *fanWindows) Set(text string) error {
	*w = nil
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > maxWindow {
			return fmt.Errorf("a window is a number from 1 to %d: a server makes readers wait that are further behind", maxWindow)
		}
		*w = append(*w, n)
	}
	return nil
}

func (o fanoutOptions) chosen() []string { return strings.Split(o.only, ",") }

// tooSlow says that the driver could not publish at the rate that a measurement is about; empty if it could.
func tooSlow(rate, wanted float64) string {
	const enough = 0.95
	if rate >= enough*wanted {
		return ""
	}
	return fmt.Sprintf("the machine let the driver publish only %.0f of %.0f events per second", rate, wanted)
}

// onSchedule calls send for each event of a steady rate until the duration is over. Events that a slow commit delays follow at
// once: none is left out.
func onSchedule(ctx context.Context, rate float64, duration time.Duration, send func() error) error {
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := range max(int(rate*duration.Seconds()), 1) {
		timer.Reset(time.Until(began.Add(time.Duration(float64(n) / rate * float64(time.Second)))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := send(); err != nil {
			return err
		}
	}
	// The last event has its time, too: what follows divides by it.
	timer.Reset(time.Until(began.Add(duration)))
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func fanout(ctx context.Context, s *scope, o fanoutOptions, out io.Writer) error {
	b, err := newFanBench(ctx, s, o)
	if err != nil {
		return err
	}
	if err := printMachine(ctx, out, b.server.URL("postgres")); err != nil {
		return err
	}
	for _, m := range fanMeasurements() {
		if !slices.Contains(o.chosen(), m.name) {
			continue
		}
		if err := m.run(b, ctx, out); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// goal prints a figure beside what it is to be. invalid, if not empty, says why the figure proves nothing either way.
func goal(out io.Writer, what string, value float64, unit string, most float64, invalid string) {
	verdict := "met"
	switch {
	case invalid != "":
		verdict = "no verdict: " + invalid
	case value > most:
		verdict = "MISSED"
	}
	_, _ = fmt.Fprintf(out, "%s: %.4g%s (goal: at most %.4g%s): %s\n", what, value, unit, most, unit, verdict)
}
