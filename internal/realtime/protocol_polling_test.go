package realtime

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// The cases of the published test suites of Engine.IO v4, for a server that wants credentials and echoes nothing: a
// message is a CONNECT with a token, its echo the answer.

// separator stands between the packets of a polling body.
const separator = "\x1e"

// later is a poll under way.
type later struct {
	status int
	body   string
	err    error
}

// pollLater starts a poll, which ends with ctx at the latest.
func (p *poller) pollLater(ctx context.Context) <-chan later {
	answers := make(chan later, 1)
	go func() {
		status, body, err := p.do(ctx, http.MethodGet, http.NoBody, "")
		answers <- later{status, body, err}
	}()
	return answers
}

func within[T any](t testing.TB, what string, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-testkit.Context(t).Done():
		t.Fatalf("waited for %s in vain", what)
	}
	return value
}

func TestPollingHandshake(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	body, response := get(t, n, "EIO=4&transport=polling", "", nil)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/plain; charset=UTF-8", response.Header.Get("Content-Type"))
	require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
	opening := parseOpening(t, body)
	require.Equal(t, openingPacket{
		SID: opening.SID, Upgrades: []string{"websocket"}, PingInterval: 25000, PingTimeout: 20000, MaxPayload: 64 << 10,
	}, opening)

	for name, c := range map[string]struct {
		method, query string
		code          string
	}{
		"no EIO":                  {http.MethodGet, "transport=polling", ""},
		"EIO of letters":          {http.MethodGet, "EIO=abc&transport=polling", ""},
		"EIO of 2014":             {http.MethodGet, "EIO=3&transport=polling", ""},
		"no transport":            {http.MethodGet, "EIO=4", "0"},
		"unknown transport":       {http.MethodGet, "EIO=4&transport=abc", "0"},
		"a property":              {http.MethodGet, "EIO=4&transport=constructor", "0"},
		"web transport":           {http.MethodGet, "EIO=4&transport=webtransport", "0"},
		"unknown session":         {http.MethodGet, "EIO=4&transport=polling&sid=abc", "1"},
		"unknown session, posted": {http.MethodPost, "EIO=4&transport=polling&sid=abc", "1"},
		"an odd session":          {http.MethodGet, "EIO=4&transport=polling&sid=" + strings.Repeat("%00", 300), ""},
		"post":                    {http.MethodPost, "EIO=4&transport=polling", "2"},
		"put":                     {http.MethodPut, "EIO=4&transport=polling", "2"},
		"no upgrade":              {http.MethodGet, "EIO=4&transport=websocket", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(testkit.Context(t), c.method, n.url+"/socket.io/?"+c.query, http.NoBody)
			require.NoError(t, err)
			response, err := n.http.Client().Do(r)
			require.NoError(t, err)
			defer func() { _ = response.Body.Close() }()
			answer, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, response.StatusCode)
			if c.code != "" {
				require.Contains(t, string(answer), `"code":`+c.code+`,`)
			}
		})
	}
	require.Equal(t, 1, n.ConnectedClients())
}

