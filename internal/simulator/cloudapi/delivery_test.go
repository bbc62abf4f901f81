package cloudapi_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
)

func TestFirstAttemptsAreInOrder(t *testing.T) {
	s := newSim(t)
	var want []string
	for i := range 50 {
		want = append(want, s.says(fmt.Sprint(i)))
	}
	s.idle()
	require.Equal(t, want, messageIDs(t, s.hook.got()))
	require.Equal(t, want, s.Ledger().AckedMessages(phoneID))
}

func TestRedeliveryUntil200(t *testing.T) {
	s := newSim(t)
	s.hook.answer = func(n int) int { return []int{500, 401, 201, 302, 200}[min(n, 5)-1] }
	id := s.says("again and again")
	s.idle()
	sum, ok := s.Ledger().Message(id)
	require.True(t, ok)
	require.Equal(t, 5, sum.Attempts)
	require.True(t, sum.Acked)
	var codes []int
	for i, d := range s.Ledger().Deliveries() {
		require.Equal(t, i+1, d.Attempt)
		codes = append(codes, d.HTTPStatus)
	}
	require.Equal(t, []int{500, 401, 201, 302, 200}, codes)
	require.Len(t, slices.Compact(s.hook.got()), 1, "the same bytes each time")
	require.Equal(t, []bool{true, true, true, true, true}, s.hook.allSigned())
}

func TestAFailedWebhookDoesNotHoldUpOthers(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) { o.Backoff = never })
	s.hook.answer = func(n int) int {
		if n == 1 {
			return 503
		}
		return 200
	}
	first := s.says("first")
	second := s.says("second")
	s.wait("the second arrives", func(l *cloudapi.Ledger) bool { return l.Acked(second) })
	require.False(t, s.Ledger().Acked(first))
	require.Equal(t, 1, s.Pending())
	s.RedeliverNow("")
	s.wait("the first arrives", func(l *cloudapi.Ledger) bool { return l.Acked(first) })
	require.Equal(t, []string{first, second, first}, messageIDs(t, s.hook.got()))
}

func TestGivesUpWhenTheScheduleEnds(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) {
		o.Backoff = func(n int, _ time.Duration) (time.Duration, bool) { return 0, n < 3 }
	})
	s.hook.answer = func(int) int { return 500 }
	id := s.says("lost")
	s.idle()
	s.wait("the end is recorded", func(l *cloudapi.Ledger) bool { return l.Counts().GaveUp == 1 })
	require.Len(t, s.hook.got(), 3)
	require.False(t, s.Ledger().Acked(id))
}

func TestUnreachableWebhookAndANewAddress(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) {
		o.Numbers[0].WebhookURL = ""
		o.Backoff = never
	})
	id := s.says("nobody listens")
	s.wait("an attempt fails", func(l *cloudapi.Ledger) bool { return l.Counts().Refused == 1 })
	n, _ := s.Number(phoneID)
	n.WebhookURL = s.hook.URL
	require.NoError(t, s.AddNumber(n))
	s.wait("the new address is used at once", func(l *cloudapi.Ledger) bool { return l.Acked(id) })
}

func TestQueueIsBounded(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) {
		o.QueueSize = 2
		o.Backoff = never
	})
	s.hook.answer = func(int) int { return 500 }
	s.says("one")
	s.says("two")
	_, err := s.CustomerSend(phoneID, customer, cloudapi.Incoming{Type: "text", Text: "three"})
	require.ErrorIs(t, err, cloudapi.ErrQueueFull)
	s.sendText("its statuses do not fit").wamid(t)
	s.wait("drops are recorded", func(l *cloudapi.Ledger) bool { return l.Counts().Dropped == 3 })
	require.Equal(t, 2, s.Pending())
	require.Equal(t, 2, s.Ledger().Counts().Inbound, "a refused message was not sent")
}

func TestRepeat(t *testing.T) {
	for _, parallel := range []bool{false, true} {
		s := newSim(t)
		s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookRepeat, Times: 4, Parallel: parallel, Count: 1})
		id := s.says("five times")
		s.idle()
		require.Equal(t, []string{id, id, id, id, id}, messageIDs(t, s.hook.got()))
		require.Len(t, slices.Compact(s.hook.got()), 1)
		s.says("once")
		s.idle()
		require.Len(t, s.hook.got(), 6)
	}
}

