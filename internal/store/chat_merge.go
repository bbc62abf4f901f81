package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"switchboard/internal/domain"
)

// How two chats become one: a group has a new address, or two contacts turn out
// to be one person. The older chat goes on; what is in the other moves there.

// tellMoved is up to how many messages that changed their chat are told one by
// one; of more, messages:imported alone tells.
const tellMoved = 100

// MoveChat lets a group's chat go on under a new address: group chats change
// theirs when the network makes them larger. If there is a chat under each, the
// older one absorbs the other. chatID is 0 when there is none under the former
// address. Who calls it tells of the chat.
func (tx *Tx) MoveChat(channelID int64, former, address string) (chatID int64, err error) {
	failed := func(err error) (int64, error) {
		return 0, fmt.Errorf("move a chat of channel %d to its new address: %w", channelID, err)
	}
	chats, err := tx.lockChats("channel_id = ? AND peer IN (?, ?)", channelID, former, address)
	if err != nil {
		return failed(err)
	}
	if !slices.ContainsFunc(chats, func(c lockedChat) bool { return c.Peer == former }) {
		return 0, nil
	}
	if err := tx.absorb(chats, address); err != nil {
		return failed(err)
	}
	return chats[0].ID, nil
}

// Readdress makes the direct chat with a contact on a channel go on under
// another of the contact's addresses.
func (tx *Tx) Readdress(channelID, contactID int64, address string) error {
	err := tx.db.Exec(`UPDATE chats SET peer = ? WHERE channel_id = ? AND contact_id = ? AND organization_id = ? AND kind = 'direct' AND peer <> ?
		AND NOT EXISTS (SELECT 1 FROM chats o WHERE o.channel_id = chats.channel_id AND o.peer = ?)`,
		address, channelID, contactID, tx.organizationID, address, address).Error
	if err != nil {
		return fmt.Errorf("readdress the chat of contact %d: %w", contactID, err)
	}
	return nil
}

// Current is the chat that a chat has become in this transaction: itself, or
// the one that has absorbed it.
func (tx *Tx) Current(chatID int64) int64 {
	for {
		into, gone := tx.absorbed[chatID]
		if !gone {
			return chatID
		}
		chatID = into
	}
}

// mergeChats makes one of the direct chats that a contact has on each channel.
// Who calls it tells of the contact's chats.
func (tx *Tx) mergeChats(contactID int64) error {
	chats, err := tx.lockChats("contact_id = ? AND kind = 'direct'", contactID)
	if err != nil {
		return err
	}
	byChannel := map[int64][]lockedChat{}
	for _, c := range chats {
		byChannel[c.ChannelID] = append(byChannel[c.ChannelID], c)
	}
	for _, same := range byChannel {
		if len(same) < 2 {
			continue
		}
		active := slices.MaxFunc(same, func(a, b lockedChat) int { return cmp.Compare(a.ActivityAt, b.ActivityAt) })
		if err := tx.absorb(same, active.Peer); err != nil {
			return err
		}
	}
	return nil
}

// lockedChat is a chat that is about to be moved or absorbed.
type lockedChat struct {
	ID, ChannelID, ContactID int64
	Peer                     string
	ActivityAt               domain.Time
	UnreadCount              int
	ReadUpToID               int64
	Tags                     string
}

// lockChats locks chats against all others, the oldest first. Unlike elsewhere
// inserts of messages wait as well: one into a chat that is about to go would
// go with it.
func (tx *Tx) lockChats(condition string, args ...any) ([]lockedChat, error) {
	lock := ""
	if tx.store.Postgres() {
		lock = " FOR UPDATE"
	}
	var chats []lockedChat
	err := tx.db.Raw("SELECT id, channel_id, contact_id, peer, activity_at, unread_count, read_up_to_id, tags FROM chats WHERE "+condition+
		" AND organization_id = ? ORDER BY id"+lock, append(args, tx.organizationID)...).Scan(&chats).Error
	if err != nil {
		return nil, fmt.Errorf("lock chats: %w", err)
	}
	return chats, nil
}

// absorb makes one chat out of several of a channel, under an address.
func (tx *Tx) absorb(chats []lockedChat, address string) error {
	into := chats[0]
	for _, from := range chats[1:] {
		if err := tx.absorbChat(&into, from); err != nil {
			return fmt.Errorf("absorb chat %d into %d: %w", from.ID, into.ID, err)
		}
	}
	return tx.db.Exec("UPDATE chats SET peer = ?, updated_at = ? WHERE id = ?", address, tx.now, into.ID).Error
}

