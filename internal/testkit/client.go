package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// ClientOptions says how an official Socket.IO client connects.
type ClientOptions struct {
	// URL is the server's, http://127.0.0.1:port, with the namespace as its path if it is not the default one.
	URL string
	// Auth is the handshake's auth payload.
	Auth map[string]any
	// Transports are tried in order. None: the client's default, polling and then the upgrade to WebSocket.
	Transports []string
	// Options are further options of socket.io-client, such as "reconnectionDelay": 50 (milliseconds).
	Options map[string]any
	// TrackSeq adds lastSeq and epoch of the newest event with a meta argument to Auth at every attempt, as the
	// dashboard does: a reconnect continues where the connection broke.
	TrackSeq bool
	// LedgerOnly leaves the events in the client's process, where they are counted and their sequence numbers checked: for
	// tests with many clients. Ledger has the result; Events and WaitFor find nothing.
	LedgerOnly bool
}

// Event is one event that a client received.
type Event struct {
	Name string
	Args []json.RawMessage // an argument of Buffer type is {"type":"Buffer","data":[…]}
	At   time.Time         // when the client's process had it, to the microsecond
}

// Arg decodes one argument of the event.
func (e Event) Arg(i int, into any) error {
	if i >= len(e.Args) {
		return fmt.Errorf("event %s has %d arguments, none at %d", e.Name, len(e.Args), i)
	}
	if err := json.Unmarshal(e.Args[i], into); err != nil {
		return fmt.Errorf("decode argument %d of event %s: %w", i, e.Name, err)
	}
	return nil
}

// Seq is the sequence number in the event's second argument, meta, or 0 when it has none.
func (e Event) Seq() int64 {
	var meta struct {
		Seq int64 `json:"seq"`
	}
	if e.Arg(1, &meta) != nil {
		return 0
	}
	return meta.Seq
}

// Ledger is what a client saw of the sequence numbers, over all its connections.
type Ledger struct {
	Count        int        `json:"count"`        // events of any kind
	First        int64      `json:"first"`        // the first sequence number, 0 when there was none
	Last         int64      `json:"last"`         // the highest one
	Gaps         [][2]int64 `json:"gaps"`         // ranges that were jumped over, both ends included
	Twice        []int64    `json:"twice"`        // numbers that came again, or too late
	Resets       int        `json:"resets"`       // sync:reset events
	MaxLatencyMS float64    `json:"maxLatencyMs"` // the longest time from meta.at to the client
}

// ConnectError is what the client's connect_error event said.
type ConnectError struct {
	Message string
	Data    json.RawMessage // what the server added, or null
	Final   bool            // the client will not try again by itself: the server refused the handshake
}

func (e *ConnectError) Error() string { return e.Message }

// SocketClient is an official Socket.IO client in a Node.js process. Its methods may be called from any goroutine.
type SocketClient struct {
	node *NodeProcess
	id   int

	mu          sync.Mutex    // guards what follows
	changed     chan struct{} // closed, and replaced, whenever something changed
	events      []Event
	connections int
	connected   bool
	socketID    string
	transport   string
	disconnects []string // reasons, in order
	errors      []*ConnectError
	acks        map[int]chan report
	lastAck     int
}

// Client makes an official Socket.IO client, not connected yet; it ends with the test. The clients of one test share one
// Node.js process. The test fails when Node.js is missing.
func Client(t testing.TB, options ClientOptions) *SocketClient {
	t.Helper()
	return nodeOf(t).Client(options)
}

// Connect makes a client and connects it. The test fails when the server refuses or does not answer in time.
func Connect(t testing.TB, options ClientOptions) *SocketClient {
	t.Helper()
	client := Client(t, options)
	if err := client.Connect(Context(t)); err != nil {
		t.Fatalf("connect a Socket.IO client to %s: %v", options.URL, err)
	}
	return client
}

// Client makes a client in this process.
func (n *NodeProcess) Client(options ClientOptions) *SocketClient {
	n.t.Helper()
	n.mu.Lock()
	n.lastID++
	client := &SocketClient{node: n, id: n.lastID, changed: make(chan struct{}), acks: map[int]chan report{}}
	n.clients[client.id] = client
	n.mu.Unlock()

	more := maps.Clone(options.Options)
	if options.Transports != nil {
		if more == nil {
			more = map[string]any{}
		}
		more["transports"] = options.Transports
	}
	client.do(instruction{
		Op: "open", URL: options.URL, Options: more, Auth: options.Auth, TrackSeq: options.TrackSeq, LedgerOnly: options.LedgerOnly,
	})
	return client
}

