package telegram

import (
	"fmt"
	"slices"
	"strconv"
)

// place finds a bot's chat and who acts there; it needs s.mu.
func (s *Server) place(botID, chatID, from int64) (*bot, *chat, *Customer, error) {
	b, err := s.bot(botID)
	if err != nil {
		return nil, nil, nil, err
	}
	ch, err := s.findChat(b, chatID)
	if err != nil {
		return nil, nil, nil, err
	}
	who, err := s.author(ch, from)
	return b, ch, who, err
}

func (ch *chat) message(id int64) (*kept, error) {
	k := ch.byID[id]
	if k == nil || k.deleted {
		return nil, fmt.Errorf("message %d of chat %d: %w", id, ch.ID, ErrNotFound)
	}
	return k, nil
}

// CustomerEdit makes a customer change the text or caption of a message of theirs. In.From, Text, Caption, Entities,
// ParseMode and Location (a live location that moved) count.
func (s *Server) CustomerEdit(botID, chatID, messageID int64, in Incoming) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ch, who, err := s.place(botID, chatID, in.From)
	if err != nil {
		return Sent{}, err
	}
	k, err := ch.message(messageID)
	if err != nil {
		return Sent{}, err
	}
	if k.bot != 0 || (who != nil && k.From != nil && k.From.ID != who.ID) {
		return Sent{}, fmt.Errorf("%w: message %d is not the customer's", ErrInvalid, messageID)
	}
	next := *k.Message
	switch {
	case next.Location != nil && in.Location != nil:
		next.Location = in.Location
	case next.Text != "":
		if next.Text, next.Entities, err = in.formatted(in.Text, maxText); err == nil && next.Text == "" {
			err = fmt.Errorf("%w text: it must not be empty", ErrInvalid)
		}
	case next.hasCaption():
		next.Caption, next.CaptionEntities, err = in.formatted(in.Caption, maxCaption)
	default:
		err = fmt.Errorf("%w: message %d has nothing to edit", ErrInvalid, messageID)
	}
	if err != nil {
		return Sent{}, err
	}
	next.EditDate = s.unix()
	k.Message = &next
	s.show(k)
	kind := UpdateEditedMessage
	if ch.Type == ChatChannel {
		kind = UpdateEditedChannelPost
	}
	refs := s.tellAll(ch, k, kind)
	s.inbound(b.ID, Inbound{ChatID: ch.ID, MessageID: messageID, From: fromID(who), Type: "edit", Updates: refs})
	return Sent{ch.ID, messageID, refs}, nil
}

// CustomerDelete makes a customer delete a message from the chat. Telegram tells bots nothing of it.
func (s *Server) CustomerDelete(botID, chatID, messageID int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bot(botID)
	if err != nil {
		return err
	}
	ch, err := s.findChat(b, chatID)
	if err != nil {
		return err
	}
	k, err := ch.message(messageID)
	if err != nil {
		return err
	}
	k.deleted = true
	s.show(k)
	s.inbound(botID, Inbound{ChatID: chatID, MessageID: messageID, Type: "delete"})
	return nil
}

// reactionUpdate is MessageReactionUpdated of the Bot API.
type reactionUpdate struct {
	Chat      Chat       `json:"chat"`
	MessageID int64      `json:"message_id"`
	User      *User      `json:"user,omitempty"`
	ActorChat *Chat      `json:"actor_chat,omitempty"`
	Date      int64      `json:"date"`
	Old       []Reaction `json:"old_reaction"`
	New       []Reaction `json:"new_reaction"`
}

// CustomerReact replaces a customer's reactions to a message; none removes them. Bots that asked for message_reaction are
// told, in groups only administrators.
func (s *Server) CustomerReact(botID, chatID, messageID, from int64, emojis ...string) ([]UpdateRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ch, who, err := s.place(botID, chatID, from)
	if err != nil {
		return nil, err
	}
	if who == nil {
		return nil, fmt.Errorf("%w: reactions in channels have no author", ErrInvalid)
	}
	k, err := ch.message(messageID)
	if err != nil {
		return nil, err
	}
	emojis = slices.Clone(emojis)
	for i, e := range emojis {
		if emojis[i] = plainEmoji(e); !slices.Contains(reactionEmojis, emojis[i]) {
			return nil, fmt.Errorf("%w reaction %q: Telegram does not have it", ErrInvalid, e)
		}
	}
	before := s.react(k, who.ID, emojis)
	u := who.user()
	payload := reactionUpdate{
		Chat: ch.Chat, MessageID: messageID, User: &u, Date: s.unix(), Old: reactions(before), New: reactions(emojis),
	}
	refs := []UpdateRef{}
	for _, l := range s.listeners(ch) {
		if ch.owner != nil || ch.bots[l.ID] == StatusAdministrator {
			refs = append(refs, s.tell(l, UpdateMessageReaction, payload, about{ch.ID, messageID, who.ID})...)
		}
	}
	s.inbound(b.ID, Inbound{ChatID: ch.ID, MessageID: messageID, From: who.ID, Type: "reaction", Updates: refs})
	return refs, nil
}

