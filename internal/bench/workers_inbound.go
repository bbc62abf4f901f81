package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"switchboard/internal/simulator/telegram"
)

// inbounds measures how fast messages get from the simulator into the database and onto Redis: many that wait, and then
// as they come at a rate. Beside it, in turns, the floor.
func (b *workersBench) inbounds(ctx context.Context, out io.Writer) error {
	for _, bots := range []int{b.bots, 1} {
		if err := b.inboundOf(ctx, out, bots); err != nil {
			return fmt.Errorf("%d bots: %w", bots, err)
		}
	}
	return nil
}

func (b *workersBench) inboundOf(ctx context.Context, out io.Writer, bots int) error {
	_, _ = fmt.Fprintf(out, "inbound: %d messages for %d bots that wait, then %d messages/s for %s\n\n", b.messages, bots, b.rate, b.paced)
	t := newTable(out, "round", "who", "messages/s", "CPU s per 1,000", "at the rate: p50 ms", "p99 ms")
	rates := map[string][]float64{}
	var p99 []float64
	for round := range b.rounds {
		for _, who := range []string{ours, floor} {
			turn, err := b.inbound(ctx, who, bots)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", who, round+1, err)
			}
			rates[who] = append(rates[who], turn.perSecond)
			if who == ours {
				p99 = append(p99, milliseconds(turn.p99))
			}
			t.row(strconv.Itoa(round+1), who, fmt.Sprintf("%.0f", turn.perSecond), fmt.Sprintf("%.2f", turn.cpu),
				fmt.Sprintf("%.1f", milliseconds(turn.p50)), fmt.Sprintf("%.1f", milliseconds(turn.p99)))
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nmedians of %d rounds; every message is in the database once\n", b.rounds)
	goalAtLeast(out, "committed and published", median(rates[ours]), " messages/s", 1000)
	_, _ = fmt.Fprintf(out, "of the floor's rate: %.2f\np99 at %d messages/s: %.1f ms\n\n", median(rates[ours])/median(rates[floor]), b.rate, median(p99))
	return nil
}

// inboundTurn is one measurement of one contender.
type inboundTurn struct {
	perSecond float64
	cpu       float64 // seconds of the process for 1,000 messages
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
	table := "messages WHERE NOT from_me"
	var w *fanServer
	if who == ours {
		if w, err = h.startWorker(ctx, "worker", "127.0.0.1"); err == nil {
			err = h.connected(ctx)
		}
	} else {
		table = "floor_messages"
		w, err = h.startFloor()
	}
	if err != nil {
		return turn, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	known := h.chatCount()
	if err := h.write(0, known); err != nil { // so that every chat is there
		return turn, err
	}
	if err := seen.until(ctx, known); err != nil {
		return turn, err
	}
	used, err := w.cpu()
	if err != nil {
		return turn, err
	}
	began := time.Now()
	if err := h.write(known, b.messages); err != nil {
		return turn, err
	}
	if err := seen.until(ctx, known+b.messages); err != nil {
		return turn, err
	}
	turn.perSecond = float64(b.messages) / time.Since(began).Seconds()
	now, err := w.cpu()
	if err != nil {
		return turn, err
	}
	turn.cpu = (now - used).Seconds() * 1000 / float64(b.messages)
	total, err := h.pace(ctx, known+b.messages)
	if err != nil {
		return turn, err
	}
	if err := seen.until(ctx, total); err != nil {
		return turn, err
	}
	turn.p50, turn.p99 = seen.latency(bots + b.messages)
	return turn, h.until(ctx, "each message once", "SELECT COUNT(*) FROM "+table, total)
}

// fewestChats is how many chats there are at least, shared by the bots.
const fewestChats = 200

// chatCount is the number of chats: as many with each bot.
func (h *house) chatCount() int { return h.customers() * len(h.ids) }

func (h *house) customers() int { return (fewestChats + len(h.ids) - 1) / len(h.ids) }

func customerID(n int) int64 { return int64(5_000_000 + n) }

// write lets customers write the messages first … first+n−1, in all chats in turn.
func (h *house) write(first, n int) error {
	for i := first; i < first+n; i++ {
		chat := i % h.chatCount()
		text := fmt.Sprintf("bench-%d-%d;", i, time.Now().UnixNano())
		_, err := h.telegram.CustomerSend(h.ids[chat%len(h.ids)], customerID(chat/len(h.ids)), telegram.Incoming{Text: text})
		if err != nil {
			return err
		}
	}
	return nil
}

// pace lets them write at the rate, and returns the number of messages in all.
func (h *house) pace(ctx context.Context, first int) (total int, err error) {
	ticker := time.NewTicker(time.Second / time.Duration(h.b.rate))
	defer ticker.Stop()
	for end := time.Now().Add(h.b.paced); time.Now().Before(end); first++ {
		select {
		case <-ctx.Done():
			return first, ctx.Err()
		case <-ticker.C:
		}
		if err := h.write(first, 1); err != nil {
			return first, err
		}
	}
	return first, nil
}

// observer sees what is published to the sockets.
type observer struct {
	client  *redis.Client
	pubsub  *redis.PubSub
	done    chan struct{}
	mu      sync.Mutex // guards what follows
	took    map[int]time.Duration
	changed chan struct{}
}

var stamped = regexp.MustCompile(`bench-(\d+)-(\d+);`)

func observe(ctx context.Context, redisURL string) (*observer, error) {
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	o := &observer{client: redis.NewClient(options), done: make(chan struct{}), took: map[int]time.Duration{}, changed: make(chan struct{})}
	o.pubsub = o.client.PSubscribe(ctx, "*")
	if _, err := o.pubsub.Receive(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to Redis: %w", err), o.client.Close())
	}
	messages := o.pubsub.Channel(redis.WithChannelSize(1 << 16))
	go func() {
		defer close(o.done)
		for m := range messages {
			o.note(m.Payload, time.Now())
		}
	}()
	return o, nil
}

func (o *observer) note(payload string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, found := range stamped.FindAllStringSubmatch(payload, -1) {
		n, _ := strconv.Atoi(found[1])
		at, _ := strconv.ParseInt(found[2], 10, 64)
		if _, known := o.took[n]; !known { // a chat shows its last message, too
			o.took[n] = now.Sub(time.Unix(0, at))
		}
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// until waits until n different messages were published.
func (o *observer) until(ctx context.Context, n int) error {
	const patience = time.Minute
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		o.mu.Lock()
		have, changed := len(o.took), o.changed
		o.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("%d of %d messages were published after %s", have, n, patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// latency is the time from writing to publication of the messages from first on.
func (o *observer) latency(first int) (p50, p99 time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var took []time.Duration
	for n, d := range o.took {
		if n >= first {
			took = append(took, d)
		}
	}
	slices.Sort(took)
	return percentile(took, 0.5), percentile(took, 0.99)
}

func (o *observer) close() error {
	err := errors.Join(o.pubsub.Close(), o.client.Close())
	<-o.done
	return err
}
