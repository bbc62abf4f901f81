package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// takeoverNumbers measures how long numbers are without a connection after their worker was killed, or asked to end,
// while another one, with as many numbers, lives.
func (b *whatsappBench) takeoverNumbers(ctx context.Context, out io.Writer) (err error) {
	_, _ = fmt.Fprintf(out, "takeover: two workers of %d numbers each, LEASE_TTL %s; from one's end to the last of its numbers' login by the other\n\n",
		b.mortal, b.leaseTTL)
	h, err := b.newNumbersHouse(ctx, 2*b.mortal, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	survivor, err := h.startWorker(ctx, "survivor", "LEASE_TTL="+b.leaseTTL.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, survivor.stop()) }()
	if err := h.link(ctx); err != nil {
		return survivor.failed(err)
	}
	t := newTable(out, "round", "kill -9 s", "SIGTERM s", "two connections at once")
	took := map[syscall.Signal][]float64{}
	for round := range b.rounds {
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			d, err := h.takeover(ctx, signal)
			if err != nil {
				return survivor.failed(fmt.Errorf("%s, round %d: %w", signal, round+1, err))
			}
			took[signal] = append(took[signal], d.Seconds())
		}
		t.row(strconv.Itoa(round+1), fmt.Sprintf("%.2f", took[syscall.SIGKILL][round]), fmt.Sprintf("%.2f", took[syscall.SIGTERM][round]),
			strconv.Itoa(len(h.sim.Ledger().Overlaps(""))))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nmedians (lowest … highest): kill -9 %s s, SIGTERM %s s; slowest of %d rounds:\n",
		spread(took[syscall.SIGKILL], "%.2f"), spread(took[syscall.SIGTERM], "%.2f"), b.rounds)
	goal(out, "take-over after kill -9", slices.Max(took[syscall.SIGKILL]), " s", b.leaseTTL.Seconds()+3, "")
	goal(out, "take-over after SIGTERM", slices.Max(took[syscall.SIGTERM]), " s", 2, "")
	goal(out, "two connections of one number at once", float64(len(h.sim.Ledger().Overlaps(""))), "", 0, "")
	return nil
}

// takeover lets a second worker have half of the numbers, ends it, and tells how long the last of them was away.
func (h *numbersHouse) takeover(ctx context.Context, signal syscall.Signal) (took time.Duration, err error) {
	mortal, err := h.startWorker(ctx, "mortal", "LEASE_TTL="+h.bench.leaseTTL.String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = mortal.stop() }() // it has ended, one way or the other
	channels, err := h.evenShare(ctx, "mortal")
	if err != nil {
		return 0, mortal.failed(err)
	}
	// All are connected, and nothing of the move is left.
	if _, err := h.online(ctx, h.numbers, time.Time{}); err != nil {
		return 0, err
	}
	if err := errors.Join(h.connected(ctx), h.delivered(ctx)); err != nil {
		return 0, err
	}
	var theirs []string
	for _, channel := range channels {
		theirs = append(theirs, h.channels[channel])
	}
	began := time.Now()
	if err := mortal.cmd.Process.Signal(signal); err != nil {
		return 0, err
	}
	last, err := h.online(ctx, theirs, began)
	if err != nil {
		return 0, err
	}
	return last.Sub(began), h.until(ctx, "the survivor's leases", "SELECT COUNT(*) FROM leases WHERE worker_id LIKE 'survivor#%'", len(h.numbers))
}

// evenShare waits until a worker has half of the channels, and no more of them move, and returns them.
func (h *numbersHouse) evenShare(ctx context.Context, worker string) ([]int64, error) {
	const patience, look = 2 * time.Minute, 100 * time.Millisecond
	quiet := min(4*time.Second, h.bench.leaseTTL*2/5) // more than one of their looks at who has what
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var last []int64
	for since := time.Now(); ; {
		now, err := column(ctx, h.db, "SELECT channel_id FROM leases WHERE split_part(worker_id, '#', 1) = $1 ORDER BY channel_id", worker)
		switch {
		case err == nil && !slices.Equal(now, last):
			last, since = now, time.Now()
		case err == nil && len(last) == h.bench.mortal && time.Since(since) > quiet:
			return last, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("after %s worker %s has %d channels, not %d", patience, worker, len(last), h.bench.mortal), err)
		case <-ticker.C:
		}
	}
}
