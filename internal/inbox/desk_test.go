package inbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// desk is a customer whose inbox knows a kind of channel, and records whom it wakes and tells.
type desk struct {
	*customer
	inbox    *inbox.Service
	operator domain.Principal

	mu    sync.Mutex // guards woken and told
	woken []int64
	told  []string
}

func (d *desk) Attend(channelID int64) { d.Wake(channelID) }

func (d *desk) Wake(channelID int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.woken = append(d.woken, channelID)
}

func (d *desk) User(userID int64, event string, data any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, err := json.Marshal(data)
	if userID == d.operator.UserID {
		d.told = append(d.told, event+" "+string(body))
	}
	return err
}

// parse is a kind's ConfigParser: number is public and who the channel is, secret and verifyToken are sealed.
func parse(config map[string]any) (public, secrets map[string]string, externalKey string, err error) {
	public, secrets = map[string]string{}, map[string]string{}
	for name, value := range config {
		text, _ := value.(string)
		switch name {
		case "number":
			public[name], externalKey = text, text
		case "secret", "verifyToken":
			secrets[name] = text
		default:
			return nil, nil, "", domain.Invalid("config."+name, "There is no such setting.")
		}
	}
	if secrets["secret"] == "" {
		return nil, nil, "", domain.Invalid("config.secret", "It is missing.")
	}
	return public, secrets, externalKey, nil
}

func withDesk(t *testing.T, test func(t *testing.T, d *desk)) {
	t.Helper()
	onBoth(t, func(t *testing.T, c *customer) {
		d := &desk{customer: c}
		sealer, err := auth.NewSealer([]byte(strings.Repeat("k", 32)))
		require.NoError(t, err)
		d.inbox = inbox.New(inbox.Options{
			Store: c.store, Publisher: d, Waker: d, Logger: testkit.Logger(t), Sealer: sealer,
			Kinds: map[domain.ChannelKind]inbox.ConfigParser{domain.KindWABA: parse, domain.KindTelegram: parse},
		})
		user, err := c.store.CreateUser(testkit.Context(t), store.NewUser{
			OrganizationID: c.who.OrganizationID, Name: "Charles", Email: "charles@example.com", PasswordHash: "x", Role: domain.RoleOperator,
		})
		require.NoError(t, err)
		d.operator = domain.Principal{UserID: user.ID, OrganizationID: user.OrganizationID, Role: domain.RoleOperator}
		test(t, d)
	})
}

// last are the names of the events behind a count, and the count now.
func (d *desk) last(after int) ([]string, int) {
	all := names(d.events())
	return all[after:], len(all)
}

func pointer[T any](v T) *T { return &v }

// A customer who writes again is waiting again: the chat is open, still in its operator's hands.
func TestAMessageReopensAResolvedChat(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		d.receive(text("1", "hi", d.store.Now()))
		chatID := d.chats()[0].ID
		_, err := d.inbox.UpdateChat(ctx, d.who, chatID, inbox.ChatChange{
			Status: pointer(domain.ChatResolved), Assignee: inbox.Assignment{Set: true, UserID: &d.operator.UserID},
		})
		require.NoError(t, err)
		_, seen := d.last(0)

		blocked := text("2", "The customer has blocked the bot.", d.store.Now())
		blocked.Message.Silent = true
		d.receive(blocked)
		grace := peerOf(customerNumber, "Grace")
		d.receive(domain.Inbound{Reaction: &domain.InboundReaction{Peer: grace, Sender: grace, TargetExternalID: "1", Emoji: "👍", ProviderTime: d.store.Now()}})
		require.Equal(t, domain.ChatResolved, d.chats()[0].Status, "nobody waits for an answer")
		_, seen = d.last(seen)

		d.receive(text("3", "One more thing.", d.store.Now()))
		chat := d.chats()[0]
		assert.Equal(t, domain.ChatOpen, chat.Status)
		assert.Equal(t, d.operator.UserID, *chat.AssigneeID)
		found, _ := d.last(seen)
		assert.Equal(t, []string{domain.EventMessageNew, domain.EventChatUpdated}, found)
	})
}

