package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// world is a database with an organization, its channels and chats, and a
// provider that all sessions of the test talk to.
type world struct {
	t        *testing.T
	url      string
	db       *store.Store // the test's own
	provider *provider
	events   *events
}

// onBoth runs a test on both databases.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	for _, database := range []struct {
		name string
		url  func(testing.TB) string
	}{{"PostgreSQL", storetest.Postgres}, {"SQLite", storetest.SQLite}} {
		t.Run(database.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, database.url(t))
			test(t, w)
			w.provider.check(t)
		})
	}
}

func newWorld(t *testing.T, url string) *world {
	t.Helper()
	w := &world{t: t, url: url, provider: newProvider(), events: &events{}}
	w.db = w.open()
	if w.db.Postgres() { // the test's own ids are below
		w.exec("ALTER TABLE messages ALTER COLUMN id RESTART WITH 1000000")
	}
	w.exec("INSERT INTO organizations (id, name, created_at) VALUES (1, 'Acme', 0)")
	w.exec("INSERT INTO event_heads (organization_id, epoch) VALUES (1, 'e')")
	w.exec("INSERT INTO contacts (id, organization_id, created_at, updated_at) VALUES (1, 1, 0, 0)")
	return w
}

func (w *world) open() *store.Store {
	w.t.Helper()
	s, err := store.Open(w.t.Context(), w.url, store.Options{MaxConnections: 8})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	_, err := w.db.SQL().ExecContext(w.t.Context(), fmt.Sprintf(query, args...))
	require.NoError(w.t, err)
}

func (w *world) one(query string, args ...any) string {
	w.t.Helper()
	var value any
	require.NoError(w.t, w.db.SQL().QueryRowContext(w.t.Context(), fmt.Sprintf(query, args...)).Scan(&value))
	if b, is := value.([]byte); is {
		return string(b)
	}
	return fmt.Sprint(value)
}

func (w *world) channel(id int64) {
	w.exec(`INSERT INTO channels (id, organization_id, kind, name, config, enabled, state, state_since, created_at, updated_at)
		VALUES (%d, 1, 'telegram', 'c', '{}', true, 'disconnected', 0, 0, 0)`, id)
}

func (w *world) chat(id, channelID int64) {
	w.exec(`INSERT INTO chats (id, organization_id, channel_id, channel_kind, kind, peer, contact_id, status, activity_at, created_at, updated_at)
		VALUES (%d, 1, %d, 'telegram', 'direct', 'peer-%d', 1, 'open', 0, 0, 0)`, id, channelID, id)
}

func (w *world) queue(id, chatID, channelID int64) {
	w.exec(`INSERT INTO messages (id, organization_id, chat_id, channel_id, channel_kind, type, content, from_me, sender_key, sender_name, status, provider_time, created_at)
		VALUES (%d, 1, %d, %d, 'telegram', 'text', 'm%d', true, 'me', '', 'queued', %d, %d)`, id, chatID, channelID, id, id, w.db.Now())
}

func (w *world) inbound(id, chatID, channelID int64) {
	w.exec(`INSERT INTO messages (id, organization_id, chat_id, channel_id, channel_kind, type, content, from_me, sender_key, sender_name, status, external_id, provider_time, created_at)
		VALUES (%d, 1, %d, %d, 'telegram', 'text', 'm%d', false, '', '', 'received', 'in-%d', %d, 0)`, id, chatID, channelID, id, id, id)
}

func (w *world) status(messageID int64) string {
	return w.one("SELECT status FROM messages WHERE id = %d", messageID)
}

func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	testkit.Eventually(w.t, what, condition)
}

func (w *world) eventuallyStatus(messageID int64, want domain.MessageStatus) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("message %d to be %s", messageID, want), func() bool { return w.status(messageID) == string(want) })
}

// node is a worker with what it stands on.
type node struct {
	*Worker
	store *store.Store
	inbox *inbox.Service
}

