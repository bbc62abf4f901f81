package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// Receive stores what happened on a channel, in one transaction. It returns
// nil only when all of it is committed (or was before: redeliveries change
// nothing), so that the caller may acknowledge to the provider.
//
// An item that the database can never take is set aside and logged, and the
// rest goes on: one poison message must not hold up a channel for ever.
func (s *Service) Receive(ctx context.Context, channelID int64, items []domain.Inbound, guards ...store.Guard) error {
	organizationID, err := s.organizationOf(ctx, channelID)
	if err != nil {
		return err
	}
	work := make([]channelItem, len(items))
	for i, item := range items {
		work[i] = channelItem{channelID: channelID, inbound: item}
	}
	return s.receive(ctx, organizationID, work, nil, guards...)
}

// channelItem is one thing that happened on one channel.
type channelItem struct {
	channelID int64
	inbound   domain.Inbound
	// raw is the provider's form, kept when the item must be set aside.
	raw []byte
	// last: it was tried often enough. Whatever is wrong with it, it must not
	// stand in the way for ever.
	last bool
}

// receive stores items of one organization together with what finish adds. If
// that fails although the database works, the items are stored one by one: what
// is at fault by its data is set aside, and what fails for a reason that is not
// known is left for another time, without finish.
func (s *Service) receive(ctx context.Context, organizationID int64, items []channelItem, finish func(*store.Tx) error, guards ...store.Guard) error {
	err := s.receiveTogether(ctx, organizationID, items, finish, guards...)
	if err == nil || passing(ctx, err) {
		return err
	}
	var left error
	for _, item := range items {
		err := s.receiveIn(ctx, organizationID, []channelItem{item}, tally{alone: true}, nil, guards...)
		switch {
		case err == nil:
		case passing(ctx, err):
			return err
		case store.IsPermanent(err), item.last:
			if err := s.setAside(ctx, organizationID, item, err, inItsPlace(item.inbound), guards...); err != nil {
				return err
			}
		default:
			left = errors.Join(left, err)
		}
	}
	if finish == nil || left != nil {
		return left
	}
	return s.write(ctx, organizationID, finish, guards...)
}

// passing reports whether a failure has nothing to do with the items.
func passing(ctx context.Context, err error) bool {
	return ctx.Err() != nil || store.IsUnavailable(err) || store.IsMismatch(err) || errors.Is(err, store.ErrLeaseLost)
}

func (s *Service) receiveTogether(ctx context.Context, organizationID int64, items []channelItem, finish func(*store.Tx) error, guards ...store.Guard) error {
	return s.receiveIn(ctx, organizationID, items, tally{}, finish, guards...)
}

func (s *Service) receiveIn(ctx context.Context, organizationID int64, items []channelItem, begin tally, finish func(*store.Tx) error,
	guards ...store.Guard,
) error {
	var told tally
	err := s.write(ctx, organizationID, func(tx *store.Tx) error {
		told = begin
		for _, item := range items {
			if err := s.apply(tx, item.channelID, item.inbound, &told); err != nil {
				return err
			}
		}
		if finish != nil {
			return finish(tx)
		}
		return nil
	}, guards...)
	if err != nil {
		return err
	}
	s.measure(told)
	for _, code := range told.aside {
		s.wasSetAside(ctx, organizationID, items[0].channelID, code)
	}
	return nil
}

// setAside keeps an item that cannot be stored, with the reason, and stores line in
// its place if there is one. guards are those of whoever stores the rest.
func (s *Service) setAside(ctx context.Context, organizationID int64, item channelItem, cause error, line *domain.Inbound, guards ...store.Guard) error {
	raw := item.raw
	if raw == nil {
		encoded, err := json.Marshal(item.inbound)
		if err != nil {
			return err
		}
		raw = encoded
	}
	var isNew bool
	reject := func(tx *store.Tx) error {
		var err error
		if isNew, err = tx.Reject(item.channelID, raw, cause.Error()); err != nil || line == nil {
			return err
		}
		return s.apply(tx, item.channelID, *line, &tally{alone: true})
	}
	err := s.write(ctx, organizationID, reject, guards...)
	if line != nil && err != nil && !passing(ctx, err) {
		line = nil // what is at fault is in it, too
		err = s.write(ctx, organizationID, reject, guards...)
	}
	if err != nil || !isNew {
		return err
	}
	s.wasSetAside(ctx, organizationID, item.channelID, domain.CodeOf(cause))
	return nil
}

