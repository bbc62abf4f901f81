package cloudapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"switchboard/internal/simulator/console"
)

// Limits on what is read.
const (
	maxJSON  = 1 << 20   // bytes of a JSON body
	maxMedia = 100 << 20 // bytes of a media file
)

var versionPath = regexp.MustCompile(`^v[0-9]{1,3}\.[0-9]{1,2}$`)

func slogErr(err error) slog.Attr { return slog.Any("error", err) }

func lower(s string) string { return strings.ToLower(s) }

// routes sends a request to the page, the control API, a media link or the Graph API.
func (s *Server) routes() http.Handler {
	control := s.controlRoutes()
	page := console.Page(pageHTML)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/" || path == "/favicon.ico":
			page.ServeHTTP(w, r)
		case path == "/control" || strings.HasPrefix(path, "/control/"):
			control.ServeHTTP(w, r)
		case path == attachmentPath:
			s.serveAttachment(w, r)
		default:
			s.serveGraph(w, r)
		}
	})
}

// graphCall is a Graph request on its way through its handler.
type graphCall struct {
	w      http.ResponseWriter
	r      *http.Request
	token  string
	node   string
	edge   string
	began  time.Time
	status int // as answered
	code   int // Meta's, 0 for success
}

func (s *Server) serveGraph(w http.ResponseWriter, r *http.Request) {
	c := &graphCall{w: w, r: r, began: time.Now(), status: http.StatusOK}
	segs := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if versionPath.MatchString(segs[0]) {
		segs = segs[1:]
	}
	if len(segs) == 0 || len(segs) > 2 || !isDigits(segs[0]) {
		s.fail(c, &graphError{
			status: http.StatusBadRequest, code: 2500,
			message: "Unknown path components: " + r.URL.Path,
		})
		return
	}
	c.node = segs[0]
	if len(segs) == 2 {
		c.edge = segs[1]
	}
	if token, ok := bearer(r); !ok {
		s.fail(c, &graphError{status: http.StatusUnauthorized, code: 104, message: "An access token is required to request this resource."})
		return
	} else if c.token = token; !s.knownToken(c) {
		s.fail(c, badToken())
		return
	}
	s.dispatch(c) //nolint:contextcheck // a call carries its request, and with it the context
}

// dispatch finds what the node is: a number, a business account or a media id.
func (s *Server) dispatch(c *graphCall) {
	if n, ok := s.Number(c.node); ok {
		if !sameSecret(n.AccessToken, c.token) {
			s.fail(c, missingObject(c.r.Method, c.node))
			return
		}
		switch c.r.Method + " " + c.edge {
		case "POST messages":
			s.postMessages(c, n)
		case "POST media":
			s.account(c, "media", n.PhoneNumberID, func() { s.uploadMedia(c, n) })
		case "GET ":
			s.account(c, "account", n.PhoneNumberID, func() { s.getNumber(c, n) })
		case "POST ":
			s.account(c, "account", n.PhoneNumberID, func() { s.configureNumber(c, n) })
		default:
			s.fail(c, missingObject(c.r.Method, c.node))
		}
		return
	}
	if numbers := s.accountNumbers(c.node, c.token); len(numbers) > 0 {
		s.account(c, "account", numbers[0].PhoneNumberID, func() { s.serveAccount(c, numbers) })
		return
	}
	if m, ok := s.media.get(c.node); ok && c.edge == "" && s.ownsMedia(m, c.token) {
		s.account(c, "media", m.phoneNumberID, func() { s.serveMedia(c, m) })
		return
	}
	s.account(c, "media", "", func() { s.fail(c, missingObject(c.r.Method, c.node)) })
}

// account runs a call that is no send, behind its faults, and records it.
func (s *Server) account(c *graphCall, endpoint, number string, do func()) {
	plan := s.plan(about{number: number, endpoint: endpoint})
	if e := s.before(c, plan); e != nil {
		s.fail(c, e)
	} else {
		do()
	}
	s.ledger.append(Entry{Kind: KindCall, PhoneNumberID: number, Call: &Call{
		Method: c.r.Method, Path: c.r.URL.Path, HTTPStatus: c.status, Code: c.code, Began: c.began, Host: c.r.Host,
	}})
}

func (s *Server) fail(c *graphCall, e *graphError) {
	c.status, c.code = e.status, e.code
	s.writeGraphError(c.w, e)
}

