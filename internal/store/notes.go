package store

import (
	"context"
	"fmt"
	"strconv"

	"switchboard/internal/domain"
)

// NoteSubject is what notes are about: exactly one of the two ids is set.
type NoteSubject struct {
	ChatID, TicketID int64
}

func (n NoteSubject) column() (name string, id int64) {
	if n.TicketID != 0 {
		return "ticket_id", n.TicketID
	}
	return "chat_id", n.ChatID
}

// Notes lists the notes on a chat or ticket of an organization, newest first, from the one before the id before (0: the newest).
func (s *Store) Notes(ctx context.Context, organizationID int64, subject NoteSubject, before int64, limit int) ([]domain.Note, error) {
	column, id := subject.column()
	where := &conditions{}
	where.add("organization_id = ?", organizationID)
	where.add(column+" = ?", id)
	if before != 0 {
		where.add("id < ?", before)
	}
	notes := []domain.Note{}
	err := s.db.WithContext(ctx).Raw("SELECT id, chat_id, ticket_id, user_id, content, created_at FROM notes WHERE "+where.String()+
		" ORDER BY id DESC LIMIT "+strconv.Itoa(max(limit, 1)), where.args...).Scan(&notes).Error
	if err != nil {
		return nil, fmt.Errorf("list notes: %w", err)
	}
	return notes, nil
}

// InsertNote adds a note of a user.
func (tx *Tx) InsertNote(subject NoteSubject, userID int64, content string) (domain.Note, error) {
	note := domain.Note{UserID: userID, Content: content, CreatedAt: tx.now}
	if subject.TicketID != 0 {
		note.TicketID = &subject.TicketID
	} else {
		note.ChatID = &subject.ChatID
	}
	err := tx.db.Raw("INSERT INTO notes (organization_id, chat_id, ticket_id, user_id, content, created_at) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
		tx.organizationID, note.ChatID, note.TicketID, userID, content, tx.now).Scan(&note.ID).Error
	if err != nil {
		return note, fmt.Errorf("insert a note: %w", err)
	}
	return note, nil
}
