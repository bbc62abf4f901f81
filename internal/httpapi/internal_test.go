package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

func TestClientAddressComesFromTrustedProxiesOnly(t *testing.T) {
	for name, c := range map[string]struct {
		peer, forwarded string
		want            string
	}{
		"no proxy":             {"203.0.113.9:1", "", "203.0.113.9"},
		"a stranger claims":    {"203.0.113.9:1", "198.51.100.1", "203.0.113.9"},
		"a trusted proxy says": {"10.0.0.1:1", "198.51.100.1", "198.51.100.1"},
		"a client forges more": {"10.0.0.1:1", "1.2.3.4, 198.51.100.1", "198.51.100.1"},
		"a proxy says rubbish": {"10.0.0.1:1", "rubbish", "10.0.0.1"},
		"IPv6":                 {"[2001:db8::1]:1", "", "2001:db8::1"},
		"IPv4 in IPv6":         {"[::ffff:203.0.113.9]:1", "", "203.0.113.9"},
	} {
		t.Run(name, func(t *testing.T) {
			var got netip.Addr
			s, err := New(Options{
				Logger: slog.New(slog.DiscardHandler), TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				Dashboard: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = clientIP(r.Context()) }),
			})
			require.NoError(t, err)
			request := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			request.RemoteAddr = c.peer
			request.Header.Set("X-Forwarded-For", c.forwarded)
			s.ServeHTTP(httptest.NewRecorder(), request)
			assert.Equal(t, c.want, got.String())
		})
	}
}

