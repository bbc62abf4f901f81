package websocket

import (
	"errors"
	"sync"
	"syscall"
)

// batchBytes is the most that one write takes of what is queued for a connection.
const batchBytes = 64 << 10

// lane writes for its share of the connections, one after the other, each in its turn.
type lane struct {
	loop *Loop
	wake chan struct{} // one token: somebody stands in the line
	quit chan struct{}

	mu   sync.Mutex // guards line
	line []*Conn

	// What follows belongs to the goroutine of run.
	batch   []byte
	out     []byte // what try writes
	written int
	err     error
	attempt func(descriptor uintptr) bool // try, made once
}

func newLane(l *Loop) *lane {
	n := &lane{loop: l, wake: make(chan struct{}, 1), quit: make(chan struct{}), batch: make([]byte, batchBytes)}
	n.attempt = n.try
	return n
}

// join puts a connection at the end of the line. A connection stands in the line once at most.
func (n *lane) join(c *Conn) {
	n.mu.Lock()
	n.line = append(n.line, c)
	first := len(n.line) == 1
	n.mu.Unlock()
	if !first {
		return
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *lane) close() { close(n.quit) }

func (n *lane) run() {
	var turn []*Conn
	for {
		select {
		case <-n.wake:
		case <-n.quit:
			return
		}
		n.mu.Lock()
		turn, n.line = n.line, turn[:0]
		n.mu.Unlock()
		for i, c := range turn {
			n.serve(c)
			turn[i] = nil
		}
	}
}

// serve writes what is queued for a connection, as far as one attempt goes.
func (n *lane) serve(c *Conn) {
	if c.raw == nil {
		c.drainLater()
		return
	}
	out := c.due(n.batch)
	if len(out) == 0 {
		return
	}
	n.out, n.written, n.err = out, 0, nil
	if err := c.raw.Write(n.attempt); err != nil {
		n.err = err
	}
	n.out = nil
	if n.err != nil && !errors.Is(n.err, syscall.EAGAIN) {
		c.end(n.err)
		return
	}
	switch c.wrote(n.written) {
	case nothingDue:
	case moreDue:
		if n.written < len(out) {
			c.drainLater()
		} else {
			n.join(c)
		}
	}
}

// try writes once. It tells the caller never to wait.
func (n *lane) try(descriptor uintptr) bool {
	n.written, n.err = writeOnce(descriptor, n.out)
	return true
}
