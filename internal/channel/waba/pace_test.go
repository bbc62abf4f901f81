package waba

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
)

// The limits that Meta documents hold for any second, and for any customer.
func TestPaceStaysBelowMetasLimits(t *testing.T) {
	assert.LessOrEqual(t, paceStandard.Burst+int(time.Second/paceStandard.Every), 80)
	assert.LessOrEqual(t, paceHigh.Burst+int(time.Second/paceHigh.Every), 1000)
	assert.Less(t, pacePair.Burst, 45)
	assert.GreaterOrEqual(t, pacePair.Every, 6*time.Second)
}

func TestPaceFollowsTheNumbersLevel(t *testing.T) {
	for high, want := range map[bool]int{false: paceStandard.Burst, true: paceHigh.Burst} {
		p := newPlatform(t, func(n *cloudapi.Number) { n.HighThroughput = high })
		host := newStage()
		s := p.open(t, host, nil)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(t.Context()) }()
		select {
		case <-host.ready:
		case err := <-ended:
			require.NoError(t, err)
			return
		}
		assert.Equal(t, want, s.Pace(time.Now().Add(time.Minute)).Room)
	}
}

func TestWhatCounts(t *testing.T) {
	s := &Session{pace: newPace()}
	now := time.Now().Add(time.Hour)
	s.Doing(now, domain.Command{Kind: domain.CommandRead, ChatID: 1})
	assert.Equal(t, paceStandard.Burst, s.Pace(now).Room, "a receipt is no message")
	s.Doing(now, domain.Command{Kind: domain.CommandReaction, ChatID: 1})
	s.Sending(now, domain.Outbound{Message: domain.Message{ChatID: 2}})
	assert.Equal(t, paceStandard.Burst-2, s.Pace(now).Room)
}

// Refusals as too early hold the customer's chat, or the number, and longer each
// time.
func TestRefusalsHold(t *testing.T) {
	p := newPlatform(t, nil)
	s := p.open(t, newStage(), nil)
	refused := func(code int, chatID int64) *channel.SendError {
		t.Helper()
		p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultFail, Code: code, Count: 1})
		m := hello()
		m.Message.ChatID = chatID
		_, err := s.Send(within(t), m)
		return sendError(t, err)
	}
	e := refused(131056, 1)
	assert.Equal(t, pairWait, e.RetryAfter)
	assert.False(t, e.WholeChannel)
	assert.Equal(t, []int64{1}, s.Pace(time.Now()).Waiting)
	assert.False(t, refused(131056, 2).WholeChannel, "Meta tells whose limit it is")
	assert.Positive(t, s.Pace(time.Now()).Room)

	assert.Equal(t, numberWait, refused(130429, 3).RetryAfter)
	pace := s.Pace(time.Now())
	assert.Zero(t, pace.Room)
	assert.WithinDuration(t, time.Now().Add(numberWait), pace.Again, numberWait)
	later := s.pace.RefusedAll(time.Now().Add(numberWait+time.Second), numberWait)
	assert.Equal(t, 2*numberWait, later)
}
