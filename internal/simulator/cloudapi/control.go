package cloudapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// controlRoute is a line of the control API and of its listing.
type controlRoute struct {
	method, path, what string
	do                 func(r *http.Request) (any, error)
}

// controlTable is the whole control API; the listing at /control/ is made from it.
func (s *Server) controlTable() []controlRoute {
	const conv = "/control/numbers/{number}/customers/{customer}"
	return []controlRoute{
		{"GET", "/control/numbers", "numbers with their credentials → [Number]", s.ctlNumbers},
		{"POST", "/control/numbers", "Number → Number; registers or replaces", s.ctlAddNumber},
		{"GET", "/control/numbers/{number}", "→ Number", s.ctlNumber},
		{"PATCH", "/control/numbers/{number}", "some fields of Number → Number", s.ctlPatchNumber},
		{"DELETE", "/control/numbers/{number}", "forget the number", s.ctlRemoveNumber},
		{"POST", "/control/numbers/{number}/verify", "Meta's GET verification of the webhook → {ok, url, httpStatus, error}", s.ctlVerify},
		{"POST", "/control/numbers/{number}/redeliver", "attempt what waits for its webhook now", s.ctlRedeliver},
		{"POST", "/control/numbers/{number}/webhook", "any body: posted as it is, signed correctly", s.ctlDeliver},
		{"POST", "/control/numbers/{number}/media", "file as the body (Content-Type, ?filename=) → {id}; for a customer's message", s.ctlUpload},
		{"GET", "/control/numbers/{number}/templates", "→ [Template]", s.ctlTemplates},
		{"PUT", "/control/numbers/{number}/templates", "[Template]: replaces the business account's", s.ctlSetTemplates},
		{"GET", "/control/customers", "→ [Customer]", s.ctlCustomers},
		{"POST", "/control/customers", "{waId, name?, unreachable?} → Customer; adds or changes", s.ctlAddCustomer},
		{"GET", conv + "/messages", "→ Conversation {customer, windowOpen, typingUntil, messages}", s.ctlConversation},
		{"POST", conv + "/messages", "Incoming {type, text?, media?, …, replyTo?} → {id}; the customer sends it", s.ctlCustomerSend},
		{"POST", conv + "/reactions", "{messageId, emoji} → {id}; an empty emoji removes it", s.ctlReact},
		{"POST", conv + "/read", "{upTo?} → {read: n}; the customer reads the business's messages", s.ctlRead},
		{"POST", conv + "/typing", "the customer types; the Cloud API has no webhook for it → {webhook: false}", s.ctlTyping},
		{"POST", conv + "/window", "{open: bool}: open or close the 24-hour window", s.ctlWindow},
		{"POST", "/control/messages/{id}/status", "{status, code?}: report a status of a business's message", s.ctlStatus},
		{"GET", "/control/faults", "→ [Fault]", s.ctlFaults},
		{"POST", "/control/faults", "Fault {kind, phoneNumberId?, count?, …} → {id}", s.ctlSetFault},
		{"DELETE", "/control/faults", "clear all faults", s.ctlClearFaults},
		{"DELETE", "/control/faults/{id}", "clear one", s.ctlClearFault},
		{"GET", "/control/ledger", "?phoneNumberId=&kind=&after=&limit= → {entries, counts, pending}", s.ctlLedger},
		{"GET", "/control/ledger/messages/{id}", "→ MessageSummary {attempts, acked, ackedStatuses}", s.ctlSummary},
		{"DELETE", "/control/ledger", "forget all entries and counts", s.ctlResetLedger},
		{"GET", "/control/idle", "?timeoutMs= (default 10000) answers when no webhook waits, or 504", s.ctlIdle},
	}
}

const controlNote = `WhatsApp Cloud API simulator: control API

JSON in and out. Errors: {"error": "one sentence"} with 400, 403, 404, 413, 422, 503 or 504.
{number} is a phone number id, {customer} a phone number in digits.

`

func (s *Server) controlRoutes() http.Handler {
	mux := http.NewServeMux()
	var listing strings.Builder
	listing.WriteString(controlNote)
	for _, rt := range s.controlTable() {
		mux.HandleFunc(rt.method+" "+rt.path, controlHandler(rt.do))
		fmt.Fprintf(&listing, "%-7s%-58s %s\n", rt.method, rt.path, rt.what)
	}
	fmt.Fprintf(&listing, "%-7s%-58s %s\n", "GET", "/control/media/{media}", "the bytes of a file")
	fmt.Fprintf(&listing, "%-7s%-58s %s\n", "GET", "/control/events", "server-sent events: message, typing, customer, number, faults, ledger")
	fmt.Fprintf(&listing, "\nKinds of faults: %v\n", allFaults)
	mux.HandleFunc("GET /control/media/{media}", s.serveControlMedia)
	mux.HandleFunc("GET /control/events", s.serveEvents)
	mux.HandleFunc("GET /control/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, listing.String())
	})
	mux.HandleFunc("/control/", func(w http.ResponseWriter, r *http.Request) {
		writeControl(w, http.StatusNotFound, map[string]string{"error": "no such route: " + r.Method + " " + r.URL.Path + "; GET /control/ lists them"})
	})
	// A page of another origin must not act through the browser of whoever runs the simulator.
	return http.NewCrossOriginProtection().Handler(mux)
}

