package inbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
)

// customer is an organization with a WABA channel, and what its inbox publishes.
type customer struct {
	t         *testing.T
	store     *store.Store
	inbox     *inbox.Service
	who       domain.Principal
	channelID int64

	mu        sync.Mutex // guards published and typed
	published []domain.Event
	typed     []string
}

func (c *customer) Publish(events []domain.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published = append(c.published, events...)
}
func (c *customer) User(int64, string, any) error { return nil }
func (c *customer) Typing(chatID int64, on bool, data any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.typed = append(c.typed, fmt.Sprint(chatID, on, data))
	return nil
}
func (c *customer) Wake(int64)   {}
func (c *customer) Attend(int64) {}

// onBoth runs a test on PostgreSQL and on SQLite.
func onBoth(t *testing.T, test func(*testing.T, *customer)) {
	t.Helper()
	for name, open := range map[string]func(testing.TB) string{"postgres": storetest.Postgres, "sqlite": storetest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := store.Open(testkit.Context(t), open(t), store.Options{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			test(t, newCustomer(t, s, "a"))
		})
	}
}

func newCustomer(t *testing.T, s *store.Store, name string) *customer {
	t.Helper()
	c := &customer{t: t, store: s}
	c.inbox = inbox.New(inbox.Options{Store: s, Publisher: c, Waker: c, Logger: testkit.Logger(t)})
	user, err := s.CreateOrganization(testkit.Context(t), store.Registration{
		OrganizationName: name, UserName: "Ada", Email: name + "@example.com", PasswordHash: "x",
	}, false)
	require.NoError(t, err)
	c.who = domain.Principal{UserID: user.ID, OrganizationID: user.OrganizationID, Role: domain.RoleAdmin}
	err = s.SQL().QueryRowContext(testkit.Context(t), `INSERT INTO channels
		(organization_id, kind, name, config, external_key, enabled, state, state_since, created_at, updated_at)
		VALUES ($1, 'waba', 'Sales', '{}', $2, $3, 'connected', 1, 1, 1) RETURNING id`, user.OrganizationID, "key-"+name, true).Scan(&c.channelID)
	require.NoError(t, err)
	return c
}

func (c *customer) receive(items ...domain.Inbound) {
	c.t.Helper()
	require.NoError(c.t, c.inbox.Receive(testkit.Context(c.t), c.channelID, items))
}

const customerNumber = "4915112345678"

func peerOf(number, name string) domain.Peer {
	return domain.Peer{Address: number, Kind: domain.ChatDirect, Name: name, Identities: []domain.Identity{{Kind: domain.IdentityPhone, Value: number}}}
}

func text(id, content string, at domain.Time) domain.Inbound {
	return domain.Inbound{Message: &domain.InboundMessage{
		ExternalID: id, Peer: peerOf(customerNumber, "Grace"), Type: domain.TypeText, Content: content, ProviderTime: at,
	}}
}

// events reads the whole log and checks that it has no gap.
func (c *customer) events() []domain.Event {
	c.t.Helper()
	var all []domain.Event
	for after := int64(0); ; {
		page, err := c.store.EventsAfter(testkit.Context(c.t), c.who.OrganizationID, after, 3)
		require.NoError(c.t, err)
		require.False(c.t, page.Resync)
		for _, e := range page.Events {
			after++
			require.Equal(c.t, after, e.Seq, "the log has a gap")
		}
		all = append(all, page.Events...)
		if after == page.Head {
			return all
		}
	}
}

func names(events []domain.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.Name)
	}
	return out
}

func (c *customer) chats() []domain.Chat {
	c.t.Helper()
	listed, err := c.store.Chats(testkit.Context(c.t), c.who.OrganizationID, store.ChatFilter{Limit: 100})
	require.NoError(c.t, err)
	var chats []domain.Chat
	for _, l := range listed {
		chats = append(chats, l.Chat)
	}
	return chats
}

