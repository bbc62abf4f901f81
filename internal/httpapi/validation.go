package httpapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"switchboard/internal/domain"
)

// huma hands errors of decoding on as text only. A text that begins with fieldMark names a field:
// fieldMark field fieldMark message.
const fieldMark = "\x1f"

// missingMark is how a missing field is told apart from the others, since its path ends before its name.
const missingMark = fieldMark + "missing" + fieldMark

// huma's wording and strictness are global; this package is its only user. Messages continue "<field> …".
func init() {
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
	validation.MsgUnexpectedProperty = "is not a field that is known here"
	validation.MsgExpectedRequiredProperty = missingMark + "%s"
	validation.MsgExpectedRFC3339DateTime = "must be a time such as 2026-01-31T12:00:00.000Z"
	validation.MsgExpectedBoolean = "must be true or false"
	validation.MsgExpectedNumber = "must be a number"
	validation.MsgExpectedInteger = "must be a whole number"
	validation.MsgExpectedString = "must be a string"
	validation.MsgExpectedArray = "must be an array"
	validation.MsgExpectedObject = "must be an object"
	validation.MsgExpectedArrayItemsUnique = "must not hold anything twice"
	validation.MsgExpectedOneOf = `must be one of "%s"`
	validation.MsgExpectedMinimumNumber = "must be at least %v"
	validation.MsgExpectedMaximumNumber = "must be at most %v"
	validation.MsgExpectedExclusiveMinimumNumber = "must be more than %v"
	validation.MsgExpectedExclusiveMaximumNumber = "must be less than %v"
	validation.MsgExpectedMinLength = "must have at least %d characters"
	validation.MsgExpectedMaxLength = "must have at most %d characters"
	validation.MsgExpectedBePattern = "must be %s"
	validation.MsgExpectedMatchPattern = "must match %s"
	validation.MsgExpectedMinItems = "must have at least %d items"
	validation.MsgExpectedMaxItems = "must have at most %d items"
	validation.MsgExpectedMinProperties = "must have at least %d members"
	validation.MsgExpectedMaxProperties = "must have at most %d members"
}

// parameterMessages replaces what huma says of parameters, which has no variables to set.
var parameterMessages = map[string]string{
	"unknown query parameter": "is not a parameter that is known here",
	"invalid integer":         "must be a whole number",
	"invalid boolean":         "must be true or false",
	"invalid float":           "must be a number",
}

// maxFieldErrors bounds an answer: a body of a megabyte may have a hundred thousand unknown fields.
const maxFieldErrors = 20

// invalidInput makes the problem of a request that huma refused.
func invalidInput(status int, errs []error) *Problem {
	fields := make([]FieldError, 0, len(errs))
	for _, err := range errs {
		var detail *huma.ErrorDetail
		switch {
		case errors.As(err, &detail):
			if f, named := fieldError(detail); named {
				fields = append(fields, f)
				continue
			}
			if status == http.StatusBadRequest {
				return newProblem(status, domain.CodeInvalid, "The body is not valid JSON: "+detail.Message+".")
			}
			fields = append(fields, FieldError{Field: "body", Message: phrase(detail.Message)})
		default:
			public := domain.Public(err)
			fields = append(fields, FieldError{Field: public.Field, Message: public.Message})
		}
	}
	slices.SortStableFunc(fields, func(a, b FieldError) int { return cmp.Compare(a.Field, b.Field) })
	fields = slices.CompactFunc(fields, func(a, b FieldError) bool { return a.Field == b.Field })
	fields = fields[:min(len(fields), maxFieldErrors)]

	p := newProblem(http.StatusUnprocessableEntity, domain.CodeInvalid, "The request is not valid.")
	p.Errors = fields
	if len(fields) > 0 {
		p.Detail = strconv.Quote(shorten(fields[0].Field)) + " " + fields[0].Message + "."
	}
	for i, f := range fields {
		fields[i] = FieldError{Field: shorten(f.Field), Message: sentence(f.Message)}
	}
	return p
}

// shorten keeps a field's name, which may be the caller's invention, from filling the answer.
func shorten(field string) string {
	const longest = 100
	if len(field) <= longest {
		return field
	}
	return strings.ToValidUTF8(field[:longest], "") + "…"
}