func TestAssignmentNotifies(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		d.receive(text("1", "hi", d.store.Now()))
		chatID := d.chats()[0].ID
		_, seen := d.last(0)

		chat, err := d.inbox.UpdateChat(ctx, d.who, chatID, inbox.ChatChange{
			Assignee: inbox.Assignment{Set: true, UserID: &d.operator.UserID}, Tags: &[]string{" vip ", "vip", "it"},
		})
		require.NoError(t, err)
		assert.Equal(t, []string{"vip", "it"}, chat.Tags)
		assert.Equal(t, d.operator.UserID, *chat.AssigneeID)
		fresh, err := d.inbox.Chat(ctx, d.who, chatID)
		require.NoError(t, err)
		assert.Equal(t, fresh, chat, "what is answered is what is stored")
		found, seen := d.last(seen)
		assert.Equal(t, []string{domain.EventChatUpdated}, found)
		require.Len(t, d.told, 1)
		assert.Contains(t, d.told[0], `user:notification {"id":1,"kind":"chat_assigned"`)
		mine, err := d.inbox.Notifications(ctx, d.operator, store.NotificationFilter{Limit: 10})
		require.NoError(t, err)
		require.Len(t, mine, 1)
		assert.Equal(t, chatID, *mine[0].ChatID)
		assert.Equal(t, "The chat with Grace, by Ada", mine[0].Body)

		again, err := d.inbox.UpdateChat(ctx, d.who, chatID, inbox.ChatChange{Assignee: inbox.Assignment{Set: true, UserID: &d.operator.UserID}})
		require.NoError(t, err)
		assert.Equal(t, chat, again)
		found, seen = d.last(seen)
		assert.Empty(t, found, "nothing changed, nothing is told")

		_, err = d.inbox.UpdateChat(ctx, d.who, chatID, inbox.ChatChange{Assignee: inbox.Assignment{Set: true}})
		require.NoError(t, err)
		_, err = d.inbox.UpdateChat(ctx, d.operator, chatID, inbox.ChatChange{Assignee: inbox.Assignment{Set: true, UserID: &d.operator.UserID}})
		require.NoError(t, err)
		assert.Len(t, d.told, 1, "who takes a chat knows it")
		_, seen = d.last(seen)

		off := false
		_, err = d.store.UpdateUser(ctx, d.who.OrganizationID, d.operator.UserID, store.UserChange{Active: &off})
		require.NoError(t, err)
		for _, id := range []int64{d.operator.UserID, 9999} {
			_, err = d.inbox.CreateTicket(ctx, d.who, inbox.NewTicket{ChatID: chatID, Subject: "x", AssigneeID: &id})
			assert.Equal(t, domain.CodeInvalid, domain.CodeOf(err), "nobody who is inactive or unknown")
		}
		found, _ = d.last(seen)
		assert.Empty(t, found)

		unread, err := d.inbox.ReadNotifications(ctx, d.who, store.NotificationsRead{IDs: []int64{mine[0].ID}})
		require.NoError(t, err)
		assert.Zero(t, unread)
		mine, err = d.inbox.Notifications(ctx, d.operator, store.NotificationFilter{Limit: 10, UnreadOnly: true})
		require.NoError(t, err)
		assert.Len(t, mine, 1, "nobody reads another's notifications")
	})
}

