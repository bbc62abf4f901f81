package realtime

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

const (
	// farewell is how long an orderly close waits for what was sent just before, such as the packet that tells the client
	// not to come back, and closeFrame how long the WebSocket close frame may take.
	farewell   = time.Second
	closeFrame = 50 * time.Millisecond
)

// webSockets makes the library's WebSocket transport with a clean end: the stock one drops what is still being sent and
// cuts the TCP connection, which clients take for a network failure.
type webSockets struct{ transports.WebSocketBuilder }

func (*webSockets) New(ctx *types.HttpContext) transports.Transport {
	t := &webSocket{Transport: transports.MakeWebSocket(), conn: ctx.Websocket.Conn}
	t.Prototype(t) // before Construct, which starts to read
	t.Construct(ctx)
	return t
}

type webSocket struct {
	transports.Transport
	opening opening
	conn    *websocket.Conn
	closing atomic.Bool
}

// Send holds the packet that opens the connection.
func (t *webSocket) Send(packets []*packet.Packet) {
	if t.opening.hold(packets) {
		t.SetWritable(false)
		return
	}
	t.Transport.Send(packets)
}

func (t *webSocket) begin() {
	if held := t.opening.open(); len(held) > 0 {
		t.Transport.Send(held)
	}
}

// DoClose says goodbye, once what was sent before is out, and closes.
func (t *webSocket) DoClose(done types.Callable) {
	if !t.closing.CompareAndSwap(false, true) {
		return
	}
	var once sync.Once
	finish := func() {
		once.Do(func() {
			// A peer that does not read holds the writer; it gets no farewell.
			message := websocket.FormatCloseMessage(websocket.CloseGoingAway, "")
			_ = t.conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(closeFrame))
			t.Transport.DoClose(done)
		})
	}
	if t.Discarded() || t.Writable() {
		finish()
		return
	}
	timer := time.AfterFunc(farewell, finish)
	sent := func(...any) {
		if t.Writable() {
			timer.Stop()
			finish()
		}
	}
	_ = t.On("ready", sent)
	sent() // it may have become ready in between
}
