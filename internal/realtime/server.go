package realtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	gorilla "github.com/gorilla/websocket"
	redisadapter "github.com/zishang520/socket.io/adapters/redis/v3"
	"github.com/zishang520/socket.io/adapters/redis/v3/adapter"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/servers/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"switchboard/internal/domain"
	"switchboard/internal/realtime/websocket"
)

// sweepEvery is how often connections are looked at that never joined or take nothing.
const sweepEvery = time.Second

// Server is the Socket.IO server of an API node. Make it with New, mount Handler, then Start it; Close ends it.
type Server struct {
	options Options
	logger  *slog.Logger
	metrics Metrics
	origins origins

	io      *socket.Server
	engine  engine.Server
	hub     *hub
	relay   *relay
	emitter *Emitter
	loop    *websocket.Loop // of all WebSocket connections
	framed  framed
	turns   *turns

	spent       *types.HttpContext   // stands for requests that are not kept
	noTransport transports.Transport // stands for what nobody asks of a transport
	gate        *gate
	// authenticating holds one token for each handshake that is being authenticated.
	authenticating chan struct{}

	connections connections
	endings     endings

	ctx           context.Context //nolint:containedctx // the life of the server's goroutines and requests
	cancel        context.CancelFunc
	adapterCtx    context.Context //nolint:containedctx // ends first, so that the adapter takes its end for no failure
	cancelAdapter context.CancelFunc
	tasks         sync.WaitGroup
	closed        chan struct{} // closed when everything has ended

	mu        sync.RWMutex // guards what follows
	state     serverState
	sessions  map[*session]struct{}
	perUser   map[int64]int
	closeOnce sync.Once
}

type serverState int

const (
	stateNew serverState = iota
	stateRunning
	stateClosing
)

// New makes a server. Nothing is connected before Start.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	allowed, err := parseOrigins(o.AllowedOrigins)
	if err != nil {
		return nil, err
	}
	emitter, err := NewEmitter(o.Redis, EmitterOptions{Prefix: o.Prefix, Logger: o.Logger, Metrics: o.Metrics, Limits: o.Limits})
	if err != nil {
		return nil, err
	}
	s := &Server{
		options: o, logger: o.Logger, metrics: o.Metrics, origins: allowed, emitter: emitter,
		gate: newGate(o.Limits), authenticating: make(chan struct{}, o.Limits.Authentications),
		connections: connections{all: map[string]*connection{}}, closed: make(chan struct{}),
		sessions: map[*session]struct{}{}, perUser: map[int64]int{},
	}
	s.loop, err = websocket.NewLoop(websocket.Limits{
		MessageBytes: int(o.Limits.FrameBytes), QueuedBytes: o.Limits.OutboundBytes, Farewell: farewell,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("realtime: %w", err), emitter.Close(context.Background()))
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.adapterCtx, s.cancelAdapter = context.WithCancel(s.ctx)
	s.hub = newHub(o.Log, o.Logger, o.Metrics, o.Limits)
	s.relay = newRelay(o, relayEnds{wanted: s.hub.wants, hear: s.hub.hear, connected: s.hub.askHeads, ended: s.rightsEnded})
	s.spent = newContext(&http.Request{Method: http.MethodGet, URL: &url.URL{}, Header: http.Header{}, Body: http.NoBody})
	s.noTransport = transports.MakeTransport()
	s.turns = newTurns(o.Limits)
	s.io = socket.NewServer(nil, s.libraryOptions())
	s.io.Use(s.admit)
	if err := s.io.On("connection", s.connected); err != nil {
		return nil, fmt.Errorf("realtime: listen to connections: %w", err)
	}
	handler, isEngine := s.io.ServeHandler(nil).(engine.Server)
	if !isEngine {
		return nil, errors.New("realtime: the library's handler is not its engine")
	}
	s.engine = handler
	if err := s.engine.On("connection", s.opened); err != nil {
		return nil, fmt.Errorf("realtime: listen to connections: %w", err)
	}
	return s, nil
}

func (s *Server) libraryOptions() *socket.ServerOptions {
	limits := s.options.Limits
	o := socket.DefaultServerOptions()
	o.SetServeClient(false)
	o.SetMaxHttpBufferSize(limits.FrameBytes)
	o.SetPingInterval(limits.PingInterval)
	o.SetPingTimeout(limits.PingTimeout)
	// Later than the sweep's: the library closes politely, and a client that does not poll would stay for 30 s more.
	o.SetConnectTimeout(limits.ConnectTimeout + 2*sweepEvery)
	o.SetTransports(types.NewSet[transports.TransportCtor](&longPolling{}, &webSockets{loop: s.loop, framed: &s.framed}))
	o.SetParser(newTextParser(s.logger))
	// The origin was checked by Handler; this lets the allowed ones read the answers.
	o.SetCors(&types.Cors{Origin: func(string) bool { return true }, Credentials: true})
	o.SetAdapter(&adapter.RedisAdapterBuilder{Redis: s.redisClient(), Opts: s.adapterOptions()})
	return o
}

