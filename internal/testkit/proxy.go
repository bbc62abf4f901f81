package testkit

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a server until the way between them is cut, as when a cable is pulled or a firewall
// drops packets: nobody is told, neither by an answer nor by the end of a connection.
//
//	client ─► Proxy ─┤ cut ├─► server
//
// As with TCP itself, what was under way is not gone: Heal delivers it, late, the ends of connections included. Break loses
// it. A connection holds at most one read of 32 KiB in each direction; beyond that its senders wait. While the way is
// cut, new connections are accepted and lead nowhere.
type Proxy struct {
	t        testing.TB
	target   string
	listener net.Listener
	tasks    sync.WaitGroup

	// gate is held for reading while bytes are handed over, so that after Cut none are.
	gate sync.RWMutex

	mu     sync.Mutex    // guards what follows
	healed chan struct{} // closed by Heal; nil while bytes pass
	links  map[*link]struct{}
	made   map[string][]time.Time // when it connected to the server, by the address from which it did
	closed bool
}

// link is a connection through a Proxy.
type link struct {
	client net.Conn
	broken chan struct{} // closed when it ends for good
	once   sync.Once

	mu     sync.Mutex // guards server
	server net.Conn   // nil until dialed
}

// StartProxy listens on a port of its own and passes what comes to target, host:port. It ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("testkit: start a proxy to %s: %v", target, err)
	}
	p := &Proxy{t: t, target: target, listener: listener, links: map[*link]struct{}{}, made: map[string][]time.Time{}}
	p.tasks.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is where clients connect, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Made returns when the proxy connected to the server from this address, host:port, for the last time until then; zero: it
// did not. An address is used again when its connection is closed, by another proxy perhaps: the latest has it.
func (p *Proxy) Made(remote string, until time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	var last time.Time
	for _, at := range p.made[remote] {
		if !at.After(until) {
			last = at
		}
	}
	return last
}

// Cut stops all bytes in both directions, those of connections to come too. When it returns none are on their way any more.
func (p *Proxy) Cut() {
	p.mu.Lock()
	if p.healed == nil {
		p.healed = make(chan struct{})
	}
	p.deadlines(time.Unix(1, 0)) // who waits for a reader that does not read lets go of the gate
	p.mu.Unlock()
	p.gate.Lock()
	p.mu.Lock()
	p.deadlines(time.Time{})
	p.mu.Unlock()
	p.gate.Unlock()
}

// Heal lets bytes pass again, first those that were held.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.healed != nil {
		close(p.healed)
		p.healed = nil
	}
}

// Break ends all connections at both ends. What was held on them is lost. The way stays cut if it was.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.end()
	}
}

// deadlines bounds all writes; it needs p.mu.
func (p *Proxy) deadlines(until time.Time) {
	for l := range p.links {
		_ = l.client.SetWriteDeadline(until)
		if server := l.to(); server != nil {
			_ = server.SetWriteDeadline(until)
		}
	}
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Break()
	p.tasks.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		l := &link{client: client, broken: make(chan struct{})}
		p.mu.Lock()
		p.links[l] = struct{}{}
		closed := p.closed
		p.mu.Unlock()
		if closed {
			l.end()
		}
		p.tasks.Go(func() { p.serve(l) })
	}
}

func (p *Proxy) serve(l *link) {
	defer func() {
		l.end()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	if !p.dial(l) {
		return
	}
	server := l.to()
	var ways sync.WaitGroup
	ways.Go(func() { p.pass(l, server, l.client) })
	ways.Go(func() { p.pass(l, l.client, server) })
	ways.Wait()
}

// dial connects to the server as soon as the way is whole.
func (p *Proxy) dial(l *link) bool {
	if !p.whole(l) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return false
	}
	p.mu.Lock()
	from := server.LocalAddr().String()
	p.made[from] = append(p.made[from], time.Now())
	p.mu.Unlock()
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	select {
	case <-l.broken:
		_ = server.Close()
		return false
	default:
		return true
	}
}

// pass carries bytes one way, and then the end of the connection: nobody here closes by halves.
func (p *Proxy) pass(l *link, to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !p.hand(l, to, buffer[:n]) || err != nil {
			break
		}
	}
	if p.whole(l) {
		l.end()
	}
}

// hand gives bytes to one end as soon as the way is whole; false when the connection is over.
func (p *Proxy) hand(l *link, to net.Conn, bytes []byte) bool {
	for len(bytes) > 0 {
		if !p.whole(l) {
			return false
		}
		p.gate.RLock()
		n, err := 0, error(os.ErrDeadlineExceeded)
		if p.passing() {
			n, err = to.Write(bytes)
		}
		p.gate.RUnlock()
		bytes = bytes[n:]
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	return true
}

func (p *Proxy) passing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.healed == nil
}

// whole waits until bytes may pass; false when the connection is broken.
func (p *Proxy) whole(l *link) bool {
	for {
		p.mu.Lock()
		healed := p.healed
		p.mu.Unlock()
		if healed == nil {
			select {
			case <-l.broken:
				return false
			default:
				return true
			}
		}
		select {
		case <-healed:
		case <-l.broken:
			return false
		}
	}
}

func (l *link) to() net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server
}

// end closes both ends for good.
func (l *link) end() {
	l.once.Do(func() {
		close(l.broken)
		_ = l.client.Close()
		if server := l.to(); server != nil {
			_ = server.Close()
		}
	})
}