func (c *customer) messages(chatID int64) []domain.Message {
	c.t.Helper()
	messages, err := c.store.MessagesOf(testkit.Context(c.t), c.who.OrganizationID, store.MessageFilter{ChatID: chatID, Limit: 1000})
	require.NoError(c.t, err)
	return messages
}

func TestReceiveMakesChatMessageAndEvents(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		c.receive(text("wamid.1", "Hello 👋", at))
		c.receive(text("wamid.2", "Anyone there?", at+1000))

		chats := c.chats()
		require.Len(t, chats, 1)
		require.Equal(t, 2, chats[0].UnreadCount)
		require.Equal(t, "Grace", chats[0].Contact.Name)
		require.Equal(t, customerNumber, chats[0].Contact.Phone)
		require.Equal(t, "Anyone there?", chats[0].LastMessage.Content)
		require.Equal(t, at.Add(time.Second+24*time.Hour), *chats[0].WindowExpiresAt)
		messages := c.messages(chats[0].ID)
		require.Len(t, messages, 2)
		require.Equal(t, "Hello 👋", messages[0].Content)
		require.Equal(t, at, messages[0].ProviderTime)

		events := c.events()
		require.Equal(t, []string{"chat:new", "message:new", "message:new", "chat:updated"}, names(events))
		require.Equal(t, events, c.published, "what was published is what was committed, in order")
		require.JSONEq(t, mustJSON(t, chats[0]), string(events[3].Data), "the last event shows the chat as it is")
	})
}

func TestRedeliveryChangesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now()
		picture := domain.Inbound{Message: &domain.InboundMessage{
			ExternalID: "wamid.p", Peer: peerOf(customerNumber, "Grace"), Type: domain.TypeImage, ProviderTime: at,
			Media: &domain.InboundMedia{Ref: "m1", MIME: "image/png"},
		}}
		reaction := domain.Inbound{Reaction: &domain.InboundReaction{
			ExternalID: "wamid.r", Peer: peerOf(customerNumber, "Grace"), TargetExternalID: "wamid.p", Emoji: "👍", ProviderTime: at,
		}}
		removal := domain.Inbound{Reaction: &domain.InboundReaction{
			ExternalID: "wamid.r2", Peer: peerOf(customerNumber, "Grace"), TargetExternalID: "wamid.p", ProviderTime: at,
		}}
		all := []domain.Inbound{picture, reaction, removal}
		c.receive(all...)
		before := c.events()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := c.inbox.Receive(context.Background(), c.channelID, all); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, before, c.events(), "a redelivery made an event")
		messages := c.messages(c.chats()[0].ID)
		require.Len(t, messages, 1)
		require.Empty(t, messages[0].Reactions, "the removal stands")
		var files int
		require.NoError(t, c.store.SQL().QueryRowContext(testkit.Context(t), "SELECT COUNT(*) FROM media").Scan(&files))
		require.Equal(t, 1, files, "a duplicate left a file behind")
	})
}

// Of the statuses that wait for a message one is kept, the furthest.
func TestEarlyStatusesAreFew(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now()
		for range 3 {
			for _, status := range []domain.MessageStatus{domain.StatusDelivered, domain.StatusRead, domain.StatusDelivered} {
				c.receive(domain.Inbound{Status: &domain.InboundStatus{ExternalID: "phone", Status: status, At: at}})
			}
		}
		require.Equal(t, 1, c.count("SELECT COUNT(*) FROM early_updates"))
		sent := text("phone", "From the phone", at)
		sent.Message.FromMe = true
		c.receive(sent)
		require.Equal(t, domain.StatusRead, c.messages(c.chats()[0].ID)[0].Status)
		require.Zero(t, c.count("SELECT COUNT(*) FROM early_updates"))
	})
}

