package cloudapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
)

func TestSendAnswersAndStatusesFollow(t *testing.T) {
	s := newSim(t)
	began := time.Now()
	s.says("hello")
	a := s.do("POST", messagesPath, textBody("+49 171 5550123", "hi"))
	id := a.wamid(t)
	require.JSONEq(t, `{"messaging_product":"whatsapp","contacts":[{"input":"+49 171 5550123","wa_id":"491715550123"}],`+
		`"messages":[{"id":"`+id+`","message_status":"accepted"}]}`, a.body)
	s.idle()
	require.Equal(t, []string{"sent", "delivered"}, statuses(t, s.hook.got()))
	require.Contains(t, s.hook.got()[1], `"biz_opaque_callback_data":"own-hi"`)
	require.True(t, s.Ledger().AckedStatus(id, "delivered"))

	sends := s.Ledger().Sends(phoneID)
	require.Len(t, sends, 1)
	require.Equal(t, cloudapi.OutcomeAccepted, sends[0].Outcome)
	require.True(t, sends[0].Told)
	require.Equal(t, "own-hi", sends[0].CallbackData)
	require.Equal(t, s.http.Listener.Addr().String(), sends[0].Host)
	require.WithinRange(t, sends[0].Began, began, time.Now())
	require.Contains(t, string(sends[0].Body), `"preview_url":true`)

	c, err := s.Conversation(phoneID, customer)
	require.NoError(t, err)
	require.Len(t, c.Messages, 2)
	require.Equal(t, "hi", c.Messages[1].Text)
	require.Equal(t, "delivered", c.Messages[1].Status)
}

func TestEveryTypeCanBeSent(t *testing.T) {
	s := newSim(t)
	in := s.says("hello")
	media, err := s.CustomerUpload(phoneID, "image/png", "", []byte("png"))
	require.NoError(t, err)
	for _, content := range []string{
		`"type":"text","text":{"body":"x"}`,
		`"text":{"body":"type is text when absent"},"unknown_field":{"is":"ignored"}`,
		`"type":"image","image":{"id":"` + media + `","caption":"c"}`,
		`"type":"image","image":{"link":"https://x/y.png"}`,
		`"type":"video","video":{"link":"https://x/y.mp4"}`,
		`"type":"audio","audio":{"link":"https://x/y.ogg"}`,
		`"type":"document","document":{"link":"https://x/y.pdf","filename":"y.pdf"}`,
		`"type":"sticker","sticker":{"link":"https://x/y.webp"}`,
		`"type":"location","location":{"latitude":"52.5","longitude":13.4,"name":"n"}`,
		`"type":"contacts","contacts":[{"name":{"formatted_name":"Ada"}}]`,
		`"type":"reaction","reaction":{"message_id":"` + in + `","emoji":"👍"}`,
		`"type":"reaction","reaction":{"message_id":"` + in + `","emoji":""}`,
		`"type":"template","template":{"name":"hello_world","language":{"code":"en_US"}}`,
		`"type":"template","template":{"name":"order_update","language":{"code":"en_US"},"components":[{"type":"body","parameters":[{"type":"text","text":"4711"}]}]}`,
		`"type":"interactive","interactive":{"type":"button","body":{"text":"?"},"action":{"buttons":[{"type":"reply","reply":{"id":"a","title":"A"}}]}}`,
		`"type":"interactive","interactive":{"type":"list","body":{"text":"?"},"action":{"button":"Choose","sections":[{"rows":[{"id":"a","title":"A"}]}]}}`,
		`"type":"text","text":{"body":"quoted"},"context":{"message_id":"` + in + `"}`,
	} {
		s.do("POST", messagesPath, `{"messaging_product":"whatsapp","to":"`+customer+`",`+content+`}`).wamid(t)
	}
	s.idle()
	require.Len(t, statuses(t, s.hook.got()), 34)
	c, err := s.Conversation(phoneID, customer)
	require.NoError(t, err)
	require.Empty(t, c.Messages[0].Reactions, "set and removed")
	require.Len(t, c.Messages, 16)
	require.Equal(t, in, c.Messages[15].ReplyTo)
}

