package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// wiretap stands between a program and PostgreSQL and sees, in the protocol itself, each time that the program waits for an
// answer: whatever the layers above it do (pings, statements prepared beforehand) is counted.
type wiretap struct {
	listener net.Listener
	server   string
	wg       sync.WaitGroup

	mu         sync.Mutex // guards what follows
	conns      []net.Conn
	roundTrips int
	statements []string
	failed     error
}

// tap opens a wiretap to the database and returns the URL that leads through it. close ends it and its connections.
func tap(databaseURL string) (w *wiretap, throughURL string, err error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nil, "", fmt.Errorf("database URL: %w", err)
	}
	w = &wiretap{server: u.Host}
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, "", fmt.Errorf("open the wiretap: %w", err)
	}
	u.Host = w.listener.Addr().String()
	w.wg.Go(w.accept)
	return w, u.String(), nil
}

func (w *wiretap) close() error {
	w.mu.Lock()
	err := w.listener.Close()
	for _, conn := range w.conns {
		_ = conn.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
	return errors.Join(err, w.failed)
}

// reset forgets what was seen.
func (w *wiretap) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.roundTrips, w.statements = 0, nil
}

// seen is how often an answer was waited for since the reset, and the statements that were run.
func (w *wiretap) seen() (roundTrips int, statements []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.roundTrips, slices.Clone(w.statements)
}

func (w *wiretap) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, client, server)
		w.mu.Unlock()
		w.wg.Go(func() {
			_, _ = io.Copy(client, server)
			_ = client.Close()
		})
		w.wg.Go(func() {
			defer func() { _ = server.Close() }()
			if err := w.forward(server, client); !ended(err) {
				w.mu.Lock()
				w.failed = errors.Join(w.failed, err)
				w.mu.Unlock()
			}
		})
	}
}

// ended reports whether a connection has only ended, as it may with its process.
func ended(err error) bool {
	for _, end := range []error{io.EOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// maxFrame bounds a message of the client: larger ones are no part of what is tapped.
const maxFrame = 64 << 20

// forward passes on what a client sends, message by message, until the connection ends. A message is seen before it is passed
// on: who has the answer finds it counted.
func (w *wiretap) forward(server io.Writer, client io.Reader) error {
	names := map[string]string{} // prepared statements of this connection
	kind := make([]byte, 0, 1)   // the first message has none
	for {
		length, body, err := readMessage(client)
		if err != nil {
			return err
		}
		if len(kind) > 0 {
			w.see(kind[0], body, names)
		}
		if _, err := server.Write(slices.Concat(kind, length, body)); err != nil {
			return err
		}
		kind = kind[:1]
		if _, err := io.ReadFull(client, kind); err != nil {
			return err
		}
	}
}

// readMessage reads one message, whose kind was read already.
func readMessage(client io.Reader) (length, body []byte, err error) {
	length = make([]byte, 4)
	if _, err := io.ReadFull(client, length); err != nil {
		return nil, nil, err
	}
	n := binary.BigEndian.Uint32(length)
	if n < 4 || n > maxFrame {
		return nil, nil, fmt.Errorf("wiretap: a message of %d bytes", n)
	}
	body = make([]byte, n-4)
	_, err = io.ReadFull(client, body)
	return length, body, err
}

// see notes one message. Query and Sync are the two after which the client waits.
func (w *wiretap) see(kind byte, body []byte, names map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch kind {
	case 'Q':
		w.roundTrips++
		w.statements = append(w.statements, strings.TrimRight(string(body), "\x00"))
	case 'S':
		w.roundTrips++
	case 'P':
		name, rest := text(body)
		names[name], _ = text(rest)
	case 'B':
		_, rest := text(body) // the portal
		name, _ := text(rest)
		w.statements = append(w.statements, names[name])
	}
}

// text splits off a zero-terminated string.
func text(b []byte) (s string, rest []byte) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:]
		}
	}
	return string(b), nil
}