// inItsPlace is the line that stands in the chat for a message that is set aside;
// nil for what is no message.
func inItsPlace(in domain.Inbound) *domain.Inbound {
	m := in.Message
	if m == nil || m.ExternalID == "" {
		return nil
	}
	return &domain.Inbound{Message: &domain.InboundMessage{
		ExternalID: m.ExternalID, Peer: m.Peer, Sender: m.Sender, FromMe: m.FromMe, ProviderTime: m.ProviderTime,
		Type: domain.TypeUnsupported, Content: "A message that could not be stored here. Ask for it in another form.",
	}}
}

func (s *Service) wasSetAside(ctx context.Context, organizationID, channelID int64, code domain.Code) {
	s.logger.ErrorContext(ctx, "inbound item set aside", slog.Int64("organization", organizationID),
		slog.Int64("channel", channelID), slog.String("code", string(code)))
	if s.measures.Rejected != nil {
		s.measures.Rejected()
	}
}

// tally is what a transaction did, told to the measures once it is committed.
type tally struct {
	ingested   []ingested
	duplicates []domain.ChannelKind
	// alone: the item is by itself, after it failed beside others. aside is why
	// parts of it were set aside.
	alone bool
	aside []domain.Code
}

type ingested struct {
	kind domain.ChannelKind
	at   domain.Time
}

func (s *Service) measure(t tally) {
	now := s.store.Now()
	for _, m := range t.ingested {
		if s.measures.Ingested != nil {
			s.measures.Ingested(m.kind, time.Duration(now-m.at)*time.Millisecond)
		}
	}
	for _, kind := range t.duplicates {
		if s.measures.Duplicate != nil {
			s.measures.Duplicate(kind)
		}
	}
}

// apply stores one item.
func (s *Service) apply(tx *store.Tx, channelID int64, in domain.Inbound, told *tally) error {
	switch {
	case in.Message != nil:
		return s.applyMessage(tx, channelID, *in.Message, told)
	case in.Status != nil:
		return s.applyStatus(tx, channelID, *in.Status)
	case in.Reaction != nil:
		return s.applyReaction(tx, channelID, *in.Reaction)
	case in.Edit != nil:
		return s.applyEdit(tx, channelID, *in.Edit)
	case in.Revoke != nil:
		return s.applyRevoke(tx, channelID, *in.Revoke)
	case in.Read != nil:
		return applyRead(tx, channelID, *in.Read)
	case in.Contact != nil:
		return applyContact(tx, channelID, *in.Contact)
	case in.History != nil:
		return s.applyHistory(tx, channelID, *in.History, told)
	default:
		return domain.NewError(domain.CodeInvalid, "The item holds nothing that happened.")
	}
}

// maxClockLead is how far a provider's clock may be ahead of ours. A message
// from further in the future is dated now: it would stand on top of every list
// until its time comes.
const maxClockLead = time.Minute

func notAhead(tx *store.Tx, at domain.Time) domain.Time {
	if at == 0 || at > tx.Now().Add(maxClockLead) {
		return tx.Now()
	}
	return at
}

func (s *Service) applyMessage(tx *store.Tx, channelID int64, in domain.InboundMessage, told *tally) error {
	if in.Peer.Former != "" {
		if err := s.moveChat(tx, channelID, in.Peer); err != nil {
			return err
		}
	}
	peer, err := tx.Peer(channelID, in.Peer.Address)
	if err != nil {
		return err
	}
	in.ProviderTime = notAhead(tx, in.ProviderTime)
	newChat, err := s.ensurePeer(tx, channelID, &peer, in.Peer, in.ProviderTime)
	if err != nil {
		return err
	}
	message, early, err := s.insertInbound(tx, channelID, peer, in)
	if err != nil {
		return err
	}
	if message == nil {
		told.duplicates = append(told.duplicates, peer.Kind)
		return nil
	}
	if message.ID == 0 {
		return nil // it filled in a placeholder
	}
	chat, err := tx.Touch(store.Activity{
		ChatID: peer.ChatID, MessageID: message.ID, Content: in.Content, Type: in.Type, FromMe: in.FromMe,
		ProviderTime: in.ProviderTime, Silent: in.Silent,
	})
	if err != nil {
		return err
	}
	if newChat {
		tx.NewChat(chat)
	}
	tx.NewMessage(*message)
	if !newChat {
		tx.ChatUpdated(chat)
	}
	if !in.FromMe && !in.Silent {
		told.ingested = append(told.ingested, ingested{kind: peer.Kind, at: in.ProviderTime})
	}
	if early {
		return s.applyEarly(tx, channelID, in.ExternalID)
	}
	return nil
}

