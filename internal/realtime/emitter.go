package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	redisadapter "github.com/zishang520/socket.io/adapters/redis/v3"
	"github.com/zishang520/socket.io/adapters/redis/v3/emitter"
	"github.com/zishang520/socket.io/servers/socket/v3"

	"switchboard/internal/domain"
)

// stubbornAttempts is how often what no log holds is tried: for two seconds, so that it is not lost for one hiccup.
const stubbornAttempts = 8

// EmitterOptions are what an Emitter may be told. All are optional.
type EmitterOptions struct {
	// Prefix of the Redis channels, the same as the servers'; DefaultPrefix if empty.
	Prefix  string
	Logger  *slog.Logger
	Metrics Metrics
	// Limits: EmitterQueue, PublishTimeout and RedisRetry are used.
	Limits Limits
}

// Emitter sends to the sockets of all API nodes from any process, through Redis. No method waits for Redis: what is sent
// goes into a queue that a goroutine of the emitter works off.
//
// The queue is bounded. When it is full, the oldest message goes; of committed events nothing is lost by that, because
// the nodes' feeds find in the log what Redis did not bring. Disconnections have a queue of their own and go first; they and what
// goes to users are tried for two seconds. Disconnections that Redis cannot carry are found by the servers' revalidation.
type Emitter struct {
	library *emitter.Emitter
	wire    *batcher // what library publishes to
	logger  *slog.Logger
	metrics Metrics
	limits  Limits

	ctx     context.Context //nolint:containedctx // the life of run
	cancel  context.CancelFunc
	wake    chan struct{}
	stopped chan struct{} // closed when run has ended

	mu     sync.Mutex // guards what follows
	normal jobQueue
	urgent jobQueue
	closed bool
}

// batchJobs is how many messages go to Redis at once.
const batchJobs = 128

// job is one message to Redis.
type job struct {
	publish  func(e *emitter.Emitter) error
	attempts int // at most
}

// NewEmitter makes an emitter and starts its goroutine; Close ends it.
func NewEmitter(client redis.UniversalClient, o EmitterOptions) (*Emitter, error) {
	if client == nil {
		return nil, errors.New("realtime: NewEmitter needs a Redis client")
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	limits := o.Limits.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	options := emitter.DefaultEmitterOptions()
	options.SetKey(o.Prefix)
	wire := &batcher{UniversalClient: client, timeout: limits.PublishTimeout}
	e := &Emitter{
		library: emitter.NewEmitter(redisadapter.NewRedisClient(ctx, wire), options), wire: wire,
		logger: o.Logger, metrics: o.Metrics.withDefaults(), limits: limits,
		ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), stopped: make(chan struct{}),
		normal: jobQueue{limit: limits.EmitterQueue}, urgent: jobQueue{limit: limits.EmitterQueue},
	}
	go e.run()
	return e, nil
}

// publisher gives every PUBLISH its own time limit: a Redis that hangs must not hold whoever publishes.
type publisher struct {
	redis.UniversalClient
	timeout time.Duration
}

func (p publisher) Publish(ctx context.Context, channel string, message any) *redis.IntCmd {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.UniversalClient.Publish(ctx, channel, message)
}

// batcher publishes like publisher or, between collect and flush, all at once: a burst of events takes one round trip, and
// wakes the nodes once. It belongs to the emitter's goroutine.
type batcher struct {
	redis.UniversalClient
	timeout    time.Duration
	collecting bool
	channels   []string
	messages   []any
}

func (b *batcher) Publish(ctx context.Context, channel string, message any) *redis.IntCmd {
	if b.collecting {
		b.channels, b.messages = append(b.channels, channel), append(b.messages, message)
		return redis.NewIntResult(0, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.UniversalClient.Publish(ctx, channel, message)
}

func (b *batcher) collect() { b.collecting = true }

// flush publishes what was collected, in order, and returns how many messages Redis did not take.
func (b *batcher) flush(ctx context.Context) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	results, err := b.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, channel := range b.channels {
			p.Publish(ctx, channel, b.messages[i])
		}
		return nil
	})
	for _, result := range results {
		if result.Err() != nil {
			failed++
		}
	}
	clear(b.messages)
	b.collecting, b.channels, b.messages = false, b.channels[:0], b.messages[:0]
	return failed, err
}

