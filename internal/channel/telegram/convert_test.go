package telegram

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

// Updates in the shapes of the Bot API's documentation, and what the inbox
// gets of each. UPDATE_GOLDEN=1 writes the latter anew.
func TestUpdates(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "updates", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			golden(t, name, shown(t, convert(raw, botNumber)))
		})
	}
}

// golden compares v's JSON with testdata/golden/<name>.json.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(v))
	path := filepath.Join("testdata", "golden", name+".json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, buf.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), buf.String())
}

// shown is what an update became, without what is empty.
func shown(t *testing.T, c converted) map[string]any {
	t.Helper()
	require.Positive(t, c.id)
	out := map[string]any{}
	if c.Poison != nil {
		out["Poison"] = c.Poison.Error()
	}
	if c.callback != "" {
		out["Callback"] = c.callback
	}
	in := c.Inbound
	for name, part := range map[string]any{"Message": in.Message, "Reaction": in.Reaction, "Edit": in.Edit, "Status": in.Status, "Revoke": in.Revoke} {
		encoded, err := json.Marshal(part)
		require.NoError(t, err)
		var fields map[string]any
		require.NoError(t, json.Unmarshal(encoded, &fields))
		if fields != nil {
			out[name] = withoutEmpty(fields)
		}
	}
	return out
}

func withoutEmpty(fields map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range fields {
		switch v := value.(type) {
		case map[string]any:
			if inner := withoutEmpty(v); len(inner) > 0 {
				out[key] = inner
			}
		case nil:
		case string:
			if v != "" {
				out[key] = v
			}
		case bool:
			if v {
				out[key] = v
			}
		case float64:
			if v != 0 {
				out[key] = v
			}
		default:
			out[key] = value
		}
	}
	return out
}

const (
	privateHead = `"message_id":1,"date":1769860800,"chat":{"id":42,"type":"private"},"from":{"id":42,"first_name":"Ann"}`
	groupHead   = `"message_id":1,"date":1769860800,"chat":{"id":-4001,"type":"group","title":"G"},"from":{"id":42,"first_name":"Ann"}`
)

func TestPoisonTellsNoContent(t *testing.T) {
	cases := map[string]struct {
		update string
		says   string
		row    bool // the chat shows that something was there
	}{
		"not JSON":          {`{"update_id":1,"message":{secret`, "not valid JSON", false},
		"no object":         {`17`, "number where an object", false},
		"no id":             {`{"message":{` + privateHead + `,"text":"secret"}}`, "update_id is missing", false},
		"id is words":       {`{"update_id":"secret"}`, "update_id is string where a number", false},
		"no chat":           {`{"update_id":1,"message":{"message_id":1,"date":1769860800,"text":"secret"}}`, "chat is missing", false},
		"no message id":     {`{"update_id":1,"message":{"date":1769860800,"chat":{"id":42,"type":"private"},"text":"secret"}}`, "message_id is missing", false},
		"no date":           {`{"update_id":1,"message":{"message_id":1,"chat":{"id":42,"type":"private"},"text":"secret"}}`, "date is not a time", false},
		"date in ms":        {`{"update_id":1,"message":{"message_id":1,"date":1769860800000,"chat":{"id":42,"type":"private"},"text":"secret"}}`, "date is not a time", false},
		"text is an object": {`{"update_id":1,"message":{` + privateHead + `,"text":{"secret":4711}}}`, "text is object where a string", true},
		"photo is a number": {`{"update_id":1,"message":{` + privateHead + `,"photo":4711}}`, "photo is number where an array", true},
		"file without id":   {`{"update_id":1,"message":{` + privateHead + `,"voice":{"duration":1}}}`, "file_id of the voice", true},
		"endless file id":   {`{"update_id":1,"message":{` + privateHead + `,"voice":{"file_id":"` + strings.Repeat("x", 513) + `"}}}`, "longer than 512", true},
		"off the globe":     {`{"update_id":1,"message":{` + privateHead + `,"location":{"latitude":91,"longitude":0}}}`, "not degrees", true},
		"from is an array":  {`{"update_id":1,"message":{"message_id":1,"date":1769860800,"chat":{"id":-4001,"type":"group","title":"G"},"from":[4711],"text":"secret"}}`, "from is array where an object", true},
		"reaction to none":  {`{"update_id":1,"message_reaction":{"chat":{"id":42,"type":"private"},"date":1769860800,"new_reaction":[]}}`, "no chat or no message", false},
		"button of nobody":  {`{"update_id":1,"callback_query":{"id":"1","data":"secret"}}`, "no id or no sender", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := convert(json.RawMessage(c.update), botNumber)
			require.ErrorContains(t, got.Poison, c.says)
			assert.NotContains(t, got.Poison.Error(), "secret")
			assert.NotContains(t, got.Poison.Error(), "4711")
			assert.Equal(t, c.update, string(got.Raw))
			if !c.row {
				assert.Equal(t, domain.Inbound{}, got.Inbound)
				return
			}
			require.NotNil(t, got.Inbound.Message)
			assert.Equal(t, domain.TypeUnsupported, got.Inbound.Message.Type)
			assert.NotContains(t, got.Inbound.Message.Content, "secret")
		})
	}
}