// ensurePeer makes what is missing of a peer's contact and chat, and takes
// over a new name.
func (s *Service) ensurePeer(tx *store.Tx, channelID int64, known *store.Known, peer domain.Peer, at domain.Time) (newChat bool, err error) {
	if known.ChatID != 0 && (peer.Name == "" || peer.Name == known.ContactName) {
		return false, nil
	}
	contactID, _, err := tx.EnsureContact(peer.Identities, peer.Name)
	if err != nil {
		return false, err
	}
	if peer.Name != "" {
		known.ContactName = peer.Name
	}
	known.ContactID = contactID
	if known.ChatID != 0 {
		known.ChatID = tx.Current(known.ChatID) // what the contact was made of may have had one chat each
		return false, nil
	}
	return s.ensureChat(tx, channelID, known, peer, at)
}

// ensureChat finds the chat with a contact that is known, or makes it.
func (s *Service) ensureChat(tx *store.Tx, channelID int64, known *store.Known, peer domain.Peer, at domain.Time) (newChat bool, err error) {
	kind := peer.Kind
	if kind == "" {
		kind = domain.ChatDirect
	}
	if kind == domain.ChatDirect {
		known.ChatID, err = tx.ChatOfContact(channelID, known.ContactID, peer.Address)
		if err != nil || known.ChatID != 0 {
			return false, err
		}
	}
	known.ChatID, newChat, err = tx.EnsureChat(store.NewChatInput{
		ChannelID: channelID, ChannelKind: known.Kind, Kind: kind, Peer: peer.Address, ContactID: known.ContactID, ActivityAt: at,
	})
	return newChat, err
}

// aliases are the other addresses of who wrote in a group.
func aliases(sender domain.Peer) []string {
	var others []string
	for _, id := range sender.Identities {
		if id.Kind != domain.IdentityUsername && id.Value != "" && id.Value != sender.Address && sender.Address != "" {
			others = append(others, id.Value)
		}
	}
	return others
}

// inboundRow is what an inbound message's row is made of, but for what must be
// looked up.
func inboundRow(channelID int64, peer store.Known, in domain.InboundMessage) store.NewMessageInput {
	row := store.NewMessageInput{
		ChatID: peer.ChatID, ChannelID: channelID, ChannelKind: peer.Kind, Type: in.Type, Content: in.Content, Location: in.Location,
		ReplyToExternalID: in.ReplyToExternalID, FromMe: in.FromMe, SenderKey: in.Sender.Address, SenderName: in.Sender.Name,
		Status: domain.StatusReceived, ExternalID: in.ExternalID, ProviderTime: in.ProviderTime, Placeholder: in.Placeholder,
	}
	switch {
	case in.FromMe:
		row.SenderKey, row.Status = store.SenderMe, domain.StatusSent
		if in.Status.Rank() >= domain.StatusSent.Rank() {
			row.Status = in.Status
		}
	case row.SenderName == "" && in.Sender.Address == "":
		row.SenderName = peer.ContactName
	}
	return row
}

// insertInbound adds the row and what hangs on it. nil without an error is a
// redelivery, a message without an id one that filled in a placeholder.
func (s *Service) insertInbound(tx *store.Tx, channelID int64, peer store.Known, in domain.InboundMessage) (*domain.Message, bool, error) {
	row := inboundRow(channelID, peer, in)
	if others := aliases(in.Sender); len(others) > 0 && !in.FromMe {
		stored, err := tx.StoredMessage(channelID, peer.ChatID, in.ExternalID, append(others, row.SenderKey))
		if err != nil {
			return nil, false, err
		}
		if stored.ID != 0 {
			return fillOrPass(tx, channelID, stored, row, in)
		}
	}
	if in.ReplyToExternalID != "" {
		quoted, err := tx.FindExternal(channelID, in.Peer.Address, in.ReplyToExternalID)
		if err != nil {
			return nil, false, err
		}
		if quoted.ID != 0 {
			row.ReplyToID = &quoted.ID
		}
	}
	if in.Media != nil {
		media, err := tx.InsertInboundMedia(channelID, *in.Media)
		if err != nil {
			return nil, false, err
		}
		row.MediaID = &media.ID
	}
	id, early, err := tx.InsertMessage(row)
	if err != nil {
		return nil, false, err
	}
	if id == 0 {
		if row.MediaID != nil {
			if err := tx.DropMedia(*row.MediaID); err != nil {
				return nil, false, err
			}
		}
		stored, err := tx.StoredMessage(channelID, peer.ChatID, in.ExternalID, []string{row.SenderKey})
		if err != nil {
			return nil, false, err
		}
		return fillOrPass(tx, channelID, stored, row, in)
	}
	if in.Placeholder {
		if err := tx.MarkPlaceholder(id); err != nil {
			return nil, false, err
		}
	}
	if row.MediaID != nil {
		if err := tx.LinkMedia(*row.MediaID, id); err != nil {
			return nil, false, err
		}
	}
	message, err := tx.Complete(id, row)
	return &message, early, err
}