// probe adds routes of its own to a server, to see what the base makes of their inputs and errors.
func probe(t *testing.T, add func(s *Server)) *Server {
	t.Helper()
	s, err := New(Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	add(s)
	return s
}

func (s *Server) probe(body string) (int, Problem) {
	request := httptest.NewRequest(http.MethodPost, "/api/probe", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	s.ServeHTTP(recorder, request)
	var p Problem
	_ = json.Unmarshal(recorder.Body.Bytes(), &p) // successes are no problems
	return recorder.Code, p
}

func TestEveryCodeHasItsStatus(t *testing.T) {
	for code, status := range map[domain.Code]int{
		domain.CodeInvalid: 422, domain.CodeUnauthenticated: 401, domain.CodeForbidden: 403, domain.CodeNotFound: 404,
		domain.CodeConflict: 409, domain.CodeUnsupported: 409, domain.CodeWindowClosed: 409, domain.CodeTooLarge: 413,
		domain.CodeRateLimited: 429, domain.CodeUnavailable: 503, domain.CodeInternal: 500, domain.CodeRegistration: 403,
		"invented": 500,
	} {
		s := probe(t, func(s *Server) {
			public(s, route{method: http.MethodPost, path: "/api/probe", id: "probe"}, func(context.Context, *noInput) (*noContent, error) {
				return nil, (&domain.Error{Code: code, Message: "canary"}).WithCause(io.ErrUnexpectedEOF)
			})
		})
		got, p := s.probe("")
		assert.Equal(t, status, got, code)
		assert.Equal(t, code, p.Code)
		if code == domain.CodeInternal {
			assert.NotContains(t, p.Detail, "canary")
		} else {
			assert.Equal(t, "canary", p.Detail)
		}
	}
	assert.Len(t, statuses, 12, "a new code needs a status")
}

func TestAHandlerThatTakesTooLongIs503(t *testing.T) {
	s := probe(t, func(s *Server) {
		public(s, route{method: http.MethodPost, path: "/api/probe", id: "probe", timeout: time.Millisecond}, func(ctx context.Context, _ *noInput) (*noContent, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	status, p := s.probe("")
	assert.Equal(t, 503, status)
	assert.Equal(t, domain.CodeUnavailable, p.Code)
}

func TestFieldsAreNamedPlainly(t *testing.T) {
	type place struct {
		Latitude float64 `json:"latitude" minimum:"-90" maximum:"90"`
	}
	type input struct {
		Body struct {
			ChatID   int64           `json:"chatId" minimum:"1"`
			Assignee Nullable[int64] `json:"assigneeId,omitzero" minimum:"1"`
			Location *place          `json:"location,omitempty"`
			Tags     []string        `json:"tags,omitempty" maxItems:"2"`
			Count    int32           `json:"count,omitempty"`
		} `nameHint:"Probe"`
	}
	var got input
	s := probe(t, func(s *Server) {
		public(s, route{method: http.MethodPost, path: "/api/probe", id: "probe"}, func(_ context.Context, in *input) (*noContent, error) {
			got = *in
			return nil, nil
		})
	})
	for body, field := range map[string]string{
		`{}`:                                           "chatId",
		`{"chatId":0}`:                                 "chatId",
		`{"chatId":1.5}`:                               "chatId",
		`{"chatId":1.0}`:                               "chatId",
		`{"chatId":9223372036854775808}`:               "chatId",
		`{"chatId":"1"}`:                               "chatId",
		`{"chatId":null}`:                              "chatId",
		`{"chatId":1,"count":2147483648}`:              "count",
		`{"chatId":1,"assigneeId":0}`:                  "assigneeId",
		`{"chatId":1,"assigneeId":"x"}`:                "assigneeId",
		`{"chatId":1,"location":{"latitude":91}}`:      "location.latitude",
		`{"chatId":1,"location":{}}`:                   "location.latitude",
		`{"chatId":1,"location":{"latitud":1}}`:        "location.latitud",
		`{"chatId":1,"location":7}`:                    "location",
		`{"chatId":1,"tags":["a","b","c"]}`:            "tags",
		`{"chatId":1,"tags":["a",1]}`:                  "tags[1]",
		`{"chatId":1,"tags":["a","b\u0000"]}`:          "tags[1]",
		`{"chatId":1,"location":{"la\u0000titude":1}}`: "location",
	} {
		status, p := s.probe(body)
		assert.Equal(t, 422, status, body)
		assert.Equal(t, domain.CodeInvalid, p.Code)
		if assert.NotEmpty(t, p.Errors, body) {
			named := make([]string, len(p.Errors))
			for i, e := range p.Errors {
				named[i] = e.Field
				assert.NotContains(t, e.Message, fieldMark)
				assert.True(t, strings.HasSuffix(e.Message, "."), e.Message)
			}
			assert.Contains(t, named, field, body)
		}
	}
	for body, want := range map[string]Nullable[int64]{
		`{"chatId":1}`:                   {},
		`{"chatId":1,"assigneeId":null}`: {Sent: true},
		`{"chatId":1,"assigneeId":7}`:    {Sent: true, Value: pointer(int64(7))},
	} {
		status, _ := s.probe(body)
		assert.Equal(t, 204, status, body)
		assert.Equal(t, want, got.Body.Assignee, body)
	}
}

func pointer[T any](v T) *T { return &v }

func TestPageOf(t *testing.T) {
	id := func(n int64) int64 { return n }
	empty := pageOf(nil, 2, id)
	assert.NotNil(t, empty.Items)
	assert.Nil(t, empty.NextCursor)
	assert.Nil(t, pageOf([]int64{1, 2}, 2, id).NextCursor)
	page := pageOf([]int64{1, 2, 3}, 2, id)
	assert.Equal(t, []int64{1, 2}, page.Items)
	var after int64
	require.NoError(t, decodeCursor(*page.NextCursor, &after))
	assert.EqualValues(t, 2, after)
}

type place struct {
	At domain.Time `json:"at"`
	ID int64       `json:"id"`
}

func TestCursorsSurviveTheWay(t *testing.T) {
	sent := place{At: 1769860800123, ID: 1<<62 + 1}
	var got place
	require.NoError(t, decodeCursor(encodeCursor(sent), &got))
	assert.Equal(t, sent, got)
	for _, bad := range []string{"x", "====", encodeCursor(7), encodeCursor(nil), encodeCursor(map[string]int{"other": 1}), encodeCursor(sent) + "A"} {
		err := decodeCursor(bad, &got)
		require.Error(t, err, bad)
		var refused *domain.Error
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "cursor", refused.Field)
	}
}

func FuzzDecodeCursor(f *testing.F) {
	f.Add(encodeCursor(place{At: 5, ID: 7}))
	f.Add("bnVsbA")
	f.Fuzz(func(t *testing.T, cursor string) {
		var p place
		if err := decodeCursor(cursor, &p); err != nil {
			assert.Equal(t, domain.CodeInvalid, domain.CodeOf(err))
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{"name":"x"}`, `{"name":"a\u0000"}`, `[1]`, `{"a":{"b":[null]}}`, "\x1f", `{"` + fieldMark + `":1}`} {
		f.Add([]byte(seed))
	}
	type input struct {
		Body struct {
			Name  string          `json:"name" maxLength:"5"`
			Count Nullable[int64] `json:"count,omitzero"`
		} `nameHint:"Fuzzed"`
	}
	s, err := New(Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(f, err)
	public(s, route{method: http.MethodPost, path: "/api/probe", id: "probe"}, func(_ context.Context, in *input) (*noContent, error) {
		if strings.ContainsRune(in.Body.Name, 0) || len([]rune(in.Body.Name)) > 5 {
			panic("let through: " + in.Body.Name)
		}
		return nil, nil
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		status, p := s.probe(string(body))
		switch status {
		case 204:
		case 400, 422:
			assert.Equal(t, domain.CodeInvalid, p.Code)
		default:
			t.Errorf("status %d for %q", status, body)
		}
	})
}
