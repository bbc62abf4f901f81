package store

import (
	"fmt"
	"time"

	"switchboard/internal/domain"
)

// A reaction, an edit or a revocation of ours shows at once, and the provider may
// refuse it later: then the customer still sees what there was. As long as changes
// of a message wait, message_seen has what the customer sees. It begins as what
// the message said before the first of them, and follows what the provider carries
// out, and tells.

// part is what changes of which are about the same.
type part string

const (
	partMessage  part = "message"  // edits and the revocation
	partReaction part = "reaction" // ours
)

func partOf(kind domain.CommandKind) part {
	switch kind {
	case domain.CommandReaction:
		return partReaction
	case domain.CommandEdit, domain.CommandRevoke:
		return partMessage
	default:
		return ""
	}
}

// kinds are the commands that are about it.
func (p part) kinds() []domain.CommandKind {
	if p == partReaction {
		return []domain.CommandKind{domain.CommandReaction}
	}
	return []domain.CommandKind{domain.CommandEdit, domain.CommandRevoke}
}

// seen is what the customer sees of a message: its text, file and place and when
// it was edited, or our reaction, whose it is and when it was given. ToldAt is when
// that was done elsewhere, on the phone perhaps.
type seen struct {
	Content    string
	MediaID    *int64
	Location   *string
	SenderName string
	At, ToldAt *domain.Time
}

// newer reports whether s is of a later moment than other.
func (s seen) newer(other seen) bool { return deref(s.At) > deref(other.At) }

// EnqueueChange is EnqueueCommand for a reaction, edit or revocation. It comes
// before the message is changed, which is locked.
func (tx *Tx) EnqueueChange(c domain.Command) error {
	of := partOf(c.Kind)
	_, waits, err := tx.seenOf(c.MessageID, of)
	if err == nil && !waits {
		var now seen
		if now, err = tx.present(c.MessageID, of); err == nil {
			err = tx.putSeen(c.MessageID, of, now)
		}
	}
	if err != nil {
		return fmt.Errorf("keep what the customer sees of message %d: %w", c.MessageID, err)
	}
	return tx.EnqueueCommand(c)
}

// present is what a message says now, or our reaction to it.
func (tx *Tx) present(messageID int64, of part) (now seen, err error) {
	query, args := "SELECT content, media_id, location, edited_at AS at FROM messages WHERE id = ?", []any{messageID}
	if of == partReaction {
		query = "SELECT emoji AS content, sender_name, reacted_at AS at FROM reactions WHERE message_id = ? AND sender_key = ?"
		args = append(args, SenderMe)
	}
	err = tx.db.Raw(query, args...).Scan(&now).Error
	return now, err
}

func (tx *Tx) seenOf(messageID int64, of part) (s seen, found bool, err error) {
	result := tx.db.Raw("SELECT content, media_id, location, sender_name, at, told_at FROM message_seen WHERE message_id = ? AND part = ?", messageID, of).Scan(&s)
	return s, result.RowsAffected == 1, result.Error
}

func (tx *Tx) putSeen(messageID int64, of part, s seen) error {
	return tx.db.Exec(`INSERT INTO message_seen (message_id, part, content, media_id, location, sender_name, at, told_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (message_id, part) DO UPDATE SET content = excluded.content, media_id = excluded.media_id, location = excluded.location,
			sender_name = excluded.sender_name, at = excluded.at, told_at = excluded.told_at`,
		messageID, of, s.Content, s.MediaID, s.Location, s.SenderName, s.At, s.ToldAt).Error
}

// underWay is longer than a command is under way to the provider.
const underWay = time.Minute

