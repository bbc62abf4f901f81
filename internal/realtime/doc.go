// Package realtime brings events to the sockets of an API node: the Socket.IO server, the rooms, what clients may ask, the
// ordered feed with replay, and the Redis emitter by which every process reaches the sockets of all nodes.
//
// # Two ways to a socket
//
// What is in the event log goes through a feed: every socket gets every event of its organization once, in order, from
// where it stands on. What is not in the log (notifications, typing, what other programs emit) goes to rooms, through the
// library's Redis adapter, and is lost when Redis is.
//
//	inbox ─ commit ─► Emitter.Publish ─ queue ─► Redis ─► relay ─► hub ─► feed of the organization ─► its members
//	                                                                        ▲  │ gap, replay      (sockets)
//	                                                            heads, 1/s ─┘  ▼
//	                                                                          Log
//	Emitter.User, Typing, Disconnect…, foreign emitters ─► Redis ─► relay ─► Redis adapter ─► room ─► sockets
//
// A socket is in the rooms org_<id>, user_<id> and those chat_<id> that it asked for. Logged events do not use the room
// org_<id>: the feed sends them to its members, framed once for all, because a socket is in the room before its replay has
// caught up.
//
// # Three kinds of connections
//
//	WebSocket from the start ─► directSocket ────────────────────────────────┐
//	polling, then WebSocket ──► the library's engine socket ─► webSocket ────┴─► websocket.Conn ─► lane ─► kernel
//	polling ──────────────────► the library's engine socket ─► pollingTransport
//
// Frames of a feed go to a websocket.Conn past the library; what the library sends arrives there too, in its order.
//
// # Invariants of a feed
//
//   - One goroutine per organization that has sockets here owns the cursor, the ring and the members; the rest of the
//     world talks to it through an inbox. It never waits for the database: reads run in goroutines of the hub and come back as
//     commands.
//   - The cursor moves by one event at a time, in the order of seq, and only with the event's frame in hand.
//   - A member's position (at) only rises, but for seek and reset. A live member has at >= cursor; it is sent an event when
//     seq == at+1 and no other. A member that replays has at < cursor and is sent frames from the ring, the page cache or the
//     log until it has reached the cursor; the step to live happens in the feed's goroutine, between two events. So nothing
//     is sent twice or left out, however replays and live events race.
//   - Redis is only a hint. An event at cursor+1 is sent at once; one ahead waits 25 ms for those before it, then the log is
//     read; a poll of the heads of all feeds (one query a second) finds what Redis never brought. Events of another epoch are
//     never sent: they make the feed ask the database.
//   - A head that was read after the feed stood at cursor can be behind the cursor only if the log went back. Then, and
//     when the epoch differs, all members are reset.
//   - Memory is bounded: inbox 1,024 events (then the log is read), ring 512 events and 512 KiB and 2 minutes, page cache 128 MiB
//     for the node while a herd uses it, 256 KiB queued for a socket by the feed, 16 sockets that replay more than a hundred
//     events at a time.
//   - Sockets that need the same page of the log share one read: pages begin at multiples of 500, who asks for a page that
//     is being read waits with the others, and full pages stay in the cache for those who come later.
//
// The states of a feed:
//
//	            first head                event ahead, or a head ahead: after 25 ms
//	┌─────────┐           ┌────────────┐ ─────────────────────────────────────────► ┌─────────┐
//	│ unknown │ ────────► │ up to date │                                            │ reading │ ─┐ error: again
//	└─────────┘           └────────────┘ ◄───────────────────────────────────────── └─────────┘ ◄┘ after 500 ms
//	  acquire               │        ▲                 caught up                       │
//	  waits                 │        └── reset: epoch, log went back, retention ────────┘
//	                        └─► ended: no socket for 30 s, or the server closes
//
// The states of a member:
//
//	attach ──► replaying ── at == cursor ──► live ── more than 256 KiB queued ──► paused ── taken ──► replaying
//	   │           ├── page not at hand ──► waiting ── read ──► replaying
//	   │           └── retention, epoch ──► reset ──► live
//	   ├─ at > cursor: live, while the log is asked whether that position exists; if not, reset
//	   └─ nonsense, another epoch: reset
//
// A reset sends sync:reset {head, epoch, reason, delayMs}: refetch everything, after delayMs; the events behind head follow.
//
// # Order of a handshake
//
// Authentication and the position are settled in the library's middleware, before the client is told that it is connected:
// what is committed after "connect" reaches it. A client that keeps {seq, epoch} of the last event and sends them as lastSeq
// and epoch misses nothing. It must drop events whose seq is not above its last one: the official client may hand over
// events of a broken connection only after it has asked for them again.
//
// # What is mended in the library
//
// Each mend has a test that fails on the stock behaviour. relay.go, line.go, vet.go: what comes from Redis is checked before
// the adapter sees it, there is no spinning while Redis is away, and emits to no room or to several arrive. decoder.go: no
// binary packets. opening.go: no handshake is missed. transport.go, direct.go, polling.go: connections end cleanly on both
// transports, and a broadcast is framed once. connection.go: bounded queues in both directions. origins.go: the Origin of every request is checked. Requests
// between nodes that want an answer (fetchSockets, allRooms, broadcasts with acknowledgement) do not cross nodes.
//
// # Who ends what
//
// New starts the emitter's goroutine and the adapter's, Start the relay's, the hub's and two tickers. Close ends them in this
// order: new requests are refused; sockets, adapter and connections; emitter (two seconds for its queue); relay; feeds; then it
// waits for every goroutine. A feed is ended by the hub only, a session by the end of its socket or connection, whichever is
// seen first. Locks are not held while the library is called, except in sends, which do not block.
package realtime
