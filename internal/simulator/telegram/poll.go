package telegram

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

const maxPollSeconds = 50 // Telegram's server waits no longer, whatever timeout says

// poll is a getUpdates call that waits.
type poll struct {
	wake  chan struct{} // of size 1: an update came
	ended chan struct{} // closed by end

	once   sync.Once
	reason string // set before ended closes
}

func newPoll() *poll {
	return &poll{wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

func (p *poll) wakeUp() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// end makes the waiting call answer with an error.
func (p *poll) end(reason string) {
	p.once.Do(func() {
		p.reason = reason
		close(p.ended)
	})
}

// getUpdates serves the method of this name.
func (s *Server) getUpdates(c *call) (any, *apiError) {
	offset := c.args.number("offset", 0, -maxUpdateID, maxUpdateID)
	limit := int(c.args.number("limit", 100, 1, 100))
	timeout := c.args.number("timeout", 0, 0, maxPollSeconds)
	c.poll = s.ledger.beginPoll(c.bot.ID, c.r, offset, limit, timeout)

	s.mu.Lock()
	b := c.bot
	if b.hook.URL != "" {
		s.mu.Unlock()
		c.poll.Outcome = outcomeWebhook
		return nil, errConflict("can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first")
	}
	b.setAllowed(c.args)
	if !s.opts.NoLimits && !b.NoLimits && offset == b.prevOff { // Telegram's brake on bots that ask again and again
		since := s.opts.Now().Sub(b.prevAt)
		if timeout < 3 && since < 3*time.Second {
			timeout = 3
		}
		if since < 500*time.Millisecond {
			limit = 1
		}
	}
	b.prevOff, b.prevAt = offset, s.opts.Now()
	updates := s.collect(b, offset, limit)
	if len(updates) > 0 || timeout == 0 {
		s.mu.Unlock()
		return s.answerUpdates(c, updates), nil
	}
	if b.poll != nil {
		b.poll.end(outcomeConflict)
	}
	wait := newPoll()
	b.poll = wait
	s.mu.Unlock()
	return s.await(c, wait, offset, limit, time.Duration(timeout)*time.Second)
}

// await waits for updates, the timeout, another poller or the caller's end.
func (s *Server) await(c *call, p *poll, offset int64, limit int, timeout time.Duration) (any, *apiError) {
	defer func() {
		s.mu.Lock()
		if c.bot.poll == p {
			c.bot.poll = nil
		}
		s.mu.Unlock()
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-p.wake:
			s.mu.Lock()
			updates := s.collect(c.bot, offset, limit)
			s.mu.Unlock()
			if len(updates) > 0 {
				return s.answerUpdates(c, updates), nil
			}
		case <-p.ended:
			return nil, s.pollEnded(c, p.reason)
		case <-timer.C:
			return s.answerUpdates(c, nil), nil
		case <-c.r.Context().Done():
			c.poll.Outcome = outcomeGone
			return nil, errGone
		case <-s.done:
			c.poll.Outcome = outcomeClosed
			return nil, errGone
		}
	}
}

// settle tells a poll that another one met from one whose caller had gone by then, and writes its end into the ledger.
func (s *Server) settle(c *call) (gone bool) {
	if s.ledger.met(c.poll) {
		grace := time.NewTimer(s.opts.GoneGrace)
		defer grace.Stop()
		select {
		case <-c.r.Context().Done():
		case <-grace.C:
		case <-s.done:
		}
	}
	if c.r.Context().Err() != nil {
		c.poll.Outcome, c.poll.UpdateIDs = outcomeGone, nil
	}
	s.ledger.endPoll(c.poll)
	return c.poll.Outcome == outcomeGone
}

func (s *Server) pollEnded(c *call, reason string) *apiError {
	c.poll.Outcome = reason
	switch reason {
	case outcomeRevoked:
		return errUnauthorized()
	case outcomeWebhook:
		return errConflict("terminated by setWebhook request")
	}
	return errConflict("terminated by other getUpdates request; make sure that only one bot instance is running")
}

func (s *Server) answerUpdates(c *call, updates []*queued) any {
	bodies := make([]json.RawMessage, 0, len(updates))
	for _, q := range updates {
		bodies = append(bodies, q.body)
		c.poll.UpdateIDs = append(c.poll.UpdateIDs, q.id)
	}
	c.poll.Outcome = outcomeAnswered
	return bodies
}

// setAllowed remembers allowed_updates. What is not an array of strings changes nothing, as Telegram has it; the library's
// null does so too. It needs Server.mu.
func (b *bot) setAllowed(a args) {
	raw := a.values["allowed_updates"]
	var kinds []string
	if json.Unmarshal([]byte(raw), &kinds) != nil || kinds == nil {
		return
	}
	for i := range kinds {
		kinds[i] = strings.ToLower(kinds[i])
	}
	kinds = slices.DeleteFunc(kinds, func(k string) bool { return !slices.Contains(knownUpdates, k) })
	if len(kinds) == 0 {
		kinds = nil
	}
	b.allowed = kinds
}
