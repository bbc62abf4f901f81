package realtime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// line is the Redis end of a connection within the process: as much of the Redis protocol (RESP 2) as a subscriber needs.
type line struct {
	conn net.Conn
	out  chan string   // answers and messages to be written
	done chan struct{} // closed when the line ends
	end  sync.Once

	mu         sync.Mutex // guards subscribed
	subscribed map[string]bool
}

// lineQueue is how many answers and messages may wait for the other end: more than there are commands, so that a command
// can be read while the other end is not reading answers; a pipe has no buffer of its own.
const lineQueue = 64

var errLineEnded = errors.New("realtime: the line has ended")

func newLine(conn net.Conn) *line {
	return &line{conn: conn, out: make(chan string, lineQueue), done: make(chan struct{}), subscribed: map[string]bool{}}
}

func (l *line) close() {
	l.end.Do(func() {
		close(l.done)
		_ = l.conn.Close()
	})
}

// write sends what is queued until the line ends.
func (l *line) write() {
	defer l.close()
	for {
		select {
		case text := <-l.out:
			if _, err := io.WriteString(l.conn, text); err != nil {
				return
			}
		case <-l.done:
			return
		}
	}
}

// serve answers commands until the connection ends.
func (l *line) serve() {
	defer l.close()
	commands := bufio.NewReader(l.conn)
	for {
		words, err := readCommand(commands)
		if err != nil {
			return
		}
		if err := l.answer(words); err != nil {
			return
		}
	}
}

func (l *line) answer(words []string) error {
	switch name := strings.ToLower(words[0]); name {
	case "subscribe", "psubscribe":
		return l.change(name, words[1:], true)
	case "unsubscribe", "punsubscribe":
		return l.change(name, words[1:], false)
	case "ping":
		return l.send(array("pong", ""))
	default: // HELLO among them: the client then speaks RESP 2
		return l.send("-ERR unknown command\r\n")
	}
}

func (l *line) change(name string, channels []string, on bool) error {
	for _, channel := range channels {
		l.mu.Lock()
		if on {
			l.subscribed[channel] = true
		} else {
			delete(l.subscribed, channel)
		}
		count := len(l.subscribed)
		l.mu.Unlock()
		if err := l.send(fmt.Sprintf("*3\r\n%s%s:%d\r\n", bulk(name), bulk(channel), count)); err != nil {
			return err
		}
	}
	return nil
}

// publish sends a message if the other end wants it: by the pattern, or by the channel when pattern is empty.
func (l *line) publish(pattern, channel, payload string) {
	wanted := channel
	if pattern != "" {
		wanted = pattern
	}
	l.mu.Lock()
	subscribed := l.subscribed[wanted]
	l.mu.Unlock()
	if !subscribed {
		return
	}
	message := array("message", channel, payload)
	if pattern != "" {
		message = array("pmessage", pattern, channel, payload)
	}
	_ = l.send(message) // nobody is left to hear it
}

// send queues a text, and waits while too much is queued.
func (l *line) send(text string) error {
	select {
	case l.out <- text:
		return nil
	case <-l.done:
		return errLineEnded
	}
}

func bulk(s string) string { return "$" + strconv.Itoa(len(s)) + "\r\n" + s + "\r\n" }

func array(words ...string) string {
	var b strings.Builder
	b.WriteString("*" + strconv.Itoa(len(words)) + "\r\n")
	for _, w := range words {
		b.WriteString(bulk(w))
	}
	return b.String()
}

// readCommand reads one array of bulk strings. The other end is go-redis in the same process; the limits only keep a
// mistake from becoming a large one.
func readCommand(r *bufio.Reader) ([]string, error) {
	const mostWords, mostBytes = 1024, 1 << 20
	count, err := readCount(r, '*', mostWords)
	if err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, errors.New("realtime: an empty command")
	}
	words := make([]string, count)
	for i := range words {
		size, err := readCount(r, '$', mostBytes)
		if err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(r, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:size])
	}
	return words, nil
}

func readCount(r *bufio.Reader, kind byte, most int) (int, error) {
	text, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	text = strings.TrimSuffix(text, "\r\n")
	if text == "" || text[0] != kind {
		return 0, fmt.Errorf("realtime: want %q in a command, got %q", kind, text)
	}
	count, err := strconv.Atoi(text[1:])
	if err != nil || count < 0 || count > most {
		return 0, fmt.Errorf("realtime: a count of %q in a command", text[1:])
	}
	return count, nil
}
