package inbox

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// NewTicket is what a ticket is made of.
type NewTicket struct {
	ChatID     int64
	Subject    string
	Priority   domain.Priority // empty: normal
	AssigneeID *int64
}

// TicketChange is what an operator changes of a ticket; nil fields stay.
type TicketChange struct {
	Subject  *string
	Priority *domain.Priority
	Status   *domain.TicketStatus
	Assignee Assignment
}

func checkSubject(subject string) (string, error) {
	subject = strings.TrimSpace(subject)
	if subject == "" || utf8.RuneCountInString(subject) > maxSubject {
		return "", domain.Invalid("subject", fmt.Sprintf("The subject has 1 to %d characters.", maxSubject))
	}
	return subject, nil
}

func checkPriority(p domain.Priority) error {
	switch p {
	case domain.PriorityLow, domain.PriorityNormal, domain.PriorityHigh, domain.PriorityUrgent:
		return nil
	default:
		return domain.Invalid("priority", "A priority is low, normal, high or urgent.")
	}
}

func checkTicketStatus(status domain.TicketStatus) error {
	switch status {
	case domain.TicketOpen, domain.TicketPending, domain.TicketResolved, domain.TicketClosed:
		return nil
	default:
		return domain.Invalid("status", "A ticket is open, pending, resolved or closed.")
	}
}

// Tickets lists tickets of the caller's organization, the highest number first.
func (s *Service) Tickets(ctx context.Context, p domain.Principal, f store.TicketFilter) ([]domain.Ticket, error) {
	if f.Status != "" {
		if err := checkTicketStatus(f.Status); err != nil {
			return nil, err
		}
	}
	return s.store.Tickets(ctx, p.OrganizationID, f)
}

// Ticket returns a ticket of the caller's organization.
func (s *Service) Ticket(ctx context.Context, p domain.Principal, id int64) (domain.Ticket, error) {
	return s.store.Ticket(ctx, p.OrganizationID, id)
}

// CreateTicket opens a case on a chat, under the organization's next number. The assignee is notified, unless it is the caller.
func (s *Service) CreateTicket(ctx context.Context, p domain.Principal, in NewTicket) (domain.Ticket, error) {
	subject, err := checkSubject(in.Subject)
	if err != nil {
		return domain.Ticket{}, err
	}
	if in.Priority == "" {
		in.Priority = domain.PriorityNormal
	}
	if err := checkPriority(in.Priority); err != nil {
		return domain.Ticket{}, err
	}
	var ticket domain.Ticket
	err = s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		if _, err := tx.LockChat(in.ChatID); err != nil {
			return err
		}
		if err := checkAssignee(tx, in.AssigneeID); err != nil {
			return err
		}
		fresh := domain.Ticket{ChatID: in.ChatID, Subject: subject, Priority: in.Priority, Status: domain.TicketOpen, AssigneeID: in.AssigneeID}
		if p.UserID != 0 {
			fresh.CreatedBy = &p.UserID
		}
		var err error
		if ticket, err = tx.InsertTicket(fresh); err != nil {
			return err
		}
		tx.Broadcast(domain.EventTicketNew, ticket)
		if err := linkTicket(tx, ticket.ChatID); err != nil {
			return err
		}
		return notifyTicket(tx, p, ticket)
	})
	return ticket, err
}

// UpdateTicket changes a ticket. What is as wanted already makes no event.
func (s *Service) UpdateTicket(ctx context.Context, p domain.Principal, id int64, change TicketChange) (domain.Ticket, error) {
	if err := change.check(); err != nil {
		return domain.Ticket{}, err
	}
	var ticket domain.Ticket
	err := s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		// Locks are taken in one order, the chat's before what hangs on it.
		was, err := tx.Ticket(id)
		if err != nil {
			return err
		}
		if _, err := tx.LockChat(was.ChatID); err != nil {
			return err
		}
		if was, err = tx.LockTicket(id); err != nil {
			return err
		}
		ticket = change.applyTo(was)
		assigned := !equal(ticket.AssigneeID, was.AssigneeID)
		if ticket.Subject == was.Subject && ticket.Priority == was.Priority && ticket.Status == was.Status && !assigned {
			return nil
		}
		if assigned {
			if err := checkAssignee(tx, ticket.AssigneeID); err != nil {
				return err
			}
		}
		if ticket, err = tx.SaveTicket(ticket); err != nil {
			return err
		}
		tx.Broadcast(domain.EventTicketUpdated, ticket)
		if err := linkTicket(tx, ticket.ChatID); err != nil || !assigned {
			return err
		}
		return notifyTicket(tx, p, ticket)
	})
	return ticket, err
}

func (c *TicketChange) check() error {
	if c.Subject != nil {
		subject, err := checkSubject(*c.Subject)
		if err != nil {
			return err
		}
		c.Subject = &subject
	}
	if c.Priority != nil {
		if err := checkPriority(*c.Priority); err != nil {
			return err
		}
	}
	if c.Status != nil {
		return checkTicketStatus(*c.Status)
	}
	return nil
}

func (c *TicketChange) applyTo(t domain.Ticket) domain.Ticket {
	if c.Subject != nil {
		t.Subject = *c.Subject
	}
	if c.Priority != nil {
		t.Priority = *c.Priority
	}
	if c.Status != nil {
		t.Status = *c.Status
	}
	if c.Assignee.Set {
		t.AssigneeID = c.Assignee.UserID
	}
	return t
}

// linkTicket keeps the ticket that a locked chat shows up to date.
func linkTicket(tx *store.Tx, chatID int64) error {
	changed, err := tx.LinkTicket(chatID)
	if err != nil || !changed {
		return err
	}
	chat, err := tx.Chat(chatID)
	if err != nil {
		return err
	}
	tx.ChatUpdated(chat)
	return nil
}

func notifyTicket(tx *store.Tx, p domain.Principal, t domain.Ticket) error {
	return notifyAssigned(tx, p, t.AssigneeID, domain.Notification{
		Kind: domain.NotifyTicketAssigned, Title: "A ticket was assigned to you", Body: fmt.Sprintf("#%d %s", t.Number, t.Subject), ChatID: &t.ChatID,
	})
}
