package cloudapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"switchboard/internal/simulator/console"
)

const controlNote = `WhatsApp Business simulator (Cloud API): control API

JSON in and out. Errors: {"error": "one sentence"} with 400, 403, 404, 413, 422, 503 or 504.
{number} is a phone number id, {customer} a phone number in digits.

`

// controlRoutes is the whole control API.
func (s *Server) controlRoutes() http.Handler {
	const conv = "/control/numbers/{number}/customers/{customer}"
	api := console.NewAPI(controlNote, 58, controlLimit)
	api.Handle("GET", "/control/numbers", "numbers with their credentials → [Number]", s.ctlNumbers)
	api.Handle("POST", "/control/numbers", "Number → Number; registers or replaces", s.ctlAddNumber)
	api.Handle("GET", "/control/numbers/{number}", "→ Number", s.ctlNumber)
	api.Handle("PATCH", "/control/numbers/{number}", "some fields of Number → Number", s.ctlPatchNumber)
	api.Handle("DELETE", "/control/numbers/{number}", "forget the number", s.ctlRemoveNumber)
	api.Handle("POST", "/control/numbers/{number}/verify", "Meta's GET verification of the webhook → {ok, url, httpStatus, error}", s.ctlVerify)
	api.Handle("POST", "/control/numbers/{number}/redeliver", "attempt what waits for its webhook now", s.ctlRedeliver)
	api.Handle("POST", "/control/numbers/{number}/webhook", "any body: posted as it is, signed correctly", s.ctlDeliver)
	api.Handle("POST", "/control/numbers/{number}/media", "file as the body (Content-Type, ?filename=) → {id}; for a customer's message", s.ctlUpload)
	api.Handle("GET", "/control/numbers/{number}/templates", "→ [Template]", s.ctlTemplates)
	api.Handle("PUT", "/control/numbers/{number}/templates", "[Template]: replaces the business account's", s.ctlSetTemplates)
	api.Handle("GET", "/control/customers", "→ [Customer]", s.ctlCustomers)
	api.Handle("POST", "/control/customers", "{waId, name?, unreachable?} → Customer; adds or changes", s.ctlAddCustomer)
	api.Handle("GET", conv+"/messages", "→ Conversation {customer, windowOpen, typingUntil, messages}", s.ctlConversation)
	api.Handle("POST", conv+"/messages", "Incoming {type, text?, media?, …, replyTo?} → {id}; the customer sends it", s.ctlCustomerSend)
	api.Handle("POST", conv+"/reactions", "{messageId, emoji} → {id}; an empty emoji removes it", s.ctlReact)
	api.Handle("POST", conv+"/read", "{upTo?} → {read: n}; the customer reads the business's messages", s.ctlRead)
	api.Handle("POST", conv+"/typing", "the customer types; the Cloud API has no webhook for it → {webhook: false}", s.ctlTyping)
	api.Handle("POST", conv+"/window", "{open: bool}: open or close the 24-hour window", s.ctlWindow)
	api.Handle("POST", "/control/messages/{id}/status", "{status, code?}: report a status of a business's message", s.ctlStatus)
	api.Handle("GET", "/control/faults", "→ [Fault]", s.ctlFaults)
	api.Handle("POST", "/control/faults", "Fault {kind, phoneNumberId?, count?, …} → {id}", s.ctlSetFault)
	api.Handle("DELETE", "/control/faults", "clear all faults", s.ctlClearFaults)
	api.Handle("DELETE", "/control/faults/{id}", "clear one", s.ctlClearFault)
	api.Handle("GET", "/control/ledger", "?phoneNumberId=&kind=&after=&limit= → {entries, counts, pending}", s.ctlLedger)
	api.Handle("GET", "/control/ledger/messages/{id}", "→ MessageSummary {attempts, acked, ackedStatuses}", s.ctlSummary)
	api.Handle("DELETE", "/control/ledger", "forget all entries and counts", s.ctlResetLedger)
	api.Handle("GET", "/control/idle", "?timeoutMs= (default 10000) answers when no webhook waits, or 504", s.ctlIdle)
	api.HandleRaw("GET", "/control/media/{media}", "the bytes of a file", s.serveControlMedia)
	api.HandleRaw("GET", "/control/events", "server-sent events: message, typing, customer, number, faults, ledger",
		s.events.ServeHTTP)
	api.Answer(http.StatusNotFound, ErrNotFound)
	api.Answer(http.StatusUnprocessableEntity, ErrInvalid)
	api.Answer(http.StatusServiceUnavailable, ErrQueueFull, ErrClosed)
	api.Answer(http.StatusGatewayTimeout, errTimeout)
	return api.Handler(fmt.Sprintf("\nKinds of faults: %v\n", allFaults))
}

var errTimeout = errors.New("webhooks are still waiting")

// controlLimit is how many bytes the body of a request to the path may have.
func controlLimit(path string) int64 {
	switch {
	case strings.HasSuffix(path, "/media"):
		return maxMedia
	case strings.HasSuffix(path, "/webhook"):
		return 3 << 20 // Meta's largest payload
	case strings.HasSuffix(path, "/messages"):
		return maxMedia / 3 * 4 // media as base64
	}
	return maxJSON
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
	if err := console.Read(r, &n); err != nil {
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
	if err := console.Read(r, &n); err != nil {
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
	if err := console.Read(r, &list); err != nil {
		return nil, err
	}
	return nil, s.SetTemplates(n.BusinessAccountID, list)
}

func (s *Server) ctlCustomers(*http.Request) (any, error) { return s.Customers(), nil }

func (s *Server) ctlAddCustomer(r *http.Request) (any, error) {
	var c Customer
	if err := console.Read(r, &c); err != nil {
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
	if err := console.Read(r, &in); err != nil {
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
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	return s.sent(r, Incoming{Type: "reaction", Reaction: &in})
}

func (s *Server) ctlRead(r *http.Request) (any, error) {
	var in struct {
		UpTo string `json:"upTo"`
	}
	if err := console.Read(r, &in); err != nil {
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
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	return nil, s.SetWindow(r.PathValue("number"), r.PathValue("customer"), in.Open)
}

func (s *Server) ctlStatus(r *http.Request) (any, error) {
	var in struct {
		Status string `json:"status"`
		Code   int    `json:"code"`
	}
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	return nil, s.SetStatus(r.PathValue("id"), in.Status, in.Code)
}

func (s *Server) ctlFaults(*http.Request) (any, error) { return s.Faults(), nil }

func (s *Server) ctlSetFault(r *http.Request) (any, error) {
	var f Fault
	if err := console.Read(r, &f); err != nil {
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
	ms, err := console.QueryNumber(r, "timeoutMs", 10_000)
	if err != nil || ms > 600_000 {
		return nil, fmt.Errorf("%w timeoutMs %q: 0 to 600000", ErrInvalid, r.URL.Query().Get("timeoutMs"))
	}
	ctx, cancel := console.ContextUntil(r.Context(), s.done, time.Duration(ms)*time.Millisecond)
	defer cancel()
	if s.WaitIdle(ctx) != nil {
		return nil, fmt.Errorf("%d %w", s.Pending(), errTimeout)
	}
	return nil, nil
}
