package httpapi_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/account"
	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/httpapi"
	"switchboard/internal/store"
	"switchboard/internal/telemetry"
	"switchboard/internal/testkit"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { testkit.Main(m, testkit.Leaks()...) }

const (
	password  = "correct horse battery staple"
	jwtSecret = "0123456789abcdef0123456789abcdef"
)

// Who is in the seeded database. Ids follow from the order of creation.
const (
	orgA, orgB = int64(1), int64(2)

	adminA    = int64(1)
	adminB    = int64(2)
	operatorA = int64(3)
	inactiveA = int64(4)
	operatorB = int64(5)

	keyA = int64(1) // operator's rights, of adminA
	keyB = int64(2) // admin's rights, of adminB
	// missing is nobody's id.
	missing = int64(999999)
)

// started is when the seeded world was made, and what the tests' clock shows at first.
var started = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// fixture holds what the seeded database was made with, since hashes cannot be turned back.
type fixture struct {
	passwordHash string
	sessions     map[int64]auth.RefreshToken // by user
	keys         map[int64]auth.APIKey
}

var seeded = sync.OnceValue(func() fixture {
	hash, err := auth.NewPasswords(0).Hash(context.Background(), password)
	if err != nil {
		panic(err)
	}
	f := fixture{passwordHash: hash, sessions: map[int64]auth.RefreshToken{}, keys: map[int64]auth.APIKey{}}
	for id := adminA; id <= operatorB; id++ {
		f.sessions[id] = auth.NewRefreshToken("")
	}
	f.keys[keyA], f.keys[keyB] = auth.NewAPIKey(), auth.NewAPIKey()
	return f
})

func seed(databaseURL string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, databaseURL, store.Options{Now: func() time.Time { return started }})
	if err != nil {
		return err
	}
	defer s.Close()
	f := seeded()
	for _, r := range []store.Registration{
		{OrganizationName: "Analytical Engines", UserName: "Ada", Email: "ada@a.example", PasswordHash: f.passwordHash},
		{OrganizationName: "Bletchley", UserName: "Alan", Email: "alan@b.example", PasswordHash: f.passwordHash},
	} {
		if _, err := s.CreateOrganization(ctx, r, false); err != nil {
			return err
		}
	}
	for _, u := range []store.NewUser{
		{OrganizationID: orgA, Name: "Charles", Email: "charles@a.example", PasswordHash: f.passwordHash, Role: domain.RoleOperator},
		{OrganizationID: orgA, Name: "Luigi", Email: "luigi@a.example", PasswordHash: f.passwordHash, Role: domain.RoleOperator},
		{OrganizationID: orgB, Name: "Joan", Email: "joan@b.example", PasswordHash: f.passwordHash, Role: domain.RoleOperator},
	} {
		if _, err := s.CreateUser(ctx, u); err != nil {
			return err
		}
	}
	for id, token := range f.sessions {
		hash, err := hex.DecodeString(token.Hash)
		if err != nil {
			return err
		}
		row := store.RefreshToken{SessionID: token.Family, Hash: hash, ExpiresAt: domain.At(started.Add(30 * 24 * time.Hour))}
		if err := s.CreateSession(ctx, id, f.passwordHash, row); err != nil {
			return err
		}
	}
	inactive := false
	if _, err := s.UpdateUser(ctx, orgA, inactiveA, store.UserChange{Active: &inactive}); err != nil {
		return err
	}
	for id, k := range map[int64]store.NewAPIKey{
		keyA: {OrganizationID: orgA, UserID: adminA, Name: "CRM", Role: domain.RoleOperator},
	} {
		if err := seedKey(ctx, s, f.keys[id], k); err != nil {
			return err
		}
	}
	return seedKey(ctx, s, f.keys[keyB], store.NewAPIKey{OrganizationID: orgB, UserID: adminB, Name: "Bombe", Role: domain.RoleAdmin})
}

func seedKey(ctx context.Context, s *store.Store, key auth.APIKey, k store.NewAPIKey) error {
	hash, err := hex.DecodeString(key.Hash)
	if err != nil {
		return err
	}
	k.Prefix, k.Hash = key.ID, hash
	_, err = s.CreateAPIKey(ctx, k)
	return err
}

func migrateOnly(databaseURL string) error {
	s, err := store.Open(context.Background(), databaseURL, store.Options{})
	if err != nil {
		return err
	}
	return s.Close()
}

