package cloudapi

import (
	_ "embed" // for the page
	"net/http"
	"strconv"

	"switchboard/internal/simulator/console"
)

//go:embed page/index.html
var pageHTML []byte

// serveControlMedia gives the page a file, whole.
func (s *Server) serveControlMedia(w http.ResponseWriter, r *http.Request) {
	m, ok := s.media.get(r.PathValue("media"))
	if !ok {
		console.WriteError(w, http.StatusNotFound, "media "+r.PathValue("media")+": not found")
		return
	}
	console.FileHeaders(w.Header(), m.mimeType, m.filename)
	w.Header().Set("Content-Length", strconv.Itoa(len(m.data)))
	_, _ = w.Write(m.data) // #nosec G705 -- an inline type is from a list of media, with nosniff
}
