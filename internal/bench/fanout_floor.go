package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"switchboard/internal/redisconn"
)

const (
	// fanFloorCommand is the process that does the least a Go program can do.
	fanFloorCommand = "fanout-floor"
	// fanFloorChannel carries the frames' texts.
	fanFloorChannel = "bench:floor"
)

// runFanFloor is the floor: a WebSocket server that writes what a Redis channel brings to all its connections, one frame
// made for all of them, one call of Write for each. It says what a Socket.IO client wants to hear at the start and knows nothing else of
// Socket.IO: no rooms, no pings, no queues, no slow readers, no log.
func runFanFloor(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	redisURL := flags.String("redis", "", "URL of Redis")
	if err := parse(flags, args); err != nil {
		return err
	}
	client, err := redisconn.Open(*redisURL)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	subscription := client.Subscribe(ctx, fanFloorChannel)
	defer func() { _ = subscription.Close() }()
	if _, err := subscription.Receive(ctx); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	floor := &fanFloor{conns: map[*websocket.Conn]struct{}{}}
	server := &http.Server{Handler: floor, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	// A read of the subscription ends with its connection only.
	stop := context.AfterFunc(ctx, func() { _ = subscription.Close() })
	defer stop()
	_, _ = fmt.Fprintf(out, "listening on %s\n", listener.Addr())
	for ctx.Err() == nil {
		message, err := subscription.ReceiveMessage(ctx)
		if err != nil {
			break
		}
		floor.broadcast(serverFrame(opText, []byte(message.Payload)))
	}
	err = errors.Join(server.Close(), floor.close())
	if failed := <-served; !errors.Is(failed, http.ErrServerClosed) {
		err = errors.Join(err, failed)
	}
	return err
}

type fanFloor struct {
	upgrader websocket.Upgrader

	mu    sync.Mutex // guards conns
	conns map[*websocket.Conn]struct{}
}

func (f *fanFloor) broadcast(frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		if _, err := conn.NetConn().Write(frame); err != nil {
			delete(f.conns, conn)
			_ = conn.Close()
		}
	}
}

func (f *fanFloor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := f.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // answered by the upgrader
	}
	defer func() {
		f.mu.Lock()
		delete(f.conns, conn)
		f.mu.Unlock()
		_ = conn.Close()
	}()
	const open = `0{"sid":"floor","upgrades":[],"pingInterval":3600000,"pingTimeout":3600000,"maxPayload":65536}`
	if err := conn.WriteMessage(websocket.TextMessage, []byte(open)); err != nil {
		return
	}
	if _, _, err := conn.ReadMessage(); err != nil { // 40: connect
		return
	}
	f.mu.Lock()
	err = conn.WriteMessage(websocket.TextMessage, []byte(`40{"sid":"floor"}`))
	f.conns[conn] = struct{}{}
	f.mu.Unlock()
	for err == nil {
		_, _, err = conn.ReadMessage()
	}
}

func (f *fanFloor) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_ = conn.Close()
	}
	return nil
}
