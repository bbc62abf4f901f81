package whatsapp

import (
	"fmt"
	"strconv"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// handlePresence is about who is online.
func (s *Server) handlePresence(c *conn, node *waBinary.Node) {
	switch node.Attrs["type"] {
	case "available", "unavailable":
		c.device.available = node.Attrs["type"] == "available"
		s.events.Publish("device", c.device.view())
		s.ledger.notify()
	case "subscribe":
		to, _ := node.Attrs["to"].(types.JID)
		c.push(waBinary.Node{Tag: "presence", Attrs: waBinary.Attrs{
			"from": to, "type": "unavailable", "last": strconv.FormatInt(s.opts.Now().Add(-time.Minute).Unix(), 10),
		}})
	}
}

// handleChatState is a client that types.
func (s *Server) handleChatState(c *conn, node *waBinary.Node) {
	to, _ := node.Attrs["to"].(types.JID)
	peer := to.User
	if to.Server != types.GroupServer {
		peer = s.numberOf(to)
	}
	children := node.GetChildren()
	if peer == "" || len(children) != 1 {
		return
	}
	ch := c.device.phone.chat(peer)
	ch.typing = time.Time{}
	if children[0].Tag == "composing" {
		ch.typing = time.Now().Add(25 * time.Second) // as long as apps show it
	}
	s.events.Publish("typing", map[string]any{"number": c.device.phone.Number, "peer": peer, "on": children[0].Tag == "composing"})
	s.ledger.notify()
}

// Typing shows "typing…" of a person, in their chat or in a group, or ends it. As from WhatsApp it reaches only devices that
// sent presence available, and is not kept for others.
func (s *Server) Typing(number, from, group string, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	if s.people[from] == nil {
		return fmt.Errorf("person %s: %w", from, ErrNotFound)
	}
	attrs := waBinary.Attrs{}
	if g := s.groups[group]; g != nil {
		attrs["from"] = groupJID(group)
		attrs["participant"], _ = s.names(from, g.AddressingMode)
	} else if group != "" {
		return fmt.Errorf("group %s: %w", group, ErrNotFound)
	} else {
		attrs["from"], _ = s.names(from, s.modeOf(p, from))
	}
	state := "paused"
	if on {
		state = "composing"
	}
	for _, d := range p.devices {
		if d.available && d.conn != nil && d.conn.active {
			d.conn.push(waBinary.Node{Tag: "chatstate", Attrs: attrs, Content: []waBinary.Node{{Tag: state}}})
		}
	}
	return nil
}
