package telegram_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
)

const hello = `{"chat_id":5001001,"text":"hello"}`

// try calls and says whether there was an answer.
func (s *simulator) try(ctx context.Context, method, params string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.http.URL+"/bot"+token+"/"+method+"?"+params, http.NoBody)
	require.NoError(s.t, err)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	a := read(s.t, resp)
	require.NotEmpty(s.t, a.body)
	return nil
}

const helloQuery = "chat_id=5001001&text=hello"

func TestFaultsOfCalls(t *testing.T) {
	t.Cleanup(func() { http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	s := newSim(t)
	s.says(grete, "hi")
	outcome := func() telegram.Send {
		sends := s.Ledger().Sends(botID)
		return sends[len(sends)-1]
	}
	count := func() int {
		conv, err := s.Conversation(botID, grete)
		require.NoError(t, err)
		return len(conv.Messages)
	}
	s.fault(telegram.Fault{Kind: telegram.FaultRateLimit, Count: 1, RetryAfter: 7 * time.Second})
	a := s.call("sendMessage", hello)
	require.JSONEq(t, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 7","parameters":{"retry_after":7}}`, a.body)
	require.Equal(t, telegram.OutcomeRefused, outcome().Outcome)
	require.Equal(t, 200, s.call("sendMessage", hello).status, "once only")

	id := s.fault(telegram.Fault{Kind: telegram.FaultFail, Code: 400, Message: "Bad Request: group chat was upgraded to a supergroup chat", MigrateTo: -100123, ChatID: grete})
	require.Contains(t, s.call("sendMessage", hello).body, `"migrate_to_chat_id":-100123`)
	require.Equal(t, id, outcome().FaultID)
	require.NoError(t, s.ClearFault(id))

	before := count()
	s.fault(telegram.Fault{Kind: telegram.FaultDrop, Count: 1})
	require.Error(t, s.try(t.Context(), "sendMessage", helloQuery))
	require.Equal(t, telegram.OutcomeLost, outcome().Outcome)
	require.Equal(t, before, count())

	s.fault(telegram.Fault{Kind: telegram.FaultAcceptDrop, Count: 1})
	require.Error(t, s.try(t.Context(), "sendMessage", helloQuery))
	require.Equal(t, telegram.OutcomeUntold, outcome().Outcome)
	require.Len(t, outcome().MessageIDs, 1)
	require.Equal(t, before+1, count())

	s.fault(telegram.Fault{Kind: telegram.FaultGarble, Count: 1})
	require.Equal(t, http.StatusBadGateway, s.call("sendMessage", hello).status)
	require.Equal(t, before+2, count())

	for _, kind := range []telegram.FaultKind{telegram.FaultHang, telegram.FaultAcceptHang} {
		id := s.fault(telegram.Fault{Kind: kind})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		require.ErrorIs(t, s.try(ctx, "sendMessage", helloQuery), context.DeadlineExceeded)
		cancel()
		require.NoError(t, s.ClearFault(id))
	}
	require.Equal(t, before+3, count(), "a hang before does nothing, one after the effect does")
	require.Equal(t, telegram.Counts{}.Overlaps, s.Ledger().Counts().Overlaps)
}

func TestFaultsAreAimed(t *testing.T) {
	s := newSim(t, func(o *telegram.Options) { o.AutoRegister = true })
	s.says(grete, "hi")
	s.says(ravi, "hi")
	s.fault(telegram.Fault{Kind: telegram.FaultFail, ChatID: ravi})
	s.fault(telegram.Fault{Kind: telegram.FaultFail, Bot: 7771234, Method: "*"})
	s.fault(telegram.Fault{Kind: telegram.FaultFail, Method: "GETCHAT", Code: 502})
	require.Equal(t, 200, s.call("sendMessage", hello).status)
	require.Equal(t, 500, s.call("sendMessage", `{"chat_id":5001002,"text":"x"}`).status)
	require.Equal(t, 502, s.call("getChat", `{"chat_id":5001001}`).status)
	require.Equal(t, 200, s.call("getMe", `{}`).status, "not a send")
	require.Equal(t, 500, s.do("POST", "/bot7771234:AAFreshTokenOfSomeOtherBot-_/getMe", `{}`).status)
	s.ClearFaults()
	require.Empty(t, s.Faults())
	for _, wrong := range []telegram.Fault{
		{Kind: "x"}, {Kind: telegram.FaultFail, Code: 200}, {Kind: telegram.FaultFail, Method: "nothing"}, {Kind: telegram.FaultHang, Count: -1},
	} {
		_, err := s.SetFault(wrong)
		require.ErrorIs(t, err, telegram.ErrInvalid)
	}
}

func TestFaultsOfUpdates(t *testing.T) {
	s := newSim(t)
	s.fault(telegram.Fault{Kind: telegram.FaultUpdateUnknown, Count: 1})
	s.fault(telegram.Fault{Kind: telegram.FaultUpdateMalformed, Count: 1})
	s.fault(telegram.Fault{Kind: telegram.FaultUpdateHuge, Count: 1, Size: 100_000})
	s.says(grete, "the real one")
	a := s.call("getUpdates", `{}`)
	list := a.json["result"].([]any)
	require.Len(t, list, 4)
	require.Contains(t, list[0], "simulated_future_update")
	require.Equal(t, "yesterday", list[1].(map[string]any)["message"].(map[string]any)["date"])
	require.Len(t, list[2].(map[string]any)["message"].(map[string]any)["text"], 100_000)
	require.Equal(t, "the real one", list[3].(map[string]any)["message"].(map[string]any)["text"])
	_, err := s.bot().GetUpdates(tgbotapi.UpdateConfig{})
	require.Error(t, err, "the library cannot read the malformed one: that is the point of it")

	next := int(list[3].(map[string]any)["update_id"].(float64)) + 1
	require.Empty(t, s.updates(s.bot(), next))
	s.fault(telegram.Fault{Kind: telegram.FaultUpdateRepeat, Count: 1})
	require.Len(t, s.call("getUpdates", `{}`).json["result"], 4, "confirmed ones come again")
	ref, err := s.Deliver(botID, []byte(`{"update_id":1,"chat_boost":{"any":"thing"}}`))
	require.NoError(t, err)
	require.InDelta(t, ref.ID, s.last()["update_id"], 0)
	_, err = s.Deliver(botID, []byte(`[]`))
	require.ErrorIs(t, err, telegram.ErrInvalid)

	s.fault(telegram.Fault{Kind: telegram.FaultTruncate, Method: "getUpdates", Count: 1})
	_, err = s.bot().GetUpdates(tgbotapi.UpdateConfig{})
	require.ErrorContains(t, err, "unexpected EOF")
	require.Len(t, s.call("getUpdates", `{}`).json["result"], 1, "nothing was confirmed by the answer that was lost")
	life, _ := s.Ledger().Update(ref)
	require.Equal(t, 2, life.Deliveries, "the lost answer is no delivery")
}

func TestFaultsOfFiles(t *testing.T) {
	c := newClock()
	s := newSim(t, func(o *telegram.Options) { o.Now = c.Now })
	api := s.bot()
	s.sends(grete, telegram.Incoming{Type: "document", Media: &telegram.IncomingMedia{Data: []byte("0123456789")}})
	id := s.updates(api, 0)[0].Message.Document.FileID
	get := func() (*tgbotapi.File, error) {
		f, err := api.GetFile(tgbotapi.FileConfig{FileID: id})
		return &f, err
	}
	f, err := get()
	require.NoError(t, err)
	path := "/file/bot" + token + "/" + f.FilePath
	require.Equal(t, "0123456789", s.do("GET", path, "").body)
	c.add(time.Hour)
	require.Equal(t, 404, s.do("GET", path, "").status, "links live for an hour")
	require.Equal(t, 401, s.do("GET", "/file/bot1234567:AAWrongTokenOfAKnownBot-_/x", "").status)
	for kind, want := range map[telegram.FaultKind]string{
		telegram.FaultFileMissing: "Bad Request: wrong file_id or the file is temporarily unavailable",
		telegram.FaultFileTooBig:  "Bad Request: file is too big",
	} {
		s.fault(telegram.Fault{Kind: kind, Count: 1})
		_, err := get()
		require.EqualError(t, err, want)
	}
	s.fault(telegram.Fault{Kind: telegram.FaultFileExpired, Count: 1})
	_, err = get()
	require.NoError(t, err)
	require.Equal(t, 404, s.do("GET", path, "").status)
	_, err = get()
	require.NoError(t, err)
	s.fault(telegram.Fault{Kind: telegram.FaultFileWrong, Count: 1})
	require.NotEqual(t, "0123456789", s.do("GET", path, "").body)
	s.fault(telegram.Fault{Kind: telegram.FaultFail, Method: "file", Count: 1, Code: 503})
	require.Equal(t, 503, s.do("GET", path, "").status)
	s.fault(telegram.Fault{Kind: telegram.FaultFileSlow, Count: 1, Delay: 20 * time.Millisecond})
	require.Equal(t, "0123456789", s.do("GET", path, "").body)
	s.fault(telegram.Fault{Kind: telegram.FaultFileTruncated, Count: 1})
	resp, err := s.request(t.Context(), "GET", path, "", http.NoBody)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	n, err := resp.Body.Read(make([]byte, 10))
	for err == nil {
		_, err = resp.Body.Read(make([]byte, 10))
	}
	require.ErrorContains(t, err, "unexpected EOF")
	require.LessOrEqual(t, n, 5)
}