func reactions(emojis []string) []Reaction {
	out := []Reaction{}
	for _, e := range emojis {
		out = append(out, Reaction{Type: "emoji", Emoji: e})
	}
	return out
}

// CustomerPress makes a customer press a button of an inline keyboard that has the callback data. It returns the id of the
// callback query.
func (s *Server) CustomerPress(botID, chatID, messageID, from int64, data string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ch, who, err := s.place(botID, chatID, from)
	if err != nil {
		return "", err
	}
	k, err := ch.message(messageID)
	if err != nil {
		return "", err
	}
	if who == nil || k.bot != b.ID || len(data) == 0 || len(data) > maxCallbackData {
		return "", fmt.Errorf("%w: message %d is not the bot's, or data is not 1 to 64 bytes", ErrInvalid, messageID)
	}
	id := strconv.FormatInt(s.nextID(), 10)
	s.queries[id] = &callbackQuery{bot: b.ID, message: k}
	if s.queryIDs = append(s.queryIDs, id); len(s.queryIDs) > queriesKept {
		delete(s.queries, s.queryIDs[0])
		s.queryIDs = s.queryIDs[1:]
	}
	refs := s.tell(b, UpdateCallbackQuery, struct {
		ID           string   `json:"id"`
		From         User     `json:"from"`
		Message      *Message `json:"message"`
		ChatInstance string   `json:"chat_instance"`
		Data         string   `json:"data"`
	}{id, who.user(), k.forBot(b.ID), chatInstance(ch), data}, about{ch.ID, messageID, who.ID})
	s.inbound(b.ID, Inbound{ChatID: ch.ID, MessageID: messageID, From: who.ID, Type: UpdateCallbackQuery, Updates: refs})
	return id, nil
}

// CallbackAnswered says whether the bot answered a callback query, and with what text.
func (s *Server) CallbackAnswered(id string) (text string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queries[id]
	if q == nil || !q.done {
		return "", false
	}
	return q.text, true
}

// CustomerVote makes a customer vote in a poll; no options retract the vote. Of polls that it sent a bot is told the
// results and, if they are not anonymous, who voted how.
func (s *Server) CustomerVote(botID, chatID, messageID, from int64, options ...int) ([]UpdateRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ch, who, err := s.place(botID, chatID, from)
	if err != nil {
		return nil, err
	}
	k, err := ch.message(messageID)
	if err != nil {
		return nil, err
	}
	if k.Poll == nil || k.Poll.IsClosed || who == nil || (len(options) > 1 && !k.Poll.AllowsMultipleAnswers) {
		return nil, fmt.Errorf("%w: message %d is no open poll that takes these options", ErrInvalid, messageID)
	}
	for _, o := range options {
		if o < 0 || o >= len(k.Poll.Options) {
			return nil, fmt.Errorf("%w option %d: 0 to %d", ErrInvalid, o, len(k.Poll.Options)-1)
		}
	}
	if k.votes == nil {
		k.votes = map[int64][]int{}
	}
	k.votes[who.ID] = slices.Clone(options)
	if len(options) == 0 {
		delete(k.votes, who.ID)
	}
	k.count()
	s.show(k)
	refs := []UpdateRef{}
	if k.bot == b.ID {
		a := about{ch.ID, messageID, who.ID}
		if !k.Poll.IsAnonymous {
			refs = append(refs, s.tell(b, UpdatePollAnswer, struct {
				PollID    string `json:"poll_id"`
				User      User   `json:"user"`
				OptionIDs []int  `json:"option_ids"`
			}{k.Poll.ID, who.user(), append([]int{}, options...)}, a)...)
		}
		refs = append(refs, s.tell(b, UpdatePoll, k.Poll, a)...)
	}
	s.inbound(b.ID, Inbound{ChatID: ch.ID, MessageID: messageID, From: who.ID, Type: "vote", Updates: refs})
	return refs, nil
}

