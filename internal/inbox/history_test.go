package inbox_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// chunk is a part of a history: chats with messages in turn, one a minute, the
// last of them at a time.
func chunk(chats, messages int, last domain.Time) domain.Inbound {
	history := &domain.InboundHistory{}
	for n := range chats {
		number := fmt.Sprintf("4915200%05d", n)
		chat := domain.InboundChat{Peer: peerOf(number, "Old friend "+fmt.Sprint(n))}
		for i := range messages {
			in := domain.InboundMessage{
				ExternalID: fmt.Sprintf("h.%d.%d", n, i), Peer: chat.Peer, FromMe: i%2 == 1, Type: domain.TypeText, Content: fmt.Sprintf("line %d of chat %d", i, n),
				ProviderTime: last.Add(-time.Duration(messages-1-i) * time.Minute), Silent: true,
			}
			if in.FromMe {
				in.Status = domain.StatusRead
			}
			chat.Items = append(chat.Items, domain.Inbound{Message: &in})
		}
		history.Chats = append(history.Chats, chat)
	}
	return domain.Inbound{History: history}
}

func TestHistoryIsImported(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		last := c.store.Now().Add(-24 * time.Hour)
		c.receive(text("live", "I am here already", c.store.Now()))
		screen := newScreen(t, c)
		_, seen := c.since(0)
		in := chunk(3, 5, last)
		first := &in.History.Chats[0]
		first.Items[2].Message.ReplyToExternalID = "h.0.1"
		first.Items[2].Message.Type, first.Items[2].Message.Media = domain.TypeImage, &domain.InboundMedia{Ref: "old picture", MIME: "image/png"}
		for _, emoji := range []string{"👍", "🌵"} {
			first.Items = append(first.Items, domain.Inbound{Reaction: &domain.InboundReaction{TargetExternalID: "h.0.1", Emoji: emoji, ProviderTime: last}})
			last++
		}
		known := domain.InboundChat{Peer: peerOf(customerNumber, "An old name"), Items: chunk(1, 2, last).History.Chats[0].Items}
		for i := range known.Items {
			known.Items[i].Message.ExternalID = fmt.Sprint("g.", i)
		}
		in.History.Chats = append(in.History.Chats, known)
		c.receive(in)

		found, seen := c.since(seen)
		require.Equal(t, []string{"chat:new", "chat:new", "chat:new", "chat:updated", "messages:imported"}, found)
		chats := c.chats()
		require.Len(t, chats, 4)
		require.Equal(t, "I am here already", chats[0].LastMessage.Content, "newest activity first")
		require.Equal(t, "Grace", chats[0].Contact.Name, "a name from before replaces none")
		require.Equal(t, 1, chats[0].UnreadCount)
		require.Len(t, c.messages(chats[0].ID), 3)
		events := c.events()
		var told domain.MessagesImported
		decode(t, events[len(events)-1].Data, &told)
		require.Equal(t, c.channelID, told.ChannelID)
		require.Len(t, told.ChatIDs, 4)
		require.JSONEq(t, fmt.Sprintf(`{"channelId":%d,"chatIds":%s}`, c.channelID, mustJSON(t, told.ChatIDs)), string(events[len(events)-1].Data))
		old := c.messages(told.ChatIDs[0])
		require.Equal(t, []string{"line 0 of chat 0", "line 1 of chat 0", "line 2 of chat 0", "line 3 of chat 0", "line 4 of chat 0"}, contents(old))
		require.Equal(t, []domain.Reaction{{Emoji: "🌵", SenderName: "Old friend 0"}}, old[1].Reactions)
		require.Equal(t, old[1].ID, old[2].ReplyTo.ID)
		require.Equal(t, domain.MediaPending, old[2].Media.State)
		require.Equal(t, domain.StatusReceived, old[0].Status)
		require.Equal(t, domain.StatusRead, old[1].Status)
		require.Equal(t, old[0].ProviderTime, old[0].CreatedAt)
		jobs, err := c.store.DueMedia(testkit.Context(t), store.MediaSearch{ChannelID: c.channelID, Limit: 10, Imported: 10})
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.Equal(t, old[2].ID, jobs[0].MessageID)
		for _, chat := range chats[1:] {
			require.Zero(t, chat.UnreadCount)
			require.Equal(t, chat.LastMessage.CreatedAt, c.messages(chat.ID)[4].ProviderTime)
		}
		screen.sameAsFresh()

		// Again, and what overlaps with it: nothing.
		c.receive(in)
		overlap := first.Items[4]
		overlap.Message.Content = "changed on the way"
		c.receive(overlap)
		found, _ = c.since(seen)
		require.Empty(t, found)
		require.Equal(t, "line 4 of chat 0", c.messages(told.ChatIDs[0])[4].Content)
		require.Equal(t, 1, c.count("SELECT COUNT(*) FROM media"))
	})
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(data, into))
}