func TestPollingMessages(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	token := w.user(1, 10)
	connect := fmt.Sprintf(`40{"token":%q}`, token)

	t.Run("several packets in a body", func(t *testing.T) {
		p := joinPoller(t, n, token)
		status, answer := p.post(`420["subscribe:chat",{"chatId":1001}]` + separator + `421["unsubscribe:chat",{"chatId":1001}]` + separator + `422["x"]`)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "ok", answer)
		var packets []string
		for len(packets) < 3 {
			status, body := p.poll()
			require.Equal(t, http.StatusOK, status)
			packets = append(packets, strings.Split(body, separator)...)
		}
		require.Equal(t, []string{`430[{"ok":true}]`, `431[{"ok":true}]`}, packets[:2])
		require.True(t, strings.HasPrefix(packets[2], `432[{"ok":false`))
	})
	t.Run("several packets in an answer", func(t *testing.T) {
		p := joinPoller(t, n, token)
		testkit.Eventually(t, "the room", func() bool { return n.hasMember(domain.UserRoom(10)) })
		for i := range 5 {
			require.NoError(t, n.Emitter().User(10, "n", i))
		}
		var packets []string
		for len(packets) < 5 {
			_, body := p.poll()
			packets = append(packets, strings.Split(body, separator)...)
		}
		require.Equal(t, []string{`42["n",0]`, `42["n",1]`, `42["n",2]`, `42["n",3]`, `42["n",4]`}, packets)
	})
	for name, body := range map[string]string{
		"binary":                 connect + separator + "bAQIDBA==",
		"bad base64":             "b!",
		"an unknown type":        "abc",
		"an unknown type, later": connect + separator + "abc",
		"a ping":                 "2",
		"an endless packet":      "4" + strings.Repeat("0", 60<<10),
	} {
		t.Run(name+" ends the session", func(t *testing.T) {
			p := openPoller(t, n)
			status, _, err := p.do(testkit.Context(t), http.MethodPost, strings.NewReader(body), "text/plain")
			if err == nil {
				require.Contains(t, []int{http.StatusOK, http.StatusBadRequest, http.StatusTooManyRequests}, status)
			}
			p.ended(t)
		})
	}
	t.Run("the binary content type", func(t *testing.T) {
		p := openPoller(t, n)
		status, _, err := p.do(testkit.Context(t), http.MethodPost, strings.NewReader(connect), "application/octet-stream")
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, status)
		p.ended(t)
	})
	for name, body := range map[string]io.Reader{
		"a body of 64 KiB and one byte":                  strings.NewReader("4" + strings.Repeat("x", 64<<10)),
		"a body of 64 KiB and one byte, of no length":    io.MultiReader(strings.NewReader("4" + strings.Repeat("x", 64<<10))),
		"a body too large whose beginning makes sense":   io.MultiReader(strings.NewReader(connect + separator + "4" + strings.Repeat("x", 64<<10))),
		"a body too large that would be whole if it cut": io.MultiReader(strings.NewReader(connect + strings.Repeat(separator, 64<<10))),
	} {
		t.Run(name, func(t *testing.T) {
			p := openPoller(t, n)
			status, answer, err := p.do(testkit.Context(t), http.MethodPost, body, "text/plain")
			if err == nil {
				require.NotEqual(t, http.StatusOK, status, answer)
			}
			p.ended(t)
		})
	}
	t.Run("other methods", func(t *testing.T) {
		p := joinPoller(t, n, token)
		for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
			status, _, err := p.do(testkit.Context(t), method, http.NoBody, "")
			require.NoError(t, err)
			require.NotContains(t, []int{http.StatusNotFound, http.StatusBadGateway}, status)
		}
		p.post(`427["x"]`)
		_, body := p.poll()
		require.True(t, strings.HasPrefix(body, `437[{"ok":false`), body)
	})
	t.Run("two polls at once", func(t *testing.T) {
		p := joinPoller(t, n, token)
		first := p.pollLater(testkit.Context(t))
		testkit.Eventually(t, "the first poll", func() bool { return n.polls(p.sid) })
		status, _ := p.poll()
		require.Contains(t, []int{http.StatusBadRequest, http.StatusInternalServerError}, status)
		answer := within(t, "the first poll", first)
		require.NoError(t, answer.err)
		require.Equal(t, http.StatusOK, answer.status)
		require.Contains(t, []string{closePacket, "6"}, answer.body)
		p.ended(t)
	})
	t.Run("a poll given up", func(t *testing.T) {
		p := joinPoller(t, n, token)
		ctx, cancel := context.WithCancel(testkit.Context(t))
		first := p.pollLater(ctx)
		testkit.Eventually(t, "the poll", func() bool { return n.polls(p.sid) })
		cancel()
		require.Error(t, within(t, "the poll", first).err)
		p.ended(t)
	})
	t.Run("the close packet", func(t *testing.T) {
		p := joinPoller(t, n, token)
		first := p.pollLater(testkit.Context(t))
		testkit.Eventually(t, "the poll", func() bool { return n.polls(p.sid) })
		status, _ := p.post(closePacket)
		require.Equal(t, http.StatusOK, status)
		answer := within(t, "the poll", first)
		require.NoError(t, answer.err)
		require.Equal(t, "6", answer.body)
		p.gone()
	})
	t.Run("the close packet in a batch", func(t *testing.T) {
		p := openPoller(t, n)
		p.post(connect + separator + closePacket + separator + `42["x"]`)
		p.ended(t)
	})
	testkit.Eventually(t, "the ends", func() bool { return n.sessionsOf(10) <= 3 })
}

