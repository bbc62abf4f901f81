package domain

// MessageType says what a message holds.
type MessageType string

// The types of messages. What a provider sends and we cannot show is
// "unsupported": a visible row, never a silent loss.
const (
	TypeText        MessageType = "text"
	TypeImage       MessageType = "image"
	TypeVideo       MessageType = "video"
	TypeAudio       MessageType = "audio"
	TypeVoice       MessageType = "voice"
	TypeDocument    MessageType = "document"
	TypeSticker     MessageType = "sticker"
	TypeLocation    MessageType = "location"
	TypeContact     MessageType = "contact"
	TypeTemplate    MessageType = "template"
	TypeSystem      MessageType = "system"
	TypeUnsupported MessageType = "unsupported"
)

// HasMedia reports whether a message of type t carries a file.
func (t MessageType) HasMedia() bool {
	switch t {
	case TypeImage, TypeVideo, TypeAudio, TypeVoice, TypeDocument, TypeSticker:
		return true
	default:
		return false
	}
}

// MessageStatus is how far a message has come.
type MessageStatus string

// The statuses of a message. Inbound messages are "received"; outbound ones
// walk upwards from "queued".
const (
	StatusReceived  MessageStatus = "received"
	StatusQueued    MessageStatus = "queued"
	StatusSending   MessageStatus = "sending"
	StatusUnknown   MessageStatus = "unknown" // it left, and whether it arrived is not known; never repeated by itself
	StatusSent      MessageStatus = "sent"
	StatusFailed    MessageStatus = "failed"
	StatusDelivered MessageStatus = "delivered"
	StatusRead      MessageStatus = "read"
)

// Rank orders the statuses of an outbound message. An update is taken only
// when it raises the rank, so that every order of arrival ends in the same
// state and no screen ever sees a step back. A failure that the provider
// reports after "sent" counts; one that arrives after the customer's phone
// has shown the message does not. Received and unknown words rank -1.
func (s MessageStatus) Rank() int {
	switch s {
	case StatusQueued:
		return 0
	case StatusSending:
		return 1
	case StatusUnknown:
		return 2
	case StatusSent:
		return 3
	case StatusFailed:
		return 4
	case StatusDelivered:
		return 5
	case StatusRead:
		return 6
	default:
		return -1
	}
}

// MessagePriority says how urgent a message is that waits to be sent.
type MessagePriority string

// The priorities of outbound messages. What is said to one customer is normal;
// bulk goes when nothing normal waits. Within a chat the order is kept.
const (
	MessageNormal MessagePriority = "normal"
	MessageBulk   MessagePriority = "bulk"
)

// MediaState tells whether a file can be had.
type MediaState string

// The states of media. Pending files are being fetched from the provider.
const (
	MediaPending MediaState = "pending"
	MediaReady   MediaState = "ready"
	MediaFailed  MediaState = "failed"
)

// Media is a file of a message. URL is signed and expires; it is filled in
// when a route answers, and empty in the event log, since a log is read later
// than a link lives: ask GET /api/media/{id} for a fresh one.
type Media struct {
	ID         int64      `json:"id"`
	MIME       string     `json:"mime"`
	Size       int64      `json:"size"` // bytes; 0 while not known
	Filename   string     `json:"filename"`
	Width      int        `json:"width"`  // pixels; 0 where not known
	Height     int        `json:"height"` // pixels; 0 where not known
	DurationMS int        `json:"durationMs"`
	State      MediaState `json:"state"`
	URL        string     `json:"url"`
	Error      string     `json:"error,omitempty"`
}

// Location is a place, in degrees (WGS 84).
type Location struct {
	Latitude  float64 `json:"latitude" minimum:"-90" maximum:"90"`
	Longitude float64 `json:"longitude" minimum:"-180" maximum:"180"`
	Name      string  `json:"name,omitempty" maxLength:"1000" required:"false"`
	Address   string  `json:"address,omitempty" maxLength:"1000" required:"false"`
}

// ReplyTo is the message that another one quotes. ID is 0 when the quoted
// message is not one of ours.
type ReplyTo struct {
	ID         int64       `json:"id"`
	Content    string      `json:"content"`
	Type       MessageType `json:"type"`
	SenderName string      `json:"senderName"`
}

// Reaction is an emoji that someone put on a message.
type Reaction struct {
	Emoji      string `json:"emoji"`
	FromMe     bool   `json:"fromMe"`
	SenderName string `json:"senderName"`
}

// SendError says why a message failed, in a code for programs and a sentence
// for people.
type SendError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Template is a message form approved by the provider.
type Template struct {
	Name       string   `json:"name" minLength:"1" maxLength:"512"`
	Language   string   `json:"language" minLength:"2" maxLength:"20"`
	Parameters []string `json:"parameters,omitempty" required:"false" maxItems:"50"`
}

// Message is one line of a conversation, in either direction.
type Message struct {
	ID              int64           `json:"id"`
	ChatID          int64           `json:"chatId"`
	ChannelID       int64           `json:"channelId"`
	Channel         string          `json:"channel"` // the network: "whatsapp" or "telegram"
	Type            MessageType     `json:"type"`
	Content         string          `json:"content"`
	Media           *Media          `json:"media"`
	Location        *Location       `json:"location"`
	Template        *Template       `json:"template,omitempty"`
	ReplyTo         *ReplyTo        `json:"replyTo"`
	Reactions       []Reaction      `json:"reactions"`
	FromMe          bool            `json:"fromMe"`
	SenderUserID    *int64          `json:"senderUserId"`
	SenderName      string          `json:"senderName"`
	Status          MessageStatus   `json:"status"`
	Priority        MessagePriority `json:"priority,omitempty"` // "bulk", or nothing
	Error           *SendError      `json:"error"`
	ExternalID      string          `json:"externalId"`
	ClientMessageID string          `json:"clientMessageId"`
	EditedAt        *Time           `json:"editedAt"`
	RevokedAt       *Time           `json:"revokedAt"`
	ProviderTime    Time            `json:"providerTime"`
	CreatedAt       Time            `json:"createdAt"`
}
