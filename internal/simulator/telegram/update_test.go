package telegram_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
)

func texts(updates []tgbotapi.Update) []string {
	out := []string{}
	for _, u := range updates {
		if u.Message != nil {
			out = append(out, u.Message.Text)
		}
	}
	return out
}

func TestOffsetConfirms(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	for _, text := range []string{"one", "two", "three"} {
		s.says(grete, text)
	}
	first := s.updates(api, 0)
	require.Equal(t, []string{"one", "two", "three"}, texts(first))
	require.Equal(t, first[0].UpdateID+1, first[1].UpdateID)
	require.Equal(t, []string{"one", "two", "three"}, texts(s.updates(api, 0)), "an update that is not confirmed comes again")
	require.Equal(t, []string{"three"}, texts(s.updates(api, first[2].UpdateID)))
	require.Equal(t, []string{"three"}, texts(s.updates(api, first[0].UpdateID)), "a confirmed update does not come back")
	require.Equal(t, []string{"three"}, texts(s.updates(api, first[2].UpdateID+1000)), "an offset far in the future is ignored")
	require.Empty(t, s.updates(api, first[2].UpdateID+1))
	require.Zero(t, s.Pending())

	life, ok := s.Ledger().Update(telegram.UpdateRef{Bot: botID, ID: int64(first[0].UpdateID)})
	require.True(t, ok)
	require.True(t, life.Confirmed())
	require.Equal(t, 2, life.Deliveries)
	require.False(t, life.FirstDelivered.IsZero())
	counts := s.Ledger().Counts()
	require.Equal(t, 3, counts.Confirmed)
	require.Equal(t, 3, counts.Delivered)
}

func TestNegativeOffsetForgets(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	for _, text := range []string{"one", "two", "three"} {
		s.says(grete, text)
	}
	require.Equal(t, []string{"two", "three"}, texts(s.updates(api, -2)))
	require.Equal(t, []string{"two", "three"}, texts(s.updates(api, 0)))
	require.Equal(t, []string{"two", "three"}, texts(s.updates(api, -9)))
}

func TestLimit(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	for i := range 130 {
		s.says(grete, strconv.Itoa(i))
	}
	require.Len(t, s.updates(api, 0), 100, "100 at most")
	got, err := api.GetUpdates(tgbotapi.UpdateConfig{Limit: 7})
	require.NoError(t, err)
	require.Len(t, got, 7)
	last := s.updates(api, 0)[99].UpdateID
	require.Len(t, s.updates(api, last+1), 30)
}

func TestLongPollWakes(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	got := make(chan []tgbotapi.Update, 1)
	go func() {
		updates, _ := api.GetUpdates(tgbotapi.UpdateConfig{Timeout: 30})
		got <- updates
	}()
	s.wait("the poll is open", func(l *telegram.Ledger) bool { return l.OpenPolls(botID) == 1 })
	s.says(grete, "wake up")
	require.Equal(t, []string{"wake up"}, texts(<-got))

	start := time.Now()
	_, err := api.GetUpdates(tgbotapi.UpdateConfig{Offset: -1, Timeout: 1})
	require.NoError(t, err)
	require.Less(t, time.Since(start), 900*time.Millisecond, "there is one to answer with")
	id := s.updates(api, 0)[0].UpdateID
	start = time.Now()
	updates, err := api.GetUpdates(tgbotapi.UpdateConfig{Offset: id + 1, Timeout: 1})
	require.NoError(t, err)
	require.Empty(t, updates)
	require.GreaterOrEqual(t, time.Since(start), time.Second)
}

// poll begins a getUpdates call that waits; its answer comes on the channel.
func (s *simulator) poll(ctx context.Context) chan answer {
	out := make(chan answer, 1)
	begun := s.Ledger().Counts().Polls
	go func() {
		resp, err := s.request(ctx, http.MethodGet, "/bot"+token+"/getUpdates?timeout=30", "", http.NoBody)
		if err != nil {
			out <- answer{body: err.Error()}
			return
		}
		out <- read(s.t, resp)
	}()
	s.wait("the poll is open", func(l *telegram.Ledger) bool { return l.Counts().Polls > begun })
	return out
}

