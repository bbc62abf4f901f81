package bench

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// fanLoadCommand is the process that holds the clients.
const fanLoadCommand = "fanout-load"

// fanGroup are clients that receive the same events.
type fanGroup struct {
	Tokens  []string `json:"tokens"` // taken in turns
	Clients int      `json:"clients"`
	// After is the seq of the last event that the clients do not expect; with Resume they ask for what is behind it, and have
	// caught up when they have Through.
	After   int64  `json:"after"`
	Epoch   string `json:"epoch"`
	Resume  bool   `json:"resume"`
	Through int64  `json:"through"`
	// Stamped events carry the time at which they were made.
	Stamped bool `json:"stamped"`

	// missing[seq%window] is how many clients have yet to receive the event; the crowd's low is the last that all have.
	missing []atomic.Int32
}

// fanOrder is what the load process is told first.
type fanOrder struct {
	Address  string     `json:"address"`
	Groups   []fanGroup `json:"groups"`
	Parallel int        `json:"parallel"` // handshakes at a time; 0: all at once
	Buffer   int        `json:"buffer"`   // bytes that a client reads at a time
	// Window is how many events may be under way. 0: not known; then nothing is said of the slowest client. Only with one group.
	Window int `json:"window"`
}

// fanReport is a line that the load process writes.
type fanReport struct {
	Joined *fanJoined `json:"joined,omitempty"`
	// Progress is written whenever it has changed.
	Progress *fanProgress `json:"progress,omitempty"`
	Result   *fanResult   `json:"result,omitempty"`
}

type fanJoined struct {
	Clients int           `json:"clients"`
	Retries int           `json:"retries"`
	Took    time.Duration `json:"took"`
}

type fanProgress struct {
	Deliveries int64 `json:"deliveries"`
	Low        int64 `json:"low"`      // the last event that every client has
	CaughtUp   int64 `json:"caughtUp"` // clients
	Gone       int64 `json:"gone"`     // clients whose connection ended
}

// fanQuestion asks for the result of the events behind From, by group. Each event's time counts from its stamp and Shift, in µs,
// which lists the events in order; without a list from the stamp.
type fanQuestion struct {
	From  []int64   `json:"from"`
	Shift [][]int64 `json:"shift"`
}

type fanResult struct {
	Deliveries    int64         `json:"deliveries"` // of all events since the start
	Skipped       int64         `json:"skipped"`
	Repeated      int64         `json:"repeated"`
	P50, P99, Max time.Duration // from stamp and shift to receipt
	CatchUp50     time.Duration // from the connection's acknowledgement to the last missed event
	CatchUp99     time.Duration
	CatchUpMax    time.Duration
	AllCaughtUp   time.Duration // from the start of the first client to the last client's last missed event
	Gone          int64         // connections that ended by themselves
	Failures      []string      // why, some of them
	Bytes         int64         // of all events' texts
}

// fanCrowd is all clients of a load process.
type fanCrowd struct {
	address  string
	patience time.Duration
	groups   []*fanGroup
	window   int64
	clients  []*fanClient
	began    time.Time

	deliveries, low, caughtUp, gone atomic.Int64
	changed                         chan struct{} // one token: the progress has changed

	mu       sync.Mutex // guards what follows
	failures []string
}

func (c *fanCrowd) rouse() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// arrived counts one delivery.
func (g *fanGroup) arrived(c *fanCrowd, seq int64) {
	c.deliveries.Add(1)
	if c.window == 0 {
		return
	}
	left := &g.missing[seq%int64(len(g.missing))]
	if left.Add(-1) == 0 {
		left.Store(int32(g.Clients)) //nolint:gosec // clients of one process
		c.low.Store(seq)
		c.rouse()
	}
}

// runFanLoad is the load process: an order comes in, then questions; reports go out.
func runFanLoad(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	if err := parse(flags, args); err != nil {
		return err
	}
	return fanLoad(ctx, os.Stdin, out)
}

func fanLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	input := json.NewDecoder(bufio.NewReader(in))
	var order fanOrder
	if err := input.Decode(&order); err != nil {
		return fmt.Errorf("load order: %w", err)
	}
	crowd := newFanCrowd(order)
	reports := &fanReports{out: json.NewEncoder(out)}
	var listeners sync.WaitGroup
	defer listeners.Wait()
	defer crowd.leave()
	joined, err := crowd.join(ctx, order, &listeners)
	if err != nil {
		return err
	}
	reports.write(fanReport{Joined: joined})
	listeners.Go(func() { crowd.tell(ctx, reports) })
	defer cancel()
	for {
		var question fanQuestion
		if err := input.Decode(&question); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("load question: %w", err)
		}
		// What the clients' goroutines have noted is read when they have ended.
		cancel()
		crowd.leave()
		listeners.Wait()
		reports.write(fanReport{Result: crowd.result(question)})
	}
}

// fanReports writes reports, one a line.
type fanReports struct {
	mu  sync.Mutex // guards out
	out *json.Encoder
}

func (r *fanReports) write(report fanReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.out.Encode(report) // whoever does not read any more has no use for it
}