// Connect connects and returns nil once the server has accepted, a *ConnectError as soon as it has refused. While no server
// answers, the client keeps trying as its options say, until the context ends.
func (c *SocketClient) Connect(ctx context.Context) error {
	c.mu.Lock()
	connections, refusals := c.connections, len(c.errors)
	c.mu.Unlock()
	c.do(instruction{Op: "connect"})
	var refused *ConnectError
	err := c.await(ctx, "the connection", func() bool {
		for _, e := range c.errors[refusals:] {
			if e.Final {
				refused = e
			}
		}
		return c.connections > connections || refused != nil
	})
	if refused != nil {
		return refused
	}
	return err
}

// WaitConnected waits until the client has connected n times in all: 2 is the first reconnect.
func (c *SocketClient) WaitConnected(ctx context.Context, n int) error {
	return c.await(ctx, fmt.Sprintf("connection %d", n), func() bool { return c.connections >= n })
}

// WaitConnectError waits for the n-th connect_error, final or not; the first is 1.
func (c *SocketClient) WaitConnectError(ctx context.Context, n int) (*ConnectError, error) {
	var found *ConnectError
	err := c.await(ctx, fmt.Sprintf("connect_error %d", n), func() bool {
		if len(c.errors) >= n {
			found = c.errors[n-1]
		}
		return found != nil
	})
	return found, err
}

// WaitDisconnect waits until the client has been disconnected n times in all, and returns the reason of that one.
func (c *SocketClient) WaitDisconnect(ctx context.Context, n int) (reason string, err error) {
	err = c.await(ctx, fmt.Sprintf("disconnection %d", n), func() bool {
		if len(c.disconnects) < n {
			return false
		}
		reason = c.disconnects[n-1]
		return true
	})
	return reason, err
}

// WaitTransport waits until the connection runs over the transport: "polling", "websocket".
func (c *SocketClient) WaitTransport(ctx context.Context, name string) error {
	return c.await(ctx, "the transport "+name, func() bool { return c.connected && c.transport == name })
}

// WaitFor waits for an event with the name (any, if empty) that satisfies the predicate (nil: every one does), and returns
// the first such event, which may have come before the call.
func (c *SocketClient) WaitFor(ctx context.Context, name string, predicate func(Event) bool) (Event, error) {
	var found Event
	looked := 0
	err := c.await(ctx, "event "+name, func() bool {
		looked = min(looked, len(c.events)) // Forget may have come in between
		for ; looked < len(c.events); looked++ {
			e := c.events[looked]
			if (name == "" || e.Name == name) && (predicate == nil || predicate(e)) {
				found = e
				return true
			}
		}
		return false
	})
	return found, err
}

// WaitCount waits until n events with the name (any, if empty) have come, and returns all there are.
func (c *SocketClient) WaitCount(ctx context.Context, name string, n int) ([]Event, error) {
	var found []Event
	err := c.await(ctx, fmt.Sprintf("%d events %s", n, name), func() bool {
		found = named(c.events, name)
		return len(found) >= n
	})
	return found, err
}

// Events returns all events with the name (any, if empty) so far, in the order they came.
func (c *SocketClient) Events(name string) []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return named(c.events, name)
}

// Forget drops the events collected so far, so that WaitFor sees only later ones.
func (c *SocketClient) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = nil
}

// Emit sends an event without asking for an acknowledgement. While disconnected, the client keeps it for the reconnect.
func (c *SocketClient) Emit(name string, args ...any) {
	c.node.t.Helper()
	c.do(instruction{Op: "emit", Name: name, Args: args})
}

// EmitAck sends an event and returns the first argument of its acknowledgement as JSON, null if it had none.
func (c *SocketClient) EmitAck(ctx context.Context, name string, args ...any) (json.RawMessage, error) {
	return c.ask(ctx, instruction{Op: "emit", Name: name, Args: args}, "the acknowledgement of "+name)
}

// Ledger returns what the client saw of the sequence numbers so far.
func (c *SocketClient) Ledger(ctx context.Context) (Ledger, error) {
	var ledger Ledger
	answer, err := c.ask(ctx, instruction{Op: "ledger"}, "the ledger")
	if err != nil {
		return ledger, err
	}
	if err := json.Unmarshal(answer, &ledger); err != nil {
		return ledger, fmt.Errorf("decode the ledger: %w", err)
	}
	return ledger, nil
}

// SetAuth replaces the auth payload of later connection attempts.
func (c *SocketClient) SetAuth(auth map[string]any) {
	c.node.t.Helper()
	c.do(instruction{Op: "auth", Auth: auth})
}

