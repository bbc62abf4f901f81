package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

// Measures are told what a worker does; any of them may be nil. They are called
// from several goroutines and must not block.
type Measures struct {
	// LeasesHeld is the number of channels that the worker owns now.
	LeasesHeld func(n int)
	// LeaseLost counts leases that were lost without being given up.
	LeaseLost func()
	// Sent counts a finished attempt by result: sent, failed, unknown, retry.
	// latency is the time since the message was queued.
	Sent func(kind domain.ChannelKind, result string, latency time.Duration)
	// OutboxDepth is the number of messages that wait on the worker's channels.
	OutboxDepth func(n int64)
	// PoolWorkers is the number of live workers of the pool, HandedBack counts
	// channels that were given up for another worker, by reason: "spread" or
	// "reserved".
	PoolWorkers func(n int)
	HandedBack  func(reason string)
	// Channels is the number of the worker's channels by kind and state.
	Channels func(counts map[ChannelCount]int)
}

// ChannelCount is what channels are counted by.
type ChannelCount struct {
	Kind  domain.ChannelKind
	State domain.ChannelState
}

// Options are what a Worker is made from. The first group is required.
type Options struct {
	// ID is the name that a channel's status shows. Several processes may
	// share it without harm.
	ID        string
	Store     *store.Store
	Inbox     *inbox.Service
	Factories map[domain.ChannelKind]channel.Factory
	Logger    *slog.Logger

	// OpenMedia opens a stored file of an organization for sending.
	OpenMedia func(ctx context.Context, organizationID, mediaID int64) (io.ReadCloser, domain.Media, error)
	// Media fetches files; nil leaves them pending.
	Media *inbox.MediaFetch
	// Wakes brings wake-ups; nil means that polling alone finds work. The
	// caller starts and stops it.
	Wakes    *Wakes
	Measures Measures
	// ShowQR shows a QR code of a channel where the worker was started; it is
	// called in dedicated mode. nil: the code is shown to the admin alone.
	ShowQR func(channelID int64, qr string)

	// MaxChannels bounds what is taken in pool mode (200).
	MaxChannels int
	// Channels are the channels of dedicated mode: these and no others, and no
	// worker of the pool has them meanwhile. Empty means pool mode.
	Channels []int64
	LeaseTTL time.Duration // 10 s
	// PollInterval is the time between two looks at the database (1.5 s, or a
	// quarter of a short LeaseTTL), give or take a fifth.
	PollInterval time.Duration
	// SendTimeout bounds one send (90 s); the loss of the lease ends it sooner. One
	// with a file gets longer, for its upload.
	SendTimeout time.Duration
	// ReceiveTimeout bounds one try to store what a session received (1 min): the
	// session must not hang for as long as somebody locks a row.
	ReceiveTimeout time.Duration
	// DrainTimeout is what sends that are under way get to finish when the
	// worker stops, the channel is disabled or the session has failed (1 s).
	DrainTimeout time.Duration
	// StopTimeout is how long a stopped session may take to end (10 s). One
	// that takes longer is left behind with its lease.
	StopTimeout time.Duration
	// MinBackoff and MaxBackoff bound the wait before a failed session is
	// opened again (1 s, 1 min).
	MinBackoff, MaxBackoff time.Duration
	// Parallel is how many chats of a channel are sent to at once (8).
	Parallel int
	// ParallelMedia is how many downloads run at once in the worker (8).
	ParallelMedia int
}

const (
	// slowLine is what a line must carry, in bytes a second, for the upload of a
	// file to end in time; maxUpload is the most that any upload gets.
	slowLine  = 200_000
	maxUpload = 10 * time.Minute
)

// timeoutOf bounds the send of a message.
func (o *Options) timeoutOf(m domain.Message) time.Duration {
	if m.Media == nil {
		return o.SendTimeout
	}
	seconds := min(max(m.Media.Size, 0)/slowLine, int64(maxUpload/time.Second))
	return o.SendTimeout + time.Duration(seconds)*time.Second
}

func (o *Options) setDefaults() error {
	if o.ID == "" || o.Store == nil || o.Inbox == nil || len(o.Factories) == 0 || o.Logger == nil {
		return errors.New("worker: ID, Store, Inbox, Factories and Logger are required")
	}
	orDefault(&o.MaxChannels, 200)
	orDefault(&o.LeaseTTL, 10*time.Second)
	orDefault(&o.PollInterval, min(1500*time.Millisecond, o.LeaseTTL/4)) // each look is also a sign of life
	orDefault(&o.SendTimeout, 90*time.Second)
	orDefault(&o.ReceiveTimeout, time.Minute)
	orDefault(&o.DrainTimeout, time.Second)
	orDefault(&o.StopTimeout, 10*time.Second)
	orDefault(&o.MinBackoff, time.Second)
	orDefault(&o.MaxBackoff, time.Minute)
	orDefault(&o.Parallel, 8)
	orDefault(&o.ParallelMedia, 8)
	return nil
}

func orDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

func (o *Options) kinds() []domain.ChannelKind {
	kinds := make([]domain.ChannelKind, 0, len(o.Factories))
	for kind := range o.Factories {
		kinds = append(kinds, kind)
	}
	return kinds
}

// margin is how long before a lease's expiry it is not trusted any more: the
// time for a session to end, and for two clocks to differ in speed.
func (o *Options) margin() time.Duration { return o.LeaseTTL / 8 }