// Publish tells all nodes of events that were committed. It never blocks.
func (e *Emitter) Publish(events []domain.Event) {
	for _, event := range events {
		e.enqueue(&e.normal, 1, func(library *emitter.Emitter) error {
			return library.ServerSideEmit(eventSignal, event.OrganizationID, event.Seq, event.Name, event.Data, event.At, event.Epoch)
		})
	}
}

// User sends an event that is not in the log to all sockets of a user. data is encoded as JSON at once.
func (e *Emitter) User(userID int64, event string, data any) error {
	return e.room(domain.UserRoom(userID), "", stubbornAttempts, event, data)
}

// Typing sends typing:start or typing:stop to those who have a chat open. The payload is a domain.Typing, or encodes like one.
func (e *Emitter) Typing(chatID int64, on bool, payload any) error {
	return e.room(domain.ChatRoom(chatID), "", 1, typingEvent(on), payload)
}

func typingEvent(on bool) string {
	if on {
		return domain.EventTypingStart
	}
	return domain.EventTypingStop
}

// typingOf is Typing without the socket that it comes from.
func (e *Emitter) typingOf(sender socket.SocketId, on bool, payload domain.Typing) error {
	return e.room(domain.ChatRoom(payload.ChatID), sender, 1, typingEvent(on), payload)
}

// DisconnectUser closes all sockets of a user, on every node.
func (e *Emitter) DisconnectUser(userID int64) { e.disconnect(domain.UserRoom(userID)) }

// DisconnectSession closes the sockets that were opened with an access token of one sign-in (Principal.SessionID).
func (e *Emitter) DisconnectSession(sessionID string) { e.disconnect(sessionRoom(sessionID)) }

// DisconnectAPIKey closes the sockets that were opened with an API key.
func (e *Emitter) DisconnectAPIKey(keyID int64) { e.disconnect(apiKeyRoom(keyID)) }

// DisconnectOrganization closes all sockets of an organization.
func (e *Emitter) DisconnectOrganization(organizationID int64) {
	e.disconnect(domain.OrganizationRoom(organizationID))
}

// sessionRoom and apiKeyRoom name the sockets that must go when a sign-in or an API key ends. They are no rooms that sockets
// join, which would cost each a kilobyte: the nodes find them among their sessions. So they do when users and organizations
// must go, although these have rooms: a socket that is being let in, and may wait for its replay, is in none yet.
func sessionRoom(id string) string { return sessionPrefix + id }
func apiKeyRoom(id int64) string   { return apiKeyPrefix + strconv.FormatInt(id, 10) }

const (
	sessionPrefix = "session_"
	apiKeyPrefix  = "apikey_"

	userPrefix         = "user_" // as in domain.UserRoom
	organizationPrefix = "org_"  // as in domain.OrganizationRoom
)

// namesRights reports whether a room stands for what lets sockets in.
func namesRights(room string) bool {
	return strings.HasPrefix(room, sessionPrefix) || strings.HasPrefix(room, apiKeyPrefix) ||
		strings.HasPrefix(room, userPrefix) || strings.HasPrefix(room, organizationPrefix)
}

func (e *Emitter) disconnect(room string) {
	e.enqueue(&e.urgent, stubbornAttempts, func(library *emitter.Emitter) error {
		return library.In(socket.Room(room)).DisconnectSockets(true)
	})
}

// room sends to one room: the adapter's one form that never fails.
func (e *Emitter) room(room string, except socket.SocketId, attempts int, event string, data any) error {
	plain, err := plainJSON(data)
	if err != nil {
		return fmt.Errorf("realtime: encode the data of %s: %w", event, err)
	}
	e.enqueue(&e.normal, attempts, func(library *emitter.Emitter) error {
		to := library.To(socket.Room(room))
		if except != "" {
			to = to.Except(socket.Room(except))
		}
		return to.Emit(event, plain)
	})
	return nil
}

// plainJSON turns data into what its JSON says: the wire to the nodes is MessagePack, which knows nothing of JSON's tags
// and encoders.
func plainJSON(data any) (any, error) {
	encoded, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	var plain any
	decoder := json.NewDecoder(strings.NewReader(string(encoded)))
	decoder.UseNumber()
	if err := decoder.Decode(&plain); err != nil {
		return nil, err
	}
	return plainNumbers(plain), nil
}

func plainNumbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if whole, err := v.Int64(); err == nil {
			return whole
		}
		fraction, err := v.Float64()
		if err != nil {
			return v.String() // beyond what a float can say
		}
		return fraction
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = plainNumbers(v[key])
		}
	}
	return value
}