func TestReorder(t *testing.T) {
	s := newSim(t)
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookReorder, Size: 3, Hold: time.Minute, Count: 1})
	a, b, c := s.says("a"), s.says("b"), s.says("c")
	d := s.says("d")
	s.idle()
	require.Equal(t, []string{c, b, a, d}, messageIDs(t, s.hook.got()))
}

func TestHoldEndsWithoutEnoughMessages(t *testing.T) {
	s := newSim(t)
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookReorder, Size: 100, Hold: 20 * time.Millisecond})
	id := s.says("alone")
	s.idle()
	require.True(t, s.Ledger().Acked(id))
}

func TestClearingReleasesTheHeld(t *testing.T) {
	s := newSim(t)
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookBatch, Size: 100, Hold: time.Hour})
	id := s.says("held")
	require.Equal(t, 1, s.Pending())
	s.ClearFaults()
	s.idle()
	require.True(t, s.Ledger().Acked(id))
}

func TestBatchLayouts(t *testing.T) {
	for layout, shape := range map[string][3]int{ // entries, changes of the first, messages of its first
		cloudapi.LayoutMessages: {1, 2, 3},
		cloudapi.LayoutChanges:  {1, 4, 1},
		cloudapi.LayoutEntries:  {4, 1, 1},
	} {
		t.Run(layout, func(t *testing.T) {
			s := newSim(t, func(o *cloudapi.Options) { o.Numbers[0].AutoStatuses = []string{} })
			s.says("opens the window")
			sent := s.sendText("hi").wamid(t)
			s.idle()
			s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookBatch, Size: 4, Hold: time.Minute, Layout: layout})
			want := []string{s.says("a"), s.says("b"), s.says("c")}
			require.NoError(t, s.SetStatus(sent, cloudapi.StatusDelivered, 0))
			s.idle()
			bodies := s.hook.got()
			require.Len(t, bodies, 2)
			p := parse(t, bodies[1])
			require.Equal(t, [3]int{len(p.Entry), len(p.Entry[0].Changes), len(p.Entry[0].Changes[0].Value.Messages)}, shape)
			require.Len(t, p.Entry[0].Changes[0].Value.Contacts, 1)
			require.Equal(t, want, messageIDs(t, bodies[1:]))
			require.Equal(t, []string{"delivered"}, statuses(t, bodies[1:]))
			require.True(t, s.Ledger().AckedStatus(sent, "delivered"))
		})
	}
}

func TestBadSignatureIsDeliveredWellLater(t *testing.T) {
	for _, mode := range []string{"", "missing", "body"} {
		s := newSim(t)
		s.hook.answer = func(n int) int { return map[bool]int{true: 200, false: 401}[s.hook.allSigned()[n-1]] }
		s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookSignature, Mode: mode, Count: 1})
		id := s.says("signed 😊")
		s.idle()
		require.Equal(t, []bool{false, true}, s.hook.allSigned(), mode)
		require.True(t, s.Ledger().Acked(id))
	}
}

func TestWebhookDropAndDelay(t *testing.T) {
	s := newSim(t)
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookDrop, Count: 2})
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookDelay, Count: 1, Delay: time.Millisecond})
	id := s.says("third time lucky")
	s.idle()
	require.Len(t, s.hook.got(), 1)
	d := s.Ledger().Deliveries()
	require.Len(t, d, 3)
	require.Equal(t, []string{"webhook_delay", "webhook_drop"}, d[0].Faults)
	require.True(t, s.Ledger().Acked(id))

	s.fault(cloudapi.Fault{Kind: cloudapi.FaultWebhookDrop, Mode: "forever", Count: 1})
	id = s.says("gone")
	s.idle()
	require.False(t, s.Ledger().Acked(id))
}