// Drop breaks the connection as a network failure would, without a goodbye; the client then reconnects by itself.
func (c *SocketClient) Drop() {
	c.node.t.Helper()
	c.do(instruction{Op: "drop"})
}

// Disconnect says goodbye to the server and waits until the client is disconnected. It stays so until Connect.
func (c *SocketClient) Disconnect(ctx context.Context) error {
	c.do(instruction{Op: "disconnect"})
	return c.await(ctx, "the disconnection", func() bool { return !c.connected })
}

// Close disconnects and forgets the client for good; without it, that happens when the test ends. Events stay readable.
func (c *SocketClient) Close() {
	c.node.t.Helper()
	c.do(instruction{Op: "close"})
}

// Connected reports whether the client is connected now.
func (c *SocketClient) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected
}

// Connections is how often the client has connected; each reconnect counts.
func (c *SocketClient) Connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connections
}

// ID is the id of the current socket, or of the last one.
func (c *SocketClient) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.socketID
}

// Transport is the name of the current transport, "polling" or "websocket", empty while disconnected.
func (c *SocketClient) Transport() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transport
}

// DisconnectReason is why the client was last disconnected ("io server disconnect", "transport close", …), empty if it
// never was.
func (c *SocketClient) DisconnectReason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.disconnects) == 0 {
		return ""
	}
	return c.disconnects[len(c.disconnects)-1]
}

// do sends an instruction. That it cannot be sent is reported on the test: the process is gone or an argument is no JSON.
func (c *SocketClient) do(i instruction) {
	c.node.t.Helper()
	i.Client = c.id
	if err := c.node.send(i); err != nil {
		c.node.t.Errorf("testkit: %s: %v", i.Op, err)
	}
}

// ask sends an instruction and waits for its answer.
func (c *SocketClient) ask(ctx context.Context, i instruction, what string) (json.RawMessage, error) {
	answers := make(chan report, 1)
	c.mu.Lock()
	c.lastAck++
	i.Ack, i.Client = c.lastAck, c.id
	c.acks[i.Ack] = answers
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.acks, i.Ack)
	}()
	if err := c.node.send(i); err != nil {
		return nil, err
	}
	select {
	case answer := <-answers:
		if len(answer.Args) == 0 {
			return json.RawMessage("null"), nil
		}
		return answer.Args[0], nil
	case <-c.node.ended:
		return nil, c.node.failure(errors.New("waited for " + what))
	case <-ctx.Done():
		return nil, c.gaveUp(ctx, what)
	}
}

// await waits until a condition on the guarded fields holds.
func (c *SocketClient) await(ctx context.Context, what string, holds func() bool) error {
	for {
		c.mu.Lock()
		done, changed := holds(), c.changed
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-c.node.ended:
			return c.node.failure(errors.New("waited for " + what))
		case <-ctx.Done():
			return c.gaveUp(ctx, what)
		}
	}
}

// gaveUp says what the client knows when a wait has failed.
func (c *SocketClient) gaveUp(ctx context.Context, what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := fmt.Errorf("waited for %s in vain: %w (connected: %t, events so far: %d", what, ctx.Err(), c.connected, len(c.events))
	if len(c.disconnects) > 0 {
		err = fmt.Errorf("%w, last disconnect: %s", err, c.disconnects[len(c.disconnects)-1])
	}
	if len(c.errors) > 0 {
		err = fmt.Errorf("%w, last connect_error: %w", err, c.errors[len(c.errors)-1])
	}
	return fmt.Errorf("%w)", err)
}

// took notes what the process reported.
func (c *SocketClient) took(r report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.Kind {
	case "connect":
		c.connections++
		c.connected, c.socketID, c.transport = true, r.ID, r.Transport
	case "transport":
		c.transport = r.Transport
	case "connect_error":
		c.errors = append(c.errors, &ConnectError{Message: r.Message, Data: r.Data, Final: r.Final})
	case "disconnect":
		c.connected, c.transport = false, ""
		c.disconnects = append(c.disconnects, r.Reason)
	case "event":
		c.events = append(c.events, Event{Name: r.Name, Args: r.Args, At: time.UnixMicro(r.At)})
	case "ack":
		if answers := c.acks[r.Ack]; answers != nil {
			answers <- r
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func named(events []Event, name string) []Event {
	if name == "" {
		return slices.Clone(events)
	}
	var found []Event
	for _, e := range events {
		if e.Name == name {
			found = append(found, e)
		}
	}
	return found
}
