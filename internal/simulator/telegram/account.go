package telegram

import (
	"maps"
	"slices"
	"time"
)

func (s *Server) getMe(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return struct {
		User
		CanJoinGroups   bool `json:"can_join_groups"`
		CanReadAll      bool `json:"can_read_all_group_messages"`
		SupportsInline  bool `json:"supports_inline_queries"`
		CanConnect      bool `json:"can_connect_to_business"`
		HasMainWebApp   bool `json:"has_main_web_app"`
		HasTopics       bool `json:"has_topics_enabled"`
		AllowsNewTopics bool `json:"allows_users_to_create_topics"`
	}{User: c.bot.user(), CanJoinGroups: true, CanReadAll: !c.bot.Privacy}, nil
}

// logOut ends the bot's poll; Telegram keeps a bot out of its cloud for 10 minutes then, the simulator does not.
func (s *Server) logOut(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.bot.poll != nil {
		c.bot.poll.end(outcomeRevoked)
	}
	c.bot.hook.set(hookSettings{})
	return true, nil
}

func (s *Server) closeBot(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.bot.poll != nil {
		c.bot.poll.end(outcomeRevoked)
	}
	return true, nil
}

func (s *Server) getChat(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	info := struct {
		Chat
		ActiveUsernames  []string `json:"active_usernames,omitempty"`
		AccentColorID    int      `json:"accent_color_id"`
		MaxReactionCount int      `json:"max_reaction_count"`
		PinnedMessage    *Message `json:"pinned_message,omitempty"`
	}{Chat: ch.Chat, MaxReactionCount: 11, AccentColorID: 3}
	if ch.Username != "" {
		info.ActiveUsernames = []string{ch.Username}
	}
	if k := ch.byID[ch.pinned]; k != nil && !k.deleted {
		info.PinnedMessage = k.forBot(c.bot.ID)
	}
	return info, nil
}

// Member is a ChatMember of the Bot API.
type Member struct {
	User   User   `json:"user"`
	Status string `json:"status"`
	Until  *int64 `json:"until_date,omitempty"` // kicked: 0 is for ever
}

func member(u User, status string) Member {
	m := Member{User: u, Status: status}
	if status == StatusKicked {
		m.Until = new(int64)
	}
	return m
}

func (s *Server) getChatMember(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	id := c.args.number("user_id", 0, 0, 1<<53)
	if id == 0 {
		return nil, errBadRequest("invalid user_id specified")
	}
	if b := s.bots[id]; b != nil {
		return member(b.user(), ch.status(id)), nil
	}
	who := s.customers[id]
	if who == nil {
		return nil, errBadRequest("user not found")
	}
	if slices.Contains(ch.members, id) || ch.owner != nil && ch.ID == id {
		return member(who.user(), StatusMember), nil
	}
	return member(who.user(), StatusLeft), nil
}

func (s *Server) getChatAdministrators(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	if ch.owner != nil {
		return nil, errBadRequest("there are no administrators in the private chat")
	}
	out := []Member{}
	for _, id := range slices.Sorted(maps.Keys(ch.bots)) {
		if b := s.bots[id]; b != nil && ch.bots[id] == StatusAdministrator {
			out = append(out, member(b.user(), StatusAdministrator))
		}
	}
	return out, nil
}

func (s *Server) getChatMemberCount(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	if ch.owner != nil {
		return 2, nil
	}
	n := len(ch.members)
	for _, status := range ch.bots {
		if status == StatusMember || status == StatusAdministrator {
			n++
		}
	}
	return n, nil
}

// getUserProfilePhotos answers that there are none, as for most people.
func (s *Server) getUserProfilePhotos(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := c.args.number("user_id", 0, 0, 1<<53)
	if s.customers[id] == nil && s.bots[id] == nil {
		return nil, errBadRequest("invalid user_id specified")
	}
	return struct {
		TotalCount int           `json:"total_count"`
		Photos     [][]PhotoSize `json:"photos"`
	}{0, [][]PhotoSize{}}, nil
}

func (s *Server) leaveChat(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch, e := s.resolve(c, "chat_id")
	if e != nil {
		return nil, e
	}
	if ch.owner != nil {
		return nil, errBadRequest("chat member status can't be changed in private chats")
	}
	s.setBotStatus(ch, c.bot, StatusLeft, c.bot.user())
	return true, nil
}

func (s *Server) setWebhook(c *call) (any, *apiError) {
	address := c.args.str("url")
	if address == "" {
		return s.deleteWebhook(c)
	}
	set := hookSettings{URL: address, secret: c.args.str("secret_token")}
	if e := set.check(); e != nil {
		return nil, e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.bot.setAllowed(c.args)
	s.dropPending(c)
	if c.bot.poll != nil {
		c.bot.poll.end(outcomeWebhook)
	}
	c.bot.hook.set(set)
	s.startLine(c.bot)
	s.events.Publish("bot", c.bot.view())
	return true, nil
}

func (s *Server) deleteWebhook(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropPending(c)
	c.bot.hook.set(hookSettings{})
	s.events.Publish("bot", c.bot.view())
	return true, nil
}

// dropPending needs s.mu.
func (s *Server) dropPending(c *call) {
	if !c.args.flag("drop_pending_updates") {
		return
	}
	for _, q := range c.bot.queue {
		s.ledger.ended(c.bot.ID, q.id, endedDropped)
	}
	c.bot.queue = nil
}

func (s *Server) getWebhookInfo(c *call) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(c.bot)
	h := &c.bot.hook
	return struct {
		URL              string   `json:"url"`
		HasCertificate   bool     `json:"has_custom_certificate"`
		Pending          int      `json:"pending_update_count"`
		LastErrorDate    int64    `json:"last_error_date,omitempty"`
		LastErrorMessage string   `json:"last_error_message,omitempty"`
		MaxConnections   int      `json:"max_connections,omitempty"`
		AllowedUpdates   []string `json:"allowed_updates,omitempty"`
	}{h.URL, false, len(c.bot.queue), unixOrZero(h.failedAt), h.failure, 1, c.bot.allowed}, nil
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
