package realtime

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"switchboard/internal/testkit"
)

// F11: everything that is wrong, from seeded random choices, by sockets and by Redis, beside healthy clients that may miss
// nothing and wait for nothing. Afterwards nothing of it is left.

const (
	hostileWorkers = 4
	// healthyOrganization is a number that no mutation of a foreign event arrives at.
	healthyOrganization = 123456789
	hostileP99          = 500 * time.Millisecond
	hostileHeap         = 16 << 20
	// attackPatience is how long an attacker waits for anything.
	attackPatience = 200 * time.Millisecond
)

func TestFaultF11_Hostile(t *testing.T) {
	rounds := 150 // of each worker
	if testkit.Full() {
		rounds = 10_000
	}
	w := redisWorld(t)
	n := w.node(func(o *Options) {
		o.Limits.SocketsPerUser, o.Limits.ConnectTimeout = 1000, 2*time.Second
		o.Limits.PingInterval, o.Limits.PingTimeout = time.Second, 5*time.Second
	})
	healthy := readFast(joinWire(t, n, w.user(healthyOrganization, 1)))
	official := []*testkit.SocketClient{
		testkit.Connect(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": w.user(healthyOrganization, 2)}, Transports: []string{"websocket"}, LedgerOnly: true}),
		testkit.Connect(t, testkit.ClientOptions{URL: n.url, Auth: map[string]any{"token": w.user(healthyOrganization, 3)}, Transports: []string{"polling"}, LedgerOnly: true}),
	}
	for _, c := range official {
		w.quiet(c)
	}
	w.log.commitMany(7, 50)
	attack := attacker{w: w, n: n, token: w.user(7, 70)}
	attack.round(testkit.Rand(t)) // what is made once is there before anything is counted
	testkit.Eventually(t, "quiet", func() bool { return n.ConnectedClients() == 3 })
	goroutines, heap := runtime.NumGoroutine(), liveHeap()-w.kept()

	last := w.pump(n.Emitter(), healthyOrganization, 20*time.Millisecond, func(i int) any { return message(healthyOrganization, i) })
	began := time.Now()
	var workers sync.WaitGroup
	for range hostileWorkers {
		random := testkit.Rand(t)
		workers.Go(func() {
			for range rounds {
				attack.round(random)
			}
		})
	}
	workers.Wait()
	took, end := time.Since(began), last()
	latencies := healthy.wait(t, end)
	slices.Sort(latencies)
	p99 := latencies[len(latencies)*99/100]
	for _, c := range official {
		expectLedger(t, c, 1, end)
		require.Equal(t, 1, c.Connections(), "a healthy client was disturbed")
	}
	t.Logf("%d attacks in %s beside %d events: p99 %s", hostileWorkers*rounds, took.Round(time.Millisecond), end, p99)
	require.Less(t, p99, testkit.Slack(hostileP99))
	require.NotContains(t, w.logged.String(), "caused a panic")

	testkit.Eventually(t, "the connections to be gone", func() bool { return n.ConnectedClients() == 3 })
	n.http.Client().CloseIdleConnections()
	const spare = 5 // of the runtime, timers that are about to fire
	testkit.Eventually(t, "the goroutines to be as before", func() bool { return runtime.NumGoroutine() <= goroutines+spare })
	testkit.Eventually(t, "the heap to be as before", func() bool { return liveHeap()-w.kept() < heap+hostileHeap })
	n.mu.RLock()
	defer n.mu.RUnlock()
	require.Len(t, n.sessions, 3)
	require.Empty(t, n.perUser[70])
}

type attacker struct {
	w     *world
	n     *testNode
	token string
}

// round is one attack, chosen by random.
func (a *attacker) round(random *rand.Rand) {
	switch random.IntN(8) {
	case 0:
		a.rawTCP(random)
	case 1:
		a.request(random)
	case 2:
		a.frames(random, false)
	case 3, 4:
		a.frames(random, true)
	case 5, 6:
		a.packets(random)
	default:
		a.redis(random)
	}
}

func (a *attacker) dial() net.Conn {
	conn, err := net.Dial("tcp", a.n.address()) //nolint:noctx // a deadline follows
	if err != nil {
		a.w.t.Errorf("dial: %v", err)
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(attackPatience))
	return conn
}

// rawTCP sends what is hardly HTTP.
func (a *attacker) rawTCP(random *rand.Rand) {
	conn := a.dial()
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write(mutate(random, []byte(upgradeRequest(a.n.address(), "EIO=4&transport=websocket"))))
	_, _ = io.CopyN(io.Discard, conn, int64(random.IntN(2)))
}

// request sends a polling request that is wrong somewhere.
func (a *attacker) request(random *rand.Rand) {
	queries := []string{
		"EIO=4&transport=polling", "EIO=4&transport=polling&sid=x", "EIO=5&transport=polling", "transport=polling", "EIO=4&transport=websocket",
		"EIO=4&transport=polling&t=" + strings.Repeat("x", 3000), "EIO=4&transport=polling&b64=1&j=0", "%zz", "EIO=4;transport=polling",
	}
	p := &poller{t: a.w.t, n: a.n}
	if random.IntN(2) == 0 { // within a session
		status, body, err := p.do(a.w.t.Context(), http.MethodGet, http.NoBody, "")
		if err != nil || status != http.StatusOK {
			return
		}
		p.sid = strings.Split(strings.SplitN(body, `"sid":"`, 2)[1], `"`)[0]
		for range 1 + random.IntN(3) {
			packets := []string{fmt.Sprintf(`40{"token":%q}`, a.token), a.packet(random)}
			_, _, _ = p.do(a.w.t.Context(), http.MethodPost, strings.NewReader(string(mutate(random, []byte(strings.Join(packets, separator))))), "text/plain")
		}
		_, _, _ = p.do(a.w.t.Context(), http.MethodPost, strings.NewReader(closePacket), "text/plain")
		return
	}
	conn := a.dial()
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	method := []string{"GET", "POST", "PUT", "HEAD", "OPTIONS", "BREW"}[random.IntN(6)]
	_, _ = fmt.Fprintf(conn, "%s /socket.io/?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n4", method, queries[random.IntN(len(queries))], random.IntN(100_000))
	_, _ = io.CopyN(io.Discard, conn, 1)
}

// frames sends frames that are wrong, before or after joining.
func (a *attacker) frames(random *rand.Rand, joined bool) {
	conn := a.upgrade()
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	var all []byte
	if joined {
		all = append(all, textFrame(fmt.Sprintf(`40{"token":%q,"lastSeq":%s}`, a.token, lastSeqs[random.IntN(len(lastSeqs))]))...)
	}
	for range 1 + random.IntN(10) {
		frame := frameOf(byte(random.IntN(256)), []byte(a.packet(random)))
		if random.IntN(2) == 0 {
			frame = mutate(random, textFrame(a.packet(random)))
		}
		all = append(all, frame...)
	}
	if random.IntN(10) == 0 { // endless
		for range 300 {
			all = append(all, frameOf(opContinuation, make([]byte, 1000))...)
		}
	}
	for len(all) > 0 {
		size := min(len(all), 1+random.IntN(2000))
		if _, err := conn.Write(all[:size]); err != nil {
			return
		}
		all = all[size:]
	}
	a.leave(random, conn)
}

var lastSeqs = []string{"0", "25", "-1", "51", "1e300", "9007199254740991", `"25"`, "null", "[]", "{}", "true", "25.5", "-0", "00"}

// packets joins properly and then says what makes no sense.
func (a *attacker) packets(random *rand.Rand) {
	conn := a.upgrade()
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write(textFrame(fmt.Sprintf(`40{"token":%q,"lastSeq":0}`, a.token)))
	for range 1 + random.IntN(30) {
		text := a.packet(random)
		if random.IntN(3) == 0 {
			text = strings.ToValidUTF8(string(mutate(random, []byte(text))), "?")
		}
		if _, err := conn.Write(textFrame(text)); err != nil {
			return
		}
	}
	a.leave(random, conn)
}

// upgrade opens a WebSocket whose answers nobody looks at.
func (a *attacker) upgrade() net.Conn {
	conn := a.dial()
	if conn == nil {
		return nil
	}
	_, _ = io.WriteString(conn, upgradeRequest(a.n.address(), "EIO=4&transport=websocket"))
	var head [16]byte
	_, _ = io.ReadFull(conn, head[:])
	return conn
}

// leave ends a connection in one of several ways.
func (a *attacker) leave(random *rand.Rand, conn net.Conn) {
	tcp, isTCP := conn.(*net.TCPConn)
	switch {
	case !isTCP:
	case random.IntN(3) == 0:
		_ = tcp.SetLinger(0)
	case random.IntN(2) == 0:
		_ = tcp.CloseWrite()
		_, _ = io.CopyN(io.Discard, conn, 1000)
	default:
		_, _ = conn.Write(closeFrameOf(uint16(random.IntN(6000)), ""))
	}
}

// packet is an Engine.IO packet that is well-formed, more or less.
func (a *attacker) packet(random *rand.Rand) string {
	depth := random.IntN(20_000)
	id := random.Uint64()
	packets := []string{
		`42["subscribe:chat",{"chatId":7001}]`, `420["sync",{"after":0}]`, `421["sync",{"after":-5,"epoch":7}]`, `42["typing:start",{"chatId":1e308}]`,
		`42["subscribe:chat",` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `]`,
		`42["subscribe:chat",` + strings.Repeat(`{"a":`, depth/3) + "1" + strings.Repeat("}", depth/3) + `]`,
		fmt.Sprintf(`43%d["x"]`, id), fmt.Sprintf(`42%d["sync",{"after":1}]`, id), strings.Repeat(`430[]`, random.IntN(50)),
		`40/nowhere,`, `40/` + strings.Repeat("n", random.IntN(2000)), `41/nowhere,`, `42/nowhere,["x"]`, `44{"message":"x"}`,
		`450-["x"]`, `451-["x",{"_placeholder":true,"num":0}]`, `4599999999-["x"]`, `461-1[{"_placeholder":true,"num":0}]`, "bAAAA",
		"0", "1", "2", "2probe", "3", "3probe", "4", "5", "6", "7", "", "40", "41", `40{"token":{}}`,
		`42["` + strings.Repeat("x", random.IntN(70_000)) + `"]`, `42["__proto__",{"constructor":1}]`, `42[1,2,3]`, "42[null]", `42["disconnect"]`,
	}
	return packets[random.IntN(len(packets))]
}

// redis publishes what no node of ours would.
func (a *attacker) redis(random *rand.Rand) {
	channels := []string{"socket.io#/#", "socket.io#/#org_7#", "socket.io-request#/#", "socket.io-response#/#", "socket.io#/##"}
	packed, err := msgpack.Marshal([]any{"uid", map[string]any{"type": 2, "nsp": "/", "data": []any{"n", 1.5, nil, []byte{1}}}, map[string]any{"rooms": []string{"org_7"}}})
	if err != nil {
		a.w.t.Errorf("pack: %v", err)
		return
	}
	messages := [][]byte{
		{0xc0},
		{},
		packed, []byte(`{"type":6,"data":["event",7777777,1,"n",{},"2026-01-01T00:00:00.000Z","epoch-1"]}`),
		[]byte(`{"type":4,"opts":{"rooms":["org_7"]},"close":true}`), []byte(`{"type":2,"opts":{"rooms":["org_7"]},"rooms":["x"]}`),
		[]byte(strings.Repeat("[", random.IntN(100_000))),
	}
	message := messages[random.IntN(len(messages))]
	if random.IntN(4) > 0 {
		message = mutate(random, message)
	}
	channel := channels[random.IntN(len(channels))]
	// An order to everyone is an order: who may publish may disconnect. What is tested is that nonsense is none.
	if strings.Contains(string(message), `"type":4`) && !strings.Contains(string(message), `"rooms":["org_7"]`) {
		return
	}
	if err := a.w.redis.Publish(a.w.t.Context(), channel, message).Err(); err != nil {
		a.w.t.Errorf("publish: %v", err)
	}
}

// mutate changes some bytes of a copy: flipped, dropped, doubled, cut off, put in.
func mutate(random *rand.Rand, valid []byte) []byte {
	b := slices.Clone(valid)
	for range 1 + random.IntN(4) {
		if len(b) == 0 {
			return append(b, byte(random.IntN(256)))
		}
		at := random.IntN(len(b))
		switch random.IntN(6) {
		case 0:
			b[at] ^= 1 << random.IntN(8)
		case 1:
			b[at] = byte(random.IntN(256))
		case 2:
			b = slices.Delete(b, at, at+1)
		case 3:
			b = slices.Insert(b, at, byte(random.IntN(256)))
		case 4:
			b = b[:at]
		default:
			size := min(random.IntN(64), len(b)-at)
			b = slices.Insert(b, at, slices.Clone(b[at:at+size])...)
		}
	}
	return b
}

// FuzzWire sends bytes behind a finished upgrade. Whatever they are, the server answers by the rules, and lets others in.
func FuzzWire(f *testing.F) {
	w, _ := miniWorld(f)
	n := w.node(func(o *Options) { o.Limits.SocketsPerUser = 100_000 })
	token := w.user(1, 1)
	join := textFrame(fmt.Sprintf(`40{"token":%q}`, token))
	for _, seed := range [][]byte{
		textFrame(`420["subscribe:chat",{"chatId":1001}]`), frameOf(opText, []byte("4")), frameOf(finBit|opPing, []byte("x")), closeFrameOf(closeNormal, "bye"),
		textFrame("\xff"), frameOf(finBit|opBinary, []byte{1}),
		{finBit | opText, maskBit | 127, 0x80},
		textFrame("2"), textFrame(`450-["x"]`),
		{},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, response, err := tryWire(t, n, "EIO=4&transport=websocket", 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		c.raw(join, raw)
		_ = c.conn.CloseWrite()
		for {
			frame, err := c.frame()
			if err != nil {
				var timeout net.Error
				if asTimeout(err, &timeout) {
					t.Fatalf("the server keeps a connection that has ended: %x", raw)
				}
				return
			}
			if frame.rsv != 0 || (frame.opcode != opText && frame.opcode != opClose && frame.opcode != opPong) {
				t.Fatalf("the server sent %+v", frame)
			}
		}
	})
}
