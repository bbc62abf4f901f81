package telegram

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of what may be registered, so that a runaway test stops with an error rather than with the machine.
const (
	maxBots      = 10_000
	maxCustomers = 200_000
	maxGroups    = 100_000
)

var tokenForm = regexp.MustCompile(`^[1-9][0-9]{5,15}:[A-Za-z0-9_-]{20,60}$`)

// Bot is a bot as @BotFather would hold it.
type Bot struct {
	Token    string `json:"token"` // 123456789:AA…; its number is the bot's id
	Name     string `json:"name"`
	Username string `json:"username"` // default made from the id; ends in bot

	// Revoked answers every call 401 Unauthorized.
	Revoked bool `json:"revoked"`
	// NoLimits lifts the limits on sending.
	NoLimits bool `json:"noLimits"`
	// Privacy shows the bot only commands, replies to it and mentions of it in groups.
	Privacy bool `json:"privacy"`

	ID      int64  `json:"id"`                // of the token; ignored when it is set
	Webhook string `json:"webhook,omitempty"` // as set by the bot; ignored when it is set
	Pending int    `json:"pending"`           // updates that are not confirmed; ignored when it is set
}

// bot is a registered Bot.
type bot struct {
	Bot
	private map[int64]*chat
	lastMsg int64 // message ids of private chats come from one sequence per bot, as Telegram's do

	queue    []*queued // ascending ids
	nextUpd  int64
	allowed  []string  // kinds; nil: the default ones
	answered []*queued // the newest that were confirmed, for FaultUpdateRepeat
	poll     *poll     // the one that waits
	prevOff  int64     // offset and time of the last getUpdates, for Telegram's brake on repeated ones
	prevAt   time.Time
	hook     webhook
	limit    *rate.Limiter
}

// DemoBot has the token that a demonstration uses; nothing in it is secret.
func DemoBot() Bot {
	return Bot{Token: "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", Name: "Lucky Shrub", Username: "lucky_shrub_bot"} // #nosec G101 -- public
}

// DemoCustomers are the people of a demonstration.
func DemoCustomers() []Customer {
	return []Customer{
		{ID: 5001001, FirstName: "Grete", LastName: "Hermann", Username: "grete_h", LanguageCode: "de", Phone: "+491715550123"},
		{ID: 5001002, FirstName: "Ravi", LastName: "Kumar", LanguageCode: "en", Phone: "+919955501234"},
	}
}

// Hint says what to set in the product to use this bot of a simulator at the base URL; one line each.
func (b Bot) Hint(baseURL string) []string {
	return []string{
		"page: " + baseURL + "/   control API: " + baseURL + "/control/",
		"in the product, set TELEGRAM_API_ENDPOINT=" + baseURL + "/bot%s/%s and",
		"  TELEGRAM_FILE_ENDPOINT=" + baseURL + "/file/bot%s/%s, and add a channel of kind telegram with",
		"  botToken=" + b.Token,
	}
}

func (b *Bot) normalize() error {
	if !tokenForm.MatchString(b.Token) {
		return fmt.Errorf("%w token: it must be the bot's number, a colon and 20 to 60 letters, digits, _ or -", ErrInvalid)
	}
	number, _, _ := strings.Cut(b.Token, ":")
	b.ID, _ = strconv.ParseInt(number, 10, 64)
	if b.Username == "" {
		b.Username = "simulated_" + number + "_bot"
	}
	if b.Name == "" {
		b.Name = "Bot " + number
	}
	if !usernameForm.MatchString(b.Username) {
		return fmt.Errorf("%w username %q: it must be 5 to 32 letters, digits or _", ErrInvalid, b.Username)
	}
	return nil
}

