package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	redisadapter "github.com/zishang520/socket.io/adapters/redis/v3"
	"github.com/zishang520/socket.io/adapters/redis/v3/emitter"
	"github.com/zishang520/socket.io/servers/socket/v3"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

const (
	// minEventBytes is what a message takes without any text, and maxEventBytes keeps a window of events below what a node queues
	// for a socket before it makes the socket wait.
	minEventBytes = 550
	maxEventBytes = 2000
	maxWindow     = 256
)

// source publishes events to the clients of one server, by the way that is that server's own.
type source struct {
	sent int64 // the seq of the last event
	// shift tells by how many µs each event's time stamp is earlier than the moment from which its way is counted: for
	// Switchboard the return of the commit, for the others, which commit nothing, the call that publishes.
	shift []int64
	// publish makes the n events behind after.
	publish func(ctx context.Context, after int64, n int) (shift int64, err error)
}

func (s *source) send(ctx context.Context, n int) error {
	shift, err := s.publish(ctx, s.sent, n)
	if err != nil {
		return err
	}
	s.sent += int64(n)
	for range n {
		s.shift = append(s.shift, shift)
	}
	return nil
}

// message is an inbound text message with the time stamp in its text.
func (b *fanBench) message(stamp time.Time) domain.Message {
	return domain.Message{
		ID: 123456, ChatID: 4321, ChannelID: 12, Channel: "whatsapp", Type: domain.TypeText,
		Content: "@" + strconv.FormatInt(stamp.UnixMicro(), 10) + b.padding, Reactions: []domain.Reaction{},
		SenderName: customerName, Status: domain.StatusReceived, ExternalID: "wamid.HBgNNDk0OTAwMDAwMDAxFQIAEhgUM0E0RkQ4",
		ProviderTime: domain.At(stamp), CreatedAt: domain.At(stamp),
	}
}

// eventText is what goes over the wire to a client.
func eventText(message domain.Message, meta domain.Meta) (string, error) {
	data, err := json.Marshal(message)
	if err != nil {
		return "", fmt.Errorf("encode a message: %w", err)
	}
	more, err := json.Marshal(meta)
	if err != nil {
		return "", fmt.Errorf("encode an event's meta: %w", err)
	}
	return `42["` + domain.EventMessageNew + `",` + string(data) + "," + string(more) + "]", nil
}

// measurePadding finds out how much text brings an event to the wanted size.
func (b *fanBench) measurePadding() error {
	now := time.Now()
	text, err := eventText(b.message(now), domain.Meta{Seq: 1000, Epoch: b.epochs[crowded], At: domain.At(now)})
	if err != nil {
		return err
	}
	b.padding = strings.Repeat("x", max(b.bytes-len(text), 0))
	return nil
}

// ourSource commits events to an organization's log by the product's own transaction, and publishes them by its emitter.
func (b *fanBench) ourSource(organizationID, after int64) *source {
	return &source{sent: after, publish: func(ctx context.Context, after int64, n int) (int64, error) {
		stamp := time.Now()
		committed, err := b.commit(ctx, organizationID, stamp, n)
		if err != nil {
			return 0, err
		}
		shift := time.Since(stamp).Microseconds()
		if first := committed[0].Seq; first != after+1 {
			return 0, fmt.Errorf("the log of organization %d gave an event the seq %d, not %d", organizationID, first, after+1)
		}
		b.emitter.Publish(committed)
		return shift, b.nothingDropped()
	}}
}

// commit appends n events to an organization's log, in one transaction.
func (b *fanBench) commit(ctx context.Context, organizationID int64, stamp time.Time, n int) ([]domain.Event, error) {
	committed, err := b.store.InOrg(ctx, organizationID, func(tx *store.Tx) error {
		for range n {
			tx.NewMessage(b.message(stamp))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("commit events: %w", err)
	}
	if len(committed.Events) != n {
		return nil, fmt.Errorf("%d events were committed, not %d", len(committed.Events), n)
	}
	return committed.Events, nil
}

// nodeSource emits to a room by the protocol of the official Redis emitters, with the arguments that the product's events have.
func (b *fanBench) nodeSource(ctx context.Context, room string) *source {
	options := emitter.DefaultEmitterOptions()
	library := emitter.NewEmitter(redisadapter.NewRedisClient(ctx, b.redis), options)
	return &source{publish: func(_ context.Context, after int64, n int) (int64, error) {
		for i := range n {
			now := time.Now()
			data, err := plain(b.message(now))
			if err != nil {
				return 0, err
			}
			meta, err := plain(domain.Meta{Seq: after + int64(i) + 1, Epoch: b.epochs[crowded], At: domain.At(now)})
			if err != nil {
				return 0, err
			}
			if err := library.To(socket.Room(room)).Emit(domain.EventMessageNew, data, meta); err != nil {
				return 0, fmt.Errorf("emit to the Node server: %w", err)
			}
		}
		return 0, nil
	}}
}

// plain turns a value into what its JSON says, with whole numbers.
func plain(value any) (map[string]any, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	var decoded map[string]any
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		return nil, fmt.Errorf("decode an event: %w", err)
	}
	for name, field := range decoded {
		if number, is := field.(float64); is && number == float64(int64(number)) {
			decoded[name] = int64(number)
		}
	}
	return decoded, nil
}

// floorSource publishes whole texts.
func (b *fanBench) floorSource() *source {
	return &source{publish: func(ctx context.Context, after int64, n int) (int64, error) {
		for i := range n {
			now := time.Now()
			text, err := eventText(b.message(now), domain.Meta{Seq: after + int64(i) + 1, Epoch: b.epochs[crowded], At: domain.At(now)})
			if err != nil {
				return 0, err
			}
			if err := b.redis.Publish(ctx, fanFloorChannel, text).Err(); err != nil {
				return 0, fmt.Errorf("publish to the floor: %w", err)
			}
		}
		return 0, nil
	}}
}
