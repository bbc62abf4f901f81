package whatsapp

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
)

// saveDelay gathers the changes of a moment into one write of the StateFile.
const saveDelay = 250 * time.Millisecond

// savedState is the StateFile.
type savedState struct {
	RootKey []byte        `json:"rootKey,omitempty"`
	Phones  []savedPhone  `json:"phones"`
	People  []savedPerson `json:"people"`
	Groups  []savedGroup  `json:"groups"`
}

type savedPhone struct {
	Phone    Phone           `json:"phone"`
	Actor    *actor          `json:"actor"`
	NextID   uint16          `json:"nextId"`
	LIDChats map[string]bool `json:"lidChats"`
	History  []HistoryChat   `json:"history,omitempty"`
	State    *appState       `json:"state,omitempty"`
	Devices  []savedDevice   `json:"devices"`
}

type savedPerson struct {
	Person Person `json:"person"`
	Actor  *actor `json:"actor"`
}

type savedGroup struct {
	Group   Group     `json:"group"`
	Created time.Time `json:"created"`
}

type savedDevice struct {
	ID           uint16        `json:"id"`
	Noise        []byte        `json:"noise"`
	Registration uint32        `json:"registration"`
	Identity     []byte        `json:"identity"`
	Signed       []byte        `json:"signed"` // as of packKeys
	Signature    []byte        `json:"signature"`
	PreKeys      []byte        `json:"preKeys"`
	Account      []byte        `json:"account"`
	LinkedAt     time.Time     `json:"linkedAt"`
	Platform     string        `json:"platform"`
	NeedsHistory bool          `json:"needsHistory"`
	LoggedOut    bool          `json:"loggedOut,omitempty"`
	Queue        []savedQueued `json:"queue"`
}

type savedQueued struct {
	Class   string   `json:"class"`
	ID      string   `json:"id"`
	Kind    string   `json:"kind,omitempty"`
	Peer    string   `json:"peer,omitempty"`
	Node    []byte   `json:"node"`
	Times   int      `json:"times"`
	Inbound *Inbound `json:"inbound,omitempty"`
}

// packKeys writes each key as four bytes of its id and 32 of itself.
func packKeys(keys ...publicKey) []byte {
	out := make([]byte, 0, 36*len(keys))
	for _, k := range keys {
		out = append(binary.BigEndian.AppendUint32(out, k.ID), k.Pub[:]...)
	}
	return out
}

func unpackKeys(b []byte) []publicKey {
	var out []publicKey
	for ; len(b) >= 36; b = b[36:] {
		out = append(out, publicKey{binary.BigEndian.Uint32(b), [32]byte(b[4:36])})
	}
	return out
}

// changedLocked lets the state be saved soon.
func (s *Server) changedLocked() {
	if s.opts.StateFile == "" {
		return
	}
	s.dirty = true
	if s.saving == nil && !s.closed {
		s.saving = time.AfterFunc(saveDelay, func() {
			if err := s.save(); err != nil {
				s.log.Error("the state could not be saved", slogErr(err))
			}
		})
	}
}

// save writes the StateFile if anything changed.
func (s *Server) save() error {
	s.saveMu.Lock()
	defer s.saveMu.Unlock()
	s.mu.Lock()
	s.saving = nil
	if !s.dirty {
		s.mu.Unlock()
		return nil
	}
	s.dirty = false
	b, err := json.Marshal(s.snapshot())
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return replaceFile(s.opts.StateFile, b)
}

// replaceFile writes a file so that it is the old one or the new one, whatever happens. It has keys: only the owner reads it.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (s *Server) snapshot() savedState {
	out := savedState{RootKey: s.noise.rootSeed[:]}
	for _, number := range s.order.phones {
		p := s.phones[number]
		saved := savedPhone{
			Phone: p.Phone, Actor: p.actor, NextID: p.nextID, LIDChats: p.lidChats, History: p.history, State: p.state,
		}
		for _, d := range p.devices {
			saved.Devices = append(saved.Devices, s.snapshotDevice(d))
		}
		out.Phones = append(out.Phones, saved)
	}
	for _, number := range s.order.people {
		out.People = append(out.People, savedPerson{s.people[number].Person, s.people[number].actor})
	}
	for _, id := range s.order.groups {
		out.Groups = append(out.Groups, savedGroup{s.groups[id].Group, s.groups[id].created})
	}
	return out
}

