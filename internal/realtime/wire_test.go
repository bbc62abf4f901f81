package realtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// Opcodes of RFC 6455.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// finBit and maskBit are set in the first and the second byte of a frame.
const (
	finBit  = 0x80
	maskBit = 0x80
)

// wirePatience is how long a raw client waits for one answer.
const wirePatience = 10 * time.Second

// wire is a WebSocket client that sends bytes and reads frames: it can break every rule, and sees what the server really
// sends. It knows nothing of the server's libraries.
type wire struct {
	t    testing.TB
	conn *net.TCPConn
	in   *bufio.Reader
}

// wireFrame is one frame from the server.
type wireFrame struct {
	fin     bool
	rsv     byte
	opcode  byte
	payload []byte
}

// dialTCP opens a connection to the node. A receiveBuffer above 0 keeps the kernel from taking much for a client that does
// not read.
func dialTCP(ctx context.Context, n *testNode, receiveBuffer int) (*net.TCPConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.address())
	if err != nil {
		return nil, err
	}
	tcp, isTCP := conn.(*net.TCPConn)
	if !isTCP {
		return nil, errors.New("not a TCP connection")
	}
	if receiveBuffer > 0 {
		err = tcp.SetReadBuffer(receiveBuffer)
	}
	return tcp, err
}

// upgradeRequest asks for a WebSocket.
func upgradeRequest(host, query string) string {
	return "GET /socket.io/?" + query + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// tryWire upgrades a connection. When the server refuses, it returns the response.
func tryWire(t testing.TB, n *testNode, query string, receiveBuffer int) (*wire, *http.Response, error) {
	t.Helper()
	conn, err := dialTCP(testkit.Context(t), n, receiveBuffer)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	w := &wire{t: t, conn: conn, in: bufio.NewReader(conn)}
	if err := conn.SetDeadline(time.Now().Add(wirePatience)); err != nil {
		return nil, nil, err
	}
	if _, err := io.WriteString(conn, upgradeRequest(n.address(), query)); err != nil {
		return nil, nil, err
	}
	response, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, response, nil
	}
	return w, response, nil
}

// exchange sends an HTTP request as it is written, and returns the status of the response and what follows it.
func exchange(t testing.TB, conn *net.TCPConn, request string) (status int, in *bufio.Reader) {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(wirePatience)))
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	in = bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	_ = response.Body.Close()
	return response.StatusCode, in
}

// dialWire opens a WebSocket with the query and reads nothing yet.
func dialWire(t testing.TB, n *testNode, query string) *wire {
	t.Helper()
	w, response, err := tryWire(t, n, query, 0)
	require.NoError(t, err)
	require.NotNil(t, w, "refused with %v", response)
	_ = response.Body.Close()
	return w
}

// openWire opens an Engine.IO session.
func openWire(t testing.TB, n *testNode) *wire {
	t.Helper()
	w := dialWire(t, n, "EIO=4&transport=websocket")
	require.True(t, strings.HasPrefix(w.text(), "0{"))
	return w
}

// joinWire opens a session and joins the default namespace.
func joinWire(t testing.TB, n *testNode, token string) *wire {
	t.Helper()
	w := openWire(t, n)
	w.send(fmt.Sprintf(`40{"token":%q}`, token))
	require.True(t, strings.HasPrefix(w.text(), `40{"sid":"`))
	return w
}

// frameOf makes a masked frame. first holds FIN, the reserved bits and the opcode.
func frameOf(first byte, payload []byte) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	head := []byte{first}
	switch n := len(payload); {
	case n < 126:
		head = append(head, maskBit|byte(n))
	case n <= 0xffff:
		head = binary.BigEndian.AppendUint16(append(head, maskBit|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, maskBit|127), uint64(n))
	}
	head = append(head, mask[:]...)
	for i, b := range payload {
		head = append(head, b^mask[i%4])
	}
	return head
}

func textFrame(text string) []byte { return frameOf(finBit|opText, []byte(text)) }

func closeFrameOf(code uint16, reason string) []byte {
	return frameOf(finBit|opClose, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

// raw sends bytes as they are. It may fail once the server has had enough.
func (w *wire) raw(pieces ...[]byte) { _, _ = w.conn.Write(bytes.Join(pieces, nil)) }

// send sends a text message.
func (w *wire) send(text string) { w.raw(textFrame(text)) }

// frame reads the next frame.
func (w *wire) frame() (wireFrame, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(wirePatience)); err != nil {
		return wireFrame{}, err
	}
	return readFrame(w.in)
}

// readFrame reads a frame of a server. An error says when that breaks RFC 6455.
func readFrame(in io.Reader) (wireFrame, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return wireFrame{}, err
	}
	f := wireFrame{fin: head[0]&finBit != 0, rsv: head[0] & 0x70, opcode: head[0] & 0x0f}
	if head[1]&maskBit != 0 {
		return f, errors.New("a server must not mask")
	}
	length := uint64(head[1])
	if length >= 126 {
		width := map[uint64]int{126: 2, 127: 8}[length]
		var extended [8]byte
		if _, err := io.ReadFull(in, extended[8-width:]); err != nil {
			return f, err
		}
		least := map[int]uint64{2: 126, 8: 1 << 16}[width]
		if length = binary.BigEndian.Uint64(extended[:]); length < least {
			return f, errors.New("the length is not in its shortest form")
		}
	}
	if f.opcode >= opClose && (length > 125 || !f.fin) {
		return f, errors.New("a control frame that is long or fragmented")
	}
	f.payload = make([]byte, length)
	_, err := io.ReadFull(in, f.payload)
	return f, err
}

