package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

var (
	_ channel.Session      = (*Session)(nil)
	_ channel.Commander    = (*Session)(nil)
	_ channel.MediaFetcher = (*Session)(nil)
	_ channel.Typer        = (*Session)(nil)
	_ channel.Resender     = (*Session)(nil)
	_ channel.PairCoder    = (*Session)(nil)
	_ channel.Resolver     = (*Session)(nil)
)

// Session is an open number.
type Session struct {
	host    channel.Host
	intake  channel.Intake
	link    channel.Link
	logger  *slog.Logger
	options Options
	clients *clients
	keys    *keyring
	name    string // the linked device, empty before
	unlink  bool
	leaving bool
	phone   string // the number's digits, empty before it is linked

	pairing  pairing
	pairs    pairs
	presence presence
	lookups  lookups
	history  history
	retries  retries

	// limited is until when WhatsApp lets no new chats be started; Unix
	// milliseconds, 0: it does.
	limited atomic.Int64
	showing sync.Mutex // held while the open channel's state is shown

	mu     sync.Mutex // guards what follows
	client *whatsmeow.Client
	conn   *connection
}

func newSession(c channel.Config, o Options, shared *clients) (*Session, error) {
	logger := c.Logger
	if logger == nil {
		logger = o.Logger
	}
	s := &Session{
		host: c.Host, intake: c.Intake, link: c.Link, logger: logger, options: o, clients: shared,
		name: c.Device, unlink: c.Unlink, leaving: c.Leaving, phone: c.Channel.Config[keyPhone],
	}
	s.presence.quietAfter = o.QuietAfter
	s.pairing.renew = make(chan struct{}, 1)
	s.retries.waiting = map[string]chan *events.MediaRetry{}
	var err error
	if s.keys, err = newKeyring(c.Keys, c.KeysDialect, logger, s.pairs.add, s.presence.rename); err != nil {
		return nil, err
	}
	if c.KeysFailed != nil {
		c.KeysFailed(s.keysFailed)
	}
	return s, nil
}

// connection is one connection to WhatsApp, from the attempt to its end. Its
// context ends with it; while it lives, what comes in may be acknowledged.
type connection struct {
	ctx    context.Context //nolint:containedctx // the connection's life
	cancel context.CancelCauseFunc
	wire   *wire
	opened chan struct{} // closed when WhatsApp has let us in
	once   sync.Once
	began  time.Time
}

// begin makes a connection's state, without a client yet.
func begin(ctx context.Context) *connection {
	ctx, cancel := context.WithCancelCause(ctx)
	ctx, wire := withWire(ctx)
	return &connection{ctx: ctx, cancel: cancel, wire: wire, opened: make(chan struct{}), began: time.Now()}
}

// newConnection makes a connection the present one. What an earlier one's client
// still has to tell does not reach it.
func (s *Session) newConnection(ctx context.Context, device *store.Device) (*whatsmeow.Client, *connection) {
	conn := begin(ctx)
	client := s.newClient(device)
	client.BackgroundEventCtx = conn.wire.live // for tokens that the library asks for beside a send
	s.watch(conn, client)
	client.AddEventHandlerWithSuccessStatus(func(evt any) bool { return s.handle(conn, evt) }) //nolint:contextcheck // it has the connection's context
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.conn = client, conn
	return client, conn
}

// dial connects the connection's client.
func (c *connection) dial(client *whatsmeow.Client) error { return c.wire.dial(c.ctx, client) }

// lastWords is how long a connection that WhatsApp has closed waits for the reason. WhatsApp tells it before it closes,
// but the library handles what comes in one by one, and sees the end at once. A reason that still waits behind another
// message may be dropped by the library all the same.
const lastWords = 250 * time.Millisecond

// end ends the connection. Of an end without a reason the reason may be still to come.
func (c *connection) end(cause error) {
	if errors.Is(cause, errBroken) {
		c.wire.cut()
		time.AfterFunc(lastWords, func() { c.cancel(cause) })
		return
	}
	c.cancel(cause)
}

