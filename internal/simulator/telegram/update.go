package telegram

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchboard/internal/simulator/console"
)

const (
	maxUpdateID     = 1<<31 - 1
	updateLife      = 24 * time.Hour
	answeredKept    = 100     // confirmed updates that FaultUpdateRepeat can bring back
	hugeUpdateBytes = 1 << 20 // default of FaultUpdateHuge
)

// Kinds of updates.
const (
	UpdateMessage           = "message"
	UpdateEditedMessage     = "edited_message"
	UpdateChannelPost       = "channel_post"
	UpdateEditedChannelPost = "edited_channel_post"
	UpdateCallbackQuery     = "callback_query"
	UpdateMessageReaction   = "message_reaction"
	UpdateMyChatMember      = "my_chat_member"
	UpdateChatMember        = "chat_member"
	UpdatePoll              = "poll"
	UpdatePollAnswer        = "poll_answer"
)

// onRequest are the kinds that a bot gets only when allowed_updates names them.
var onRequest = []string{UpdateChatMember, UpdateMessageReaction, "message_reaction_count"}

// knownUpdates are the kinds that allowed_updates may name; others are ignored there.
var knownUpdates = []string{
	UpdateMessage, UpdateEditedMessage, UpdateChannelPost, UpdateEditedChannelPost, UpdateCallbackQuery, UpdateMessageReaction,
	UpdateMyChatMember, UpdateChatMember, UpdatePoll, UpdatePollAnswer, "message_reaction_count", "inline_query",
	"chosen_inline_result", "shipping_query", "pre_checkout_query", "chat_join_request", "chat_boost", "removed_chat_boost",
	"business_connection", "business_message", "edited_business_message", "deleted_business_messages", "purchased_paid_media",
}

// UpdateRef names an update.
type UpdateRef struct {
	Bot int64 `json:"bot"`
	ID  int64 `json:"id"`
}

// queued is an update that its bot has not confirmed.
type queued struct {
	id   int64
	body json.RawMessage
	at   time.Time
}

func (b *bot) wants(kind string) bool {
	if b.allowed == nil {
		return !slices.Contains(onRequest, kind)
	}
	return slices.Contains(b.allowed, kind)
}

// about says what an update tells of, for the ledger.
type about struct {
	chat, message, from int64
}

// tell queues an update for a bot that wants its kind and says which; it needs s.mu.
func (s *Server) tell(b *bot, kind string, payload any, a about) []UpdateRef {
	if !b.wants(kind) {
		return nil
	}
	body, err := console.MarshalPlain(payload)
	if err != nil { // the types of this package always encode; raw content was checked
		s.log.Error("an update could not be encoded", slogErr(err))
		return nil
	}
	for _, f := range []FaultKind{FaultUpdateUnknown, FaultUpdateMalformed, FaultUpdateHuge} {
		if hit := s.faults.take(f, target{bot: b.ID, chat: a.chat}); hit != nil {
			strange, text := hit.update(b, a)
			s.queue(b, strange, []byte(text), a, string(f))
		}
	}
	return []UpdateRef{s.queue(b, kind, body, a, "")}
}

// queue needs s.mu.
func (s *Server) queue(b *bot, kind string, body []byte, a about, fault string) UpdateRef {
	name, _ := json.Marshal(kind)
	return s.enqueue(b, kind, slices.Concat(name, []byte(":"), body), a, fault)
}

// enqueue adds an update with the fields, which have no braces; it needs s.mu.
func (s *Server) enqueue(b *bot, kind string, fields []byte, a about, fault string) UpdateRef {
	q := &queued{id: b.nextUpd, at: s.opts.Now()}
	if b.nextUpd++; b.nextUpd >= maxUpdateID {
		b.nextUpd = s.firstUpdateID()
	}
	body := make([]byte, 0, len(fields)+32)
	body = append(body, `{"update_id":`...)
	body = strconv.AppendInt(body, q.id, 10)
	if len(fields) > 0 {
		body = append(append(body, ','), fields...)
	}
	q.body = append(body, '}')
	s.ledger.queued(Update{Bot: b.ID, ID: q.id, Kind: kind, ChatID: a.chat, MessageID: a.message, From: a.from, Bytes: len(q.body), Fault: fault})
	b.queue = append(b.queue, q)
	if len(b.queue) > s.opts.QueueSize {
		s.lose(b, 1)
	}
	if b.poll != nil {
		b.poll.wakeUp()
	}
	b.hook.wakeUp()
	return UpdateRef{b.ID, q.id}
}