func writeControl(w http.ResponseWriter, status int, v any) {
	b, err := marshalPlain(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer could not be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

var (
	errBadJSON = errors.New("the body is not the JSON that is wanted")
	errTimeout = errors.New("webhooks are still waiting")
)

func controlHandler(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		limit := int64(maxJSON)
		if strings.HasSuffix(r.URL.Path, "/media") {
			limit = maxMedia
		} else if strings.HasSuffix(r.URL.Path, "/webhook") {
			limit = 3 << 20 // Meta's largest payload
		} else if strings.HasSuffix(r.URL.Path, "/messages") {
			limit = maxMedia / 3 * 4 // media as base64
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		v, err := do(r)
		if err != nil {
			writeControl(w, controlStatus(err), map[string]string{"error": err.Error()})
			return
		}
		if v == nil {
			v = map[string]bool{"ok": true}
		}
		writeControl(w, http.StatusOK, v)
	}
}

func controlStatus(err error) int {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errBadJSON):
		return http.StatusBadRequest
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrInvalid):
		return http.StatusUnprocessableEntity
	case errors.Is(err, ErrQueueFull), errors.Is(err, ErrClosed):
		return http.StatusServiceUnavailable
	case errors.Is(err, errTimeout):
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// readControl decodes the body strictly: the control API is for people and tests, whose typing errors should show.
func readControl(r *http.Request, v any) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errBadJSON, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the value", errBadJSON)
	}
	return nil
}

func (s *Server) ctlNumbers(*http.Request) (any, error) { return s.Numbers(), nil }

func (s *Server) findNumber(r *http.Request) (Number, error) {
	n, ok := s.Number(r.PathValue("number"))
	if !ok {
		return n, fmt.Errorf("number %s: %w", r.PathValue("number"), ErrNotFound)
	}
	return n, nil
}

func (s *Server) ctlNumber(r *http.Request) (any, error) { return s.findNumber(r) }

func (s *Server) ctlAddNumber(r *http.Request) (any, error) {
	var n Number
	if err := readControl(r, &n); err != nil {
		return nil, err
	}
	if err := s.AddNumber(n); err != nil {
		return nil, err
	}
	n, _ = s.Number(n.PhoneNumberID)
	return n, nil
}

func (s *Server) ctlPatchNumber(r *http.Request) (any, error) {
	n, err := s.findNumber(r)
	if err != nil {
		return nil, err
	}
	n.AutoStatuses = append([]string{}, n.AutoStatuses...) // decoding must not write into the registered one
	if err := readControl(r, &n); err != nil {
		return nil, err
	}
	n.PhoneNumberID = r.PathValue("number")
	if err := s.AddNumber(n); err != nil {
		return nil, err
	}
	n, _ = s.Number(n.PhoneNumberID)
	return n, nil
}

func (s *Server) ctlRemoveNumber(r *http.Request) (any, error) {
	return nil, s.RemoveNumber(r.PathValue("number"))
}

func (s *Server) ctlVerify(r *http.Request) (any, error) {
	return s.Verify(r.Context(), r.PathValue("number"))
}

func (s *Server) ctlRedeliver(r *http.Request) (any, error) {
	n, err := s.findNumber(r)
	if err == nil {
		s.RedeliverNow(n.PhoneNumberID)
	}
	return nil, err
}

func (s *Server) ctlDeliver(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	return nil, s.Deliver(r.PathValue("number"), body)
}

func (s *Server) ctlUpload(r *http.Request) (any, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	id, err := s.CustomerUpload(r.PathValue("number"), r.Header.Get("Content-Type"), r.URL.Query().Get("filename"), data)
	return map[string]string{"id": id}, err
}

func (s *Server) ctlTemplates(r *http.Request) (any, error) {
	n, err := s.findNumber(r)
	return s.Templates(n.BusinessAccountID), err
}

func (s *Server) ctlSetTemplates(r *http.Request) (any, error) {
	n, err := s.findNumber(r)
	if err != nil {
		return nil, err
	}
	var list []Template
	if err := readControl(r, &list); err != nil {
		return nil, err
	}
	return nil, s.SetTemplates(n.BusinessAccountID, list)
}

func (s *Server) ctlCustomers(*http.Request) (any, error) { return s.Customers(), nil }

func (s *Server) ctlAddCustomer(r *http.Request) (any, error) {
	var c Customer
	if err := readControl(r, &c); err != nil {
		return nil, err
	}
	c.WaID = digits(c.WaID)
	return c, s.AddCustomer(c)
}

