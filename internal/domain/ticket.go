package domain

// TicketStatus is where a case stands.
type TicketStatus string

// The statuses of a ticket.
const (
	TicketOpen     TicketStatus = "open"
	TicketPending  TicketStatus = "pending"
	TicketResolved TicketStatus = "resolved"
	TicketClosed   TicketStatus = "closed"
)

// Priority orders tickets by urgency.
type Priority string

// The priorities of a ticket.
const (
	PriorityLow    Priority = "low"
	PriorityNormal Priority = "normal"
	PriorityHigh   Priority = "high"
	PriorityUrgent Priority = "urgent"
)

// Ticket is a case on a chat. Number counts from 1 within the organization.
type Ticket struct {
	ID         int64        `json:"id"`
	Number     int64        `json:"number"`
	ChatID     int64        `json:"chatId"`
	Subject    string       `json:"subject"`
	Priority   Priority     `json:"priority"`
	Status     TicketStatus `json:"status"`
	AssigneeID *int64       `json:"assigneeId"`
	CreatedBy  *int64       `json:"createdBy"`
	CreatedAt  Time         `json:"createdAt"`
	UpdatedAt  Time         `json:"updatedAt"`
}

// NotificationKind says what a notification is about.
type NotificationKind string

// The kinds of notifications.
const (
	NotifyChatAssigned   NotificationKind = "chat_assigned"
	NotifyTicketAssigned NotificationKind = "ticket_assigned"
	NotifySystem         NotificationKind = "system"
)

// Notification is a line for one user.
type Notification struct {
	ID        int64            `json:"id"`
	Kind      NotificationKind `json:"kind"`
	Title     string           `json:"title"`
	Body      string           `json:"body"`
	ChatID    *int64           `json:"chatId,omitempty"`
	ReadAt    *Time            `json:"readAt"`
	CreatedAt Time             `json:"createdAt"`
}
