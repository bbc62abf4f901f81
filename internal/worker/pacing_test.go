package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/channel/pacing"
	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// paced is a session whose provider has limits.
type paced struct {
	*session
	*pacing.Gate
}

var _ channel.Pacer = paced{}

func (p paced) Sending(now time.Time, m domain.Outbound) { p.Message(now, m.Message.ChatID, m.Peer) }

func (p paced) Doing(now time.Time, c domain.Command) {
	if c.Kind != domain.CommandRead {
		p.Message(now, c.ChatID, c.Peer)
	}
}

// plenty is a limit that is never reached.
var plenty = pacing.Limit{Every: time.Microsecond, Burst: 1000}

// limited makes a worker's sessions keep limits.
func (w *world) limited(all, chat pacing.Limit, changes ...func(*Options)) func(*Options) {
	return func(o *Options) {
		gate := pacing.New(time.Now(), pacing.Limits{All: all, Chat: func(string) pacing.Limit { return chat }})
		o.Factories = map[domain.ChannelKind]channel.Factory{domain.KindTelegram: func(c channel.Config) (channel.Session, error) {
			return paced{&session{p: w.provider, worker: o.ID, config: c}, gate}, nil
		}}
		steadily(o)
		for _, change := range changes {
			change(o)
		}
	}
}

// steadily gives a worker leases that it does not lose on a busy machine.
func steadily(o *Options) { o.LeaseTTL = time.Minute }

// rarely leaves a worker to its timers and wakes: polls come too late.
func rarely(o *Options) { o.PollInterval = time.Hour }

func (w *world) queueBulk(id, chatID, channelID int64) {
	w.queue(id, chatID, channelID)
	w.exec("UPDATE messages SET priority = 1 WHERE id = %d", id)
	w.exec("UPDATE outbox SET priority = 1 WHERE chat_id = %d AND NOT EXISTS (SELECT 1 FROM messages WHERE chat_id = %d AND priority = 0)", chatID, chatID)
}

// TestWaitingIsQueued: what the provider's limits hold back is not claimed, takes
// no place, and survives whatever ends the worker, to be sent once.
func TestWaitingIsQueued(t *testing.T) {
	for _, end := range []string{"killed", "stopped"} {
		t.Run(end, func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) {
				const chats = 12 // more than there are places
				w.channel(1)
				for c := range int64(chats) {
					w.chat(c+1, 1)
					w.queue(2*c+1, c+1, 1)
					w.queue(2*c+2, c+1, 1)
				}
				once := pacing.Limit{Every: time.Hour, Burst: 1}
				a := w.start("a", w.limited(plenty, once))
				w.eventually("the first of every chat", func() bool { return w.one("SELECT COUNT(*) FROM messages WHERE status = 'sent'") == "12" })
				waits := func() {
					require.Equal(t, "12", w.one("SELECT COUNT(*) FROM messages WHERE status = 'queued' AND attempt = 0"))
				}
				waits()
				if end == "killed" {
					a.kill()
					w.eventually("the end of its session", func() bool { return w.provider.owner(1) == "" })
					w.exec("UPDATE leases SET expires_at = 0") // as its time passes
				} else {
					a.Stop()
				}
				waits()
				w.start("b", w.limited(plenty, once))
				w.eventually("the others", func() bool { return w.one("SELECT COUNT(*) FROM messages WHERE status = 'sent'") == "24" })
				for c := range int64(chats) {
					require.Equal(t, []int64{2*c + 1, 2*c + 2}, w.provider.sentTo(c+1))
				}
				require.Equal(t, []string{"sending", "sent"}, w.statuses(2), "it was sending when it left, not before")
			})
		})
	}
}

