package realtime

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"
	"golang.org/x/time/rate"

	"switchboard/internal/realtime/websocket"
)

const (
	// floodPackets and floodBytes are the burst of what one connection may send, whatever it is, and per second half as
	// much: far above what a client has to say. Beyond, the connection is closed, since the library queues
	// without bound what its handlers have not come to.
	floodPackets = 2000
	floodBytes   = 1 << 20
	// stalledBytes is how much must be queued, all the time for StallTimeout, for a connection to be called stalled, unless
	// it takes as much in that time.
	stalledBytes = 64 << 10
)

// connection watches one Engine.IO connection: what it sends, what is queued for it, whether it has a socket.
type connection struct {
	conn   engine.Socket
	server *Server

	packets *rate.Limiter
	bytes   *rate.Limiter

	queued  atomic.Int64                   // bytes that the library holds for the transport
	flushed atomic.Int64                   // bytes that the transport took from it
	wire    atomic.Pointer[websocket.Conn] // what its frames go out by, once that is a WebSocket
	session atomic.Pointer[session]        // nil while it has none
	without atomic.Int64                   // since when it has none, in nanoseconds of Unix time
	cut     atomic.Bool
	flushes atomic.Pointer[func()] // what taken calls

	behind  time.Time // since when much is queued; belongs to the sweep, like the next one
	tookSum int64     // what had been taken by then
	closing time.Time // since when it wants to close
}

// connections finds the watcher of a connection.
type connections struct {
	mu  sync.Mutex // guards all
	all map[string]*connection
}

// watch returns the watcher of a connection and makes it if need be: a fast client may be here before the library has
// announced its connection.
func (s *Server) watch(conn engine.Socket) *connection {
	if d, isDirect := conn.(*directSocket); isDirect {
		return d.watcher
	}
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	if c := s.connections.all[conn.Id()]; c != nil {
		return c
	}
	c := s.newConnection(conn)
	s.connections.all[conn.Id()] = c
	_ = conn.On("upgrade", func(args ...any) { c.uses(firstOf(args)) })
	c.uses(conn.Transport())
	_ = conn.On("packet", c.onPacket)
	_ = conn.On("packetCreate", c.onPacketCreate)
	_ = conn.On("flush", c.onFlush)
	_ = conn.Once("close", func(...any) { s.unwatch(c) })
	if conn.ReadyState() == "closed" {
		delete(s.connections.all, conn.Id())
	}
	return c
}

// watchDirect makes the watcher of a connection that tells it of everything itself.
func (s *Server) watchDirect(d *directSocket) *connection {
	c := s.newConnection(d)
	c.wire.Store(d.conn)
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	s.connections.all[d.id] = c
	return c
}

func (s *Server) newConnection(conn engine.Socket) *connection {
	c := &connection{
		conn: conn, server: s,
		packets: rate.NewLimiter(floodPackets/2, floodPackets), bytes: rate.NewLimiter(floodBytes/2, floodBytes),
	}
	c.without.Store(time.Now().UnixNano())
	return c
}

// leave notes the end of the connection's session: a client that says goodbye to the namespace may come back, but not stay.
func (c *connection) leave(n *session) {
	c.without.Store(time.Now().UnixNano())
	c.session.CompareAndSwap(n, nil)
}

func (s *Server) unwatch(c *connection) {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	delete(s.connections.all, c.conn.Id())
}

func (s *Server) watched() []*connection {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	all := make([]*connection, 0, len(s.connections.all))
	for _, c := range s.connections.all {
		all = append(all, c)
	}
	return all
}

// onPacket sees every packet from the client, pongs too, before anything is done with it.
func (c *connection) onPacket(args ...any) {
	p, isPacket := firstOf(args).(*packet.Packet)
	if !isPacket {
		return
	}
	size := 1 + int(packetSize(p))
	if c.allow(size) && p.Type == packet.MESSAGE {
		c.arrived(size)
	}
}

// arrived counts a message, which the library queues if it is for a socket.
func (c *connection) arrived(size int) {
	if n := c.session.Load(); n != nil && n.arrived(size) {
		c.close("flood")
	}
}