// count makes the poll's numbers from the votes.
func (k *kept) count() {
	next, poll := *k.Message, *k.Poll
	poll.Options = slices.Clone(poll.Options)
	for i := range poll.Options {
		poll.Options[i].VoterCount = 0
	}
	for _, options := range k.votes {
		for _, o := range options {
			poll.Options[o].VoterCount++
		}
	}
	poll.TotalVoterCount = len(k.votes)
	next.Poll = &poll
	k.Message = &next
}

// memberUpdate is ChatMemberUpdated of the Bot API.
type memberUpdate struct {
	Chat Chat   `json:"chat"`
	From User   `json:"from"`
	Date int64  `json:"date"`
	Old  Member `json:"old_chat_member"`
	New  Member `json:"new_chat_member"`
}

// SetBlocked makes a customer block or unblock (start again) the bot; the bot is told by my_chat_member.
func (s *Server) SetBlocked(botID, customerID int64, blocked bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ch, who, err := s.place(botID, customerID, 0)
	if err != nil {
		return err
	}
	if ch.owner == nil {
		return fmt.Errorf("%w: chat %d is not private", ErrInvalid, customerID)
	}
	if ch.blocked != blocked {
		ch.started = true
		s.setBlocked(ch, who, blocked)
	}
	return nil
}

// setBlocked needs s.mu.
func (s *Server) setBlocked(ch *chat, who *Customer, blocked bool) {
	old := ch.status(ch.owner.ID)
	ch.blocked = blocked
	b := ch.owner
	s.tellStatus(b, ch, who.user(), b.user(), old, ch.status(b.ID), UpdateMyChatMember)
	what := "unblocked"
	if blocked {
		what = "blocked"
	}
	s.inbound(b.ID, Inbound{ChatID: ch.ID, From: who.ID, Type: what})
	s.events.Publish("status", chatStatus{b.ID, ch.ID, ch.status(b.ID)})
}

type chatStatus struct {
	Bot    int64  `json:"bot"`
	ChatID int64  `json:"chatId"`
	Status string `json:"status"`
}

// tellStatus needs s.mu.
func (s *Server) tellStatus(b *bot, ch *chat, by, whose User, from, to, kind string) {
	s.tell(b, kind, memberUpdate{ch.Chat, by, s.unix(), member(whose, from), member(whose, to)}, about{ch.ID, 0, by.ID})
}

// SetBotStatus adds a bot to a group, supergroup or channel, promotes it, or takes it out.
func (s *Server) SetBotStatus(chatID, botID int64, status string) error {
	if err := checkStatus(status); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, b := s.groups[chatID], s.bots[botID]
	if ch == nil || b == nil || ch.migratedTo != 0 {
		return fmt.Errorf("bot %d or chat %d: %w", botID, chatID, ErrNotFound)
	}
	by := User{ID: 777000, FirstName: "Owner"}
	if len(ch.members) > 0 {
		by = s.customers[ch.members[0]].user()
	}
	s.setBotStatus(ch, b, status, by)
	return nil
}

// setBotStatus needs s.mu.
func (s *Server) setBotStatus(ch *chat, b *bot, status string, by User) {
	old := ch.status(b.ID)
	if old == status {
		return
	}
	ch.bots[b.ID] = status
	s.tellStatus(b, ch, by, b.user(), old, status, UpdateMyChatMember)
	in := func(st string) bool { return st == StatusMember || st == StatusAdministrator }
	if ch.Type != ChatChannel && in(old) != in(status) {
		m := &Message{From: &by, LeftChatMember: nil}
		if u := b.user(); in(status) {
			m.NewChatMembers = []User{u}
		} else {
			m.LeftChatMember = &u
		}
		s.broadcast(ch, m, 0)
	}
	s.inbound(b.ID, Inbound{ChatID: ch.ID, From: by.ID, Type: "bot " + status})
	s.events.Publish("chat", ch.group())
}

