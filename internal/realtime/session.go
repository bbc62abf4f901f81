package realtime

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"
	"golang.org/x/time/rate"

	"switchboard/internal/domain"
	"switchboard/internal/realtime/websocket"
)

// session is a socket that was let in: who it is, and what must be given back when it ends.
type session struct {
	member member          // first, with wire: what every frame needs
	wire   *websocket.Conn // where frames go, once they may; belongs to the feed's goroutine

	server     *Server
	socket     *socket.Socket
	connection *connection
	principal  domain.Principal
	feed       *feed
	from       start
	events     *rate.Limiter // all client events
	reads      *rate.Limiter // sync, which reads the log

	cause   atomic.Pointer[string] // why the server ended it, if it did
	release sync.Once

	mu       sync.Mutex // guards what follows
	attached bool
	ended    bool
	waiting  int // packets of the client that were not come to yet
	bytes    int // of these, about
	expiry   *time.Timer
	turn     func()              // gives the turn to replay back; nil without one
	typing   map[int64]time.Time // chats with typing on, and when that was last passed on; only the socket's own goroutine writes
}

var _ outlet = (*session)(nil)

func newSession(s *Server, sock *socket.Socket, p domain.Principal, f *feed, from start) *session {
	limit := s.options.Limits.EventsPerSecond
	n := &session{
		server: s, socket: sock, connection: s.watch(sock.Conn()), principal: p, feed: f, from: from,
		events: rate.NewLimiter(rate.Limit(limit), limit), reads: rate.NewLimiter(5, 20), typing: map[int64]time.Time{},
	}
	n.member.out = n
	return n
}

// send implements outlet. Frames go to the WebSocket directly; polling, and the first frame after an upgrade, take the
// library's way. When that first one has gone through the library, which hands over in order and under a lock, nothing older
// is left there, and the next ones cannot overtake.
func (n *session) send(f *websocket.Frame) {
	if n.wire != nil {
		n.wire.Send(f)
		return
	}
	if !n.socket.Connected() {
		return
	}
	wire := n.connection.wire.Load()
	packets, options := packetsOf(f)
	n.socket.Client().WriteToEngine(packets, options)
	n.wire = wire
}

// pending implements outlet.
func (n *session) pending() int64 {
	if n.wire != nil {
		return n.wire.Queued()
	}
	return n.connection.pending()
}

// live implements outlet.
func (n *session) live() {
	n.mu.Lock()
	turn := n.turn
	n.turn = nil
	n.mu.Unlock()
	if turn != nil {
		turn()
	}
}

// tell implements outlet.
func (n *session) tell() { n.connection.tell() }

// begin joins the rooms and the feed. The library calls it in the socket's queue, right after the client was told that it is
// connected.
func (n *session) begin() {
	if n.cause.Load() != nil {
		n.leave() // its rights ended while it was let in: it gets nothing
		return
	}
	rooms := []socket.Room{
		socket.Room(domain.OrganizationRoom(n.principal.OrganizationID)), socket.Room(domain.UserRoom(n.principal.UserID)),
	}
	n.socket.Join(rooms...)
	n.server.logger.Info("[Socket.IO] connected", n.attributes(slog.String("transport", n.socket.Conn().Transport().Name()))...)
	n.server.logger.Debug("[Socket.IO] joined", n.attributes(slog.String("room", string(rooms[0])))...)

	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return
	}
	if expires := n.principal.ExpiresAt; !expires.IsZero() {
		n.expiry = time.AfterFunc(time.Until(expires), func() { n.disconnect("expired") })
	}
	n.attached = true
	drained := func() { n.feed.drained(&n.member) }
	n.connection.flushes.Store(&drained)
	n.feed.post(func(f *feed) { f.attach(&n.member, n.from) })
}

// end gives everything back. It may be called more than once, and before begin.
func (n *session) end() {
	n.release.Do(func() {
		n.mu.Lock()
		n.ended = true
		if n.expiry != nil {
			n.expiry.Stop()
		}
		if n.attached {
			n.feed.post(func(f *feed) { f.detach(&n.member) })
		}
		n.mu.Unlock()
		n.live()
		n.connection.flushes.Store(nil)
		n.connection.leave(n)
		n.server.forget(n)
		n.server.hub.release(n.feed)
	})
}

// arrived counts a packet that the library queues for the session, and reports whether there are too many. The queue has no
// bound of its own, and while the database does not answer, each event takes as long as it may.
func (n *session) arrived(size int) (tooMany bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting++
	n.bytes += size
	return n.waiting > floodPackets || n.bytes > 2*floodBytes
}

// come reports whether an event, whose turn has come, is to be carried out: not when its socket is gone.
func (n *session) come() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting--; n.waiting <= 0 {
		n.bytes = 0
	}
	return !n.ended
}

// disconnected is what the library calls when the socket has ended, possibly twice.
func (n *session) disconnected(reason string) {
	n.mu.Lock()
	again := n.ended
	typing := n.typing
	n.typing = map[int64]time.Time{}
	n.mu.Unlock()
	if again {
		return
	}
	n.end()
	for chatID := range typing {
		n.passTyping(chatID, false)
	}
	cause := slog.Attr{}
	if c := n.cause.Load(); c != nil {
		cause = slog.String("cause", *c)
	}
	n.server.logger.Info("[Socket.IO] disconnected", n.attributes(slog.String("reason", reason), cause)...)
}

// disconnect ends the socket for good: the client is told, and does not come back by itself.
func (n *session) disconnect(cause string) {
	if !n.cause.CompareAndSwap(nil, &cause) {
		return
	}
	n.server.metrics.Cut(cause)
	n.leave()
}

func (n *session) leave() {
	n.server.background(func() { n.socket.Disconnect(true) })
}

func (n *session) attributes(more ...any) []any {
	return append([]any{
		slog.String("socketId", string(n.socket.Id())), slog.Int64("organizationId", n.principal.OrganizationID),
		slog.Int64("userId", n.principal.UserID),
	}, more...)
}

// identity is what makes two principals the same.
type identity struct {
	userID, organizationID, apiKeyID int64
	sessionID                        string
}

func identityOf(p domain.Principal) identity {
	return identity{userID: p.UserID, organizationID: p.OrganizationID, apiKeyID: p.APIKeyID, sessionID: p.SessionID}
}
