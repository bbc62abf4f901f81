package waba

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
)

func outbound(m domain.Message) domain.Outbound {
	if m.ID == 0 {
		m.ID = 42
	}
	if m.Type == "" {
		m.Type = domain.TypeText
	}
	return domain.Outbound{Message: m, Attempt: 1, Peer: customer}
}

func hello() domain.Outbound { return outbound(domain.Message{Content: "hello"}) }

func TestSendEveryType(t *testing.T) {
	p := newPlatform(t, nil)
	host := newStage()
	s := p.open(t, host, nil)
	place := &domain.Location{Latitude: 52.52, Longitude: 13.405, Name: "Here", Address: "Street 1"}
	cases := map[string]domain.Outbound{
		"text":           outbound(domain.Message{Content: "grüße 🌵 <b>"}),
		"link":           outbound(domain.Message{Content: "see https://example.com"}),
		"reply":          {Message: domain.Message{ID: 5, Type: domain.TypeText, Content: "yes"}, Attempt: 7, Peer: customer, ReplyToExternalID: "wamid.theirs"},
		"image":          outbound(domain.Message{Type: domain.TypeImage, Content: "a caption", Media: host.put(1, "image/jpeg", "a.jpg", []byte("jpeg"))}),
		"video":          outbound(domain.Message{Type: domain.TypeVideo, Media: host.put(2, "video/mp4", "a.mp4", []byte("mp4"))}),
		"audio":          outbound(domain.Message{Type: domain.TypeAudio, Media: host.put(3, "audio/mpeg", "a.mp3", []byte("mp3"))}),
		"voice":          outbound(domain.Message{Type: domain.TypeVoice, Media: host.put(4, "audio/ogg; codecs=opus", "a.ogg", []byte("ogg"))}),
		"document":       outbound(domain.Message{Type: domain.TypeDocument, Content: "the bill", Media: host.put(5, "application/pdf", "Rechnung \"№ 5\".pdf", []byte("pdf"))}),
		"sticker":        outbound(domain.Message{Type: domain.TypeSticker, Media: host.put(6, "image/webp", "a.webp", []byte("webp"))}),
		"location":       outbound(domain.Message{Type: domain.TypeLocation, Location: place}),
		"template":       outbound(domain.Message{Type: domain.TypeTemplate, Template: &domain.Template{Name: "order_update", Language: "en", Parameters: []string{"Ann", "4711"}}}),
		"template_plain": outbound(domain.Message{Type: domain.TypeTemplate, Template: &domain.Template{Name: "hello_world", Language: "en_US"}}),
	}
	for name, out := range cases {
		t.Run(name, func(t *testing.T) {
			sent, err := s.Send(within(t), out)
			require.NoError(t, err)
			require.NotEmpty(t, sent.ExternalID)
			send := lastSend(p)
			assert.Equal(t, sent.ExternalID, send.ID)
			assert.Equal(t, Mark(out.Message.ID, out.Attempt), send.CallbackData)
			var body map[string]any
			require.NoError(t, json.Unmarshal(send.Body, &body))
			if media, ok := body[send.Type].(map[string]any); ok && media["id"] != nil {
				media["id"] = "(handle)"
			}
			golden(t, "send_"+name, body)
			for _, want := range []domain.MessageStatus{domain.StatusSent, domain.StatusDelivered} {
				status := p.nextItems(t)[0].Inbound.Status
				assert.Equal(t, want, status.Status)
				assert.Equal(t, sent.ExternalID, status.ExternalID)
				assert.Equal(t, out.Message.ID, status.MessageID)
				assert.Equal(t, out.Attempt, status.Attempt)
			}
		})
	}
}

func lastSend(p *platform) cloudapi.Send {
	sends := p.Ledger().Sends(p.number.PhoneNumberID)
	return sends[len(sends)-1]
}

