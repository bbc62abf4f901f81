package whatsapp

import (
	"fmt"
	"log/slog"
	"sync"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/domain"
)

const (
	// poisonTries is how often a message is tried in vain, each time over a
	// connection of its own, before a line may stand in its place: WhatsApp brings it
	// again first, and the number would never get past it.
	poisonTries = 3
	// maxPoison bounds how many messages are remembered for that.
	maxPoison = 1024
)

// poison is how often messages could not be taken. It is the worker's: a session
// ends with such a message.
type poison struct {
	mu     sync.Mutex // guards failed
	failed map[string]int
}

func poisonKey(device string, info *types.MessageInfo) string {
	return device + "/" + info.Chat.String() + "/" + info.Sender.String() + "/" + info.ID
}

func (p *poison) tries(key string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed[key]
}

// note counts what was tried in vain. A connection that breaks meanwhile says
// nothing of the message.
func (p *poison) note(key string, done, vain bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done {
		delete(p.failed, key)
	}
	if done || !vain {
		return
	}
	if p.failed == nil || len(p.failed) >= maxPoison {
		p.failed = map[string]int{}
	}
	p.failed[key]++
}

// converted is convert for a message that may have failed before: then what makes
// it panic is no reason to end the connection once more.
func (s *Session) converted(e *events.Message, known people, instead []domain.Inbound) (items []domain.Inbound) {
	if instead != nil {
		defer func() {
			if p := recover(); p != nil {
				s.logger.Error("a message cannot be read, again and again; a line stands in its place", slog.String("panic", fmt.Sprintf("%T", p)))
				items = instead
			}
		}()
	}
	return convert(e, known)
}

// unshowable is the line that stands in the place of a message that cannot be
// taken.
func unshowable(e *events.Message, known people) []domain.Inbound {
	at, ok := placeOf(e.Info.MessageSource, e.Info.PushName, known)
	if !ok {
		return nil
	}
	at.id, at.time = clean(e.Info.ID), timeOf(e.Info.Timestamp)
	items := at.line("A message that cannot be shown here. See the phone.")
	items[0].Message.Placeholder = true // should it be brought once more
	return items
}
