package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"switchboard/internal/account"
	"switchboard/internal/auth"
	"switchboard/internal/config"
	"switchboard/internal/dashboard"
	"switchboard/internal/domain"
	"switchboard/internal/httpapi"
	"switchboard/internal/realtime"
	"switchboard/internal/store"
	"switchboard/internal/telemetry"
	"switchboard/internal/webhook"
)

// API is an API node.
type API struct {
	core *core
	node *apiNode
	// listener is open from NewAPI on, so that the address is known.
	listener net.Listener
	out      io.Writer
}

// NewAPI opens everything that an API node needs. cfg.Port 0 takes a free one.
func NewAPI(ctx context.Context, cfg config.Config, logger *slog.Logger, out io.Writer) (*API, error) {
	listener, err := listen(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c, err := newCore(ctx, cfg, logger)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	node, err := newAPINode(c)
	if err != nil {
		return nil, errors.Join(err, c.close(), listener.Close())
	}
	return &API{core: c, node: node, listener: listener, out: out}, nil
}

// Addr is host:port of the open port.
func (a *API) Addr() string { return addr(a.listener) }

// Run serves until ctx ends, then drains and frees everything.
func (a *API) Run(ctx context.Context) error {
	if err := a.node.start(ctx); err != nil {
		return errors.Join(err, a.core.close(), a.listener.Close())
	}
	server := serve(a.listener, a.node.handler, a.core.cfg, a.core.logger)
	_, _ = fmt.Fprintf(a.out, "Switchboard API listens on %s\n", a.Addr())
	failed := server.wait(ctx)
	return errors.Join(failed, a.node.stop(ctx, server), a.core.close())
}

// apiNode is what an API node has beside the core.
type apiNode struct {
	core     *core
	accounts *account.Service
	sockets  *realtime.Server
	intake   *webhook.Intake
	handler  http.Handler
	chores   chores
}

func newAPINode(c *core) (*apiNode, error) {
	n := &apiNode{core: c}
	secret := c.cfg.JWTSecret.Reveal()
	tokens, err := auth.NewTokens(secret, c.cfg.AccessTokenTTL, time.Now)
	if err != nil {
		return nil, fmt.Errorf("JWT_SECRET: %w", err)
	}
	links, err := auth.NewMediaLinks(secret, time.Now)
	if err != nil {
		return nil, fmt.Errorf("JWT_SECRET: %w", err)
	}
	n.accounts = account.New(account.Options{
		Store: c.store, Tokens: tokens, Passwords: auth.NewPasswords(0), Throttle: auth.NewThrottle(c.redis, c.logger, time.Now),
		Logger: c.logger, Disconnecter: c.emitter, CountLogin: func(result string) { c.metrics.Logins.WithLabelValues(result).Inc() },
		RegistrationOpen: c.cfg.Registration == config.RegistrationOpen, RefreshTTL: c.cfg.RefreshTokenTTL,
	})
	n.sockets, err = realtime.New(realtime.Options{
		Redis: c.redis, Authenticator: n.accounts, Chats: c.store, Log: eventLog{c.store}, Typing: typing{c},
		AllowedOrigins: c.cfg.CORSOrigins, Logger: c.logger, Metrics: c.realtimeMetrics(),
		Limits: realtime.Limits{AdmissionRate: c.cfg.SocketsPerSecond},
	})
	if err != nil {
		return nil, err
	}
	c.metrics.WatchSockets(func() telemetry.Sockets { return socketGauges(n.sockets) })
	n.intake = webhook.New(webhook.Options{
		Inbox: c.inbox, Sources: c.webhookSources, KnowsToken: c.knowsVerifyToken, Logger: c.logger,
		Measure: func(result string) { c.metrics.Webhooks.WithLabelValues(result).Inc() },
		Pending: func(n int64) { c.metrics.QueueDepth.WithLabelValues("webhooks").Set(float64(n)) },
	})
	n.handler, err = httpapi.New(httpapi.Options{
		Accounts: n.accounts, Inbox: c.inbox, Blobs: c.blobs, MediaLinks: links, MediaMaxBytes: int64(c.cfg.MediaMaxBytes),
		Webhooks: n.intake, Logger: c.logger, Metrics: c.metrics, MetricsToken: c.cfg.MetricsToken.Reveal(), Health: c.health,
		SocketIO: n.sockets.Handler(), Dashboard: dashboard.Handler(), PublicURL: c.cfg.PublicURL,
		CORSOrigins: c.cfg.CORSOrigins, TrustedProxies: c.cfg.TrustedProxyPrefixes(), MaxBody: int64(c.cfg.HTTPMaxBody), ReadTimeout: c.cfg.HTTPReadTimeout,
	})
	return n, err
}

func (n *apiNode) start(ctx context.Context) error {
	if err := n.sockets.Start(ctx); err != nil {
		return err
	}
	n.intake.Start(ctx)
	n.chores.start(ctx, n.core, n.accounts)
	return nil
}

// stop ends a node in order: it is taken out of the balancer, sockets go (and
// come back elsewhere), requests under way finish, then the background.
func (n *apiNode) stop(ctx context.Context, server *server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.core.cfg.ShutdownTimeout)
	defer cancel()
	n.core.health.Drain()
	sockets := n.sockets.Close(ctx)
	requests := server.drain(ctx)
	n.intake.Stop()
	n.chores.stop()
	return errors.Join(sockets, requests)
}

// eventLog shows the store's log as the sockets want to read it.
type eventLog struct{ *store.Store }

// Heads implements realtime.Log.
func (l eventLog) Heads(ctx context.Context, organizationIDs []int64) (map[int64]realtime.Head, error) {
	found, err := l.Store.Heads(ctx, organizationIDs)
	heads := make(map[int64]realtime.Head, len(found))
	for id, head := range found {
		heads[id] = realtime.Head(head)
	}
	return heads, err
}

// typing passes an operator's typing to the customer's channel.
type typing struct{ core *core }

// CustomerTyping implements realtime.TypingSink.
func (t typing) CustomerTyping(ctx context.Context, who domain.Principal, chatID int64, on bool) {
	channelID, err := t.core.store.ChannelOfChat(ctx, who.OrganizationID, chatID)
	if err == nil {
		t.core.wakes.Typing(channelID, chatID, on)
	}
}

// webhookSources finds the channels of phone numbers, with the secrets that
// prove a sender.
func (c *core) webhookSources(ctx context.Context, phoneNumberIDs []string) ([]webhook.Source, error) {
	channels, err := c.inbox.ChannelsByExternalKey(ctx, domain.KindWABA, phoneNumberIDs)
	if err != nil {
		return nil, err
	}
	sources := make([]webhook.Source, 0, len(channels))
	for _, ch := range channels {
		sources = append(sources, webhook.Source{ChannelID: ch.Channel.ID, PhoneNumberID: ch.ExternalKey, AppSecret: ch.Secrets["appSecret"]})
	}
	return sources, nil
}

func (c *core) knowsVerifyToken(ctx context.Context, token string) (bool, error) {
	_, found, err := c.inbox.ChannelByVerifyToken(ctx, domain.KindWABA, token)
	return found, err
}
