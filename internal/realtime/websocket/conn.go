package websocket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// keptQueue is how long an empty queue may be and keep its memory.
const keptQueue = 8

// Conn is a connection. Make it with Loop.Add.
type Conn struct {
	// What every frame needs comes first: with thousands of connections, each cache line that a broadcast touches counts.
	mu        sync.Mutex // guards state, scheduled, ponging, told, left, queue, offset and farewell
	state     connState
	scheduled bool // stands in the lane's line, is being written, or drains
	ponging   bool // a pong is in the queue
	told      bool // Closed was called, or is about to be
	left      bool // the peer has said goodbye
	queue     []*Frame
	offset    int          // bytes of queue[0] that are written
	queued    atomic.Int64 // bytes
	sent      atomic.Int64 // bytes
	telling   atomic.Bool  // the handler wants one Sent
	lane      *lane
	raw       syscall.RawConn // nil when reads and writes must go through conn, as with TLS

	loop     *Loop
	conn     net.Conn
	handler  Handler
	done     chan struct{} // closed when the connection is
	farewell *time.Timer
	cause    error // why it ended before Start; guarded by mu
	started  atomic.Bool
	reading  atomic.Int32 // where it is watched: a state of reading
	parser   parser       // belongs to whoever reads, like deaf
	deaf     bool         // the peer broke a rule: what it says is read and not looked at
}

type connState uint8

const (
	stateOpen    connState = iota
	stateClosing           // a close frame is in the queue or was written; nothing more is sent
	stateClosed
)