func TestTwoPollersConflict(t *testing.T) {
	s := newSim(t)
	earlier := s.poll(t.Context())
	later := s.poll(t.Context())
	a := <-earlier
	require.Equal(t, http.StatusConflict, a.status)
	require.Equal(t, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", a.json["description"])
	require.InDelta(t, 409, a.json["error_code"], 0)
	s.says(grete, "for the later one")
	require.Len(t, (<-later).json["result"], 1)
	s.wait("both are recorded", func(l *telegram.Ledger) bool { return l.OpenPolls(botID) == 0 })
	require.Len(t, s.Ledger().Overlaps(botID), 1)
	require.Equal(t, 1, s.Ledger().Counts().Conflicts)
	polls := s.Ledger().Polls(botID)
	require.Len(t, polls, 2)
	require.True(t, polls[0].End.After(polls[1].Start), "they met")
}

func TestTakeoverIsNoOverlap(t *testing.T) {
	s := newSim(t)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		earlier := s.poll(ctx)
		cancel()
		<-earlier
		ctx, cancel = context.WithCancel(t.Context())
		resp := make(chan error, 1)
		go func() {
			r, err := s.request(ctx, http.MethodGet, "/bot"+token+"/getUpdates?timeout=30", "", http.NoBody)
			if err == nil {
				err = r.Body.Close()
			}
			resp <- err
		}()
		s.wait("the new poller is there alone", func(l *telegram.Ledger) bool {
			open := 0
			for _, p := range l.Polls(botID) {
				if p.Outcome == "" {
					open++
				}
			}
			return open == 1
		})
		cancel()
		require.ErrorIs(t, <-resp, context.Canceled)
	}
	s.wait("all polls ended", func(l *telegram.Ledger) bool { return l.OpenPolls(botID) == 0 })
	require.Empty(t, s.Ledger().Overlaps(0))
}

func TestAllowedUpdatesAreRemembered(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	sent := s.says(grete, "hello")
	react := func() int {
		refs, err := s.CustomerReact(botID, grete, sent.MessageID, 0, "👍")
		require.NoError(t, err)
		return len(refs)
	}
	require.Zero(t, react(), "reactions only on request")
	_, err := api.GetUpdates(tgbotapi.UpdateConfig{AllowedUpdates: []string{"message_reaction"}})
	require.NoError(t, err)
	require.Equal(t, 1, react())
	s.updates(api, 0) // without the parameter: as before
	require.Equal(t, 1, react())
	require.Empty(t, s.says(grete, "not wanted").Updates)
	a := s.call("getUpdates", `{"allowed_updates":[]}`)
	require.Len(t, a.json["result"], 3, "the hello, and two reactions")
	require.Zero(t, react(), "an empty list means the default")
	require.Len(t, s.says(grete, "wanted again").Updates, 1)
	require.Equal(t, 200, s.call("getUpdates", `{"allowed_updates":"nonsense"}`).status, "ignored, as by Telegram")
}

func TestUpdatesAreLostAfterADayAndWhenThereAreTooMany(t *testing.T) {
	c := newClock()
	s := newSim(t, func(o *telegram.Options) { o.Now, o.QueueSize = c.Now, 3 })
	api := s.bot()
	for _, text := range []string{"1", "2", "3", "4"} {
		s.says(grete, text)
		c.add(time.Hour)
	}
	require.Equal(t, []string{"2", "3", "4"}, texts(s.updates(api, 0)))
	c.add(22 * time.Hour)
	require.Equal(t, []string{"3", "4"}, texts(s.updates(api, 0)))
	require.Equal(t, 2, s.Ledger().Counts().Lost)
}

func TestRestartedIDsMayBeLower(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	s.says(grete, "old")
	require.ErrorIs(t, s.RestartUpdateIDs(botID, 5), telegram.ErrInvalid, "not while one waits")
	id := s.updates(api, 0)[0].UpdateID
	require.Empty(t, s.updates(api, id+1))
	require.NoError(t, s.RestartUpdateIDs(botID, 5))
	s.says(grete, "new")
	got := s.updates(api, id+1)
	require.Equal(t, []string{"new"}, texts(got), "a stale offset in the future is ignored")
	require.Equal(t, 5, got[0].UpdateID)
}

func TestAServerThatBeginsAnewRepeatsNoMessageID(t *testing.T) {
	c := newClock()
	again := func() *simulator {
		return newSim(t, func(o *telegram.Options) { o.FirstMessageID, o.Now, o.Customers[0].Started = 0, c.Now, true })
	}
	s := again()
	before := s.says(grete, "one").MessageID
	require.Equal(t, before+1, s.says(ravi, "two").MessageID, "private chats of a bot share a sequence")
	c.add(time.Second)
	s = again()
	require.Equal(t, 200, s.call("sendMessage", `{"chat_id":5001001,"text":"where were we?"}`).status, "she has written to the bot before")
	require.Equal(t, 403, s.call("sendMessage", `{"chat_id":5001002,"text":"hello"}`).status)
	after := s.says(grete, "three").MessageID
	require.Greater(t, after, before+1)
	require.Less(t, after, int64(1<<31))
}

func TestRepeatedPollsAreBraked(t *testing.T) {
	c := newClock()
	s := newSim(t, func(o *telegram.Options) { o.NoLimits, o.Now = false, c.Now })
	s.says(grete, "one")
	s.says(grete, "two")
	require.Len(t, s.call("getUpdates", `{"offset":1}`).json["result"], 2)
	require.Len(t, s.call("getUpdates", `{"offset":1}`).json["result"], 1, "the same offset at once: one update only")
	c.add(time.Second)
	require.Len(t, s.call("getUpdates", `{"offset":1}`).json["result"], 2)
}

