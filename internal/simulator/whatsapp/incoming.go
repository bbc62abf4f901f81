package whatsapp

import "time"

// Types of Incoming.
const (
	TypeText          = "text"
	TypeImage         = "image"
	TypeVideo         = "video"
	TypeAudio         = "audio"
	TypeVoice         = "voice" // an audio message with PTT
	TypeDocument      = "document"
	TypeSticker       = "sticker"
	TypeLocation      = "location"
	TypeLiveLocation  = "live_location"
	TypeContact       = "contact"
	TypePoll          = "poll"
	TypeReaction      = "reaction"      // Target, Emoji; an empty Emoji removes it
	TypeEdit          = "edit"          // Target, Text
	TypeRevoke        = "revoke"        // Target
	TypeViewOnce      = "view_once"     // an image to look at once
	TypeEphemeral     = "ephemeral"     // a text that disappears
	TypeTimer         = "timer"         // the chat's messages disappear after ExpireSeconds from now on; 0: they stay. Not in groups
	TypeUnknown       = "unknown"       // a protobuf with fields that no client knows; Text empty: an empty message
	TypeUndecryptable = "undecryptable" // garbled ciphertext; the retry receipt is answered if RetryAnswered
	TypeMalformed     = "malformed"     // a stanza with missing parts
	TypeUnavailable   = "unavailable"   // a stanza that says that only the phone can show it; the phone gives it when the client asks
)

// Incoming is something that a person, or the phone itself, writes.
type Incoming struct {
	From   string `json:"from"`             // person's number; with FromMe the person written to
	Group  string `json:"group,omitempty"`  // Group.ID: the message goes there
	FromMe bool   `json:"fromMe,omitempty"` // the phone itself writes: to From, or to Group
	Type   string `json:"type,omitempty"`   // default text

	Text     string   `json:"text,omitempty"`
	Caption  string   `json:"caption,omitempty"`
	Quote    string   `json:"quote,omitempty"`  // id of the message that is answered
	Target   string   `json:"target,omitempty"` // id of the message that is reacted to, edited or revoked
	Admin    bool     `json:"admin,omitempty"`  // who revokes is an admin of the group: Target may be anybody's
	Emoji    string   `json:"emoji,omitempty"`
	Mentions []string `json:"mentions,omitempty"` // numbers

	Latitude  float64 `json:"latitude,omitempty"`
	Longitude float64 `json:"longitude,omitempty"`
	PlaceName string  `json:"placeName,omitempty"`

	Filename string `json:"filename,omitempty"`
	MIME     string `json:"mime,omitempty"`
	Data     []byte `json:"data,omitempty"` // default: a sample of the type; base64 in JSON

	ContactName   string   `json:"contactName,omitempty"`
	ContactNumber string   `json:"contactNumber,omitempty"`
	Options       []string `json:"options,omitempty"` // of a poll; Text is the question

	ExpireSeconds uint32 `json:"expireSeconds,omitempty"` // timer: apps offer 86400, 604800 and 7776000

	ID string    `json:"id,omitempty"` // force an id, to send one twice
	At time.Time `json:"at,omitzero"`  // default now
	// Secret: a text brings the secret with which its changes can be sealed. Sealed: a person's edit is sealed with that of
	// its target, as newer apps do.
	Secret bool `json:"secret,omitempty"`
	Sealed bool `json:"sealed,omitempty"`
	// RetryAnswered: what is undecryptable is sent again, readable, when the client asks by a retry receipt.
	RetryAnswered bool `json:"retryAnswered,omitempty"`
}

// Delivery says what Send made.
type Delivery struct {
	ID      string   `json:"id"`      // of the message
	Devices []uint16 `json:"devices"` // for which it was queued; none if no device is linked
}