// TestWakesAtTheMoment: a message goes when its chat, the channel or its
// back-off lets it, without a poll.
func TestWakesAtTheMoment(t *testing.T) {
	every := 150 * time.Millisecond
	for name, limit := range map[string][2]pacing.Limit{
		"chat":    {plenty, {Every: every, Burst: 1}},
		"channel": {{Every: every, Burst: 1}, plenty},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) {
				w.channel(1)
				for id := int64(1); id <= 4; id++ {
					chat := int64(1)
					if name == "channel" {
						chat = id
					}
					if id == 1 || chat > 1 {
						w.chat(chat, 1)
					}
					w.queue(id, chat, 1)
				}
				w.start("a", w.limited(limit[0], limit[1], rarely))
				w.eventuallyStatus(4, domain.StatusSent)
				w.provider.mu.Lock()
				defer w.provider.mu.Unlock()
				require.Len(t, w.provider.sent, 4)
				took := w.provider.sent[3].at.Sub(w.provider.sent[0].at)
				require.GreaterOrEqual(t, took, every, "they do not go together") // it is 3, less what the first one was late
			})
		})
	}
	t.Run("back-off", func(t *testing.T) {
		onBoth(t, func(t *testing.T, w *world) {
			w.channel(1)
			w.chat(1, 1)
			w.queue(1, 1, 1)
			w.exec("UPDATE messages SET retries = 10 WHERE id = 1") // one more that counts, and it fails
			tries := 0
			w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
				if tries++; tries == 1 {
					return channel.Sent{}, &channel.SendError{
						Outcome: channel.NotSent, Code: "rate_limited", Message: "Too many.", RetryAfter: time.Second, Limited: true,
					}
				}
				return s.accept(out), nil
			}
			w.start("a", func(o *Options) {
				steadily(o)
				rarely(o)
			})
			w.eventuallyStatus(1, domain.StatusSent)
			require.Equal(t, "10", w.one("SELECT retries FROM messages WHERE id = 1"), "a limit does not count")
		})
	})
}

// TestBulkLeavesPlaces: bulk that hangs does not keep a reply waiting.
func TestBulkLeavesPlaces(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		for c := range int64(20) {
			w.chat(c+1, 1)
		}
		for c := range int64(12) {
			w.queueBulk(c+1, c+1, 1)
		}
		release := make(chan struct{})
		defer close(release)
		w.provider.send = func(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			if out.Message.Priority == domain.MessageBulk {
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return s.accept(out), nil
		}
		w.start("a", steadily)
		sending := func() string { return w.one("SELECT COUNT(*) FROM messages WHERE status = 'sending'") }
		w.eventually("bulk to take its places", func() bool { return sending() == "6" })
		for i := range int64(8) {
			w.queue(100+i, 13+i, 1)
			w.eventuallyStatus(100+i, domain.StatusSent)
		}
		require.Equal(t, "6", sending())
		require.Equal(t, 6, bulkPlaces(8))
		require.Equal(t, 1, bulkPlaces(2))
		require.Equal(t, 1, bulkPlaces(1), "alone it takes turns")
	})
}

// TestReplyGoesBeforeBulk: while a channel works off bulk as fast as it may, a
// reply and an edit go next.
func TestReplyGoesBeforeBulk(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const bulk = 200
		w.channel(1)
		for c := range int64(bulk + 2) {
			w.chat(c+1, 1)
		}
		w.inbound(500, bulk+2, 1)
		for c := range int64(bulk) {
			w.queueBulk(c+1, c+1, 1)
		}
		edited := make(chan struct{})
		w.provider.do = func(context.Context, domain.Command) error {
			close(edited)
			return nil
		}
		sentSoFar := func() int {
			w.provider.mu.Lock()
			defer w.provider.mu.Unlock()
			return len(w.provider.sent)
		}
		w.start("a", w.limited(pacing.Limit{Every: 60 * time.Millisecond, Burst: 1}, plenty))
		w.eventually("bulk to go", func() bool { return sentSoFar() > 2 })
		w.queue(1000, bulk+1, 1)
		before := sentSoFar()
		w.eventuallyStatus(1000, domain.StatusSent)
		w.provider.mu.Lock()
		place := slices.IndexFunc(w.provider.sent, func(s sentMessage) bool { return s.id == 1000 })
		w.provider.mu.Unlock()
		require.LessOrEqual(t, place, before+bulkPlaces(8), "after what had been claimed already")
		w.command(1, bulk+2, 500, domain.CommandReaction, "x")
		<-edited
		require.Less(t, sentSoFar(), bulk, "commands do not wait for the end of the bulk")
	})
}

