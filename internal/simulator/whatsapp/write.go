package whatsapp

import (
	"fmt"
	"slices"
	"time"

	"go.mau.fi/libsignal/protocol"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/simulator/console"
)

// outgoing is a message on its way from a person or a phone to a phone's linked devices.
type outgoing struct {
	id      string
	typ     string // of Incoming
	from    string // number of who writes
	chat    string // number of the person, or Group.ID
	group   *group
	fromMe  bool
	peer    bool // what the phone tells its devices
	at      time.Time
	actor   *actor
	name    string // push name
	message *waE2E.Message

	stanzaType string // text, media, reaction, poll
	mediaType  string
	edit       string

	garbled  bool // the ciphertext is broken
	answered bool // a retry receipt gets the message again
	bare     bool // TypeMalformed
	absent   bool // TypeUnavailable
	retries  int
}

// outboxLimit bounds the messages of a phone that can be sent again for a retry receipt.
const outboxLimit = 5000

// outbox keeps the newest messages by id.
type outbox struct {
	byID map[string]*outgoing
	ids  console.Ring[string]
}

func (b *outbox) put(o *outgoing) {
	if b.byID == nil {
		b.byID = map[string]*outgoing{}
	}
	if b.byID[o.id] == nil {
		if old, full := b.ids.Push(o.id, outboxLimit); full {
			delete(b.byID, old)
		}
	}
	b.byID[o.id] = o
}

// postLocked encrypts a message for every linked device of the phone and queues it.
func (s *Server) postLocked(p *phone, o *outgoing) ([]uint16, error) {
	plaintext, err := proto.Marshal(o.message)
	if err != nil {
		return nil, err
	}
	p.outbox.put(o)
	var groupContent, distribution []byte
	if o.group != nil && len(p.devices) > 0 {
		if groupContent, distribution, err = o.actor.encryptGroup(o.keyName(), plaintext); err != nil {
			return nil, err
		}
	}
	ids := make([]uint16, 0, len(p.devices))
	for id := range p.devices {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		d := p.devices[id]
		var encs []waBinary.Node
		if o.group != nil {
			encs, err = s.groupEncs(o, d, groupContent, distribution)
		} else {
			encs, err = s.directEncs(o, d, plaintext)
		}
		if err != nil {
			return nil, fmt.Errorf("encrypt for device %d: %w", id, err)
		}
		s.queueMessageLocked(d, o, encs)
	}
	return ids, nil
}

// keyName names the sender's key of a group. Only the actor's own store uses it.
func (o *outgoing) keyName() *protocol.SenderKeyName {
	return protocol.NewSenderKeyName(groupJID(o.group.ID).String(), protocol.NewSignalAddress(o.from, 0))
}

func (s *Server) directEncs(o *outgoing, d *device, plaintext []byte) ([]waBinary.Node, error) {
	enc, err := s.encryptFor(o.actor, d, plaintext)
	if err != nil {
		return nil, err
	}
	o.dress(&enc)
	return []waBinary.Node{enc}, nil
}

// groupEncs are the group's ciphertext and, for a device that lacks it, the sender's key.
func (s *Server) groupEncs(o *outgoing, d *device, content, distribution []byte) ([]waBinary.Node, error) {
	var encs []waBinary.Node
	if knows := o.group.ID + " " + d.address().String(); !o.actor.Knows[knows] {
		plaintext, err := proto.Marshal(o.distribution(distribution))
		if err != nil {
			return nil, err
		}
		enc, err := s.encryptFor(o.actor, d, plaintext)
		if err != nil {
			return nil, err
		}
		o.actor.Knows[knows] = true
		encs = append(encs, enc)
	}
	enc := waBinary.Node{Tag: "enc", Attrs: waBinary.Attrs{"v": "2", "type": "skmsg"}, Content: content}
	o.dress(&enc)
	return append(encs, enc), nil
}

func (o *outgoing) distribution(key []byte) *waE2E.Message {
	return &waE2E.Message{SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{
		GroupID: proto.String(groupJID(o.group.ID).String()), AxolotlSenderKeyDistributionMessage: key,
	}}
}

// dress sets what an enc says about its content, and garbles it if it must be.
func (o *outgoing) dress(enc *waBinary.Node) {
	if o.mediaType != "" {
		enc.Attrs["mediatype"] = o.mediaType
	}
	if o.edit != "" || o.stanzaType == "reaction" {
		enc.Attrs["decrypt-fail"] = "hide"
	}
	if o.garbled {
		b := slices.Clone(bytesOf(enc))
		b[len(b)-1] ^= 1
		b[len(b)/2] ^= 1
		enc.Content = b
	}
}

