package store

import (
	"encoding/json"
	"fmt"

	"switchboard/internal/domain"
)

// RaiseStatus brings an outbound message up to a reported status, if that is
// higher than what it has (domain.MessageStatus.Rank). found tells whether the
// message exists, raised whether it changed.
//
// A message is found by our own mark where the provider gave it back, else by
// the provider's id. What is said of an earlier attempt counts only if it says
// that the customer has the message.
func (tx *Tx) RaiseStatus(channelID int64, in domain.InboundStatus) (change domain.MessageStatusChange, found, raised bool, err error) {
	var row struct {
		ID, ChatID int64
		Attempt    int
		Status     domain.MessageStatus
		ExternalID *string
	}
	query := "SELECT id, chat_id, attempt, status, external_id FROM messages WHERE organization_id = ? AND channel_id = ? AND from_me AND "
	if in.MessageID != 0 {
		err = tx.db.Raw(query+"id = ?"+tx.forUpdate(), tx.organizationID, channelID, in.MessageID).Scan(&row).Error
	}
	if err == nil && row.ID == 0 && in.ExternalID != "" {
		err = tx.db.Raw(query+"external_id = ? ORDER BY id DESC LIMIT 1"+tx.forUpdate(), tx.organizationID, channelID, in.ExternalID).Scan(&row).Error
	}
	if err != nil || row.ID == 0 {
		return change, false, false, err
	}
	change = domain.MessageStatusChange{MessageID: row.ID, ChatID: row.ChatID, Status: in.Status, Error: in.Error}
	arrived := in.Status.Rank() >= domain.StatusDelivered.Rank()
	old := in.Attempt != 0 && in.Attempt != row.Attempt
	if in.Status.Rank() <= row.Status.Rank() || old && !arrived {
		return change, true, false, nil
	}
	var code, message string
	if in.Error != nil {
		code, message = in.Error.Code, in.Error.Message
	}
	external := row.ExternalID
	if external == nil {
		external = nonEmpty(in.ExternalID)
	}
	err = tx.db.Exec("UPDATE messages SET status = ?, error_code = ?, error_message = ?, external_id = ? WHERE id = ?",
		in.Status, code, message, external, row.ID).Error
	if err != nil {
		return change, true, false, fmt.Errorf("raise status: %w", err)
	}
	return change, true, true, nil
}

// forUpdate locks the rows that a query reads; SQLite's transactions hold the
// whole database already.
func (tx *Tx) forUpdate() string {
	if tx.store.Postgres() {
		return " FOR NO KEY UPDATE"
	}
	return ""
}

// KeepEarly stores an update that speaks of a message that is not here yet. Of
// statuses of one message it keeps the furthest: in a group everybody's phone
// tells of each message, and of reactions and edits, too, which are no messages.
func (tx *Tx) KeepEarly(channelID int64, externalID string, in domain.Inbound) error {
	if in.Status != nil && in.Status.Error == nil {
		if kept, err := tx.keepFurther(channelID, externalID, *in.Status); err != nil || kept {
			return err
		}
	}
	payload, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode early update: %w", err)
	}
	return tx.db.Exec("INSERT INTO early_updates (channel_id, external_id, payload, created_at) VALUES (?, ?, ?, ?)",
		channelID, externalID, string(payload), tx.now).Error
}

// keepFurther leaves it at a status that waits already, if that says no less. One
// that says less gives way.
func (tx *Tx) keepFurther(channelID int64, externalID string, in domain.InboundStatus) (kept bool, err error) {
	var rows []struct {
		ID      int64
		Payload string
	}
	err = tx.db.Raw("SELECT id, payload FROM early_updates WHERE channel_id = ? AND external_id = ? ORDER BY id LIMIT 100", channelID, externalID).Scan(&rows).Error
	if err != nil {
		return false, fmt.Errorf("read early updates: %w", err)
	}
	for _, r := range rows {
		var other domain.Inbound
		if json.Unmarshal([]byte(r.Payload), &other) != nil || other.Status == nil || other.Status.Error != nil ||
			other.Status.MessageID != in.MessageID || other.Status.Attempt != in.Attempt {
			continue
		}
		if other.Status.Status.Rank() >= in.Status.Rank() {
			return true, nil
		}
		if err := tx.db.Exec("DELETE FROM early_updates WHERE id = ?", r.ID).Error; err != nil {
			return false, fmt.Errorf("replace an early update: %w", err)
		}
	}
	return false, nil
}

