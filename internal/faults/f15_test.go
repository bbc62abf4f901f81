package faults

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// officialEmitter does what playEmitter does, with the official emitter for Node.js.
const officialEmitter = `
import { createInterface } from "node:readline";
import { createClient } from "redis";
import { Emitter } from "@socket.io/redis-emitter";
const client = createClient({ url: process.argv[1] });
await client.connect();
const io = new Emitter(client);
for await (const line of createInterface({ input: process.stdin })) {
  const { rooms, event } = JSON.parse(line);
  (rooms.length === 0 ? io : io.to(rooms)).emit(event, { from: "node" });
  await client.ping(); // Redis has what was sent before
  console.log("emitted");
}
await client.quit();
`

// F15: what a third process emits to no, one and two rooms reaches each member on two nodes once.
func TestFaultF15_Rooms(t *testing.T) {
	quick(t)
	w := newWorld(t, plan{organizations: 2})
	before := w.atRest()
	h := w.herd(10) // they see nothing but what everybody gets
	w.connect(h, 10)
	acme, rival := w.orgs[0], w.orgs[1]
	chatOne, chatTwo := fmt.Sprint("chat_", acme.chats[0]), fmt.Sprint("chat_", acme.chats[1])
	orgRoom := func(o *organization) string { return fmt.Sprint("org_", o.id) }

	// One member of each kind on each node.
	var members []member
	for _, n := range w.nodes {
		members = append(members,
			w.join(n, acme, acme.chats[0]), w.join(n, acme, acme.chats[0], acme.chats[1]), w.join(n, acme), w.join(n, rival))
	}
	everyone := func(member) bool { return true }
	emissions := []struct {
		rooms []string
		who   func(member) bool
	}{
		{nil, everyone},
		{[]string{orgRoom(acme)}, func(m member) bool { return m.rooms[orgRoom(acme)] }},
		{[]string{chatOne}, func(m member) bool { return m.rooms[chatOne] }},
		{[]string{chatOne, chatTwo}, func(m member) bool { return m.rooms[chatOne] || m.rooms[chatTwo] }},
		{[]string{orgRoom(acme), chatOne}, func(m member) bool { return m.rooms[orgRoom(acme)] }},
		{[]string{chatTwo, orgRoom(rival)}, func(m member) bool { return m.rooms[chatTwo] || m.rooms[orgRoom(rival)] }},
		{[]string{orgRoom(rival), fmt.Sprint("user_", acme.userID)}, everyone},
		{[]string{"org_999999", "chat_999999"}, func(member) bool { return false }},
	}
	for name, emit := range map[string]func(emission){"go": w.goEmitter(), "node": w.nodeEmitter()} {
		for i, e := range emissions {
			emit(emission{Rooms: append([]string{}, e.rooms...), Event: fmt.Sprintf("%s:%d", name, i)})
		}
		last := name + ":last"
		emit(emission{Rooms: []string{}, Event: last})
		for i, m := range members {
			_, err := m.WaitFor(testkit.Context(t), last, nil)
			require.NoError(t, err)
			for j, e := range emissions {
				want := 0
				if e.who(m) {
					want = 1
				}
				event := fmt.Sprintf("%s:%d", name, j)
				_, err := m.WaitCount(testkit.Context(t), event, want)
				require.NoError(t, err, "%s to %v, member %d", event, e.rooms, i)
				require.Len(t, m.Events(event), want, "%s to %v, member %d in %v", event, e.rooms, i, m.rooms)
			}
		}
	}
	// What has no place in the log did not disturb what has.
	d := w.drive(20)
	d.more(10)
	d.stop()
	w.verdict(h)
	w.upSince(h, 10)
	for _, m := range members {
		require.NoError(t, m.Disconnect(testkit.Context(t)))
	}
	w.end(h, before)
}

// member is a client and the rooms that it must be in.
type member struct {
	*testkit.SocketClient
	rooms map[string]bool
}

// join connects a client to a node, past the balancer, and subscribes it to chats.
func (w *world) join(n *process, o *organization, chats ...int64) member {
	w.t.Helper()
	m := member{
		SocketClient: testkit.Connect(w.t, testkit.ClientOptions{
			URL: n.URL, Auth: map[string]any{"token": o.token}, Transports: []string{"websocket"},
		}),
		rooms: map[string]bool{fmt.Sprint("org_", o.id): true, fmt.Sprint("user_", o.userID): true},
	}
	for _, chat := range chats {
		answer, err := m.EmitAck(testkit.Context(w.t), "subscribe:chat", map[string]any{"chatId": chat})
		require.NoError(w.t, err)
		require.JSONEq(w.t, `{"ok":true}`, string(answer))
		m.rooms[fmt.Sprint("chat_", chat)] = true
	}
	return m
}

// goEmitter starts a process that emits with the library's emitter.
func (w *world) goEmitter() func(emission) {
	w.t.Helper()
	p := start(w.t, roleEmitter, "REDIS_URL="+w.redis.URL())
	w.all = append(w.all, p)
	return w.emitBy(json.NewEncoder(p.stdin), p.stdout)
}

// nodeEmitter starts a process that emits with the official emitter for Node.js.
func (w *world) nodeEmitter() func(emission) {
	w.t.Helper()
	node, dir := testkit.Node(w.t)
	cmd := exec.CommandContext(w.t.Context(), node, "--input-type=module", "-e", officialEmitter, w.redis.URL())
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	require.NoError(w.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, cmd.Start())
	w.t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return w.emitBy(json.NewEncoder(in), bufio.NewReader(out))
}

func (w *world) emitBy(commands *json.Encoder, answers *bufio.Reader) func(emission) {
	return func(e emission) {
		w.t.Helper()
		require.NoError(w.t, commands.Encode(e))
		answer, err := answers.ReadString('\n')
		require.NoError(w.t, err)
		require.Equal(w.t, "emitted\n", answer)
	}
}
