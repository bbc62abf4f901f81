package store_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// desk is an organization with a channel.
type desk struct {
	t     *testing.T
	store *store.Store
	org   int64
	admin int64
	waba  int64
}

func withDesk(t *testing.T, test func(d *desk)) {
	t.Helper()
	withAccounts(t, func(t *testing.T, s *store.Store, admin domain.User) {
		d := &desk{t: t, store: s, org: admin.OrganizationID, admin: admin.ID}
		d.waba = d.channel("1")
		test(d)
	})
}

func (d *desk) tx(fn func(tx *store.Tx) error) store.Committed {
	d.t.Helper()
	committed, err := d.store.InOrg(testkit.Context(d.t), d.org, fn)
	require.NoError(d.t, err)
	return committed
}

func (d *desk) channel(key string) (id int64) {
	d.t.Helper()
	d.tx(func(tx *store.Tx) (err error) {
		id, err = tx.InsertChannel(store.SealedChannel{ExternalKey: key, Channel: domain.Channel{
			Kind: domain.KindWABA, Name: "c", Config: map[string]string{}, Enabled: true, Status: domain.ChannelStatus{State: domain.ChannelConnected, Since: 1},
		}})
		return err
	})
	return id
}

func phone(number string) domain.Identity {
	return domain.Identity{Kind: domain.IdentityPhone, Value: number}
}

// chat makes a chat with a person, active at a time.
func (d *desk) chat(number, name string, at domain.Time, change func(*domain.Chat)) (id int64) {
	d.t.Helper()
	d.tx(func(tx *store.Tx) error {
		contact, _, err := tx.EnsureContact([]domain.Identity{phone(number)}, name)
		if err != nil {
			return err
		}
		id, _, err = tx.EnsureChat(store.NewChatInput{
			ChannelID: d.waba, ChannelKind: domain.KindWABA, Kind: domain.ChatDirect, Peer: number, ContactID: contact, ActivityAt: at,
		})
		if err != nil || change == nil {
			return err
		}
		chat, err := tx.LockChat(id)
		if err != nil {
			return err
		}
		change(&chat)
		return tx.SaveChat(chat)
	})
	return id
}

// list reads all pages of a list.
func (d *desk) list(f store.ChatFilter) (ids []int64) {
	d.t.Helper()
	for f.Limit = max(f.Limit, 2); ; {
		page, err := d.store.Chats(testkit.Context(d.t), d.org, f)
		require.NoError(d.t, err)
		for _, l := range page {
			ids = append(ids, l.Chat.ID)
		}
		if len(page) < f.Limit {
			return ids
		}
		f.After = &page[len(page)-1].Position
	}
}

