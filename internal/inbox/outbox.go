package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// SendOutcome says what a worker knows of a send when it is over.
type SendOutcome int

// The outcomes of a send.
const (
	// SendAccepted: the provider took it.
	SendAccepted SendOutcome = iota
	// SendRefused: the provider said no; trying again would fail again.
	SendRefused
	// SendUnknown: it left, and whether it arrived is not known.
	SendUnknown
	// SendLater: it certainly did not leave, or may be repeated without harm.
	SendLater
	// SendNotBegun: the worker never handed it to the provider. It goes back
	// without counting as a try.
	SendNotBegun
)

// SendResult is what became of a claimed message.
type SendResult struct {
	MessageID int64
	// Attempt is that of the claim: a result of an earlier one is dropped.
	Attempt    int
	Outcome    SendOutcome
	ExternalID string
	// Error says why, for all but SendAccepted and SendNotBegun.
	Error *domain.SendError
	// Wait is how long the provider asked to wait (SendLater); the back-off is
	// used when it is longer.
	Wait time.Duration
	// Limited: the provider's limit was reached (SendLater). It does not count as
	// a try.
	Limited bool
	// Repeatable: the provider recognises a repeated send by its id, so what
	// is tried too often ends as unknown, not as failed.
	Repeatable bool
}

// The bounds of automatic tries: after maxRetries the message fails, and it is
// an operator's turn. Waits grow from retryWait to maxRetryWait, in sum about
// a quarter of an hour.
const (
	maxRetries   = 10
	retryWait    = time.Second
	maxRetryWait = 4 * time.Minute
	// maxProviderWait bounds what a provider may ask for: after that it is asked
	// again.
	maxProviderWait = time.Hour
)

// retryDelay is the wait before the next try after n failed ones.
func retryDelay(n int) time.Duration {
	if n > 16 {
		return maxRetryWait
	}
	return min(retryWait<<max(n, 0), maxRetryWait)
}

// The codes of errors that the outbox itself finds.
const (
	CodeOutcomeUnknown = "outcome_unknown"
	CodeTriedTooOften  = "tried_too_often"
)

// ClaimSends marks messages of a channel as being sent and returns them: the
// oldest unsent one of each chat whose turn it is. Nothing may leave that
// was not claimed, since a claim is what a crash is recognised by. After an
// error the claim may be committed all the same: see ReleaseClaims.
func (s *Service) ClaimSends(ctx context.Context, organizationID int64, lease store.Lease, claim store.SendClaim) (store.SendsClaimed, error) {
	claim.ChannelID, claim.Term = lease.ChannelID, lease.Term
	var claimed store.SendsClaimed
	err := s.write(ctx, organizationID, func(tx *store.Tx) error {
		var err error
		if claimed, err = tx.ClaimSends(claim); err != nil {
			return err
		}
		for _, out := range claimed.Messages {
			tx.MessageStatus(domain.MessageStatusChange{
				MessageID: out.Message.ID, ChatID: out.Message.ChatID, Status: domain.StatusSending,
			})
		}
		return nil
	}, store.Holding(lease))
	if err != nil {
		return store.SendsClaimed{}, fmt.Errorf("claim messages of channel %d: %w", lease.ChannelID, err)
	}
	return claimed, nil
}

// SettleSend writes what became of a claimed message. The status only rises: a
// report of the provider that was faster than the answer stays.
func (s *Service) SettleSend(ctx context.Context, organizationID int64, lease store.Lease, result SendResult) error {
	settle := func() error {
		return s.write(ctx, organizationID, func(tx *store.Tx) error {
			state, err := tx.LockSend(result.MessageID)
			if err != nil {
				return err
			}
			if state.ID == 0 || state.Attempt != result.Attempt || state.Status == domain.StatusQueued {
				return nil // deleted, or settled already
			}
			return s.settle(tx, state, result)
		}, store.Holding(lease))
	}
	err := settle()
	if store.IsTaken(err) {
		// Somebody stored a message under the same id at this very moment.
		err = settle()
	}
	if err != nil {
		return fmt.Errorf("settle message %d: %w", result.MessageID, err)
	}
	return nil
}

func (s *Service) settle(tx *store.Tx, state store.SendState, result SendResult) error {
	switch result.Outcome {
	case SendAccepted:
		return s.settleAccepted(tx, state, result)
	case SendRefused:
		return raise(tx, state, domain.StatusFailed, result.Error)
	case SendUnknown:
		return raise(tx, state, domain.StatusUnknown, result.Error)
	case SendNotBegun:
		return requeue(tx, state, tx.Now(), false, nil)
	case SendLater:
		return s.settleLater(tx, state, result)
	default:
		return fmt.Errorf("outcome %d of a send is not known", result.Outcome)
	}
}

func (s *Service) settleAccepted(tx *store.Tx, state store.SendState, result SendResult) error {
	if result.ExternalID != "" && result.ExternalID != state.ExternalID {
		taken, err := tx.SetExternalID(state.ID, result.ExternalID)
		if err != nil {
			return err
		}
		if taken {
			// It was accepted all the same. Its reports will go to the other row.
			s.logger.Error("provider gave a message the id of another one of its chat",
				slog.Int64("channel", state.ChannelID), slog.Int64("message", state.ID))
			result.ExternalID = ""
		}
	}
	if err := raise(tx, state, domain.StatusSent, nil); err != nil || result.ExternalID == "" {
		return err
	}
	return s.applyEarly(tx, state.ChannelID, result.ExternalID)
}

// raise brings a message up to a status, if that is higher than what it has.
func raise(tx *store.Tx, state store.SendState, status domain.MessageStatus, reason *domain.SendError) error {
	if status.Rank() <= state.Status.Rank() {
		return nil
	}
	if err := tx.SetSendStatus(state.ID, status, reason); err != nil {
		return err
	}
	tx.MessageStatus(domain.MessageStatusChange{MessageID: state.ID, ChatID: state.ChatID, Status: status, Error: reason})
	return nil
}

func (s *Service) settleLater(tx *store.Tx, state store.SendState, result SendResult) error {
	if result.Limited {
		return requeue(tx, state, tx.Now().Add(max(retryWait, min(result.Wait, maxProviderWait))), false, result.Error)
	}
	if state.Retries < maxRetries {
		wait := max(retryDelay(state.Retries), min(result.Wait, maxProviderWait))
		return requeue(tx, state, tx.Now().Add(wait), true, result.Error)
	}
	if result.Repeatable {
		return raise(tx, state, domain.StatusUnknown, unknownOutcome())
	}
	reason := domain.SendError{Code: CodeTriedTooOften, Message: "It could not be sent, and was tried many times."}
	if result.Error != nil {
		reason = *result.Error
		reason.Message += " It was tried many times; send it again when this is mended."
	}
	return raise(tx, state, domain.StatusFailed, &reason)
}

// requeue puts a message back into the outbox. This is the one step back that
// a message makes, so it is told as a new state of the whole message:
// message:status never goes backwards.
func requeue(tx *store.Tx, state store.SendState, at domain.Time, counted bool, reason *domain.SendError) error {
	if state.Status != domain.StatusSending {
		return nil // a report came in between: it has left after all
	}
	if err := tx.RequeueSend(state.ID, at, counted, reason); err != nil {
		return err
	}
	return messageUpdated(tx, state.ID)
}

func unknownOutcome() *domain.SendError {
	return &domain.SendError{
		Code:    CodeOutcomeUnknown,
		Message: "It is not known whether this message arrived. Ask the customer, or send it again.",
	}
}

// RecoverSends settles what a session before this one left half done: it must
// run when nothing of the channel is being sent. What may have left becomes
// unknown, and is not sent again unless an operator says so; only where the
// provider recognises a repeated send (resend) it goes back into the outbox.
// Messages in known are left alone: the caller has their outcome, and settles
// them.
func (s *Service) RecoverSends(ctx context.Context, organizationID int64, lease store.Lease, resend bool, known []int64) (recovered int, err error) {
	return s.recoverSends(ctx, organizationID, lease.ChannelID, resend, known, store.Holding(lease))
}

