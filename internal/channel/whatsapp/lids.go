package whatsapp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"go.mau.fi/util/dbutil"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// lids keeps which phone number belongs to which LID, as this device learned it.
// The library's own table is one for all devices of the database; then an
// organization could see numbers that were shown to another one only.
type lids struct {
	db     *dbutil.Database
	device string
	own    map[string]string // the number's own pair, by both of its halves
	// learned is told of each new pair, after it is stored. It must not block.
	learned func(person)

	mu    sync.Mutex // guards known
	known map[string]string
}

var _ store.LIDStore = (*lids)(nil)

// maxKnown bounds the pairs that are kept in memory; beyond, the table is asked.
const maxKnown = 4096

// newLIDs keeps the pairs of a device. Its own pair is with its keys: the library
// stores it when the phone is linked, and then by a store of its own. What is
// written to the own phone goes to the LID.
func newLIDs(db *dbutil.Database, device *store.Device, learned func(person)) *lids {
	own := map[string]string{}
	if !device.LID.IsEmpty() {
		own[lidKey(device.LID.User)], own[pnKey(device.ID.User)] = device.ID.User, device.LID.User
	}
	return &lids{db: db, device: device.ID.String(), own: own, learned: learned, known: map[string]string{}}
}

// The cache has a pair under both of its halves: "l:" and "p:".
func lidKey(user string) string { return "l:" + user }
func pnKey(user string) string  { return "p:" + user }

func (s *lids) recall(key string) (string, bool) {
	if value, ok := s.own[key]; ok {
		return value, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.known[key]
	return value, ok
}

func (s *lids) remember(lid, pn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[lidKey(lid)], s.known[pnKey(pn)] = pn, lid
}

// PutLIDMapping implements store.LIDStore.
func (s *lids) PutLIDMapping(ctx context.Context, lid, pn types.JID) error {
	return s.PutManyLIDMappings(ctx, []store.LIDMapping{{LID: lid, PN: pn}})
}

// PutManyLIDMappings implements store.LIDStore. What is known costs nothing.
func (s *lids) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	var fresh []store.LIDMapping
	for _, m := range mappings {
		if m.LID.Server != types.HiddenUserServer || m.PN.Server != types.DefaultUserServer {
			continue
		}
		if pn, ok := s.recall(lidKey(m.LID.User)); ok && pn == m.PN.User {
			continue
		}
		fresh = append(fresh, m)
	}
	if len(fresh) == 0 {
		return nil
	}
	var changed []store.LIDMapping
	err := s.db.DoTxn(ctx, nil, func(ctx context.Context) error {
		changed = changed[:0]
		for _, m := range fresh {
			var pn string
			err := s.db.QueryRow(ctx, "SELECT pn FROM whatsapp_lids WHERE device=$1 AND lid=$2", s.device, m.LID.User).Scan(&pn)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			if pn == m.PN.User {
				continue
			}
			changed = append(changed, m)
			// A number that goes to somebody else takes its old owner's row along.
			if _, err := s.db.Exec(ctx, "DELETE FROM whatsapp_lids WHERE device=$1 AND pn=$2 AND lid<>$3", s.device, m.PN.User, m.LID.User); err != nil {
				return err
			}
			if _, err := s.db.Exec(ctx, `INSERT INTO whatsapp_lids (device, lid, pn) VALUES ($1, $2, $3)
				ON CONFLICT (device, lid) DO UPDATE SET pn=excluded.pn`, s.device, m.LID.User, m.PN.User); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep LIDs: %w", err)
	}
	for _, m := range fresh {
		s.remember(m.LID.User, m.PN.User)
	}
	for _, m := range changed {
		s.learned(personOf(m.LID, m.PN))
	}
	return nil
}

func (s *lids) find(ctx context.Context, key, query, user string) (string, error) {
	if value, ok := s.recall(key); ok {
		return value, nil
	}
	var value string
	err := s.db.QueryRow(ctx, query, s.device, user).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up a LID: %w", err)
	}
	return value, nil
}

// GetPNForLID implements store.LIDStore. Empty: it is not known.
func (s *lids) GetPNForLID(ctx context.Context, lid types.JID) (types.JID, error) {
	if lid.Server != types.HiddenUserServer {
		return types.EmptyJID, nil
	}
	user, err := s.find(ctx, lidKey(lid.User), "SELECT pn FROM whatsapp_lids WHERE device=$1 AND lid=$2", lid.User)
	if err != nil || user == "" {
		return types.EmptyJID, err
	}
	s.remember(lid.User, user)
	return types.JID{User: user, Device: lid.Device, Server: types.DefaultUserServer}, nil
}

// GetLIDForPN implements store.LIDStore. Empty: it is not known.
func (s *lids) GetLIDForPN(ctx context.Context, pn types.JID) (types.JID, error) {
	if pn.Server != types.DefaultUserServer {
		return types.EmptyJID, nil
	}
	user, err := s.find(ctx, pnKey(pn.User), "SELECT lid FROM whatsapp_lids WHERE device=$1 AND pn=$2", pn.User)
	if err != nil || user == "" {
		return types.EmptyJID, err
	}
	s.remember(user, pn.User)
	return types.JID{User: user, Device: pn.Device, Server: types.HiddenUserServer}, nil
}

// GetManyLIDsForPNs implements store.LIDStore. Unknown ones are absent.
func (s *lids) GetManyLIDsForPNs(ctx context.Context, pns []types.JID) (map[types.JID]types.JID, error) {
	found := make(map[types.JID]types.JID, len(pns))
	for _, pn := range pns {
		lid, err := s.GetLIDForPN(ctx, pn)
		if err != nil {
			return nil, err
		}
		if !lid.IsEmpty() {
			found[pn] = lid
		}
	}
	return found, nil
}

// complete adds the address of a person that was not told and is known.
func (s *lids) complete(ctx context.Context, p person) (person, error) {
	var err error
	switch {
	case p.lid.IsEmpty() && !p.pn.IsEmpty():
		p.lid, err = s.GetLIDForPN(ctx, p.pn)
	case p.pn.IsEmpty() && !p.lid.IsEmpty():
		p.pn, err = s.GetPNForLID(ctx, p.lid)
	}
	return p, err
}
