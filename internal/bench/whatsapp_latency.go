package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"
)

// latencies measures how long events take from the commit to a socket, at a rate.
func (m *mail) latencies(ctx context.Context, out io.Writer) error {
	b := m.bench
	_, _ = fmt.Fprintf(out, "latency: %d messages/s over %d numbers for %s; an admin of each organization listens\n\n", b.rate, len(m.numbers), b.paced)
	t := newTable(out, "round", "messages", "commit to socket: p50 ms", "p99 ms", "max ms", "written to socket: p50 ms", "p99 ms")
	var p50, p99, rates []float64
	for round := range b.rounds {
		turn, err := m.latency(ctx)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		p50, p99 = append(p50, milliseconds(turn.p50)), append(p99, milliseconds(turn.p99))
		rates = append(rates, turn.rate)
		t.row(strconv.Itoa(round+1), strconv.Itoa(turn.messages), fmt.Sprintf("%.1f", milliseconds(turn.p50)), fmt.Sprintf("%.1f", milliseconds(turn.p99)),
			fmt.Sprintf("%.1f", milliseconds(turn.max)), fmt.Sprintf("%.1f", milliseconds(turn.whole50)), fmt.Sprintf("%.1f", milliseconds(turn.whole99)))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nmedians (lowest … highest): p50 %s ms, p99 %s ms; nothing was lost, doubled or out of order\n", spread(p50, "%.1f"), spread(p99, "%.1f"))
	goal(out, "p99 from commit to socket", median(p99), " ms", 50, tooSlow(slices.Min(rates), float64(b.rate)))
	_, _ = fmt.Fprintln(out)
	return nil
}

// pacedTurn is one round.
type pacedTurn struct {
	messages         int
	rate             float64       // messages a second that were written
	p50, p99, max    time.Duration // from the commit
	whole50, whole99 time.Duration // from the person's message
}

func (m *mail) latency(ctx context.Context) (turn pacedTurn, err error) {
	var ears []*ear
	defer func() {
		for _, e := range ears {
			err = errors.Join(err, e.close())
		}
	}()
	for i, org := range m.orgs {
		e, err := m.listen(ctx, org, m.admins[i])
		if err != nil {
			return turn, err
		}
		ears = append(ears, e)
	}
	before, began := m.written, time.Now()
	err = onSchedule(ctx, float64(m.bench.rate), m.bench.paced, func() error { return m.send(1) })
	if err != nil {
		return turn, err
	}
	turn.messages = m.written - before
	turn.rate = float64(turn.messages) / time.Since(began).Seconds()
	if err := m.seen.until(ctx, m.written); err != nil {
		return turn, err
	}
	var since []time.Duration
	for i, e := range ears {
		took, err := m.since(ctx, m.orgs[i], e)
		if err != nil {
			return turn, err
		}
		since = append(since, took...)
	}
	if len(since) != turn.messages {
		return turn, fmt.Errorf("%d messages were written, and %d came to the sockets", turn.messages, len(since))
	}
	slices.Sort(since)
	turn.p50, turn.p99, turn.max = percentile(since, 0.5), percentile(since, 0.99), percentile(since, 1)
	turn.whole50, turn.whole99 = wholeWay(ears)
	return turn, m.delivered(ctx)
}

// since tells how long after its commit each new message came to the socket. PostgreSQL notes the time of a commit
// before it writes it to the disk: that is in it.
func (m *mail) since(ctx context.Context, org int64, e *ear) (took []time.Duration, err error) {
	head, err := column(ctx, m.db, "SELECT seq FROM event_heads WHERE organization_id = $1", org)
	if err != nil {
		return nil, err
	}
	arrived, err := e.until(ctx, head[0])
	if err != nil {
		return nil, err
	}
	const committed = `SELECT seq, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM events
		WHERE organization_id = $1 AND seq > $2 AND name = 'message:new'`
	rows, err := m.db.QueryContext(ctx, committed, org, e.after)
	if err != nil {
		return nil, fmt.Errorf("ask for the commits' times: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var seq, micros int64
		if err := rows.Scan(&seq, &micros); err != nil {
			return nil, err
		}
		took = append(took, arrived[seq-e.after-1].Sub(time.UnixMicro(micros)))
	}
	return took, rows.Err()
}

// ear is a client of an organization that notes when each event arrives.
type ear struct {
	client *fanClient
	after  int64 // the last event that it does not expect
	done   chan struct{}

	mu      sync.Mutex // guards what follows
	arrived []time.Time
	whole   []time.Duration // since the time in a message's text
	failed  error
}

func (m *mail) listen(ctx context.Context, org int64, token string) (*ear, error) {
	head, err := column(ctx, m.db, "SELECT seq FROM event_heads WHERE organization_id = $1", org)
	if err != nil {
		return nil, err
	}
	const patience = 30 * time.Second
	e := &ear{after: head[0], done: make(chan struct{})}
	e.client = &fanClient{
		crowd: &fanCrowd{address: m.api.address, patience: patience, changed: make(chan struct{}, 1)}, group: &fanGroup{After: head[0]},
		token: token, buffer: make([]byte, 64<<10),
	}
	if err := e.client.join(ctx); err != nil {
		return nil, fmt.Errorf("connect a socket: %w", err)
	}
	go func() {
		defer close(e.done)
		err := e.hear()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.failed = err
	}()
	return e, nil
}

// hear takes what the server sends until the connection ends.
func (e *ear) hear() error {
	c := e.client
	for {
		now := time.Now()
		for taken := 0; ; {
			frame, size, err := nextFrame(c.buffer[taken:c.filled])
			if err != nil {
				return err
			}
			if size == 0 {
				c.filled = copy(c.buffer, c.buffer[taken:c.filled])
				break
			}
			taken += size
			switch {
			case frame.opcode == opPing:
				_, err = c.conn.Write(clientFrame(opPong, frame.payload))
			case frame.opcode == opText && string(frame.payload) == "2":
				_, err = c.conn.Write(enginePong)
			case frame.opcode == opText:
				err = e.note(frame.payload, now)
			}
			if err != nil {
				return err
			}
		}
		if err := c.read(); err != nil {
			return err
		}
	}
}

// note takes one event, which must be the next of the log. What is not of the log has no seq.
func (e *ear) note(text []byte, now time.Time) error {
	seq, found := readSeq(text)
	if !found {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if next := e.after + int64(len(e.arrived)) + 1; seq != next {
		return fmt.Errorf("event %d came, and %d was the next one", seq, next)
	}
	e.arrived = append(e.arrived, now)
	if found := stamped.FindSubmatch(text); found != nil && isMessage(text) {
		if at, err := strconv.ParseInt(string(found[2]), 10, 64); err == nil {
			e.whole = append(e.whole, now.Sub(time.Unix(0, at)))
		}
	}
	return nil
}

// until waits until an event has arrived, and returns when all of them did.
func (e *ear) until(ctx context.Context, seq int64) ([]time.Time, error) {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		e.mu.Lock()
		arrived, failed := slices.Clone(e.arrived), e.failed
		e.mu.Unlock()
		if failed != nil {
			return nil, fmt.Errorf("a socket ended: %w", failed)
		}
		if e.after+int64(len(arrived)) >= seq {
			return arrived, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("event %d did not come within %s; the last was %d", seq, patience, e.after+int64(len(arrived)))
		case <-ticker.C:
		}
	}
}

func (e *ear) close() error {
	err := e.client.conn.Close()
	<-e.done
	return err
}

func wholeWay(ears []*ear) (p50, p99 time.Duration) {
	var took []time.Duration
	for _, e := range ears {
		e.mu.Lock()
		took = append(took, e.whole...)
		e.mu.Unlock()
	}
	slices.Sort(took)
	return percentile(took, 0.5), percentile(took, 0.99)
}
