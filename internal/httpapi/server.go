package httpapi

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"switchboard/internal/account"
	"switchboard/internal/auth"
	"switchboard/internal/inbox"
	"switchboard/internal/media"
	"switchboard/internal/telemetry"
)

// defaultReadTimeout bounds how long a client may take to send a body, uploads apart.
const defaultReadTimeout = 30 * time.Second

// defaultMaxBody is the largest body of a request, uploads apart.
const defaultMaxBody = 1 << 20

// Options are what a Server is made from. Those of the first two groups are required; a nil handler leaves its paths out.
type Options struct {
	Accounts *account.Service
	Inbox    *inbox.Service
	Logger   *slog.Logger

	Blobs         media.Blobs      // where uploads go and downloads come from
	MediaLinks    *auth.MediaLinks // signs the addresses of files
	MediaMaxBytes int64            // largest upload; 0: 100 MiB

	Metrics      *telemetry.Metrics // of requests, and /metrics
	MetricsToken string             // bearer token that /metrics asks for; empty: none
	Health       *telemetry.Health  // /healthz and /readyz

	// Webhooks serves /webhooks/.
	Webhooks Webhooks
	// SocketIO serves /socket.io/. It answers for CORS and for the check of origins there itself.
	SocketIO http.Handler
	// Dashboard serves every GET and HEAD of a path that nothing else knows.
	Dashboard http.Handler

	PublicURL      string         // base of this API as its users see it, without a trailing slash
	Version        string         // in the OpenAPI document; empty: "dev"
	CORSOrigins    []string       // scheme://host[:port] of other origins whose pages may call
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	ReadTimeout    time.Duration  // how long a client may take to send a body, uploads apart; 0: 30 s
	MaxBody        int64          // largest body in bytes, uploads apart; 0: 1 MiB
}

// Server is the REST API as an http.Handler. It has no goroutines of its own; timeouts of connections belong to the
// http.Server around it.
type Server struct {
	options Options
	engine  *gin.Engine
	api     huma.API
}

// Gin is quiet: this package logs.
func init() { gin.SetMode(gin.ReleaseMode) }

// New makes a Server. It fails only on options that cannot work.
func New(options Options) (*Server, error) {
	if options.ReadTimeout == 0 {
		options.ReadTimeout = defaultReadTimeout
	}
	if options.MaxBody == 0 {
		options.MaxBody = defaultMaxBody
	}
	if options.MediaMaxBytes == 0 {
		options.MediaMaxBytes = defaultMaxUpload
	}
	s := &Server{options: options, engine: gin.New()}
	proxies := make([]string, 0, len(options.TrustedProxies))
	for _, p := range options.TrustedProxies {
		proxies = append(proxies, p.String())
	}
	if err := s.engine.SetTrustedProxies(proxies); err != nil {
		return nil, err
	}
	s.engine.RedirectTrailingSlash = false
	s.engine.HandleMethodNotAllowed = true
	s.engine.Use(s.identify, s.observe, s.recoverPanics, s.secure, s.allowOrigins, refuseBadText)
	s.engine.NoRoute(s.noRoute)
	s.engine.NoMethod(noMethod)

	s.api = humagin.New(s.engine, s.config())
	s.routes()
	s.mount()
	return s, nil
}

// routes registers everything of OpenAPI, a group of routes a line.
func (s *Server) routes() {
	s.authRoutes()
	s.userRoutes()
	s.apiKeyRoutes()
	s.inboxSchemas()
	s.channelRoutes()
	s.chatRoutes()
	s.messageRoutes()
	s.mediaRoutes()
	s.ticketRoutes()
	s.notificationRoutes()
	s.eventRoutes()
}

// mount registers everything else.
func (s *Server) mount() {
	s.docsRoutes()
	s.webhookRoutes()
	if s.options.SocketIO != nil {
		s.engine.Any("/socket.io/*any", gin.WrapH(s.options.SocketIO))
	}
	if s.options.Health != nil {
		s.engine.GET("/healthz", gin.WrapH(s.options.Health.Live()))
		s.engine.GET("/readyz", gin.WrapH(s.options.Health.Ready()))
	}
	if s.options.Metrics != nil {
		s.engine.GET("/metrics", gin.WrapH(s.options.Metrics.Handler(s.options.MetricsToken)))
	}
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }
