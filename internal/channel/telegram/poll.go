package telegram

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"time"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"

	"switchboard/internal/domain"
)

var (
	// errDoubted: a send found the token refused while a poll was open.
	errDoubted = errors.New("the token is in doubt")
	// errShrunk: the answer could not be read; fewer updates are asked for.
	errShrunk = errors.New("fewer updates are asked for")
	// errOverdue: no answer came in all the time that there was for it.
	errOverdue = errors.New("the time for an answer is over")
)

// storeError is a batch that could not be committed.
type storeError struct{ cause error }

func (e *storeError) Error() string { return "store updates: " + e.cause.Error() }

func (e *storeError) Unwrap() error { return e.cause }

// storeTries is how often a batch is tried before what is at fault in it is set
// aside.
const storeTries = 5

// poll fetches updates, waits for some if there are none, and commits them
// together with the offset behind them. Telegram forgets updates only when the
// next poll names that offset.
//
// Updates that give no new offset would be handed out again at once, for ever:
// they are stored, and are trouble, until others behind them take them along.
func (s *Session) poll(ctx context.Context) error {
	waits := !s.quick
	list, err := s.fetch(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		s.polled(ctx, waits)
		s.told, s.tries, s.batch = true, 0, maxBatch
		return nil
	}
	s.batch = min(2*s.batch, maxBatch)
	batch, callbacks := s.convert(list)
	stuck := batch.Position == s.position
	if !stuck {
		s.polled(ctx, false)
	}
	s.tries++
	batch.LastTry = s.tries >= storeTries
	if err := s.intake.ReceiveBatch(ctx, batch); err != nil {
		return &storeError{cause: err}
	}
	s.position, s.told, s.tries = batch.Position, false, 0
	for _, id := range callbacks {
		select {
		case s.answers <- id:
		default: // the customer's app stops waiting by itself
		}
	}
	if stuck {
		return &transportError{written: true, cause: errors.New("the updates have no id behind which there are others"), answer: []byte{}}
	}
	return nil
}

// convert turns updates into a batch, in their order.
func (s *Session) convert(list []json.RawMessage) (domain.Batch, []string) {
	batch := domain.Batch{Items: make([]domain.Received, 0, len(list)), Position: s.position}
	var callbacks []string
	for _, raw := range list {
		c := convert(raw, s.bot)
		if c.id > 0 {
			// The last one's, even if it is lower: after a week without updates
			// Telegram begins anew at any number.
			batch.Position = strconv.Itoa(c.id + 1)
		}
		batch.Items = append(batch.Items, c.Received)
		if c.callback != "" {
			callbacks = append(callbacks, c.callback)
		}
	}
	return batch, callbacks
}

// fetch asks for updates. The position is named until Telegram has answered to
// it with nothing new; then all that is not forgotten is new, whatever its id.
func (s *Session) fetch(ctx context.Context) ([]json.RawMessage, error) {
	patience := s.options.PollTimeout
	if s.quick {
		patience = 0
	}
	ctx, cancel := context.WithTimeout(ctx, patience+s.options.Grace)
	defer cancel()
	if !s.interruptible(cancel) {
		return nil, errDoubted
	}
	defer s.interruptible(nil)
	params := tgbotapi.Params{
		"timeout": strconv.Itoa(int(patience / time.Second)), "allowed_updates": allowedUpdates, "limit": strconv.Itoa(s.batch),
	}
	if !s.told {
		params.AddNonEmpty("offset", s.position)
	}
	var list []json.RawMessage
	err := s.client.decode(ctx, &list, "getUpdates", params)
	var broken *transportError
	switch {
	case err == nil:
		return list, nil
	case s.takeDoubt():
		return nil, errDoubted
	case errors.As(err, &broken) && broken.answer != nil:
		return s.malformed(ctx, broken)
	default:
		return nil, overdue(ctx, err)
	}
}

// overdue marks an error of a call that had the time that ctx gave it.
func overdue(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errOverdue, err)
	}
	return err
}

var updateID = regexp.MustCompile(`"update_id"\s*:\s*([0-9]{1,18})\b`)

// malformed is an answer that cannot be read, or is too long. Fewer updates are
// asked for, until one alone stands in the way; that one is set aside.
func (s *Session) malformed(ctx context.Context, broken *transportError) ([]json.RawMessage, error) {
	if s.batch > 1 {
		s.batch = max(1, s.batch/10)
		s.logger.WarnContext(ctx, "updates cannot be read; fewer are asked for", slog.Int("limit", s.batch))
		return nil, errShrunk
	}
	found := updateID.FindSubmatch(broken.answer)
	if found == nil {
		return nil, broken
	}
	id, err := strconv.Atoi(string(found[1]))
	if err != nil {
		return nil, broken
	}
	kept := broken.answer[:min(len(broken.answer), maxKept)]
	err = s.intake.ReceiveBatch(ctx, domain.Batch{
		Items:    []domain.Received{{Raw: kept, Poison: fmt.Errorf("the answer with update %d cannot be read (%d bytes)", id, len(broken.answer))}},
		Position: strconv.Itoa(id + 1),
	})
	if err != nil {
		return nil, &storeError{cause: err}
	}
	s.position, s.told, s.tries, s.batch = strconv.Itoa(id+1), false, 0, maxBatch
	return nil, errShrunk
}

// maxKept bounds what is kept of an answer that cannot be read, in bytes.
const maxKept = 64 << 10

// interruptible lets doubt end the present poll; false if it is doubted already.
func (s *Session) interruptible(cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = cancel
	if s.doubted && cancel != nil {
		s.doubted = false
		return false
	}
	return true
}

func (s *Session) takeDoubt() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	doubted := s.doubted
	s.doubted = false
	return doubted
}

// Bounds of the answers to callback queries. They only end the waiting sign on
// the customer's button.
const (
	maxAnswers    = 64
	answerTimeout = 10 * time.Second
)

func (s *Session) answerCallbacks(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-s.answers:
			call, cancel := context.WithTimeout(ctx, answerTimeout)
			_, err := s.client.call(call, "answerCallbackQuery", tgbotapi.Params{"callback_query_id": id})
			cancel()
			if err != nil && ctx.Err() == nil {
				s.logger.DebugContext(ctx, "callback query not answered", slog.Any("error", err))
			}
		}
	}
}
