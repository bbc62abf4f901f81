package waba

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"switchboard/internal/domain"
)

// The shapes of Meta's JSON that are read. Unknown fields are ignored: Meta
// adds some every few months.

// loose is a string that may also be written as a number, as ids and times are
// in some of Meta's products.
type loose string

// UnmarshalJSON takes a string, a number or null.
func (l *loose) UnmarshalJSON(b []byte) error {
	switch {
	case bytes.Equal(b, []byte("null")):
		*l = ""
		return nil
	case b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*l = loose(clean(s))
		return nil
	case b[0] == '-' || (b[0] >= '0' && b[0] <= '9'):
		*l = loose(b)
		return nil
	}
	kind := map[byte]string{'{': "object", '[': "array", 't': "bool", 'f': "bool"}[b[0]]
	return &json.UnmarshalTypeError{Value: kind, Type: reflect.TypeFor[string]()}
}

// decode is json.Unmarshal with errors that tell no content, since they are
// stored and logged.
func decode(raw json.RawMessage, into any) error {
	err := json.Unmarshal(raw, into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		value, _, _ := strings.Cut(wrong.Value, " ") // "number 12" tells content
		field := wrong.Field
		if field == "" {
			field = "it"
		}
		return fmt.Errorf("%s is %s where %s is wanted", field, value, jsonKind(wrong.Type))
	default:
		return errors.New("it is not valid JSON")
	}
}

func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "object"
	default:
		return "number"
	}
}

// absent says whether a field is missing or null.
func absent(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || bytes.Equal(raw, []byte("null"))
}

// elements parts an array without looking into its elements; absent is empty.
func elements(raw json.RawMessage) ([]json.RawMessage, error) {
	if absent(raw) {
		return nil, nil
	}
	var list []json.RawMessage
	if err := decode(raw, &list); err != nil {
		return nil, err
	}
	if len(list) > maxItems {
		return nil, fmt.Errorf("it has more than %d elements", maxItems)
	}
	return list, nil
}

// clean makes text storable: PostgreSQL holds neither NUL nor invalid UTF-8.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cut shortens s to at most limit runes, for what is a label and not content.
func cut(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit-1]) + "…"
}

// latest is the end of the year 2100: a later time is a fault, and would sort
// its message below all others for ever.
const latest = 4102444800

// at reads Meta's times, Unix seconds in a string.
func (l loose) at() (domain.Time, error) {
	seconds, err := strconv.ParseInt(string(l), 10, 64)
	if err != nil || seconds < 1 || seconds > latest {
		return 0, errors.New("timestamp is not a time in Unix seconds")
	}
	return domain.Time(seconds * 1000), nil
}

// key is an id that becomes part of a key in the database.
func (l loose) key(field string) (string, error) {
	switch {
	case l == "":
		return "", errors.New(field + " is missing")
	case len(l) > maxExternalID:
		return "", fmt.Errorf("%s is longer than %d bytes", field, maxExternalID)
	}
	return string(l), nil
}

// hexSum turns a SHA-256 into lower-case hex: webhooks have it in base64, the
// media node in hex. Anything else is empty, as if not told.
func hexSum(s string) string {
	if sum, err := hex.DecodeString(s); err == nil && len(sum) == 32 {
		return hex.EncodeToString(sum)
	}
	s = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(s), "=")
	if sum, err := base64.RawStdEncoding.DecodeString(s); err == nil && len(sum) == 32 {
		return hex.EncodeToString(sum)
	}
	return ""
}

// metaError is an error as it stands in webhooks and, in the main, in answers.
type metaError struct {
	Code      int    `json:"code"`
	Title     string `json:"title"`
	Message   string `json:"message"`
	ErrorData struct {
		Details string `json:"details"`
	} `json:"error_data"`
}

// metaErrors reads a list of errors; broken ones are left out, since an error
// that cannot be read must not hide the message that it is about.
func metaErrors(raw json.RawMessage) []metaError {
	list, err := elements(raw)
	if err != nil {
		return nil
	}
	var out []metaError
	for _, one := range list {
		var e metaError
		if decode(one, &e) == nil {
			out = append(out, e)
		}
	}
	return out
}

// text is what Meta says of the error, most precise first, as one short line.
func (e metaError) text() string {
	for _, s := range []string{e.ErrorData.Details, e.Message, e.Title} {
		if s = strings.Join(strings.Fields(clean(s)), " "); s != "" {
			return cut(strings.TrimRight(s, ". "), 300)
		}
	}
	return ""
}