// What was taken back is not shown any more: no words, no file, no place.
func TestRevocationTakesEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now()
		grace := peerOf(customerNumber, "Grace")
		c.receive(
			domain.Inbound{Message: &domain.InboundMessage{
				ExternalID: "photo", Peer: grace, Type: domain.TypeImage, Content: "Look", ProviderTime: at, Media: &domain.InboundMedia{Ref: "m1", MIME: "image/png"},
			}},
			domain.Inbound{Message: &domain.InboundMessage{
				ExternalID: "place", Peer: grace, Type: domain.TypeLocation, ProviderTime: at + 1, Location: &domain.Location{Latitude: 1, Longitude: 2},
			}},
		)
		for _, target := range []string{"photo", "place"} {
			c.receive(domain.Inbound{Revoke: &domain.InboundRevoke{Peer: grace, TargetExternalID: target, ProviderTime: at + 2}})
		}
		for _, m := range c.messages(c.chats()[0].ID) {
			require.NotNil(t, m.RevokedAt)
			require.Empty(t, m.Content)
			require.Nil(t, m.Media)
			require.Nil(t, m.Location)
		}
		require.Zero(t, c.count("SELECT COUNT(*) FROM media WHERE state <> 'deleted'"), "the file is let go of")
		last := c.chats()[0].LastMessage
		require.Equal(t, domain.TypeText, last.Type)
		require.Empty(t, last.Content)
	})
}

func TestFirstMessagesOfOneCustomerAtOnceMakeOneChat(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				if err := c.inbox.Receive(context.Background(), c.channelID, []domain.Inbound{text(fmt.Sprint("wamid.", i), "hi", c.store.Now())}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		chats := c.chats()
		require.Len(t, chats, 1)
		require.Equal(t, 16, chats[0].UnreadCount)
		require.Len(t, c.messages(chats[0].ID), 16)
		require.Len(t, c.events(), 2*16)
	})
}

func TestLateMessageDoesNotReplaceANewerOnesLine(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		c.receive(text("wamid.new", "newer", at+5000))
		c.receive(text("wamid.old", "older", at))
		chat := c.chats()[0]
		require.Equal(t, "newer", chat.LastMessage.Content)
		require.Equal(t, 2, chat.UnreadCount)
		require.Equal(t, []string{"older", "newer"}, contents(c.messages(chat.ID)))
	})
}

func TestMessageFromTheFutureIsDatedNow(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		c.receive(text("wamid.f", "from tomorrow", c.store.Now().Add(24*time.Hour)))
		require.Less(t, c.messages(c.chats()[0].ID)[0].ProviderTime, c.store.Now().Add(2*time.Minute))
	})
}

func TestPoisonIsSetAsideAndTheRestGoesOn(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		items := make([]domain.Inbound, 0, 50)
		for i := range 50 {
			items = append(items, text(fmt.Sprint("wamid.", i), fmt.Sprint("message ", i), c.store.Now()))
		}
		items[17] = domain.Inbound{} // holds nothing: can never be stored
		for range 3 {
			c.receive(items...)
		}
		require.Len(t, c.messages(c.chats()[0].ID), 49)
		rejects, err := c.store.Rejects(testkit.Context(t), c.channelID)
		require.NoError(t, err)
		require.EqualValues(t, 1, rejects)
	})
}

