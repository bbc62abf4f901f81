package telemetry

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Reasons of SocketAuthFailures.
const (
	AuthNoToken     = "no_token"
	AuthInvalid     = "invalid_token" // bad, expired or revoked
	AuthUnavailable = "unavailable"   // it could not be decided in time
	AuthLimit       = "too_many_sockets"
	AuthAgain       = "again" // a second handshake on one connection
	AuthOrigin      = "origin"
)

// Queues of QueueDepth, as label values.
const (
	QueueOutbox   = "outbox"   // messages in status queued, over all channels of this worker
	QueueWebhooks = "webhooks" // raw deliveries committed and not yet processed
	QueueEmitter  = "emitter"  // events waiting to go to Redis
)

// latencyBuckets suit a way that should take 50 ms and may take half a minute while something is down.
var latencyBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// Metrics are the numbers of one process, on a registry of their own. All fields are safe for concurrent use. Label
// values must come from small fixed sets: never an id, a path with ids, or anything that a user chose.
type Metrics struct {
	registry *prometheus.Registry

	// SocketAuthFailures counts refused Socket.IO handshakes by reason (Auth…).
	SocketAuthFailures *prometheus.CounterVec
	// SocketsCut counts sockets closed by the server, by reason: slow, flood, unjoined, expired, revoked.
	SocketsCut *prometheus.CounterVec
	// Admissions counts requests for new connections, by result: admitted, delayed, refused, gone.
	Admissions *prometheus.CounterVec
	// ClientEvents counts events from clients, by event and result (ok or the error's code).
	ClientEvents *prometheus.CounterVec

	// EventsPublished counts committed events handed to the emitter; EventsBroadcast those that this node sent to its
	// sockets. What the emitter loses is counted by QueueDropped.
	EventsPublished prometheus.Counter
	EventsBroadcast prometheus.Counter
	// Deliveries counts events times the sockets that they were broadcast to.
	Deliveries prometheus.Counter
	// EventsHealed counts events that Redis did not bring and a feed fetched from the log; EventsReplayed those sent to
	// single sockets that had missed them; SyncResets the sockets told to refetch, by reason; LogReads the reads of the
	// log, by purpose.
	EventsHealed   prometheus.Counter
	EventsReplayed prometheus.Counter
	SyncResets     *prometheus.CounterVec
	LogReads       *prometheus.CounterVec
	// FeedGaps counts the times that a feed had to read the log because an event was missing.
	FeedGaps prometheus.Counter
	// FeedLag is how many events were in the log and not broadcast when the heads were last polled.
	FeedLag prometheus.Gauge
	// NewEpochs counts the times that this process gave all event logs new epochs, by reason.
	NewEpochs *prometheus.CounterVec
	// FeedLatency is the time from an event's commit to its broadcast, in seconds.
	FeedLatency prometheus.Histogram

	// IngestLatency is the time from receipt of a provider's message to its commit, in seconds, by channel kind.
	IngestLatency *prometheus.HistogramVec
	// SendLatency is the time from queued to accepted by the provider, in seconds, by channel kind.
	SendLatency *prometheus.HistogramVec
	// Sends counts finished send attempts by channel kind and result: sent, failed, unknown.
	Sends *prometheus.CounterVec
	// Webhooks counts deliveries by result: accepted, duplicate, bad_signature, invalid, failed.
	Webhooks *prometheus.CounterVec

	// QueueDepth is what waits, by queue (Queue…); QueueDropped counts what was thrown away:
	// emitter_queue, emitter_error, feed_queue, redis_message.
	QueueDepth   *prometheus.GaugeVec
	QueueDropped *prometheus.CounterVec

	// LeasesHeld is how many channels this worker owns; LeaseLosses counts those that it lost without giving them up.
	LeasesHeld  prometheus.Gauge
	LeaseLosses prometheus.Counter
	// PoolWorkers is how many workers of the pool live, as this one sees it; HandedBack counts channels that it gave up for
	// another worker by reason: spread, reserved.
	PoolWorkers prometheus.Gauge
	HandedBack  *prometheus.CounterVec
	// ChannelsUnowned is how many channels should run and have no worker, as this API node sees it.
	ChannelsUnowned prometheus.Gauge
	// Channels is the number of this worker's channels by kind and state.
	Channels *prometheus.GaugeVec

	// Logins counts logins by result: ok, denied, throttled.
	Logins *prometheus.CounterVec

	httpRequests *prometheus.HistogramVec
}

