package store

import (
	"context"
	"fmt"

	"switchboard/internal/domain"
)

// DueCommand is a command that may be carried out now, or never any more.
type DueCommand struct {
	domain.Command
	// Lost: the message has no name at the provider and will not get one (its
	// send failed, or its fate is not known).
	Lost bool
}

// CommandSearch says which commands a worker wants to carry out now.
type CommandSearch struct {
	ChannelID int64
	Limit     int
	// Busy are chats that have something under way; they are passed over.
	Busy []int64
	// OnlyReads: nothing but read receipts. Waiting are chats to which nothing
	// else may go.
	OnlyReads bool
	Waiting   []int64
}

// DueCommands returns the commands of a channel that are due, oldest first and
// at most one of each chat: a chat's next comes when this one is settled. A
// command whose message is still on its way to the provider holds up only
// those for the same message.
func (s *Store) DueCommands(ctx context.Context, search CommandSearch) ([]DueCommand, error) {
	without, may := "", ""
	args := map[string]any{"channel": search.ChannelID, "now": s.Now(), "limit": search.Limit}
	if len(search.Busy) > 0 {
		without, args["busy"] = " AND k.chat_id NOT IN @busy", search.Busy
	}
	switch {
	case search.OnlyReads:
		may = " AND open.kind = 'read'"
	case len(search.Waiting) > 0:
		may, args["waiting"] = " AND (open.kind = 'read' OR open.chat_id NOT IN @waiting)", search.Waiting
	}
	var rows []struct {
		ID, ChannelID, ChatID, MessageID int64
		Kind                             domain.CommandKind
		Value                            string
		Attempts                         int
		Peer                             string
		ExternalID                       *string
		FromMe                           bool
		Type                             domain.MessageType
		SenderKey                        string
		ChannelKind                      domain.ChannelKind
	}
	// A command may go when none before it in its chat is open. Those that
	// wait for their message's send are not counted as open, except for
	// others on the same message.
	const unsent = "m.external_id IS NULL AND m.status IN ('queued', 'sending')"
	err := s.db.WithContext(ctx).Raw(`WITH open AS (
			SELECT k.*, m.external_id, m.from_me, m.type, m.sender_key, m.channel_kind,
				ROW_NUMBER() OVER (PARTITION BY k.chat_id ORDER BY k.id) AS place
			FROM commands k JOIN messages m ON m.id = k.message_id
			WHERE k.channel_id = @channel AND NOT (`+unsent+`)`+without+`)
		SELECT open.id, open.channel_id, open.chat_id, open.message_id, open.kind, open.value, open.attempts, c.peer,
			open.external_id, open.from_me, open.type, open.sender_key, open.channel_kind
		FROM open JOIN chats c ON c.id = open.chat_id
		WHERE open.place = 1 AND open.next_attempt_at <= @now`+may+` ORDER BY open.id LIMIT @limit`, args).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("look for due commands: %w", err)
	}
	due := make([]DueCommand, len(rows))
	for i, r := range rows {
		c := domain.Command{
			ID: r.ID, ChannelID: r.ChannelID, ChatID: r.ChatID, MessageID: r.MessageID, Kind: r.Kind, Peer: r.Peer,
			TargetExternalID: deref(r.ExternalID), TargetFromMe: r.FromMe, TargetType: r.Type, Value: r.Value, Attempts: r.Attempts,
		}
		if !r.FromMe {
			c.TargetSender = r.SenderKey
		}
		if c.Kind == domain.CommandRead && r.ChannelKind == domain.KindWhatsApp && count(c.Value) > 1 {
			if c.Earlier, err = s.readBefore(ctx, c); err != nil {
				return nil, err
			}
		}
		due[i] = DueCommand{Command: c, Lost: r.ExternalID == nil}
	}
	return due, nil
}

// maxRead bounds how many messages one read command names.
const maxRead = 100

// readBefore lists the customer's messages before the one that a read command
// names, as many as were not read before, newest first.
func (s *Store) readBefore(ctx context.Context, c domain.Command) ([]domain.ReadMessage, error) {
	var rows []struct{ ExternalID, SenderKey string }
	err := s.db.WithContext(ctx).Raw(`SELECT m.external_id, m.sender_key FROM messages m JOIN messages t ON t.id = ?
		WHERE m.chat_id = ? AND NOT m.from_me AND m.external_id IS NOT NULL AND m.type <> 'system' AND m.id <> t.id AND m.provider_time <= t.provider_time
		ORDER BY m.provider_time DESC, m.id DESC LIMIT ?`, c.MessageID, c.ChatID, min(count(c.Value)-1, maxRead)).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list what was read in chat %d: %w", c.ChatID, err)
	}
	read := make([]domain.ReadMessage, len(rows))
	for i, r := range rows {
		read[i] = domain.ReadMessage{ExternalID: r.ExternalID, Sender: r.SenderKey}
	}
	return read, nil
}

// PostponeCommand leaves a command for a later try. counted ones come nearer to
// the bound of tries.
func (tx *Tx) PostponeCommand(id int64, at domain.Time, counted bool) error {
	tries := 0
	if counted {
		tries = 1
	}
	return tx.db.Exec("UPDATE commands SET attempts = attempts + ?, next_attempt_at = ? WHERE id = ? AND organization_id = ?",
		tries, at, id, tx.organizationID).Error
}

// Subject is the message that a command spoke of, for a note about it.
type Subject struct {
	ChatID, ChannelID int64
	ChannelKind       domain.ChannelKind
}

// Subject looks a message of the organization up; ErrNotFound if it is gone.
func (tx *Tx) Subject(messageID int64) (Subject, error) {
	var row Subject
	err := tx.db.Raw("SELECT chat_id, channel_id, channel_kind FROM messages WHERE id = ? AND organization_id = ?",
		messageID, tx.organizationID).Scan(&row).Error
	if err == nil && row.ChatID == 0 {
		err = ErrNotFound
	}
	return row, err
}
