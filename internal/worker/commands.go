package worker

import (
	"context"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

// do carries out a command and settles it.
func (d *dispatcher) do(ctx context.Context, c store.DueCommand) (pause time.Duration) {
	outcome, wait, reason, pause := d.carryOut(ctx, c)
	if outcome != inbox.CommandDone && ctx.Err() != nil {
		return 0 // the session ends: the next one does it
	}
	write := func(ctx context.Context) error {
		return d.s.w.o.Inbox.SettleCommand(ctx, d.org, d.lease, c.Command, outcome, wait, reason)
	}
	if !d.settle("command", c.ID, write) { //nolint:contextcheck // it outlives the session
		outcome, reason = inbox.CommandLater, nil
		d.settle("command", c.ID, write) //nolint:contextcheck // the same
	}
	return pause
}

func (d *dispatcher) carryOut(ctx context.Context, c store.DueCommand) (outcome inbox.CommandOutcome, wait time.Duration, reason *domain.SendError, pause time.Duration) {
	commander, can := d.session.(channel.Commander)
	switch {
	case !can:
		return inbox.CommandRefused, 0, &domain.SendError{Code: string(domain.CodeUnsupported), Message: "This channel cannot do that."}, 0
	case c.Lost:
		return inbox.CommandRefused, 0, &domain.SendError{Code: "not_sent", Message: "The message itself has not reached the provider."}, 0
	case ctx.Err() != nil || !d.s.holding.trusted():
		return inbox.CommandLater, 0, nil, 0
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	err := d.s.guard("do", func() error { return commander.Do(ctx, c.Command) })
	if err == nil {
		return inbox.CommandDone, 0, nil, 0
	}
	failure := asSendError(err)
	reason = &domain.SendError{Code: failure.Code, Message: failure.Message}
	if failure.Outcome == channel.Refused {
		return inbox.CommandRefused, 0, reason, 0
	}
	if failure.WholeChannel {
		pause = max(failure.RetryAfter, time.Second)
	}
	if failure.Limited {
		return inbox.CommandLimited, failure.RetryAfter, reason, pause
	}
	return inbox.CommandLater, failure.RetryAfter, reason, pause
}
