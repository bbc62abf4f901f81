package store

import (
	"fmt"

	"switchboard/internal/domain"
)

// An edit or a revocation of ours shows at once, and the provider may refuse it
// later: then the customer still sees what there was. The command keeps that, in
// its columns undo_…, until the provider has spoken.

// undo is what a message said: all of it for a revocation, the text for an edit.
type undo struct {
	Content, Location *string
	MediaID           *int64
	EditedAt          *domain.Time
}

const undoColumns = "undo_content AS content, undo_media_id AS media_id, undo_location AS location, undo_edited_at AS edited_at"

// EnqueueChange is EnqueueCommand for an edit or revocation, and comes before the
// message is changed.
func (tx *Tx) EnqueueChange(c domain.Command) error {
	var before undo
	// What a command keeps that this one replaces is what the customer sees.
	err := tx.db.Raw("SELECT "+undoColumns+" FROM commands WHERE chat_id = ? AND message_id = ? AND kind = ?", c.ChatID, c.MessageID, c.Kind).Scan(&before).Error
	if err == nil && before.Content == nil {
		err = tx.db.Raw("SELECT content, media_id, location, edited_at FROM messages WHERE id = ?", c.MessageID).Scan(&before).Error
	}
	if err != nil {
		return fmt.Errorf("read what message %d says: %w", c.MessageID, err)
	}
	if c.Kind == domain.CommandEdit {
		before.MediaID, before.Location = nil, nil
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

// FinishCommand removes a command that the provider has carried out.
func (tx *Tx) FinishCommand(c domain.Command) error {
	before, dropped, err := tx.dropCommand(c)
	switch {
	case err != nil:
		return err
	case before.MediaID != nil:
		return tx.releaseMedia(*before.MediaID)
	case !dropped && c.Kind == domain.CommandEdit: // another edit has replaced it: this one's text is what the customer sees
		return tx.db.Exec("UPDATE commands SET undo_content = ?, undo_edited_at = ? WHERE message_id = ? AND kind = ? AND undo_content IS NOT NULL",
			c.Value, tx.now, c.MessageID, c.Kind).Error
	}
	return nil
}

// AbandonCommand removes a command that is given up. dropped is false when a newer
// one has replaced it; restored tells that the message says again what the
// customer sees.
func (tx *Tx) AbandonCommand(c domain.Command) (dropped, restored bool, err error) {
	before, dropped, err := tx.dropCommand(c)
	if err != nil || before.Content == nil {
		return dropped, false, err
	}
	if c.Kind == domain.CommandRevoke {
		result := tx.db.Exec(`UPDATE messages SET revoked_at = NULL, content = ?, media_id = ?, location = ?, edited_at = ?
			WHERE id = ? AND organization_id = ? AND revoked_at IS NOT NULL`,
			before.Content, before.MediaID, before.Location, before.EditedAt, c.MessageID, tx.organizationID)
		return true, result.RowsAffected == 1, result.Error
	}
	// A change that was made on top of this one, and waits, is on top of what there was.
	result := tx.db.Exec(`UPDATE commands SET undo_content = ?, undo_edited_at = ? WHERE undo_content IS NOT NULL
			AND id = (SELECT MIN(id) FROM commands WHERE message_id = ? AND kind IN ('edit', 'revoke') AND id > ?)`,
		before.Content, before.EditedAt, c.MessageID, c.ID)
	if result.Error != nil || result.RowsAffected > 0 {
		return true, false, result.Error
	}
	result = tx.db.Exec("UPDATE messages SET content = ?, edited_at = ? WHERE id = ? AND organization_id = ? AND revoked_at IS NULL AND content = ?",
		before.Content, before.EditedAt, c.MessageID, tx.organizationID, c.Value)
	return true, result.RowsAffected == 1, result.Error
}

// dropCommand removes a command and returns what it kept. It locks the message
// first, as those do who change it and replace the command.
func (tx *Tx) dropCommand(c domain.Command) (before undo, dropped bool, err error) {
	if err := tx.db.Exec("SELECT 1 FROM messages WHERE id = ?"+tx.forUpdate(), c.MessageID).Error; err != nil {
		return before, false, fmt.Errorf("lock message %d: %w", c.MessageID, err)
	}
	result := tx.db.Raw("DELETE FROM commands WHERE id = ? AND organization_id = ? RETURNING "+undoColumns, c.ID, tx.organizationID).Scan(&before)
	if result.Error != nil {
		return before, false, fmt.Errorf("remove command %d: %w", c.ID, result.Error)
	}
	return before, result.RowsAffected == 1, nil
}

// dropCommands removes commands of which nothing shall come any more, with the
// files that only they keep.
func (tx *Tx) dropCommands(where string, args ...any) error {
	var files []int64
	if err := tx.db.Raw("DELETE FROM commands WHERE "+where+" RETURNING COALESCE(undo_media_id, 0)", args...).Scan(&files).Error; err != nil {
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
