package store

import (
	"cmp"
	"encoding/json"
	"fmt"

	"switchboard/internal/domain"
)

// Known is what a transaction finds under a peer's address on a channel.
type Known struct {
	Kind        domain.ChannelKind
	ChatID      int64 // 0: there is no chat yet
	ContactID   int64
	ContactName string
}

// Peer looks up a channel of the organization and the chat with a peer on it,
// in one query. A channel that is gone is domain.NotFound.
func (tx *Tx) Peer(channelID int64, address string) (Known, error) {
	var row struct {
		Kind        domain.ChannelKind
		ChatID      *int64
		ContactID   *int64
		ContactName *string
	}
	err := tx.db.Raw(`SELECT ch.kind, c.id AS chat_id, c.contact_id, p.name AS contact_name
		FROM channels ch
		LEFT JOIN chats c ON c.channel_id = ch.id AND c.peer = ?
		LEFT JOIN contacts p ON p.id = c.contact_id
		WHERE ch.id = ? AND ch.organization_id = ? AND ch.deleted_at IS NULL`, address, channelID, tx.organizationID).Scan(&row).Error
	if err != nil {
		return Known{}, fmt.Errorf("look up peer: %w", err)
	}
	if row.Kind == "" {
		return Known{}, domain.NotFound("channel")
	}
	known := Known{Kind: row.Kind}
	if row.ChatID != nil {
		known.ChatID, known.ContactID, known.ContactName = *row.ChatID, *row.ContactID, *row.ContactName
	}
	return known, nil
}

// NewChatInput is what a chat row is made of.
type NewChatInput struct {
	ChannelID   int64
	ChannelKind domain.ChannelKind
	Kind        domain.ChatKind
	Peer        string
	ContactID   int64
	ActivityAt  domain.Time
}

// ChatOfContact finds the direct chat with a contact on a channel under another
// address than the one that a message came from (a customer who now hides the
// number, or has a new one), and moves it to that address, so that answers go
// there. 0 means that there is none.
func (tx *Tx) ChatOfContact(channelID, contactID int64, address string) (int64, error) {
	var id int64
	err := tx.db.Raw(`SELECT id FROM chats WHERE channel_id = ? AND contact_id = ? AND kind = 'direct' ORDER BY activity_at DESC, id DESC LIMIT 1`,
		channelID, contactID).Scan(&id).Error
	if err != nil || id == 0 {
		return id, err
	}
	err = tx.db.Exec("UPDATE chats SET peer = ? WHERE id = ?", address, id).Error
	return id, err
}

// EnsureChat returns the chat with a peer, made now if need be. When two
// transactions make it at once, one does and the other waits and finds it.
func (tx *Tx) EnsureChat(in NewChatInput) (id int64, created bool, err error) {
	err = tx.db.Raw(`INSERT INTO chats (organization_id, channel_id, channel_kind, kind, peer, contact_id, status, activity_at, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, 'open', ?, ?, ?) ON CONFLICT (channel_id, peer) DO NOTHING RETURNING id`,
		tx.organizationID, in.ChannelID, in.ChannelKind, in.Kind, in.Peer, in.ContactID, in.ActivityAt, tx.now, tx.now).Scan(&id).Error
	if err != nil || id != 0 {
		return id, id != 0, err
	}
	err = tx.db.Raw("SELECT id FROM chats WHERE channel_id = ? AND peer = ?", in.ChannelID, in.Peer).Scan(&id).Error
	return id, false, err
}

// NewMessageInput is what a message row is made of.
type NewMessageInput struct {
	ChatID, ChannelID int64
	ChannelKind       domain.ChannelKind
	Type              domain.MessageType
	Content           string
	MediaID           *int64
	Location          *domain.Location
	Template          *domain.Template
	ReplyToID         *int64
	ReplyToExternalID string
	FromMe            bool
	SenderUserID      *int64
	SenderKey         string
	SenderName        string
	Status            domain.MessageStatus
	Priority          domain.MessagePriority // of one that waits to be sent; empty: normal
	ExternalID        string
	ClientMessageID   string
	ProviderTime      domain.Time
	// Placeholder: the content could not be read. InsertMessages only; for one
	// there is MarkPlaceholder.
	Placeholder bool
}

// SenderMe is the sender key of messages that the organization sent.
const SenderMe = "me"

