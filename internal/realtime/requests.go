package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"switchboard/internal/domain"
)

// The events that clients send.
const (
	requestSubscribe   = "subscribe:chat"
	requestUnsubscribe = "unsubscribe:chat"
	requestTypingStart = domain.EventTypingStart
	requestTypingStop  = domain.EventTypingStop
	requestSync        = "sync"
)

// syncBytes bounds the events in one answer to sync; the client asks again for the rest.
const syncBytes = 256 << 10

var errRate = domain.NewError(domain.CodeRateLimited, "Too many events from this connection: slow down and try again.")

// errNotSubscribed is the answer to typing in a chat that is not open on this connection. It is the same for chats of others
// and for those that do not exist: nobody looks.
var errNotSubscribed = domain.NewError(domain.CodeConflict, "This connection has not opened that chat: send subscribe:chat first.")

// okAck is the plain answer to a client event that worked.
type okAck struct {
	OK bool `json:"ok"`
}

// errorAck is the answer to one that did not.
type errorAck struct {
	OK    bool          `json:"ok"`
	Error *domain.Error `json:"error"`
}

// syncAck is the answer to sync: the same page as GET /api/events gives. When the last seq is below head, ask again.
type syncAck struct {
	OK     bool        `json:"ok"`
	Events []syncEvent `json:"events"`
	Head   int64       `json:"head"`
	Epoch  string      `json:"epoch"`
	Resync bool        `json:"resync"`
}

