package whatsapp

import (
	_ "embed" // for the page
	"mime"
	"net/http"

	"switchboard/internal/simulator/console"
)

//go:embed page/index.html
var pageHTML []byte

// serveControlFile gives the page a file.
func (s *Server) serveControlFile(w http.ResponseWriter, r *http.Request) {
	f, err := s.media.plain(r.PathValue("file"))
	if err != nil {
		console.WriteError(w, http.StatusNotFound, err.Error())
		return
	}
	base, _, _ := mime.ParseMediaType(f.mime)
	console.ServeFile(w, r, base, f.name, f.data)
}