func (w *world) node(name string, change func(*Options)) *node {
	w.t.Helper()
	s := w.open()
	service := inbox.New(inbox.Options{Store: s, Publisher: w.events, Waker: nowhere{}, Logger: testkit.Logger(w.t)})
	o := Options{
		ID: name, Store: s, Inbox: service, Logger: testkit.Logger(w.t),
		Factories: map[domain.ChannelKind]channel.Factory{domain.KindTelegram: w.provider.open(name)},
		LeaseTTL:  15 * time.Second, PollInterval: 50 * time.Millisecond,
		MinBackoff: 20 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, DrainTimeout: time.Second, StopTimeout: 5 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	worker, err := New(o)
	require.NoError(w.t, err)
	w.t.Cleanup(worker.Stop)
	return &node{Worker: worker, store: s, inbox: service}
}

// calm gives a worker leases that no slow moment of the machine takes away: a
// lost one rightly makes messages unknown.
func calm(o *Options) { o.LeaseTTL = time.Minute }

// brief is for workers whose leases run out within a test. On a busy machine they may run out under a worker that lives.
func brief(o *Options) { o.LeaseTTL = 2 * time.Second }

func (w *world) start(name string, change func(*Options)) *node {
	w.t.Helper()
	n := w.node(name, change)
	require.NoError(w.t, n.Start(w.t.Context()))
	return n
}

// kill ends a worker as kill -9 does, as far as the database can see: nothing
// is written or given back any more.
func (w *Worker) kill() {
	w.mu.Lock()
	w.dead = true
	die, stop := w.die, w.stopSearch
	w.mu.Unlock()
	die(fmt.Errorf("killed"))
	stop()
}

type nowhere struct{}

func (nowhere) Wake(int64)   {}
func (nowhere) Attend(int64) {}

// events is the wire to the sockets.
type events struct {
	mu  sync.Mutex // guards all
	all []domain.Event
}

func (e *events) Publish(events []domain.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, events...)
}

func (e *events) User(int64, string, any) error { return nil }

func (e *events) Typing(int64, bool, any) error { return nil }

// statuses returns the words of message:status of one message, in the log's
// order.
func (w *world) statuses(messageID int64) []string {
	w.t.Helper()
	page, err := w.db.EventsAfter(w.t.Context(), 1, 0, store.MaxEventPage)
	require.NoError(w.t, err)
	require.Less(w.t, len(page.Events), store.MaxEventPage, "read further pages")
	var words []string
	for _, e := range page.Events {
		var change domain.MessageStatusChange
		if e.Name == domain.EventMessageStatus {
			require.NoError(w.t, json.Unmarshal(e.Data, &change))
			if change.MessageID == messageID {
				words = append(words, string(change.Status))
			}
		}
	}
	return words
}

// provider is what the sessions of a test connect to: it keeps a ledger of who
// is connected and what was sent, in order.
type provider struct {
	mu       sync.Mutex // guards what follows
	live     map[int64]string
	faults   []string
	sent     []sentMessage
	inFlight map[int64]int // by chat
	opened   map[int64]int
	// behaviour; nil: connect and accept
	run    func(ctx context.Context, s *session) error
	send   func(ctx context.Context, s *session, out domain.Outbound) (channel.Sent, error)
	do     func(ctx context.Context, c domain.Command) error
	fetch  func(ctx context.Context, ref string) (io.ReadCloser, error)
	typed  []string
	resend bool
}

type sentMessage struct {
	worker     string
	chat, id   int64
	externalID string
	at         time.Time
}

func newProvider() *provider {
	return &provider{live: map[int64]string{}, inFlight: map[int64]int{}, opened: map[int64]int{}}
}

func (p *provider) open(worker string) channel.Factory {
	return func(c channel.Config) (channel.Session, error) {
		s := &session{p: p, worker: worker, config: c}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.resend {
			return resender{s}, nil
		}
		return s, nil
	}
}

func (p *provider) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

func (p *provider) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.faults)
}

