package store

import (
	"fmt"

	"switchboard/internal/domain"
)

// A reaction, an edit or a revocation of ours shows at once, and the provider may
// refuse it later: then the customer still sees what there was. The command keeps
// that, in its columns undo_…, until the provider has spoken.

// undo is what there was: the emoji of a reaction, the text of a message that is
// edited, all that one says and shows that is taken back. Without Content nothing
// is kept.
type undo struct {
	Content, Location *string
	MediaID           *int64
	EditedAt          *domain.Time
}

const undoColumns = "undo_content AS content, undo_media_id AS media_id, undo_location AS location, undo_edited_at AS edited_at"

// EnqueueChange is EnqueueCommand for a reaction, edit or revocation. It comes
// before the message is changed, which is locked.
func (tx *Tx) EnqueueChange(c domain.Command) error {
	var before undo
	// What a command keeps that this one replaces is what the customer sees.
	err := tx.db.Raw("SELECT "+undoColumns+" FROM commands WHERE chat_id = ? AND message_id = ? AND kind = ?", c.ChatID, c.MessageID, c.Kind).Scan(&before).Error
	if err == nil && before.Content == nil {
		before, err = tx.present(c)
	}
	if err != nil {
		return fmt.Errorf("read what message %d says: %w", c.MessageID, err)
	}
	if err := tx.EnqueueCommand(c); err != nil {
		return err
	}
	err = tx.db.Exec("UPDATE commands SET undo_content = ?, undo_media_id = ?, undo_location = ?, undo_edited_at = ? WHERE chat_id = ? AND message_id = ? AND kind = ?",
		before.Content, before.MediaID, before.Location, before.EditedAt, c.ChatID, c.MessageID, c.Kind).Error
	if err != nil {
		return fmt.Errorf("keep what message %d says: %w", c.MessageID, err)
	}
	return nil
}

// present is what a command is about to change.
func (tx *Tx) present(c domain.Command) (now undo, err error) {
	query, args := "SELECT content, media_id, location, edited_at FROM messages WHERE id = ?", []any{c.MessageID}
	switch c.Kind {
	case domain.CommandEdit:
		query = "SELECT content, edited_at FROM messages WHERE id = ?"
	case domain.CommandReaction:
		query, args = "SELECT COALESCE(MAX(emoji), '') AS content FROM reactions WHERE message_id = ? AND sender_key = ?", append(args, SenderMe)
	}
	err = tx.db.Raw(query, args...).Scan(&now).Error
	return now, err
}

// FinishCommand removes a command that the provider has carried out.
func (tx *Tx) FinishCommand(c domain.Command) error {
	dropped, err := tx.dropCommand(c)
	switch {
	case err != nil:
		return err
	case dropped.before.MediaID != nil:
		return tx.releaseMedia(*dropped.before.MediaID)
	case dropped.messageID == 0 && c.Kind != domain.CommandRead: // a newer one has replaced it, upon what the customer sees now
		return tx.db.Exec("UPDATE commands SET undo_content = ?, undo_edited_at = ? WHERE message_id = ? AND kind = ? AND kind <> 'revoke' AND undo_content IS NOT NULL",
			c.Value, tx.now, c.MessageID, c.Kind).Error
	}
	return nil
}

// Abandoned is a command that was given up.
type Abandoned struct {
	// MessageID is the message that it was about, 0 if a newer one has replaced it.
	MessageID int64
	// Restored: the message shows again what the customer sees.
	Restored bool
}

// AbandonCommand removes a command that the provider has refused, and undoes what
// was shown for it.
func (tx *Tx) AbandonCommand(c domain.Command) (Abandoned, error) {
	dropped, err := tx.dropCommand(c)
	gone := Abandoned{MessageID: dropped.messageID}
	if err != nil || dropped.before.Content == nil {
		return gone, err
	}
	gone.Restored, err = tx.restore(c, dropped)
	return gone, err
}

