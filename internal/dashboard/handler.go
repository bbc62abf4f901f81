package dashboard

import (
	"bytes"
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed dist
var dist embed.FS

// policy lets the page load and reach nothing but its own origin. blob: is for files that an operator is about to send.
const policy = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob: data:; media-src 'self' blob:; " +
	"object-src 'none'; base-uri 'none'; frame-ancestors 'none'"

const (
	indexName = "index.html"
	// Vite puts a hash of the content into the names of assets: what has such a name never changes.
	assetPrefix = "assets/"
	forever     = "public, max-age=31536000, immutable"
	revalidate  = "no-cache"
)

// Handler serves the page: its assets under their names, and index.html for / and for every other path that a browser
// opens as a page, since the page has its own routes, such as /chats/42. Anything else is not found.
func Handler() http.Handler {
	root, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // a constant path
	}
	return handler{root}
}

type handler struct{ root fs.FS }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "The page can only be read.", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name != "" && name != indexName {
		if h.serve(w, r, name) {
			return
		}
		if !isPage(r, name) {
			http.Error(w, "There is nothing at this address.", http.StatusNotFound)
			return
		}
	}
	if !h.serve(w, r, indexName) {
		http.Error(w, "The page is not part of this build.", http.StatusNotFound)
	}
}

// serve answers with an embedded file, if there is one of that name.
func (h handler) serve(w http.ResponseWriter, r *http.Request, name string) bool {
	content, err := fs.ReadFile(h.root, name)
	if err != nil { // missing, a directory, or a name that cannot be
		return false
	}
	header := w.Header()
	header.Set("Cache-Control", revalidate)
	if strings.HasPrefix(name, assetPrefix) {
		header.Set("Cache-Control", forever)
	} else {
		header.Set("Vary", "Accept")
	}
	header.Set("Content-Type", contentType(name))
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	return true
}

// isPage reports whether a browser asks for a page, as opposed to a program or a page's part that is gone.
func isPage(r *http.Request, name string) bool {
	if name == "api" || strings.HasPrefix(name, "api/") || strings.HasPrefix(name, assetPrefix) {
		return false
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// contentType does not ask the machine's own table, which differs from one to the next.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		if t := mime.TypeByExtension(path.Ext(name)); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}
