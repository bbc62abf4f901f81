package telegram

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchboard/internal/simulator/console"
)

const controlNote = `Telegram simulator (Bot API): control API

JSON in and out. Errors: {"error": "one sentence"} with 400, 403, 404, 413, 422, 503 or 504.
{bot} is a bot's number, {chat} a customer's number or a group's negative one, {message} a message_id.

`

// controlRoutes is the whole control API.
func (s *Server) controlRoutes() http.Handler {
	const conv = "/control/bots/{bot}/chats/{chat}"
	api := console.NewAPI(controlNote, 62, controlLimit)
	api.Handle("GET", "/control/bots", "→ [Bot]", s.ctlBots)
	api.Handle("POST", "/control/bots", "Bot {token, name?, username?, …} → Bot; registers or replaces", s.ctlAddBot)
	api.Handle("GET", "/control/bots/{bot}", "→ Bot", s.ctlBot)
	api.Handle("PATCH", "/control/bots/{bot}", "some fields of Bot → Bot; {revoked: true} revokes the token", s.ctlPatchBot)
	api.Handle("DELETE", "/control/bots/{bot}", "forget the bot", s.ctlRemoveBot)
	api.Handle("POST", "/control/bots/{bot}/updates", "a JSON object: queued as an update as it is → {bot, id}", s.ctlDeliver)
	api.Handle("POST", "/control/bots/{bot}/restart-ids", "{id?}: the next update has this id, or a random one", s.ctlRestartIDs)
	api.Handle("GET", "/control/customers", "→ [Customer]", s.ctlCustomers)
	api.Handle("POST", "/control/customers", "Customer {id?, firstName, …} → Customer; adds or changes", s.ctlAddCustomer)
	api.Handle("GET", "/control/chats", "groups, supergroups and channels → [Group]", s.ctlChats)
	api.Handle("POST", "/control/chats", "Group {type, title, members, bots, …} → Group; adds", s.ctlAddChat)
	api.Handle("POST", "/control/chats/{chat}/members", "{customer, status: member | left}", s.ctlMember)
	api.Handle("POST", "/control/chats/{chat}/bots", "{bot, status: member | administrator | left | kicked}", s.ctlBotStatus)
	api.Handle("POST", "/control/chats/{chat}/title", "{title}", s.ctlRename)
	api.Handle("POST", "/control/chats/{chat}/migrate", "the group becomes a supergroup → {id}", s.ctlMigrate)
	api.Handle("GET", conv+"/messages", "→ Conversation {chat, status, action, members, messages}", s.ctlConversation)
	api.Handle("POST", conv+"/messages", "Incoming {type, text?, media?, …} → Sent; a customer writes", s.ctlCustomerSend)
	api.Handle("PATCH", conv+"/messages/{message}", "Incoming {text | caption | location} → Sent; the customer edits", s.ctlCustomerEdit)
	api.Handle("DELETE", conv+"/messages/{message}", "the customer deletes; bots are not told, as by Telegram", s.ctlCustomerDelete)
	api.Handle("POST", conv+"/messages/{message}/reactions", "{from?, emojis: []} → [{bot, id}]; none removes them", s.ctlReact)
	api.Handle("POST", conv+"/messages/{message}/press", "{from?, data} → {id}; a button with this callback data", s.ctlPress)
	api.Handle("POST", conv+"/messages/{message}/vote", "{from?, options: []} → [{bot, id}]", s.ctlVote)
	api.Handle("POST", conv+"/block", "{blocked: bool}: the customer blocks the bot or starts it again", s.ctlBlock)
	api.Handle("GET", "/control/callbacks/{id}", "→ {answered, text} of a callback query", s.ctlCallback)
	api.Handle("POST", "/control/files", "file as the body (Content-Type, ?type=&filename=) → {file}; for a customer's message", s.ctlUpload)
	api.Handle("GET", "/control/faults", "→ [Fault]", s.ctlFaults)
	api.Handle("POST", "/control/faults", "Fault {kind, bot?, chatId?, method?, count?, …} → {id}", s.ctlSetFault)
	api.Handle("DELETE", "/control/faults", "clear all faults", s.ctlClearFaults)
	api.Handle("DELETE", "/control/faults/{id}", "clear one", s.ctlClearFault)
	api.Handle("GET", "/control/ledger", "?bot=&kind=&after=&limit= → {entries, counts, pending}", s.ctlLedger)
	api.Handle("GET", "/control/ledger/updates", "?bot= → [Update]: queued, first delivered, how often, confirmed", s.ctlUpdates)
	api.Handle("GET", "/control/ledger/polls", "?bot=&after= → {polls, overlaps}: intervals of getUpdates (seq above after), and where two met", s.ctlPolls)
	api.Handle("DELETE", "/control/ledger", "forget all entries and counts", s.ctlResetLedger)
	api.Handle("GET", "/control/idle", "?timeoutMs= (default 10000) answers when all updates are confirmed, or 504", s.ctlIdle)
	api.HandleRaw("GET", "/control/files/{file}", "the bytes of a file", s.serveControlFile)
	api.HandleRaw("GET", "/control/events", "server-sent events: message, action, callback, status, customer, chat, bot, faults, ledger",
		s.events.ServeHTTP)
	api.Answer(http.StatusNotFound, ErrNotFound)
	api.Answer(http.StatusUnprocessableEntity, ErrInvalid)
	api.Answer(http.StatusServiceUnavailable, ErrClosed)
	api.Answer(http.StatusGatewayTimeout, errTimeout)
	return api.Handler(fmt.Sprintf("\nKinds of faults: %v\n", allFaults))
}