func (tx *Tx) restore(c domain.Command, dropped droppedCommand) (restored bool, err error) {
	id, before := dropped.messageID, dropped.before
	query, args := "", []any(nil)
	switch c.Kind {
	case domain.CommandReaction:
		query = "UPDATE reactions SET emoji = ? WHERE message_id = ? AND sender_key = ? AND emoji = ? AND emoji <> ?"
		args = []any{before.Content, id, SenderMe, c.Value, before.Content}
	case domain.CommandRevoke:
		query = `UPDATE messages SET revoked_at = NULL, content = ?, media_id = ?, location = ?, edited_at = ?
			WHERE id = ? AND organization_id = ? AND revoked_at IS NOT NULL`
		args = []any{before.Content, before.MediaID, before.Location, before.EditedAt, id, tx.organizationID}
	case domain.CommandEdit:
		// A change that was made on top of this one, and waits, is on top of what there was.
		result := tx.db.Exec(`UPDATE commands SET undo_content = ?, undo_edited_at = ? WHERE undo_content = ?
				AND id = (SELECT MIN(id) FROM commands WHERE message_id = ? AND kind IN ('edit', 'revoke') AND id > ?)`,
			before.Content, before.EditedAt, c.Value, id, c.ID)
		if result.Error != nil || result.RowsAffected > 0 {
			return false, result.Error
		}
		query = "UPDATE messages SET content = ?, edited_at = ? WHERE id = ? AND organization_id = ? AND revoked_at IS NULL AND content = ?"
		args = []any{before.Content, before.EditedAt, id, tx.organizationID, c.Value}
	default:
		return false, nil
	}
	result := tx.db.Exec(query, args...)
	return result.RowsAffected > 0, result.Error
}

// EditedElsewhere is EditMessage for an edit that the provider tells of. It counts
// for what is kept, too: that is what the customer sees.
func (tx *Tx) EditedElsewhere(messageID int64, content string, at domain.Time) (changed bool, err error) {
	if err := tx.holdMessage(messageID); err != nil {
		return false, err
	}
	if changed, err = tx.EditMessage(messageID, content, at); err != nil {
		return false, err
	}
	err = tx.db.Exec(`UPDATE commands SET undo_content = ?, undo_edited_at = ? WHERE message_id = ? AND kind IN ('edit', 'revoke')
		AND undo_content IS NOT NULL AND (undo_edited_at IS NULL OR undo_edited_at <= ?)`, content, at, messageID, at).Error
	return changed, err
}

// ReactedElsewhere is SetReaction for one of ours that the provider tells of.
func (tx *Tx) ReactedElsewhere(messageID int64, name, emoji string, at domain.Time) (changed bool, err error) {
	if err := tx.holdMessage(messageID); err != nil {
		return false, err
	}
	if changed, err = tx.SetReaction(messageID, SenderMe, name, true, emoji, at); err != nil {
		return false, err
	}
	err = tx.db.Exec("UPDATE commands SET undo_content = ? WHERE message_id = ? AND kind = 'reaction' AND undo_content IS NOT NULL", emoji, messageID).Error
	return changed, err
}

// holdMessage locks a message: whoever settles or replaces a command on it does so
// first.
func (tx *Tx) holdMessage(id int64) error {
	if err := tx.db.Exec("SELECT 1 FROM messages WHERE id = ?"+tx.forUpdate(), id).Error; err != nil {
		return fmt.Errorf("lock message %d: %w", id, err)
	}
	return nil
}

// droppedCommand is a command that was removed: the message that it is about by
// now, after a merge of chats, and what it kept.
type droppedCommand struct {
	messageID int64 // 0: there was none
	before    undo
}

func (tx *Tx) dropCommand(c domain.Command) (dropped droppedCommand, err error) {
	var messageID int64
	if err := tx.db.Raw("SELECT message_id FROM commands WHERE id = ? AND organization_id = ?", c.ID, tx.organizationID).Scan(&messageID).Error; err != nil {
		return dropped, fmt.Errorf("look for command %d: %w", c.ID, err)
	}
	if err := tx.holdMessage(messageID); err != nil {
		return dropped, err
	}
	var row struct {
		MessageID int64
		Undo      undo `gorm:"embedded"`
	}
	err = tx.db.Raw("DELETE FROM commands WHERE id = ? AND organization_id = ? RETURNING message_id, "+undoColumns, c.ID, tx.organizationID).Scan(&row).Error
	if err != nil {
		return dropped, fmt.Errorf("remove command %d: %w", c.ID, err)
	}
	return droppedCommand{messageID: row.MessageID, before: row.Undo}, nil
}

// dropCommands removes commands k of which nothing shall come any more, with the
// files that only they keep.
func (tx *Tx) dropCommands(where string, args ...any) error {
	of := "(SELECT k.message_id FROM commands k WHERE " + where + ")"
	if err := tx.db.Exec("SELECT 1 FROM messages WHERE id IN "+of+" ORDER BY id"+tx.forUpdate(), args...).Error; err != nil {
		return fmt.Errorf("lock the messages of commands: %w", err)
	}
	var files []int64
	err := tx.db.Raw("DELETE FROM commands AS k WHERE "+where+" RETURNING COALESCE(undo_media_id, 0)", args...).Scan(&files).Error
	if err != nil {
		return fmt.Errorf("remove commands: %w", err)
	}
	for _, id := range files {
		if id == 0 {
			continue
		}
		if err := tx.releaseMedia(id); err != nil {
			return err
		}
	}
	return nil
}
