package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// inbounds measures how fast messages get from the simulator into the database and onto Redis: as many as go, and then
// as they come at a rate. Beside it, in turns, the floor.
func (b *workersBench) inbounds(ctx context.Context, out io.Writer) error {
	for _, bots := range []int{b.bots, 1} {
		if err := b.inboundOf(ctx, out, bots); err != nil {
			return fmt.Errorf("with %d: %w", bots, err)
		}
	}
	return nil
}

func (b *workersBench) inboundOf(ctx context.Context, out io.Writer, bots int) error {
	_, _ = fmt.Fprintf(out, "inbound, bots: %d; %d messages as fast as they go, then %d messages/s for %s\n\n", bots, b.messages, b.rate, b.paced)
	t := newTable(out, "round", "who", "messages/s", "CPU ms per message", "at the rate: p50 ms", "p99 ms")
	rates := map[string][]float64{}
	for round := range b.rounds {
		for _, who := range []string{ours, floor} {
			turn, err := b.inbound(ctx, who, bots)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", who, round+1, err)
			}
			rates[who] = append(rates[who], turn.perSecond)
			t.row(strconv.Itoa(round+1), who, fmt.Sprintf("%.0f", turn.perSecond), fmt.Sprintf("%.3f", turn.cpu*1e3),
				fmt.Sprintf("%.1f", milliseconds(turn.p50)), fmt.Sprintf("%.1f", milliseconds(turn.p99)))
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nmedians of %d rounds; every message was stored and published once\n", b.rounds)
	goalAtLeast(out, "committed and published", median(rates[ours]), " messages/s", 1000)
	_, _ = fmt.Fprintf(out, "of the floor's rate: %.2f\n\n", median(rates[ours])/median(rates[floor]))
	return nil
}

// inboundTurn is one measurement of one contender.
type inboundTurn struct {
	perSecond float64
	cpu       float64 // seconds of its process for a message
	p50, p99  time.Duration
}

func (b *workersBench) inbound(ctx context.Context, who string, bots int) (turn inboundTurn, err error) {
	h, err := b.newHouse(ctx, bots)
	if err != nil {
		return turn, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.addBots(ctx); err != nil {
		return turn, err
	}
	seen, err := observe(ctx, b.redisURL)
	if err != nil {
		return turn, err
	}
	defer func() { err = errors.Join(err, seen.close()) }()
	w, err := h.startContender(ctx, who)
	if err != nil {
		return turn, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	if who == ours {
		if err := h.connected(ctx); err != nil {
			return turn, err
		}
	}
	written := h.chatCount() // one each, so that every chat is there
	if err := h.write(0, written); err != nil {
		return turn, err
	}
	if err := seen.until(ctx, written); err != nil {
		return turn, err
	}
	if turn.perSecond, turn.cpu, err = h.burst(ctx, w, seen, written); err != nil {
		return turn, err
	}
	written += b.messages
	total, err := h.pace(ctx, written)
	if err != nil {
		return turn, err
	}
	if err := seen.until(ctx, total); err != nil {
		return turn, err
	}
	turn.p50, turn.p99 = seen.latency(written)
	return turn, h.storedOnce(ctx, who, total)
}

func (h *house) startContender(ctx context.Context, who string) (*fanServer, error) {
	if who == floor {
		return h.startFloor()
	}
	return h.startWorker(ctx, "worker", "127.0.0.1")
}

// burst lets customers write as fast as the simulator takes it, and times it all up to the last publication.
func (h *house) burst(ctx context.Context, w *fanServer, seen *observer, written int) (perSecond, cpuEach float64, err error) {
	used, err := w.cpu()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := h.write(written, h.b.messages); err != nil {
		return 0, 0, err
	}
	if err := seen.until(ctx, written+h.b.messages); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	now, err := w.cpu()
	n := float64(h.b.messages)
	return n / took.Seconds(), (now - used).Seconds() / n, err
}

// storedOnce makes sure that there are as many messages as were written; of ours as many events of them, too.
func (h *house) storedOnce(ctx context.Context, who string, total int) error {
	if who == floor {
		return h.until(ctx, "each message once", "SELECT COUNT(*) FROM floor_messages", total)
	}
	return errors.Join(
		h.until(ctx, "each message once", "SELECT COUNT(*) FROM messages WHERE NOT from_me", total),
		h.until(ctx, "each event once", "SELECT COUNT(*) FROM events WHERE name = 'message:new'", total),
	)
}
