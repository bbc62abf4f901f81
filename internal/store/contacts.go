package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"switchboard/internal/domain"
)

// errIdentityTaken ends one round of EnsureContact: another transaction has
// just given one of the identities to a contact.
var errIdentityTaken = errors.New("an identity was taken meanwhile")

// EnsureContact returns the contact that is known under the identities, and
// makes it when there is none. Identities that are new are added; contacts
// that turn out to be one person are merged into the oldest. A user name is
// not proof of a person, since it changes hands: it goes to whoever uses it
// now. name is what the provider calls the contact; empty changes nothing.
//
// Of the direct chats that one person then has on a channel, the oldest absorbs
// the others (chat:deleted; see Current). It is safe against others that do the
// same at the same moment. Chats whose contact looks different afterwards are
// told of (chat:updated).
func (tx *Tx) EnsureContact(identities []domain.Identity, name string) (contactID int64, created bool, err error) {
	return tx.ensureContactOf(identities, naming{name: name})
}

// IntroduceContact is EnsureContact with a name that counts only where none is
// known.
func (tx *Tx) IntroduceContact(identities []domain.Identity, name string) (contactID int64, err error) {
	contactID, _, err = tx.ensureContactOf(identities, naming{name: name, weak: true})
	return contactID, err
}

// naming is what a contact is called by whoever speaks of it; a weak name gives
// way to any other.
type naming struct {
	name string
	weak bool
}

func (n naming) over(known string) string {
	if n.weak {
		return cmp.Or(known, n.name)
	}
	return cmp.Or(n.name, known)
}

// FindContact returns the contact that is known under one of the identities, 0
// if there is none.
func (tx *Tx) FindContact(identities []domain.Identity) (contactID int64, err error) {
	ids := slices.DeleteFunc(slices.Clone(identities), func(id domain.Identity) bool { return id.Value == "" || !provesPerson(id) })
	if len(ids) == 0 {
		return 0, nil
	}
	owners, err := tx.identityOwners(ids)
	for _, owner := range owners {
		if contactID == 0 || owner < contactID {
			contactID = owner
		}
	}
	return contactID, err
}

func (tx *Tx) ensureContactOf(identities []domain.Identity, name naming) (contactID int64, created bool, err error) {
	ids := slices.Clone(identities)
	// One order for all, so that two transactions do not wait for each other.
	slices.SortFunc(ids, func(a, b domain.Identity) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Value, b.Value))
	})
	ids = slices.Compact(ids)
	ids = slices.DeleteFunc(ids, func(id domain.Identity) bool { return id.Value == "" })
	if !slices.ContainsFunc(ids, provesPerson) {
		return 0, false, domain.NewError(domain.CodeInvalid, "A contact needs an identity other than a user name.")
	}
	for range attempts {
		contactID, created, err = tx.ensureContact(ids, name)
		if !errors.Is(err, errIdentityTaken) {
			return contactID, created, err
		}
	}
	return 0, false, err
}

func provesPerson(id domain.Identity) bool { return id.Kind != domain.IdentityUsername }

func (tx *Tx) ensureContact(ids []domain.Identity, name naming) (int64, bool, error) {
	owners, err := tx.identityOwners(ids)
	if err != nil {
		return 0, false, err
	}
	var people []int64
	for _, id := range ids {
		if owner := owners[id]; owner != 0 && provesPerson(id) {
			people = append(people, owner)
		}
	}
	slices.Sort(people)
	people = slices.Compact(people)
	if len(people) == 0 {
		contactID, err := tx.makeContact(ids, owners, name.name)
		return contactID, err == nil, err
	}
	contactID := people[0]
	moved := false
	for _, other := range people[1:] {
		if err := tx.mergeContact(contactID, other); err != nil {
			return 0, false, err
		}
		moved = true
	}
	if err := tx.addIdentities(contactID, ids, owners); err != nil {
		return 0, false, err
	}
	return contactID, false, tx.describeContact(contactID, ids, name, moved)
}

