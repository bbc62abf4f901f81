package telegram

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchboard/internal/simulator/console"
)

// Limits on what is read.
const (
	maxUpload = 50 << 20 // bytes of the files of a call
	maxFields = 4 << 20  // bytes of everything else
	argsKept  = 16 << 10 // bytes of parameters in the ledger
)

// call is a call of a method on its way.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	bot    *bot
	method method
	args   args

	began  time.Time
	chatID int64     // as far as it is known
	made   []int64   // messages that were made or changed
	poll   *LongPoll // getUpdates
}

// args are the parameters of a call, wherever they were.
type args struct {
	values map[string]string
	files  map[string]upload
}

// upload is a file of a multipart body.
type upload struct {
	name, mimeType string
	data           []byte
}

func (a args) str(name string) string { return a.values[name] }

// number is a whole number in the bounds; like Telegram's server it takes anything else as the default.
func (a args) number(name string, def, lowest, highest int64) int64 {
	v, err := strconv.ParseInt(strings.TrimSpace(a.values[name]), 10, 64)
	if err != nil {
		return def
	}
	return min(max(v, lowest), highest)
}

func (a args) flag(name string) bool {
	v := strings.ToLower(strings.TrimSpace(a.values[name]))
	return v == "true" || v == "yes" || v == "1"
}

func (a args) float(name string) float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(a.values[name]), 64)
	if err != nil {
		return 0
	}
	return v
}

// object decodes a parameter that is JSON; one that is missing changes nothing.
func (a args) object(name string, v any) *apiError {
	raw := a.values[name]
	if raw == "" {
		return nil
	}
	if json.Unmarshal([]byte(raw), v) != nil {
		return errBadRequest("can't parse %s JSON object", strings.ReplaceAll(name, "_", " "))
	}
	return nil
}

// serveAPI serves /bot<token>/<method>.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/bot")
	token, name, hasMethod := strings.Cut(rest, "/")
	if !ok || !hasMethod || !strings.Contains(token, ":") {
		writeAnswer(w, errNotFound("").answer(), http.StatusNotFound, 0)
		return
	}
	c := &call{w: w, r: r, began: time.Now()}
	b, e := s.authenticate(token)
	if e != nil {
		s.answer(c, nil, e)
		return
	}
	c.bot = b
	if c.method, ok = methods[strings.ToLower(strings.Trim(name, "/"))]; !ok {
		c.method.name = "unknown"
		s.finish(r.Context(), c, nil, errNotFound(": method not found"), nil)
		return
	}
	if c.args, e = readArgs(w, r); e != nil {
		s.finish(r.Context(), c, nil, e, nil)
		return
	}
	c.chatID = c.args.number("chat_id", 0, -1<<53, 1<<53)
	s.run(c) //nolint:contextcheck // a call carries its request, and with it the context
}

