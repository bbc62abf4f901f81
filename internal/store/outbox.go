package store

import (
	"context"
	"fmt"

	"switchboard/internal/domain"
)

// dueBy is an SQL expression, with the process's clock as @now, for the time by
// which what waits in the outbox is due. A message is queued on one machine and
// sent from another: it must not wait until the second one's clock has caught up.
// The subquery is run once for a statement, so an index can be searched by it.
func (s *Store) dueBy() string {
	if !s.Postgres() {
		return "@now"
	}
	return "(SELECT GREATEST(@now, " + s.databaseNow() + "))"
}

// SendClaim says which messages a worker wants to send now.
type SendClaim struct {
	ChannelID int64
	Term      int64 // of the lease, whose guard the transaction has
	// Limit is the most messages to claim, Bulk the most of them for chats in
	// which nothing but bulk waits.
	Limit, Bulk int
	// Passed are chats that are passed over: they have something under way, or
	// the provider wants nothing for them now.
	Passed []int64
	// NewExternalID names a message before it is sent, for providers that
	// recognise a repeated send by its id; nil where the provider names it.
	NewExternalID func() string
}

// SendsClaimed is what a claim brought.
type SendsClaimed struct {
	Messages []domain.Outbound
	// More: another claim may bring more at once.
	More bool
}

// waiting is the condition on a chat's unsent messages m. Its first half is the
// partial index's own, word for word: SQLite takes the index for no other.
const waiting = "m.channel_id = @channel AND m.status IN ('queued', 'sending')"

// ClaimSends marks messages as being sent and returns them, each the oldest
// unsent one of its chat. A chat whose oldest message is being sent, or waits
// for another try, is passed over: order within a chat is kept. Chats in which
// a normal message waits come before those with nothing but bulk, and among
// equals the chat whose message waits longest.
func (tx *Tx) ClaimSends(claim SendClaim) (SendsClaimed, error) {
	line, more, err := tx.headsOfLine(claim)
	if err != nil || len(line) == 0 {
		return SendsClaimed{}, err
	}
	bulk, misplaced := map[int64]bool{}, false
	var chats, heads []int64
	for _, chat := range line {
		chats = append(chats, chat.ChatID)
		bulk[chat.ChatID] = chat.Priority != 0
		switch head := chat.head(); {
		case head == 0:
		case bulk[chat.ChatID] != (chat.Normal == nil): // it belongs in the other line
			misplaced = true
		default:
			heads = append(heads, head)
		}
	}
	ids, err := tx.markSending(claim, heads)
	if err != nil {
		return SendsClaimed{}, err
	}
	moved, err := tx.advanceLine(claim.ChannelID, chats)
	if err != nil {
		return SendsClaimed{}, err
	}
	claimed := SendsClaimed{More: more && len(ids) > 0 || (more || misplaced) && moved}
	if len(ids) == 0 {
		return claimed, nil
	}
	if claimed.Messages, err = tx.outbound(ids); err != nil {
		return SendsClaimed{}, err
	}
	for i, out := range claimed.Messages {
		claimed.Messages[i].Bulk = bulk[out.Message.ChatID]
	}
	return claimed, nil
}

// chatInLine is a chat that has something to send.
type chatInLine struct {
	ChatID       int64
	Priority     int
	Normal, Bulk *int64 // the oldest unsent message of each priority
}

// head is the oldest unsent message; 0 if there is none.
func (c chatInLine) head() int64 {
	switch {
	case c.Normal == nil && c.Bulk == nil:
		return 0
	case c.Normal == nil || c.Bulk != nil && *c.Bulk < *c.Normal:
		return *c.Bulk
	default:
		return *c.Normal
	}
}

