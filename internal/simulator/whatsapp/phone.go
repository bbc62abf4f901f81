package whatsapp

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/whatsmeow/types"
)

// phone is a Phone with what it is linked to. Guarded by Server.mu, as all in this file.
type phone struct {
	Phone
	actor    *actor
	devices  map[uint16]*device
	nextID   uint16
	lidChats map[string]bool // persons who appear by LID from now on
	chats    map[string]*chat
	outbox   outbox
	history  []HistoryChat
	state    *appState
}

// person is a Person with the keys of their phone.
type person struct {
	Person
	actor *actor
}

type group struct {
	Group
	created time.Time
}

// device is a linked companion device.
type device struct {
	phone        *phone
	id           uint16
	noise        [32]byte
	keys         bundle
	preKeys      []publicKey
	account      []byte // waAdv.ADVSignedDeviceIdentity, for devices that it writes to
	linkedAt     time.Time
	platform     string
	needsHistory bool
	loggedOut    bool // a failure told its client so

	queue   []*queued
	waiting int             // messages in the queue
	swallow map[string]bool // messages whose ack is to be ignored: a retry receipt came before
	held    *queued         // by FaultReorder

	conn      *conn // logged in
	available bool
}

func (d *device) jid() types.JID {
	return types.JID{User: d.phone.Number, Device: d.id, Server: types.DefaultUserServer}
}

func (d *device) lid() types.JID {
	return types.JID{User: d.phone.LID, Device: d.id, Server: types.HiddenUserServer}
}

// address is by what actors call the device.
func (d *device) address() *protocol.SignalAddress {
	return protocol.NewSignalAddress(d.phone.Number, uint32(d.id))
}

func pnJID(number string) types.JID { return types.NewJID(number, types.DefaultUserServer) }
func lidJID(lid string) types.JID   { return types.NewJID(lid, types.HiddenUserServer) }
func groupJID(id string) types.JID  { return types.NewJID(id, types.GroupServer) }

// derivedLID is the LID of a number that was given none: 15 digits that do not contain it.
func derivedLID(number string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(number))
	return strconv.FormatUint(100_000_000_000_000+h.Sum64()%100_000_000_000_000, 10)
}

