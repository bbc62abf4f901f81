package realtime

import (
	"sync"

	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
)

// opening holds back the packet that opens a polling connection until the server listens to it. The library sends it
// first and listens after: a client that answers in between is not heard, and waits for nothing until its own time limit
// (four in ten thousand handshakes, more on a busy machine). A WebSocket is not read before the server listens.
type opening struct {
	mu     sync.Mutex // guards what follows
	opened bool
	held   []*packet.Packet
}

// hold reports whether the packets must wait.
func (o *opening) hold(packets []*packet.Packet) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.opened && (len(o.held) > 0 || (len(packets) > 0 && packets[0].Type == packet.OPEN)) {
		o.held = append(o.held, packets...)
		return true
	}
	return false
}

// open returns what was held.
func (o *opening) open() []*packet.Packet {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened = true
	held := o.held
	o.held = nil
	return held
}

// opener is a transport that waits for the server to listen.
type opener interface {
	// begin is called when the server listens to the connection.
	begin()
}

var (
	_ opener = (*webSocket)(nil)
	_ opener = (*pollingTransport)(nil)
)
