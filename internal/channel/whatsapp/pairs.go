package whatsapp

import (
	"slices"
	"sync"

	"switchboard/internal/domain"
)

// maxPairs bounds the pairs that are told to the inbox at once, and maxWaiting
// those that wait; more are forgotten and told with the person's next message.
const (
	maxPairs   = 100
	maxWaiting = 5000
)

// pairs are the people whose second address was learned and who the inbox has
// not been told of yet. They go ahead of the next thing that is stored.
type pairs struct {
	mu      sync.Mutex // guards waiting
	waiting []domain.Inbound
}

func (p *pairs) add(who person) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if who.both() && len(p.waiting) < maxWaiting {
		p.waiting = append(p.waiting, domain.Inbound{Contact: &domain.InboundContact{Peer: who.peer("")}})
	}
}

// putBack takes back what take gave and could not be stored.
func (p *pairs) putBack(items []domain.Inbound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(slices.Clone(items), p.waiting...)
}

func (p *pairs) take() []domain.Inbound {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.waiting), maxPairs)
	items := slices.Clone(p.waiting[:n])
	p.waiting = slices.Delete(p.waiting, 0, n)
	if len(p.waiting) == 0 {
		p.waiting = nil
	}
	return items
}
