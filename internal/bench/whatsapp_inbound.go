package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"switchboard/internal/simulator/whatsapp"
)

// busyNumbers measures messages that come in: as many as go, beside bare clients; what one takes of the database; and
// how soon they are at the sockets.
func (b *whatsappBench) busyNumbers(ctx context.Context, out io.Writer) (err error) {
	h, err := b.newNumbersHouse(ctx, b.writers, b.writers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	w, err := h.startWorker(ctx, "worker")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	if err := h.link(ctx); err != nil {
		return w.failed(err)
	}
	seen, err := observe(ctx, b.base.redisURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, seen.close()) }()
	for n := range h.people() {
		if _, err := h.sim.AddPerson(whatsapp.Person{Number: person(n), Name: fmt.Sprint("Customer ", n)}); err != nil {
			return err
		}
	}
	m := &mail{numbersHouse: h, worker: w, seen: seen}
	if err := m.openChats(ctx); err != nil {
		return err
	}
	if b.has(partInbound) {
		if err := m.inbounds(ctx, out); err != nil {
			return fmt.Errorf("%s: %w", partInbound, err)
		}
	}
	if b.has(partLatency) {
		if err := m.latencies(ctx, out); err != nil {
			return fmt.Errorf("%s: %w", partLatency, err)
		}
	}
	if b.has(partTrips) {
		if err := m.trips(ctx, out); err != nil {
			return fmt.Errorf("%s: %w", partTrips, err)
		}
	}
	return errors.Join(m.right(ctx), h.oneSession())
}

// mail is what people write in an installation.
type mail struct {
	*numbersHouse

	worker  *fanServer
	seen    *observer
	written int // to our numbers
}

// people is how many people write to each number, so that there are at least fewestChats chats.
func (h *numbersHouse) people() int { return (fewestChats + len(h.numbers) - 1) / len(h.numbers) }

// write lets people write n messages to the numbers, in all chats in turn.
func (h *numbersHouse) write(numbers []string, first, n int) error {
	for i := first; i < first+n; i++ {
		chat := i % (h.people() * len(numbers))
		text := fmt.Sprintf("bench-%d-%d; a message of an ordinary length, as people write them", i, time.Now().UnixNano())
		_, err := h.sim.Send(numbers[chat%len(numbers)], whatsapp.Incoming{From: person(chat / len(numbers)), Text: text})
		if err != nil {
			return err
		}
	}
	return nil
}

// send writes to our numbers.
func (m *mail) send(n int) error {
	err := m.write(m.numbers, m.written, n)
	m.written += n
	return err
}

// openChats makes every chat, with its keys, contact and picture.
func (m *mail) openChats(ctx context.Context) error {
	if err := m.send(m.people() * len(m.numbers)); err != nil {
		return err
	}
	if err := m.seen.until(ctx, m.written); err != nil {
		return m.worker.failed(err)
	}
	return m.delivered(ctx)
}

