package realtime

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"switchboard/internal/realtime/websocket"
)

// The types of Engine.IO packets (protocol 4) as they begin a text message.
const (
	packetOpen    = '0'
	packetClose   = '1'
	packetPing    = '2'
	packetPong    = '3'
	packetMessage = '4'
	packetUpgrade = '5'
	packetNoop    = '6'
	packetBinary  = 'b' // a message in base64
)

var (
	errHeartbeat = errors.New("realtime: a client must not send pings")
	errPacket    = errors.New("realtime: not a packet of Engine.IO")

	pingFrame = websocket.Text([]byte{packetPing})
)

// directSocket is an Engine.IO connection that is a WebSocket from its first byte on. It is what the library's own is
// for connections that begin with polling, without the state that only polling and upgrades need, without its timers'
// goroutines, and without the request that made it: an idle one takes a third of the memory.
type directSocket struct {
	listeners
	server  *Server
	id      string
	remote  string
	conn    *websocket.Conn
	watcher *connection

	mu       sync.Mutex // guards what follows
	state    string     // "open", "closing", "closed", as in the library
	request  *types.HttpContext
	beat     *time.Timer
	awaiting bool // a ping is out, and no pong has come
}

var (
	_ engine.Socket     = (*directSocket)(nil)
	_ websocket.Handler = (*directSocket)(nil)
)

// start tells the client that the connection is open, and begins to read.
func (d *directSocket) start(opening []byte) {
	d.conn.Send(websocket.Text(opening))
	d.mu.Lock()
	if d.state == "open" {
		d.beat = time.AfterFunc(d.server.options.Limits.PingInterval, d.heartbeat)
	}
	d.mu.Unlock()
	d.conn.Start()
}

// heartbeat is called when it is time for a ping, or too late for a pong.
func (d *directSocket) heartbeat() {
	d.mu.Lock()
	late, gone := d.awaiting, d.state != "open"
	if !late && !gone {
		d.awaiting = true
		d.beat.Reset(d.server.options.Limits.PingTimeout)
	}
	d.mu.Unlock()
	switch {
	case gone:
	case late:
		d.end("ping timeout", nil)
	default:
		d.conn.Send(pingFrame)
	}
}

func (d *directSocket) pong() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == "open" && d.awaiting {
		d.awaiting = false
		d.beat.Reset(d.server.options.Limits.PingInterval)
	}
}

// Message implements websocket.Handler.
func (d *directSocket) Message(text bool, data []byte) {
	if !d.watcher.allow(len(data)) || d.ReadyState() != "open" {
		return
	}
	if !text {
		d.Emit("data", types.NewBytesBuffer(bytes.Clone(data)))
		return
	}
	if len(data) == 0 {
		d.end("parse error", errPacket)
		return
	}
	switch kind, rest := data[0], data[1:]; kind {
	case packetMessage:
		d.watcher.arrived(len(data))
		d.Emit("data", types.NewStringBuffer(bytes.Clone(rest)))
	case packetPong:
		d.pong()
	case packetClose:
		d.end("transport close", nil)
	case packetPing:
		d.end("transport error", errHeartbeat)
	case packetBinary:
		d.Emit("data", types.NewBytesBuffer(bytes.Clone(rest))) // the decoder takes no binary: what it means does not matter
	case packetOpen, packetUpgrade, packetNoop:
	default:
		d.end("parse error", errPacket)
	}
}

// Aside implements websocket.Handler.
func (d *directSocket) Aside() { d.watcher.allow(0) }

// Sent implements websocket.Handler.
func (d *directSocket) Sent() { d.watcher.taken() }

// Full implements websocket.Handler.
func (d *directSocket) Full() { d.watcher.close("slow") }

// Closed implements websocket.Handler.
func (d *directSocket) Closed(err error) {
	var said *websocket.CloseError
	if errors.As(err, &said) || errors.Is(err, websocket.ErrEnded) || errors.Is(err, websocket.ErrAborted) {
		d.end("transport close", nil)
		return
	}
	d.end("transport error", err)
}

