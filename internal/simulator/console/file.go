package console

import (
	"bytes"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

// inlineTypes are shown by the page; everything else is a download.
var inlineTypes = []string{
	"image/jpeg", "image/png", "image/webp", "image/gif", "audio/aac", "audio/mp4", "audio/mpeg", "audio/amr", "audio/ogg",
	"audio/opus", "audio/wav", "audio/webm", "video/mp4", "video/3gpp", "video/webm",
}

// FileHeaders says how a browser may use a file. What it could run is only ever a download.
func FileHeaders(h http.Header, mimeType, name string) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if base, _, _ := mime.ParseMediaType(mimeType); slices.Contains(inlineTypes, base) {
		h.Set("Content-Type", mimeType)
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+strings.Map(plainNameRune, name)+`"`)
}

func plainNameRune(c rune) rune {
	if c < ' ' || c == '"' || c == '\\' || c > '~' {
		return '_'
	}
	return c
}

// ServeFile gives the page a file, with FileHeaders, and in ranges, so that browsers can seek.
func ServeFile(w http.ResponseWriter, r *http.Request, mimeType, name string, data []byte) {
	FileHeaders(w.Header(), mimeType, name)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