// NewMetrics returns a process's metrics, together with those of the Go runtime and of the operating system's process.
func NewMetrics() *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	histograms := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencyBuckets}, labels)
		r.MustRegister(h)
		return h
	}
	m := &Metrics{
		registry:           r,
		SocketAuthFailures: counters("socketio_authentication_failures_total", "Refused Socket.IO handshakes.", "reason"),
		SocketsCut:         counters("switchboard_sockets_cut_total", "Sockets closed by the server.", "reason"),
		Admissions:         counters("switchboard_socket_admissions_total", "Requests for new connections.", "result"),
		ClientEvents:       counters("switchboard_client_events_total", "Events received from sockets.", "event", "result"),
		EventsPublished:    counter("switchboard_events_published_total", "Committed events handed to the emitter."),
		EventsBroadcast:    counter("switchboard_events_broadcast_total", "Events broadcast to this node's sockets."),
		Deliveries:         counter("switchboard_deliveries_total", "Events delivered, once for each socket."),
		EventsHealed:       counter("switchboard_events_healed_total", "Events that a feed fetched from the log because Redis did not bring them."),
		EventsReplayed:     counter("switchboard_events_replayed_total", "Events sent to sockets that had missed them."),
		SyncResets:         counters("switchboard_sync_resets_total", "Sockets told to refetch.", "reason"),
		LogReads:           counters("switchboard_log_reads_total", "Reads of the event log.", "purpose"),
		FeedGaps:           counter("switchboard_feed_gaps_total", "Times a feed read missing events from the log."),
		FeedLag:            gauge("switchboard_feed_lag_events", "Events in the log that were not broadcast when the heads were last polled."),
		NewEpochs:          counters("switchboard_new_epochs_total", "Times this process gave all event logs new epochs.", "reason"),
		IngestLatency:      histograms("switchboard_ingest_duration_seconds", "From receipt of a provider's message to its commit.", "kind"),
		SendLatency:        histograms("switchboard_send_duration_seconds", "From queued to accepted by the provider.", "kind"),
		Sends:              counters("switchboard_sends_total", "Finished send attempts.", "kind", "result"),
		Webhooks:           counters("switchboard_webhooks_total", "Webhook deliveries.", "result"),
		QueueDepth:         gauges("switchboard_queue_depth", "Items that wait.", "queue"),
		QueueDropped:       counters("switchboard_queue_dropped_total", "Items refused by a full queue.", "queue"),
		LeaseLosses:        counter("switchboard_lease_losses_total", "Leases lost without being given up."),
		LeasesHeld:         gauge("switchboard_leases_held", "Channels that this worker owns."),
		PoolWorkers:        gauge("switchboard_pool_workers", "Live workers of the pool."),
		HandedBack:         counters("switchboard_channels_handed_back_total", "Channels given up for another worker.", "reason"),
		ChannelsUnowned:    gauge("switchboard_channels_unowned", "Channels that should run and have no worker."),
		Channels:           gauges("switchboard_channels", "Channels of this worker.", "kind", "state"),
		Logins:             counters("switchboard_logins_total", "Logins.", "result"),
		httpRequests:       histograms("switchboard_http_request_duration_seconds", "HTTP requests.", "route", "method", "status"),
		FeedLatency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "switchboard_feed_duration_seconds", Help: "From an event's commit to its broadcast.", Buckets: latencyBuckets,
		}),
	}
	r.MustRegister(m.FeedLatency)
	m.startAtZero()
	return m
}

