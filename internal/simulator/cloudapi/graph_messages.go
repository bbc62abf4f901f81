package cloudapi

import (
	"encoding/json"
	"net/http"
	"slices"
)

// postMessages serves POST /{phone-number-id}/messages.
func (s *Server) postMessages(c *graphCall, n Number) {
	var out outgoing
	body, bad := readJSON(c.w, c.r, &out)
	if bad == nil {
		_ = json.Unmarshal(body, &out.content) // it is an object, as readJSON saw
	}
	if bad == nil && out.Status != "" {
		s.postRead(c, n, out)
		return
	}
	send := Send{
		To: digits(out.To), Type: out.Type, CallbackData: out.CallbackData,
		Body: jsonOrNil(body), HTTPStatus: http.StatusOK, Began: c.began, Host: c.r.Host,
	}
	plan := s.plan(about{number: n.PhoneNumberID, to: digits(out.To), endpoint: "messages"})
	if plan.drop != nil || plan.hang != nil { // before() does not come back
		lost := send
		lost.Outcome, lost.HTTPStatus = OutcomeLost, 0
		if plan.drop != nil {
			lost.FaultID = plan.drop.ID
		} else {
			lost.FaultID = plan.hang.ID
		}
		s.recordSend(n, lost)
	}
	if e := s.before(c, plan); e != nil {
		send.FaultID = plan.refuse.ID
		s.refuseSend(c, n, send, e)
		return
	}
	if bad == nil {
		bad = out.check()
	}
	send.Type = out.Type
	if bad != nil {
		s.refuseSend(c, n, send, bad)
		return
	}
	s.planAccept(&plan, about{number: n.PhoneNumberID, to: digits(out.To), endpoint: "messages"})
	m, bad := s.accept(n.PhoneNumberID, &out, plan)
	if bad != nil {
		s.refuseSend(c, n, send, bad)
		return
	}
	send.ID, send.Accepted = m.ID, true
	s.answerSend(c, n, &out, m, send, plan)
}

// planAccept adds the faults that strike only an acceptable message, so that a bad one does not use them up.
func (s *Server) planAccept(p *callPlan, a about) {
	p.windowClose = s.faults.take(FaultWindowClosed, a)
	p.statuses = s.faults.take(FaultStatuses, a)
	p.undelivered = s.faults.take(FaultUndelivered, a)
	if p.acceptDrop = s.faults.take(FaultAcceptDrop, a); p.acceptDrop == nil {
		if p.acceptHang = s.faults.take(FaultAcceptHang, a); p.acceptHang == nil {
			p.garble = s.faults.take(FaultGarble, a)
		}
	}
}

func (s *Server) recordSend(n Number, send Send) {
	s.ledger.append(Entry{Kind: KindSend, PhoneNumberID: n.PhoneNumberID, Send: &send})
}

func (s *Server) refuseSend(c *graphCall, n Number, send Send, e *graphError) {
	send.Outcome, send.Told, send.HTTPStatus, send.Code = OutcomeRefused, true, e.status, e.code
	s.recordSend(n, send)
	s.fail(c, e)
}

// accept takes the message for its customer, or says why not.
func (s *Server) accept(number string, out *outgoing, plan callPlan) (*Message, *graphError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.numbers[number]
	if n == nil {
		return nil, missingObject(http.MethodPost, number)
	}
	if e := s.acceptable(n, out); e != nil {
		return nil, e
	}
	waID := digits(out.To)
	if e := s.allow(n, waID); e != nil {
		return nil, e
	}
	m := out.message(s.templates[n.BusinessAccountID])
	m.PhoneNumberID, m.At, m.Status = number, s.opts.Now(), "accepted"
	m.answer = n.NoWindow || s.windowOpen(number, waID)
	m.conversationID = s.ids.hex(16)
	m.ID = s.ids.wamid(waID, false)
	if m.Media != nil && m.Media.ID != "" {
		stored, _ := s.media.get(m.Media.ID)
		m.Media.MIMEType = stored.mimeType
	}
	undeliverable := s.undeliverable(n, waID, out.Type, plan)
	if undeliverable != 0 && !n.AsyncErrors {
		return nil, codeError(undeliverable, "")
	}
	m.ErrorCode = undeliverable
	s.customer(waID)
	if out.Type == "reaction" {
		if target := s.byID[out.Reaction.MessageID]; target != nil {
			s.react(target, FromBusiness, *out.Reaction.Emoji)
		}
		s.byID[m.ID] = m
	} else {
		s.keep(m)
	}
	s.conv(number, waID).typingUntil = m.At
	return m, nil
}