func TestTicketsShowOnTheirChat(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		d.receive(text("1", "hi", d.store.Now()))
		chatID := d.chats()[0].ID
		_, seen := d.last(0)
		shown := func() int64 {
			chat, err := d.inbox.Chat(ctx, d.who, chatID)
			require.NoError(t, err)
			if chat.TicketID == nil {
				return 0
			}
			return *chat.TicketID
		}
		first, err := d.inbox.CreateTicket(ctx, d.who, inbox.NewTicket{ChatID: chatID, Subject: " Screws "})
		require.NoError(t, err)
		assert.Equal(t, "Screws", first.Subject)
		assert.Equal(t, domain.PriorityNormal, first.Priority)
		second, err := d.inbox.CreateTicket(ctx, d.who, inbox.NewTicket{ChatID: chatID, Subject: "Nails", AssigneeID: &d.operator.UserID})
		require.NoError(t, err)
		assert.Equal(t, second.ID, shown())
		found, seen := d.last(seen)
		assert.Equal(t, []string{"ticket:new", "chat:updated", "ticket:new", "chat:updated"}, found)
		assert.Len(t, d.told, 1)

		_, err = d.inbox.UpdateTicket(ctx, d.who, first.ID, inbox.TicketChange{Priority: pointer(domain.PriorityHigh)})
		require.NoError(t, err)
		found, seen = d.last(seen)
		assert.Equal(t, []string{"ticket:updated"}, found, "the chat shows the same ticket")
		_, err = d.inbox.UpdateTicket(ctx, d.who, second.ID, inbox.TicketChange{Status: pointer(domain.TicketClosed)})
		require.NoError(t, err)
		assert.Equal(t, first.ID, shown())
		_, err = d.inbox.UpdateTicket(ctx, d.who, first.ID, inbox.TicketChange{Status: pointer(domain.TicketResolved)})
		require.NoError(t, err)
		assert.Zero(t, shown())
		found, _ = d.last(seen)
		assert.Equal(t, []string{"ticket:updated", "chat:updated", "ticket:updated", "chat:updated"}, found)
	})
}

func TestStartChat(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		var (
			wg      sync.WaitGroup
			mu      sync.Mutex
			created int
			ids     = map[int64]bool{}
		)
		for _, phone := range []string{"+49 151 2345678", "0049-151-2345678", "(49) 151/2345678", "491512345678"} {
			wg.Go(func() {
				chat, made, err := d.inbox.StartChat(ctx, d.who, inbox.NewChat{ChannelID: d.channelID, Phone: phone})
				assert.NoError(t, err, phone)
				mu.Lock()
				defer mu.Unlock()
				ids[chat.ID] = true
				if made {
					created++
				}
			})
		}
		wg.Wait()
		assert.Len(t, ids, 1)
		assert.Equal(t, 1, created)
		found, _ := d.last(0)
		assert.Equal(t, []string{domain.EventChatNew}, found)

		for _, phone := range []string{"0151 2345678", "12", "1234567890123456", "+49 15x", "call me", "٤٩١٥١٢٣٤٥٦٧٨", "+", "++4915123456"} {
			_, _, err := d.inbox.StartChat(ctx, d.who, inbox.NewChat{ChannelID: d.channelID, Phone: phone})
			assert.Equal(t, domain.CodeInvalid, domain.CodeOf(err), phone)
		}
		telegram, err := d.inbox.CreateChannel(ctx, d.who, domain.KindTelegram, "Bot", map[string]any{"number": "7", "secret": "s"})
		require.NoError(t, err)
		_, _, err = d.inbox.StartChat(ctx, d.who, inbox.NewChat{ChannelID: telegram.ID, Username: "ada"})
		assert.Equal(t, domain.CodeUnsupported, domain.CodeOf(err))
	})
}