// InsertMessage adds a message unless its key is taken; then id is 0. early
// tells that something about it came before it (ApplyEarly).
func (tx *Tx) InsertMessage(in NewMessageInput) (id int64, early bool, err error) {
	location, err := jsonText(in.Location)
	if err != nil {
		return 0, false, err
	}
	template, err := jsonText(in.Template)
	if err != nil {
		return 0, false, err
	}
	var row struct {
		ID    int64
		Early bool
	}
	external := nonEmpty(in.ExternalID)
	err = tx.db.Raw(`INSERT INTO messages (organization_id, chat_id, channel_id, channel_kind, type, content, media_id, location, template,
			reply_to_id, reply_to_external_id, from_me, sender_user_id, sender_key, sender_name, status, priority, external_id, client_message_id,
			provider_time, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING
		RETURNING id, EXISTS (SELECT 1 FROM early_updates u WHERE u.channel_id = ? AND u.external_id = ?) AS early`,
		tx.organizationID, in.ChatID, in.ChannelID, in.ChannelKind, in.Type, in.Content, in.MediaID, location, template,
		in.ReplyToID, nonEmpty(in.ReplyToExternalID), in.FromMe, in.SenderUserID, in.SenderKey, in.SenderName, in.Status, priorityRank(in.Priority), external,
		nonEmpty(in.ClientMessageID), in.ProviderTime, tx.now, in.ChannelID, in.ExternalID).Scan(&row).Error
	if err != nil {
		return 0, false, fmt.Errorf("insert message: %w", err)
	}
	return row.ID, row.Early, nil
}

func jsonText[T any](v *T) (*string, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	s := string(b)
	return &s, err
}

// Activity is how a message changes its chat.
type Activity struct {
	ChatID, MessageID int64
	Content           string
	Type              domain.MessageType
	FromMe            bool
	ProviderTime      domain.Time
	CreatedAt         domain.Time // of the message; 0: now
	// KeepUnread leaves the unread count of a chat that an operator answers:
	// reading is told of by MarkRead. (A message from the organization's own
	// phone shows that the chat was read there.)
	KeepUnread bool
	// Silent activity raises no unread count, reopens nothing and moves no
	// window: imports and system messages.
	Silent bool
}

// lastContent bounds the copy of a message under its chat's name, in runes.
const lastContent = 200

// Touch brings a chat up to a new message: the line under its name, its place
// in lists, its unread count, its status (a customer's message opens it again)
// and the customer service window. A message that arrives late does not
// replace a newer one's line.
func (tx *Tx) Touch(a Activity) (domain.Chat, error) {
	unread, status, inbound := "c.unread_count", "c.status", "c.last_inbound_at"
	if !a.Silent {
		switch {
		case a.FromMe && a.KeepUnread:
		case a.FromMe:
			unread = "0"
		default:
			unread = "c.unread_count + 1"
			status = "CASE WHEN c.status = 'resolved' THEN 'open' ELSE c.status END"
			inbound = "CASE WHEN c.last_inbound_at < @at THEN @at ELSE c.last_inbound_at END"
		}
	}
	// Assignments of an UPDATE see the row as it was.
	const newer = "CASE WHEN c.last_message_at IS NULL OR c.last_message_at <= @at THEN "
	chat, found, err := tx.updateChat(`unread_count = `+unread+`, status = `+status+`, last_inbound_at = `+inbound+`,
			last_message_id = `+newer+`@message ELSE c.last_message_id END,
			last_message_content = `+newer+`@content ELSE c.last_message_content END,
			last_message_type = `+newer+`@type ELSE c.last_message_type END,
			last_message_from_me = `+newer+`@fromMe ELSE c.last_message_from_me END,
			last_message_created_at = `+newer+`@created ELSE c.last_message_created_at END,
			last_message_at = `+newer+`@at ELSE c.last_message_at END,
			activity_at = CASE WHEN c.activity_at < @at THEN @at ELSE c.activity_at END`,
		"TRUE", a.ChatID, map[string]any{
			"at": a.ProviderTime, "created": cmp.Or(a.CreatedAt, tx.now), "message": a.MessageID, "content": clip(a.Content, lastContent), "type": a.Type, "fromMe": a.FromMe,
		})
	if err == nil && !found {
		err = domain.NotFound("chat")
	}
	return chat, err
}

// updateChat assigns to a chat of the organization, if it also meets the
// condition, and returns it as it is then: in PostgreSQL with one statement.
// (SQLite cannot return columns of a joined table.) The chat is c in both
// fragments; @chat, @org and @now are taken.
func (tx *Tx) updateChat(assignments, condition string, chatID int64, args map[string]any) (chat domain.Chat, found bool, err error) {
	args["chat"], args["org"], args["now"] = chatID, tx.organizationID, tx.now
	update := "UPDATE chats AS c SET " + assignments + ", updated_at = @now FROM contacts p " +
		"WHERE c.id = @chat AND c.organization_id = @org AND p.id = c.contact_id AND " + condition
	if tx.store.Postgres() {
		var row chatRow
		if err := tx.db.Raw(update+" RETURNING "+chatColumns, args).Scan(&row).Error; err != nil {
			return chat, false, fmt.Errorf("update chat %d: %w", chatID, err)
		}
		return row.chat(), row.ID != 0, nil
	}
	result := tx.db.Exec(update, args)
	if result.Error != nil {
		return chat, false, fmt.Errorf("update chat %d: %w", chatID, result.Error)
	}
	if result.RowsAffected == 0 {
		return chat, false, nil
	}
	chat, err = tx.Chat(chatID)
	return chat, true, err
}