// Write sends a message. When the callback is called, the message is queued.
func (d *directSocket) Write(data io.Reader, options *packet.Options, sent engine.SendCallback) engine.Socket {
	if d.ReadyState() != "open" {
		return d
	}
	if f, err := d.frame(data, options); err != nil {
		d.end("transport error", err)
	} else {
		d.conn.Send(f)
	}
	if sent != nil {
		sent(d.Transport())
	}
	return d
}

// Send is Write.
func (d *directSocket) Send(data io.Reader, options *packet.Options, sent engine.SendCallback) engine.Socket {
	return d.Write(data, options, sent)
}

func (d *directSocket) frame(data io.Reader, options *packet.Options) (*websocket.Frame, error) {
	if options != nil && options.WsPreEncodedFrame != nil {
		return d.server.framed.of(options.WsPreEncodedFrame), nil
	}
	text := []byte{packetMessage}
	if buffer, isBuffer := data.(types.BufferInterface); isBuffer {
		if _, isText := data.(*types.StringBuffer); !isText {
			return websocket.Binary(buffer.Bytes()), nil
		}
		return websocket.Text(append(text, buffer.Bytes()...)), nil
	}
	rest, err := io.ReadAll(data)
	return websocket.Text(append(text, rest...)), err
}

// Close ends the connection: what is queued is still sent, unless the server cuts it.
func (d *directSocket) Close(bool) {
	d.mu.Lock()
	open := d.state == "open"
	d.mu.Unlock()
	if open {
		d.end("forced close", nil)
	}
}

// end is what every end comes to.
func (d *directSocket) end(reason string, cause error) {
	d.mu.Lock()
	if d.state == "closed" {
		d.mu.Unlock()
		return
	}
	d.state = "closed"
	if d.beat != nil {
		d.beat.Stop()
	}
	d.mu.Unlock()
	d.server.engine.Clients().Delete(d.id)
	if d.watcher.cut.Load() {
		d.conn.Abort()
	} else {
		d.conn.Close(websocket.CloseGoingAway, "")
	}
	d.Emit("close", reason, cause)
	d.server.unwatch(d.watcher)
}

// forgetRequest lets go of the request that made the connection.
func (d *directSocket) forgetRequest() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.request = d.server.spent
}

// Request is the request that made the connection until the socket has joined, then one that holds nothing.
func (d *directSocket) Request() *types.HttpContext {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.request
}

// ReadyState is "open", "closing" or "closed".
func (d *directSocket) ReadyState() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// SetReadyState sets it.
func (d *directSocket) SetReadyState(state string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = state
}

// Id is the secret by which a client would name the connection in further requests.
func (d *directSocket) Id() string { return d.id }

// RemoteAddress is where the client is.
func (d *directSocket) RemoteAddress() string { return d.remote }

// Protocol is the version of Engine.IO.
func (*directSocket) Protocol() int { return 4 }

// Upgraded says that there is nothing to upgrade to.
func (*directSocket) Upgraded() bool { return true }

// Upgrading is never so.
func (*directSocket) Upgrading() bool { return false }

// MaybeUpgrade refuses: Upgraded keeps the library from calling it.
func (*directSocket) MaybeUpgrade(t transports.Transport) { t.Close() }

// Construct does nothing: the connection is made by its server.
func (*directSocket) Construct(string, engine.BaseServer, transports.Transport, *types.HttpContext, int) {
}

// Transport is how the library sees the connection below.
func (d *directSocket) Transport() transports.Transport {
	return directTransport{d.server.noTransport, d}
}

// directTransport answers what is asked of a transport from outside.
type directTransport struct {
	transports.Transport // for all that nobody asks
	socket               *directSocket
}

func (t directTransport) Name() string { return transports.WEBSOCKET }

// Writable reports whether nothing waits: volatile packets are sent only then.
func (t directTransport) Writable() bool { return t.socket.conn.Queued() == 0 }

func (t directTransport) ReadyState() string { return t.socket.ReadyState() }

func (t directTransport) Protocol() int { return t.socket.Protocol() }

func (t directTransport) Sid() string { return t.socket.id }
