package whatsapp

import (
	"fmt"

	"go.mau.fi/libsignal/protocol"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// sending is a message of a client while the server and the people's phones work on it.
type sending struct {
	device *device
	conn   *conn
	node   *waBinary.Node
	id     string
	to     types.JID
	peer   string // number or Group.ID
	group  *group
	own    bool // to the own phone: a peer message
	again  bool // it answers a retry receipt
	parts  []part
	rec    Sent
	read   *waE2E.Message // as the first who could read it did

	phoneRead *waE2E.Message // by the own phone

	failed []string // numbers of those who could not
}

// part is the ciphertext for one device.
type part struct {
	jid    types.JID
	number string
	enc    waBinary.Node
}

// handleMessage takes a message of a client to the people.
func (s *Server) handleMessage(c *conn, node *waBinary.Node) {
	m := s.parseSending(c, node)
	if m == nil {
		return
	}
	if m.peer == "" {
		s.refuseSending(m, &Fault{Code: 404})
		return
	}
	number := c.device.phone.Number
	if s.ledger.took(number, m.id) && !m.again {
		answer := s.answerSending(m)
		s.ledger.sentOnce(m.rec)
		answer()
		return
	}
	if f := s.faults.take(FaultLose, number, m.peer); f != nil {
		m.rec.Outcome, m.rec.FaultID = OutcomeLost, f.ID
		s.ledger.sentOnce(m.rec)
		return
	}
	if f := s.faults.take(FaultAckError, number, m.peer); f != nil {
		s.refuseSending(m, f)
		return
	}
	if s.unreachable(m) {
		s.refuseSending(m, &Fault{Code: 463})
		return
	}
	s.readSending(m)
	s.relaySending(m)
	answer := s.answerSending(m) // given when the ledger has it: who sends looks there as soon as the client is told
	if m.again {
		s.showAgain(m)
		answer()
		return
	}
	s.showSending(m)
	fresh := s.ledger.sentOnce(m.rec)
	answer()
	if fresh && m.read != nil && !m.own {
		s.confirmSending(m)
	}
	if m.own {
		s.peerRequest(m)
	}
	for _, who := range m.failed {
		if m.conn.over {
			break
		}
		s.askRetryLocked(m.device.phone, m.peer, who, m.id, m.device)
	}
}

// parseSending reads the stanza. It is nil if there is no id to answer to.
func (s *Server) parseSending(c *conn, node *waBinary.Node) *sending {
	m := &sending{device: c.device, conn: c, node: node}
	m.id, _ = node.Attrs["id"].(string)
	m.to, _ = node.Attrs["to"].(types.JID)
	if m.id == "" {
		return nil
	}
	if m.to.Server == types.GroupServer {
		if m.group = s.groups[m.to.User]; m.group != nil && contains(m.group.Members, c.device.phone.Number) {
			m.peer = m.group.ID
		}
	} else {
		m.peer = s.numberOf(m.to)
		m.own = m.peer == c.device.phone.Number
	}
	if list, ok := node.GetOptionalChildByTag("participants"); ok {
		for _, to := range list.GetChildren() {
			m.addPart(s, to.Attrs["jid"], &to)
		}
	} else if m.group == nil {
		m.addPart(s, m.to, node)
	} else {
		m.addPart(s, node.Attrs["participant"], node)
	}
	m.rec = Sent{
		Number: c.device.phone.Number, Device: c.device.id, Connection: c.seq, ID: m.id, To: m.peer, Addressing: m.to.Server,
		Outcome: OutcomeAccepted, Type: TypeUnknown,
	}
	for _, p := range m.parts {
		m.rec.Devices = append(m.rec.Devices, p.jid.String())
	}
	return m
}

func (m *sending) addPart(s *Server, jid any, in *waBinary.Node) {
	to, _ := jid.(types.JID)
	enc, ok := in.GetOptionalChildByTag("enc")
	if !ok {
		return
	}
	if _, counted := enc.Attrs["count"]; counted {
		m.again = true
	}
	m.parts = append(m.parts, part{to, s.numberOf(to), enc})
}

// unreachable is the reach-out limit: the account may not write first.
func (s *Server) unreachable(m *sending) bool {
	p := m.device.phone
	return p.ReachOutLimited && s.people[m.peer] != nil && len(p.chat(m.peer).messages) == 0
}

func (s *Server) refuseSending(m *sending, f *Fault) {
	m.rec.Outcome, m.rec.Code, m.rec.FaultID = OutcomeRefused, f.Code, f.ID
	s.ledger.sentOnce(m.rec)
	m.conn.push(waBinary.Node{Tag: "ack", Attrs: waBinary.Attrs{
		"class": "message", "id": m.id, "from": m.to, "t": s.opts.Now().Unix(), "error": f.Code,
	}})
}

// answerSending decides whether the client is told that the server has the message, or a fault keeps it from that.
func (s *Server) answerSending(m *sending) (answer func()) {
	if f := s.faults.take(FaultDropSend, m.rec.Number, m.peer); f != nil {
		m.rec.Outcome, m.rec.FaultID = OutcomeUntold, f.ID
		return func() {
			m.conn.over = true
			m.conn.cutLocked(endFault)
		}
	}
	if f := s.faults.take(FaultNoAck, m.rec.Number, m.peer); f != nil {
		m.rec.Outcome, m.rec.FaultID = OutcomeUntold, f.ID
		return func() {}
	}
	return func() {
		m.conn.push(waBinary.Node{Tag: "ack", Attrs: waBinary.Attrs{
			"class": "message", "id": m.id, "from": m.to, "t": s.opts.Now().Unix(),
		}})
	}
}

// readSending lets everybody's own device decrypt it.
func (s *Server) readSending(m *sending) {
	from := m.device.address()
	skmsg := m.groupContent()
	for _, p := range m.parts {
		a, _, ok := s.memberLocked(p.number)
		if !ok || p.jid.Device != 0 {
			continue
		}
		content, err := readPart(a, from, p.enc)
		if key := content.GetSenderKeyDistributionMessage(); err == nil && key != nil && m.group != nil {
			err = a.learnGroup(m.keyName(), key.GetAxolotlSenderKeyDistributionMessage())
		}
		if err != nil {
			s.log.Debug("a device could not decrypt a message", slogErr(err))
			m.unreadable(p.number)
		} else if p.number == m.rec.Number {
			m.phoneRead = content
		} else if skmsg == nil && (p.number == m.peer || m.group != nil) {
			m.read = content
		}
	}
	if skmsg == nil {
		return
	}
	for _, number := range m.group.Members {
		if a, _, ok := s.memberLocked(number); ok && number != m.rec.Number {
			s.readGroup(m, a, number, skmsg)
		}
	}
}

func (s *Server) readGroup(m *sending, a *actor, number string, skmsg []byte) {
	plaintext, err := a.decryptGroup(m.keyName(), skmsg)
	content := &waE2E.Message{}
	if err == nil {
		err = proto.Unmarshal(plaintext, content)
	}
	if err != nil {
		s.log.Debug("a device could not decrypt a group message", slogErr(err))
		m.unreadable(number)
		return
	}
	m.read = content
}

func (m *sending) unreadable(number string) {
	m.rec.Unreadable++
	if number != m.rec.Number && !contains(m.failed, number) {
		m.failed = append(m.failed, number)
	}
}

func (m *sending) keyName() *protocol.SenderKeyName {
	return protocol.NewSenderKeyName(m.to.String(), m.device.address())
}

// groupContent is the ciphertext for the whole group.
func (m *sending) groupContent() []byte {
	for _, child := range m.node.GetChildren() {
		if child.Tag == "enc" && child.Attrs["type"] == "skmsg" {
			return bytesOf(&child)
		}
	}
	return nil
}

func readPart(a *actor, from *protocol.SignalAddress, enc waBinary.Node) (*waE2E.Message, error) {
	kind, _ := enc.Attrs["type"].(string)
	plaintext, err := a.decrypt(from, kind, bytesOf(&enc))
	if err != nil {
		return nil, err
	}
	content := &waE2E.Message{}
	if err := proto.Unmarshal(plaintext, content); err != nil {
		return nil, fmt.Errorf("the content is not a message: %w", err)
	}
	return content, nil
}

// relaySending takes it to the other linked devices: those of the sender, and those of phones that it is for.
func (s *Server) relaySending(m *sending) {
	skmsg := m.groupContent()
	for _, p := range m.parts {
		owner := s.phones[p.number]
		if owner == nil || p.jid.Device == 0 || owner.devices[p.jid.Device] == nil {
			continue
		}
		encs := []waBinary.Node{p.enc}
		if skmsg != nil {
			encs = append(encs, waBinary.Node{Tag: "enc", Attrs: waBinary.Attrs{"v": "2", "type": "skmsg"}, Content: skmsg})
		}
		if p.enc.Attrs["type"] == "pkmsg" {
			encs = append(encs, waBinary.Node{Tag: "device-identity", Content: m.device.account})
		}
		s.relayTo(m, owner.devices[p.jid.Device], encs)
	}
}

func (s *Server) relayTo(m *sending, d *device, encs []waBinary.Node) {
	sender, alt := m.device.lid(), m.device.jid()
	mode := AddressingLID
	if m.to.Server == types.DefaultUserServer || (m.group != nil && m.group.AddressingMode == AddressingPN) {
		sender, alt, mode = alt, sender, AddressingPN
	}
	attrs := waBinary.Attrs{"id": m.id, "t": s.opts.Now().Unix(), "type": m.node.Attrs["type"], "notify": m.device.phone.Name}
	if edit, ok := m.node.Attrs["edit"]; ok {
		attrs["edit"] = edit
	}
	own := d.phone == m.device.phone
	switch {
	case m.group != nil:
		attrs["from"], attrs["participant"], attrs["addressing_mode"] = m.to, sender, mode
		attrs[altName("participant", mode)] = alt
	case own:
		attrs["from"], attrs["recipient"] = sender, m.to
		if _, other := s.names(m.peer, mode); !other.IsEmpty() {
			attrs[altName("peer_recipient", mode)] = other
		}
	default:
		attrs["from"] = sender
		attrs[altName("sender", mode)] = alt
	}
	in := Inbound{Number: d.phone.Number, Device: d.id, ID: m.id, From: m.rec.Number, FromMe: own, Type: "relayed"}
	if m.group != nil {
		in.Group = m.group.ID
	}
	s.enqueueLocked(d, &queued{
		class: classMessage, id: m.id, peer: m.peer, node: waBinary.Node{Tag: "message", Attrs: attrs, Content: encs}, key: s.ledger.queued(in),
	})
}

// showSending lets the people's apps show it.
func (s *Server) showSending(m *sending) {
	if m.own {
		m.rec.Type = "peer"
		return
	}
	p := m.device.phone
	p.chat(m.peer).to = m.to.ToNonAD()
	shown := &Message{ID: m.id, FromMe: true, From: p.Number, Device: m.device.id, At: s.opts.Now().UTC(), Status: StatusSent}
	if m.read == nil {
		shown.Type, shown.Error = TypeUndecryptable, "no device could decrypt it"
		p.chat(m.peer).add(shown)
		return
	}
	s.describeSending(m, shown)
	s.applyLocked(p, m.peer, shown, m.read)
	s.showOthers(m, shown)
}

func (s *Server) describeSending(m *sending, shown *Message) {
	var probe Message
	s.fill(&probe, unwrap(m.read))
	m.rec.Type, m.rec.Text = probe.Type, probe.Text
	if probe.Caption != "" {
		m.rec.Text = probe.Caption
	}
	shown.Type = probe.Type
}

// showOthers lets other phones have it in their chats.
func (s *Server) showOthers(m *sending, shown *Message) {
	if m.group == nil {
		if other := s.phones[m.peer]; other != nil {
			theirs := *shown
			theirs.FromMe = false
			s.applyLocked(other, m.rec.Number, &theirs, m.read)
		}
		return
	}
	for _, number := range m.group.Members {
		if other := s.phones[number]; other != nil && other != m.device.phone {
			theirs := *shown
			theirs.FromMe = false
			s.applyLocked(other, m.peer, &theirs, m.read)
		}
	}
}

// showAgain is the answer to a retry receipt: who could not read the message can now.
func (s *Server) showAgain(m *sending) {
	if m.read == nil {
		s.ledger.answered(m.rec.Number, m.id, nil)
		return
	}
	var read Message
	s.fill(&read, unwrap(m.read))
	s.ledger.answered(m.rec.Number, m.id, &read)
	have := m.device.phone.chat(m.peer).find(m.id)
	if have == nil || have.Error == "" {
		return
	}
	have.Error, have.Type = "", ""
	s.fill(have, unwrap(m.read))
	s.confirmSending(m)
}