// fieldError reads what huma found wrong with one field or parameter.
func fieldError(detail *huma.ErrorDetail) (FieldError, bool) {
	location := plainLocation(detail.Location)
	switch {
	case strings.HasPrefix(detail.Message, missingMark):
		return FieldError{Field: join(location, strings.TrimPrefix(detail.Message, missingMark)), Message: "is required"}, true
	case strings.HasPrefix(detail.Message, fieldMark):
		parts := strings.SplitN(detail.Message, fieldMark, 3)
		return FieldError{Field: cmp.Or(join(location, parts[1]), "body"), Message: parts[2]}, true
	case location == "":
		return FieldError{}, false
	default:
		return FieldError{Field: location, Message: phrase(detail.Message)}, true
	}
}

// plainLocation makes body.location.latitude and query.limit into what callers call them.
func plainLocation(location string) string {
	kind, name, _ := strings.Cut(location, ".")
	switch kind {
	case "body", "query", "path", "header", "cookie", "form", "formData":
		return name
	default:
		return location
	}
}

func join(location, name string) string {
	switch {
	case location == "":
		return name
	case name == "":
		return location
	default:
		return location + "." + name
	}
}

func phrase(message string) string {
	if strings.HasPrefix(message, "required ") && strings.HasSuffix(message, " parameter is missing") {
		return "is required"
	}
	return cmp.Or(parameterMessages[message], message)
}

// sentence makes "must be a number" into "Must be a number."; whole sentences stay as they are.
func sentence(message string) string {
	first, size := utf8.DecodeRuneInString(message)
	if size == 0 || strings.HasSuffix(message, ".") {
		return message
	}
	return string(unicode.ToUpper(first)) + message[size:] + "."
}

// decodeJSON is json.Unmarshal with errors that name the field, without the one character that PostgreSQL cannot store,
// and without its habit of putting U+FFFD in the place of what is no text: nobody's message is stored other than it was sent.
func decodeJSON(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		return errors.New(fieldMark + mistyped.Field + fieldMark + wanted(mistyped.Type))
	}
	if err != nil {
		return err
	}
	if at, broken := findBrokenText(data); broken {
		return errors.New(fieldMark + fieldMark + fmt.Sprintf("must be text in UTF-8, with whole surrogate pairs; byte %d is neither", at))
	}
	if tree, ok := into.(*any); ok {
		if path, found := findNUL(*tree, ""); found {
			return errors.New(fieldMark + path + fieldMark + "must not contain the character U+0000")
		}
	}
	return nil
}

// wanted says what a value that Go could not hold should have been: what is left after huma's validation are numbers
// out of range.
func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("must be a whole number of at most %d bits, without a fraction or an exponent", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "must be a number that is not so large"
	default:
		return "has the wrong type"
	}
}

// findBrokenText returns the offset of the first byte that is not UTF-8, or else of the first escape that is half of a
// surrogate pair, in valid JSON.
func findBrokenText(data []byte) (int, bool) {
	if !utf8.Valid(data) {
		for i := 0; i < len(data); {
			r, size := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && size == 1 {
				return i, true
			}
			i += size
		}
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		first := escapedUnit(data[i:])
		if !utf16.IsSurrogate(first) {
			i++ // what is escaped may be a backslash itself
			continue
		}
		if utf16.DecodeRune(first, escapedUnit(data[i+escapeLength:])) == utf8.RuneError {
			return i, true
		}
		i += 2*escapeLength - 1
	}
	return 0, false
}

// escapeLength is that of \uXXXX.
const escapeLength = 6

// escapedUnit is the UTF-16 unit that data begins with as \uXXXX, or -1.
func escapedUnit(data []byte) rune {
	if len(data) < escapeLength || data[0] != '\\' || data[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(data[2:escapeLength]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}

// findNUL returns the path of a string with U+0000 in a decoded JSON value.
func findNUL(value any, path string) (string, bool) {
	switch v := value.(type) {
	case string:
		return path, strings.ContainsRune(v, 0)
	case []any:
		for i, item := range v {
			if found, ok := findNUL(item, path+"["+strconv.Itoa(i)+"]"); ok {
				return found, true
			}
		}
	case map[string]any:
		for name, member := range v {
			if strings.ContainsRune(name, 0) {
				return path, true
			}
			if found, ok := findNUL(member, join(path, name)); ok {
				return found, true
			}
		}
	}
	return "", false
}
