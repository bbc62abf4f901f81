package inbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// Publisher carries what is committed to the sockets. It must not block: what
// it loses, the readers of the log find again.
type Publisher interface {
	Publish(events []domain.Event)
	// User reaches one user's sockets; it is not in the log. The error is for
	// data that cannot be encoded.
	User(userID int64, event string, data any) error
	// Typing reaches those who have a chat open, or nobody; it is not in the log.
	Typing(chatID int64, on bool, data any) error
}

// Waker tells the worker that runs a channel that there is work in the
// database. It must not block, and may fail: workers poll as well.
type Waker interface {
	Wake(channelID int64)
	// Attend is Wake for what concerns the channel itself: it was changed, or its
	// session is asked something.
	Attend(channelID int64)
}

// Measures are told what the inbox does; any of them may be nil.
type Measures struct {
	// Ingested is told the time from the provider's clock to the commit, for
	// every new customer's message.
	Ingested func(kind domain.ChannelKind, delay time.Duration)
	// Duplicate counts redelivered messages that made no second row.
	Duplicate func(kind domain.ChannelKind)
	// Rejected counts inbound items that were set aside.
	Rejected func()
}

// Options are what a Service is made from. All but Measures are required.
type Options struct {
	Store     *store.Store
	Publisher Publisher
	Waker     Waker
	Logger    *slog.Logger
	Measures  Measures
	// Sealer keeps channels' credentials.
	Sealer Sealer
	// Kinds are the kinds of channels that this build can run.
	Kinds map[domain.ChannelKind]ConfigParser
}

// Service is the use cases of the inbox. It is safe for concurrent use.
type Service struct {
	store     *store.Store
	publisher Publisher
	waker     Waker
	logger    *slog.Logger
	measures  Measures
	sealer    Sealer
	kinds     map[domain.ChannelKind]ConfigParser
	owners    sync.Map // channel id → organization id; only ids that exist get in
	sources   sourceCache
	typists   typists
}

// New makes a Service.
func New(o Options) *Service {
	return &Service{
		store: o.Store, publisher: o.Publisher, waker: o.Waker, logger: o.Logger, measures: o.Measures, sealer: o.Sealer, kinds: o.Kinds,
	}
}

// write runs fn in a transaction of an organization and, once it is committed,
// publishes what fn told of.
func (s *Service) write(ctx context.Context, organizationID int64, fn func(*store.Tx) error, guards ...store.Guard) error {
	committed, err := s.store.InOrg(ctx, organizationID, fn, guards...)
	if err != nil {
		return err
	}
	s.publish(committed)
	return nil
}

func (s *Service) publish(committed store.Committed) {
	if len(committed.Events) > 0 {
		s.publisher.Publish(committed.Events)
	}
	for _, e := range committed.Users {
		if err := s.publisher.User(e.UserID, e.Name, e.Data); err != nil {
			s.logger.Error("event for a user not published", slog.String("event", e.Name), slog.Any("error", err))
		}
	}
}
