package telegram

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/auth"
	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/media"
	botapi "switchboard/internal/simulator/telegram"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
	"switchboard/internal/worker"
)

// shop is an organization with a bot at the simulator, on a real database, with
// a worker that runs it.
type shop struct {
	t       *testing.T
	sim     *botapi.Server
	store   *store.Store
	inbox   *inbox.Service
	blobs   media.Blobs
	who     domain.Principal
	channel domain.Channel
	api     string // the simulator's address
}

func (*shop) Publish([]domain.Event)        {}
func (*shop) User(int64, string, any) error { return nil }
func (*shop) Typing(int64, bool, any) error { return nil }
func (*shop) Wake(int64)                    {}
func (*shop) Attend(int64)                  {}

func onBoth(t *testing.T, test func(t *testing.T, s *shop)) {
	t.Helper()
	for name, database := range map[string]func(testing.TB) string{"PostgreSQL": storetest.Postgres, "SQLite": storetest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newShop(t, database(t)))
		})
	}
}

func newShop(t *testing.T, database string, change ...func(*botapi.Options)) *shop {
	t.Helper()
	s := &shop{t: t}
	o := botapi.Options{
		Logger: testkit.Logger(t), NoLimits: true,
		Bots:      []botapi.Bot{{Token: token, Name: "Cactus Shop", Username: "cactus_bot"}},
		Customers: []botapi.Customer{{ID: 5001, FirstName: "Ann", LastName: "Çelik", Username: "ann_c"}, {ID: 5002, FirstName: "Bob"}},
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	s.sim, err = botapi.New(o)
	require.NoError(t, err)
	require.NoError(t, s.sim.Start(context.Background()))
	server := httptest.NewServer(s.sim.Handler())
	s.api = server.URL
	t.Cleanup(func() {
		_ = s.sim.Close()
		server.CloseClientConnections()
		server.Close()
	})
	s.store, err = store.Open(testkit.Context(t), database, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.store.Close()) })
	sealer, err := auth.NewSealer(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	s.inbox = inbox.New(inbox.Options{
		Store: s.store, Publisher: s, Waker: s, Logger: testkit.Logger(t), Sealer: sealer,
		Kinds: map[domain.ChannelKind]inbox.ConfigParser{domain.KindTelegram: ParseConfig},
	})
	s.blobs, err = media.Open("file://" + t.TempDir())
	require.NoError(t, err)
	user, err := s.store.CreateOrganization(testkit.Context(t), store.Registration{
		OrganizationName: "Acme", UserName: "Ada", Email: "ada@example.com", PasswordHash: "x",
	}, false)
	require.NoError(t, err)
	s.who = domain.Principal{UserID: user.ID, OrganizationID: user.OrganizationID, Role: domain.RoleAdmin}
	s.channel, err = s.inbox.CreateChannel(testkit.Context(t), s.who, domain.KindTelegram, "Bot", map[string]any{KeyBotToken: token})
	require.NoError(t, err)
	return s
}

func (s *shop) worker(id string) *worker.Worker {
	s.t.Helper()
	bots, err := NewFactory(Options{
		API: s.api + "/bot%s/%s", Files: s.api + "/file/bot%s/%s", HTTP: NewAPIClient(),
		PollTimeout: 2 * time.Second, Grace: 5 * time.Second, MinWait: 5 * time.Millisecond, MaxWait: 50 * time.Millisecond,
	})
	require.NoError(s.t, err)
	w, err := worker.New(worker.Options{
		ID: id, Store: s.store, Inbox: s.inbox, Logger: testkit.Logger(s.t), PollInterval: 30 * time.Millisecond,
		LeaseTTL: 2 * time.Second, MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond,
		Factories: map[domain.ChannelKind]channel.Factory{domain.KindTelegram: bots},
		Media:     inbox.NewMediaFetch(s.inbox, s.blobs, 64<<20),
		OpenMedia: func(ctx context.Context, organizationID, id int64) (io.ReadCloser, domain.Media, error) {
			file, key, err := s.store.MediaFile(ctx, organizationID, id)
			if err != nil {
				return nil, domain.Media{}, err
			}
			blob, err := s.blobs.Open(ctx, key)
			return blob, file, err
		},
	})
	require.NoError(s.t, err)
	require.NoError(s.t, w.Start(context.WithoutCancel(s.t.Context())))
	s.t.Cleanup(w.Stop)
	return w
}

func (s *shop) says(chat int64, in botapi.Incoming) int {
	s.t.Helper()
	sent, err := s.sim.CustomerSend(botNumber, chat, in)
	require.NoError(s.t, err)
	return int(sent.MessageID)
}