func TestSendRefusedWithoutTheNetwork(t *testing.T) {
	p := newPlatform(t, nil)
	host := newStage()
	s := p.open(t, host, nil)
	cases := map[string]struct {
		out  domain.Outbound
		code string
	}{
		"empty":           {outbound(domain.Message{}), codeUnsupported},
		"too long":        {outbound(domain.Message{Content: strings.Repeat("ö", 4097)}), codeTooLong},
		"long caption":    {outbound(domain.Message{Type: domain.TypeImage, Content: strings.Repeat("ö", 1025), Media: host.put(1, "image/png", "", []byte("x"))}), codeTooLong},
		"audio with text": {outbound(domain.Message{Type: domain.TypeVoice, Content: "x", Media: host.put(1, "audio/ogg", "", []byte("x"))}), codeUnsupported},
		"too large":       {outbound(domain.Message{Type: domain.TypeImage, Media: &domain.Media{ID: 1, Size: 6 << 20}}), codeTooLarge},
		"no file":         {outbound(domain.Message{Type: domain.TypeImage}), codeUnsupported},
		"file is gone":    {outbound(domain.Message{Type: domain.TypeImage, Media: &domain.Media{ID: 99}}), codeMediaFailed},
		"no place":        {outbound(domain.Message{Type: domain.TypeLocation}), codeUnsupported},
		"no template":     {outbound(domain.Message{Type: domain.TypeTemplate}), codeUnsupported},
		"contact":         {outbound(domain.Message{Type: domain.TypeContact, Content: "x"}), codeUnsupported},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := s.Send(within(t), c.out)
			e := sendError(t, err)
			assert.Equal(t, channel.Refused, e.Outcome)
			assert.Equal(t, c.code, e.Code)
		})
	}
	assert.Empty(t, p.Ledger().Sends(""))
}

// The promise of honest sends: whatever the network does, the outcome that is
// told is never a lie about what Meta accepted.
func TestSendOutcomes(t *testing.T) {
	cases := map[string]struct {
		fault    cloudapi.Fault
		outcome  channel.Outcome
		code     string
		accepted bool // by the simulator
		whole    bool
		after    time.Duration
	}{
		"dropped before":             {fault: cloudapi.Fault{Kind: cloudapi.FaultDrop}, outcome: channel.Unknown, code: codeNoAnswer},
		"dropped after accept":       {fault: cloudapi.Fault{Kind: cloudapi.FaultAcceptDrop}, outcome: channel.Unknown, code: codeNoAnswer, accepted: true},
		"hangs":                      {fault: cloudapi.Fault{Kind: cloudapi.FaultHang}, outcome: channel.Unknown, code: codeNoAnswer},
		"hangs after accept":         {fault: cloudapi.Fault{Kind: cloudapi.FaultAcceptHang}, outcome: channel.Unknown, code: codeNoAnswer, accepted: true},
		"garbled after accept":       {fault: cloudapi.Fault{Kind: cloudapi.FaultGarble}, outcome: channel.Unknown, code: "http_502", accepted: true},
		"something went wrong":       {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131000}, outcome: channel.Unknown, code: "provider_131000"},
		"unknown, as HTTP 400":       {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 1}, outcome: channel.Unknown, code: "provider_1"},
		"service unavailable":        {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131016}, outcome: channel.Unknown, code: "provider_131016"},
		"new code, as HTTP 500":      {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 139999, HTTPStatus: 500}, outcome: channel.Unknown, code: "provider_139999"},
		"new code, as HTTP 400":      {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 139999}, outcome: channel.Refused, code: "provider_139999"},
		"undeliverable":              {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131026}, outcome: channel.Refused, code: "provider_131026"},
		"window closed":              {fault: cloudapi.Fault{Kind: cloudapi.FaultWindowClosed}, outcome: channel.Refused, code: "window_closed"},
		"unsupported type":           {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131051}, outcome: channel.Refused, code: "provider_131051"},
		"experiment":                 {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 130472}, outcome: channel.Refused, code: "provider_130472"},
		"too much marketing":         {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131049}, outcome: channel.Refused, code: "provider_131049"},
		"policy":                     {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 368}, outcome: channel.Refused, code: "provider_368"},
		"not registered":             {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 133010}, outcome: channel.Refused, code: "provider_133010"},
		"rate limit":                 {fault: cloudapi.Fault{Kind: cloudapi.FaultRateLimit, RetryAfter: 90 * time.Second}, outcome: channel.NotSent, code: codeRateLimited, whole: true, after: 90 * time.Second},
		"rate limit, endless":        {fault: cloudapi.Fault{Kind: cloudapi.FaultRateLimit, RetryAfter: 1e6 * time.Second}, outcome: channel.NotSent, code: codeRateLimited, whole: true, after: longestWait},
		"number limit":               {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 130429}, outcome: channel.NotSent, code: codeRateLimited, whole: true, after: numberWait},
		"spam limit":                 {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131048}, outcome: channel.NotSent, code: codeRateLimited, whole: true, after: channelWait},
		"app limit":                  {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 4}, outcome: channel.NotSent, code: codeRateLimited, whole: true, after: channelWait},
		"account limit":              {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 80007}, outcome: channel.NotSent, code: codeRateLimited, whole: true, after: channelWait},
		"HTTP 429 with another code": {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 139998, HTTPStatus: 429}, outcome: channel.NotSent, code: codeRateLimited, whole: true, after: channelWait},
		"pair limit":                 {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131056}, outcome: channel.NotSent, code: codeRateLimited, after: pairWait},
		"maintenance":                {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 131057}, outcome: channel.NotSent, code: codeRateLimited, whole: true, after: channelWait},
		"bad token":                  {fault: cloudapi.Fault{Kind: cloudapi.FaultFail, Code: 190}, outcome: channel.NotSent, code: codeTokenInvalid, whole: true, after: channelWait},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, nil)
			s := p.open(t, newStage(), nil)
			_, err := s.Send(within(t), hello()) // so that a kept-alive connection is met, too
			require.NoError(t, err)
			c.fault.Count = 1
			p.fault(t, c.fault)
			ctx := within(t)
			if strings.Contains(name, "hangs") {
				short, cancel := context.WithCancel(ctx)
				reached := make(chan struct{})
				go func() {
					defer close(reached)
					_ = p.Ledger().Wait(short, func(l *cloudapi.Ledger) bool { return l.Counts().Sends == 2 })
					cancel()
				}()
				defer func() {
					cancel()
					<-reached
				}()
				ctx = short
			}
			_, err = s.Send(ctx, outbound(domain.Message{ID: 43, Content: "once"}))
			e := sendError(t, err)
			assert.Equal(t, c.outcome, e.Outcome)
			assert.Equal(t, c.code, e.Code)
			assert.Equal(t, c.whole, e.WholeChannel)
			assert.Equal(t, c.after, e.RetryAfter)
			assert.Equal(t, c.after > 0 && c.code == codeRateLimited, e.Limited)
			sends := p.Ledger().Sends("")
			require.Len(t, sends, 2, "one call, whatever happened")
			assert.Equal(t, c.accepted, sends[1].Accepted)
			if c.outcome != channel.Unknown {
				assert.False(t, sends[1].Accepted)
			}
		})
	}
}

