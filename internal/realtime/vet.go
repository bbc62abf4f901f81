package realtime

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/zishang520/socket.io/adapters/adapter/v3"
	redisadapter "github.com/zishang520/socket.io/adapters/redis/v3"
	"github.com/zishang520/socket.io/parsers/socket/v3/parser"
	"github.com/zishang520/socket.io/servers/socket/v3"

	"switchboard/internal/domain"
)

const (
	// largestMessage is the largest message from Redis that is looked at, and deepestMessage how far values may nest in it:
	// decoders recurse, and a stack that overflows cannot be recovered.
	largestMessage = 4 << 20
	deepestMessage = 64
	// eventSignal is the name of the server-side emit that carries a committed event, and eventFields how many values it has:
	// the name, organizationId, seq, event name, data, at, epoch.
	eventSignal = "event"
	eventFields = 7
)

// request is a checked message of the request channel: a committed event, or an order for the adapter in the form in which
// it is passed on, or the name of rights that ended, or nothing: an event that nobody here wants.
type request struct {
	event     *domain.Event
	canonical string
	ended     string
}

// order is what may be asked of all nodes: that sockets join or leave rooms, or are disconnected.
type order struct {
	Type  adapter.MessageType `json:"type"`
	Opts  *orderTarget        `json:"opts"`
	Rooms []socket.Room       `json:"rooms,omitempty"`
	Close bool                `json:"close,omitempty"`
}

type orderTarget struct {
	Rooms  []socket.Room `json:"rooms"`
	Except []socket.Room `json:"except"`
}

// endsRights returns the name of those whose rights the order says have ended; "" if it is another order.
func (o order) endsRights() string {
	if o.Type != redisadapter.REMOTE_DISCONNECT || !o.Close || len(o.Opts.Rooms) != 1 || len(o.Opts.Except) > 0 {
		return ""
	}
	if room := string(o.Opts.Rooms[0]); namesRights(room) {
		return room
	}
	return ""
}

// checkRequest reads a message of the request channel. Requests that ask for an answer (fetchSockets, allRooms, broadcasts
// with acknowledgement) are refused: they are not used, their answers would carry handshakes with tokens over the wire, and the
// adapter's broadcast acknowledgement is broken.
//
// Of a committed event, only the organization is read if wanted says that nobody here needs the rest: a node hears the events of
// all organizations and has sockets of some.
func checkRequest(payload string, wanted func(organizationID int64) bool) (request, error) {
	if len(payload) > largestMessage {
		return request{}, errors.New("a request that is too large")
	}
	if id, found := addressee(payload); found && !wanted(id) {
		return request{}, nil
	}
	var r struct {
		order

		Data      []json.RawMessage `json:"data"`
		RequestID string            `json:"requestId"`
		Sid       string            `json:"sid"`
	}
	if err := json.Unmarshal([]byte(payload), &r); err != nil {
		return request{}, fmt.Errorf("a request that is no JSON object: %w", err)
	}
	switch r.Type {
	case redisadapter.SERVER_SIDE_EMIT:
		e, err := parseSignal(r.Data, wanted)
		return request{event: e}, err
	case redisadapter.REMOTE_JOIN, redisadapter.REMOTE_LEAVE, redisadapter.REMOTE_DISCONNECT:
		if r.Opts == nil {
			return request{}, errors.New("a request for a single socket")
		}
		if room := r.endsRights(); room != "" {
			return request{ended: room}, nil
		}
		canonical, err := json.Marshal(r.order)
		return request{canonical: string(canonical)}, err
	default:
		return request{}, fmt.Errorf("a request of type %d", r.Type)
	}
}

// addressee finds the organization of a committed event without decoding it, in the form in which our emitters write it. A
// node hears the events of all organizations, and most are of others: this is what each of them costs.
func addressee(payload string) (organizationID int64, found bool) {
	const mark, within = `"data":["` + eventSignal + `",`, 256
	_, rest, found := strings.Cut(payload[:min(len(payload), within)], mark)
	if !found {
		return 0, false
	}
	digits, _, found := strings.Cut(rest, ",")
	if !found {
		return 0, false
	}
	id, err := strconv.ParseInt(digits, 10, 64)
	return id, err == nil && id > 0
}

// parseSignal reads the values of a committed event; nil means that nobody wants it.
func parseSignal(data []json.RawMessage, wanted func(int64) bool) (*domain.Event, error) {
	if len(data) != eventFields {
		return nil, fmt.Errorf("a server-side emit of %d values", len(data))
	}
	if id, err := strconv.ParseInt(string(data[1]), 10, 64); err == nil && id > 0 && !wanted(id) {
		return nil, nil //nolint:nilnil // documented
	}
	var (
		name string
		e    domain.Event
	)
	for i, into := range []any{&name, &e.OrganizationID, &e.Seq, &e.Name, &e.Data, &e.At, &e.Epoch} {
		if err := json.Unmarshal(data[i], into); err != nil {
			return nil, fmt.Errorf("value %d of a server-side emit: %w", i, err)
		}
	}
	if name != eventSignal || e.OrganizationID <= 0 || e.Seq <= 0 || e.Name == "" || e.Epoch == "" {
		return nil, errors.New("a server-side emit that is no event")
	}
	return &e, nil
}

