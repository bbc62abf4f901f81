package store

import (
	"context"
	"fmt"

	"switchboard/internal/domain"
)

// SendClaim says which messages a worker wants to send now.
type SendClaim struct {
	ChannelID int64
	Term      int64 // of the lease, whose guard the transaction has
	Limit     int
	// Busy are chats that have something under way; they are passed over.
	Busy []int64
	// NewExternalID names a message before it is sent, for providers that
	// recognise a repeated send by its id; nil where the provider names it.
	NewExternalID func() string
}

// ClaimSends marks messages as being sent and returns them, each the oldest
// unsent one of its chat. A chat whose oldest message is being sent, or waits
// for another try, is passed over: order within a chat is kept.
func (tx *Tx) ClaimSends(claim SendClaim) ([]domain.Outbound, error) {
	busy := ""
	args := map[string]any{"channel": claim.ChannelID, "now": tx.now, "limit": claim.Limit, "org": tx.organizationID, "term": claim.Term}
	if len(claim.Busy) > 0 {
		busy, args["busy"] = " AND chat_id NOT IN @busy", claim.Busy
	}
	var ids []int64
	err := tx.db.Raw(`WITH head AS (
			SELECT MIN(id) AS id FROM messages
			WHERE channel_id = @channel AND status IN ('queued', 'sending')`+busy+` GROUP BY chat_id),
		due AS (
			SELECT m.id FROM messages m JOIN head ON head.id = m.id
			WHERE m.status = 'queued' AND m.next_attempt_at <= @now ORDER BY m.id LIMIT @limit)
		UPDATE messages SET status = 'sending', attempt = attempt + 1, sending_term = @term
		WHERE id IN (SELECT id FROM due) AND status = 'queued' AND organization_id = @org
		RETURNING id`, args).Scan(&ids).Error
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	if claim.NewExternalID != nil {
		for _, id := range ids {
			// Only once: a message keeps its id through all its sends.
			err := tx.db.Exec("UPDATE messages SET external_id = ? WHERE id = ? AND external_id IS NULL", claim.NewExternalID(), id).Error
			if err != nil {
				return nil, fmt.Errorf("name message %d: %w", id, err)
			}
		}
	}
	return tx.outbound(ids)
}

// outbound completes claimed messages, oldest first.
func (tx *Tx) outbound(ids []int64) ([]domain.Outbound, error) {
	var rows []struct {
		Row             messageRow `gorm:"embedded"`
		Peer            string
		ReplyExternalID *string
	}
	err := tx.db.Raw("SELECT "+messageColumns+`, c.peer, COALESCE(m.reply_to_external_id, r.external_id) AS reply_external_id
		FROM messages m JOIN chats c ON c.id = m.chat_id LEFT JOIN messages r ON r.id = m.reply_to_id
		WHERE m.id IN ? ORDER BY m.id`, ids).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read claimed messages: %w", err)
	}
	plain := make([]messageRow, len(rows))
	for i, r := range rows {
		plain[i] = r.Row
	}
	messages, err := tx.store.messages(tx.db, plain)
	if err != nil {
		return nil, err
	}
	out := make([]domain.Outbound, len(rows))
	for i, r := range rows {
		out[i] = domain.Outbound{Message: messages[i], Attempt: r.Row.Attempt, Peer: r.Peer, ReplyToExternalID: deref(r.ReplyExternalID)}
	}
	return out, nil
}

// SendState is a message as the settlement of its send finds it.
type SendState struct {
	ID, ChatID, ChannelID int64
	Status                domain.MessageStatus
	Attempt               int
	Retries               int
	ExternalID            string
}

// LockSend reads the message of a send and keeps others from changing it until
// the commit. A message that is gone has ID 0.
func (tx *Tx) LockSend(messageID int64) (SendState, error) {
	var row SendState
	err := tx.db.Raw("SELECT id, chat_id, channel_id, status, attempt, retries, COALESCE(external_id, '') AS external_id FROM messages WHERE id = ? AND organization_id = ?"+
		tx.forUpdate(), messageID, tx.organizationID).Scan(&row).Error
	return row, err
}

// UnsettledSends are the messages of a channel whose send has begun and was
// never settled, but for the excepted ones, oldest first, locked until the
// commit.
func (tx *Tx) UnsettledSends(channelID int64, except []int64) ([]SendState, error) {
	return tx.unsettled("", map[string]any{"channel": channelID}, except)
}

// UnsettledClaims are those of UnsettledSends that were claimed under a term of
// the channel's lease.
func (tx *Tx) UnsettledClaims(channelID, term int64, except []int64) ([]SendState, error) {
	return tx.unsettled(" AND sending_term = @term", map[string]any{"channel": channelID, "term": term}, except)
}

