package domain

// InboundMessage is a message as a channel delivers it, already converted from
// the provider's form. It may be the customer's (FromMe false) or one that the
// organization sent from elsewhere, such as its own phone (FromMe true).
type InboundMessage struct {
	// ExternalID is the provider's id. Together with channel, chat and sender
	// it is the key under which a redelivery is recognised.
	ExternalID string
	Peer       Peer
	// Sender is who wrote in a group; in a direct chat it is empty and the
	// peer is the sender.
	Sender Peer
	FromMe bool

	Type     MessageType
	Content  string
	Media    *InboundMedia
	Location *Location
	// ReplyToExternalID quotes another message of the chat.
	ReplyToExternalID string
	ProviderTime      Time
	// System messages and imports raise no unread count.
	Silent bool
	// Status of a message of our own that is imported; empty: sent.
	Status MessageStatus
	// Placeholder says that the content could not be read, perhaps only yet: a
	// later message under the same key fills the row in.
	Placeholder bool
}

// Peer is an address on the provider's network, with what is known of who is
// behind it.
type Peer struct {
	// Address is the chat's (or sender's) address on the channel's network: the
	// value of one of the identities. The others are addresses too, under which
	// the same chat, or sender, is found.
	Address    string
	Kind       ChatKind
	Name       string
	Identities []Identity
	// Former is the address that the chat had before, where the network has
	// just given it a new one: the chat goes on under Address. Messages only.
	Former string `json:",omitempty"`
}

// IdentityKind is the name space of an Identity.
type IdentityKind string

// The kinds of identities.
const (
	IdentityPhone    IdentityKind = "phone"    // digits only, with country code
	IdentityLID      IdentityKind = "lid"      // WhatsApp's hidden id
	IdentityTelegram IdentityKind = "telegram" // Telegram's numeric user id
	IdentityUsername IdentityKind = "username" // Telegram's @name, without the @, lower case
	IdentityGroup    IdentityKind = "group"    // a group's address
	IdentityBSUID    IdentityKind = "bsuid"    // Meta's business-scoped user id, for people who hide their number
)

// Identity is one of the names under which a contact is known. Within an
// organization a (Kind, Value) belongs to one contact.
type Identity struct {
	Kind  IdentityKind
	Value string
}

// InboundMedia is a file that the provider holds for us.
type InboundMedia struct {
	// Ref is the provider's handle, opaque to all but the channel.
	Ref        string
	MIME       string
	Filename   string
	Size       int64
	SHA256     string // lower-case hex, empty where not told
	Width      int
	Height     int
	DurationMS int
}

// InboundReaction sets (or with an empty Emoji takes away) one sender's
// reaction on a message of the chat.
type InboundReaction struct {
	// ExternalID is the provider's id of the update itself (not of the message
	// it speaks of): a redelivery is recognised by it. Empty where there is
	// none; then only the time orders.
	ExternalID       string
	Peer             Peer
	Sender           Peer
	FromMe           bool
	TargetExternalID string
	Emoji            string
	ProviderTime     Time
}

// InboundStatus reports how far an outbound message has come.
type InboundStatus struct {
	ExternalID string
	// MessageID and Attempt are our own marks, where the provider gave them
	// back (0 otherwise): they find the message before its send has returned.
	MessageID int64
	Attempt   int
	Status    MessageStatus
	Error     *SendError
	At        Time
}

// Author is who changes a message. Only who wrote it may.
type Author struct {
	FromMe bool
	Sender Peer // in a group, of others; else empty
	Admin  bool // of the group: takes back what others wrote, too
}

// InboundEdit replaces the content of a message.
type InboundEdit struct {
	ExternalID       string // as in InboundReaction
	Peer             Peer
	By               *Author `json:",omitempty"` // nil: the network sees to it that it is the author
	TargetExternalID string
	Content          string
	ProviderTime     Time
}

// InboundRevoke takes a message back.
type InboundRevoke struct {
	ExternalID       string // as in InboundReaction
	Peer             Peer
	By               *Author `json:",omitempty"` // as in InboundEdit
	TargetExternalID string
	ProviderTime     Time
}

