package app

import (
	"time"

	"switchboard/internal/realtime"
	"switchboard/internal/telemetry"
)

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
		Healed:       func(events int) { m.FeedGaps.Inc(); m.EventsHealed.Add(float64(events)) },
		Replayed:     func(events int) { m.EventsReplayed.Add(float64(events)) },
		Reset:        func(reason string) { m.SyncResets.WithLabelValues(reason).Inc() },
		LogRead:      func(purpose string) { m.LogReads.WithLabelValues(purpose).Inc() },
		Cut:          func(reason string) { m.SocketsCut.WithLabelValues(reason).Inc() },
		Dropped:      func(what string) { m.QueueDropped.WithLabelValues(what).Inc() },
		EmitterQueue: func(depth int) { m.QueueDepth.WithLabelValues(telemetry.QueueEmitter).Set(float64(depth)) },
	}
}
