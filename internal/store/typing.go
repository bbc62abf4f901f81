package store

import (
	"context"
	"fmt"

	"switchboard/internal/domain"
)

// addressKinds are the identities by whose value somebody can be addressed on a
// network.
var addressKinds = []domain.IdentityKind{
	domain.IdentityPhone, domain.IdentityLID, domain.IdentityTelegram, domain.IdentityGroup, domain.IdentityBSUID,
}

// Typist is the chat in which a customer writes, and who that is.
type Typist struct {
	ChatID    int64 // 0: there is no such chat
	ContactID int64
}

// Typist finds the chat with an address on a channel of an organization, under
// whichever of the contact's addresses it is kept. sender is who writes in a
// group, else empty; somebody who is not known goes as the group.
func (s *Store) Typist(ctx context.Context, organizationID, channelID int64, address, sender string) (Typist, error) {
	db := s.db.WithContext(ctx)
	var found Typist
	err := db.Raw("SELECT id AS chat_id, contact_id FROM chats WHERE channel_id = ? AND peer = ? AND organization_id = ?",
		channelID, address, organizationID).Scan(&found).Error
	if err == nil && found.ChatID == 0 {
		err = db.Raw(`SELECT c.id AS chat_id, c.contact_id FROM identities i JOIN chats c ON c.contact_id = i.contact_id AND c.channel_id = ?
			WHERE i.organization_id = ? AND i.kind IN ? AND i.value = ? ORDER BY c.id LIMIT 1`, channelID, organizationID, addressKinds, address).Scan(&found).Error
	}
	if err == nil && found.ChatID != 0 && sender != "" {
		var known int64
		err = db.Raw("SELECT contact_id FROM identities WHERE organization_id = ? AND kind IN ? AND value = ? ORDER BY contact_id LIMIT 1",
			organizationID, addressKinds, sender).Scan(&known).Error
		if known != 0 {
			found.ContactID = known
		}
	}
	if err != nil {
		return Typist{}, fmt.Errorf("look for who types on channel %d: %w", channelID, err)
	}
	return found, nil
}