func (s *Server) ctlConversation(r *http.Request) (any, error) {
	return s.Conversation(r.PathValue("number"), r.PathValue("customer"))
}

func (s *Server) ctlCustomerSend(r *http.Request) (any, error) {
	var in Incoming
	if err := readControl(r, &in); err != nil {
		return nil, err
	}
	return s.sent(r, in)
}

func (s *Server) sent(r *http.Request, in Incoming) (any, error) {
	id, err := s.CustomerSend(r.PathValue("number"), r.PathValue("customer"), in)
	return map[string]string{"id": id}, err
}

func (s *Server) ctlReact(r *http.Request) (any, error) {
	var in IncomingReact
	if err := readControl(r, &in); err != nil {
		return nil, err
	}
	return s.sent(r, Incoming{Type: "reaction", Reaction: &in})
}

func (s *Server) ctlRead(r *http.Request) (any, error) {
	var in struct {
		UpTo string `json:"upTo"`
	}
	if err := readControl(r, &in); err != nil {
		return nil, err
	}
	n, err := s.CustomerRead(r.PathValue("number"), r.PathValue("customer"), in.UpTo)
	return map[string]int{"read": n}, err
}

func (s *Server) ctlTyping(r *http.Request) (any, error) {
	if _, err := s.findNumber(r); err != nil {
		return nil, err
	}
	return map[string]bool{"webhook": false}, nil
}

func (s *Server) ctlWindow(r *http.Request) (any, error) {
	var in struct {
		Open bool `json:"open"`
	}
	if err := readControl(r, &in); err != nil {
		return nil, err
	}
	return nil, s.SetWindow(r.PathValue("number"), r.PathValue("customer"), in.Open)
}

func (s *Server) ctlStatus(r *http.Request) (any, error) {
	var in struct {
		Status string `json:"status"`
		Code   int    `json:"code"`
	}
	if err := readControl(r, &in); err != nil {
		return nil, err
	}
	return nil, s.SetStatus(r.PathValue("id"), in.Status, in.Code)
}

func (s *Server) ctlFaults(*http.Request) (any, error) { return s.Faults(), nil }

func (s *Server) ctlSetFault(r *http.Request) (any, error) {
	var f Fault
	if err := readControl(r, &f); err != nil {
		return nil, err
	}
	id, err := s.SetFault(f)
	return map[string]string{"id": id}, err
}

func (s *Server) ctlClearFaults(*http.Request) (any, error) {
	s.ClearFaults()
	return nil, nil
}

func (s *Server) ctlClearFault(r *http.Request) (any, error) {
	return nil, s.ClearFault(r.PathValue("id"))
}

// ledgerView is what GET /control/ledger answers.
type ledgerView struct {
	Entries []Entry `json:"entries"`
	Counts  Counts  `json:"counts"`
	Pending int     `json:"pending"`
}

func (s *Server) ctlLedger(r *http.Request) (any, error) {
	q := r.URL.Query()
	f := Filter{PhoneNumberID: q.Get("phoneNumberId"), Kind: q.Get("kind"), Limit: 1000}
	for name, set := range map[string]func(uint64){
		"after": func(v uint64) { f.After = v },
		"limit": func(v uint64) { f.Limit = int(min(max(v, 1), 10_000)) }, // #nosec G115 -- bounded
	} {
		if q.Get(name) == "" {
			continue
		}
		v, err := strconv.ParseUint(q.Get(name), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w %s %q: it must be a whole number", ErrInvalid, name, q.Get(name))
		}
		set(v)
	}
	return ledgerView{s.ledger.Entries(f), s.ledger.Counts(), s.Pending()}, nil
}

func (s *Server) ctlSummary(r *http.Request) (any, error) {
	sum, ok := s.ledger.Message(r.PathValue("id"))
	if !ok {
		return nil, fmt.Errorf("message %s: %w", r.PathValue("id"), ErrNotFound)
	}
	return sum, nil
}

func (s *Server) ctlResetLedger(*http.Request) (any, error) {
	s.ledger.Reset()
	return nil, nil
}

func (s *Server) ctlIdle(r *http.Request) (any, error) {
	timeout := 10 * time.Second
	if q := r.URL.Query().Get("timeoutMs"); q != "" {
		ms, err := strconv.Atoi(q)
		if err != nil || ms < 0 || ms > 600_000 {
			return nil, fmt.Errorf("%w timeoutMs %q: 0 to 600000", ErrInvalid, q)
		}
		timeout = time.Duration(ms) * time.Millisecond
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	ctx, cancel := contextUntil(r.Context(), s.done, timer.C)
	defer cancel()
	if s.WaitIdle(ctx) != nil {
		return nil, fmt.Errorf("%d %w", s.Pending(), errTimeout)
	}
	return nil, nil
}
