package telegram

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/channel/pacing"
	"switchboard/internal/domain"
)

var (
	_ channel.Session      = (*Session)(nil)
	_ channel.Commander    = (*Session)(nil)
	_ channel.MediaFetcher = (*Session)(nil)
	_ channel.Typer        = (*Session)(nil)
	_ channel.Pacer        = (*Session)(nil)
)

// Options are what all sessions share.
type Options struct {
	// API is the Bot API's address: "https://api.telegram.org/bot%s/%s", where
	// the token and the method go.
	API string
	// Files is that of its file server, for the token and a path.
	Files string
	// HTTP makes the calls; default NewAPIClient(). Redirects are never
	// followed.
	HTTP *http.Client
	// PollTimeout is how long Telegram holds a request for updates open when
	// there are none; default 30 seconds, in whole seconds. An answer that is 10
	// seconds later than that does not come any more.
	PollTimeout time.Duration
	// Grace is those 10 seconds.
	Grace time.Duration
	// MinWait and MaxWait bound the wait after a failure; default 1 second and
	// 1 minute.
	MinWait, MaxWait time.Duration
}

func (o *Options) setDefaults() error {
	if o.HTTP == nil {
		o.HTTP = NewAPIClient()
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.PollTimeout, 30 * time.Second}, {&o.Grace, 10 * time.Second}, {&o.MinWait, time.Second}, {&o.MaxWait, time.Minute}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return errors.Join(parseEndpoint(o.API), parseEndpoint(o.Files))
}

// NewFactory makes a factory of sessions that share their HTTP connections.
func NewFactory(o Options) (channel.Factory, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	shared := noRedirects(o.HTTP)
	return func(c channel.Config) (channel.Session, error) {
		token := c.Secrets[KeyBotToken]
		if !tokenForm.MatchString(token) {
			return nil, fmt.Errorf("telegram: channel %d has no botToken", c.Channel.ID)
		}
		bot, err := strconv.ParseInt(botID(token), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("telegram: channel %d has a botToken without the bot's id", c.Channel.ID)
		}
		if c.Host == nil || c.Intake == nil {
			return nil, fmt.Errorf("telegram: channel %d has no intake", c.Channel.ID)
		}
		logger := c.Logger
		if logger == nil {
			logger = slog.New(slog.DiscardHandler)
		}
		return &Session{
			host: c.Host, intake: c.Intake, logger: logger, options: o, bot: bot, pace: newPace(),
			client: &client{http: shared, api: o.API, files: o.Files, token: token}, clashWindow: clashWindow,
			answers: make(chan string, maxAnswers), wait: backoff{least: o.MinWait, most: o.MaxWait},
		}, nil
	}, nil
}

// Session is an open bot. Run alone polls for updates; sends go beside it.
type Session struct {
	host    channel.Host
	intake  channel.Intake
	logger  *slog.Logger
	options Options
	bot     int64 // the bot's id
	client  *client
	pace    *pacing.Gate
	answers chan string // callback queries to answer

	// What follows belongs to Run.
	position string        // where the intake goes on; empty at the very first
	told     bool          // Telegram has answered a request that named the position
	batch    int           // how many updates to ask for
	tries    int           // of storing the present updates
	failures int           // of calls since a poll last succeeded
	quick    bool          // the next poll shall not wait for updates
	rival    *channel.Down // on show: another program polls, too; nil: none
	clashes  []time.Time   // when our polls were ended by another one's, of late
	greeting string        // what to show once a poll has succeeded; empty: it is shown
	wait     backoff
	ready    bool

	clashWindow time.Duration // the constant, but for tests

	mu      sync.Mutex // guards what follows
	doubted bool       // an answer to a send says that the token is bad
	cancel  context.CancelFunc
}

// maxBatch is the most that getUpdates gives.
const maxBatch = 100

// clashWindow is how far conflicts may be apart to be those of one rival. It is
// longer than any program waits between two polls.
const clashWindow = 5 * time.Minute

// backoff grows from least to most by doubling.
type backoff struct{ least, most, next time.Duration }

func (b *backoff) take() time.Duration {
	d := min(max(b.next, b.least), b.most)
	b.next = 2 * d
	return d - d/10 + rand.N(d/5+1) // #nosec G404 -- spreads load, guards nothing
}

func (b *backoff) reset() { b.next = 0 }

// Run takes the bot over, says so, and fetches what customers send until ctx
// ends. Failures that pass are waited out and shown; the bot's sends go on
// meanwhile.
func (s *Session) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	beside.Go(func() { s.answerCallbacks(ctx) })

	s.show(ctx, domain.ChannelConnecting, "", "Checking the bot's token with Telegram.")
	position, err := s.intake.Position(ctx)
	if err != nil {
		return endOf(ctx, err)
	}
	s.position, s.batch = position, maxBatch
	open := false
	for ctx.Err() == nil {
		if !open {
			err = s.open(ctx)
		} else {
			err = s.poll(ctx)
		}
		if err == nil {
			open = true
			continue
		}
		again, down := s.trouble(ctx, err)
		if down != nil {
			return endOf(ctx, down)
		}
		open = open && !again
	}
	return nil
}

