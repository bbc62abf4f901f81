package whatsapp

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"switchboard/internal/simulator/console"
)

const controlNote = `WhatsApp simulator (phones, by QR): control API

JSON in and out. Errors: {"error": "one sentence"} with 400, 403, 404, 413, 422, 503 or 504.
{number} is a phone's number, {peer} a person's number or a group's id.

`

// controlRoutes is the whole control API.
func (s *Server) controlRoutes() http.Handler {
	const phone = "/control/phones/{number}"
	const conv = phone + "/chats/{peer}"
	api := console.NewAPI(controlNote, 50, func(string) int64 { return maxControlBody })
	api.Handle("GET", "/control/phones", "→ [Phone]", s.ctlPhones)
	api.Handle("POST", "/control/phones", "Phone {number, name, …} → Phone; adds or changes", s.ctlAddPhone)
	api.Handle("PATCH", phone, "some fields of Phone → Phone", s.ctlPatchPhone)
	api.Handle("POST", phone+"/scan", "{qr} → {linked}: the phone scans the text of a QR code; answers when the device is linked, or asked for a passkey", s.ctlScan)
	api.Handle("POST", phone+"/code", "{code}: the code that the client shows is typed into the phone; answers when the device is linked", s.ctlCode)
	api.Handle("POST", phone+"/unlink", "remove all linked devices", s.ctlUnlink)
	api.Handle("GET", phone+"/devices", "→ [Device]", s.ctlDevices)
	api.Handle("DELETE", phone+"/devices/{id}", "remove one", s.ctlRemove)
	api.Handle("POST", phone+"/addressing", "{mode: pn | lid} for all chats, or {person}: that one by LID", s.ctlAddressing)
	api.Handle("GET", phone+"/history", "→ [HistoryChat]", s.ctlGetHistory)
	api.Handle("PUT", phone+"/history", "[HistoryChat {peer, name?, unread?, messages: [{text, fromMe?, from?, at?, id?}]}], oldest message first, from in groups: "+
		"what devices that are linked from now on get; ?send=1 also those that are", s.ctlHistory)
	api.Handle("POST", phone+"/messages", "Incoming {from, type?, text?, …} → Delivery {id, devices}; a person, or the phone, writes", s.ctlSend)
	api.Handle("GET", conv+"/messages", "→ [Message]: what the app of the person, or group, shows", s.ctlConversation)
	api.Handle("POST", conv+"/typing", "{on: bool, from?}: the person types; from is needed in a group", s.ctlTyping)
	api.Handle("POST", conv+"/read", "{ids?: [], from?, played?: bool, delivered?: bool}: the person read all, or some", s.ctlRead)
	api.Handle("POST", conv+"/retry", "{id, from?}: the person's device asks for a client's message again", s.ctlRetry)
	api.Handle("GET", "/control/people", "→ [Person]", s.ctlPeople)
	api.Handle("POST", "/control/people", "Person {number, name, …} → Person; adds or changes", s.ctlAddPerson)
	api.Handle("GET", "/control/groups", "→ [Group]", s.ctlGroups)
	api.Handle("POST", "/control/groups", "Group {id?, subject, members, …} → Group; adds or changes", s.ctlAddGroup)
	api.Handle("GET", "/control/faults", "→ [Fault]", s.ctlFaults)
	api.Handle("POST", "/control/faults", "Fault {kind, number?, peer?, count?, …} → {id}", s.ctlSetFault)
	api.Handle("DELETE", "/control/faults", "clear all faults", s.ctlClearFaults)
	api.Handle("DELETE", "/control/faults/{id}", "clear one", s.ctlClearFault)
	api.Handle("GET", "/control/ledger", "?number=&kind=&after=&limit= → {entries, counts, pending}", s.ctlLedger)
	api.Handle("GET", "/control/ledger/inbound", "?number=&id= → [Inbound]: queued, each delivery, how it was acknowledged", s.ctlInbound)
	api.Handle("GET", "/control/ledger/sends", "?number= → [Sent]: what clients sent, each id once", s.ctlSends)
	api.Handle("DELETE", "/control/ledger", "forget all entries and counts", s.ctlResetLedger)
	api.Handle("GET", "/control/connections", "?number= → {connections, overlaps}: sockets, and where a device had two", s.ctlConnections)
	api.Handle("GET", "/control/idle", "?timeoutMs= (default 10000) answers when all messages are acknowledged, or 504", s.ctlIdle)
	api.Handle("GET", "/control/setup", "→ {lines: []}: what to set in the product", s.ctlSetup)
	api.HandleRaw("GET", "/control/files/{file}", "the bytes of a message's file", s.serveControlFile)
	api.HandleRaw("GET", "/control/events", "server-sent events: message, typing, device, phone, person, group, code, faults, ledger",
		s.events.ServeHTTP)
	api.Answer(http.StatusNotFound, ErrNotFound)
	api.Answer(http.StatusUnprocessableEntity, ErrInvalid, errPairingEnded)
	api.Answer(http.StatusServiceUnavailable, ErrClosed)
	api.Answer(http.StatusGatewayTimeout, errTimeout)
	return api.Handler(fmt.Sprintf("\nKinds of faults: %v\n", allFaults))
}

