package realtime

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"

	gorilla "github.com/gorilla/websocket"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
	"github.com/zishang520/socket.io/v3/pkg/utils"
)

// direct reports whether a request wants a WebSocket without polling before. What is wrong with such a request the
// library says.
func direct(r *http.Request) bool {
	query := r.URL.Query()
	return gorilla.IsWebSocketUpgrade(r) && r.Method == http.MethodGet && !query.Has("sid") &&
		query.Get("EIO") == "4" && query.Get("transport") == transports.WEBSOCKET
}

// upgrader makes the WebSocket handshake. Its buffers are gone when that is done. The origin has been checked.
var upgrader = gorilla.Upgrader{
	ReadBufferSize: 256, WriteBufferSize: 256,
	CheckOrigin: func(*http.Request) bool { return true },
	Error: func(w http.ResponseWriter, _ *http.Request, _ int, reason error) {
		refuse(w, http.StatusBadRequest, reason.Error())
	},
}

// openDirect makes a connection of a request.
func (s *Server) openDirect(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.logger.Debug("[Socket.IO] no WebSocket handshake", slog.Any("error", err))
		return
	}
	d := &directSocket{
		listeners: listeners{logger: s.logger}, server: s, id: utils.Base64Id().GenerateId(),
		remote: conn.RemoteAddr().String(), state: "open", request: whatIsAsked(r), //nolint:contextcheck // it outlives the request
	}
	d.conn = s.loop.Add(conn.NetConn(), d)
	d.watcher = s.watchDirect(d)
	s.engine.Clients().Store(d.id, d)
	s.engine.Emit("connection", d)
	d.start(s.opening(d.id))
}

// opening is the packet that opens a connection.
func (s *Server) opening(id string) []byte {
	limits := s.options.Limits
	data, err := json.Marshal(map[string]any{
		"sid": id, "upgrades": []string{}, "pingInterval": limits.PingInterval.Milliseconds(),
		"pingTimeout": limits.PingTimeout.Milliseconds(), "maxPayload": limits.FrameBytes,
	})
	if err != nil {
		panic(err) // numbers and strings
	}
	return append([]byte{packetOpen}, data...)
}

// whatIsAsked is what the library, and authentication, want to know of a request. The request itself would keep the HTTP
// server's buffers.
func whatIsAsked(r *http.Request) *types.HttpContext {
	header := http.Header{}
	for _, name := range []string{"Authorization", "Origin"} {
		if values := r.Header.Values(name); len(values) > 0 {
			header[name] = values
		}
	}
	return newContext(&http.Request{
		Method: r.Method, URL: &url.URL{Path: r.URL.Path}, Host: r.Host, Header: header, TLS: r.TLS,
		RemoteAddr: r.RemoteAddr, RequestURI: r.URL.Path, Body: http.NoBody,
	})
}

// newContext makes the library's form of a request that is over: nothing waits for its end.
func newContext(r *http.Request) *types.HttpContext {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	return types.NewHttpContext(noResponse{}, r.WithContext(over))
}

// noResponse is where answers to a request go that has become a WebSocket.
type noResponse struct{}

func (noResponse) Header() http.Header            { return http.Header{} }
func (noResponse) Write(data []byte) (int, error) { return len(data), nil }
func (noResponse) WriteHeader(int)                {}
