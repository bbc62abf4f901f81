package whatsapp

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
)

const (
	handshakeTimeout = 20 * time.Second
	writeTimeout     = 20 * time.Second
	restartDelay     = 5 * time.Second // after linking the client ends the socket by itself; this is for one that does not
	maxFrame         = 1 << 24
	// outLimit bounds the stanzas that wait for a socket. A client that is so far behind is cut, as by WhatsApp; what it did
	// not acknowledge waits in its queue.
	outLimit = 20_000
)

// conn is a socket. Its reader is the goroutine of the request; its writer sends what push collects.
type conn struct {
	srv *Server
	ws  *websocket.Conn
	rec *Connection // guarded by the ledger
	seq uint64
	ses *session

	recvCount uint32 // the reader's
	rest      []byte // of a WebSocket message with several frames; the reader's
	first     bool   // the reader's: the header was not read yet

	// Guarded by Server.mu.
	device  *device // logged in
	pairing *pairing
	reg     *waWa6.ClientPayload_DevicePairingRegistrationData
	code    *pairingCode
	passkey *passkeyLink
	active  bool // asked for messages
	over    bool // the last stanza was sent: nothing is read any more
	deaf    bool // half open
	why     string

	mu   sync.Mutex // guards what is below; taken after Server.mu
	out  []waBinary.Node
	stop bool
	wake chan struct{}
}

var upgrader = websocket.Upgrader{
	HandshakeTimeout: handshakeTimeout, ReadBufferSize: 2048, WriteBufferSize: 2048, WriteBufferPool: &sync.Pool{},
	CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == socket.Origin },
}

// serveSocket is the life of a socket.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader answered
	}
	ws.SetReadLimit(maxFrame + 16)
	c := &conn{srv: s, ws: ws, first: true, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = ws.Close()
		return
	}
	c.rec = s.ledger.connected(r.RemoteAddr)
	c.seq = c.rec.Seq
	s.conns[c] = struct{}{}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()
	c.run() //nolint:contextcheck // libsignal wants a context; the store that it asks is in memory
	s.mu.Lock()
	s.detachLocked(c)
	s.mu.Unlock()
}

