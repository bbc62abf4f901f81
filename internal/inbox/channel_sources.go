package inbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

const (
	// sourceTTL is how long a node may go by a channel's former credentials.
	sourceTTL = 2 * time.Second
	// maxSources bounds the keys that are remembered. A full cache starts anew: what it saves is seconds old anyway.
	maxSources = 4096
)

// sourceKey is who a webhook is for, in the provider's words.
type sourceKey struct {
	kind domain.ChannelKind
	key  string
}

// source is what is known of a key; channel is nil for one that is nobody's.
type source struct {
	channel *OpenChannel
	until   time.Time
}

// sourceCache spares a burst of webhooks the database and the opening of secrets. Its zero value is empty.
type sourceCache struct {
	mu    sync.Mutex // guards known and round
	known map[sourceKey]source
	// round rises when something is forgotten: what was read before that is not put in any more.
	round int64
}

func (c *sourceCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = nil
	c.round++
}

// get splits keys into those that are known and those that are not.
func (c *sourceCache) get(kind domain.ChannelKind, keys []string, now time.Time) (found []OpenChannel, missing []string, round int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := make(map[string]bool, len(keys))
	for _, key := range keys {
		if asked[key] {
			continue
		}
		asked[key] = true
		known, ok := c.known[sourceKey{kind, key}]
		switch {
		case !ok || !now.Before(known.until):
			missing = append(missing, key)
		case known.channel != nil:
			found = append(found, *known.channel)
		}
	}
	return found, missing, c.round
}

func (c *sourceCache) put(kind domain.ChannelKind, keys []string, channels []OpenChannel, until time.Time, round int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if round != c.round {
		return
	}
	if c.known == nil || len(c.known)+len(keys) > maxSources {
		c.known = map[sourceKey]source{}
	}
	for _, key := range keys[:min(len(keys), maxSources)] {
		c.known[sourceKey{kind, key}] = source{until: until}
	}
	for _, channel := range channels {
		c.known[sourceKey{kind, channel.ExternalKey}] = source{channel: &channel, until: until}
	}
}

// ChannelsByExternalKey finds the channels of a kind that the provider knows under the keys, with their credentials, to check
// and sort webhooks. Keys that are nobody's are absent. An answer may be up to two seconds old. The secrets are shared: do not
// change them.
func (s *Service) ChannelsByExternalKey(ctx context.Context, kind domain.ChannelKind, keys []string) ([]OpenChannel, error) {
	now := time.Now()
	found, missing, round := s.sources.get(kind, keys, now)
	if len(missing) == 0 {
		return found, nil
	}
	sealed, err := s.store.ChannelsByExternalKey(ctx, kind, missing)
	if err != nil {
		return nil, err
	}
	fresh := s.openAll(sealed)
	for _, c := range fresh {
		s.owners.Store(c.Channel.ID, c.OrganizationID) // receiving asks for it next
	}
	s.sources.put(kind, missing, fresh, now.Add(sourceTTL), round)
	return append(found, fresh...), nil
}

// openAll leaves out what cannot be opened: one channel with damaged secrets must not stop the webhooks of the others.
func (s *Service) openAll(sealed []store.SealedChannel) []OpenChannel {
	channels := make([]OpenChannel, 0, len(sealed))
	for _, c := range sealed {
		open, err := s.open(c)
		if err != nil {
			s.logger.Error("credentials of a channel cannot be opened; its webhooks are refused",
				slog.Int64("channel_id", c.Channel.ID), slog.Any("error", err))
			continue
		}
		channels = append(channels, open)
	}
	return channels
}