// allow reports whether the client may send one more packet. If not, the connection is on its way out.
func (c *connection) allow(size int) bool {
	now := time.Now()
	if c.packets.AllowN(now, 1) && c.bytes.AllowN(now, size) {
		return true
	}
	c.close("flood")
	return false
}

// onPacketCreate sees every packet to the client before it is queued.
func (c *connection) onPacketCreate(args ...any) {
	if len(args) == 0 {
		return
	}
	p, isPacket := args[0].(*packet.Packet)
	if !isPacket {
		return
	}
	if c.queued.Add(packetSize(p)) > c.server.options.Limits.OutboundBytes {
		c.close("slow")
	}
}

// onFlush sees the packets that the transport takes.
func (c *connection) onFlush(args ...any) {
	if len(args) == 0 {
		return
	}
	packets, isList := args[0].([]*packet.Packet)
	if !isList {
		return
	}
	var taken int64
	for _, p := range packets {
		taken += packetSize(p)
	}
	c.queued.Add(-taken)
	c.flushed.Add(taken)
	c.taken()
}

// uses notes the transport that the connection has now.
func (c *connection) uses(transport any) {
	if t, isWebSocket := transport.(*webSocket); isWebSocket {
		c.wire.Store(t.conn)
		t.watcher.Store(c)
	}
}

// taken is called when the client took some of what was queued, if somebody asked.
func (c *connection) taken() {
	if told := c.flushes.Load(); told != nil {
		(*told)()
	}
}

// tell asks for taken to be called. The library's own queue tells it anyway.
func (c *connection) tell() {
	if w := c.wire.Load(); w != nil {
		w.TellSent()
	}
}

// pending is how many bytes wait for the client.
func (c *connection) pending() int64 {
	sum := c.queued.Load()
	if w := c.wire.Load(); w != nil {
		sum += w.Queued()
	}
	return sum
}

// took is how many bytes have left so far.
func (c *connection) took() int64 {
	if w := c.wire.Load(); w != nil {
		return w.SentBytes() // what polling took before is as little as an upgrade needs
	}
	return c.flushed.Load()
}

func packetSize(p *packet.Packet) int64 {
	if buffer, isBuffer := p.Data.(types.BufferInterface); isBuffer && buffer != nil {
		return int64(buffer.Len())
	}
	return 0
}

// overdue says why a connection must go, if it must. The sweep calls it.
func (c *connection) overdue(now time.Time) string {
	switch {
	case c.session.Load() == nil && now.Sub(time.Unix(0, c.without.Load())) >= c.server.options.Limits.ConnectTimeout:
		return "unjoined"
	case c.stalled(now):
		return "slow"
	}
	return ""
}

// lingers reports whether the connection wants to close and its client does not let it: the library waits for a poll that
// takes the last packets until the ping times out. The sweep calls it.
func (c *connection) lingers(now time.Time) bool {
	if c.conn.ReadyState() != "closing" {
		return false
	}
	if c.closing.IsZero() {
		c.closing = now
	}
	return now.Sub(c.closing) >= farewell
}

// stalled reports whether the client has been behind for too long and takes next to nothing. Who is slower than what it is
// sent but goes on taking is no trouble: its feed waits for it.
func (c *connection) stalled(now time.Time) bool {
	took := c.took()
	if c.pending() < stalledBytes {
		c.behind = time.Time{}
		return false
	}
	if c.behind.IsZero() || took-c.tookSum >= stalledBytes || took < c.tookSum {
		c.behind, c.tookSum = now, took
		return false
	}
	return now.Sub(c.behind) >= c.server.options.Limits.StallTimeout
}

// close ends the connection at once, from a goroutine of the server: the caller may hold what the library's handlers of the
// end want. Clients take it for a broken connection and come back with their position.
func (c *connection) close(reason string) {
	if c.cut.Swap(true) {
		return
	}
	c.server.metrics.Cut(reason)
	c.server.logger.Info("[Socket.IO] cutting a connection", slog.String("reason", reason),
		slog.String("address", c.conn.RemoteAddress()), slog.Int64("queuedBytes", c.pending()))
	c.server.background(func() { c.conn.Close(true) })
}