// cause is why the connection has ended, nil while it has not.
func (c *connection) cause() error { return context.Cause(c.ctx) }

func (c *connection) open() { c.once.Do(func() { close(c.opened) }) }

func (c *connection) isOpen() bool {
	select {
	case <-c.opened:
		return true
	default:
		return false
	}
}

// keysFailed ends the connection when the database fails under the library,
// before the library can take that for a message that cannot be decrypted, and
// acknowledge it.
func (s *Session) keysFailed(err error) {
	s.endConnection(fmt.Errorf("%w: the session's keys: %w", errStore, err))
}

// endConnection ends the present connection; nothing is acknowledged after it
// returns.
func (s *Session) endConnection(cause error) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		conn.cancel(cause)
	}
}

// Run opens the number and serves until ctx ends. See the package's comment.
func (s *Session) Run(ctx context.Context) error {
	defer s.lookups.stop()
	s.clients.version.refresh(ctx, false, s.logger)
	err := s.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Session) run(ctx context.Context) error {
	if s.name == "" {
		if s.unlink {
			return s.unlinked(ctx, codeUnlinked, "The link was ended. Connect the channel to link it again.")
		}
		err := s.pair(ctx, false)
		for errors.Is(err, errRenewed) {
			err = s.pair(ctx, true)
		}
		s.pairing.giveUp()
		if err != nil {
			return err
		}
	}
	device, err := s.keys.device(ctx, s.name)
	if err != nil {
		return err
	}
	if device == nil {
		return s.unlinked(ctx, codeKeysGone, "The database has no keys of the link: linking was broken off, or an older copy was restored. Connect the channel to link it again.")
	}
	s.phone = device.ID.User
	if s.unlink {
		return s.endLink(ctx, device)
	}
	return s.serve(ctx, device)
}

// parallelRetries bounds how many messages are sent again at once to phones that
// could not decrypt them.
const parallelRetries = 4

// newClient makes the library's client for one connection, with the switches
// that make an acknowledgement mean that the message is stored.
func (s *Session) newClient(device *store.Device) *whatsmeow.Client {
	client := whatsmeow.NewClient(device, newLog(s.logger))
	client.SetWebsocketHTTPClient(s.clients.web)
	client.SetPreLoginHTTPClient(s.clients.web)
	client.SetMediaHTTPClient(s.clients.media)
	client.EnableAutoReconnect = false
	client.DisableLoginAutoReconnect = true
	client.SynchronousAck = true
	client.EnableDecryptedEventBuffer = true
	client.UseRetryMessageStore = true
	client.ManualHistorySyncDownload = true
	client.DisableManualHistorySyncReceipt = true
	client.SetMaxParallelRetryReceiptHandling(parallelRetries)
	return client
}

// serve connects, again at once when a connection breaks that had worked, and
// otherwise says why not.
func (s *Session) serve(ctx context.Context, device *store.Device) error {
	var again []time.Time // when connections were made anew at once
	for {
		// Under the lease: this also finds out whether it is still ours.
		if err := s.host.SetStatus(ctx, domain.ChannelConnecting, "", "Connecting to WhatsApp."); err != nil {
			return err
		}
		worked, err := s.connectOnce(ctx, device)
		if ctx.Err() != nil {
			return nil
		}
		again = slices.DeleteFunc(again, func(at time.Time) bool { return time.Since(at) > atOnceWithin })
		if !worked || len(again) >= atOnce || !passing(err) {
			return s.ended(ctx, err)
		}
		again = append(again, time.Now())
		s.logger.InfoContext(ctx, "connecting to WhatsApp again", slogErr(err))
	}
}

// passing reports whether a connection ended as connections do: WhatsApp closes
// them now and then.
func passing(err error) bool {
	return errors.Is(err, errBroken) || errors.Is(err, errKeepAlive) || errors.Is(err, errLinked)
}

