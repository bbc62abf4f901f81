package httpapi

import (
	"context"
	"net/http"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

func (s *Server) ticketRoutes() {
	operator(s, route{
		method: http.MethodGet, path: "/api/tickets", id: "listTickets", tag: tagTickets, summary: "List tickets",
		description: "The highest number first. Filters add up.",
	}, s.listTickets)
	operator(s, route{
		method: http.MethodPost, path: "/api/tickets", id: "createTicket", tag: tagTickets, summary: "Open a ticket on a chat",
		description: "The assignee is notified, unless it is the caller.",
		status:      http.StatusCreated, errors: []int{http.StatusNotFound},
	}, s.createTicket)
	operator(s, route{method: http.MethodGet, path: "/api/tickets/{id}", id: "getTicket", tag: tagTickets, summary: "One ticket"}, s.getTicket)
	operator(s, route{
		method: http.MethodPatch, path: "/api/tickets/{id}", id: "updateTicket", tag: tagTickets, summary: "Change a ticket",
		description: "A new assignee is notified, unless it is the caller.",
	}, s.updateTicket)
	operator(s, route{
		method: http.MethodGet, path: "/api/tickets/{id}/notes", id: "listTicketNotes", tag: tagTickets, summary: "List the notes on a ticket",
		description: "Newest first. Customers never see notes.",
	}, s.listTicketNotes)
	operator(s, route{
		method: http.MethodPost, path: "/api/tickets/{id}/notes", id: "createTicketNote", tag: tagTickets, summary: "Write a note on a ticket",
		status: http.StatusCreated,
	}, s.createTicketNote)
}

type listTicketsInput struct {
	PageQuery
	Status     domain.TicketStatus `query:"status" enum:"open,pending,resolved,closed"`
	AssigneeID string              `query:"assigneeId" maxLength:"20" doc:"A user's id, me, or none for tickets of nobody." example:"me"`
	ChatID     int64               `query:"chatId" minimum:"1"`
}

func (s *Server) listTickets(ctx context.Context, who domain.Principal, in *listTicketsInput) (*answer[Page[domain.Ticket]], error) {
	filter := store.TicketFilter{Status: in.Status, ChatID: in.ChatID, Limit: in.Limit + 1}
	var err error
	if filter.AssigneeID, err = assigneeFilter(in.AssigneeID, who); err != nil {
		return nil, err
	}
	if err := decodeCursor(in.Cursor, &filter.Before); err != nil {
		return nil, err
	}
	tickets, err := s.options.Inbox.Tickets(ctx, who, filter)
	return answerOf(pageOf(tickets, in.Limit, func(t domain.Ticket) int64 { return t.Number }), err)
}

type createTicketInput struct {
	Body struct {
		ChatID     int64           `json:"chatId" minimum:"1" example:"42"`
		Subject    string          `json:"subject" minLength:"1" maxLength:"300" example:"The parcel came without the screws"`
		Priority   domain.Priority `json:"priority,omitempty" doc:"Absent: normal." example:"high"`
		AssigneeID *int64          `json:"assigneeId,omitempty" minimum:"1" doc:"An active user; absent: nobody." example:"7"`
	} `nameHint:"NewTicket"`
}

func (s *Server) createTicket(ctx context.Context, who domain.Principal, in *createTicketInput) (*answer[domain.Ticket], error) {
	return answerOf(s.options.Inbox.CreateTicket(ctx, who, inbox.NewTicket{
		ChatID: in.Body.ChatID, Subject: in.Body.Subject, Priority: in.Body.Priority, AssigneeID: in.Body.AssigneeID,
	}))
}

func (s *Server) getTicket(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Ticket], error) {
	return answerOf(s.options.Inbox.Ticket(ctx, who, in.ID))
}

type updateTicketInput struct {
	IDPath
	Body struct {
		Subject    *string              `json:"subject,omitempty" minLength:"1" maxLength:"300" example:"Screws are missing"`
		Priority   *domain.Priority     `json:"priority,omitempty" example:"low"`
		Status     *domain.TicketStatus `json:"status,omitempty" example:"closed"`
		AssigneeID Nullable[int64]      `json:"assigneeId,omitzero" minimum:"1" doc:"An active user; null: nobody." example:"7"`
	} `nameHint:"TicketChange"`
}

func (s *Server) updateTicket(ctx context.Context, who domain.Principal, in *updateTicketInput) (*answer[domain.Ticket], error) {
	assignee, err := assignment(in.Body.AssigneeID)
	if err != nil {
		return nil, err
	}
	return answerOf(s.options.Inbox.UpdateTicket(ctx, who, in.ID, inbox.TicketChange{
		Subject: in.Body.Subject, Priority: in.Body.Priority, Status: in.Body.Status, Assignee: assignee,
	}))
}

func (s *Server) listTicketNotes(ctx context.Context, who domain.Principal, in *listNotesInput) (*answer[Page[domain.Note]], error) {
	return s.listNotes(ctx, who, store.NoteSubject{TicketID: in.ID}, in.PageQuery)
}

func (s *Server) createTicketNote(ctx context.Context, who domain.Principal, in *createNoteInput) (*answer[domain.Note], error) {
	return answerOf(s.options.Inbox.AddNote(ctx, who, store.NoteSubject{TicketID: in.ID}, in.Body.Content))
}