var errTimeout = errors.New("messages are not acknowledged")

// maxControlBody holds a message with a file as base64.
const maxControlBody = 64 << 20

func (s *Server) ctlPhones(*http.Request) (any, error) { return s.Phones(), nil }

func (s *Server) ctlAddPhone(r *http.Request) (any, error) {
	var p Phone
	if err := console.Read(r, &p); err != nil {
		return nil, err
	}
	return s.AddPhone(p)
}

func (s *Server) ctlPatchPhone(r *http.Request) (any, error) {
	number := r.PathValue("number")
	for _, p := range s.Phones() {
		if p.Number != number {
			continue
		}
		if err := console.Read(r, &p); err != nil {
			return nil, err
		}
		if p.Number != number {
			return nil, fmt.Errorf("%w number: it cannot change", ErrInvalid)
		}
		return s.AddPhone(p)
	}
	return nil, fmt.Errorf("phone %s: %w", number, ErrNotFound)
}

func (s *Server) ctlScan(r *http.Request) (any, error) {
	var in struct {
		QR string `json:"qr"`
	}
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	linked, err := s.scan(r.PathValue("number"), in.QR)
	return map[string]bool{"linked": linked}, err
}

func (s *Server) ctlCode(r *http.Request) (any, error) {
	var in struct {
		Code string `json:"code"`
	}
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	return nil, s.EnterCode(r.PathValue("number"), in.Code)
}

func (s *Server) ctlUnlink(r *http.Request) (any, error) { return nil, s.Unlink(r.PathValue("number")) }

func (s *Server) ctlDevices(r *http.Request) (any, error) {
	return s.Devices(r.PathValue("number")), nil
}

func (s *Server) ctlRemove(r *http.Request) (any, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", r.PathValue("id"), ErrNotFound)
	}
	return nil, s.Remove(r.PathValue("number"), uint16(id))
}

func (s *Server) ctlAddressing(r *http.Request) (any, error) {
	var in struct {
		Mode   string `json:"mode"`
		Person string `json:"person"`
	}
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	if in.Person != "" {
		return nil, s.LearnLID(r.PathValue("number"), in.Person)
	}
	return nil, s.SetAddressing(r.PathValue("number"), in.Mode)
}

func (s *Server) ctlGetHistory(r *http.Request) (any, error) {
	return s.HistoryOf(r.PathValue("number"))
}

func (s *Server) ctlHistory(r *http.Request) (any, error) {
	var in []HistoryChat
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	number := r.PathValue("number")
	if err := s.History(number, in); err != nil || r.URL.Query().Get("send") == "" {
		return nil, err
	}
	return nil, s.SyncHistory(number)
}