func TestErrorsHaveMetasShape(t *testing.T) {
	s := newSim(t)
	s.says("opens the window")
	require.NoError(t, s.AddCustomer(cloudapi.Customer{WaID: "4930123456", Unreachable: true}))
	msg := func(rest string) string {
		return `{"messaging_product":"whatsapp","to":"` + customer + `",` + rest + `}`
	}
	tpl := func(name, params string) string {
		return msg(`"type":"template","template":{"name":"` + name + `","language":{"code":"en"},"components":[{"type":"body","parameters":[` + params + `]}]}`)
	}
	for _, c := range []struct {
		name, body string
		status     int
		code       float64
	}{
		{"broken JSON", `{"messaging`, 400, 100},
		{"not an object", `[1]`, 400, 100},
		{"null", `null`, 400, 100},
		{"no product", `{"to":"1"}`, 400, 100},
		{"no to", `{"messaging_product":"whatsapp"}`, 400, 100},
		{"bad to", `{"messaging_product":"whatsapp","to":"abc","text":{"body":"x"}}`, 400, 131009},
		{"wrong type", msg(`"text":"x"`), 400, 100},
		{"group", msg(`"recipient_type":"group","text":{"body":"x"}`), 400, 100},
		{"unknown type", msg(`"type":"hologram","hologram":{}`), 400, 131051},
		{"no content", msg(`"type":"text"`), 400, 131008},
		{"null content", msg(`"type":"image","image":null`), 400, 131008},
		{"empty text", msg(`"text":{"body":""}`), 400, 131008},
		{"long text", msg(`"text":{"body":"` + strings.Repeat("ü", 4097) + `"}`), 400, 100},
		{"two sources", msg(`"type":"image","image":{"id":"1","link":"https://x"}`), 400, 131008},
		{"unknown media", msg(`"type":"image","image":{"id":"1"}`), 400, 131009},
		{"caption on audio", msg(`"type":"audio","audio":{"link":"https://x","caption":"c"}`), 400, 100},
		{"no place", msg(`"type":"location","location":{"latitude":1}`), 400, 131009},
		{"reaction to nothing", msg(`"type":"reaction","reaction":{"message_id":"wamid.no","emoji":"x"}`), 400, 131009},
		{"reaction without emoji", msg(`"type":"reaction","reaction":{"message_id":"wamid.no"}`), 400, 131008},
		{"four buttons", msg(`"type":"interactive","interactive":{"type":"button","body":{"text":"?"},"action":{"buttons":[{},{},{},{}]}}`), 400, 131009},
		{"no template", tpl("nothing", ""), 404, 132001},
		{"too few parameters", tpl("order_update", `{"type":"text","text":"a"}`), 400, 132000},
		{"window closed", `{"messaging_product":"whatsapp","to":"4915112345","text":{"body":"x"}}`, 400, 131047},
		{"unreachable", `{"messaging_product":"whatsapp","to":"4930123456","text":{"body":"x"}}`, 400, 131026},
		{"to itself", `{"messaging_product":"whatsapp","to":"15550783881","text":{"body":"x"}}`, 400, 131021},
		{"receipt of nothing", `{"messaging_product":"whatsapp","status":"read","message_id":"wamid.no"}`, 400, 131009},
		{"oversized", msg(`"text":{"body":"` + strings.Repeat("x", 1<<20) + `"}`), 413, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.do("POST", messagesPath, c.body)
			require.Equal(t, c.status, a.status, a.body)
			require.InDelta(t, c.code, a.errorField("code"), 0, a.body)
			require.NotEmpty(t, a.errorField("message"))
			require.NotEmpty(t, a.errorField("type"))
			require.NotEmpty(t, a.errorField("fbtrace_id"))
			if c.code > 1000 {
				require.Contains(t, a.errorField("message"), fmt.Sprintf("(#%.0f)", c.code))
				require.NotEmpty(t, a.details())
			}
		})
	}
	require.Zero(t, s.Ledger().Counts().Accepted)
}

func TestAuthentication(t *testing.T) {
	s := newSim(t)
	other := cloudapi.Number{PhoneNumberID: "777", AccessToken: "other-token", AppSecret: "x"}
	require.NoError(t, s.AddNumber(other))
	for _, c := range []struct {
		token, path string
		status      int
		code        float64
	}{
		{"", "/v21.0/" + phoneID, 401, 104},
		{"wrong", "/v21.0/" + phoneID, 401, 190},
		{"other-token", "/v21.0/" + phoneID, 400, 100},
		{token, "/v21.0/888", 400, 100},
		{token, "/v21.0/me/feed", 400, 2500},
		{token, "/v21.0/" + phoneID + "/nonsense", 400, 100},
		{token, "/", 405, 0},
	} {
		resp, err := s.request("POST", c.path, "application/json", strings.NewReader("{}"), c.token)
		require.NoError(t, err)
		a := read(t, resp)
		require.Equal(t, c.status, a.status, "%+v %s", c, a.body)
		if c.code != 0 {
			require.InDelta(t, c.code, a.errorField("code"), 0)
		}
	}
	for _, version := range []string{"/v19.0/", "/v23.0/", "/"} {
		require.Equal(t, 200, s.do("GET", version+phoneID, "").status)
	}
}

func TestAutoRegister(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) {
		auto := o.Numbers[0]
		o.AutoRegister = &auto
	})
	resp, err := s.request("GET", "/v21.0/555000111", "", http.NoBody, "brand-new-token")
	require.NoError(t, err)
	require.Equal(t, 200, read(t, resp).status)
	n, ok := s.Number("555000111")
	require.True(t, ok)
	require.Equal(t, "brand-new-token", n.AccessToken)
	require.Equal(t, secret, n.AppSecret)
	require.Equal(t, 400, s.do("GET", "/v21.0/999000111", "").status, "a known token may ask for what is missing")
}

