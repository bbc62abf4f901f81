package cloudapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"switchboard/internal/simulator/console"
)

// Sign returns the X-Hub-Signature-256 of a webhook's raw bytes.
func Sign(appSecret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// marshalMeta encodes as Meta's servers do: non-ASCII as lower-case \uXXXX (surrogate pairs beyond the BMP), and \/.
// Whoever checks the signature over a re-encoded body instead of the raw bytes fails.
func marshalMeta(v any) ([]byte, error) {
	plain, err := console.MarshalPlain(v)
	if err != nil {
		return nil, err
	}
	return escapeMeta(plain), nil
}

// escapeMeta escapes valid JSON; slashes and non-ASCII bytes can only be inside its strings.
func escapeMeta(src []byte) []byte {
	out := make([]byte, 0, len(src)+len(src)/8)
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == '/' && (i == 0 || !escaped(src, i)):
			out = append(out, '\\', '/')
			i++
		case c < utf8.RuneSelf:
			out = append(out, c)
			i++
		default:
			r, size := utf8.DecodeRune(src[i:])
			if r1, r2 := utf16.EncodeRune(r); r1 != utf8.RuneError {
				out = fmt.Appendf(out, `\u%04x\u%04x`, r1, r2)
			} else {
				out = fmt.Appendf(out, `\u%04x`, r)
			}
			i += size
		}
	}
	return out
}

// escaped says whether the byte at i follows an odd number of backslashes.
func escaped(src []byte, i int) bool {
	n := 0
	for i--; i >= 0 && src[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}
