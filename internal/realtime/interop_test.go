package realtime

import (
	"os/exec"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// emitterScript is what an integrator runs: the official emitter for Node.js.
const emitterScript = `
import { createClient } from "redis";
import { Emitter } from "@socket.io/redis-emitter";
// Rooms change and events travel on two channels of Redis, which have no common order.
const settle = () => new Promise((resolve) => setTimeout(resolve, 300));
const client = createClient({ url: process.argv[1] });
await client.connect();
const io = new Emitter(client);
io.emit("js:none", { n: 1 });
io.to("org_1").emit("js:one", "text", 2.5, null, [true]);
io.to(["org_1", "user_20"]).emit("js:two", { nested: { deep: [1, "é"] } });
io.to("user_10").except("org_1").emit("js:except", 1);
io.to("user_10").emit("js:binary", Buffer.from([1, 2, 3]));
io.serverSideEmit("hello", 1);
io.in("user_11").socketsJoin("chat_1001");
await settle();
io.to("chat_1001").emit("js:joined", 1);
await settle();
io.in("user_11").socketsLeave("chat_1001");
await settle();
io.to("chat_1001").emit("js:left", 1);
io.to("org_1").emit("js:last", 1);
io.in("user_20").disconnectSockets(true);
await client.quit();
`

func TestOfficialEmitter(t *testing.T) {
	t.Parallel()
	address := testkit.Redis(t)
	options, err := redis.ParseURL(address)
	require.NoError(t, err)
	w := newWorld(t, options.Addr)
	a, b := w.node(), w.node()
	first, second, other := w.connect(a, w.user(1, 10), nil), w.connect(b, w.user(1, 11), nil), w.connect(b, w.user(2, 20), nil)
	node, dir := testkit.Node(t)
	run := exec.CommandContext(testkit.Context(t), node, "--input-type=module", "-e", emitterScript, address)
	run.Dir = dir
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)

	for _, c := range []*testkit.SocketClient{first, second} {
		_, err := c.WaitFor(testkit.Context(t), "js:last", nil)
		require.NoError(t, err)
	}
	reason, err := other.WaitDisconnect(testkit.Context(t), 1)
	require.NoError(t, err)
	require.Equal(t, "io server disconnect", reason)
	got := func(c *testkit.SocketClient) (names []string) {
		for _, e := range c.Events("") {
			names = append(names, e.Name)
		}
		return names
	}
	require.Equal(t, []string{"js:none", "js:one", "js:two", "js:binary", "js:last"}, got(first))
	require.Equal(t, []string{"js:none", "js:one", "js:two", "js:joined", "js:last"}, got(second))
	require.Equal(t, []string{"js:none", "js:two"}, got(other))
	require.JSONEq(t, `{"nested":{"deep":[1,"é"]}}`, string(first.Events("js:two")[0].Args[0]))
	require.JSONEq(t, `{"type":"Buffer","data":[1,2,3]}`, string(first.Events("js:binary")[0].Args[0]))
	require.Len(t, first.Events("js:one")[0].Args, 4)
}
