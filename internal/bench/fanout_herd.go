package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// logPage is how many events the product reads of a log at a time; pages begin at its multiples.
const logPage = 500

// herdTurn is one measurement of a reconnecting herd.
type herdTurn struct {
	all           time.Duration // from the first connection attempt to the last event of the last socket
	p50, p99, max time.Duration // of a socket: from its connection to its last missed event
	joined        time.Duration
	retries       int
	reads         map[string]float64 // of the log, by purpose
	pages         int                // that hold what was missed, over all organizations
	cpu           time.Duration
}

// herds measures sockets that reconnect at once, with much to catch up on: of one organization, and of several.
func (b *fanBench) herds(ctx context.Context, out io.Writer) error {
	for _, organizations := range []int{1, b.herdOrganizations} {
		if err := b.herdsOf(ctx, out, organizations); err != nil {
			return fmt.Errorf("%d organizations: %w", organizations, err)
		}
	}
	return nil
}

func (b *fanBench) herdsOf(ctx context.Context, out io.Writer, organizations int) error {
	_, _ = fmt.Fprintf(out, "herd: %d sockets of %d organizations reconnect at once, each %d events behind\n\n", b.herd, organizations, b.herdBehind)
	t := newTable(out, "round", "all caught up s", "replay p50 ms", "p99 ms", "max ms", "all connected s", "refused", "reads of the log", "pages", "API node CPU s")
	var all, p99, reads []float64
	for round := range b.rounds {
		turn, err := b.herdTurn(ctx, organizations)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		all, p99 = append(all, turn.all.Seconds()), append(p99, milliseconds(turn.p99))
		sum, purposes := turn.countReads()
		reads = append(reads, sum/float64(turn.pages))
		t.row(strconv.Itoa(round+1), fmt.Sprintf("%.2f", turn.all.Seconds()), fmt.Sprintf("%.0f", milliseconds(turn.p50)), fmt.Sprintf("%.0f", milliseconds(turn.p99)),
			fmt.Sprintf("%.0f", milliseconds(turn.max)), fmt.Sprintf("%.2f", turn.joined.Seconds()), strconv.Itoa(turn.retries),
			purposes, strconv.Itoa(turn.pages), fmt.Sprintf("%.1f", turn.cpu.Seconds()))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nmedians of %d rounds; nothing was lost, doubled or out of order\n", b.rounds)
	goal(out, "all caught up", median(all), " s", 15, "")
	goal(out, "replay p99", median(p99), " ms", 500, "")
	goal(out, "reads of the log, per (organization, page)", slices.Max(reads), "", 1, "")
	_, _ = fmt.Fprintln(out)
	return nil
}

func (b *fanBench) herdTurn(ctx context.Context, organizations int) (t herdTurn, err error) {
	groups, err := b.fallBehind(ctx, organizations)
	if err != nil {
		return t, err
	}
	deliveries := int64(0)
	for _, g := range groups {
		deliveries += int64(g.Clients) * (g.Through - g.After)
		t.pages += pagesBetween(g.After, g.Through)
	}
	s, err := b.startAPI(ctx)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	before, err := s.logReads(ctx)
	if err != nil {
		return t, err
	}
	cpu, err := s.cpu()
	if err != nil {
		return t, err
	}
	crowd, err := connectCrowd(ctx, fanOrder{Address: s.address, Groups: groups, Buffer: 64 << 10})
	if err != nil {
		return t, s.failed(err)
	}
	defer func() { err = errors.Join(err, crowd.close()) }()
	const patience = 2 * time.Minute
	err = crowd.until(ctx, patience, "the end of all replays", func(p fanProgress) bool { return p.CaughtUp >= int64(b.herd) })
	if err != nil {
		return t, err
	}
	after, err := s.cpu()
	if err != nil {
		return t, err
	}
	reads, err := s.logReads(ctx)
	if err != nil {
		return t, err
	}
	for purpose := range reads {
		reads[purpose] -= before[purpose]
	}
	t.reads, t.cpu, t.joined, t.retries = reads, after-cpu, crowd.joined.Took, crowd.joined.Retries
	result, err := crowd.checked(ctx, fanQuestion{}, deliveries)
	t.all, t.p50, t.p99, t.max = result.AllCaughtUp, result.CatchUp50, result.CatchUp99, result.CatchUpMax
	return t, err
}

// fallBehind commits what the sockets will have missed.
func (b *fanBench) fallBehind(ctx context.Context, organizations int) ([]fanGroup, error) {
	groups, err := b.groups(ctx, b.herd, organizations)
	if err == nil && organizations == 1 {
		groups = make([]fanGroup, 1)
		groups[0], err = b.group(ctx, crowded, b.herd)
	}
	if err != nil {
		return nil, err
	}
	const batch = 500
	for i := range groups {
		g := &groups[i]
		g.Resume, g.Stamped, g.Through = true, false, g.After+int64(b.herdBehind)
		id := int64(firstUsual + i)
		if organizations == 1 {
			id = crowded
		}
		for left := b.herdBehind; left > 0; left -= batch {
			if _, err := b.commit(ctx, id, time.Now(), min(left, batch)); err != nil {
				return nil, err
			}
		}
	}
	return groups, nil
}

// pagesBetween is how many pages hold the events behind after, up to through.
func pagesBetween(after, through int64) int {
	return int((through-1)/logPage - after/logPage + 1)
}

// countReads sums up the reads, and writes them as "12 (gap 2, replay 10)".
func (t herdTurn) countReads() (sum float64, text string) {
	var purposes []string
	for _, purpose := range slices.Sorted(maps.Keys(t.reads)) {
		if n := t.reads[purpose]; n > 0 {
			sum += n
			purposes = append(purposes, fmt.Sprintf("%s %.0f", purpose, n))
		}
	}
	return sum, fmt.Sprintf("%.0f (%s)", sum, strings.Join(purposes, ", "))
}

// logReads is how often a node has read the log since its start, by purpose.
func (s *fanServer) logReads(ctx context.Context) (map[string]float64, error) {
	samples, err := scrape(ctx, s.address)
	if err != nil {
		return nil, err
	}
	reads := map[string]float64{}
	for name, value := range samples {
		if purpose, found := strings.CutPrefix(name, `switchboard_log_reads_total{purpose="`); found {
			reads[strings.TrimSuffix(purpose, `"}`)] = value
		}
	}
	return reads, nil
}
