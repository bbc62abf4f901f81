package telegram

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	const conv = "/control/bots/{bot}/chats/{chat}"
	return []controlRoute{
		{"GET", "/control/bots", "→ [Bot]", s.ctlBots},
		{"POST", "/control/bots", "Bot {token, name?, username?, …} → Bot; registers or replaces", s.ctlAddBot},
		{"GET", "/control/bots/{bot}", "→ Bot", s.ctlBot},
		{"PATCH", "/control/bots/{bot}", "some fields of Bot → Bot; {revoked: true} revokes the token", s.ctlPatchBot},
		{"DELETE", "/control/bots/{bot}", "forget the bot", s.ctlRemoveBot},
		{"POST", "/control/bots/{bot}/updates", "a JSON object: queued as an update as it is → {bot, id}", s.ctlDeliver},
		{"POST", "/control/bots/{bot}/restart-ids", "{id?}: the next update has this id, or a random one", s.ctlRestartIDs},
		{"GET", "/control/customers", "→ [Customer]", s.ctlCustomers},
		{"POST", "/control/customers", "Customer {id?, firstName, …} → Customer; adds or changes", s.ctlAddCustomer},
		{"GET", "/control/chats", "groups, supergroups and channels → [Group]", s.ctlChats},
		{"POST", "/control/chats", "Group {type, title, members, bots, …} → Group; adds", s.ctlAddChat},
		{"POST", "/control/chats/{chat}/members", "{customer, status: member | left}", s.ctlMember},
		{"POST", "/control/chats/{chat}/bots", "{bot, status: member | administrator | left | kicked}", s.ctlBotStatus},
		{"POST", "/control/chats/{chat}/title", "{title}", s.ctlRename},
		{"POST", "/control/chats/{chat}/migrate", "the group becomes a supergroup → {id}", s.ctlMigrate},
		{"GET", conv + "/messages", "→ Conversation {chat, status, action, members, messages}", s.ctlConversation},
		{"POST", conv + "/messages", "Incoming {type, text?, media?, …} → Sent; a customer writes", s.ctlCustomerSend},
		{"PATCH", conv + "/messages/{message}", "Incoming {text | caption | location} → Sent; the customer edits", s.ctlCustomerEdit},
		{"DELETE", conv + "/messages/{message}", "the customer deletes; bots are not told, as by Telegram", s.ctlCustomerDelete},
		{"POST", conv + "/messages/{message}/reactions", "{from?, emojis: []} → [{bot, id}]; none removes them", s.ctlReact},
		{"POST", conv + "/messages/{message}/press", "{from?, data} → {id}; a button with this callback data", s.ctlPress},
		{"POST", conv + "/messages/{message}/vote", "{from?, options: []} → [{bot, id}]", s.ctlVote},
		{"POST", conv + "/block", "{blocked: bool}: the customer blocks the bot or starts it again", s.ctlBlock},
		{"GET", "/control/callbacks/{id}", "→ {answered, text} of a callback query", s.ctlCallback},
		{"POST", "/control/files", "file as the body (Content-Type, ?type=&filename=) → {file}; for a customer's message", s.ctlUpload},
		{"GET", "/control/faults", "→ [Fault]", s.ctlFaults},
		{"POST", "/control/faults", "Fault {kind, bot?, chatId?, method?, count?, …} → {id}", s.ctlSetFault},
		{"DELETE", "/control/faults", "clear all faults", s.ctlClearFaults},
		{"DELETE", "/control/faults/{id}", "clear one", s.ctlClearFault},
		{"GET", "/control/ledger", "?bot=&kind=&after=&limit= → {entries, counts, pending}", s.ctlLedger},
		{"GET", "/control/ledger/updates", "?bot= → [Update]: queued, first delivered, how often, confirmed", s.ctlUpdates},
		{"GET", "/control/ledger/polls", "?bot=&after= → {polls, overlaps}: intervals of getUpdates (seq above after), and where two met", s.ctlPolls},
		{"DELETE", "/control/ledger", "forget all entries and counts", s.ctlResetLedger},
		{"GET", "/control/idle", "?timeoutMs= (default 10000) answers when all updates are confirmed, or 504", s.ctlIdle},
	}
}

