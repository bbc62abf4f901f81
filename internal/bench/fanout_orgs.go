package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"
)

// orgsTurn is one measurement of many small organizations.
type orgsTurn struct {
	events   int64
	rate     float64 // events a second that were committed
	cpu      time.Duration
	p50, p99 time.Duration
	max      time.Duration
}

// manyOrganizations measures how long events take to sockets that are spread over many organizations.
func (b *fanBench) manyOrganizations(ctx context.Context, out io.Writer) error {
	_, _ = fmt.Fprintf(out, "orgs: %d sockets of %d organizations, %g events per second over all\n\n", b.organizationClients, b.organizations, b.organizationRate)
	t := newTable(out, "round", "events/s", "p50 ms", "p99 ms", "max ms", "API node CPU µs/event")
	var p50, p99, rates []float64
	for round := range b.rounds {
		turn, err := b.orgsTurn(ctx)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		p50, p99 = append(p50, milliseconds(turn.p50)), append(p99, milliseconds(turn.p99))
		rates = append(rates, turn.rate)
		t.row(strconv.Itoa(round+1), fmt.Sprintf("%.0f", turn.rate), fmt.Sprintf("%.1f", milliseconds(turn.p50)), fmt.Sprintf("%.1f", milliseconds(turn.p99)),
			fmt.Sprintf("%.1f", milliseconds(turn.max)), fmt.Sprintf("%.0f", float64(turn.cpu.Microseconds())/float64(turn.events)))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nmedians (lowest … highest): p50 %s ms, p99 %s ms; nothing was lost, doubled or out of order\n", spread(p50, "%.1f"), spread(p99, "%.1f"))
	goal(out, "p99 from commit to client", median(p99), " ms", 50, tooSlow(slices.Min(rates), b.organizationRate))
	_, _ = fmt.Fprintln(out)
	return nil
}

func (b *fanBench) orgsTurn(ctx context.Context) (t orgsTurn, err error) {
	groups, err := b.groups(ctx, b.organizationClients, b.organizations)
	if err != nil {
		return t, err
	}
	s, err := b.startAPI(ctx)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	crowd, err := connectCrowd(ctx, fanOrder{Address: s.address, Groups: groups, Parallel: 32, Buffer: 2 << 10})
	if err != nil {
		return t, s.failed(err)
	}
	defer func() { err = errors.Join(err, crowd.close()) }()
	sources := make([]*source, len(groups))
	for i, g := range groups {
		sources[i] = b.ourSource(int64(firstUsual+i), g.After)
	}
	arrived := func() (deliveries int64, err error) {
		for i, g := range groups {
			deliveries += (sources[i].sent - g.After) * int64(g.Clients)
		}
		const patience = 30 * time.Second
		return deliveries, crowd.until(ctx, patience, "the arrival of all events", func(p fanProgress) bool { return p.Deliveries >= deliveries })
	}
	if err := b.publishAround(ctx, sources, min(b.duration/4, 2*time.Second)); err != nil {
		return t, err
	}
	if _, err := arrived(); err != nil {
		return t, err
	}
	question := fanQuestion{}
	for _, s := range sources {
		question.From = append(question.From, s.sent)
		t.events -= s.sent
		s.shift = nil
	}
	before, err := s.cpu()
	if err != nil {
		return t, err
	}
	began := time.Now()
	if err := b.publishAround(ctx, sources, b.duration); err != nil {
		return t, err
	}
	elapsed := time.Since(began)
	deliveries, err := arrived()
	if err != nil {
		return t, err
	}
	after, err := s.cpu()
	if err != nil {
		return t, err
	}
	for _, s := range sources {
		question.Shift = append(question.Shift, s.shift)
		t.events += s.sent
	}
	t.rate, t.cpu = float64(t.events)/elapsed.Seconds(), after-before
	result, err := crowd.checked(ctx, question, deliveries)
	t.p50, t.p99, t.max = result.P50, result.P99, result.Max
	return t, err
}

// publishAround publishes at the wanted rate, each event to an organization chosen at random. Several goroutines do it, as
// several workers would, so that one that waits for the disk does not hold the rate up; each has organizations of its own.
func (b *fanBench) publishAround(ctx context.Context, sources []*source, duration time.Duration) error {
	const most = 4
	workers := min(most, len(sources))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		var own []*source
		for i := w; i < len(sources); i += workers {
			own = append(own, sources[i])
		}
		wg.Go(func() {
			errs[w] = onSchedule(ctx, b.organizationRate/float64(workers), duration, func() error {
				return own[rand.IntN(len(own))].send(ctx, 1) //nolint:gosec // load, no secrets
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
