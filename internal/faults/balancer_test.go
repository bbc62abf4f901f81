package faults

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// balancer passes TCP connections to the API nodes, each to the one that has the fewest. A connection stays with its node,
// and ends when the node dies; a node that does not accept is skipped.
type balancer struct {
	listener net.Listener
	tasks    sync.WaitGroup

	mu       sync.Mutex // guards what follows
	backends []*backend
	conns    map[net.Conn]struct{} // both ends of each
	closed   bool
}

// backend is a node as the balancer sees it.
type backend struct {
	address string
	open    int // connections, guarded by balancer.mu
}

func newBalancer(t testing.TB) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	require.NoError(t, err)
	b := &balancer{listener: listener, conns: map[net.Conn]struct{}{}}
	b.tasks.Go(b.accept)
	t.Cleanup(b.close)
	return b
}

// URL is where clients and webhooks go.
func (b *balancer) URL() string { return "http://" + b.listener.Addr().String() }

// add puts a node, host:port, behind the balancer.
func (b *balancer) add(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = append(b.backends, &backend{address: address})
}

// cut ends all connections, idle ones of HTTP clients too.
func (b *balancer) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close()
	}
}

func (b *balancer) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	_ = b.listener.Close()
	b.cut()
	b.tasks.Wait()
}

func (b *balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.tasks.Go(func() { b.serve(client) })
	}
}

func (b *balancer) serve(client net.Conn) {
	if !b.hold(client) {
		return
	}
	defer b.drop(client)
	node, chosen := b.dial()
	if node == nil {
		return
	}
	defer b.leave(chosen)
	if !b.hold(node) {
		return
	}
	defer b.drop(node)
	var ways sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, node}, {node, client}} {
		ways.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			// Both ends go when one does: nobody here closes by halves.
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	ways.Wait()
}

// dial connects to the node with the fewest connections that accepts one.
func (b *balancer) dial() (net.Conn, *backend) {
	tried := map[*backend]bool{}
	for {
		chosen := b.choose(tried)
		if chosen == nil {
			return nil, nil
		}
		tried[chosen] = true
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", chosen.address)
		cancel()
		if err == nil {
			return conn, chosen
		}
		b.leave(chosen)
	}
}

func (b *balancer) choose(tried map[*backend]bool) *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	var chosen *backend
	for _, x := range b.backends {
		if !tried[x] && (chosen == nil || x.open < chosen.open) {
			chosen = x
		}
	}
	if chosen != nil {
		chosen.open++
	}
	return chosen
}

func (b *balancer) leave(x *backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x.open--
}

// hold remembers a connection, or closes it when the balancer is closed.
func (b *balancer) hold(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		_ = c.Close()
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *balancer) drop(c net.Conn) {
	_ = c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}