func (tx *Tx) identityOwners(ids []domain.Identity) (map[domain.Identity]int64, error) {
	var rows []struct {
		Kind      domain.IdentityKind
		Value     string
		ContactID int64
	}
	conditions := strings.TrimSuffix(strings.Repeat("(kind = ? AND value = ?) OR ", len(ids)), " OR ")
	args := []any{tx.organizationID}
	for _, id := range ids {
		args = append(args, id.Kind, id.Value)
	}
	err := tx.db.Raw("SELECT kind, value, contact_id FROM identities WHERE organization_id = ? AND ("+conditions+")", args...).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("look up identities: %w", err)
	}
	owners := make(map[domain.Identity]int64, len(rows))
	for _, r := range rows {
		owners[domain.Identity{Kind: r.Kind, Value: r.Value}] = r.ContactID
	}
	return owners, nil
}

// makeContact inserts a contact with its identities. When somebody else was
// faster it takes the contact away again.
func (tx *Tx) makeContact(ids []domain.Identity, owners map[domain.Identity]int64, name string) (int64, error) {
	phone, username := contactAddresses(ids)
	var contactID int64
	const insert = "INSERT INTO contacts (organization_id, name, phone, username, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?) RETURNING id"
	err := tx.db.Raw(insert, tx.organizationID, name, phone, username, tx.now, tx.now).Scan(&contactID).Error
	if err != nil {
		return 0, fmt.Errorf("insert a contact: %w", err)
	}
	if err := tx.addIdentities(contactID, ids, owners); err != nil {
		if !errors.Is(err, errIdentityTaken) {
			return 0, err
		}
		if undo := tx.db.Exec("DELETE FROM contacts WHERE id = ?", contactID).Error; undo != nil {
			return 0, fmt.Errorf("take back a contact: %w", undo)
		}
		return 0, err
	}
	return contactID, tx.indexContact(contactID, name, username, phone)
}

// addIdentities gives the contact those of ids that it does not have yet. The
// insert waits for another transaction that is giving away the same.
func (tx *Tx) addIdentities(contactID int64, ids []domain.Identity, owners map[domain.Identity]int64) error {
	for _, id := range ids {
		owner := owners[id]
		switch {
		case owner == contactID:
		case owner != 0 && id.Kind == domain.IdentityUsername:
			if err := tx.takeUsername(contactID, owner, id.Value); err != nil {
				return err
			}
		case owner == 0:
			const insert = "INSERT INTO identities (organization_id, kind, value, contact_id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
			result := tx.db.Exec(insert, tx.organizationID, id.Kind, id.Value, contactID)
			if result.Error != nil {
				return fmt.Errorf("add an identity: %w", result.Error)
			}
			if result.RowsAffected == 0 {
				return errIdentityTaken
			}
		}
	}
	return nil
}

// takeUsername moves a user name from one contact to another.
func (tx *Tx) takeUsername(contactID, owner int64, username string) error {
	err := tx.db.Exec("UPDATE identities SET contact_id = ? WHERE organization_id = ? AND kind = ? AND value = ?",
		contactID, tx.organizationID, domain.IdentityUsername, username).Error
	if err != nil {
		return fmt.Errorf("move a user name: %w", err)
	}
	const strip = "UPDATE contacts SET username = '', updated_at = ? WHERE id = ? AND username = ? RETURNING name, phone"
	var former []struct{ Name, Phone string }
	if err := tx.db.Raw(strip, tx.now, owner, username).Scan(&former).Error; err != nil {
		return fmt.Errorf("move a user name: %w", err)
	}
	if len(former) == 0 {
		return nil
	}
	if err := tx.indexContact(owner, former[0].Name, "", former[0].Phone); err != nil {
		return err
	}
	return tx.contactChanged(owner)
}

