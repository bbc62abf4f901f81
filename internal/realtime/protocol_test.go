package realtime

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// What RFC 6455 demands of a server, as a client that may break it sees it.

const (
	closeNormal   = 1000
	closeProtocol = 1002
	closeInvalid  = 1007
	closeTooBig   = 1009
)

func TestWebSocketHandshake(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	wire, response, err := tryWire(t, n, "EIO=4&transport=websocket", 0)
	require.NoError(t, err)
	_ = response.Body.Close()
	require.NotNil(t, wire)
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", response.Header.Get("Sec-Websocket-Accept"), "as in RFC 6455, 1.3")
	require.Empty(t, response.Header.Get("Sec-Websocket-Extensions"))
	require.Empty(t, response.Header.Get("Sec-Websocket-Protocol"))
	opening := parseOpening(t, wire.text())
	require.Equal(t, openingPacket{
		SID: opening.SID, Upgrades: []string{}, PingInterval: 25000, PingTimeout: 20000, MaxPayload: 64 << 10,
	}, opening)

	good := upgradeRequest(n.address(), "EIO=4&transport=websocket")
	for name, change := range map[string][2]string{
		"another version":   {"Version: 13", "Version: 8"},
		"no version":        {"Sec-WebSocket-Version: 13\r\n", ""},
		"no key":            {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""},
		"a short key":       {"dGhlIHNhbXBsZSBub25jZQ==", "dGhl"},
		"no upgrade":        {"Upgrade: websocket\r\n", ""},
		"no connection":     {"Connection: Upgrade\r\n", ""},
		"another method":    {"GET", "POST"},
		"no EIO":            {"EIO=4&", ""},
		"EIO of 2014":       {"EIO=4", "EIO=3"},
		"EIO of letters":    {"EIO=4", "EIO=abc"},
		"no transport":      {"&transport=websocket", ""},
		"unknown transport": {"transport=websocket", "transport=abc"},
		"no such session":   {"transport=websocket", "transport=websocket&sid=abc"},
		"an odd session":    {"transport=websocket", "transport=websocket&sid=" + strings.Repeat("%2e", 500)},
	} {
		t.Run(name, func(t *testing.T) {
			request := strings.Replace(good, change[0], change[1], 1)
			require.NotEqual(t, good, request)
			conn, err := dialTCP(testkit.Context(t), n, 0)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			status, in := exchange(t, conn, request)
			if status == http.StatusSwitchingProtocols { // then it ends before a session begins
				f, err := readFrame(in)
				require.True(t, err != nil || f.opcode == opClose, "%+v", f)
				return
			}
			require.Contains(t, []int{http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUpgradeRequired}, status)
		})
	}
}

