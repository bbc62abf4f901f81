package telegram

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

func TestOpensTheBotThenPolls(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	stop, _ := run(t, a.open(t, h, nil))
	status := h.state(t, domain.ChannelConnected, "")
	assert.Equal(t, "Connected as Cactus Shop (@cactus_bot).", status.Reason)
	a.until(t, "a long poll", func() bool { return len(a.of("getUpdates")) >= 2 })
	a.mu.Lock()
	assert.Equal(t, "deleteWebhook", a.calls[0].method)
	assert.Equal(t, "getMe", a.calls[1].method)
	assert.Equal(t, map[string]string{"limit": "100", "timeout": "0", "allowed_updates": allowedUpdates}, a.calls[2].params)
	assert.Equal(t, "1", a.calls[3].params["timeout"])
	a.mu.Unlock()
	assert.NotContains(t, a.of("deleteWebhook")[0].params, "drop_pending_updates", "what waits is not dropped")
	require.NoError(t, stop())
}

// Telegram is told of an offset only after the messages before it are
// committed, and then at once.
func TestOffsetFollowsTheCommit(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	a.pushText(1, "one")
	last := a.pushText(2, "two")
	stop, _ := run(t, a.open(t, h, nil))
	batch := receive(t, h.arrived)
	assert.Equal(t, fmt.Sprint(last+1), batch.Position)
	assert.Len(t, batch.Items, 2, "updates that wait share a transaction")
	a.until(t, "the confirmation", func() bool { return a.waiting() == 0 })
	a.pushText(3, "three")
	receive(t, h.arrived)
	a.until(t, "the second confirmation", func() bool { return a.waiting() == 0 })
	require.NoError(t, stop())
	assert.Equal(t, []string{"one", "two", "three"}, h.texts())
}

func TestWhatIsNotCommittedComesAgain(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	h.refuse = []error{errRefused, errRefused}
	a.pushText(1, "one")
	run(t, a.open(t, h, nil))
	for range 3 {
		assert.False(t, receive(t, h.arrived).LastTry)
	}
	a.until(t, "the confirmation", func() bool { return a.waiting() == 0 })
	assert.Equal(t, []string{"one"}, h.texts())
	for _, c := range a.of("getUpdates")[:3] {
		assert.Empty(t, c.params["offset"], "nothing was confirmed before the commit")
	}
}

func TestWhatCannotBeStoredDoesNotHoldUpForEver(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	h.refuse = []error{errRefused, errRefused, errRefused, errRefused}
	a.pushText(1, "one")
	run(t, a.open(t, h, nil))
	for range storeTries - 1 {
		assert.False(t, receive(t, h.arrived).LastTry)
	}
	assert.True(t, receive(t, h.arrived).LastTry)
	a.until(t, "the confirmation", func() bool { return a.waiting() == 0 })
	h.refuse = nil
	a.pushText(2, "two")
	assert.False(t, receive(t, h.arrived).LastTry, "the next batch is counted anew")
}

// A worker that dies between getUpdates and the commit has lost nothing; one
// that dies after the commit, before Telegram was told, repeats nothing.
func TestDeathAroundTheCommit(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	a.pushText(1, "one")
	h.refuse = []error{context.Canceled}
	first := a.open(t, h, func(o *Options) { o.MinWait, o.MaxWait = time.Hour, time.Hour })
	stop, _ := run(t, first)
	receive(t, h.arrived) // fetched, not committed
	require.NoError(t, stop())
	assert.Empty(t, h.texts())
	assert.Equal(t, 1, a.waiting())

	// The second one commits, and cannot tell Telegram.
	confirmations := len(a.of("getUpdates")) + 1
	a.script("getUpdates", passOn(a), hangs)
	stop, _ = run(t, a.open(t, h, nil))
	receive(t, h.arrived)
	a.until(t, "the confirmation to begin", func() bool { return len(a.of("getUpdates")) > confirmations })
	require.NoError(t, stop())
	assert.Equal(t, 1, a.waiting())

	a.pushText(2, "two")
	run(t, a.open(t, h, nil))
	receive(t, h.arrived)
	a.until(t, "the confirmation", func() bool { return a.waiting() == 0 })
	assert.Equal(t, []string{"one", "two"}, h.texts())
}