func newConn(l *Loop, conn net.Conn, h Handler) *Conn {
	lane := l.lanes[int(l.next.Add(1))%len(l.lanes)]
	c := &Conn{loop: l, conn: conn, handler: h, lane: lane, done: make(chan struct{}), parser: parser{limit: l.limits.MessageBytes}}
	if tcp := below(conn); tcp != nil {
		_ = tcp.SetWriteBuffer(l.limits.SendBuffer) // else the kernel takes megabytes for a peer that does not read
	}
	if tcp, isTCP := conn.(*net.TCPConn); isTCP {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	return c
}

// below finds the TCP connection beneath TLS, or conn itself; nil if it is something else.
func below(conn net.Conn) *net.TCPConn {
	for {
		switch layer := conn.(type) {
		case *net.TCPConn:
			return layer
		case interface{ NetConn() net.Conn }:
			conn = layer.NetConn()
		default:
			return nil
		}
	}
}

// RemoteAddr is where the peer is.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Queued is how many bytes wait to be written.
func (c *Conn) Queued() int64 { return c.queued.Load() }

// SentBytes is how many bytes were written so far.
func (c *Conn) SentBytes() int64 { return c.sent.Load() }

// TellSent asks for one call of the handler's Sent, after the next write.
func (c *Conn) TellSent() { c.telling.Store(true) }

// Start begins to read. Messages may come before it returns. It may be called more than once.
func (c *Conn) Start() {
	if c.started.Swap(true) {
		return
	}
	c.mu.Lock()
	over, cause := c.state == stateClosed, c.cause
	c.mu.Unlock()
	if over {
		c.tell(cause)
		return
	}
	if c.raw != nil && c.loop.poller != nil {
		if err := c.loop.poller.add(c); err != nil {
			c.end(fmt.Errorf("websocket: watch a connection: %w", err))
		}
		return
	}
	if c.loop.goAhead() {
		go c.readAlways()
	}
}

// Send queues a frame. It reports false when the connection takes no more.
func (c *Conn) Send(f *Frame) bool {
	c.mu.Lock()
	if c.state != stateOpen {
		c.mu.Unlock()
		return false
	}
	join := c.push(f)
	c.mu.Unlock()
	if join {
		c.lane.join(c)
	}
	if c.queued.Load() > c.loop.limits.QueuedBytes {
		c.handler.Full()
	}
	return true
}

// push queues a frame, with the lock held, and reports whether the connection must join its lane's line.
func (c *Conn) push(f *Frame) bool {
	c.queue = append(c.queue, f)
	c.queued.Add(int64(len(f.wire)))
	if c.scheduled {
		return false
	}
	c.scheduled = true
	return true
}

// due returns what is to be written next: the one frame that is queued as it is, or several copied into batch. Nothing
// means that the connection left the line.
func (c *Conn) due(batch []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 || c.state == stateClosed {
		c.scheduled = false
		return nil
	}
	c.leaves(c.queue[0])
	first := c.queue[0].wire[c.offset:]
	if len(c.queue) == 1 || len(first) >= len(batch) {
		return first
	}
	out := append(batch[:0], first...)
	for _, f := range c.queue[1:] {
		if len(out)+len(f.wire) > cap(batch) {
			break
		}
		c.leaves(f)
		out = append(out, f.wire...)
	}
	return out
}

// leaves notes, with the lock held, that a frame is about to be written. The next ping may come as soon as it is, before that
// is noted: it wants a pong of its own.
func (c *Conn) leaves(f *Frame) {
	if opcode(f.wire[0]&^finalBit) == opPong {
		c.ponging = false
	}
}

type dueState int

const (
	nothingDue dueState = iota // the connection left the line
	moreDue
)

// wrote notes that n bytes have left.
func (c *Conn) wrote(n int) dueState {
	c.mu.Lock()
	if c.state == stateClosed {
		c.scheduled = false
		c.mu.Unlock()
		return nothingDue
	}
	c.queued.Add(-int64(n))
	c.sent.Add(int64(n))
	c.offset += n
	gone := 0
	for gone < len(c.queue) && c.offset >= len(c.queue[gone].wire) {
		c.offset -= len(c.queue[gone].wire)
		gone++
	}
	left := copy(c.queue, c.queue[gone:])
	clear(c.queue[left:])
	c.queue = c.queue[:left]
	after := moreDue
	said := false
	if left == 0 {
		after, c.scheduled = nothingDue, false
		if cap(c.queue) > keptQueue {
			c.queue = nil
		}
		said = c.state == stateClosing
	}
	c.mu.Unlock()
	if n > 0 && c.telling.Load() && c.telling.Swap(false) {
		c.handler.Sent()
	}
	if said {
		c.closeWrite()
	}
	return after
}

// drainLater hands the rest to a goroutine that waits for the peer.
func (c *Conn) drainLater() {
	c.loop.tasks.Add(1)
	go c.drain()
}

func (c *Conn) drain() {
	defer c.loop.tasks.Done()
	// The batch is small: this is for peers that are slow, or for connections that are few.
	batch := make([]byte, batchBytes/4)
	for {
		out := c.due(batch)
		if len(out) == 0 {
			return
		}
		n, err := c.conn.Write(out)
		if err != nil {
			c.end(err)
			return
		}
		if c.wrote(n) == nothingDue {
			return
		}
	}
}

// Close says goodbye: what is queued is still sent, then a close frame; the connection ends when the peer answers, or is
// cut after the farewell.
func (c *Conn) Close(code int, reason string) { c.leave(closeFrame(code, reason)) }

func (c *Conn) leave(goodbye *Frame) {
	c.mu.Lock()
	if c.state != stateOpen {
		c.mu.Unlock()
		return
	}
	c.state = stateClosing
	join := c.push(goodbye)
	c.farewell = time.AfterFunc(c.loop.limits.Farewell, c.Abort)
	c.mu.Unlock()
	if join {
		c.lane.join(c)
	}
}

// leaving reports whether the connection is on its way out by itself.
func (c *Conn) leaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state != stateOpen
}

// closeWrite follows the close frame: the peer sees the end and closes, which ends the reading here. To close at once while
// the peer still sends would make the kernel reset the connection, and the close frame be lost with its code.
func (c *Conn) closeWrite() {
	c.mu.Lock()
	left := c.left
	c.mu.Unlock()
	half, can := c.conn.(interface{ CloseWrite() error })
	if left || !can || half.CloseWrite() != nil {
		c.end(nil) // the peer has said goodbye before, or cannot see half an end
	}
}