func TestWebhook(t *testing.T) {
	var calls, refusals atomic.Int32
	bodies := make(chan map[string]any, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1); refusals.Add(-1) >= 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var v map[string]any
		if json.NewDecoder(r.Body).Decode(&v) == nil && r.Header.Get("X-Telegram-Bot-Api-Secret-Token") == "s3cret" {
			bodies <- v
		}
	}))
	t.Cleanup(hook.Close)
	s := newSim(t, func(o *telegram.Options) { o.Backoff = func(int) time.Duration { return time.Millisecond } })
	waiting := s.poll(t.Context())
	refusals.Store(2)
	require.Equal(t, 200, s.call("setWebhook", `{"url":"`+hook.URL+`","secret_token":"s3cret"}`).status)
	require.Equal(t, "Conflict: terminated by setWebhook request", (<-waiting).json["description"])
	a := s.call("getUpdates", `{}`)
	require.Equal(t, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first", a.json["description"])
	s.says(grete, "to the webhook")
	require.Contains(t, (<-bodies)["message"], "text")
	s.wait("confirmed by the answer", func(*telegram.Ledger) bool { return s.Pending() == 0 })
	require.Equal(t, int32(3), calls.Load())
	info, err := s.bot().GetWebhookInfo()
	require.NoError(t, err)
	require.Equal(t, hook.URL, info.URL)

	require.Equal(t, 400, s.call("setWebhook", `{"url":"http://203.0.113.9/x"}`).status)
	require.Equal(t, 400, s.call("setWebhook", `{"url":"https://203.0.113.9/x"}`).status, "never off this machine")
	api := s.bot()
	_, err = api.Request(tgbotapi.DeleteWebhookConfig{DropPendingUpdates: true})
	require.NoError(t, err)
	s.says(grete, "polled again")
	require.Equal(t, []string{"polled again"}, texts(s.updates(api, 0)))
	_, err = api.Request(tgbotapi.DeleteWebhookConfig{DropPendingUpdates: true})
	require.NoError(t, err)
	require.Empty(t, s.updates(api, 0))
}

func TestCloseEndsPolls(t *testing.T) {
	s := newSim(t)
	waiting := s.poll(t.Context())
	require.NoError(t, s.Close())
	a := <-waiting
	require.Zero(t, a.status, "cut off, not answered: %s", a.body)
	require.ErrorIs(t, s.Start(t.Context()), telegram.ErrClosed)
	require.Equal(t, "closed", s.Ledger().Polls(botID)[0].Outcome)
}

func TestTokens(t *testing.T) {
	s := newSim(t, func(o *telegram.Options) { o.AutoRegister = true })
	api := s.client("7771234:AAFreshTokenOfSomeOtherBot-_")
	require.Equal(t, "simulated_7771234_bot", api.Self.UserName)
	require.True(t, api.Self.IsBot)
	for path, want := range map[string]string{
		"/botnonsense/getMe": `{"ok":false,"error_code":404,"description":"Not Found"}`,
		"/elsewhere":         `{"ok":false,"error_code":404,"description":"Not Found"}`,
		"/bot7771234:AAWrongTokenOfAKnownBot-_/getMe": `{"ok":false,"error_code":401,"description":"Unauthorized"}`,
		"/bot" + token + "/getNothing":                `{"ok":false,"error_code":404,"description":"Not Found: method not found"}`,
	} {
		require.JSONEq(t, want, s.do("GET", path, "").body, path)
	}
	waiting := s.poll(t.Context())
	revoked := telegram.DemoBot()
	revoked.Revoked = true
	_, err := s.AddBot(revoked)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, (<-waiting).status)
	_, err = tgbotapi.NewBotAPIWithClient(token, s.http.URL+"/bot%s/%s", s.http.Client())
	var apiErr *tgbotapi.Error
	require.ErrorAs(t, err, &apiErr)
	require.Equal(t, 401, apiErr.Code)
}

func TestBotsAreApart(t *testing.T) {
	s := newSim(t, func(o *telegram.Options) { o.AutoRegister = true })
	other := s.client("7771234:AAFreshTokenOfSomeOtherBot-_")
	s.says(grete, "only to the first")
	require.Empty(t, s.updates(other, 0))
	_, err := other.Send(tgbotapi.NewMessage(grete, "who are you?"))
	require.ErrorContains(t, err, "bot can't initiate conversation with a user")
	id := s.sends(grete, telegram.Incoming{Type: "photo"}).MessageID
	got := s.updates(s.bot(), 0)
	photo := got[len(got)-1].Message.Photo
	require.Equal(t, int(id), got[len(got)-1].Message.MessageID)
	_, err = other.GetFile(tgbotapi.FileConfig{FileID: photo[0].FileID})
	require.ErrorContains(t, err, "wrong file_id", "a file id belongs to one bot")
	require.NoError(t, s.RemoveBot(7771234))
	require.Len(t, s.Bots(), 1)
}