func TestChannelLife(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		config := map[string]any{"number": "123", "secret": "hush", "verifyToken": "word"}
		_, seen := d.last(0)
		ch, err := d.inbox.CreateChannel(ctx, d.who, domain.KindWABA, " Sales ", config)
		require.NoError(t, err)
		assert.Equal(t, "Sales", ch.Name)
		assert.True(t, ch.Enabled)
		assert.Equal(t, domain.ChannelConnecting, ch.Status.State)
		assert.Equal(t, map[string]string{"number": "123"}, ch.Config)
		found, seen := d.last(seen)
		assert.Equal(t, []string{domain.EventChannelStatus}, found)
		assert.Equal(t, []int64{ch.ID}, d.woken)

		var stored string
		row := d.store.SQL().QueryRowContext(ctx, "SELECT CAST(secrets AS text) || config FROM channels WHERE id = $1", ch.ID)
		require.NoError(t, row.Scan(&stored))
		assert.NotContains(t, stored, "hush")
		open, err := d.inbox.LoadChannel(ctx, ch.ID)
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"secret": "hush", "verifyToken": "word"}, open.Secrets)

		_, err = d.inbox.CreateChannel(ctx, d.who, domain.KindWABA, "Twice", config)
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err))
		_, err = d.inbox.CreateChannel(ctx, d.who, domain.KindWhatsApp, "No", map[string]any{})
		assert.Equal(t, domain.CodeUnsupported, domain.CodeOf(err))
		_, err = d.inbox.CreateChannel(ctx, d.operator, domain.KindWABA, "No", config)
		assert.Equal(t, domain.CodeForbidden, domain.CodeOf(err))
		_, err = d.inbox.CreateChannel(ctx, d.who, "fax", "No", config)
		assert.Equal(t, domain.CodeInvalid, domain.CodeOf(err))
		_, err = d.inbox.LogoutChannel(ctx, d.who, ch.ID)
		assert.Equal(t, domain.CodeUnsupported, domain.CodeOf(err))
		_, err = d.inbox.LinkCode(ctx, d.who, ch.ID)
		assert.Equal(t, domain.CodeUnsupported, domain.CodeOf(err))

		connected := domain.ChannelStatus{State: domain.ChannelConnected, Worker: "w1"}
		require.NoError(t, d.inbox.SetChannelStatus(ctx, ch.ID, connected))
		require.NoError(t, d.inbox.SetChannelStatus(ctx, ch.ID, connected))
		found, seen = d.last(seen)
		assert.Equal(t, []string{domain.EventChannelStatus}, found, "the same status twice is one event")
		same, err := d.inbox.ConnectChannel(ctx, d.who, ch.ID)
		require.NoError(t, err)
		assert.Equal(t, domain.ChannelConnected, same.Status.State)
		again, err := d.inbox.LoadChannel(ctx, ch.ID)
		require.NoError(t, err)
		assert.Equal(t, open.Version, again.Version, "connect on a connected channel changes nothing")

		_, err = d.inbox.UpdateChannel(ctx, d.who, ch.ID, inbox.ChannelChange{Name: pointer("Support"), Config: map[string]any{"secret": "psst"}})
		require.NoError(t, err)
		again, err = d.inbox.LoadChannel(ctx, ch.ID)
		require.NoError(t, err)
		assert.Equal(t, "Support", again.Channel.Name)
		assert.Equal(t, map[string]string{"secret": "psst", "verifyToken": "word"}, again.Secrets)
		assert.Equal(t, open.Version+1, again.Version)
		_, err = d.inbox.UpdateChannel(ctx, d.who, ch.ID, inbox.ChannelChange{Config: map[string]any{"number": "456"}})
		assert.Equal(t, domain.CodeConflict, domain.CodeOf(err), "another number is another channel")

		off, err := d.inbox.DisconnectChannel(ctx, d.who, ch.ID)
		require.NoError(t, err)
		assert.False(t, off.Enabled)
		require.NoError(t, d.inbox.SetChannelStatus(ctx, ch.ID, connected))
		off, err = d.inbox.Channel(ctx, d.who, ch.ID)
		require.NoError(t, err)
		assert.Equal(t, domain.ChannelDisconnected, off.Status.State, "a session that is late does not make it look on")
		on, err := d.inbox.ConnectChannel(ctx, d.who, ch.ID)
		require.NoError(t, err)
		assert.True(t, on.Enabled)
		assert.Equal(t, domain.ChannelConnecting, on.Status.State)
		_, seen = d.last(seen)

		require.NoError(t, d.inbox.DeleteChannel(ctx, d.who, ch.ID))
		found, _ = d.last(seen)
		assert.Equal(t, []string{domain.EventChannelDeleted}, found)
		_, err = d.inbox.Channel(ctx, d.who, ch.ID)
		assert.Equal(t, domain.CodeNotFound, domain.CodeOf(err))
		require.NoError(t, d.inbox.SetChannelStatus(ctx, ch.ID, connected), "whoever ran it may still say something")
		_, err = d.inbox.CreateChannel(ctx, d.who, domain.KindWABA, "Anew", config)
		assert.NoError(t, err, "the number is free again")
	})
}