// AddBot registers a bot, or replaces the settings of the one with the same id; a new token makes the old one invalid.
func (s *Server) AddBot(b Bot) (Bot, error) {
	if err := b.normalize(); err != nil {
		return b, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addBot(b)
}

// addBot needs s.mu.
func (s *Server) addBot(b Bot) (Bot, error) {
	reg := s.bots[b.ID]
	if reg == nil {
		if len(s.bots) >= maxBots {
			return b, fmt.Errorf("%w: %d bots are registered, remove some first", ErrInvalid, maxBots)
		}
		reg = &bot{private: map[int64]*chat{}, nextUpd: s.firstUpdateID(), limit: s.opts.Limits.perBot()}
		s.bots[b.ID] = reg
		s.botOrder = append(s.botOrder, b.ID)
	}
	reg.Bot = b
	if b.Revoked && reg.poll != nil {
		reg.poll.end(outcomeRevoked)
	}
	s.events.Publish("bot", reg.view())
	return reg.view(), nil
}

func (b *bot) view() Bot {
	v := b.Bot
	v.Webhook, v.Pending = b.hook.URL, len(b.queue)
	return v
}

func (b *bot) user() User {
	return User{ID: b.ID, IsBot: true, FirstName: b.Name, Username: b.Username}
}

// RemoveBot forgets a bot, its private chats and its updates.
func (s *Server) RemoveBot(id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bots[id]
	if b == nil {
		return fmt.Errorf("bot %d: %w", id, ErrNotFound)
	}
	delete(s.bots, id)
	s.botOrder = slices.DeleteFunc(s.botOrder, func(have int64) bool { return have == id })
	for _, g := range s.groups {
		delete(g.bots, id)
	}
	if b.poll != nil {
		b.poll.end(outcomeRevoked)
	}
	b.hook.stop()
	s.events.Publish("bot", Bot{ID: id})
	s.ledger.notify()
	return nil
}

// Bots lists the registered bots in order of registration.
func (s *Server) Bots() []Bot {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Bot, 0, len(s.botOrder))
	for _, id := range s.botOrder {
		list = append(list, s.bots[id].view())
	}
	return list
}

// Bot returns a registered bot.
func (s *Server) Bot(id int64) (Bot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.bots[id]
	if !ok {
		return Bot{}, false
	}
	return b.view(), true
}

// bot finds a bot; it needs s.mu.
func (s *Server) bot(id int64) (*bot, error) {
	b := s.bots[id]
	if b == nil {
		return nil, fmt.Errorf("bot %d: %w", id, ErrNotFound)
	}
	return b, nil
}

// Limits are how fast a bot may send; what comes faster is answered 429 with retry_after. Zero fields mean Telegram's.
type Limits struct {
	ChatPerSecond  float64 `json:"chatPerSecond"` // messages to one chat, default 1
	ChatBurst      int     `json:"chatBurst"`     // at once, default 5
	GroupPerMinute int     `json:"groupPerMinute"`
	BotPerSecond   float64 `json:"botPerSecond"` // to all chats, default 30
}

func (l *Limits) setDefaults() {
	l.ChatPerSecond = orDefault(l.ChatPerSecond, 1)
	l.ChatBurst = orDefault(l.ChatBurst, 5)
	l.GroupPerMinute = orDefault(l.GroupPerMinute, 20)
	l.BotPerSecond = orDefault(l.BotPerSecond, 30)
}

func (l Limits) perBot() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(l.BotPerSecond), max(int(l.BotPerSecond), 1))
}

// allow takes n messages from every limit, or none and says how long to wait in whole seconds; it needs s.mu.
func (s *Server) allow(b *bot, c *chat, n int) (retryAfter int) {
	if s.opts.NoLimits || b.NoLimits {
		return 0
	}
	l := s.opts.Limits
	pace := c.pace[b.ID]
	if pace == nil {
		pace = []*rate.Limiter{rate.NewLimiter(rate.Limit(l.ChatPerSecond), l.ChatBurst)}
		if c.Type == ChatGroup || c.Type == ChatSupergroup {
			pace = append(pace, rate.NewLimiter(rate.Limit(float64(l.GroupPerMinute)/60), l.GroupPerMinute))
		}
		c.pace[b.ID] = pace
	}
	now := s.opts.Now()
	var taken []*rate.Reservation
	var wait time.Duration
	for _, lim := range append([]*rate.Limiter{b.limit}, pace...) {
		r := lim.ReserveN(now, min(n, lim.Burst()))
		taken = append(taken, r)
		wait = max(wait, r.DelayFrom(now))
	}
	if wait <= 0 {
		return 0
	}
	for _, r := range taken {
		r.CancelAt(now)
	}
	return max(int((wait+time.Second-1)/time.Second), 1)
}

// firstUpdateID is where a bot's updates begin: a number that differs between bots.
func (s *Server) firstUpdateID() int64 {
	return 100_000_000 + (s.nextID()*7919)%700_000_000
}

// RestartUpdateIDs lets the next update have the id, which may be lower than earlier ones: Telegram chooses a new random
// one after a week without updates. Nothing may wait to be confirmed. An id of 0 means a random one.
func (s *Server) RestartUpdateIDs(botID, id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bot(botID)
	if err != nil {
		return err
	}
	if len(b.queue) > 0 {
		return fmt.Errorf("%w: %d updates of bot %d are not confirmed", ErrInvalid, len(b.queue), botID)
	}
	if id < 0 || id > maxUpdateID/2 {
		return fmt.Errorf("%w update id %d: 0 to %d", ErrInvalid, id, maxUpdateID/2)
	}
	b.nextUpd = cmp.Or(id, s.firstUpdateID())
	b.answered = nil
	return nil
}
