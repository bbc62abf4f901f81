package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	wakeTopic = "switchboard:wakes"
	// publishTimeout bounds one publication. What does not get through is lost,
	// and found by polling.
	publishTimeout = 250 * time.Millisecond
	// maxPending bounds the channels, and maxTyping the signals, that wait for
	// publication; what comes on top is dropped.
	maxPending = 4096
	maxTyping  = 256
	// maxBatch is how many of each go into one message; maxWakeBytes is more
	// than such a message can have.
	maxBatch     = 512
	maxWakeBytes = 64 << 10
	// listenTimeout is how long the connection may be silent before it is
	// tried.
	listenTimeout = 20 * time.Second
)

// Wakes carries wake-ups and typing signals from API nodes to workers, by Redis
// pub/sub. Nothing of it may be needed: a message that is lost delays work
// until the next poll. It is safe for concurrent use, and its methods do not
// block.
type Wakes struct {
	client redis.UniversalClient
	logger *slog.Logger
	signal chan struct{} // capacity 1: something is pending

	mu       sync.Mutex // guards what follows
	pending  map[int64]struct{}
	attend   map[int64]struct{}
	typing   []typingSignal
	released bool
	cancel   context.CancelFunc
	done     chan struct{}
}

// wakeMessage is what goes over the wire.
type wakeMessage struct {
	Channels []int64        `json:"channels,omitempty"`
	Attend   []int64        `json:"attend,omitempty"`
	Typing   []typingSignal `json:"typing,omitempty"`
	// Released: leases were given up; whoever has room may take the channels.
	Released bool `json:"released,omitempty"`
}

type typingSignal struct {
	ChannelID int64 `json:"channelId"`
	ChatID    int64 `json:"chatId"`
	On        bool  `json:"on"`
}

// NewWakes makes Wakes on a client, which stays the caller's.
func NewWakes(client redis.UniversalClient, logger *slog.Logger) *Wakes {
	return &Wakes{client: client, logger: logger, signal: make(chan struct{}, 1), pending: map[int64]struct{}{}, attend: map[int64]struct{}{}}
}

// Start begins to publish. It may be called once; ctx ends it as Stop does.
func (w *Wakes) Start(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done != nil {
		return
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.done = make(chan struct{})
	go w.publishLoop(ctx, w.done)
}

// Stop publishes what is pending, once, and ends. It may be called again.
func (w *Wakes) Stop() {
	w.mu.Lock()
	cancel, done := w.cancel, w.done
	w.mu.Unlock()
	if done == nil {
		return
	}
	cancel()
	<-done
}

// Wake tells the worker of a channel that there is work for it.
func (w *Wakes) Wake(channelID int64) {
	w.add(func() {
		if len(w.pending) < maxPending {
			w.pending[channelID] = struct{}{}
		}
	})
}

// Attend tells the worker of a channel to look at the channel itself: it was
// changed, or its session is asked something.
func (w *Wakes) Attend(channelID int64) {
	w.add(func() {
		if len(w.attend) < maxPending {
			w.attend[channelID] = struct{}{}
		}
	})
}

// Typing tells the worker of a channel that an operator begins or ends to
// write in a chat.
func (w *Wakes) Typing(channelID, chatID int64, on bool) {
	w.add(func() {
		if len(w.typing) < maxTyping {
			w.typing = append(w.typing, typingSignal{ChannelID: channelID, ChatID: chatID, On: on})
		}
	})
}

// Released tells all workers that there are channels to take.
func (w *Wakes) Released() { w.add(func() { w.released = true }) }

func (w *Wakes) add(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default: // it is up already
	}
}

func (w *Wakes) publishLoop(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case <-w.signal:
			// Every publication is short: it need not end with ctx.
			w.publish(context.WithoutCancel(ctx))
		case <-ctx.Done():
			w.publish(context.WithoutCancel(ctx))
			return
		}
	}
}

