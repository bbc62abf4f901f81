package store

import (
	"encoding/json"

	"switchboard/internal/domain"
)

// chatColumns are what chatRow scans; the query must join contacts as p.
const chatColumns = `c.id, c.organization_id, c.channel_id, c.channel_kind, c.kind, c.peer, c.contact_id, c.status, c.assignee_id,
	c.unread_count, c.tags, c.ticket_id, c.last_message_id, c.last_message_content, c.last_message_type, c.last_message_from_me,
	c.last_message_at, c.last_message_created_at, c.last_inbound_at, c.read_up_to_id, c.activity_at, c.created_at, c.updated_at,
	p.name AS contact_name, p.phone AS contact_phone, p.username AS contact_username, p.picture_media_id AS contact_picture_media_id`

type chatRow struct {
	ID, OrganizationID, ChannelID int64
	ChannelKind                   domain.ChannelKind
	Kind                          domain.ChatKind
	Peer                          string
	ContactID                     int64
	Status                        domain.ChatStatus
	AssigneeID                    *int64
	UnreadCount                   int
	Tags                          string
	TicketID                      *int64
	LastMessageID                 *int64
	LastMessageContent            *string
	LastMessageType               *domain.MessageType
	LastMessageFromMe             *bool
	LastMessageAt                 *domain.Time
	LastMessageCreatedAt          *domain.Time
	LastInboundAt                 domain.Time
	ReadUpToID                    int64
	ActivityAt                    domain.Time
	CreatedAt, UpdatedAt          domain.Time
	ContactName, ContactPhone     string
	ContactUsername               string
	ContactPictureMediaID         *int64
}

func (r chatRow) chat() domain.Chat {
	chat := domain.Chat{
		ID: r.ID, ChannelID: r.ChannelID, Channel: r.ChannelKind.Network(), Kind: r.Kind,
		Contact: domain.Contact{
			ID: r.ContactID, Name: r.ContactName, Phone: r.ContactPhone, Username: r.ContactUsername, AvatarMediaID: r.ContactPictureMediaID,
		},
		Status: r.Status, AssigneeID: r.AssigneeID, UnreadCount: r.UnreadCount, Tags: []string{}, TicketID: r.TicketID,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
	if r.Tags != "" && r.Tags != "[]" {
		_ = json.Unmarshal([]byte(r.Tags), &chat.Tags) // written by us only
	}
	if r.LastMessageID != nil {
		chat.LastMessage = &domain.LastMessage{
			ID: *r.LastMessageID, Content: *r.LastMessageContent, Type: *r.LastMessageType,
			FromMe: *r.LastMessageFromMe, CreatedAt: *r.LastMessageCreatedAt,
		}
	}
	if r.ChannelKind == domain.KindWABA {
		expires := r.windowExpiresAt()
		chat.WindowExpiresAt = &expires
	}
	return chat
}

func (r chatRow) windowExpiresAt() domain.Time {
	if r.LastInboundAt == 0 {
		return 0
	}
	return r.LastInboundAt.Add(domain.CustomerServiceWindow)
}