var errTimeout = errors.New("updates are not confirmed")

// controlLimit is how many bytes the body of a request to the path may have.
func controlLimit(path string) int64 {
	switch {
	case strings.HasSuffix(path, "/files"):
		return maxCustomer
	case strings.HasSuffix(path, "/messages"):
		return maxCustomer / 3 * 4 // media as base64
	case strings.HasSuffix(path, "/updates"):
		return maxFaultSize
	}
	return 1 << 20
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
	return ids, console.Read(r, body)
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
	if err := console.Read(r, &b); err != nil {
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
	if err := console.Read(r, &b); err != nil {
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
	if err := console.Read(r, &c); err != nil {
		return nil, err
	}
	return s.AddCustomer(c)
}

func (s *Server) ctlChats(*http.Request) (any, error) { return s.Chats(), nil }

func (s *Server) ctlAddChat(r *http.Request) (any, error) {
	var g Group
	if err := console.Read(r, &g); err != nil {
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
	bot, err1 := console.QueryNumber(r, "bot", 0)
	after, err2 := console.QueryNumber(r, "after", 0)
	limit, err3 := console.QueryNumber(r, "limit", 1000)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	f := Filter{Bot: bot, Kind: r.URL.Query().Get("kind"), After: uint64(after), Limit: int(min(max(limit, 1), 10_000))} // #nosec G115 -- not negative
	return ledgerView{s.ledger.Entries(f), s.ledger.Counts(), s.Pending()}, nil
}

func (s *Server) ctlUpdates(r *http.Request) (any, error) {
	bot, err := console.QueryNumber(r, "bot", 0)
	if err != nil {
		return nil, err
	}
	return s.ledger.Updates(bot), nil
}

func (s *Server) ctlPolls(r *http.Request) (any, error) {
	bot, err1 := console.QueryNumber(r, "bot", 0)
	after, err2 := console.QueryNumber(r, "after", 0)
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
	ms, err := console.QueryNumber(r, "timeoutMs", 10_000)
	if err != nil || ms > 600_000 {
		return nil, fmt.Errorf("%w timeoutMs: 0 to 600000", ErrInvalid)
	}
	ctx, cancel := console.ContextUntil(r.Context(), s.done, time.Duration(ms)*time.Millisecond)
	defer cancel()
	if s.WaitIdle(ctx) != nil {
		return nil, fmt.Errorf("%d %w", s.Pending(), errTimeout)
	}
	return nil, nil
}
