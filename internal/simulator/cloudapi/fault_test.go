package cloudapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
)

func TestRefusals(t *testing.T) {
	s := newSim(t)
	s.says("hello")
	for _, c := range []struct {
		fault  cloudapi.Fault
		status int
		code   float64
	}{
		{cloudapi.Fault{Kind: cloudapi.FaultFail}, 500, 131000},
		{cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131056}, 400, 131056},
		{cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 190}, 401, 190},
		{cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131026, HTTPStatus: 503, Message: "m", Details: "d"}, 503, 131026},
		{cloudapi.Fault{Kind: cloudapi.FaultRateLimit, RetryAfter: 1500 * time.Millisecond}, 429, 130429},
		{cloudapi.Fault{Kind: cloudapi.FaultWindowClosed}, 400, 131047},
	} {
		c.fault.Count = 1
		id := s.fault(c.fault)
		a := s.sendText("x")
		require.Equal(t, c.status, a.status, a.body)
		require.InDelta(t, c.code, a.errorField("code"), 0)
		if c.fault.Kind == cloudapi.FaultRateLimit {
			require.Equal(t, "2", a.header.Get("Retry-After"))
		}
		s.sendText("after the fault").wamid(t)
		if c.fault.Kind != cloudapi.FaultWindowClosed {
			sends := s.Ledger().Sends(phoneID)
			require.Equal(t, id, sends[len(sends)-2].FaultID)
			require.Equal(t, cloudapi.OutcomeRefused, sends[len(sends)-2].Outcome)
		}
	}
	require.Equal(t, 6, s.Ledger().Counts().Accepted)
}

func TestOutcomeUnknown(t *testing.T) {
	for kind, accepted := range map[cloudapi.FaultKind]bool{
		cloudapi.FaultDrop: false, cloudapi.FaultAcceptDrop: true, cloudapi.FaultGarble: true,
	} {
		t.Run(string(kind), func(t *testing.T) {
			s := newSim(t)
			s.says("hello")
			s.idle()
			id := s.fault(cloudapi.Fault{Kind: kind, Count: 1})
			resp, err := s.request("POST", messagesPath, "application/json", strings.NewReader(textBody(customer, "x")), token)
			if kind == cloudapi.FaultGarble {
				require.NoError(t, err)
				a := read(t, resp)
				require.Equal(t, 502, a.status)
				require.Nil(t, a.json)
			} else {
				if err == nil {
					_ = resp.Body.Close()
				}
				require.Error(t, err)
			}
			sends := s.Ledger().Sends(phoneID)
			require.Len(t, sends, 1)
			require.Equal(t, accepted, sends[0].Accepted)
			require.False(t, sends[0].Told)
			require.Equal(t, id, sends[0].FaultID)
			if !accepted {
				require.Equal(t, cloudapi.OutcomeLost, sends[0].Outcome)
				return
			}
			require.Equal(t, cloudapi.OutcomeUntold, sends[0].Outcome)
			s.wait("the status finds the message by its own id", func(l *cloudapi.Ledger) bool {
				return l.AckedStatus(sends[0].ID, "delivered")
			})
			require.Contains(t, s.hook.got()[1], `"biz_opaque_callback_data":"own-x"`)
		})
	}
}

func TestHangs(t *testing.T) {
	for kind, accepted := range map[cloudapi.FaultKind]int{cloudapi.FaultHang: 0, cloudapi.FaultAcceptHang: 1} {
		for _, end := range []string{"clear", "caller", "close"} {
			t.Run(string(kind)+" until "+end, func(t *testing.T) {
				s := newSim(t)
				s.says("hello")
				id := s.fault(cloudapi.Fault{Kind: kind, Count: 1})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.http.URL+messagesPath, strings.NewReader(textBody(customer, "x")))
				require.NoError(t, err)
				req.Header.Set("Authorization", "Bearer "+token)
				failed := make(chan error, 1)
				go func() {
					resp, err := s.http.Client().Do(req)
					if err == nil {
						_ = resp.Body.Close()
					}
					failed <- err
				}()
				s.wait("the call is recorded", func(l *cloudapi.Ledger) bool { return l.Counts().Sends == 1 })
				switch end {
				case "clear":
					require.NoError(t, s.ClearFault(id))
				case "caller":
					cancel()
				case "close":
					require.NoError(t, s.Close())
				}
				require.Error(t, <-failed)
				require.Equal(t, accepted, s.Ledger().Counts().Accepted)
				require.Zero(t, s.Ledger().Counts().Told)
			})
		}
	}
}

