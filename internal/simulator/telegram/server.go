package telegram

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"switchboard/internal/simulator/console"
)

// Errors that the Go API returns; the control API answers 404, 422 and 503 for them.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("invalid")
	ErrClosed   = errors.New("the simulator is closed")
)

// Options of a Server. The zero value is usable.
type Options struct {
	Logger *slog.Logger

	// Now is the clock of everything that the protocol shows and of the limits. Waiting uses real time. Default time.Now.
	Now func() time.Time

	// Limits are how fast a bot may send. The zero value means Telegram's; Bot.NoLimits lifts them for a bot.
	Limits Limits
	// NoLimits lifts the limits of every bot.
	NoLimits bool

	// Backoff says how long to wait after the failed attempt n (1, 2, …) to deliver an update to a webhook. Default: 1 s
	// doubling to 1 min.
	Backoff func(n int) time.Duration
	// WebhookClient posts updates to webhooks. Default: 10 s timeout, no redirects.
	WebhookClient *http.Client
	// DrainTimeout is how long Close lets webhooks that are under way finish. Default 2 s.
	DrainTimeout time.Duration

	// QueueSize bounds the updates of one bot that are not confirmed; when it is full the oldest is lost, as is one of
	// 24 hours, and the ledger shows it. Default 100,000.
	QueueSize int
	// LedgerSize bounds the ledger's entries, updates and polls; the oldest go first. Default 100,000.
	LedgerSize int
	// MediaBytes bounds the files, the oldest go first. Default 1 GiB.
	MediaBytes int64
	// FileTTL is how long a link of getFile lives. Default 1 hour.
	FileTTL time.Duration
	// GoneGrace is how long a poll that another one ends may take to notice that its own caller hung up. It keeps a
	// takeover, in which the old poller is gone, from looking like two pollers. Default 100 ms.
	GoneGrace time.Duration

	// FirstMessageID is the id of a chat's first message, or of the first in all private chats of a bot. Default: tenths of
	// a second on the clock, from 1 to 2^30, so that a Server that begins anew repeats no id of the one before: Telegram
	// never does, and a bot may take a message with an id that it knows for one that it has.
	FirstMessageID int64

	// Bots, Customers and Chats are registered by New. A bot's private chats need no registration.
	Bots      []Bot
	Customers []Customer
	Chats     []Group
	// AutoRegister registers a bot when a well-formed token is used for the first time.
	AutoRegister bool
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Backoff == nil {
		o.Backoff = func(n int) time.Duration { return min(time.Second<<min(n-1, 6), time.Minute) }
	}
	o.Limits.setDefaults()
	o.QueueSize = orDefault(o.QueueSize, 100_000)
	o.LedgerSize = orDefault(o.LedgerSize, 100_000)
	o.MediaBytes = orDefault(o.MediaBytes, 1<<30)
	o.DrainTimeout = orDefault(o.DrainTimeout, 2*time.Second)
	o.FileTTL = orDefault(o.FileTTL, time.Hour)
	o.GoneGrace = orDefault(o.GoneGrace, 100*time.Millisecond)
	o.FirstMessageID = orDefault(o.FirstMessageID, o.Now().UnixMilli()/100%(1<<30)+1)
}

