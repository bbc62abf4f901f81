package bench

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"switchboard/internal/auth"
	"switchboard/internal/channel/waba"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/realtime"
	"switchboard/internal/redisconn"
	"switchboard/internal/store"
	"switchboard/internal/webhook"
)

// webhookPath is where the product takes webhooks.
const webhookPath = "/webhooks/waba"

// product is the receiving half of an API node: the intake behind an HTTP server, the inbox, the store.
type product struct {
	store   *store.Store
	inbox   *inbox.Service
	intake  *webhook.Intake
	server  *http.Server
	address string
	closers []func() error
}

// productOptions are how a product runs.
type productOptions struct {
	databaseURL string
	connections int
	// redisURL is where committed events are published; empty: nowhere.
	redisURL string
	// sweep is the pause of the background work; 0: as in production.
	sweep time.Duration
}

// nowhere takes the place of the sockets and the workers.
type nowhere struct{}

func (nowhere) Publish([]domain.Event)        {}
func (nowhere) User(int64, string, any) error { return nil }
func (nowhere) Typing(int64, bool, any) error { return nil }
func (nowhere) Wake(int64)                    {}
func (nowhere) Attend(int64)                  {}

// startProduct starts a product; close ends it.
func startProduct(ctx context.Context, o productOptions) (p *product, err error) {
	p = &product{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if p.store, err = store.Open(ctx, o.databaseURL, store.Options{MaxConnections: o.connections}); err != nil {
		return p, err
	}
	p.onClose(p.store.Close)
	var publisher inbox.Publisher = nowhere{}
	if o.redisURL != "" {
		if publisher, err = p.emitter(o.redisURL, logger); err != nil {
			return p, err
		}
	}
	sealer, err := auth.NewSealer(make([]byte, 32))
	if err != nil {
		return p, err
	}
	p.inbox = inbox.New(inbox.Options{
		Store: p.store, Publisher: publisher, Waker: nowhere{}, Logger: logger, Sealer: sealer,
		Kinds: map[domain.ChannelKind]inbox.ConfigParser{domain.KindWABA: waba.ParseConfig},
	})
	p.intake = webhook.New(webhook.Options{
		Inbox: p.inbox, Sources: p.sources, Logger: logger, Sweep: o.sweep,
		KnowsToken: func(context.Context, string) (bool, error) { return false, nil },
	})
	p.intake.Start(ctx)
	p.onClose(func() error { p.intake.Stop(); return nil })
	return p, p.serve()
}

// emitter is what publishes committed events in production.
func (p *product) emitter(redisURL string, logger *slog.Logger) (inbox.Publisher, error) {
	client, err := redisconn.Open(redisURL)
	if err != nil {
		return nil, err
	}
	p.onClose(client.Close)
	emitter, err := realtime.NewEmitter(client, realtime.EmitterOptions{Logger: logger})
	if err != nil {
		return nil, err
	}
	p.onClose(func() error { return emitter.Close(context.Background()) })
	return emitter, nil
}

func (p *product) sources(ctx context.Context, phoneNumberIDs []string) ([]webhook.Source, error) {
	channels, err := p.inbox.ChannelsByExternalKey(ctx, domain.KindWABA, phoneNumberIDs)
	sources := make([]webhook.Source, 0, len(channels))
	for _, c := range channels {
		sources = append(sources, webhook.Source{ChannelID: c.Channel.ID, PhoneNumberID: c.ExternalKey, AppSecret: c.Secrets[waba.KeyAppSecret]})
	}
	return sources, err
}

func (p *product) serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	p.address = listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("POST "+webhookPath, p.intake.Deliver(func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}))
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(listener) }()
	p.onClose(func() error {
		err := p.server.Close()
		if failed := <-served; !errors.Is(failed, http.ErrServerClosed) {
			err = errors.Join(err, failed)
		}
		return err
	})
	return nil
}

func (p *product) onClose(f func() error) { p.closers = append(p.closers, f) }

func (p *product) close() error {
	var failed error
	for i := len(p.closers) - 1; i >= 0; i-- {
		failed = errors.Join(failed, p.closers[i]())
	}
	p.closers = nil
	return failed
}

// drained waits until everything that was posted is processed.
func (p *product) drained(ctx context.Context) error {
	const most = time.Minute
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		var pending bool
		if err := p.store.SQL().QueryRowContext(ctx, pendingStatement).Scan(&pending); err != nil {
			return fmt.Errorf("wait for the last webhooks: %w", err)
		}
		if !pending {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all webhooks were processed within %s", most)
		case <-ticker.C:
		}
	}
}

// seed makes the organizations through the product itself, and their chats as a first message would.
func (p *product) seed(ctx context.Context, c Customers) error {
	for i := 1; i <= c.Organizations; i++ {
		user, err := p.store.CreateOrganization(ctx, store.Registration{
			OrganizationName: fmt.Sprintf("Organization %d", i), UserName: "Admin", Email: fmt.Sprintf("admin%d@example.com", i), PasswordHash: "-",
		}, false)
		if err != nil {
			return fmt.Errorf("make organization %d: %w", i, err)
		}
		who := domain.Principal{UserID: user.ID, OrganizationID: user.OrganizationID, Role: domain.RoleAdmin}
		channel, err := p.inbox.CreateChannel(ctx, who, domain.KindWABA, "Sales", map[string]any{
			waba.KeyPhoneNumberID: phoneNumberID(i), waba.KeyAppSecret: appSecret(i), waba.KeyVerifyToken: "verify",
			waba.KeyAccessToken: base64.StdEncoding.EncodeToString([]byte("token")),
		})
		if err != nil {
			return fmt.Errorf("make the channel of organization %d: %w", i, err)
		}
		if user.OrganizationID != int64(i) || channel.ID != int64(i) {
			return fmt.Errorf("organization %d got the ids %d and %d; the pgbench script counts on a fresh database", i, user.OrganizationID, channel.ID)
		}
	}
	return fillChats(ctx, p.store.SQL(), c)
}

// fillChats makes the known chats, each with its contact and identity.
func fillChats(ctx context.Context, db *sql.DB, c Customers) error {
	_, err := db.ExecContext(ctx, `INSERT INTO contacts (organization_id, name, phone, created_at, updated_at)
		SELECT o, $3, 49000000000 + o::bigint * 1000000 + n, 1, 1 FROM generate_series(1, $1::int) o, generate_series(1, $2::int) n`,
		c.Organizations, c.Chats, customerName)
	if err != nil {
		return fmt.Errorf("make the contacts: %w", err)
	}
	for _, statement := range []string{
		`INSERT INTO identities (organization_id, kind, value, contact_id) SELECT organization_id, 'phone', phone, id FROM contacts`,
		`INSERT INTO contact_terms (organization_id, term, contact_id)
			SELECT organization_id, term, id FROM contacts, unnest(ARRAY[phone, '<' || reverse(phone)] || string_to_array(lower(name), ' ')) term`,
		`INSERT INTO chats (organization_id, channel_id, channel_kind, kind, peer, contact_id, status, activity_at, created_at, updated_at)
			SELECT organization_id, organization_id, 'waba', 'direct', phone, id, 'open', 1, 1, 1 FROM contacts`,
		`VACUUM ANALYZE`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make the chats: %w", err)
		}
	}
	return nil
}