// authenticate finds the bot of a token.
func (s *Server) authenticate(token string) (*bot, *apiError) {
	number, _, _ := strings.Cut(token, ":")
	id, _ := strconv.ParseInt(number, 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bots[id]
	if b == nil && s.opts.AutoRegister && tokenForm.MatchString(token) && s.customers[id] == nil {
		auto := Bot{Token: token}
		if auto.normalize() == nil {
			if _, err := s.addBot(auto); err == nil {
				b = s.bots[id]
			}
		}
	}
	if b == nil || b.Revoked || subtle.ConstantTimeCompare([]byte(b.Token), []byte(token)) != 1 {
		return nil, errUnauthorized()
	}
	return b, nil
}

// plan is the faults that strike a call.
type plan struct {
	delay, refuse, drop, hang                *activeFault
	acceptDrop, acceptHang, garble, truncate *activeFault
}

func (s *Server) plan(t target) plan {
	take := func(kind FaultKind) *activeFault { return s.faults.take(kind, t) }
	p := plan{delay: take(FaultDelay)}
	if p.refuse = take(FaultRateLimit); p.refuse == nil {
		p.refuse = take(FaultFail)
	}
	if p.refuse != nil {
		return p
	}
	if p.drop = take(FaultDrop); p.drop != nil {
		return p
	}
	if p.hang = take(FaultHang); p.hang != nil {
		return p
	}
	p.acceptDrop, p.acceptHang, p.garble = take(FaultAcceptDrop), take(FaultAcceptHang), take(FaultGarble)
	p.truncate = take(FaultTruncate)
	return p
}

// run does a call behind its faults. It panics with http.ErrAbortHandler to close the connection.
func (s *Server) run(c *call) {
	p := s.plan(target{c.bot.ID, c.chatID, c.method.name, c.method.sends})
	if p.delay != nil {
		s.linger(c.r.Context(), p.delay)
	}
	switch {
	case p.refuse != nil:
		s.finish(c.r.Context(), c, nil, p.refuse.refusal(), nil)
		return
	case p.drop != nil:
		s.lost(c, OutcomeLost, p.drop)
		panic(http.ErrAbortHandler)
	case p.hang != nil:
		s.lost(c, OutcomeLost, p.hang)
		s.hang(c.r.Context(), p.hang)
		panic(http.ErrAbortHandler)
	}
	result, e := c.method.do(s, c)
	if e != nil {
		s.finish(c.r.Context(), c, nil, e, nil)
		return
	}
	s.finish(c.r.Context(), c, result, nil, &p)
}

// finish writes the ledger's entry, then answers, unless a fault of the plan loses the answer.
func (s *Server) finish(ctx context.Context, c *call, result any, e *apiError, p *plan) {
	var hit *activeFault
	if p != nil {
		for _, f := range []*activeFault{p.acceptDrop, p.acceptHang, p.garble, p.truncate} {
			if hit == nil {
				hit = f
			}
		}
	}
	switch {
	case hit != nil:
		s.lost(c, OutcomeUntold, hit)
		s.loseAnswer(ctx, c, result, hit)
		return
	case c.poll != nil:
		if s.settle(c) || e == errGone {
			panic(http.ErrAbortHandler)
		}
	case e != nil:
		s.record(c, Call{Outcome: OutcomeRefused, Code: e.code, Description: e.description, FaultID: e.faultID})
	default:
		s.record(c, Call{Outcome: OutcomeAccepted})
	}
	s.answer(c, result, e)
}

// lost writes the ledger's entry of a call whose caller hears nothing.
func (s *Server) lost(c *call, outcome string, f *activeFault) {
	if c.poll != nil {
		c.poll.Outcome = outcomeLost
		s.ledger.endPoll(c.poll)
		return
	}
	s.record(c, Call{Outcome: outcome, FaultID: f.ID})
}

func (s *Server) loseAnswer(ctx context.Context, c *call, result any, f *activeFault) {
	switch f.Kind {
	case FaultAcceptHang:
		s.hang(ctx, f)
	case FaultGarble:
		c.w.Header().Set("Content-Type", "text/html")
		c.w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(c.w, "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>\n")
		return
	case FaultTruncate:
		if body, err := console.MarshalPlain(answer{OK: true, Result: result}); err == nil {
			c.w.Header().Set("Content-Type", "application/json")
			c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = c.w.Write(body[:len(body)/2])
			_ = http.NewResponseController(c.w).Flush()
		}
	}
	panic(http.ErrAbortHandler)
}

func (s *Server) record(c *call, l Call) {
	l.Method, l.ChatID, l.Began, l.Host = c.method.name, c.chatID, c.began, c.r.Host
	if !c.method.sends {
		s.ledger.append(Entry{Kind: KindCall, Bot: c.bot.ID, Call: &l})
		return
	}
	send := &Send{Call: l, MessageIDs: c.made}
	if b, err := console.MarshalPlain(c.args.values); err == nil && len(b) <= argsKept {
		send.Args = b
	}
	s.ledger.append(Entry{Kind: KindSend, Bot: c.bot.ID, Send: send})
}

func (s *Server) answer(c *call, result any, e *apiError) {
	if e != nil {
		writeAnswer(c.w, e.answer(), e.code, e.retryAfter)
		return
	}
	writeAnswer(c.w, answer{OK: true, Result: result}, http.StatusOK, 0)
}

func writeAnswer(w http.ResponseWriter, a answer, status, retryAfter int) {
	body, err := console.MarshalPlain(a)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"ok":false,"error_code":500,"description":"Internal Server Error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
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

// readArgs collects the parameters of the address and the body, which may be a form, multipart or JSON.
func readArgs(w http.ResponseWriter, r *http.Request) (args, *apiError) {
	a := args{values: map[string]string{}, files: map[string]upload{}}
	addForm(a, r.URL.Query())
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.ContentLength == 0 {
		return a, nil
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxUpload+maxFields)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var err error
	switch kind {
	case "multipart/form-data":
		err = readMultipart(a, r)
	case "application/json":
		err = readJSONArgs(a, r)
	default:
		var body []byte
		if body, err = io.ReadAll(io.LimitReader(r.Body, maxFields+1)); len(body) > maxFields {
			err = errTooLarge
		}
		form, bad := url.ParseQuery(string(body))
		addForm(a, form)
		err = errors.Join(err, bad)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), errors.Is(err, errTooLarge):
		return a, &apiError{code: http.StatusRequestEntityTooLarge, description: "Request Entity Too Large"}
	case err != nil:
		return a, errBadRequest("can't parse the request: %s", kind)
	}
	return a, nil
}

var errTooLarge = errors.New("too large")

func addForm(a args, form url.Values) {
	for k, v := range form {
		if len(v) > 0 {
			a.values[strings.ToLower(k)] = v[0]
		}
	}
}

func readMultipart(a args, r *http.Request) error {
	parts, err := r.MultipartReader()
	if err != nil {
		return err
	}
	total := 0
	for range 100 {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		isFile, limit := part.FileName() != "", maxFields
		if isFile {
			limit = maxUpload
		}
		data, err := io.ReadAll(io.LimitReader(part, int64(limit+1)))
		if err != nil {
			return err
		}
		if total += len(data); len(data) > limit || total > maxUpload+maxFields {
			return errTooLarge
		}
		if isFile {
			a.files[part.FormName()] = upload{part.FileName(), part.Header.Get("Content-Type"), slices.Clip(data)}
		} else {
			a.values[strings.ToLower(part.FormName())] = string(data)
		}
	}
	return errTooLarge
}

func readJSONArgs(a args, r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxFields+1))
	if err != nil {
		return err
	}
	if len(body) > maxFields {
		return errTooLarge
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	for name, raw := range fields {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		a.values[strings.ToLower(name)] = text
	}
	return nil
}