// publish sends what is pending. When Redis does not take it, it is dropped:
// what is old wakes nobody sooner than the poll does.
func (w *Wakes) publish(ctx context.Context) {
	for {
		message, some := w.take()
		if !some {
			return
		}
		body, err := json.Marshal(message)
		if err != nil {
			w.logger.ErrorContext(ctx, "wake-up cannot be encoded", slog.Any("error", err))
			return
		}
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		err = w.client.Publish(ctx, wakeTopic, body).Err()
		cancel()
		if err != nil {
			w.logger.DebugContext(ctx, "wake-up lost; polling will find the work", slog.Any("error", err))
			w.drop()
			return
		}
	}
}

func (w *Wakes) take() (message wakeMessage, some bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	message.Channels, message.Attend = takeSome(w.pending), takeSome(w.attend)
	n := min(len(w.typing), maxBatch)
	message.Typing = slices.Clone(w.typing[:n])
	w.typing = slices.Delete(w.typing, 0, n)
	message.Released, w.released = w.released, false
	return message, len(message.Channels) > 0 || len(message.Attend) > 0 || n > 0 || message.Released
}

// takeSome takes as many ids out of a set as one message holds.
func takeSome(set map[int64]struct{}) (ids []int64) {
	for id := range set {
		if len(ids) == maxBatch {
			break
		}
		ids = append(ids, id)
		delete(set, id)
	}
	return ids
}

func (w *Wakes) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.pending)
	clear(w.attend)
	w.typing, w.released = nil, false
}

// listener receives what the wire brings. Its methods must not block.
type listener struct {
	wake     func(channelID int64)
	attend   func(channelID int64)
	typing   func(typingSignal)
	released func()
	// joined is called whenever the subscription stands anew: what was
	// published before is lost.
	joined func()
}

// listen receives until ctx ends, and subscribes again whenever the
// connection breaks.
func (w *Wakes) listen(ctx context.Context, l listener) {
	wait := newBackoff(100*time.Millisecond, 5*time.Second)
	for ctx.Err() == nil {
		began := time.Now()
		err := w.subscription(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > listenTimeout {
			wait.reset()
		}
		w.logger.WarnContext(ctx, "wake-ups are interrupted; polling goes on", slog.Any("error", err))
		pause(ctx, wait.next())
	}
}

func (w *Wakes) subscription(ctx context.Context, l listener) error {
	pubsub := w.client.Subscribe(ctx, wakeTopic)
	// A read that waits does not see the context: closing ends it.
	stop := context.AfterFunc(ctx, func() { _ = pubsub.Close() })
	defer func() {
		if stop() {
			_ = pubsub.Close()
		}
	}()
	for silent := false; ; {
		received, err := pubsub.ReceiveTimeout(ctx, listenTimeout)
		var slow interface{ Timeout() bool }
		switch {
		case err == nil:
			silent = false
		case errors.As(err, &slow) && slow.Timeout() && !silent && ctx.Err() == nil:
			// Silence may be a dead connection: the answer to a ping, or
			// another silence, tells.
			silent = true
			if err := pubsub.Ping(ctx); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		switch m := received.(type) {
		case *redis.Subscription:
			if m.Kind == "subscribe" {
				l.joined()
			}
		case *redis.Message:
			w.handle(ctx, l, m.Payload)
		}
	}
}

// handle takes a message apart. Anybody who reaches Redis can publish: what is
// not one of ours is passed over.
func (w *Wakes) handle(ctx context.Context, l listener, payload string) {
	var message wakeMessage
	if len(payload) > maxWakeBytes || json.Unmarshal([]byte(payload), &message) != nil {
		w.logger.DebugContext(ctx, "wake-up that cannot be read", slog.Int("bytes", len(payload)))
		return
	}
	for _, id := range message.Channels {
		l.wake(id)
	}
	for _, id := range message.Attend {
		l.attend(id)
	}
	for _, t := range message.Typing {
		l.typing(t)
	}
	if message.Released {
		l.released()
	}
}

// backoff gives growing waits, each somewhere in the upper half of its range,
// so that many who failed together do not try again together.
type backoff struct {
	low, high time.Duration
	n         int
}

func newBackoff(low, high time.Duration) *backoff { return &backoff{low: low, high: high} }

func (b *backoff) next() time.Duration {
	d := b.high
	if b.n < 30 && b.low<<b.n < b.high {
		d = b.low << b.n
		b.n++
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter
}

func (b *backoff) reset() { b.n = 0 }

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
