package whatsapp

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

const maxRetries = 5 // receipts for one message that anybody answers

// handleReceipt is a client that got, or read, or could not read a message.
func (s *Server) handleReceipt(c *conn, node *waBinary.Node) {
	d := c.device
	kind, _ := node.Attrs["type"].(string)
	to, _ := node.Attrs["to"].(types.JID)
	peer := to.User
	if to.Server != types.GroupServer {
		peer = s.numberOf(to)
	}
	r := Receipt{Type: kind, IDs: receiptIDs(node), Peer: peer, Connection: c.seq}
	if len(r.IDs) == 0 {
		return
	}
	s.ledger.receipt(d.phone.Number, d.id, r)
	switch kind {
	case "", "inactive", "sender", "peer_msg":
		how := "receipt"
		if kind != "" {
			how += " " + kind
		}
		for _, id := range r.IDs {
			s.forgetLocked(d, classMessage, id, "", how)
		}
		if kind == "" || kind == "inactive" {
			s.seenLocked(d.phone, peer, StatusDelivered, r.IDs)
		}
	case "read", "played":
		s.seenLocked(d.phone, peer, kind, r.IDs)
	case "retry":
		s.handleRetry(d, node, r.IDs[0])
	case "server-error":
		s.mediaRetryLocked(d, node, r.IDs[0])
	}
}

