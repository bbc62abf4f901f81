package waba

import (
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/channel/pacing"
	"switchboard/internal/domain"
)

// Meta's limits. To one customer a message every 6 seconds, or up to 45 at once
// that borrow from what follows; from one number 80 a second, 1,000 after Meta
// has upgraded it, what customers write included. These stay below them for
// every second. Nothing is to be set: Meta tells the level of a number
// ("throughput").
// Source: Cloud API, "Throughput" and "Pair rate limits".
var (
	pacePair     = pacing.Limit{Every: pairWait, Burst: 40}
	paceStandard = pacing.Limit{Every: time.Second / 70, Burst: 8}
	paceHigh     = pacing.Limit{Every: time.Second / 900, Burst: 80}
)

func newPace() *pacing.Gate {
	return pacing.New(time.Now(), pacing.Limits{All: paceStandard, Chat: func(string) pacing.Limit { return pacePair }})
}

// setThroughput paces by the level that Meta tells.
func (s *Session) setThroughput(level string) {
	limit := paceStandard
	if level == "HIGH" {
		limit = paceHigh
	}
	s.pace.SetAll(limit)
}

// Pace implements channel.Pacer.
func (s *Session) Pace(now time.Time) channel.Pace { return s.pace.Pace(now) }

// Sending implements channel.Pacer.
func (s *Session) Sending(now time.Time, m domain.Outbound) {
	s.pace.Message(now, m.Message.ChatID, m.Peer)
}

// Doing implements channel.Pacer. A reaction is a message to Meta.
func (s *Session) Doing(now time.Time, c domain.Command) {
	if c.Kind != domain.CommandRead {
		s.pace.Message(now, c.ChatID, c.Peer)
	}
}

// limited notes what Meta refused as too early, and makes it wait longer each
// time.
func (s *Session) limited(chatID int64, e *channel.SendError) {
	now := time.Now()
	if e.WholeChannel {
		e.RetryAfter = s.pace.RefusedAll(now, e.RetryAfter)
		return
	}
	e.RetryAfter, e.WholeChannel = s.pace.RefusedChat(now, chatID, "", e.RetryAfter)
}
