package telegram

import (
	"strings"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/channel/pacing"
	"switchboard/internal/domain"
)

// Telegram's limits of a bot's messages: about one a second in a chat, where a
// few at once are let through, 20 a minute in a group, 30 a second in all. These
// stay below them for every stretch of time, bursts included.
var (
	paceDirect = pacing.Limit{Every: time.Second, Burst: 3}
	paceGroup  = pacing.Limit{Every: 4 * time.Second, Burst: 5} // 5 + 15 in a minute
	paceBot    = pacing.Limit{Every: time.Second / 25, Burst: 5}
)

func newPace() *pacing.Gate {
	return pacing.New(time.Now(), pacing.Limits{All: paceBot, Chat: paceOf, Vague: true})
}

// paceOf tells a group by its number, which is below zero.
func paceOf(peer string) pacing.Limit {
	if strings.HasPrefix(peer, "-") {
		return paceGroup
	}
	return paceDirect
}

// Pace implements channel.Pacer.
func (s *Session) Pace(now time.Time) channel.Pace { return s.pace.Pace(now) }

// Sending implements channel.Pacer.
func (s *Session) Sending(now time.Time, m domain.Outbound) {
	s.pace.Message(now, m.Message.ChatID, m.Peer)
}

// Doing implements channel.Pacer. An edit counts as a message to the chat.
func (s *Session) Doing(now time.Time, c domain.Command) {
	switch c.Kind {
	case domain.CommandRead:
	case domain.CommandEdit:
		s.pace.Message(now, c.ChatID, c.Peer)
	default:
		s.pace.Call(now)
	}
}

// limited notes that Telegram refused something as too early.
func (s *Session) limited(chatID int64, peer string, e *channel.SendError) {
	e.Limited = true
	e.RetryAfter, e.WholeChannel = s.pace.RefusedChat(time.Now(), chatID, peer, e.RetryAfter)
}