func (e *Emitter) enqueue(q *jobQueue, attempts int, publish func(*emitter.Emitter) error) {
	e.mu.Lock()
	dropped := e.closed || q.push(job{publish: publish, attempts: attempts})
	depth := e.normal.len() + e.urgent.len()
	e.mu.Unlock()
	if dropped {
		e.metrics.Dropped("emitter_queue")
	}
	e.metrics.EmitterQueue(depth)
	e.rouse()
}

func (e *Emitter) rouse() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// next takes the next job, or several that may go at once; more says whether there may be one later.
func (e *Emitter) next(into []job) (jobs []job, more bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if j, found := e.urgent.pop(); found {
		return append(into[:0], j), true
	}
	jobs = into[:0]
	for len(jobs) < batchJobs {
		j, found := e.normal.peek()
		if !found || (j.attempts > 1 && len(jobs) > 0) {
			break
		}
		_, _ = e.normal.pop()
		jobs = append(jobs, j)
		if j.attempts > 1 {
			break // it goes by itself, and may be tried again
		}
	}
	return jobs, !e.closed
}

func (e *Emitter) run() {
	defer close(e.stopped)
	failing := false
	var jobs []job
	for {
		var more bool
		jobs, more = e.next(jobs)
		if len(jobs) == 0 {
			if !more {
				return
			}
			e.metrics.EmitterQueue(0)
			select {
			case <-e.wake:
			case <-e.ctx.Done():
				return
			}
			continue
		}
		err := e.carryAll(jobs)
		clear(jobs)
		if e.ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !failing:
			e.logger.Warn("[Socket.IO] send error: Redis takes no messages", slog.Any("error", err))
		case err == nil && failing:
			e.logger.Info("[Socket.IO] Redis takes messages again")
		}
		failing = err != nil
	}
}

// carryAll publishes what next returned.
func (e *Emitter) carryAll(jobs []job) error {
	if len(jobs) == 1 {
		return e.carry(jobs[0])
	}
	e.wire.collect()
	for _, j := range jobs {
		if err := j.publish(e.library); err != nil {
			// Redis was not asked yet: the message cannot be written at all.
			e.metrics.Dropped("emitter_error")
			e.logger.Error("[Socket.IO] send error: a message cannot be encoded", slog.Any("error", err))
		}
	}
	failed, err := e.wire.flush(e.ctx)
	for range failed {
		e.metrics.Dropped("emitter_error")
	}
	return err
}

// carry publishes a job, as often as it may be tried.
func (e *Emitter) carry(j job) error {
	for attempt := 1; ; attempt++ {
		err := j.publish(e.library)
		if err == nil || e.ctx.Err() != nil {
			return err
		}
		if attempt >= j.attempts {
			e.metrics.Dropped("emitter_error")
			return err
		}
		pause := time.NewTimer(e.limits.RedisRetry)
		select {
		case <-pause.C:
		case <-e.ctx.Done():
		}
		pause.Stop()
	}
}

// Close publishes what is queued, as long as ctx allows, and ends the emitter. What is sent afterwards is dropped. It may be
// called more than once.
func (e *Emitter) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.rouse()
	var err error
	select {
	case <-e.stopped:
	case <-ctx.Done():
		err = fmt.Errorf("realtime: close the emitter: messages were left: %w", ctx.Err())
	}
	e.cancel()
	<-e.stopped
	return err
}

// jobQueue is a bounded queue that drops its oldest element.
type jobQueue struct {
	limit int
	jobs  []job
	head  int
}

func (q *jobQueue) len() int { return len(q.jobs) - q.head }

// push reports whether an element was dropped.
func (q *jobQueue) push(j job) bool {
	q.jobs = append(q.jobs, j)
	if q.len() > q.limit {
		_, _ = q.pop()
		return true
	}
	return false
}

func (q *jobQueue) peek() (job, bool) {
	if q.len() == 0 {
		return job{}, false
	}
	return q.jobs[q.head], true
}

func (q *jobQueue) pop() (job, bool) {
	if q.len() == 0 {
		return job{}, false
	}
	j := q.jobs[q.head]
	q.jobs[q.head] = job{}
	q.head++
	if q.head*2 >= len(q.jobs) {
		n := copy(q.jobs, q.jobs[q.head:])
		clear(q.jobs[n:])
		q.jobs, q.head = q.jobs[:n], 0
	}
	return j, true
}