// F9: whatever the order in which reports come, also before the send returned,
// the end is the same and no event goes back.
func TestStatusesInEveryOrder(t *testing.T) {
	reports := []domain.MessageStatus{domain.StatusSent, domain.StatusDelivered, domain.StatusRead, domain.StatusFailed}
	test := func(t *testing.T, c *customer, named bool) {
		c.receive(text("wamid.0", "hello", c.store.Now()))
		chatID := c.chats()[0].ID
		marks := []bool{true, false}
		if named {
			marks = marks[1:] // its reports know the name only
		}
		for _, marked := range marks {
			for _, order := range permutations(len(reports)) {
				for returned := range len(reports) + 1 { // the send returns after so many reports
					message, _, err := c.inbox.Send(testkit.Context(t), c.who, inbox.SendInput{ChatID: chatID, Content: "answer"})
					require.NoError(t, err)
					external := fmt.Sprintf("wamid.out.%d", message.ID)
					setSending(t, c, message.ID)
					if named {
						c.exec("UPDATE messages SET external_id = $1 WHERE id = $2", external, message.ID)
					}
					for i, r := range order {
						if i == returned {
							settle(t, c, message.ID, external)
						}
						status := domain.InboundStatus{ExternalID: external, Status: reports[r]}
						if marked {
							status.MessageID, status.Attempt = message.ID, 1
						}
						c.receive(domain.Inbound{Status: &status})
					}
					if returned == len(reports) {
						settle(t, c, message.ID, external)
					}
					after, err := c.store.Message(testkit.Context(t), c.who.OrganizationID, message.ID)
					require.NoError(t, err)
					require.Equal(t, domain.StatusRead, after.Status, "order %v, returned after %d", order, returned)
					require.Equal(t, external, after.ExternalID)
				}
			}
		}
		rank := map[int64]int{}
		for _, e := range c.events() {
			if e.Name != domain.EventMessageStatus {
				continue
			}
			var change domain.MessageStatusChange
			require.NoError(t, json.Unmarshal(e.Data, &change))
			require.Greater(t, change.Status.Rank(), rank[change.MessageID], "a status went back")
			rank[change.MessageID] = change.Status.Rank()
		}
	}
	t.Run("waba", func(t *testing.T) { onBoth(t, func(t *testing.T, c *customer) { test(t, c, false) }) })
	// There the message has its name before it leaves, and every member of a group reports.
	t.Run("whatsapp", func(t *testing.T) { onWhatsApp(t, func(t *testing.T, c *customer) { test(t, c, true) }) })
}

// A report of what nobody here has sent waits for its message: the own phone's may come after it.
func TestAReportBeforeItsMessage(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		report := func(status domain.MessageStatus) {
			c.receive(domain.Inbound{Status: &domain.InboundStatus{ExternalID: "phone", Status: status, At: c.store.Now()}})
		}
		report(domain.StatusRead)
		report(domain.StatusDelivered)
		own := text("phone", "from the phone", c.store.Now())
		own.Message.FromMe = true
		c.receive(own)
		report(domain.StatusDelivered)
		require.Equal(t, domain.StatusRead, c.messages(c.chats()[0].ID)[0].Status)
		require.Equal(t, []string{"chat:new", "message:new", "message:status"}, names(c.events()))
	})
}

func setSending(t *testing.T, c *customer, messageID int64) {
	t.Helper()
	_, err := c.store.SQL().ExecContext(testkit.Context(t), "UPDATE messages SET status = 'sending', attempt = 1, sending_term = 1 WHERE id = $1", messageID)
	require.NoError(t, err)
}

// settle does what a worker does when a send was accepted.
func settle(t *testing.T, c *customer, messageID int64, external string) {
	t.Helper()
	_, err := c.store.SQL().ExecContext(testkit.Context(t), `INSERT INTO leases (channel_id, worker_id, term, expires_at)
		VALUES ($1, 'w', 1, 9999999999999) ON CONFLICT DO NOTHING`, c.channelID)
	require.NoError(t, err)
	require.NoError(t, c.inbox.SettleSend(testkit.Context(t), c.who.OrganizationID, store.Lease{ChannelID: c.channelID, WorkerID: "w", Term: 1},
		inbox.SendResult{MessageID: messageID, Attempt: 1, Outcome: inbox.SendAccepted, ExternalID: external}))
}

