package waba

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
)

// running is a session in its Run.
type running struct {
	*stage

	session *Session
	cancel  context.CancelFunc
	ended   chan error
}

func (p *platform) run(t *testing.T, change func(*Options, *channel.Config)) *running {
	t.Helper()
	r := &running{stage: newStage(), ended: make(chan error, 1)}
	r.session = p.open(t, r.stage, change)
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.ended <- r.session.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) next(t *testing.T) domain.ChannelStatus {
	t.Helper()
	select {
	case status := <-r.told:
		return status
	case <-time.After(20 * time.Second):
		t.Fatal("no status was told")
		return domain.ChannelStatus{}
	}
}

func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("Run did not end")
		return nil
	}
}

func (r *running) isReady() bool {
	select {
	case <-r.ready:
		return true
	default:
		return false
	}
}

func TestRunConnects(t *testing.T) {
	p := newPlatform(t, nil)
	r := p.run(t, nil)
	assert.Equal(t, domain.ChannelConnecting, r.next(t).State)
	status := r.next(t)
	assert.Equal(t, domain.ChannelConnected, status.State)
	assert.Equal(t, "Connected as Lucky Shrub (+1 555-078-3881).", status.Reason)
	<-r.ready
	r.cancel()
	require.NoError(t, r.end(t))
}

func TestRunSaysWhyNot(t *testing.T) {
	graph := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	cases := map[string]struct {
		handler   http.HandlerFunc
		state     domain.ChannelState
		code      string
		permanent bool
	}{
		"bad token":      {graph(401, `{"error":{"message":"x","code":190,"error_subcode":463}}`), domain.ChannelError, codeTokenInvalid, true},
		"no such number": {graph(400, `{"error":{"message":"x","code":100,"error_subcode":33}}`), domain.ChannelError, codeNumberAbsent, true},
		"number deleted": {graph(400, `{"error":{"message":"x","code":33}}`), domain.ChannelError, codeNumberAbsent, true},
		"no permission":  {graph(403, `{"error":{"message":"x","code":10}}`), domain.ChannelError, "provider_10", true},
		"over a limit":   {graph(429, `{"error":{"message":"x","code":4}}`), domain.ChannelError, codeRateLimited, false},
		"a fault":        {graph(500, `{"error":{"message":"x","code":2}}`), domain.ChannelError, codeUnreachable, false},
		"a proxy's 502":  {graph(502, `<html>`), domain.ChannelError, codeUnreachable, false},
		"not the API":    {graph(404, `nothing here`), domain.ChannelError, "http_404", true},
		"not JSON":       {graph(200, `<html>`), domain.ChannelError, codeUnreachable, false},
		"dropped":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, domain.ChannelError, codeUnreachable, false},
		"banned":         {graph(200, `{"status":"BANNED"}`), domain.ChannelBanned, "banned", true},
		"not registered": {graph(200, `{"status":"PENDING"}`), domain.ChannelError, "not_registered", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := answering(t, c.handler).run(t, nil)
			assert.Equal(t, domain.ChannelConnecting, r.next(t).State)
			var down *channel.Down
			require.ErrorAs(t, r.end(t), &down)
			assert.Equal(t, c.state, down.State)
			assert.Equal(t, c.code, down.Code)
			assert.Equal(t, c.permanent, down.Permanent)
			assert.Regexp(t, `^[A-Z].*\.$`, down.Reason)
			assert.False(t, r.isReady())
		})
	}
	t.Run("simulated", func(t *testing.T) {
		p := newPlatform(t, nil)
		r := p.run(t, func(_ *Options, c *channel.Config) { c.Secrets = map[string]string{KeyAccessToken: "another"} })
		var down *channel.Down
		require.ErrorAs(t, r.end(t), &down)
		assert.Equal(t, codeTokenInvalid, down.Code)
		r = p.run(t, func(_ *Options, c *channel.Config) { c.Channel.Config = map[string]string{KeyPhoneNumberID: "4711"} })
		require.ErrorAs(t, r.end(t), &down)
		assert.Equal(t, codeNumberAbsent, down.Code)
	})
}

func TestRunWarnsOfQuality(t *testing.T) {
	for body, want := range map[string]string{
		`{"verified_name":"Shop","display_phone_number":"+1","quality_rating":"RED","status":"CONNECTED"}`:    "rate its messages low",
		`{"verified_name":"Shop","display_phone_number":"+1","quality_rating":"GREEN","status":"RESTRICTED"}`: "limits how many chats",
	} {
		r := answering(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }).run(t, nil)
		r.next(t)
		assert.Contains(t, r.next(t).Reason, want)
	}
}