func TestChatFilters(t *testing.T) {
	withDesk(t, func(d *desk) {
		t := d.t
		other := d.channel("2")
		ada := d.chat("4915112345678", "Ada Lovelace", 100, func(c *domain.Chat) { c.Tags = []string{"vip", "it"} })
		bob := d.chat("33612345678", "Bob Lovell", 300, func(c *domain.Chat) { c.AssigneeID = &d.admin })
		cyd := d.chat("12025550123", "", 300, func(c *domain.Chat) { c.Status = domain.ChatResolved; c.AssigneeID = &d.admin })
		dan := d.chat("12025550199", "Dan", 200, func(c *domain.Chat) { c.Status = domain.ChatPending; c.Tags = []string{"vip"} })
		d.tx(func(tx *store.Tx) error {
			_, err := tx.Touch(store.Activity{ChatID: dan, MessageID: 1, Type: domain.TypeText, ProviderTime: 200})
			return err
		})
		nobody, yes, no := int64(0), true, false
		for name, c := range map[string]struct {
			filter store.ChatFilter
			want   []int64
		}{
			"all, ties by id":    {store.ChatFilter{}, []int64{cyd, bob, dan, ada}},
			"open":               {store.ChatFilter{Status: domain.ChatOpen}, []int64{bob, ada}},
			"pending":            {store.ChatFilter{Status: domain.ChatPending}, []int64{dan}},
			"mine":               {store.ChatFilter{AssigneeID: &d.admin}, []int64{cyd, bob}},
			"mine, open":         {store.ChatFilter{AssigneeID: &d.admin, Status: domain.ChatOpen}, []int64{bob}},
			"nobody's":           {store.ChatFilter{AssigneeID: &nobody}, []int64{dan, ada}},
			"channel":            {store.ChatFilter{ChannelID: d.waba}, []int64{cyd, bob, dan, ada}},
			"other channel":      {store.ChatFilter{ChannelID: other}, nil},
			"channel and status": {store.ChatFilter{ChannelID: d.waba, Status: domain.ChatResolved}, []int64{cyd}},
			"unread":             {store.ChatFilter{Unread: &yes}, []int64{dan}},
			"read":               {store.ChatFilter{Unread: &no}, []int64{cyd, bob, ada}},
			"tag":                {store.ChatFilter{Tag: "vip"}, []int64{dan, ada}},
			"tag and status":     {store.ChatFilter{Tag: "vip", Status: domain.ChatOpen}, []int64{ada}},
			"no such tag":        {store.ChatFilter{Tag: "VIP"}, nil},
			"word":               {store.ChatFilter{Query: "LOVE"}, []int64{bob, ada}},
			"words":              {store.ChatFilter{Query: "lovel ad"}, []int64{ada}},
			"number":             {store.ChatFilter{Query: "+1 202 555"}, []int64{cyd, dan}},
			"number's end":       {store.ChatFilter{Query: "0199"}, []int64{dan}},
			"both ends' digits":  {store.ChatFilter{Query: "345678"}, []int64{bob, ada}},
			"nobody is called":   {store.ChatFilter{Query: "%"}, nil},
			"word and tag":       {store.ChatFilter{Query: "ada", Tag: "it"}, []int64{ada}},
			"word, not the tag":  {store.ChatFilter{Query: "bob", Tag: "it"}, nil},
		} {
			assert.Equal(t, c.want, d.list(c.filter), name)
		}
		_, err := d.store.Chat(testkit.Context(t), d.org+1, ada)
		assert.Equal(t, domain.CodeNotFound, domain.CodeOf(err))
		strangers, err := d.store.Chats(testkit.Context(t), d.org+1, store.ChatFilter{ChannelID: d.waba, Limit: 10})
		require.NoError(t, err)
		assert.Empty(t, strangers)
	})
}

func TestManyChatsMakeOneContact(t *testing.T) {
	withDesk(t, func(d *desk) {
		lid := domain.Identity{Kind: domain.IdentityLID, Value: "77@lid"}
		identities := []domain.Identity{phone("4915112345678"), lid}
		var (
			wg      sync.WaitGroup
			mu      sync.Mutex
			found   = map[int64]int{}
			created int
		)
		for i := range 12 {
			wg.Go(func() {
				mine := slices.Clone(identities[i%2:])
				if i%3 == 0 {
					mine = slices.Clone(identities)
				}
				slices.Reverse(mine)
				_, err := d.store.InOrg(testkit.Context(d.t), d.org, func(tx *store.Tx) error {
					id, made, err := tx.EnsureContact(mine, fmt.Sprintf("N%d", i%2))
					if err == nil {
						mu.Lock()
						defer mu.Unlock()
						found[id]++
						if made {
							created++
						}
					}
					return err
				})
				assert.NoError(d.t, err)
			})
		}
		wg.Wait()
		// Whoever came first, all identities end with one contact.
		var last int64
		d.tx(func(tx *store.Tx) (err error) {
			last, _, err = tx.EnsureContact(identities, "")
			return err
		})
		var contacts, owners int
		require.NoError(d.t, d.store.SQL().QueryRowContext(testkit.Context(d.t), "SELECT COUNT(*) FROM contacts").Scan(&contacts))
		require.NoError(d.t, d.store.SQL().QueryRowContext(testkit.Context(d.t), "SELECT COUNT(DISTINCT contact_id) FROM identities").Scan(&owners))
		assert.Equal(d.t, 1, contacts)
		assert.Equal(d.t, 1, owners)
		assert.Contains(d.t, found, last)
		assert.Positive(d.t, created)
	})
}

