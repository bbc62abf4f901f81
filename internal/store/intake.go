package store

import (
	"context"
	"fmt"
	"slices"
)

// IntakePosition returns how far the intake of a channel has come: what
// SetIntakePosition last committed, empty at first.
func (s *Store) IntakePosition(ctx context.Context, channelID int64) (string, error) {
	var position string
	err := s.db.WithContext(ctx).Raw("SELECT position FROM intakes WHERE channel_id = ?", channelID).Scan(&position).Error
	if err != nil {
		return "", fmt.Errorf("read the intake position of channel %d: %w", channelID, err)
	}
	return position, nil
}

// SetIntakePosition remembers how far the intake of a channel has come,
// together with what the transaction stores.
func (tx *Tx) SetIntakePosition(channelID int64, position string) error {
	err := tx.db.Exec(`INSERT INTO intakes (channel_id, position, updated_at) VALUES (?, ?, ?)
		ON CONFLICT (channel_id) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at`,
		channelID, position, tx.now).Error
	if err != nil {
		return fmt.Errorf("set the intake position of channel %d: %w", channelID, err)
	}
	return nil
}

// MoveChat lets a group's chat go on under a new address: group chats change
// theirs when the network makes them larger. If there is a chat under each, the
// older one goes on with what is in the other, which is deleted. chatID is 0
// when there is none under the former address; moved are the messages that
// changed their chat, and absorbed is the chat that went, 0 if there was none.
func (tx *Tx) MoveChat(channelID int64, former, address string) (chatID, absorbed int64, moved []int64, err error) {
	failed := func(err error) (int64, int64, []int64, error) {
		return 0, 0, nil, fmt.Errorf("move a chat of channel %d to its new address: %w", channelID, err)
	}
	type chatPeer struct {
		ID   int64
		Peer string
	}
	var rows []chatPeer
	err = tx.db.Raw("SELECT id, peer FROM chats WHERE channel_id = ? AND organization_id = ? AND peer IN (?, ?) ORDER BY id"+tx.forUpdate(),
		channelID, tx.organizationID, former, address).Scan(&rows).Error
	if err != nil {
		return failed(err)
	}
	if !slices.ContainsFunc(rows, func(r chatPeer) bool { return r.Peer == former }) {
		return 0, 0, nil, nil
	}
	chatID = rows[0].ID
	if len(rows) > 1 {
		absorbed = rows[1].ID
		if moved, err = tx.absorbChat(chatID, absorbed); err != nil {
			return failed(err)
		}
	}
	if err := tx.db.Exec("UPDATE chats SET peer = ?, updated_at = ? WHERE id = ?", address, tx.now, chatID).Error; err != nil {
		return failed(err)
	}
	return chatID, absorbed, moved, nil
}

// absorbChat moves what is in a chat into another one of the same channel and
// deletes it.
func (tx *Tx) absorbChat(into, from int64) (moved []int64, err error) {
	if err := tx.db.Raw("SELECT id FROM messages WHERE chat_id = ? ORDER BY id", from).Scan(&moved).Error; err != nil {
		return nil, err
	}
	for _, table := range []string{"messages", "commands", "tickets", "notes", "notifications"} {
		if err := tx.db.Exec("UPDATE "+table+" SET chat_id = ? WHERE chat_id = ?", into, from).Error; err != nil {
			return nil, err
		}
	}
	const newer = "CASE WHEN o.last_message_at >= COALESCE(c.last_message_at, 0) THEN o."
	err = tx.db.Exec(`UPDATE chats AS c SET unread_count = c.unread_count + o.unread_count,
			status = CASE WHEN o.unread_count > 0 AND c.status = 'resolved' THEN 'open' ELSE c.status END,
			ticket_id = COALESCE(c.ticket_id, o.ticket_id), assignee_id = COALESCE(c.assignee_id, o.assignee_id),
			last_message_id = `+newer+`last_message_id ELSE c.last_message_id END,
			last_message_content = `+newer+`last_message_content ELSE c.last_message_content END,
			last_message_type = `+newer+`last_message_type ELSE c.last_message_type END,
			last_message_from_me = `+newer+`last_message_from_me ELSE c.last_message_from_me END,
			last_message_created_at = `+newer+`last_message_created_at ELSE c.last_message_created_at END,
			last_message_at = `+newer+`last_message_at ELSE c.last_message_at END,
			last_inbound_at = CASE WHEN o.last_inbound_at > c.last_inbound_at THEN o.last_inbound_at ELSE c.last_inbound_at END,
			activity_at = CASE WHEN o.activity_at > c.activity_at THEN o.activity_at ELSE c.activity_at END
		FROM chats o WHERE c.id = ? AND o.id = ?`, into, from).Error
	if err != nil {
		return nil, err
	}
	return moved, tx.db.Exec("DELETE FROM chats WHERE id = ? AND organization_id = ?", from, tx.organizationID).Error
}