// ended waits until the session is gone; a poll may still be answered before.
func (p *poller) ended(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, "the end of the session", func() bool { return !p.n.knows(p.sid) })
	p.gone()
}

// knows reports whether the node has an Engine.IO session, polls whether that has an open poll.
func (n *testNode) knows(sid string) bool {
	_, known := n.engine.Clients().Load(sid)
	return known
}

func (n *testNode) polls(sid string) bool {
	conn, known := n.engine.Clients().Load(sid)
	return known && conn.Transport().Writable()
}

func (n *testNode) hasMember(room string) bool {
	for _, name := range n.io.Sockets().Adapter().Rooms().Keys() {
		if string(name) == room {
			return true
		}
	}
	return false
}

func (n *testNode) sessionsOf(userID int64) int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.perUser[userID]
}

func quickPings(o *Options) {
	o.Limits.PingInterval, o.Limits.PingTimeout = 150*time.Millisecond, time.Second
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node(quickPings)
	t.Run("polling", func(t *testing.T) {
		t.Parallel()
		p := joinPoller(t, n, w.user(1, 10))
		for range 3 {
			status, body := p.poll()
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, "2", body)
			status, _ = p.post("3")
			require.Equal(t, http.StatusOK, status)
		}
	})
	t.Run("websocket", func(t *testing.T) {
		t.Parallel()
		c := joinWire(t, n, w.user(1, 11))
		for range 3 {
			require.Equal(t, "2", c.text())
			c.send("3")
		}
	})
	t.Run("no pong, polling", func(t *testing.T) {
		t.Parallel()
		p := joinPoller(t, n, w.user(1, 12))
		began := time.Now()
		_, body := p.poll()
		require.Equal(t, "2", body)
		p.ended(t)
		require.GreaterOrEqual(t, time.Since(began), time.Second)
		require.Less(t, time.Since(began), testkit.Slack(2*time.Second))
	})
	t.Run("no pong, websocket", func(t *testing.T) {
		t.Parallel()
		c := joinWire(t, n, w.user(1, 13))
		began := time.Now()
		c.ended()
		require.Less(t, time.Since(began), testkit.Slack(2*time.Second))
	})
	t.Run("the close packet", func(t *testing.T) {
		t.Parallel()
		c := joinWire(t, n, w.user(1, 16))
		c.send(closePacket) // heard at the next ping at the latest, as with the official server
		for range 2 {
			if text, err := c.message(); err != nil || text != "2" {
				return
			}
		}
		t.Error("the session goes on")
	})
	t.Run("pings of the other layer and of other versions do not count", func(t *testing.T) {
		t.Parallel()
		c := joinWire(t, n, w.user(1, 14))
		require.Equal(t, "2", c.text())
		for range 5 {
			c.raw(frameOf(finBit|opPing, nil), frameOf(finBit|opPong, nil))
		}
		c.ended()
		c = joinWire(t, n, w.user(1, 15))
		c.send("2")
		c.ended()
	})
	testkit.Eventually(t, "the ends", func() bool { return n.sessionsOf(12)+n.sessionsOf(13)+n.sessionsOf(14)+n.sessionsOf(15) == 0 })
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	token := w.user(1, 10)
	probe := func(t *testing.T, p *poller) *wire {
		t.Helper()
		c := dialWire(t, n, "EIO=4&transport=websocket&sid="+p.sid)
		c.send("2probe")
		require.Equal(t, "3probe", c.text())
		return c
	}
	t.Run("as it should be", func(t *testing.T) {
		p := joinPoller(t, n, token)
		open := p.pollLater(testkit.Context(t))
		testkit.Eventually(t, "the poll", func() bool { return n.polls(p.sid) })
		c := probe(t, p)
		answer := within(t, "the poll's end", open)
		require.NoError(t, answer.err)
		require.Equal(t, "6", answer.body, "a noop ends the poll")
		// Until the upgrade is complete, polling goes on, also with another probe.
		p.post(`420["unsubscribe:chat",{"chatId":1001}]`)
		require.Equal(t, `430[{"ok":true}]`, p.pollPast("6"))
		c.send("2probe")
		require.Equal(t, "3probe", c.text())
		c.send("5")
		c.alive(1)
		status, _ := p.poll()
		require.Equal(t, http.StatusBadRequest, status, "polling is over")
		status, _ = p.post(`422["x"]`)
		require.Equal(t, http.StatusBadRequest, status)
		c.alive(3)
		again, response, err := tryWire(t, n, "EIO=4&transport=websocket&sid="+p.sid, 0)
		require.NoError(t, err)
		_ = response.Body.Close()
		if again != nil {
			again.ended()
		}
		c.alive(4)
	})
	t.Run("of an unknown session", func(t *testing.T) {
		c, response, err := tryWire(t, n, "EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA", 0)
		require.NoError(t, err)
		require.Nil(t, c)
		require.Equal(t, http.StatusBadRequest, response.StatusCode)
		_ = response.Body.Close()
	})
	t.Run("of a WebSocket session", func(t *testing.T) {
		first := dialWire(t, n, "EIO=4&transport=websocket")
		sid := parseOpening(t, first.text()).SID
		first.send(fmt.Sprintf(`40{"token":%q}`, token))
		first.text()
		second, response, err := tryWire(t, n, "EIO=4&transport=websocket&sid="+sid, 0)
		require.NoError(t, err)
		_ = response.Body.Close()
		if second != nil {
			second.send("2probe")
			_, _ = second.message() // answered or closed
			require.NoError(t, second.conn.Close())
		}
		first.alive(1)
	})
	t.Run("twice at once", func(t *testing.T) {
		p := joinPoller(t, n, token)
		first := probe(t, p)
		second, response, err := tryWire(t, n, "EIO=4&transport=websocket&sid="+p.sid, 0)
		require.NoError(t, err)
		_ = response.Body.Close()
		if second != nil {
			second.ended()
		}
		first.send("5")
		first.alive(1)
	})
	for name, bad := range map[string]string{
		"no probe": `420["x"]`, "another probe": "2prob", "garbage": "x", "a close": closePacket, "a pong": "3probe",
	} {
		t.Run("broken off by "+name, func(t *testing.T) {
			p := joinPoller(t, n, token)
			c := dialWire(t, n, "EIO=4&transport=websocket&sid="+p.sid)
			c.send(bad)
			c.ended()
			p.post(`420["unsubscribe:chat",{"chatId":1001}]`)
			require.Equal(t, `430[{"ok":true}]`, p.pollPast("6"), "polling goes on")
			c = probe(t, p)
			c.send("5")
			c.alive(2)
		})
	}
	t.Run("broken off by the end of the WebSocket", func(t *testing.T) {
		p := joinPoller(t, n, token)
		c := probe(t, p)
		require.NoError(t, c.conn.Close())
		p.post(`420["unsubscribe:chat",{"chatId":1001}]`)
		require.Equal(t, `430[{"ok":true}]`, p.pollPast("6"))
	})
}

// pollPast polls until the answer is another than the one to skip.
func (p *poller) pollPast(skip string) string {
	p.t.Helper()
	for range 20 {
		status, body := p.poll()
		require.Equal(p.t, http.StatusOK, status, body)
		if body != skip {
			return body
		}
	}
	p.t.Fatalf("nothing but %q", skip)
	return ""
}
