package store

import (
	"fmt"
	"strings"

	"switchboard/internal/domain"
)

// MessageKey is what a message is known by within a channel.
type MessageKey struct {
	ChatID     int64
	ExternalID string
	SenderKey  string
}

// StoredMessages finds the messages of a channel that have one of the ids.
func (tx *Tx) StoredMessages(channelID int64, externalIDs []string) (map[MessageKey]Stored, error) {
	list, err := jsonText(&externalIDs)
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Stored
		ExternalID, SenderKey string
	}
	err = tx.db.Raw("SELECT id, chat_id, from_me, placeholder, external_id, sender_key FROM messages WHERE channel_id = ? AND "+
		tx.store.isOneOf("external_id")+" AND organization_id = ?", channelID, list, tx.organizationID).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("look for imported messages: %w", err)
	}
	found := make(map[MessageKey]Stored, len(rows))
	for _, r := range rows {
		found[MessageKey{r.ChatID, r.ExternalID, r.SenderKey}] = r.Stored
	}
	return found, nil
}

// ImportedMessage is a message that InsertMessages has stored.
type ImportedMessage struct {
	ID    int64
	Early bool // something about it came before it (EarlyUpdates)
}

// importRows are how many messages one statement inserts. The rest of them goes
// in halves: a number of rows each would be a statement each to prepare and keep.
const importRows = 64

// InsertMessages is InsertMessage for many, which have ids at the provider and
// no template, priority or id of a client. They are dated back to when they were
// written. A key that is taken is left out.
func (tx *Tx) InsertMessages(in []NewMessageInput) (map[MessageKey]ImportedMessage, error) {
	inserted := make(map[MessageKey]ImportedMessage, len(in))
	for size := importRows; len(in) > 0; {
		for size > len(in) {
			size /= 2
		}
		if err := tx.insertMessages(in[:size], inserted); err != nil {
			return nil, fmt.Errorf("import messages: %w", err)
		}
		in = in[size:]
	}
	return inserted, nil
}

func (tx *Tx) insertMessages(in []NewMessageInput, inserted map[MessageKey]ImportedMessage) error {
	const row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	args := make([]any, 0, len(in)*strings.Count(row, "?"))
	for _, m := range in {
		location, err := jsonText(m.Location)
		if err != nil {
			return err
		}
		args = append(args, tx.organizationID, m.ChatID, m.ChannelID, m.ChannelKind, m.Type, m.Content, location, nonEmpty(m.ReplyToExternalID),
			m.FromMe, m.SenderKey, m.SenderName, m.Status, m.ExternalID, m.Placeholder, m.ProviderTime, m.ProviderTime)
	}
	var rows []struct {
		ID                    int64
		ChatID                int64
		ExternalID, SenderKey string
		Early                 bool
	}
	err := tx.db.Raw(`INSERT INTO messages (organization_id, chat_id, channel_id, channel_kind, type, content, location, reply_to_external_id,
			from_me, sender_key, sender_name, status, external_id, placeholder, provider_time, created_at)
		VALUES `+strings.TrimSuffix(strings.Repeat(row+", ", len(in)), ", ")+`
		ON CONFLICT DO NOTHING
		RETURNING id, chat_id, external_id, sender_key,
			EXISTS (SELECT 1 FROM early_updates u WHERE u.channel_id = messages.channel_id AND u.external_id = messages.external_id) AS early`,
		args...).Scan(&rows).Error
	for _, r := range rows {
		inserted[MessageKey{r.ChatID, r.ExternalID, r.SenderKey}] = ImportedMessage{ID: r.ID, Early: r.Early}
	}
	return err
}

// MessageFile is a file of a message that the provider holds for us.
type MessageFile struct {
	MessageID int64
	Media     domain.InboundMedia
}

// AttachFiles gives messages that have been stored their files.
func (tx *Tx) AttachFiles(channelID int64, files []MessageFile) error {
	const row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, TRUE)"
	for size := importRows; len(files) > 0; {
		for size > len(files) {
			size /= 2
		}
		ids := make([]int64, 0, size)
		args := make([]any, 0, size*strings.Count(row, "?"))
		for _, f := range files[:size] {
			ids = append(ids, f.MessageID)
			args = append(args, tx.organizationID, channelID, f.MessageID, f.Media.MIME, f.Media.Size, f.Media.Filename, f.Media.Width, f.Media.Height,
				f.Media.DurationMS, f.Media.SHA256, f.Media.Ref, tx.now)
		}
		err := tx.db.Exec(`INSERT INTO media (organization_id, channel_id, message_id, mime, size, filename, width, height, duration_ms, sha256, state,
			provider_ref, created_at, imported) VALUES `+strings.TrimSuffix(strings.Repeat(row+", ", size), ", "), args...).Error
		if err == nil {
			err = tx.db.Exec("UPDATE messages SET media_id = f.id FROM media f WHERE f.message_id = messages.id AND messages.id IN ?", ids).Error
		}
		if err != nil {
			return fmt.Errorf("import files: %w", err)
		}
		files = files[size:]
	}
	return nil
}

// LinkReplies makes the messages of chats point at those that they quote, as far
// as these have come: an import brings the older ones last.
func (tx *Tx) LinkReplies(chatIDs []int64) error {
	for _, chatID := range chatIDs {
		err := tx.db.Exec(`UPDATE messages SET reply_to_id = q.id FROM messages q
			WHERE messages.chat_id = ? AND messages.reply_to_id IS NULL AND messages.reply_to_external_id IS NOT NULL
				AND q.channel_id = messages.channel_id AND q.external_id = messages.reply_to_external_id AND q.chat_id = messages.chat_id`, chatID).Error
		if err != nil {
			return fmt.Errorf("link the quotes of chat %d: %w", chatID, err)
		}
	}
	return nil
}