func TestADeletedChannelSendsNothing(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		d.receive(text("1", "hi", d.store.Now()))
		chatID := d.chats()[0].ID
		message, _, err := d.inbox.Send(ctx, d.who, inbox.SendInput{ChatID: chatID, Content: "yes?"})
		require.NoError(t, err)
		require.NoError(t, d.inbox.DeleteChannel(ctx, d.who, d.channelID))
		message, err = d.inbox.Message(ctx, d.who, message.ID)
		require.NoError(t, err)
		assert.Equal(t, domain.StatusFailed, message.Status)
		assert.Equal(t, "channel_deleted", message.Error.Code)
		found, _ := d.last(0)
		assert.Equal(t, []string{domain.EventMessageStatus, domain.EventChannelDeleted}, found[len(found)-2:])
		assert.Len(t, d.messages(chatID), 2, "the chat stays readable")
	})
}

func TestWebhookSources(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		find := func(keys ...string) (found []string) {
			channels, err := d.inbox.ChannelsByExternalKey(ctx, domain.KindWABA, keys)
			require.NoError(t, err)
			for _, ch := range channels {
				found = append(found, ch.ExternalKey+"="+ch.Secrets["secret"])
			}
			slices.Sort(found)
			return found
		}
		assert.Empty(t, find("123", "456"))
		ch, err := d.inbox.CreateChannel(ctx, d.who, domain.KindWABA, "Sales", map[string]any{"number": "123", "secret": "hush", "verifyToken": "word"})
		require.NoError(t, err)
		assert.Equal(t, []string{"123=hush"}, find("123", "456", "123"))
		assert.Equal(t, []string{"123=hush"}, find("123"), "from memory")
		_, err = d.inbox.UpdateChannel(ctx, d.who, ch.ID, inbox.ChannelChange{Config: map[string]any{"secret": "psst"}})
		require.NoError(t, err)
		assert.Equal(t, []string{"123=psst"}, find("123"), "this process forgets what it changes")

		for token, want := range map[string]bool{"word": true, "Word": false, "": false} {
			id, found, err := d.inbox.ChannelByVerifyToken(ctx, domain.KindWABA, token)
			require.NoError(t, err)
			assert.Equal(t, want, found, token)
			if found {
				assert.Equal(t, ch.ID, id)
			}
		}
		_, found, err := d.inbox.ChannelByVerifyToken(ctx, domain.KindTelegram, "word")
		require.NoError(t, err)
		assert.False(t, found)
		require.NoError(t, d.inbox.DeleteChannel(ctx, d.who, ch.ID))
		assert.Empty(t, find("123"))
		_, found, err = d.inbox.ChannelByVerifyToken(ctx, domain.KindWABA, "word")
		require.NoError(t, err)
		assert.False(t, found)
	})
}

// blobs forgets keys; one cannot be removed.
type blobs struct {
	keys   map[string]bool
	refuse string
}

func (b *blobs) Delete(_ context.Context, key string) error {
	if key == b.refuse {
		return errRefused
	}
	delete(b.keys, key)
	return nil
}

var errRefused = errors.New("storage is down")

