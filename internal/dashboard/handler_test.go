package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/dashboard"
)

const html = "text/html,application/xhtml+xml,*/*;q=0.8"

type answer struct {
	status int
	header http.Header
	body   string
}

func ask(t *testing.T, method, target, accept string) answer {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	dashboard.Handler().ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
}

// assets are the files that index.html names.
func assets(t *testing.T) []string {
	t.Helper()
	r := ask(t, http.MethodGet, "/", html)
	var found []string
	for _, m := range regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(r.body, -1) {
		found = append(found, m[1])
	}
	return found
}

func TestIndexIsThePage(t *testing.T) {
	r := ask(t, http.MethodGet, "/", html)
	assert.Equal(t, http.StatusOK, r.status)
	assert.Equal(t, "text/html; charset=utf-8", r.header.Get("Content-Type"))
	assert.Equal(t, "no-cache", r.header.Get("Cache-Control"), "a new release must be seen at once")
	assert.Contains(t, r.body, `<div id="app">`)
	assert.NotRegexp(t, `<script[^>]*>[^<]`, r.body, "the policy forbids inline scripts")
	assert.NotRegexp(t, `<style|style=`, r.body, "the policy forbids inline styles")
	assert.NotRegexp(t, `(?:src|href)="(?:https?:)?//`, r.body, "the page needs no other origin")
}

func TestAssetsAreThereAndKept(t *testing.T) {
	kinds := map[string]string{
		".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
	}
	seen := map[string]bool{}
	for _, name := range assets(t) {
		r := ask(t, http.MethodGet, name, "*/*")
		require.Equal(t, http.StatusOK, r.status, name)
		assert.NotEmpty(t, r.body, name)
		assert.Equal(t, "public, max-age=31536000, immutable", r.header.Get("Cache-Control"), name)
		assert.Regexp(t, `-[\w-]{8}\.\w+$`, name, "what is kept for a year must have a hash in its name")
		extension := name[strings.LastIndex(name, "."):]
		assert.Equal(t, kinds[extension], r.header.Get("Content-Type"), name)
		seen[extension] = true
	}
	assert.Equal(t, map[string]bool{".js": true, ".css": true, ".svg": true}, seen)
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	targets := append(assets(t), "/", "/chats/42", "/assets/gone.js", "/nothing.txt")
	for _, target := range targets {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			r := ask(t, method, target, html)
			assert.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"), target)
			assert.Equal(t, "no-referrer", r.header.Get("Referrer-Policy"), target)
			assert.Equal(t, "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob: data:; media-src 'self' blob:; "+
				"object-src 'none'; base-uri 'none'; frame-ancestors 'none'", r.header.Get("Content-Security-Policy"), target)
		}
	}
}

func TestFallbackIsForPagesOnly(t *testing.T) {
	for _, test := range []struct {
		name, method, target, accept string
		status                       int
	}{
		{"a page of the page's own", http.MethodGet, "/chats/42", html, http.StatusOK},
		{"its head", http.MethodHead, "/chats/42", html, http.StatusOK},
		{"index.html by name", http.MethodGet, "/index.html", html, http.StatusOK},
		{"dots that lead out", http.MethodGet, "/../../../etc/passwd", html, http.StatusOK},
		{"a program that does not want HTML", http.MethodGet, "/chats/42", "application/json", http.StatusNotFound},
		{"no Accept", http.MethodGet, "/chats/42", "", http.StatusNotFound},
		{"an asset of an older release", http.MethodGet, "/assets/index-0ld0ld00.js", html, http.StatusNotFound},
		{"the folder of assets", http.MethodGet, "/assets/", "*/*", http.StatusNotFound},
		{"the API", http.MethodGet, "/api/nothing", html, http.StatusNotFound},
		{"the API's root", http.MethodGet, "/api", html, http.StatusNotFound},
		{"the API by a detour", http.MethodGet, "/x/../api/nothing", html, http.StatusNotFound},
		{"a write", http.MethodPost, "/", html, http.StatusMethodNotAllowed},
		{"a deletion", http.MethodDelete, "/chats/42", html, http.StatusMethodNotAllowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := ask(t, test.method, test.target, test.accept)
			assert.Equal(t, test.status, r.status)
			switch {
			case test.method == http.MethodHead:
				assert.Empty(t, r.body)
			case test.status == http.StatusOK:
				assert.Contains(t, r.body, `<div id="app">`)
			default:
				assert.NotContains(t, r.body, `<div id="app">`)
			}
		})
	}
}
