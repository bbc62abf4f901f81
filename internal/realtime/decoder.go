package realtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/zishang520/socket.io/parsers/socket/v3/parser"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

var (
	errBinary       = errors.New("realtime: binary packets are not accepted")
	errPayload      = errors.New("realtime: a packet whose payload is no JSON value")
	errAnswer       = errors.New("realtime: an acknowledgement that nobody asked for")
	errManyConnects = errors.New("realtime: too many connection attempts on one connection")
)

// connectAttempts is how many CONNECT packets one connection may send: each costs an authentication.
const connectAttempts = 5

// textParser makes decoders that take text only. The library's own would keep the attachments of a packet that announced
// none for as long as the connection lives, 200 MiB and more.
type textParser struct {
	parser.Parser
	logger *slog.Logger
	spare  *sync.Pool // of *sharedDecoder
}

func newTextParser(logger *slog.Logger) parser.Parser {
	p := textParser{Parser: parser.NewParser(), logger: logger, spare: &sync.Pool{}}
	p.spare.New = func() any { return newSharedDecoder(p.Parser.NewDecoder()) }
	return p
}

func (p textParser) NewDecoder() parser.Decoder {
	return &textDecoder{listeners: listeners{logger: p.logger}, spare: p.spare}
}

// sharedDecoder is one of the library's decoders. Without attachments it remembers nothing from one packet to the next, so
// that few serve all connections.
type sharedDecoder struct {
	parser.Decoder
	user *textDecoder // whose packet is being decoded
}

func newSharedDecoder(inner parser.Decoder) *sharedDecoder {
	s := &sharedDecoder{Decoder: inner}
	_ = inner.On("decoded", func(args ...any) { s.user.Emit("decoded", args...) })
	return s
}

// textDecoder is the decoder of one connection. It refuses everything that could make the library's wait for attachments.
// An error ends the connection.
type textDecoder struct {
	listeners
	spare    *sync.Pool
	connects atomic.Int32 // two transports may deliver while an upgrade is under way
}

// Add decodes a packet.
func (d *textDecoder) Add(data any) error {
	var text *types.StringBuffer
	switch value := data.(type) {
	case string:
		text = &types.StringBuffer{Buffer: types.NewBufferString(value)}
	case *types.StringBuffer:
		text = value
	default:
		return errBinary
	}
	content := text.Bytes()
	if len(content) > 0 {
		switch parser.PacketType(content[0]) - '0' {
		case parser.BINARY_EVENT, parser.BINARY_ACK:
			return errBinary
		case parser.ACK: // the server asks for none
			return errAnswer
		case parser.CONNECT:
			if d.connects.Add(1) > connectAttempts {
				return errManyConnects
			}
		}
	}
	if payload := payloadOf(content); len(payload) > 0 && !json.Valid(payload) {
		return errPayload
	}
	shared, _ := d.spare.Get().(*sharedDecoder)
	shared.user = d
	err := shared.Add(text)
	shared.user = nil
	d.spare.Put(shared)
	return err
}

// payloadOf returns the JSON of a text packet: what stands behind type, namespace and id. The library reads one value and
// does not look whether something follows it.
func payloadOf(content []byte) []byte {
	if len(content) == 0 {
		return nil
	}
	rest := content[1:]
	if len(rest) > 0 && rest[0] == '/' {
		_, rest, _ = bytes.Cut(rest, []byte{','})
	}
	return bytes.TrimLeft(rest, "0123456789")
}

// Destroy ends the decoder.
func (d *textDecoder) Destroy() { d.Clear() }
