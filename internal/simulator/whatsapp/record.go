package whatsapp

import (
	"cmp"
	"slices"
	"time"
)

const handoversKept = 16 // of one inbound message

// queued begins the life of an inbound message.
func (l *Ledger) queued(in Inbound) inboundKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serial++
	key := inboundKey{in.Number, in.Device, l.serial}
	in.QueuedAt = l.now().UTC()
	l.inbound[key] = &in
	if old, full := l.known.Push(key, l.limit); full {
		delete(l.inbound, old)
	}
	l.counts.Inbound++
	l.inboundLine("queued", in)
	return key
}

func (l *Ledger) inboundLine(what string, in Inbound) {
	in.Deliveries = nil // lines stay small; Inbound has them
	l.appendLocked(Entry{Kind: KindInbound, What: what, Number: in.Number, Device: in.Device, Inbound: &in})
}

// delivered counts that an inbound message was written to a socket.
func (l *Ledger) delivered(key inboundKey, connection uint64, offline bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.inbound[key]
	if in == nil {
		return
	}
	if in.Times++; in.Times == 1 {
		l.counts.Delivered++
	} else {
		l.counts.Again++
	}
	if len(in.Deliveries) < handoversKept {
		in.Deliveries = append(in.Deliveries, Handover{connection, time.Now().UTC(), offline})
	}
	l.inboundLine("delivered", *in)
}

// acked ends the life of an inbound message.
func (l *Ledger) acked(key inboundKey, how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Acked++
	in := l.inbound[key]
	if in == nil {
		return
	}
	in.Acked, in.AckedAt = how, l.now().UTC()
	l.inboundLine("acked", *in)
}

func (l *Ledger) lost(key inboundKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Lost++
	if in := l.inbound[key]; in != nil {
		in.Lost = true
		l.inboundLine("lost", *in)
	}
}

// sentOnce records a message of a client. It says whether the id is new; an id that was refused before is new again.
func (l *Ledger) sentOnce(s Sent) (fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := sendKey{s.Number, s.ID}
	s.At = l.now().UTC()
	old := l.sends[key]
	took := s.Outcome == OutcomeAccepted || s.Outcome == OutcomeUntold
	if old != nil && (old.Outcome == OutcomeAccepted || old.Outcome == OutcomeUntold) {
		old.Repeats++
		l.counts.Repeats++
		if s.Outcome == OutcomeAccepted && old.Outcome == OutcomeUntold {
			old.Outcome = OutcomeAccepted
			l.counts.Told++
		}
		line := *old
		l.appendLocked(Entry{Kind: KindSend, What: "repeated", Number: s.Number, Device: s.Device, Send: &line})
		return false
	}
	if old != nil {
		s.Repeats = old.Repeats + 1
		l.counts.Repeats++
	} else {
		l.counts.Sends++
		if gone, full := l.sent.Push(key, l.limit); full {
			delete(l.sends, gone)
		}
	}
	l.sends[key] = &s
	if took {
		l.counts.Accepted++
	}
	if s.Outcome == OutcomeAccepted || s.Outcome == OutcomeRefused {
		l.counts.Told++
	}
	line := s
	l.appendLocked(Entry{Kind: KindSend, What: "sent", Number: s.Number, Device: s.Device, Send: &line})
	return true
}

// took says whether people got a message under this id before.
func (l *Ledger) took(number, id string) bool {
	s, ok := l.SendByID(number, id)
	return ok && (s.Outcome == OutcomeAccepted || s.Outcome == OutcomeUntold)
}

func (l *Ledger) receipt(number string, device uint16, r Receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Receipts++
	l.appendLocked(Entry{Kind: KindReceipt, What: r.Type, Number: number, Device: device, Receipt: &r})
}

func (l *Ledger) connected(remote string) *Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.connSeq++
	c := &Connection{Seq: l.connSeq, Remote: remote, ConnectedAt: time.Now().UTC()}
	l.open = append(l.open, c)
	l.wakeLocked()
	return c
}

// update changes a Connection, which is guarded by l.mu, and writes a line if what is not empty.
func (l *Ledger) update(c *Connection, what string, change func(*Connection)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(c)
	switch what {
	case "":
		l.wakeLocked()
		return
	case "login":
		l.counts.Logins++
	case "failure":
		l.counts.Failures++
	}
	line := *c
	l.appendLocked(Entry{Kind: KindConnection, What: what, Number: c.Number, Device: c.Device, Connection: &line})
}

func (l *Ledger) disconnected(c *Connection, why string) {
	l.update(c, "end", func(c *Connection) { c.EndedAt, c.Ended = time.Now().UTC(), why })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = slices.DeleteFunc(l.open, func(have *Connection) bool { return have == c })
	l.ended.Push(c, l.limit)
	l.wakeLocked()
}

func (l *Ledger) overlap(earlier, later *Connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Overlaps++
	if len(l.overlaps) < l.limit {
		l.overlaps = append(l.overlaps, Overlap{later.Number, later.Device, earlier.Seq, later.Seq, later.LoggedInAt})
	}
	l.wakeLocked()
}

// answered counts that a client sent a message again for a retry receipt. read is
// what people then see; nil: they still cannot read it.
func (l *Ledger) answered(number, id string, read *Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sends[sendKey{number, id}]
	if s == nil {
		return
	}
	s.Retried++
	switch {
	case read == nil:
		s.Unreadable++
	case s.Type == "": // nobody could read it before
		s.Type, s.Text = read.Type, cmp.Or(read.Caption, read.Text)
	}
	line := *s
	l.appendLocked(Entry{Kind: KindSend, What: "retried", Number: number, Device: s.Device, Send: &line})
}

// life is the life of an inbound message so far.
func (l *Ledger) life(key inboundKey) Inbound {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in := l.inbound[key]; in != nil {
		return *in
	}
	return Inbound{Number: key.number, Device: key.device}
}
