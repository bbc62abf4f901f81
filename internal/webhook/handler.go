package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"switchboard/internal/channel/waba"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
)

// Source is a channel that may be the sender's, with the secret that proves it.
type Source struct {
	ChannelID     int64
	PhoneNumberID string
	AppSecret     string
}

// Results of a delivery, for Options.Measure.
const (
	ResultAccepted     = "accepted"
	ResultBadSignature = "bad_signature"
	ResultInvalid      = "invalid"
	ResultFailed       = "failed"
)

// Options are what an Intake is made from. Measure and Pending may be nil.
type Options struct {
	Inbox *inbox.Service
	// Sources finds the channels of phone number ids; unknown ones are left out.
	Sources func(ctx context.Context, phoneNumberIDs []string) ([]Source, error)
	// KnowsToken tells whether a channel was set up with a verify token.
	KnowsToken func(ctx context.Context, verifyToken string) (bool, error)
	Logger     *slog.Logger
	Measure    func(result string)
	Pending    func(deliveries int64)
	// Claim is how long a delivery is left to the node that took it, if that
	// node does not renew it; 0 means 4 s.
	Claim time.Duration
	// Sweep is the pause between two looks for deliveries that nobody works
	// on; 0 means 1 s.
	Sweep time.Duration
}

// Intake is the webhook's HTTP side and the work behind it. Start it before
// requests come, Stop it after they have ended.
type Intake struct {
	options Options
	queues  []chan job
	claims  claims
	running
}

// New makes an Intake.
func New(o Options) *Intake {
	if o.Measure == nil {
		o.Measure = func(string) {}
	}
	if o.Pending == nil {
		o.Pending = func(int64) {}
	}
	if o.Claim == 0 {
		o.Claim = 4 * time.Second
	}
	if o.Sweep == 0 {
		o.Sweep = time.Second
	}
	in := &Intake{options: o, queues: make([]chan job, workers)}
	for i := range in.queues {
		in.queues[i] = make(chan job, queueLength)
	}
	return in
}

// Verify answers Meta's check of the address (GET).
func (in *Intake) Verify(fail func(w http.ResponseWriter, r *http.Request, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		token := query.Get("hub.verify_token")
		challenge, ok := waba.Challenge(query, token)
		if !ok {
			fail(w, r, domain.NewError(domain.CodeInvalid, "This address takes Meta's verification: hub.mode=subscribe, hub.verify_token and hub.challenge are wanted."))
			return
		}
		known, err := in.options.KnowsToken(r.Context(), token)
		if err != nil {
			fail(w, r, err)
			return
		}
		if !known {
			fail(w, r, domain.NewError(domain.CodeForbidden, "No channel has this verify token. Enter the same one here and at Meta."))
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, challenge) //nolint:gosec // plain text, nosniff, and only for who knows a channel's token
	}
}

// Deliver takes a delivery in (POST).
func (in *Intake) Deliver(fail func(w http.ResponseWriter, r *http.Request, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := in.deliver(w, r)
		in.options.Measure(result)
		if err != nil {
			fail(w, r, err)
			return
		}
		w.WriteHeader(http.StatusOK)
	}
}

var (
	errBadSignature = domain.NewError(domain.CodeUnauthenticated,
		"The signature is missing, or was not made over these bytes with the app secret of a channel that the body names.")
	errTooLarge = domain.Errorf(domain.CodeTooLarge, "A webhook may be at most %d bytes.", waba.MaxWebhookBytes)
	errNotJSON  = domain.NewError(domain.CodeInvalid, "The body is not a webhook of the WhatsApp Business Platform.")
)

func (in *Intake) deliver(w http.ResponseWriter, r *http.Request) (result string, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, waba.MaxWebhookBytes))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return ResultInvalid, errTooLarge
		}
		return ResultInvalid, domain.NewError(domain.CodeInvalid, "The body ended early.").WithCause(err)
	}
	numbers, err := waba.PhoneNumberIDs(body)
	if err != nil {
		return ResultInvalid, errNotJSON.WithCause(err)
	}
	if len(numbers) == 0 {
		return in.withoutNumbers(r.Context(), body)
	}
	sources, err := in.options.Sources(r.Context(), numbers)
	if err != nil {
		return ResultFailed, err
	}
	var channels []int64
	header := r.Header.Get(waba.SignatureHeader)
	for _, source := range sources {
		if waba.VerifySignature(source.AppSecret, header, body) {
			channels = append(channels, source.ChannelID)
		}
	}
	if len(channels) == 0 {
		return ResultBadSignature, errBadSignature
	}
	return in.take(r.Context(), channels, body)
}

// withoutNumbers answers what is about an account and not about a number: news
// that Switchboard has no use for. Nothing of it is kept, so nothing has to be
// proven; refusing it would make Meta repeat it for days.
func (in *Intake) withoutNumbers(ctx context.Context, body []byte) (string, error) {
	delivery, err := waba.Parse(body)
	if err != nil || len(delivery.Items) > 0 || len(delivery.Skipped) == 0 {
		return ResultBadSignature, errBadSignature.WithCause(err)
	}
	in.options.Logger.DebugContext(ctx, "webhook without a phone number left out", slog.Int("parts", len(delivery.Skipped)))
	return ResultAccepted, nil
}

// take commits a delivery and hands it on.
func (in *Intake) take(ctx context.Context, channels []int64, body []byte) (string, error) {
	id, err := in.options.Inbox.CommitWebhook(ctx, domain.KindWABA, channels, body, in.options.Claim)
	if err != nil {
		return ResultFailed, domain.NewError(domain.CodeUnavailable, "The webhook could not be stored. Deliver it again.").WithCause(err)
	}
	in.claims.add(id)
	in.enqueue(ctx, job{id: id, channels: channels, body: body})
	return ResultAccepted, nil
}