const controlNote = `Telegram Bot API simulator: control API

JSON in and out. Errors: {"error": "one sentence"} with 400, 403, 404, 413, 422, 503 or 504.
{bot} is a bot's number, {chat} a customer's number or a group's negative one, {message} a message_id.

`

func (s *Server) controlRoutes() http.Handler {
	mux := http.NewServeMux()
	var listing strings.Builder
	listing.WriteString(controlNote)
	for _, rt := range s.controlTable() {
		mux.HandleFunc(rt.method+" "+rt.path, controlHandler(rt.do))
		fmt.Fprintf(&listing, "%-7s%-62s %s\n", rt.method, rt.path, rt.what)
	}
	fmt.Fprintf(&listing, "%-7s%-62s %s\n", "GET", "/control/files/{file}", "the bytes of a file")
	fmt.Fprintf(&listing, "%-7s%-62s %s\n", "GET", "/control/events",
		"server-sent events: message, action, callback, status, customer, chat, bot, faults, ledger")
	fmt.Fprintf(&listing, "\nKinds of faults: %v\n", allFaults)
	mux.HandleFunc("GET /control/files/{file}", s.serveControlFile)
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
	errTimeout = errors.New("updates are not confirmed")
)

func controlHandler(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		limit := int64(1 << 20)
		if strings.HasSuffix(r.URL.Path, "/files") {
			limit = maxCustomer
		} else if strings.HasSuffix(r.URL.Path, "/messages") {
			limit = maxCustomer / 3 * 4 // media as base64
		} else if strings.HasSuffix(r.URL.Path, "/updates") {
			limit = maxFaultSize
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
	case errors.Is(err, ErrClosed):
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

// pathIDs are the numbers of the named parts of the path.
func pathIDs(r *http.Request, names ...string) ([]int64, error) {
	out := make([]int64, 0, len(names))
	for _, name := range names {
		id, err := strconv.ParseInt(r.PathValue(name), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w: it must be a number", name, r.PathValue(name), ErrNotFound)
		}
		out = append(out, id)
	}
	return out, nil
}

// withIDs reads the ids and the body.
func withIDs(r *http.Request, body any, names ...string) ([]int64, error) {
	ids, err := pathIDs(r, names...)
	if err != nil {
		return nil, err
	}
	return ids, readControl(r, body)
}

func (s *Server) ctlBots(*http.Request) (any, error) { return s.Bots(), nil }

func (s *Server) findBot(r *http.Request) (Bot, error) {
	ids, err := pathIDs(r, "bot")
	if err != nil {
		return Bot{}, err
	}
	b, ok := s.Bot(ids[0])
	if !ok {
		return b, fmt.Errorf("bot %d: %w", ids[0], ErrNotFound)
	}
	return b, nil
}

func (s *Server) ctlBot(r *http.Request) (any, error) { return s.findBot(r) }

func (s *Server) ctlAddBot(r *http.Request) (any, error) {
	var b Bot
	if err := readControl(r, &b); err != nil {
		return nil, err
	}
	return s.AddBot(b)
}

func (s *Server) ctlPatchBot(r *http.Request) (any, error) {
	b, err := s.findBot(r)
	if err != nil {
		return nil, err
	}
	id := b.ID
	if err := readControl(r, &b); err != nil {
		return nil, err
	}
	if number, _, _ := strings.Cut(b.Token, ":"); number != strconv.FormatInt(id, 10) {
		return nil, fmt.Errorf("%w token: it must begin with %d", ErrInvalid, id)
	}
	return s.AddBot(b)
}

func (s *Server) ctlRemoveBot(r *http.Request) (any, error) {
	b, err := s.findBot(r)
	if err != nil {
		return nil, err
	}
	return nil, s.RemoveBot(b.ID)
}

func (s *Server) ctlDeliver(r *http.Request) (any, error) {
	b, err := s.findBot(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	return s.Deliver(b.ID, body)
}

func (s *Server) ctlRestartIDs(r *http.Request) (any, error) {
	var in struct {
		ID int64 `json:"id"`
	}
	ids, err := withIDs(r, &in, "bot")
	if err != nil {
		return nil, err
	}
	return nil, s.RestartUpdateIDs(ids[0], in.ID)
}

func (s *Server) ctlCustomers(*http.Request) (any, error) { return s.Customers(), nil }

func (s *Server) ctlAddCustomer(r *http.Request) (any, error) {
	var c Customer
	if err := readControl(r, &c); err != nil {
		return nil, err
	}
	return s.AddCustomer(c)
}

func (s *Server) ctlChats(*http.Request) (any, error) { return s.Chats(), nil }

func (s *Server) ctlAddChat(r *http.Request) (any, error) {
	var g Group
	if err := readControl(r, &g); err != nil {
		return nil, err
	}
	return s.AddChat(g)
}

func (s *Server) ctlMember(r *http.Request) (any, error) {
	var in struct {
		Customer int64  `json:"customer"`
		Status   string `json:"status"`
	}
	ids, err := withIDs(r, &in, "chat")
	if err != nil {
		return nil, err
	}
	return nil, s.SetMember(ids[0], in.Customer, in.Status)
}

func (s *Server) ctlBotStatus(r *http.Request) (any, error) {
	var in struct {
		Bot    int64  `json:"bot"`
		Status string `json:"status"`
	}
	ids, err := withIDs(r, &in, "chat")
	if err != nil {
		return nil, err
	}
	return nil, s.SetBotStatus(ids[0], in.Bot, in.Status)
}

func (s *Server) ctlRename(r *http.Request) (any, error) {
	var in struct {
		Title string `json:"title"`
	}
	ids, err := withIDs(r, &in, "chat")
	if err != nil {
		return nil, err
	}
	return nil, s.Rename(ids[0], in.Title)
}

func (s *Server) ctlMigrate(r *http.Request) (any, error) {
	ids, err := pathIDs(r, "chat")
	if err != nil {
		return nil, err
	}
	id, err := s.Migrate(ids[0])
	return map[string]int64{"id": id}, err
}

func (s *Server) ctlConversation(r *http.Request) (any, error) {
	ids, err := pathIDs(r, "bot", "chat")
	if err != nil {
		return nil, err
	}
	return s.Conversation(ids[0], ids[1])
}

func (s *Server) ctlCustomerSend(r *http.Request) (any, error) {
	var in Incoming
	ids, err := withIDs(r, &in, "bot", "chat")
	if err != nil {
		return nil, err
	}
	return s.CustomerSend(ids[0], ids[1], in)
}

func (s *Server) ctlCustomerEdit(r *http.Request) (any, error) {
	var in Incoming
	ids, err := withIDs(r, &in, "bot", "chat", "message")
	if err != nil {
		return nil, err
	}
	return s.CustomerEdit(ids[0], ids[1], ids[2], in)
}

func (s *Server) ctlCustomerDelete(r *http.Request) (any, error) {
	ids, err := pathIDs(r, "bot", "chat", "message")
	if err != nil {
		return nil, err
	}
	return nil, s.CustomerDelete(ids[0], ids[1], ids[2])
}

func (s *Server) ctlReact(r *http.Request) (any, error) {
	var in struct {
		From   int64    `json:"from"`
		Emojis []string `json:"emojis"`
	}
	ids, err := withIDs(r, &in, "bot", "chat", "message")
	if err != nil {
		return nil, err
	}
	return s.CustomerReact(ids[0], ids[1], ids[2], in.From, in.Emojis...)
}

func (s *Server) ctlPress(r *http.Request) (any, error) {
	var in struct {
		From int64  `json:"from"`
		Data string `json:"data"`
	}
	ids, err := withIDs(r, &in, "bot", "chat", "message")
	if err != nil {
		return nil, err
	}
	id, err := s.CustomerPress(ids[0], ids[1], ids[2], in.From, in.Data)
	return map[string]string{"id": id}, err
}

func (s *Server) ctlVote(r *http.Request) (any, error) {
	var in struct {
		From    int64 `json:"from"`
		Options []int `json:"options"`
	}
	ids, err := withIDs(r, &in, "bot", "chat", "message")
	if err != nil {
		return nil, err
	}
	return s.CustomerVote(ids[0], ids[1], ids[2], in.From, in.Options...)
}

func (s *Server) ctlBlock(r *http.Request) (any, error) {
	var in struct {
		Blocked bool `json:"blocked"`
	}
	ids, err := withIDs(r, &in, "bot", "chat")
	if err != nil {
		return nil, err
	}
	return nil, s.SetBlocked(ids[0], ids[1], in.Blocked)
}

func (s *Server) ctlCallback(r *http.Request) (any, error) {
	text, ok := s.CallbackAnswered(r.PathValue("id"))
	return map[string]any{"answered": ok, "text": text}, nil
}

func (s *Server) ctlUpload(r *http.Request) (any, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	q := r.URL.Query()
	file, err := s.CustomerUpload(q.Get("type"), r.Header.Get("Content-Type"), q.Get("filename"), data)
	return map[string]string{"file": file}, err
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

// queryNumber is a whole number of the query, or the default.
func queryNumber(r *http.Request, name string, def int64) (int64, error) {
	q := r.URL.Query().Get(name)
	if q == "" {
		return def, nil
	}
	v, err := strconv.ParseInt(q, 10, 64)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%w %s %q: it must be a whole number", ErrInvalid, name, q)
	}
	return v, nil
}

func (s *Server) ctlLedger(r *http.Request) (any, error) {
	bot, err1 := queryNumber(r, "bot", 0)
	after, err2 := queryNumber(r, "after", 0)
	limit, err3 := queryNumber(r, "limit", 1000)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	f := Filter{Bot: bot, Kind: r.URL.Query().Get("kind"), After: uint64(after), Limit: int(min(max(limit, 1), 10_000))} // #nosec G115 -- not negative
	return ledgerView{s.ledger.Entries(f), s.ledger.Counts(), s.Pending()}, nil
}

func (s *Server) ctlUpdates(r *http.Request) (any, error) {
	bot, err := queryNumber(r, "bot", 0)
	if err != nil {
		return nil, err
	}
	return s.ledger.Updates(bot), nil
}

func (s *Server) ctlPolls(r *http.Request) (any, error) {
	bot, err1 := queryNumber(r, "bot", 0)
	after, err2 := queryNumber(r, "after", 0)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	polls := slices.DeleteFunc(s.ledger.Polls(bot), func(p LongPoll) bool { return p.Seq <= uint64(after) }) // #nosec G115 -- not negative
	return struct {
		Polls    []LongPoll `json:"polls"`
		Overlaps []Overlap  `json:"overlaps"`
	}{polls, s.ledger.Overlaps(bot)}, nil
}

func (s *Server) ctlResetLedger(*http.Request) (any, error) {
	s.ledger.Reset()
	return nil, nil
}

func (s *Server) ctlIdle(r *http.Request) (any, error) {
	ms, err := queryNumber(r, "timeoutMs", 10_000)
	if err != nil || ms > 600_000 {
		return nil, fmt.Errorf("%w timeoutMs: 0 to 600000", ErrInvalid)
	}
	ctx, cancel := contextUntil(r.Context(), s.done, time.Duration(ms)*time.Millisecond)
	defer cancel()
	if s.WaitIdle(ctx) != nil {
		return nil, fmt.Errorf("%d %w", s.Pending(), errTimeout)
	}
	return nil, nil
}
