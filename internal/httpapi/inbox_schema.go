package httpapi

import (
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"switchboard/internal/domain"
)

// The headings of the operators' routes.
const (
	tagChannels      = "Channels"
	tagChats         = "Chats"
	tagMessages      = "Messages"
	tagMedia         = "Media"
	tagTickets       = "Tickets"
	tagNotifications = "Notifications"
	tagEvents        = "Events"
)

// Schemas of the domain's words, whose values reflection cannot see.
type (
	channelStateSchema     struct{}
	chatKindSchema         struct{}
	messageTypeSchema      struct{}
	messageStatusSchema    struct{}
	mediaStateSchema       struct{}
	ticketStatusSchema     struct{}
	prioritySchema         struct{}
	messagePrioritySchema  struct{}
	notificationKindSchema struct{}
)

// Schema lists the states of channels.
func (channelStateSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.ChannelDisconnected, domain.ChannelConnecting, domain.ChannelQR, domain.ChannelPairing, domain.ChannelConnected,
		domain.ChannelLoggedOut, domain.ChannelBanned, domain.ChannelConflict, domain.ChannelError)
}

// Schema lists the kinds of chats.
func (chatKindSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.ChatDirect, domain.ChatGroup)
}

// Schema lists the types of messages.
func (messageTypeSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.TypeText, domain.TypeImage, domain.TypeVideo, domain.TypeAudio, domain.TypeVoice, domain.TypeDocument,
		domain.TypeSticker, domain.TypeLocation, domain.TypeContact, domain.TypeTemplate, domain.TypeSystem, domain.TypeUnsupported)
}

// Schema lists the statuses of messages.
func (messageStatusSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.StatusReceived, domain.StatusQueued, domain.StatusSending, domain.StatusSent, domain.StatusDelivered,
		domain.StatusRead, domain.StatusFailed, domain.StatusUnknown)
}

// Schema lists the states of files.
func (mediaStateSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.MediaPending, domain.MediaReady, domain.MediaFailed)
}

// Schema lists the statuses of tickets.
func (ticketStatusSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.TicketOpen, domain.TicketPending, domain.TicketResolved, domain.TicketClosed)
}

// Schema lists the priorities of tickets.
func (prioritySchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.PriorityLow, domain.PriorityNormal, domain.PriorityHigh, domain.PriorityUrgent)
}

// Schema lists the priorities of messages that wait to be sent.
func (messagePrioritySchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.MessageNormal, domain.MessageBulk)
}

// Schema lists the kinds of notifications.
func (notificationKindSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.NotifyChatAssigned, domain.NotifyTicketAssigned, domain.NotifySystem)
}

// inboxSchemas makes the words and headings known to OpenAPI, before the routes that use them.
func (s *Server) inboxSchemas() {
	document := s.api.OpenAPI()
	registry := document.Components.Schemas
	alias[domain.ChannelState, channelStateSchema](registry)
	alias[domain.ChatKind, chatKindSchema](registry)
	alias[domain.MessageType, messageTypeSchema](registry)
	alias[domain.MessageStatus, messageStatusSchema](registry)
	alias[domain.MediaState, mediaStateSchema](registry)
	alias[domain.TicketStatus, ticketStatusSchema](registry)
	alias[domain.Priority, prioritySchema](registry)
	alias[domain.MessagePriority, messagePrioritySchema](registry)
	alias[domain.NotificationKind, notificationKindSchema](registry)
	document.Tags = append(document.Tags,
		&huma.Tag{Name: tagChannels, Description: "Numbers and bots. Changes are for admins."},
		&huma.Tag{Name: tagChats, Description: "Conversations: lists, assignment, status, tags, notes."},
		&huma.Tag{Name: tagMessages, Description: "Reading, sending, reacting, editing, revoking."},
		&huma.Tag{Name: tagMedia, Description: "Files: upload, and download by signed address."},
		&huma.Tag{Name: tagTickets, Description: "Cases on chats, numbered within the organization."},
		&huma.Tag{Name: tagNotifications, Description: "What concerns the caller alone."},
		&huma.Tag{Name: tagEvents, Description: "The log of everything that changed, as the sockets get it."},
	)
}

func alias[T, S any](registry huma.Registry) {
	registry.RegisterTypeAlias(reflect.TypeFor[T](), reflect.TypeFor[S]())
}

// assigneeFilter reads the assigneeId of a list: a user's id, me, or none for nobody's. Empty means everyone's.
func assigneeFilter(given string, who domain.Principal) (*int64, error) {
	var id int64
	switch given {
	case "":
		return nil, nil
	case "me":
		id = who.UserID
	case "none":
	default:
		var err error
		if id, err = strconv.ParseInt(given, 10, 64); err != nil || id < 1 {
			return nil, domain.Invalid("assigneeId", "It must be a user's id, me or none.")
		}
	}
	return &id, nil
}
