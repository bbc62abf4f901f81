package telegram_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
)

const convPath = "/control/bots/110201543/chats/5001001"

func (s *simulator) ok(method, path, body string) answer {
	s.t.Helper()
	a := s.do(method, path, body)
	require.Equal(s.t, 200, a.status, "%s %s: %s", method, path, a.body)
	return a
}

func TestControlEverythingOverHTTP(t *testing.T) {
	s := newSim(t)
	who := s.ok("POST", "/control/customers", `{"firstName":"Ada","username":"@ada_l","languageCode":"en"}`)
	require.Equal(t, "ada_l", who.json["username"])
	s.call("getUpdates", `{"allowed_updates":["message","edited_message","message_reaction","callback_query","my_chat_member"]}`)
	in := s.ok("POST", convPath+"/messages", `{"text":"hello"}`)
	require.InDelta(t, 1, in.json["messageId"], 0)
	require.Len(t, in.json["updates"], 1)
	s.ok("PATCH", convPath+"/messages/1", `{"text":"hello!"}`)
	s.call("sendMessage", `{"chat_id":5001001,"text":"hi","reply_markup":{"inline_keyboard":[[{"text":"a","callback_data":"b"}]]}}`)
	s.ok("POST", convPath+"/messages/2/reactions", `{"emojis":["👍"]}`)
	q := s.ok("POST", convPath+"/messages/2/press", `{"data":"b"}`).json["id"].(string)
	s.call("answerCallbackQuery", `{"callback_query_id":"`+q+`","text":"done"}`)
	require.Equal(t, "done", s.ok("GET", "/control/callbacks/"+q, "").json["text"])
	s.call("sendPoll", `{"chat_id":5001001,"question":"?","options":["a","b"]}`)
	s.ok("POST", convPath+"/messages/3/vote", `{"options":[0]}`)
	s.ok("DELETE", convPath+"/messages/1", "")
	s.ok("POST", convPath+"/block", `{"blocked":true}`)

	resp, err := s.request(t.Context(), "POST", "/control/files?type=photo&filename=a.png", "image/png", strings.NewReader("png"))
	require.NoError(t, err)
	file := read(t, resp).json["file"].(string)
	s.ok("POST", convPath+"/messages", `{"type":"photo","caption":"c","media":{"file":"`+file+`"}}`)
	s.ok("POST", convPath+"/messages", `{"type":"document","media":{"data":"JVBERg==","mimeType":"application/pdf","filename":"x.pdf"}}`)
	require.Equal(t, "png", s.ok("GET", "/control/files/"+file, "").body)
	conv := s.ok("GET", convPath+"/messages", "")
	require.Len(t, conv.json["messages"], 5)
	require.Equal(t, "member", conv.json["status"], "writing unblocks")

	g := s.ok("POST", "/control/chats", `{"title":"G","members":[5001001],"bots":[{"id":110201543}]}`).json["id"].(float64)
	group := "/control/chats/" + itoa(int(g))
	s.ok("POST", group+"/members", `{"customer":5001002,"status":"member"}`)
	s.ok("POST", group+"/bots", `{"bot":110201543,"status":"administrator"}`)
	s.ok("POST", group+"/title", `{"title":"H"}`)
	require.Less(t, s.ok("POST", group+"/migrate", "").json["id"], -1e12)
	require.Contains(t, s.ok("GET", "/control/chats", "").body, `"migratedTo":-100`)

	require.Equal(t, 504, s.do("GET", "/control/idle?timeoutMs=1", "").status)
	list := s.call("getUpdates", `{}`).json["result"].([]any)
	last := int(list[len(list)-1].(map[string]any)["update_id"].(float64))
	s.call("getUpdates", `{"offset":`+itoa(last+1)+`}`)
	s.ok("GET", "/control/idle", "")
	s.ok("POST", "/control/bots/110201543/restart-ids", `{"id":7}`)
	require.InDelta(t, 7, s.ok("POST", "/control/bots/110201543/updates", `{"novel":{}}`).json["id"], 0)

	l := s.ok("GET", "/control/ledger?kind=send&bot=110201543&limit=10", "")
	require.Len(t, l.json["entries"], 2)
	require.Contains(t, l.body, `"host":"`+s.http.Listener.Addr().String()+`"`)
	require.InDelta(t, 1, l.json["pending"], 0)
	require.Contains(t, s.ok("GET", "/control/ledger/updates?bot=110201543", "").body, `"ended":"confirmed"`)
	require.Contains(t, s.ok("GET", "/control/ledger/polls", "").body, `"overlaps":[]`)
	polls := s.ok("GET", "/control/ledger/polls?after=2", "").json["polls"].([]any)
	require.Len(t, polls, 1)
	require.InDelta(t, 3, polls[0].(map[string]any)["seq"], 0)
	s.ok("DELETE", "/control/ledger", "")

	id := s.ok("POST", "/control/faults", `{"kind":"fail","count":2,"delayMs":5}`).json["id"].(string)
	require.Contains(t, s.ok("GET", "/control/faults", "").body, `"delayMs":5`)
	s.ok("DELETE", "/control/faults/"+id, "")
	s.ok("DELETE", "/control/faults", "")
	s.ok("POST", "/control/bots", `{"token":"7771234:AAFreshTokenOfSomeOtherBot-_"}`)
	require.Equal(t, true, s.ok("PATCH", "/control/bots/7771234", `{"revoked":true}`).json["revoked"])
	require.Equal(t, 401, s.do("GET", "/bot7771234:AAFreshTokenOfSomeOtherBot-_/getMe", "").status)
	s.ok("GET", "/control/bots/7771234", "")
	s.ok("DELETE", "/control/bots/7771234", "")
	require.Contains(t, s.ok("GET", "/control/bots", "").body, "lucky_shrub_bot")
	require.Contains(t, s.ok("GET", "/control/customers", "").body, "Ada")
	require.Contains(t, s.ok("GET", "/control/", "").body, "POST   /control/faults")
}

