package waba

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
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
	// BaseURL is the Graph API with version: "https://graph.facebook.com/v24.0".
	BaseURL string
	// API makes the calls to BaseURL's host; default NewAPIClient(). Redirects
	// are never followed.
	API *http.Client
	// Media fetches customers' files from Meta's file servers, whose addresses
	// come from answers: it must check addresses when it connects (SSRF). Nil
	// refuses every link that does not lead to BaseURL's host.
	Media *http.Client
	// Recheck is how often the credentials are checked while connected, more or
	// less; default 5 minutes.
	Recheck time.Duration
	// Patience is how long to wait before each of the two further tries when
	// Meta cannot be reached while connected; default 5 seconds.
	Patience time.Duration
}

// NewFactory makes a factory of sessions that share their HTTP connections.
func NewFactory(o Options) (channel.Factory, error) {
	base, err := parseBase(o.BaseURL)
	if err != nil {
		return nil, err
	}
	if o.API == nil {
		o.API = NewAPIClient()
	}
	if o.Recheck <= 0 {
		o.Recheck = 5 * time.Minute
	}
	if o.Patience <= 0 {
		o.Patience = 5 * time.Second
	}
	api := noRedirects(o.API)
	return func(c channel.Config) (channel.Session, error) {
		number, token := c.Channel.Config[KeyPhoneNumberID], c.Secrets[KeyAccessToken]
		if !isDigits(number) || token == "" {
			return nil, fmt.Errorf("waba: channel %d has no phoneNumberId or accessToken", c.Channel.ID)
		}
		logger := c.Logger
		if logger == nil {
			logger = slog.New(slog.DiscardHandler)
		}
		return &Session{
			host: c.Host, logger: logger, number: number, options: o,
			client:  &client{base: base, api: api, media: o.Media, token: token},
			pace:    newPace(),
			suspect: make(chan struct{}, 1),
		}, nil
	}, nil
}

// Session is an open Cloud API channel. It keeps no connection of its own:
// being connected means that Meta accepted the token for the number.
type Session struct {
	host    channel.Host
	logger  *slog.Logger
	number  string // Meta's phone number id
	client  *client
	options Options
	uploads uploads
	pace    *pacing.Gate
	// suspect is told when an answer says that the credentials may be bad;
	// capacity 1, more tellings than one mean the same.
	suspect chan struct{}
}

// Run checks the credentials, says so, and checks them again from time to
// time and whenever an answer makes them doubtful, until ctx ends.
func (s *Session) Run(ctx context.Context) error {
	if err := s.host.SetStatus(ctx, domain.ChannelConnecting, "", "Checking the number and the access token with Meta."); err != nil {
		return endOf(ctx, err)
	}
	found, down := s.check(ctx)
	if down != nil {
		return endOf(ctx, down)
	}
	if err := s.connected(ctx, found); err != nil {
		return endOf(ctx, err)
	}
	s.host.Ready()
	s.logger.InfoContext(ctx, "waba channel connected", slog.String("status", found.Status), slog.String("quality", found.Quality))
	for {
		if !s.pause(ctx, jitter(s.options.Recheck), true) {
			return nil
		}
		found, down := s.recheck(ctx)
		if down != nil {
			return endOf(ctx, down)
		}
		if found != (phoneNumber{}) {
			if err := s.connected(ctx, found); err != nil {
				return endOf(ctx, err)
			}
		}
	}
}

// endOf is what Run returns: nothing once its context has ended.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// pause waits, shorter if a suspicion may end it; false once ctx has ended.
func (s *Session) pause(ctx context.Context, d time.Duration, alert bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	suspect := s.suspect
	if !alert {
		suspect = nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-suspect:
	}
	return ctx.Err() == nil
}

// jitter spreads the checks of many channels: d, less or more a tenth.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) // #nosec G404 -- spreads load, guards nothing
}

func (s *Session) connected(ctx context.Context, found phoneNumber) error {
	s.setThroughput(found.Throughput.Level)
	return s.host.SetStatus(ctx, domain.ChannelConnected, "", found.reason())
}

// noted passes an outcome on, has the credentials checked if it puts them in
// doubt, and lets wait what was refused as too early. chatID is 0 for calls that
// are for no chat.
func (s *Session) noted(chatID int64, e *channel.SendError) *channel.SendError {
	if e.Limited {
		s.limited(chatID, e)
	}
	if e.Code == codeTokenInvalid {
		select {
		case s.suspect <- struct{}{}:
		default:
		}
	}
	return e
}

