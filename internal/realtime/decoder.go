package realtime

import (
	"errors"
	"sync/atomic"

	"github.com/zishang520/socket.io/parsers/socket/v3/parser"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

var (
	errBinary       = errors.New("realtime: binary packets are not accepted")
	errManyConnects = errors.New("realtime: too many connection attempts on one connection")
)

// connectAttempts is how many CONNECT packets one connection may send: each costs an authentication.
const connectAttempts = 5

// textParser makes decoders that take text only. The library's own would keep the attachments of a packet that announced
// none for as long as the connection lives, 200 MiB and more.
type textParser struct{ parser.Parser }

func newTextParser() parser.Parser { return textParser{parser.NewParser()} }

func (p textParser) NewDecoder() parser.Decoder { return &textDecoder{Decoder: p.Parser.NewDecoder()} }

// textDecoder refuses everything that could make the inner decoder wait for attachments. An error ends the connection.
type textDecoder struct {
	parser.Decoder
	connects atomic.Int32 // two transports may deliver while an upgrade is under way
}

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
		case parser.CONNECT:
			if d.connects.Add(1) > connectAttempts {
				return errManyConnects
			}
		}
	}
	return d.Decoder.Add(text)
}
