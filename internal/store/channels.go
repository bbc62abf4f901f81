package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"gorm.io/gorm"

	"switchboard/internal/domain"
)

const channelColumns = `id, organization_id, kind, name, config, secrets, external_key, enabled, state, state_code, state_reason,
	state_since, state_worker, state_retries, config_version, device, unlink, deleted_at IS NOT NULL AS deleted, linking_user_id, created_at, updated_at`

type channelRow struct {
	ID, OrganizationID     int64
	Kind                   domain.ChannelKind
	Name, Config           string
	Secrets                []byte
	ExternalKey            *string
	Enabled                bool
	State                  domain.ChannelState
	StateCode, StateReason string
	StateSince             domain.Time
	StateWorker            string
	StateRetries           bool
	ConfigVersion          int64
	Device                 string
	Unlink, Deleted        bool
	LinkingUserID          *int64
	CreatedAt, UpdatedAt   domain.Time
}

// SealedChannel is a channel with its credentials, still sealed.
type SealedChannel struct {
	OrganizationID int64
	Channel        domain.Channel
	// ExternalKey is who the channel is at the provider; empty where that is
	// not known before it is linked.
	ExternalKey string
	Sealed      []byte // nil: no secrets
	Version     int64
	// Device is the linked device at the provider, empty where there is none.
	// Unlink: an admin wants that link to end. Deleted: that is all that the channel
	// is still there for (RunChannel). LinkingUserID is the admin who last asked for
	// a link.
	Device          string
	Unlink, Deleted bool
	LinkingUserID   int64
}

func (r channelRow) channel() (SealedChannel, error) {
	c := SealedChannel{
		OrganizationID: r.OrganizationID, ExternalKey: deref(r.ExternalKey), Sealed: r.Secrets, Version: r.ConfigVersion,
		Device: r.Device, Unlink: r.Unlink, Deleted: r.Deleted, LinkingUserID: deref(r.LinkingUserID),
		Channel: domain.Channel{
			ID: r.ID, Kind: r.Kind, Name: r.Name, Config: map[string]string{}, Enabled: r.Enabled,
			Status: domain.ChannelStatus{
				ChannelID: r.ID, State: r.State, Code: r.StateCode, Reason: r.StateReason, Since: r.StateSince, Worker: r.StateWorker,
				Retries: r.StateRetries,
			},
			CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		},
	}
	if err := json.Unmarshal([]byte(r.Config), &c.Channel.Config); err != nil {
		return c, fmt.Errorf("config of channel %d: %w", r.ID, err)
	}
	return c, nil
}

func readChannels(db *gorm.DB, rest string, args ...any) ([]SealedChannel, error) {
	return readRows(db, "deleted_at IS NULL AND "+rest, args...)
}

func readRows(db *gorm.DB, where string, args ...any) ([]SealedChannel, error) {
	var rows []channelRow
	err := db.Raw("SELECT "+channelColumns+" FROM channels WHERE "+where, args...).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read channels: %w", err)
	}
	channels := make([]SealedChannel, len(rows))
	for i, r := range rows {
		if channels[i], err = r.channel(); err != nil {
			return nil, err
		}
	}
	return channels, nil
}

func readChannel(db *gorm.DB, rest string, args ...any) (SealedChannel, error) {
	return only(readChannels(db, rest, args...))
}

func only(channels []SealedChannel, err error) (SealedChannel, error) {
	if err != nil {
		return SealedChannel{}, err
	}
	if len(channels) == 0 {
		return SealedChannel{}, domain.NotFound("channel")
	}
	return channels[0], nil
}

// Channels lists the channels of an organization, oldest first, from the one behind the id after.
func (s *Store) Channels(ctx context.Context, organizationID, after int64, limit int) ([]domain.Channel, error) {
	rows, err := readChannels(s.db.WithContext(ctx), "organization_id = ? AND id > ? ORDER BY id LIMIT "+strconv.Itoa(max(limit, 1)),
		organizationID, after)
	channels := make([]domain.Channel, len(rows))
	for i, r := range rows {
		channels[i] = r.Channel
	}
	return channels, err
}

// Channel returns a channel of an organization, or domain.NotFound.
func (s *Store) Channel(ctx context.Context, organizationID, id int64) (domain.Channel, error) {
	c, err := readChannel(s.db.WithContext(ctx), "id = ? AND organization_id = ?", id, organizationID)
	return c.Channel, err
}

// LoadChannel returns a channel of whatever organization.
func (s *Store) LoadChannel(ctx context.Context, id int64) (SealedChannel, error) {
	return readChannel(s.db.WithContext(ctx), "id = ?", id)
}