func TestTwoNamesOfOnePersonAreMerged(t *testing.T) {
	withDesk(t, func(d *desk) {
		t := d.t
		byPhone := d.chat("4915112345678", "Grace", 10, nil)
		var byLID int64
		lid := domain.Identity{Kind: domain.IdentityLID, Value: "77@lid"}
		d.tx(func(tx *store.Tx) error {
			contact, created, err := tx.EnsureContact([]domain.Identity{lid}, "")
			require.True(t, created)
			if err != nil {
				return err
			}
			byLID, _, err = tx.EnsureChat(store.NewChatInput{
				ChannelID: d.waba, ChannelKind: domain.KindWABA, Kind: domain.ChatDirect, Peer: "77@lid", ContactID: contact, ActivityAt: 20,
			})
			return err
		})
		elsewhere := d.channel("2")
		var other int64
		d.tx(func(tx *store.Tx) error {
			contact, _, err := tx.EnsureContact([]domain.Identity{lid}, "")
			if err != nil {
				return err
			}
			other, _, err = tx.EnsureChat(store.NewChatInput{
				ChannelID: elsewhere, ChannelKind: domain.KindWABA, Kind: domain.ChatDirect, Peer: "77@lid", ContactID: contact, ActivityAt: 30,
			})
			return err
		})
		committed := d.tx(func(tx *store.Tx) error {
			_, created, err := tx.EnsureContact([]domain.Identity{lid, phone("4915112345678")}, "Grace Hopper")
			require.False(t, created)
			assert.Equal(t, byPhone, tx.Current(byLID))
			return err
		})
		for _, id := range []int64{byPhone, other} {
			chat, err := d.store.Chat(testkit.Context(t), d.org, id)
			require.NoError(t, err)
			assert.Equal(t, "Grace Hopper", chat.Contact.Name)
			assert.Equal(t, "4915112345678", chat.Contact.Phone)
		}
		var told []string
		for _, e := range committed.Events {
			told = append(told, e.Name)
		}
		assert.Equal(t, []string{"chat:deleted", "chat:updated", "chat:updated"}, told, "one chat on each channel")
		assert.Equal(t, []int64{other, byPhone}, d.list(store.ChatFilter{Query: "hopp"}))
		assert.Equal(t, []int64{other, byPhone}, d.list(store.ChatFilter{Query: "5678"}))
		var peer string
		require.NoError(t, d.store.SQL().QueryRowContext(testkit.Context(t), "SELECT peer FROM chats WHERE id = $1", byPhone).Scan(&peer))
		assert.Equal(t, "77@lid", peer, "where they wrote last")
	})
}

func TestAUserNameChangesHands(t *testing.T) {
	withDesk(t, func(d *desk) {
		t := d.t
		telegram := func(id string) []domain.Identity {
			return []domain.Identity{{Kind: domain.IdentityTelegram, Value: id}, {Kind: domain.IdentityUsername, Value: "ada"}}
		}
		var first, second int64
		d.tx(func(tx *store.Tx) (err error) { first, _, err = tx.EnsureContact(telegram("1"), "Ada"); return err })
		d.tx(func(tx *store.Tx) (err error) { second, _, err = tx.EnsureContact(telegram("2"), "Eve"); return err })
		assert.NotEqual(t, first, second)
		var owner, username string
		row := d.store.SQL().QueryRowContext(testkit.Context(t), "SELECT c.name, c.username FROM identities i JOIN contacts c ON c.id = i.contact_id WHERE i.value = 'ada'")
		require.NoError(t, row.Scan(&owner, &username))
		assert.Equal(t, "Eve", owner)
		assert.Equal(t, "ada", username)
		var left int
		require.NoError(t, d.store.SQL().QueryRowContext(testkit.Context(t), "SELECT COUNT(*) FROM contacts WHERE username = 'ada'").Scan(&left))
		assert.Equal(t, 1, left)
	})
}