func (p *provider) sentTo(chat int64) (ids []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sent {
		if s.chat == chat {
			ids = append(ids, s.id)
		}
	}
	return ids
}

func (p *provider) sendsOf(id int64) (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sent {
		if s.id == id {
			names = append(names, s.externalID)
		}
	}
	return names
}

func (p *provider) owner(channelID int64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live[channelID]
}

func (p *provider) owners() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, name := range p.live {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// session is a fake connection.
type session struct {
	p      *provider
	worker string
	config channel.Config
}

var (
	_ channel.Session      = (*session)(nil)
	_ channel.Commander    = (*session)(nil)
	_ channel.MediaFetcher = (*session)(nil)
	_ channel.Typer        = (*session)(nil)
	_ channel.Resender     = resender{}
)

func (s *session) Run(ctx context.Context) error {
	id := s.config.Channel.ID
	s.p.mu.Lock()
	if other, connected := s.p.live[id]; connected {
		s.p.fault("channel %d: %s connects while %s is", id, s.worker, other)
	}
	s.p.live[id] = s.worker
	s.p.opened[id]++
	run := s.p.run
	s.p.mu.Unlock()
	defer func() {
		s.p.mu.Lock()
		delete(s.p.live, id)
		s.p.mu.Unlock()
	}()
	if run != nil {
		return run(ctx, s)
	}
	return s.serve(ctx)
}

// serve is a session that works.
func (s *session) serve(ctx context.Context) error {
	_ = s.config.Host.SetStatus(ctx, domain.ChannelConnected, "", "Connected.")
	s.config.Host.Ready()
	<-ctx.Done()
	return nil
}

func (s *session) Send(ctx context.Context, out domain.Outbound) (channel.Sent, error) {
	s.p.mu.Lock()
	chat := out.Message.ChatID
	s.p.inFlight[chat]++
	if s.p.inFlight[chat] > 1 {
		s.p.fault("chat %d: two sends at once", chat)
	}
	if s.p.live[out.Message.ChannelID] != s.worker {
		s.p.fault("message %d: sent by %s, which is not connected", out.Message.ID, s.worker)
	}
	send := s.p.send
	s.p.mu.Unlock()
	defer func() {
		s.p.mu.Lock()
		s.p.inFlight[chat]--
		s.p.mu.Unlock()
	}()
	if send != nil {
		return send(ctx, s, out)
	}
	return s.accept(out), nil
}

// accept enters a message in the provider's ledger.
func (s *session) accept(out domain.Outbound) channel.Sent {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	name := out.Message.ExternalID
	if name == "" {
		name = fmt.Sprintf("out-%d-%d", out.Message.ID, out.Attempt)
	}
	s.p.sent = append(s.p.sent, sentMessage{worker: s.worker, chat: out.Message.ChatID, id: out.Message.ID, externalID: name, at: time.Now()})
	return channel.Sent{ExternalID: name}
}

func (s *session) Do(ctx context.Context, c domain.Command) error {
	s.p.mu.Lock()
	do := s.p.do
	s.p.mu.Unlock()
	if do == nil {
		return nil
	}
	return do(ctx, c)
}

func (s *session) FetchMedia(ctx context.Context, ref string) (io.ReadCloser, error) {
	s.p.mu.Lock()
	fetch := s.p.fetch
	s.p.mu.Unlock()
	if fetch == nil {
		return io.NopCloser(strings.NewReader(ref)), nil
	}
	return fetch(ctx, ref)
}

func (s *session) Typing(_ context.Context, peer, last string, on bool) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.typed = append(s.p.typed, fmt.Sprint(peer, " ", last, " ", on))
	return nil
}

// resender is a session whose provider knows a repeated send.
type resender struct{ *session }

var names struct {
	sync.Mutex
	n int
}

func (resender) NewExternalID() string {
	names.Lock()
	defer names.Unlock()
	names.n++
	return fmt.Sprint("own-", names.n)
}
