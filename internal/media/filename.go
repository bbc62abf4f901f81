package media

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFilename is the longest file name, in bytes: what file systems take, less what browsers add.
const maxFilename = 200

// SanitizeFilename makes a name that a stranger chose harmless and keeps it readable: no folders, no control or
// direction characters (which make "gpj.exe" look like "exe.jpg"), no characters that some system refuses, no leading dot,
// at most 200 bytes with the extension kept. What is left of nothing is "file".
func SanitizeFilename(name string) string {
	name = strings.ToValidUTF8(name, "_")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.C, r), r == '\u2028', r == '\u2029': // controls, direction, zero width, private use
			return -1
		case strings.ContainsRune(`<>:"|?*`, r):
			return '_'
		case unicode.IsSpace(r):
			return ' '
		default:
			return r
		}
	}, name)
	name = strings.TrimLeft(strings.TrimRight(strings.TrimSpace(name), ". "), ". ")
	name = shorten(name, maxFilename)
	if name == "" {
		return "file"
	}
	return name
}

func shorten(name string, limit int) string {
	if len(name) <= limit {
		return name
	}
	extension := path.Ext(name)
	if len(extension) > 20 {
		extension = ""
	}
	stem := name[:limit-len(extension)]
	for !utf8.ValidString(stem) {
		stem = stem[:len(stem)-1]
	}
	return strings.TrimRight(stem, ". ") + extension
}

// ContentDisposition returns the header's value for a download (RFC 6266): the name in ASCII for old clients, and as it
// is in filename* (RFC 8187). The name is sanitized first.
func ContentDisposition(inline bool, filename string) string {
	kind := "attachment"
	if inline {
		kind = "inline"
	}
	filename = SanitizeFilename(filename)
	ascii := strings.Map(func(r rune) rune {
		// A percent sign would be decoded by some clients; quote and backslash would need escapes that others do not know.
		if r > unicode.MaxASCII || r == '%' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, filename)
	value := fmt.Sprintf(`%s; filename="%s"`, kind, ascii) //nolint:gocritic // %q would escape
	if ascii != filename {
		value += "; filename*=UTF-8''" + percentEncode(filename)
	}
	return value
}

// percentEncode keeps RFC 8187's attr-char and encodes every other byte.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$&+-.^_`|~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
