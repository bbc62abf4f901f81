package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// idleWorker measures what bots cost to which nobody writes: a worker without channels, then the same one with all.
func (b *workersBench) idleWorker(ctx context.Context, out io.Writer) (err error) {
	_, _ = fmt.Fprintf(out, "idle: one worker, %d bots to which nobody writes; CPU over %s, then memory at rest\n\n", b.bots, b.idle)
	h, err := b.newHouse(ctx, b.bots)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	w, err := h.startWorker(ctx, "worker", "127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	before, err := b.watch(ctx, w)
	if err != nil {
		return err
	}
	if err := h.addBots(ctx); err != nil {
		return err
	}
	if err := h.connected(ctx); err != nil {
		return err
	}
	after, err := b.watch(ctx, w)
	if err != nil {
		return err
	}
	if open := h.telegram.Ledger().OpenPolls(0); open == 0 {
		return errors.New("no bot is polled")
	}
	t := newTable(out, "bots", "CPU of a core %", "RSS MB", "heap in use MB", "goroutines", "at rest")
	t.row(append([]string{"0"}, before.cells()...)...)
	t.row(append([]string{strconv.Itoa(b.bots)}, after.cells()...)...)
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	unsettled := ""
	if !before.settled || !after.settled {
		unsettled = fmt.Sprintf("the worker had not come to rest after %s; -settle gives it longer", b.settle)
	}
	goal(out, "idle CPU", after.cpu*100, "% of a core", 5, "")
	goal(out, "RSS per bot", (after.rss-before.rss)/float64(b.bots)/1e6, " MB", 0.15, unsettled)
	return nil
}

// watched is what a worker uses.
type watched struct {
	cpu        float64 // cores
	rss, heap  float64 // bytes
	goroutines float64
	settled    bool // the memory came to rest in time
}

func (w watched) cells() []string {
	return []string{
		fmt.Sprintf("%.2f", w.cpu*100), fmt.Sprintf("%.1f", w.rss/1e6), fmt.Sprintf("%.1f", w.heap/1e6), fmt.Sprintf("%.0f", w.goroutines),
		strconv.FormatBool(w.settled),
	}
}

// watch takes a worker's CPU time over the time that -idle says, after a third of it in which the worker may come to rest.
// Its metrics are read only after that: nobody but Telegram speaks to it meanwhile. Then it waits for the memory to settle.
func (b *workersBench) watch(ctx context.Context, w *fanServer) (seen watched, err error) {
	if err := wait(ctx, b.idle/3); err != nil {
		return seen, err
	}
	began := time.Now()
	used, err := w.cpu()
	if err != nil {
		return seen, err
	}
	if err := wait(ctx, b.idle); err != nil {
		return seen, err
	}
	now, err := w.cpu()
	if err != nil {
		return seen, err
	}
	seen.cpu = (now - used).Seconds() / time.Since(began).Seconds()
	if seen.rss, seen.settled, err = w.atRest(ctx, b.settle, true); err != nil {
		return seen, err
	}
	samples, err := scrape(ctx, w.address)
	seen.heap, seen.goroutines = samples["go_memstats_heap_inuse_bytes"], samples["go_goroutines"]
	return seen, err
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