// redisClient is what the adapter gets: it publishes with a time limit and listens to the relay.
func (s *Server) redisClient() *redisadapter.RedisClient {
	client := redisadapter.NewRedisClientWithSub(s.adapterCtx, publisher{s.options.Redis, s.options.Limits.PublishTimeout}, s.relay)
	_ = client.On("error", func(args ...any) {
		if s.adapterCtx.Err() != nil {
			return
		}
		s.logger.Warn("[Socket.IO] the Redis adapter reports an error", slog.Any("error", firstOf(args)))
		// The adapter calls this in a loop while its subscription fails.
		pause := time.NewTimer(s.options.Limits.RedisRetry)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-s.adapterCtx.Done():
		}
	})
	return client
}

func (s *Server) adapterOptions() *adapter.RedisAdapterOptions {
	o := adapter.DefaultRedisAdapterOptions()
	o.SetKey(s.options.Prefix)
	return o
}

func firstOf(args []any) any {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

// Handler serves /socket.io/. The http.Server that it is mounted in must not limit how long a response may take to less than
// the ping interval and timeout together: long polling holds its requests.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case !s.running():
		refuse(w, http.StatusServiceUnavailable, messageStopping)
	case !s.origins.allow(r):
		s.metrics.AuthenticationFailed("origin")
		s.logger.Warn("[Socket.IO] origin refused", slog.String("origin", r.Header.Get("Origin")))
		refuse(w, http.StatusForbidden, "This origin is not allowed. Add it to CORS_ORIGINS.")
	case r.URL.Query().Has("j"):
		// JSONP lets pages of any origin read the answers; no client has needed it for ten years.
		refuse(w, http.StatusBadRequest, "JSONP polling is not supported.")
	case waitsForNothing(r):
		refuse(w, http.StatusBadRequest, "A WebSocket needs an upgrade.")
	case beginsConnection(r) && !s.pass(w, r):
	default:
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, s.options.Limits.FrameBytes)
		}
		if direct(r) {
			s.openDirect(w, r)
			return
		}
		answer := newResponse(w)
		defer answer.end()
		r, done := settling(r)
		defer done()
		s.engine.ServeHTTP(answer, r)
	}
}

// waitsForNothing reports whether a request names a WebSocket's session and is no upgrade. The library gives it to the
// transport, which has no use for it: nobody would answer, and it would outlive the session, and hold up the HTTP server's
// shutdown.
func waitsForNothing(r *http.Request) bool {
	query := r.URL.Query()
	return query.Get("transport") == transports.WEBSOCKET && query.Get("sid") != "" && !gorilla.IsWebSocketUpgrade(r)
}

const messageStopping = "The server is starting or stopping. Try again."

func (s *Server) running() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state == stateRunning
}