func TestReadReceiptAndTyping(t *testing.T) {
	s := newSim(t)
	first, second := s.says("one"), s.says("two")
	body := `{"messaging_product":"whatsapp","status":"read","message_id":"` + second + `","typing_indicator":{"type":"text"}}`
	a := s.do("POST", messagesPath, body)
	require.JSONEq(t, `{"success":true}`, a.body)
	c, err := s.Conversation(phoneID, customer)
	require.NoError(t, err)
	require.Equal(t, first, c.Messages[0].ID)
	require.Equal(t, "read", c.Messages[0].Status, "earlier ones too")
	require.Equal(t, "read", c.Messages[1].Status)
	require.True(t, c.TypingUntil.After(time.Now()))
	require.Equal(t, 1, s.Ledger().Counts().Reads)
	s.sendText("answer").wamid(t)
	c, err = s.Conversation(phoneID, customer)
	require.NoError(t, err)
	require.False(t, c.TypingUntil.After(time.Now()), "the message ends the typing")
}

func TestWindow(t *testing.T) {
	now := longAgo
	s := newSim(t, func(o *cloudapi.Options) { o.Now = func() time.Time { return now } })
	require.InDelta(t, 131047, s.sendText("too early").errorField("code"), 0)
	s.says("hello")
	s.idle() // no goroutine reads the clock while the test moves it
	s.sendText("in time").wamid(t)
	s.idle()
	now = now.Add(24 * time.Hour)
	require.InDelta(t, 131047, s.sendText("too late").errorField("code"), 0)
	require.NoError(t, s.SetWindow(phoneID, customer, true))
	s.sendText("opened").wamid(t)
	s.idle()
	require.NoError(t, s.SetWindow(phoneID, customer, false))

	n, _ := s.Number(phoneID)
	n.AsyncErrors = true
	require.NoError(t, s.AddNumber(n))
	s.sendText("told later").wamid(t)
	s.idle()
	got := s.hook.got()
	require.Contains(t, got[len(got)-1], `"code":131047`)

	n.NoWindow = true
	require.NoError(t, s.AddNumber(n))
	s.sendText("no window").wamid(t)
	s.idle()
	got = s.hook.got()
	require.Equal(t, []string{"sent", "delivered"}, statuses(t, got[len(got)-2:]))
	conv, err := s.Conversation(phoneID, customer)
	require.NoError(t, err)
	require.False(t, conv.WindowOpen) // it is only not enforced

	n.Unregistered = true
	require.NoError(t, s.AddNumber(n))
	require.InDelta(t, 133010, s.sendText("x").errorField("code"), 0)
}

func TestNumberAndAccount(t *testing.T) {
	s := newSim(t)
	const waba = "/v21.0/102290129340398"
	a := s.do("GET", "/v21.0/"+phoneID+"?fields=display_phone_number,verified_name,quality_rating", "")
	require.JSONEq(t, `{"id":"106540352242922","display_phone_number":"+1 555-078-3881","verified_name":"Lucky Shrub","quality_rating":"GREEN"}`, a.body)
	a = s.do("GET", "/v21.0/"+phoneID+"?fields=shoe_size", "")
	require.Contains(t, a.errorField("message"), "nonexisting field (shoe_size)")
	require.Contains(t, s.do("GET", waba+"/phone_numbers", "").body, `"id":"106540352242922"`)
	require.JSONEq(t, `{"success":true}`, s.do("POST", waba+"/subscribed_apps", "").body)

	require.NoError(t, s.SetTemplates("102290129340398", []cloudapi.Template{{Name: "a", Language: "de"}, {Name: "b", Language: "de", Status: "PAUSED"}}))
	a = s.do("GET", waba+"/message_templates?limit=1", "")
	require.Len(t, a.json["data"], 1)
	next := a.json["paging"].(map[string]any)["next"].(string)
	a = s.do("GET", next, "")
	require.Contains(t, a.body, `"name":"b"`)
	require.NotContains(t, a.body, `"next"`)
	a = s.do("POST", messagesPath, `{"messaging_product":"whatsapp","to":"`+customer+`","type":"template","template":{"name":"b","language":{"code":"de"}}}`)
	require.InDelta(t, 132015, a.errorField("code"), 0)
}

func TestOverrideWebhook(t *testing.T) {
	s := newSim(t)
	other := newHook(t)
	path := "/v21.0/102290129340398/subscribed_apps"
	a := s.do("POST", path, `{"override_callback_uri":"`+other.URL+`/new","verify_token":"wrong"}`)
	require.InDelta(t, 2200, a.errorField("code"), 0)
	a = s.do("POST", path, `{"override_callback_uri":"`+other.URL+`/new","verify_token":"simulator-demo-verify-token"}`)
	require.JSONEq(t, `{"success":true}`, a.body)
	s.says("to the new place")
	s.idle()
	require.Len(t, other.got(), 1)
	a = s.do("POST", "/v21.0/"+phoneID, `{"webhook_configuration":{"override_callback_uri":"`+s.hook.URL+`","verify_token":"simulator-demo-verify-token"}}`)
	require.JSONEq(t, `{"success":true}`, a.body)
	s.says("and back")
	s.idle()
	require.Len(t, s.hook.got(), 1)
}
