package realtime

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// The cases of the published test suite of Socket.IO v5, with credentials in CONNECT.

func TestSocketIOConnect(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	token := w.user(1, 10)
	c := openWire(t, n)
	c.send(`40`)
	require.Equal(t, `44{"data":{"code":"unauthenticated","retry":false},"message":"Authentication failed: No token provided"}`, c.text())
	// Refused, it may try again on the same connection, a few times.
	c.send(`40{"token":"wrong"}`)
	require.Contains(t, c.text(), messageInvalid)
	c.send(`40/,{"token":` + fmt.Sprintf("%q", token) + `}`)
	require.Regexp(t, `^40\{"sid":"[\w-]{20,}"\}$`, c.text())
	c.alive(1)

	// Other namespaces are refused and do not disturb this one.
	for namespace, want := range map[string]string{
		"40/random":                 `44/random,{"message":"Invalid namespace"}`,
		`40/random?a=b,{"token":1}`: `44/random?a=b,{"message":"Invalid namespace"}`,
	} {
		c.send(namespace)
		require.Equal(t, want, c.text())
		c.alive(2)
	}
	c.send(`42/random,["x"]`)
	c.ended()

	for name, sent := range map[string]string{
		"an unknown packet":           "4abc",
		"an empty message":            "4",
		"a list as credentials":       "40[]",
		"a string as credentials":     `40"x"`,
		"credentials cut short":       `40{"token":`,
		"an event before the connect": `42["x"]`,
		"an ack before the connect":   `430[]`,
		"a goodbye before":            "41",
		"a refusal from the client":   `44{"message":"x"}`,
		"a long namespace":            "40/" + strings.Repeat("n", 600) + ",",
		"an empty frame":              "",
		"an open packet":              "0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := openWire(t, n)
			c.send(sent)
			if name == "an open packet" { // heard and ignored, as the official server does
				c.send(fmt.Sprintf(`40{"token":%q}`, token))
				require.True(t, strings.HasPrefix(c.text(), "40{"))
				return
			}
			c.ended()
		})
	}
}

func TestSocketIOPackets(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	n := w.node()
	token := w.user(1, 10)

	t.Run("acks", func(t *testing.T) {
		c := joinWire(t, n, token)
		for _, id := range []string{"0", "456", "4294967296", "9007199254740993"} {
			c.send("42" + id + `["unsubscribe:chat",{"chatId":1001}]`)
			require.Equal(t, "43"+id+`[{"ok":true}]`, c.text())
		}
		c.send(`42/,7["unsubscribe:chat",{"chatId":1001}]`)
		require.Equal(t, `437[{"ok":true}]`, c.text(), "the default namespace by its name")
		for _, ignored := range []string{`42["unsubscribe:chat",{"chatId":1001}]`, `42["no such event"]`, "6"} {
			c.send(ignored)
		}
		c.alive(1)
	})
	t.Run("goodbye", func(t *testing.T) {
		c := joinWire(t, n, token)
		c.send("41")
		testkit.Eventually(t, "the end of the session", func() bool { return n.sessionsOf(10) == 0 })
		require.Equal(t, 1, n.ConnectedClients(), "the connection stays, as with the official server")
		c.send(fmt.Sprintf(`40{"token":%q}`, token))
		require.True(t, strings.HasPrefix(c.text(), "40{"))
		c.alive(1)
		c.send("41")
		testkit.Eventually(t, "the second end", func() bool { return n.sessionsOf(10) == 0 })
		c.send(`42["x"]`)
		c.ended()
	})
	for name, sent := range map[string]string{
		"an unknown packet type": "4abc",
		"a packet type of two":   "47[]",
		"an object for a list":   "42{}",
		"an empty list":          "42[]",
		"no payload":             "42",
		"no name":                "42[{}]",
		"a null name":            "42[null]",
		"an id of letters":       `42abc["x"]`,
		"an id too large":        `4218446744073709551616["x"]`,
		"an id of 100 digits":    "42" + strings.Repeat("1", 100) + `["x"]`,
		"a negative id":          `42-1["x"]`,
		"JSON cut short":         `42["x"`,
		"more than JSON":         `42["x"]]`,
		"two values":             `42["x"]["y"]`,
		"an ack of an object":    "430{}",
		"an ack":                 "430[]",
		"an ack never asked for": `43999999["x"]`,
		"an ack without an id":   "43[]",
		"a goodbye with payload": `41"x"`,
		"a reserved name":        `42["connect"]`,
		"another reserved name":  `42["disconnecting"]`,
		"a second connect":       fmt.Sprintf(`40{"token":%q}`, token),
		"a refusal":              `44{"message":"x"}`,
		"a number out of range":  `42["sync",1e999]`,
		"nesting beyond measure": `42["sync",` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + "]",
		"binary with none":       `450-["x"]`,
		"a base64 attachment":    "bAAAA",
		"an engine ping":         "2",
		"an unknown engine type": "8",
		"a letter":               "x",
		"nothing":                "",
	} {
		t.Run(name, func(t *testing.T) {
			c := joinWire(t, n, token)
			c.send(sent)
			c.ended()
		})
	}
	testkit.Eventually(t, "the ends", func() bool { return n.sessionsOf(10) == 0 })
	w.quietNode(n)
}

// quietNode checks that a node still lets somebody in and answers.
func (w *world) quietNode(n *testNode) {
	w.t.Helper()
	joinWire(w.t, n, w.user(1, 999)).alive(1)
}
