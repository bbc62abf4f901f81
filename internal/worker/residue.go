package worker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

// maxUnsettled bounds the outcomes that a channel keeps for the database to
// take: with so many refused nothing more is sent until some are taken.
const maxUnsettled = 64

// residue is what the sends under one lease left in the database that must be
// mended. It outlives a session, since what is known of a message ends only
// with the lease.
//
// A message that is "sending" under the lease's term is, at any moment that
// the loop looks, exactly one of:
//
//   - in dispatcher.sending: its goroutine settles it, or hands its outcome over
//     to unsettled when it ends;
//   - in unsettled: it was, or may have been, handed to the provider. It is never
//     requeued for want of an answer, only settled with this outcome;
//   - of a claim that failed on its way back: nobody ever got it to send.
//
// So the third kind is what remains without the first two, and only after
// lostClaim was set. The loop makes no claim before that is mended.
type residue struct {
	lostClaim bool // a claim failed, and may be committed all the same
	unsettled map[int64]unsettledSend
}

// unsettledSend is an outcome that the database did not take, and its chat,
// which waits for it.
type unsettledSend struct {
	chat   int64
	result inbox.SendResult
}

func (r *residue) empty() bool { return !r.lostClaim && len(r.unsettled) == 0 }

// claimLost notes a claim that failed. Without the lease nothing was written.
func (d *dispatcher) claimLost(err error) {
	if errors.Is(err, store.ErrLeaseLost) {
		return
	}
	d.s.residue.lostClaim = true
	d.mendLater()
}

// mendLater makes the loop mend after a wait, unless it is about to anyway.
func (d *dispatcher) mendLater() {
	if d.again == nil {
		d.again = time.After(d.mendWait.next())
	}
}

// held are the messages under the lease that were, or may yet be, handed to the
// provider and are not known to be settled.
func (d *dispatcher) held() []int64 {
	ids := make([]int64, 0, len(d.sending)+len(d.s.residue.unsettled))
	for id := range d.sending {
		ids = append(ids, id)
	}
	for id := range d.s.residue.unsettled {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// mend tries once to put right what was left, and comes back later for what
// remains. It runs under the lease, not the session: what it writes outlives
// that.
func (d *dispatcher) mend() {
	d.again = nil
	if d.s.residue.empty() {
		return
	}
	if d.releaseClaims() == nil {
		d.settleAgain()
	}
	if d.s.residue.empty() {
		d.mendWait.reset()
	} else if d.s.holding.trusted() {
		d.mendLater()
	}
	d.mark(true, true, false) // chats may have become free
}

// releaseClaims puts what a lost claim took back into the outbox.
func (d *dispatcher) releaseClaims() error {
	if !d.s.residue.lostClaim {
		return nil
	}
	// A send that ended with the trust is not settled and not held either: only
	// under a trust that never ended the invariants above hold.
	if !d.s.holding.trusted() {
		return errDistrusted
	}
	ctx, cancel := context.WithTimeout(d.s.holding.ctx, claimTimeout)
	defer cancel()
	n, err := d.s.w.o.Inbox.ReleaseClaims(ctx, d.org, d.lease, d.held())
	if err != nil {
		d.s.holding.check(err)
		d.s.logger.WarnContext(ctx, "claims whose answer was lost cannot be released yet", slog.Any("error", err))
		return err
	}
	d.s.residue.lostClaim = false
	if n > 0 {
		d.s.logger.WarnContext(ctx, "claims whose answer was lost were released", slog.Int("messages", n))
	}
	return nil
}

// settleAgain offers the kept outcomes to the database, each once. It stops at
// an error that is not about the data: the others would meet it too.
func (d *dispatcher) settleAgain() {
	for id, send := range d.s.residue.unsettled {
		if !d.s.holding.trusted() {
			return
		}
		ctx, cancel := context.WithTimeout(d.s.holding.ctx, settleTimeout)
		err := d.settleSend(ctx, send.result)
		cancel()
		if err == nil {
			delete(d.s.residue.unsettled, id)
			continue
		}
		d.s.holding.check(err)
		d.s.logger.ErrorContext(ctx, "what became of a send still cannot be written", slog.Int64("id", id), slog.Any("error", err))
		if !store.IsPermanent(err) {
			return
		}
	}
}

// recoverEvery is the pause between two tries of settleUnopened at first, and
// recoverMost what it grows to.
const (
	recoverEvery = time.Second
	recoverMost  = 15 * time.Second
)

// settleUnopened settles what sends have left while no session is there to do it:
// the next one may be long in coming, or never come.
func (s *supervisor) settleUnopened() (done bool) {
	if !s.residue.empty() {
		s.last.mend() // there was a session under this lease
	}
	return s.residue.empty() && s.recoverUnopened()
}

// recoverUnopened settles what a dead worker was sending where no session does it:
// none can be made, or it ended before it could. Without it these messages would
// stand as being sent for ever. false: it is to be tried again.
func (s *supervisor) recoverUnopened() (done bool) {
	if s.leftover == nil || !s.residue.empty() {
		return true // or there was a session under this very lease, whose sends are known
	}
	ctx, cancel := context.WithTimeout(s.holding.ctx, claimTimeout)
	defer cancel()
	n, err := s.w.o.Inbox.RecoverSends(ctx, s.leftover.OrganizationID, s.holding.lease, channel.Of(s.leftover.Channel.Kind).Resends, nil)
	s.holding.check(err)
	if err != nil {
		s.logger.WarnContext(ctx, "sends of an earlier session cannot be settled yet", slog.Any("error", err))
		return false
	}
	if s.leftover = nil; n > 0 {
		s.logger.WarnContext(ctx, "sends of an earlier session were settled", slog.Int("messages", n))
	}
	return true
}
