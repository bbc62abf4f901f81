package cloudapi

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"switchboard/internal/simulator/console"
)

// Errors that the Go API returns; the control API answers 404, 422, 503 and 409 for them.
var (
	ErrNotFound  = errors.New("not found")
	ErrInvalid   = errors.New("invalid")
	ErrQueueFull = errors.New("the number's webhook queue is full")
	ErrClosed    = errors.New("the simulator is closed")
)

// Options of a Server. The zero value is usable.
type Options struct {
	Logger *slog.Logger

	// Now is the clock of everything that the protocol shows: timestamps, the 24 h window, expiry of media links.
	// Waiting (back-off, delays of faults) uses real time. Default time.Now.
	Now func() time.Time
	// Rand is where ids come from; a fixed reader makes payloads repeatable. Default crypto/rand.
	Rand io.Reader

	// Backoff says how long to wait after the failed attempt n (1, 2, …) of a webhook whose first attempt was `since`
	// ago, and false to give up. Default: 1 s doubling to 10 min, for 7 days, as Meta does.
	Backoff func(n int, since time.Duration) (wait time.Duration, again bool)
	// WebhookClient posts the webhooks and does the verification. Default: 10 s timeout, no redirects.
	WebhookClient *http.Client
	// Parallel is how many webhooks of one number may be under way at once. 1 (the default) keeps first attempts in order.
	Parallel int
	// QueueSize bounds the webhooks of one number that are not yet acknowledged; a full queue refuses customers'
	// messages with ErrQueueFull and drops statuses (the ledger shows them). Default 100,000.
	QueueSize int
	// DrainTimeout is how long Close lets webhooks that are under way finish. Default 2 s.
	DrainTimeout time.Duration

	// LedgerSize bounds the ledger's entries, the oldest go first. Default 100,000.
	LedgerSize int
	// MediaBytes bounds the media store, the oldest go first. Default 1 GiB.
	MediaBytes int64
	// MediaURLTTL is how long a media link lives. Default 5 minutes.
	MediaURLTTL time.Duration
	// PublicURL is the base of media links, "http://host:port"; default: the host that the request named.
	PublicURL string

	// NoLimits lifts the limits on sending, of all numbers.
	NoLimits bool

	// Numbers and Customers are registered by New.
	Numbers   []Number
	Customers []Customer
	// AutoRegister, when set, registers any unknown phone number id that a Graph call names, with the call's bearer
	// token and the rest of this value; so that a demonstration needs no set-up.
	AutoRegister *Number
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Backoff == nil {
		o.Backoff = defaultBackoff
	}
	o.Parallel = max(o.Parallel, 1)
	o.QueueSize = orDefault(o.QueueSize, 100_000)
	o.LedgerSize = orDefault(o.LedgerSize, 100_000)
	o.MediaBytes = orDefault(o.MediaBytes, 1<<30)
	o.DrainTimeout = orDefault(o.DrainTimeout, 2*time.Second)
	o.MediaURLTTL = orDefault(o.MediaURLTTL, 5*time.Minute)
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

func defaultBackoff(n int, since time.Duration) (time.Duration, bool) {
	if since > 7*24*time.Hour {
		return 0, false
	}
	wait := time.Second << min(n-1, 10)
	return min(wait, 10*time.Minute), true
}

// Server is a simulated Cloud API. Make it with New, serve Handler, and Start it so that webhooks leave.
// Its methods may be called from any goroutine.
type Server struct {
	opts      Options
	log       *slog.Logger
	client    *http.Client
	transport *http.Transport // ours to close, nil if the client was given

	ids     *idSource
	ledger  *Ledger
	faults  *faultSet
	media   *mediaStore
	events  *console.Events
	handler http.Handler

	mu        sync.Mutex // guards the maps below and what their values point to, and the life cycle
	numbers   map[string]*number
	order     []string // phone number ids as registered
	customers map[string]*Customer
	people    []string // wa ids as registered
	convs     map[convKey]*conversation
	byID      map[string]*Message
	templates map[string][]Template // by business account

	started, closed bool
	runCtx          context.Context // of the lines; cancelled when draining is over
	cancelRun       context.CancelFunc
	unhook          func() bool
	done            chan struct{} // closed by Close: no new attempt, hung calls end, event streams end
	lines           sync.WaitGroup
}

// New makes a Server with its numbers registered. Webhooks are queued until Start.
func New(o Options) (*Server, error) {
	o.setDefaults()
	s := &Server{
		opts: o, log: o.Logger, client: o.WebhookClient,
		ids:    &idSource{r: o.Rand},
		ledger: newLedger(o.LedgerSize, o.Now), faults: newFaultSet(),
		numbers: map[string]*number{}, customers: map[string]*Customer{},
		convs: map[convKey]*conversation{}, byID: map[string]*Message{}, templates: map[string][]Template{},
		done: make(chan struct{}),
	}
	s.events = console.NewEvents(o.Logger, s.done)
	s.media = newMediaStore(o.MediaBytes)
	s.ledger.onAppend = func(e Entry) { s.events.Publish("ledger", e) }
	if s.client == nil {
		s.transport = &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second}
		s.client = &http.Client{
			Transport: s.transport, Timeout: 10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	s.handler = s.routes()
	for _, n := range o.Numbers {
		if err := s.AddNumber(n); err != nil {
			return nil, err
		}
	}
	for _, c := range o.Customers {
		if err := s.AddCustomer(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Handler serves the Graph API under /vNN.N, media links, the control API under /control/ and the page at /.
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
	for _, n := range s.numbers {
		s.startLine(n)
	}
	return nil
}

// startLine needs s.mu.
func (s *Server) startLine(n *number) {
	if !s.started || s.closed || n.line.running {
		return
	}
	n.line.running = true
	s.lines.Go(func() { n.line.run(s.runCtx) })
}

// stop ends intake, event streams and hung calls.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
		s.ledger.notify()
	}
}

// Close begins no further webhook, lets those under way finish within DrainTimeout, ends hung calls and event
// streams, and returns when every goroutine of the Server has ended. It may be called more than once.
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

// WaitIdle waits until every webhook is acknowledged, given up or dropped.
func (s *Server) WaitIdle(ctx context.Context) error {
	return s.ledger.Wait(ctx, func(*Ledger) bool { return s.Pending() == 0 })
}

// Pending counts the webhooks that are not yet acknowledged.
func (s *Server) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for _, n := range s.numbers {
		total += n.line.pendingCount()
	}
	return total
}