// acceptable checks the message against what the simulator knows; it needs s.mu.
func (s *Server) acceptable(n *number, out *outgoing) *graphError {
	waID := digits(out.To)
	switch {
	case n.Unregistered:
		return codeError(133010, "")
	case waID == digits(n.DisplayPhoneNumber):
		return codeError(131021, "Recipient phone number is the sender's.")
	case out.Type == "template":
		return out.Template.fits(s.templates[n.BusinessAccountID])
	case out.Type == "reaction":
		if target := s.byID[out.Reaction.MessageID]; target == nil || target.WaID != waID || target.PhoneNumberID != n.PhoneNumberID {
			return codeError(131009, "Param reaction['message_id'] is not a message of this conversation.")
		}
	}
	if media := out.media(); media != nil && media.ID != "" {
		stored, ok := s.media.get(media.ID)
		if !ok || !s.sameAccount(stored.phoneNumberID, n) {
			return codeError(131009, "Param "+out.Type+"['id'] is not a valid whatsapp business account media attachment ID")
		}
		if !fitsKind(stored.mimeType, out.Type) {
			return codeError(131053, "The media "+stored.mimeType+" cannot be sent as "+out.Type+".")
		}
	}
	return nil
}

// undeliverable returns Meta's code for a message that cannot reach its customer, or 0; it needs s.mu.
func (s *Server) undeliverable(n *number, waID, kind string, plan callPlan) int {
	if c := s.customers[waID]; c != nil && c.Unreachable {
		return 131026
	}
	if kind != "template" && (plan.windowClose != nil || !n.NoWindow && !s.windowOpen(n.PhoneNumberID, waID)) {
		return 131047
	}
	return 0
}

// answerSend tells the caller, or not, and lets the statuses follow.
func (s *Server) answerSend(c *graphCall, n Number, out *outgoing, m *Message, send Send, plan callPlan) {
	early := plan.statuses != nil && plan.statuses.Early
	if early {
		s.follow(n, m, plan)
		distinct := slices.Compact(slices.Sorted(slices.Values(plan.statuses.Statuses)))
		s.awaitStatuses(c, m.ID, len(distinct))
	}
	silent := plan.acceptDrop
	if silent == nil {
		silent = plan.acceptHang
	}
	if silent == nil {
		silent = plan.garble
	}
	if silent != nil || c.r.Context().Err() != nil {
		send.Outcome, send.HTTPStatus = OutcomeUntold, 0
		if silent != nil {
			send.FaultID = silent.ID
		}
	} else {
		send.Outcome, send.Told = OutcomeAccepted, true
	}
	if plan.garble != nil {
		send.HTTPStatus = http.StatusBadGateway
	}
	s.recordSend(n, send)
	switch {
	case plan.acceptDrop != nil || plan.acceptHang != nil:
		if !early {
			s.follow(n, m, plan)
		}
		if plan.acceptHang != nil {
			s.hang(c.r.Context(), plan.acceptHang)
		}
		panic(http.ErrAbortHandler)
	case plan.garble != nil:
		c.w.Header().Set("Content-Type", "text/html")
		c.w.WriteHeader(http.StatusBadGateway)
		_, _ = c.w.Write([]byte("<html><head><title>502 Bad Gateway</title></head></html>"))
	default:
		s.ok(c, sendAnswer(out.To, m))
	}
	_ = http.NewResponseController(c.w).Flush() // the answer leaves before the statuses
	if !early {
		s.follow(n, m, plan)
	}
}