// phoneNumber is what Meta says of the number.
type phoneNumber struct {
	Display string `json:"display_phone_number"`
	Name    string `json:"verified_name"`
	Quality string `json:"quality_rating"`
	Status  string `json:"status"`
	// Throughput is how many messages a second the number may send: STANDARD or
	// HIGH.
	Throughput struct {
		Level string `json:"level"`
	} `json:"throughput"`
}

func (p phoneNumber) reason() string {
	text := fmt.Sprintf("Connected as %s (%s).", orElse(clean(p.Name), "this number"), orElse(clean(p.Display), "number not shown"))
	switch {
	case p.Status == "RESTRICTED" || p.Status == "FLAGGED" || p.Status == "RATE_LIMITED":
		text += " Meta limits how many chats may be started from it: see its quality in WhatsApp Manager."
	case p.Quality == "RED":
		text += " Customers rate its messages low; Meta may soon limit it."
	}
	return text
}

// recheck tells nothing new (an empty phoneNumber) where a limit kept it from
// looking, and gives up on reaching Meta only after three tries.
func (s *Session) recheck(ctx context.Context) (phoneNumber, error) {
	for try := 1; ; try++ {
		found, err := s.check(ctx)
		var down *channel.Down
		if err == nil || !errors.As(err, &down) {
			return found, err
		}
		if down.Code == codeRateLimited {
			return phoneNumber{}, nil // whoever is over a limit has a good token
		}
		if down.Code != codeUnreachable || try == 3 {
			return phoneNumber{}, down
		}
		s.logger.WarnContext(ctx, "waba check failed, trying again", slog.Int("try", try))
		if !s.pause(ctx, s.options.Patience, false) {
			return phoneNumber{}, ctx.Err()
		}
	}
}

// check asks Meta for the number with the channel's token. The error is a
// *channel.Down.
func (s *Session) check(ctx context.Context) (phoneNumber, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var found phoneNumber
	err := s.client.do(ctx, call{
		method: http.MethodGet, path: s.number,
		query: url.Values{"fields": {"display_phone_number,verified_name,quality_rating,status,throughput"}},
	}, &found)
	if err != nil {
		return phoneNumber{}, downOf(err)
	}
	return found, found.fault()
}

// fault is a state of the number in which it cannot send. The nil of success
// is an error, not a *channel.Down.
func (p phoneNumber) fault() error {
	switch p.Status {
	case "BANNED":
		return &channel.Down{
			State: domain.ChannelBanned, Code: "banned", Permanent: true,
			Reason: "Meta has banned this number. An administrator can appeal in WhatsApp Manager, then connect again.",
		}
	case "PENDING", "DISCONNECTED":
		return &channel.Down{
			State: domain.ChannelError, Code: "not_registered",
			Reason: "The number is not registered with the Cloud API. Register it in WhatsApp Manager; the channel then connects by itself.",
		}
	default:
		return nil
	}
}

// downOf says what a failed check means for the channel.
func downOf(err error) *channel.Down {
	down := &channel.Down{State: domain.ChannelError, Cause: err}
	var meta *graphError
	if !errors.As(err, &meta) {
		down.Code, down.Reason = codeUnreachable, "WhatsApp's servers cannot be reached. The channel tries again by itself."
		return down
	}
	switch verdict := meta.verdict(); {
	case verdict == badToken:
		down.Code, down.Reason, down.Permanent = codeTokenInvalid, newToken, true
	case meta.missing() || meta.Code == 33:
		down.Code, down.Permanent = codeNumberAbsent, true
		down.Reason = "Meta knows no number with this phoneNumberId for this access token. An administrator must check both in the channel's settings."
	case verdict == wait:
		down.Code, down.Reason = codeRateLimited, "Meta limits the number of calls at the moment. The channel tries again by itself."
	case meta.understood && verdict == refused:
		down.Code, down.Permanent = codeWord(meta.Code), true
		down.Reason = meta.sentence() + " Then connect the channel again."
	case verdict == refused:
		down.Code, down.Permanent = fmt.Sprintf("http_%d", meta.status), true
		down.Reason = fmt.Sprintf("The address of the Graph API answered %d, which Meta's does not. An administrator must check WABA_API_URL.", meta.status)
	default:
		down.Code, down.Reason = codeUnreachable, "WhatsApp has a fault at the moment. The channel tries again by itself."
	}
	return down
}