// ended says what the end of a connection means.
func (s *Session) ended(ctx context.Context, err error) error {
	var down *channel.Down
	var out *loggedOut
	switch {
	case errors.As(err, &out):
		return s.unlinked(ctx, out.code(), out.words())
	case errors.As(err, &down):
		if down.Code == codeOutdated {
			s.clients.version.refresh(ctx, true, s.logger)
		}
		return down
	case errors.Is(err, errStore):
		return &channel.Down{
			State: domain.ChannelConnecting, Code: codeStorage, Cause: err,
			Reason: "Messages cannot be stored at the moment. WhatsApp keeps them, and the channel tries again by itself.",
		}
	default:
		return unreachable(err)
	}
}

const (
	// steady is how long WhatsApp must have let us in for the next connection to be
	// made at once; that happens at most atOnce times within atOnceWithin, and
	// then the worker's back-off decides.
	steady       = 5 * time.Second
	atOnce       = 3
	atOnceWithin = 5 * time.Minute
)

// openTimeout is how long WhatsApp may take to let us in.
const openTimeout = 90 * time.Second

// connectOnce makes a connection and waits for its end, whose reason it returns.
// worked reports whether it was of use for a while.
func (s *Session) connectOnce(ctx context.Context, device *store.Device) (worked bool, err error) {
	client, conn := s.newConnection(ctx, device)
	defer s.presence.reset()
	defer conn.wire.hangUp(client)
	defer s.hush()
	defer conn.cancel(errOver)
	if err := s.replay(conn, client); err != nil { //nolint:contextcheck // it has the connection's context
		return false, err
	}
	if err := conn.dial(client); err != nil {
		if cause := conn.cause(); cause != nil && ctx.Err() == nil {
			return false, cause
		}
		return false, unreachable(err)
	}
	timer := time.NewTimer(openTimeout)
	defer timer.Stop()
	var since time.Time
	for opened := conn.opened; ; {
		select {
		case <-conn.ctx.Done():
			return !since.IsZero() && time.Since(since) > steady, conn.cause()
		case <-timer.C:
			return false, unreachable(errSilent)
		case <-opened:
			opened, since = nil, time.Now()
			timer.Stop()
			if err := s.connected(conn, client); err != nil { //nolint:contextcheck // likewise
				return false, err
			}
		}
	}
}

// hush waits until nothing is being shown of a connection that has ended: what
// comes after it must not be covered.
func (s *Session) hush() {
	s.showing.Lock()
	defer s.showing.Unlock()
}

var (
	errStore  = errors.New("the database does not take what came in")
	errOver   = errors.New("the connection is over")
	errSilent = errors.New("WhatsApp did not answer in time")
)

// connected shows the channel as open and lets its sends begin.
func (s *Session) connected(conn *connection, client *whatsmeow.Client) error {
	s.presence.open(announcer(client))
	if err := s.showConnected(conn); err != nil || conn.wire.live.Err() != nil {
		return err
	}
	s.host.Ready()
	s.history.resume(s)
	s.lookups.resume(s)
	return nil
}

// showConnected tells what may hold the open channel back. Of a connection that
// has ended it says nothing any more.
func (s *Session) showConnected(conn *connection) error {
	s.showing.Lock()
	defer s.showing.Unlock()
	if conn.wire.live.Err() != nil || !conn.isOpen() {
		return nil
	}
	code, reason := "", "Connected as +"+s.phone+"."
	if until := s.limited.Load(); until > time.Now().UnixMilli() {
		code = codeReachOut
		reason = fmt.Sprintf("WhatsApp lets this number start no new chats until about %s; chats that there are go on. "+
			"It does that to numbers that write to many strangers.", time.UnixMilli(until).UTC().Format("02 Jan 15:04 MST"))
	} else if history, words := s.history.state(); history != "" {
		code, reason = history, "Connected as +"+s.phone+". "+words
	}
	return s.host.SetStatus(conn.ctx, domain.ChannelConnected, code, reason)
}

// open returns the client while the number is connected.
func (s *Session) open() (*whatsmeow.Client, *connection, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil || s.conn == nil || !s.conn.isOpen() || s.conn.wire.live.Err() != nil {
		return nil, nil, false
	}
	return s.client, s.conn, true
}

func slogErr(err error) slog.Attr { return slog.Any("error", err) }
