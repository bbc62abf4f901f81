package whatsapp

import (
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// iqGroups is about groups: one, or all that the phone is in.
func (s *Server) iqGroups(p *phone, node *waBinary.Node) waBinary.Node {
	to, _ := node.Attrs["to"].(types.JID)
	if to.User == "" {
		var all []waBinary.Node
		for _, id := range s.order.groups {
			if g := s.groups[id]; contains(g.Members, p.Number) {
				all = append(all, s.describeGroup(g))
			}
		}
		return iqResult(node, waBinary.Node{Tag: "groups", Content: all})
	}
	g := s.groups[to.User]
	if g == nil {
		return iqError(node, 404, "item-not-found")
	}
	if !contains(g.Members, p.Number) {
		return iqError(node, 403, "forbidden")
	}
	if node.Attrs["type"] != "get" {
		return iqError(node, 501, "feature-not-implemented")
	}
	return iqResult(node, s.describeGroup(g))
}

func (s *Server) describeGroup(g *group) waBinary.Node {
	attrs := waBinary.Attrs{
		"id": g.ID, "subject": g.Subject, "creation": g.created.Unix(), "s_t": g.created.Unix(), "size": len(g.Members),
		"addressing_mode": g.AddressingMode,
	}
	members := s.participants(g, g.Members)
	if len(members) > 0 {
		attrs["creator"] = members[0].Attrs["jid"]
		members[0].Attrs["type"] = "superadmin"
	}
	return waBinary.Node{Tag: "group", Attrs: attrs, Content: members}
}

// participants name members by the group's mode, with their other name.
func (s *Server) participants(g *group, numbers []string) []waBinary.Node {
	out := []waBinary.Node{}
	for _, number := range numbers {
		if _, _, ok := s.memberLocked(number); !ok {
			continue
		}
		main, other := s.names(number, g.AddressingMode)
		attrs := waBinary.Attrs{"jid": main}
		if !other.IsEmpty() {
			alt := "lid"
			if g.AddressingMode == AddressingLID {
				alt = "phone_number"
			}
			attrs[alt] = other
		}
		out = append(out, waBinary.Node{Tag: "participant", Attrs: attrs})
	}
	return out
}

// groupChangedLocked tells the devices of a group's phones what became of it.
func (s *Server) groupChangedLocked(before Group, g *group) {
	var changes []waBinary.Node
	if before.Subject != g.Subject {
		changes = append(changes, waBinary.Node{Tag: "subject", Attrs: waBinary.Attrs{"subject": g.Subject, "s_t": s.opts.Now().Unix()}})
	}
	if added := s.participants(g, without(g.Members, before.Members)); len(added) > 0 {
		changes = append(changes, waBinary.Node{Tag: "add", Content: added})
	}
	if removed := s.participants(g, without(before.Members, g.Members)); len(removed) > 0 {
		changes = append(changes, waBinary.Node{Tag: "remove", Content: removed})
	}
	told := append(without(before.Members, g.Members), g.Members...)
	for _, change := range changes {
		s.tellGroup(told, g.ID, change)
	}
}

// tellGroup tells the devices of members that are phones.
func (s *Server) tellGroup(members []string, id string, change waBinary.Node) {
	for _, number := range members {
		p := s.phones[number]
		if p == nil {
			continue
		}
		for _, d := range p.devices {
			s.notifyLocked(d, waBinary.Attrs{"from": groupJID(id), "type": "w:gp2"}, change)
		}
	}
}

// groupMadeLocked tells the devices of a group's phones that they are in it now.
func (s *Server) groupMadeLocked(g *group) {
	s.tellGroup(g.Members, g.ID, waBinary.Node{
		Tag: "create", Attrs: waBinary.Attrs{"type": "new"}, Content: []waBinary.Node{s.describeGroup(g)},
	})
}

// avatarChangedLocked tells every device that a person has another picture, or none.
func (s *Server) avatarChangedLocked(who Person) {
	for _, p := range s.phones {
		jid, _ := s.names(who.Number, s.modeOf(p, who.Number))
		change := waBinary.Node{Tag: "set", Attrs: waBinary.Attrs{"jid": jid, "id": avatarID(who.Number)}}
		if !who.HasAvatar {
			change = waBinary.Node{Tag: "delete", Attrs: waBinary.Attrs{"jid": jid}}
		}
		for _, d := range p.devices {
			s.notifyLocked(d, waBinary.Attrs{"from": jid, "type": "picture"}, change)
		}
	}
}

func without(list, less []string) []string {
	var out []string
	for _, v := range list {
		if !contains(less, v) {
			out = append(out, v)
		}
	}
	return out
}
