package whatsapp

import (
	"maps"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// Classes of what waits for a device, as acks name them.
const (
	classMessage      = "message"
	classReceipt      = "receipt"
	classNotification = "notification"
)

// queued is a stanza that waits for a device until the client acknowledged it. The ciphertext stays the same for every
// delivery, as WhatsApp's does.
type queued struct {
	class string
	id    string
	kind  string // type attribute of a receipt
	peer  string // number or Group.ID
	node  waBinary.Node
	key   inboundKey // of a message
	times int        // delivered
	own   bool       // what the phone tells its device: faults of messages spare it
}

// plain says that somebody wrote it.
func (q *queued) plain() bool { return q.class == classMessage && !q.own }

// enqueueLocked lets a stanza wait for a device, and delivers it if the device is there.
func (s *Server) enqueueLocked(d *device, q *queued) {
	if len(d.queue) >= s.opts.QueueSize {
		if old := d.queue[0]; old.class == classMessage {
			d.waiting--
			s.ledger.lost(old.key)
		}
		d.queue = d.queue[1:]
	}
	d.queue = append(d.queue, q)
	if q.class == classMessage {
		d.waiting++
	}
	s.changedLocked()
	if d.conn == nil || !d.conn.active || d.conn.over {
		return
	}
	if q.plain() && d.held == nil && s.faults.take(FaultReorder, d.phone.Number, q.peer) != nil {
		d.held = q
		return
	}
	s.deliverLocked(d, q, false)
	if held := d.held; held != nil && q.plain() {
		d.held = nil
		s.deliverLocked(d, held, false)
	}
}

// deliverLocked writes a stanza to the device's socket.
func (s *Server) deliverLocked(d *device, q *queued, offline bool) {
	c := d.conn
	if c.deaf {
		return
	}
	node := q.node
	if offline {
		node.Attrs = maps.Clone(node.Attrs)
		node.Attrs["offline"] = min(q.times, 9)
	}
	q.times++
	if q.class != classMessage {
		c.push(node)
		return
	}
	s.ledger.delivered(q.key, c.seq, offline)
	if q.plain() && s.faults.take(FaultDropBack, d.phone.Number, q.peer) != nil {
		c.finishLocked(endFault, node)
		s.leaveLocked(c)
		return
	}
	c.push(node)
	if q.plain() && s.faults.take(FaultDuplicate, d.phone.Number, q.peer) != nil {
		s.ledger.delivered(q.key, c.seq, offline)
		c.push(node)
	}
}

// activeLocked is the client that asks for what waits, after its login.
func (s *Server) activeLocked(c *conn, node *waBinary.Node) {
	if _, ok := node.GetOptionalChildByTag("active"); !ok || c.active || c.device == nil || c.device.conn != c {
		return
	}
	d := c.device
	c.active, d.held = true, nil
	s.ledger.update(c.rec, "", func(r *Connection) { r.ActiveAt = time.Now().UTC() })
	waiting := slices.Clone(d.queue)
	count := map[string]int{}
	for _, q := range waiting {
		count[q.class]++
	}
	if len(waiting) > 0 {
		c.push(waBinary.Node{Tag: "ib", Attrs: waBinary.Attrs{"from": types.ServerJID}, Content: []waBinary.Node{{Tag: "offline_preview", Attrs: waBinary.Attrs{
			"count": len(waiting), "message": count[classMessage], "receipt": count[classReceipt],
			"notification": count[classNotification], "appdata": 0,
		}}}})
	}
	for _, q := range waiting {
		if d.conn != c || c.over {
			return // a fault cut it
		}
		s.deliverLocked(d, q, true)
	}
	c.push(waBinary.Node{Tag: "ib", Attrs: waBinary.Attrs{"from": types.ServerJID}, Content: []waBinary.Node{
		{Tag: "offline", Attrs: waBinary.Attrs{"count": len(waiting)}},
	}})
	s.events.Publish("device", d.view())
	if d.needsHistory {
		d.needsHistory = false
		s.welcomeLocked(d)
	}
}

// forgetLocked takes the first stanza of the class and id off the queue.
func (s *Server) forgetLocked(d *device, class, id, kind, how string) *queued {
	i := slices.IndexFunc(d.queue, func(q *queued) bool {
		return q.class == class && q.id == id && (class != classReceipt || q.kind == kind)
	})
	if i < 0 {
		return nil
	}
	q := d.queue[i]
	d.queue = slices.Delete(d.queue, i, i+1)
	if d.held == q {
		d.held = nil
	}
	if class == classMessage {
		d.waiting--
		s.ledger.acked(q.key, how)
	}
	s.changedLocked()
	return q
}

// handleAck is a client that acknowledges a stanza without a receipt.
func (s *Server) handleAck(c *conn, node *waBinary.Node) {
	class, _ := node.Attrs["class"].(string)
	id, _ := node.Attrs["id"].(string)
	kind, _ := node.Attrs["type"].(string)
	if class == classMessage && c.device.swallow[id] {
		delete(c.device.swallow, id) // a retry receipt said all
		return
	}
	how := "ack"
	if code, ok := node.Attrs["error"].(string); ok {
		how += " " + code
	}
	s.forgetLocked(c.device, class, id, kind, how)
}

// notifyLocked queues a notification for a device.
func (s *Server) notifyLocked(d *device, attrs waBinary.Attrs, content ...waBinary.Node) {
	id := s.stanzaID()
	attrs["id"], attrs["t"] = id, s.opts.Now().Unix()
	s.enqueueLocked(d, &queued{class: classNotification, id: id, node: waBinary.Node{Tag: "notification", Attrs: attrs, Content: content}})
}

// devicesChangedLocked tells a phone's devices which ones there are.
func (s *Server) devicesChangedLocked(p *phone) {
	for _, d := range p.devices {
		var list []waBinary.Node
		for _, have := range s.deviceList(p.Number) {
			id, _ := have.Attrs["id"].(int)
			jid := lidJID(p.LID)
			jid.Device = uint16(id) // #nosec G115 -- ids are small
			list = append(list, waBinary.Node{Tag: "device", Attrs: waBinary.Attrs{"jid": jid}})
		}
		if d.conn != nil {
			s.notifyLocked(d, waBinary.Attrs{"from": lidJID(p.LID), "type": "account_sync"},
				waBinary.Node{Tag: "devices", Attrs: waBinary.Attrs{"dhash": "changed"}, Content: list})
		}
	}
}
