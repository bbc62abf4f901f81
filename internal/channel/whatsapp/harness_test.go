package whatsapp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/auth"
	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/media"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/worker"
)

const (
	ourNumber   = "15550200001"
	otherNumber = "15550200002"
	marta       = "15550100101"
	tomas       = "15550100102"
	aiko        = "15550100103" // shows her LID only
	nobody      = "15550100109" // not on WhatsApp
	team        = "120363000000000001"
)

// rootSeed is one for all simulators of the process: the library has one root
// key.
var rootSeed = sha256.Sum256([]byte("switchboard tests"))

// shop is an organization with channels at the simulator, on a real database.
type shop struct {
	t      *testing.T
	sim    *whatsapp.Server
	store  *store.Store
	inbox  *inbox.Service
	blobs  media.Blobs
	who    domain.Principal
	url    string // the simulator's address
	server *httptest.Server

	mu     sync.Mutex // guards what follows
	told   []told     // what went to users and chat rooms
	events []domain.Event
	seen   int // events that await has looked at
}

// told is what left for a room.
type told struct {
	user, chat int64
	event      string
	data       json.RawMessage
}

func (s *shop) Publish(events []domain.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
}

func (s *shop) User(userID int64, event string, data any) error {
	return s.tell(told{user: userID, event: event}, data)
}

func (s *shop) Typing(chatID int64, on bool, data any) error {
	event := domain.EventTypingStop
	if on {
		event = domain.EventTypingStart
	}
	return s.tell(told{chat: chatID, event: event}, data)
}

func (s *shop) tell(what told, data any) error {
	raw, err := json.Marshal(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	what.data = raw
	s.told = append(s.told, what)
	return err
}

func (*shop) Wake(int64)   {}
func (*shop) Attend(int64) {}

type databaseFrom func(t testing.TB, name string, prepare func(databaseURL string) error) string

// linkable is a database with the tables of the product and of the library.
func linkable(t *testing.T, from databaseFrom) string {
	return from(t, "linkable", func(databaseURL string) (err error) {
		ctx := context.Background()
		s, err := store.Open(ctx, databaseURL, store.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return Migrate(ctx, s.SQL(), s.KeysDialect(), slog.New(slog.DiscardHandler))
	})
}

func onBoth(t *testing.T, test func(t *testing.T, s *shop), change ...func(*whatsapp.Options)) {
	t.Helper()
	for name, from := range map[string]databaseFrom{"PostgreSQL": testkit.PostgresFrom, "SQLite": testkit.SQLiteFrom} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newShop(t, linkable(t, from), change...))
		})
	}
}

func newShop(t *testing.T, database string, change ...func(*whatsapp.Options)) *shop {
	t.Helper()
	s := &shop{t: t}
	o := whatsapp.Options{
		Logger: testkit.Logger(t), RootKey: rootSeed[:],
		Phones: []whatsapp.Phone{{Number: ourNumber, Name: "Cactus shop"}, {Number: otherNumber, Name: "Other shop"}},
		People: []whatsapp.Person{
			{Number: marta, Name: "Marta Lind", HasAvatar: true},
			{Number: tomas, Name: "Tomás Ruiz"},
			{Number: aiko, Name: "Aiko", HideNumber: true},
			{Number: nobody, NotOnWhatsApp: true},
		},
		Groups: []whatsapp.Group{{ID: team, Subject: "Cactus friends", Members: []string{marta, tomas, ourNumber}}},
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	s.sim, err = whatsapp.New(o)
	require.NoError(t, err)
	require.NoError(t, s.sim.Start(context.Background()))
	s.server = httptest.NewServer(s.sim.Handler())
	s.url = s.server.URL
	t.Cleanup(func() {
		_ = s.sim.Close()
		s.server.CloseClientConnections()
		s.server.Close()
	})
	s.store, err = store.Open(testkit.Context(t), database, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.store.Close()) })
	sealer, err := auth.NewSealer(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	s.inbox = inbox.New(inbox.Options{
		Store: s.store, Publisher: s, Waker: s, Logger: testkit.Logger(t), Sealer: sealer,
		Kinds: map[domain.ChannelKind]inbox.ConfigParser{domain.KindWhatsApp: ParseConfig},
	})
	s.blobs, err = media.Open("file://" + t.TempDir())
	require.NoError(t, err)
	user, err := s.store.CreateOrganization(testkit.Context(t), store.Registration{
		OrganizationName: "Acme", UserName: "Ada", Email: "ada@example.com", PasswordHash: "x",
	}, false)
	require.NoError(t, err)
	s.who = domain.Principal{UserID: user.ID, OrganizationID: user.OrganizationID, Role: domain.RoleAdmin}
	return s
}

// create makes a channel that is not linked.
func (s *shop) create(config map[string]any) domain.Channel {
	s.t.Helper()
	c, err := s.inbox.CreateChannel(testkit.Context(s.t), s.who, domain.KindWhatsApp, "Number", config)
	require.NoError(s.t, err)
	return c
}

// linked makes a channel and links a phone to it by QR code; a worker must run.
func (s *shop) linked(number string) domain.Channel {
	s.t.Helper()
	c := s.create(map[string]any{})
	s.scan(c.ID, number)
	return s.await(c.ID, domain.ChannelConnected, "")
}

// scan connects a channel and has a phone scan its code.
func (s *shop) scan(channelID int64, number string) {
	s.t.Helper()
	require.NoError(s.t, s.tryScan(channelID, number))
}

