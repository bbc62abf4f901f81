package realtime

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/zishang520/socket.io/servers/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"switchboard/internal/domain"
	"switchboard/internal/realtime/websocket"
)

// framePrefix begins the text of every event frame: Engine.IO message (4), Socket.IO event (2), default namespace.
const framePrefix = "42"

// frame is a logged event as it goes over the wire, encoded once for all who receive it. It is never changed.
type frame struct {
	seq  int64
	at   domain.Time
	name string
	wire *websocket.Frame // the Engine.IO text, 42["name",data,meta], in its WebSocket frame
}

func (f *frame) size() int { return f.wire.Len() }

// newFrame encodes an event. Its data goes out byte for byte, without being decoded on the way.
func newFrame(e domain.Event) (*frame, error) {
	if !json.Valid(e.Data) || !utf8.Valid(e.Data) { // a text message with anything else would end every connection that gets it
		return nil, fmt.Errorf("realtime: the data of event %d is not JSON in UTF-8", e.Seq)
	}
	text, err := eventText(e.Name, e.Data, e.Meta())
	if err != nil {
		return nil, fmt.Errorf("realtime: encode event %d: %w", e.Seq, err)
	}
	return &frame{seq: e.Seq, at: e.At, name: e.Name, wire: websocket.Text(text)}, nil
}

func eventText(name string, data json.RawMessage, more ...any) ([]byte, error) {
	quoted, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	text := make([]byte, 0, len(framePrefix)+len(quoted)+len(data)+128)
	text = append(text, framePrefix...)
	text = append(text, '[')
	text = append(text, quoted...)
	text = append(text, ',')
	text = append(text, data...)
	for _, value := range more {
		encoded, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		text = append(text, ',')
		text = append(text, encoded...)
	}
	return append(text, ']'), nil
}

// packetsOf puts a frame into the form that the library's connections take. A WebSocket transport sends the whole text as it
// is; polling, and an upgrade under way, take the packet and add the Engine.IO type themselves.
func packetsOf(f *websocket.Frame) ([]types.BufferInterface, *socket.WriteOptions) {
	text := f.Payload()
	options := &socket.WriteOptions{PreEncoded: true}
	options.WsPreEncodedFrame = types.NewStringBuffer(text)
	return []types.BufferInterface{types.NewStringBuffer(text[1:])}, options
}
