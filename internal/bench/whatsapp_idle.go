package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"
)

// quietNumbers measures what linked numbers cost to which nobody writes, and how soon they are back after a restart.
func (b *whatsappBench) quietNumbers(ctx context.Context, out io.Writer) (err error) {
	h, err := b.newNumbersHouse(ctx, b.numbers, b.numbers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	bare, err := h.newBareHouse(ctx, b.numbers)
	if err != nil {
		return err
	}
	w, err := h.startWorker(ctx, "worker")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	var empty, full [2]watched
	if b.has(partIdle) {
		_, _ = fmt.Fprintf(out, "idle: one worker, %d linked numbers to which nobody writes; CPU over %s, then memory at rest\n\n", b.numbers, b.idle)
		if empty, err = b.watchBoth(ctx, w, bare, false); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := h.link(ctx); err != nil {
		return w.failed(err)
	}
	_, _ = fmt.Fprintf(out, "%d numbers were linked by QR code in %.0f s, %d at a time\n\n", b.numbers, time.Since(began).Seconds(), b.parallel)
	rounds := 1 // linking leaves garbage behind: what numbers take is measured in a process that found them linked
	if b.has(partRestart) {
		rounds = b.rounds
	}
	if w, err = h.restarts(ctx, out, w, rounds); err != nil {
		return err
	}
	if !b.has(partIdle) {
		return h.oneSession()
	}
	if full, err = b.watchBoth(ctx, w, bare, true); err != nil {
		return err
	}
	return errors.Join(h.idleFigures(out, empty, full), h.oneSession())
}

// watchBoth watches a worker and bare clients at the same time: both do next to nothing.
func (b *whatsappBench) watchBoth(ctx context.Context, w *fanServer, bare *bareHouse, connect bool) (seen [2]watched, err error) {
	peer, err := bare.start(connect)
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()
	if err := peer.ready(ctx); err != nil {
		return seen, err
	}
	watcher := &workersBench{workersOptions: workersOptions{idle: b.idle, settle: b.settle}}
	var wg sync.WaitGroup
	var errs [2]error
	for i, s := range []*fanServer{w, peer} {
		wg.Go(func() { seen[i], errs[i] = watcher.watch(ctx, s) })
	}
	wg.Wait()
	wanted := 0
	if connect {
		wanted = len(bare.h.numbers) + len(bare.numbers)
	}
	if open := len(bare.h.sim.Ledger().Sessions("")); open != wanted {
		errs[0] = errors.Join(errs[0], fmt.Errorf("%d connections are open, not %d", open, wanted))
	}
	return seen, errors.Join(errs[:]...)
}

func (h *numbersHouse) idleFigures(out io.Writer, empty, full [2]watched) error {
	b, n := h.bench, float64(h.bench.numbers)
	t := newTable(out, "who", "numbers", "CPU of a core %", "RSS MB", "heap in use MB", "goroutines", "at rest")
	for i, who := range []string{ours, bareName} {
		t.row(append([]string{who, "0"}, empty[i].cells()...)...)
		t.row(append([]string{who, strconv.Itoa(b.numbers)}, full[i].cells()...)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	memory := func(i int) float64 { return (full[i].rss - empty[i].rss) / n / 1e6 }
	threads := func(i int) float64 { return math.Round((full[i].goroutines-empty[i].goroutines)/n*100) / 100 }
	unsettled := ""
	for i := range 2 {
		if !empty[i].settled || !full[i].settled {
			unsettled = fmt.Sprintf("a process had not come to rest after %s; -settle gives it longer", b.settle)
		}
	}
	_, _ = fmt.Fprintf(out, "\neach bare client: %.3f MB, %.1f goroutines\n", memory(1), threads(1))
	goal(out, "RSS per number", memory(0), " MB", 0.35, unsettled)
	goal(out, "goroutines per number", threads(0), "", 8, "")
	return nil
}

// restarts ends the worker by SIGTERM and starts another one, again and again, and returns the last. It measures the time
// from the signal to the moment at which the last number asked WhatsApp for its messages. Beside it, bare clients start.
func (h *numbersHouse) restarts(ctx context.Context, out io.Writer, w *fanServer, rounds int) (*fanServer, error) {
	_, _ = fmt.Fprintf(out, "restart: %d numbers; from SIGTERM to the last one's login by the next process\n\n", h.bench.numbers)
	t := newTable(out, "round", "all s", "of it: the old one's end s", "start s", "CPU s")
	var all []float64
	for round := range rounds {
		began := time.Now()
		if err := w.stop(); err != nil {
			return w, err
		}
		ended := time.Now()
		next, err := h.startWorker(ctx, "worker")
		if err != nil {
			return w, err
		}
		w = next
		last, err := h.online(ctx, h.numbers, began)
		if err != nil {
			return w, w.failed(err)
		}
		used, err := w.cpu()
		if err != nil {
			return w, err
		}
		if err := h.connected(ctx); err != nil {
			return w, err
		}
		all = append(all, last.Sub(began).Seconds())
		t.row(strconv.Itoa(round+1), fmt.Sprintf("%.2f", last.Sub(began).Seconds()), fmt.Sprintf("%.2f", ended.Sub(began).Seconds()),
			fmt.Sprintf("%.2f", last.Sub(ended).Seconds()), fmt.Sprintf("%.2f", used.Seconds()))
	}
	if err := t.flush(); err != nil {
		return w, err
	}
	if h.bench.has(partRestart) {
		_, _ = fmt.Fprintf(out, "\nmedian (lowest … highest): %s s; slowest of %d rounds:\n", spread(all, "%.2f"), rounds)
		goal(out, "all reconnected after a restart", slices.Max(all), " s", 15, "")
	}
	_, _ = fmt.Fprintln(out)
	return w, nil
}
