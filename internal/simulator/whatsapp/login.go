package whatsapp

import (
	"crypto/subtle"
	"fmt"
	"strconv"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// begin decides, after the handshake, whether the client may log in or pair. It says whether stanzas are to be read.
func (s *Server) begin(c *conn) bool {
	if reg := c.ses.payload.GetDevicePairingData(); reg != nil {
		return s.beginPairing(c, reg)
	}
	return s.login(c)
}

// login answers a client that says which device it is.
func (s *Server) login(c *conn) bool {
	number := strconv.FormatUint(c.ses.payload.GetUsername(), 10)
	if f := s.faults.take(FaultSlowLogin, number, ""); f != nil && f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.done:
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var d *device
	if p := s.phones[number]; p != nil {
		d = p.devices[uint16(c.ses.payload.GetDevice())] // #nosec G115 -- an unknown one is none
	}
	if d != nil && subtle.ConstantTimeCompare(d.noise[:], c.ses.clientStatic[:]) != 1 {
		d = nil // somebody else
	}
	s.ledger.update(c.rec, "", func(r *Connection) {
		r.Number, r.Device = number, uint16(c.ses.payload.GetDevice()) // #nosec G115 -- as the client says
	})
	if f := s.loginFault(number); f != nil {
		why := failure(f)
		if d != nil {
			s.loggedOutLocked(d, why)
		}
		s.refuseLocked(c, why)
		return true
	}
	if d == nil {
		s.refuseLocked(c, failure(&Fault{Kind: FaultLoggedOut, Code: 401}))
		return true
	}
	if s.faults.take(FaultReplace, number, "") != nil { // the other login is quicker
		c.finishLocked(endReplaced, conflict("replaced", ""))
		return true
	}
	s.loggedInLocked(c, d)
	return true
}

func (s *Server) loginFault(number string) *Fault {
	for _, kind := range []FaultKind{FaultBan, FaultOutdated, FaultLoggedOut, FaultUnavailable, FaultFailure} {
		if f := s.faults.take(kind, number, ""); f != nil {
			return f
		}
	}
	return nil
}

func failure(f *Fault) waBinary.Node {
	attrs := waBinary.Attrs{"reason": f.Code, "location": "sim"}
	if f.Kind == FaultBan {
		attrs = waBinary.Attrs{"reason": 402, "code": f.Code, "expire": f.ExpireSeconds}
	}
	return waBinary.Node{Tag: "failure", Attrs: attrs}
}

// loggedOutLocked notes that a failure makes the device's client forget its keys: it does not come back for what waits.
func (s *Server) loggedOutLocked(d *device, why waBinary.Node) {
	if code, _ := why.Attrs["reason"].(int); !events.ConnectFailureReason(code).IsLoggedOut() {
		return
	}
	d.loggedOut = true
	s.changedLocked()
	s.events.Publish("device", d.view())
}

func (s *Server) refuseLocked(c *conn, node waBinary.Node) {
	code, _ := node.Attrs["reason"].(int)
	s.ledger.update(c.rec, "failure", func(r *Connection) { r.Code = code })
	c.finishLocked(endFailure, node)
}

func (s *Server) loggedInLocked(c *conn, d *device) {
	old := d.conn
	c.device, d.conn, d.available, d.loggedOut = d, c, false, false
	d.swallow = map[string]bool{}
	s.ledger.update(c.rec, "login", func(r *Connection) { r.LoggedInAt = time.Now().UTC() })
	if old != nil {
		s.replaceLocked(old, c)
	}
	now := s.opts.Now()
	c.push(waBinary.Node{Tag: "success", Attrs: waBinary.Attrs{
		"t": now.Unix(), "lid": d.lid(), "location": "sim", "creation": d.linkedAt.Unix(),
	}})
	s.events.Publish("device", d.view())
}

// replaceLocked tells the older socket of a device that another one replaced it, unless its client turns out to be gone:
// its end may have been on the way when the new one came.
func (s *Server) replaceLocked(old, by *conn) {
	time.AfterFunc(s.opts.GoneGrace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, open := s.conns[old]; !open || s.closed || old.over {
			return
		}
		s.ledger.overlap(old.rec, by.rec)
		old.finishLocked(endReplaced, conflict("replaced", ""))
	})
}

func conflict(kind, code string) waBinary.Node {
	n := waBinary.Node{Tag: "stream:error", Content: []waBinary.Node{{Tag: "conflict", Attrs: waBinary.Attrs{"type": kind}}}}
	if code != "" {
		n.Attrs = waBinary.Attrs{"code": code}
	}
	return n
}

func streamError(code int) waBinary.Node {
	return waBinary.Node{Tag: "stream:error", Attrs: waBinary.Attrs{"code": strconv.Itoa(code)}}
}

// strike is the work of faults that strike at once. It says how many sockets it hit.
func (s *Server) strike(f Fault) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	hit := 0
	for _, c := range s.socketsOf(f.Number) {
		if f.Count > 0 && hit == f.Count {
			break
		}
		hit++
		switch f.Kind {
		case FaultReplace:
			s.leaveLocked(c)
			c.finishLocked(endReplaced, conflict("replaced", ""))
		case FaultStreamError:
			s.leaveLocked(c)
			c.finishLocked(endFault, streamError(f.Code))
		case FaultHalfOpen:
			c.deaf = true
		case FaultDrop:
			c.cutLocked(endFault)
		}
	}
	return hit
}

// leaveLocked takes a socket off its device: it is not logged in any more.
func (s *Server) leaveLocked(c *conn) {
	if d := c.device; d != nil && d.conn == c {
		d.conn, d.available = nil, false
		s.events.Publish("device", d.view())
	}
}

// Unlink removes all linked devices of a phone: those that are online get a device_removed stream error, the others 401
// when they log in. What waits for them is lost.
func (s *Server) Unlink(number string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	for _, d := range p.devices {
		s.removeLocked(d)
	}
	return nil
}

// Remove removes one linked device of a phone, as Unlink does all.
func (s *Server) Remove(number string, id uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	d := p.devices[id]
	if d == nil {
		return fmt.Errorf("device %d of phone %s: %w", id, number, ErrNotFound)
	}
	s.removeLocked(d)
	s.devicesChangedLocked(p)
	return nil
}

func (s *Server) removeLocked(d *device) {
	delete(d.phone.devices, d.id)
	for _, q := range d.queue {
		if q.class == classMessage {
			s.ledger.lost(q.key)
		}
	}
	d.queue, d.waiting = nil, 0
	if c := d.conn; c != nil {
		s.leaveLocked(c)
		c.finishLocked(endRemoved, conflict("device_removed", "401"))
	}
	s.changedLocked()
	s.events.Publish("device", d.view())
}

// serverNode is a stanza of the server itself.
func serverNode(tag, id string, attrs waBinary.Attrs, content ...waBinary.Node) waBinary.Node {
	if attrs == nil {
		attrs = waBinary.Attrs{}
	}
	attrs["from"], attrs["id"] = types.ServerJID, id
	n := waBinary.Node{Tag: tag, Attrs: attrs}
	if len(content) > 0 {
		n.Content = content
	}
	return n
}
