package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// contender is a server with clients and a source of events.
type contender struct {
	server *fanServer
	crowd  *crowd
	source *source
	window int
}

func (c *contender) close() error {
	var err error
	if c.crowd != nil {
		err = c.crowd.close()
	}
	return errors.Join(err, c.server.stop())
}

// contend starts a server and connects the clients, all in one organization's room.
func (b *fanBench) contend(ctx context.Context, name string, window int) (c *contender, err error) {
	c = &contender{window: window}
	const room = "org_1"
	group := fanGroup{Tokens: []string{room}, Clients: b.clients, Stamped: true}
	switch name {
	case ours:
		if group, err = b.group(ctx, crowded, b.clients); err != nil {
			return nil, err
		}
		c.source = b.ourSource(crowded, group.After)
		c.server, err = b.startAPI(ctx)
	case peer:
		c.source = b.nodeSource(ctx, room)
		c.server, err = b.startNode()
	case floor:
		c.source = b.floorSource()
		c.server, err = b.startFloor()
	}
	if err != nil {
		return nil, err
	}
	const parallel, buffer = 32, 8 << 10
	c.crowd, err = connectCrowd(ctx, fanOrder{
		Address: c.server.address, Groups: []fanGroup{group}, Parallel: parallel, Buffer: buffer, Window: window,
	})
	if err != nil {
		return nil, errors.Join(c.server.failed(err), c.close())
	}
	c.crowd.progress.Low = group.After
	return c, nil
}

// cpu is what the server and the clients' process have used of the cores.
func (c *contender) cpu() (server, load time.Duration, err error) {
	server, err = c.server.cpu()
	if err != nil {
		return 0, 0, err
	}
	load, err = c.crowd.process.cpu()
	return server, load, err
}

// rateTurn is one measurement of one server.
type rateTurn struct {
	events, deliveries int64
	published          time.Duration // how long it took to publish the events
	elapsed            time.Duration // up to the last delivery
	cpu                time.Duration // of the server
	p50, p99, max      time.Duration // from commit to receipt
	load               time.Duration // CPU of the clients' process
	cores              float64       // busy, of the whole machine
	bytes              float64       // of an event's text
}

// perMillion is the server's CPU seconds for a million deliveries.
func (t rateTurn) perMillion() float64 { return t.cpu.Seconds() * 1e6 / float64(t.deliveries) }

func (t rateTurn) perSecond() float64 { return float64(t.deliveries) / t.elapsed.Seconds() }

// flood keeps a window of events under way until the time is over. It refills when a quarter of the window is free, so that events
// come in small bursts to every server alike.
func (b *fanBench) flood(ctx context.Context, c *contender, duration time.Duration) error {
	end := time.Now().Add(duration)
	for time.Now().Before(end) {
		room := c.window - int(c.source.sent-c.crowd.progress.Low)
		if room*4 < c.window || room < 1 {
			const patience = 20 * time.Second
			low := c.crowd.progress.Low
			if err := c.crowd.until(ctx, patience, "the arrival of an event at all clients", func(p fanProgress) bool { return p.Low > low }); err != nil {
				return err
			}
			continue
		}
		if err := c.source.send(ctx, room); err != nil {
			return err
		}
	}
	return nil
}

// trickle publishes at a steady pace, one event at a time.
func (b *fanBench) trickle(ctx context.Context, c *contender, duration time.Duration) error {
	return onSchedule(ctx, b.pace, duration, func() error { return c.source.send(ctx, 1) })
}

// arrived waits until every client has every event.
func (c *contender) arrived(ctx context.Context) error {
	const patience = 30 * time.Second
	sent := c.source.sent
	return c.crowd.until(ctx, patience, fmt.Sprintf("the arrival of event %d at all clients", sent), func(p fanProgress) bool { return p.Low >= sent })
}

// fanLoading publishes events to a contender until the time is over.
type fanLoading func(b *fanBench, ctx context.Context, c *contender, duration time.Duration) error

// takeTurn measures one server: it is warmed up, then loaded for the turn's time, and counted up to the last delivery.
func (b *fanBench) takeTurn(ctx context.Context, name string, window int, load fanLoading) (t rateTurn, err error) {
	c, err := b.contend(ctx, name, window)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	start := c.source.sent
	// A saturating warm-up whatever follows: buffers and heaps have the size that they will have.
	warmUp := min(b.duration/4, 2*time.Second)
	if err := errors.Join(b.flood(ctx, c, warmUp), c.arrived(ctx)); err != nil {
		return t, err
	}
	from := c.source.sent
	c.source.shift = nil
	before, loadBefore, err := c.cpu()
	if err != nil {
		return t, err
	}
	began, busy := time.Now(), busySeconds()
	if err := load(b, ctx, c, b.duration); err != nil {
		return t, err
	}
	t.published = time.Since(began)
	if err := c.arrived(ctx); err != nil {
		return t, err
	}
	t.elapsed = time.Since(began)
	t.cores = (busySeconds() - busy) / t.elapsed.Seconds()
	after, loadAfter, err := c.cpu()
	if err != nil {
		return t, err
	}
	t.cpu, t.load = after-before, loadAfter-loadBefore
	t.events = c.source.sent - from
	t.deliveries = t.events * int64(b.clients)
	result, err := c.crowd.checked(ctx, fanQuestion{From: []int64{from}, Shift: [][]int64{c.source.shift}}, (c.source.sent-start)*int64(b.clients))
	if err != nil {
		return t, err
	}
	t.p50, t.p99, t.max = result.P50, result.P99, result.Max
	t.bytes = float64(result.Bytes) / float64(result.Deliveries)
	// What is compared must be the same: the texts differ by the digits of seq only.
	const digits = 8
	if most := float64(max(b.bytes, minEventBytes)); t.bytes > most+digits || t.bytes < most-digits {
		return t, fmt.Errorf("an event had %.1f bytes, not %d", t.bytes, b.bytes)
	}
	return t, nil
}

