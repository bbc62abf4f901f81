package realtime

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

const (
	// closePacket is Engine.IO's.
	closePacket = "1"
	// farewell is how long an orderly close waits for what was sent just before, such as the packet that tells the client
	// not to come back.
	farewell = time.Second
)

const (
	// bodyPatience is how long a client may take to send the packets of one request.
	bodyPatience = 10 * time.Second
	// answerPatience is how long it may take to read an answer, beyond what the kernel holds.
	answerPatience = 8 * time.Second
)

// longPolling makes the library's polling transport with mends.
//
// The library answers no poll once a transport is closing, because it closes its write queue first: the client, and the
// HTTP server that wants to shut down, wait for the ping timeout. Here the poll that is open, or the next one, is
// answered with the close packet.
//
// The library takes the packets before an invalid one, and the beginning of a body that is too large or cut short, for all
// that was sent. Here such a request ends the session, as with the official server. And a second poll ends the session
// with an answer to the first, and a poll that the client gives up ends it at once.
//
// And the library sets a request's clean-up function after it has begun to watch for the request's end, so that a client
// that goes away at the wrong moment makes both touch the same field. Here the end of a request is told only after the
// transport has taken it in (see settling).
type longPolling struct{ transports.PollingBuilder }

func (*longPolling) New(ctx *types.HttpContext) transports.Transport {
	return newPolling(ctx, transports.MakePolling())
}

func newPolling(ctx *types.HttpContext, library transports.Polling) *pollingTransport {
	t := &pollingTransport{Polling: library}
	t.Prototype(t)
	t.Construct(ctx)
	return t
}

type pollingTransport struct {
	transports.Polling
	opening opening
	polls   sync.Mutex // held while the library takes a poll in, so that it has them in order; taken before the others
	writing sync.Mutex // held while a poll is answered; taken before mu

	mu     sync.Mutex         // guards what follows
	poll   *types.HttpContext // the open poll, nil once it is answered
	taken  bool               // the library knows the open poll
	finish func()             // set once the transport is closing: what closes it, for the poll that can say so
	post   *types.HttpContext // the newest request with packets
	body   *wholeBody         // its body
}

// Send holds the packet that opens the connection.
func (t *pollingTransport) Send(packets []*packet.Packet) {
	if t.opening.hold(packets) {
		t.SetWritable(false)
		return
	}
	t.Polling.Send(packets)
}

func (t *pollingTransport) begin() {
	if held := t.opening.open(); len(held) > 0 {
		t.Polling.Send(held)
	}
}

func (t *pollingTransport) OnRequest(ctx *types.HttpContext) {
	if settled, found := ctx.Request().Context().Value(settledKey{}).(func()); found {
		defer settled()
	}
	switch ctx.Method() {
	case http.MethodGet:
		t.onPoll(ctx)
	case http.MethodPost:
		if ctx.Request().ContentLength > t.MaxHttpBufferSize() {
			refusePost(ctx, http.StatusRequestEntityTooLarge)
			t.OnError("a request that is too large", nil)
			return
		}
		t.takeBody(ctx)
		t.Polling.OnRequest(ctx)
	default:
		t.Polling.OnRequest(ctx)
	}
}

func (t *pollingTransport) onPoll(ctx *types.HttpContext) {
	t.polls.Lock()
	defer t.polls.Unlock()
	// The client may have all of an answer, and poll again, while the library is still about to forget the poll that it
	// answered: it would forget this one.
	t.writing.Lock()
	t.mu.Lock()
	finish := t.ending()
	if finish == nil && t.poll == nil {
		t.poll, t.taken = ctx, false
		// The library has forgotten the poll before it hears that the client has given up on it.
		context.AfterFunc(ctx.Request().Context(), func() {
			if errors.Is(context.Cause(ctx.Request().Context()), errGone) && t.answer(ctx) {
				t.SetWritable(false)
				t.OnError("the client gave up a poll", nil)
			}
		})
	}
	t.mu.Unlock()
	t.writing.Unlock()
	if finish != nil {
		ctx.Cleanup = func() {}
		t.sayGoodbye(ctx)
		finish()
		return
	}
	t.Polling.OnRequest(ctx)
	t.pollTaken(ctx)
}

// pollTaken lets the library's poll be answered, which is what the transport has waited for if it was closed meanwhile.
func (t *pollingTransport) pollTaken(ctx *types.HttpContext) {
	t.mu.Lock()
	open := t.poll == ctx
	if open {
		t.taken = true
	}
	finish, goodbye := t.ending(), open && t.Writable()
	t.mu.Unlock()
	if finish == nil || !goodbye && !t.Discarded() {
		return
	}
	if goodbye {
		t.SetWritable(false)
		t.sayGoodbye(ctx)
	}
	finish()
}

