package whatsapp

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // for sqlstore
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

const (
	shop    = "15550200001"
	marta   = "15550100101"
	tomas   = "15550100102"
	aiko    = "15550100103" // hides her number
	gone    = "15550100109" // not on WhatsApp
	crowd   = "120363000000000101"
	patient = 20 * time.Second
)

// rootSeed is that of all simulators of these tests, since whatsmeow keeps the root's key in a variable of the package.
var rootSeed = []byte("a seed of the tests: 32 bytes ..")

func TestMain(m *testing.M) {
	s, err := New(Options{RootKey: rootSeed})
	if err != nil {
		panic(err)
	}
	key, err := hex.DecodeString(s.RootKeyHex())
	if err != nil {
		panic(err)
	}
	copy(whatsmeow.WACertPubKey[:], key)
	m.Run()
}

// bench is a simulator with a phone, some people and a group, and the clients of a test.
type bench struct {
	*testing.T
	*Server
	url string
	ctx context.Context
}

func start(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	o := Options{
		RootKey: rootSeed, Phones: []Phone{{Number: shop, Name: "Shop"}}, People: DemoPeople(),
		Groups: []Group{{ID: crowd, Subject: "Crowd", Members: []string{shop, marta, tomas}}},
	}
	if os.Getenv("SIM_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, f := range change {
		f(&o)
	}
	s, err := New(o)
	require.NoError(t, err)
	srv := httptest.NewServer(s.Handler())
	// t.Context ends before the clean-up, in which clients hang up: whatsmeow's socket races when its context ends meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 60*time.Second)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, s.Close())
		srv.Close()
	})
	return &bench{t, s, srv.URL, ctx}
}

// rewrite sends every request to the simulator, whatever host it is for, which the Host header keeps.
type rewrite struct{ base *url.URL }

func (r rewrite) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Host = req.URL.Host
	out.URL.Scheme, out.URL.Host = r.base.Scheme, r.base.Host
	return http.DefaultTransport.RoundTrip(out)
}

// client is an unmodified whatsmeow client with what happened to it.
type client struct {
	*whatsmeow.Client
	b  *bench
	db *sqlstore.Container

	mu     sync.Mutex
	seen   []any
	news   chan struct{}
	refuse func(any) bool // says that the handler fails
}

func (b *bench) newClient(change ...func(*client)) *client {
	b.Helper()
	db := b.openStore()
	return b.clientOf(db, db.NewDevice(), change...)
}

// provision is a client of a device that was linked without the network.
func (b *bench) provision(number string) *client {
	b.Helper()
	db := b.openStore()
	d := db.NewDevice()
	require.NoError(b, b.Provision(b.ctx, number, d))
	return b.clientOf(db, d)
}

func (b *bench) openStore() *sqlstore.Container {
	b.Helper()
	path := "file:" + filepath.Join(b.TempDir(), "client.db") + "?_pragma=foreign_keys(1)&_pragma=busy_timeout(10000)&_pragma=synchronous(0)&_pragma=journal_mode(wal)&_txlock=immediate"
	db, err := sqlstore.New(b.ctx, "sqlite3", path, waLog.Noop)
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close() })
	return db
}

func (b *bench) clientOf(db *sqlstore.Container, d *store.Device, change ...func(*client)) *client {
	log := waLog.Noop
	if os.Getenv("SIM_LOG") != "" {
		log = waLog.Stdout("client", "DEBUG", false)
	}
	c := &client{Client: whatsmeow.NewClient(d, log), b: b, db: db, news: make(chan struct{}, 1)}
	base, err := url.Parse(b.url)
	require.NoError(b, err)
	h := &http.Client{Transport: rewrite{base}}
	c.SetWebsocketHTTPClient(h)
	c.SetPreLoginHTTPClient(h)
	c.SetMediaHTTPClient(h)
	c.SynchronousAck, c.EnableDecryptedEventBuffer, c.EnableAutoReconnect = true, true, false
	c.AddEventHandlerWithSuccessStatus(c.take)
	for _, f := range change {
		f(c)
	}
	b.Cleanup(c.Disconnect)
	return c
}

