package whatsapp

import (
	"context"
	"encoding/hex"
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

	// Now is the clock of everything that the protocol shows. Waiting uses real time. Default time.Now.
	Now func() time.Time

	// RootKey is the 32-byte seed of the key that signs the server's certificates. Default: random, or that of StateFile.
	RootKey []byte

	// RefTTL is how long a phone accepts a QR ref or a pairing code. Default 3 minutes.
	RefTTL time.Duration
	// Refs is how many QR codes a client gets, one after the other; then it gives up. Default 6.
	Refs int

	// LedgerSize bounds the ledger's entries, inbound messages, sends and connections; the oldest go first. Default 100,000.
	LedgerSize int
	// QueueSize bounds what waits for one device; when it is full the oldest is lost, and the ledger shows it. Default 100,000.
	QueueSize int
	// MediaBytes bounds the files of the media host, the oldest go first. Default 1 GiB.
	MediaBytes int64

	// GoneGrace is how long a socket that another login replaces may take to show that its client is already gone. It keeps a
	// takeover after a crash from looking like two owners. Default 50 ms.
	GoneGrace time.Duration
	// CloseDelay is the time from the last stanza (stream:error, failure) to the end of the TCP connection. If both came at
	// once, the client would reconnect before it read why. Default 150 ms.
	CloseDelay time.Duration

	// NoAutoReceipts keeps people's phones from confirming by themselves that they got a message; see Server.Deliver.
	NoAutoReceipts bool

	// Phones, People and Groups are registered by New.
	Phones []Phone
	People []Person
	Groups []Group

	// StateFile keeps phones' keys, linked devices, their waiting messages, LIDs, groups and Signal sessions, so that a
	// Server that begins anew knows the devices that were linked before. Saved atomically soon after a change, and by Close.
	// Empty: nothing is kept. Files of the media host, conversations and the ledger are not kept.
	StateFile string
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.RefTTL = orDefault(o.RefTTL, 3*time.Minute)
	o.Refs = orDefault(o.Refs, 6)
	o.LedgerSize = orDefault(o.LedgerSize, 100_000)
	o.QueueSize = orDefault(o.QueueSize, 100_000)
	o.MediaBytes = orDefault(o.MediaBytes, 1<<30)
	o.GoneGrace = orDefault(o.GoneGrace, 50*time.Millisecond)
	o.CloseDelay = orDefault(o.CloseDelay, 150*time.Millisecond)
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Server is a simulated WhatsApp: the server of WhatsApp Web, the media host, the phones that devices are linked to, and
// the people who write to them. Make it with New and serve Handler. Its methods may be called from any goroutine.
type Server struct {
	opts Options
	log  *slog.Logger

	ledger  *Ledger
	faults  *faultSet
	media   *mediaStore
	events  *console.Events
	handler http.Handler
	noise   *noiseIdentity

	mu     sync.Mutex // guards what is below, what it points to, and the life cycle
	phones map[string]*phone
	people map[string]*person
	groups map[string]*group
	order  struct{ phones, people, groups []string } // as registered
	lids   map[string]string                         // LID to number
	conns  map[*conn]struct{}
	refs   map[string]*pairingRef
	lastID int64

	dirty  bool // state that is not in the StateFile yet
	saving *time.Timer
	saveMu sync.Mutex // one writer of the StateFile at a time; taken before mu

	closed bool
	unhook func() bool
	done   chan struct{} // closed by Close: event streams and waiting requests end
	work   sync.WaitGroup
}

// New makes a Server.
func New(o Options) (*Server, error) {
	o.setDefaults()
	s := &Server{
		opts: o, log: o.Logger,
		ledger: newLedger(o.LedgerSize, o.Now), faults: &faultSet{}, media: newMediaStore(o.MediaBytes),
		phones: map[string]*phone{}, people: map[string]*person{}, groups: map[string]*group{}, lids: map[string]string{},
		conns: map[*conn]struct{}{}, refs: map[string]*pairingRef{}, lastID: o.Now().UnixNano() >> 20,
		done: make(chan struct{}),
	}
	s.events = console.NewEvents(o.Logger, s.done)
	s.ledger.onAppend = func(e Entry) { s.events.Publish("ledger", e) }
	state, err := s.loadState()
	if err != nil {
		return nil, err
	}
	if s.noise, err = newNoiseIdentity(o.RootKey, state.RootKey, o.Now()); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	if err := s.restore(state); err != nil {
		return nil, err
	}
	if err := s.register(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) register() error {
	for _, p := range s.opts.Phones {
		if _, err := s.AddPhone(p); err != nil {
			return err
		}
	}
	for _, p := range s.opts.People {
		if _, err := s.AddPerson(p); err != nil {
			return err
		}
	}
	for _, g := range s.opts.Groups {
		if _, err := s.AddGroup(g); err != nil {
			return err
		}
	}
	return nil
}

// routes sends a request to the page, the control API, the WebSocket or the media host. The client calls several hosts;
// only the path tells what it wants.
func (s *Server) routes() http.Handler {
	control := s.controlRoutes()
	page := console.Page(pageHTML)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/" || path == "/favicon.ico":
			page.ServeHTTP(w, r)
		case path == "/control" || strings.HasPrefix(path, "/control/"):
			control.ServeHTTP(w, r)
		case path == "/ws/chat":
			s.serveSocket(w, r)
		default:
			s.serveMedia(w, r)
		}
	})
}

