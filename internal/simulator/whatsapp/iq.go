package whatsapp

import (
	"strings"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// handle takes a stanza of a client.
func (s *Server) handle(c *conn, node *waBinary.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.over || c.deaf || s.closed {
		return
	}
	number := ""
	if c.device != nil {
		number = c.device.phone.Number
		if s.faults.take(FaultDrop, number, "") != nil {
			c.cutLocked(endFault)
			c.over = true
			return
		}
	}
	switch {
	case node.Tag == "iq":
		s.handleIQ(c, node)
	case c.device == nil: // before the login there is nothing else to say
	case node.Tag == "message":
		s.handleMessage(c, node)
	case node.Tag == "receipt":
		s.handleReceipt(c, node)
	case node.Tag == "ack":
		s.handleAck(c, node)
	case node.Tag == "presence":
		s.handlePresence(c, node)
	case node.Tag == "chatstate":
		s.handleChatState(c, node)
	}
}

// content are the bytes of a child, text its text: what is short may come as either.
func content(n *waBinary.Node, tag string) []byte {
	child, ok := n.GetOptionalChildByTag(tag)
	if !ok {
		return nil
	}
	return bytesOf(&child)
}

func bytesOf(n *waBinary.Node) []byte {
	switch v := n.Content.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

func text(n *waBinary.Node, tag string) string { return string(content(n, tag)) }

func iqResult(req *waBinary.Node, children ...waBinary.Node) waBinary.Node {
	n := waBinary.Node{Tag: "iq", Attrs: waBinary.Attrs{"type": "result", "id": req.Attrs["id"], "from": types.ServerJID}}
	if to, ok := req.Attrs["to"]; ok {
		n.Attrs["from"] = to
	}
	if len(children) > 0 {
		n.Content = children
	}
	return n
}

func iqError(req *waBinary.Node, code int, what string) waBinary.Node {
	n := iqResult(req, waBinary.Node{Tag: "error", Attrs: waBinary.Attrs{"code": code, "text": what}})
	n.Attrs["type"] = "error"
	return n
}

// handleIQ answers a request.
func (s *Server) handleIQ(c *conn, node *waBinary.Node) {
	if kind := node.Attrs["type"]; kind == "result" || kind == "error" {
		if c.pairing != nil && node.Attrs["id"] == c.pairing.reqID {
			s.pairAnswerLocked(c, node)
		}
		return
	}
	var answer waBinary.Node
	xmlns, _ := node.Attrs["xmlns"].(string)
	switch {
	case xmlns == "md":
		answer = s.iqLinked(c, node)
	case xmlns == "w:p":
		answer = iqResult(node)
	case c.device == nil:
		answer = iqError(node, 401, "not-authorized")
	default:
		answer = s.iqDevice(c, xmlns, node)
	}
	if answer.Tag != "" {
		c.push(answer)
	}
	if xmlns == "passive" {
		s.activeLocked(c, node)
	}
}

// iqLinked is about linking devices.
func (s *Server) iqLinked(c *conn, node *waBinary.Node) waBinary.Node {
	children := node.GetChildren()
	if len(children) == 0 {
		return iqError(node, 400, "bad-request")
	}
	child := &children[0]
	switch {
	case child.Tag == "remove-companion-device" && c.device != nil:
		c.push(iqResult(node))
		d := c.device
		s.leaveLocked(c) // the answer comes first, then the client closes by itself
		s.removeLocked(d)
		return waBinary.Node{}
	case c.reg == nil:
		return iqError(node, 403, "forbidden")
	case child.Tag == "link_code_companion_reg" && child.Attrs["stage"] == "companion_hello":
		return s.codeHelloLocked(c, node, child)
	case child.Tag == "link_code_companion_reg" && child.Attrs["stage"] == "companion_finish":
		return s.codeFinishLocked(c, node, child)
	case child.Tag == "ref" && c.passkey != nil:
		return iqResult(node, waBinary.Node{Tag: "ref", Content: []byte(c.passkey.ref)})
	case child.Tag == "passkey_request_options" && c.passkey != nil:
		return iqResult(node, waBinary.Node{Tag: "passkey_request_options", Content: passkeyOptions()})
	case child.Tag == "passkey_prologue":
		return s.passkeyPrologueLocked(c, node, child)
	case child.Tag == "companion_nonce":
		return iqResult(node)
	case child.Tag == "encrypted_pairing_request":
		return s.passkeyFinishLocked(c, node, bytesOf(child))
	}
	return iqError(node, 400, "bad-request")
}

// iqDevice is about everything that a device that is logged in asks.
func (s *Server) iqDevice(c *conn, xmlns string, node *waBinary.Node) waBinary.Node {
	get := node.Attrs["type"] == "get"
	switch xmlns {
	case "encrypt":
		return s.iqKeys(c.device, node, get)
	case "usync":
		return s.iqUsers(node)
	case "w:g2":
		return s.iqGroups(c.device.phone, node)
	case "w:m":
		return iqResult(node, s.mediaConn())
	case "w:sync:app:state":
		return s.iqAppState(c.device, node)
	case "w:profile:picture":
		return s.iqPicture(node)
	case "privacy":
		if get {
			return iqResult(node, privacySettings())
		}
	case "blocklist":
		return iqResult(node, waBinary.Node{Tag: "list", Attrs: waBinary.Attrs{"dhash": "none"}})
	}
	if get {
		return iqError(node, 501, "feature-not-implemented")
	}
	return iqResult(node)
}

func privacySettings() waBinary.Node {
	var all []waBinary.Node
	for _, name := range []string{"groupadd", "last", "status", "profile", "readreceipts", "calladd"} {
		all = append(all, waBinary.Node{Tag: "category", Attrs: waBinary.Attrs{"name": name, "value": "all"}})
	}
	all = append(all, waBinary.Node{Tag: "category", Attrs: waBinary.Attrs{"name": "online", "value": "match_last_seen"}})
	return waBinary.Node{Tag: "privacy", Content: all}
}

// iqKeys takes the keys that a device publishes, counts them, and gives out those of others.
func (s *Server) iqKeys(d *device, node *waBinary.Node, get bool) waBinary.Node {
	if !get {
		s.takeKeys(d, node)
		return iqResult(node)
	}
	if _, ok := node.GetOptionalChildByTag("count"); ok {
		return iqResult(node, waBinary.Node{Tag: "count", Attrs: waBinary.Attrs{"value": len(d.preKeys)}})
	}
	ask, ok := node.GetOptionalChildByTag("key")
	if !ok {
		return iqResult(node)
	}
	var users []waBinary.Node
	for _, user := range ask.GetChildren() {
		jid, ok := user.Attrs["jid"].(types.JID)
		if !ok {
			continue
		}
		users = append(users, waBinary.Node{Tag: "user", Attrs: waBinary.Attrs{"jid": jid}, Content: s.keysOf(d, jid)})
	}
	return iqResult(node, waBinary.Node{Tag: "list", Content: users})
}

func (s *Server) takeKeys(d *device, node *waBinary.Node) {
	list := node.GetChildByTag("list")
	if list.Tag != "list" {
		return
	}
	for _, k := range list.GetChildren() {
		if pub := content(&k, "value"); len(pub) == 32 {
			d.preKeys = append(d.preKeys, publicKey{keyID(content(&k, "id")), [32]byte(pub)})
		}
	}
	if skey, ok := node.GetOptionalChildByTag("skey"); ok {
		pub, sig := content(&skey, "value"), content(&skey, "signature")
		if len(pub) == 32 && len(sig) == 64 {
			d.keys.signed, d.keys.signature = publicKey{keyID(content(&skey, "id")), [32]byte(pub)}, [64]byte(sig)
		}
	}
	s.changedLocked()
}

// keysOf gives out a device's keys, with a one-time key while there are any.
func (s *Server) keysOf(asker *device, jid types.JID) []waBinary.Node {
	number := s.numberOf(jid)
	missing := []waBinary.Node{{Tag: "error", Attrs: waBinary.Attrs{"code": 404, "text": "item-not-found"}}}
	if number == "" || s.faults.take(FaultNoPreKeys, asker.phone.Number, number) != nil {
		return missing
	}
	if jid.Device == 0 {
		a, _, _ := s.memberLocked(number)
		return a.publish()
	}
	p := s.phones[number]
	if p == nil || p.devices[jid.Device] == nil {
		return missing
	}
	return s.take(p.devices[jid.Device]).nodes()
}

// take are a companion's keys with a one-time key, if there is one, which nobody else gets.
func (s *Server) take(d *device) bundle {
	b := d.keys
	if len(d.preKeys) > 0 {
		b.once = &d.preKeys[0]
		d.preKeys = d.preKeys[1:]
		s.changedLocked()
		if len(d.preKeys) == 5 && d.conn != nil {
			d.conn.push(serverNode("notification", s.stanzaID(), waBinary.Attrs{"type": "encrypt", "t": s.opts.Now().Unix()},
				waBinary.Node{Tag: "count", Attrs: waBinary.Attrs{"value": len(d.preKeys) - 1}}))
		}
	}
	return b
}

func (a *actor) bundle() bundle {
	once := a.newPreKey()
	return bundle{
		registration: a.Registration, identity: *a.Identity.Pub, signed: publicKey{a.Signed.KeyID, *a.Signed.Pub},
		signature: *a.Signed.Signature, once: &publicKey{once.KeyID, *once.Pub},
	}
}

func (a *actor) publish() []waBinary.Node { return a.bundle().nodes() }

func (b bundle) nodes() []waBinary.Node {
	reg := b.registration
	out := []waBinary.Node{
		{Tag: "registration", Content: []byte{byte(reg >> 24), byte(reg >> 16), byte(reg >> 8), byte(reg)}}, // #nosec G115 -- its bytes
		{Tag: "type", Content: []byte{5}},
		{Tag: "identity", Content: b.identity[:]},
		{Tag: "skey", Content: []waBinary.Node{
			{Tag: "id", Content: keyIDBytes(b.signed.ID)}, {Tag: "value", Content: b.signed.Pub[:]}, {Tag: "signature", Content: b.signature[:]},
		}},
	}
	if b.once != nil {
		out = append(out, waBinary.Node{Tag: "key", Content: []waBinary.Node{
			{Tag: "id", Content: keyIDBytes(b.once.ID)}, {Tag: "value", Content: b.once.Pub[:]},
		}})
	}
	return out
}

// iqUsers is usync: who somebody is, and which devices they have.
func (s *Server) iqUsers(node *waBinary.Node) waBinary.Node {
	query, _ := node.GetOptionalChildByTag("usync", "query")
	list, _ := node.GetOptionalChildByTag("usync", "list")
	users := []waBinary.Node{}
	for _, user := range list.GetChildren() {
		users = append(users, s.describe(&user, query.GetChildren()))
	}
	sync := node.GetChildByTag("usync")
	return iqResult(node, waBinary.Node{Tag: "usync", Attrs: waBinary.Attrs{"sid": sync.Attrs["sid"], "mode": sync.Attrs["mode"]}, Content: []waBinary.Node{
		{Tag: "list", Content: users},
	}})
}

// describe answers the queries about one user, who was named by a JID or by a phone number to look up.
func (s *Server) describe(user *waBinary.Node, queries []waBinary.Node) waBinary.Node {
	jid, byJID := user.Attrs["jid"].(types.JID)
	asked := text(user, "contact")
	if !byJID {
		number, _, _ := strings.Cut(asked, "@")
		jid = pnJID(strings.TrimPrefix(number, "+"))
	}
	number := s.numberOf(jid)
	out := waBinary.Node{Tag: "user", Attrs: waBinary.Attrs{"jid": jid}}
	if !byJID && number != "" {
		out.Attrs["jid"], out.Attrs["pn_jid"] = s.lidOf(number), jid
	}
	var answers []waBinary.Node
	for _, q := range queries {
		if a := s.answer(q.Tag, number, asked); a.Tag != "" {
			answers = append(answers, a)
		}
	}
	out.Content = answers
	return out
}

func (s *Server) lidOf(number string) types.JID {
	_, lid, _ := s.memberLocked(number)
	return lidJID(lid)
}

func (s *Server) answer(query, number, asked string) waBinary.Node {
	switch query {
	case "contact":
		kind := "out"
		if number != "" {
			kind = "in"
		}
		return waBinary.Node{Tag: "contact", Attrs: waBinary.Attrs{"type": kind}, Content: []byte(asked)}
	case "lid":
		if number == "" {
			return waBinary.Node{Tag: "lid"}
		}
		return waBinary.Node{Tag: "lid", Attrs: waBinary.Attrs{"val": s.lidOf(number)}}
	case "devices":
		return waBinary.Node{Tag: "devices", Content: []waBinary.Node{{Tag: "device-list", Content: s.deviceList(number)}}}
	case "status":
		return waBinary.Node{Tag: "status", Content: []byte("Hey there! I am using WhatsApp.")}
	case "picture":
		if p := s.people[number]; p != nil && p.HasAvatar {
			return waBinary.Node{Tag: "picture", Attrs: waBinary.Attrs{"id": avatarID(number)}}
		}
	}
	return waBinary.Node{}
}

func (s *Server) deviceList(number string) []waBinary.Node {
	list := []waBinary.Node{}
	if number == "" {
		return list
	}
	list = append(list, waBinary.Node{Tag: "device", Attrs: waBinary.Attrs{"id": 0}})
	if p := s.phones[number]; p != nil {
		for id := range p.devices {
			list = append(list, waBinary.Node{Tag: "device", Attrs: waBinary.Attrs{"id": int(id), "key-index": int(id)}})
		}
	}
	return list
}

func avatarID(number string) string { return "1" + number }

// iqPicture is about avatars.
func (s *Server) iqPicture(node *waBinary.Node) waBinary.Node {
	target, _ := node.Attrs["target"].(types.JID)
	number := s.numberOf(target)
	p := s.people[number]
	if p == nil || !p.HasAvatar {
		return iqError(node, 404, "item-not-found")
	}
	picture := node.GetChildByTag("picture")
	if picture.Attrs["id"] == avatarID(number) {
		return iqResult(node)
	}
	path := "/v/avatar/" + number + ".jpg?ccb=11-4"
	return iqResult(node, waBinary.Node{Tag: "picture", Attrs: waBinary.Attrs{
		"id": avatarID(number), "type": "image", "url": "https://pps.whatsapp.net" + path, "direct_path": path,
	}})
}