// onBoth runs a test on PostgreSQL and on SQLite, with the seeded world or with an empty one.
func onBoth(t *testing.T, empty bool, test func(t *testing.T, databaseURL string)) {
	t.Helper()
	name, prepare := "httpapi_seeded", seed
	if empty {
		name, prepare = "httpapi_empty", migrateOnly
	}
	t.Run("postgres", func(t *testing.T) { test(t, testkit.PostgresFrom(t, name, prepare)) })
	t.Run("sqlite", func(t *testing.T) {
		test(t, testkit.SQLiteFrom(t, name, prepare))
	})
}

// clock is a clock that tests turn.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// disconnects records whose sockets would be closed.
type disconnects struct {
	mu   sync.Mutex // guards said
	said []string
}

func (d *disconnects) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = append(d.said, fmt.Sprintf(format, args...))
}

func (d *disconnects) DisconnectUser(id int64)     { d.add("user %d", id) }
func (d *disconnects) DisconnectSession(id string) { d.add("session %s", id) }
func (d *disconnects) DisconnectAPIKey(id int64)   { d.add("key %d", id) }
func (d *disconnects) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.said...)
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is an API over a database.
type world struct {
	t            *testing.T
	store        *store.Store
	accounts     *account.Service
	tokens       *auth.Tokens
	clock        *clock
	disconnected *disconnects
	log          *lockedBuffer
	api          *httpapi.Server
	server       *httptest.Server
	client       *http.Client
}

type setup struct {
	open    bool
	options httpapi.Options
}

func newWorld(t *testing.T, databaseURL string, with setup) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{now: started}, disconnected: &disconnects{}, log: &lockedBuffer{}}
	var err error
	w.store, err = store.Open(t.Context(), databaseURL, store.Options{Now: w.clock.Now})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.store.Close() })
	w.tokens, err = auth.NewTokens(jwtSecret, 15*time.Minute, w.clock.Now)
	require.NoError(t, err)
	logger, err := telemetry.NewLogger(io.MultiWriter(w.log), "debug", "json")
	require.NoError(t, err)
	w.accounts = account.New(account.Options{
		Store: w.store, Tokens: w.tokens, Passwords: auth.NewPasswords(0), Logger: logger,
		Throttle: auth.NewThrottle(nil, slog.New(slog.DiscardHandler), w.clock.Now), Disconnecter: w.disconnected,
		RegistrationOpen: with.open, Now: w.clock.Now,
	})
	with.options.Accounts, with.options.Logger = w.accounts, logger
	w.api, err = httpapi.New(with.options)
	require.NoError(t, err)
	w.server = httptest.NewServer(w.api)
	w.client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		w.server.Close()
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
	return w
}

// access is an access token of a seeded user.
func (w *world) access(user int64) string {
	w.t.Helper()
	p := domain.Principal{UserID: user, OrganizationID: orgA, Role: domain.RoleOperator, SessionID: seeded().sessions[user].Family}
	if user == adminB || user == operatorB {
		p.OrganizationID = orgB
	}
	if user == adminA || user == adminB {
		p.Role = domain.RoleAdmin
	}
	token, _, err := w.tokens.Issue(p)
	require.NoError(w.t, err)
	return token
}

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) problem(t *testing.T) httpapi.Problem {
	t.Helper()
	var p httpapi.Problem
	assert.Equal(t, "application/problem+json", r.header.Get("Content-Type"))
	require.NoError(t, json.Unmarshal(r.body, &p), "%s", r.body)
	assert.Equal(t, r.status, p.Status)
	assert.NotEmpty(t, p.Code)
	assert.NotEmpty(t, p.Title)
	assert.NotEmpty(t, p.Detail)
	return p
}

func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(r.body, &v), "%d %s", r.status, r.body)
	return v
}

// send makes a request; token and body may be empty.
func (w *world) send(method, path, token, body string, headers ...string) reply {
	w.t.Helper()
	r, err := w.try(method, path, token, body, headers...)
	require.NoError(w.t, err)
	return r
}

// try is send for goroutines that are not the test's.
func (w *world) try(method, path, token, body string, headers ...string) (reply, error) {
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := w.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return reply{status: response.StatusCode, header: response.Header, body: content}, err
}

// secrets are what differs from run to run.
var secrets = regexp.MustCompile(`"(accessToken|refreshToken|secret|prefix)":\s*"[^"]+"`)

// golden compares a JSON answer with testdata/golden/<name>.json.
func golden(t *testing.T, name string, body []byte) {
	t.Helper()
	var got bytes.Buffer
	require.NoError(t, json.Indent(&got, secrets.ReplaceAll(body, []byte(`"$1":"…"`)), "", "  "), "%s", body)
	path := filepath.Join("testdata", "golden", name+".json")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, got.Bytes(), 0o600))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to make the file")
	assert.Equal(t, string(want), got.String())
}
