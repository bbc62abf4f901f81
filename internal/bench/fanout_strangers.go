package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"switchboard/internal/domain"
)

// strangersEvents measures what an API node pays for an event of an organization that has no sockets on it.
func (b *fanBench) strangersEvents(ctx context.Context, out io.Writer) error {
	_, _ = fmt.Fprintf(out, "strangers: %d events, %d bytes each, of an organization without sockets on the node\n\n", b.strangers, b.bytes)
	t := newTable(out, "round", "events/s", "API node CPU µs/event")
	var costs []float64
	for round := range b.rounds {
		elapsed, cpu, err := b.strangersTurn(ctx)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		cost := float64(cpu.Microseconds()) / float64(b.strangers)
		costs = append(costs, cost)
		t.row(strconv.Itoa(round+1), fmt.Sprintf("%.0f", float64(b.strangers)/elapsed.Seconds()), fmt.Sprintf("%.2f", cost))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nmedian (lowest … highest): %s µs\n", spread(costs, "%.2f"))
	goal(out, "an event without local sockets", median(costs), " µs", 10, "")
	_, _ = fmt.Fprintln(out)
	return nil
}

// strangersTurn publishes the events through Redis, and behind them one event to a socket: when that arrives, the node has
// taken all others, because Redis keeps the order of a channel. The node's CPU includes what it does when idle.
func (b *fanBench) strangersTurn(ctx context.Context) (elapsed, cpu time.Duration, err error) {
	groups, err := b.groups(ctx, 1, 1)
	if err != nil {
		return 0, 0, err
	}
	s, err := b.startAPI(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	crowd, err := connectCrowd(ctx, fanOrder{Address: s.address, Groups: groups, Parallel: 1, Buffer: 4 << 10})
	if err != nil {
		return 0, 0, s.failed(err)
	}
	defer func() { err = errors.Join(err, crowd.close()) }()
	marker := b.ourSource(firstUsual, groups[0].After)
	through := func(events int) error {
		if err := b.publishStrangers(ctx, events); err != nil {
			return err
		}
		if err := marker.send(ctx, 1); err != nil {
			return err
		}
		due := marker.sent - groups[0].After
		const patience = 2 * time.Minute
		return crowd.until(ctx, patience, "the arrival of the event behind the strangers'", func(p fanProgress) bool { return p.Deliveries >= due })
	}
	if err := through(max(b.strangers/20, 1)); err != nil { // a warm-up
		return 0, 0, err
	}
	before, err := s.cpu()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := through(b.strangers); err != nil {
		return 0, 0, err
	}
	elapsed = time.Since(began)
	after, err := s.cpu()
	if err != nil {
		return 0, 0, err
	}
	if err := s.heardEverything(ctx); err != nil {
		return 0, 0, err
	}
	_, err = crowd.checked(ctx, fanQuestion{}, marker.sent-groups[0].After)
	return elapsed, after - before, err
}

// heardEverything makes sure that the marker came by Redis, and that nothing was thrown away before it.
func (s *fanServer) heardEverything(ctx context.Context) error {
	samples, err := scrape(ctx, s.address)
	if err != nil {
		return err
	}
	for _, name := range []string{
		`switchboard_queue_dropped_total{queue="redis_message"}`, `switchboard_queue_dropped_total{queue="feed_queue"}`, "switchboard_events_healed_total",
	} {
		if value, found := samples[name]; value != 0 || !found {
			return fmt.Errorf("%s is %.0f: not all events came through Redis", name, value)
		}
	}
	return nil
}

// publishStrangers publishes events of the stranger, and returns when Redis has taken all of them: what is committed while
// others wait in an emitter would be found in the log by the nodes' poll, before its turn. They are in no log: nobody reads it.
func (b *fanBench) publishStrangers(ctx context.Context, n int) error {
	now := time.Now()
	data, err := json.Marshal(b.message(now))
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	events := make([]domain.Event, n)
	for i := range events {
		events[i] = domain.Event{
			OrganizationID: stranger, Seq: int64(i + 1), Epoch: b.epochs[stranger], Name: domain.EventMessageNew, Data: data, At: domain.At(now),
		}
	}
	emitter, err := b.newEmitter(n)
	if err != nil {
		return err
	}
	emitter.Publish(events)
	if err := emitter.Close(ctx); err != nil {
		return err
	}
	return b.nothingDropped()
}
