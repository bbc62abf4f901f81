package inbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

const hiddenID = "777@lid"

// byLID is Grace under her hidden address, as long as nobody knows whose it is.
func byLID(name string) domain.Peer {
	return domain.Peer{Address: hiddenID, Kind: domain.ChatDirect, Name: name, Identities: []domain.Identity{{Kind: domain.IdentityLID, Value: hiddenID}}}
}

// both is Grace under both addresses.
func both(name string) domain.Peer {
	peer := byLID(name)
	peer.Identities = append(peer.Identities, domain.Identity{Kind: domain.IdentityPhone, Value: customerNumber})
	return peer
}

func from(peer domain.Peer, id, content string, at domain.Time) domain.Inbound {
	in := text(id, content, at)
	in.Message.Peer = peer
	return in
}

func learned(name string) domain.Inbound {
	return domain.Inbound{Contact: &domain.InboundContact{Peer: both(name)}}
}

func (c *customer) peer(chatID int64) (peer string) {
	c.t.Helper()
	require.NoError(c.t, c.store.SQL().QueryRowContext(testkit.Context(c.t), "SELECT peer FROM chats WHERE id = $1", chatID).Scan(&peer))
	return peer
}

// Two chats with one person become one, with all that is in them, and a screen
// that saw the events shows what a new one does.
func TestTwoAddressesOfOnePersonBecomeOneChat(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		at := c.store.Now().Add(-time.Hour)
		number := peerOf(customerNumber, "Grace")
		c.receive(from(number, "1", "by my number", at), from(number, "both", "Waiting for this message…", at+1000), from(byLID(""), "2", "by my LID", at+2000))
		c.exec("UPDATE messages SET placeholder = TRUE, type = 'unsupported' WHERE external_id = 'both'")
		picture := from(byLID(""), "both", "look", at+1000)
		picture.Message.Type, picture.Message.Media = domain.TypeImage, &domain.InboundMedia{Ref: "m", MIME: "image/png"}
		c.receive(picture, from(byLID(""), "3", "quoting", at+3000))
		react := domain.InboundReaction{Peer: byLID(""), TargetExternalID: "both", Emoji: "🎉", ProviderTime: at + 4000}
		c.receive(domain.Inbound{Reaction: &react}, domain.Inbound{Edit: &domain.InboundEdit{
			Peer: byLID(""), TargetExternalID: "early", Content: "mended", ProviderTime: at + 9000,
		}})
		chats := c.chats()
		require.Len(t, chats, 2)
		byNumber, hidden := chats[1], chats[0]
		require.Equal(t, customerNumber, byNumber.Contact.Phone)
		hiddenMessages := c.messages(hidden.ID)
		c.exec("UPDATE messages SET reply_to_id = $1 WHERE external_id = '3'", hiddenMessages[0].ID)
		queued, _, err := c.inbox.Send(ctx, c.who, inbox.SendInput{ChatID: hidden.ID, Content: "wait"})
		require.NoError(t, err)
		_, err = c.inbox.React(ctx, c.who, hiddenMessages[0].ID, "👍")
		require.NoError(t, err)
		old, err := c.inbox.CreateTicket(ctx, c.who, inbox.NewTicket{ChatID: byNumber.ID, Subject: "Old"})
		require.NoError(t, err)
		ticket, err := c.inbox.CreateTicket(ctx, c.who, inbox.NewTicket{ChatID: hidden.ID, Subject: "Case"})
		require.NoError(t, err)
		require.Greater(t, ticket.ID, old.ID)
		_, err = c.inbox.AddNote(ctx, c.who, store.NoteSubject{ChatID: hidden.ID}, "Calls back.")
		require.NoError(t, err)
		_, err = c.inbox.UpdateChat(ctx, c.who, hidden.ID, inbox.ChatChange{
			Tags: &[]string{"vip", "it"}, Assignee: inbox.Assignment{Set: true, UserID: &c.who.UserID},
		})
		require.NoError(t, err)
		resolved := domain.ChatResolved
		_, err = c.inbox.UpdateChat(ctx, c.who, byNumber.ID, inbox.ChatChange{Tags: &[]string{"it"}, Status: &resolved})
		require.NoError(t, err)
		screen := newScreen(t, c)
		unread := c.count("SELECT SUM(unread_count) FROM chats")
		require.Equal(t, 5, unread)
		_, seen := c.since(0)

		c.receive(learned("Grace Hopper"))
		found, _ := c.since(seen)
		require.Contains(t, found, "chat:deleted")
		require.Equal(t, []string{"messages:imported", "chat:updated"}, found[len(found)-2:])
		chats = c.chats()
		require.Len(t, chats, 1)
		chat := chats[0]
		require.Equal(t, byNumber.ID, chat.ID, "the older goes on")
		require.Equal(t, hiddenID, c.peer(chat.ID))
		require.Equal(t, "Grace Hopper", chat.Contact.Name)
		require.Equal(t, customerNumber, chat.Contact.Phone)
		require.Equal(t, 4, chat.UnreadCount, "what was counted twice is one")
		require.Equal(t, domain.ChatOpen, chat.Status)
		require.Equal(t, []string{"it", "vip"}, chat.Tags)
		require.Equal(t, c.who.UserID, *chat.AssigneeID)
		require.Equal(t, ticket.ID, *chat.TicketID)
		require.Equal(t, "wait", chat.LastMessage.Content)
		messages := c.messages(chat.ID)
		require.Equal(t, []string{"by my number", "look", "by my LID", "quoting", "wait"}, contents(messages))
		require.Equal(t, domain.TypeImage, messages[1].Type)
		require.NotNil(t, messages[1].Media)
		require.Len(t, messages[1].Reactions, 2)
		require.Equal(t, messages[1].ID, messages[3].ReplyTo.ID)
		require.Equal(t, domain.StatusQueued, messages[4].Status)
		require.Equal(t, 2, c.count("SELECT COUNT(*) FROM chat_tags"))
		require.Equal(t, 1, c.count("SELECT COUNT(*) FROM commands WHERE chat_id = $1", chat.ID))
		notes, err := c.inbox.Notes(ctx, c.who, store.NoteSubject{ChatID: chat.ID}, 0, 10)
		require.NoError(t, err)
		require.Len(t, notes, 1)
		jobs, err := c.store.DueMedia(ctx, store.MediaSearch{ChannelID: c.channelID, Limit: 10, Imported: 10})
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.Equal(t, messages[1].ID, jobs[0].MessageID)
		screen.sameAsFresh()
		c.exec("INSERT INTO leases (channel_id, worker_id, term, expires_at) VALUES ($1, 'w', 1, 9999999999999)", c.channelID)
		claimed, err := c.inbox.ClaimSends(ctx, c.who.OrganizationID, store.Lease{ChannelID: c.channelID, WorkerID: "w", Term: 1}, store.SendClaim{Limit: 9})
		require.NoError(t, err)
		require.Len(t, claimed.Messages, 1)
		require.Equal(t, queued.ID, claimed.Messages[0].Message.ID)
		require.Equal(t, hiddenID, claimed.Messages[0].Peer)

		// Under either address everything finds the chat; nothing of before comes twice.
		_, seen = c.since(0)
		c.receive(from(both(""), "1", "by my number", at), from(both(""), "2", "by my LID", at+2000), from(both(""), "both", "look", at+1000), learned("Grace Hopper"))
		found, _ = c.since(seen)
		require.Empty(t, found)
		c.receive(from(both(""), "early", "misspelt", at+8000))
		require.Equal(t, "mended", c.messages(chat.ID)[4].Content, "what waited for its message has found it")
		screen.sameAsFresh()
	})
}

