package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

// What is no text must be refused: encoding/json would store U+FFFD in its place, which nobody sent.
func TestBodiesThatAreNoText(t *testing.T) {
	type input struct {
		Body struct {
			Text string   `json:"text"`
			Tags []string `json:"tags,omitempty"`
		} `nameHint:"Probe"`
	}
	var got string
	s := probe(t, func(s *Server) {
		public(s, route{method: http.MethodPost, path: "/api/probe", id: "probe"}, func(_ context.Context, in *input) (*noContent, error) {
			got = in.Body.Text
			return nil, nil
		})
	})
	for name, c := range map[string]struct {
		body string
		at   int // offset of what is broken
	}{
		"a byte that is not UTF-8":              {"{\"text\":\"a\xffb\"}", 10},
		"after text and a real U+FFFD":          {"{\"text\":\"é\uFFFD\xc3\"}", 14},
		"a surrogate as UTF-8":                  {"{\"text\":\"\xed\xa0\x80\"}", 9},
		"an overlong NUL":                       {"{\"text\":\"\xc0\x80\"}", 9},
		"in a name":                             {"{\"te\xffxt\":\"\"}", 4},
		"half a pair, the first":                {`{"text":"\ud800"}`, 9},
		"half a pair, the second":               {`{"text":"a\uDC00"}`, 10},
		"followed by a letter":                  {`{"text":"\ud83dA"}`, 9},
		"followed by a letter's escape":         {`{"text":"\ud83d\u0041"}`, 9},
		"followed by a line's end":              {`{"text":"\ud83d\n"}`, 9},
		"a pair the wrong way round":            {`{"text":"\udc4d\ud83d"}`, 9},
		"behind a pair":                         {`{"text":"\ud83d\udc4d\ud83d"}`, 21},
		"behind an escaped backslash":           {`{"text":"\\\ud800"}`, 11},
		"its other half in another string":      {`{"text":"\ud83d","tags":["\udc4d"]}`, 9},
		"half a pair in a list":                 {`{"text":"x","tags":["y","\udfff"]}`, 25},
		"half a pair in a name that is unknown": {`{"\ud800":1}`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			status, p := s.probe(c.body)
			require.Equal(t, http.StatusUnprocessableEntity, status)
			assert.Equal(t, domain.CodeInvalid, p.Code)
			require.Len(t, p.Errors, 1)
			assert.Equal(t, "body", p.Errors[0].Field)
			assert.Contains(t, p.Errors[0].Message, fmt.Sprintf("byte %d ", c.at))
		})
	}
	for body, want := range map[string]string{
		`{"text":"\ud83d\udc4d \uD83D\uDC4D"}`: "👍 👍",
		`{"text":"👍 \\ud800 \\\\ud800"}`:       `👍 \ud800 \\ud800`,
		`{"text":"\ufffd` + "\uFFFD" + `"}`:    "\uFFFD\uFFFD",
		`{"text":"\ud7ff\ue000"}`:              "\uD7FF\uE000",
		`{"text":"\\"}`:                        `\`,
		`{"text":"\"\ud83d\udc4d\""}`:          `"👍"`,
	} {
		status, _ := s.probe(body)
		assert.Equal(t, http.StatusNoContent, status, body)
		assert.Equal(t, want, got, body)
	}
}
