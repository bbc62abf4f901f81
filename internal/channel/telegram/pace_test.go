package telegram

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// The limits that Telegram documents hold for any minute and any second.
func TestPaceStaysBelowTelegramsLimits(t *testing.T) {
	assert.LessOrEqual(t, paceGroup.Burst+int(time.Minute/paceGroup.Every), 20)
	assert.LessOrEqual(t, paceBot.Burst+int(time.Second/paceBot.Every), 30)
	assert.Equal(t, paceGroup, paceOf("-1001234567890"))
	assert.Equal(t, paceDirect, paceOf("42"))
}

func TestWhatCounts(t *testing.T) {
	s := &Session{pace: newPace()}
	now := time.Now().Add(time.Hour)
	room := func() int { return s.Pace(now).Room }
	assert.Equal(t, paceBot.Burst, room())
	s.Doing(now, domain.Command{Kind: domain.CommandRead, ChatID: 1, Peer: "42"})
	assert.Equal(t, paceBot.Burst, room(), "a bot tells nobody what it has read")
	s.Doing(now, domain.Command{Kind: domain.CommandReaction, ChatID: 1, Peer: "42"})
	assert.Equal(t, paceBot.Burst-1, room())
	for range paceDirect.Burst - 1 {
		s.Sending(now, domain.Outbound{Message: domain.Message{ChatID: 1}, Peer: "42"})
	}
	assert.Empty(t, s.Pace(now).Waiting)
	s.Doing(now, domain.Command{Kind: domain.CommandEdit, ChatID: 1, Peer: "42"})
	assert.Equal(t, []int64{1}, s.Pace(now).Waiting, "an edit is a message to the chat")
}

// What Telegram refuses as too early waits for as long as it says, its chat
// alone at first, and never counts as a failed try.
func TestFloodHoldsTheChat(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	flood := fails(429, "Too Many Requests: retry after 17", `{"retry_after":17}`)
	send := func(chatID int64) *channel.SendError {
		t.Helper()
		a.script("sendMessage", flood)
		m := text("hello")
		m.Message.ChatID = chatID
		_, err := s.Send(within(t), m)
		return sendError(t, err)
	}
	e := send(1)
	assert.True(t, e.Limited)
	assert.False(t, e.WholeChannel)
	assert.Equal(t, 17*time.Second, e.RetryAfter)
	pace := s.Pace(time.Now())
	assert.Equal(t, []int64{1}, pace.Waiting)
	assert.WithinDuration(t, time.Now().Add(17*time.Second), pace.Again, 5*time.Second)
	assert.Positive(t, pace.Room)

	e = send(2)
	assert.True(t, e.WholeChannel, "Telegram does not tell whose limit it was")
	assert.Zero(t, s.Pace(time.Now()).Room)

	a.script("setMessageReaction", flood)
	c := command(domain.CommandReaction, "👍")
	c.ChatID = 3
	require.True(t, sendError(t, s.Do(within(t), c)).Limited)
}