func digits(s string) bool {
	return s != "" && len(s) <= 20 && strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

func checkNumber(number, name string, lid *string) error {
	if !digits(number) || len(number) < 7 {
		return fmt.Errorf("%w number %q of %s: it must be 7 to 20 digits", ErrInvalid, number, name)
	}
	if *lid == "" {
		*lid = derivedLID(number)
	}
	if !digits(*lid) {
		return fmt.Errorf("%w LID %q of %s: it must be digits", ErrInvalid, *lid, number)
	}
	return nil
}

func checkMode(mode *string, def string) error {
	if *mode == "" {
		*mode = def
	}
	if *mode != AddressingPN && *mode != AddressingLID {
		return fmt.Errorf("%w addressing mode %q: use pn or lid", ErrInvalid, *mode)
	}
	return nil
}

// AddPhone registers a phone, or changes the name, addressing and limits of one; its LID stays.
func (s *Server) AddPhone(p Phone) (Phone, error) {
	if err := checkNumber(p.Number, "the phone", &p.LID); err != nil {
		return p, err
	}
	if err := checkMode(&p.AddressingMode, AddressingPN); err != nil {
		return p, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.people[p.Number] != nil {
		return p, fmt.Errorf("%w number %s: a person has it", ErrInvalid, p.Number)
	}
	if have := s.phones[p.Number]; have != nil {
		p.LID = have.LID
		have.Phone = p
	} else {
		if err := s.takeLID(p.LID, p.Number); err != nil {
			return p, err
		}
		s.phones[p.Number] = &phone{
			Phone: p, actor: newActor(), devices: map[uint16]*device{}, nextID: 1, lidChats: map[string]bool{}, chats: map[string]*chat{},
		}
		s.order.phones = append(s.order.phones, p.Number)
	}
	s.changedLocked()
	s.events.Publish("phone", p)
	return p, nil
}

func (s *Server) takeLID(lid, number string) error {
	if owner, ok := s.lids[lid]; ok && owner != number {
		return fmt.Errorf("%w LID %s: %s has it", ErrInvalid, lid, owner)
	}
	s.lids[lid] = number
	return nil
}

// AddPerson registers a person, or changes one; the LID stays.
func (s *Server) AddPerson(p Person) (Person, error) {
	if err := checkNumber(p.Number, "the person", &p.LID); err != nil {
		return p, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phones[p.Number] != nil {
		return p, fmt.Errorf("%w number %s: a phone has it", ErrInvalid, p.Number)
	}
	if have := s.people[p.Number]; have != nil {
		p.LID = have.LID
		changed := have.HasAvatar != p.HasAvatar
		have.Person = p
		if changed {
			s.avatarChangedLocked(p)
		}
	} else {
		if err := s.takeLID(p.LID, p.Number); err != nil {
			return p, err
		}
		s.people[p.Number] = &person{Person: p, actor: newActor()}
		s.order.people = append(s.order.people, p.Number)
	}
	s.changedLocked()
	s.events.Publish("person", p)
	return p, nil
}

// AddGroup registers a group, or changes the subject and the members of one, which its phones' devices are told.
func (s *Server) AddGroup(g Group) (Group, error) {
	if err := checkMode(&g.AddressingMode, AddressingLID); err != nil {
		return g, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.ID == "" {
		g.ID = "120363" + strconv.FormatInt(100_000_000_000+s.nextID()%900_000_000_000, 10)
	}
	if !digits(strings.ReplaceAll(g.ID, "-", "")) {
		return g, fmt.Errorf("%w group id %q: it must be digits", ErrInvalid, g.ID)
	}
	for _, number := range g.Members {
		if _, _, ok := s.memberLocked(number); !ok {
			return g, fmt.Errorf("member %s: %w: register the person or phone first", number, ErrNotFound)
		}
	}
	g.Members = slices.Clone(g.Members)
	have := s.groups[g.ID]
	if have == nil {
		s.groups[g.ID] = &group{Group: g, created: s.opts.Now()}
		s.order.groups = append(s.order.groups, g.ID)
		s.groupMadeLocked(s.groups[g.ID])
	} else {
		before := have.Group
		have.Group = g
		s.groupChangedLocked(before, have)
	}
	s.changedLocked()
	s.events.Publish("group", g)
	return g, nil
}

// memberLocked finds who has a number.
func (s *Server) memberLocked(number string) (a *actor, lid string, ok bool) {
	if p := s.people[number]; p != nil && !p.NotOnWhatsApp {
		return p.actor, p.LID, true
	}
	if p := s.phones[number]; p != nil {
		return p.actor, p.LID, true
	}
	return nil, "", false
}

// numberOf finds whose JID it is. It is empty for nobody's.
func (s *Server) numberOf(jid types.JID) string {
	switch jid.Server {
	case types.HiddenUserServer:
		return s.lids[jid.User]
	case types.DefaultUserServer, types.LegacyUserServer:
		number := strings.TrimPrefix(jid.User, "+")
		if _, _, ok := s.memberLocked(number); ok {
			return number
		}
	}
	return ""
}

// hidden says that devices do not learn the number.
func (s *Server) hidden(number string) bool {
	p := s.people[number]
	return p != nil && p.HideNumber
}

// modeOf is by which name a person appears in the phone's chat with them.
func (s *Server) modeOf(p *phone, number string) string {
	if p.lidChats[number] || s.hidden(number) {
		return AddressingLID
	}
	return p.AddressingMode
}

// names are the JIDs of somebody: by the mode, and the other one, which is empty if it is hidden.
func (s *Server) names(number, mode string) (main, other types.JID) {
	_, lid, _ := s.memberLocked(number)
	if mode == AddressingLID {
		if s.hidden(number) {
			return lidJID(lid), types.EmptyJID
		}
		return lidJID(lid), pnJID(number)
	}
	return pnJID(number), lidJID(lid)
}

func (s *Server) findPhone(number string) (*phone, error) {
	p := s.phones[number]
	if p == nil {
		return nil, fmt.Errorf("phone %s: %w", number, ErrNotFound)
	}
	return p, nil
}

// Phones returns the phones as registered.
func (s *Server) Phones() []Phone {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Phone{}
	for _, number := range s.order.phones {
		out = append(out, s.phones[number].Phone)
	}
	return out
}

// People returns the people as registered.
func (s *Server) People() []Person {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Person{}
	for _, number := range s.order.people {
		out = append(out, s.people[number].Person)
	}
	return out
}

// Groups returns the groups as registered.
func (s *Server) Groups() []Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Group{}
	for _, id := range s.order.groups {
		g := s.groups[id].Group
		g.Members = slices.Clone(g.Members)
		out = append(out, g)
	}
	return out
}

// SetAddressing sets by which names people appear in a phone's chats from now on: "pn" or "lid".
func (s *Server) SetAddressing(number, mode string) error {
	if err := checkMode(&mode, ""); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	p.AddressingMode = mode
	s.changedLocked()
	s.events.Publish("phone", p.Phone)
	return nil
}

// LearnLID makes one person appear by LID in a phone's chat from now on, as when WhatsApp migrates a chat.
func (s *Server) LearnLID(number, who string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	if s.people[who] == nil {
		return fmt.Errorf("person %s: %w", who, ErrNotFound)
	}
	p.lidChats[who] = true
	s.changedLocked()
	return nil
}

// Devices returns the linked devices of a phone by their ids, or of all phones for "".
func (s *Server) Devices(number string) []Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Device{}
	for _, have := range s.order.phones {
		if number != "" && number != have {
			continue
		}
		from := len(out)
		for _, d := range s.phones[have].devices {
			out = append(out, d.view())
		}
		slices.SortFunc(out[from:], func(a, b Device) int { return int(a.ID) - int(b.ID) })
	}
	return out
}

func (d *device) view() Device {
	v := Device{
		Number: d.phone.Number, ID: d.id, JID: d.jid().String(), LinkedAt: d.linkedAt, Platform: d.platform,
		Pending: d.waiting, PreKeys: len(d.preKeys), Available: d.available, LoggedOut: d.loggedOut,
	}
	if d.conn != nil {
		v.Online, v.Active, v.Connection = true, d.conn.active, d.conn.seq
	}
	return v
}
