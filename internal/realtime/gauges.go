package realtime

// Gauges are what a node has at a moment.
type Gauges struct {
	Polling     int   // connections over long polling, also those that never joined
	WebSocket   int   // connections over WebSocket
	Joined      int   // sockets that were let in
	Feeds       int   // organizations whose log this node follows
	QueuedBytes int64 // what waits for clients to take it, over all connections
}

// Gauges counts what this node has now. It looks at every connection: ask for it at the pace of a scrape.
func (s *Server) Gauges() Gauges {
	var g Gauges
	for _, c := range s.watched() {
		if c.wire.Load() != nil {
			g.WebSocket++
		} else {
			g.Polling++
		}
		g.QueuedBytes += c.pending()
	}
	g.Feeds = s.hub.count()
	s.mu.RLock()
	defer s.mu.RUnlock()
	g.Joined = len(s.sessions)
	return g
}