func orDefault[T int | int64 | float64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Server is a simulated Bot API with the customers' Telegram apps behind it. Make it with New and serve Handler; Start
// lets webhooks leave. Its methods may be called from any goroutine.
type Server struct {
	opts      Options
	log       *slog.Logger
	client    *http.Client
	transport *http.Transport // ours to close, nil if the client was given

	ledger  *Ledger
	faults  *faultSet
	files   *fileStore
	events  *console.Events
	handler http.Handler

	mu        sync.Mutex // guards what is below, what it points to, and the life cycle
	bots      map[int64]*bot
	botOrder  []int64
	customers map[int64]*Customer
	people    []int64 // customers as registered
	groups    map[int64]*chat
	groupIDs  []int64 // as registered
	queries   map[string]*callbackQuery
	queryIDs  []string // oldest first
	polls     map[string]*kept
	pollIDs   []string // oldest first
	lastID    int64    // of queries, polls, albums

	started, closed bool
	runCtx          context.Context // of the webhook lines; cancelled when draining is over
	cancelRun       context.CancelFunc
	unhook          func() bool
	done            chan struct{} // closed by Close: polls, hung calls and event streams end
	lines           sync.WaitGroup
}

// New makes a Server.
func New(o Options) (*Server, error) {
	o.setDefaults()
	s := &Server{
		opts: o, log: o.Logger, client: o.WebhookClient,
		ledger: newLedger(o.LedgerSize, o.Now), faults: &faultSet{}, files: newFileStore(o.MediaBytes),
		bots: map[int64]*bot{}, customers: map[int64]*Customer{}, groups: map[int64]*chat{},
		queries: map[string]*callbackQuery{}, polls: map[string]*kept{}, lastID: o.Now().UnixNano() >> 20,
		done: make(chan struct{}),
	}
	s.events = console.NewEvents(o.Logger, s.done)
	s.ledger.onAppend = func(e Entry) { s.events.Publish("ledger", e) }
	if s.client == nil {
		s.transport = &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second}
		s.client = &http.Client{
			Transport: s.transport, Timeout: 10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	s.handler = s.routes()
	for _, b := range o.Bots {
		if _, err := s.AddBot(b); err != nil {
			return nil, err
		}
	}
	for _, c := range o.Customers {
		if _, err := s.AddCustomer(c); err != nil {
			return nil, err
		}
	}
	for _, g := range o.Chats {
		if _, err := s.AddChat(g); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// routes sends a request to the page, the control API, a file or the Bot API.
func (s *Server) routes() http.Handler {
	control := s.controlRoutes()
	page := console.Page(pageHTML)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/" || path == "/favicon.ico":
			page.ServeHTTP(w, r)
		case path == "/control" || strings.HasPrefix(path, "/control/"):
			control.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/file/bot"):
			s.serveFile(w, r)
		default:
			s.serveAPI(w, r)
		}
	})
}

// Handler serves the Bot API under /bot<token>/, files under /file/bot<token>/, the control API under /control/ and the
// page at /.
func (s *Server) Handler() http.Handler { return s.handler }

// Ledger is the record of everything sent and received.
func (s *Server) Ledger() *Ledger { return s.ledger }

// Start lets webhooks leave. Cancelling ctx stops them as Close does, without the wait for what is under way.
// A second Start does nothing; after Close it returns ErrClosed.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.started {
		return nil
	}
	s.started = true
	s.runCtx, s.cancelRun = context.WithCancel(ctx)
	s.unhook = context.AfterFunc(ctx, s.stop)
	for _, b := range s.bots {
		s.startLine(b) //nolint:contextcheck // lines live as long as runCtx
	}
	return nil
}

// stop ends polls, event streams and hung calls.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
		s.ledger.notify()
	}
}

// Close ends polls, hung calls and event streams, lets webhooks that are under way finish within DrainTimeout, and
// returns when every goroutine of the Server has ended. It may be called more than once.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	cancel, unhook := s.cancelRun, s.unhook
	s.mu.Unlock()
	if cancel != nil {
		unhook()
		timer := time.AfterFunc(s.opts.DrainTimeout, cancel)
		s.lines.Wait()
		timer.Stop()
		cancel()
	}
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	return nil
}

// WaitIdle waits until every update of every bot is confirmed or lost.
func (s *Server) WaitIdle(ctx context.Context) error {
	return s.ledger.Wait(ctx, func(*Ledger) bool { return s.Pending() == 0 })
}

// Pending counts the updates that are not confirmed.
func (s *Server) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for _, b := range s.bots {
		total += len(b.queue)
	}
	return total
}

// nextID makes an id of a query, a poll or an album; it needs s.mu.
func (s *Server) nextID() int64 {
	s.lastID++
	return s.lastID
}

func (s *Server) unix() int64 { return s.opts.Now().Unix() }

func slogErr(err error) slog.Attr { return slog.Any("error", err) }
