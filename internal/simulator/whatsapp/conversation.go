package whatsapp

import "time"

// States of a message that a client sent, as the sender's ticks.
const (
	StatusSent      = "sent"
	StatusDelivered = "delivered"
	StatusRead      = "read"
	StatusPlayed    = "played"
)

// Message is a message as the person's app, or the group's, shows it. Content that a client sent was decrypted.
type Message struct {
	ID     string    `json:"id"`
	FromMe bool      `json:"fromMe"` // the phone or a linked device of it wrote
	From   string    `json:"from"`   // number of who wrote
	Device uint16    `json:"device"` // that wrote; 0 is a phone
	At     time.Time `json:"at"`
	Type   string    `json:"type"` // as of Incoming
	Text   string    `json:"text,omitempty"`

	Caption   string            `json:"caption,omitempty"`
	Quote     string            `json:"quote,omitempty"`
	Edited    bool              `json:"edited,omitempty"`
	Revoked   bool              `json:"revoked,omitempty"`
	Reactions map[string]string `json:"reactions,omitempty"` // number to emoji
	Mentions  []string          `json:"mentions,omitempty"`
	Latitude  float64           `json:"latitude,omitempty"`
	Longitude float64           `json:"longitude,omitempty"`
	Contact   string            `json:"contact,omitempty"` // vCard's name
	Options   []string          `json:"options,omitempty"` // of a poll
	Media     *Media            `json:"media,omitempty"`
	Status    string            `json:"status,omitempty"` // what the sender knows: of clients' messages only
	Error     string            `json:"error,omitempty"`  // why it could not be read

	ExpireSeconds uint32 `json:"expireSeconds,omitempty"` // of a timer; 0: messages stay

	admin bool // a revoke of an admin of the group
}

// Media is a file of a message. Server.MediaData has its bytes.
type Media struct {
	File     string `json:"file"` // id, for MediaData and GET /control/files/{file}
	MIME     string `json:"mime"`
	Filename string `json:"filename,omitempty"`
	Size     int    `json:"size"`
	SHA256   string `json:"sha256"` // of the readable file, hex
	Error    string `json:"error,omitempty"`
}
