package waba

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Bounds of what PhoneNumberIDs reads, since nobody has signed it yet. A batch
// of Meta's has at most 1,000 updates, of the numbers of one account.
const (
	maxNumbers = 100
	maxNesting = 64
)

// numberPath is where a webhook names a number; "[]" stands for an array.
var numberPath = []string{"entry", "[]", "changes", "[]", "value", "metadata", "phone_number_id"}

// PhoneNumberIDs finds the numbers that a webhook names, each once, in order,
// to learn whose secret to verify it with. It walks over the bytes once and
// allocates nothing but the ids. More than 100 numbers, 64 levels of nesting
// or MaxWebhookBytes are an error, as is broken JSON.
func PhoneNumberIDs(raw []byte) ([]string, error) {
	if len(raw) > MaxWebhookBytes {
		return nil, fmt.Errorf("webhook: longer than %d bytes", MaxWebhookBytes)
	}
	if !json.Valid(raw) {
		return nil, errors.New("webhook: it is not valid JSON")
	}
	w := walker{raw: raw}
	if err := w.value(0, 0); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return w.ids, nil
}

// walker walks over JSON that is known to be valid.
type walker struct {
	raw []byte
	pos int
	ids []string
}

// value walks over one value. match is how many steps of numberPath lead to
// it, or -1 if it lies elsewhere.
func (w *walker) value(match, depth int) error {
	switch w.peek() {
	case '{', '[':
		if depth == maxNesting {
			return fmt.Errorf("nested deeper than %d levels", maxNesting)
		}
		return w.inside(match, depth+1)
	case '"':
		text := w.text()
		return w.found(match, text)
	}
	begin := w.pos
	for w.pos < len(w.raw) && !bytes.ContainsRune([]byte(",]} \t\r\n"), rune(w.raw[w.pos])) {
		w.pos++
	}
	return w.found(match, w.raw[begin:w.pos])
}

// inside walks over an object or array.
func (w *walker) inside(match, depth int) error {
	array := w.raw[w.pos] == '['
	w.pos++
	for {
		switch w.peek() {
		case 0, '}', ']':
			w.pos++
			return nil
		case ',':
			w.pos++
			continue
		}
		step := []byte("[]")
		if !array {
			step = w.text()
			w.peek()
			w.pos++ // the colon
		}
		next := -1
		if match >= 0 && match < len(numberPath) && array == (numberPath[match] == "[]") && string(step) == numberPath[match] {
			next = match + 1
		}
		if err := w.value(next, depth); err != nil {
			return err
		}
	}
}

// peek skips white space and returns the byte that follows, 0 at the end.
func (w *walker) peek() byte {
	for w.pos < len(w.raw) {
		switch c := w.raw[w.pos]; c {
		case ' ', '\t', '\r', '\n':
			w.pos++
		default:
			return c
		}
	}
	return 0
}

// text walks over a string and returns it as written, without the quotes. A
// name or number that Meta would not write with escapes is not found if it has
// some.
func (w *walker) text() []byte {
	w.pos++
	begin := w.pos
	for w.pos < len(w.raw) && w.raw[w.pos] != '"' {
		if w.raw[w.pos] == '\\' {
			w.pos++
		}
		w.pos++
	}
	end := min(w.pos, len(w.raw))
	w.pos++
	return w.raw[begin:end]
}

func (w *walker) found(match int, id []byte) error {
	if match != len(numberPath) || len(id) > 32 || !isDigits(string(id)) || slices.Contains(w.ids, string(id)) {
		return nil
	}
	if len(w.ids) == maxNumbers {
		return fmt.Errorf("more than %d numbers", maxNumbers)
	}
	w.ids = append(w.ids, string(id))
	return nil
}
