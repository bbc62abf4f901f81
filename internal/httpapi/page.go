package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"switchboard/internal/domain"
)

// Page is a stretch of a list, and where the next one begins.
type Page[T any] struct {
	Items      []T     `json:"items" doc:"In the order of the list."`
	NextCursor *string `json:"nextCursor" doc:"Pass it as cursor to get the next page; null on the last one."`
}

// PageQuery is the query of every list with a cursor.
type PageQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"Most items of the page."`
	Cursor string `query:"cursor" maxLength:"512" doc:"The nextCursor of the page before. Opaque: do not make one yourself."`
}

// pageOf makes a page of the limit+1 items that a query fetched: one more than are shown tells whether there are more.
// position is what the cursor remembers of the last shown item.
func pageOf[T, C any](items []T, limit int, position func(T) C) Page[T] {
	page := Page[T]{Items: items}
	if page.Items == nil {
		page.Items = []T{}
	}
	if len(items) > limit {
		page.Items = items[:limit]
		cursor := encodeCursor(position(items[limit-1]))
		page.NextCursor = &cursor
	}
	return page
}

// encodeCursor makes an opaque string of a position, which is any value that survives JSON: an id, or a struct.
func encodeCursor(position any) string {
	b, err := json.Marshal(position)
	if err != nil {
		panic(err) // a type that JSON cannot hold: a mistake in the program
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor reads what encodeCursor made into position, and leaves position alone if cursor is empty. Anything else
// than a cursor of that form is an error about the field cursor.
func decodeCursor(cursor string, position any) error {
	if cursor == "" {
		return nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(b))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(position)
		if err == nil && (decoder.More() || strings.TrimSpace(string(b)) == "null") {
			err = errTrailing
		}
	}
	if err != nil {
		return domain.Invalid("cursor", "The cursor is not one that this list gave. Begin again without it.").WithCause(err)
	}
	return nil
}

var errTrailing = errors.New("not a single value")
