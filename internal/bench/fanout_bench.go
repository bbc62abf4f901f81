package bench

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/realtime"
	"switchboard/internal/redisconn"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// fanBench is one run of the benchmark: the servers that all share, and the driver, which stands in for the workers: it commits
// events through the product's store and publishes them by the product's emitter.
type fanBench struct {
	fanoutOptions
	scope    *scope
	server   *testkit.PostgresServer
	database string
	redisURL string
	secret   string // JWT_SECRET
	key      string // ENCRYPTION_KEY
	media    string // a folder

	store   *store.Store
	redis   redis.UniversalClient
	emitter *realtime.Emitter
	dropped atomic.Int64                   // messages that the emitter could not publish
	tokens  map[int64][]string             // of an organization's users
	epochs  map[int64]string               // of the organizations' logs
	padding string                         // fills events up to the wanted size
	node    func() (node, packages string) // looked for when needed: only some measurements need it
}

const (
	// socketsPerUser is below what a node allows a user.
	socketsPerUser = 40
	// crowded is the organization of those measurements that need a large one.
	crowded = 1
	// stranger is an organization that no client of the measurement belongs to.
	stranger = 2
)

func newFanBench(ctx context.Context, s *scope, o fanoutOptions) (*fanBench, error) {
	b := &fanBench{fanoutOptions: o, scope: s, tokens: map[int64][]string{}, epochs: map[int64]string{}}
	b.server = testkit.StartPostgres(s, testkit.PostgresOptions{Durable: true, Settings: map[string]string{"shared_buffers": "128MB"}})
	b.redisURL = testkit.StartRedis(s).URL()
	b.database = b.server.CreateDatabase("fanout")
	b.node = func() (string, string) { return testkit.Node(s) }
	b.secret = strings.Repeat("fanout-", 6)
	b.key = base64.StdEncoding.EncodeToString(make([]byte, 32))
	var err error
	if b.media, err = os.MkdirTemp("", "switchboard-bench-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(b.media) })
	if b.store, err = store.Open(ctx, b.database, store.Options{MaxConnections: 4}); err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = b.store.Close() })
	if b.redis, err = redisconn.Open(b.redisURL); err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = b.redis.Close() })
	if b.emitter, err = b.newEmitter(0); err != nil {
		return nil, err
	}
	s.Cleanup(func() { _ = b.emitter.Close(context.Background()) })
	if err := b.seed(ctx); err != nil {
		return nil, err
	}
	return b, b.measurePadding()
}

// newEmitter makes an emitter as workers have it, with room for a number of messages (0: the usual).
func (b *fanBench) newEmitter(room int) (*realtime.Emitter, error) {
	return realtime.NewEmitter(b.redis, realtime.EmitterOptions{
		Metrics: realtime.Metrics{Dropped: func(string) { b.dropped.Add(1) }}, Limits: realtime.Limits{EmitterQueue: room},
	})
}

// nothingDropped is an error when an emitter could not publish something: then nodes find it in the log, which is another
// measurement.
func (b *fanBench) nothingDropped() error {
	if lost := b.dropped.Load(); lost > 0 {
		return fmt.Errorf("the emitter dropped %d messages", lost)
	}
	return nil
}

// seed makes the organizations with their users, who are signed in.
func (b *fanBench) seed(ctx context.Context) error {
	perUser := func(clients, organizations int) int {
		perOrganization := (clients + organizations - 1) / organizations
		return (perOrganization + socketsPerUser - 1) / socketsPerUser
	}
	large := max(perUser(b.clients, 1), perUser(b.herd, 1))
	usual := max(perUser(b.idle, b.idleOrganizations), perUser(b.organizationClients, b.organizations), perUser(b.herd, b.herdOrganizations))
	// Two more: the stranger, and the one that tells when the strangers' events are through.
	count := max(b.idleOrganizations, b.organizations, b.herdOrganizations) + firstUsual
	db := b.store.SQL()
	for _, step := range []struct {
		statement string
		args      []any
	}{
		{"INSERT INTO organizations (name, created_at) SELECT 'Organization ' || n, 1 FROM generate_series(1, $1::int) n", []any{count}},
		{"INSERT INTO event_heads (organization_id, epoch) SELECT id, md5(id::text) FROM organizations", nil},
		{`INSERT INTO users (organization_id, name, email, password_hash, role, active, created_at, updated_at)
			SELECT o.id, 'Operator', 'operator' || n || '@organization' || o.id || '.example', '-', 'operator', true, 1, 1
			FROM organizations o, generate_series(1, CASE WHEN o.id = $1::bigint THEN $2::int ELSE $3::int END) n`, []any{crowded, large, usual}},
		{"INSERT INTO sessions (id, user_id, created_at) SELECT 'session' || id, id, 1 FROM users", nil},
		{"VACUUM ANALYZE", nil},
	} {
		if _, err := db.ExecContext(ctx, step.statement, step.args...); err != nil {
			return fmt.Errorf("make the organizations: %w", err)
		}
	}
	return b.signIn(ctx)
}

// firstUsual is the first organization of those measurements that spread sockets over many.
const firstUsual = 3

// signIn issues the users' access tokens, as the product does.
func (b *fanBench) signIn(ctx context.Context) (err error) {
	const lifetime = 12 * time.Hour
	tokens, err := auth.NewTokens(b.secret, lifetime, time.Now)
	if err != nil {
		return err
	}
	rows, err := b.store.SQL().QueryContext(ctx, "SELECT u.id, u.organization_id, h.epoch FROM users u JOIN event_heads h USING (organization_id) ORDER BY u.id")
	if err != nil {
		return fmt.Errorf("list the users: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		who, epoch := domain.Principal{Role: domain.RoleOperator}, ""
		if err := rows.Scan(&who.UserID, &who.OrganizationID, &epoch); err != nil {
			return fmt.Errorf("list the users: %w", err)
		}
		who.SessionID = "session" + strconv.FormatInt(who.UserID, 10)
		token, _, err := tokens.Issue(who)
		if err != nil {
			return err
		}
		b.tokens[who.OrganizationID] = append(b.tokens[who.OrganizationID], token)
		b.epochs[who.OrganizationID] = epoch
	}
	return rows.Err()
}

// head is where an organization's log stands.
func (b *fanBench) head(ctx context.Context, organizationID int64) (int64, error) {
	heads, err := b.store.Heads(ctx, []int64{organizationID})
	return heads[organizationID].Seq, err
}

// group is clients of an organization who begin at its head.
func (b *fanBench) group(ctx context.Context, organizationID int64, clients int) (fanGroup, error) {
	after, err := b.head(ctx, organizationID)
	return fanGroup{Tokens: b.tokens[organizationID], Clients: clients, After: after, Epoch: b.epochs[organizationID], Stamped: true}, err
}
