package telegram

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf16"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
)

// maxEntities is Telegram's own bound of one message.
const maxEntities = 100

// withEntities keeps what a text's entities mean where plain text can: links
// that hide behind words are written out, and quotations are marked. Bold and
// the like go.
func withEntities(text string, entities []tgbotapi.MessageEntity) string {
	entities = slices.DeleteFunc(slices.Clone(entities), func(e tgbotapi.MessageEntity) bool {
		return e.Type != "text_link" && e.Type != "blockquote" && e.Type != "expandable_blockquote"
	})
	if len(entities) == 0 {
		return clean(text)
	}
	entities = entities[:min(len(entities), maxEntities)]
	units := utf16.Encode([]rune(text)) // offsets and lengths count these
	type insertion struct {
		at   int
		text string
	}
	var insertions []insertion
	for _, e := range entities {
		if e.Offset < 0 || e.Length <= 0 || e.Offset > len(units) || e.Length > len(units)-e.Offset {
			continue
		}
		end := e.Offset + e.Length
		part := units[e.Offset:end]
		if e.Type == "text_link" {
			if shown := string(utf16.Decode(part)); e.URL != "" && shown != e.URL && shown+"/" != e.URL {
				insertions = append(insertions, insertion{end, " (" + e.URL + ")"})
			}
			continue
		}
		insertions = append(insertions, insertion{e.Offset, "> "})
		for i, u := range part[:len(part)-1] {
			if u == '\n' {
				insertions = append(insertions, insertion{e.Offset + i + 1, "> "})
			}
		}
	}
	slices.SortStableFunc(insertions, func(a, b insertion) int { return cmp.Compare(a.at, b.at) })
	var out strings.Builder
	last := 0
	for _, in := range insertions {
		out.WriteString(string(utf16.Decode(units[last:in.at])))
		out.WriteString(in.text)
		last = in.at
	}
	out.WriteString(string(utf16.Decode(units[last:])))
	return clean(out.String())
}
