package app

import (
	"time"

	"switchboard/internal/realtime"
	"switchboard/internal/telemetry"
)

// socketGauges reads what an API node's sockets are at the moment of a scrape.
func socketGauges(s *realtime.Server) telemetry.Sockets {
	g := s.Gauges()
	return telemetry.Sockets{
		Clients: s.ConnectedClients(), Rooms: s.Rooms(), Joined: g.Joined,
		Transports: map[string]int{"polling": g.Polling, "websocket": g.WebSocket}, Feeds: g.Feeds, QueuedBytes: g.QueuedBytes,
	}
}

// realtimeMetrics feeds what the sockets tell into the process's metrics.
func (c *core) realtimeMetrics() realtime.Metrics {
	m := c.metrics
	return realtime.Metrics{
		AuthenticationFailed: func(reason string) { m.SocketAuthFailures.WithLabelValues(reason).Inc() },
		ClientEvent:          func(event, result string) { m.ClientEvents.WithLabelValues(event, result).Inc() },
		Broadcast: func(_ string, sockets int) {
			m.EventsBroadcast.Inc()
			m.Deliveries.Add(float64(sockets))
		},
		Lag:          func(lag time.Duration) { m.FeedLatency.Observe(lag.Seconds()) },
		Behind:       func(events int) { m.FeedLag.Set(float64(events)) },
		Admission:    func(result string) { m.Admissions.WithLabelValues(result).Inc() },
		Healed:       func(events int) { m.FeedGaps.Inc(); m.EventsHealed.Add(float64(events)) },
		Replayed:     func(events int) { m.EventsReplayed.Add(float64(events)) },
		Reset:        func(reason string) { m.SyncResets.WithLabelValues(reason).Inc() },
		LogRead:      func(purpose string) { m.LogReads.WithLabelValues(purpose).Inc() },
		Cut:          func(reason string) { m.SocketsCut.WithLabelValues(reason).Inc() },
		Dropped:      func(what string) { m.QueueDropped.WithLabelValues(what).Inc() },
		EmitterQueue: func(depth int) { m.QueueDepth.WithLabelValues(telemetry.QueueEmitter).Set(float64(depth)) },
	}
}