func TestStatusOfAnEarlierAttemptCountsOnlyIfItArrived(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		c.receive(text("wamid.0", "hello", c.store.Now()))
		message, _, err := c.inbox.Send(testkit.Context(t), c.who, inbox.SendInput{ChatID: c.chats()[0].ID, Content: "answer"})
		require.NoError(t, err)
		_, err = c.store.SQL().ExecContext(testkit.Context(t), "UPDATE messages SET status = 'sending', attempt = 2 WHERE id = $1", message.ID)
		require.NoError(t, err)
		report := func(status domain.MessageStatus) domain.MessageStatus {
			c.receive(domain.Inbound{Status: &domain.InboundStatus{ExternalID: "wamid.first", MessageID: message.ID, Attempt: 1, Status: status}})
			m, err := c.store.Message(testkit.Context(t), c.who.OrganizationID, message.ID)
			require.NoError(t, err)
			return m.Status
		}
		require.Equal(t, domain.StatusSending, report(domain.StatusFailed))
		require.Equal(t, domain.StatusDelivered, report(domain.StatusDelivered))
	})
}

func TestReactionAndEditThatOvertakeTheirMessage(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now()
		c.receive(domain.Inbound{Reaction: &domain.InboundReaction{
			ExternalID: "r", Peer: peerOf(customerNumber, "Grace"), TargetExternalID: "late", Emoji: "🎉", ProviderTime: at + 2000,
		}})
		c.receive(domain.Inbound{Edit: &domain.InboundEdit{
			ExternalID: "e", Peer: peerOf(customerNumber, "Grace"), TargetExternalID: "late", Content: "edited", ProviderTime: at + 3000,
		}})
		require.Empty(t, c.events(), "nothing to show yet")
		c.receive(text("late", "original", at))
		message := c.messages(c.chats()[0].ID)[0]
		require.Equal(t, "edited", message.Content)
		require.Equal(t, []domain.Reaction{{Emoji: "🎉", SenderName: "Grace"}}, message.Reactions)
		require.Equal(t, "edited", c.chats()[0].LastMessage.Content)
	})
}

func TestCustomerUnderANewAddressKeepsTheChat(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		c.receive(text("wamid.1", "with my number", c.store.Now()))
		hidden := peerOf("US.1234567890", "Grace")
		hidden.Identities = []domain.Identity{{Kind: domain.IdentityPhone, Value: customerNumber}, {Kind: domain.IdentityBSUID, Value: "US.1234567890"}}
		c.receive(domain.Inbound{Message: &domain.InboundMessage{
			ExternalID: "wamid.2", Peer: hidden, Type: domain.TypeText, Content: "hidden now", ReplyToExternalID: "wamid.1", ProviderTime: c.store.Now(),
		}})
		chats := c.chats()
		require.Len(t, chats, 1)
		messages := c.messages(chats[0].ID)
		require.Len(t, messages, 2)
		require.Equal(t, "with my number", messages[1].ReplyTo.Content)
		c.receive(domain.Inbound{Reaction: &domain.InboundReaction{
			ExternalID: "r", Peer: peerOf(customerNumber, "Grace"), TargetExternalID: "wamid.2", Emoji: "🙈", ProviderTime: c.store.Now(),
		}})
		require.Len(t, c.messages(chats[0].ID)[1].Reactions, 1)
	})
}

// F17: a screen that applies the events to an old snapshot shows what a fresh
// snapshot shows, after any mix of things that can happen.
func TestSnapshotPlusEventsIsAFreshSnapshot(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		rng := testkit.Rand(t)
		c.receive(text("wamid.first", "hello", c.store.Now()))
		screen := newScreen(t, c)
		for i := range 250 {
			c.randomStep(rng, i)
			if i%30 == 0 {
				screen.catchUp()
			}
		}
		screen.sameAsFresh()
	})
}

