package cloudapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
)

const convPath = "/control/numbers/" + phoneID + "/customers/" + customer

func (s *simulator) ok(method, path, body string) answer {
	s.t.Helper()
	a := s.do(method, path, body)
	require.Equal(s.t, 200, a.status, "%s %s: %s", method, path, a.body)
	return a
}

func TestControlEverythingOverHTTP(t *testing.T) {
	s := newSim(t)
	require.Equal(t, true, s.ok("POST", "/control/numbers/"+phoneID+"/verify", "").json["ok"])
	s.ok("POST", "/control/customers", `{"waId":"+49 171 5550123","name":"Grete"}`)
	in := s.ok("POST", convPath+"/messages", `{"type":"text","text":"hello"}`).json["id"].(string)
	out := s.sendText("hi").wamid(t)
	s.ok("GET", "/control/idle", "")
	s.ok("POST", convPath+"/reactions", `{"messageId":"`+out+`","emoji":"👍"}`)
	require.Equal(t, false, s.ok("POST", convPath+"/typing", "").json["webhook"])
	require.InDelta(t, 1, s.ok("POST", convPath+"/read", `{}`).json["read"], 0)
	s.ok("POST", "/control/messages/"+url.PathEscape(out)+"/status", `{"status":"failed","code":131026}`)

	resp, err := s.request("POST", "/control/numbers/"+phoneID+"/media?filename=a.png", "image/png", strings.NewReader("png"), "")
	require.NoError(t, err)
	media := read(t, resp).json["id"].(string)
	s.ok("POST", convPath+"/messages", `{"type":"image","media":{"id":"`+media+`","caption":"c"},"replyTo":"`+out+`"}`)
	s.ok("POST", convPath+"/messages", `{"type":"document","media":{"data":"JVBERg==","mimeType":"application/pdf","filename":"x.pdf"}}`)
	require.Equal(t, "png", s.ok("GET", "/control/media/"+media, "").body)

	conv := s.ok("GET", convPath+"/messages", "")
	require.Len(t, conv.json["messages"], 4)
	require.Equal(t, true, conv.json["windowOpen"])
	s.ok("POST", convPath+"/window", `{"open":false}`)
	require.Equal(t, 400, s.sendText("closed").status)

	s.ok("GET", "/control/idle?timeoutMs=5000", "")
	require.Equal(t, true, s.ok("GET", "/control/ledger/messages/"+url.PathEscape(in), "").json["acked"])
	l := s.ok("GET", "/control/ledger?kind=send&phoneNumberId="+phoneID+"&limit=10", "")
	require.Len(t, l.json["entries"], 2)
	require.InDelta(t, 0, l.json["pending"], 0)
	s.ok("DELETE", "/control/ledger", "")

	id := s.ok("POST", "/control/faults", `{"kind":"fail","count":2,"delayMs":5}`).json["id"].(string)
	require.Contains(t, s.ok("GET", "/control/faults", "").body, `"delayMs":5`)
	s.ok("DELETE", "/control/faults/"+id, "")
	s.ok("DELETE", "/control/faults", "")

	s.ok("POST", "/control/numbers", `{"phoneNumberId":"777","accessToken":"t","appSecret":"s"}`)
	s.ok("PATCH", "/control/numbers/777", `{"webhookUrl":"`+s.hook.URL+`","autoStatuses":[]}`)
	require.Equal(t, []any{}, s.ok("GET", "/control/numbers/777", "").json["autoStatuses"])
	s.ok("POST", "/control/numbers/777/redeliver", "")
	s.ok("POST", "/control/numbers/777/webhook", `anything`)
	s.ok("PUT", "/control/numbers/777/templates", `[{"name":"a","language":"de"}]`)
	require.Contains(t, s.ok("GET", "/control/numbers/777/templates", "").body, `"APPROVED"`)
	s.ok("DELETE", "/control/numbers/777", "")
	require.Contains(t, s.ok("GET", "/control/customers", "").body, "Grete")
	require.Contains(t, s.ok("GET", "/control/", "").body, "POST   /control/faults")
}

