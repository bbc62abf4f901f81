package inbox

import (
	"encoding/json"
	"errors"
	"slices"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// applyHistory imports a part of what a phone knew. Everything goes together in
// few statements; where that has failed (told.alone), piece by piece, and what
// can never be stored is set aside by itself.
func (s *Service) applyHistory(tx *store.Tx, channelID int64, in domain.InboundHistory, told *tally) error {
	all := &imported{}
	var err error
	if told.alone {
		err = s.importEach(tx, channelID, in.Chats, all, told)
	} else {
		err = s.importChats(tx, channelID, in.Chats, all)
	}
	if err != nil {
		return err
	}
	return all.tell(tx, channelID)
}

// importEach imports items one by one.
func (s *Service) importEach(tx *store.Tx, channelID int64, chats []domain.InboundChat, all *imported, told *tally) error {
	for _, chat := range chats {
		for _, item := range chat.Items {
			one := domain.InboundChat{Peer: chat.Peer, Items: []domain.Inbound{item}}
			part := &imported{}
			err := tx.Try(func() error { return s.importChats(tx, channelID, []domain.InboundChat{one}, part) })
			switch {
			case err == nil:
				all.add(*part)
			case store.IsPermanent(err):
				raw, encoding := json.Marshal(domain.Inbound{History: &domain.InboundHistory{Chats: []domain.InboundChat{one}}})
				isNew, rejecting := tx.Reject(channelID, raw, err.Error())
				if failed := errors.Join(encoding, rejecting); failed != nil {
					return failed
				}
				if isNew {
					told.aside = append(told.aside, domain.CodeOf(err))
				}
			default:
				return err
			}
		}
	}
	return nil
}

// imported is what an import has changed.
type imported struct {
	chats []importedChat
}

type importedChat struct {
	chat domain.Chat
	made bool
}

func (i *imported) add(others imported) {
	for _, o := range others.chats {
		at := slices.IndexFunc(i.chats, func(c importedChat) bool { return c.chat.ID == o.chat.ID })
		if at < 0 {
			i.chats = append(i.chats, o)
			continue
		}
		i.chats[at].chat = o.chat
	}
}

// tell tells of each chat once, and that their messages are there.
func (i *imported) tell(tx *store.Tx, channelID int64) error {
	told := domain.MessagesImported{ChannelID: channelID}
	for _, c := range i.chats {
		if now := tx.Current(c.chat.ID); now != c.chat.ID {
			chat, err := tx.LockChat(now)
			if err != nil {
				return err
			}
			c = importedChat{chat: chat}
		}
		if slices.Contains(told.ChatIDs, c.chat.ID) {
			continue
		}
		if c.made {
			tx.NewChat(c.chat)
		} else {
			tx.ChatUpdated(c.chat)
		}
		told.ChatIDs = append(told.ChatIDs, c.chat.ID)
	}
	if len(told.ChatIDs) > 0 {
		tx.Broadcast(domain.EventMessagesImported, told)
	}
	return nil
}

// importing is a chat of an import on its way in.
type importing struct {
	domain.InboundChat
	known store.Known
	made  bool
	// newest is the last of those that were inserted.
	newest *store.NewMessageInput
	id     int64 // of newest
	// changed: something else is different, such as a reaction.
	changed bool
}

// importChats makes chats and contacts as needed and inserts what is new.
func (s *Service) importChats(tx *store.Tx, channelID int64, chats []domain.InboundChat, all *imported) error {
	work := make([]*importing, 0, len(chats))
	for _, chat := range chats {
		c := &importing{InboundChat: chat}
		if err := s.importPeer(tx, channelID, c); err != nil {
			return err
		}
		work = append(work, c)
	}
	for _, c := range work {
		c.known.ChatID = tx.Current(c.known.ChatID)
	}
	early, err := s.importMessages(tx, channelID, work)
	if err != nil {
		return err
	}
	if err := s.importReactions(tx, channelID, work); err != nil {
		return err
	}
	for _, c := range work {
		if err := c.settle(tx, all); err != nil {
			return err
		}
	}
	return s.importEarly(tx, channelID, early, all)
}

// importEarly applies what came before its message, which is here now.
func (s *Service) importEarly(tx *store.Tx, channelID int64, externalIDs []string, all *imported) error {
	for _, externalID := range externalIDs {
		if err := s.applyEarly(tx, channelID, externalID); err != nil {
			return err
		}
	}
	for i, c := range all.chats {
		if len(externalIDs) == 0 {
			break
		}
		chat, err := tx.LockChat(tx.Current(c.chat.ID))
		if err != nil {
			return err
		}
		all.chats[i].chat = chat
	}
	return nil
}

// importPeer finds the chat that items are imported into. A chat is made for
// messages only. Names that are known stay: those of an import may be old.
func (s *Service) importPeer(tx *store.Tx, channelID int64, c *importing) error {
	var at domain.Time
	messages := 0
	for _, item := range c.Items {
		switch {
		case item.Message != nil && item.Message.ExternalID != "":
			messages++
			at = max(at, notAhead(tx, item.Message.ProviderTime))
		case item.Reaction != nil:
		default:
			return domain.NewError(domain.CodeInvalid, "An import holds messages that the provider has named, and reactions.")
		}
	}
	var err error
	if c.known, err = tx.Peer(channelID, c.Peer.Address); err != nil {
		return err
	}
	if c.known.ChatID != 0 && (c.known.ContactName != "" || c.Peer.Name == "") || c.known.ChatID == 0 && messages == 0 {
		return nil
	}
	if c.known.ContactID, err = tx.IntroduceContact(c.Peer.Identities, c.Peer.Name); err != nil {
		return err
	}
	if c.known.ChatID != 0 {
		return nil
	}
	if c.known.ContactName == "" {
		c.known.ContactName = c.Peer.Name
	}
	c.made, err = s.ensureChat(tx, channelID, &c.known, c.Peer, at)
	return err
}

// importMessages inserts the messages that are not there yet, with their files,
// and fills in placeholders. early are those of which something is known.
func (s *Service) importMessages(tx *store.Tx, channelID int64, work []*importing) (early []string, err error) {
	batch, err := s.newMessages(tx, channelID, work)
	if err != nil || len(batch.rows) == 0 {
		return nil, err
	}
	inserted, err := tx.InsertMessages(batch.rows)
	if err != nil {
		return nil, err
	}
	var files []store.MessageFile
	quotes := map[int64]bool{}
	var chatIDs []int64
	for i, row := range batch.rows {
		done, found := inserted[keyOf(row)]
		if !found {
			continue
		}
		if c := batch.of[i]; c.newest == nil || c.newest.ProviderTime <= row.ProviderTime {
			c.newest, c.id = &batch.rows[i], done.ID
		}
		if in := batch.in[i]; in.Media != nil {
			files = append(files, store.MessageFile{MessageID: done.ID, Media: *in.Media})
		}
		if done.Early {
			early = append(early, row.ExternalID)
		}
		if !quotes[row.ChatID] {
			quotes[row.ChatID] = true
			chatIDs = append(chatIDs, row.ChatID)
		}
	}
	if err := tx.AttachFiles(channelID, files); err != nil {
		return nil, err
	}
	return early, tx.LinkReplies(chatIDs)
}

// messageBatch are messages to insert; of and in are the chat and the item of
// each.
type messageBatch struct {
	rows []store.NewMessageInput
	of   []*importing
	in   []*domain.InboundMessage
}

func keyOf(row store.NewMessageInput) store.MessageKey {
	return store.MessageKey{ChatID: row.ChatID, ExternalID: row.ExternalID, SenderKey: row.SenderKey}
}

// newMessages leaves out what is stored already, and fills in what is there as a
// placeholder.
func (s *Service) newMessages(tx *store.Tx, channelID int64, work []*importing) (messageBatch, error) {
	var batch messageBatch
	var ids []string
	for _, c := range work {
		for _, item := range c.Items {
			if item.Message != nil {
				ids = append(ids, item.Message.ExternalID)
			}
		}
	}
	if len(ids) == 0 {
		return batch, nil
	}
	stored, err := tx.StoredMessages(channelID, ids)
	if err != nil {
		return batch, err
	}
	taken := map[store.MessageKey]bool{}
	for _, c := range work {
		for _, item := range c.Items {
			if item.Message == nil {
				continue
			}
			in := *item.Message
			in.Peer, in.Silent, in.ProviderTime = c.Peer, true, notAhead(tx, in.ProviderTime)
			row := inboundRow(channelID, c.known, in)
			there, found := findStored(stored, row, in)
			switch {
			case found && there.Placeholder && !in.Placeholder:
				if _, _, err := fillOrPass(tx, channelID, there, row, in); err != nil {
					return batch, err
				}
				c.changed = true
			case !found && !taken[keyOf(row)]:
				taken[keyOf(row)] = true
				batch.rows, batch.of, batch.in = append(batch.rows, row), append(batch.of, c), append(batch.in, &in)
			}
		}
	}
	return batch, nil
}

// findStored looks for a message under all addresses of its sender.
func findStored(stored map[store.MessageKey]store.Stored, row store.NewMessageInput, in domain.InboundMessage) (store.Stored, bool) {
	key := keyOf(row)
	there, found := stored[key]
	if in.FromMe {
		return there, found
	}
	for _, alias := range aliases(in.Sender) {
		if found {
			break
		}
		key.SenderKey = alias
		there, found = stored[key]
	}
	return there, found
}

// importReactions puts the reactions on their messages.
func (s *Service) importReactions(tx *store.Tx, channelID int64, work []*importing) error {
	var ids []string
	for _, c := range work {
		for _, item := range c.Items {
			if item.Reaction != nil {
				ids = append(ids, item.Reaction.TargetExternalID)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	stored, err := tx.StoredMessages(channelID, ids)
	if err != nil {
		return err
	}
	type target struct {
		chatID     int64
		externalID string
	}
	targets := make(map[target]int64, len(stored))
	for key, m := range stored {
		t := target{key.ChatID, key.ExternalID}
		targets[t] = max(targets[t], m.ID) // the newest, as everywhere
	}
	for _, c := range work {
		for _, item := range c.Items {
			if item.Reaction == nil {
				continue
			}
			in := *item.Reaction
			in.Peer = c.Peer
			id := targets[target{c.known.ChatID, in.TargetExternalID}]
			if id == 0 {
				if err := tx.KeepEarly(channelID, in.TargetExternalID, domain.Inbound{Reaction: &in}); err != nil {
					return err
				}
				continue
			}
			key, name := reactor(in)
			changed, err := react(tx, id, key, name, in)
			if err != nil {
				return err
			}
			c.changed = c.changed || changed
		}
	}
	return nil
}

// settle brings the chat up to what was imported.
func (c *importing) settle(tx *store.Tx, all *imported) error {
	var chat domain.Chat
	var err error
	switch {
	case c.newest != nil:
		chat, err = tx.Touch(store.Activity{
			ChatID: c.known.ChatID, MessageID: c.id, Content: c.newest.Content, Type: c.newest.Type, FromMe: c.newest.FromMe,
			ProviderTime: c.newest.ProviderTime, CreatedAt: c.newest.ProviderTime, Silent: true,
		})
	case c.made || c.changed:
		chat, err = tx.LockChat(c.known.ChatID)
	default:
		return nil
	}
	if err == nil {
		all.add(imported{chats: []importedChat{{chat: chat, made: c.made}}})
	}
	return err
}
