package account

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

func TestCleanEmail(t *testing.T) {
	for given, want := range map[string]string{
		"ada@example.com":                         "ada@example.com",
		" Ada.Lovelace+x@Example.COM ":            "ada.lovelace+x@example.com",
		"a@b":                                     "a@b",
		"ada@xn--bcher-kva.example":               "ada@xn--bcher-kva.example",
		"ÄDA@bücher.example":                      "äda@bücher.example",
		strings.Repeat("a", 242) + "@example.com": strings.Repeat("a", 242) + "@example.com",
		"":                                 "",
		"ada":                              "",
		"ada@":                             "",
		"@example.com":                     "",
		"ada@example.com, eve@example.com": "",
		"Ada <ada@example.com>":            "",
		"<ada@example.com>":                "",
		`"ada eve"@example.com`:            "",
		"ada@exam ple.com":                 "",
		"ada@example.com\r\nBcc: eve@example.com":     "",
		"ada\x00@example.com":                         "",
		"ada(comment)@example.com":                    "",
		strings.Repeat("a", 243) + "@example.com":     "",
		"ada@example.com" + strings.Repeat("\xff", 3): "",
	} {
		got, err := cleanEmail(given)
		assert.Equal(t, want, got, "%q", given)
		if want == "" {
			var refused *domain.Error
			require.ErrorAs(t, err, &refused, "%q", given)
			assert.Equal(t, "email", refused.Field)
		}
	}
}

func FuzzCleanEmail(f *testing.F) {
	for _, seed := range []string{"ada@example.com", "Ada <a@b>", `"x"@y`, "a@[1.2.3.4]", "=?utf-8?q?a?=@b", "İ@b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		clean, err := cleanEmail(given)
		if err != nil {
			assert.Equal(t, domain.CodeInvalid, domain.CodeOf(err))
			return
		}
		assert.LessOrEqual(t, len(clean), MaxEmail)
		assert.True(t, utf8.ValidString(clean))
		again, err := cleanEmail(clean)
		require.NoError(t, err)
		assert.Equal(t, clean, again, "one address has one form")
	})
}

func TestCleanName(t *testing.T) {
	for given, want := range map[string]string{
		"Ada":                    "Ada",
		"  Ada  King ":           "Ada  King",
		"张伟":                     "张伟",
		"👩‍💻":                    "👩‍💻",
		strings.Repeat("ä", 200): strings.Repeat("ä", 200),
		strings.Repeat("ä", 201): "",
		"":                       "",
		" \t\n":                  "",
		"\u200b\u200d":           "",
		"a\nb":                   "",
		"a\x00b":                 "",
		"gnp.\u202eexe":          "",
		"a\xffb":                 "",
	} {
		got, err := cleanName("name", given)
		assert.Equal(t, want, got, "%q", given)
		assert.Equal(t, want == "", err != nil, "%q", given)
	}
}
