package cloudapi

import (
	"time"

	"golang.org/x/time/rate"
)

// Meta's documented limits of what a number may send: in all, and to one customer, where up to 45 messages may go at
// once that borrow from what follows.
const (
	standardPerSecond = 80
	highPerSecond     = 1000
	pairEvery         = 6 * time.Second
	pairBurst         = 45
)

// allow counts a message against the limits of its number and its pair, or says which is reached; it needs s.mu.
func (s *Server) allow(n *number, waID string) *graphError {
	if s.opts.NoLimits || n.NoLimits {
		return nil
	}
	if n.pace == nil {
		perSecond := standardPerSecond
		if n.HighThroughput {
			perSecond = highPerSecond
		}
		n.pace = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	}
	conv := s.conv(n.PhoneNumberID, waID)
	if conv.pace == nil {
		conv.pace = rate.NewLimiter(rate.Every(pairEvery), pairBurst)
	}
	now := s.opts.Now()
	if conv.pace.TokensAt(now) < 1 {
		return codeError(131056, "")
	}
	if !n.pace.AllowN(now, 1) {
		return codeError(130429, "")
	}
	conv.pace.AllowN(now, 1)
	return nil
}