// After an accepted message whose answer was lost, the first status says which
// message it was.
func TestStatusResolvesAnUnknownSend(t *testing.T) {
	p := newPlatform(t, nil)
	s := p.open(t, newStage(), nil)
	p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultAcceptDrop, Count: 1})
	_, err := s.Send(within(t), domain.Outbound{Message: domain.Message{ID: 77, Type: domain.TypeText, Content: "x"}, Attempt: 2, Peer: customer})
	require.Equal(t, channel.Unknown, sendError(t, err).Outcome)
	status := p.nextItems(t)[0].Inbound.Status
	require.NotNil(t, status)
	assert.Equal(t, int64(77), status.MessageID)
	assert.Equal(t, 2, status.Attempt)
	assert.Equal(t, 1, p.Ledger().Counts().Accepted)
}

func TestFailedStatus(t *testing.T) {
	p := newPlatform(t, func(n *cloudapi.Number) { n.NoWindow, n.AsyncErrors = false, true })
	s := p.open(t, newStage(), nil)
	_, err := s.Send(within(t), hello())
	require.NoError(t, err)
	status := p.nextItems(t)[0].Inbound.Status
	assert.Equal(t, domain.StatusFailed, status.Status)
	assert.Equal(t, codeWindowClosed, status.Error.Code)
}

// With no connection nothing has left, whichever way it is missing.
func TestNotSentWithoutConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())
	strange := httptest.NewUnstartedServer(http.NotFoundHandler())
	strange.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	strange.StartTLS()
	defer strange.Close()
	noName := func(o *Options, _ *channel.Config) {
		o.BaseURL = "http://graph.invalid/v24.0"
		o.API = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "graph.invalid", IsNotFound: true}
		}}}
	}
	cases := map[string]func(*Options, *channel.Config){
		"refused":       func(o *Options, _ *channel.Config) { o.BaseURL = closed },
		"no such name":  noName,
		"untrusted TLS": func(o *Options, _ *channel.Config) { o.BaseURL = strange.URL },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			p := &platform{number: cloudapi.DemoNumber("")}
			s := p.open(t, newStage(), change)
			_, err := s.Send(within(t), hello())
			e := sendError(t, err)
			assert.Equal(t, channel.NotSent, e.Outcome)
			assert.Equal(t, codeUnreachable, e.Code)
			assert.False(t, e.WholeChannel)
		})
	}

	t.Run("deadline over before", func(t *testing.T) {
		p := newPlatform(t, nil)
		s := p.open(t, newStage(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Send(ctx, hello())
		assert.Equal(t, channel.NotSent, sendError(t, err).Outcome)
		assert.Empty(t, p.Ledger().Sends(""))
	})
	t.Run("deadline over while connecting", func(t *testing.T) {
		p := &platform{number: cloudapi.DemoNumber("")}
		ctx, cancel := context.WithCancel(within(t))
		s := p.open(t, newStage(), func(o *Options, _ *channel.Config) {
			o.BaseURL = "http://graph.invalid/v24.0"
			o.API = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				cancel()
				<-ctx.Done()
				return nil, ctx.Err()
			}}}
		})
		_, err := s.Send(ctx, hello())
		assert.Equal(t, channel.NotSent, sendError(t, err).Outcome)
	})
}