// ending is what is left to do when a poll comes to a transport that is closing or closed, or nil. The caller holds mu.
func (t *pollingTransport) ending() func() {
	if t.finish == nil && t.ReadyState() == "closed" {
		return func() {}
	}
	return t.finish
}

// answer reports whether the poll was open still, and that it is no more.
func (t *pollingTransport) answer(ctx *types.HttpContext) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	open := t.poll == ctx
	if open {
		t.poll = nil
	}
	return open
}

// DoWrite answers a poll.
func (t *pollingTransport) DoWrite(ctx *types.HttpContext, data types.BufferInterface, o *packet.Options, done func(error)) {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.answer(ctx)
	// A client that polls and does not read would hold the answer, and this goroutine, for ever.
	connection := http.NewResponseController(ctx.Response())
	_ = connection.SetWriteDeadline(time.Now().Add(answerPatience))
	defer func() { _ = connection.SetWriteDeadline(time.Time{}) }() // the next request may wait long
	t.Polling.DoWrite(ctx, data, o, done)
}

// takeBody makes sure that a body that is not read to its end is noticed, and that its end comes.
func (t *pollingTransport) takeBody(ctx *types.HttpContext) {
	r := ctx.Request()
	// Without a deadline, which only a recorder of tests refuses, a body could drip for ever.
	_ = http.NewResponseController(ctx.Response()).SetReadDeadline(time.Now().Add(bodyPatience))
	body := &wholeBody{ReadCloser: r.Body}
	r.Body = body
	t.mu.Lock()
	t.post, t.body = ctx, body
	t.mu.Unlock()
}

// refusePost answers a request with packets; what the library answers later is not sent.
func refusePost(ctx *types.HttpContext, status int) {
	_ = ctx.SetStatusCode(status)
	_, _ = ctx.Write(nil)
}

// OnData takes the packets of a request.
func (t *pollingTransport) OnData(data types.BufferInterface) {
	t.mu.Lock()
	ctx, body := t.post, t.body
	t.mu.Unlock()
	if body.broken {
		refusePost(ctx, http.StatusRequestEntityTooLarge)
		t.OnPacket(&packet.Packet{Type: packet.ERROR})
		return
	}
	packets, err := t.Parser().DecodePayload(data)
	for _, p := range packets {
		if p.Type == packet.CLOSE {
			t.OnClose()
			return
		}
		t.OnPacket(p)
	}
	if err != nil {
		refusePost(ctx, http.StatusBadRequest)
		t.OnPacket(&packet.Packet{Type: packet.ERROR})
	}
}

// wholeBody notices that what the library has read when it closes a body was not all. One goroutine uses it.
type wholeBody struct {
	io.ReadCloser
	broken bool
}

func (b *wholeBody) Close() error {
	var more [1]byte
	if _, err := io.ReadFull(b.ReadCloser, more[:]); !errors.Is(err, io.EOF) {
		b.broken = true
	}
	return b.ReadCloser.Close()
}

// DoClose tells the client, by the poll that is open or the next one, and closes.
func (t *pollingTransport) DoClose(done types.Callable) {
	finish := sync.OnceFunc(func() {
		t.Discard() // so that the library closes right away
		t.Polling.DoClose(done)
	})
	t.mu.Lock()
	poll := t.poll
	coming := poll != nil && !t.taken
	ready := poll != nil && !coming && t.Writable()
	gone := !ready && !coming && t.Discarded()
	t.finish = finish    // for a poll that has found the session and comes here later
	if !ready && !gone { // the library does not know the poll yet, something is being sent, or no poll is open
		timer := time.AfterFunc(farewell, finish)
		t.finish = func() {
			timer.Stop()
			finish()
		}
	}
	t.mu.Unlock()
	switch {
	case ready:
		t.SetWritable(false)
		t.sayGoodbye(poll)
		finish()
	case gone:
		finish()
	}
}

func (t *pollingTransport) sayGoodbye(ctx *types.HttpContext) {
	t.DoWrite(ctx, types.NewStringBufferString(closePacket), packet.NewOptions(false), func(error) {})
}

type settledKey struct{}

// errGone is why the context of a request ended whose client went away before it was answered.
var errGone = errors.New("realtime: the client is gone")

// settling returns r with a context whose end is held back until the transport has taken the request in, or until done is
// called, which the handler must do.
func settling(r *http.Request) (held *http.Request, done func()) {
	taken := make(chan struct{})
	settled := sync.OnceFunc(func() { close(taken) })
	ctx, cancel := context.WithCancelCause(context.WithValue(context.WithoutCancel(r.Context()), settledKey{}, settled))
	stop := context.AfterFunc(r.Context(), func() {
		<-taken
		cancel(errGone)
	})
	return r.WithContext(ctx), func() {
		stop()
		settled()
		cancel(nil)
	}
}
