package realtime

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"switchboard/internal/domain"
)

var errRelayClosed = errors.New("realtime: the relay is closed")

// relay stands between Redis and the library's Redis adapter. The adapter trusts every byte that is published: one wrong
// byte ends the process (a nil dereference in a goroutine that nobody can guard), it spins while Redis is away, and it
// loses what is sent to no room or to several. So the one real subscription is the relay's; the adapter, which takes its
// subscriptions from a client that it is given, gets one whose connections end here and carry only what was checked
// and put into a form that the adapter reads right. Committed events go to the feeds directly.
type relay struct {
	redis.UniversalClient
	local   *redis.Client // its connections end in lines of this relay
	logger  *slog.Logger
	metrics Metrics
	limits  Limits

	broadcast string // prefix of the channels of broadcasts: "socket.io#/#"
	request   string // the channel of requests: "socket.io-request#/#"

	relayEnds

	up atomic.Bool

	tasks sync.WaitGroup

	mu     sync.Mutex // guards what follows
	lines  map[*line]struct{}
	closed bool
}

// relayEnds are those to whom the relay brings what is not for the adapter.
type relayEnds struct {
	wanted    func(organizationID int64) bool // whether hear has a use for an organization's events
	hear      func(domain.Event)              // takes the committed events
	connected func()                          // told after every (re)connect: something may have been missed
	ended     func(rights string)             // takes the names of users, sign-ins and so on that must go: see sessionRoom
}

func newRelay(o Options, ends relayEnds) *relay {
	r := &relay{
		UniversalClient: o.Redis, logger: o.Logger, metrics: o.Metrics, limits: o.Limits,
		broadcast: o.Prefix + "#/#", request: o.Prefix + "-request#/#",
		relayEnds: ends, lines: map[*line]struct{}{},
	}
	r.local = redis.NewClient(&redis.Options{
		Addr: "relay", Dialer: r.dial, Protocol: 2, DisableIdentity: true, MaxRetries: -1, PoolSize: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return r
}

// Subscribe and PSubscribe are what the adapter calls.
func (r *relay) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return r.local.Subscribe(ctx, channels...)
}

func (r *relay) PSubscribe(ctx context.Context, patterns ...string) *redis.PubSub {
	return r.local.PSubscribe(ctx, patterns...)
}

// dial makes a connection of the adapter's side.
func (r *relay) dial(context.Context, string, string) (net.Conn, error) {
	theirs, ours := net.Pipe()
	l := newLine(ours)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = ours.Close()
		_ = theirs.Close()
		return nil, errRelayClosed
	}
	r.lines[l] = struct{}{}
	r.tasks.Go(l.write)
	r.tasks.Go(func() {
		l.serve()
		r.mu.Lock()
		delete(r.lines, l)
		r.mu.Unlock()
	})
	return theirs, nil
}

// close ends the adapter's connections, once run has returned.
func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	for l := range r.lines {
		l.close()
	}
	r.mu.Unlock()
	_ = r.local.Close()
	r.tasks.Wait()
}

// run keeps the subscription to Redis until the context ends.
func (r *relay) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.receive(ctx)
		if ctx.Err() != nil {
			return
		}
		if r.up.Swap(false) {
			r.logger.Warn("[Socket.IO] lost Redis: events now come from the database, a little later", slog.Any("error", err))
		}
		pause := time.NewTimer(r.limits.RedisRetry)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// receive works on one subscription until it fails.
func (r *relay) receive(ctx context.Context) error {
	sub := r.UniversalClient.Subscribe(ctx, r.request)
	defer func() { _ = sub.Close() }()
	// A read that is under way ends with the connection only.
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	if err := sub.PSubscribe(ctx, r.broadcast+"*"); err != nil {
		return err
	}
	confirmed, silent := 0, false
	for {
		message, err := sub.ReceiveTimeout(ctx, r.limits.SubscriptionCheck)
		if err != nil {
			if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() || silent || ctx.Err() != nil {
				return err
			}
			silent = true
			if err := sub.Ping(ctx); err != nil {
				return err
			}
			continue
		}
		silent = false
		switch m := message.(type) {
		case *redis.Subscription:
			if confirmed++; confirmed == 2 {
				r.logger.Info("[Socket.IO] listening to Redis")
				r.up.Store(true)
				r.connected()
			}
		case *redis.Message:
			r.take(m)
		}
	}
}

// take checks one message and passes it on.
func (r *relay) take(m *redis.Message) {
	defer func() {
		if problem := recover(); problem != nil {
			r.metrics.Dropped("redis_message")
			r.logger.Error("[Socket.IO] a message from Redis caused a panic and was dropped",
				slog.Any("panic", problem), slog.String("stack", string(debug.Stack())))
		}
	}()
	var err error
	if m.Channel == r.request {
		err = r.takeRequest(m.Payload)
	} else {
		err = r.takeBroadcast(m.Channel, m.Payload)
	}
	if err != nil {
		r.metrics.Dropped("redis_message")
		r.logger.Debug("[Socket.IO] dropped a message from Redis", slog.Any("error", err))
	}
}

func (r *relay) takeRequest(payload string) error {
	request, err := checkRequest(payload, r.wanted)
	switch {
	case err != nil:
		return err
	case request.event != nil:
		r.hear(*request.event)
	case request.ended != "":
		r.ended(request.ended)
	case request.canonical != "":
		r.deliver("", r.request, request.canonical)
	}
	return nil
}

func (r *relay) takeBroadcast(channel, payload string) error {
	if !strings.HasPrefix(channel, r.broadcast) {
		return errors.New("a channel that is not ours")
	}
	if err := checkBroadcast(payload); err != nil {
		return err
	}
	if channel == r.broadcast {
		// To no room or to several. The adapter would ignore it, because the channel names no room; with an empty room in its
		// name, it reads the rooms from the packet.
		channel += "#"
	}
	r.deliver(r.broadcast+"*", channel, payload)
	return nil
}

// deliver writes a message to the adapter. It waits for the adapter to take it, so that what the adapter cannot keep up
// with stays in Redis' own bounded buffers.
func (r *relay) deliver(pattern, channel, payload string) {
	r.mu.Lock()
	lines := make([]*line, 0, len(r.lines))
	for l := range r.lines {
		lines = append(lines, l)
	}
	r.mu.Unlock()
	for _, l := range lines {
		l.publish(pattern, channel, payload)
	}
}