// headsOfLine returns the chats whose turn it is, and keeps others from changing
// their place until the commit. A chat of which a place is just being changed is
// passed over. more tells that others stand behind these.
func (tx *Tx) headsOfLine(claim SendClaim) (chats []chatInLine, more bool, err error) {
	lock := ""
	if tx.store.Postgres() {
		lock = " FOR UPDATE SKIP LOCKED"
	}
	passed, args := passedOver(claim.Passed, map[string]any{
		"channel": claim.ChannelID, "now": tx.now, "limit": claim.Limit, "bulk": min(claim.Bulk, claim.Limit),
	})
	line := "SELECT chat_id, priority, due_at FROM outbox WHERE channel_id = @channel AND due_at <= " + tx.store.dueBy() + " AND priority = "
	const inOrder = " ORDER BY due_at, chat_id LIMIT "
	err = tx.db.Raw(`WITH urgent AS (`+line+"0"+passed+inOrder+"@limit"+lock+`), others AS (`+line+"1"+passed+inOrder+"@bulk"+lock+`)
		SELECT q.chat_id, q.priority,
			(SELECT MIN(m.id) FROM messages m WHERE `+waiting+` AND m.chat_id = q.chat_id AND m.priority = 0) AS normal,
			(SELECT MIN(m.id) FROM messages m WHERE `+waiting+` AND m.chat_id = q.chat_id AND m.priority = 1) AS bulk
		FROM (SELECT * FROM urgent UNION ALL SELECT * FROM others) q ORDER BY q.priority, q.due_at, q.chat_id`, args).Scan(&chats).Error
	if err != nil {
		return nil, false, fmt.Errorf("look at the outbox: %w", err)
	}
	if len(chats) > claim.Limit {
		return chats[:claim.Limit], true, nil
	}
	ofBulk := 0
	for _, c := range chats {
		ofBulk += c.Priority
	}
	return chats, len(chats) == claim.Limit || ofBulk == claim.Bulk && ofBulk > 0, nil
}

// passedOver adds the condition on chats that are passed over.
func passedOver(chats []int64, args map[string]any) (condition string, all map[string]any) {
	if len(chats) == 0 {
		return "", args
	}
	args["passed"] = chats
	return " AND chat_id NOT IN @passed", args
}

// markSending claims those of the messages that may go now, and returns them. A
// message that somebody is changing is passed over, so that a claim waits for
// nobody.
func (tx *Tx) markSending(claim SendClaim, messages []int64) (claimed []int64, err error) {
	if len(messages) == 0 {
		return nil, nil
	}
	lock := ""
	if tx.store.Postgres() {
		lock = " FOR UPDATE SKIP LOCKED"
	}
	err = tx.db.Raw(`UPDATE messages SET status = 'sending', attempt = attempt + 1, sending_term = @term, sent_at = @now
		WHERE id IN (SELECT id FROM messages WHERE id IN @messages AND organization_id = @org AND status = 'queued' AND next_attempt_at <= `+tx.store.dueBy()+lock+`)
		RETURNING id`, map[string]any{"term": claim.Term, "messages": messages, "org": tx.organizationID, "now": tx.now}).Scan(&claimed).Error
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	if claim.NewExternalID != nil {
		for _, id := range claimed {
			// Only once: a message keeps its id through all its sends.
			err := tx.db.Exec("UPDATE messages SET external_id = ? WHERE id = ? AND external_id IS NULL", claim.NewExternalID(), id).Error
			if err != nil {
				return nil, fmt.Errorf("name message %d: %w", id, err)
			}
		}
	}
	return claimed, nil
}

// advanceLine gives chats of headsOfLine the place of their next queued message,
// and takes those out that have none. moved tells that a place has changed.
func (tx *Tx) advanceLine(channelID int64, chats []int64) (moved bool, err error) {
	args := map[string]any{"channel": channelID, "chats": chats, "now": tx.now}
	const next = "FROM messages m WHERE " + waiting + " AND m.status = 'queued' AND m.chat_id = "
	left := tx.db.Exec("DELETE FROM outbox WHERE chat_id IN @chats AND NOT EXISTS (SELECT 1 "+next+"outbox.chat_id)", args)
	if left.Error != nil {
		return false, fmt.Errorf("take chats out of the outbox: %w", left.Error)
	}
	if left.RowsAffected == int64(len(chats)) {
		return true, nil
	}
	stay := tx.db.Exec(`UPDATE outbox SET priority = place.priority, due_at = place.due_at FROM (
			SELECT q.chat_id, CASE WHEN q.normal IS NULL THEN 1 ELSE 0 END AS priority,
				CASE WHEN h.next_attempt_at > h.created_at OR h.created_at > `+tx.store.dueBy()+` THEN h.next_attempt_at ELSE h.created_at END AS due_at
			FROM (SELECT o.chat_id, (SELECT MIN(m.id) `+next+`o.chat_id AND m.priority = 0) AS normal,
					(SELECT MIN(m.id) `+next+`o.chat_id AND m.priority = 1) AS bulk
				FROM outbox o WHERE o.chat_id IN @chats) q
			JOIN messages h ON h.id = CASE WHEN q.bulk IS NULL OR q.normal < q.bulk THEN q.normal ELSE q.bulk END) place
		WHERE outbox.chat_id = place.chat_id AND (outbox.priority <> place.priority OR outbox.due_at <> place.due_at)`, args)
	if stay.Error != nil {
		return false, fmt.Errorf("advance chats in the outbox: %w", stay.Error)
	}
	return left.RowsAffected+stay.RowsAffected > 0, nil
}

