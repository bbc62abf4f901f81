package telegram

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// cut16 is the part of a text between two UTF-16 positions.
func cut16(s string, from, length int) string {
	units := utf16.Encode([]rune(s))
	from = min(max(from, 0), len(units))
	return string(utf16.Decode(units[from:min(max(from+length, from), len(units))]))
}

// trim removes the white space around a text and moves its entities; those that become empty or reach beyond the text go.
func trim(text string, marks []Entity) (string, []Entity) {
	left := strings.TrimLeftFunc(text, unicode.IsSpace)
	shift := utf16Len(text) - utf16Len(left)
	text = strings.TrimRightFunc(left, unicode.IsSpace)
	total := utf16Len(text)
	var out []Entity
	for _, e := range marks {
		end := min(e.Offset-shift+e.Length, total)
		e.Offset = max(e.Offset-shift, 0)
		if e.Length = end - e.Offset; e.Length > 0 {
			out = append(out, e)
		}
	}
	return text, out
}

// found are the entities that Telegram finds by itself, in this order of preference.
var found = []struct {
	kind string
	form *regexp.Regexp
}{
	{"email", regexp.MustCompile(`\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b`)},
	{"url", regexp.MustCompile(`(?i)\bhttps?://[^\s<>"]*[^\s<>".,;:!?()']|\b(?:[a-z0-9-]+\.)+(?:com|org|net|de|io|dev|example)\b(?:/[^\s<>"]*[^\s<>".,;:!?()'])?`)},
	{"bot_command", regexp.MustCompile(`(?:^|\s)(/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{5,32})?)`)},
	{"mention", regexp.MustCompile(`(?:^|[^A-Za-z0-9_@.])(@[A-Za-z][A-Za-z0-9_]{3,31})\b`)},
	{"hashtag", regexp.MustCompile(`(?:^|\s)(#[\p{L}\p{N}_]*\p{L}[\p{L}\p{N}_]*)`)},
	{"phone_number", regexp.MustCompile(`(?:^|\s)(\+[0-9][0-9 ()-]{6,16}[0-9])\b`)},
}

// detect adds to the entities those that Telegram finds by itself, where no other is that would contain them whole or
// partly; bold and the like may.
func detect(text string, marks []Entity) []Entity {
	taken := slices.DeleteFunc(slices.Clone(marks), func(e Entity) bool {
		return slices.Contains([]string{"bold", "italic", "underline", "strikethrough", "spoiler", "blockquote", "expandable_blockquote"}, e.Type)
	})
	if strings.ContainsAny(text, "/@#+.") {
		for _, f := range found {
			for _, at := range f.form.FindAllStringSubmatchIndex(text, -1) {
				from, to := at[0], at[1]
				if len(at) > 2 {
					from, to = at[2], at[3]
				}
				e := Entity{Type: f.kind, Offset: utf16Len(text[:from]), Length: utf16Len(text[from:to])}
				if !slices.ContainsFunc(taken, func(t Entity) bool { return t.Offset < e.Offset+e.Length && e.Offset < t.Offset+t.Length }) {
					taken, marks = append(taken, e), append(marks, e)
				}
			}
		}
	}
	slices.SortStableFunc(marks, func(a, b Entity) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(b.Length, a.Length))
	})
	return marks
}

// builder collects a text and its entities.
type builder struct {
	text  strings.Builder
	units int // UTF-16 length of text
	marks []Entity
}

func (b *builder) write(s string) {
	b.text.WriteString(s)
	b.units += utf16Len(s)
}

func (b *builder) rune(r rune) {
	b.text.WriteRune(r)
	b.units += max(utf16.RuneLen(r), 1)
}

func (b *builder) mark(e Entity, from int) {
	if e.Offset, e.Length = from, b.units-from; e.Length > 0 && e.Type != "" {
		b.marks = append(b.marks, e)
	}
}

// escapedAt says whether a backslash at i escapes the next byte, as MarkdownV2 has it.
func escapedAt(s string, i int) bool {
	return s[i] == '\\' && i+1 < len(s) && s[i+1] > 0 && s[i+1] < utf8.RuneSelf
}