func (s *Server) snapshotDevice(d *device) savedDevice {
	out := savedDevice{
		ID: d.id, Noise: d.noise[:], Registration: d.keys.registration, Identity: d.keys.identity[:],
		Signed: packKeys(d.keys.signed), Signature: d.keys.signature[:], PreKeys: packKeys(d.preKeys...), Account: d.account,
		LinkedAt: d.linkedAt, Platform: d.platform, NeedsHistory: d.needsHistory, LoggedOut: d.loggedOut,
	}
	for _, q := range d.queue {
		node, err := waBinary.Marshal(q.node)
		if err != nil {
			continue
		}
		saved := savedQueued{q.class, q.id, q.kind, q.peer, node[1:], q.times, nil}
		if q.class == classMessage {
			in := s.ledger.life(q.key)
			saved.Inbound = &in
		}
		out.Queue = append(out.Queue, saved)
	}
	return out
}

func (s *Server) loadState() (savedState, error) {
	var out savedState
	if s.opts.StateFile == "" {
		return out, nil
	}
	b, err := os.ReadFile(s.opts.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("the state file %s is not readable: %w", s.opts.StateFile, err)
	}
	return out, nil
}

// restore takes over what was saved. Nobody uses the Server yet.
func (s *Server) restore(saved savedState) error {
	for _, p := range saved.Phones {
		if p.Actor == nil || p.Actor.Identity == nil {
			return fmt.Errorf("%w state file: the phone %s has no keys", ErrInvalid, p.Phone.Number)
		}
		have := &phone{
			Phone: p.Phone, actor: p.Actor.whole(), devices: map[uint16]*device{}, nextID: max(p.NextID, 1), lidChats: p.LIDChats,
			chats: map[string]*chat{}, history: p.History, state: p.State,
		}
		if have.lidChats == nil {
			have.lidChats = map[string]bool{}
		}
		s.phones[p.Phone.Number] = have
		s.order.phones = append(s.order.phones, p.Phone.Number)
		s.lids[p.Phone.LID] = p.Phone.Number
		for _, d := range p.Devices {
			if err := s.restoreDevice(have, d); err != nil {
				return err
			}
		}
	}
	for _, p := range saved.People {
		if p.Actor == nil || p.Actor.Identity == nil {
			return fmt.Errorf("%w state file: the person %s has no keys", ErrInvalid, p.Person.Number)
		}
		s.people[p.Person.Number] = &person{p.Person, p.Actor.whole()}
		s.order.people = append(s.order.people, p.Person.Number)
		s.lids[p.Person.LID] = p.Person.Number
	}
	for _, g := range saved.Groups {
		s.groups[g.Group.ID] = &group{g.Group, g.Created}
		s.order.groups = append(s.order.groups, g.Group.ID)
	}
	return nil
}

// whole makes the maps that JSON leaves nil when they were empty.
func (a *actor) whole() *actor {
	fresh := newActor()
	if a.PreKeys == nil {
		a.PreKeys = fresh.PreKeys
	}
	if a.Sessions == nil {
		a.Sessions = fresh.Sessions
	}
	if a.SenderKeys == nil {
		a.SenderKeys = fresh.SenderKeys
	}
	if a.Knows == nil {
		a.Knows = fresh.Knows
	}
	return a
}

func (s *Server) restoreDevice(p *phone, saved savedDevice) error {
	signed := unpackKeys(saved.Signed)
	if len(saved.Noise) != 32 || len(saved.Identity) != 32 || len(saved.Signature) != 64 || len(signed) != 1 {
		return fmt.Errorf("%w state file: device %d of %s has no keys", ErrInvalid, saved.ID, p.Number)
	}
	d := &device{
		phone: p, id: saved.ID, noise: [32]byte(saved.Noise), preKeys: unpackKeys(saved.PreKeys), account: saved.Account,
		linkedAt: saved.LinkedAt, platform: saved.Platform, needsHistory: saved.NeedsHistory, loggedOut: saved.LoggedOut, swallow: map[string]bool{},
		keys: bundle{
			registration: saved.Registration, identity: [32]byte(saved.Identity), signed: signed[0], signature: [64]byte(saved.Signature),
		},
	}
	for _, q := range saved.Queue {
		node, err := waBinary.Unmarshal(q.Node)
		if err != nil {
			return fmt.Errorf("%w state file: a stanza for device %d of %s: %w", ErrInvalid, saved.ID, p.Number, err)
		}
		have := &queued{class: q.Class, id: q.ID, kind: q.Kind, peer: q.Peer, node: *node, times: q.Times}
		if q.Inbound != nil {
			have.key = s.ledger.queued(*q.Inbound)
			d.waiting++
		}
		d.queue = append(d.queue, have)
	}
	p.devices[d.id] = d
	return nil
}