// TestCommandsKeepThePace: what the provider counts waits like a message, read
// receipts do not.
func TestCommandsKeepThePace(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.channel(1)
		for c := range int64(3) {
			w.chat(c+1, 1)
			w.inbound(c+1, c+1, 1)
		}
		w.queue(10, 1, 1)
		r := &recorder{}
		w.provider.do = r.do
		w.start("a", w.limited(plenty, pacing.Limit{Every: time.Hour, Burst: 1}))
		w.eventuallyStatus(10, domain.StatusSent)
		w.command(1, 1, 1, domain.CommandRead, "")
		w.command(2, 1, 1, domain.CommandReaction, "x") // its chat has had its message
		w.command(3, 2, 2, domain.CommandReaction, "x")
		w.command(4, 2, 2, domain.CommandEdit, "y") // after the reaction
		w.command(5, 3, 3, domain.CommandReaction, "x")
		w.eventually("what may go", func() bool { return len(r.ids()) == 3 })
		require.ElementsMatch(t, []int64{1, 3, 5}, r.ids())
		w.queue(11, 3, 1)
		w.queue(12, 2, 1)
		w.chat(4, 1)
		w.queue(13, 4, 1)
		w.eventuallyStatus(13, domain.StatusSent)
		require.ElementsMatch(t, []int64{1, 3, 5}, r.ids())
		require.Equal(t, "queued", w.status(11), "the reaction was the chat's message")
		require.Equal(t, "queued", w.status(12))
		require.Equal(t, "0", w.one("SELECT SUM(attempts) FROM commands"))
	})
}

// TestOrderUnderLimits mixes priorities, chats and refusals at random under
// limits: every message arrives once, in the order of its chat, and no stretch of
// time holds more than the provider lets through.
func TestOrderUnderLimits(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const chats, messages = 6, 80
		random := testkit.Rand(t)
		all, chat := pacing.Limit{Every: 15 * time.Millisecond, Burst: 3}, pacing.Limit{Every: 80 * time.Millisecond, Burst: 2}
		w.channel(1)
		for c := range int64(chats) {
			w.chat(c+1, 1)
		}
		var mu sync.Mutex
		refused := 0
		w.provider.send = func(_ context.Context, s *session, out domain.Outbound) (channel.Sent, error) {
			mu.Lock()
			defer mu.Unlock()
			if out.Attempt == 1 && random.IntN(15) == 0 {
				refused++
				return channel.Sent{}, &channel.SendError{Outcome: channel.NotSent, Code: "rate_limited", Limited: true}
			}
			return s.accept(out), nil
		}
		w.start("a", w.limited(all, chat))
		for i := range int64(messages) {
			mu.Lock()
			c, bulk := 1+random.Int64N(chats), random.IntN(2) == 0
			mu.Unlock()
			if bulk {
				w.queueBulk(i+1, c, 1)
			} else {
				w.queue(i+1, c, 1)
			}
		}
		w.eventually("the outbox to be empty", func() bool {
			return w.one("SELECT COUNT(*) FROM messages WHERE status = 'sent'") == fmt.Sprint(messages)
		})
		total := 0
		for c := range int64(chats) {
			order := w.provider.sentTo(c + 1)
			require.True(t, slices.IsSorted(order), "chat %d: %v", c+1, order)
			total += len(slices.Compact(order))
		}
		require.Equal(t, messages, total)
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		require.Len(t, w.provider.sent, messages, "nothing twice")
		first, last := w.provider.sent[0].at, w.provider.sent[messages-1].at
		require.GreaterOrEqual(t, last.Sub(first), messages/2*all.Every, "all in all it kept the pace")
	})
}
