package realtime

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"switchboard/internal/domain"
)

// DefaultPrefix begins the name of every Redis channel that the servers and emitters of one installation share. It is
// the default of the official Socket.IO Redis adapters and emitters in other languages too.
const DefaultPrefix = "socket.io"

// Authenticator decides who a socket is.
type Authenticator interface {
	// Authenticate turns a token or an API key into who it belongs to. Bad, expired or revoked credentials, and those of a
	// deactivated user, are a *domain.Error with CodeUnauthenticated (or CodeForbidden). Every other error means that it
	// could not be decided now: the socket is refused with a message that invites a retry.
	Authenticate(ctx context.Context, token string) (domain.Principal, error)
	// StillValid returns those of principals that may no longer be connected: signed out, deactivated, deleted. It is asked
	// for all sockets of a node at once, and should answer with one query. Expiry need not be checked.
	StillValid(ctx context.Context, principals []domain.Principal) (invalid []domain.Principal, err error)
}

// Chats knows which chats an organization has.
type Chats interface {
	ChatInOrganization(ctx context.Context, organizationID, chatID int64) (bool, error)
}

// Head is where an organization's log stands: the seq of its newest event, 0 while it has none.
type Head struct {
	Seq   int64
	Epoch string
}

// Log reads the event logs of the organizations.
type Log interface {
	// EventsAfter returns at most limit events behind seq after, oldest first, without gaps. The page says Resync, and holds
	// no events, when the log does not reach back that far or after lies in its future.
	EventsAfter(ctx context.Context, organizationID, after int64, limit int) (domain.EventPage, error)
	// Heads returns the heads of many logs with one query. Organizations that do not exist are absent.
	Heads(ctx context.Context, organizationIDs []int64) (map[int64]Head, error)
}

// TypingSink passes an operator's typing on to the customer, where the channel can. Errors are its own business: an
// indicator that is lost harms nobody.
type TypingSink interface {
	CustomerTyping(ctx context.Context, principal domain.Principal, chatID int64, on bool)
}

// Metrics is told what happens. Every function may be nil; all are called from many goroutines and must not block.
type Metrics struct {
	// AuthenticationFailed counts refused handshakes: "no_token", "invalid_token", "unavailable", "too_many_sockets",
	// "again" (a second handshake on one connection), "origin".
	AuthenticationFailed func(reason string)
	// Admission counts requests for new connections: "admitted" at once, "delayed" (admitted after waiting for their turn),
	// "refused" (too many came at that moment), "gone" (the client left while it waited, or the server closes).
	Admission func(result string)
	// ClientEvent counts what sockets sent, by event name ("unknown" for names that do not exist) and result: "ok" or the
	// code of the error.
	ClientEvent func(event, result string)
	// Broadcast counts events of the log that went to sockets of this node, and to how many each.
	Broadcast func(event string, sockets int)
	// Lag tells how long after its commit an event was broadcast.
	Lag func(time.Duration)
	// Behind tells, after each poll of the heads, how many events are in the logs that the feeds have not broadcast.
	Behind func(events int)
	// Healed counts events that Redis did not bring and a feed fetched from the log.
	Healed func(events int)
	// Replayed counts events sent to single sockets that had missed them.
	Replayed func(events int)
	// Reset counts sync:reset events, by reason: "bad_position", "epoch", "retention", "future".
	Reset func(reason string)
	// LogRead tells how often the log was read, by purpose: "gap", "replay", "sync", "verify".
	LogRead func(purpose string)
	// Cut counts sockets that the server closed: "slow", "flood", "unjoined", "expired", "revoked".
	Cut func(reason string)
	// Dropped counts what was thrown away: "emitter_queue", "emitter_error", "feed_queue", "redis_message".
	Dropped func(what string)
	// EmitterQueue tells how many messages wait to be published.
	EmitterQueue func(depth int)
}