// lose forgets the oldest n updates without a confirmation; it needs s.mu.
func (s *Server) lose(b *bot, n int) {
	for _, q := range b.queue[:n] {
		s.ledger.ended(b.ID, q.id, endedLost)
	}
	b.queue = slices.Delete(b.queue, 0, n)
}

// expire loses what Telegram would have deleted; it needs s.mu.
func (s *Server) expire(b *bot) {
	n, before := 0, s.opts.Now().Add(-updateLife)
	for n < len(b.queue) && b.queue[n].at.Before(before) {
		n++
	}
	if n > 0 {
		s.lose(b, n)
	}
}

// confirm removes the updates below an offset; it needs s.mu.
func (s *Server) confirm(b *bot, offset int64) {
	n := 0
	for n < len(b.queue) && b.queue[n].id < offset {
		s.ledger.ended(b.ID, b.queue[n].id, endedConfirmed)
		n++
	}
	if n == 0 {
		return
	}
	b.answered = append(b.answered, b.queue[:n]...)
	if more := len(b.answered) - answeredKept; more > 0 {
		b.answered = slices.Delete(b.answered, 0, more)
	}
	b.queue = slices.Delete(b.queue, 0, n)
}

// collect does what Telegram's server does with an offset and returns at most limit updates; it needs s.mu.
//
//   - offset > 0 confirms every update below it, unless it is more than 10 beyond the last one, when it is ignored.
//   - offset < 0 forgets all but the last -offset updates.
func (s *Server) collect(b *bot, offset int64, limit int) []*queued {
	s.expire(b)
	if offset < 0 && int64(len(b.queue)) > -offset {
		s.confirm(b, b.queue[int64(len(b.queue))+offset].id)
	}
	if offset > 0 && offset <= b.nextUpd+10 {
		s.confirm(b, offset)
	}
	out := slices.Clone(b.queue[:min(limit, len(b.queue))])
	if s.faults.take(FaultUpdateRepeat, target{bot: b.ID}) != nil {
		out = append(slices.Clone(b.answered), out...)
	}
	return out
}

// Deliver queues an update with the fields of a JSON object, whatever they are; an update_id in it is ignored. It is for
// updates that the simulator cannot make, and for wrong ones.
func (s *Server) Deliver(botID int64, update json.RawMessage) (UpdateRef, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(update, &fields); err != nil {
		return UpdateRef{}, fmt.Errorf("%w update: it must be a JSON object: %w", ErrInvalid, err)
	}
	delete(fields, "update_id")
	body, err := console.MarshalPlain(fields)
	if err != nil {
		return UpdateRef{}, fmt.Errorf("%w update: %w", ErrInvalid, err)
	}
	kind := "raw"
	for name := range fields {
		if len(fields) == 1 {
			kind = name
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bot(botID)
	if err != nil {
		return UpdateRef{}, err
	}
	return s.enqueue(b, kind, body[1:len(body)-1], about{}, ""), nil
}

// update is the strange update that a fault makes.
func (f *activeFault) update(b *bot, a about) (kind, payload string) {
	switch f.Kind {
	case FaultUpdateUnknown:
		return "simulated_future_update", fmt.Sprintf(`{"chat":{"id":%d},"novelty":true}`, a.chat)
	case FaultUpdateMalformed:
		return UpdateMessage, `{"message_id":"not a number","date":"yesterday","chat":[],"text":{"nested":true}}`
	default:
		n := orDefault(f.Size, hugeUpdateBytes)
		return UpdateMessage, fmt.Sprintf(`{"message_id":%d,"date":%d,"chat":{"id":%d,"type":"private","first_name":"Huge"},`+
			`"from":{"id":%d,"is_bot":false,"first_name":"Huge"},"text":"%s"}`,
			1_000_000_000+b.nextUpd%1_000_000, time.Now().Unix(), a.chat, a.chat, strings.Repeat("x", n))
	}
}