// A send that meets a bad token has it checked at once: the channel looks dead
// when it is, and the message waits.
func TestSendFindsTheTokenInvalid(t *testing.T) {
	p := newPlatform(t, nil)
	r := p.run(t, nil)
	<-r.ready
	changed := p.number
	changed.AccessToken = "rotated"
	require.NoError(t, p.AddNumber(changed))
	_, err := r.session.Send(within(t), hello())
	e := sendError(t, err)
	assert.Equal(t, channel.NotSent, e.Outcome)
	assert.Equal(t, codeTokenInvalid, e.Code)
	assert.True(t, e.WholeChannel)
	var down *channel.Down
	require.ErrorAs(t, r.end(t), &down)
	assert.Equal(t, codeTokenInvalid, down.Code)
	assert.True(t, down.Permanent)
}

func TestRecheck(t *testing.T) {
	often := func(o *Options, _ *channel.Config) { o.Recheck = time.Millisecond }
	t.Run("a short outage goes by", func(t *testing.T) {
		p := newPlatform(t, nil)
		r := p.run(t, often)
		<-r.ready
		p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultDrop, Endpoint: "account", Count: 2})
		require.NoError(t, p.Ledger().Wait(within(t), func(*cloudapi.Ledger) bool { return p.Faults()[0].Used == 2 }))
		p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultRateLimit, Endpoint: "account", Count: 5})
		require.NoError(t, p.Ledger().Wait(within(t), func(*cloudapi.Ledger) bool { return p.Faults()[1].Used == 5 }))
		r.cancel()
		require.NoError(t, r.end(t))
	})
	t.Run("a long one does not", func(t *testing.T) {
		p := newPlatform(t, nil)
		r := p.run(t, often)
		<-r.ready
		p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultDrop, Endpoint: "account"})
		var down *channel.Down
		require.ErrorAs(t, r.end(t), &down)
		assert.Equal(t, codeUnreachable, down.Code)
		assert.False(t, down.Permanent)
		assert.GreaterOrEqual(t, p.Faults()[0].Used, 3)
	})
	t.Run("news are told", func(t *testing.T) {
		var banned atomic.Bool
		p := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			status := "CONNECTED"
			if banned.Load() {
				status = "BANNED"
			}
			_, _ = fmt.Fprintf(w, `{"verified_name":"Shop","display_phone_number":"+1","status":%q}`, status)
		})
		r := p.run(t, often)
		<-r.ready
		banned.Store(true)
		var down *channel.Down
		require.ErrorAs(t, r.end(t), &down)
		assert.Equal(t, domain.ChannelBanned, down.State)
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	p := newPlatform(t, nil)
	p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultHang, Endpoint: "account"})
	r := p.run(t, nil)
	r.next(t)
	r.cancel()
	require.NoError(t, r.end(t), "an ended context is no fault")
	assert.False(t, r.isReady())
}

// deaf is a host whose channel was taken away.
type deaf struct{ *stage }

var errLost = errors.New("the lease is lost")

func (deaf) SetStatus(context.Context, domain.ChannelState, string, string) error { return errLost }

func TestRunEndsWhenStatusCannotBeTold(t *testing.T) {
	p := newPlatform(t, nil)
	s := p.open(t, deaf{newStage()}, nil)
	require.ErrorIs(t, s.Run(within(t)), errLost)
}

func TestFactoryRefuses(t *testing.T) {
	for _, base := range []string{"", "graph.facebook.com", "ftp://x", "https://u:p@x", "https://x?y=1", "://", "http://"} {
		_, err := NewFactory(Options{BaseURL: base})
		require.Error(t, err, base)
	}
	factory, err := NewFactory(Options{BaseURL: "https://graph.facebook.com/v24.0"})
	require.NoError(t, err)
	for _, c := range []channel.Config{
		{},
		{Channel: domain.Channel{Config: map[string]string{KeyPhoneNumberID: "5"}}},
		{Channel: domain.Channel{Config: map[string]string{KeyPhoneNumberID: "5/../6"}}, Secrets: map[string]string{KeyAccessToken: "x"}},
	} {
		_, err := factory(c)
		require.Error(t, err)
	}
}