// A contact that nobody knows is not made, and names replace those from before.
func TestNamesOfContacts(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		c.receive(learned("Nobody yet"))
		require.Empty(t, c.events())
		require.Zero(t, c.count("SELECT COUNT(*) FROM contacts"))
		group := domain.Peer{Address: "1@g.us", Kind: domain.ChatGroup, Name: "Cactus lovers", Identities: []domain.Identity{{Kind: domain.IdentityGroup, Value: "1@g.us"}}}
		c.receive(from(peerOf(customerNumber, "Grace"), "1", "hi", at), from(group, "2", "hi", at+1000))
		screen := newScreen(t, c)
		group.Name = "Succulents"
		renamed := peerOf(customerNumber, "Admiral Grace")
		_, seen := c.since(0)
		for range 2 {
			c.receive(domain.Inbound{Contact: &domain.InboundContact{Peer: group}}, domain.Inbound{Contact: &domain.InboundContact{Peer: renamed}})
		}
		found, _ := c.since(seen)
		require.Equal(t, []string{"chat:updated", "chat:updated"}, found)
		chats := c.chats()
		require.Equal(t, "Succulents", chats[0].Contact.Name)
		require.Equal(t, "Admiral Grace", chats[1].Contact.Name)
		screen.sameAsFresh()
	})
}