func (c *customer) randomStep(rng *rand.Rand, i int) {
	c.t.Helper()
	ctx := testkit.Context(c.t)
	chats := c.chats()
	number := fmt.Sprintf("49151000%03d", rng.IntN(4))
	chat := chats[rng.IntN(len(chats))]
	messages := c.messages(chat.ID)
	message := messages[rng.IntN(len(messages))]
	switch rng.IntN(14) {
	case 0, 1:
		c.receive(domain.Inbound{Message: &domain.InboundMessage{
			ExternalID: fmt.Sprint("wamid.", i), Peer: peerOf(number, "Customer "+number), Type: domain.TypeText, Content: fmt.Sprint("text ", i),
			ProviderTime: c.store.Now().Add(-time.Duration(rng.IntN(100)) * time.Second),
		}})
	case 2:
		_, _, err := c.inbox.Send(ctx, c.who, inbox.SendInput{ChatID: chat.ID, Content: fmt.Sprint("answer ", i)})
		require.NoError(c.t, err)
	case 3:
		_, err := c.inbox.MarkRead(ctx, c.who, chat.ID, nil)
		require.NoError(c.t, err)
	case 4:
		_, err := c.inbox.React(ctx, c.who, message.ID, []string{"👍", "❤️", ""}[rng.IntN(3)])
		if message.RevokedAt == nil {
			require.NoError(c.t, err)
		}
	case 5:
		if message.FromMe {
			statuses := []domain.MessageStatus{domain.StatusSent, domain.StatusFailed, domain.StatusDelivered, domain.StatusRead}
			c.receive(domain.Inbound{Status: &domain.InboundStatus{
				MessageID: message.ID, Status: statuses[rng.IntN(4)], Error: &domain.SendError{Code: "c", Message: "m"},
			}})
		}
	case 6:
		_, err := c.inbox.Retry(ctx, c.who, message.ID)
		if err != nil {
			require.Equal(c.t, domain.CodeConflict, domain.CodeOf(err))
		}
	case 7:
		_, err := c.inbox.Revoke(ctx, c.who, message.ID)
		if err != nil {
			require.Contains(c.t, []domain.Code{domain.CodeConflict, domain.CodeUnsupported}, domain.CodeOf(err))
		}
	case 9, 10: // from the hidden address of one of them, of whom some day it is known
		c.receive(from(hiddenOf(number), fmt.Sprint("wamid.lid.", i), fmt.Sprint("hidden ", i), c.store.Now().Add(-time.Duration(rng.IntN(100))*time.Second)))
		if rng.IntN(4) == 0 {
			peer := hiddenOf(number)
			peer.Name = fmt.Sprint("Name ", i)
			peer.Identities = append(peer.Identities, domain.Identity{Kind: domain.IdentityPhone, Value: number})
			c.receive(domain.Inbound{Contact: &domain.InboundContact{Peer: peer}})
		}
	case 11:
		unreadable := from(peerOf(number, ""), fmt.Sprint("wamid.late.", i), "Waiting for this message…", c.store.Now())
		unreadable.Message.Type, unreadable.Message.Placeholder = domain.TypeUnsupported, true
		c.receive(unreadable)
		if rng.IntN(2) == 0 {
			c.receive(from(peerOf(number, ""), fmt.Sprint("wamid.late.", i), "readable", c.store.Now()))
		}
	case 12:
		c.receive(domain.Inbound{Read: &domain.InboundRead{Peer: peerOf(chat.Contact.Phone, ""), ExternalIDs: []string{message.ExternalID, "unknown"}}})
	case 13:
		c.receive(chunk(1+rng.IntN(3), 1+rng.IntN(5), c.store.Now().Add(-time.Hour)))
	case 8:
		c.receive(domain.Inbound{Reaction: &domain.InboundReaction{
			ExternalID: fmt.Sprint("r.", i), Peer: peerOf(chat.Contact.Phone, chat.Contact.Name), TargetExternalID: message.ExternalID, Emoji: "🙂",
			ProviderTime: c.store.Now(),
		}})
	}
}

func hiddenOf(number string) domain.Peer {
	address := number[len(number)-3:] + "@lid"
	return domain.Peer{Address: address, Kind: domain.ChatDirect, Identities: []domain.Identity{{Kind: domain.IdentityLID, Value: address}}}
}

