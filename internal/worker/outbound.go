package worker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
)

// send hands a claimed message to the provider and settles it. unsettled is
// what became of the message if the database refuses to take it.
func (d *dispatcher) send(ctx context.Context, out domain.Outbound) (pause time.Duration, unsettled *inbox.SendResult) {
	if d.s.w.afterClaim != nil {
		d.s.w.afterClaim(out.Message.ID)
	}
	result, pause := d.deliver(ctx, out)
	write := func(ctx context.Context) error { return d.settleSend(ctx, result) }
	if !d.settle("send", out.Message.ID, write) { //nolint:contextcheck // it outlives the session
		// The provider's words cannot be stored; what happened can.
		result.ExternalID = ""
		if result.Error != nil {
			result.Error = &domain.SendError{Code: "provider", Message: "The provider did not take it, for a reason that cannot be shown."}
		}
		if !d.settle("send", out.Message.ID, write) { //nolint:contextcheck // the same
			unsettled = &result
		}
	}
	d.measure(out, result)
	return pause, unsettled
}

func (d *dispatcher) settleSend(ctx context.Context, result inbox.SendResult) error {
	if d.s.w.beforeSettle != nil {
		if err := d.s.w.beforeSettle(result.MessageID); err != nil {
			return err
		}
	}
	return d.s.w.o.Inbox.SettleSend(ctx, d.org, d.lease, result)
}

func (d *dispatcher) deliver(ctx context.Context, out domain.Outbound) (inbox.SendResult, time.Duration) {
	result := inbox.SendResult{MessageID: out.Message.ID, Attempt: out.Attempt, Repeatable: d.resend != nil}
	if ctx.Err() != nil || d.quits() || !d.s.holding.trusted() {
		result.Outcome = inbox.SendNotBegun
		return result, 0
	}
	ctx, cancel := context.WithTimeout(ctx, d.s.w.o.timeoutOf(out.Message))
	defer cancel()
	var sent channel.Sent
	err := d.s.guard("send", func() error {
		var err error
		sent, err = d.session.Send(ctx, out)
		return err
	})
	if err == nil {
		result.Outcome, result.ExternalID = inbox.SendAccepted, sent.ExternalID
		return result, 0
	}
	failure := asSendError(err)
	d.s.logger.WarnContext(ctx, "send failed", slog.Int64("chat", out.Message.ChatID), slog.Int64("message", out.Message.ID),
		slog.Int("attempt", out.Attempt), slog.String("code", failure.Code), slog.Int("outcome", int(failure.Outcome)))
	result.Error = &domain.SendError{Code: failure.Code, Message: failure.Message}
	switch failure.Outcome {
	case channel.Refused:
		result.Outcome = inbox.SendRefused
	case channel.NotSent:
		result.Outcome, result.Wait, result.Limited = inbox.SendLater, failure.RetryAfter, failure.Limited
		result.Repeatable = false // it is known not to have been sent
		if failure.WholeChannel {
			return result, max(failure.RetryAfter, time.Second)
		}
	default:
		result.Outcome = inbox.SendUnknown
		if d.resend != nil {
			result.Outcome = inbox.SendLater
		}
	}
	return result, 0
}

// asSendError makes a session's error presentable. What it does not say counts
// as an unknown outcome.
func asSendError(err error) *channel.SendError {
	var failure *channel.SendError
	if !errors.As(err, &failure) {
		failure = &channel.SendError{Outcome: channel.Unknown, Code: inbox.CodeOutcomeUnknown, Cause: err}
	}
	known := *failure
	known.Code, known.Message = presentable(known.Code, 64), presentable(known.Message, 500)
	if known.Message == "" {
		known.Message = "The provider did not take it."
		if known.Outcome == channel.Unknown {
			known.Message = "No answer came from the provider: it is not known whether this message arrived. Ask the customer, or send it again."
		}
	}
	return &known
}

// presentable makes a provider's words fit for the database and the screen.
func presentable(text string, most int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}

func (d *dispatcher) measure(out domain.Outbound, result inbox.SendResult) {
	if d.s.w.o.Measures.Sent == nil {
		return
	}
	words := map[inbox.SendOutcome]string{
		inbox.SendAccepted: "sent", inbox.SendRefused: "failed", inbox.SendUnknown: "unknown", inbox.SendLater: "retry",
	}
	word, counts := words[result.Outcome]
	if counts {
		since := time.Duration(d.s.w.o.Store.Now()-out.Message.CreatedAt) * time.Millisecond
		d.s.w.o.Measures.Sent(d.kind, word, max(since, 0))
	}
}