// SetMember makes a customer join a chat (StatusMember) or leave it (StatusLeft).
func (s *Server) SetMember(chatID, customerID int64, status string) error {
	if status != StatusMember && status != StatusLeft {
		return fmt.Errorf("%w status %q: member or left", ErrInvalid, status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, who := s.groups[chatID], s.customers[customerID]
	if ch == nil || who == nil || ch.migratedTo != 0 {
		return fmt.Errorf("customer %d or chat %d: %w", customerID, chatID, ErrNotFound)
	}
	at := slices.Index(ch.members, customerID)
	if (at >= 0) == (status == StatusMember) {
		return nil
	}
	u, old := who.user(), StatusLeft
	m := &Message{From: &u}
	if at < 0 {
		ch.members = append(ch.members, customerID)
		m.NewChatMembers = []User{u}
	} else {
		old = StatusMember
		ch.members = slices.Delete(ch.members, at, at+1)
		m.LeftChatMember = &u
	}
	for _, b := range s.listeners(ch) {
		if ch.bots[b.ID] == StatusAdministrator {
			s.tellStatus(b, ch, u, u, old, status, UpdateChatMember)
		}
	}
	if ch.Type != ChatChannel {
		s.broadcast(ch, m, 0)
	}
	s.events.Publish("chat", ch.group())
	return nil
}

// Migrate makes a supergroup of a group, as Telegram does when a group grows or gets a topic: both chats get a service
// message, and calls for the old one fail with migrate_to_chat_id.
func (s *Server) Migrate(chatID int64) (newID int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.groups[chatID]
	if old == nil {
		return 0, fmt.Errorf("chat %d: %w", chatID, ErrNotFound)
	}
	if old.Type != ChatGroup || old.migratedTo != 0 {
		return 0, fmt.Errorf("%w: chat %d is not a group", ErrInvalid, chatID)
	}
	newID = s.newGroupID(ChatSupergroup)
	if err := s.newGroup(Group{ID: newID, Type: ChatSupergroup, Title: old.Title, Members: old.members}); err != nil {
		return 0, err
	}
	next := s.groups[newID]
	for id, status := range old.bots {
		next.bots[id] = status
	}
	by := User{ID: 777000, FirstName: "Owner"}
	if len(old.members) > 0 {
		by = s.customers[old.members[0]].user()
	}
	s.broadcast(old, &Message{From: &by, MigrateToChatID: newID}, 0)
	s.broadcast(next, &Message{From: &by, MigrateFromChatID: chatID}, 0)
	old.migratedTo = newID
	s.events.Publish("chat", old.group())
	s.events.Publish("chat", next.group())
	return newID, nil
}

// Rename changes the title of a group, supergroup or channel and tells the bots.
func (s *Server) Rename(chatID int64, title string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.groups[chatID]
	if ch == nil || ch.migratedTo != 0 {
		return fmt.Errorf("chat %d: %w", chatID, ErrNotFound)
	}
	if title == "" {
		return fmt.Errorf("%w title: it must not be empty", ErrInvalid)
	}
	ch.Title = title
	by := User{ID: 777000, FirstName: "Owner"}
	if len(ch.members) > 0 {
		by = s.customers[ch.members[0]].user()
	}
	m := &Message{From: &by, NewChatTitle: title}
	if ch.Type == ChatChannel {
		sender := ch.Chat
		m.From, m.SenderChat = nil, &sender
	}
	s.broadcast(ch, m, 0)
	s.events.Publish("chat", ch.group())
	return nil
}

// CustomerUpload stores a file of a customer's and returns its name for IncomingMedia.File.
func (s *Server) CustomerUpload(kind, mimeType, filename string, data []byte) (file string, err error) {
	if !slices.Contains(mediaTypes, kind) {
		return "", fmt.Errorf("%w type %q: use one of %v", ErrInvalid, kind, mediaTypes)
	}
	if len(data) == 0 || len(data) > maxCustomer {
		return "", fmt.Errorf("%w file of %d bytes: 1 byte to 100 MiB", ErrInvalid, len(data))
	}
	return strconv.FormatInt(s.files.put(kind, mimeType, filename, data, 0).number, 10), nil
}

func (s *Server) uploaded(file string) (*storedFile, error) {
	number, err := strconv.ParseInt(file, 10, 64)
	if err == nil {
		if f, ok := s.files.get(number); ok {
			return f, nil
		}
	}
	return nil, fmt.Errorf("file %s: %w", file, ErrNotFound)
}
