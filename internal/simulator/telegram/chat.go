package telegram

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

const (
	messagesKept = 500             // of a chat; older ones are forgotten
	actionLength = 5 * time.Second // how long a chat action shows, as Telegram's
	pollsKept    = 10_000          // polls that can still be voted in or stopped
)

var usernameForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{4,31}$`)

// Customer is a person with Telegram.
type Customer struct {
	ID           int64  `json:"id"` // default a new one
	FirstName    string `json:"firstName"`
	LastName     string `json:"lastName,omitempty"`
	Username     string `json:"username,omitempty"`
	LanguageCode string `json:"languageCode,omitempty"`
	Phone        string `json:"phone,omitempty"` // shared only by a contact
	// Started lets every bot write first: the customer has written to it before the simulator began.
	Started bool `json:"started,omitempty"`
	// Deactivated is a deleted account: sends to it fail with 403.
	Deactivated bool `json:"deactivated,omitempty"`
}

func (c *Customer) user() User {
	return User{ID: c.ID, FirstName: c.FirstName, LastName: c.LastName, Username: c.Username, LanguageCode: c.LanguageCode}
}

func (c *Customer) chat() Chat {
	return Chat{ID: c.ID, Type: ChatPrivate, FirstName: c.FirstName, LastName: c.LastName, Username: c.Username}
}

// Statuses of a bot or a customer in a chat.
const (
	StatusMember        = "member"
	StatusAdministrator = "administrator"
	StatusLeft          = "left"
	StatusKicked        = "kicked"
)

// ChatBot is a bot in a group, supergroup or channel.
type ChatBot struct {
	ID     int64  `json:"id"`
	Status string `json:"status"` // StatusMember, StatusAdministrator, StatusLeft or StatusKicked
}

// Group is a group, a supergroup or a channel.
type Group struct {
	ID         int64     `json:"id"`   // negative; default a new one
	Type       string    `json:"type"` // ChatGroup (default), ChatSupergroup or ChatChannel
	Title      string    `json:"title"`
	Username   string    `json:"username,omitempty"`
	Members    []int64   `json:"members"` // customers
	Bots       []ChatBot `json:"bots"`    // default status member, in a channel administrator
	MigratedTo int64     `json:"migratedTo,omitempty"`
}

// chat is a private chat of one bot, or a group with any number of bots.
type chat struct {
	Chat
	owner    *bot // private chats
	messages []*kept
	byID     map[int64]*kept
	lastMsg  int64 // groups; private chats use their bot's

	bots       map[int64]string // groups: statuses
	members    []int64          // groups: customers
	migratedTo int64
	pinned     int64

	started, blocked bool // private chats: the customer wrote once; the customer blocked the bot

	action      string // the newest sendChatAction
	actionUntil time.Time
	pace        map[int64][]*rate.Limiter // by bot
}

// kept is a message of a chat and what became of it.
type kept struct {
	*Message
	chat      *chat
	bot       int64 // the bot that sent it, 0 for customers' and service messages
	deleted   bool
	reactions []Reacted
	votes     map[int64][]int
}

// Reacted is who reacted to a message, and how.
type Reacted struct {
	From  int64  `json:"from"` // customer or bot
	Emoji string `json:"emoji"`
}

// ChatMessage is a message as the customers' apps show it.
type ChatMessage struct {
	Message   *Message  `json:"message"`
	Type      string    `json:"type"`
	Bot       int64     `json:"bot,omitempty"`     // the bot that sent it, 0 for customers
	File      string    `json:"file,omitempty"`    // GET /control/files/{file}
	Deleted   bool      `json:"deleted,omitempty"` // by the bot or the customer
	Reactions []Reacted `json:"reactions,omitempty"`
}

// Conversation is what a bot and the customers of a chat said.
type Conversation struct {
	Bot         int64         `json:"bot"`
	Chat        Chat          `json:"chat"`
	Status      string        `json:"status"`           // of the bot in it; in a private chat member, kicked (blocked) or left (never started)
	Action      string        `json:"action,omitempty"` // "typing" and others, shown until ActionUntil
	ActionUntil time.Time     `json:"actionUntil,omitzero"`
	Members     []Customer    `json:"members"`
	Messages    []ChatMessage `json:"messages"` // oldest first, at most 500
}

func newChat(c Chat) *chat {
	return &chat{Chat: c, byID: map[int64]*kept{}, bots: map[int64]string{}, pace: map[int64][]*rate.Limiter{}}
}

// AddCustomer adds a customer, or changes the one with the id.
func (s *Server) AddCustomer(c Customer) (Customer, error) {
	c.Username = strings.TrimPrefix(c.Username, "@")
	if c.Username != "" && !usernameForm.MatchString(c.Username) {
		return c, fmt.Errorf("%w username %q: it must be 5 to 32 letters, digits or _", ErrInvalid, c.Username)
	}
	if c.ID < 0 || c.ID >= 1<<52 {
		return c, fmt.Errorf("%w customer id %d: 1 to 2^52", ErrInvalid, c.ID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.ID == 0 {
		for c.ID = 5002001 + int64(len(s.people)); s.customers[c.ID] != nil || s.bots[c.ID] != nil; {
			c.ID++
		}
	}
	if s.bots[c.ID] != nil {
		return c, fmt.Errorf("%w customer id %d: a bot has it", ErrInvalid, c.ID)
	}
	c.FirstName = cmp.Or(strings.TrimSpace(c.FirstName), fmt.Sprintf("Customer %d", c.ID))
	return c, s.putCustomer(c)
}

// putCustomer needs s.mu.
func (s *Server) putCustomer(c Customer) error {
	if s.customers[c.ID] == nil {
		if len(s.people) >= maxCustomers {
			return fmt.Errorf("%w: %d customers are registered", ErrInvalid, maxCustomers)
		}
		s.people = append(s.people, c.ID)
	}
	s.customers[c.ID] = &c
	for _, b := range s.bots {
		if p := b.private[c.ID]; p != nil {
			p.Chat = c.chat()
		}
	}
	s.events.Publish("customer", c)
	return nil
}

// Customers lists the customers in the order in which they appeared.
func (s *Server) Customers() []Customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Customer, 0, len(s.people))
	for _, id := range s.people {
		out = append(out, *s.customers[id])
	}
	return out
}

// AddChat registers a group, supergroup or channel, or changes the title and username of one; who is in it is changed
// by SetMember and SetBotStatus, which tell the bots.
func (s *Server) AddChat(g Group) (Group, error) {
	g.Type = cmp.Or(g.Type, ChatGroup)
	if !slices.Contains([]string{ChatGroup, ChatSupergroup, ChatChannel}, g.Type) {
		return g, fmt.Errorf("%w type %q: group, supergroup or channel", ErrInvalid, g.Type)
	}
	if g.ID > 0 || g.ID <= -1<<52 {
		return g, fmt.Errorf("%w chat id %d: it must be negative", ErrInvalid, g.ID)
	}
	g.Username = strings.TrimPrefix(g.Username, "@")
	if g.Username != "" && !usernameForm.MatchString(g.Username) {
		return g, fmt.Errorf("%w username %q: it must be 5 to 32 letters, digits or _", ErrInvalid, g.Username)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.ID == 0 {
		g.ID = s.newGroupID(g.Type)
	}
	c := s.groups[g.ID]
	if c == nil {
		if err := s.newGroup(g); err != nil {
			return g, err
		}
		c = s.groups[g.ID]
	}
	c.Title, c.Username = cmp.Or(g.Title, c.Title), g.Username
	s.events.Publish("chat", c.group())
	return c.group(), nil
}

// newGroupID needs s.mu.
func (s *Server) newGroupID(kind string) int64 {
	id := int64(-4_000_000 - len(s.groupIDs))
	if kind != ChatGroup {
		id = int64(-1_001_500_000_000 - len(s.groupIDs))
	}
	for s.groups[id] != nil {
		id--
	}
	return id
}

// newGroup needs s.mu.
func (s *Server) newGroup(g Group) error {
	if len(s.groupIDs) >= maxGroups {
		return fmt.Errorf("%w: %d chats are registered", ErrInvalid, maxGroups)
	}
	c := newChat(Chat{ID: g.ID, Type: g.Type, Title: cmp.Or(g.Title, "Group")})
	for _, id := range g.Members {
		if s.customers[id] == nil {
			return fmt.Errorf("customer %d: %w", id, ErrNotFound)
		}
	}
	c.members = slices.Clone(g.Members)
	for _, b := range g.Bots {
		if s.bots[b.ID] == nil {
			return fmt.Errorf("bot %d: %w", b.ID, ErrNotFound)
		}
		def := StatusMember
		if g.Type == ChatChannel {
			def = StatusAdministrator
		}
		c.bots[b.ID] = cmp.Or(b.Status, def)
		if err := checkStatus(c.bots[b.ID]); err != nil {
			return err
		}
	}
	s.groups[g.ID] = c
	s.groupIDs = append(s.groupIDs, g.ID)
	return nil
}

func checkStatus(status string) error {
	if !slices.Contains([]string{StatusMember, StatusAdministrator, StatusLeft, StatusKicked}, status) {
		return fmt.Errorf("%w status %q: member, administrator, left or kicked", ErrInvalid, status)
	}
	return nil
}

func (ch *chat) group() Group {
	g := Group{
		ID: ch.ID, Type: ch.Type, Title: ch.Title, Username: ch.Username, MigratedTo: ch.migratedTo,
		Members: append([]int64{}, ch.members...), Bots: []ChatBot{},
	}
	for _, id := range slices.Sorted(maps.Keys(ch.bots)) {
		g.Bots = append(g.Bots, ChatBot{id, ch.bots[id]})
	}
	return g
}

// Chats lists the groups, supergroups and channels.
func (s *Server) Chats() []Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Group, 0, len(s.groupIDs))
	for _, id := range s.groupIDs {
		out = append(out, s.groups[id].group())
	}
	return out
}

// findChat finds a chat of a bot: a group that the bot is or was in, or the private chat with a customer, which it makes;
// it needs s.mu.
func (s *Server) findChat(b *bot, id int64) (*chat, error) {
	if id < 0 {
		c := s.groups[id]
		if c == nil || c.bots[b.ID] == "" {
			return nil, fmt.Errorf("chat %d of bot %d: %w", id, b.ID, ErrNotFound)
		}
		return c, nil
	}
	if c := b.private[id]; c != nil {
		return c, nil
	}
	who := s.customers[id]
	if who == nil {
		return nil, fmt.Errorf("customer %d: %w", id, ErrNotFound)
	}
	c := newChat(who.chat())
	c.owner, c.started = b, who.Started
	b.private[id] = c
	return c, nil
}

// status of a bot in the chat.
func (ch *chat) status(botID int64) string {
	switch {
	case ch.owner == nil:
		return cmp.Or(ch.bots[botID], StatusLeft)
	case ch.blocked:
		return StatusKicked
	case !ch.started:
		return StatusLeft
	}
	return StatusMember
}

// Conversation returns the newest messages of a chat with a bot; none is no error.
func (s *Server) Conversation(botID, chatID int64) (Conversation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bot(botID)
	if err != nil {
		return Conversation{}, err
	}
	c, err := s.findChat(b, chatID)
	if err != nil {
		return Conversation{}, err
	}
	out := Conversation{Bot: botID, Chat: c.Chat, Status: c.status(botID), Members: []Customer{}, Messages: []ChatMessage{}}
	if s.opts.Now().Before(c.actionUntil) {
		out.Action, out.ActionUntil = c.action, c.actionUntil
	}
	ids := c.members
	if c.owner != nil {
		ids = []int64{c.ID}
	}
	for _, id := range ids {
		if who := s.customers[id]; who != nil {
			out.Members = append(out.Members, *who)
		}
	}
	for _, m := range c.messages {
		out.Messages = append(out.Messages, m.view(botID))
	}
	return out, nil
}

func (k *kept) view(botID int64) ChatMessage {
	m := k.forBot(botID)
	v := ChatMessage{
		Message: m, Type: m.kind(), Bot: k.bot, Deleted: k.deleted, Reactions: slices.Clone(k.reactions),
	}
	if n := m.file(); n != 0 {
		v.File = fmt.Sprint(n)
	}
	return v
}

// file is the number of the message's file, 0 if it has none.
func (m *Message) file() int64 {
	for _, p := range m.media() {
		if *p != nil {
			return (*p).file
		}
	}
	if n := len(m.Photo); n > 0 {
		return m.Photo[n-1].file
	}
	return 0
}

// keep gives a message its id, adds it to its chat and forgets the oldest; it needs s.mu.
func (s *Server) keep(c *chat, m *Message, botID int64) *kept {
	seq := &c.lastMsg
	if c.owner != nil {
		seq = &c.owner.lastMsg
	}
	*seq = max(*seq+1, s.opts.FirstMessageID)
	m.MessageID, m.Chat = *seq, c.Chat
	if m.Date == 0 {
		m.Date = s.unix()
	}
	k := &kept{Message: m, chat: c, bot: botID}
	c.messages = append(c.messages, k)
	c.byID[m.MessageID] = k
	if len(c.messages) > messagesKept {
		delete(c.byID, c.messages[0].MessageID)
		c.messages = slices.Delete(c.messages, 0, 1)
	}
	if m.Poll != nil {
		s.polls[m.Poll.ID] = k
		if s.pollIDs = append(s.pollIDs, m.Poll.ID); len(s.pollIDs) > pollsKept {
			delete(s.polls, s.pollIDs[0])
			s.pollIDs = s.pollIDs[1:]
		}
	}
	if botID != 0 {
		c.actionUntil = time.Time{}
	}
	s.show(k)
	return k
}

// shown is a message in the event stream.
type shown struct {
	Bot    int64       `json:"bot,omitempty"` // private chats: whose; groups: 0
	ChatID int64       `json:"chatId"`
	Shown  ChatMessage `json:"shown"`
}

// show publishes a message for the page; it needs s.mu.
func (s *Server) show(k *kept) {
	if !s.events.Watched() {
		return
	}
	ev := shown{ChatID: k.chat.ID, Shown: k.view(0)}
	if k.chat.owner != nil {
		ev.Bot = k.chat.owner.ID
	}
	s.events.Publish("message", ev)
}

// react replaces the reactions of one who is in the chat; it needs s.mu.
func (s *Server) react(k *kept, from int64, emojis []string) (before []string) {
	k.reactions = slices.DeleteFunc(k.reactions, func(r Reacted) bool {
		if r.From == from {
			before = append(before, r.Emoji)
		}
		return r.From == from
	})
	for _, e := range emojis {
		k.reactions = append(k.reactions, Reacted{from, e})
	}
	s.show(k)
	return before
}
