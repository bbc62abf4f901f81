package cloudapi_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
)

func TestLedgerIsBoundedAndOrdered(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) { o.LedgerSize = 10 })
	var last string
	for i := range 30 {
		last = s.says(fmt.Sprint(i))
	}
	s.idle()
	entries := s.Ledger().Entries(cloudapi.Filter{})
	require.Len(t, entries, 10)
	for i, e := range entries {
		require.Equal(t, uint64(51+i), e.Seq)
	}
	require.Equal(t, 30, s.Ledger().Counts().Acked, "counts do not forget")
	require.Len(t, s.Ledger().AckedMessages(""), 10)
	require.True(t, s.Ledger().Acked(last))
	require.Len(t, s.Ledger().Entries(cloudapi.Filter{Limit: 3}), 3)
	require.Equal(t, uint64(60), s.Ledger().Entries(cloudapi.Filter{Limit: 1})[0].Seq, "the newest")
	require.Equal(t, uint64(56), s.Ledger().Entries(cloudapi.Filter{After: 55, Limit: 2})[0].Seq, "the next")
	s.Ledger().Reset()
	require.Empty(t, s.Ledger().Entries(cloudapi.Filter{}))
	require.Equal(t, cloudapi.Counts{}, s.Ledger().Counts())
}

func TestPayloadsAreForgottenFirst(t *testing.T) {
	s := newSim(t)
	for i := range 1001 {
		s.says(fmt.Sprint(i))
	}
	s.idle()
	d := s.Ledger().Deliveries()
	require.Len(t, d, 1001)
	require.Nil(t, d[0].Payload)
	require.JSONEq(t, s.hook.got()[1], string(d[1].Payload))
}

func TestWaitIsWokenAndEndsWithItsContext(t *testing.T) {
	s := newSim(t)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			s.wait("enough", func(l *cloudapi.Ledger) bool { return l.Counts().Acked > i })
		})
	}
	for range 5 {
		s.says("x")
	}
	wg.Wait()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough of it")
	cancel(why)
	require.ErrorIs(t, s.Ledger().Wait(ctx, func(*cloudapi.Ledger) bool { return false }), why)
}

func TestManyAtOnce(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) { o.Parallel = 8 })
	s.hook.answer = func(n int) int {
		if n%3 == 0 {
			return 500
		}
		return 200
	}
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			waID := fmt.Sprintf("49171000%04d", c)
			for i := range 20 {
				if _, err := s.CustomerSend(phoneID, waID, cloudapi.Incoming{Type: "text", Text: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
				if a := s.do("POST", messagesPath, textBody(waID, fmt.Sprintf("%d-%d", c, i))); a.status != 200 {
					t.Error(a.body)
				}
				if _, err := s.CustomerRead(phoneID, waID, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.idle()
	counts := s.Ledger().Counts()
	require.Equal(t, 160, counts.Acked)
	require.Equal(t, 160, counts.Told)
	for _, send := range s.Ledger().Sends(phoneID) {
		for _, st := range []string{"sent", "delivered", "read"} {
			require.True(t, s.Ledger().AckedStatus(send.ID, st))
		}
	}
}

func TestConversationIsBounded(t *testing.T) {
	s := newSim(t)
	first := s.says("first")
	for i := range 500 {
		s.says(fmt.Sprint(i))
	}
	c, err := s.Conversation(phoneID, customer)
	require.NoError(t, err)
	require.Len(t, c.Messages, 500)
	require.Equal(t, "499", c.Messages[499].Text)
	a := s.do("POST", messagesPath, `{"messaging_product":"whatsapp","status":"read","message_id":"`+first+`"}`)
	require.Equal(t, 400, a.status, "forgotten")
}
