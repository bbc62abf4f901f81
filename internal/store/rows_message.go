package store

import (
	"encoding/json"
	"fmt"

	"gorm.io/gorm"

	"switchboard/internal/domain"
)

// messageColumns are what messageRow scans.
const messageColumns = `m.id, m.organization_id, m.chat_id, m.channel_id, m.channel_kind, m.type, m.content, m.media_id, m.location,
	m.template, m.reply_to_id, m.reply_to_external_id, m.from_me, m.sender_user_id, m.sender_key, m.sender_name, m.status, m.priority,
	m.error_code, m.error_message, m.external_id, m.client_message_id, m.attempt, m.edited_at, m.revoked_at, m.provider_time, m.created_at`

type messageRow struct {
	ID, OrganizationID, ChatID, ChannelID int64
	ChannelKind                           domain.ChannelKind
	Type                                  domain.MessageType
	Content                               string
	MediaID                               *int64
	Location, Template                    *string
	ReplyToID                             *int64
	ReplyToExternalID                     *string
	FromMe                                bool
	SenderUserID                          *int64
	SenderKey, SenderName                 string
	Status                                domain.MessageStatus
	Priority                              int
	ErrorCode, ErrorMessage               string
	ExternalID, ClientMessageID           *string
	Attempt                               int
	EditedAt, RevokedAt                   *domain.Time
	ProviderTime, CreatedAt               domain.Time
}

// bulkRank is what messages.priority holds for bulk; 0 is normal.
const bulkRank = 1

func priorityRank(p domain.MessagePriority) int {
	if p == domain.MessageBulk {
		return bulkRank
	}
	return 0
}

type mediaRow struct {
	ID                       int64
	MIME                     string `gorm:"column:mime"`
	Size                     int64
	Filename                 string
	Width, Height            int
	DurationMS               int `gorm:"column:duration_ms"`
	State                    domain.MediaState
	Error                    string
	OrganizationID           int64
	ChannelID, MessageID     *int64
	BlobKey, ProviderRef     string
	SHA256                   string `gorm:"column:sha256"`
	Attempts                 int
	CreatedBy                *int64
	NextAttemptAt, CreatedAt domain.Time
}

func (r mediaRow) media() *domain.Media {
	return &domain.Media{
		ID: r.ID, MIME: r.MIME, Size: r.Size, Filename: r.Filename, Width: r.Width, Height: r.Height,
		DurationMS: r.DurationMS, State: r.State, Error: r.Error,
	}
}

func (r messageRow) message() (domain.Message, error) {
	m := domain.Message{
		ID: r.ID, ChatID: r.ChatID, ChannelID: r.ChannelID, Channel: r.ChannelKind.Network(), Type: r.Type, Content: r.Content,
		Reactions: []domain.Reaction{}, FromMe: r.FromMe, SenderUserID: r.SenderUserID, SenderName: r.SenderName, Status: r.Status,
		ExternalID: deref(r.ExternalID), ClientMessageID: deref(r.ClientMessageID),
		EditedAt: r.EditedAt, RevokedAt: r.RevokedAt, ProviderTime: r.ProviderTime, CreatedAt: r.CreatedAt,
	}
	if r.Priority == bulkRank {
		m.Priority = domain.MessageBulk
	}
	if r.ErrorCode != "" || r.ErrorMessage != "" {
		m.Error = &domain.SendError{Code: r.ErrorCode, Message: r.ErrorMessage}
	}
	if r.Location != nil {
		if err := json.Unmarshal([]byte(*r.Location), &m.Location); err != nil {
			return m, fmt.Errorf("location of message %d: %w", r.ID, err)
		}
	}
	if r.Template != nil {
		if err := json.Unmarshal([]byte(*r.Template), &m.Template); err != nil {
			return m, fmt.Errorf("template of message %d: %w", r.ID, err)
		}
	}
	return m, nil
}

// messages completes rows with their media, reactions and quoted messages: one
// query for each of these that occurs.
func (s *Store) messages(db *gorm.DB, rows []messageRow) ([]domain.Message, error) {
	messages, err := s.messagesToSend(db, rows)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	reactions, err := loadReactions(db, ids)
	if err != nil {
		return nil, err
	}
	for i, r := range rows {
		if found := reactions[r.ID]; found != nil {
			messages[i].Reactions = found
		}
	}
	return messages, nil
}

// messagesToSend is messages without the reactions, which a provider is not told.
func (s *Store) messagesToSend(db *gorm.DB, rows []messageRow) ([]domain.Message, error) {
	messages := make([]domain.Message, len(rows))
	var mediaIDs, replyIDs []int64
	for i, r := range rows {
		m, err := r.message()
		if err != nil {
			return nil, err
		}
		messages[i] = m
		if r.MediaID != nil {
			mediaIDs = append(mediaIDs, *r.MediaID)
		}
		if r.ReplyToID != nil {
			replyIDs = append(replyIDs, *r.ReplyToID)
		}
	}
	media, err := loadMedia(db, mediaIDs)
	if err != nil {
		return nil, err
	}
	replies, err := loadReplies(db, replyIDs)
	if err != nil {
		return nil, err
	}
	for i, r := range rows {
		m := &messages[i]
		if r.MediaID != nil {
			m.Media = media[*r.MediaID]
		}
		switch {
		case r.ReplyToID != nil:
			m.ReplyTo = replies[*r.ReplyToID]
		case r.ReplyToExternalID != nil:
			m.ReplyTo = &domain.ReplyTo{Type: domain.TypeUnsupported}
		}
	}
	return messages, nil
}

func loadReactions(db *gorm.DB, messageIDs []int64) (map[int64][]domain.Reaction, error) {
	found := map[int64][]domain.Reaction{}
	if len(messageIDs) == 0 {
		return found, nil
	}
	var rows []struct {
		MessageID  int64
		Emoji      string
		FromMe     bool
		SenderName string
	}
	err := db.Raw("SELECT message_id, emoji, from_me, sender_name FROM reactions WHERE message_id IN ? AND emoji <> '' ORDER BY message_id, reacted_at, sender_key",
		messageIDs).Scan(&rows).Error
	for _, r := range rows {
		found[r.MessageID] = append(found[r.MessageID], domain.Reaction{Emoji: r.Emoji, FromMe: r.FromMe, SenderName: r.SenderName})
	}
	return found, err
}

func loadMedia(db *gorm.DB, ids []int64) (map[int64]*domain.Media, error) {
	found := map[int64]*domain.Media{}
	if len(ids) == 0 {
		return found, nil
	}
	var rows []mediaRow
	err := db.Raw("SELECT * FROM media WHERE id IN ?", ids).Scan(&rows).Error
	for _, r := range rows {
		found[r.ID] = r.media()
	}
	return found, err
}

func loadReplies(db *gorm.DB, ids []int64) (map[int64]*domain.ReplyTo, error) {
	found := map[int64]*domain.ReplyTo{}
	if len(ids) == 0 {
		return found, nil
	}
	var rows []struct {
		ID         int64
		Content    string
		Type       domain.MessageType
		SenderName string
	}
	err := db.Raw("SELECT id, content, type, sender_name FROM messages WHERE id IN ?", ids).Scan(&rows).Error
	for _, r := range rows {
		found[r.ID] = &domain.ReplyTo{ID: r.ID, Content: r.Content, Type: r.Type, SenderName: r.SenderName}
	}
	return found, err
}

func deref[T any](v *T) (value T) {
	if v != nil {
		value = *v
	}
	return value
}

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