// clip cuts s to at most n runes.
func clip(s string, n int) string {
	count := 0
	for i := range s {
		if count == n {
			return s[:i]
		}
		count++
	}
	return s
}

// MessageRef finds a message by the provider's id.
type MessageRef struct {
	ID, ChatID int64
	FromMe     bool
	SenderKey  string
}

// atAddress is the condition that a chat c is the one with an address, given
// twice, under whichever of the contact's addresses the chat is kept.
const atAddress = `(c.peer = ? OR EXISTS (
			SELECT 1 FROM identities i WHERE i.contact_id = c.contact_id AND i.organization_id = c.organization_id AND i.value = ?))`

// FindExternal finds a message of a channel by the provider's id, within the
// chat with a peer, under whichever of the peer's addresses. Ids of which the
// sender chooses the value are unique per sender only; the newest wins.
func (tx *Tx) FindExternal(channelID int64, peer, externalID string) (MessageRef, error) {
	rows, err := tx.AllExternal(channelID, peer, externalID)
	if err != nil || len(rows) == 0 {
		return MessageRef{}, err
	}
	return rows[0], nil
}

// AllExternal is FindExternal for all of them, the newest first.
func (tx *Tx) AllExternal(channelID int64, peer, externalID string) ([]MessageRef, error) {
	var rows []MessageRef
	err := tx.db.Raw(`SELECT m.id, m.chat_id, m.from_me, m.sender_key FROM messages m JOIN chats c ON c.id = m.chat_id
		WHERE m.channel_id = ? AND m.external_id = ? AND m.organization_id = ? AND `+atAddress+`
		ORDER BY m.id DESC`, channelID, externalID, tx.organizationID, peer, peer).Scan(&rows).Error
	return rows, err
}

// InsertInboundMedia makes the row of a file that the provider holds for us.
func (tx *Tx) InsertInboundMedia(channelID int64, in domain.InboundMedia) (*domain.Media, error) {
	var id int64
	err := tx.db.Raw(`INSERT INTO media (organization_id, channel_id, mime, size, filename, width, height, duration_ms, sha256, state,
			provider_ref, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?) RETURNING id`,
		tx.organizationID, channelID, in.MIME, in.Size, in.Filename, in.Width, in.Height, in.DurationMS, in.SHA256, in.Ref, tx.now).Scan(&id).Error
	if err != nil {
		return nil, fmt.Errorf("insert media: %w", err)
	}
	return &domain.Media{
		ID: id, MIME: in.MIME, Size: in.Size, Filename: in.Filename, Width: in.Width, Height: in.Height,
		DurationMS: in.DurationMS, State: domain.MediaPending,
	}, nil
}

// DropMedia removes a media row that turned out to belong to a duplicate.
func (tx *Tx) DropMedia(id int64) error {
	return tx.db.Exec("DELETE FROM media WHERE id = ? AND organization_id = ?", id, tx.organizationID).Error
}

// LinkMedia ties a media row to its message.
func (tx *Tx) LinkMedia(mediaID, messageID int64) error {
	return tx.db.Exec("UPDATE media SET message_id = ? WHERE id = ? AND organization_id = ?", messageID, mediaID, tx.organizationID).Error
}

// Complete builds the message that InsertMessage has just stored, without
// reading it back: only what hangs on it is looked up.
func (tx *Tx) Complete(id int64, in NewMessageInput) (domain.Message, error) {
	m := domain.Message{
		ID: id, ChatID: in.ChatID, ChannelID: in.ChannelID, Channel: in.ChannelKind.Network(), Type: in.Type, Content: in.Content,
		Location: in.Location, Template: in.Template, Reactions: []domain.Reaction{}, FromMe: in.FromMe, SenderUserID: in.SenderUserID,
		SenderName: in.SenderName, Status: in.Status, ExternalID: in.ExternalID, ClientMessageID: in.ClientMessageID,
		ProviderTime: in.ProviderTime, CreatedAt: tx.now,
	}
	if priorityRank(in.Priority) == bulkRank {
		m.Priority = domain.MessageBulk
	}
	if in.MediaID != nil {
		media, err := loadMedia(tx.db, []int64{*in.MediaID})
		if err != nil {
			return m, err
		}
		m.Media = media[*in.MediaID]
	}
	switch {
	case in.ReplyToID != nil:
		replies, err := loadReplies(tx.db, []int64{*in.ReplyToID})
		if err != nil {
			return m, err
		}
		m.ReplyTo = replies[*in.ReplyToID]
	case in.ReplyToExternalID != "":
		m.ReplyTo = &domain.ReplyTo{Type: domain.TypeUnsupported}
	}
	return m, nil
}