// FinishCommand removes a command that the provider has carried out. changed tells
// that the message shows something else now than before, as the customer does.
func (tx *Tx) FinishCommand(c domain.Command) (messageID int64, changed bool, err error) {
	messageID, asked, err := tx.dropCommand(c)
	of := partOf(c.Kind)
	switch {
	case err != nil || of == "":
		return messageID, false, err
	case c.Kind == domain.CommandRevoke:
		return messageID, false, tx.forget(messageID)
	}
	s, found, err := tx.seenOf(messageID, of)
	if err != nil || !found {
		return messageID, false, err
	}
	if told := deref(s.ToldAt); told == 0 || told < asked || told.Add(underWay) < tx.now { // else what was done elsewhere may be later
		// Others may wait on top of this, one that has replaced it among them. Which
		// operator it was is not known any more.
		s.Content, s.SenderName, s.At, s.ToldAt = c.Value, "", &tx.now, nil
		if err := tx.putSeen(messageID, of, s); err != nil {
			return messageID, false, fmt.Errorf("note what the customer sees of message %d: %w", messageID, err)
		}
	}
	changed, err = tx.settle(messageID, of, s)
	return messageID, changed, err
}

// settle makes a message what the customer sees when nothing waits any more, and
// forgets that then.
func (tx *Tx) settle(messageID int64, of part, s seen) (changed bool, err error) {
	var waiting int
	err = tx.db.Raw("SELECT COUNT(*) FROM commands WHERE message_id = ? AND kind IN ?", messageID, of.kinds()).Scan(&waiting).Error
	if err != nil || waiting > 0 {
		return false, err
	}
	if changed, err = tx.restore(messageID, of, s); err != nil {
		return false, fmt.Errorf("show what the customer sees of message %d: %w", messageID, err)
	}
	return changed, tx.forgetSeen("s.message_id = ? AND s.part = ?", messageID, of)
}

// Abandoned is a command that was given up.
type Abandoned struct {
	// MessageID is the message that it was about.
	MessageID int64
	// Restored: the message shows again what the customer sees.
	Restored bool
}

// AbandonCommand removes a command that the provider has refused. When nothing
// else waits, the message shows again what the customer sees. missed is false if
// nobody misses it: a newer one has replaced it, or the customer sees it anyway.
func (tx *Tx) AbandonCommand(c domain.Command) (gone Abandoned, missed bool, err error) {
	messageID, asked, err := tx.dropCommand(c)
	gone.MessageID = messageID
	of := partOf(c.Kind)
	if err != nil || asked == 0 || of == "" {
		return gone, asked != 0, err
	}
	s, found, err := tx.seenOf(messageID, of)
	if err != nil || !found && of == partMessage {
		return gone, true, err
	}
	gone.Restored, err = tx.settle(messageID, of, s)
	return gone, c.Kind == domain.CommandRevoke || s.Content != c.Value, err
}

// restore makes a message, or our reaction to it, what the customer sees. It may
// say the same already, and not have been edited.
func (tx *Tx) restore(messageID int64, of part, s seen) (changed bool, err error) {
	query := `UPDATE messages SET content = ?, media_id = CASE WHEN revoked_at IS NULL THEN media_id ELSE ? END,
			location = CASE WHEN revoked_at IS NULL THEN location ELSE ? END, edited_at = ?, revoked_at = NULL
		WHERE id = ? AND organization_id = ? AND (revoked_at IS NOT NULL OR content <> ? OR edited_at IS NOT NULL AND ?)`
	args := []any{s.Content, s.MediaID, s.Location, s.At, messageID, tx.organizationID, s.Content, s.At == nil}
	if of == partReaction {
		query = "UPDATE reactions SET emoji = ?, sender_name = ?, reacted_at = ? WHERE message_id = ? AND sender_key = ? AND emoji <> ?"
		args = []any{s.Content, s.SenderName, deref(s.At), messageID, SenderMe, s.Content}
	}
	result := tx.db.Exec(query, args...)
	return result.RowsAffected > 0, result.Error
}