func (c *client) take(evt any) bool {
	c.mu.Lock()
	refuse := c.refuse
	c.mu.Unlock()
	if refuse != nil && refuse(evt) {
		return false
	}
	if _, ok := evt.(*events.PairSuccess); ok {
		c.fewKeys()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, evt)
	select {
	case c.news <- struct{}{}:
	default:
	}
	return true
}

// fewKeys makes the client believe that it published keys before, so that it makes 50 and not 812: with -race those take
// most of a test's time.
func (c *client) fewKeys() {
	keys, err := c.Store.PreKeys.GetOrGenPreKeys(c.b.ctx, 6)
	if err == nil {
		_ = c.Store.PreKeys.MarkPreKeysAsUploaded(c.b.ctx, keys[len(keys)-1].KeyID)
	}
}

// find waits for an event of the type that satisfies cond.
func find[T any](c *client, cond func(T) bool) T {
	c.b.Helper()
	deadline := time.NewTimer(patient)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		for _, evt := range c.seen {
			if got, ok := evt.(T); ok && cond(got) {
				c.mu.Unlock()
				return got
			}
		}
		c.mu.Unlock()
		select {
		case <-c.news:
		case <-deadline.C:
			var zero T
			c.mu.Lock()
			all := fmt.Sprintf("%T", c.seen)
			for _, evt := range c.seen {
				all += fmt.Sprintf(" %T", evt)
			}
			c.mu.Unlock()
			require.FailNow(c.b, "no such event", "%T: %s", zero, all)
		}
	}
}

func any1[T any](T) bool { return true }

// message waits for the message with the id.
func (c *client) message(id string) *events.Message {
	c.b.Helper()
	return find(c, func(m *events.Message) bool { return m.Info.ID == id })
}

func (c *client) count(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, evt := range c.seen {
		if m, ok := evt.(*events.Message); ok && m.Info.ID == id {
			n++
		}
	}
	return n
}

// forget makes find wait for what comes next.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = nil
}

func (c *client) connect() *client {
	c.b.Helper()
	c.forget()
	require.NoError(c.b, c.ConnectContext(c.b.ctx))
	find(c, any1[*events.Connected])
	return c
}

// link pairs a client with a phone by a QR code, and waits until it may send.
func (b *bench) link(number string, change ...func(*client)) *client {
	b.Helper()
	c := b.newClient(change...)
	require.NoError(b, c.ConnectContext(b.ctx))
	qr := find(c, any1[*events.QR])
	require.NoError(b, b.Scan(number, qr.Codes[0]))
	find(c, any1[*events.Connected])
	c.settle()
	return c
}

// settle waits until the client worked off what the phone tells a new device. whatsmeow does that in the background, where
// it races with a logout.
func (c *client) settle() {
	c.b.Helper()
	find(c, func(e *events.AppStateSyncComplete) bool {
		return e.Name == appstate.AllPatchNames[len(appstate.AllPatchNames)-1]
	})
	c.b.idle()
}

func (c *client) text(to types.JID, text string, extra ...whatsmeow.SendRequestExtra) string {
	c.b.Helper()
	resp, err := c.SendMessage(c.b.ctx, to, &waE2E.Message{Conversation: proto.String(text)}, extra...)
	require.NoError(c.b, err)
	return resp.ID
}

func (b *bench) says(in Incoming) string {
	b.Helper()
	d, err := b.Send(shop, in)
	require.NoError(b, err)
	return d.ID
}

func (b *bench) chat(peer string) []Message {
	b.Helper()
	all, err := b.Conversation(shop, peer)
	require.NoError(b, err)
	return all
}

func (b *bench) wait(cond func(*Ledger) bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patient)
	defer cancel()
	require.NoError(b, b.Ledger().Wait(ctx, cond))
}

func (b *bench) idle() {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patient)
	defer cancel()
	require.NoError(b, b.WaitIdle(ctx))
}

func (b *bench) fault(f Fault) string {
	b.Helper()
	id, err := b.SetFault(f)
	require.NoError(b, err)
	return id
}