func one(t *testing.T, update string) domain.Inbound {
	t.Helper()
	c := convert(json.RawMessage(update), botNumber)
	require.NoError(t, c.Poison)
	return c.Inbound
}

func TestTextIsStorable(t *testing.T) {
	in := one(t, `{"update_id":1,"message":{`+privateHead+`,"text":"a\u0000b`+"\xff\xfe"+`\ud800 \ud83c\udf35"}}`)
	assert.Equal(t, "a\uFFFDb\uFFFD\uFFFD\uFFFD 🌵", in.Message.Content)
	long := strings.Repeat("ö", maxContent)
	in = one(t, fmt.Sprintf(`{"update_id":1,"message":{%s,"text":%q}}`, privateHead, long))
	assert.Equal(t, long, in.Message.Content)
	in = one(t, fmt.Sprintf(`{"update_id":1,"message":{%s,"text":%q}}`, privateHead, long+"öö"))
	assert.Regexp(t, `ö…\n\(The message is longer than can be shown\.\)$`, in.Message.Content)
	in = one(t, `{"update_id":1,"message":{`+groupHead+`,"text":"x","from":{"id":42,"first_name":"`+strings.Repeat("ö", 500)+`"}}}`)
	assert.Equal(t, strings.Repeat("ö", 199)+"…", in.Message.Sender.Name)
}

func TestEntitiesThatLie(t *testing.T) {
	for _, entity := range []string{
		`{"type":"text_link","offset":-1,"length":2,"url":"u"}`,
		`{"type":"text_link","offset":0,"length":9999999999,"url":"u"}`,
		`{"type":"text_link","offset":9223372036854775807,"length":1,"url":"u"}`,
		`{"type":"blockquote","offset":3,"length":0}`,
		`{"type":"text_link","offset":0,"length":3}`,
	} {
		in := one(t, `{"update_id":1,"message":{`+privateHead+`,"text":"abc","entities":[`+entity+`]}}`)
		assert.Equal(t, "abc", in.Message.Content, entity)
	}
	// Half a character does no harm.
	in := one(t, `{"update_id":1,"message":{`+privateHead+`,"text":"🌵","entities":[{"type":"text_link","offset":0,"length":1,"url":"u"}]}}`)
	assert.Contains(t, in.Message.Content, "(u)")
}

// Only somebody who shares the own number is known under it.
func TestSharedNumberOfSomebodyElseNamesNobody(t *testing.T) {
	for _, contact := range []string{
		`"contact":{"phone_number":"+491700000001","first_name":"Eve","user_id":666}`,
		`"contact":{"phone_number":"+491700000001","first_name":"Eve"}`,
		`"contact":{"phone_number":"+491700000001","first_name":"Ann","user_id":42},"forward_date":1769860000`,
		`"contact":{"phone_number":"0049 x","first_name":"Ann","user_id":42}`,
	} {
		in := one(t, `{"update_id":1,"message":{`+privateHead+`,`+contact+`}}`)
		for _, id := range in.Message.Peer.Identities {
			assert.NotEqual(t, domain.IdentityPhone, id.Kind, contact)
		}
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []string{"42:1", "-1001234567890:7"} {
		chat, message, ok := parseExternalID(id)
		require.True(t, ok)
		assert.Equal(t, id, externalID(chat, message))
	}
	for _, id := range []string{"", "1", "1:", ":1", "x:1", "1:x", "0:1", "1:0", "1:-1", "1:2:3", "callback:7", "99999999999999999999:1"} {
		_, _, ok := parseExternalID(id)
		assert.False(t, ok, id)
	}
}

// FuzzConvert: whatever comes, nothing panics, and what is handed on can be
// stored.
func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "updates", "*.json"))
	require.NoError(f, err)
	for _, path := range files {
		raw, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := convert(raw, botNumber)
		if c.Poison != nil && (strings.ContainsRune(c.Poison.Error(), 0) || len(c.Poison.Error()) > 300) {
			t.Fatalf("reason %q", c.Poison)
		}
		storable(t, c.Inbound)
	})
}

func storable(t *testing.T, in domain.Inbound) {
	t.Helper()
	encoded, err := json.Marshal(in)
	require.NoError(t, err)
	require.NotContains(t, string(encoded), `\u0000`)
	check := func(key string, peers ...domain.Peer) {
		require.NotEmpty(t, key)
		require.Less(t, len(key), 600)
		for i, p := range peers {
			if i == 0 {
				require.NotEmpty(t, p.Address)
				require.NotEmpty(t, p.Identities)
			}
			require.LessOrEqual(t, len(p.Address), 20)
			require.LessOrEqual(t, len([]rune(p.Name)), maxName)
		}
	}
	if m := in.Message; m != nil {
		check(m.ExternalID, m.Peer, m.Sender)
		require.NotEmpty(t, m.Type)
		if m.Media != nil {
			require.NotEmpty(t, m.Media.Ref)
			require.NotEmpty(t, m.Media.MIME)
		}
	}
	if r := in.Reaction; r != nil {
		check(r.ExternalID, r.Peer, r.Sender)
		require.NotEmpty(t, r.TargetExternalID)
	}
	if e := in.Edit; e != nil {
		check(e.ExternalID, e.Peer)
		require.NotEmpty(t, e.TargetExternalID)
	}
}
