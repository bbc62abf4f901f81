package waba

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
)

func TestVerifySignature(t *testing.T) {
	const secret = "an-app-secret"
	body := []byte(`{"object":"whatsapp_business_account","text":"caf\u00e9 \ud83c\udf35 a\/b 🌵"}`)
	good := cloudapi.Sign(secret, body)
	require.True(t, VerifySignature(secret, good, body))

	var v any
	require.NoError(t, json.Unmarshal(body, &v))
	reserialised, err := json.Marshal(v)
	require.NoError(t, err)
	cases := map[string]struct {
		secret, header string
		body           []byte
	}{
		"missing":              {secret, "", body},
		"no prefix":            {secret, strings.TrimPrefix(good, "sha256="), body},
		"wrong prefix":         {secret, strings.Replace(good, "sha256=", "sha1=", 1), body},
		"upper-case prefix":    {secret, strings.Replace(good, "sha256=", "SHA256=", 1), body},
		"upper-case hex":       {secret, "sha256=" + strings.ToUpper(strings.TrimPrefix(good, "sha256=")), body},
		"with a space":         {secret, good + " ", body},
		"twice":                {secret, good + "," + good, body},
		"shortened":            {secret, good[:len(good)-2], body},
		"one digit changed":    {secret, flip(good), body},
		"another secret":       {"another", good, body},
		"no secret":            {"", cloudapi.Sign("", body), body},
		"body altered":         {secret, good, bytes.Replace(body, []byte("caf"), []byte("Caf"), 1)},
		"body re-serialised":   {secret, good, reserialised},
		"body with line break": {secret, good, append(bytes.Clone(body), '\n')},
		"body empty":           {secret, good, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			assert.False(t, VerifySignature(c.secret, c.header, c.body))
		})
	}
}

func flip(header string) string {
	last := byte('0')
	if header[len(header)-1] == '0' {
		last = '1'
	}
	return header[:len(header)-1] + string(last)
}

func TestChallenge(t *testing.T) {
	query := func(mode, token, challenge string) url.Values {
		return url.Values{"hub.mode": {mode}, "hub.verify_token": {token}, "hub.challenge": {challenge}}
	}
	got, ok := Challenge(query("subscribe", "word", "1158201444"), "word")
	require.True(t, ok)
	assert.Equal(t, "1158201444", got)
	for _, q := range []url.Values{query("subscribe", "Word", "1"), query("unsubscribe", "word", "1"), query("subscribe", "word", ""), query("subscribe", "", "1"), {}} {
		_, ok := Challenge(q, "word")
		assert.False(t, ok, q)
	}
	_, ok = Challenge(query("subscribe", "", "1"), "")
	assert.False(t, ok, "a channel without a token verifies nothing")
}

func TestBatchOfFiftyWithOnePoison(t *testing.T) {
	p := newPlatform(t, nil)
	layouts := map[string]func(parts []string) []byte{
		"one change": func(parts []string) []byte { return batch(parts...) },
		"a change each": func(parts []string) []byte {
			var changes []json.RawMessage
			for _, part := range parts {
				changes = append(changes, inner(t, batch(part), "entry", "changes"))
			}
			return wrapped(t, "changes", changes)
		},
		"an entry each": func(parts []string) []byte {
			var entries []json.RawMessage
			for _, part := range parts {
				entries = append(entries, inner(t, batch(part), "entry"))
			}
			return wrapped(t, "entry", entries)
		},
	}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			parts := make([]string, 50)
			for i := range parts {
				parts[i] = text(fmt.Sprintf("wamid.%d", i), "hello")
			}
			parts[17] = `{"from":"16505551234","id":"wamid.17","timestamp":"1769860800","type":"text","text":[]}`
			require.NoError(t, p.Deliver(p.number.PhoneNumberID, layout(parts)))
			items := p.nextItems(t)
			require.Len(t, items, 50)
			for i, item := range items {
				if i == 17 {
					require.Error(t, item.Poison)
					assert.JSONEq(t, parts[17], string(item.Raw))
					continue
				}
				require.NoError(t, item.Poison)
				assert.Equal(t, fmt.Sprintf("wamid.%d", i), item.Inbound.Message.ExternalID, "in order")
			}
		})
	}
}