// passOn answers as without a script.
func passOn(a *botAPI) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		params := map[string]string{}
		for key := range r.Form {
			params[key] = r.Form.Get(key)
		}
		a.getUpdates(w, r, params)
	}
}

// After a week without updates Telegram's ids begin anew, perhaps lower.
func TestLowerUpdateIDs(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	h.position = "900000"
	a.mu.Lock()
	a.nextID = 17
	a.mu.Unlock()
	id := a.pushText(1, "after a week")
	run(t, a.open(t, h, nil))
	assert.Equal(t, fmt.Sprint(id+1), receive(t, h.arrived).Position)
	a.until(t, "the confirmation", func() bool { return a.waiting() == 0 })

	a.until(t, "a poll without an offset", func() bool {
		calls := a.of("getUpdates")
		return calls[len(calls)-1].params["offset"] == ""
	})
	a.mu.Lock()
	a.nextID = 3
	a.mu.Unlock()
	assert.Equal(t, fmt.Sprint(a.pushText(2, "after another")+1), receive(t, h.arrived).Position)
	a.until(t, "the second confirmation", func() bool { return a.waiting() == 0 })
	assert.Equal(t, []string{"after a week", "after another"}, h.texts())
}

func TestPoisonIsSetAsideAndTheRestGoesOn(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	a.pushText(1, "before")
	a.push(`{"message":{"message_id":"x","date":1769860800,"chat":{"id":42,"type":"private"},"text":"secret words"}}`)
	a.push(`{"message":{"message_id":3,"date":1769860800,"chat":{"id":42,"type":"private"},"from":{"id":42},"text":{"a":"secret words"}}}`)
	a.push(`{"hologram":{"depth":3}}`)
	last := a.pushText(4, "after")
	run(t, a.open(t, h, nil))
	batch := receive(t, h.arrived)
	require.Len(t, batch.Items, 5)
	assert.Equal(t, fmt.Sprint(last+1), batch.Position)
	for i, readable := range []bool{true, false, false, false, true} {
		item := batch.Items[i]
		assert.Equal(t, readable, item.Poison == nil, i)
		if !readable {
			assert.NotContains(t, item.Poison.Error(), "secret")
			assert.NotEmpty(t, item.Raw)
		}
	}
	assert.Equal(t, domain.Inbound{}, batch.Items[1].Inbound, "nobody knows which message it is")
	assert.Equal(t, domain.TypeUnsupported, batch.Items[2].Inbound.Message.Type, "the chat shows that something was there")
	assert.Equal(t, domain.Inbound{}, batch.Items[3].Inbound)
}

