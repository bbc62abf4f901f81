package channel

import (
	"time"

	"switchboard/internal/domain"
)

// Capabilities is what a kind of channel can do, for those who must know it
// without a session: a route that answers "the channel cannot do this".
type Capabilities struct {
	Reactions bool
	Edits     bool
	Revokes   bool
	// EditWithin and RevokeWithin are how long after its send a message can be
	// changed, where the provider takes later changes and nobody sees them; 0: it
	// says so itself.
	EditWithin, RevokeWithin time.Duration

	// Captions are the kinds of files under which a text can be changed.
	Captions []domain.MessageType

	Templates bool
	// Typing: the customer sees when an operator writes.
	Typing bool
	// Linking: the channel is opened by QR or pairing code instead of
	// credentials.
	Linking bool
	// StartsChats: an operator may write first.
	StartsChats bool
	// Resends: the provider recognises a message that is sent twice under one
	// id (Resender), so that sending it again is safe.
	Resends bool
	// Window: free-form messages only within 24 hours of the customer's last.
	Window bool
}

var capabilities = map[domain.ChannelKind]Capabilities{
	domain.KindWABA: {Reactions: true, Templates: true, Typing: true, StartsChats: true, Window: true},
	domain.KindTelegram: {
		Reactions: true, Edits: true, Revokes: true, RevokeWithin: 48 * time.Hour, Typing: true,
		Captions: []domain.MessageType{domain.TypeImage, domain.TypeVideo, domain.TypeAudio, domain.TypeVoice, domain.TypeDocument},
	},
	domain.KindWhatsApp: {
		Reactions: true, Edits: true, Revokes: true, EditWithin: 15 * time.Minute, RevokeWithin: 48 * time.Hour,
		Captions: []domain.MessageType{domain.TypeImage, domain.TypeVideo, domain.TypeDocument},
		Typing:   true, Linking: true, StartsChats: true, Resends: true,
	},
}

// Of returns what channels of a kind can do.
func Of(kind domain.ChannelKind) Capabilities { return capabilities[kind] }