// inner takes the first element under a path of arrays.
func inner(t *testing.T, body []byte, path ...string) json.RawMessage {
	t.Helper()
	for _, key := range path {
		var object map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &object))
		var list []json.RawMessage
		require.NoError(t, json.Unmarshal(object[key], &list))
		body = list[0]
	}
	return body
}

func wrapped(t *testing.T, level string, list []json.RawMessage) []byte {
	t.Helper()
	var v any = list
	if level == "changes" {
		v = []any{map[string]any{"id": "1", "changes": list}}
	}
	body, err := json.Marshal(map[string]any{"object": "whatsapp_business_account", "entry": v})
	require.NoError(t, err)
	return body
}

// A body signed by one organization's app can name another's number: only what
// Of gives for the verified channel may be used.
func TestOfKeepsNumbersApart(t *testing.T) {
	mine := strings.ReplaceAll(string(batch(text("wamid.mine", "1"))), demo, "111")
	theirs := strings.ReplaceAll(string(batch(text("wamid.theirs", "2"))), demo, "222")
	body := wrapped(t, "entry", []json.RawMessage{inner(t, []byte(mine), "entry"), inner(t, []byte(theirs), "entry"), json.RawMessage(`7`)})
	ids, err := PhoneNumberIDs(body)
	require.NoError(t, err)
	assert.Equal(t, []string{"111", "222"}, ids)
	d, err := Parse(body)
	require.NoError(t, err)
	require.Len(t, d.Items, 3)
	require.Len(t, d.Of("111"), 1)
	assert.Equal(t, "wamid.mine", d.Of("111")[0].Inbound.Message.ExternalID)
	assert.Empty(t, d.Of(""), "poison of nobody is nobody's")
	assert.Empty(t, d.Of("333"))
}

func TestNoWebhook(t *testing.T) {
	for _, body := range []string{``, `7`, `[]`, `"x"`, `{"entry":7}`, `{"object":{}}`, `{"entry":[`, `{} {}`, "\xff", strings.Repeat("[", 20_000)} {
		_, err := Parse([]byte(body))
		require.Error(t, err, body)
		assert.NotContains(t, err.Error(), "\xff")
	}
	for _, body := range []string{`null`, `{}`, `{"entry":null}`, `{"entry":[]}`} {
		d, err := Parse([]byte(body))
		require.NoError(t, err)
		assert.Empty(t, d.Items)
	}
}

func TestDeliveryIsBounded(t *testing.T) {
	many := strings.Repeat("0,", maxItems) + "0"
	for _, body := range []string{`{"entry":[` + many + `]}`, `{"entry":[` + strings.Repeat(`{"changes":[`+strings.Repeat("0,", 5999)+`0]},`, 2) + `{}]}`} {
		_, err := Parse([]byte(body))
		require.Error(t, err)
	}
}

func TestPhoneNumberIDs(t *testing.T) {
	number := func(id string) string {
		return `{"changes":[{"value":{"metadata":{"phone_number_id":` + id + `}}}]}`
	}
	cases := map[string]struct {
		body string
		want []string
	}{
		"string and number":  {`{"entry":[` + number(`"5"`) + `,` + number(`6`) + `,` + number(`"5"`) + `]}`, []string{"5", "6"}},
		"elsewhere":          {`{"phone_number_id":"1","entry":[{"phone_number_id":"2","changes":[{"value":{"phone_number_id":"3","messages":[{"metadata":{"phone_number_id":"4"}}]}}]}],"metadata":{"phone_number_id":"5"}}`, nil},
		"object for array":   {`{"entry":{"[]":{"changes":[{"value":{"metadata":{"phone_number_id":"1"}}}]}}}`, nil},
		"not digits":         {`{"entry":[` + number(`"5x"`) + `,` + number(`-1`) + `,` + number(`{}`) + `,` + number(`null`) + `,` + number(`"`+strings.Repeat("1", 33)+`"`) + `]}`, nil},
		"nothing":            {`{}`, nil},
		"in the other order": {`{"entry":[{"changes":[{"value":{"messages":[{"text":{"body":"{\"phone_number_id\":\"9\"}"}}],"metadata":{"x":[1,{"y":2}],"phone_number_id":"7"}}}]}],"object":"o"}`, []string{"7"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ids, err := PhoneNumberIDs([]byte(c.body))
			require.NoError(t, err)
			assert.Equal(t, c.want, ids)
		})
	}

	var crowd []string
	for i := range maxNumbers + 1 {
		crowd = append(crowd, number(fmt.Sprint(i+1)))
	}
	bad := map[string]string{
		"empty": ``, "cut": `{"entry":[`, "rest": `{} {}`, "words": `hello`, "broken inside": `{"entry":[{"changes":[{]}]}`,
		"deep arrays": strings.Repeat("[", 100_000), "deep objects": strings.Repeat(`{"entry":`, 100_000),
		"deep and closed": `{"x":` + strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting) + `}`,
		"crowd":           `{"entry":[` + strings.Join(crowd, ",") + `]}`, "too long": `{"x":"` + strings.Repeat("x", MaxWebhookBytes) + `"}`,
	}
	for name, body := range bad {
		t.Run(name, func(t *testing.T) {
			ids, err := PhoneNumberIDs([]byte(body))
			require.Error(t, err)
			assert.Empty(t, ids)
		})
	}
}

