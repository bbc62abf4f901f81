package telegram

import (
	"errors"
	"fmt"
	"html"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parseText reads a text in a parse_mode; its errors are worded as Telegram's.
func parseText(text, mode string) (string, []Entity, error) {
	b := &builder{}
	var err error
	switch strings.ToLower(mode) {
	case "html":
		err = parseHTML(b, text)
	case "markdownv2":
		err = (&markdown{b: b, text: text}).parse()
	case "markdown":
		err = parseOldMarkdown(b, text)
	case "none":
		return text, nil, nil
	default:
		return "", nil, errors.New("unsupported parse_mode")
	}
	if err != nil {
		return "", nil, fmt.Errorf("can't parse entities: %w", err)
	}
	return b.text.String(), b.marks, nil
}

var htmlTags = map[string]string{
	"b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline", "s": "strikethrough",
	"strike": "strikethrough", "del": "strikethrough", "tg-spoiler": "spoiler", "span": "spoiler", "a": "text_link", "code": "code",
	"pre": "pre", "blockquote": "blockquote", "tg-emoji": "custom_emoji",
}

// openTag is a tag or mark that waits for its end.
type openTag struct {
	name  string
	mark  Entity
	from  int // UTF-16 position of the text in it
	where int // byte offset of its text in the result, for a link without href
}

func parseHTML(b *builder, text string) error {
	var open []openTag
	for i := 0; i < len(text); {
		switch {
		case text[i] == '&':
			n, s := htmlEntity(text[i:])
			b.write(s)
			i += n
		case text[i] != '<':
			r, n := utf8.DecodeRuneInString(text[i:])
			b.rune(r)
			i += n
		default:
			end := strings.IndexByte(text[i:], '>')
			if end < 0 {
				return fmt.Errorf("Unclosed start tag at byte offset %d", i) //nolint:staticcheck // Telegram's words
			}
			tag := text[i+1 : i+end]
			var err error
			if strings.HasPrefix(tag, "/") {
				open, err = closeTag(b, open, strings.ToLower(strings.TrimSpace(tag[1:])), i)
			} else {
				var t openTag
				t, err = readTag(tag, i)
				t.from, t.where = b.units, b.text.Len()
				open = append(open, t)
			}
			if err != nil {
				return err
			}
			i += end + 1
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("Can't find end tag corresponding to start tag \"%s\"", open[len(open)-1].name) //nolint:staticcheck // Telegram's words
	}
	return nil
}

// htmlEntity reads one of the four named entities or a number; anything else is text.
func htmlEntity(s string) (n int, text string) {
	end := strings.IndexByte(s, ';')
	if end > 1 && end < 10 {
		name := s[:end+1]
		if name == "&lt;" || name == "&gt;" || name == "&amp;" || name == "&quot;" || strings.HasPrefix(name, "&#") {
			return end + 1, html.UnescapeString(name)
		}
	}
	return 1, "&"
}

func readTag(tag string, at int) (openTag, error) {
	name, attrs, _ := strings.Cut(strings.TrimSpace(tag), " ")
	name = strings.ToLower(name)
	kind, ok := htmlTags[name]
	if !ok {
		return openTag{}, fmt.Errorf("Unsupported start tag \"%s\" at byte offset %d", name, at) //nolint:staticcheck // Telegram's words
	}
	t := openTag{name: name, mark: Entity{Type: kind}}
	switch name {
	case "span":
		if attribute(attrs, "class") != "tg-spoiler" {
			return t, fmt.Errorf("Tag \"span\" must have class \"tg-spoiler\" at byte offset %d", at) //nolint:staticcheck // Telegram's words
		}
	case "a":
		t.mark.URL = attribute(attrs, "href")
	case "code":
		t.mark.Language = strings.TrimPrefix(attribute(attrs, "class"), "language-")
	case "blockquote":
		if strings.Contains(attrs, "expandable") {
			t.mark.Type = "expandable_blockquote"
		}
	case "tg-emoji":
		t.mark.CustomEmojiID = attribute(attrs, "emoji-id")
	}
	return t, nil
}

// attribute is the value of an attribute, with or without quotes.
func attribute(attrs, name string) string {
	_, rest, ok := strings.Cut(attrs, name+"=")
	if !ok || rest == "" {
		return ""
	}
	if q := rest[0]; q == '"' || q == '\'' {
		value, _, _ := strings.Cut(rest[1:], string(q))
		return html.UnescapeString(value)
	}
	value, _, _ := strings.Cut(rest, " ")
	return html.UnescapeString(value)
}

func closeTag(b *builder, open []openTag, name string, at int) ([]openTag, error) {
	if len(open) == 0 {
		return nil, fmt.Errorf("Unexpected end tag at byte offset %d", at) //nolint:staticcheck // Telegram's words
	}
	t := open[len(open)-1]
	if name != "" && name != t.name {
		return nil, fmt.Errorf("Unmatched end tag at byte offset %d, expected \"</%s>\", found \"</%s>\"", at, t.name, name) //nolint:staticcheck // Telegram's words
	}
	open = open[:len(open)-1]
	if t.name == "code" && len(open) > 0 && open[len(open)-1].name == "pre" && open[len(open)-1].from == t.from {
		open[len(open)-1].mark.Language = t.mark.Language // <pre><code class="language-…">
		return open, nil
	}
	t.mark.Language = map[bool]string{true: t.mark.Language}[t.name == "pre"]
	if t.name == "a" {
		link(&t.mark, b.text.String()[t.where:])
	}
	b.mark(t.mark, t.from)
	return open, nil
}

// link makes a text_link or text_mention of an address, or nothing.
func link(e *Entity, text string) {
	if e.URL == "" {
		e.URL = text
	}
	if id, ok := strings.CutPrefix(e.URL, "tg://user?id="); ok {
		if n, err := strconv.ParseInt(id, 10, 64); err == nil && n > 0 {
			*e = Entity{Type: "text_mention", User: &User{ID: n}}
			return
		}
	}
	u, err := url.Parse(e.URL)
	if err != nil || !strings.Contains(e.URL, ".") && u.Hostname() != "localhost" {
		e.Type = ""
		return
	}
	if u.Scheme == "" {
		e.URL = "http://" + e.URL
	}
	if u.Path == "" && u.RawQuery == "" {
		e.URL += "/"
	}
}

// markdown reads MarkdownV2.
type markdown struct {
	b    *builder
	text string
	i    int
	open []openTag
}

// markdownNames are as Telegram's errors have them.
var markdownNames = map[string]string{
	"bold": "Bold", "italic": "Italic", "underline": "Underline", "strikethrough": "Strikethrough", "spoiler": "Spoiler",
	"code": "Code", "pre": "PreCode", "text_link": "TextUrl", "custom_emoji": "CustomEmoji",
}

var markdownMarks = []struct{ mark, kind string }{
	{"```", "pre"}, {"`", "code"}, {"||", "spoiler"}, {"__", "underline"}, {"_", "italic"}, {"*", "bold"}, {"~", "strikethrough"},
}

func (m *markdown) top() string {
	if len(m.open) == 0 {
		return ""
	}
	return m.open[len(m.open)-1].name
}

func (m *markdown) parse() error {
	for m.i < len(m.text) {
		if err := m.step(); err != nil {
			return err
		}
	}
	m.closeQuote()
	if len(m.open) > 0 {
		t := m.open[len(m.open)-1]
		return fmt.Errorf("Can't find end of %s entity at byte offset %d", markdownNames[t.mark.Type], t.where) //nolint:staticcheck // Telegram's words
	}
	return nil
}

func (m *markdown) step() error {
	rest := m.text[m.i:]
	inCode := m.top() == "```" || m.top() == "`"
	switch {
	case escapedAt(m.text, m.i):
		m.b.write(rest[1:2])
		m.i += 2
		return nil
	case inCode && strings.HasPrefix(rest, m.top()):
		m.end(len(m.top()))
		return nil
	case inCode && rest[0] != '`':
		return m.plain(rest)
	case rest[0] == '>' && (m.i == 0 || m.text[m.i-1] == '\n'):
		if m.top() != ">" {
			m.open = append(m.open, openTag{name: ">", mark: Entity{Type: "blockquote"}, from: m.b.units, where: m.i})
		}
		m.i++
		return nil
	case rest[0] == '\n' && m.top() == ">" && !strings.HasPrefix(rest, "\n>"):
		m.closeQuote()
		return m.plain(rest)
	}
	for _, k := range markdownMarks {
		if strings.HasPrefix(rest, k.mark) {
			m.toggle(k.mark, k.kind)
			return nil
		}
	}
	return m.linkOrText(rest)
}

func (m *markdown) plain(rest string) error {
	r, n := utf8.DecodeRuneInString(rest)
	m.b.rune(r)
	m.i += n
	return nil
}

func (m *markdown) linkOrText(rest string) error {
	switch {
	case rest[0] == '[' || strings.HasPrefix(rest, "!["):
		kind, n := "text_link", 1
		if rest[0] == '!' {
			kind, n = "custom_emoji", 2
		}
		m.open = append(m.open, openTag{name: "[", mark: Entity{Type: kind}, from: m.b.units, where: m.i})
		m.i += n
		return nil
	case rest[0] == ']' && m.top() == "[":
		return m.endLink(rest)
	case strings.ContainsRune("[]()>#+-=|{}.!", rune(rest[0])):
		return fmt.Errorf("Character '%c' is reserved and must be escaped with the preceding '\\'", rest[0]) //nolint:staticcheck // Telegram's words
	}
	return m.plain(rest)
}

// toggle begins a mark, or ends it if it is the innermost.
func (m *markdown) toggle(mark, kind string) {
	if m.top() == mark {
		m.end(len(mark))
		return
	}
	t := openTag{name: mark, mark: Entity{Type: kind}, from: m.b.units, where: m.i}
	m.i += len(mark)
	if mark == "```" {
		line, _, ok := strings.Cut(m.text[m.i:], "\n")
		if ok && !strings.ContainsAny(line, " `") {
			t.mark.Language = line
			m.i += len(line) + 1
		}
	}
	m.open = append(m.open, t)
}

func (m *markdown) end(n int) {
	t := m.open[len(m.open)-1]
	m.open = m.open[:len(m.open)-1]
	m.b.mark(t.mark, t.from)
	m.i += n
}

func (m *markdown) closeQuote() {
	if m.top() == ">" {
		m.end(0)
	}
}

// endLink reads "](address)".
func (m *markdown) endLink(rest string) error {
	t := &m.open[len(m.open)-1]
	m.i++
	if strings.HasPrefix(rest, "](") {
		end := 2
		var address strings.Builder
		for end < len(rest) && rest[end] != ')' {
			if escapedAt(rest, end) {
				end++
			}
			address.WriteByte(rest[end])
			end++
		}
		if end == len(rest) {
			return fmt.Errorf("Can't find end of a URL at byte offset %d", m.i) //nolint:staticcheck // Telegram's words
		}
		m.i += end
		t.mark.URL = address.String()
	}
	if t.mark.Type == "custom_emoji" {
		_, t.mark.CustomEmojiID, _ = strings.Cut(t.mark.URL, "id=")
		t.mark.URL = ""
	} else {
		link(&t.mark, cut16(m.b.text.String(), t.from, m.b.units-t.from))
	}
	m.end(0)
	return nil
}

// parseOldMarkdown reads the legacy Markdown: *bold*, _italic_, `code`, ```pre``` and [text](address), not nested.
func parseOldMarkdown(b *builder, text string) error {
	for i := 0; i < len(text); {
		c := text[i]
		if c == '\\' && i+1 < len(text) && strings.IndexByte("_*`[", text[i+1]) >= 0 {
			b.write(text[i+1 : i+2])
			i += 2
			continue
		}
		kind := map[byte]string{'*': "bold", '_': "italic", '`': "code", '[': "text_link"}[c]
		if kind == "" {
			r, n := utf8.DecodeRuneInString(text[i:])
			b.rune(r)
			i += n
			continue
		}
		mark := text[i : i+1]
		if strings.HasPrefix(text[i:], "```") {
			mark, kind = "```", "pre"
		} else if c == '[' {
			mark = "]"
		}
		body, after, ok := strings.Cut(text[i+len(mark):], mark)
		if !ok {
			return fmt.Errorf("Can't find end of the entity starting at byte offset %d", i) //nolint:staticcheck // Telegram's words
		}
		from := b.units
		b.write(body)
		e := Entity{Type: kind}
		if c == '[' {
			e.Type = ""
			if address, rest, ok := strings.Cut(strings.TrimPrefix(after, "("), ")"); ok && strings.HasPrefix(after, "(") {
				e, after = Entity{Type: kind, URL: address}, rest
				link(&e, body)
			}
		}
		b.mark(e, from)
		i = len(text) - len(after)
	}
	return nil
}