func receiptIDs(node *waBinary.Node) []string {
	var ids []string
	if id, ok := node.Attrs["id"].(string); ok && id != "" {
		ids = append(ids, id)
	}
	list, ok := node.GetOptionalChildByTag("list")
	if !ok {
		return ids
	}
	for _, item := range list.GetChildren() {
		if id, ok := item.Attrs["id"].(string); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

var rank = map[string]int{"": 0, StatusSent: 1, StatusDelivered: 2, StatusRead: 3, StatusPlayed: 4}

// seenLocked shows the people's apps how far a message that they wrote got.
func (s *Server) seenLocked(p *phone, peer, status string, ids []string) {
	ch := p.chats[peer]
	if ch == nil {
		return
	}
	for _, id := range ids {
		if m := ch.find(id); m != nil && rank[status] > rank[m.Status] {
			m.Status = status
			s.events.Publish("message", map[string]any{"number": p.Number, "peer": peer, "message": m.copy()})
		}
	}
}

// handleRetry is a client that could not decrypt a message: who wrote it sends it again.
func (s *Server) handleRetry(d *device, node *waBinary.Node, id string) {
	if s.forgetLocked(d, classMessage, id, "", "retry") != nil {
		d.swallow[id] = true
	}
	retry := node.GetChildByTag("retry")
	count, _ := strconv.Atoi(fmt.Sprint(retry.Attrs["count"]))
	o := d.phone.outbox.byID[id]
	if o == nil {
		s.forwardRetry(d, node)
		return
	}
	if (o.garbled || o.absent) && !o.answered || count >= maxRetries {
		return
	}
	if err := s.resendLocked(d, o, count, retryKeys(node)); err != nil {
		s.log.Error("a message could not be sent again", slogErr(err))
	}
}

// forwardRetry takes the receipt to the linked device that wrote the message.
func (s *Server) forwardRetry(d *device, node *waBinary.Node) {
	to, _ := node.Attrs["to"].(types.JID)
	if who, ok := node.Attrs["participant"].(types.JID); ok {
		to = who
	}
	p := s.phones[s.numberOf(to)]
	if p == nil || p.devices[to.Device] == nil {
		return
	}
	attrs := waBinary.Attrs{"id": node.Attrs["id"], "type": "retry", "t": s.opts.Now().Unix(), "from": d.lid()}
	if group, ok := node.Attrs["to"].(types.JID); ok && group.Server == types.GroupServer {
		attrs["from"], attrs["participant"] = group, d.lid()
	}
	if recipient, ok := node.Attrs["recipient"]; ok {
		attrs["recipient"] = recipient
	}
	s.enqueueLocked(p.devices[to.Device], &queued{
		class: classReceipt, id: receiptIDs(node)[0], kind: "retry",
		node: waBinary.Node{Tag: "receipt", Attrs: attrs, Content: node.GetChildren()},
	})
}

// retryKeys are the keys that a client sends with a retry receipt when it wants a new session.
func retryKeys(node *waBinary.Node) *bundle {
	sent, ok := node.GetOptionalChildByTag("keys")
	if !ok {
		return nil
	}
	skey, once := sent.GetChildByTag("skey"), sent.GetChildByTag("key")
	identity, reg, pub := content(&sent, "identity"), content(node, "registration"), content(&once, "value")
	signed, sig := content(&skey, "value"), content(&skey, "signature")
	if len(identity) != 32 || len(reg) != 4 || len(signed) != 32 || len(sig) != 64 || len(pub) != 32 {
		return nil
	}
	return &bundle{
		registration: binary.BigEndian.Uint32(reg), identity: [32]byte(identity), signature: [64]byte(sig),
		signed: publicKey{keyID(content(&skey, "id")), [32]byte(signed)}, once: &publicKey{keyID(content(&once, "id")), [32]byte(pub)},
	}
}

// confirmSending lets the people's phones confirm that they got a client's message.
func (s *Server) confirmSending(m *sending) {
	if s.opts.NoAutoReceipts || s.faults.take(FaultNoReceipt, m.rec.Number, m.peer) != nil {
		return
	}
	p := m.device.phone
	if m.group == nil {
		s.confirmLocked(p, m.peer, m.peer, "", []string{m.id})
		return
	}
	for _, number := range m.group.Members {
		if number != p.Number && !contains(m.failed, number) {
			s.confirmLocked(p, m.peer, number, "", []string{m.id})
		}
	}
}

// receiptFrom are the attributes of a receipt from somebody, about messages in a chat.
func (s *Server) receiptFrom(p *phone, peer, who string) waBinary.Attrs {
	attrs := waBinary.Attrs{"t": s.opts.Now().Unix()}
	if g := s.groups[peer]; g != nil {
		name, _ := s.names(who, g.AddressingMode)
		attrs["from"], attrs["participant"] = groupJID(peer), name
		return attrs
	}
	attrs["from"] = p.chat(peer).to
	if p.chat(peer).to.IsEmpty() {
		attrs["from"], _ = s.names(who, s.modeOf(p, who))
	}
	return attrs
}

// confirmLocked sends a receipt of somebody to every device of the phone.
func (s *Server) confirmLocked(p *phone, peer, who, kind string, ids []string) {
	for _, d := range p.devices {
		attrs := s.receiptFrom(p, peer, who)
		attrs["id"], attrs["type"] = ids[0], kind
		node := waBinary.Node{Tag: "receipt", Attrs: attrs}
		if len(ids) > 1 {
			items := make([]waBinary.Node, 0, len(ids)-1)
			for _, id := range ids[1:] {
				items = append(items, waBinary.Node{Tag: "item", Attrs: waBinary.Attrs{"id": id}})
			}
			node.Content = []waBinary.Node{{Tag: "list", Content: items}}
		}
		s.enqueueLocked(d, &queued{class: classReceipt, id: ids[0], kind: kind, peer: peer, node: node})
	}
	status := kind
	if kind == "" {
		status = StatusDelivered
	}
	s.seenLocked(p, peer, status, ids)
}

// Read sends a person's read receipt for messages that devices of the phone sent to them, or to a group of theirs; without
// ids for all in their chat.
func (s *Server) Read(number, from string, ids ...string) error {
	return s.confirm(number, from, "read", ids)
}

// Played sends a person's receipt for voice messages that they heard.
func (s *Server) Played(number, from string, ids ...string) error {
	return s.confirm(number, from, "played", ids)
}

// Deliver sends a person's delivery receipt. Their phones do it by themselves, unless Options.NoAutoReceipts or a fault
// keeps them from it.
func (s *Server) Deliver(number, from string, ids ...string) error {
	return s.confirm(number, from, "", ids)
}

func (s *Server) confirm(number, from, kind string, ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	if s.people[from] == nil && s.phones[from] == nil {
		return fmt.Errorf("person %s: %w", from, ErrNotFound)
	}
	if len(ids) == 0 {
		for _, m := range p.chat(from).messages {
			if m.FromMe && m.Status != "" {
				ids = append(ids, m.ID)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	peer := s.chatOf(p, from, ids[0])
	if peer == "" {
		return fmt.Errorf("message %s: %w", ids[0], ErrNotFound)
	}
	s.confirmLocked(p, peer, from, kind, ids)
	return nil
}

// chatOf finds in which chat with somebody a message is.
func (s *Server) chatOf(p *phone, who, id string) string {
	if p.chat(who).find(id) != nil {
		return who
	}
	for _, g := range s.groups {
		if contains(g.Members, who) && p.chat(g.ID).find(id) != nil {
			return g.ID
		}
	}
	return ""
}

// AskRetry lets a person's device ask for a message of a client again, as if it could not decrypt it. It sends fresh keys;
// what the client answers is encrypted for these. Ledger.Sends shows the answer.
func (s *Server) AskRetry(number, from, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	peer := s.chatOf(p, from, id)
	if peer == "" {
		return fmt.Errorf("message %s to %s: %w", id, from, ErrNotFound)
	}
	m := p.chat(peer).find(id)
	d := p.devices[m.Device]
	if d == nil || !m.FromMe {
		return fmt.Errorf("%w message %s: no linked device sent it", ErrInvalid, id)
	}
	s.askRetryLocked(p, peer, from, id, d)
	return nil
}

func (s *Server) askRetryLocked(p *phone, peer, who, id string, d *device) {
	a, _, ok := s.memberLocked(who)
	ch := p.chat(peer)
	ch.asked[id+" "+who]++
	count := ch.asked[id+" "+who]
	if !ok || count >= maxRetries {
		return
	}
	delete(a.Sessions, d.address().String())
	keys := a.bundle()
	nodes := keys.nodes()
	attrs := s.receiptFrom(p, peer, who)
	attrs["id"], attrs["type"] = id, "retry"
	s.enqueueLocked(d, &queued{class: classReceipt, id: id, kind: "retry", peer: peer, node: waBinary.Node{Tag: "receipt", Attrs: attrs, Content: []waBinary.Node{
		{Tag: "retry", Attrs: waBinary.Attrs{"count": count, "id": id, "t": s.opts.Now().Unix(), "v": 1}},
		nodes[0],
		{Tag: "keys", Content: slices.Clone(nodes[1:])},
	}}})
}