// Limits bound what a socket, or a node, may cost. Zero fields get the defaults that are named here.
type Limits struct {
	FrameBytes        int64         // 64 KiB: the largest frame or polling body from a client; a larger one ends the connection
	EventsPerSecond   int           // 100: client events of one socket per second, with a burst of as many; more are refused
	SocketsPerUser    int           // 50, on one node
	RoomsPerSocket    int           // 200 subscribed chats
	AdmissionRate     int           // 500 new connections per second, with a burst of as many; more wait for their turn
	AdmissionWait     time.Duration // 2 s that they wait at most; whose turn would come later is refused at once
	Authentications   int           // 64 handshakes that are authenticated at a time; waiting counts in RequestTimeout
	ConnectTimeout    time.Duration // 10 s until an un-joined connection is closed
	OutboundBytes     int64         // 1 MiB queued for one socket, then it is cut
	StallTimeout      time.Duration // 8 s in which a socket with much queued takes nothing, then it is cut
	RequestTimeout    time.Duration // 5 s for what a handshake or a client event asks of the database
	PingInterval      time.Duration // 25 s
	PingTimeout       time.Duration // 20 s
	TypingInterval    time.Duration // 1 s in which a repeated typing:start of one socket in one chat is not passed on again
	RevalidateEvery   time.Duration // 30 s between two calls of StillValid
	HeadsEvery        time.Duration // 1 s (plus up to a quarter) between two polls of the heads
	GapGrace          time.Duration // 25 ms: how long an event ahead of its turn waits before the log is read
	FeedLinger        time.Duration // 30 s that a feed outlives its last socket
	RingEvents        int           // 512 recent events kept per organization
	RingBytes         int           // 512 KiB of them
	RingAge           time.Duration // 2 min
	PageCacheBytes    int           // 128 MiB of the log kept for reconnecting herds, over all organizations, while they are used
	PageCacheAge      time.Duration // 30 s until a page that nobody uses is let go
	ConcurrentReplays int           // 16 sockets that catch up with more than a hundred events at a time; others wait
	ConcurrentReads   int           // 8 reads of the log at a time
	EmitterQueue      int           // 4096 messages that wait for Redis; the oldest are dropped
	PublishTimeout    time.Duration // 250 ms for one message
	RedisRetry        time.Duration // 250 ms between two attempts to reach Redis
	SubscriptionCheck time.Duration // 5 s of silence before the subscription is probed, and again before it is renewed
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.FrameBytes, 64<<10)
	setDefault(&l.EventsPerSecond, 100)
	setDefault(&l.SocketsPerUser, 50)
	setDefault(&l.RoomsPerSocket, 200)
	setDefault(&l.AdmissionRate, 500)
	setDefault(&l.AdmissionWait, 2*time.Second)
	setDefault(&l.Authentications, 64)
	setDefault(&l.ConnectTimeout, 10*time.Second)
	setDefault(&l.OutboundBytes, 1<<20)
	setDefault(&l.StallTimeout, 8*time.Second)
	setDefault(&l.RequestTimeout, 5*time.Second)
	setDefault(&l.PingInterval, 25*time.Second)
	setDefault(&l.PingTimeout, 20*time.Second)
	setDefault(&l.TypingInterval, time.Second)
	setDefault(&l.RevalidateEvery, 30*time.Second)
	setDefault(&l.HeadsEvery, time.Second)
	setDefault(&l.GapGrace, 25*time.Millisecond)
	setDefault(&l.FeedLinger, 30*time.Second)
	setDefault(&l.RingEvents, 512)
	setDefault(&l.RingBytes, 512<<10)
	setDefault(&l.RingAge, 2*time.Minute)
	setDefault(&l.PageCacheBytes, 128<<20)
	setDefault(&l.PageCacheAge, 30*time.Second)
	setDefault(&l.ConcurrentReplays, 16)
	setDefault(&l.ConcurrentReads, 8)
	setDefault(&l.EmitterQueue, 4096)
	setDefault(&l.PublishTimeout, 250*time.Millisecond)
	setDefault(&l.RedisRetry, 250*time.Millisecond)
	setDefault(&l.SubscriptionCheck, 5*time.Second)
	return l
}

func setDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Options are what a Server needs. Redis, Authenticator, Chats and Log are required.
type Options struct {
	// Redis carries what must reach other nodes. It should fail fast (timeouts below a second) and honour contexts.
	Redis         redis.UniversalClient
	Authenticator Authenticator
	Chats         Chats
	Log           Log
	// Typing may be nil: then customers see no typing.
	Typing TypingSink
	// AllowedOrigins are further origins ("https://app.example.com") from which browsers may connect; the server's own is
	// always allowed, and so are clients that send no Origin, which are no browsers. "*" allows every origin.
	AllowedOrigins []string
	// Prefix of the Redis channels; DefaultPrefix if empty.
	Prefix  string
	Logger  *slog.Logger
	Metrics Metrics
	Limits  Limits
}

func (o Options) validate() error {
	switch {
	case o.Redis == nil:
		return errors.New("realtime: Options.Redis is missing")
	case o.Authenticator == nil:
		return errors.New("realtime: Options.Authenticator is missing")
	case o.Chats == nil:
		return errors.New("realtime: Options.Chats is missing")
	case o.Log == nil:
		return errors.New("realtime: Options.Log is missing")
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Metrics = o.Metrics.withDefaults()
	o.Limits = o.Limits.withDefaults()
	return o
}

// withDefaults replaces functions that are not there, so that nobody has to ask.
func (m Metrics) withDefaults() Metrics {
	counted := func(f *func(string)) {
		if *f == nil {
			*f = func(string) {}
		}
	}
	counted(&m.AuthenticationFailed)
	counted(&m.Admission)
	counted(&m.Reset)
	counted(&m.LogRead)
	counted(&m.Cut)
	counted(&m.Dropped)
	number := func(f *func(int)) {
		if *f == nil {
			*f = func(int) {}
		}
	}
	number(&m.Behind)
	number(&m.Healed)
	number(&m.Replayed)
	number(&m.EmitterQueue)
	if m.ClientEvent == nil {
		m.ClientEvent = func(string, string) {}
	}
	if m.Broadcast == nil {
		m.Broadcast = func(string, int) {}
	}
	if m.Lag == nil {
		m.Lag = func(time.Duration) {}
	}
	return m
}