func TestWebSocketRules(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) { o.Limits.SocketsPerUser = 1000 })
	token := w.user(1, 10)
	unmasked := append([]byte{finBit | opText, 4}, `42["`...)
	headOf := func(length uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{finBit | opText, maskBit | 127}, length), 1, 2, 3, 4)
	}
	type violation struct {
		bytes []byte
		codes []int // any of them
	}
	protocol := []int{closeProtocol}
	cases := map[string]violation{
		"unmasked text":                   {unmasked, protocol},
		"unmasked ping":                   {[]byte{finBit | opPing, 0}, protocol},
		"RSV1":                            {frameOf(finBit|0x40|opText, []byte("3")), protocol},
		"RSV2":                            {frameOf(finBit|0x20|opText, []byte("3")), protocol},
		"RSV3":                            {frameOf(finBit|0x10|opText, []byte("3")), protocol},
		"RSV1 on a ping":                  {frameOf(finBit|0x40|opPing, nil), protocol},
		"a continuation without start":    {frameOf(finBit|opContinuation, []byte("3")), protocol},
		"an unfinished one without start": {frameOf(opContinuation, []byte("3")), protocol},
		"a text within a text":            {join(frameOf(opText, []byte("4")), textFrame("3")), protocol},
		"a fragmented ping":               {frameOf(opPing, []byte("x")), protocol},
		"a fragmented close":              {frameOf(opClose, nil), protocol},
		"a ping of 126 bytes":             {frameOf(finBit|opPing, make([]byte, 126)), protocol},
		"a pong of 126 bytes":             {frameOf(finBit|opPong, make([]byte, 126)), protocol},
		"a close of 126 bytes":            {frameOf(finBit|opClose, append([]byte{3, 232}, make([]byte, 124)...)), protocol},
		"a close of one byte":             {frameOf(finBit|opClose, []byte{3}), protocol},
		"a close with a bad reason":       {closeFrameOf(closeNormal, "\xff"), []int{closeInvalid, closeProtocol}},
		"invalid UTF-8":                   {textFrame("42[\"\xff\"]"), []int{closeInvalid}},
		"UTF-8 cut short":                 {textFrame("42[\"\xe2\x82"), []int{closeInvalid}},
		"a surrogate":                     {textFrame("42[\"\xed\xa0\x80\"]"), []int{closeInvalid}},
		"an overlong form":                {textFrame("42[\"\xc0\xaf\"]"), []int{closeInvalid}},
		"above the last code point":       {textFrame("42[\"\xf4\x90\x80\x80\"]"), []int{closeInvalid}},
		"invalid UTF-8 over two frames":   {join(frameOf(opText, []byte("42[\"\xe2")), frameOf(finBit|opContinuation, []byte("\"]"))), []int{closeInvalid}},
		"64 KiB and one byte":             {textFrame(strings.Repeat("x", 64<<10+1)), []int{closeTooBig}},
		"64 KiB and one byte, in parts":   {join(frameOf(opText, make([]byte, 40<<10)), frameOf(finBit|opContinuation, make([]byte, 24<<10+1))), []int{closeTooBig}},
		"only the head of 16 MiB":         {headOf(16 << 20), []int{closeTooBig}},
		"only the head of 2^62 bytes":     {headOf(1 << 62), []int{closeTooBig}},
		"a length with the highest bit":   {headOf(1 << 63), []int{closeProtocol, closeTooBig}},
		"an endless message":              {join(frameOf(opText, []byte("4")), bytes.Repeat(frameOf(opContinuation, make([]byte, 1000)), 70)), []int{closeTooBig}},
	}
	for _, opcode := range []byte{3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF} {
		cases[fmt.Sprintf("opcode %X", opcode)] = violation{frameOf(finBit|opcode, nil), protocol}
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases[fmt.Sprintf("close code %d", code)] = violation{closeFrameOf(code, ""), protocol}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := joinWire(t, n, token)
			client.alive(1)
			client.raw(c.bytes)
			require.Contains(t, c.codes, client.ended())
		})
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestWebSocketFragmentsAndControlFrames(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	c := joinWire(t, n, w.user(1, 10))

	pong := func(payload string) {
		t.Helper()
		f, err := c.frame()
		require.NoError(t, err)
		require.Equal(t, wireFrame{fin: true, opcode: opPong, payload: []byte(payload)}, f)
	}
	for _, payload := range []string{"", "x", "2probe", "\xff\x00", strings.Repeat("p", 125)} {
		c.raw(frameOf(finBit|opPing, []byte(payload)))
		pong(payload)
	}
	c.raw(frameOf(finBit|opPong, []byte("nobody asked")), frameOf(finBit|opPong, nil))
	c.alive(1)

	// A message in pieces, with pings in between, one of them within a character; empty pieces too.
	c.raw(frameOf(opText, []byte("422[\"\xe2")), frameOf(finBit|opPing, []byte("within")))
	pong("within")
	c.raw(frameOf(opContinuation, nil), frameOf(opContinuation, []byte("\x82")), frameOf(finBit|opPong, nil))
	c.raw(frameOf(opContinuation, []byte("\xac\"")), frameOf(finBit|opPing, nil), frameOf(finBit|opContinuation, []byte("]")))
	pong("")
	require.Contains(t, c.text(), `432[{"ok":false`)

	// Every byte by itself, then everything in one segment.
	c = joinWire(t, n, w.user(1, 11))
	event := []byte(`427["subscribe:chat",{"chatId":1001}]`)
	all := join(frameOf(opText, event[:9]), frameOf(finBit|opPing, []byte("!")), frameOf(opContinuation, nil), frameOf(finBit|opContinuation, event[9:]))
	require.NoError(t, c.conn.SetNoDelay(true))
	for _, b := range all {
		c.raw([]byte{b})
	}
	pong("!")
	require.Equal(t, `437[{"ok":true}]`, c.text())
	var many [][]byte
	for i := range 50 {
		many = append(many, textFrame(fmt.Sprintf(`42%d["unsubscribe:chat",{"chatId":1001}]`, i)))
	}
	c.raw(many...)
	for i := range 50 {
		require.Equal(t, fmt.Sprintf(`43%d[{"ok":true}]`, i), c.text())
	}

	// The largest message there may be.
	c = joinWire(t, n, w.user(1, 12))
	head, tail := `427["x","`, `"]`
	c.send(head + strings.Repeat("y", 64<<10-len(head)-len(tail)) + tail)
	require.Contains(t, c.text(), `437[{"ok":false`)
	c.alive(8)
}