// refuse answers in the form of Engine.IO's own refusals.
func refuse(w http.ResponseWriter, status int, message string) {
	const codeForbidden = 4
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"code":%d,"message":%q}`, codeForbidden, message)
}

// Start connects to Redis in the background and lets sockets in. It returns at once; a Redis that is away is no error.
// When ctx ends, the server refuses new work as if Close had begun; Close must be called all the same.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case stateRunning:
		return nil
	case stateClosing:
		return errors.New("realtime: the server is closed")
	case stateNew:
	}
	s.state = stateRunning
	s.hub.start()
	s.tasks.Go(func() { s.relay.run(s.ctx) })
	s.tasks.Go(s.sweep)
	s.tasks.Go(s.revalidate)
	stop := context.AfterFunc(ctx, s.refuseNew)
	s.tasks.Go(func() {
		<-s.ctx.Done()
		stop()
	})
	return nil
}

func (s *Server) refuseNew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = stateClosing
	s.gate.close()
}

// Close ends the server: new handshakes are refused, every socket gets a clean close (clients take it as a reason to connect
// to another node), and everything that the server started has ended when it returns nil. If ctx ends before, Close returns its
// error while the rest goes on. It may be called more than once, and before Start.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() {
		s.refuseNew()
		go s.shutDown(context.WithoutCancel(ctx))
	})
	select {
	case <-s.closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("realtime: close the server: %w", ctx.Err())
	}
}

func (s *Server) shutDown(ctx context.Context) {
	defer close(s.closed)
	const patience = 2 * time.Second
	s.cancelAdapter()
	s.io.Close(nil) // sockets, adapter, connections
	for _, c := range s.watched() {
		c.conn.Close(true)
	}
	s.loop.Close()
	emitterCtx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.emitter.Close(emitterCtx); err != nil {
		s.logger.Warn("[Socket.IO] not everything could be sent before the end", slog.Any("error", err))
	}
	s.cancel()
	s.relay.close()
	s.hub.close()
	s.tasks.Wait()
	s.logger.Info("[Socket.IO] closed")
}

// Emitter is the emitter of this process; it ends with the server.
func (s *Server) Emitter() *Emitter { return s.emitter }

// ConnectedClients is how many connections this node has (the seed's io.engine.clientsCount).
func (s *Server) ConnectedClients() int { return len(s.watched()) }

// Rooms is how many rooms this node has; every socket has one of its own (the seed's io.sockets.adapter.rooms.size).
func (s *Server) Rooms() int { return s.io.Sockets().Adapter().Rooms().Len() }

// RedisUp reports whether this node hears Redis now.
func (s *Server) RedisUp() bool { return s.relay.up.Load() }

// opened is called with every new connection, after the library's own listener.
func (s *Server) opened(args ...any) {
	conn, isSocket := firstOf(args).(engine.Socket)
	if !isSocket {
		return
	}
	if _, isDirect := conn.(*directSocket); isDirect {
		return // it is watched, and begins when the library has heard of it
	}
	s.watch(conn)
	if t, holds := conn.Transport().(opener); holds {
		t.begin()
	}
}

// connected is called with every socket that was let in.
func (s *Server) connected(args ...any) {
	sock, isSocket := firstOf(args).(*socket.Socket)
	if !isSocket {
		return
	}
	n, isSession := sock.Data().(*session)
	if !isSession {
		sock.Disconnect(true)
		return
	}
	_ = sock.On("disconnect", func(args ...any) {
		reason, _ := firstOf(args).(string)
		n.disconnected(reason)
	})
	_ = sock.On("error", func(args ...any) {
		// Clients may send an event of this name too; only the library's own carries an error.
		if err, isError := firstOf(args).(error); isError {
			s.logger.Info("[Socket.IO] a client broke the protocol", n.attributes(slog.Any("error", err))...)
		}
	})
	sock.OnAny(n.handle)
	if !sock.Connected() {
		n.disconnected("gone before it began")
		return
	}
	n.begin()
	if d, isDirect := sock.Conn().(*directSocket); isDirect {
		d.forgetRequest()
	}
	if sock.Conn().ReadyState() == "closed" {
		// It ended while the library was letting it in, and was not told of it: nobody else would clean up.
		sock.Disconnect(false)
	}
}

// remember counts a session, unless its user has too many.
func (s *Server) remember(n *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	user := n.principal.UserID
	if s.perUser[user] >= s.options.Limits.SocketsPerUser {
		return false
	}
	s.perUser[user]++
	s.sessions[n] = struct{}{}
	return true
}

func (s *Server) forget(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.sessions[n]; !known {
		return
	}
	delete(s.sessions, n)
	user := n.principal.UserID
	if s.perUser[user]--; s.perUser[user] == 0 {
		delete(s.perUser, user)
	}
}

// background runs a short task that Close waits for.
func (s *Server) background(task func()) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.state == stateRunning {
		s.tasks.Go(task)
	}
}

func (s *Server) sweep() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-ticker.C:
			s.endings.expire(now.Add(-2 * s.options.Limits.RequestTimeout))
			for _, c := range s.watched() {
				if reason := c.overdue(now); reason != "" {
					c.close(reason)
				} else if c.lingers(now) {
					s.background(func() { c.conn.Close(true) })
				}
			}
		}
	}
}

// rightsEnded disconnects the sockets that were let in, or are being let in, by a right that is no more: see sessionRoom.
func (s *Server) rightsEnded(name string) {
	s.endings.note(name) // before the look: see open
	s.mu.RLock()
	var gone []*session
	for n := range s.sessions {
		if slices.Contains(rightsOf(n.principal), name) {
			gone = append(gone, n)
		}
	}
	s.mu.RUnlock()
	for _, n := range gone {
		n.disconnect("revoked")
	}
}

// revalidate asks again and again whether those who are connected still may be. It is what is left when Redis cannot
// carry a disconnection.
func (s *Server) revalidate() {
	ticker := time.NewTicker(s.options.Limits.RevalidateEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
			s.revalidateOnce()
		}
	}
}

func (s *Server) revalidateOnce() {
	s.mu.RLock()
	sessions := make(map[identity][]*session, len(s.sessions))
	for n := range s.sessions {
		id := identityOf(n.principal)
		sessions[id] = append(sessions[id], n)
	}
	s.mu.RUnlock()
	if len(sessions) == 0 {
		return
	}
	principals := make([]domain.Principal, 0, len(sessions))
	for _, group := range sessions {
		principals = append(principals, group[0].principal)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.options.Limits.RequestTimeout)
	defer cancel()
	invalid, err := s.options.Authenticator.StillValid(ctx, principals)
	if err != nil {
		s.logger.Warn("[Socket.IO] could not ask who may stay connected", slog.Int("principals", len(principals)), slog.Any("error", err))
		return
	}
	for _, p := range invalid {
		for _, n := range sessions[identityOf(p)] {
			n.disconnect("revoked")
		}
	}
}
