package telegram_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
)

func TestParseModes(t *testing.T) {
	s := newSim(t)
	s.says(grete, "hi")
	send := func(mode, text string) answer {
		raw, err := json.Marshal(map[string]any{"chat_id": grete, "text": text, "parse_mode": mode})
		require.NoError(t, err)
		return s.call("sendMessage", string(raw))
	}
	for _, c := range []struct{ mode, text, plain, entities string }{
		{"HTML", "<b>a</b> &lt;&amp;&#33; <i>b<u>c</u></i>", "a <&! bc", `[{"type":"bold","offset":0,"length":1},{"type":"italic","offset":6,"length":2},{"type":"underline","offset":7,"length":1}]`},
		{"HTML", `😀<a href="https://example.com/x">link</a>`, "😀link", `[{"type":"text_link","offset":2,"length":4,"url":"https://example.com/x"}]`},
		{"HTML", `<a href="tg://user?id=7">Ada</a>`, "Ada", `[{"type":"text_mention","offset":0,"length":3,"user":{"id":7,"is_bot":false,"first_name":""}}]`},
		{"HTML", `<pre><code class="language-go">x</code></pre>`, "x", `[{"type":"pre","offset":0,"length":1,"language":"go"}]`},
		{"HTML", `<span class="tg-spoiler">x</span><blockquote expandable>y</blockquote>`, "xy", `[{"type":"spoiler","offset":0,"length":1},{"type":"expandable_blockquote","offset":1,"length":1}]`},
		{"MarkdownV2", `*a* _b_ __c__ ~d~ ||e|| ` + "`f`" + ` \*`, "a b c d e f *", `[{"type":"bold","offset":0,"length":1},{"type":"italic","offset":2,"length":1},{"type":"underline","offset":4,"length":1},{"type":"strikethrough","offset":6,"length":1},{"type":"spoiler","offset":8,"length":1},{"type":"code","offset":10,"length":1}]`},
		{"MarkdownV2", "```go\nx := 1\n```", "x := 1", `[{"type":"pre","offset":0,"length":6,"language":"go"}]`},
		{"MarkdownV2", `[a *b*](https://example.com/\))`, "a b", `[{"type":"text_link","offset":0,"length":3,"url":"https://example.com/)"},{"type":"bold","offset":2,"length":1}]`},
		{"MarkdownV2", ">a\n>b\nc", "a\nb\nc", `[{"type":"blockquote","offset":0,"length":3}]`},
		{"Markdown", "*a* _b_ `c` [d](https://example.com/d)", "a b c d", `[{"type":"bold","offset":0,"length":1},{"type":"italic","offset":2,"length":1},{"type":"code","offset":4,"length":1},{"type":"text_link","offset":6,"length":1,"url":"https://example.com/d"}]`},
		{"", "  see https://example.com/a, @lucky_shrub_bot /start #now a@b.example  ", "see https://example.com/a, @lucky_shrub_bot /start #now a@b.example", `[{"type":"url","offset":4,"length":21},{"type":"mention","offset":27,"length":16},{"type":"bot_command","offset":44,"length":6},{"type":"hashtag","offset":51,"length":4},{"type":"email","offset":56,"length":11}]`},
	} {
		m := send(c.mode, c.text).result(t)
		require.Equal(t, c.plain, m["text"], c.text)
		got, err := json.Marshal(m["entities"])
		require.NoError(t, err)
		require.JSONEq(t, c.entities, string(got), c.text)
	}
	for text, want := range map[string]string{
		"<b>a":      `Can't find end tag corresponding to start tag "b"`,
		"<x>a</x>":  `Unsupported start tag "x" at byte offset 0`,
		"a</b>":     "Unexpected end tag at byte offset 1",
		"<b>a</i>":  `Unmatched end tag at byte offset 4, expected "</b>", found "</i>"`,
		"a <b":      "Unclosed start tag at byte offset 2",
		"<span>a":   `Tag "span" must have class "tg-spoiler" at byte offset 0`,
		"<b>a</b/>": `Unmatched end tag at byte offset 4, expected "</b>", found "</b/>"`,
	} {
		require.Equal(t, "Bad Request: can't parse entities: "+want, send("HTML", text).json["description"], text)
	}
	for text, want := range map[string]string{
		"a.":         `Character '.' is reserved and must be escaped with the preceding '\'`,
		"*a":         "Can't find end of Bold entity at byte offset 0",
		"a `b":       "Can't find end of Code entity at byte offset 2",
		"*_a*":       "Can't find end of Bold entity at byte offset 3",
		"[a](b":      "Can't find end of a URL at byte offset 3",
		"a ||b _c_ ": "Can't find end of Spoiler entity at byte offset 2",
	} {
		require.Equal(t, "Bad Request: can't parse entities: "+want, send("MarkdownV2", text).json["description"], text)
	}
	require.Equal(t, "Bad Request: unsupported parse_mode", send("BBCode", "x").json["description"])

	s.sends(grete, telegram.Incoming{Text: "<b>from</b> a customer", ParseMode: "HTML"})
	require.Equal(t, []any{map[string]any{"type": "bold", "offset": 0.0, "length": 4.0}}, s.last()["message"].(map[string]any)["entities"])
}