// message reads the next text message; other frames but fragments of text are a failure.
func (w *wire) message() (string, error) {
	var text []byte
	for started := false; ; started = true {
		f, err := w.frame()
		if err != nil {
			return "", err
		}
		want := byte(opText)
		if started {
			want = opContinuation
		}
		if f.opcode != want || f.rsv != 0 {
			return "", fmt.Errorf("want a text message, got frame %+v", f)
		}
		if text = append(text, f.payload...); f.fin {
			return string(text), nil
		}
	}
}

// text is message, which must come.
func (w *wire) text() string {
	w.t.Helper()
	text, err := w.message()
	require.NoError(w.t, err)
	return text
}

// alive checks that the joined socket still works.
func (w *wire) alive(id int) {
	w.t.Helper()
	w.send(fmt.Sprintf(`42%d["unsubscribe:chat",{"chatId":1001}]`, id))
	require.Equal(w.t, fmt.Sprintf(`43%d[{"ok":true}]`, id), w.text())
}

// noCode is what ended says when the connection ended without a close frame, or with an empty one.
const (
	noCloseFrame = -1
	noCode       = 0
)

// ended reads until the server has closed the connection, and returns the code of its close frame. That the server keeps the
// connection, or sends something behind its close frame, fails the test.
func (w *wire) ended() int {
	w.t.Helper()
	code := noCloseFrame
	for {
		f, err := w.frame()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				w.t.Fatal("the server keeps the connection")
			}
			return code
		}
		if code != noCloseFrame {
			w.t.Fatalf("a frame behind the close frame: %+v", f)
		}
		if f.opcode != opClose {
			continue
		}
		code = noCode
		if len(f.payload) >= 2 {
			code = int(binary.BigEndian.Uint16(f.payload))
		}
	}
}

// poller is a long-polling client that does one request at a time, as it is told.
type poller struct {
	t   testing.TB
	n   *testNode
	sid string
}

// opening is the packet that opens an Engine.IO session.
type openingPacket struct {
	SID          string   `json:"sid"`
	Upgrades     []string `json:"upgrades"`
	PingInterval int64    `json:"pingInterval"`
	PingTimeout  int64    `json:"pingTimeout"`
	MaxPayload   int64    `json:"maxPayload"`
}

func parseOpening(t testing.TB, text string) openingPacket {
	t.Helper()
	require.True(t, strings.HasPrefix(text, "0"), text)
	var o openingPacket
	decoder := json.NewDecoder(strings.NewReader(text[1:]))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&o))
	require.NotEmpty(t, o.SID)
	return o
}

func openPoller(t testing.TB, n *testNode) *poller {
	t.Helper()
	p := &poller{t: t, n: n}
	status, body := p.poll()
	require.Equal(t, http.StatusOK, status, body)
	p.sid = parseOpening(t, body).SID
	return p
}

func joinPoller(t testing.TB, n *testNode, token string) *poller {
	t.Helper()
	p := openPoller(t, n)
	status, body := p.post(fmt.Sprintf(`40{"token":%q}`, token))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ok", body)
	_, body = p.poll()
	require.True(t, strings.HasPrefix(body, `40{"sid":"`), body)
	return p
}

func (p *poller) query() string {
	if p.sid == "" {
		return "EIO=4&transport=polling"
	}
	return "EIO=4&transport=polling&sid=" + p.sid
}

// poll is a GET; it waits until the server has something to say.
func (p *poller) poll() (status int, body string) {
	p.t.Helper()
	status, body, err := p.do(testkit.Context(p.t), http.MethodGet, http.NoBody, "")
	require.NoError(p.t, err)
	return status, body
}

// post sends packets.
func (p *poller) post(body string) (status int, answer string) {
	p.t.Helper()
	status, answer, err := p.do(testkit.Context(p.t), http.MethodPost, strings.NewReader(body), "text/plain;charset=UTF-8")
	require.NoError(p.t, err)
	return status, answer
}

func (p *poller) do(ctx context.Context, method string, body io.Reader, contentType string) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, p.n.url+"/socket.io/?"+p.query(), body)
	if err != nil {
		return 0, "", err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	response, err := p.n.http.Client().Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	return response.StatusCode, string(raw), err
}

// gone checks that the session has ended.
func (p *poller) gone() {
	p.t.Helper()
	status, body := p.poll()
	require.Equal(p.t, http.StatusBadRequest, status, body)
	require.JSONEq(p.t, `{"code":1,"message":"Session ID unknown"}`, body)
}
