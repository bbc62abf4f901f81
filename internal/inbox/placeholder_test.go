package inbox_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// onWhatsApp is onBoth with a channel that is linked to a phone.
func onWhatsApp(t *testing.T, test func(*testing.T, *customer)) {
	t.Helper()
	onBoth(t, func(t *testing.T, c *customer) {
		c.exec("UPDATE channels SET kind = 'whatsapp' WHERE id = $1", c.channelID)
		test(t, c)
	})
}

func (c *customer) exec(query string, args ...any) {
	c.t.Helper()
	_, err := c.store.SQL().ExecContext(testkit.Context(c.t), query, args...)
	require.NoError(c.t, err)
}

func (c *customer) count(query string, args ...any) (n int) {
	c.t.Helper()
	require.NoError(c.t, c.store.SQL().QueryRowContext(testkit.Context(c.t), query, args...).Scan(&n))
	return n
}

// since are the names of the events behind a count, and the count now.
func (c *customer) since(n int) ([]string, int) {
	all := names(c.events())
	return all[n:], len(all)
}

func waiting(id string, at domain.Time) domain.Inbound {
	in := text(id, "Waiting for this message…", at)
	in.Message.Type, in.Message.Placeholder = domain.TypeUnsupported, true
	return in
}

func TestPlaceholderIsFilledIn(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		c.receive(text("0", "hello", at), waiting("1", at+1000))
		screen := newScreen(t, c)
		_, seen := c.since(0)
		c.receive(waiting("1", at+1000))
		found, seen := c.since(seen)
		require.Empty(t, found, "a second placeholder changes nothing")

		picture := text("1", "look", at+1000)
		picture.Message.Type, picture.Message.ReplyToExternalID = domain.TypeImage, "0"
		picture.Message.Media = &domain.InboundMedia{Ref: "m1", MIME: "image/png"}
		c.receive(picture)
		found, seen = c.since(seen)
		require.Equal(t, []string{"message:updated", "chat:updated"}, found)
		chat := c.chats()[0]
		require.Equal(t, 2, chat.UnreadCount)
		require.Equal(t, domain.TypeImage, chat.LastMessage.Type)
		require.Equal(t, "look", chat.LastMessage.Content)
		message := c.messages(chat.ID)[1]
		require.Equal(t, domain.TypeImage, message.Type)
		require.Equal(t, domain.MediaPending, message.Media.State)
		require.Equal(t, "hello", message.ReplyTo.Content)
		jobs, err := c.store.DueMedia(testkit.Context(t), store.MediaSearch{ChannelID: c.channelID, Limit: 10, Imported: 10})
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.Equal(t, message.ID, jobs[0].MessageID)

		c.receive(waiting("1", at+1000), picture)
		found, _ = c.since(seen)
		require.Empty(t, found, "what is there stays")
		require.Len(t, c.messages(chat.ID), 2)
		require.Equal(t, 1, c.count("SELECT COUNT(*) FROM media"))
		screen.sameAsFresh()
	})
}

// One that is not the last line, or not the customer's, tells of itself alone.
func TestPlaceholderInTheMiddle(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		own := waiting("1", at)
		own.Message.FromMe = true
		c.receive(own, text("2", "later", at+1000))
		_, seen := c.since(0)
		readable := text("1", "from the phone", at)
		readable.Message.FromMe = true
		c.receive(readable)
		found, _ := c.since(seen)
		require.Equal(t, []string{"message:updated"}, found)
		require.Equal(t, []string{"from the phone", "later"}, contents(c.messages(c.chats()[0].ID)))
		require.Equal(t, domain.StatusSent, c.messages(c.chats()[0].ID)[0].Status)
	})
}

func TestUpdatesAroundAPlaceholder(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		grace := peerOf(customerNumber, "Grace")
		react := func(target string) domain.Inbound {
			return domain.Inbound{Reaction: &domain.InboundReaction{Peer: grace, TargetExternalID: target, Emoji: "👍", ProviderTime: at + 2000}}
		}
		edit := func(target string) domain.Inbound {
			return domain.Inbound{Edit: &domain.InboundEdit{Peer: grace, TargetExternalID: target, Content: "edited", ProviderTime: at + 3000}}
		}
		c.receive(react("1"), edit("1"), waiting("1", at), text("1", "first words", at))
		message := c.messages(c.chats()[0].ID)[0]
		require.Equal(t, "edited", message.Content, "the later words stay")
		require.Equal(t, domain.TypeText, message.Type)
		require.Len(t, message.Reactions, 1)

		c.receive(waiting("2", at+1000))
		c.receive(domain.Inbound{Revoke: &domain.InboundRevoke{Peer: grace, TargetExternalID: "2", ProviderTime: at + 4000}})
		screen := newScreen(t, c)
		_, seen := c.since(0)
		photo := text("2", "taken back", at+1000)
		photo.Message.Media = &domain.InboundMedia{Ref: "m2", MIME: "image/png"}
		c.receive(photo)
		found, _ := c.since(seen)
		require.Empty(t, found)
		message = c.messages(c.chats()[0].ID)[1]
		require.NotNil(t, message.RevokedAt)
		require.Empty(t, message.Content)
		require.Equal(t, 0, c.count("SELECT COUNT(*) FROM media"), "nothing is fetched for it")
		screen.sameAsFresh()
	})
}

