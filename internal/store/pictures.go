package store

import (
	"cmp"
	"fmt"

	"switchboard/internal/domain"
)

// A contact's picture is a file like those of messages: the row waits in media,
// with contact_id set, until a worker has fetched it. picture_id names the one
// that is on show or being fetched, picture_media_id is the file on show.

// SetPicture takes up a new picture of a contact, to be fetched from a channel's
// provider, or (without Ref) that there is none any more. The one that is known
// already changes nothing.
func (tx *Tx) SetPicture(channelID, contactID int64, p domain.InboundPicture) error {
	failed := func(err error) error { return fmt.Errorf("set the picture of contact %d: %w", contactID, err) }
	var now struct {
		PictureID      string
		PictureMediaID *int64
	}
	err := tx.db.Raw("SELECT picture_id, picture_media_id FROM contacts WHERE id = ? AND organization_id = ?"+tx.forUpdate(),
		contactID, tx.organizationID).Scan(&now).Error
	if err != nil {
		return failed(err)
	}
	p.ID = cmp.Or(p.ID, p.Ref)
	if p.Ref == "" {
		p.ID = ""
	}
	if p.Ref != "" && p.ID == now.PictureID || p.Ref == "" && now.PictureID == "" && now.PictureMediaID == nil {
		return nil
	}
	// One that is still being fetched is of no use any more.
	err = tx.db.Exec("UPDATE media SET state = 'deleted', provider_ref = '', contact_id = NULL WHERE contact_id = ? AND organization_id = ? AND state = 'pending'",
		contactID, tx.organizationID).Error
	if err != nil {
		return failed(err)
	}
	if err := tx.db.Exec("UPDATE contacts SET picture_id = ? WHERE id = ?", p.ID, contactID).Error; err != nil {
		return failed(err)
	}
	if p.Ref == "" {
		return tx.showPicture(contactID, nil)
	}
	err = tx.db.Exec(`INSERT INTO media (organization_id, channel_id, contact_id, mime, filename, state, provider_ref, created_at)
		VALUES (?, ?, ?, 'image/jpeg', '', 'pending', ?, ?)`, tx.organizationID, channelID, contactID, p.Ref, tx.now).Error
	if err != nil {
		return failed(err)
	}
	return nil
}

// ShowPicture makes a file that was fetched the picture of its contact, and
// tells of the contact's chats.
func (tx *Tx) ShowPicture(mediaID int64) error {
	contactID, err := tx.pictureOf(mediaID)
	if err != nil || contactID == 0 {
		return err
	}
	return tx.showPicture(contactID, &mediaID)
}

// DropPicture gives up a picture that cannot be fetched. The one on show stays;
// the next time that the provider tells of the picture it is tried again.
func (tx *Tx) DropPicture(mediaID int64) error {
	contactID, err := tx.pictureOf(mediaID)
	if err != nil || contactID == 0 {
		return err
	}
	if err := tx.releaseMedia(mediaID); err != nil {
		return err
	}
	return tx.db.Exec("UPDATE contacts SET picture_id = '' WHERE id = ? AND organization_id = ?", contactID, tx.organizationID).Error
}

// pictureOf is whose picture a file is, 0 if nobody's.
func (tx *Tx) pictureOf(mediaID int64) (contactID int64, err error) {
	err = tx.db.Raw("SELECT COALESCE(contact_id, 0) FROM media WHERE id = ? AND organization_id = ?", mediaID, tx.organizationID).Scan(&contactID).Error
	if err != nil {
		return 0, fmt.Errorf("look up the picture %d: %w", mediaID, err)
	}
	return contactID, nil
}

func (tx *Tx) showPicture(contactID int64, mediaID *int64) error {
	var before struct{ PictureMediaID *int64 }
	err := tx.db.Raw("SELECT picture_media_id FROM contacts WHERE id = ? AND organization_id = ?"+tx.forUpdate(), contactID, tx.organizationID).Scan(&before).Error
	if err != nil {
		return fmt.Errorf("read the picture of contact %d: %w", contactID, err)
	}
	err = tx.db.Exec("UPDATE contacts SET picture_media_id = ?, updated_at = ? WHERE id = ?", mediaID, tx.now, contactID).Error
	if err != nil {
		return fmt.Errorf("show the picture of contact %d: %w", contactID, err)
	}
	if before.PictureMediaID != nil {
		if err := tx.releaseMedia(*before.PictureMediaID); err != nil {
			return err
		}
	}
	return tx.contactChanged(contactID)
}

// mergePictures leaves one picture of two contacts that are one: that of the one
// that stays, if it has any.
func (tx *Tx) mergePictures(to, from int64) error {
	type picture struct {
		PictureID      string
		PictureMediaID *int64
	}
	var kept, gone picture
	const query = "SELECT picture_id, picture_media_id FROM contacts WHERE id = ?"
	if err := tx.db.Raw(query, to).Scan(&kept).Error; err != nil {
		return err
	}
	if err := tx.db.Raw(query, from).Scan(&gone).Error; err != nil {
		return err
	}
	switch {
	case gone == (picture{}):
		return nil
	case kept == (picture{}):
		err := tx.db.Exec("UPDATE contacts SET picture_id = ?, picture_media_id = ? WHERE id = ?", gone.PictureID, gone.PictureMediaID, to).Error
		if err != nil {
			return err
		}
		return tx.db.Exec("UPDATE media SET contact_id = ? WHERE contact_id = ?", to, from).Error
	default:
		return tx.db.Exec("UPDATE media SET state = 'deleted', provider_ref = '', contact_id = NULL WHERE contact_id = ? AND organization_id = ?",
			from, tx.organizationID).Error
	}
}

// abandonPictures gives up the pictures that a channel was to fetch.
func (tx *Tx) abandonPictures(channelID int64) error {
	err := tx.db.Exec(`UPDATE contacts SET picture_id = '' WHERE organization_id = ? AND id IN
		(SELECT f.contact_id FROM media f WHERE f.channel_id = ? AND f.state = 'pending' AND f.contact_id IS NOT NULL)`, tx.organizationID, channelID).Error
	if err != nil {
		return fmt.Errorf("abandon the pictures of channel %d: %w", channelID, err)
	}
	err = tx.db.Exec(`UPDATE media SET state = 'deleted', provider_ref = '', contact_id = NULL
		WHERE channel_id = ? AND organization_id = ? AND state = 'pending' AND contact_id IS NOT NULL`, channelID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("abandon the pictures of channel %d: %w", channelID, err)
	}
	return nil
}
