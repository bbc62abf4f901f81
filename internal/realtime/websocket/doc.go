// Package websocket is the server's side of WebSocket connections (RFC 6455, version 13, no extensions) of which there are
// many, most are idle, and most of what is sent goes to thousands of them at once.
//
// What it does that a general library does not:
//
//   - A message is framed once, as a Frame, and the same bytes go to everybody.
//   - What is queued for a connection leaves in one system call. Few goroutines, the lanes, write for all: a connection
//     that has something to send stands in its lane's line, and whatever is queued until its turn comes goes along. The
//     busier the server, the fewer calls per message.
//   - An idle connection has no goroutine and no buffer. On Linux one epoll instance watches all of them, itself watched
//     by the runtime; elsewhere, and over TLS, a connection has a goroutine that reads.
//   - A connection whose peer takes nothing holds up nobody: the lane tries a write once and leaves the rest to a
//     goroutine that lives as long as the peer is behind.
//
// # Who may do what
//
// Send and Queued may be called from anywhere and never block. The handler's Message is called by one goroutine at a time,
// in the order of the messages; while it runs, nothing more is read from that connection. A connection ends once, by
// whatever comes first: the peer's close or end, an error, Close or Abort; then the handler's Closed is called.
//
//	        Close, the peer's close frame             everything was written, the peer closed, or farewell passed
//	open ─────────────────────────────────► closing ───────────────────────────────────────────► closed
//	  └──────────── Abort, an error, the peer's end ────────────────────────────────────────────────▲
package websocket