func TestControlErrors(t *testing.T) {
	s := newSim(t)
	s.hook.answer = func(int) int { return 500 }
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/control/nothing", "", 404},
		{"GET", "/control/numbers/1", "", 404},
		{"POST", "/control/numbers", `{`, 400},
		{"POST", "/control/numbers", `{"phoneNumberId":"x"}`, 422},
		{"POST", "/control/numbers", `{"phoneNumberID":5}`, 400},
		{"POST", "/control/numbers", `{} {}`, 400},
		{"POST", "/control/faults", `{"kind":"fail","oops":1}`, 400},
		{"POST", "/control/faults", `{"kind":"oops"}`, 422},
		{"POST", "/control/faults", `{"kind":"` + strings.Repeat("x", 1<<20) + `"}`, 413},
		{"DELETE", "/control/faults/none", "", 404},
		{"POST", convPath + "/messages", `{"type":"text"}`, 422},
		{"POST", convPath + "/read", `{}`, 404},
		{"POST", "/control/messages/none/status", `{"status":"read"}`, 404},
		{"POST", "/control/messages/none/status", `{"status":"eaten"}`, 422},
		{"POST", "/control/numbers/" + phoneID + "/media", "", 422},
		{"GET", "/control/ledger?after=x", "", 422},
		{"GET", "/control/ledger/messages/none", "", 404},
		{"GET", "/control/media/1", "", 404},
		{"GET", "/control/idle?timeoutMs=-1", "", 422},
	} {
		a := s.do(c.method, c.path, c.body)
		require.Equal(t, c.status, a.status, "%s %s: %s", c.method, c.path, a.body)
		require.NotEmpty(t, a.json["error"])
	}
	s.says("is never acknowledged")
	require.Equal(t, 504, s.do("GET", "/control/idle?timeoutMs=1", "").status)
}

func TestControlRefusesOtherOrigins(t *testing.T) {
	s := newSim(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.http.URL+"/control/numbers/"+phoneID, nil)
	require.NoError(t, err)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := s.http.Client().Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, read(t, resp).status)
	require.Len(t, s.Numbers(), 1)
}

func TestUnsafeMediaIsOnlyADownload(t *testing.T) {
	s := newSim(t)
	for _, mimeType := range []string{"text/html", "image/svg+xml"} {
		id, err := s.CustomerUpload(phoneID, mimeType, "a\"\r\nX: y.html", []byte("<script>alert(1)</script>"))
		require.NoError(t, err)
		a := s.ok("GET", "/control/media/"+id, "")
		require.Equal(t, "application/octet-stream", a.header.Get("Content-Type"))
		require.Equal(t, `attachment; filename="a___X: y.html"`, a.header.Get("Content-Disposition"))
		require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
	}
}

func TestEventStream(t *testing.T) {
	s := newSim(t)
	resp, err := s.request("GET", "/control/events", "", http.NoBody, "")
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
	s.says("line one\nline two")
	require.Equal(t, customer, next("customer")["waId"])
	require.Equal(t, "line one\nline two", next("message")["text"])
	require.Equal(t, "delivery", next("ledger")["kind"])
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

func FuzzGraphMessages(f *testing.F) {
	sim, err := cloudapi.New(cloudapi.Options{Numbers: []cloudapi.Number{cloudapi.DemoNumber("")}})
	require.NoError(f, err)
	f.Add([]byte(textBody(customer, "x")))
	f.Add([]byte(`{"messaging_product":"whatsapp","to":"4912345","type":"template","template":{"name":"order_update","language":{"code":"en"},"components":[{"type":"BUTTON","index":"0"}]}}`))
	f.Add([]byte(`{"messaging_product":"whatsapp","to":"4912345","type":"interactive","interactive":{"type":"list"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, messagesPath, bytes.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		w := &recorder{header: http.Header{}}
		sim.Handler().ServeHTTP(w, req)
		require.True(t, json.Valid(w.body.Bytes()), w.body.String())
		require.Contains(t, []int{200, 400, 404, 500}, w.status)
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