// inbounds lets people write as fast as the simulator takes it, to the worker and to bare clients in turns.
func (m *mail) inbounds(ctx context.Context, out io.Writer) (err error) {
	b := m.bench
	_, _ = fmt.Fprintf(out, "inbound: %d numbers of %d organizations, %d chats; %d messages as fast as they go\n\n",
		len(m.numbers), len(m.orgs), m.people()*len(m.numbers), b.messages)
	bare, err := m.newBareHouse(ctx, b.writers)
	if err != nil {
		return err
	}
	peer, err := bare.start(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()
	if err := peer.ready(ctx); err != nil {
		return err
	}
	first := m.people() * len(bare.numbers)
	if err := errors.Join(m.write(bare.numbers, 0, first), m.delivered(ctx)); err != nil {
		return err
	}
	t := newTable(out, "round", "who", "messages/s", "CPU ms per message", "PostgreSQL's", "the simulator's")
	rates := map[string][]float64{}
	for round := range b.rounds {
		for _, who := range []string{ours, bareName} {
			var turn inboundBurst
			if who == ours {
				err = b.profiled(m.worker, func() error {
					turn, err = m.burst(ctx, m.worker, func() error { return m.send(b.messages) }, func() error { return m.seen.until(ctx, m.written) })
					return err
				})
			} else {
				turn, err = m.burst(ctx, peer, func() error { return m.write(bare.numbers, first, b.messages) }, func() error { return m.delivered(ctx) })
				first += b.messages
			}
			if err == nil {
				err = m.delivered(ctx)
			}
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", who, round+1, err)
			}
			rates[who] = append(rates[who], turn.perSecond)
			t.row(strconv.Itoa(round+1), who, fmt.Sprintf("%.0f", turn.perSecond), fmt.Sprintf("%.3f", turn.cpu*1e3),
				fmt.Sprintf("%.3f", turn.database*1e3), fmt.Sprintf("%.3f", turn.simulator*1e3))
		}
	}
	if err := errors.Join(t.flush(), m.right(ctx)); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nmedians of %d rounds (lowest … highest): %s %s, %s %s; every message was stored and published once, and in order\n",
		b.rounds, ours, spread(rates[ours], "%.0f"), bareName, spread(rates[bareName], "%.0f"))
	goalAtLeast(out, "committed and emitted", median(rates[ours]), " messages/s", 500)
	_, _ = fmt.Fprintf(out, "of the bare clients' rate: %.2f\n\n", median(rates[ours])/median(rates[bareName]))
	return nil
}

// inboundBurst is one turn.
type inboundBurst struct {
	perSecond                float64
	cpu, database, simulator float64 // seconds for a message
}

func (m *mail) burst(ctx context.Context, s *fanServer, write, arrived func() error) (turn inboundBurst, err error) {
	used, err := s.cpu()
	if err != nil {
		return turn, err
	}
	database, err := databaseCPU(ctx, m.db)
	if err != nil {
		return turn, err
	}
	own, began := cpuTime(), time.Now()
	if err := write(); err != nil {
		return turn, err
	}
	if err := arrived(); err != nil {
		return turn, s.failed(err)
	}
	took, ownNow := time.Since(began), cpuTime()
	now, err := s.cpu()
	if err != nil {
		return turn, err
	}
	databaseNow, err := databaseCPU(ctx, m.db)
	n := float64(m.bench.messages)
	return inboundBurst{
		perSecond: n / took.Seconds(), cpu: (now - used).Seconds() / n, database: (databaseNow - database).Seconds() / n,
		simulator: (ownNow - own).Seconds() / n,
	}, err
}

// right makes sure that every message is stored and logged once, in the order of each chat, and that WhatsApp had to
// deliver none again.
func (m *mail) right(ctx context.Context) error {
	const disorder = `SELECT COUNT(*) FROM (SELECT n, LAG(n) OVER (PARTITION BY chat ORDER BY at) AS before FROM (%s) s) t WHERE before >= n`
	const number = `substring(%s from '^bench-(\d+)-')::bigint AS n`
	messages := fmt.Sprintf("SELECT chat_id AS chat, id AS at, "+number+" FROM messages WHERE NOT from_me", "content")
	events := fmt.Sprintf("SELECT data::json->>'chatId' AS chat, seq AS at, "+number+" FROM events WHERE name = 'message:new'", "data::json->>'content'")
	if counts := m.sim.Ledger().Counts(); counts.Lost > 0 || counts.Again > 0 {
		return fmt.Errorf("WhatsApp lost %d messages and delivered %d again", counts.Lost, counts.Again)
	}
	return errors.Join(
		m.until(ctx, "each message once", "SELECT COUNT(*) FROM messages WHERE NOT from_me", m.written),
		m.until(ctx, "each event once", "SELECT COUNT(*) FROM events WHERE name = 'message:new'", m.written),
		m.until(ctx, "messages in order", fmt.Sprintf(disorder, messages), 0),
		m.until(ctx, "events in order", fmt.Sprintf(disorder, events), 0),
	)
}