// answering is a Graph API that gives one answer to everything.
func answering(t *testing.T, handler http.HandlerFunc) *platform {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &platform{number: cloudapi.DemoNumber(""), url: server.URL}
}

func TestStrangeAnswers(t *testing.T) {
	metaBody := `{"error":{"message":"m","code":131026}}`
	cases := map[string]struct {
		status  int
		body    string
		outcome channel.Outcome
		code    string
	}{
		"200 with nothing":        {200, ``, channel.Unknown, codeNoAnswer},
		"200 with HTML":           {200, `<html>`, channel.Unknown, codeNoAnswer},
		"200 without id":          {200, `{"messages":[]}`, channel.Unknown, codeNoAnswer},
		"200 with an empty id":    {200, `{"messages":[{"id":""}]}`, channel.Unknown, codeNoAnswer},
		"200 with another shape":  {200, `{"messages":"x"}`, channel.Unknown, codeNoAnswer},
		"200 without end":         {200, `{"x":"` + strings.Repeat("x", maxAnswer) + `"}`, channel.Unknown, codeNoAnswer},
		"202":                     {202, `{}`, channel.Unknown, "http_202"},
		"302":                     {302, ``, channel.Unknown, "http_302"},
		"403 of a proxy":          {403, `<html>`, channel.Refused, "http_403"},
		"404 of another server":   {404, `not found`, channel.Refused, "http_404"},
		"408":                     {408, ``, channel.Unknown, "http_408"},
		"429 of a proxy":          {429, ``, channel.NotSent, codeRateLimited},
		"401 without a body":      {401, ``, channel.NotSent, codeTokenInvalid},
		"500":                     {500, `oops`, channel.Unknown, "http_500"},
		"503 with a definite no":  {503, metaBody, channel.Refused, "provider_131026"},
		"504":                     {504, ``, channel.Unknown, "http_504"},
		"400 with a code of zero": {400, `{"error":{"message":"m"}}`, channel.Refused, "http_400"},
		"error in another shape":  {400, `{"error":"m"}`, channel.Refused, "http_400"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			p := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			_, err := p.open(t, newStage(), nil).Send(within(t), hello())
			e := sendError(t, err)
			assert.Equal(t, c.outcome, e.Outcome)
			assert.Equal(t, c.code, e.Code)
			assert.Equal(t, int64(1), calls.Load())
		})
	}
}

// A server that dies while the request is on its way.
func TestConnectionLostAfterWriting(t *testing.T) {
	p := answering(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err := p.open(t, newStage(), nil).Send(within(t), hello())
	assert.Equal(t, channel.Unknown, sendError(t, err).Outcome)

	p = answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"messages":[{"id":"wamid`))
		panic(http.ErrAbortHandler)
	})
	_, err = p.open(t, newStage(), nil).Send(within(t), hello())
	assert.Equal(t, channel.Unknown, sendError(t, err).Outcome, "an answer cut short is no answer")
}

func TestTokenStaysAtHome(t *testing.T) {
	var visits atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	defer elsewhere.Close()
	p := answering(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	s := p.open(t, newStage(), nil)
	_, err := s.Send(within(t), hello())
	assert.Equal(t, channel.Unknown, sendError(t, err).Outcome)
	_, err = s.FetchMedia(within(t), "5")
	require.Error(t, err)
	assert.Zero(t, visits.Load())

	token := p.number.AccessToken
	p = answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		body := `{"error":{"code":139999,"message":"bad $","error_data":{"details":"token $ is odd"}}}`
		_, _ = w.Write([]byte(strings.ReplaceAll(body, "$", token)))
	})
	_, err = p.open(t, newStage(), nil).Send(within(t), hello())
	e := sendError(t, err)
	assert.NotContains(t, e.Error()+e.Message, p.number.AccessToken)
	assert.Contains(t, e.Message, "token [token] is odd")
}