// An import opens nothing, notifies nobody, overwrites nothing, and is measured as nothing; what is told of its messages
// before they come is not lost.
func TestHistoryDisturbsNobody(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		ingested := 0
		service := inbox.New(inbox.Options{Store: c.store, Publisher: c, Waker: c, Logger: testkit.Logger(t), Measures: inbox.Measures{
			Ingested:  func(domain.ChannelKind, time.Duration) { ingested++ },
			Duplicate: func(domain.ChannelKind) { ingested++ },
		}})
		at := c.store.Now().Add(-time.Hour)
		in := chunk(1, 3, at)
		peer := in.History.Chats[0].Peer
		c.receive(from(peer, "h.0.2", "live, and edited", at))
		waits := from(peer, "h.0.0", "Waiting for this message…", at.Add(-2*time.Minute))
		waits.Message.Placeholder, waits.Message.Type = true, domain.TypeUnsupported
		c.receive(waits)
		chatID := c.chats()[0].ID
		resolved := domain.ChatResolved
		_, err := c.inbox.MarkRead(testkit.Context(t), c.who, chatID, nil)
		require.NoError(t, err)
		_, err = c.inbox.UpdateChat(testkit.Context(t), c.who, chatID, inbox.ChatChange{Status: &resolved})
		require.NoError(t, err)
		c.receive(domain.Inbound{Edit: &domain.InboundEdit{Peer: peer, TargetExternalID: "h.0.1", Content: "edited early", ProviderTime: at}})
		c.receive(domain.Inbound{Status: &domain.InboundStatus{ExternalID: "h.0.1", Status: domain.StatusDelivered}})
		screen := newScreen(t, c)
		in.History.Chats[0].Items[1].Message.Status = domain.StatusQueued // would be sent
		for range 2 {
			require.NoError(t, service.Receive(testkit.Context(t), c.channelID, []domain.Inbound{in}))
		}
		require.Zero(t, ingested)
		chat := c.chats()[0]
		require.Equal(t, domain.ChatResolved, chat.Status)
		require.Zero(t, chat.UnreadCount)
		require.Equal(t, "live, and edited", chat.LastMessage.Content)
		messages := c.messages(chatID)
		require.Equal(t, []string{"line 0 of chat 0", "edited early", "live, and edited"}, contents(messages))
		require.Equal(t, domain.StatusDelivered, messages[1].Status)
		require.Zero(t, c.count("SELECT COUNT(*) FROM outbox"))
		screen.sameAsFresh()
	})
}

