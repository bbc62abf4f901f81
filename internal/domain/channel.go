package domain

// ChannelKind says which provider and protocol a channel speaks.
type ChannelKind string

// The kinds of channels.
const (
	KindWhatsApp ChannelKind = "whatsapp" // WhatsApp Web, linked by QR or code
	KindWABA     ChannelKind = "waba"     // WhatsApp Business Cloud API
	KindTelegram ChannelKind = "telegram" // Telegram Bot API
)

// Valid reports whether k is a known kind.
func (k ChannelKind) Valid() bool {
	return k == KindWhatsApp || k == KindWABA || k == KindTelegram
}

// Network is the name that operators know the kind by: both WhatsApp kinds are
// "whatsapp".
func (k ChannelKind) Network() string {
	if k == KindTelegram {
		return "telegram"
	}
	return "whatsapp"
}

// ChannelState is the coded connection state of a channel.
type ChannelState string

// The states of a channel.
const (
	ChannelDisconnected ChannelState = "disconnected"
	ChannelConnecting   ChannelState = "connecting"
	ChannelQR           ChannelState = "qr"
	ChannelPairing      ChannelState = "pairing"
	ChannelConnected    ChannelState = "connected"
	ChannelLoggedOut    ChannelState = "logged_out"
	ChannelBanned       ChannelState = "banned"
	ChannelConflict     ChannelState = "conflict"
	ChannelError        ChannelState = "error"
)

// ChannelStatus tells how a channel is. Reason is for people: what happened
// and what to do; Code is for programs and may be empty.
type ChannelStatus struct {
	ChannelID int64        `json:"channelId"`
	State     ChannelState `json:"state"`
	Code      string       `json:"code,omitempty"`
	Reason    string       `json:"reason"`
	Since     Time         `json:"since"`
	Worker    string       `json:"worker"`
	// Retries: whoever shows it sees to it, and tries again by itself.
	Retries bool `json:"-"`
}

// Channel is a number or a bot of an organization. Config holds what is not
// secret (for example phoneNumberId); secrets are sealed in the store and
// never part of this value.
type Channel struct {
	ID        int64             `json:"id"`
	Kind      ChannelKind       `json:"kind"`
	Name      string            `json:"name"`
	Config    map[string]string `json:"config"`
	Enabled   bool              `json:"enabled"`
	Status    ChannelStatus     `json:"status"`
	CreatedAt Time              `json:"createdAt"`
	UpdatedAt Time              `json:"updatedAt"`
}