// A message itself can tie two chats together, whatever address it comes from.
func TestAMessageTiesTwoChatsTogether(t *testing.T) {
	for name, change := range map[string]func(*domain.Peer){
		"from one that is known, under a new name": func(p *domain.Peer) { p.Name = "Grace Hopper" },
		"from a third address": func(p *domain.Peer) {
			p.Address = "US.1"
			p.Identities = append(p.Identities, domain.Identity{Kind: domain.IdentityBSUID, Value: "US.1"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			onWhatsApp(t, func(t *testing.T, c *customer) {
				at := c.store.Now().Add(-time.Hour)
				c.receive(from(peerOf(customerNumber, "Grace"), "1", "one", at), from(byLID(""), "2", "two", at+1000))
				screen := newScreen(t, c)
				first := c.chats()[1].ID
				peer := both("")
				change(&peer)
				c.receive(from(peer, "3", "three", at+2000))
				chats := c.chats()
				require.Len(t, chats, 1)
				require.Equal(t, first, chats[0].ID)
				require.Equal(t, 3, chats[0].UnreadCount)
				require.Equal(t, peer.Address, c.peer(first))
				require.Equal(t, []string{"one", "two", "three"}, contents(c.messages(first)))
				screen.sameAsFresh()
			})
		})
	}
}

// Of many messages that move one event tells, instead of one for each.
func TestALargeChatMovesWithoutAFlood(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		c.receive(from(peerOf(customerNumber, "Grace"), "1", "one", at))
		for i := range 130 {
			c.receive(from(byLID(""), fmt.Sprint("lid.", i), "x", at+1000))
		}
		screen := newScreen(t, c)
		_, seen := c.since(0)
		c.receive(learned(""))
		found, _ := c.since(seen)
		require.Equal(t, []string{"chat:deleted", "messages:imported", "chat:updated"}, found)
		require.Len(t, c.messages(c.chats()[0].ID), 131)
		screen.sameAsFresh()
	})
}

// What is said at the very moment when two chats become one is in the one that
// stays, or refused: never accepted and lost.
func TestSendsBesideAMerge(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		for round := range 5 {
			number := fmt.Sprint("4915100000", round)
			lid := fmt.Sprint(round, "@lid")
			one := peerOf(number, "")
			two := domain.Peer{Address: lid, Kind: domain.ChatDirect, Identities: []domain.Identity{{Kind: domain.IdentityLID, Value: lid}}}
			c.receive(from(one, fmt.Sprint(round, "a"), "one", at), from(two, fmt.Sprint(round, "b"), "two", at))
			var chatID int64
			require.NoError(t, c.store.SQL().QueryRowContext(testkit.Context(t), "SELECT id FROM chats WHERE peer = $1", lid).Scan(&chatID))
			two.Identities = append(two.Identities, one.Identities...)
			var (
				wg       sync.WaitGroup
				mu       sync.Mutex
				accepted int
			)
			for range 6 {
				wg.Go(func() {
					_, _, err := c.inbox.Send(context.Background(), c.who, inbox.SendInput{ChatID: chatID, Content: "answer"})
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						accepted++
					} else if domain.CodeOf(err) != domain.CodeNotFound {
						t.Error(err)
					}
				})
			}
			wg.Go(func() {
				if err := c.inbox.Receive(context.Background(), c.channelID, []domain.Inbound{{Contact: &domain.InboundContact{Peer: two}}}); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			require.Equal(t, accepted, c.count("SELECT COUNT(*) FROM messages m JOIN chats c ON c.id = m.chat_id WHERE m.from_me AND c.peer = $1", lid))
		}
	})
}

// In a group a member is one under both addresses.
func TestOneMemberOfAGroupUnderTwoAddresses(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		group := domain.Peer{Address: "1@g.us", Kind: domain.ChatGroup, Name: "Cactus lovers", Identities: []domain.Identity{{Kind: domain.IdentityGroup, Value: "1@g.us"}}}
		said := func(sender domain.Peer, id string) domain.Inbound {
			in := from(group, id, "hi", at)
			in.Message.Sender = sender
			return in
		}
		reacted := func(sender domain.Peer, emoji string, at domain.Time) domain.Inbound {
			return domain.Inbound{Reaction: &domain.InboundReaction{Peer: group, Sender: sender, TargetExternalID: "1", Emoji: emoji, ProviderTime: at}}
		}
		number := peerOf(customerNumber, "Grace")
		c.receive(said(number, "1"), reacted(number, "👍", at+1000))
		unreadable := said(number, "2")
		unreadable.Message.Placeholder, unreadable.Message.Type = true, domain.TypeUnsupported
		c.receive(unreadable)
		c.receive(said(both("Grace"), "1"), reacted(both("Grace"), "🌵", at+2000), said(both("Grace"), "2"))
		messages := c.messages(c.chats()[0].ID)
		require.Len(t, messages, 2)
		require.Equal(t, []domain.Reaction{{Emoji: "🌵", SenderName: "Grace"}}, messages[0].Reactions)
		require.Equal(t, domain.TypeText, messages[1].Type, "filled in")
		require.Equal(t, 2, c.chats()[0].UnreadCount)
		c.receive(reacted(both("Grace"), "", at+3000))
		require.Empty(t, c.messages(c.chats()[0].ID)[0].Reactions)
	})
}