func TestBSUIDAndGroupRecipients(t *testing.T) {
	bodies := make(chan map[string]any, 2)
	p := answering(t, func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		bodies <- body
		_, _ = w.Write([]byte(`{"messages":[{"id":"wamid.1","message_status":"held_for_quality_assessment"}]}`))
	})
	s := p.open(t, newStage(), nil)
	out := hello()
	out.Peer = "US.13491208655302741918"
	sent, err := s.Send(within(t), out)
	require.NoError(t, err)
	assert.Equal(t, "wamid.1", sent.ExternalID)
	body := <-bodies
	assert.Equal(t, "US.13491208655302741918", body["recipient"])
	assert.NotContains(t, body, "to", "Meta would accept it there and deliver nothing")
	out.Peer = "Y2FwaV9ncm91cDox"
	_, err = s.Send(within(t), out)
	require.NoError(t, err)
	body = <-bodies
	assert.Equal(t, "group", body["recipient_type"])
	assert.Equal(t, "Y2FwaV9ncm91cDox", body["to"])
}

func TestCommandsAndTyping(t *testing.T) {
	p := newPlatform(t, nil)
	s := p.open(t, newStage(), nil)
	id, err := p.CustomerSend(p.number.PhoneNumberID, customer, cloudapi.Incoming{Type: "text", Text: "hi"})
	require.NoError(t, err)
	p.next(t)
	target := domain.Command{ID: 9, Peer: customer, TargetExternalID: id}

	command := func(kind domain.CommandKind, value string) error {
		c := target
		c.Kind, c.Value = kind, value
		return s.Do(within(t), c)
	}
	require.NoError(t, command(domain.CommandRead, ""))
	require.NoError(t, s.Typing(within(t), customer, id, true))
	require.NoError(t, s.Typing(within(t), customer, id, false))
	require.NoError(t, s.Typing(within(t), customer, "", true))
	reads := p.Ledger().Entries(cloudapi.Filter{Kind: cloudapi.KindRead})
	require.Len(t, reads, 2)
	assert.Equal(t, cloudapi.Read{MessageID: id}, *reads[0].Read)
	assert.Equal(t, cloudapi.Read{MessageID: id, Typing: true}, *reads[1].Read)

	for _, emoji := range []string{"👍", ""} {
		require.NoError(t, command(domain.CommandReaction, emoji))
		d, err := Parse(p.next(t))
		require.NoError(t, err)
		assert.Empty(t, d.Items, "a reaction's statuses belong to no message of ours")
		assert.Equal(t, []Skipped{{p.number.PhoneNumberID, "messages.statuses.reaction"}}, d.Skipped)
		p.next(t) // delivered
		talk, err := p.Conversation(p.number.PhoneNumberID, customer)
		require.NoError(t, err)
		if emoji == "" {
			assert.Empty(t, talk.Messages[0].Reactions)
		} else {
			assert.Equal(t, emoji, talk.Messages[0].Reactions[0].Emoji)
		}
	}

	for _, kind := range []domain.CommandKind{domain.CommandEdit, domain.CommandRevoke, "dance"} {
		e := sendError(t, command(kind, "x"))
		assert.Equal(t, channel.Refused, e.Outcome)
		assert.Equal(t, codeUnsupported, e.Code)
	}

	p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultDrop, Endpoint: "read", Count: 1})
	assert.Equal(t, channel.NotSent, sendError(t, command(domain.CommandRead, "")).Outcome, "a receipt may be repeated")
	target.TargetExternalID = "wamid.none"
	assert.Equal(t, channel.Refused, sendError(t, command(domain.CommandRead, "")).Outcome)
}

func TestCodesAreTold(t *testing.T) {
	for code, k := range codes {
		e := (&graphError{metaError: metaError{Code: code, Title: "Title"}, status: 400, understood: true}).sendError()
		assert.Regexp(t, `^[A-Z].*\.$`, e.Message, code)
		assert.Regexp(t, `^[A-Z].*\.$`, metaError{Code: code}.undelivered(), code)
		assert.Equal(t, k.verdict == uncertain, e.Outcome == channel.Unknown, code)
		assert.Equal(t, k.verdict == refused, e.Outcome == channel.Refused, code)
		if k.verdict != refused {
			assert.NotEmpty(t, k.sentence, code)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "x": 0, "-5": 0, "7": 7 * time.Second, "99999999999": longestWait, "999999999999999999999999": 0,
		"Mon, 02 Jan 2006 15:04:05 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": longestWait,
	} {
		assert.Equal(t, want, retryAfter(http.Header{"Retry-After": {value}}), value)
	}
}

func TestErrorsTellNoAddress(t *testing.T) {
	p := answering(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err := p.open(t, newStage(), nil).Send(within(t), hello())
	require.Error(t, err)
	assert.NotContains(t, err.Error(), p.number.PhoneNumberID)
	assert.NotErrorIs(t, err, errors.ErrUnsupported)
}
