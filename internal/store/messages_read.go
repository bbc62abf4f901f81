package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"gorm.io/gorm"

	"switchboard/internal/domain"
)

// MessageFilter says which stretch of a chat to read. Before and After are ids of messages of the chat, at most one of
// them; none means the newest messages.
type MessageFilter struct {
	ChatID        int64
	Before, After int64
	Limit         int
}

// MessagesOf reads messages of a chat, oldest first, by (provider time, id): those next to the one that the filter names.
// A chat or message that is not the organization's is domain.NotFound.
func (s *Store) MessagesOf(ctx context.Context, organizationID int64, f MessageFilter) ([]domain.Message, error) {
	db := s.db.WithContext(ctx)
	var chatID int64
	if err := db.Raw("SELECT id FROM chats WHERE id = ? AND organization_id = ?", f.ChatID, organizationID).Scan(&chatID).Error; err != nil {
		return nil, fmt.Errorf("look up chat %d: %w", f.ChatID, err)
	}
	if chatID == 0 {
		return nil, domain.NotFound("chat")
	}
	where := &conditions{}
	where.add("m.chat_id = ?", f.ChatID)
	order := " ORDER BY m.provider_time DESC, m.id DESC"
	if anchorID := max(f.Before, f.After); anchorID != 0 {
		var anchor struct {
			ID           int64
			ProviderTime domain.Time
		}
		err := db.Raw("SELECT id, provider_time FROM messages WHERE id = ? AND chat_id = ?", anchorID, f.ChatID).Scan(&anchor).Error
		if err != nil {
			return nil, fmt.Errorf("look up message %d: %w", anchorID, err)
		}
		if anchor.ID == 0 {
			return nil, domain.NotFound("message")
		}
		comparison := "(m.provider_time, m.id) < (?, ?)"
		if f.After != 0 {
			comparison, order = "(m.provider_time, m.id) > (?, ?)", " ORDER BY m.provider_time, m.id"
		}
		where.add(comparison, anchor.ProviderTime, anchor.ID)
	}
	var rows []messageRow
	err := db.Raw("SELECT "+messageColumns+" FROM messages m WHERE "+where.String()+order+" LIMIT "+strconv.Itoa(max(f.Limit, 1)),
		where.args...).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read messages of chat %d: %w", f.ChatID, err)
	}
	if f.After == 0 {
		slices.Reverse(rows)
	}
	return s.messages(db, rows)
}

// Message returns a message of an organization, or domain.NotFound.
func (s *Store) Message(ctx context.Context, organizationID, id int64) (domain.Message, error) {
	return s.message(s.db.WithContext(ctx), organizationID, id)
}

// Message returns a message of the organization, or domain.NotFound.
func (tx *Tx) Message(id int64) (domain.Message, error) {
	return tx.store.message(tx.db, tx.organizationID, id)
}

func (s *Store) message(db *gorm.DB, organizationID, id int64) (domain.Message, error) {
	var rows []messageRow
	err := db.Raw("SELECT "+messageColumns+" FROM messages m WHERE m.id = ? AND m.organization_id = ?", id, organizationID).Scan(&rows).Error
	if err != nil {
		return domain.Message{}, fmt.Errorf("read message %d: %w", id, err)
	}
	if len(rows) == 0 {
		return domain.Message{}, domain.NotFound("message")
	}
	messages, err := s.messages(db, rows)
	if err != nil {
		return domain.Message{}, err
	}
	return messages[0], nil
}
