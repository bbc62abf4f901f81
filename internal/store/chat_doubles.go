package store

import "fmt"

// doubles are messages that two chats both had, and that one of them keeps.
type doubles struct {
	kept   []int64
	unread int // how many of them both chats counted as unread
}

// doubleRow is a message with what else decides which of two stays as what.
type doubleRow struct {
	Row         messageRow `gorm:"embedded"`
	Placeholder bool
}

// mergeDoubles makes one message of each that is in both chats: the same thing
// can arrive under each of a person's addresses. The row in into stays, with
// what the other knows better, and with what hangs on the other.
func (tx *Tx) mergeDoubles(into, from lockedChat) (found doubles, err error) {
	var pairs []struct{ Kept, Gone int64 }
	err = tx.db.Raw(`SELECT k.id AS kept, o.id AS gone FROM messages o JOIN messages k ON k.channel_id = o.channel_id
			AND k.external_id = o.external_id AND k.sender_key = o.sender_key AND k.chat_id = ?
		WHERE o.chat_id = ? AND o.external_id IS NOT NULL ORDER BY k.id`, into.ID, from.ID).Scan(&pairs).Error
	if err != nil {
		return found, err
	}
	for _, p := range pairs {
		var rows []doubleRow
		err := tx.db.Raw("SELECT "+messageColumns+", m.placeholder FROM messages m WHERE m.id IN (?, ?)"+tx.forUpdate(), p.Kept, p.Gone).Scan(&rows).Error
		if err != nil {
			return found, err
		}
		if len(rows) != 2 {
			return found, fmt.Errorf("messages %d and %d: %w", p.Kept, p.Gone, ErrNotFound)
		}
		kept, gone := rows[0], rows[1]
		if kept.Row.ID != p.Kept {
			kept, gone = gone, kept
		}
		if err := tx.mergeDouble(into, from, kept, gone); err != nil {
			return found, err
		}
		found.kept = append(found.kept, p.Kept)
		if !kept.Row.FromMe && p.Kept > into.ReadUpToID && p.Gone > from.ReadUpToID {
			found.unread++
		}
	}
	found.unread = min(found.unread, into.UnreadCount, from.UnreadCount)
	return found, nil
}

func (tx *Tx) mergeDouble(into, from lockedChat, kept, gone doubleRow) error {
	files, err := tx.mergeSeen(kept, gone)
	if err != nil {
		return err
	}
	next := combine(kept, gone)
	for _, s := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO reactions (message_id, sender_key, emoji, from_me, sender_name, reacted_at)
			SELECT ?, sender_key, emoji, from_me, sender_name, reacted_at FROM reactions WHERE message_id = ?
			ON CONFLICT (message_id, sender_key) DO UPDATE SET emoji = excluded.emoji, sender_name = excluded.sender_name, reacted_at = excluded.reacted_at
			WHERE reactions.reacted_at < excluded.reacted_at`, []any{kept.Row.ID, gone.Row.ID}},
		{"UPDATE commands SET message_id = ? WHERE message_id = ?", []any{kept.Row.ID, gone.Row.ID}},
		{"UPDATE media SET message_id = ? WHERE message_id = ?", []any{kept.Row.ID, gone.Row.ID}},
		{"UPDATE messages SET reply_to_id = ? WHERE reply_to_id = ? AND chat_id IN (?, ?)", []any{kept.Row.ID, gone.Row.ID, into.ID, from.ID}},
		{"UPDATE chats SET last_message_id = ? WHERE last_message_id = ? AND id = ?", []any{kept.Row.ID, gone.Row.ID, from.ID}},
		{"DELETE FROM messages WHERE id = ?", []any{gone.Row.ID}},
		{`UPDATE messages SET placeholder = ?, type = ?, content = ?, media_id = ?, location = ?, reply_to_id = ?, reply_to_external_id = ?,
			sender_user_id = ?, client_message_id = ?, status = ?, error_code = ?, error_message = ?, edited_at = ?, revoked_at = ? WHERE id = ?`, []any{
			next.Placeholder, next.Row.Type, next.Row.Content, next.Row.MediaID, next.Row.Location, next.Row.ReplyToID, next.Row.ReplyToExternalID,
			next.Row.SenderUserID, next.Row.ClientMessageID, next.Row.Status, next.Row.ErrorCode, next.Row.ErrorMessage, next.Row.EditedAt,
			next.Row.RevokedAt, kept.Row.ID,
		}},
	} {
		if err := tx.db.Exec(s.query, s.args...).Error; err != nil {
			return err
		}
	}
	for _, media := range append(files, kept.Row.MediaID, gone.Row.MediaID) {
		if media == nil || next.Row.MediaID != nil && *media == *next.Row.MediaID {
			continue
		}
		if err := tx.releaseMedia(*media); err != nil {
			return err
		}
	}
	return nil
}

// combine is the message that two rows of one are together.
func combine(kept, gone doubleRow) doubleRow {
	next, other := kept, gone.Row
	if kept.Placeholder && !gone.Placeholder {
		next.Placeholder = false
		next.Row.Type, next.Row.Content, next.Row.MediaID, next.Row.Location = other.Type, other.Content, other.MediaID, other.Location
		next.Row.ReplyToID, next.Row.ReplyToExternalID = other.ReplyToID, other.ReplyToExternalID
	}
	if kept.Row.FromMe && other.Status.Rank() > kept.Row.Status.Rank() {
		next.Row.Status, next.Row.ErrorCode, next.Row.ErrorMessage = other.Status, other.ErrorCode, other.ErrorMessage
	}
	if next.Row.SenderUserID == nil {
		next.Row.SenderUserID = other.SenderUserID
	}
	if next.Row.ClientMessageID == nil {
		next.Row.ClientMessageID = other.ClientMessageID
	}
	if at := other.EditedAt; at != nil && *at > deref(next.Row.EditedAt) {
		next.Row.Content, next.Row.EditedAt = other.Content, at
	}
	if next.Row.RevokedAt == nil && other.RevokedAt != nil {
		next.Row.RevokedAt = other.RevokedAt
	}
	if next.Row.RevokedAt != nil {
		next.Row.Content, next.Row.MediaID, next.Row.Location = "", nil, nil
	}
	return next
}

// releaseMedia lets go of a file that no contact shows any more, unless a message
// does or may again: its bytes go with the next sweep.
func (tx *Tx) releaseMedia(id int64) error {
	// Of two who let go of it at once the second one sees what the first has done.
	if err := tx.db.Exec("SELECT 1 FROM media WHERE id = ?"+tx.forUpdate(), id).Error; err != nil {
		return fmt.Errorf("lock media %d: %w", id, err)
	}
	err := tx.db.Exec(`UPDATE media SET state = 'deleted', provider_ref = '', filename = '', message_id = NULL, contact_id = NULL
		WHERE id = ? AND organization_id = ? AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.media_id = media.id)
			AND NOT EXISTS (SELECT 1 FROM message_seen s WHERE s.media_id = media.id)`,
		id, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("let go of media %d: %w", id, err)
	}
	return nil
}
