package inbox

import (
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// fillOrPass is what becomes of a message whose row is there already: the
// content that a placeholder was waiting for, or a redelivery. The results are
// those of insertInbound.
func fillOrPass(tx *store.Tx, channelID int64, stored store.Stored, row store.NewMessageInput, in domain.InboundMessage) (*domain.Message, bool, error) {
	if !stored.Placeholder || in.Placeholder {
		return nil, false, nil
	}
	filled, err := fill(tx, channelID, stored, row, in)
	if err != nil || !filled {
		return nil, false, err
	}
	return &domain.Message{}, false, contentChanged(tx, store.MessageRef{ID: stored.ID, ChatID: stored.ChatID})
}

// fill gives a placeholder its content.
func fill(tx *store.Tx, channelID int64, stored store.Stored, row store.NewMessageInput, in domain.InboundMessage) (filled bool, err error) {
	row.MediaID, row.ReplyToID = nil, nil
	if in.ReplyToExternalID != "" {
		quoted, err := tx.FindExternal(channelID, in.Peer.Address, in.ReplyToExternalID)
		if err != nil {
			return false, err
		}
		if quoted.ID != 0 {
			row.ReplyToID = &quoted.ID
		}
	}
	if in.Media != nil {
		media, err := tx.InsertInboundMedia(channelID, *in.Media)
		if err != nil {
			return false, err
		}
		row.MediaID = &media.ID
	}
	filled, err = tx.FillMessage(stored.ID, row)
	if err == nil && !filled && row.MediaID != nil {
		err = tx.DropMedia(*row.MediaID) // it was taken back before it could be read
	}
	return filled, err
}