// Handler serves WhatsApp Web's WebSocket at /ws/chat, the media host, the control API under /control/ and the page at /.
func (s *Server) Handler() http.Handler { return s.handler }

// Ledger is the record of everything sent and received.
func (s *Server) Ledger() *Ledger { return s.ledger }

// RootKeyHex is the public key that the product must take for the root of the certificates: WHATSAPP_ROOT_KEY, or
// whatsmeow.WACertPubKey.
func (s *Server) RootKeyHex() string { return hex.EncodeToString(s.noise.rootPublic[:]) }

// Settings are what to set in the product, NAME=value, for a simulator at the base URL "http://host:port".
func (s *Server) Settings(baseURL string) []string {
	return []string{"WHATSAPP_ENDPOINT=" + baseURL, "WHATSAPP_ROOT_KEY=" + s.RootKeyHex()}
}

// Hint says what to set in the product to use a simulator at the base URL; one line each.
func (s *Server) Hint(baseURL string) []string {
	set := s.Settings(baseURL)
	return []string{
		"page: " + baseURL + "/   control API: " + baseURL + "/control/",
		"in the product, set " + set[0] + " and",
		"  " + set[1],
		"  add a channel of kind whatsapp, and link it on the page by its QR code or its pairing code",
	}
}

// Start makes the end of ctx close the Server. Handler works without it. After Close it returns ErrClosed.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.unhook == nil {
		s.unhook = context.AfterFunc(ctx, s.stop)
	}
	return nil
}

// stop ends every socket and event stream.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.saving != nil {
		s.saving.Stop()
	}
	close(s.done)
	for c := range s.conns {
		c.cutLocked(endClosed)
	}
	s.ledger.notify()
}

// Close ends every socket and event stream, saves the state, and returns when every goroutine of the Server has ended. It
// may be called more than once.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	unhook := s.unhook
	s.mu.Unlock()
	if unhook != nil {
		unhook()
	}
	s.work.Wait()
	return s.save()
}

// WaitIdle waits until nothing waits for a device: every message was acknowledged.
func (s *Server) WaitIdle(ctx context.Context) error {
	return s.ledger.Wait(ctx, func(*Ledger) bool { return s.Pending() == 0 })
}

// Pending counts the messages of all devices that are not acknowledged, but for devices that are logged out. Receipts and
// notifications do not count.
func (s *Server) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for _, p := range s.phones {
		for _, d := range p.devices {
			if !d.loggedOut {
				total += d.waiting
			}
		}
	}
	return total
}

func (s *Server) nextID() int64 {
	s.lastID++
	return s.lastID
}

func slogErr(err error) slog.Attr { return slog.Any("error", err) }