// endOf is what Run returns: nothing once its context has ended.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Session) show(ctx context.Context, state domain.ChannelState, code, reason string) {
	if err := s.host.SetStatus(ctx, state, code, reason); err != nil && ctx.Err() == nil {
		// The worker writes it later.
		s.logger.DebugContext(ctx, "state of the bot not written yet", slog.Any("error", err))
	}
}

// pause waits; false once ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// me is what getMe tells of a bot.
type me struct {
	ID       int64  `json:"id"`
	Name     string `json:"first_name"`
	Username string `json:"username"`
}

// open takes the bot away from a webhook, which would keep its updates from us,
// and asks who it is.
func (s *Session) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := s.client.call(ctx, "deleteWebhook", nil); err != nil {
		return overdue(ctx, err)
	}
	var who me
	if err := s.client.decode(ctx, &who, "getMe", nil); err != nil {
		return overdue(ctx, err)
	}
	if who.ID != s.bot {
		return &transportError{cause: fmt.Errorf("the answer is of bot %d", who.ID)}
	}
	s.greeting = "Connected as " + fullName(who.Name, "", "") + " (@" + cut(clean(who.Username), maxUsername) + ")."
	// A rival's poll is ended by ours, and ends ours in turn: that it is gone
	// shows only when ours has waited undisturbed.
	s.quick = s.rival == nil
	if !s.ready {
		s.ready = true
		s.host.Ready()
		s.logger.InfoContext(ctx, "telegram bot opened", slog.Int64("bot", s.bot))
	}
	return nil
}

// polled notes that a poll has succeeded; waited tells that it was open for its
// whole time. A rival is not gone when polls succeed: on a busy bot they do
// between the conflicts. It is when one was left alone, or none was disturbed for
// long.
func (s *Session) polled(ctx context.Context, waited bool) {
	s.failures, s.quick = 0, false
	s.wait.reset()
	if s.rival != nil && !waited && s.clashed(time.Now()) > 0 {
		s.show(ctx, s.rival.State, s.rival.Code, s.rival.Reason) // another failure may be on show
		return
	}
	s.rival = nil
	if s.greeting != "" {
		s.show(ctx, domain.ChannelConnected, "", s.greeting)
		s.greeting = ""
	}
}

// clashed counts the conflicts of late.
func (s *Session) clashed(now time.Time) int {
	s.clashes = slices.DeleteFunc(s.clashes, func(at time.Time) bool { return now.Sub(at) > s.clashWindow })
	return len(s.clashes)
}

// trouble shows and waits out what keeps the bot from its updates. again says
// that the bot must be opened anew; down that it cannot go on.
func (s *Session) trouble(ctx context.Context, err error) (again bool, down *channel.Down) {
	if ctx.Err() != nil {
		return false, nil
	}
	var stored *storeError
	switch {
	case errors.Is(err, errDoubted):
		return true, nil
	case errors.Is(err, errShrunk):
		return false, nil
	case errors.As(err, &stored):
		// Telegram keeps what is not confirmed.
		s.logger.WarnContext(ctx, "updates could not be stored and are fetched again", slog.Int("tries", s.tries), slog.Any("error", stored.cause))
		pause(ctx, s.wait.take())
		return false, nil
	}
	s.failures++
	down = downOf(err)
	if down.Permanent {
		return true, down
	}
	clashes := 0
	if down.Code == codeConflict {
		s.clashes = append(s.clashes, time.Now())
		clashes = s.clashed(time.Now())
	}
	wait := s.wait.take()
	var said *apiError
	if errors.As(err, &said) && said.retryAfter > 0 {
		wait = max(said.retryAfter, s.options.MinWait)
	}
	s.logger.WarnContext(ctx, "updates cannot be fetched", slog.String("code", down.Code), slog.Int("failures", s.failures), slog.Any("error", err))
	// One failure alone is no news: a connection breaks, and the poll of the
	// worker that had the bot before us may still be open. But long silence is,
	// and so are conflicts between polls that succeed.
	if s.failures > 1 || clashes > 1 || !s.ready || down.Code == codeFlood || errors.Is(err, errOverdue) {
		s.show(ctx, down.State, down.Code, down.Reason)
		again = true // a success shows it as connected
		if down.Code == codeConflict {
			s.rival = down
		}
	}
	pause(ctx, wait)
	return again || down.Code == codeWebhook, nil
}

// doubt makes Run ask whether the token is still good.
func (s *Session) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubted = true
	if s.cancel != nil {
		s.cancel()
	}
}