// absorbChat moves what is in a chat into another one, deletes it, and tells of
// both but for the chat that stays.
func (tx *Tx) absorbChat(into *lockedChat, from lockedChat) error {
	doubles, err := tx.mergeDoubles(*into, from)
	if err != nil {
		return err
	}
	var moved []int64
	if err := tx.db.Raw("SELECT id FROM messages WHERE chat_id = ? ORDER BY provider_time, id", from.ID).Scan(&moved).Error; err != nil {
		return err
	}
	for _, table := range []string{"messages", "commands", "tickets", "notes", "notifications"} {
		if err := tx.db.Exec("UPDATE "+table+" SET chat_id = ? WHERE chat_id = ?", into.ID, from.ID).Error; err != nil {
			return err
		}
	}
	into.UnreadCount = max(into.UnreadCount, from.UnreadCount, into.UnreadCount+from.UnreadCount-doubles.unread)
	if err := tx.combineChats(*into, from); err != nil {
		return err
	}
	if into.Tags, err = tx.combineTags(*into, from); err != nil {
		return err
	}
	if err := tx.db.Exec("DELETE FROM chats WHERE id = ? AND organization_id = ?", from.ID, tx.organizationID).Error; err != nil {
		return err
	}
	if _, err := tx.LinkTicket(into.ID); err != nil {
		return err
	}
	if tx.absorbed == nil {
		tx.absorbed = map[int64]int64{}
	}
	tx.absorbed[from.ID] = into.ID
	return tx.tellAbsorbed(*into, from, append(doubles.kept, moved...))
}

// combineChats takes over what the chat that goes knows better than the other.
func (tx *Tx) combineChats(into, from lockedChat) error {
	const newer = "CASE WHEN o.last_message_at >= COALESCE(c.last_message_at, 0) THEN o."
	err := tx.db.Exec(`UPDATE chats AS c SET unread_count = ?,
			status = CASE WHEN c.status <> 'resolved' THEN c.status WHEN o.unread_count > 0 THEN 'open' ELSE o.status END,
			assignee_id = COALESCE(c.assignee_id, o.assignee_id),
			last_message_id = `+newer+`last_message_id ELSE c.last_message_id END,
			last_message_from_me = `+newer+`last_message_from_me ELSE c.last_message_from_me END,
			last_message_created_at = `+newer+`last_message_created_at ELSE c.last_message_created_at END,
			last_message_at = `+newer+`last_message_at ELSE c.last_message_at END,
			last_inbound_at = CASE WHEN o.last_inbound_at > c.last_inbound_at THEN o.last_inbound_at ELSE c.last_inbound_at END,
			activity_at = CASE WHEN o.activity_at > c.activity_at THEN o.activity_at ELSE c.activity_at END
		FROM chats o WHERE c.id = ? AND o.id = ?`, into.UnreadCount, into.ID, from.ID).Error
	if err != nil {
		return err
	}
	return tx.db.Exec(`UPDATE chats SET last_message_content = SUBSTR(m.content, 1, ?), last_message_type = CASE WHEN m.revoked_at IS NULL THEN m.type ELSE 'text' END
		FROM messages m WHERE chats.id = ? AND m.id = chats.last_message_id`, lastContent, into.ID).Error
}

// combineTags gives a chat the tags of both; they are returned as stored.
func (tx *Tx) combineTags(into, from lockedChat) (string, error) {
	var tags, others []string
	_ = json.Unmarshal([]byte(into.Tags), &tags) // written by us only
	_ = json.Unmarshal([]byte(from.Tags), &others)
	before := len(tags)
	for _, tag := range others {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	if len(tags) == before {
		return into.Tags, nil
	}
	all, err := json.Marshal(tags)
	if err != nil {
		return "", err
	}
	for _, tag := range tags[before:] {
		err := tx.db.Exec("INSERT INTO chat_tags (organization_id, tag, chat_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
			tx.organizationID, tag, into.ID).Error
		if err != nil {
			return "", err
		}
	}
	return string(all), tx.db.Exec("UPDATE chats SET tags = ? WHERE id = ?", string(all), into.ID).Error
}

func (tx *Tx) tellAbsorbed(into, from lockedChat, changed []int64) error {
	if len(changed) <= tellMoved {
		messages, err := tx.messagesByID(changed)
		if err != nil {
			return err
		}
		for _, m := range messages {
			tx.Broadcast(domain.EventMessageUpdated, m)
		}
	}
	tx.ChatDeleted(from.ID)
	if len(changed) > 0 {
		tx.Broadcast(domain.EventMessagesImported, domain.MessagesImported{ChannelID: into.ChannelID, ChatIDs: []int64{into.ID}})
	}
	return nil
}

// messagesByID reads messages of the organization, by their time.
func (tx *Tx) messagesByID(ids []int64) ([]domain.Message, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []messageRow
	err := tx.db.Raw("SELECT "+messageColumns+" FROM messages m WHERE m.id IN ? AND m.organization_id = ? ORDER BY m.provider_time, m.id",
		ids, tx.organizationID).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	return tx.store.messages(tx.db, rows)
}
