package telegram

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Telegram's limits of a bot's messages: about one a second in a chat, where a
// few at once are let through, 20 a minute in a group, 30 a second in all. These
// stay below them for every stretch of time, bursts included.
var (
	paceDirect = limit{every: time.Second, burst: 3}
	paceGroup  = limit{every: 4 * time.Second, burst: 5} // 5 + 15 in a minute
	paceBot    = limit{every: time.Second / 25, burst: 5}
)

type limit struct {
	every time.Duration
	burst int
}

func (l limit) limiter() *rate.Limiter { return rate.NewLimiter(rate.Every(l.every), l.burst) }

// maxPaced bounds the chats that are remembered. A chat that is forgotten has
// its burst again, which Telegram then answers with 429 at worst.
const maxPaced = 4096

// pace makes messages wait so that Telegram need not refuse them.
type pace struct {
	bot *rate.Limiter

	mu    sync.Mutex // guards what follows
	chats map[int64]*rate.Limiter
	// The last chat that Telegram refused for a while, and until when: a second
	// one meanwhile means that it is the bot and not the chat.
	flooded      int64
	floodedUntil time.Time
}

func newPace() *pace {
	return &pace{bot: paceBot.limiter(), chats: map[int64]*rate.Limiter{}}
}

// wait waits until a message may go to a chat; an error means that this is not
// before ctx ends.
func (p *pace) wait(ctx context.Context, chat int64) error {
	if err := p.chat(chat).Wait(ctx); err != nil {
		return err
	}
	return p.bot.Wait(ctx)
}

func (p *pace) chat(id int64) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.chats[id]
	if l == nil {
		if len(p.chats) >= maxPaced {
			p.forget()
		}
		if l = paceDirect.limiter(); id < 0 {
			l = paceGroup.limiter()
		}
		p.chats[id] = l
	}
	return l
}

// forget drops the chats whose burst is whole again, or all if none is.
func (p *pace) forget() {
	before := len(p.chats)
	for id, l := range p.chats {
		if l.Tokens() >= float64(l.Burst()) {
			delete(p.chats, id)
		}
	}
	if len(p.chats) == before {
		clear(p.chats)
	}
}

// refused notes that Telegram wants nothing for a while, and tells whether that
// holds for all chats.
func (p *pace) refused(chat int64, wait time.Duration) (all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	all = p.flooded != 0 && p.flooded != chat && now.Before(p.floodedUntil)
	p.flooded, p.floodedUntil = chat, now.Add(wait)
	return all
}
