package cloudapi_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
)

// hands is a clock that moves when it is told to.
type hands struct{ at atomic.Int64 }

func (h *hands) now() time.Time { return time.Unix(1_769_860_800, h.at.Load()) }

func (h *hands) move(d time.Duration) { h.at.Add(int64(d)) }

func TestLimitsOnSending(t *testing.T) {
	clock := &hands{}
	s := newSim(t, func(o *cloudapi.Options) {
		o.NoLimits, o.Now = false, clock.now
		o.Numbers[0].NoWindow = true
	})
	number, _ := s.Number(phoneID)
	send := func(to int) int {
		a := s.do("POST", messagesPath, textBody(fmt.Sprintf("1555010%04d", to), "hello"))
		if a.status == http.StatusOK {
			return 0
		}
		code, _ := a.errorField("code").(float64)
		return int(code)
	}
	for i := range 45 {
		require.Zero(t, send(1), "message %d of a burst to one customer", i)
	}
	assert.Equal(t, 131056, send(1))
	for i := range 35 {
		require.Zero(t, send(1000+i), "message to customer %d", i)
	}
	assert.Equal(t, 130429, send(2), "80 in the second")
	clock.move(6 * time.Second)
	assert.Zero(t, send(1))
	assert.Equal(t, 131056, send(1), "one every six seconds")

	number.HighThroughput = true
	require.NoError(t, s.AddNumber(number))
	level := s.do("GET", "/v21.0/"+phoneID+"?fields=throughput", "")
	assert.Contains(t, level.body, `"HIGH"`)
	for i := range 200 {
		require.Zero(t, send(2000+i))
	}
	number.NoLimits = true
	require.NoError(t, s.AddNumber(number))
	assert.Zero(t, send(1))
}