func (b *fanBench) saturated(ctx context.Context, out io.Writer) error {
	for _, window := range b.windows {
		title := fmt.Sprintf("saturated: %d clients in one organization, %d-byte events, window of %d", b.clients, b.bytes, window)
		if err := b.compareRates(ctx, out, title, window, 0, (*fanBench).flood); err != nil {
			return err
		}
	}
	return nil
}

func (b *fanBench) paced(ctx context.Context, out io.Writer) error {
	const window = 64 // of the warm-up
	title := fmt.Sprintf("paced: %d clients in one organization, %d-byte events, %g events per second", b.clients, b.bytes, b.pace)
	return b.compareRates(ctx, out, title, window, b.pace, (*fanBench).trickle)
}

// compareRates measures all servers in turns. rate is how many events a second the load is to publish; 0: as many as go.
func (b *fanBench) compareRates(ctx context.Context, out io.Writer, title string, window int, rate float64, load fanLoading) error {
	_, _ = fmt.Fprintf(out, "%s\n\n", title)
	names := []string{ours, peer, floor}
	turns := map[string][]rateTurn{}
	progress := newTable(out, "round", "who", "deliveries/s", "CPU s/million", "p50 ms", "p99 ms", "max ms", "load CPU s/million", "cores busy", "bytes/event")
	for round := range b.rounds {
		for i := range names {
			name := names[(round+i)%len(names)]
			t, err := b.takeTurn(ctx, name, window, load)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", name, round+1, err)
			}
			turns[name] = append(turns[name], t)
			progress.row(append([]string{strconv.Itoa(round + 1), name}, t.cells()...)...)
		}
	}
	if err := progress.flush(); err != nil {
		return err
	}
	return b.summarizeRates(out, names, turns, rate)
}

func (t rateTurn) cells() []string {
	return []string{
		fmt.Sprintf("%.0f", t.perSecond()), fmt.Sprintf("%.2f", t.perMillion()),
		fmt.Sprintf("%.1f", milliseconds(t.p50)), fmt.Sprintf("%.1f", milliseconds(t.p99)), fmt.Sprintf("%.1f", milliseconds(t.max)),
		fmt.Sprintf("%.2f", t.load.Seconds()*1e6/float64(t.deliveries)), fmt.Sprintf("%.2f", t.cores),
		fmt.Sprintf("%.1f", t.bytes),
	}
}

// summarizeRates prints medians and, round by round, ratios.
func (b *fanBench) summarizeRates(out io.Writer, names []string, turns map[string][]rateTurn, wanted float64) error {
	_, _ = fmt.Fprintf(out, "\nmedians of %d rounds of %s (lowest … highest); nothing was lost, doubled or out of order\n\n", b.rounds, b.duration)
	t := newTable(out, "who", "deliveries/s", "CPU s/million", "p50 ms", "p99 ms")
	invalid := ""
	for _, name := range names {
		var rate, cpu, p50, p99 []float64
		for _, one := range turns[name] {
			invalid = cmp.Or(invalid, tooSlow(float64(one.events)/one.published.Seconds(), wanted))
			rate, cpu = append(rate, one.perSecond()), append(cpu, one.perMillion())
			p50, p99 = append(p50, milliseconds(one.p50)), append(p99, milliseconds(one.p99))
		}
		t.row(name, spread(rate, "%.0f"), spread(cpu, "%.2f"), spread(p50, "%.1f"), spread(p99, "%.1f"))
	}
	if err := t.flush(); err != nil {
		return err
	}
	ratio := func(other string, of func(rateTurn) float64) float64 {
		var ratios []float64
		for i, one := range turns[ours] {
			ratios = append(ratios, of(one)/of(turns[other][i]))
		}
		return median(ratios)
	}
	_, _ = fmt.Fprintln(out)
	goal(out, "CPU per delivery, of Node's", ratio(peer, rateTurn.perMillion), "", 0.8, invalid)
	goal(out, "CPU per delivery, of the floor's", ratio(floor, rateTurn.perMillion), "", 1.1, invalid)
	goal(out, "p99 from commit to client, of Node's", ratio(peer, func(t rateTurn) float64 { return float64(t.p99) }), "", 1, invalid)
	_, _ = fmt.Fprintln(out)
	return nil
}