// RunChannel returns a channel for who runs it: also one that is deleted and whose link is still to be ended.
func (s *Store) RunChannel(ctx context.Context, id int64) (SealedChannel, error) {
	return only(readRows(s.db.WithContext(ctx), "id = ? AND (deleted_at IS NULL OR unlink)", id))
}

// ChannelsByExternalKey finds the channels of a kind that are known to the provider under one of the keys.
func (s *Store) ChannelsByExternalKey(ctx context.Context, kind domain.ChannelKind, keys []string) ([]SealedChannel, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	return readChannels(s.db.WithContext(ctx), "kind = ? AND external_key IN ?", kind, keys)
}

// VerifyHash finds a channel of a kind by the hash of its webhook's verify token, and returns the hash that is stored.
func (s *Store) VerifyHash(ctx context.Context, kind domain.ChannelKind, hash []byte) (channelID int64, stored []byte, err error) {
	var row struct {
		ID         int64
		VerifyHash []byte
	}
	err = s.db.WithContext(ctx).Raw("SELECT id, verify_hash FROM channels WHERE verify_hash = ? AND kind = ? AND deleted_at IS NULL ORDER BY id LIMIT 1",
		hash, kind).Scan(&row).Error
	if err != nil {
		return 0, nil, fmt.Errorf("look up a verify token: %w", err)
	}
	return row.ID, row.VerifyHash, nil
}

// ErrChannelTaken means that the number or bot is another channel's.
var ErrChannelTaken = errors.New("another channel has this external key")

