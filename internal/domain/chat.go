package domain

import "time"

// CustomerServiceWindow is how long after a customer's message the WhatsApp
// Business Platform accepts free-form messages; later only templates.
const CustomerServiceWindow = 24 * time.Hour

// ChatKind tells a conversation with one person from one with many.
type ChatKind string

// The kinds of chats.
const (
	ChatDirect ChatKind = "direct"
	ChatGroup  ChatKind = "group"
)

// ChatStatus is where a conversation stands.
type ChatStatus string

// The statuses of a chat. A message from the customer opens a resolved chat.
const (
	ChatOpen     ChatStatus = "open"
	ChatPending  ChatStatus = "pending"
	ChatResolved ChatStatus = "resolved"
)

// Valid reports whether s is a known status.
func (s ChatStatus) Valid() bool {
	return s == ChatOpen || s == ChatPending || s == ChatResolved
}

// Contact is a person or a group as a chat shows it.
type Contact struct {
	ID       int64  `json:"id"`
	Name     string `json:"name"`
	Phone    string `json:"phone"`
	Username string `json:"username"`
	// AvatarURL is the address of the picture, signed and expiring like that of
	// a Media: routes fill it in, events have none. AvatarMediaID is the picture's
	// file; null: there is no picture.
	AvatarURL     string `json:"avatarUrl"`
	AvatarMediaID *int64 `json:"avatarMediaId"`
}

// LastMessage is the line under a chat's name.
type LastMessage struct {
	ID        int64       `json:"id"`
	Content   string      `json:"content"`
	Type      MessageType `json:"type"`
	FromMe    bool        `json:"fromMe"`
	CreatedAt Time        `json:"createdAt"`
}

// Chat is a conversation on a channel.
type Chat struct {
	ID          int64        `json:"id"`
	ChannelID   int64        `json:"channelId"`
	Channel     string       `json:"channel"` // the network: "whatsapp" or "telegram"
	Kind        ChatKind     `json:"kind"`
	Contact     Contact      `json:"contact"`
	Status      ChatStatus   `json:"status"`
	AssigneeID  *int64       `json:"assigneeId"`
	UnreadCount int          `json:"unreadCount"`
	LastMessage *LastMessage `json:"lastMessage"`
	Tags        []string     `json:"tags"`
	TicketID    *int64       `json:"ticketId"`
	// WindowExpiresAt is when the provider stops accepting free-form messages
	// (24 hours after the customer's last one). Null where the channel has no
	// such window. A time in the past means that only templates may be sent;
	// the epoch means that the customer has never written.
	WindowExpiresAt *Time `json:"windowExpiresAt"`
	CreatedAt       Time  `json:"createdAt"`
	UpdatedAt       Time  `json:"updatedAt"`
}

// Note is a remark of an operator on a chat or a ticket; customers never see it.
type Note struct {
	ID        int64  `json:"id"`
	ChatID    *int64 `json:"chatId"`
	TicketID  *int64 `json:"ticketId"`
	UserID    int64  `json:"userId"`
	Content   string `json:"content"`
	CreatedAt Time   `json:"createdAt"`
}