func TestMessagesPageByProviderTime(t *testing.T) {
	withDesk(t, func(d *desk) {
		t := d.t
		chat := d.chat("1", "A", 1, nil)
		var ids []int64
		for _, at := range []domain.Time{50, 10, 30, 30, 20} { // as they came
			d.tx(func(tx *store.Tx) error {
				id, _, err := tx.InsertMessage(store.NewMessageInput{
					ChatID: chat, ChannelID: d.waba, ChannelKind: domain.KindWABA, Type: domain.TypeText, Content: "x", Status: domain.StatusReceived, ProviderTime: at,
				})
				ids = append(ids, id)
				return err
			})
		}
		sorted := []int64{ids[1], ids[4], ids[2], ids[3], ids[0]}
		read := func(f store.MessageFilter) []int64 {
			f.ChatID = chat
			messages, err := d.store.MessagesOf(testkit.Context(t), d.org, f)
			require.NoError(t, err)
			got := []int64{}
			for _, m := range messages {
				got = append(got, m.ID)
			}
			return got
		}
		assert.Equal(t, sorted[3:], read(store.MessageFilter{Limit: 2}))
		assert.Equal(t, sorted[1:3], read(store.MessageFilter{Limit: 2, Before: sorted[3]}))
		assert.Equal(t, sorted[:1], read(store.MessageFilter{Limit: 2, Before: sorted[1]}))
		assert.Equal(t, sorted[2:4], read(store.MessageFilter{Limit: 2, After: sorted[1]}))
		assert.Equal(t, []int64{}, read(store.MessageFilter{Limit: 2, After: sorted[4]}))
		for _, f := range []store.MessageFilter{{ChatID: chat, Before: 9999}, {ChatID: 9999}} {
			_, err := d.store.MessagesOf(testkit.Context(t), d.org, f)
			assert.Equal(t, domain.CodeNotFound, domain.CodeOf(err))
		}
		_, err := d.store.MessagesOf(testkit.Context(t), d.org+1, store.MessageFilter{ChatID: chat})
		assert.Equal(t, domain.CodeNotFound, domain.CodeOf(err))
		_, err = d.store.Message(testkit.Context(t), d.org+1, ids[0])
		assert.Equal(t, domain.CodeNotFound, domain.CodeOf(err))
	})
}

func TestTicketNumbersHaveNoDuplicates(t *testing.T) {
	withDesk(t, func(d *desk) {
		t := d.t
		chat := d.chat("1", "A", 1, nil)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				_, err := d.store.InOrg(testkit.Context(t), d.org, func(tx *store.Tx) error {
					_, err := tx.InsertTicket(domain.Ticket{ChatID: chat, Subject: "s", Priority: domain.PriorityLow, Status: domain.TicketOpen})
					return err
				})
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		tickets, err := d.store.Tickets(testkit.Context(t), d.org, store.TicketFilter{Limit: 100})
		require.NoError(t, err)
		require.Len(t, tickets, 16)
		for i, ticket := range tickets {
			assert.Equal(t, int64(16-i), ticket.Number)
		}
	})
}

func TestDeletedChatsLeaveTheirFilesToBeSwept(t *testing.T) {
	withDesk(t, func(d *desk) {
		t, ctx := d.t, testkit.Context(d.t)
		doomed, kept := d.chat("1", "A", 1, nil), d.chat("2", "B", 1, nil)
		own, err := d.store.InsertFile(ctx, d.org, store.NewFile{MIME: "image/png", Filename: "a.png", Size: 1, BlobKey: "k1"})
		require.NoError(t, err)
		shared, err := d.store.InsertFile(ctx, d.org, store.NewFile{MIME: "image/png", Filename: "b.png", Size: 1, BlobKey: "k2"})
		require.NoError(t, err)
		send := func(chat, file int64) {
			d.tx(func(tx *store.Tx) error {
				id, _, err := tx.InsertMessage(store.NewMessageInput{
					ChatID: chat, ChannelID: d.waba, ChannelKind: domain.KindWABA, Type: domain.TypeImage, MediaID: &file, FromMe: true,
					SenderKey: store.SenderMe, Status: domain.StatusSent,
				})
				if err != nil {
					return err
				}
				return tx.LinkMedia(file, id)
			})
		}
		send(doomed, own.ID)
		send(kept, shared.ID)
		send(doomed, shared.ID)
		d.tx(func(tx *store.Tx) error { return tx.DeleteChat(doomed) })
		files, err := d.store.DeletedMedia(ctx, 10)
		require.NoError(t, err)
		assert.Equal(t, []store.DeletedFile{{ID: own.ID, BlobKey: "k1"}}, files)
		_, _, err = d.store.MediaFile(ctx, d.org, own.ID)
		assert.Equal(t, domain.CodeNotFound, domain.CodeOf(err))
		_, key, err := d.store.MediaFile(ctx, d.org, shared.ID)
		require.NoError(t, err)
		assert.Equal(t, "k2", key)
		require.NoError(t, d.store.ForgetMedia(ctx, []int64{own.ID, shared.ID}))
		files, err = d.store.DeletedMedia(ctx, 10)
		require.NoError(t, err)
		assert.Empty(t, files)
		_, _, err = d.store.MediaFile(ctx, d.org, shared.ID)
		require.NoError(t, err, "only deleted files are forgotten")
	})
}