// startAtZero makes the series of fixed labels exist from the start: an alert on a rate misses the first increment of a
// series that was not there before.
func (m *Metrics) startAtZero() {
	for _, reason := range []string{AuthNoToken, AuthInvalid, AuthUnavailable, AuthLimit, AuthAgain, AuthOrigin} {
		m.SocketAuthFailures.WithLabelValues(reason)
	}
	for _, result := range []string{"admitted", "delayed", "refused", "gone"} {
		m.Admissions.WithLabelValues(result)
	}
	for _, reason := range []string{"slow", "flood", "unjoined", "expired", "revoked"} {
		m.SocketsCut.WithLabelValues(reason)
	}
	for _, reason := range []string{"bad_position", "epoch", "retention", "future"} {
		m.SyncResets.WithLabelValues(reason)
	}
	for _, purpose := range []string{"gap", "replay", "sync", "verify"} {
		m.LogReads.WithLabelValues(purpose)
	}
	for _, reason := range []string{"spread", "reserved"} {
		m.HandedBack.WithLabelValues(reason)
	}
	for _, reason := range []string{"unknown", "copied", "cluster", "timeline", "database", "rewound", "ordered"} {
		m.NewEpochs.WithLabelValues(reason)
	}
	for _, queue := range []string{"emitter_queue", "emitter_error", "feed_queue", "redis_message"} {
		m.QueueDropped.WithLabelValues(queue)
	}
	for _, result := range []string{"ok", "denied", "throttled"} {
		m.Logins.WithLabelValues(result)
	}
	for _, result := range []string{"accepted", "duplicate", "bad_signature", "invalid", "failed"} {
		m.Webhooks.WithLabelValues(result)
	}
}

// Sockets are the numbers of an API node's sockets at one moment.
type Sockets struct {
	Clients     int            // connected, over any transport
	Transports  map[string]int // the same, by transport: polling, websocket
	Joined      int            // those that were authenticated and let in
	Rooms       int
	Feeds       int   // organizations whose log is followed
	QueuedBytes int64 // what waits for clients to take it
}

// sockets collects Sockets at every scrape.
type sockets struct {
	read                                               func() Sockets
	clients, byTransport, joined, rooms, feeds, queued *prometheus.Desc
}

// WatchSockets registers what is known of the node's sockets. read is called at every scrape and must be safe for concurrent
// use. Call it once.
func (m *Metrics) WatchSockets(read func() Sockets) {
	m.registry.MustRegister(&sockets{
		read:        read,
		clients:     prometheus.NewDesc("socketio_connected_clients", "Sockets connected to this node.", nil, nil),
		byTransport: prometheus.NewDesc("socketio_connections", "Connections to this node.", []string{"transport"}, nil),
		joined:      prometheus.NewDesc("socketio_joined_sockets", "Sockets that were let in.", nil, nil),
		rooms:       prometheus.NewDesc("socketio_rooms", "Socket.IO rooms on this node.", nil, nil),
		feeds:       prometheus.NewDesc("switchboard_feeds", "Organizations whose event log this node follows.", nil, nil),
		queued:      prometheus.NewDesc("switchboard_socket_queue_bytes", "What waits for this node's sockets to take it.", nil, nil),
	})
}

// Describe implements prometheus.Collector.
func (s *sockets) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{s.clients, s.byTransport, s.joined, s.rooms, s.feeds, s.queued} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (s *sockets) Collect(out chan<- prometheus.Metric) {
	now := s.read()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(s.clients, float64(now.Clients))
	for transport, n := range now.Transports {
		gauge(s.byTransport, float64(n), transport)
	}
	gauge(s.joined, float64(now.Joined))
	gauge(s.rooms, float64(now.Rooms))
	gauge(s.feeds, float64(now.Feeds))
	gauge(s.queued, float64(now.QueuedBytes))
}

// Register adds a collector of the caller's own, such as the database pool's.
func (m *Metrics) Register(c prometheus.Collector) error { return m.registry.Register(c) }

// ObserveHTTP records a request. route is the pattern that matched ("/api/chats/:id"), or empty if none did.
func (m *Metrics) ObserveHTTP(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.httpRequests.WithLabelValues(route, knownMethod(method), statusClass(status)).Observe(took.Seconds())
}

// knownMethod keeps a client from making series at will with methods of its own.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}

// statusClass writes the status itself, if it is one: there are few, and 422 and 429 tell more than 4xx.
func statusClass(status int) string {
	if text := http.StatusText(status); text == "" {
		return "other"
	}
	return strconv.Itoa(status)
}

// Handler serves /metrics. If token is not empty, it must come as a bearer token.
func (m *Metrics) Handler(token string) http.Handler {
	metrics := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: 4, EnableOpenMetrics: true})
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(bearer))
		if token != "" && subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "This page needs the bearer token that METRICS_TOKEN sets.", http.StatusUnauthorized)
			return
		}
		metrics.ServeHTTP(w, r)
	})
}
