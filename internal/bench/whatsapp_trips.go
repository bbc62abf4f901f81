package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"switchboard/internal/domain"
)

var messageNew = []byte(`42["` + domain.EventMessageNew + `"`)

func isMessage(text []byte) bool { return bytes.HasPrefix(text, messageNew) }

// trips counts how often the worker waits for PostgreSQL for one message in a known chat: the worker is replaced by one
// that is wiretapped. Messages come one at a time; what it does by itself meanwhile (leases, the outbox) happens less often
// than once a message, and is told apart by that.
func (m *mail) trips(ctx context.Context, out io.Writer) (err error) {
	wire, through, err := tap(m.database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wire.close()) }()
	if err := m.worker.stop(); err != nil {
		return err
	}
	// Its own looks at the database are rare.
	w, err := m.startWorker(ctx, "tapped", "DATABASE_URL="+through, "LEASE_TTL=5m", "DATABASE_MAX_CONNS=2")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	m.worker = w
	if err := m.connected(ctx); err != nil {
		return err
	}
	one := func(n int) error {
		for range n {
			// Always the same chat of the first number.
			if err := m.write(m.numbers, m.people()*len(m.numbers)*(m.written+1), 1); err != nil {
				return err
			}
			m.written++
			if err := m.delivered(ctx); err != nil {
				return w.failed(err)
			}
		}
		return nil
	}
	const warmUp, counted = 10, 40
	if err := one(warmUp); err != nil {
		return err
	}
	wire.reset()
	if err := one(counted); err != nil {
		return err
	}
	waits, statements := wire.seen()
	_, _ = fmt.Fprintf(out, "trips: what the worker asks of PostgreSQL for each of %d messages that come one at a time in a known chat\n\n", counted)
	t := newTable(out, "times a message", "statement")
	total := 0.0
	var transactions float64
	counts := map[string]int{}
	var order []string
	for _, s := range statements {
		if counts[s]++; counts[s] == 1 {
			order = append(order, s)
		}
	}
	for _, s := range order {
		each := math.Round(float64(counts[s])/counted*10) / 10
		if each < 0.9 {
			continue
		}
		total += each
		if strings.EqualFold(s, "commit") {
			transactions += each
		}
		t.row(fmt.Sprintf("%.1f", each), brief(s))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\na message: %.1f round trips with the worker's own work meanwhile, %.1f statements, %.1f commits\n\n",
		float64(waits)/counted, total, transactions)
	return nil
}

// brief is a statement in a line.
func brief(statement string) string {
	const most = 110
	words := strings.Join(strings.Fields(statement), " ")
	if runes := []rune(words); len(runes) > most {
		return string(slices.Concat(runes[:most], []rune("…")))
	}
	return words
}