// Abort cuts the connection; what is queued is lost.
func (c *Conn) Abort() { c.end(ErrAborted) }

// end closes the connection at once. cause is what the handler is told, if it was told nothing before.
func (c *Conn) end(cause error) {
	c.mu.Lock()
	if c.state == stateClosed {
		c.mu.Unlock()
		return
	}
	c.state, c.cause = stateClosed, cause
	unsent := len(c.queue) > 0
	c.queue, c.offset = nil, 0
	c.queued.Store(0)
	if c.farewell != nil {
		c.farewell.Stop()
	}
	c.mu.Unlock()

	if c.raw != nil && c.loop.poller != nil {
		c.loop.poller.remove(c)
	}
	if unsent || cause != nil {
		c.cut(unsent)
	}
	_ = c.conn.Close()
	c.loop.forget(c)
	if c.started.Load() { // else Start tells it
		c.tell(cause)
	}
	close(c.done)
}

// cut closes what is beneath, to which TLS would write an alert first, and wait for a peer that does not read.
func (c *Conn) cut(unsent bool) {
	tcp := below(c.conn)
	if tcp == nil {
		return
	}
	if unsent {
		_ = tcp.SetLinger(0) // the kernel would keep what it holds for a peer that does not read
	}
	_ = tcp.Close()
}

// tell tells the handler, once, that no more messages come.
func (c *Conn) tell(cause error) {
	c.mu.Lock()
	told := c.told
	c.told = true
	c.mu.Unlock()
	if told {
		return
	}
	if cause == nil {
		cause = ErrEnded
	}
	c.handler.Closed(cause)
}

// take passes bytes of the peer on. It reports false when no more should be read.
func (c *Conn) take(data []byte) bool {
	if c.deaf {
		return true
	}
	err := c.parser.feed(data, c)
	if err == nil {
		return true
	}
	var broke *CloseError
	if errors.As(err, &broke) {
		c.deaf, c.parser = true, parser{}
		c.leave(closeFrame(broke.Code, broke.Reason)) // first: who is told may want to say goodbye too
		c.tell(err)
	}
	return true // the rest is read until the peer is gone, and ignored
}

// takeMessage implements taker.
func (c *Conn) takeMessage(text bool, data []byte) bool {
	if c.leaving() {
		return false
	}
	c.handler.Message(text, data)
	return true
}

// takeFragment implements taker.
func (c *Conn) takeFragment() bool {
	if c.leaving() {
		return false
	}
	c.handler.Aside()
	return true
}

// takeControl implements taker.
func (c *Conn) takeControl(op opcode, payload []byte) bool {
	switch op {
	case opPing:
		c.handler.Aside()
		c.pong(payload)
	case opPong:
		c.handler.Aside()
	case opClose:
		said := readClose(payload)
		c.mu.Lock()
		c.left = true
		c.mu.Unlock()
		c.leave(closeFrame(said.Code, said.Reason))
		c.tell(said)
		c.answered()
		return false
	}
	return true
}

// pong answers a ping, unless an answer to an earlier one has not left yet: then that one will do (RFC 6455, 5.5.3).
func (c *Conn) pong(payload []byte) {
	c.mu.Lock()
	if c.state != stateOpen || c.ponging {
		c.mu.Unlock()
		return
	}
	c.ponging = true
	join := c.push(newFrame(opPong, payload))
	c.mu.Unlock()
	if join {
		c.lane.join(c)
	}
}

// answered ends a connection on which both sides have said goodbye.
func (c *Conn) answered() {
	c.mu.Lock()
	over := c.state == stateClosing && len(c.queue) == 0
	c.mu.Unlock()
	if over {
		c.end(nil)
	}
}

// readAlways is the reading of a connection that nobody watches.
func (c *Conn) readAlways() {
	defer c.loop.tasks.Done()
	buffer := make([]byte, 4<<10)
	for {
		n, err := c.conn.Read(buffer)
		if n > 0 && !c.take(buffer[:n]) {
			return
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			c.end(err)
			return
		}
	}
}