func TestControlErrors(t *testing.T) {
	s := newSim(t)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/control/nothing", "", 404},
		{"GET", "/control/bots/1", "", 404},
		{"GET", "/control/bots/x", "", 404},
		{"POST", "/control/bots", `{`, 400},
		{"POST", "/control/bots", `{"token":"x"}`, 422},
		{"POST", "/control/bots", `{"tokens":"x"}`, 400},
		{"POST", "/control/bots", `{} {}`, 400},
		{"PATCH", "/control/bots/110201543", `{"token":"7771234:AAFreshTokenOfSomeOtherBot-_"}`, 422},
		{"POST", "/control/customers", `{"username":"x y"}`, 422},
		{"POST", "/control/chats", `{"type":"party"}`, 422},
		{"POST", "/control/chats", `{"members":[1]}`, 404},
		{"POST", "/control/chats/-1/migrate", ``, 404},
		{"POST", "/control/faults", `{"kind":"fail","oops":1}`, 400},
		{"POST", "/control/faults", `{"kind":"oops"}`, 422},
		{"POST", "/control/faults", `{"kind":"` + strings.Repeat("x", 1<<20) + `"}`, 413},
		{"DELETE", "/control/faults/none", "", 404},
		{"POST", convPath + "/messages", `{"type":"text"}`, 422},
		{"PATCH", convPath + "/messages/9", `{"text":"x"}`, 404},
		{"POST", convPath + "/messages/9/reactions", `{}`, 404},
		{"POST", "/control/files?type=x", "x", 422},
		{"GET", "/control/ledger?after=x", "", 422},
		{"GET", "/control/ledger/polls?after=x", "", 422},
		{"GET", "/control/files/1", "", 404},
		{"GET", "/control/idle?timeoutMs=-1", "", 422},
	} {
		a := s.do(c.method, c.path, c.body)
		require.Equal(t, c.status, a.status, "%s %s: %s", c.method, c.path, a.body)
		require.NotEmpty(t, a.json["error"])
	}
}

func TestControlRefusesOtherOrigins(t *testing.T) {
	s := newSim(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.http.URL+"/control/bots/110201543", nil)
	require.NoError(t, err)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := s.http.Client().Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, read(t, resp).status)
	require.Len(t, s.Bots(), 1)
}