func sendAnswer(input string, m *Message) any {
	type contact struct {
		Input string `json:"input"`
		WaID  string `json:"wa_id"`
	}
	type message struct {
		ID     string `json:"id"`
		Status string `json:"message_status"`
	}
	return struct {
		Product  string    `json:"messaging_product"`
		Contacts []contact `json:"contacts"`
		Messages []message `json:"messages"`
	}{"whatsapp", []contact{{input, m.WaID}}, []message{{m.ID, "accepted"}}}
}

// follow queues the statuses of an accepted message.
func (s *Server) follow(n Number, m *Message, plan callPlan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	statuses, code := n.AutoStatuses, 0
	switch {
	case plan.undelivered != nil:
		statuses, code = []string{StatusFailed}, plan.undelivered.Code
	case m.ErrorCode != 0:
		statuses, code = []string{StatusFailed}, m.ErrorCode
	case plan.statuses != nil:
		statuses, code = plan.statuses.Statuses, plan.statuses.Code
	}
	if s.numbers[m.PhoneNumberID] == nil {
		return
	}
	for _, st := range statuses {
		if err := s.status(m, st, code); err != nil {
			s.log.Warn("a status was not queued", slogErr(err))
		}
	}
	if m.Type == "reaction" {
		delete(s.byID, m.ID) // a reaction is no line of the conversation
	}
}

// awaitStatuses waits until n statuses of the message were acknowledged, or the caller goes.
func (s *Server) awaitStatuses(c *graphCall, id string, n int) {
	_ = s.ledger.Wait(c.r.Context(), func(l *Ledger) bool {
		select {
		case <-s.done:
			return true
		default:
		}
		sum, _ := l.Message(id)
		return len(sum.AckedStatuses) >= n
	})
}

// postRead serves the receipt {"status":"read"}, with or without a typing indicator.
func (s *Server) postRead(c *graphCall, n Number, out outgoing) {
	plan := s.plan(about{number: n.PhoneNumberID, endpoint: "read"})
	e := s.before(c, plan)
	if e == nil {
		e = s.markRead(n.PhoneNumberID, out)
	}
	if e != nil {
		s.ledger.append(Entry{Kind: KindCall, PhoneNumberID: n.PhoneNumberID, Call: &Call{
			Method: c.r.Method, Path: c.r.URL.Path, HTTPStatus: e.status, Code: e.code,
		}})
		s.fail(c, e)
		return
	}
	s.ledger.append(Entry{Kind: KindRead, PhoneNumberID: n.PhoneNumberID, Read: &Read{
		MessageID: out.MessageID, Typing: out.TypingIndicator != nil,
	}})
	s.ok(c, success{true})
}

type success struct {
	Success bool `json:"success"`
}

func (s *Server) markRead(number string, out outgoing) *graphError {
	switch {
	case out.MessagingProduct != "whatsapp":
		return paramRequired("messaging_product")
	case out.Status != StatusRead:
		return codeError(100, "Param status must be one of {read}.")
	case out.MessageID == "":
		return paramRequired("message_id")
	case out.TypingIndicator != nil && out.TypingIndicator.Type != "text":
		return codeError(100, "Param typing_indicator['type'] must be one of {text}.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[out.MessageID]
	if m == nil || m.From != FromCustomer || m.PhoneNumberID != number {
		return codeError(131009, "Param message_id is not a customer's message to this number.")
	}
	conv := s.conv(number, m.WaID)
	for _, earlier := range conv.messages {
		if earlier.From == FromCustomer && earlier.Status != StatusRead {
			earlier.Status = StatusRead
			s.show(earlier)
		}
		if earlier == m {
			break
		}
	}
	if out.TypingIndicator != nil {
		conv.typingUntil = s.opts.Now().Add(typingLength)
		s.events.Publish("typing", map[string]any{
			"phoneNumberId": number, "waId": m.WaID, "forMs": typingLength.Milliseconds(),
		})
	}
	return nil
}