func TestSweepMedia(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		d.receive(text("1", "hi", d.store.Now()))
		chatID := d.chats()[0].ID
		storage := &blobs{keys: map[string]bool{}}
		for _, key := range []string{"a", "b", "c"} {
			storage.keys[key] = true
			file, err := d.inbox.AddFile(ctx, d.who, store.NewFile{MIME: "image/png", Filename: key, Size: 1, BlobKey: key})
			require.NoError(t, err)
			_, _, err = d.inbox.Send(ctx, d.who, inbox.SendInput{ChatID: chatID, MediaID: &file.ID})
			require.NoError(t, err)
		}
		removed, err := d.inbox.SweepMedia(ctx, storage)
		require.NoError(t, err)
		assert.Zero(t, removed)
		require.NoError(t, d.inbox.DeleteChat(ctx, d.who, chatID))
		found, _ := d.last(0)
		assert.Equal(t, domain.EventChatDeleted, found[len(found)-1])
		assert.Equal(t, domain.CodeNotFound, domain.CodeOf(d.inbox.DeleteChat(ctx, d.who, chatID)))

		storage.refuse = "b"
		_, err = d.inbox.SweepMedia(ctx, storage)
		require.ErrorIs(t, err, errRefused)
		storage.refuse = ""
		removed, err = d.inbox.SweepMedia(ctx, storage)
		require.NoError(t, err)
		assert.Equal(t, 2, removed)
		assert.Empty(t, slices.Collect(maps.Keys(storage.keys)))
	})
}

// TestSnapshotPlusEvents is F17 for what operators do: an old list of chats with the events after it equals a fresh one.
func TestSnapshotPlusEvents(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk) {
		ctx := testkit.Context(t)
		random := testkit.Rand(t)
		for _, number := range []string{"4915100000001", "4915100000002", "4915100000003"} {
			_, _, err := d.inbox.StartChat(ctx, d.who, inbox.NewChat{ChannelID: d.channelID, Phone: number})
			require.NoError(t, err)
		}
		snapshot := map[int64]domain.Chat{}
		var ids []int64
		for _, chat := range d.chats() {
			snapshot[chat.ID] = chat
			ids = append(ids, chat.ID)
		}
		begin := len(d.events())
		statuses := []domain.ChatStatus{domain.ChatOpen, domain.ChatPending, domain.ChatResolved}
		var wg sync.WaitGroup
		for worker := range 4 {
			picks := make([]int, 24)
			for i := range picks {
				picks[i] = random.IntN(1000)
			}
			wg.Go(func() {
				for i, pick := range picks {
					id := ids[pick%3]
					var err error
					switch (pick / 3) % 5 {
					case 0:
						_, err = d.inbox.UpdateChat(ctx, d.who, id, inbox.ChatChange{Status: &statuses[pick%3], Tags: &[]string{string(rune('a' + i))}})
					case 1:
						_, err = d.inbox.UpdateChat(ctx, d.operator, id, inbox.ChatChange{Assignee: inbox.Assignment{Set: true, UserID: &d.operator.UserID}})
					case 2:
						_, err = d.inbox.CreateTicket(ctx, d.who, inbox.NewTicket{ChatID: id, Subject: "s"})
					case 3: // the customer is called something else now
						err = d.inbox.Receive(ctx, d.channelID, []domain.Inbound{{Message: &domain.InboundMessage{
							ExternalID: string(rune('a'+worker)) + string(rune('a'+i)), Peer: peerOf("491510000000"+string(rune('1'+pick%3)), "Name "+string(rune('a'+i))),
							Type: domain.TypeText, Content: "x", ProviderTime: d.store.Now(),
						}}})
					default:
						_, err = d.inbox.MarkRead(ctx, d.who, id, nil)
					}
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		require.NoError(t, d.inbox.DeleteChat(ctx, d.who, ids[0]))
		for _, event := range d.events()[begin:] {
			switch event.Name {
			case domain.EventChatNew, domain.EventChatUpdated:
				var chat domain.Chat
				require.NoError(t, json.Unmarshal(event.Data, &chat))
				snapshot[chat.ID] = chat
			case domain.EventChatDeleted:
				delete(snapshot, ids[0])
			}
		}
		fresh := map[int64]domain.Chat{}
		for _, chat := range d.chats() {
			fresh[chat.ID] = chat
		}
		assert.Equal(t, fresh, snapshot)
	})
}