// EarlyUpdates removes what waits for a message and hands it to apply, oldest
// first. What apply keeps waiting (KeepEarly) stays as old as it is.
func (tx *Tx) EarlyUpdates(channelID int64, externalID string, apply func(domain.Inbound) error) error {
	var rows []struct {
		ID        int64
		Payload   string
		Tries     int
		CreatedAt domain.Time
	}
	err := tx.db.Raw("SELECT id, payload, tries, created_at FROM early_updates WHERE channel_id = ? AND external_id = ? ORDER BY id"+tx.forUpdate(),
		channelID, externalID).Scan(&rows).Error
	if err != nil {
		return err
	}
	for _, r := range rows {
		var update domain.Inbound
		if err := json.Unmarshal([]byte(r.Payload), &update); err != nil {
			return fmt.Errorf("early update %d: %w", r.ID, err)
		}
		if err := tx.db.Exec("DELETE FROM early_updates WHERE id = ?", r.ID).Error; err != nil {
			return err
		}
		if err := apply(update); err != nil {
			return err
		}
		// Kept again: by apply, as new, in this very transaction.
		err := tx.db.Exec("UPDATE early_updates SET tries = ?, created_at = ? WHERE channel_id = ? AND external_id = ? AND payload = ? AND tries = 0",
			r.Tries+1, r.CreatedAt, channelID, externalID, r.Payload).Error
		if err != nil {
			return err
		}
	}
	return nil
}

// FirstSeen reports whether an update with the provider's id is new, and
// remembers it. An update without an id counts as new.
func (tx *Tx) FirstSeen(channelID int64, externalID string) (bool, error) {
	if externalID == "" {
		return true, nil
	}
	result := tx.db.Exec("INSERT INTO seen_updates (channel_id, external_id, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
		channelID, externalID, tx.now)
	return result.RowsAffected == 1, result.Error
}

// SetReaction puts a sender's reaction on a message, or takes it away (empty
// emoji). An older one than what is there, or the same, changes nothing.
func (tx *Tx) SetReaction(messageID int64, senderKey, senderName string, fromMe bool, emoji string, at domain.Time) (changed bool, err error) {
	// A removal of what never was is remembered too: the reaction may be late.
	var had struct{ Emoji *string }
	if err := tx.db.Raw("SELECT emoji FROM reactions WHERE message_id = ? AND sender_key = ?", messageID, senderKey).Scan(&had).Error; err != nil {
		return false, err
	}
	result := tx.db.Exec(`INSERT INTO reactions (message_id, sender_key, emoji, from_me, sender_name, reacted_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (message_id, sender_key) DO UPDATE SET emoji = excluded.emoji, sender_name = excluded.sender_name, reacted_at = excluded.reacted_at
		WHERE reactions.reacted_at <= excluded.reacted_at AND reactions.emoji <> excluded.emoji`,
		messageID, senderKey, emoji, fromMe, senderName, at)
	if result.Error != nil {
		return false, fmt.Errorf("set reaction: %w", result.Error)
	}
	return result.RowsAffected == 1 && deref(had.Emoji) != emoji, nil
}

// EditMessage replaces a message's content. An edit older than the last one,
// or of a revoked message, changes nothing.
func (tx *Tx) EditMessage(messageID int64, content string, at domain.Time) (changed bool, err error) {
	result := tx.db.Exec(`UPDATE messages SET content = ?, edited_at = ? WHERE id = ? AND organization_id = ?
		AND revoked_at IS NULL AND (edited_at IS NULL OR edited_at <= ?) AND content <> ?`,
		content, at, messageID, tx.organizationID, at, content)
	return result.RowsAffected == 1, result.Error
}

// RevokeMessage marks a message as taken back. What it said and showed goes, and
// what is kept of it (EnqueueChange).
func (tx *Tx) RevokeMessage(messageID int64, at domain.Time) (changed bool, err error) {
	if changed, err = tx.HideMessage(messageID, at); err != nil {
		return false, err
	}
	return changed, tx.forget(messageID)
}

// HideMessage marks a message as taken back. Its file goes, unless it is kept.
func (tx *Tx) HideMessage(messageID int64, at domain.Time) (changed bool, err error) {
	var media *int64
	if err := tx.db.Raw("SELECT media_id FROM messages WHERE id = ?"+tx.forUpdate(), messageID).Scan(&media).Error; err != nil {
		return false, fmt.Errorf("read the file of message %d: %w", messageID, err)
	}
	result := tx.db.Exec(`UPDATE messages SET revoked_at = ?, content = '', media_id = NULL, location = NULL
		WHERE id = ? AND organization_id = ? AND revoked_at IS NULL`, at, messageID, tx.organizationID)
	if result.Error != nil || media == nil {
		return result.RowsAffected == 1, result.Error
	}
	return result.RowsAffected == 1, tx.releaseMedia(*media)
}

// RefreshLast brings the line under a chat's name up to an edit or revocation
// of its last message, or to one that was filled in; changed is false when the message is not the last.
func (tx *Tx) RefreshLast(chatID, messageID int64) (chat domain.Chat, changed bool, err error) {
	var m struct {
		Content string
		Type    domain.MessageType
	}
	// What was taken back is an empty text, whatever it was.
	err = tx.db.Raw("SELECT content, CASE WHEN revoked_at IS NULL THEN type ELSE 'text' END AS type FROM messages WHERE id = ?", messageID).Scan(&m).Error
	if err != nil {
		return chat, false, err
	}
	return tx.updateChat("last_message_content = @content, last_message_type = @type", "c.last_message_id = @message", chatID,
		map[string]any{"content": clip(m.Content, lastContent), "type": m.Type, "message": messageID})
}
