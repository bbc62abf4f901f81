package inbox

import (
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// applyContact takes over what a network tells of somebody who is known. The
// contacts, and the chats of each channel, that turn out to be one person's
// become one.
func applyContact(tx *store.Tx, channelID int64, in domain.InboundContact) error {
	contactID, err := tx.FindContact(in.Peer.Identities)
	if err != nil || contactID == 0 {
		return err
	}
	if contactID, _, err = tx.EnsureContact(in.Peer.Identities, in.Peer.Name); err != nil {
		return err
	}
	if in.Peer.Address != "" && in.Peer.Kind != domain.ChatGroup && len(in.Peer.Identities) > 1 {
		if err := tx.Readdress(channelID, contactID, in.Peer.Address); err != nil {
			return err
		}
	}
	if in.Picture == nil {
		return nil
	}
	return tx.SetPicture(channelID, contactID, *in.Picture)
}

// phone is who read what was read on the organization's own phone
// (domain.MessagesRead).
const phone = 0

func applyRead(tx *store.Tx, channelID int64, in domain.InboundRead) error {
	reading, err := tx.ReadElsewhere(channelID, in.Peer.Address, in.ExternalIDs)
	if err != nil || !reading.Changed {
		return err
	}
	tx.MessagesRead(domain.MessagesRead{ChatID: reading.Chat.ID, ReadByUserID: phone, UpToMessageID: reading.UpToID})
	tx.ChatUpdated(reading.Chat)
	return nil
}
