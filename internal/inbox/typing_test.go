package inbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

func TestCustomersTyping(t *testing.T) {
	onWhatsApp(t, func(t *testing.T, c *customer) {
		at := c.store.Now().Add(-time.Hour)
		group := domain.Peer{Address: "1@g.us", Kind: domain.ChatGroup, Identities: []domain.Identity{{Kind: domain.IdentityGroup, Value: "1@g.us"}}}
		c.receive(text("1", "hi", at), from(group, "2", "hi", at+1000), learned(""))
		chats := c.chats()
		inGroup, direct := chats[0], chats[1]
		typed := func(peer, sender string, on bool) []string {
			before := len(c.typed)
			require.NoError(t, c.inbox.CustomerTyping(testkit.Context(t), c.channelID, peer, sender, on))
			return c.typed[before:]
		}
		said := func(on bool, chat domain.Chat, contactID int64) []string {
			return []string{fmt.Sprint(chat.ID, on, domain.Typing{ChatID: chat.ID, ContactID: contactID})}
		}
		require.Empty(t, typed("4915199999999", "", true), "nobody has such a chat")
		require.Empty(t, typed(hiddenID, "", false), "nobody began")
		require.Equal(t, said(true, direct, direct.Contact.ID), typed(hiddenID, "", true))
		require.Empty(t, typed(hiddenID, "", true), "told a moment ago")
		require.Equal(t, said(false, direct, direct.Contact.ID), typed(hiddenID, "", false))
		require.Empty(t, typed(hiddenID, "", false))
		require.Equal(t, said(true, direct, direct.Contact.ID), typed(customerNumber, "", true), "under the other address")

		require.Equal(t, said(true, inGroup, direct.Contact.ID), typed("1@g.us", customerNumber, true), "a member who is known")
		require.Equal(t, said(false, inGroup, inGroup.Contact.ID), typed("1@g.us", "4915100000000", false), "one who is not")

		other := newCustomer(t, c.store, "b")
		require.NoError(t, c.inbox.CustomerTyping(testkit.Context(t), other.channelID, customerNumber, "", true))
		require.Len(t, c.typed, 5, "another organization's channel")
		require.Empty(t, c.published[len(c.events()):], "the log knows nothing of it")
	})
}
