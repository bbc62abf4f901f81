package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

func (s *Service) applyStatus(tx *store.Tx, channelID int64, in domain.InboundStatus) error {
	change, found, raised, err := tx.RaiseStatus(channelID, in)
	if err != nil {
		return err
	}
	if raised {
		tx.MessageStatus(change)
	}
	if !found && in.ExternalID != "" {
		return tx.KeepEarly(channelID, in.ExternalID, domain.Inbound{Status: &in})
	}
	return nil
}

func (s *Service) applyReaction(tx *store.Tx, channelID int64, in domain.InboundReaction) error {
	target, err := tx.FindExternal(channelID, in.Peer.Address, in.TargetExternalID)
	if err != nil {
		return err
	}
	if target.ID == 0 {
		return tx.KeepEarly(channelID, in.TargetExternalID, domain.Inbound{Reaction: &in})
	}
	isNew, err := tx.FirstSeen(channelID, in.ExternalID)
	if err != nil || !isNew {
		return err
	}
	key, name := reactor(in)
	changed, err := react(tx, target.ID, key, name, in)
	if err != nil || !changed {
		return err
	}
	return messageUpdated(tx, target.ID)
}

// reactor is who reacted: the sender's key, and the name that is shown.
func reactor(in domain.InboundReaction) (key, name string) {
	switch {
	case in.FromMe:
		return store.SenderMe, in.Sender.Name
	case in.Sender.Name == "":
		return in.Sender.Address, in.Peer.Name
	default:
		return in.Sender.Address, in.Sender.Name
	}
}

// react puts somebody's reaction on a message, in place of what they put there
// under another of their addresses.
func react(tx *store.Tx, messageID int64, key, name string, in domain.InboundReaction) (changed bool, err error) {
	if in.FromMe {
		return tx.ReactedElsewhere(messageID, name, in.Emoji, in.ProviderTime)
	}
	moved := false
	if others := aliases(in.Sender); len(others) > 0 {
		if moved, err = tx.OneSender(messageID, key, others); err != nil {
			return false, err
		}
	}
	changed, err = tx.SetReaction(messageID, key, name, false, in.Emoji, in.ProviderTime)
	return changed || moved, err
}

// authored finds the message that somebody changes. known: there is one with its
// id; it may be somebody else's, who may not change it.
func authored(tx *store.Tx, channelID int64, peer domain.Peer, externalID string, by *domain.Author) (target store.MessageRef, known bool, err error) {
	all, err := tx.AllExternal(channelID, peer.Address, externalID)
	for _, m := range all {
		if by == nil || by.Admin || wrote(m, *by) {
			return m, true, err
		}
	}
	return target, len(all) > 0, err
}

func wrote(m store.MessageRef, by domain.Author) bool {
	if m.FromMe || by.FromMe {
		return m.FromMe == by.FromMe
	}
	return m.SenderKey == by.Sender.Address || slices.Contains(aliases(by.Sender), m.SenderKey)
}

func (s *Service) applyEdit(tx *store.Tx, channelID int64, in domain.InboundEdit) error {
	target, known, err := authored(tx, channelID, in.Peer, in.TargetExternalID, in.By)
	if err != nil {
		return err
	}
	if target.ID == 0 {
		if known {
			return nil
		}
		return tx.KeepEarly(channelID, in.TargetExternalID, domain.Inbound{Edit: &in})
	}
	isNew, err := tx.FirstSeen(channelID, in.ExternalID)
	if err != nil || !isNew {
		return err
	}
	changed, err := tx.EditedElsewhere(target.ID, in.Content, in.ProviderTime)
	if err != nil || !changed {
		return err
	}
	return contentChanged(tx, target)
}

func (s *Service) applyRevoke(tx *store.Tx, channelID int64, in domain.InboundRevoke) error {
	target, known, err := authored(tx, channelID, in.Peer, in.TargetExternalID, in.By)
	if err != nil {
		return err
	}
	if target.ID == 0 {
		if known {
			return nil
		}
		return tx.KeepEarly(channelID, in.TargetExternalID, domain.Inbound{Revoke: &in})
	}
	changed, err := tx.RevokeMessage(target.ID, in.ProviderTime)
	if err != nil || !changed {
		return err
	}
	return contentChanged(tx, target)
}

// contentChanged tells of a message whose words changed, and of its chat if
// they stand under the chat's name.
func contentChanged(tx *store.Tx, message store.MessageRef) error {
	if err := messageUpdated(tx, message.ID); err != nil {
		return err
	}
	chat, changed, err := tx.RefreshLast(message.ChatID, message.ID)
	if err == nil && changed {
		tx.ChatUpdated(chat)
	}
	return err
}

func messageUpdated(tx *store.Tx, id int64) error {
	message, err := tx.Message(id)
	if err != nil {
		return err
	}
	tx.Broadcast(domain.EventMessageUpdated, message)
	return nil
}

// applyEarly applies what came before its message: statuses that overtook the
// answer to a send, reactions that overtook what they react to.
func (s *Service) applyEarly(tx *store.Tx, channelID int64, externalID string) error {
	return tx.EarlyUpdates(channelID, externalID, func(update domain.Inbound) error {
		if err := s.apply(tx, channelID, update, &tally{}); err != nil {
			return fmt.Errorf("apply an early update: %w", err)
		}
		return nil
	})
}

// memory is how long updates are remembered: providers redeliver for 7 days.
const memory = 8 * 24 * time.Hour

// rejectMemory is how long what was set aside is kept for a person to look at.
const rejectMemory = 30 * 24 * time.Hour

// Reconcile applies updates that were stored at the same moment as the message
// they speak of, so that neither saw the other. It is called again and again by
// whoever runs the background work.
func (s *Service) Reconcile(ctx context.Context) error {
	ripe, err := s.store.RipeEarlyUpdates(ctx, 100)
	if err != nil {
		return err
	}
	var failed error
	for _, u := range ripe {
		failed = errors.Join(failed, s.write(ctx, u.OrganizationID, func(tx *store.Tx) error {
			return s.applyEarly(tx, u.ChannelID, u.ExternalID)
		}))
	}
	return failed
}

// Forget removes the memory of updates, and what was set aside, when they are of
// no more use. Once in a while is enough.
func (s *Service) Forget(ctx context.Context) error {
	now := s.store.Now()
	return errors.Join(s.store.ForgetUpdates(ctx, now.Add(-memory)), s.store.ForgetRejects(ctx, now.Add(-rejectMemory)))
}
