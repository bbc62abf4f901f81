package console

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// API is a control API that is being put together: make it with NewAPI, add routes and errors, then take its Handler.
type API struct {
	mux     *http.ServeMux
	listing strings.Builder
	column  int // width of the listing's paths
	limit   func(path string) int64
	errors  []answered
}

// answered are errors and the status that they are answered with.
type answered struct {
	status int
	errs   []error
}

// NewAPI makes an API without routes. The listing begins with the note and gives paths a column of so many characters;
// limit says how many bytes the body of a request to a path may have.
func NewAPI(note string, column int, limit func(path string) int64) *API {
	a := &API{mux: http.NewServeMux(), column: column, limit: limit}
	a.listing.WriteString(note)
	return a
}

// Handle adds a route whose answer is JSON: what do returns, {"ok": true} for nil, or {"error": "one sentence"}.
func (a *API) Handle(method, path, what string, do func(*http.Request) (any, error)) {
	a.HandleRaw(method, path, what, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, a.limit(r.URL.Path))
		v, err := do(r)
		if err != nil {
			WriteError(w, a.status(err), err.Error())
			return
		}
		if v == nil {
			v = map[string]bool{"ok": true}
		}
		write(w, http.StatusOK, v)
	})
}

// HandleRaw adds a route that writes its own answer.
func (a *API) HandleRaw(method, path, what string, serve http.HandlerFunc) {
	a.mux.HandleFunc(method+" "+path, serve)
	fmt.Fprintf(&a.listing, "%-7s%-*s %s\n", method, a.column, path, what)
}

// Answer says with which status errors are answered that are one of these; the first that fits counts. What Read and
// QueryNumber return needs no mention. All other errors are 500.
func (a *API) Answer(status int, errs ...error) {
	a.errors = append(a.errors, answered{status, errs})
}

func (a *API) status(err error) int {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errBadJSON):
		return http.StatusBadRequest
	case errors.Is(err, errBadQuery):
		return http.StatusUnprocessableEntity
	}
	for _, known := range a.errors {
		for _, target := range known.errs {
			if errors.Is(err, target) {
				return known.status
			}
		}
	}
	return http.StatusInternalServerError
}

// Handler serves the routes, and their listing at /control/, which ends with the footer. No route may be added after it.
func (a *API) Handler(footer string) http.Handler {
	a.listing.WriteString(footer)
	listing := a.listing.String()
	a.mux.HandleFunc("GET /control/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, listing)
	})
	a.mux.HandleFunc("/control/", func(w http.ResponseWriter, r *http.Request) {
		WriteError(w, http.StatusNotFound, "no such route: "+r.Method+" "+r.URL.Path+"; GET /control/ lists them")
	})
	// A page of another origin must not act through the browser of whoever runs the simulator.
	return http.NewCrossOriginProtection().Handler(a.mux)
}
