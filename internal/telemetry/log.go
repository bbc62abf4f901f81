package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"github.com/mattn/go-isatty"
)

const redacted = "[redacted]"

// NewLogger returns a logger that writes to w. level is debug, info, warn or error; format is json, text, or auto: text
// if w is a terminal, else json. Attributes whose key names a secret, a phone number or content lose their value, and
// what looks like a token or a password in a URL is cut out of every other text, the message included.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: threshold, ReplaceAttr: redactAttr}
	if format == "auto" {
		format = "json"
		if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
			format = "text"
		}
	}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	default:
		return nil, fmt.Errorf("log format %q: want auto, json or text", format)
	}
}

// redactAttr is slog's ReplaceAttr. It sees the message as an attribute too; of groups it sees what is in them, with the
// groups' names.
func redactAttr(groups []string, a slog.Attr) slog.Attr {
	if a.Equal(slog.Attr{}) {
		return a // slog leaves it out
	}
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return a
	}
	for _, g := range groups {
		if isSensitive(g) {
			return slog.String(a.Key, redacted)
		}
	}
	if isSensitive(a.Key) {
		return slog.String(a.Key, redacted)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(scrub(a.Value.String()))
	case slog.KindAny:
		a.Value = slog.StringValue(scrubbedValue(a.Value.Any()))
	}
	return a
}

// scrubbedValue prints errors, Stringers and lists, and only the type of whatever has fields: slog would print those
// one by one, out of reach of the keys.
func scrubbedValue(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case error:
		return scrub(v.Error())
	case fmt.Stringer:
		return scrub(v.String())
	case []string:
		return scrub(strings.Join(v, ","))
	case []byte:
		return fmt.Sprintf("%d bytes", len(v))
	case []int64, []int:
		return fmt.Sprint(v)
	default:
		return fmt.Sprintf("(%T)", v)
	}
}

// sensitiveWords are parts of keys whose values do not belong in a log. A key is split at its capitals, underscores,
// dashes and dots, so that "tokens_per_second" is not one of them by accident of spelling: it would have to be listed.
var sensitiveWords = map[string]bool{
	"token": true, "secret": true, "password": true, "passwd": true, "passphrase": true, "authorization": true,
	"cookie": true, "credential": true, "credentials": true, "jwt": true, "bearer": true, "apikey": true, "signature": true,
	"phone": true, "msisdn": true, "jid": true, "lid": true, "email": true, "content": true, "text": true, "body": true,
	"caption": true, "payload": true, "qr": true, "seal": true, "dsn": true,
}

// sensitivePairs are two words that are harmless each alone.
var sensitivePairs = map[string]bool{
	"api key": true, "private key": true, "encryption key": true, "root key": true, "session key": true, "pair code": true,
	"pairing code": true, "database url": true, "redis url": true, "media url": true,
}

// harmlessKeys hold a sensitive word and yet no secret.
var harmlessKeys = map[string]bool{"content type": true, "content length": true, "body bytes": true, "payload bytes": true}

var wordBoundary = regexp.MustCompile(`([a-z0-9])([A-Z])`)

func isSensitive(key string) bool {
	key = strings.ToLower(wordBoundary.ReplaceAllString(key, "$1 $2"))
	words := strings.FieldsFunc(key, func(r rune) bool { return r == ' ' || r == '_' || r == '-' || r == '.' })
	if harmlessKeys[strings.Join(words, " ")] {
		return false
	}
	for i, w := range words {
		if sensitiveWords[w] || sensitiveWords[strings.TrimSuffix(w, "s")] {
			return true
		}
		if i > 0 && sensitivePairs[words[i-1]+" "+w] {
			return true
		}
	}
	return false
}

// Texts that give themselves away, wherever they stand: JWTs, our API keys and refresh tokens, bearer headers, passwords
// and Telegram tokens in URLs, secrets in query strings, Meta's access tokens.
var secretPatterns = []struct {
	find *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), redacted},
	{regexp.MustCompile(`\b(sb|sbr)_[A-Za-z0-9_-]{16,}`), redacted},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`), "$1 " + redacted},
	{regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s@]+@`), "$1:" + redacted + "@"},
	{regexp.MustCompile(`\d{5,}:[A-Za-z0-9_-]{30,}`), redacted},
	{regexp.MustCompile(`\bEA[A-Za-z0-9]{40,}`), redacted},
	{regexp.MustCompile(`(?i)([?&](?:access_token|token|secret|password|signature|sig|key)=)[^&\s"]+`), "$1" + redacted},
}

// scrub cuts secrets out of free text.
func scrub(s string) string {
	for _, p := range secretPatterns {
		s = p.find.ReplaceAllString(s, p.with)
	}
	return s
}