// screen is what an operator's page knows: a snapshot, and the events since.
type screen struct {
	c        *customer
	seq      int64
	chats    map[int64]string
	messages map[int64]string
}

func newScreen(t *testing.T, c *customer) *screen {
	t.Helper()
	s := &screen{c: c, chats: map[int64]string{}, messages: map[int64]string{}}
	for _, e := range c.events() {
		s.seq = e.Seq
	}
	for _, chat := range c.chats() {
		s.chats[chat.ID] = mustJSON(t, chat)
		for _, m := range c.messages(chat.ID) {
			s.messages[m.ID] = mustJSON(t, m)
		}
	}
	return s
}

func (s *screen) catchUp() {
	t := s.c.t
	t.Helper()
	for _, e := range s.c.events()[s.seq:] {
		s.seq = e.Seq
		switch e.Name {
		case domain.EventChatNew, domain.EventChatUpdated:
			var chat domain.Chat
			require.NoError(t, json.Unmarshal(e.Data, &chat))
			s.chats[chat.ID] = mustJSON(t, chat)
		case domain.EventMessageNew, domain.EventMessageUpdated:
			var m domain.Message
			require.NoError(t, json.Unmarshal(e.Data, &m))
			s.messages[m.ID] = mustJSON(t, m)
		case domain.EventMessageStatus:
			var change domain.MessageStatusChange
			require.NoError(t, json.Unmarshal(e.Data, &change))
			var m domain.Message
			require.NoError(t, json.Unmarshal([]byte(s.messages[change.MessageID]), &m))
			m.Status, m.Error = change.Status, change.Error
			s.messages[m.ID] = mustJSON(t, m)
		case domain.EventChatDeleted:
			var gone domain.ChatDeleted
			require.NoError(t, json.Unmarshal(e.Data, &gone))
			delete(s.chats, gone.ChatID)
			for id, text := range s.messages {
				var m domain.Message
				require.NoError(t, json.Unmarshal([]byte(text), &m))
				if m.ChatID == gone.ChatID {
					delete(s.messages, id)
				}
			}
		case domain.EventMessagesImported: // the screen reads the messages of these chats anew
			var told domain.MessagesImported
			require.NoError(t, json.Unmarshal(e.Data, &told))
			s.refetch(told.ChatIDs)
		case domain.EventMessagesRead: // the chat:updated beside it has the count
		default:
			t.Fatalf("the screen does not know %s", e.Name)
		}
	}
}

func (s *screen) refetch(chatIDs []int64) {
	t := s.c.t
	t.Helper()
	for id, text := range s.messages {
		var m domain.Message
		require.NoError(t, json.Unmarshal([]byte(text), &m))
		if slices.Contains(chatIDs, m.ChatID) {
			delete(s.messages, id)
		}
	}
	for _, chatID := range chatIDs {
		messages, err := s.c.store.MessagesOf(testkit.Context(t), s.c.who.OrganizationID, store.MessageFilter{ChatID: chatID, Limit: 1000})
		if domain.CodeOf(err) == domain.CodeNotFound {
			continue // it is gone since
		}
		require.NoError(t, err)
		for _, m := range messages {
			s.messages[m.ID] = mustJSON(t, m)
		}
	}
}

// sameAsFresh checks that the screen, with the events since, shows what a new one does.
func (s *screen) sameAsFresh() {
	t := s.c.t
	t.Helper()
	s.catchUp()
	fresh := newScreen(t, s.c)
	require.Equal(t, fresh.chats, s.chats)
	require.Equal(t, fresh.messages, s.messages)
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

func contents(messages []domain.Message) []string {
	var out []string
	for _, m := range messages {
		out = append(out, m.Content)
	}
	return out
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, shorter := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(shorter), at, n-1))
		}
	}
	return all
}