func TestAnswerThatCannotBeRead(t *testing.T) {
	for name, broken := range map[string]string{
		"not JSON": `{"ok":true,"result":[{"update_id":100,"message":{"message_id":1,`,
		"huge":     `{"ok":true,"result":[{"update_id":100,"message":{"text":"` + strings.Repeat("x", maxAnswer) + `"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			a, h := newBotAPI(t), newHouse()
			a.pushText(1, "the broken one")
			a.pushText(2, "behind it")
			a.script("getUpdates", times(3, says(200, broken))...)
			run(t, a.open(t, h, nil))
			batch := receive(t, h.arrived)
			require.Len(t, batch.Items, 1)
			require.Error(t, batch.Items[0].Poison)
			assert.LessOrEqual(t, len(batch.Items[0].Raw), maxKept)
			assert.Equal(t, "101", batch.Position)
			receive(t, h.arrived)
			a.until(t, "the confirmation", func() bool { return a.waiting() == 0 })
			assert.Equal(t, []string{"behind it"}, h.texts())
			var limits []string
			for _, c := range a.of("getUpdates")[:4] {
				limits = append(limits, c.params["limit"])
			}
			assert.Equal(t, []string{"100", "10", "1", "100"}, limits)
		})
	}
}

// An update without an id cannot be confirmed. It is kept, shown and asked for
// less and less often, and it stands in nobody's way.
func TestUpdateWithoutAnID(t *testing.T) {
	for name, broken := range map[string]string{
		"none":     `{"message":{"message_id":1,"date":1769860800,"chat":{"id":42,"type":"private"},"text":"?"}}`,
		"a word":   `{"update_id":"next","message":{}}`,
		"negative": `{"update_id":-5}`,
		"a number": `7`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, h := newBotAPI(t), newHouse()
			a.mu.Lock()
			a.updates = append(a.updates, json.RawMessage(broken))
			a.mu.Unlock()
			run(t, a.open(t, h, func(o *Options) { o.MinWait, o.MaxWait = 20*time.Millisecond, 100*time.Millisecond }))
			h.state(t, domain.ChannelError, codeMalformed)
			began, before := time.Now(), len(a.of("getUpdates"))
			for range 5 {
				batch := receive(t, h.arrived)
				require.Len(t, batch.Items, 1)
				assert.Equal(t, broken, string(batch.Items[0].Raw))
				assert.Error(t, batch.Items[0].Poison)
			}
			polls := len(a.of("getUpdates")) - before
			assert.LessOrEqual(t, polls, 5+int(time.Since(began)/(80*time.Millisecond)), "it waits between its polls")

			last := a.pushText(2, "behind it")
			for {
				if batch := receive(t, h.arrived); len(batch.Items) == 2 {
					assert.Equal(t, fmt.Sprint(last+1), batch.Position)
					break
				}
			}
			h.state(t, domain.ChannelConnected, "")
			a.until(t, "the confirmation", func() bool { return a.waiting() == 0 })
			assert.Equal(t, []string{"behind it"}, h.texts())
		})
	}
}

// After an answer that could not be read, as many updates as before are asked for
// again, also when there are always some.
func TestBatchGrowsAgain(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	fresh := func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		a.nextID++
		id := a.nextID
		a.mu.Unlock()
		_, _ = fmt.Fprintf(w, `{"ok":true,"result":[{"update_id":%d}]}`, id)
	}
	a.script("getUpdates", append(times(2, says(200, "[[[")), times(9, fresh)...)...)
	run(t, a.open(t, h, nil))
	a.until(t, "many polls", func() bool { return len(a.of("getUpdates")) >= 11 })
	var limits []string
	for _, c := range a.of("getUpdates")[:11] {
		limits = append(limits, c.params["limit"])
	}
	assert.Equal(t, []string{"100", "10", "1", "2", "4", "8", "16", "32", "64", "100", "100"}, limits)
}

// contested is a bot that gets an update with every poll that no rival ends.
type contested struct {
	*botAPI

	busy, rival atomic.Bool
	polls       atomic.Int64
}

func contend(t *testing.T) *contested {
	t.Helper()
	c := &contested{botAPI: newBotAPI(t)}
	c.busy.Store(true)
	c.rival.Store(true)
	c.script("getUpdates", times(100_000, func(w http.ResponseWriter, r *http.Request) {
		switch n := c.polls.Add(1); {
		case c.rival.Load() && n%2 == 0:
			fails(409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", "")(w, r)
		case c.busy.Load():
			c.pushText(int(n), "news")
			passOn(c.botAPI)(w, r)
		default:
			passOn(c.botAPI)(w, r)
		}
	})...)
	return c
}

// stays checks that the bot is shown in no other state while it is polled so
// many more times.
func (c *contested) stays(t *testing.T, h *house, state domain.ChannelState, polls int64) {
	t.Helper()
	end := c.polls.Load() + polls
	c.until(t, "more polls", func() bool { return c.polls.Load() >= end })
	for {
		select {
		case told := <-h.told:
			require.Equal(t, state, told.State)
		default:
			return
		}
	}
}

// With a rival at a busy bot every conflict is followed by a poll that brings
// something. It is shown all the same, until a poll has waited undisturbed.
func TestConflictBesideTraffic(t *testing.T) {
	c, h := contend(t), newHouse()
	h.arrived = make(chan domain.Batch, 100_000)
	run(t, c.open(t, h, nil))
	h.state(t, domain.ChannelConflict, codeConflict)
	c.stays(t, h, domain.ChannelConflict, 40)
	c.rival.Store(false)
	c.stays(t, h, domain.ChannelConflict, 20) // what a busy bot brings says nothing of rivals
	c.busy.Store(false)
	h.state(t, domain.ChannelConnected, "")
	c.until(t, "all to be confirmed", func() bool { return c.waiting() == 0 })
	assert.NotEmpty(t, h.texts(), "what it gets it keeps")

	// It comes back: now one conflict is enough.
	c.rival.Store(true)
	h.state(t, domain.ChannelConflict, codeConflict)
}

// On a bot that is always busy no poll ever waits: the rival is gone when there
// was no conflict for long.
func TestRivalIsForgottenInTime(t *testing.T) {
	c, h := contend(t), newHouse()
	h.arrived = make(chan domain.Batch, 100_000)
	s := c.open(t, h, nil)
	s.clashWindow = 300 * time.Millisecond
	run(t, s)
	h.state(t, domain.ChannelConflict, codeConflict)
	c.rival.Store(false)
	c.until(t, "it to be connected", func() bool {
		for {
			select {
			case told := <-h.told:
				if told.State == domain.ChannelConnected {
					return true
				}
			default:
				return false
			}
		}
	})
}

// A failure that passes is shown, waited out, and over when a poll succeeds.
func TestCodedStates(t *testing.T) {
	rival := fails(409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", "")
	cases := map[string]struct {
		answers []http.HandlerFunc
		state   domain.ChannelState
		code    string
	}{
		"another poller":    {times(2, rival), domain.ChannelConflict, codeConflict},
		"flood":             {[]http.HandlerFunc{fails(429, "Too Many Requests: retry after 1", `{"retry_after":1}`)}, domain.ChannelError, codeFlood},
		"fault":             {times(3, fails(500, "Internal Server Error", "")), domain.ChannelError, codeUnreachable},
		"gateway":           {times(3, says(502, "<html>Bad Gateway</html>")), domain.ChannelError, codeUnreachable},
		"cut":               {times(3, cuts), domain.ChannelError, codeUnreachable},
		"another server":    {times(3, says(403, "<html>no</html>")), domain.ChannelError, "http_403"},
		"refused":           {times(2, fails(400, "Bad Request: something new", "")), domain.ChannelError, "provider_400"},
		"an endless stream": {times(12, says(200, "[[[")), domain.ChannelError, codeMalformed},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, h := newBotAPI(t), newHouse()
			stop, _ := run(t, a.open(t, h, nil))
			h.state(t, domain.ChannelConnected, "")
			a.script("getUpdates", c.answers...)
			h.state(t, c.state, c.code)
			h.state(t, domain.ChannelConnected, "")
			a.pushText(1, "still here")
			receive(t, h.arrived)
			require.NoError(t, stop())
		})
	}
}

func TestOneFailureAloneIsNoNews(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	run(t, a.open(t, h, nil))
	h.state(t, domain.ChannelConnected, "")
	a.script("getUpdates", cuts)
	a.pushText(1, "one")
	receive(t, h.arrived)
	assert.Empty(t, h.told)
}

func TestWebhookOfAnotherProgramIsTakenAwayAgain(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	run(t, a.open(t, h, nil))
	h.state(t, domain.ChannelConnected, "")
	a.script("getUpdates", fails(409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first", ""))
	a.until(t, "the second deleteWebhook", func() bool { return len(a.of("deleteWebhook")) == 2 })
}

func TestRevokedToken(t *testing.T) {
	gone := func(t *testing.T, ended <-chan error) {
		t.Helper()
		var down *channel.Down
		require.ErrorAs(t, receive(t, ended), &down)
		assert.Equal(t, domain.ChannelLoggedOut, down.State)
		assert.Equal(t, codeTokenRevoked, down.Code)
		assert.True(t, down.Permanent)
		assert.NotContains(t, down.Error(), "AAtestTEST")
	}
	unauthorized := fails(401, "Unauthorized", "")
	t.Run("before", func(t *testing.T) {
		a, h := newBotAPI(t), newHouse()
		a.script("deleteWebhook", unauthorized)
		_, ended := run(t, a.open(t, h, nil))
		gone(t, ended)
		assert.False(t, h.isReady)
	})
	t.Run("never was one", func(t *testing.T) {
		a, h := newBotAPI(t), newHouse()
		a.script("deleteWebhook", fails(404, "Not Found", ""))
		_, ended := run(t, a.open(t, h, nil))
		gone(t, ended)
	})
	t.Run("during a poll", func(t *testing.T) {
		a, h := newBotAPI(t), newHouse()
		a.script("getUpdates", passOn(a), unauthorized)
		_, ended := run(t, a.open(t, h, nil))
		gone(t, ended)
	})
	t.Run("found by a send", func(t *testing.T) {
		a, h := newBotAPI(t), newHouse()
		s := a.open(t, h, func(o *Options) { o.PollTimeout = time.Hour })
		_, ended := run(t, s)
		a.until(t, "a long poll", func() bool { return len(a.of("getUpdates")) == 2 })
		a.script("sendMessage", unauthorized)
		a.script("deleteWebhook", unauthorized)
		_, err := s.Send(within(t), text("hello"))
		e := sendError(t, err)
		assert.Equal(t, channel.NotSent, e.Outcome)
		assert.True(t, e.WholeChannel)
		gone(t, ended)
	})
	t.Run("of another bot", func(t *testing.T) {
		a, h := newBotAPI(t), newHouse()
		a.script("getMe", times(2, says(200, `{"ok":true,"result":{"id":5,"is_bot":true,"first_name":"Other"}}`))...)
		run(t, a.open(t, h, nil))
		h.state(t, domain.ChannelError, codeUnreachable)
		h.state(t, domain.ChannelConnected, "")
	})
}

func TestNobodyListens(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	a.Close()
	stop, _ := run(t, a.open(t, h, nil))
	h.state(t, domain.ChannelError, codeUnreachable)
	require.NoError(t, stop())
}

// An endpoint that does not answer is shown as soon as it has had its time, and a
// session that is ended ends at once.
func TestHangingEndpoint(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	run(t, a.open(t, h, func(o *Options) { o.Grace = 500 * time.Millisecond }))
	h.state(t, domain.ChannelConnected, "")
	a.script("getUpdates", hangs) // once: one silence of this length is news enough
	h.state(t, domain.ChannelError, codeUnreachable)
	h.state(t, domain.ChannelConnected, "")

	a2, h2 := newBotAPI(t), newHouse()
	a2.script("getUpdates", hangs)
	stop, _ := run(t, a2.open(t, h2, func(o *Options) { o.PollTimeout = time.Hour }))
	a2.until(t, "the poll", func() bool { return len(a2.of("getUpdates")) == 1 })
	began := time.Now()
	require.NoError(t, stop())
	assert.Less(t, time.Since(began), time.Second)
}

func TestCallbackQueriesAreAnsweredAfterTheCommit(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	h.refuse = []error{errRefused}
	a.push(`{"callback_query":{"id":"cb-1","from":{"id":42,"first_name":"Ann"},"chat_instance":"1","data":"yes"}}`)
	run(t, a.open(t, h, nil))
	receive(t, h.arrived)
	receive(t, h.arrived)
	a.until(t, "the answer", func() bool { return len(a.of("answerCallbackQuery")) == 1 })
	assert.Equal(t, "cb-1", a.of("answerCallbackQuery")[0].params["callback_query_id"])
}

func text(content string) domain.Outbound {
	return domain.Outbound{Message: domain.Message{ID: 1, Type: domain.TypeText, Content: content}, Attempt: 1, Peer: "42"}
}