func (c *conn) run() {
	if !c.handshake() {
		return
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	if c.srv.begin(c) {
		c.readAll()
	}
	c.close()
	<-written
}

func (c *conn) handshake() bool {
	if f := c.srv.faults.take(FaultHang, "", ""); f != nil {
		_, _ = c.read() // the hello
		_, _ = c.read() // never comes: the client gives up, or the simulator is closed
		c.cut(endFault)
		return false
	}
	deadline := time.AfterFunc(handshakeTimeout, func() { c.cut(endProtocol) })
	defer deadline.Stop()
	ses, err := c.srv.noise.handshake(c.read, func(b []byte) error {
		return c.ws.WriteMessage(websocket.BinaryMessage, frame(b))
	})
	if err != nil {
		c.cut(endClient)
		return false
	}
	c.ses = ses
	return true
}

func frame(b []byte) []byte {
	out := make([]byte, 0, 3+len(b))
	out = append(out, byte(len(b)>>16), byte(len(b)>>8), byte(len(b))) // #nosec G115 -- three bytes of the length
	return append(out, b...)
}

var errFrame = errors.New("not a frame")

// read returns the next frame.
func (c *conn) read() ([]byte, error) {
	for len(c.rest) == 0 {
		kind, b, err := c.ws.ReadMessage()
		if err != nil {
			return nil, err
		}
		if kind != websocket.BinaryMessage {
			return nil, errFrame
		}
		if c.first {
			if len(b) < 4 || b[0] != 'W' || b[1] != 'A' {
				return nil, errFrame
			}
			b, c.first = b[4:], false
		}
		c.rest = b
	}
	if len(c.rest) < 3 {
		return nil, errFrame
	}
	n := int(c.rest[0])<<16 | int(c.rest[1])<<8 | int(c.rest[2])
	if len(c.rest) < 3+n {
		return nil, errFrame
	}
	b := c.rest[3 : 3+n]
	c.rest = c.rest[3+n:]
	return b, nil
}

// readAll handles stanzas until the socket ends.
func (c *conn) readAll() {
	for {
		b, err := c.read()
		if err != nil {
			c.cut(endClient)
			return
		}
		plain, err := c.ses.recv.Open(b[:0], nonce(c.recvCount), b, nil)
		c.recvCount++
		if err != nil {
			c.cut(endProtocol)
			return
		}
		unpacked, err := waBinary.Unpack(plain)
		if err != nil {
			c.cut(endProtocol)
			return
		}
		node, err := waBinary.Unmarshal(unpacked)
		if err != nil {
			c.cut(endProtocol)
			return
		}
		if !c.pause() {
			return
		}
		c.srv.handle(c, node)
	}
}

// pause is FaultSlow.
func (c *conn) pause() bool {
	c.srv.mu.Lock()
	number := ""
	if c.device != nil {
		number = c.device.phone.Number
	}
	c.srv.mu.Unlock()
	f := c.srv.faults.take(FaultSlow, number, "")
	if f == nil || f.Delay == 0 {
		return true
	}
	timer := time.NewTimer(f.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.srv.done:
		return false
	}
}

// push queues stanzas for the writer. It needs Server.mu.
func (c *conn) push(nodes ...waBinary.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop || c.deaf {
		return
	}
	if len(c.out)+len(nodes) > outLimit {
		c.stop, c.why = true, endSlow
		_ = c.ws.UnderlyingConn().Close()
		return
	}
	c.out = append(c.out, nodes...)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *conn) write() {
	var count uint32
	var batch []waBinary.Node
	for range c.wake {
		c.mu.Lock()
		batch, c.out = c.out, batch[:0]
		stop := c.stop
		c.mu.Unlock()
		for _, n := range batch {
			plain, err := waBinary.Marshal(n)
			if err != nil {
				c.srv.log.Error("a stanza could not be written", slogErr(err))
				continue
			}
			_ = c.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
			sealed := c.ses.send.Seal(nil, nonce(count), plain, nil)
			count++
			if c.ws.WriteMessage(websocket.BinaryMessage, frame(sealed)) != nil {
				c.cut(endClient)
				stop = true
				break
			}
		}
		clear(batch)
		if stop {
			return
		}
	}
}

// close ends the socket and its writer.
func (c *conn) close() {
	c.mu.Lock()
	c.stop = true
	select {
	case c.wake <- struct{}{}:
	default:
	}
	c.mu.Unlock()
	_ = c.ws.Close()
}

func (c *conn) cut(why string) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.cutLocked(why)
}

// cutLocked ends the socket at once, as it is when a process or a line dies. The reader notices and detaches it.
func (c *conn) cutLocked(why string) {
	if c.why == "" {
		c.why = why
	}
	if tcp, ok := c.ws.UnderlyingConn().(*net.TCPConn); ok && why != endClient && why != endClosed {
		_ = tcp.SetLinger(0)
	}
	_ = c.ws.UnderlyingConn().Close()
}

// finishLocked sends a last stanza, and ends the socket a little later: if the end came with the stanza, the client would
// not have read why.
func (c *conn) finishLocked(why string, last waBinary.Node) {
	if c.over {
		return
	}
	c.over, c.why = true, why
	c.push(last)
	delay := c.srv.opts.CloseDelay
	if why == endRestart {
		delay = max(delay, restartDelay)
	}
	time.AfterFunc(delay, func() {
		c.srv.mu.Lock()
		defer c.srv.mu.Unlock()
		_ = c.ws.UnderlyingConn().Close()
	})
}

// detachLocked forgets a socket that ended.
func (s *Server) detachLocked(c *conn) {
	delete(s.conns, c)
	s.refs = dropRefs(s.refs, c)
	if c.why == "" {
		c.why = endClient
	}
	if p := c.pairing; p != nil {
		p.end(errPairingEnded)
	}
	if d := c.device; d != nil && d.conn == c {
		d.conn, d.available = nil, false
		s.events.Publish("device", d.view())
	}
	s.ledger.disconnected(c.rec, c.why)
}

// socketsOf are the logged-in sockets of a phone, or of all phones.
func (s *Server) socketsOf(number string) []*conn {
	var out []*conn
	for c := range s.conns {
		if c.device != nil && c.device.conn == c && (number == "" || c.device.phone.Number == number) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *conn) int { return int(a.seq) - int(b.seq) }) // #nosec G115 -- counts sockets
	return out
}