// SendsDue is what waits in a channel's outbox.
type SendsDue struct {
	// Now: a message may be due.
	Now bool
	// Next is when another one will be; 0: that is not known of any.
	Next domain.Time
}

// SendsDue looks whether a claim would find something. Chats in passed do not
// count, nor do chats with nothing but bulk if there is no room for bulk.
func (s *Store) SendsDue(ctx context.Context, channelID int64, passed []int64, bulk bool) (SendsDue, error) {
	condition, args := passedOver(passed, map[string]any{"channel": channelID, "now": s.Now()})
	const line = "FROM outbox WHERE channel_id = @channel AND priority = "
	now := s.dueBy() // of what is due by the database's clock alone, the next one is a moment ago: better twice than not at all
	var row struct {
		Normal, Bulk         bool
		NextNormal, NextBulk *domain.Time
	}
	err := s.db.WithContext(ctx).Raw(`SELECT EXISTS (SELECT 1 `+line+`0 AND due_at <= `+now+condition+`) AS normal,
			EXISTS (SELECT 1 `+line+`1 AND due_at <= `+now+condition+`) AS bulk,
			(SELECT MIN(due_at) `+line+`0 AND due_at > @now) AS next_normal,
			(SELECT MIN(due_at) `+line+`1 AND due_at > @now) AS next_bulk`, args).Scan(&row).Error
	if err != nil {
		return SendsDue{}, fmt.Errorf("look at the outbox: %w", err)
	}
	due := SendsDue{Now: row.Normal || bulk && row.Bulk}
	for _, at := range []*domain.Time{row.NextNormal, row.NextBulk} {
		if at != nil && (due.Next == 0 || *at < due.Next) {
			due.Next = *at
		}
	}
	return due, nil
}

// outbound completes claimed messages, oldest first.
func (tx *Tx) outbound(ids []int64) ([]domain.Outbound, error) {
	var rows []struct {
		Row             messageRow `gorm:"embedded"`
		Peer            string
		ReplyExternalID *string
		ReplyFromMe     *bool
		ReplySenderKey  *string
	}
	err := tx.db.Raw("SELECT "+messageColumns+`, c.peer, COALESCE(m.reply_to_external_id, r.external_id) AS reply_external_id,
			r.from_me AS reply_from_me, r.sender_key AS reply_sender_key
		FROM messages m JOIN chats c ON c.id = m.chat_id LEFT JOIN messages r ON r.id = m.reply_to_id
		WHERE m.id IN ? ORDER BY m.id`, ids).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read claimed messages: %w", err)
	}
	plain := make([]messageRow, len(rows))
	for i, r := range rows {
		plain[i] = r.Row
	}
	messages, err := tx.store.messagesToSend(tx.db, plain)
	if err != nil {
		return nil, err
	}
	out := make([]domain.Outbound, len(rows))
	for i, r := range rows {
		out[i] = domain.Outbound{Message: messages[i], Attempt: r.Row.Attempt, Peer: r.Peer, ReplyToExternalID: deref(r.ReplyExternalID)}
		if out[i].ReplyToFromMe = deref(r.ReplyFromMe); !out[i].ReplyToFromMe {
			out[i].ReplyToSender = deref(r.ReplySenderKey)
		}
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
			err := tx.db.Exec("SELECT 1 FROM leases WHERE channel_id = ? FOR UPDATE", lease.ChannelID).Error
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
