package store

import (
	"context"
	"fmt"
	"strconv"

	"gorm.io/gorm"

	"switchboard/internal/domain"
)

const ticketColumns = "t.id, t.number, t.chat_id, t.subject, t.priority, t.status, t.assignee_id, t.created_by, t.created_at, t.updated_at"

// TicketFilter says which tickets a list holds; the zero value is all of them.
type TicketFilter struct {
	Status domain.TicketStatus
	// AssigneeID 0 means nobody's.
	AssigneeID *int64
	ChatID     int64
	// Before is the number where the page before ended; 0 begins with the newest.
	Before int64
	// Limit is the most tickets to return, at least 1.
	Limit int
}

// Tickets lists tickets of an organization, the highest number first.
func (s *Store) Tickets(ctx context.Context, organizationID int64, f TicketFilter) ([]domain.Ticket, error) {
	where := &conditions{}
	where.add("t.organization_id = ?", organizationID)
	if f.Status != "" {
		where.add("t.status = ?", f.Status)
	}
	if f.AssigneeID != nil {
		where.add("COALESCE(t.assignee_id, 0) = ?", *f.AssigneeID)
	}
	if f.ChatID != 0 {
		where.add("t.chat_id = ?", f.ChatID)
	}
	if f.Before != 0 {
		where.add("t.number < ?", f.Before)
	}
	tickets := []domain.Ticket{}
	err := s.db.WithContext(ctx).Raw("SELECT "+ticketColumns+" FROM tickets t WHERE "+where.String()+
		" ORDER BY t.number DESC LIMIT "+strconv.Itoa(max(f.Limit, 1)), where.args...).Scan(&tickets).Error
	if err != nil {
		return nil, fmt.Errorf("list tickets: %w", err)
	}
	return tickets, nil
}

// Ticket returns a ticket of an organization, or domain.NotFound.
func (s *Store) Ticket(ctx context.Context, organizationID, id int64) (domain.Ticket, error) {
	return readTicket(s.db.WithContext(ctx), organizationID, id, "")
}

// LockTicket returns a ticket of the organization and keeps others from changing it until the commit.
func (tx *Tx) LockTicket(id int64) (domain.Ticket, error) {
	return readTicket(tx.db, tx.organizationID, id, tx.forUpdate())
}

// Ticket returns a ticket of the organization, or domain.NotFound.
func (tx *Tx) Ticket(id int64) (domain.Ticket, error) {
	return readTicket(tx.db, tx.organizationID, id, "")
}

func readTicket(db *gorm.DB, organizationID, id int64, lock string) (domain.Ticket, error) {
	var ticket domain.Ticket
	err := db.Raw("SELECT "+ticketColumns+" FROM tickets t WHERE t.id = ? AND t.organization_id = ?"+lock, id, organizationID).Scan(&ticket).Error
	if err != nil {
		return ticket, fmt.Errorf("read ticket %d: %w", id, err)
	}
	if ticket.ID == 0 {
		return ticket, domain.NotFound("ticket")
	}
	return ticket, nil
}

// InsertTicket adds a ticket under the organization's next number and returns it. The organization's row stays locked until
// the commit: that is what makes numbers unique.
func (tx *Tx) InsertTicket(t domain.Ticket) (domain.Ticket, error) {
	err := tx.db.Raw("UPDATE organizations SET ticket_count = ticket_count + 1 WHERE id = ? RETURNING ticket_count", tx.organizationID).Scan(&t.Number).Error
	if err != nil {
		return t, fmt.Errorf("number a ticket: %w", err)
	}
	t.CreatedAt, t.UpdatedAt = tx.now, tx.now
	err = tx.db.Raw(`INSERT INTO tickets (organization_id, number, chat_id, subject, priority, status, assignee_id, created_by, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		tx.organizationID, t.Number, t.ChatID, t.Subject, t.Priority, t.Status, t.AssigneeID, t.CreatedBy, t.CreatedAt, t.UpdatedAt).Scan(&t.ID).Error
	if err != nil {
		return t, fmt.Errorf("insert a ticket: %w", err)
	}
	return t, nil
}

// SaveTicket writes what may change of a locked ticket and returns it with its new time.
func (tx *Tx) SaveTicket(t domain.Ticket) (domain.Ticket, error) {
	t.UpdatedAt = tx.now
	err := tx.db.Exec("UPDATE tickets SET subject = ?, priority = ?, status = ?, assignee_id = ?, updated_at = ? WHERE id = ? AND organization_id = ?",
		t.Subject, t.Priority, t.Status, t.AssigneeID, t.UpdatedAt, t.ID, tx.organizationID).Error
	if err != nil {
		return t, fmt.Errorf("save ticket %d: %w", t.ID, err)
	}
	return t, nil
}

// LinkTicket makes a locked chat point at its newest ticket that is open or pending. changed says that it pointed elsewhere.
func (tx *Tx) LinkTicket(chatID int64) (changed bool, err error) {
	const newest = "(SELECT t.id FROM tickets t WHERE t.chat_id = chats.id AND t.status IN ('open', 'pending') ORDER BY t.id DESC LIMIT 1)"
	result := tx.db.Exec("UPDATE chats SET ticket_id = "+newest+", updated_at = ? WHERE id = ? AND organization_id = ? AND COALESCE(ticket_id, 0) <> COALESCE("+newest+", 0)",
		tx.now, chatID, tx.organizationID)
	if result.Error != nil {
		return false, fmt.Errorf("link the ticket of chat %d: %w", chatID, result.Error)
	}
	return result.RowsAffected == 1, nil
}