// The measures count a message once, whenever it could be read.
func TestFillingIsNoSecondMessage(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		ingested, doubles := 0, 0
		service := inbox.New(inbox.Options{Store: c.store, Publisher: c, Waker: c, Logger: testkit.Logger(t), Measures: inbox.Measures{
			Ingested:  func(domain.ChannelKind, time.Duration) { ingested++ },
			Duplicate: func(domain.ChannelKind) { doubles++ },
		}})
		at := c.store.Now()
		for _, in := range []domain.Inbound{waiting("1", at), text("1", "hi", at), text("1", "hi", at), waiting("1", at)} {
			require.NoError(t, service.Receive(testkit.Context(t), c.channelID, []domain.Inbound{in}))
		}
		require.Equal(t, 1, ingested)
		require.Equal(t, 2, doubles)
	})
}

func TestWhatTheOwnPhoneSends(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		at := c.store.Now().Add(-time.Hour)
		c.receive(text("1", "hi", at), text("2", "anyone?", at+1000))
		c.exec("UPDATE chats SET status = 'pending', assignee_id = $1", c.who.UserID)
		own := text("3", "on my way", at+2000)
		own.Message.FromMe = true
		c.receive(own)
		chat := c.chats()[0]
		require.Zero(t, chat.UnreadCount)
		require.Equal(t, domain.ChatPending, chat.Status)
		require.Equal(t, c.who.UserID, *chat.AssigneeID)
		require.True(t, chat.LastMessage.FromMe)
		message := c.messages(chat.ID)[2]
		require.Equal(t, domain.StatusSent, message.Status)
		require.Nil(t, message.SenderUserID)

		// What we have sent ourselves is not another message.
		sent, _, err := c.inbox.Send(ctx, c.who, inbox.SendInput{ChatID: chat.ID, Content: "there soon"})
		require.NoError(t, err)
		c.exec("UPDATE messages SET status = 'sending', external_id = 'ours' WHERE id = $1", sent.ID)
		_, seen := c.since(0)
		echo := text("ours", "there soon", at+3000)
		echo.Message.FromMe = true
		c.receive(echo)
		found, _ := c.since(seen)
		require.Empty(t, found)
		require.Len(t, c.messages(chat.ID), 4)
	})
}

func TestReadOnThePhone(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		read := func(ids ...string) []string {
			_, seen := c.since(0)
			c.receive(domain.Inbound{Read: &domain.InboundRead{Peer: peerOf(customerNumber, ""), ExternalIDs: ids, At: c.store.Now()}})
			found, _ := c.since(seen)
			return found
		}
		require.Empty(t, read("1"), "there is no such chat")
		c.receive(text("1", "one", at), text("2", "two", at+1000), text("3", "three", at+2000))
		late := text("0", "it was long under way", at-1000)
		c.receive(late)
		chat := c.chats()[0]
		messages := c.messages(chat.ID)
		require.Equal(t, 4, chat.UnreadCount)
		screen := newScreen(t, c)
		require.Empty(t, read("nobody knows"))
		require.Equal(t, []string{"messages:read", "chat:updated"}, read("2", "1", "nobody knows"))
		require.Equal(t, 1, c.chats()[0].UnreadCount, "by the provider's time: the late one was before")
		events := c.events()
		require.JSONEq(t, mustJSON(t, domain.MessagesRead{ChatID: chat.ID, ReadByUserID: 0, UpToMessageID: messages[2].ID}), string(events[len(events)-2].Data))
		require.Empty(t, read("1"), "older than what is read")
		require.Equal(t, []string{"messages:read", "chat:updated"}, read("3"))
		require.Zero(t, c.chats()[0].UnreadCount)
		require.Empty(t, read("3"))
		require.Zero(t, c.count("SELECT COUNT(*) FROM commands"), "the phone has told the customer itself")
		screen.sameAsFresh()
	})
}

// A count of unread messages never rises by reading, whatever was imported.
func TestReadingRaisesNoCount(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		c.receive(text("1", "one", at), text("2", "two", at+5000))
		for _, in := range []domain.Inbound{text("h1", "old", at+1000), text("h2", "older", at+2000)} {
			in.Message.Silent = true
			c.receive(in)
		}
		chat := c.chats()[0]
		require.Equal(t, 2, chat.UnreadCount)
		one := c.messages(chat.ID)[0].ID
		chat, err := c.inbox.MarkRead(testkit.Context(t), c.who, chat.ID, &one)
		require.NoError(t, err)
		require.LessOrEqual(t, chat.UnreadCount, 2)
		c.receive(domain.Inbound{Read: &domain.InboundRead{Peer: peerOf(customerNumber, ""), ExternalIDs: []string{"1"}}})
		require.LessOrEqual(t, c.chats()[0].UnreadCount, 2)
	})
}