func TestUnsafeFilesAreOnlyDownloads(t *testing.T) {
	s := newSim(t)
	for _, mimeType := range []string{"text/html", "image/svg+xml"} {
		file, err := s.CustomerUpload("document", mimeType, "a\"\r\nX: y.html", []byte("<script>alert(1)</script>"))
		require.NoError(t, err)
		a := s.ok("GET", "/control/files/"+file, "")
		require.Equal(t, "application/octet-stream", a.header.Get("Content-Type"))
		require.Equal(t, `attachment; filename="a___X: y.html"`, a.header.Get("Content-Disposition"))
		require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
	}
}

func TestEventStream(t *testing.T) {
	s := newSim(t)
	resp, err := s.request(t.Context(), "GET", "/control/events", "", http.NoBody)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	next := func(name string) map[string]any {
		for lines.Scan() {
			if lines.Text() != "event: "+name {
				continue
			}
			require.True(t, lines.Scan())
			var v map[string]any
			require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "data: ")), &v))
			return v
		}
		t.Fatalf("the stream ended without %q: %v", name, lines.Err())
		return nil
	}
	next("hello")
	s.says(grete, "line one\nline two")
	require.Equal(t, "line one\nline two", next("message")["shown"].(map[string]any)["message"].(map[string]any)["text"])
	require.Equal(t, "inbound", next("ledger")["kind"])
	s.call("sendChatAction", `{"chat_id":5001001,"action":"typing"}`)
	require.Equal(t, "typing", next("action")["action"])
	require.NoError(t, s.Close())
	for lines.Scan() { // what is left, then the end
		continue
	}
	require.NoError(t, lines.Err())
}

func TestPagePolicyAllowsExactlyThePage(t *testing.T) {
	s := newSim(t)
	a := s.ok("GET", "/", "")
	policy := a.header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")
	require.Equal(t, 1, strings.Count(a.body, "<script>"))
	require.Equal(t, 1, strings.Count(a.body, "<style>"))
	require.NotContains(t, a.body, "innerHTML")
	require.NotRegexp(t, `(src|href)="(https?:)?//`, a.body)
}

// FuzzCalls: whatever is sent, the answer is an envelope, and nothing panics.
func FuzzCalls(f *testing.F) {
	sim, err := telegram.New(telegram.Options{NoLimits: true, FirstMessageID: 1, MediaBytes: 1 << 20, Bots: []telegram.Bot{telegram.DemoBot()}, Customers: telegram.DemoCustomers()})
	require.NoError(f, err)
	_, err = sim.CustomerSend(botID, grete, telegram.Incoming{Text: "hi"})
	require.NoError(f, err)
	f.Add("sendMessage", []byte(`{"chat_id":5001001,"text":"*a* [b](c)","parse_mode":"MarkdownV2","reply_parameters":{"message_id":1,"quote":"h"}}`))
	f.Add("sendMessage", []byte(`{"chat_id":5001001,"text":"<b>a</b>&#9;<a href='x.y'>b</a>","parse_mode":"HTML","entities":[{"type":"bold","offset":-5,"length":999}]}`))
	f.Add("sendMediaGroup", []byte(`{"chat_id":5001001,"media":[{"type":"document","media":"x"},{"type":"document","media":"y"}]}`))
	f.Add("editMessageText", []byte(`{"chat_id":5001001,"message_id":2,"text":"x","reply_markup":{"inline_keyboard":[[{"text":"a","url":"b"}]]}}`))
	f.Add("getUpdates", []byte(`{"offset":-3,"limit":1}`))
	f.Fuzz(func(t *testing.T, method string, body []byte) {
		var params map[string]any
		_ = json.Unmarshal(body, &params)
		for name := range params {
			if strings.EqualFold(name, "timeout") {
				t.Skip("would wait")
			}
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://sim/", bytes.NewReader(body))
		require.NoError(t, err)
		req.URL.Path = "/bot" + token + "/" + method
		req.Header.Set("Content-Type", "application/json")
		w := &recorder{header: http.Header{}}
		sim.Handler().ServeHTTP(w, req)
		require.True(t, json.Valid(w.body.Bytes()), w.body.String())
		require.Contains(t, []int{200, 400, 403, 404, 409, 413, 429}, w.status)
	})
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