func TestRawBody(t *testing.T) {
	s := newSim(t)
	for _, body := range []string{"not JSON 😊", `{"object":"whatsapp_business_account","entry":[{"changes":[{"value":{"messages":[{"id":"wamid.X"}]}}]}]}`} {
		require.NoError(t, s.Deliver(phoneID, []byte(body)))
	}
	s.idle()
	require.Equal(t, "not JSON 😊", s.hook.got()[0])
	require.Equal(t, []bool{true, true}, s.hook.allSigned())
	require.True(t, s.Ledger().Acked("wamid.X"))
	require.ErrorIs(t, s.Deliver(phoneID, nil), cloudapi.ErrInvalid)
}

func TestVerify(t *testing.T) {
	s := newSim(t)
	res, err := s.Verify(t.Context(), phoneID)
	require.NoError(t, err)
	require.True(t, res.OK, res.Error)

	n, _ := s.Number(phoneID)
	n.VerifyToken = "another"
	require.NoError(t, s.AddNumber(n))
	res, err = s.Verify(t.Context(), phoneID)
	require.NoError(t, err)
	require.False(t, res.OK)
	require.Equal(t, http.StatusForbidden, res.HTTPStatus)
	_, err = s.Verify(t.Context(), "1")
	require.ErrorIs(t, err, cloudapi.ErrNotFound)
}

func TestCloseWaitsAndIsIdempotent(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	h := newHook(t)
	h.answer = func(n int) int {
		if n == 1 {
			close(entered)
			<-release
		}
		return 200
	}
	s, err := cloudapi.New(cloudapi.Options{Numbers: []cloudapi.Number{cloudapi.DemoNumber(h.URL)}})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	require.NoError(t, s.Start(t.Context()))
	first, err := s.CustomerSend(phoneID, customer, cloudapi.Incoming{Type: "text", Text: "under way"})
	require.NoError(t, err)
	second, err := s.CustomerSend(phoneID, customer, cloudapi.Incoming{Type: "text", Text: "not begun"})
	require.NoError(t, err)
	<-entered
	closed := make(chan error)
	for range 3 {
		go func() { closed <- s.Close() }()
	}
	close(release)
	for range 3 {
		require.NoError(t, <-closed)
	}
	require.True(t, s.Ledger().Acked(first), "what was under way was let finish")
	require.False(t, s.Ledger().Acked(second))
	require.ErrorIs(t, s.Start(t.Context()), cloudapi.ErrClosed)
}

func TestCancelEndsAHangingWebhook(t *testing.T) {
	entered := make(chan struct{})
	release := make(chan struct{})
	h := newHook(t)
	h.answer = func(int) int { close(entered); <-release; return 200 }
	defer close(release)
	s, err := cloudapi.New(cloudapi.Options{Numbers: []cloudapi.Number{cloudapi.DemoNumber(h.URL)}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.Start(ctx))
	_, err = s.CustomerSend(phoneID, customer, cloudapi.Incoming{Type: "text", Text: "x"})
	require.NoError(t, err)
	<-entered
	cancel()
	require.NoError(t, s.Close())
}

func TestNumbersComeAndGo(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) { o.Backoff = never })
	s.hook.answer = func(int) int { return 500 }
	s.says("waits")
	s.wait("an attempt", func(l *cloudapi.Ledger) bool { return l.Counts().Refused == 1 })
	require.NoError(t, s.RemoveNumber(phoneID))
	require.Zero(t, s.Pending())
	require.ErrorIs(t, s.RemoveNumber(phoneID), cloudapi.ErrNotFound)
	require.Empty(t, s.Numbers())
	require.NoError(t, s.AddNumber(cloudapi.DemoNumber(s.hook.URL)))
	s.hook.mu.Lock()
	s.hook.answer = nil
	s.hook.mu.Unlock()
	id := s.says("hello again")
	s.idle()
	require.True(t, s.Ledger().Acked(id))
	for _, bad := range []cloudapi.Number{
		{},
		{PhoneNumberID: "1x", AccessToken: "a", AppSecret: "b"},
		{PhoneNumberID: "1", AppSecret: "b"},
		{PhoneNumberID: "1", AccessToken: "a", AppSecret: "b", WebhookURL: "ftp://x"},
		{PhoneNumberID: "1", AccessToken: "a", AppSecret: "b", AutoStatuses: []string{"eaten"}},
	} {
		require.ErrorIs(t, s.AddNumber(bad), cloudapi.ErrInvalid)
	}
}
