package realtime

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"

	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"switchboard/internal/realtime/websocket"
)

// webSockets makes our WebSocket transport in place of the library's. That one frames every message for every socket
// anew, writes each by itself from a goroutine, keeps a goroutine and its buffers for every idle socket, hands packets
// over before anybody listens to them, and cuts the TCP connection while the last ones are still on their way.
type webSockets struct {
	transports.WebSocketBuilder
	loop   *websocket.Loop
	framed *framed
}

func (b *webSockets) New(ctx *types.HttpContext) transports.Transport {
	t := &webSocket{Transport: transports.MakeTransport(), framed: b.framed, upgrade: ctx.Query().Has("sid")}
	t.Prototype(t)
	t.Construct(ctx)
	t.conn = b.loop.Add(ctx.Websocket.NetConn(), t)
	// The handshake's connection has done its work; its buffers would stay as long as the request, which the library keeps.
	ctx.Websocket.Conn = nil
	t.SetWritable(true) // always: what waits, waits in conn
	return t
}

// webSocket is one connection: the library's packets go in above, frames leave below.
type webSocket struct {
	transports.Transport
	conn    *websocket.Conn
	framed  *framed
	upgrade bool // of a connection that began with polling
	watcher atomic.Pointer[connection]
	heard   atomic.Int32 // listeners that an upgrade has attached: of packets, of errors, of the end
	early   int          // frames before the upgrade is made; belongs to whoever reads
}

// earlyFrames is how many frames a client may send before the server has made the upgrade: it needs two.
const earlyFrames = 100

var _ websocket.Handler = (*webSocket)(nil)

// begin starts to read: the server listens now.
func (t *webSocket) begin() { t.conn.Start() }

// On and Once are overridden for upgrades: the client sends its probe at once, and the library listens after it has got
// the transport. Reading begins when the last of its three listeners is attached.
func (t *webSocket) On(name types.EventName, listeners ...types.EventListener) error {
	defer t.listening(name)
	return t.Transport.On(name, listeners...)
}

func (t *webSocket) Once(name types.EventName, listeners ...types.EventListener) error {
	defer t.listening(name)
	return t.Transport.Once(name, listeners...)
}

func (t *webSocket) listening(name types.EventName) {
	if !t.upgrade {
		return
	}
	switch name {
	case "packet", "error", "close":
		if t.heard.Add(1) == 3 {
			t.begin()
		}
	}
}

func (*webSocket) Name() string { return transports.WEBSOCKET }

func (*webSocket) HandlesUpgrades() bool { return true }

// Send queues packets of the library.
func (t *webSocket) Send(packets []*packet.Packet) {
	for _, p := range packets {
		f, err := t.frame(p)
		if err != nil {
			t.OnError("websocket: encode a packet", err)
			return
		}
		t.conn.Send(f)
	}
	t.Emit("drain") // what waits for the end of this writing is called at once: the connection's queue is not the library's
}

// frame makes the frame of a packet. That of a broadcast is made once for all.
func (t *webSocket) frame(p *packet.Packet) (*websocket.Frame, error) {
	if p.Options != nil && p.Options.WsPreEncodedFrame != nil {
		return t.framed.of(p.Options.WsPreEncodedFrame), nil
	}
	data, err := t.Parser().EncodePacket(p, t.SupportsBinary())
	if err != nil {
		return nil, err
	}
	return wireOf(data), nil
}

func wireOf(data types.BufferInterface) *websocket.Frame {
	if _, isText := data.(*types.StringBuffer); isText {
		return websocket.Text(data.Bytes())
	}
	return websocket.Binary(data.Bytes())
}

// framed remembers the frame of the newest broadcast, while it goes to one socket after the other.
type framed struct{ last atomic.Pointer[framedOnce] }

type framedOnce struct {
	of    types.BufferInterface
	frame *websocket.Frame
}

func (f *framed) of(data types.BufferInterface) *websocket.Frame {
	if last := f.last.Load(); last != nil && last.of == data {
		return last.frame
	}
	made := wireOf(data)
	f.last.Store(&framedOnce{data, made})
	return made
}

// DoClose says goodbye, once what was sent before is out; a connection that the server cuts gets no farewell.
func (t *webSocket) DoClose(done types.Callable) {
	if c := t.watcher.Load(); c != nil && c.cut.Load() {
		t.conn.Abort()
	} else {
		t.conn.Close(websocket.CloseGoingAway, "")
	}
	if done != nil {
		done()
	}
}

// soon reports whether a frame may be taken that comes before the upgrade is made; afterwards, the connection counts.
func (t *webSocket) soon() bool {
	if t.watcher.Load() != nil {
		return true
	}
	if t.early++; t.early <= earlyFrames {
		return true
	}
	t.conn.Abort()
	return false
}

// Aside implements websocket.Handler.
func (t *webSocket) Aside() {
	if t.soon() {
		if c := t.watcher.Load(); c != nil {
			c.allow(0)
		}
	}
}

// Message implements websocket.Handler.
func (t *webSocket) Message(text bool, data []byte) {
	if !t.soon() {
		return
	}
	data = bytes.Clone(data)
	if text {
		t.OnData(types.NewStringBuffer(data))
	} else {
		t.OnData(types.NewBytesBuffer(data))
	}
}

// Sent implements websocket.Handler.
func (t *webSocket) Sent() {
	if c := t.watcher.Load(); c != nil {
		c.taken()
	}
}

// Full implements websocket.Handler.
func (t *webSocket) Full() {
	if c := t.watcher.Load(); c != nil {
		c.close("slow")
		return
	}
	t.conn.Abort()
}

// Closed implements websocket.Handler.
func (t *webSocket) Closed(err error) {
	var said *websocket.CloseError
	switch {
	case errors.As(err, &said), errors.Is(err, websocket.ErrEnded), errors.Is(err, websocket.ErrAborted), errors.Is(err, io.EOF):
		t.OnClose()
	default:
		t.OnError("websocket error", err)
	}
}
