package console_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/console"
)

var (
	errGone = errors.New("gone")
	errFull = errors.New("full")
)

func newAPI() http.Handler {
	api := console.NewAPI("Title\n\n", 20, func(path string) int64 {
		if path == "/control/small" {
			return 8
		}
		return 1 << 10
	})
	api.Handle("POST", "/control/small", "a number → the same", func(r *http.Request) (any, error) {
		var in struct {
			N int `json:"n"`
		}
		err := console.Read(r, &in)
		return in, err
	})
	api.Handle("GET", "/control/query", "?n=", func(r *http.Request) (any, error) { return console.QueryNumber(r, "n", 7) })
	fails := map[string]error{
		"none": nil, "gone": fmt.Errorf("chat 5: %w", errGone), "full": errFull, "both": errors.Join(errFull, errGone), "other": io.ErrNoProgress,
	}
	api.Handle("GET", "/control/fail/{how}", "an error", func(r *http.Request) (any, error) { return nil, fails[r.PathValue("how")] })
	api.Handle("GET", "/control/strange", "what JSON has no words for", func(*http.Request) (any, error) { return func() {}, nil })
	api.HandleRaw("GET", "/control/raw", "bytes", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	api.Answer(http.StatusNotFound, errGone)
	api.Answer(http.StatusServiceUnavailable, errFull)
	return api.Handler("\nThe end\n")
}

func call(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w
}

func TestAPIAnswers(t *testing.T) {
	h := newAPI()
	for _, c := range []struct {
		method, target, body string
		status               int
		answer               string
	}{
		{"POST", "/control/small", `{"n":5}`, 200, `{"n":5}`},
		{"POST", "/control/small", `{"n":55}`, 200, `{"n":55}`},
		{"POST", "/control/small", `{"n":555}`, 413, `{"error":"read the body: http: request body too large"}`},
		{"POST", "/control/small", `{"m":5}`, 400, `{"error":"the body is not the JSON that is wanted: json: unknown field \"m\""}`},
		{"POST", "/control/small", `{} {}`, 400, `{"error":"the body is not the JSON that is wanted: something follows the value"}`},
		{"POST", "/control/small", ``, 400, `{"error":"the body is not the JSON that is wanted: EOF"}`},
		{"GET", "/control/query", "", 200, `7`},
		{"GET", "/control/query?n=0", "", 200, `0`},
		{"GET", "/control/query?n=-1", "", 422, `{"error":"invalid n \"-1\": it must be a whole number"}`},
		{"GET", "/control/query?n=<x>", "", 422, `{"error":"invalid n \"<x>\": it must be a whole number"}`},
		{"GET", "/control/fail/none", "", 200, `{"ok":true}`},
		{"GET", "/control/fail/gone", "", 404, `{"error":"chat 5: gone"}`},
		{"GET", "/control/fail/full", "", 503, `{"error":"full"}`},
		{"GET", "/control/fail/both", "", 404, `{"error":"full\ngone"}`},
		{"GET", "/control/fail/other", "", 500, `{"error":"multiple Read calls return no data or error"}`},
		{"GET", "/control/strange", "", 500, `{"error":"the answer could not be encoded"}`},
		{"GET", "/control/nothing", "", 404, `{"error":"no such route: GET /control/nothing; GET /control/ lists them"}`},
	} {
		w := call(h, c.method, c.target, c.body)
		require.Equal(t, c.status, w.Code, "%s %s: %s", c.method, c.target, w.Body)
		require.Equal(t, c.answer+"\n", w.Body.String())
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	}
	require.Equal(t, http.StatusTeapot, call(h, "GET", "/control/raw", "").Code)
}

func TestAPIListsItsRoutes(t *testing.T) {
	require.Equal(t, `Title

POST   /control/small       a number → the same
GET    /control/query       ?n=
GET    /control/fail/{how}  an error
GET    /control/strange     what JSON has no words for
GET    /control/raw         bytes

The end
`, call(newAPI(), "GET", "/control/", "").Body.String())
}

func TestAPIRefusesOtherOrigins(t *testing.T) {
	r := httptest.NewRequest("POST", "/control/small", strings.NewReader(`{"n":5}`))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	newAPI().ServeHTTP(w, r)
	require.Equal(t, http.StatusForbidden, w.Code)
}

func TestPageAllowsOnlyItself(t *testing.T) {
	h := console.Page([]byte("<html><style>a{}</style><script>go()</script></html>"))
	w := call(h, "GET", "/", "")
	policy := w.Header().Get("Content-Security-Policy")
	for element, text := range map[string]string{"style": "a{}", "script": "go()"} {
		sum := sha256.Sum256([]byte(text))
		require.Contains(t, policy, element+"-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	require.Contains(t, policy, "default-src 'none'")
	require.Contains(t, w.Body.String(), "go()")
	require.Equal(t, http.StatusNoContent, call(h, "GET", "/favicon.ico", "").Code)
	w = call(h, "POST", "/", "")
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
}

func TestOnlyMediaIsShownInline(t *testing.T) {
	serve := func(mimeType string) *httptest.ResponseRecorder {
		return call(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			console.ServeFile(w, r, mimeType, "a\"\r\n\\ü.html", []byte("<script>"))
		}), "GET", "/", "")
	}
	for _, mimeType := range []string{"image/png", "audio/ogg; codecs=opus"} {
		w := serve(mimeType)
		require.Equal(t, mimeType, w.Header().Get("Content-Type"))
		require.Empty(t, w.Header().Get("Content-Disposition"))
	}
	for _, mimeType := range []string{"text/html", "image/svg+xml", "image/png+x", "", "IMAGE/PNG/x"} {
		w := serve(mimeType)
		require.Equal(t, "application/octet-stream", w.Header().Get("Content-Type"), mimeType)
		require.Equal(t, `attachment; filename="a_____.html"`, w.Header().Get("Content-Disposition"))
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
		require.Equal(t, "default-src 'none'; sandbox", w.Header().Get("Content-Security-Policy"))
	}
}

func TestFilesAreServedInRanges(t *testing.T) {
	r := httptest.NewRequest("GET", "/", http.NoBody)
	r.Header.Set("Range", "bytes=1-2")
	w := httptest.NewRecorder()
	console.ServeFile(w, r, "video/mp4", "", []byte("abcd"))
	require.Equal(t, http.StatusPartialContent, w.Code)
	require.Equal(t, "bc", w.Body.String())
}

func TestRingForgetsTheOldest(t *testing.T) {
	var ring console.Ring[int]
	require.Empty(t, slices.Collect(ring.All))
	for i := range 7 {
		oldest, full := ring.Push(i, 3)
		require.Equal(t, i >= 3, full)
		require.Equal(t, max(i-3, 0), oldest)
		want := []int{i - 2, i - 1, i}
		require.Equal(t, want[max(2-i, 0):], slices.Collect(ring.All))
	}
	for v := range ring.All {
		require.Equal(t, 4, v)
		break
	}
}

func TestContextUntil(t *testing.T) {
	done := make(chan struct{})
	ctx, cancel := console.ContextUntil(t.Context(), done, time.Hour)
	defer cancel()
	require.NoError(t, ctx.Err())
	close(done)
	<-ctx.Done()
	ctx, cancel = console.ContextUntil(t.Context(), nil, time.Millisecond)
	defer cancel()
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
}

func TestSamplesAreWhatTheySay(t *testing.T) {
	one, two := console.SamplePhoto(), console.SamplePhoto()
	require.NotEqual(t, one, two)
	cfg, err := jpeg.DecodeConfig(bytes.NewReader(one))
	require.NoError(t, err)
	require.Equal(t, []int{480, 320}, []int{cfg.Width, cfg.Height})
	for mimeType, data := range map[string][]byte{
		"video/mp4": console.SampleVideo(), "image/webp": console.SampleSticker(), "audio/wave": console.SampleAudio(),
		"application/ogg": console.SampleVoice(),
	} {
		require.Equal(t, mimeType, http.DetectContentType(data))
	}
	name, data := console.SampleDocument()
	require.Equal(t, "invoice-2041.txt", name)
	require.NotEmpty(t, data)
}