func newFanCrowd(order fanOrder) *fanCrowd {
	// A handshake may wait for its turn behind all others.
	const patience = time.Minute
	c := &fanCrowd{address: order.Address, patience: patience, window: int64(order.Window), changed: make(chan struct{}, 1)}
	for i := range order.Groups {
		g := &order.Groups[i]
		c.groups = append(c.groups, g)
		if order.Window > 0 {
			// Twice: a fast client is ahead of the slowest one by at most the window.
			g.missing = make([]atomic.Int32, 2*order.Window)
			for j := range g.missing {
				g.missing[j].Store(int32(g.Clients)) //nolint:gosec // clients of one process
			}
			c.low.Store(g.After)
		}
		for n := range g.Clients {
			c.clients = append(c.clients, &fanClient{
				crowd: c, group: g, token: g.Tokens[n%len(g.Tokens)], local: sourceAddress(len(c.clients)), buffer: make([]byte, order.Buffer),
			})
		}
	}
	return c
}

// join connects all clients; each is then listened to by a goroutine of its own.
func (c *fanCrowd) join(ctx context.Context, order fanOrder, listeners *sync.WaitGroup) (*fanJoined, error) {
	parallel := cmp.Or(order.Parallel, len(c.clients))
	turns := make(chan struct{}, parallel)
	errs := make(chan error, len(c.clients))
	c.began = time.Now()
	for _, client := range c.clients {
		turns <- struct{}{}
		listeners.Go(func() {
			err := client.join(ctx)
			<-turns
			errs <- err
			if err != nil {
				return
			}
			err = client.listen()
			if !client.leaving.Load() {
				c.fail(err)
			}
		})
	}
	var failed error
	for range c.clients {
		if err := <-errs; err != nil && failed == nil {
			failed = fmt.Errorf("a client could not connect: %w", err)
		}
	}
	joined := &fanJoined{Clients: len(c.clients), Took: time.Since(c.began)}
	if failed != nil {
		return nil, failed
	}
	for _, client := range c.clients {
		joined.Retries += client.retries
	}
	return joined, nil
}

func (c *fanCrowd) fail(err error) {
	const most = 5
	c.mu.Lock()
	if len(c.failures) < most {
		c.failures = append(c.failures, err.Error())
	}
	c.mu.Unlock()
	c.gone.Add(1)
	c.rouse()
}

// leave ends all connections.
func (c *fanCrowd) leave() {
	for _, client := range c.clients {
		if !client.leaving.Swap(true) && client.conn != nil {
			_ = client.conn.Close()
		}
	}
}

// tell writes the progress: at once when an event has reached all clients, and every 10 ms otherwise.
func (c *fanCrowd) tell(ctx context.Context, reports *fanReports) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	var told fanProgress
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-ticker.C:
		}
		now := fanProgress{Deliveries: c.deliveries.Load(), Low: c.low.Load(), CaughtUp: c.caughtUp.Load(), Gone: c.gone.Load()}
		if now != told {
			reports.write(fanReport{Progress: &now})
			told = now
		}
	}
}

// result sums up what the clients noted. Their goroutines have ended.
func (c *fanCrowd) result(question fanQuestion) *fanResult {
	r := &fanResult{Deliveries: c.deliveries.Load(), Gone: c.gone.Load(), Failures: c.failures}
	var latencies, catchUps []time.Duration
	of := map[*fanGroup]int{}
	for i, g := range c.groups {
		of[g] = i
	}
	for _, client := range c.clients {
		r.Skipped += client.skipped
		r.Repeated += client.repeated
		r.Bytes += client.bytes
		if !client.caughtUpAt.IsZero() {
			catchUps = append(catchUps, client.caughtUpAt.Sub(client.joinedAt))
			r.AllCaughtUp = max(r.AllCaughtUp, client.caughtUpAt.Sub(c.began))
		}
		if i := of[client.group]; i < len(question.From) {
			var shift []int64
			if i < len(question.Shift) {
				shift = question.Shift[i]
			}
			latencies = append(latencies, client.since(question.From[i], shift)...)
		}
	}
	slices.Sort(latencies)
	slices.Sort(catchUps)
	r.P50, r.P99, r.Max = percentile(latencies, 0.5), percentile(latencies, 0.99), percentile(latencies, 1)
	r.CatchUp50, r.CatchUp99, r.CatchUpMax = percentile(catchUps, 0.5), percentile(catchUps, 0.99), percentile(catchUps, 1)
	return r
}

// since returns the times of the events behind from, less their shifts. It is exact only for a client that skipped nothing.
func (c *fanClient) since(from int64, shift []int64) []time.Duration {
	begin := int(from - c.group.After)
	if begin < 0 || begin > len(c.latencies) {
		return nil
	}
	times := make([]time.Duration, 0, len(c.latencies)-begin)
	for i, micros := range c.latencies[begin:] {
		late := int64(micros)
		if i < len(shift) {
			late -= shift[i]
		}
		times = append(times, time.Duration(late)*time.Microsecond)
	}
	return times
}