// message waits for a row by the provider's id.
func (s *shop) message(chat int64, id int, as func(domain.Message) bool) domain.Message {
	s.t.Helper()
	return s.row(externalID(chat, id), as)
}

func (s *shop) row(external string, as func(domain.Message) bool) domain.Message {
	s.t.Helper()
	var found domain.Message
	testkit.Eventually(s.t, "message "+external, func() bool {
		for _, m := range s.all() {
			if m.ExternalID == external && (as == nil || as(m)) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// all are the messages of all chats, each chat's in order.
func (s *shop) all() []domain.Message {
	s.t.Helper()
	chats, err := s.store.Chats(testkit.Context(s.t), s.who.OrganizationID, store.ChatFilter{Limit: 100})
	require.NoError(s.t, err)
	var all []domain.Message
	for _, c := range chats {
		messages, err := s.store.MessagesOf(testkit.Context(s.t), s.who.OrganizationID, store.MessageFilter{ChatID: c.Chat.ID, Limit: 1000})
		require.NoError(s.t, err)
		all = append(all, messages...)
	}
	return all
}

func (s *shop) send(in inbox.SendInput) domain.Message {
	s.t.Helper()
	m, _, err := s.inbox.Send(testkit.Context(s.t), s.who, in)
	require.NoError(s.t, err)
	return m
}

// settled waits until a message of ours has a status.
func (s *shop) settled(id int64, status domain.MessageStatus) domain.Message {
	s.t.Helper()
	var found domain.Message
	testkit.Eventually(s.t, fmt.Sprintf("message %d to be %s", id, status), func() bool {
		for _, m := range s.all() {
			if m.ID == id && m.Status == status {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// shown is a message as the customers' apps show it.
func (s *shop) shown(chat int64, m domain.Message) botapi.ChatMessage {
	s.t.Helper()
	_, id, ok := parseExternalID(m.ExternalID)
	require.True(s.t, ok, m.ExternalID)
	talk, err := s.sim.Conversation(botNumber, chat)
	require.NoError(s.t, err)
	for _, c := range talk.Messages {
		if c.Message.MessageID == int64(id) {
			return c
		}
	}
	require.Fail(s.t, "the customer does not see the message")
	panic("unreachable")
}

func TestCustomersTalkWithOperators(t *testing.T) {
	onBoth(t, func(t *testing.T, s *shop) {
		ctx := testkit.Context(t)
		s.worker("w1")
		const ann = 5001
		first := s.message(ann, s.says(ann, botapi.Incoming{Text: "Is it open? 🌵"}), nil)
		assert.Equal(t, "Is it open? 🌵", first.Content)
		assert.Equal(t, "Ann Çelik", first.SenderName)

		answer := s.settled(s.send(inbox.SendInput{ChatID: first.ChatID, Content: "Until <six>.", ReplyToID: &first.ID}).ID, domain.StatusSent)
		seen := s.shown(ann, answer)
		assert.Equal(t, "Until <six>.", seen.Message.Text)
		require.NotNil(t, seen.Message.ReplyToMessage)

		// Both sides edit, react and take back.
		_, err := s.inbox.Edit(ctx, s.who, answer.ID, "Until seven.")
		require.NoError(t, err)
		_, err = s.inbox.React(ctx, s.who, first.ID, "❤️")
		require.NoError(t, err)
		testkit.Eventually(t, "the edit and the reaction", func() bool {
			return s.shown(ann, answer).Message.Text == "Until seven." && len(s.shown(ann, first).Reactions) == 1
		})
		_, id, _ := parseExternalID(answer.ExternalID)
		_, err = s.sim.CustomerReact(botNumber, ann, int64(id), 0, "👍")
		require.NoError(t, err)
		s.row(answer.ExternalID, func(m domain.Message) bool { return len(m.Reactions) == 1 && m.Reactions[0].Emoji == "👍" })
		_, id, _ = parseExternalID(first.ExternalID)
		_, err = s.sim.CustomerEdit(botNumber, ann, int64(id), botapi.Incoming{Text: "Is it open today?"})
		require.NoError(t, err)
		s.row(first.ExternalID, func(m domain.Message) bool { return m.Content == "Is it open today?" && m.EditedAt != nil })
		_, err = s.inbox.Revoke(ctx, s.who, answer.ID)
		require.NoError(t, err)
		testkit.Eventually(t, "the revocation", func() bool { return s.shown(ann, answer).Deleted })

		// A customer who blocks the bot.
		require.NoError(t, s.sim.SetBlocked(botNumber, ann, true))
		testkit.Eventually(t, "the news of it", func() bool {
			return slices.ContainsFunc(s.all(), func(m domain.Message) bool { return m.Type == domain.TypeSystem })
		})
		failed := s.settled(s.send(inbox.SendInput{ChatID: first.ChatID, Content: "Are you there?"}).ID, domain.StatusFailed)
		assert.Equal(t, codeBlocked, failed.Error.Code)
	})
}

func TestFilesInBothDirections(t *testing.T) {
	onBoth(t, func(t *testing.T, s *shop) {
		ctx := testkit.Context(t)
		s.worker("w1")
		const ann = 5001
		picture := s.message(ann, s.says(ann, botapi.Incoming{Type: "photo", Caption: "the leaf"}), func(m domain.Message) bool { return m.Media.State == domain.MediaReady })
		assert.Equal(t, domain.TypeImage, picture.Type)
		assert.Positive(t, picture.Media.Size)
		large := s.message(ann, s.says(ann, botapi.Incoming{Type: "document", Media: &botapi.IncomingMedia{Filename: "film.mkv", Size: maxFetch + 1}}),
			func(m domain.Message) bool { return m.Media.State == domain.MediaFailed })
		assert.Contains(t, large.Media.Error, "20 MB")

		bill := []byte("%PDF-1.4 the bill")
		key := media.NewKey(s.who.OrganizationID)
		require.NoError(t, s.blobs.Put(ctx, key, bytes.NewReader(bill), int64(len(bill)), "application/pdf"))
		file, err := s.inbox.AddFile(ctx, s.who, store.NewFile{MIME: "application/pdf", Filename: "Rechnung № 5.pdf", Size: int64(len(bill)), BlobKey: key})
		require.NoError(t, err)
		sent := s.settled(s.send(inbox.SendInput{ChatID: picture.ChatID, MediaID: &file.ID, Content: "the bill"}).ID, domain.StatusSent)
		seen := s.shown(ann, sent).Message
		require.NotNil(t, seen.Document)
		assert.Equal(t, "Rechnung № 5.pdf", seen.Document.FileName)
		assert.EqualValues(t, len(bill), seen.Document.FileSize)
		assert.Equal(t, "the bill", seen.Caption)
	})
}

func TestGroupBecomesASupergroup(t *testing.T) {
	onBoth(t, func(t *testing.T, s *shop) {
		group, err := s.sim.AddChat(botapi.Group{Title: "Cactus lovers", Members: []int64{5001, 5002}, Bots: []botapi.ChatBot{{ID: botNumber}}})
		require.NoError(t, err)
		s.worker("w1")
		before := s.message(group.ID, s.says(group.ID, botapi.Incoming{From: 5002, Text: "hello all"}), nil)
		assert.Equal(t, "Bob", before.SenderName)
		next, err := s.sim.Migrate(group.ID)
		require.NoError(t, err)
		after := s.message(next, s.says(next, botapi.Incoming{From: 5001, Text: "still here"}), nil)
		assert.Equal(t, before.ChatID, after.ChatID, "it is one chat")
		sent := s.settled(s.send(inbox.SendInput{ChatID: before.ChatID, Content: "welcome"}).ID, domain.StatusSent)
		assert.Equal(t, "welcome", s.shown(next, sent).Message.Text)
	})
}

// Telegram's answer to the send is the first to tell that the group has moved.
func TestSendFindsThatTheGroupHasMoved(t *testing.T) {
	s := newShop(t, storetest.SQLite(t))
	group, err := s.sim.AddChat(botapi.Group{Title: "Cactus lovers", Members: []int64{5001}, Bots: []botapi.ChatBot{{ID: botNumber}}})
	require.NoError(t, err)
	s.worker("w1")
	before := s.message(group.ID, s.says(group.ID, botapi.Incoming{Text: "hello all"}), nil)
	hang, err := s.sim.SetFault(botapi.Fault{Kind: botapi.FaultHang, Method: "getUpdates"})
	require.NoError(t, err)
	next, err := s.sim.Migrate(group.ID)
	require.NoError(t, err)
	m := s.send(inbox.SendInput{ChatID: before.ChatID, Content: "welcome"})
	sent := s.settled(m.ID, domain.StatusSent)
	assert.Equal(t, "welcome", s.shown(next, sent).Message.Text)
	require.NoError(t, s.sim.ClearFault(hang))
	after := s.message(next, s.says(next, botapi.Incoming{Text: "still here"}), nil)
	assert.Equal(t, before.ChatID, after.ChatID)
	notices := 0
	for _, m := range s.all() {
		if m.Type == domain.TypeSystem {
			notices++
		}
	}
	assert.LessOrEqual(t, notices, 2, "the move is told once, beside the bot's arrival")
}

// A group that moves while something is being sent to it loses nothing, repeats
// nothing and keeps its order: what Telegram refuses for the old address goes to
// the new one, and what it took there stays, even if nobody was told so.
func TestGroupMovesWhileSendsAreInFlight(t *testing.T) {
	for kind, want := range map[botapi.FaultKind]domain.MessageStatus{
		botapi.FaultDelay:      domain.StatusSent,    // Telegram looks at it after the move
		botapi.FaultAcceptHang: domain.StatusUnknown, // it took it before, and its answer is lost
	} {
		t.Run(string(kind), func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *shop) {
				group, err := s.sim.AddChat(botapi.Group{Title: "Cactus lovers", Members: []int64{5001}, Bots: []botapi.ChatBot{{ID: botNumber}}})
				require.NoError(t, err)
				s.worker("w1")
				before := s.message(group.ID, s.says(group.ID, botapi.Incoming{Text: "hello all"}), nil)
				fault, err := s.sim.SetFault(botapi.Fault{Kind: kind, Method: "sendMessage", Count: 1, Delay: time.Minute})
				require.NoError(t, err)
				var sent []domain.Message
				for i := range 3 {
					sent = append(sent, s.send(inbox.SendInput{ChatID: before.ChatID, Content: fmt.Sprint("answer ", i)}))
				}
				testkit.Eventually(t, "the first to be under way", func() bool {
					return slices.ContainsFunc(s.sim.Faults(), func(f botapi.Fault) bool { return f.ID == fault && f.Used == 1 })
				})
				next, err := s.sim.Migrate(group.ID)
				require.NoError(t, err)
				after := s.message(next, s.says(next, botapi.Incoming{Text: "still here"}), nil)
				require.Equal(t, before.ChatID, after.ChatID, "the move is known")
				require.NoError(t, s.sim.ClearFault(fault))

				s.settled(sent[0].ID, want)
				last := s.settled(sent[2].ID, domain.StatusSent)
				s.settled(sent[1].ID, domain.StatusSent)
				assert.Equal(t, "answer 2", s.shown(next, last).Message.Text)
				var arrived []string
				for _, chat := range []int64{group.ID, next} {
					talk, err := s.sim.Conversation(botNumber, chat)
					require.NoError(t, err)
					for _, c := range talk.Messages {
						if strings.HasPrefix(c.Message.Text, "answer") {
							arrived = append(arrived, c.Message.Text)
						}
					}
				}
				assert.Equal(t, []string{"answer 0", "answer 1", "answer 2"}, arrived)
				chats := map[int64]bool{}
				for _, m := range s.all() {
					chats[m.ChatID] = true
				}
				assert.Len(t, chats, 1, "it is one chat")
			})
		})
	}
}

// Whatever happens between Telegram and the database, every message is stored
// once and in order, and no two polls overlap.
func TestNothingLostNothingTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, s *shop) {
		const n = 120
		first := s.worker("w1")
		for _, fault := range []botapi.Fault{
			{Kind: botapi.FaultDrop, Method: "getUpdates", Count: 2},
			{Kind: botapi.FaultTruncate, Method: "getUpdates", Count: 2},
			{Kind: botapi.FaultGarble, Method: "getUpdates", Count: 2},
			{Kind: botapi.FaultUpdateRepeat, Count: 3},
			{Kind: botapi.FaultUpdateMalformed, Count: 3},
			{Kind: botapi.FaultUpdateUnknown, Count: 3},
			{Kind: botapi.FaultUpdateHuge, Count: 1},
		} {
			_, err := s.sim.SetFault(fault)
			require.NoError(t, err)
		}
		var want []string
		var second *worker.Worker
		for i := range n {
			content := fmt.Sprintf("message %03d", i)
			want = append(want, content)
			s.says(5001, botapi.Incoming{Text: content})
			switch i {
			case n / 3: // another worker takes over
				second = s.worker("w2")
				first.Stop()
			case 2 * n / 3: // a week without updates
				require.NoError(t, s.sim.Ledger().Wait(testkit.Context(t), func(*botapi.Ledger) bool { return s.sim.Pending() == 0 }))
				require.NoError(t, s.sim.RestartUpdateIDs(botNumber, 7))
			}
		}
		defer second.Stop()
		var got []string
		testkit.Eventually(t, "all messages", func() bool {
			got = nil
			for _, m := range s.all() {
				if m.Type == domain.TypeText && len(m.Content) < maxContent {
					got = append(got, m.Content)
				}
			}
			return len(got) >= n
		})
		assert.Equal(t, want, got)
		require.NoError(t, s.sim.Ledger().Wait(testkit.Context(t), func(*botapi.Ledger) bool { return s.sim.Pending() == 0 }), "all is confirmed")
		assert.Empty(t, s.sim.Ledger().Overlaps(botNumber))
		assert.Equal(t, n, s.sim.Ledger().Counts().Inbound)
	})
}

// A send whose answer was lost is unknown, and is not repeated.
func TestLostAnswerIsNotRepeated(t *testing.T) {
	s := newShop(t, storetest.SQLite(t))
	s.worker("w1")
	first := s.message(5001, s.says(5001, botapi.Incoming{Text: "hello"}), nil)
	for kind, status := range map[botapi.FaultKind]domain.MessageStatus{
		botapi.FaultAcceptDrop: domain.StatusUnknown, botapi.FaultTruncate: domain.StatusUnknown, botapi.FaultGarble: domain.StatusUnknown,
		botapi.FaultRateLimit: domain.StatusSent,
	} {
		_, err := s.sim.SetFault(botapi.Fault{Kind: kind, Method: "sendMessage", Count: 1})
		require.NoError(t, err)
		before := s.sim.Ledger().Counts().Accepted
		s.settled(s.send(inbox.SendInput{ChatID: first.ChatID, Content: string(kind)}).ID, status)
		assert.Equal(t, before+1, s.sim.Ledger().Counts().Accepted, "%s: it arrived once", kind)
	}
}

// What waits in the outbox leaves as fast as Telegram takes it, in order, and
// the simulator, which enforces Telegram's limits, refuses none of it.
func TestQueuedMessagesKeepTelegramsLimits(t *testing.T) {
	for name, database := range map[string]func(testing.TB) string{"PostgreSQL": storetest.Postgres, "SQLite": storetest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const customers, each, many = 30, 3, 8
			s := newShop(t, database(t), func(o *botapi.Options) {
				o.NoLimits = false
				for i := range customers {
					o.Customers = append(o.Customers, botapi.Customer{ID: int64(6000 + i), FirstName: fmt.Sprint("C", i)})
				}
			})
			group, err := s.sim.AddChat(botapi.Group{Title: "Cactus lovers", Members: []int64{5001}, Bots: []botapi.ChatBot{{ID: botNumber}}})
			require.NoError(t, err)
			first := s.worker("w1")
			chats := map[int64]int64{} // by Telegram's number
			begin := func(chat, from int64) {
				chats[chat] = s.message(chat, s.says(chat, botapi.Incoming{From: from, Text: "hello"}), nil).ChatID
			}
			begin(group.ID, 5001)
			for i := range customers {
				begin(int64(6000+i), 0)
			}
			first.Stop()
			var inGroup []int64
			for n := range many {
				for number, chat := range chats {
					if number == group.ID || n < each {
						m := s.send(inbox.SendInput{ChatID: chat, Content: fmt.Sprint(n), Priority: domain.MessageBulk})
						if number == group.ID {
							inGroup = append(inGroup, m.ID)
						}
					}
				}
			}
			began := time.Now()
			s.worker("w2")
			all := customers*each + paceGroup.Burst
			require.NoError(t, s.sim.Ledger().Wait(testkit.Context(t), func(l *botapi.Ledger) bool { return l.Counts().Accepted >= all }))
			t.Logf("%d messages took %s", all, time.Since(began))
			testkit.Eventually(t, "all but the group's last ones to be sent", func() bool {
				return !slices.ContainsFunc(s.all(), func(m domain.Message) bool {
					return m.FromMe && m.Status != domain.StatusSent && !slices.Contains(inGroup[paceGroup.Burst:], m.ID)
				})
			})
			for _, m := range s.all() {
				assert.Contains(t, []domain.MessageStatus{domain.StatusReceived, domain.StatusSent, domain.StatusSending, domain.StatusQueued}, m.Status)
			}
			last := map[int64]string{}
			for _, send := range s.sim.Ledger().Sends(botNumber) {
				require.Zero(t, send.Code, "%+v", send)
				var args struct{ Text string }
				require.NoError(t, json.Unmarshal(send.Args, &args))
				assert.Less(t, last[send.ChatID], args.Text, "in order")
				last[send.ChatID] = args.Text
			}
		})
	}
}