func (tx *Tx) unsettled(condition string, args map[string]any, except []int64) ([]SendState, error) {
	args["org"] = tx.organizationID
	if len(except) > 0 {
		condition += " AND id NOT IN @except"
		args["except"] = except
	}
	var rows []SendState
	err := tx.db.Raw(`SELECT id, chat_id, channel_id, status, attempt, retries, COALESCE(external_id, '') AS external_id FROM messages
		WHERE channel_id = @channel AND status IN ('queued', 'sending') AND status = 'sending' AND organization_id = @org`+condition+
		" ORDER BY id"+tx.forUpdate(), args).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read unsettled sends: %w", err)
	}
	return rows, nil
}

// HoldingAlone is Holding that first waits for the end of every other
// transaction under the lease, and keeps new ones waiting until the commit. A
// COMMIT whose answer was lost may still be under way in the database: the
// transaction holds its share of the lease's row until it is over, so what
// this guard lets through sees what became of it.
func HoldingAlone(lease Lease) Guard {
	return func(tx *Tx) error {
		if tx.store.Postgres() { // SQLite has one writer at a time
			err := tx.db.Exec("SELECT 1 FROM leases WHERE channel_id = ? FOR NO KEY UPDATE", lease.ChannelID).Error
			if err != nil {
				return fmt.Errorf("lock the lease of channel %d: %w", lease.ChannelID, err)
			}
		}
		return Holding(lease)(tx)
	}
}

// SetSendStatus writes what became of a send. The error is kept for failed and
// unknown ones and cleared otherwise (nil).
func (tx *Tx) SetSendStatus(messageID int64, status domain.MessageStatus, reason *domain.SendError) error {
	var code, message string
	if reason != nil {
		code, message = reason.Code, reason.Message
	}
	err := tx.db.Exec("UPDATE messages SET status = ?, error_code = ?, error_message = ? WHERE id = ? AND organization_id = ?",
		status, code, message, messageID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("settle message %d: %w", messageID, err)
	}
	return nil
}

// SetExternalID stores the provider's name of a message. taken means that
// another message of the chat has that name; nothing is changed then. A
// transaction beside this one may take it as well, which fails the statement:
// see IsTaken.
func (tx *Tx) SetExternalID(messageID int64, externalID string) (taken bool, err error) {
	var other int64
	err = tx.db.Raw(`SELECT o.id FROM messages m JOIN messages o
			ON o.channel_id = m.channel_id AND o.external_id = ? AND o.chat_id = m.chat_id AND o.sender_key = m.sender_key AND o.id <> m.id
		WHERE m.id = ? AND m.organization_id = ?`, externalID, messageID, tx.organizationID).Scan(&other).Error
	if err != nil {
		return false, fmt.Errorf("look for the name of message %d: %w", messageID, err)
	}
	if other != 0 {
		return true, nil
	}
	err = tx.db.Exec("UPDATE messages SET external_id = ? WHERE id = ? AND organization_id = ?", externalID, messageID, tx.organizationID).Error
	if err != nil {
		return false, fmt.Errorf("name message %d: %w", messageID, err)
	}
	return false, nil
}

// IsTaken reports whether a transaction failed because another one stored the
// same unique key first. Running it again will find that one.
func IsTaken(err error) bool { return isUnique(err) }

// RequeueSend puts a message back into the outbox, to be sent at or after at.
// counted ones come nearer to the bound of automatic retries.
func (tx *Tx) RequeueSend(messageID int64, at domain.Time, counted bool, reason *domain.SendError) error {
	retries := 0
	if counted {
		retries = 1
	}
	var code, message string
	if reason != nil {
		code, message = reason.Code, reason.Message
	}
	err := tx.db.Exec(`UPDATE messages SET status = 'queued', retries = retries + ?, next_attempt_at = ?, error_code = ?, error_message = ?
		WHERE id = ? AND organization_id = ?`, retries, at, code, message, messageID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("requeue message %d: %w", messageID, err)
	}
	return nil
}

// TypingTarget is where a typing signal goes: a chat's address, and the
// provider's id of the customer's newest message in it.
type TypingTarget struct {
	Peer           string
	LastExternalID string
}

// TypingTarget looks up a chat of a channel; ErrNotFound if there is none.
func (s *Store) TypingTarget(ctx context.Context, channelID, chatID int64) (TypingTarget, error) {
	var row struct {
		Peer       *string
		ExternalID *string
	}
	err := s.db.WithContext(ctx).Raw(`SELECT c.peer, (SELECT m.external_id FROM messages m
				WHERE m.chat_id = c.id AND NOT m.from_me AND m.external_id IS NOT NULL ORDER BY m.provider_time DESC, m.id DESC LIMIT 1) AS external_id
		FROM chats c WHERE c.id = ? AND c.channel_id = ?`, chatID, channelID).Scan(&row).Error
	if err != nil {
		return TypingTarget{}, err
	}
	if row.Peer == nil {
		return TypingTarget{}, ErrNotFound
	}
	return TypingTarget{Peer: *row.Peer, LastExternalID: deref(row.ExternalID)}, nil
}
