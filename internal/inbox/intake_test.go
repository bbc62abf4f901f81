package inbox_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

func batch(position string, items ...domain.Inbound) domain.Batch {
	b := domain.Batch{Position: position}
	for _, in := range items {
		b.Items = append(b.Items, domain.Received{Inbound: in, Raw: []byte(`{"raw":true}`)})
	}
	return b
}

func (c *customer) position() string {
	c.t.Helper()
	position, err := c.inbox.IntakePosition(testkit.Context(c.t), c.channelID)
	require.NoError(c.t, err)
	return position
}

// Where the intake goes on is committed with the messages before it, or not at
// all.
func TestPositionAndMessagesAreOneTransaction(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		ctx := testkit.Context(t)
		require.Empty(t, c.position())
		require.NoError(t, c.inbox.ReceiveBatch(ctx, c.channelID, batch("12", text("1", "one", at), text("2", "two", at+1000))))
		require.Equal(t, "12", c.position())
		require.Len(t, c.messages(c.chats()[0].ID), 2)

		lost := func(*store.Tx) error { return store.ErrLeaseLost }
		require.ErrorIs(t, c.inbox.ReceiveBatch(ctx, c.channelID, batch("13", text("3", "three", at+2000)), lost), store.ErrLeaseLost)
		require.Equal(t, "12", c.position(), "who has lost the lease moves nothing")

		before := len(c.events())
		require.NoError(t, c.inbox.ReceiveBatch(ctx, c.channelID, batch("9", text("1", "one", at), text("2", "two", at+1000))))
		require.Equal(t, "9", c.position(), "a lower position counts")
		require.Len(t, c.events(), before, "a repetition makes no event")
		require.NoError(t, c.inbox.ReceiveBatch(ctx, c.channelID, batch("14")))
		require.Equal(t, "14", c.position())
		require.Len(t, c.messages(c.chats()[0].ID), 2)
	})
}

func TestWhatCannotBeReadIsSetAsideAndThePositionMoves(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		ctx := testkit.Context(t)
		b := batch("20", text("1", "before", at), text("2", "something was here", at), text("3", "bad\x00text", at), text("4", "after", at+1000))
		for i := range b.Items {
			b.Items[i].Raw = []byte{byte(i)}
		}
		b.Items[1].Poison = errors.New("it is not valid JSON")
		b.Items = append(b.Items, domain.Received{Raw: []byte("x"), Poison: errors.New("nobody knows what it is")})
		want, rejects := []string{"before", "something was here", "A message that could not be stored here. Ask for it in another form.", "after"}, int64(3)
		if !c.store.Postgres() { // SQLite takes what PostgreSQL can never
			want, rejects = []string{"before", "something was here", "bad\x00text", "after"}, 2
		}
		for range 2 {
			require.NoError(t, c.inbox.ReceiveBatch(ctx, c.channelID, b))
			require.Equal(t, "20", c.position())
			require.ElementsMatch(t, want, contents(c.messages(c.chats()[0].ID)))
			n, err := c.store.Rejects(ctx, c.channelID)
			require.NoError(t, err)
			require.Equal(t, rejects, n)
		}
	})
}

func inGroup(address, former, id, content string, at domain.Time) domain.Inbound {
	peer := domain.Peer{Address: address, Kind: domain.ChatGroup, Name: "Cactus lovers", Former: former, Identities: []domain.Identity{{Kind: domain.IdentityGroup, Value: address}}}
	kind := domain.TypeText
	if former != "" {
		peer.Identities = append(peer.Identities, domain.Identity{Kind: domain.IdentityGroup, Value: former})
		kind = domain.TypeSystem
	}
	return domain.Inbound{Message: &domain.InboundMessage{
		ExternalID: id, Peer: peer, Type: kind, Content: content, ProviderTime: at, Silent: former != "",
		Sender: domain.Peer{Address: "42", Name: "Ann", Identities: []domain.Identity{{Kind: domain.IdentityTelegram, Value: "42"}}},
	}}
}

// A group that gets a new address is the same chat, whichever of the updates
// around it comes first, and however often.
func TestGroupThatMovesStaysOneChat(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		c.receive(inGroup("-4001", "", "-4001:1", "before", at))
		chat := c.chats()[0]
		_, err := c.store.SQL().ExecContext(testkit.Context(t), "UPDATE chats SET assignee_id = $1 WHERE id = $2", c.who.UserID, chat.ID)
		require.NoError(t, err)
		screen := newScreen(t, c)

		// The first message in the new group is faster than the news of it.
		c.receive(inGroup("-1001", "", "-1001:2", "already here", at+2000))
		require.Len(t, c.chats(), 2)
		c.receive(inGroup("-1001", "-4001", "-4001:moved:-1001", "The group became a supergroup.", at+1000))
		c.receive(inGroup("-1001", "-4001", "-4001:moved:-1001", "The group became a supergroup.", at+1000))
		c.receive(inGroup("-1001", "", "-1001:3", "after", at+3000))

		chats := c.chats()
		require.Len(t, chats, 1)
		require.Equal(t, chat.ID, chats[0].ID, "the chat that operators know goes on")
		require.Equal(t, c.who.UserID, *chats[0].AssigneeID)
		require.Equal(t, 3, chats[0].UnreadCount)
		require.Equal(t, "after", chats[0].LastMessage.Content)
		require.Equal(t, []string{"before", "The group became a supergroup.", "already here", "after"}, contents(c.messages(chat.ID)))

		screen.catchUp()
		fresh := newScreen(t, c)
		require.Equal(t, fresh.chats, screen.chats)
		require.Equal(t, fresh.messages, screen.messages)

		// What speaks of a message from before still finds it.
		c.receive(domain.Inbound{Edit: &domain.InboundEdit{
			ExternalID: "e", Peer: domain.Peer{Address: "-4001"}, TargetExternalID: "-4001:1", Content: "before, mended", ProviderTime: at + 4000,
		}})
		require.Equal(t, "before, mended", c.messages(chat.ID)[0].Content)
	})
}

// A straggler from the former address makes no lasting second chat.
func TestStragglerOfAGroupThatMoved(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		c.receive(inGroup("-4001", "", "-4001:1", "before", at))
		chat := c.chats()[0]
		c.receive(inGroup("-1001", "-4001", "-4001:moved:-1001", "The group became a supergroup.", at+1000))
		screen := newScreen(t, c)
		c.receive(inGroup("-4001", "", "-4001:2", "late", at+2000))
		c.receive(inGroup("-1001", "-4001", "-4001:moved:-1001", "The group became a supergroup.", at+1000))
		require.Len(t, c.chats(), 1)
		require.Equal(t, chat.ID, c.chats()[0].ID)
		require.Equal(t, []string{"before", "The group became a supergroup.", "late"}, contents(c.messages(chat.ID)))
		screen.catchUp()
		fresh := newScreen(t, c)
		require.Equal(t, fresh.chats, screen.chats)
		require.Equal(t, fresh.messages, screen.messages)
	})
}

func TestMoveOfAGroupThatIsNotKnownMakesAChat(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		c.receive(inGroup("-1001", "-4001", "-4001:moved:-1001", "The group became a supergroup.", c.store.Now()))
		require.Len(t, c.chats(), 1)
	})
}