func (s *Service) recoverSends(ctx context.Context, organizationID, channelID int64, resend bool, known []int64, guard store.Guard) (recovered int, err error) {
	err = s.write(ctx, organizationID, func(tx *store.Tx) error {
		unsettled, err := tx.UnsettledSends(channelID, known)
		if err != nil {
			return err
		}
		recovered = len(unsettled)
		for _, state := range unsettled {
			// A message without an id was claimed for a session that could not
			// repeat it.
			if resend && state.ExternalID != "" && state.Retries < maxRetries {
				err = requeue(tx, state, tx.Now(), true, nil)
			} else {
				err = raise(tx, state, domain.StatusUnknown, unknownOutcome())
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, guard)
	if err != nil {
		return 0, fmt.Errorf("recover the sends of channel %d: %w", channelID, err)
	}
	return recovered, nil
}

// RecoverLeftovers does what RecoverSends does for channels that no worker has
// held for longer than grace, and none may ever: one that is switched off, say.
func (s *Service) RecoverLeftovers(ctx context.Context, grace time.Duration) (recovered int, err error) {
	leftovers, err := s.store.Leftovers(ctx, grace)
	for _, l := range leftovers {
		n, failed := s.recoverSends(ctx, l.OrganizationID, l.ChannelID, channel.Of(l.Kind).Resends, nil, store.Unheld(l.ChannelID, grace))
		if recovered += n; !errors.Is(failed, store.ErrOwned) {
			err = errors.Join(err, failed)
		}
	}
	return recovered, err
}

// ReleaseClaims takes back the claims whose answer was lost: the messages that
// were claimed under this very lease and are not in held go back into the
// outbox, without counting as a try. held must name every message under this
// lease that was, or may yet be, handed to the provider and is not settled, or
// a message leaves twice; and no claim may be made meanwhile. released is the
// number of messages.
func (s *Service) ReleaseClaims(ctx context.Context, organizationID int64, lease store.Lease, held []int64) (released int, err error) {
	err = s.write(ctx, organizationID, func(tx *store.Tx) error {
		lost, err := tx.UnsettledClaims(lease.ChannelID, lease.Term, held)
		if err != nil {
			return err
		}
		released = len(lost)
		for _, state := range lost {
			if err := requeue(tx, state, tx.Now(), false, nil); err != nil {
				return err
			}
		}
		return nil
	}, store.HoldingAlone(lease))
	if err != nil {
		return 0, fmt.Errorf("release claims of channel %d: %w", lease.ChannelID, err)
	}
	return released, nil
}

// CommandOutcome says what became of a command.
type CommandOutcome int

// The outcomes of a command.
const (
	CommandDone CommandOutcome = iota
	// CommandLater: try again; it may be repeated without harm.
	CommandLater
	// CommandRefused: it will never succeed.
	CommandRefused
	// CommandLimited: the provider's limit was reached. Try again; it does not
	// count as a try.
	CommandLimited
)

// maxCommandAttempts bounds the tries of a command, the first included.
const maxCommandAttempts = 10

// SettleCommand removes a command that is done, leaves one for later, or gives
// it up. What operators see on their screens and customers do not is corrected
// and said: the message is again what the customer sees, and a note in the chat
// tells of every reaction, edit and revocation that did not reach the customer. A
// read receipt that is given up is only logged.
func (s *Service) SettleCommand(ctx context.Context, organizationID int64, lease store.Lease, c domain.Command, outcome CommandOutcome, wait time.Duration, reason *domain.SendError) error {
	givenUp := false
	err := s.write(ctx, organizationID, func(tx *store.Tx) error {
		givenUp = false
		wait = min(wait, maxProviderWait)
		switch {
		case outcome == CommandLimited:
			return tx.PostponeCommand(c.ID, tx.Now().Add(max(retryWait, wait)), false)
		case outcome == CommandLater && c.Attempts+1 < maxCommandAttempts:
			return tx.PostponeCommand(c.ID, tx.Now().Add(max(retryDelay(c.Attempts), wait)), true)
		}
		if outcome == CommandDone {
			messageID, changed, err := tx.FinishCommand(c)
			if err != nil || !changed {
				return err
			}
			return s.restored(tx, messageID)
		}
		abandoned, missed, err := tx.AbandonCommand(c)
		if err != nil {
			return err
		}
		givenUp = missed
		if abandoned.Restored {
			if err := s.restored(tx, abandoned.MessageID); err != nil {
				return err
			}
		}
		if !missed {
			return nil
		}
		return s.commandFailed(tx, c.Kind, c.Value, abandoned.MessageID, reason)
	}, store.Holding(lease))
	if err != nil {
		return fmt.Errorf("settle command %d: %w", c.ID, err)
	}
	if givenUp {
		code := ""
		if reason != nil {
			code = reason.Code
		}
		s.logger.WarnContext(ctx, "command given up", slog.Int64("channel", c.ChannelID), slog.Int64("chat", c.ChatID),
			slog.Int64("message", c.MessageID), slog.String("kind", string(c.Kind)), slog.Int("attempts", c.Attempts+1), slog.String("code", code))
	}
	return nil
}

// restored tells of a message that shows again what the customer sees.
func (s *Service) restored(tx *store.Tx, messageID int64) error {
	subject, err := tx.Subject(messageID)
	if err != nil {
		return err
	}
	return contentChanged(tx, store.MessageRef{ID: messageID, ChatID: subject.ChatID})
}

func (s *Service) commandFailed(tx *store.Tx, kind domain.CommandKind, value string, messageID int64, reason *domain.SendError) error {
	var what string
	switch kind {
	case domain.CommandReaction:
		what = "Your reaction did not reach the customer."
		if value == "" {
			what = "Your reaction could not be taken away; the customer still sees it."
		}
	case domain.CommandEdit:
		what = "An edit did not reach the customer, who still sees the earlier text."
	case domain.CommandRevoke:
		what = "A message could not be taken back; the customer still sees it."
	default:
		return nil
	}
	if reason != nil && reason.Message != "" {
		what += " " + reason.Message
	}
	return systemNote(tx, messageID, what)
}

// systemNote adds a line to the chat of a message that only operators see.
func systemNote(tx *store.Tx, messageID int64, text string) error {
	subject, err := tx.Subject(messageID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	row := store.NewMessageInput{
		ChatID: subject.ChatID, ChannelID: subject.ChannelID, ChannelKind: subject.ChannelKind, Type: domain.TypeSystem, Content: text,
		ReplyToID: &messageID, FromMe: true, SenderKey: store.SenderMe, Status: domain.StatusReceived, ProviderTime: tx.Now(),
	}
	id, _, err := tx.InsertMessage(row)
	if err != nil {
		return err
	}
	if id == 0 {
		return fmt.Errorf("note about message %d: its key is taken", messageID)
	}
	message, err := tx.Complete(id, row)
	if err != nil {
		return err
	}
	chat, err := tx.Touch(store.Activity{
		ChatID: subject.ChatID, MessageID: id, Content: text, Type: domain.TypeSystem, FromMe: true, ProviderTime: tx.Now(), Silent: true,
	})
	if err != nil {
		return err
	}
	tx.NewMessage(message)
	tx.ChatUpdated(chat)
	return nil
}