// seeds are the documented payloads and some that are broken.
func seeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "webhooks", "*.json"))
	require.NoError(f, err)
	for _, path := range files {
		body, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(body)
	}
	f.Add(batch(text("wamid.1", "hello 🌵"), `7`))
	f.Add([]byte(`{"entry":[{"changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"1"},"messages":[{"id":"1","from":"2","timestamp":3,"type":"order","order":{"product_items":[{"quantity":1e9,"item_price":-0,"currency":"\u0000"}]}}]}}]}]}`))
}

func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := Parse(body)
		if err != nil {
			return
		}
		if len(d.Items)+len(d.Skipped) > maxItems {
			t.Fatalf("%d items", len(d.Items))
		}
		for _, item := range d.Items {
			checkItem(t, item)
		}
	})
}

func checkItem(t *testing.T, item Item) {
	t.Helper()
	in := item.Inbound
	set := 0
	for _, is := range []bool{in.Message != nil, in.Reaction != nil, in.Status != nil, in.Edit != nil, in.Revoke != nil, item.Poison != nil} {
		if is {
			set++
		}
	}
	if set != 1 || len(item.Raw) == 0 || (item.PhoneNumberID == "" && item.Poison == nil) {
		t.Fatalf("an item must be one thing: %+v", item)
	}
	all, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(all, []byte(`\u0000`)) || !utf8.Valid(all) {
		t.Fatalf("not storable: %s", all)
	}
	if m := in.Message; m != nil {
		if m.ExternalID == "" || len(m.ExternalID) > maxExternalID || m.Peer.Address == "" || len(m.Peer.Address) > maxAddress ||
			m.ProviderTime < 1 || m.Type == "" || (m.Media != nil) != m.Type.HasMedia() {
			t.Fatalf("not a whole message: %s", all)
		}
	}
	if st := in.Status; st != nil && (st.ExternalID == "" || st.At < 1 || st.Status.Rank() < 0 || (st.Status == domain.StatusFailed) != (st.Error != nil)) {
		t.Fatalf("not a whole status: %s", all)
	}
}

func FuzzPhoneNumberIDs(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		ids, err := PhoneNumberIDs(body)
		if err != nil && ids != nil {
			t.Fatal("ids beside an error")
		}
		if len(ids) > maxNumbers {
			t.Fatalf("%d ids", len(ids))
		}
		seen := map[string]bool{}
		for _, id := range ids {
			if !isDigits(id) || seen[id] {
				t.Fatalf("id %q", id)
			}
			seen[id] = true
		}
		d, parseErr := Parse(body)
		if err != nil || parseErr != nil || bytes.ContainsRune(body, '\\') {
			return
		}
		for _, item := range d.Items { // what is routed and what is read agree
			if n := item.PhoneNumberID; isDigits(n) && len(n) <= 32 && plain(body) && !seen[n] {
				t.Fatalf("number %q was read and not found", n)
			}
		}
	})
}

// plain says that each name on the way to the number is written as Meta does,
// since the decoder also takes "ENTRY" and letters that fold to ASCII.
func plain(body []byte) bool {
	lower := bytes.ToLower(body)
	for _, name := range numberPath {
		if bytes.Count(lower, []byte(name)) != bytes.Count(body, []byte(name)) {
			return false
		}
	}
	return !bytes.ContainsFunc(body, func(r rune) bool { return r >= utf8.RuneSelf })
}