func TestDelayedAnswer(t *testing.T) {
	s := newSim(t)
	s.says("hello")
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultDelay, Delay: 30 * time.Millisecond, Count: 1})
	start := time.Now()
	s.sendText("slow").wamid(t)
	require.GreaterOrEqual(t, time.Since(start), 30*time.Millisecond)
}

func TestStatusesAsAskedFor(t *testing.T) {
	s := newSim(t)
	s.says("hello")
	s.idle()
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultStatuses, Statuses: []string{"read", "delivered", "sent"}, Count: 1})
	s.sendText("backwards").wamid(t)
	s.idle()
	require.Equal(t, []string{"read", "delivered", "sent"}, statuses(t, s.hook.got()))

	s.fault(cloudapi.Fault{Kind: cloudapi.FaultStatuses, Statuses: []string{"sent", "delivered"}, Early: true, Count: 1})
	id := s.sendText("early").wamid(t)
	require.True(t, s.Ledger().AckedStatus(id, "delivered"), "told before the answer")

	s.fault(cloudapi.Fault{Kind: cloudapi.FaultUndelivered, Count: 1})
	s.sendText("never arrives").wamid(t)
	s.idle()
	got := s.hook.got()
	require.Contains(t, got[len(got)-1], `"code":131026`)
	require.Equal(t, []string{"failed"}, statuses(t, got[len(got)-1:]))
}

func TestFaultsAreAimed(t *testing.T) {
	s := newSim(t)
	s.says("hello")
	require.NoError(t, s.AddNumber(cloudapi.Number{PhoneNumberID: "777", AccessToken: "other", AppSecret: "x"}))
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultFail, PhoneNumberID: "777"})
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultFail, To: "+4999"})
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultFail, Endpoint: "media"})
	s.sendText("hits none").wamid(t)
	require.Equal(t, 200, s.do("GET", "/v21.0/"+phoneID, "").status)
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 190, Endpoint: "*"})
	require.Equal(t, 401, s.sendText("x").status)
	require.Equal(t, 401, s.do("GET", "/v21.0/"+phoneID, "").status)
	require.Equal(t, 2, s.Faults()[3].Used)
	s.ClearFaults()
	require.Empty(t, s.Faults())
	s.sendText("cleared").wamid(t)
	require.ErrorIs(t, s.ClearFault("fault-1"), cloudapi.ErrNotFound)
}

func TestBadMessageDoesNotUseUpAFault(t *testing.T) {
	s := newSim(t)
	s.says("hello")
	s.fault(cloudapi.Fault{Kind: cloudapi.FaultUndelivered, Count: 1})
	require.Equal(t, 400, s.do("POST", messagesPath, "{}").status)
	require.Zero(t, s.Faults()[0].Used)
}

func TestFaultChecks(t *testing.T) {
	s := newSim(t)
	for _, f := range []cloudapi.Fault{
		{},
		{Kind: "earthquake"},
		{Kind: cloudapi.FaultFail, Count: -1},
		{Kind: cloudapi.FaultFail, HTTPStatus: 200},
		{Kind: cloudapi.FaultFail, Endpoint: "door"},
		{Kind: cloudapi.FaultWebhookBatch, Layout: "pile"},
		{Kind: cloudapi.FaultStatuses, Statuses: []string{"eaten"}},
		{Kind: cloudapi.FaultWebhookRepeat, Times: 1001},
		{Kind: cloudapi.FaultDelay, Delay: -1},
	} {
		_, err := s.SetFault(f)
		require.ErrorIs(t, err, cloudapi.ErrInvalid, "%+v", f)
	}
	for range 1000 {
		s.fault(cloudapi.Fault{Kind: cloudapi.FaultFail})
	}
	_, err := s.SetFault(cloudapi.Fault{Kind: cloudapi.FaultFail})
	require.ErrorIs(t, err, cloudapi.ErrInvalid)
}

func TestFaultJSON(t *testing.T) {
	var f cloudapi.Fault
	require.NoError(t, json.Unmarshal([]byte(`{"kind":"rate_limit","retryAfterSeconds":2.5,"delayMs":10,"holdMs":0.5}`), &f))
	require.Equal(t, 2500*time.Millisecond, f.RetryAfter)
	require.Equal(t, 10*time.Millisecond, f.Delay)
	require.Equal(t, 500*time.Microsecond, f.Hold)
	b, err := json.Marshal(f)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"","kind":"rate_limit","count":0,"used":0,"retryAfterSeconds":2.5,"delayMs":10,"holdMs":0.5}`, string(b))
}
