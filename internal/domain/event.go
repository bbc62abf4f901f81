package domain

import (
	"encoding/json"
	"strconv"
)

// The names of the server's events, as clients know them.
const (
	EventChatNew          = "chat:new"
	EventChatUpdated      = "chat:updated"
	EventChatDeleted      = "chat:deleted"
	EventMessageNew       = "message:new"
	EventMessageUpdated   = "message:updated"
	EventMessageStatus    = "message:status"
	EventMessagesRead     = "messages:read"
	EventMessagesImported = "messages:imported"
	EventChannelStatus    = "channel:status"
	EventChannelDeleted   = "channel:deleted"
	EventTicketNew        = "ticket:new"
	EventTicketUpdated    = "ticket:updated"

	// Not in the log: they concern one user, or one moment.
	EventUserNotification = "user:notification"
	EventChannelQR        = "channel:qr"
	EventTypingStart      = "typing:start"
	EventTypingStop       = "typing:stop"
	EventSyncReset        = "sync:reset"
)

// Event is a line of an organization's log. Seq counts 1..N without gaps
// within (OrganizationID, Epoch) and is given in the transaction of the change
// that the event tells of.
type Event struct {
	OrganizationID int64
	Seq            int64
	Epoch          string
	Name           string
	// Data is the JSON that clients receive as the event's first argument.
	Data json.RawMessage
	At   Time
}

// Meta is the second argument of every logged event on a socket.
type Meta struct {
	Seq   int64  `json:"seq"`
	Epoch string `json:"epoch"`
	At    Time   `json:"at"`
}

// Meta returns where e stands in the log.
func (e Event) Meta() Meta { return Meta{Seq: e.Seq, Epoch: e.Epoch, At: e.At} }

// EventPage is a stretch of the log, oldest first. Resync is set when the log
// does not reach back to where the reader stands (retention, or another
// epoch): refetch everything and go on from Head.
type EventPage struct {
	Events []Event
	Head   int64
	Epoch  string
	Resync bool
}

// The payloads of events that are not a whole object.
type (
	// MessageStatusChange is the data of message:status.
	MessageStatusChange struct {
		MessageID int64         `json:"messageId"`
		Status    MessageStatus `json:"status"`
		ChatID    int64         `json:"chatId"`
		Error     *SendError    `json:"error,omitempty"`
	}
	// MessagesRead is the data of messages:read.
	MessagesRead struct {
		ChatID        int64 `json:"chatId"`
		ReadByUserID  int64 `json:"readByUserId"` // 0: read on the organization's own phone
		UpToMessageID int64 `json:"upToMessageId"`
	}
	// MessagesImported is the data of messages:imported: messages of these chats
	// came, or moved there, without an event for each. Who shows one of the
	// chats reads its messages again.
	MessagesImported struct {
		ChannelID int64   `json:"channelId"`
		ChatIDs   []int64 `json:"chatIds"`
	}
	// ChatDeleted is the data of chat:deleted.
	ChatDeleted struct {
		ChatID int64 `json:"chatId"`
	}
	// ChannelDeleted is the data of channel:deleted.
	ChannelDeleted struct {
		ChannelID int64 `json:"channelId"`
	}
	// Typing is the data of typing:start and typing:stop; exactly one of the
	// two ids is set.
	Typing struct {
		ChatID    int64 `json:"chatId"`
		UserID    int64 `json:"userId,omitempty"`
		ContactID int64 `json:"contactId,omitempty"`
	}
)

// Notifier tells an organization's screens what happened. It is the one way
// for every source (webhook, session, operator). Its implementation lives in a
// transaction: what it is told becomes a line of the log (or, for User, a
// notification) together with the change, and leaves for the sockets once
// the change is committed, never otherwise.
type Notifier interface {
	NewChat(chat Chat)
	NewMessage(message Message)
	ChatUpdated(chat Chat)
	MessagesRead(read MessagesRead)
	MessageStatus(change MessageStatusChange)
	ChatDeleted(chatID int64)
	// User goes to one user's room only and is not in the log; what must
	// survive an absence is a Notification row as well.
	User(userID int64, event string, data any)
	// Broadcast logs any other event for the whole organization.
	Broadcast(event string, data any)
}

// OrganizationRoom is the Socket.IO room of everyone in an organization.
func OrganizationRoom(id int64) string { return "org_" + strconv.FormatInt(id, 10) }

// UserRoom is the Socket.IO room of one user's sockets.
func UserRoom(id int64) string { return "user_" + strconv.FormatInt(id, 10) }

// ChatRoom is the Socket.IO room of those who have a chat open.
func ChatRoom(id int64) string { return "chat_" + strconv.FormatInt(id, 10) }