// encryptFor makes an enc for a device; the first one takes keys that the device published.
func (s *Server) encryptFor(a *actor, d *device, plaintext []byte) (waBinary.Node, error) {
	addr := d.address()
	if a.Sessions[addr.String()] == nil {
		if err := a.begin(addr, s.take(d)); err != nil {
			return waBinary.Node{}, err
		}
	}
	kind, content, err := a.encrypt(addr, plaintext)
	return waBinary.Node{Tag: "enc", Attrs: waBinary.Attrs{"v": "2", "type": kind}, Content: content}, err
}

func (s *Server) queueMessageLocked(d *device, o *outgoing, encs []waBinary.Node) {
	attrs := s.envelope(d.phone, o)
	content := encs
	switch {
	case o.bare:
		delete(attrs, "t")
		content = nil
	case o.absent:
		content = []waBinary.Node{{Tag: "unavailable", Attrs: waBinary.Attrs{"type": "view_once"}}}
	}
	node := waBinary.Node{Tag: "message", Attrs: attrs}
	if len(content) > 0 {
		node.Content = content
	}
	in := Inbound{Number: d.phone.Number, Device: d.id, ID: o.id, From: o.from, FromMe: o.fromMe || o.peer, Type: o.typ, Retry: o.retries}
	if o.group != nil {
		in.Group = o.group.ID
	}
	s.enqueueLocked(d, &queued{class: classMessage, id: o.id, peer: o.chat, node: node, key: s.ledger.queued(in), own: o.peer})
}

// envelope are the attributes of the message for a phone's devices: who writes, in which chat.
func (s *Server) envelope(p *phone, o *outgoing) waBinary.Attrs {
	attrs := waBinary.Attrs{"id": o.id, "type": o.stanzaType, "t": o.at.Unix(), "notify": o.name, "edit": o.edit}
	switch {
	case o.peer:
		attrs["from"], attrs["category"], attrs["type"] = pnJID(p.Number), "peer", "peer_msg"
	case o.group != nil:
		main, other := s.names(o.from, o.group.AddressingMode)
		attrs["from"], attrs["participant"] = groupJID(o.group.ID), main
		attrs["addressing_mode"] = o.group.AddressingMode
		if !other.IsEmpty() {
			attrs[altName("participant", o.group.AddressingMode)] = other
		}
	case o.fromMe:
		mode := s.modeOf(p, o.chat)
		own, _ := s.names(p.Number, mode)
		main, other := s.names(o.chat, mode)
		attrs["from"], attrs["recipient"] = own, main
		if !other.IsEmpty() {
			attrs[altName("peer_recipient", mode)] = other
		}
	default:
		mode := s.modeOf(p, o.chat)
		main, other := s.names(o.from, mode)
		attrs["from"] = main
		if mode == AddressingLID {
			attrs["addressing_mode"] = mode
		}
		if !other.IsEmpty() {
			attrs[altName("sender", mode)] = other
		}
	}
	return attrs
}

// altName is the attribute that tells somebody's other name.
func altName(of, mode string) string {
	if mode == AddressingLID {
		return of + "_pn"
	}
	return of + "_lid"
}

// resendLocked answers a retry receipt of a device: the message again, encrypted for this device alone.
func (s *Server) resendLocked(d *device, o *outgoing, count int, keys *bundle) error {
	addr := d.address()
	if keys != nil {
		delete(o.actor.Sessions, addr.String())
		if err := o.actor.begin(addr, *keys); err != nil {
			return err
		}
	}
	message := o.message
	if o.group != nil {
		message = proto.Clone(o.message).(*waE2E.Message)
		_, distribution, err := o.actor.encryptGroup(o.keyName(), nil)
		if err != nil {
			return err
		}
		message.SenderKeyDistributionMessage = o.distribution(distribution).SenderKeyDistributionMessage
	}
	plaintext, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	again := *o
	again.garbled, again.bare, again.absent, again.retries = false, false, false, count
	encs, err := s.directEncs(&again, d, plaintext)
	if err != nil {
		return err
	}
	encs[0].Attrs["count"] = count
	s.queueMessageLocked(d, &again, encs)
	return nil
}
