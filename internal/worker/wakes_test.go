package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/redisconn"
	"switchboard/internal/testkit"
)

func newWakes(t *testing.T, url string) (*Wakes, redis.UniversalClient) {
	t.Helper()
	client, err := redisconn.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	wakes := NewWakes(client, testkit.Logger(t))
	wakes.Start(context.Background())
	t.Cleanup(wakes.Stop)
	return wakes, client
}

// heard collects what a listener is told.
type heard struct {
	mu       sync.Mutex // guards what follows
	channels []int64
	typing   []typingSignal
	released int
	joined   int
}

func (h *heard) listener() listener {
	locked := func(fn func()) {
		h.mu.Lock()
		defer h.mu.Unlock()
		fn()
	}
	return listener{
		wake:     func(id int64) { locked(func() { h.channels = append(h.channels, id) }) },
		typing:   func(s typingSignal) { locked(func() { h.typing = append(h.typing, s) }) },
		released: func() { locked(func() { h.released++ }) },
		joined:   func() { locked(func() { h.joined++ }) },
	}
}

func (h *heard) is(condition func() bool) func() bool {
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return condition()
	}
}

func listening(t *testing.T, w *Wakes) *heard {
	t.Helper()
	h := &heard{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.listen(ctx, h.listener())
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	testkit.Eventually(t, "the subscription", h.is(func() bool { return h.joined == 1 }))
	return h
}

func TestWakes(t *testing.T) {
	server := testkit.StartRedis(t)
	publisher, client := newWakes(t, server.URL())
	subscriber, _ := newWakes(t, server.URL())
	h := listening(t, subscriber)

	for _, garbage := range []string{"", "x", "[]", `{"channels":"x"}`, `{"channels":[1.5]}`, `{"typing":[1]}`, "{}", string(make([]byte, maxWakeBytes+1))} {
		require.NoError(t, client.Publish(t.Context(), wakeTopic, garbage).Err())
	}
	for id := range int64(2000) { // more than go into one message
		publisher.Wake(id + 1)
	}
	publisher.Typing(3, 4, true)
	publisher.Released()
	testkit.Eventually(t, "everything to arrive", h.is(func() bool {
		seen := slices.Clone(h.channels)
		slices.Sort(seen)
		return len(slices.Compact(seen)) == 2000 && len(h.typing) == 1 && h.released == 1
	}))
	require.Equal(t, typingSignal{ChannelID: 3, ChatID: 4, On: true}, h.typing[0])

	// Redis goes away and comes back: publishers do not block, the
	// subscription stands again by itself.
	server.Kill()
	began := time.Now()
	for id := range int64(100) {
		publisher.Wake(id)
	}
	require.Less(t, time.Since(began), testkit.Slack(100*time.Millisecond))
	server.Start()
	testkit.Eventually(t, "the subscription to stand again", h.is(func() bool { return h.joined == 2 }))
	testkit.Eventually(t, "a wake to arrive", func() bool {
		publisher.Wake(7777)
		return h.is(func() bool { return slices.Contains(h.channels, 7777) })()
	})
}

// TestStopFlushes: the wake of a hand-over is the last thing that a process
// publishes.
func TestStopFlushes(t *testing.T) {
	url := testkit.Redis(t)
	publisher, _ := newWakes(t, url)
	subscriber, _ := newWakes(t, url)
	h := listening(t, subscriber)
	publisher.Released()
	publisher.Stop()
	publisher.Stop()
	testkit.Eventually(t, "the last message", h.is(func() bool { return h.released == 1 }))
}

// TestReplyLeavesAtOnce measures from the commit of a message to its send, with
// polling too slow to help.
func TestReplyLeavesAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		w.chat(1, 1)
		w.inbound(1000, 1, 1)
		url := testkit.Redis(t)
		api, _ := newWakes(t, url)
		own, _ := newWakes(t, url)
		w.start("a", func(o *Options) {
			o.Wakes, o.PollInterval, o.LeaseTTL = own, time.Minute, time.Minute
		})
		w.eventually("the session", func() bool { return w.one("SELECT state FROM channels WHERE id = 1") == "connected" })
		w.eventually("the subscription", func() bool {
			api.Typing(1, 1, true)
			w.provider.mu.Lock()
			defer w.provider.mu.Unlock()
			return len(w.provider.typed) > 0
		})
		w.provider.mu.Lock()
		typed := w.provider.typed[0]
		w.provider.mu.Unlock()
		require.Equal(t, "peer-1 in-1000 true", typed)
		const n = 100
		var took []time.Duration
		for i := range int64(n) {
			w.queue(i+1, 1, 1)
			committed := time.Now()
			api.Wake(1)
			w.eventuallyStatus(i+1, domain.StatusSent)
			w.provider.mu.Lock()
			took = append(took, w.provider.sent[len(w.provider.sent)-1].at.Sub(committed))
			w.provider.mu.Unlock()
		}
		slices.Sort(took)
		t.Logf("commit to send: p50 %s, p99 %s", took[n/2], took[n*99/100])
		require.Less(t, took[n/2], testkit.Slack(100*time.Millisecond), fmt.Sprint(took)) // generous: the race detector and a busy machine
	})
}

// TestHandOverIsWoken: with polling too slow to help, the wake of a release
// makes the next worker take the channel.
func TestHandOverIsWoken(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		url := testkit.Redis(t)
		patient := func(o *Options) {
			o.Wakes, _ = newWakes(t, url)
			o.PollInterval, o.LeaseTTL = time.Minute, time.Minute
		}
		a := w.start("a", patient)
		w.eventually("a to run it", func() bool { return w.provider.owner(1) == "a" })
		b := w.node("b", patient)
		require.NoError(t, b.Start(t.Context()))
		w.eventually("b to listen", func() bool {
			counts, err := b.o.Wakes.client.PubSubNumSub(t.Context(), wakeTopic).Result()
			return err == nil && counts[wakeTopic] == 2
		})
		began := time.Now()
		a.Stop()
		w.eventually("b to run it", func() bool { return w.provider.owner(1) == "b" })
		require.Less(t, time.Since(began), testkit.Slack(2*time.Second))
	})
}
