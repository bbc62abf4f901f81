package store

import (
	"context"
	"encoding/json"
	"fmt"

	"switchboard/internal/domain"
)

// AskLink notes which admin asks for a channel's link: QR codes go to that one
// alone. A code that another one was shown is taken away.
func (tx *Tx) AskLink(channelID, userID int64) error {
	err := tx.db.Exec("UPDATE channels SET linking_user_id = ? WHERE id = ? AND organization_id = ?", userID, channelID, tx.organizationID).Error
	if err == nil {
		err = tx.db.Exec("DELETE FROM link_codes WHERE channel_id = ? AND user_id <> ?", channelID, userID).Error
	}
	if err != nil {
		return fmt.Errorf("ask for the link of channel %d: %w", channelID, err)
	}
	return nil
}

// AskUnlink makes the channel's next session end its link. Like SwitchChannel it
// makes the session begin anew.
func (tx *Tx) AskUnlink(channelID int64) error {
	err := tx.db.Exec(`UPDATE channels SET unlink = TRUE, enabled = TRUE, config_version = config_version + 1, updated_at = ?
		WHERE id = ? AND organization_id = ?`, tx.now, channelID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("ask for the end of the link of channel %d: %w", channelID, err)
	}
	return nil
}

// configPhone is the setting in which a channel has the number that alone may be
// linked: an admin gave it, or the channel has been open as it (KeepNumber).
const configPhone = "phone"

// LinkDevice keeps who a channel is about to be at its provider: the number, and
// the device. A number that is another channel's is ErrChannelTaken. The number
// becomes the channel's for good by KeepNumber.
func (tx *Tx) LinkDevice(channelID int64, number, device string) error {
	err := tx.db.Exec("UPDATE channels SET external_key = ?, device = ?, unlink = FALSE, updated_at = ? WHERE id = ? AND organization_id = ?",
		number, device, tx.now, channelID, tx.organizationID).Error
	if isUnique(err) {
		return ErrChannelTaken
	}
	if err != nil {
		return fmt.Errorf("keep the device of channel %d: %w", channelID, err)
	}
	if err := tx.forgetIntake(channelID); err != nil {
		return err
	}
	return tx.HideLinkCode(channelID)
}

// forgetIntake takes away how far the intake of a link has come: it means nothing
// to the next one.
func (tx *Tx) forgetIntake(channelID int64) error {
	if err := tx.db.Exec("DELETE FROM intakes WHERE channel_id = ?", channelID).Error; err != nil {
		return fmt.Errorf("forget the intake position of channel %d: %w", channelID, err)
	}
	return nil
}

// KeepNumber makes the number of a locked channel's device its own for good.
func (tx *Tx) KeepNumber(c SealedChannel) error {
	if c.Device == "" || c.Channel.Config[configPhone] != "" {
		return nil
	}
	c.Channel.Config[configPhone] = c.ExternalKey
	config, err := json.Marshal(c.Channel.Config)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	err = tx.db.Exec("UPDATE channels SET config = ?, updated_at = ? WHERE id = ? AND organization_id = ?",
		string(config), tx.now, c.Channel.ID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("keep the number of channel %d: %w", c.Channel.ID, err)
	}
	return nil
}

// UnlinkDevice forgets the device of a locked channel and switches the channel
// off. A number that was not kept is free again. Its version stays: the session
// that says so ends by itself.
func (tx *Tx) UnlinkDevice(c SealedChannel) error {
	number := c.ExternalKey
	if c.Channel.Config[configPhone] == "" {
		number = ""
	}
	err := tx.db.Exec("UPDATE channels SET external_key = ?, device = '', unlink = FALSE, enabled = FALSE, updated_at = ? WHERE id = ? AND organization_id = ?",
		nonEmpty(number), tx.now, c.Channel.ID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("forget the device of channel %d: %w", c.Channel.ID, err)
	}
	return tx.forgetIntake(c.Channel.ID)
}

// ForgetDevice forgets the device of a deleted channel: its link has ended.
func (tx *Tx) ForgetDevice(channelID int64) error {
	err := tx.db.Exec("UPDATE channels SET device = '', unlink = FALSE, enabled = FALSE WHERE id = ? AND organization_id = ? AND deleted_at IS NOT NULL",
		channelID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("forget the device of deleted channel %d: %w", channelID, err)
	}
	return tx.forgetIntake(channelID)
}

// LinkCode is a QR code on show, sealed.
type LinkCode struct {
	UserID    int64 // who may see it
	Code      []byte
	ExpiresAt domain.Time
}

// ShowLinkCode puts a code in the place of the last one and returns who may see
// it: 0 when nobody asked.
func (tx *Tx) ShowLinkCode(channelID int64, sealed []byte, expires domain.Time) (userID int64, err error) {
	err = tx.db.Raw(`INSERT INTO link_codes (channel_id, user_id, code, expires_at)
		SELECT id, linking_user_id, ?, ? FROM channels WHERE id = ? AND organization_id = ? AND linking_user_id IS NOT NULL
		ON CONFLICT (channel_id) DO UPDATE SET user_id = excluded.user_id, code = excluded.code, expires_at = excluded.expires_at
		RETURNING user_id`, sealed, expires, channelID, tx.organizationID).Scan(&userID).Error
	if err != nil {
		return 0, fmt.Errorf("show a code of channel %d: %w", channelID, err)
	}
	return userID, nil
}

// HideLinkCode takes the code of a channel away.
func (tx *Tx) HideLinkCode(channelID int64) error {
	return tx.db.Exec("DELETE FROM link_codes WHERE channel_id = ?", channelID).Error
}

// LinkCode returns the code on show, or nil if there is none that is still good.
func (s *Store) LinkCode(ctx context.Context, organizationID, channelID int64) (*LinkCode, error) {
	var rows []LinkCode
	err := s.db.WithContext(ctx).Raw(`SELECT k.user_id, k.code, k.expires_at FROM link_codes k JOIN channels c ON c.id = k.channel_id
		WHERE k.channel_id = ? AND c.organization_id = ? AND k.expires_at > ?`, channelID, organizationID, s.Now()).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the code of channel %d: %w", channelID, err)
	}
	if len(rows) == 0 {
		return nil, nil //nolint:nilnil // none is an answer
	}
	return &rows[0], nil
}

// Devices lists the linked devices of the channels that there are, and those whose links are still to be ended.
func (s *Store) Devices(ctx context.Context) ([]string, error) {
	var devices []string
	err := s.db.WithContext(ctx).Raw("SELECT device FROM channels WHERE device <> '' AND (deleted_at IS NULL OR unlink)").Scan(&devices).Error
	if err != nil {
		return nil, fmt.Errorf("list linked devices: %w", err)
	}
	return devices, nil
}