// The older part of a history comes last: what quotes it finds it then.
func TestHistoryBackwards(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		all := chunk(1, 4, at).History.Chats[0]
		all.Items[3].Message.ReplyToExternalID = "h.0.0"
		newer, older := all, all
		newer.Items, older.Items = all.Items[2:], all.Items[:2]
		screen := newScreen(t, c)
		c.receive(domain.Inbound{History: &domain.InboundHistory{Chats: []domain.InboundChat{newer}}})
		chat := c.chats()[0]
		c.receive(domain.Inbound{History: &domain.InboundHistory{Chats: []domain.InboundChat{older}}})
		messages := c.messages(chat.ID)
		require.Len(t, messages, 4)
		require.Equal(t, messages[0].ID, messages[3].ReplyTo.ID)
		require.Equal(t, chat.LastMessage, c.chats()[0].LastMessage)
		screen.sameAsFresh()

		// A chat without messages is none, and a group knows its members under all their addresses.
		c.receive(domain.Inbound{History: &domain.InboundHistory{Chats: []domain.InboundChat{{Peer: byLID("Silent")}}}})
		require.Len(t, c.chats(), 1)
		group := domain.Peer{Address: "1@g.us", Kind: domain.ChatGroup, Name: "Cacti", Identities: []domain.Identity{{Kind: domain.IdentityGroup, Value: "1@g.us"}}}
		said := from(group, "g", "hi", at)
		said.Message.Sender = byLID("")
		c.receive(said)
		_, seen := c.since(0)
		again := said.Message
		again.Sender = peerOf(customerNumber, "")
		again.Sender.Identities = both("").Identities
		c.receive(domain.Inbound{History: &domain.InboundHistory{Chats: []domain.InboundChat{{Peer: group, Items: []domain.Inbound{{Message: again}}}}}})
		found, _ := c.since(seen)
		require.Empty(t, found)
	})
}

func TestPoisonInAHistoryIsSetAsideAlone(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		in := chunk(3, 4, c.store.Now().Add(-time.Hour))
		in.History.Chats[0].Items[1].Message.ExternalID = ""         // nothing to know it by
		in.History.Chats[1].Items[2].Message.Content = "bad\x00text" // PostgreSQL can never hold it
		in.History.Chats[2].Peer.Identities = nil                    // nobody to make a contact of
		want, rejects := []int{3, 3}, int64(1+1+4)
		if !c.store.Postgres() {
			want, rejects = []int{3, 4}, 1+4
		}
		for range 2 {
			c.receive(in)
			chats := c.chats()
			require.Len(t, chats, 2)
			counts := map[string]int{}
			for _, chat := range chats {
				counts[chat.Contact.Name] = len(c.messages(chat.ID))
				require.True(t, strings.HasPrefix(chat.LastMessage.Content, "line 3"))
			}
			require.Equal(t, map[string]int{"Old friend 0": want[0], "Old friend 1": want[1]}, counts)
			require.Equal(t, rejects, c.rejects())
			found, _ := c.since(0)
			require.Equal(t, []string{"chat:new", "chat:new", "messages:imported"}, found)
		}
	})
}

// A large part takes a moment, not a minute.
func TestALargeHistory(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		in := chunk(20, 25, c.store.Now().Add(-time.Hour))
		for _, chat := range in.History.Chats {
			for i, item := range chat.Items {
				if i%5 == 0 {
					item.Message.Type, item.Message.Media = domain.TypeImage, &domain.InboundMedia{Ref: item.Message.ExternalID, MIME: "image/png"}
				}
				if i%7 == 6 {
					item.Message.ReplyToExternalID = chat.Items[i-1].Message.ExternalID
				}
			}
		}
		began := time.Now()
		c.receive(in)
		took := time.Since(began)
		t.Logf("500 messages in 20 chats: %v", took)
		require.Less(t, took, 5*time.Second) // as a rule a fifth of a second
		require.Equal(t, 500, c.count("SELECT COUNT(*) FROM messages"))
		require.Equal(t, 100, c.count("SELECT COUNT(*) FROM messages m JOIN media f ON f.id = m.media_id AND f.message_id = m.id"))
		require.Equal(t, 60, c.count("SELECT COUNT(*) FROM messages WHERE reply_to_id IS NOT NULL"))
		require.Len(t, c.events(), 21)
	})
}
