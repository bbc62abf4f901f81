package inbox_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

func TestAReactionIsOneEmoji(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		d.receive(text("wamid.1", "hello", d.store.Now()))
		id := d.messages(d.chats()[0].ID)[0].ID
		for name, emoji := range map[string]string{
			"a thumb": "👍", "of a tone": "👍🏽", "a heart": "❤️", "without its style": "❤", "a family": "👨‍👩‍👧‍👦", "a pirates' flag": "🏴‍☠️",
			"a country's flag": "🇺🇦", "a region's flag": "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "a keycap": "1️⃣", "a keycap without its style": "#⃣", "a sign": "©️", "a star": "⭐",
			"a couple of two tones": "👩🏻‍❤️‍💋‍👨🏿", "a new one": "🫩", "on fire": "❤️‍🔥",
		} {
			message, err := d.inbox.React(testkit.Context(t), d.operator, id, emoji)
			require.NoError(t, err, name)
			require.Len(t, message.Reactions, 1, name)
			require.Equal(t, emoji, message.Reactions[0].Emoji, name)
		}
		for name, emoji := range map[string]string{
			"a word": "hello", "a letter": "x", "a digit": "1", "a composed letter": "e\u0301", "two": "👍👍", "with a space": "👍 ", "text behind": "👍x",
			"text before": "x👍", "half a flag": "🇺", "a flag and a half": "🇺🇦🇺", "a mathematical sign": "+", "a circumflex": "^", "a degree": "°",
			"a joiner alone": "\u200d", "a joiner behind": "👍\u200d", "a style alone": "\uFE0F", "an accent on top": "👍\u0301", "a prefix": "\u0600👍",
			"a letter's keycap": "a\u20E3", "keys": "12\u20E3", "Hindi": "क्षि", "NUL": "\x00", "a line": "\n", "no UTF-8": "\xff", "half of one": "\xf0\x9f\x91",
			"a replacement": "\uFFFD", "endless": strings.Repeat("👍\u200d", 20) + "👍", "tones without end": "👍" + strings.Repeat("🏽", 20),
		} {
			_, err := d.inbox.React(testkit.Context(t), d.operator, id, emoji)
			assert.Equal(t, domain.CodeInvalid, domain.CodeOf(err), name)
			assert.Equal(t, "emoji", domain.Public(err).Field, name)
		}
		message, err := d.inbox.React(testkit.Context(t), d.operator, id, "")
		require.NoError(t, err)
		require.Empty(t, message.Reactions, "nothing takes it away")
	})
}
