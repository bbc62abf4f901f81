package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var errType = errors.New("wrong type")

// decode puts a raw value into a field. Text, which is all that the environment and flags have, is parsed; from YAML
// come numbers, booleans and lists as well. A YAML number where text is wanted is refused, because YAML may already
// have changed it (leading zeros, exponents).
func decode(raw, field any) error {
	switch f := field.(type) {
	case *string:
		return decodeText(raw, f)
	case *Secret:
		return decodeText(raw, f)
	case *bool:
		return decodeBool(raw, f)
	case *int:
		n, err := decodeInt(raw)
		*f = int(n)
		return err
	case *Bytes:
		return decodeBytes(raw, f)
	case *time.Duration:
		text, ok := raw.(string)
		if !ok {
			return errType
		}
		d, err := time.ParseDuration(text)
		*f = d
		return err
	case *[]string:
		list, err := decodeList(raw)
		*f = list
		return err
	case *[]int64:
		return decodeIDs(raw, f)
	default:
		panic(fmt.Sprintf("config: no decoder for %T", field))
	}
}

func decodeText[T ~string](raw any, f *T) error {
	text, ok := raw.(string)
	if !ok {
		return errType
	}
	*f = T(text)
	return nil
}

func decodeBool(raw any, f *bool) error {
	switch v := raw.(type) {
	case bool:
		*f = v
		return nil
	case string:
		switch strings.ToLower(v) {
		case "true", "1":
			*f = true
			return nil
		case "false", "0":
			*f = false
			return nil
		}
	}
	return errType
}

func decodeInt(raw any) (int64, error) {
	switch v := raw.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case uint64:
		if v > math.MaxInt64 {
			return 0, errType
		}
		return int64(v), nil
	case string:
		return strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	default:
		return 0, errType
	}
}

func decodeBytes(raw any, f *Bytes) error {
	if text, ok := raw.(string); ok {
		b, err := ParseBytes(text)
		*f = b
		return err
	}
	n, err := decodeInt(raw)
	*f = Bytes(n)
	return err
}

// decodeList reads a YAML list of texts, or one text with commas.
func decodeList(raw any) ([]string, error) {
	var list []string
	switch v := raw.(type) {
	case string:
		for part := range strings.SplitSeq(v, ",") {
			list = append(list, strings.TrimSpace(part))
		}
	case []any:
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return nil, errType
			}
			list = append(list, strings.TrimSpace(text))
		}
	default:
		return nil, errType
	}
	return list, nil
}

func decodeIDs(raw any, f *[]int64) error {
	items, ok := raw.([]any)
	if !ok {
		if n, isInt := raw.(int); isInt {
			items = []any{n}
		} else {
			list, err := decodeList(raw)
			if err != nil {
				return err
			}
			for _, s := range list {
				items = append(items, s)
			}
		}
	}
	var ids []int64
	for _, item := range items {
		id, err := decodeInt(item)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	*f = ids
	return nil
}

func isZero(field any) bool {
	switch f := field.(type) {
	case *string:
		return *f == ""
	case *Secret:
		return *f == ""
	case *[]string:
		return len(*f) == 0
	case *[]int64:
		return len(*f) == 0
	default:
		return false
	}
}

func isList(field any) bool {
	switch field.(type) {
	case *[]string, *[]int64:
		return true
	default:
		return false
	}
}

// show prints a field's value for an error; long values are cut.
func show(field any) string {
	switch f := field.(type) {
	case *string:
		return fmt.Sprintf("%.80q", *f)
	case *int:
		return strconv.Itoa(*f)
	case *Bytes:
		return f.String()
	case *time.Duration:
		return f.String()
	case *[]string:
		return fmt.Sprintf("%.200q", strings.Join(*f, ","))
	case *[]int64:
		return fmt.Sprintf("%.80q", strings.Trim(fmt.Sprint(*f), "[]"))
	default:
		return "another value"
	}
}

// describe prints a raw value of the wrong type for an error; a secret's is not printed.
func (s setting) describe(raw any) string {
	if s.secret {
		return kind(raw)
	}
	if text, ok := raw.(string); ok {
		return fmt.Sprintf("%.80q", text)
	}
	return fmt.Sprintf("%s %.80q", kind(raw), fmt.Sprint(raw))
}

func kind(raw any) string {
	switch raw.(type) {
	case string:
		return "text"
	case bool:
		return "true or false"
	case int, int64, uint64, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	default:
		return "another type"
	}
}

var lineNumber = regexp.MustCompile(`line (\d+)`)

// yamlLine takes no more than the line's number from a YAML error: the rest may quote the file.
func yamlLine(err error) string {
	if m := lineNumber.FindStringSubmatch(err.Error()); m != nil {
		return " (line " + m[1] + ")"
	}
	return ""
}

// nearest suggests the key that was probably meant.
func nearest(key string) string {
	best, distance := "", 4
	for _, s := range settings {
		if d := editDistance(strings.ToLower(key), s.key()); d < distance {
			best, distance = s.key(), d
		}
	}
	if best == "" {
		return "one of the keys that --help lists"
	}
	return strconv.Quote(best) + "?"
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