// checkBroadcast decides whether the adapter may see a broadcast: a packet in MessagePack that decodes, is an event, and can be
// written as JSON. One that cannot would reach the clients as an empty packet and disconnect them all.
func checkBroadcast(payload string) error {
	if len(payload) > largestMessage {
		return errors.New("a broadcast that is too large")
	}
	raw := []byte(payload)
	if err := scanMessagePack(raw, deepestMessage); err != nil {
		return err
	}
	var p *redisadapter.RedisPacket
	if err := msgpack.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("a broadcast that cannot be decoded: %w", err)
	}
	if p == nil || p.Packet == nil {
		return errors.New("a broadcast without a packet")
	}
	if p.Packet.Type != parser.EVENT || (p.Packet.Nsp != "" && p.Packet.Nsp != "/") {
		return errors.New("a broadcast that is no event of the default namespace")
	}
	if p.Packet.Id != nil { // clients would answer, and nobody listens
		return errors.New("a broadcast that wants to be acknowledged")
	}
	args, isList := p.Packet.Data.([]any)
	if !isList || len(args) == 0 {
		return errors.New("a broadcast without arguments")
	}
	if name, isText := args[0].(string); !isText || name == "" || socket.SOCKET_RESERVED_EVENTS.Has(name) {
		return errors.New("a broadcast without a usable event name")
	}
	if !writable(p.Packet.Data) {
		return errors.New("a broadcast with a value that JSON cannot say")
	}
	return nil
}

// writable reports whether the library's encoder can write a decoded value.
func writable(value any) bool {
	switch v := value.(type) {
	case nil, bool, string, []byte,
		int8, int16, int32, int64, int, uint8, uint16, uint32, uint64, uint:
		return true
	case float32:
		return writable(float64(v))
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case []any:
		for _, item := range v {
			if !writable(item) {
				return false
			}
		}
		return true
	case map[string]any:
		for _, item := range v {
			if !writable(item) {
				return false
			}
		}
		return true
	default:
		return false
	}
}

var errMessagePack = errors.New("a broadcast that is not MessagePack")

// scanMessagePack walks over one MessagePack value without recursion and without building anything. It fails when the value is
// cut short, is followed by something, or nests deeper than deepest.
func scanMessagePack(b []byte, deepest int) error {
	open := []uint64{1} // how many values each open container still wants
	for len(open) > 0 {
		top := len(open) - 1
		if open[top] == 0 {
			open = open[:top]
			continue
		}
		open[top]--
		size, children, err := messagePackHead(b)
		if err != nil || uint64(len(b)) < size {
			return errMessagePack
		}
		b = b[size:]
		if children > uint64(len(b)) { // every child takes a byte at least
			return errMessagePack
		}
		if children > 0 {
			if len(open) > deepest {
				return errors.New("a broadcast that nests too deep")
			}
			open = append(open, children)
		}
	}
	if len(b) > 0 {
		return errMessagePack
	}
	return nil
}

// messagePackHead reads the head of the value that b begins with: how many bytes it takes with its own content, and how many
// values follow as its children.
func messagePackHead(b []byte) (size, children uint64, err error) {
	if len(b) == 0 {
		return 0, 0, errMessagePack
	}
	// length reads the big-endian number of width bytes behind the first one.
	length := func(width int) uint64 {
		if len(b) < 1+width {
			err = errMessagePack
			return 0
		}
		var padded [8]byte
		copy(padded[8-width:], b[1:1+width])
		return binary.BigEndian.Uint64(padded[:])
	}
	switch c := b[0]; {
	case c <= 0x7f || c >= 0xe0: // small integers
		return 1, 0, nil
	case c <= 0x8f:
		return 1, 2 * uint64(c&0x0f), nil
	case c <= 0x9f:
		return 1, uint64(c & 0x0f), nil
	case c <= 0xbf:
		return 1 + uint64(c&0x1f), 0, nil
	case c == 0xc0 || c == 0xc2 || c == 0xc3: // nil, false, true
		return 1, 0, nil
	case c >= 0xc4 && c <= 0xc6: // bin 8, 16, 32
		width := 1 << (c - 0xc4)
		return 1 + uint64(width) + length(width), 0, err
	case c >= 0xc7 && c <= 0xc9: // ext 8, 16, 32
		width := 1 << (c - 0xc7)
		return 2 + uint64(width) + length(width), 0, err
	case c == 0xca || c == 0xd2 || c == 0xce: // 4 bytes
		return 5, 0, nil
	case c == 0xcb || c == 0xd3 || c == 0xcf: // 8 bytes
		return 9, 0, nil
	case c == 0xcc || c == 0xd0:
		return 2, 0, nil
	case c == 0xcd || c == 0xd1:
		return 3, 0, nil
	case c >= 0xd4 && c <= 0xd8: // fixext 1, 2, 4, 8, 16
		return 2 + 1<<(c-0xd4), 0, nil
	case c >= 0xd9 && c <= 0xdb: // str 8, 16, 32
		width := 1 << (c - 0xd9)
		return 1 + uint64(width) + length(width), 0, err
	case c == 0xdc || c == 0xdd: // array 16, 32
		width := 2 << (c - 0xdc)
		return 1 + uint64(width), length(width), err
	case c == 0xde || c == 0xdf: // map 16, 32
		width := 2 << (c - 0xde)
		return 1 + uint64(width), 2 * length(width), err
	default: // 0xc1 is never used
		return 0, 0, errMessagePack
	}
}
