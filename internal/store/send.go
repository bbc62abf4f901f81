package store

import (
	"fmt"
	"strconv"

	"switchboard/internal/domain"
)

// Destination is the chat that an operator writes to, with what decides
// whether and how.
type Destination struct {
	ChatID, ChannelID int64
	ChannelKind       domain.ChannelKind
	ChannelEnabled    bool
	ChannelDeleted    bool
	LastInboundAt     domain.Time
	UserName          string
}

// Destination looks up a chat of the organization for a message of a user.
func (tx *Tx) Destination(chatID, userID int64) (Destination, error) {
	var row Destination
	err := tx.db.Raw(`SELECT c.id AS chat_id, c.channel_id, c.channel_kind, ch.enabled AS channel_enabled,
			ch.deleted_at IS NOT NULL AS channel_deleted, c.last_inbound_at, COALESCE(u.name, '') AS user_name
		FROM chats c JOIN channels ch ON ch.id = c.channel_id
		LEFT JOIN users u ON u.id = ? AND u.organization_id = c.organization_id
		WHERE c.id = ? AND c.organization_id = ?`, userID, chatID, tx.organizationID).Scan(&row).Error
	if err != nil {
		return row, fmt.Errorf("look up chat: %w", err)
	}
	if row.ChatID == 0 {
		return row, domain.NotFound("chat")
	}
	return row, nil
}

// ByClientID finds the message that was stored under a client's id. A zero id
// means that there is none.
func (tx *Tx) ByClientID(clientMessageID string) (id, chatID int64, err error) {
	var row struct{ ID, ChatID int64 }
	err = tx.db.Raw("SELECT id, chat_id FROM messages WHERE organization_id = ? AND client_message_id = ?",
		tx.organizationID, clientMessageID).Scan(&row).Error
	return row.ID, row.ChatID, err
}

// UsableMedia returns the state and type of a file of the organization that may
// be sent; domain.NotFound if there is none. Pictures of contacts come and go
// with the contacts.
func (tx *Tx) UsableMedia(id int64) (*domain.Media, error) {
	var row mediaRow
	err := tx.db.Raw("SELECT * FROM media WHERE id = ? AND organization_id = ? AND contact_id IS NULL", id, tx.organizationID).Scan(&row).Error
	if err != nil {
		return nil, err
	}
	if row.ID == 0 {
		return nil, domain.NotFound("media")
	}
	return row.media(), nil
}

// Own is a message as the actions on it need it.
type Own struct {
	ID, ChatID, ChannelID int64
	ChannelKind           domain.ChannelKind
	FromMe                bool
	Type                  domain.MessageType
	Status                domain.MessageStatus
	Revoked               bool
	HasExternalID         bool
	At                    domain.Time // when it was last sent, or else written
}

// LockMessage reads a message of the organization and keeps others from
// changing it until the commit.
func (tx *Tx) LockMessage(id int64) (Own, error) {
	var row Own
	err := tx.db.Raw(`SELECT id, chat_id, channel_id, channel_kind, from_me, type, status, revoked_at IS NOT NULL AS revoked,
			external_id IS NOT NULL AS has_external_id, COALESCE(sent_at, provider_time) AS at
		FROM messages WHERE id = ? AND organization_id = ?`+tx.forUpdate(), id, tx.organizationID).Scan(&row).Error
	if err != nil {
		return row, err
	}
	if row.ID == 0 {
		return row, domain.NotFound("message")
	}
	return row, nil
}

// Requeue puts a message that failed, or whose fate is not known, back into
// the outbox because an operator asked for it. keepID keeps the provider's id,
// for providers that recognise a message sent twice by it.
func (tx *Tx) Requeue(id int64, keepID bool) error {
	external := "NULL"
	if keepID {
		external = "external_id"
	}
	return tx.db.Exec("UPDATE messages SET status = 'queued', error_code = '', error_message = '', external_id = "+external+", retries = 0, "+
		"next_attempt_at = 0 WHERE id = ? AND organization_id = ?", id, tx.organizationID).Error
}

// Cancel takes a message that has not left out of the outbox.
func (tx *Tx) Cancel(id int64, reason domain.SendError) error {
	result := tx.db.Exec(`UPDATE messages SET status = 'failed', error_code = ?, error_message = ?
		WHERE id = ? AND organization_id = ? AND status = 'queued'`, reason.Code, reason.Message, id, tx.organizationID)
	if result.Error != nil || result.RowsAffected == 0 {
		return result.Error
	}
	_, err := tx.RevokeMessage(id, tx.now)
	return err
}