// InboundRead says that the organization's own phone has read a chat.
type InboundRead struct {
	Peer Peer
	// ExternalIDs are messages of the customer that were read; all before them
	// were, too.
	ExternalIDs []string
	At          Time
}

// InboundContact is what a network tells of somebody, or of a group, without a
// message: a name, a picture, or that two of its addresses are one person.
type InboundContact struct {
	// Peer.Identities are all of one person: contacts, and chats of the
	// channel, that turn out to be the same are merged. A contact nobody knows
	// yet is not made.
	Peer Peer
	// Picture is the contact's; nil says nothing about it, one without Ref that
	// there is none.
	Picture *InboundPicture
}

// InboundPicture is a contact's picture, which the provider holds for us.
type InboundPicture struct {
	ID  string // changes with the picture
	Ref string // the provider's handle, opaque to all but the channel
}

// InboundHistory is a part of what a phone knew before the channel was linked.
// It is imported: no unread counts, no notifications, and one event for a chat
// instead of one for each of its messages.
type InboundHistory struct {
	Chats []InboundChat
}

// InboundChat is a chat of an import. All items are of its peer; messages are
// Silent.
type InboundChat struct {
	Peer  Peer
	Items []Inbound // messages and reactions, oldest first
}

// Inbound is one thing that happened on a channel; exactly one field is set.
type Inbound struct {
	Message  *InboundMessage
	Reaction *InboundReaction
	Status   *InboundStatus
	Edit     *InboundEdit
	Revoke   *InboundRevoke
	Read     *InboundRead
	Contact  *InboundContact
	History  *InboundHistory
}

// Received is one thing that a provider handed out, beside its raw form.
type Received struct {
	// Inbound is what is stored. It may be empty beside a Poison, and else
	// says in the chat that something could not be read.
	Inbound Inbound
	// Raw is the provider's form, kept where the item must be set aside.
	Raw []byte
	// Poison is why the item could not be read; it is set aside.
	Poison error
}

// Batch is what came from a provider that hands out what follows a position,
// and forgets what lies before it.
type Batch struct {
	Items []Received
	// Position is where the provider goes on after these items; opaque to all
	// but the channel.
	Position string
	// LastTry: it was tried often enough. Items that fail once more are set
	// aside whatever the reason, unless the database is away.
	LastTry bool
}

// Outbound is a message that a channel shall send.
type Outbound struct {
	Message Message
	// Attempt counts from 1; with the message's id it is the mark by which a
	// status is recognised (InboundStatus).
	Attempt int
	// Peer is the chat's address on the channel's network.
	Peer string
	// ReplyToExternalID quotes a message, where set. ReplyToSender is the address
	// of its author in a group, empty for our own and in a direct chat.
	ReplyToExternalID string
	ReplyToFromMe     bool
	ReplyToSender     string
	// Bulk: nothing but bulk waits in its chat.
	Bulk bool
}

// CommandKind names an action on the provider's side that may be repeated
// without harm.
type CommandKind string

// The kinds of commands.
const (
	CommandRead     CommandKind = "read"     // tell the customer's app that messages were read
	CommandReaction CommandKind = "reaction" // set or take away our reaction
	CommandEdit     CommandKind = "edit"     // replace the text of our message
	CommandRevoke   CommandKind = "revoke"   // take our message back
)

// Command is an action that a channel shall carry out on an existing message.
type Command struct {
	ID        int64
	ChannelID int64
	ChatID    int64
	MessageID int64
	Kind      CommandKind
	// Peer is the chat's address; TargetExternalID the message's;
	// TargetSender the address of its author in a group, empty for our own.
	Peer             string
	TargetExternalID string
	TargetSender     string
	TargetFromMe     bool
	TargetType       MessageType
	// Value is the emoji of a reaction, the new text of an edit, or how many
	// messages were read.
	Value    string
	Attempts int
	// Earlier are, of a read command, the customer's messages before the target:
	// some networks want each one named that was read. Newest first.
	Earlier []ReadMessage
}

// ReadMessage is a message that was read, and the address of its author in a
// group.
type ReadMessage struct{ ExternalID, Sender string }
