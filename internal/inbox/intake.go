package inbox

import (
	"context"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// IntakePosition returns how far the intake of a channel has come: the position
// of the last batch that ReceiveBatch committed, empty at first.
func (s *Service) IntakePosition(ctx context.Context, channelID int64) (string, error) {
	return s.store.IntakePosition(ctx, channelID)
}

// ReceiveBatch is Receive for a provider that forgets what lies before a
// position: the position is committed in the transaction of the items, so that
// a crash neither loses nor repeats any.
//
// What could not be read is set aside, and so is what the database can never
// take; then the position follows when all the others are committed.
func (s *Service) ReceiveBatch(ctx context.Context, channelID int64, batch domain.Batch, guards ...store.Guard) error {
	organizationID, err := s.organizationOf(ctx, channelID)
	if err != nil {
		return err
	}
	work := make([]channelItem, 0, len(batch.Items))
	for _, item := range batch.Items {
		ci := channelItem{channelID: channelID, inbound: item.Inbound, raw: item.Raw, last: batch.LastTry}
		if item.Poison != nil {
			if err := s.setAside(ctx, organizationID, ci, item.Poison, nil, guards...); err != nil {
				return err
			}
		}
		if item.Inbound != (domain.Inbound{}) {
			work = append(work, ci)
		}
	}
	finish := func(tx *store.Tx) error { return tx.SetIntakePosition(channelID, batch.Position) }
	return s.receive(ctx, organizationID, work, finish, guards...)
}

// moveChat lets the chat of a group whose address the network has changed go
// on under the new one, with whatever has arrived there already.
func (s *Service) moveChat(tx *store.Tx, channelID int64, peer domain.Peer) error {
	chatID, err := tx.MoveChat(channelID, peer.Former, peer.Address)
	if err != nil || chatID == 0 {
		return err
	}
	if _, _, err := tx.EnsureContact(peer.Identities, peer.Name); err != nil {
		return err
	}
	chat, err := tx.LockChat(chatID)
	if err == nil {
		tx.ChatUpdated(chat)
	}
	return err
}