// EnqueueCommand leaves an action for the channel's worker. A newer reading of
// a chat replaces one that still waits; so does a newer reaction, edit or
// revocation of the same message.
func (tx *Tx) EnqueueCommand(c domain.Command) error {
	query, subject := "DELETE FROM commands WHERE chat_id = ? AND kind = ? AND message_id = ?", []any{c.ChatID, c.Kind, c.MessageID}
	if c.Kind == domain.CommandRead {
		query, subject = "DELETE FROM commands WHERE chat_id = ? AND kind = ?", subject[:2]
		var waiting string
		if err := tx.db.Raw("SELECT value FROM commands WHERE chat_id = ? AND kind = ?", subject...).Scan(&waiting).Error; err != nil {
			return fmt.Errorf("look for a reading: %w", err)
		}
		c.Value = strconv.Itoa(count(c.Value) + count(waiting))
	}
	if err := tx.db.Exec(query, subject...).Error; err != nil {
		return fmt.Errorf("replace command: %w", err)
	}
	err := tx.db.Exec(`INSERT INTO commands (organization_id, channel_id, chat_id, message_id, kind, value, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		tx.organizationID, c.ChannelID, c.ChatID, c.MessageID, c.Kind, c.Value, tx.now).Error
	if err != nil {
		return fmt.Errorf("enqueue command: %w", err)
	}
	return nil
}

// count reads how many messages a reading is of.
func count(value string) int {
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0
	}
	return n
}

// Reading is what marking a chat as read changed.
type Reading struct {
	Changed bool
	Chat    domain.Chat
	// UpToID is the newest message that is read now; InboundID the customer's
	// newest at or before it that the provider knows, 0 if there is none.
	UpToID, InboundID int64
	// Messages is how many of the customer's were not read before.
	Messages  int
	ChannelID int64
}

// MarkRead marks a chat's messages as read up to one of them (0: all).
func (tx *Tx) MarkRead(chatID, upToID int64) (Reading, error) {
	var chat struct {
		ID, ChannelID, ReadUpToID int64
		UnreadCount               int
	}
	err := tx.db.Raw("SELECT id, channel_id, read_up_to_id, unread_count FROM chats WHERE id = ? AND organization_id = ?"+tx.forUpdate(),
		chatID, tx.organizationID).Scan(&chat).Error
	if err != nil {
		return Reading{}, err
	}
	if chat.ID == 0 {
		return Reading{}, domain.NotFound("chat")
	}
	var newest struct{ UpTo, Inbound *int64 }
	if upToID != 0 {
		var own int64
		if err := tx.db.Raw("SELECT id FROM messages WHERE id = ? AND chat_id = ?", upToID, chatID).Scan(&own).Error; err != nil {
			return Reading{}, err
		}
		if own == 0 {
			return Reading{}, domain.Invalid("upToMessageId", "There is no such message in this chat.")
		}
	}
	err = tx.db.Raw(`SELECT
			(SELECT id FROM messages WHERE chat_id = @chat AND (@upTo = 0 OR id <= @upTo) ORDER BY id DESC LIMIT 1) AS up_to,
			(SELECT id FROM messages WHERE chat_id = @chat AND (@upTo = 0 OR id <= @upTo) AND NOT from_me AND external_id IS NOT NULL AND type <> 'system'
				ORDER BY id DESC LIMIT 1) AS inbound`,
		map[string]any{"chat": chatID, "upTo": upToID}).Scan(&newest).Error
	if err != nil {
		return Reading{}, err
	}
	reading := Reading{ChannelID: chat.ChannelID}
	if newest.UpTo == nil || (*newest.UpTo <= chat.ReadUpToID && chat.UnreadCount == 0) {
		reading.Chat, err = tx.Chat(chatID)
		return reading, err
	}
	reading.UpToID = max(*newest.UpTo, chat.ReadUpToID)
	if newest.Inbound != nil {
		reading.InboundID = *newest.Inbound
	}
	reading.Chat, reading.Changed, err = tx.updateChat("read_up_to_id = @upTo, unread_count = "+
		fewer("m.chat_id = c.id AND m.id > @upTo AND NOT m.from_me AND m.status = 'received'"), "TRUE", chatID, map[string]any{"upTo": reading.UpToID})
	reading.Messages = chat.UnreadCount - reading.Chat.UnreadCount
	return reading, err
}

// fewer is an expression for the unread count of a chat c: the messages that
// meet a condition, or what it was if that is less. Reading raises no count, and
// imports, which nobody has to read, meet the condition too.
func fewer(condition string) string {
	return "(SELECT CASE WHEN q.n < c.unread_count THEN q.n ELSE c.unread_count END FROM (SELECT COUNT(*) AS n FROM messages m WHERE " + condition + ") q)"
}

// ReadElsewhere marks a chat's messages as read up to the newest of some of the
// customer's, which the organization's own phone has read. Changed is false for
// messages that are not known, and for what was read before.
func (tx *Tx) ReadElsewhere(channelID int64, peer string, externalIDs []string) (Reading, error) {
	failed := func(err error) (Reading, error) {
		return Reading{}, fmt.Errorf("read a chat of channel %d: %w", channelID, err)
	}
	list, err := jsonText(&externalIDs)
	if err != nil {
		return failed(err)
	}
	var newest struct {
		ID, ChatID   int64
		ProviderTime domain.Time
	}
	err = tx.db.Raw(`SELECT m.id, m.chat_id, m.provider_time FROM messages m JOIN chats c ON c.id = m.chat_id
		WHERE m.channel_id = ? AND `+tx.store.isOneOf("m.external_id")+` AND m.organization_id = ? AND NOT m.from_me AND `+atAddress+`
		ORDER BY m.provider_time DESC, m.id DESC LIMIT 1`, channelID, list, tx.organizationID, peer, peer).Scan(&newest).Error
	if err != nil {
		return failed(err)
	}
	if newest.ID == 0 {
		return Reading{}, nil
	}
	reading := Reading{ChannelID: channelID}
	count := fewer("m.chat_id = c.id AND (m.provider_time, m.id) > (@at, @newest) AND NOT m.from_me AND m.status = 'received'")
	reading.Chat, reading.Changed, err = tx.updateChat(
		"read_up_to_id = CASE WHEN c.read_up_to_id > @newest THEN c.read_up_to_id ELSE @newest END, unread_count = "+count,
		"(c.read_up_to_id < @newest OR c.unread_count <> "+count+")", newest.ChatID, map[string]any{"at": newest.ProviderTime, "newest": newest.ID})
	if err != nil || !reading.Changed {
		return reading, err
	}
	err = tx.db.Raw("SELECT read_up_to_id FROM chats WHERE id = ?", newest.ChatID).Scan(&reading.UpToID).Error
	return reading, err
}
