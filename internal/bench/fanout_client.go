package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// The WebSocket handshake's key and the answer to it are those of RFC 6455, section 1.3.
const (
	wsKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	wsAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// fanClient is one Socket.IO client of the load. It reads into one buffer and finds in an event only what it counts, because it
// shares the cores with what is measured. Its fields belong to its goroutine until that has ended, but for those that say else.
type fanClient struct {
	crowd *fanCrowd
	group *fanGroup
	token string
	local net.Addr // where it connects from; nil: anywhere

	conn   net.Conn
	buffer []byte
	filled int

	last       int64    // the last seq
	bytes      int64    // of the events' texts
	skipped    int64    // events that were left out
	repeated   int64    // events that came again, or late
	latencies  []uint32 // µs since the event's stamp; of event group.After+1, +2, …
	retries    int      // refused connection attempts
	joinedAt   time.Time
	caughtUpAt time.Time
	joined     bool
	leaving    atomic.Bool // set by whoever closes conn
}

// errRefused is an answer of a server that wants the client to come again.
var errRefused = errors.New("refused")

// join connects, again and again as the official client does, though sooner.
func (c *fanClient) join(ctx context.Context) error {
	const attempts = 40
	for attempt := 1; ; attempt++ {
		err := c.joinOnce(ctx)
		if err == nil {
			return nil
		}
		if c.conn != nil {
			_ = c.conn.Close()
		}
		if !errors.Is(err, errRefused) || attempt == attempts || ctx.Err() != nil {
			return err
		}
		c.retries++
		pause := time.NewTimer(100*time.Millisecond + rand.N(400*time.Millisecond)) //nolint:gosec // jitter
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

func (c *fanClient) joinOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.crowd.patience)
	defer cancel()
	conn, err := (&net.Dialer{LocalAddr: c.local}).DialContext(ctx, "tcp", c.crowd.address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	// A client that hangs on the way ends with its context.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	c.conn, c.filled, c.joined = conn, 0, false
	request := "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: " + c.crowd.address +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + wsKey + "\r\n\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return fmt.Errorf("ask for the upgrade: %w", err)
	}
	if err := c.upgraded(); err != nil {
		return err
	}
	for !c.joined {
		if err := c.frames(time.Now()); err != nil || c.joined {
			return err
		}
		if err := c.read(); err != nil {
			return fmt.Errorf("wait for the connection's answer: %w: %w", errRefused, err)
		}
	}
	return nil
}

// upgraded reads the answer to the handshake; what follows it stays in the buffer.
func (c *fanClient) upgraded() error {
	for {
		head, rest, whole := bytes.Cut(c.buffer[:c.filled], []byte("\r\n\r\n"))
		if whole {
			status, headers, _ := bytes.Cut(head, []byte("\r\n"))
			switch {
			case bytes.HasPrefix(status, []byte("HTTP/1.1 503")), bytes.HasPrefix(status, []byte("HTTP/1.1 429")):
				return fmt.Errorf("%w: %s", errRefused, status)
			case !bytes.HasPrefix(status, []byte("HTTP/1.1 101")):
				return fmt.Errorf("the upgrade was answered with %s: %.200s", status, rest)
			case !bytes.Contains(headers, []byte(wsAccept)):
				return errors.New("the upgrade was answered for another key")
			}
			c.filled = copy(c.buffer, rest)
			return nil
		}
		if err := c.read(); err != nil {
			return fmt.Errorf("wait for the upgrade: %w: %w", errRefused, err)
		}
	}
}

// read reads what there is, making room first if a frame fills the buffer.
func (c *fanClient) read() error {
	if c.filled == len(c.buffer) {
		if len(c.buffer) > 2*maxServerFrame {
			return errors.New("an endless frame")
		}
		c.buffer = append(c.buffer, make([]byte, len(c.buffer))...)
	}
	n, err := c.conn.Read(c.buffer[c.filled:])
	c.filled += n
	if n > 0 {
		return nil
	}
	return err
}

// listen takes what the server sends until the connection ends.
func (c *fanClient) listen() error {
	for {
		if err := c.frames(time.Now()); err != nil {
			return err
		}
		if err := c.read(); err != nil {
			return err
		}
	}
}

// frames takes all whole frames out of the buffer. now is when they were read.
func (c *fanClient) frames(now time.Time) error {
	taken := 0
	for {
		frame, size, err := nextFrame(c.buffer[taken:c.filled])
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		taken += size
		switch frame.opcode {
		case opText:
			err = c.packet(frame.payload, now)
		case opPing:
			_, err = c.conn.Write(clientFrame(opPong, frame.payload))
		case opPong:
		case opClose:
			err = fmt.Errorf("the server closed the connection: %q", frame.payload)
		default:
			err = fmt.Errorf("a frame of opcode %d", frame.opcode)
		}
		if err != nil {
			return err
		}
	}
	c.filled = copy(c.buffer, c.buffer[taken:c.filled])
	return nil
}

var enginePong = clientFrame(opText, []byte("3"))

// packet takes one Engine.IO packet.
func (c *fanClient) packet(text []byte, now time.Time) error {
	if len(text) == 0 {
		return errors.New("an empty packet")
	}
	switch {
	case text[0] == '2':
		_, err := c.conn.Write(enginePong)
		return err
	case bytes.HasPrefix(text, []byte("42")):
		return c.event(text, now)
	case text[0] == '0':
		connect, err := c.connectPacket()
		if err != nil {
			return err
		}
		_, err = c.conn.Write(clientFrame(opText, connect))
		return err
	case bytes.HasPrefix(text, []byte("40")):
		if c.joined {
			return errors.New("connected twice")
		}
		c.joined, c.joinedAt = true, now
		c.last = c.group.After
		c.caughtUp(now)
		return nil
	case bytes.HasPrefix(text, []byte(`44`)) && bytes.Contains(text, []byte(`"retry":true`)):
		return fmt.Errorf("%w: %s", errRefused, text)
	default:
		return fmt.Errorf("packet %.200q", text)
	}
}

func (c *fanClient) connectPacket() ([]byte, error) {
	auth := map[string]any{"token": c.token}
	if c.group.Resume {
		auth["lastSeq"], auth["epoch"] = c.group.After, c.group.Epoch
	}
	encoded, err := json.Marshal(auth)
	return append([]byte("40"), encoded...), err
}

// event takes one event of the log.
func (c *fanClient) event(text []byte, now time.Time) error {
	seq, found := readSeq(text)
	if !found || !c.joined {
		return fmt.Errorf("an event that was not expected: %.200q", text)
	}
	if seq <= c.last {
		c.repeated++
		return nil
	}
	c.bytes += int64(len(text))
	c.skipped += seq - c.last - 1
	c.last = seq
	if c.group.Stamped {
		stamp, found := readStamp(text)
		if !found {
			return fmt.Errorf("an event without a time stamp: %.200q", text)
		}
		late := max(now.UnixMicro()-stamp, 0)
		c.latencies = append(c.latencies, uint32(min(late, 1<<32-1)))
	}
	c.group.arrived(c.crowd, seq)
	c.caughtUp(now)
	return nil
}

// caughtUp notes when the client reached the end of what it had missed.
func (c *fanClient) caughtUp(now time.Time) {
	if c.group.Resume && c.caughtUpAt.IsZero() && c.last >= c.group.Through {
		c.caughtUpAt = now
		c.crowd.caughtUp.Add(1)
		c.crowd.rouse()
	}
}

// sourceAddress spreads clients over the addresses of the loopback network: one has fewer than 30,000 ports.
func sourceAddress(i int) net.Addr {
	const perAddress = 4000
	return &net.TCPAddr{IP: net.ParseIP("127.0.0." + strconv.Itoa(2+i/perAddress))}
}
