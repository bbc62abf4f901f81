package testkit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// NodeProcess is a Node.js process that hosts Socket.IO clients of one test.
type NodeProcess struct {
	t      testing.TB
	proc   *process
	stderr string // file
	ended  chan struct{}

	write sync.Mutex // guards stdin: one command is one line
	stdin *os.File

	mu      sync.Mutex // guards what follows
	clients map[int]*SocketClient
	lastID  int
}

// perTest finds the process that the clients of one test share.
var perTest struct {
	sync.Mutex // guards nodes
	nodes      map[testing.TB]*NodeProcess
}

// nodeOf returns the test's own process and starts it for the first client.
func nodeOf(t testing.TB) *NodeProcess {
	t.Helper()
	perTest.Lock()
	defer perTest.Unlock()
	if node := perTest.nodes[t]; node != nil {
		return node
	}
	node := StartNode(t)
	if perTest.nodes == nil {
		perTest.nodes = map[testing.TB]*NodeProcess{}
	}
	perTest.nodes[t] = node
	t.Cleanup(func() {
		perTest.Lock()
		defer perTest.Unlock()
		delete(perTest.nodes, t)
	})
	return node
}

// StartNode starts a Node.js process for Socket.IO clients and ends it with the test. [Client] does so by itself; start one to
// share it among subtests, or several to spread many clients over the cores.
func StartNode(t testing.TB) *NodeProcess {
	t.Helper()
	node, err := startNode(t)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	t.Cleanup(node.close)
	return node
}

func startNode(t testing.TB) (*NodeProcess, error) {
	tools, err := findNode()
	if err != nil {
		return nil, err
	}
	space, err := openWorkspace()
	if err != nil {
		return nil, err
	}
	dir, err := space.subdir("node")
	if err != nil {
		return nil, err
	}
	stderr, err := os.OpenFile(filepath.Join(dir, "stderr"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the error log of the Socket.IO clients: %w", err)
	}
	defer func() { _ = stderr.Close() }()
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe to the Socket.IO clients: %w", err)
	}
	defer func() { _ = inRead.Close() }()
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe from the Socket.IO clients: %w", err), inWrite.Close())
	}
	defer func() { _ = outWrite.Close() }()
	proc, err := startProcess(command{
		path: tools.node, args: []string{filepath.Join(tools.dir, "driver.mjs")}, dir: dir,
		stdin: inRead, stdout: outWrite, stderr: stderr, deathSignal: syscall.SIGKILL,
	})
	if err != nil {
		return nil, errors.Join(err, inWrite.Close(), outRead.Close())
	}
	node := &NodeProcess{
		t: t, proc: proc, stderr: stderr.Name(), stdin: inWrite, ended: make(chan struct{}), clients: map[int]*SocketClient{},
	}
	go node.read(outRead)
	return node, nil
}

// report is one line from the process. Which fields are set depends on kind.
type report struct {
	Client    int               `json:"c"`
	Kind      string            `json:"kind"`
	ID        string            `json:"id"`
	Transport string            `json:"transport"`
	Message   string            `json:"message"`
	Data      json.RawMessage   `json:"data"`
	Final     bool              `json:"final"`
	Reason    string            `json:"reason"`
	Name      string            `json:"name"`
	Args      []json.RawMessage `json:"args"`
	At        int64             `json:"at"` // microseconds since 1970
	Ack       int               `json:"ack"`
}

// read hands the process's reports to the clients until it ends.
func (n *NodeProcess) read(out io.ReadCloser) {
	defer close(n.ended)
	defer func() { _ = out.Close() }()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			<-n.proc.done
			return
		}
		var r report
		if err := json.Unmarshal(line, &r); err != nil {
			n.t.Errorf("testkit: a Socket.IO client reported what is not JSON: %v: %.200q", err, line)
			continue
		}
		n.mu.Lock()
		client := n.clients[r.Client]
		n.mu.Unlock()
		if client != nil {
			client.took(r)
		}
	}
}

// instruction is one line to the process.
type instruction struct {
	Op         string         `json:"op"`
	Client     int            `json:"c"`
	URL        string         `json:"url,omitempty"`
	Options    map[string]any `json:"options,omitempty"`
	Auth       map[string]any `json:"auth,omitempty"`
	TrackSeq   bool           `json:"trackSeq,omitempty"`
	LedgerOnly bool           `json:"ledgerOnly,omitempty"`
	Name       string         `json:"name,omitempty"`
	Args       []any          `json:"args"`
	Ack        int            `json:"ack,omitempty"`
}

func (n *NodeProcess) send(i instruction) error {
	if i.Args == nil {
		i.Args = []any{}
	}
	line, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("turn the arguments into JSON: %w", err)
	}
	n.write.Lock()
	defer n.write.Unlock()
	if _, err := n.stdin.Write(append(line, '\n')); err != nil {
		return n.failure(err)
	}
	return nil
}

// failure explains the end of the process by what it last printed.
func (n *NodeProcess) failure(cause error) error {
	printed, err := os.ReadFile(n.stderr)
	if err != nil || len(printed) == 0 {
		return fmt.Errorf("the Node.js process of the Socket.IO clients is gone: %w", cause)
	}
	return fmt.Errorf("the Node.js process of the Socket.IO clients is gone: %w: %s", cause, bytes.TrimSpace(printed))
}

// close ends the clients and the process.
func (n *NodeProcess) close() {
	n.write.Lock()
	_ = n.stdin.Close() // the process ends with its input
	n.write.Unlock()
	const patience = 5 * time.Second
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-n.proc.done:
		if n.proc.err != nil {
			n.t.Errorf("testkit: %v", n.failure(n.proc.err))
		}
	case <-timer.C:
		_ = n.proc.signal(syscall.SIGKILL)
		n.t.Errorf("testkit: the Node.js process of the Socket.IO clients did not end within %s", patience)
	}
	<-n.ended
	_ = os.RemoveAll(n.proc.dir)
}