// EditedElsewhere is EditMessage for an edit that the provider tells of.
func (tx *Tx) EditedElsewhere(messageID int64, content string, at domain.Time) (changed bool, err error) {
	if err := tx.holdMessage(messageID); err != nil {
		return false, err
	}
	if changed, err = tx.EditMessage(messageID, content, at); err != nil {
		return false, err
	}
	err = tx.db.Exec("UPDATE message_seen SET content = ?, at = ?, told_at = ? WHERE message_id = ? AND part = ? AND (at IS NULL OR at <= ?)",
		content, at, at, messageID, partMessage, at).Error
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
	err = tx.db.Exec("UPDATE message_seen SET content = ?, sender_name = ?, at = ?, told_at = ? WHERE message_id = ? AND part = ? AND (at IS NULL OR at <= ?)",
		emoji, name, at, at, messageID, partReaction, at).Error
	return changed, err
}

// forget drops what waits for a message that is gone from the customer's phone, and
// what is kept of it.
func (tx *Tx) forget(messageID int64) error {
	err := tx.db.Exec("DELETE FROM commands WHERE message_id = ? AND kind IN ?", messageID, partMessage.kinds()).Error
	if err != nil {
		return fmt.Errorf("remove the changes of message %d: %w", messageID, err)
	}
	return tx.forgetSeen("s.message_id = ? AND s.part = ?", messageID, partMessage)
}

// dropCommands removes commands k of which nothing shall come any more, with what
// is kept of their messages.
func (tx *Tx) dropCommands(where string, args ...any) error {
	of := "(SELECT k.message_id FROM commands k WHERE " + where + ")"
	if err := tx.db.Exec("SELECT 1 FROM messages WHERE id IN "+of+" ORDER BY id"+tx.forUpdate(), args...).Error; err != nil {
		return fmt.Errorf("lock the messages of commands: %w", err)
	}
	if err := tx.forgetSeen("s.message_id IN "+of, args...); err != nil {
		return err
	}
	if err := tx.db.Exec("DELETE FROM commands AS k WHERE "+where, args...).Error; err != nil {
		return fmt.Errorf("remove commands: %w", err)
	}
	return nil
}

// forgetSeen removes rows s of message_seen, and the files that only they keep.
func (tx *Tx) forgetSeen(where string, args ...any) error {
	var files []int64
	err := tx.db.Raw("DELETE FROM message_seen AS s WHERE "+where+" RETURNING COALESCE(media_id, 0)", args...).Scan(&files).Error
	if err != nil {
		return fmt.Errorf("forget what customers see: %w", err)
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

// holdMessage locks a message: whoever settles or replaces a command on it does so
// first.
func (tx *Tx) holdMessage(id int64) error {
	if err := tx.db.Exec("SELECT 1 FROM messages WHERE id = ?"+tx.forUpdate(), id).Error; err != nil {
		return fmt.Errorf("lock message %d: %w", id, err)
	}
	return nil
}

// dropCommand removes a command and returns the message that it is about by now,
// locked: chats may have been merged since the command was read, or while the lock
// was waited for. asked is when it was enqueued, 0 when a newer one has replaced it.
func (tx *Tx) dropCommand(c domain.Command) (messageID int64, asked domain.Time, err error) {
	for held := int64(-1); held != messageID && partOf(c.Kind) != ""; { // a read receipt changes no message
		held = messageID
		// A newer one is about the same message, under this id or what it was merged into.
		err = tx.db.Raw(`SELECT COALESCE((SELECT message_id FROM commands WHERE id = ?), (SELECT id FROM messages WHERE id = ?),
				(SELECT MIN(id) FROM messages WHERE channel_id = ? AND external_id = ? AND from_me = ?), 0)`,
			c.ID, c.MessageID, c.ChannelID, c.TargetExternalID, c.TargetFromMe).Scan(&messageID).Error
		if err == nil && held != messageID {
			err = tx.holdMessage(messageID)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("look for command %d: %w", c.ID, err)
		}
	}
	err = tx.db.Raw("DELETE FROM commands WHERE id = ? AND organization_id = ? RETURNING created_at", c.ID, tx.organizationID).Scan(&asked).Error
	if err != nil {
		return 0, 0, fmt.Errorf("remove command %d: %w", c.ID, err)
	}
	return messageID, asked, nil
}