// tryScan is scan for a phone that may be refused.
func (s *shop) tryScan(channelID int64, number string) error {
	s.t.Helper()
	_, err := s.inbox.ConnectChannel(testkit.Context(s.t), s.who, channelID)
	require.NoError(s.t, err)
	code, err := s.inbox.LinkCode(testkit.Context(s.t), s.who, channelID)
	require.NoError(s.t, err)
	return s.sim.Scan(number, code.QR)
}

// await waits until a channel is in a state, or was since the last call: some are left within milliseconds.
func (s *shop) await(channelID int64, state domain.ChannelState, code string) domain.Channel {
	s.t.Helper()
	is := func(status domain.ChannelStatus) bool {
		return status.ChannelID == channelID && status.State == state && status.Code == code
	}
	var c domain.Channel
	testkit.Eventually(s.t, fmt.Sprintf("channel %d %s/%s", channelID, state, code), func() bool {
		passed := s.passed(is)
		var err error
		c, err = s.inbox.Channel(testkit.Context(s.t), s.who, channelID)
		require.NoError(s.t, err)
		if is(c.Status) {
			return true
		}
		if passed == nil || state == domain.ChannelConnected && code == "" { // that is to last
			return false
		}
		c.Status = *passed
		return true
	})
	return c
}

// statuses are the states that channels were told to be in since the last call, or the last await.
func (s *shop) statuses() []domain.ChannelStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var told []domain.ChannelStatus
	for _, e := range s.events[s.seen:] {
		var status domain.ChannelStatus
		if e.Name == domain.EventChannelStatus && json.Unmarshal(e.Data, &status) == nil {
			told = append(told, status)
		}
	}
	s.seen = len(s.events)
	return told
}

// passed is a state that was told since the last one that was found.
func (s *shop) passed(is func(domain.ChannelStatus) bool) *domain.ChannelStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range s.events[s.seen:] {
		var status domain.ChannelStatus
		if e.Name == domain.EventChannelStatus && json.Unmarshal(e.Data, &status) == nil && is(status) {
			s.seen += i + 1
			return &status
		}
	}
	return nil
}

func (s *shop) options() Options {
	return Options{
		Endpoint: s.url, RootKey: s.sim.RootKeyHex(), Logger: testkit.Logger(s.t), StoreFor: 2 * time.Second, QuietAfter: time.Hour,
		RetryPatience: 2 * time.Second,
	}
}

func (s *shop) worker(id string, change ...func(*worker.Options)) *worker.Worker {
	s.t.Helper()
	numbers, err := NewFactory(s.options())
	require.NoError(s.t, err)
	o := worker.Options{
		ID: id, Store: s.store, Inbox: s.inbox, Logger: testkit.Logger(s.t), PollInterval: 30 * time.Millisecond,
		LeaseTTL: 15 * time.Second, MinBackoff: 10 * time.Millisecond, MaxBackoff: 200 * time.Millisecond,
		Factories: map[domain.ChannelKind]channel.Factory{domain.KindWhatsApp: numbers},
		Media:     inbox.NewMediaFetch(s.inbox, s.blobs, 64<<20),
		OpenMedia: func(ctx context.Context, organizationID, id int64) (io.ReadCloser, domain.Media, error) {
			file, key, err := s.store.MediaFile(ctx, organizationID, id)
			if err != nil {
				return nil, domain.Media{}, err
			}
			blob, err := s.blobs.Open(ctx, key)
			return blob, file, err
		},
	}
	for _, c := range change {
		c(&o)
	}
	w, err := worker.New(o)
	require.NoError(s.t, err)
	require.NoError(s.t, w.Start(context.WithoutCancel(s.t.Context())))
	s.t.Cleanup(w.Stop)
	return w
}

// says has somebody write to our number.
func (s *shop) says(in whatsapp.Incoming) string {
	s.t.Helper()
	sent, err := s.sim.Send(ourNumber, in)
	require.NoError(s.t, err)
	return sent.ID
}

// row waits for a message by its id at WhatsApp.
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

func (s *shop) chats() []domain.Chat {
	s.t.Helper()
	rows, err := s.store.Chats(testkit.Context(s.t), s.who.OrganizationID, store.ChatFilter{Limit: 100})
	require.NoError(s.t, err)
	chats := make([]domain.Chat, len(rows))
	for i, r := range rows {
		chats[i] = r.Chat
	}
	return chats
}

func (s *shop) chat(id int64) domain.Chat {
	s.t.Helper()
	all := s.chats()
	i := slices.IndexFunc(all, func(c domain.Chat) bool { return c.ID == id })
	require.GreaterOrEqual(s.t, i, 0, "chat %d", id)
	return all[i]
}

// all are the messages of all chats, each chat's in order.
func (s *shop) all() []domain.Message {
	s.t.Helper()
	var all []domain.Message
	for _, c := range s.chats() {
		messages, err := s.store.MessagesOf(testkit.Context(s.t), s.who.OrganizationID, store.MessageFilter{ChatID: c.ID, Limit: 1000})
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

// status waits for a message's status.
func (s *shop) status(id int64, want domain.MessageStatus) domain.Message {
	s.t.Helper()
	var found domain.Message
	testkit.Eventually(s.t, fmt.Sprintf("message %d %s", id, want), func() bool {
		for _, m := range s.all() {
			if m.ID == id {
				found = m
				return m.Status == want
			}
		}
		return false
	})
	return found
}

// shown waits until somebody's phone shows a message that satisfies as.
func (s *shop) shown(number, peer string, as func(whatsapp.Message) bool) whatsapp.Message {
	s.t.Helper()
	var found whatsapp.Message
	testkit.Eventually(s.t, "a message on the phone of "+peer, func() bool {
		messages, err := s.sim.Conversation(number, peer)
		if err != nil {
			return false
		}
		for _, m := range messages {
			if as(m) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}