// mergeContact moves all that belongs to the contact from into the contact to,
// and what is known of it only.
func (tx *Tx) mergeContact(to, from int64) error {
	failed := func(err error) error { return fmt.Errorf("merge contact %d into %d: %w", from, to, err) }
	if tx.store.Postgres() {
		if err := tx.db.Exec("SELECT 1 FROM contacts WHERE id IN (?, ?) ORDER BY id FOR UPDATE", to, from).Error; err != nil {
			return failed(err)
		}
	}
	// Before anything is changed of them: whoever has just put a message into one
	// waits for that.
	if _, err := tx.lockChats("contact_id IN (?, ?)", to, from); err != nil {
		return failed(err)
	}
	var gone struct{ Name, Phone, Username string }
	err := tx.db.Raw("SELECT name, phone, username FROM contacts WHERE id = ?", from).Scan(&gone).Error
	if err != nil {
		return failed(err)
	}
	err = tx.db.Exec(`UPDATE contacts SET updated_at = ?,
			name = CASE WHEN name = '' THEN ? ELSE name END, phone = CASE WHEN phone = '' THEN ? ELSE phone END,
			username = CASE WHEN username = '' THEN ? ELSE username END
		WHERE id = ?`, tx.now, gone.Name, gone.Phone, gone.Username, to).Error
	if err != nil {
		return failed(err)
	}
	if err := tx.mergePictures(to, from); err != nil {
		return failed(err)
	}
	for _, statement := range []string{
		"UPDATE identities SET contact_id = ? WHERE contact_id = ?",
		"UPDATE chats SET contact_id = ? WHERE contact_id = ?",
	} {
		if err := tx.db.Exec(statement, to, from).Error; err != nil {
			return failed(err)
		}
	}
	if err := tx.db.Exec("DELETE FROM contacts WHERE id = ? AND organization_id = ?", from, tx.organizationID).Error; err != nil {
		return failed(err)
	}
	if err := tx.mergeChats(to); err != nil {
		return failed(err)
	}
	return nil
}

// describeContact writes down what is newly known of a contact. changed says
// that it differs already.
func (tx *Tx) describeContact(contactID int64, ids []domain.Identity, name naming, changed bool) error {
	var now struct{ Name, Phone, Username string }
	err := tx.db.Raw("SELECT name, phone, username FROM contacts WHERE id = ?", contactID).Scan(&now).Error
	if err != nil {
		return fmt.Errorf("read contact %d: %w", contactID, err)
	}
	next := now
	phone, username := contactAddresses(ids)
	next.Name, next.Phone, next.Username = name.over(now.Name), cmp.Or(phone, now.Phone), cmp.Or(username, now.Username)
	if next != now {
		changed = true
		err := tx.db.Exec("UPDATE contacts SET name = ?, phone = ?, username = ?, updated_at = ? WHERE id = ?",
			next.Name, next.Phone, next.Username, tx.now, contactID).Error
		if err != nil {
			return fmt.Errorf("describe contact %d: %w", contactID, err)
		}
	}
	if !changed {
		return nil
	}
	if err := tx.indexContact(contactID, next.Name, next.Username, next.Phone); err != nil {
		return err
	}
	return tx.contactChanged(contactID)
}

func contactAddresses(ids []domain.Identity) (phone, username string) {
	for _, id := range ids {
		switch id.Kind {
		case domain.IdentityPhone:
			phone = id.Value
		case domain.IdentityUsername:
			username = id.Value
		default:
		}
	}
	return phone, username
}

// contactChanged tells of every chat of a contact, since each shows it.
func (tx *Tx) contactChanged(contactID int64) error {
	var chatIDs []int64
	err := tx.db.Raw("SELECT id FROM chats WHERE contact_id = ? AND organization_id = ? ORDER BY id", contactID, tx.organizationID).Scan(&chatIDs).Error
	if err != nil {
		return fmt.Errorf("list the chats of contact %d: %w", contactID, err)
	}
	for _, id := range chatIDs {
		chat, err := tx.LockChat(id)
		if err != nil {
			return err
		}
		tx.ChatUpdated(chat)
	}
	return nil
}
