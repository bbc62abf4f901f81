package websocket

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what a connection may cost. Zero fields get the defaults that are named here.
type Limits struct {
	MessageBytes int           // 64 KiB: the largest message from a peer; a larger one ends the connection with code 1009
	QueuedBytes  int64         // 1 MiB: what may wait to be written to a peer before Full is called
	Farewell     time.Duration // 1 s: how long an orderly close may take before the connection is cut
	SendBuffer   int           // 256 KiB: what the kernel may hold for a peer that does not read
}

func (l Limits) withDefaults() Limits {
	if l.MessageBytes <= 0 {
		l.MessageBytes = 64 << 10
	}
	if l.QueuedBytes <= 0 {
		l.QueuedBytes = 1 << 20
	}
	if l.Farewell <= 0 {
		l.Farewell = time.Second
	}
	if l.SendBuffer <= 0 {
		l.SendBuffer = 256 << 10
	}
	return l
}

// Handler is what a connection tells. See the package documentation for who calls when.
type Handler interface {
	// Message takes a message. data is valid, and may be changed, during the call only.
	Message(text bool, data []byte)
	// Aside is called for every frame that is no message: pings, pongs, and all fragments of a message but the last. A peer
	// that sends nothing else costs as much as one that sends messages.
	Aside()
	// Sent is called once for every TellSent, when something that was queued has left. It must not block.
	Sent()
	// Full is called whenever a frame was queued and more than Limits.QueuedBytes wait. It must not block, and should end
	// the connection: its peer is too slow.
	Full()
	// Closed is called once, when the connection takes no more messages. err is a *CloseError, ErrEnded, ErrAborted or what
	// the network said.
	Closed(err error)
}

// ErrClosed is what Closed gets for a connection that comes after the loop was closed.
var ErrClosed = errors.New("websocket: the loop is closed")

// Loop reads and writes for all connections of a server.
type Loop struct {
	limits  Limits
	lanes   []*lane
	next    atomic.Uint32 // the lane of the next connection
	poller  *poller       // nil where there is none
	buffers sync.Pool     // of *readBuffer
	tasks   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[*Conn]struct{}
	closed bool
}

// NewLoop starts a loop. Close ends it.
func NewLoop(limits Limits) (*Loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("websocket: watch connections: %w", err)
	}
	l := &Loop{limits: limits.withDefaults(), poller: p, conns: map[*Conn]struct{}{}}
	l.buffers.New = func() any { return newReadBuffer() }
	for range runtime.GOMAXPROCS(0) {
		lane := newLane(l)
		l.lanes = append(l.lanes, lane)
		l.tasks.Go(lane.run)
	}
	if p != nil {
		l.tasks.Go(p.run)
	}
	return l, nil
}

// Add takes over a connection whose handshake is done and of which nothing has been read since. It can be sent to at once;
// reading, and calls of the handler but Full, begin with Start, which must follow.
func (l *Loop) Add(conn net.Conn, h Handler) *Conn {
	c := newConn(l, conn, h)
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.conns[c] = struct{}{}
	}
	l.mu.Unlock()
	if closed {
		c.end(ErrClosed)
	}
	return c
}

// Queued is how many bytes wait to be written, over all connections.
func (l *Loop) Queued() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum int64
	for c := range l.conns {
		sum += c.Queued()
	}
	return sum
}

// goAhead counts a goroutine of a connection, unless the loop is closed.
func (l *Loop) goAhead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.tasks.Add(1)
	}
	return !l.closed
}

func (l *Loop) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Close gives connections that are closing their farewell, cuts the others, and returns when every goroutine has ended.
// It may be called once.
func (l *Loop) Close() {
	l.mu.Lock()
	l.closed = true
	conns := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		if !c.leaving() {
			c.Abort()
		}
	}
	for _, c := range conns {
		<-c.done
	}
	for _, lane := range l.lanes {
		lane.close()
	}
	if l.poller != nil {
		l.poller.close()
	}
	l.tasks.Wait()
}