// InsertChannel adds a channel without secrets; SaveChannel adds those, sealed for the channel's id.
func (tx *Tx) InsertChannel(c SealedChannel) (int64, error) {
	config, err := json.Marshal(c.Channel.Config)
	if err != nil {
		return 0, fmt.Errorf("encode config: %w", err)
	}
	status := c.Channel.Status
	var id int64
	err = tx.db.Raw(`INSERT INTO channels (organization_id, kind, name, config, external_key, enabled, state, state_code, state_reason,
			state_since, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		tx.organizationID, c.Channel.Kind, c.Channel.Name, string(config), nonEmpty(c.ExternalKey), c.Channel.Enabled, status.State, status.Code,
		status.Reason, status.Since, tx.now, tx.now).Scan(&id).Error
	if isUnique(err) {
		return 0, ErrChannelTaken
	}
	if err != nil {
		return 0, fmt.Errorf("insert a channel: %w", err)
	}
	return id, nil
}

// LockChannel returns a channel of the organization and keeps others from changing it until the commit.
func (tx *Tx) LockChannel(id int64) (SealedChannel, error) {
	lock := ""
	if tx.store.Postgres() {
		lock = " FOR NO KEY UPDATE"
	}
	return readChannel(tx.db, "id = ? AND organization_id = ?"+lock, id, tx.organizationID)
}

// SaveChannel writes what an admin may change of a channel, and its version. verifyHash nil means that it has none.
func (tx *Tx) SaveChannel(c SealedChannel, verifyHash []byte) error {
	config, err := json.Marshal(c.Channel.Config)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	err = tx.db.Exec(`UPDATE channels SET name = ?, config = ?, secrets = ?, external_key = ?, verify_hash = ?, config_version = ?, updated_at = ?
		WHERE id = ? AND organization_id = ?`,
		c.Channel.Name, string(config), c.Sealed, nonEmpty(c.ExternalKey), verifyHash, c.Version, tx.now, c.Channel.ID, tx.organizationID).Error
	if isUnique(err) {
		return ErrChannelTaken
	}
	if err != nil {
		return fmt.Errorf("save channel %d: %w", c.Channel.ID, err)
	}
	return nil
}

// RenameChannel changes a channel's name only.
func (tx *Tx) RenameChannel(id int64, name string) error {
	return tx.db.Exec("UPDATE channels SET name = ?, updated_at = ? WHERE id = ? AND organization_id = ?", name, tx.now, id, tx.organizationID).Error
}

// SwitchChannel says whether a worker shall run a channel. Its version rises, so that a session that waits or runs begins anew.
// Off, it also takes back that the link shall end: whoever switches the channel on again wants it as it was.
func (tx *Tx) SwitchChannel(id int64, enabled bool) error {
	err := tx.db.Exec("UPDATE channels SET enabled = ?, unlink = (unlink AND ?), config_version = config_version + 1, updated_at = ? WHERE id = ? AND organization_id = ?",
		enabled, enabled, tx.now, id, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("switch channel %d: %w", id, err)
	}
	return nil
}

// SetChannelStatus writes how a channel is.
func (tx *Tx) SetChannelStatus(status domain.ChannelStatus) error {
	err := tx.db.Exec(`UPDATE channels SET state = ?, state_code = ?, state_reason = ?, state_since = ?, state_worker = ?, state_retries = ?
		WHERE id = ? AND organization_id = ?`,
		status.State, status.Code, status.Reason, status.Since, status.Worker, status.Retries, status.ChannelID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("set the status of channel %d: %w", status.ChannelID, err)
	}
	return nil
}

// runnable is the condition that a channel c shall have a session: it is on, or it is deleted and its phone is still to be
// told that the link has ended.
const runnable = "c.enabled AND (c.deleted_at IS NULL OR c.unlink)"

// DeleteChannel marks a channel as deleted and forgets its credentials. Its chats stay. A device that is linked is kept for
// a last session, which ends the link (ForgetDevice).
func (tx *Tx) DeleteChannel(id int64) error {
	for _, statement := range []string{
		`UPDATE channels SET deleted_at = @now, updated_at = @now, enabled = (device <> ''), secrets = NULL, verify_hash = NULL, state = 'disconnected',
			state_code = '', state_reason = '', state_worker = '', state_retries = FALSE, unlink = (device <> ''), config_version = config_version + 1
			WHERE id = @id AND organization_id = @org`,
		"DELETE FROM link_codes WHERE channel_id = @id",
		"DELETE FROM outbox WHERE channel_id = @id",
		"DELETE FROM early_updates WHERE channel_id = @id",
	} {
		err := tx.db.Exec(statement, map[string]any{"now": tx.now, "id": id, "org": tx.organizationID}).Error
		if err != nil {
			return fmt.Errorf("delete channel %d: %w", id, err)
		}
	}
	return tx.dropCommands("k.channel_id = ? AND k.organization_id = ?", id, tx.organizationID)
}

// AbandonOutbox ends what a channel has not sent: what is queued fails, and of what is being sent the outcome is unknown.
// It returns the changes, by message.
func (tx *Tx) AbandonOutbox(channelID int64, reason domain.SendError) ([]domain.MessageStatusChange, error) {
	var rows []struct {
		ID, ChatID int64
		Status     domain.MessageStatus
	}
	err := tx.db.Raw(`UPDATE messages SET status = CASE WHEN status = 'queued' THEN 'failed' ELSE 'unknown' END, error_code = ?, error_message = ?
		WHERE channel_id = ? AND organization_id = ? AND status IN ('queued', 'sending') RETURNING id, chat_id, status`,
		reason.Code, reason.Message, channelID, tx.organizationID).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("abandon the outbox of channel %d: %w", channelID, err)
	}
	changes := make([]domain.MessageStatusChange, len(rows))
	for i, r := range rows {
		changes[i] = domain.MessageStatusChange{MessageID: r.ID, ChatID: r.ChatID, Status: r.Status, Error: &reason}
	}
	return changes, nil
}

// AbandonMedia fails the downloads of a channel and returns the messages that wait for them.
func (tx *Tx) AbandonMedia(channelID int64, reason string) ([]int64, error) {
	if err := tx.abandonPictures(channelID); err != nil {
		return nil, err
	}
	var messageIDs []int64
	err := tx.db.Raw(`UPDATE media SET state = 'failed', error = ? WHERE channel_id = ? AND organization_id = ? AND state = 'pending'
		RETURNING COALESCE(message_id, 0)`, reason, channelID, tx.organizationID).Scan(&messageIDs).Error
	if err != nil {
		return nil, fmt.Errorf("abandon the downloads of channel %d: %w", channelID, err)
	}
	return messageIDs, nil
}

// ChannelOfChat returns the channel of a chat of an organization, or domain.NotFound.
func (s *Store) ChannelOfChat(ctx context.Context, organizationID, chatID int64) (int64, error) {
	var id int64
	err := s.db.WithContext(ctx).Raw("SELECT channel_id FROM chats WHERE id = ? AND organization_id = ?", chatID, organizationID).Scan(&id).Error
	if err != nil {
		return 0, fmt.Errorf("look up chat %d: %w", chatID, err)
	}
	if id == 0 {
		return 0, domain.NotFound("chat")
	}
	return id, nil
}

// ChatInOrganization reports whether a chat exists and is the organization's.
func (s *Store) ChatInOrganization(ctx context.Context, organizationID, chatID int64) (bool, error) {
	_, err := s.ChannelOfChat(ctx, organizationID, chatID)
	if domain.CodeOf(err) == domain.CodeNotFound {
		return false, nil
	}
	return err == nil, err
}
