package store

import "fmt"

// Stored is a message that is stored under a key already.
type Stored struct {
	ID          int64 // 0: there is none
	ChatID      int64
	FromMe      bool
	Placeholder bool // its content could not be read; see FillMessage
}

// StoredMessage finds the message with a key, of which the sender may have
// several: people in groups have two addresses on WhatsApp.
func (tx *Tx) StoredMessage(channelID, chatID int64, externalID string, senderKeys []string) (Stored, error) {
	var row Stored
	err := tx.db.Raw(`SELECT id, chat_id, from_me, placeholder FROM messages
		WHERE channel_id = ? AND external_id = ? AND chat_id = ? AND sender_key IN ? ORDER BY id LIMIT 1`,
		channelID, externalID, chatID, senderKeys).Scan(&row).Error
	if err != nil {
		return row, fmt.Errorf("look for a message by its key: %w", err)
	}
	return row, nil
}

// MarkPlaceholder remembers that the content of a message could not be read.
func (tx *Tx) MarkPlaceholder(id int64) error {
	return tx.db.Exec("UPDATE messages SET placeholder = TRUE WHERE id = ? AND organization_id = ?", id, tx.organizationID).Error
}

// FillMessage gives a placeholder the content that could be read after all. An
// edit that came before it stays, and what was taken back stays empty. filled is
// false when there was nothing to fill in.
func (tx *Tx) FillMessage(id int64, in NewMessageInput) (filled bool, err error) {
	location, err := jsonText(in.Location)
	if err != nil {
		return false, err
	}
	result := tx.db.Exec(`UPDATE messages SET placeholder = FALSE, type = ?, content = CASE WHEN edited_at IS NULL THEN ? ELSE content END,
			media_id = ?, location = ?, reply_to_id = ?, reply_to_external_id = ?, sender_name = CASE WHEN sender_name = '' THEN ? ELSE sender_name END
		WHERE id = ? AND organization_id = ? AND placeholder AND revoked_at IS NULL`,
		in.Type, in.Content, in.MediaID, location, in.ReplyToID, nonEmpty(in.ReplyToExternalID), in.SenderName, id, tx.organizationID)
	if result.Error != nil {
		return false, fmt.Errorf("fill message %d: %w", id, result.Error)
	}
	if result.RowsAffected == 0 || in.MediaID == nil {
		return result.RowsAffected == 1, nil
	}
	return true, tx.LinkMedia(*in.MediaID, id)
}

// OneSender makes what somebody reacted with to a message, under other addresses
// of theirs, a reaction under key: the newest of them.
// moved tells that there was something.
func (tx *Tx) OneSender(messageID int64, key string, aliases []string) (moved bool, err error) {
	for _, alias := range aliases {
		err := tx.db.Exec(`INSERT INTO reactions (message_id, sender_key, emoji, from_me, sender_name, reacted_at)
			SELECT message_id, ?, emoji, from_me, sender_name, reacted_at FROM reactions WHERE message_id = ? AND sender_key = ?
			ON CONFLICT (message_id, sender_key) DO UPDATE SET emoji = excluded.emoji, sender_name = excluded.sender_name, reacted_at = excluded.reacted_at
			WHERE reactions.reacted_at < excluded.reacted_at`, key, messageID, alias).Error
		if err != nil {
			return false, fmt.Errorf("merge reactions: %w", err)
		}
		result := tx.db.Exec("DELETE FROM reactions WHERE message_id = ? AND sender_key = ?", messageID, alias)
		if result.Error != nil {
			return false, fmt.Errorf("merge reactions: %w", result.Error)
		}
		moved = moved || result.RowsAffected > 0
	}
	return moved, nil
}
