package realtime

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	redisadapter "github.com/zishang520/socket.io/adapters/redis/v3"
	"github.com/zishang520/socket.io/adapters/redis/v3/emitter"

	"switchboard/internal/domain"
	"switchboard/internal/realtime/websocket"
)

func signalOf(b *testing.B, organizationID int64) *redis.Message {
	b.Helper()
	data, err := json.Marshal(map[string]any{"content": strings.Repeat("x", 560)})
	if err != nil {
		b.Fatal(err)
	}
	payload, err := json.Marshal(&emitter.Request{Uid: "emitter", Type: redisadapter.SERVER_SIDE_EMIT, Data: []any{
		eventSignal, organizationID, 1, domain.EventMessageNew, json.RawMessage(data), domain.At(time.Now()), testEpoch,
	}})
	if err != nil {
		b.Fatal(err)
	}
	return &redis.Message{Channel: "socket.io-request#/#", Payload: string(payload)}
}

// What a node pays for an event of an organization that has no sockets on it.
func BenchmarkEventWithoutSockets(b *testing.B) {
	o := Options{Logger: slog.New(slog.DiscardHandler), Prefix: DefaultPrefix}.withDefaults()
	h := newHub(newFakeLog(), o.Logger, o.Metrics, o.Limits)
	r := newRelay(o, relayEnds{wanted: h.wants, hear: h.hear, connected: func() {}, ended: func(string) {}})
	defer r.close()
	m := signalOf(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		r.take(m)
	}
}

type countingOutlet struct{ n int }

func (c *countingOutlet) send(*websocket.Frame) { c.n++ }
func (c *countingOutlet) pending() int64        { return 0 }
func (c *countingOutlet) live()                 {}
func (c *countingOutlet) tell()                 {}

// What a feed pays for an event with a thousand sockets, without their transports.
func BenchmarkFanout(b *testing.B) {
	o := Options{Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	h := newHub(newFakeLog(), o.Logger, o.Metrics, o.Limits)
	f := newFeed(h, 1)
	f.epoch = testEpoch
	for range 1000 {
		f.attach(&member{out: &countingOutlet{}}, start{epoch: testEpoch})
	}
	data := json.RawMessage(`{"content":"` + strings.Repeat("x", 560) + `"}`)
	b.ReportAllocs()
	seq := int64(0)
	for b.Loop() {
		seq++
		f.receive(domain.Event{OrganizationID: 1, Seq: seq, Epoch: testEpoch, Name: domain.EventMessageNew, Data: data})
	}
	if f.cursor != seq {
		b.Fatalf("the cursor is at %d of %d", f.cursor, seq)
	}
}
