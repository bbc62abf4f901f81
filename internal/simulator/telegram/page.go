package telegram

import (
	_ "embed" // for the page
	"net/http"

	"switchboard/internal/simulator/console"
)

//go:embed page/index.html
var pageHTML []byte

// serveControlFile gives the page a file.
func (s *Server) serveControlFile(w http.ResponseWriter, r *http.Request) {
	f, err := s.uploaded(r.PathValue("file"))
	if err != nil {
		console.WriteError(w, http.StatusNotFound, err.Error())
		return
	}
	console.ServeFile(w, r, f.mimeType, f.name, f.bytes())
}