func (s *Server) ctlSend(r *http.Request) (any, error) {
	var in Incoming
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	return s.Send(r.PathValue("number"), in)
}

func (s *Server) ctlConversation(r *http.Request) (any, error) {
	return s.Conversation(r.PathValue("number"), r.PathValue("peer"))
}

// actor of a chat is the person, or who is named in a group.
func chatActor(r *http.Request, from string) (who, group string) {
	peer := r.PathValue("peer")
	if from == "" || from == peer {
		return peer, ""
	}
	return from, peer
}

func (s *Server) ctlTyping(r *http.Request) (any, error) {
	var in struct {
		On   bool   `json:"on"`
		From string `json:"from"`
	}
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	who, group := chatActor(r, in.From)
	return nil, s.Typing(r.PathValue("number"), who, group, in.On)
}

func (s *Server) ctlRead(r *http.Request) (any, error) {
	var in struct {
		IDs       []string `json:"ids"`
		From      string   `json:"from"`
		Played    bool     `json:"played"`
		Delivered bool     `json:"delivered"`
	}
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	who, _ := chatActor(r, in.From)
	kind := "read"
	if in.Played {
		kind = "played"
	} else if in.Delivered {
		kind = ""
	}
	return nil, s.confirm(r.PathValue("number"), who, kind, in.IDs)
}

func (s *Server) ctlRetry(r *http.Request) (any, error) {
	var in struct {
		ID   string `json:"id"`
		From string `json:"from"`
	}
	if err := console.Read(r, &in); err != nil {
		return nil, err
	}
	who, _ := chatActor(r, in.From)
	return nil, s.AskRetry(r.PathValue("number"), who, in.ID)
}

func (s *Server) ctlPeople(*http.Request) (any, error) { return s.People(), nil }

func (s *Server) ctlAddPerson(r *http.Request) (any, error) {
	var p Person
	if err := console.Read(r, &p); err != nil {
		return nil, err
	}
	return s.AddPerson(p)
}

func (s *Server) ctlGroups(*http.Request) (any, error) { return s.Groups(), nil }

func (s *Server) ctlAddGroup(r *http.Request) (any, error) {
	var g Group
	if err := console.Read(r, &g); err != nil {
		return nil, err
	}
	return s.AddGroup(g)
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

func (s *Server) ctlLedger(r *http.Request) (any, error) {
	after, err1 := console.QueryNumber(r, "after", 0)
	limit, err2 := console.QueryNumber(r, "limit", 1000)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := Filter{Number: q.Get("number"), Kind: q.Get("kind"), After: uint64(after), Limit: int(min(max(limit, 1), 10_000))} // #nosec G115 -- not negative
	return struct {
		Entries []Entry `json:"entries"`
		Counts  Counts  `json:"counts"`
		Pending int     `json:"pending"`
	}{s.ledger.Entries(f), s.ledger.Counts(), s.Pending()}, nil
}

func (s *Server) ctlInbound(r *http.Request) (any, error) {
	q := r.URL.Query()
	if id := q.Get("id"); id != "" {
		return s.ledger.InboundByID(q.Get("number"), id), nil
	}
	return s.ledger.Inbound(q.Get("number")), nil
}

func (s *Server) ctlSends(r *http.Request) (any, error) {
	return s.ledger.Sends(r.URL.Query().Get("number")), nil
}

func (s *Server) ctlConnections(r *http.Request) (any, error) {
	number := r.URL.Query().Get("number")
	return struct {
		Connections []Connection `json:"connections"`
		Overlaps    []Overlap    `json:"overlaps"`
	}{s.ledger.Connections(number), s.ledger.Overlaps(number)}, nil
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

// ctlSetup trusts the Host header: the answer is what the caller may set, for the address by which it reached the simulator.
func (s *Server) ctlSetup(r *http.Request) (any, error) {
	return map[string][]string{"lines": s.Settings("http://" + r.Host)}, nil
}
