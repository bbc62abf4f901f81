package bench

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/telegram"
)

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

// observer sees what is published for the sockets.
type observer struct {
	client *redis.Client
	pubsub *redis.PubSub
	done   chan struct{} // closed when nothing is noted any more

	mu      sync.Mutex            // guards what follows
	took    map[int]time.Duration // from writing to publication, of each message
	again   int                   // publications of a message after its first
	changed chan struct{}         // closed and replaced by every change
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
			if m.Channel == floorTopic || strings.Contains(m.Payload, domain.EventMessageNew) {
				o.note(m.Payload, time.Now())
			}
		}
	}()
	return o, nil
}

// note notes the message that was published. What bears no stamp is none of the benchmark's.
func (o *observer) note(payload string, now time.Time) {
	found := stamped.FindStringSubmatch(payload)
	if found == nil {
		return
	}
	n, err := strconv.Atoi(found[1])
	at, err2 := strconv.ParseInt(found[2], 10, 64)
	if err != nil || err2 != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.took[n]; known {
		o.again++
	} else {
		o.took[n] = now.Sub(time.Unix(0, at))
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// until waits until n messages were published, each once.
func (o *observer) until(ctx context.Context, n int) error {
	const patience = time.Minute // without a single one
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		o.mu.Lock()
		have, again, changed := len(o.took), o.again, o.changed
		o.mu.Unlock()
		switch {
		case again > 0:
			return fmt.Errorf("%d messages were published again", again)
		case have >= n:
			return nil
		}
		timer.Reset(patience)
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("%d of %d messages were published, and none for %s", have, n, patience)
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
