package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// HerdOptions describes many official clients that act together.
type HerdOptions struct {
	// URL is the server's, for all.
	URL string
	// Options are further options of socket.io-client, such as "transports": []string{"websocket"}.
	Options map[string]any
	// Canary begins every canary, which is <Canary><group>-<number>: lower-case letters, digits, and a whole number that
	// is unique in the group. One of another group in any packet is a leak.
	Canary string
	// Clients are the members. Each keeps its position in the event log and asks for what it missed, as with TrackSeq.
	Clients []HerdClient
}

// HerdClient is a member of a herd.
type HerdClient struct {
	Auth  map[string]any `json:"auth"`
	Group string         `json:"group"` // whose canaries it may see, and which of HerdGoal.Heads is its
}

// HerdReport is what the members saw, in the order of HerdOptions.Clients. Times are those since the last Mark.
type HerdReport struct {
	Clients []HerdLedger `json:"clients"`
	// LatencyMS is the time from the commit of live events to the client.
	LatencyMS Spread `json:"latencyMs"`
	// BackMS is the time from a broken connection to the next one.
	BackMS Spread `json:"backMs"`
	// CatchUpMS is the time from a connection to the last event that had been committed before it.
	CatchUpMS Spread `json:"catchUpMs"`
}

// Spread sums up measured values.
type Spread struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// String is for test logs.
func (s Spread) String() string {
	return fmt.Sprintf("p50 %.0f, p99 %.0f, max %.0f (of %d)", s.P50, s.P99, s.Max, s.Count)
}

// HerdLedger is what one member saw, over all its connections. A sync:reset begins it anew, but for the counts of faults.
type HerdLedger struct {
	Group       string `json:"group"`
	Connected   bool   `json:"connected"`
	Connections int    `json:"connections"` // how often it has connected
	Disconnects int    `json:"disconnects"`
	Refused     string `json:"refused"`   // the last connect_error
	First       int64  `json:"first"`     // the first sequence number
	Last        int64  `json:"last"`      // the highest one
	Epoch       string `json:"epoch"`     // of the log that Last counts in
	Events      int    `json:"events"`    // of any kind
	Gaps        int    `json:"gaps"`      // sequence numbers that were jumped over and did not come, at most 1,000
	Doubles     int    `json:"doubles"`   // that came again
	Disorders   int    `json:"disorders"` // that came after a higher one
	Strays      int    `json:"strays"`    // events of another epoch that no sync:reset had told of
	Leaks       int    `json:"leaks"`     // canaries of other groups
	Leaked      string `json:"leaked"`    // the last of them
	Resets      int    `json:"resets"`    // sync:reset events
	Canaries    int    `json:"canaries"`  // message:new events with a canary of its own
	CanarySum   int64  `json:"canarySum"` // the sum of their numbers
}

// HerdGoal is a state of a herd to wait for; all that is set must hold at once.
type HerdGoal struct {
	Connected   int                     `json:"connected"`   // so many are connected, not more; below 0: any number
	Connections int                     `json:"connections"` // all together have connected at least so often
	Resets      int                     `json:"resets"`      // each was reset at least so often
	Heads       map[string]HerdPosition `json:"heads"`       // every member of these groups has come to this event
}

// HerdPosition is a position in an event log.
type HerdPosition struct {
	Seq   int64  `json:"seq"`
	Epoch string `json:"epoch"`
}

// Herd is many official clients in a Node.js process of their own, which checks what they receive: unlike with
// [SocketClient], events stay there. A step that fails is reported on the test with Errorf.
type Herd struct {
	t      testing.TB
	client *SocketClient // stands for all of them in the process
}

// StartHerd makes the clients, not connected yet; they end with the test.
func StartHerd(t testing.TB, options HerdOptions) *Herd {
	t.Helper()
	node := StartNode(t)
	node.mu.Lock()
	node.lastID++
	client := &SocketClient{node: node, id: node.lastID, changed: make(chan struct{}), acks: map[int]chan report{}}
	node.clients[client.id] = client
	node.mu.Unlock()
	h := &Herd{t: t, client: client}
	h.step(instruction{Op: "herd:open", URL: options.URL, Options: options.Options, Args: []any{
		map[string]any{"canary": options.Canary, "clients": options.Clients},
	}})
	return h
}

// Connect makes all members that are away connect, at once. Await says when they are.
func (h *Herd) Connect() { h.t.Helper(); h.step(instruction{Op: "herd:connect"}) }

// Drop breaks all connections as a network failure would; the members reconnect by themselves.
func (h *Herd) Drop() {
	h.t.Helper()
	h.step(instruction{Op: "herd:drop", Args: []any{map[string]any{"stay": false}}})
}

// Hold is Drop, but the members stay away until Connect.
func (h *Herd) Hold() {
	h.t.Helper()
	h.step(instruction{Op: "herd:drop", Args: []any{map[string]any{"stay": true}}})
}

// Leave says goodbye for all. They stay away until Connect.
func (h *Herd) Leave() { h.t.Helper(); h.step(instruction{Op: "herd:leave"}) }

// Mark forgets the times taken so far.
func (h *Herd) Mark() { h.t.Helper(); h.step(instruction{Op: "herd:mark"}) }

// Await waits until the goal is reached and returns how long that took.
func (h *Herd) Await(ctx context.Context, goal HerdGoal) (time.Duration, error) {
	answer, err := h.client.ask(ctx, instruction{Op: "herd:await", Args: []any{goal}}, "the herd")
	if err != nil {
		return 0, err
	}
	var took float64
	if err := json.Unmarshal(answer, &took); err != nil {
		return 0, fmt.Errorf("decode how long the herd took: %w", err)
	}
	return time.Duration(took * float64(time.Millisecond)), nil
}

// Report returns what the members saw so far.
func (h *Herd) Report(ctx context.Context) (HerdReport, error) {
	var r HerdReport
	answer, err := h.client.ask(ctx, instruction{Op: "herd:report"}, "the herd's report")
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return r, fmt.Errorf("decode the herd's report: %w", err)
	}
	return r, nil
}

func (h *Herd) step(i instruction) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.t.Context()), waitAtMost)
	defer cancel()
	if _, err := h.client.ask(ctx, i, "the herd"); err != nil {
		h.t.Errorf("testkit: %s: %v", i.Op, err)
	}
}