// A conversation cut at every place arrives as if it were whole.
func TestWebSocketSplitAtEveryByte(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	c := joinWire(t, n, w.user(1, 10))
	long := strings.Repeat("z", 130) // a length of two bytes
	frames := join(
		frameOf(finBit|opPing, []byte("a")),
		frameOf(opText, []byte(`42`)), frameOf(finBit|opContinuation, []byte(`5["`+long+`"]`)),
	)
	for i := 1; i < len(frames); i++ {
		c.raw(frames[:i])
		c.raw(frames[i:])
		var answers []string // in either order
		for range 2 {
			f, err := c.frame()
			require.NoError(t, err, "cut at %d", i)
			answers = append(answers, fmt.Sprintf("%x %.4s", f.opcode, f.payload))
		}
		require.ElementsMatch(t, []string{"a a", "1 435["}, answers, "cut at %d", i)
		if i%40 == 0 { // at most 100 events a second of one socket: go on with another
			c = joinWire(t, n, w.user(1, 10))
		}
	}
}

func TestWebSocketCloseHandshake(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	left := func(t *testing.T) {
		t.Helper()
		testkit.Eventually(t, "the end of the session", func() bool { return n.ConnectedClients() == 0 && n.Rooms() == 0 })
	}
	for name, c := range map[string]struct {
		sent []byte
		code int
	}{
		"normal":      {closeFrameOf(closeNormal, "bye"), closeNormal},
		"going away":  {closeFrameOf(1001, ""), 1001},
		"a library's": {closeFrameOf(3000, ""), 3000},
		"one's own":   {closeFrameOf(4999, strings.Repeat("r", 123)), 4999},
		"empty":       {frameOf(finBit|opClose, nil), noCode},
	} {
		t.Run("echo of "+name, func(t *testing.T) {
			client := joinWire(t, n, w.user(1, 10))
			client.raw(c.sent)
			require.Equal(t, c.code, client.ended())
			left(t)
		})
	}
	t.Run("what follows a close is not heard", func(t *testing.T) {
		client := joinWire(t, n, w.user(1, 10))
		client.raw(closeFrameOf(closeNormal, ""), textFrame(`420["subscribe:chat",{"chatId":1001}]`))
		require.Equal(t, closeNormal, client.ended(), "and not answered")
		left(t)
	})
	t.Run("half-close", func(t *testing.T) {
		client := joinWire(t, n, w.user(1, 10))
		require.NoError(t, client.conn.CloseWrite())
		began := time.Now()
		client.ended()
		left(t)
		require.Less(t, time.Since(began), testkit.Slack(2*time.Second))
	})
	t.Run("half-close within a frame", func(t *testing.T) {
		client := joinWire(t, n, w.user(1, 10))
		client.raw(textFrame(`42["x"]`)[:7])
		require.NoError(t, client.conn.CloseWrite())
		client.ended()
		left(t)
	})
	t.Run("reset", func(t *testing.T) {
		client := joinWire(t, n, w.user(1, 10))
		require.NoError(t, client.conn.SetLinger(0))
		require.NoError(t, client.conn.Close())
		left(t)
	})
	t.Run("during the handshake", func(t *testing.T) {
		client := openWire(t, n)
		client.raw(closeFrameOf(closeNormal, ""))
		require.Equal(t, closeNormal, client.ended())
		left(t)
	})
}

// Frames before the server has answered the upgrade are refused or heard, but never keep anything waiting.
func TestWebSocketEagerClient(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	conn, err := dialTCP(testkit.Context(t), n, 0)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(wirePatience)))
	eager := &wire{t: t, conn: conn, in: bufio.NewReader(conn)}
	eager.raw([]byte(upgradeRequest(n.address(), "EIO=4&transport=websocket")), textFrame(`40{"token":"`+w.user(1, 10)+`"}`))
	response, err := http.ReadResponse(eager.in, nil)
	if err == nil && response.StatusCode == http.StatusSwitchingProtocols {
		_ = response.Body.Close()
		require.True(t, strings.HasPrefix(eager.text(), "0{"))
		require.True(t, strings.HasPrefix(eager.text(), "40{"))
		eager.alive(1)
		_ = conn.Close()
	} else if err == nil {
		_ = response.Body.Close()
	}
	testkit.Eventually(t, "nothing to be left", func() bool { return n.ConnectedClients() == 0 })
}
