package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"switchboard/internal/simulator/telegram"
)

// What the two workers of takeover call the simulator, by which their polls are told apart.
const (
	mortalHost   = "127.0.0.1"
	survivorHost = "localhost"
)

// takeovers measures how long bots are without a poller after their worker was killed, or asked to end, while another
// one, with as many bots, lives.
func (b *workersBench) takeovers(ctx context.Context, out io.Writer) error {
	_, _ = fmt.Fprintf(out, "takeover: two workers of %d bots each, LEASE_TTL %s; from one's end to the last of its bots' first poll by the other\n\n",
		b.bots, b.leaseTTL)
	t := newTable(out, "round", "kill -9 s", "SIGTERM s", "two pollers at once")
	var killed, ended []float64
	overlaps := 0
	for round := range b.rounds {
		kill, met, err := b.takeover(ctx, syscall.SIGKILL)
		if err != nil {
			return fmt.Errorf("kill -9, round %d: %w", round+1, err)
		}
		end, metToo, err := b.takeover(ctx, syscall.SIGTERM)
		if err != nil {
			return fmt.Errorf("SIGTERM, round %d: %w", round+1, err)
		}
		killed, ended, overlaps = append(killed, kill.Seconds()), append(ended, end.Seconds()), overlaps+met+metToo
		t.row(strconv.Itoa(round+1), fmt.Sprintf("%.2f", kill.Seconds()), fmt.Sprintf("%.2f", end.Seconds()), strconv.Itoa(met+metToo))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nslowest of %d rounds\n", b.rounds)
	goal(out, "take-over after kill -9", slices.Max(killed), " s", b.leaseTTL.Seconds()+3, "")
	goal(out, "take-over after SIGTERM", slices.Max(ended), " s", 2, "")
	goal(out, "polls of one bot at once", float64(overlaps), "", 0, "")
	return nil
}

func (b *workersBench) takeover(ctx context.Context, signal syscall.Signal) (took time.Duration, overlaps int, err error) {
	h, err := b.newHouse(ctx, 2*b.bots)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	ttl := "LEASE_TTL=" + b.leaseTTL.String()
	mortal, err := h.startWorker(ctx, "mortal", mortalHost, ttl)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = mortal.stop() }() // it has ended, one way or the other
	survivor, err := h.startWorker(ctx, "survivor", survivorHost, ttl)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, survivor.stop()) }()
	if err := h.addBots(ctx); err != nil {
		return 0, 0, err
	}
	if err := h.connected(ctx); err != nil {
		return 0, 0, err
	}
	if err := h.until(ctx, "an even share", "SELECT COUNT(*) FROM leases WHERE worker_id LIKE 'mortal#%'", b.bots); err != nil {
		return 0, 0, err
	}
	bots, err := h.botsOf(ctx, "mortal")
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := mortal.cmd.Process.Signal(signal); err != nil {
		return 0, 0, err
	}
	last, err := h.takenOver(ctx, bots, began)
	return last.Sub(began), len(h.telegram.Ledger().Overlaps(0)), err
}

// botsOf are the bots whose channels a worker has leased.
func (h *house) botsOf(ctx context.Context, worker string) (bots []int64, err error) {
	rows, err := h.db.QueryContext(ctx, "SELECT channel_id FROM leases WHERE split_part(worker_id, '#', 1) = $1", worker)
	if err != nil {
		return nil, fmt.Errorf("list the leases: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var channel int64
		if err := rows.Scan(&channel); err != nil {
			return nil, err
		}
		bots = append(bots, h.bots[channel])
	}
	return bots, rows.Err()
}

// takenOver waits until the survivor has polled all these bots since a moment, and returns when it first polled the last.
func (h *house) takenOver(ctx context.Context, bots []int64, since time.Time) (last time.Time, err error) {
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var first map[int64]time.Time
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		first = firstPolls(h.telegram.Ledger().Polls(0), survivorHost, bots, since)
		if len(first) == len(bots) {
			break
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("%d of %d bots were taken over within %s", len(first), len(bots), patience)
		case <-ticker.C:
		}
	}
	for _, at := range first {
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}

// firstPolls is when each of the bots was first polled by who calls the simulator so, since a moment.
func firstPolls(polls []telegram.LongPoll, host string, bots []int64, since time.Time) map[int64]time.Time {
	first := map[int64]time.Time{}
	for _, p := range polls {
		if !strings.HasPrefix(p.Host, host+":") || p.Start.Before(since) || !slices.Contains(bots, p.Bot) {
			continue
		}
		if at, known := first[p.Bot]; !known || p.Start.Before(at) {
			first[p.Bot] = p.Start
		}
	}
	return first
}
