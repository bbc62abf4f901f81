package inbox

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// Notes lists the notes on a chat or ticket of the caller's organization, newest first.
func (s *Service) Notes(ctx context.Context, p domain.Principal, subject store.NoteSubject, before int64, limit int) ([]domain.Note, error) {
	var err error
	if subject.TicketID != 0 {
		_, err = s.store.Ticket(ctx, p.OrganizationID, subject.TicketID)
	} else {
		_, err = s.store.Chat(ctx, p.OrganizationID, subject.ChatID)
	}
	if err != nil {
		return nil, err
	}
	return s.store.Notes(ctx, p.OrganizationID, subject, before, limit)
}

// AddNote writes a note on a chat or ticket of the caller's organization.
func (s *Service) AddNote(ctx context.Context, p domain.Principal, subject store.NoteSubject, content string) (domain.Note, error) {
	content = strings.TrimSpace(content)
	if content == "" || utf8.RuneCountInString(content) > maxContent {
		return domain.Note{}, domain.Invalid("content", fmt.Sprintf("A note has 1 to %d characters.", maxContent))
	}
	var note domain.Note
	err := s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		var err error
		if subject.TicketID != 0 {
			_, err = tx.Ticket(subject.TicketID)
		} else {
			_, err = tx.Chat(subject.ChatID)
		}
		if err != nil {
			return err
		}
		note, err = tx.InsertNote(subject, p.UserID, content)
		return err
	})
	return note, err
}