func (s *Server) ok(c *graphCall, v any) { s.writeGraph(c.w, http.StatusOK, v) }

func bearer(r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); strings.EqualFold(scheme, "Bearer") && token != "" {
		return token, true
	}
	token = r.URL.Query().Get("access_token") // Graph takes it here too
	return token, token != ""
}

// knownToken says whether any number has the token. With AutoRegister it first registers a node that nothing has, if the
// token is new too or the call can only be meant for a number.
func (s *Server) knownToken(c *graphCall) bool {
	known, taken := false, false
	for _, n := range s.Numbers() {
		known = known || sameSecret(n.AccessToken, c.token)
		taken = taken || n.PhoneNumberID == c.node || n.BusinessAccountID == c.node
	}
	_, isMedia := s.media.get(c.node)
	auto := s.opts.AutoRegister
	if auto == nil || taken || isMedia || (known && c.edge != "messages" && c.edge != "media") {
		return known
	}
	n := *auto
	n.PhoneNumberID, n.AccessToken, n.DisplayPhoneNumber = c.node, c.token, ""
	if err := s.AddNumber(n); err != nil {
		s.log.Warn("a number could not be registered by itself", slogErr(err))
		return known
	}
	s.log.Info("a number registered itself", slog.String("phone_number_id", c.node))
	return true
}

// callPlan is the faults that strike one Graph call.
type callPlan struct {
	delay, refuse, drop, hang          *activeFault
	acceptDrop, acceptHang, garble     *activeFault
	statuses, undelivered, windowClose *activeFault
}

func (s *Server) plan(a about) callPlan {
	take := func(kind FaultKind) *activeFault { return s.faults.take(kind, a) }
	p := callPlan{delay: take(FaultDelay)}
	if p.refuse = take(FaultRateLimit); p.refuse == nil {
		p.refuse = take(FaultFail)
	}
	if p.refuse == nil {
		p.drop = take(FaultDrop)
	}
	if p.refuse == nil && p.drop == nil {
		p.hang = take(FaultHang)
	}
	return p
}

// before does what a plan wants before the call works. It panics with http.ErrAbortHandler to close the connection.
func (s *Server) before(c *graphCall, p callPlan) *graphError {
	if p.delay != nil {
		s.linger(c.r.Context(), p.delay)
	}
	switch {
	case p.refuse != nil:
		return fromFault(p.refuse)
	case p.drop != nil:
		panic(http.ErrAbortHandler)
	case p.hang != nil:
		s.hang(c.r.Context(), p.hang)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// linger waits for the fault's Delay; it ends early with the caller, the server or the fault.
func (s *Server) linger(ctx context.Context, f *activeFault) {
	timer := time.NewTimer(f.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.cleared:
	case <-ctx.Done():
	case <-s.done:
	}
}

// hang is linger without an end of its own, unless the fault has a Delay.
func (s *Server) hang(ctx context.Context, f *activeFault) {
	if f.Delay > 0 {
		s.linger(ctx, f)
		return
	}
	select {
	case <-f.cleared:
	case <-ctx.Done():
	case <-s.done:
	}
}

// readJSON reads a body of at most maxJSON into v; fields that v does not know are ignored, as Meta does.
func readJSON(w http.ResponseWriter, r *http.Request, v any) ([]byte, *graphError) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJSON))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		e := codeError(100, fmt.Sprintf("The request body must be at most %d bytes.", maxJSON))
		e.status = http.StatusRequestEntityTooLarge
		return nil, e
	case err != nil:
		return nil, codeError(100, "The request body could not be read.")
	}
	var wrong *json.UnmarshalTypeError
	err = json.Unmarshal(body, v)
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return body, &graphError{
			status: 400, code: 100,
			message: fmt.Sprintf("(#100) Param %s must be %s.", wrong.Field, jsonKind(wrong.Type.Kind().String())),
		}
	case err != nil:
		return nil, codeError(100, "The request body is not a valid JSON object.")
	}
	return body, nil
}

func jsonKind(goKind string) string {
	switch {
	case goKind == "string":
		return "a string"
	case goKind == "bool":
		return "a boolean"
	case goKind == "slice":
		return "an array"
	case strings.HasPrefix(goKind, "int"), strings.HasPrefix(goKind, "float"):
		return "a number"
	}
	return "a JSON object"
}