type syncEvent struct {
	Seq   int64           `json:"seq"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
	At    domain.Time     `json:"at"`
}

// handle takes one event of the client. The library calls it in the socket's own queue, one event after the other.
func (n *session) handle(args ...any) {
	if !n.come() {
		return
	}
	var ack socket.Ack
	if last := len(args) - 1; last >= 0 {
		if f, isAck := args[last].(socket.Ack); isAck {
			ack, args = f, args[:last]
		}
	}
	name := ""
	if len(args) > 0 {
		name, _ = args[0].(string)
		args = args[1:]
	}
	answer, err := n.dispatch(name, args, ack != nil)
	if !knownRequest(name) {
		name = "unknown"
	}
	result := "ok"
	if err != nil {
		result = string(domain.CodeOf(err))
		answer = errorAck{Error: domain.Public(err)}
		if domain.CodeOf(err) == domain.CodeInternal {
			n.server.logger.Error("[Socket.IO] a client event failed", n.attributes(slog.String("event", name), slog.Any("error", err))...)
		}
	}
	n.server.metrics.ClientEvent(name, result)
	if ack != nil {
		ack([]any{answer}, nil)
	}
}

func knownRequest(name string) bool {
	switch name {
	case requestSubscribe, requestUnsubscribe, requestTypingStart, requestTypingStop, requestSync:
		return true
	}
	return false
}

// dispatch carries an event out. A panic is an internal error of that event and nothing more.
func (n *session) dispatch(name string, args []any, wantsAnswer bool) (answer any, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			n.server.logger.Error("[Socket.IO] a client event caused a panic", n.attributes(
				slog.String("event", name), slog.Any("panic", problem), slog.String("stack", string(debug.Stack())))...)
			answer, err = nil, domain.NewError(domain.CodeInternal, "Something failed on our side. Try again.")
		}
	}()
	if !n.events.Allow() {
		return nil, errRate
	}
	ctx, cancel := context.WithTimeout(n.server.ctx, n.server.options.Limits.RequestTimeout)
	defer cancel()
	switch name {
	case requestSubscribe:
		return okAck{OK: true}, n.subscribe(ctx, args)
	case requestUnsubscribe:
		return okAck{OK: true}, n.unsubscribe(args)
	case requestTypingStart:
		return okAck{OK: true}, n.passOn(ctx, args, true)
	case requestTypingStop:
		return okAck{OK: true}, n.passOn(ctx, args, false)
	case requestSync:
		return n.sync(ctx, args, wantsAnswer)
	default:
		return nil, domain.NewError(domain.CodeInvalid, "There is no such event.")
	}
}

func (n *session) subscribe(ctx context.Context, args []any) error {
	chatID, problem := parseChat(args)
	if problem != nil {
		return problem
	}
	room := socket.Room(domain.ChatRoom(chatID))
	rooms := n.socket.Rooms()
	if rooms.Has(room) {
		return nil
	}
	const ownRooms = 3 // itself, organization, user
	if rooms.Len() >= n.server.options.Limits.RoomsPerSocket+ownRooms {
		return domain.NewError(domain.CodeRateLimited, "This connection has too many chats open: unsubscribe from some.")
	}
	found, err := n.server.options.Chats.ChatInOrganization(ctx, n.principal.OrganizationID, chatID)
	if err != nil {
		return unavailable(err)
	}
	if !found {
		return domain.NotFound("chat")
	}
	n.socket.Join(room)
	n.server.logger.Debug("[Socket.IO] joined", n.attributes(slog.String("room", string(room)))...)
	return nil
}

func (n *session) unsubscribe(args []any) error {
	chatID, problem := parseChat(args)
	if problem != nil {
		return problem
	}
	if n.noteTyping(chatID, false) {
		n.passTyping(chatID, false)
	}
	n.socket.Leave(socket.Room(domain.ChatRoom(chatID)))
	return nil
}

// passOn passes typing on to the others who have the chat open and to the customer.
func (n *session) passOn(ctx context.Context, args []any, on bool) error {
	chatID, problem := parseChat(args)
	if problem != nil {
		return problem
	}
	if !n.socket.Rooms().Has(socket.Room(domain.ChatRoom(chatID))) {
		return errNotSubscribed
	}
	if !n.noteTyping(chatID, on) {
		return nil
	}
	n.passTyping(chatID, on)
	if sink := n.server.options.Typing; sink != nil {
		sink.CustomerTyping(ctx, n.principal, chatID, on)
	}
	return nil
}

// noteTyping reports whether a change of typing is news for the others. A start is, if there was none within
// TypingInterval; a stop is, after a start.
func (n *session) noteTyping(chatID int64, on bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	last, typing := n.typing[chatID]
	switch {
	case n.ended:
		return false
	case !on:
		delete(n.typing, chatID)
		return typing
	case typing && time.Since(last) < n.server.options.Limits.TypingInterval:
		return false
	}
	n.typing[chatID] = time.Now()
	return true
}

func (n *session) passTyping(chatID int64, on bool) {
	payload := domain.Typing{ChatID: chatID, UserID: n.principal.UserID}
	if err := n.server.emitter.typingOf(n.socket.Id(), on, payload); err != nil {
		n.server.logger.Error("[Socket.IO] send error", n.attributes(slog.Any("error", err))...)
	}
}

// sync answers with what the log holds behind a position or, without an acknowledgement to answer with, sends it again as
// events, before the live ones go on.
func (n *session) sync(ctx context.Context, args []any, wantsAnswer bool) (any, error) {
	from, problem := parseSync(args)
	if problem != nil {
		return nil, problem
	}
	if !n.reads.Allow() {
		return nil, errRate
	}
	if !wantsAnswer {
		n.feed.post(func(f *feed) { f.seek(&n.member, from) })
		return okAck{OK: true}, nil
	}
	p, err := n.server.hub.readNow(ctx, n.principal.OrganizationID, from.seq, pageSize, "sync")
	if err != nil {
		return nil, unavailable(err)
	}
	if from.epoch != "" && from.epoch != p.Epoch {
		p.Resync, p.Events = true, nil
	}
	answer := syncAck{OK: true, Events: []syncEvent{}, Head: p.Head, Epoch: p.Epoch, Resync: p.Resync}
	bytes := 0
	for _, e := range p.Events {
		if bytes += len(e.Data); bytes > syncBytes && len(answer.Events) > 0 {
			break
		}
		answer.Events = append(answer.Events, syncEvent{Seq: e.Seq, Event: e.Name, Data: e.Data, At: e.At})
	}
	return answer, nil
}

// unavailable is what a user sees when the database did not answer in time; other errors stay what they are.
func unavailable(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return domain.NewError(domain.CodeUnavailable, "The server is busy. Try again.").WithCause(err)
	}
	return err
}
