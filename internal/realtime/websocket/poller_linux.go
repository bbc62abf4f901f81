package websocket

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller learns from epoll which connections have something to read. The epoll instance is itself watched by the runtime's
// poller, so that waiting for it takes no thread.
type poller struct {
	epoll *os.File
	raw   syscall.RawConn

	mu    sync.RWMutex // guards conns
	conns []*Conn      // by descriptor
}

func newPoller() (*poller, error) {
	descriptor, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(descriptor, true); err != nil { // so that os.NewFile hands it to the runtime's poller
		_ = unix.Close(descriptor)
		return nil, fmt.Errorf("prepare an epoll instance: %w", err)
	}
	file := os.NewFile(uintptr(descriptor), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("prepare an epoll instance: %w", err)
	}
	return &poller{epoll: file, raw: raw}, nil
}

// add watches a connection. What it has to read already is noticed too.
func (p *poller) add(c *Conn) error {
	var failed error
	err := c.raw.Control(func(descriptor uintptr) {
		p.put(int(descriptor), c)
		event := &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET,
			Fd:     int32(descriptor), //nolint:gosec // a descriptor is an int32
		}
		failed = p.control(unix.EPOLL_CTL_ADD, int(descriptor), event)
	})
	return errors.Join(err, failed)
}

// remove stops watching. It must come before the connection is closed, since descriptors are used again.
func (p *poller) remove(c *Conn) {
	_ = c.raw.Control(func(descriptor uintptr) {
		_ = p.control(unix.EPOLL_CTL_DEL, int(descriptor), nil)
		p.put(int(descriptor), nil)
	})
}

func (p *poller) control(operation, descriptor int, event *unix.EpollEvent) error {
	var failed error
	err := p.raw.Control(func(epoll uintptr) {
		failed = unix.EpollCtl(int(epoll), operation, descriptor, event)
	})
	return errors.Join(err, failed)
}

func (p *poller) put(descriptor int, c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if missing := descriptor + 1 - len(p.conns); missing > 0 {
		p.conns = append(p.conns, make([]*Conn, missing)...)
	}
	p.conns[descriptor] = c
}

func (p *poller) at(descriptor int) *Conn {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if descriptor < len(p.conns) {
		return p.conns[descriptor]
	}
	return nil
}

func (p *poller) close() { _ = p.epoll.Close() }

func (p *poller) run() {
	events := make([]unix.EpollEvent, 256)
	_ = p.raw.Read(func(epoll uintptr) (over bool) {
		for {
			n, err := unix.EpollWait(int(epoll), events, 0)
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return true
			case n == 0:
				return false // wait until there is more
			}
			for _, e := range events[:max(n, 0)] {
				// A connection that has got the descriptor since then finds nothing to read: no harm.
				if c := p.at(int(e.Fd)); c != nil {
					c.readable()
				}
			}
		}
	})
}

// The states of reading. The goroutine that reads lives from idle to idle.
const (
	readIdle int32 = iota
	readBusy
	readAgain // something came while it was busy
)

// readable is called when there may be something to read.
func (c *Conn) readable() {
	for {
		switch state := c.reading.Load(); state {
		case readIdle:
			if c.reading.CompareAndSwap(readIdle, readBusy) {
				c.loop.tasks.Add(1)
				go c.readNow()
				return
			}
		case readBusy:
			if c.reading.CompareAndSwap(readBusy, readAgain) {
				return
			}
		default:
			return
		}
	}
}

// readNow reads until there is nothing more.
func (c *Conn) readNow() {
	defer c.loop.tasks.Done()
	buffer, _ := c.loop.buffers.Get().(*readBuffer)
	defer c.loop.buffers.Put(buffer)
	for {
		if !c.readAll(buffer) {
			return // closed: it stays busy, and is never read again
		}
		if c.reading.CompareAndSwap(readBusy, readIdle) {
			return
		}
		c.reading.Store(readBusy)
	}
}

// readAll reads until the kernel says that there is nothing more: a read that was short is not enough, since the end of the
// stream may have come together with the data, and is not told again.
func (c *Conn) readAll(buffer *readBuffer) bool {
	for {
		n, err := buffer.read(c.raw)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return true
		case err != nil:
			c.end(err)
			return false
		case n == 0:
			c.end(nil)
			return false
		}
		if !c.take(buffer.data[:n]) {
			return false
		}
	}
}

// readBuffer is where bytes are read into, and the function that does it, made once.
type readBuffer struct {
	data    [8 << 10]byte
	n       int
	err     error
	attempt func(descriptor uintptr) bool
}

func newReadBuffer() *readBuffer {
	b := &readBuffer{}
	b.attempt = b.try
	return b
}

// read reads once and does not wait; unix.EAGAIN says that there is nothing.
func (b *readBuffer) read(raw syscall.RawConn) (int, error) {
	b.n, b.err = 0, nil
	if err := raw.Read(b.attempt); err != nil {
		return 0, err
	}
	return b.n, b.err
}

func (b *readBuffer) try(descriptor uintptr) bool {
	for {
		n, err := unix.Read(int(descriptor), b.data[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		b.n, b.err = max(n, 0), err
		return true
	}
}
