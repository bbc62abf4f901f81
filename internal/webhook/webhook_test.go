package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/testkit/storetest"
	"switchboard/internal/webhook"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// gate is an intake over a real database, with two organizations, a and b, of
// one channel each: numbers 1001 and 2002, secrets secret-1001 and secret-2002.
type gate struct {
	t      *testing.T
	store  *store.Store
	inbox  *inbox.Service
	intake *webhook.Intake
	url    string
	org    map[string]int64 // by number
}

type quiet struct{}

func (quiet) Publish([]domain.Event)        {}
func (quiet) User(int64, string, any) error { return nil }
func (quiet) Typing(int64, bool, any) error { return nil }
func (quiet) Wake(int64)                    {}
func (quiet) Attend(int64)                  {}

var numbers = []string{"1001", "2002"}

func onBoth(t *testing.T, test func(*testing.T, *gate)) {
	t.Helper()
	for name, open := range map[string]func(testing.TB) string{"postgres": storetest.Postgres, "sqlite": storetest.SQLite} {
		t.Run(name, func(t *testing.T) { test(t, newGate(t, open(t))) })
	}
}

func newGate(t *testing.T, database string) *gate {
	t.Helper()
	g := &gate{t: t, org: map[string]int64{}}
	var err error
	g.store, err = store.Open(testkit.Context(t), database, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.store.Close() })
	g.inbox = inbox.New(inbox.Options{Store: g.store, Publisher: quiet{}, Waker: quiet{}, Logger: testkit.Logger(t)})
	sources := map[string]webhook.Source{}
	for _, number := range numbers {
		user, err := g.store.CreateOrganization(testkit.Context(t), store.Registration{
			OrganizationName: number, UserName: "Ada", Email: number + "@example.com", PasswordHash: "x",
		}, false)
		require.NoError(t, err)
		g.org[number] = user.OrganizationID
		source := webhook.Source{PhoneNumberID: number, AppSecret: "secret-" + number}
		require.NoError(t, g.store.SQL().QueryRowContext(testkit.Context(t), `INSERT INTO channels
			(organization_id, kind, name, config, external_key, enabled, state, state_since, created_at, updated_at)
			VALUES ($1, 'waba', 'Sales', '{}', $2, $3, 'connected', 1, 1, 1) RETURNING id`, user.OrganizationID, number, true).Scan(&source.ChannelID))
		sources[number] = source
	}
	g.intake = g.newIntake(func(_ context.Context, ids []string) ([]webhook.Source, error) {
		var found []webhook.Source
		for _, id := range ids {
			if source, ok := sources[id]; ok {
				found = append(found, source)
			}
		}
		return found, nil
	}, 15*time.Second)
	mux := http.NewServeMux()
	mux.Handle("POST /", g.intake.Deliver(fail))
	mux.Handle("GET /", g.intake.Verify(fail))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

func (g *gate) newIntake(sources func(context.Context, []string) ([]webhook.Source, error), claim time.Duration) *webhook.Intake {
	return webhook.New(webhook.Options{
		Inbox: g.inbox, Sources: sources, Logger: testkit.Logger(g.t), Claim: claim, Sweep: 20 * time.Millisecond,
		KnowsToken: func(_ context.Context, token string) (bool, error) { return token == "let-me-in", nil },
	})
}

func (g *gate) start() {
	g.intake.Start(context.Background())
	g.t.Cleanup(g.intake.Stop)
}

func fail(w http.ResponseWriter, _ *http.Request, err error) {
	status := map[domain.Code]int{
		domain.CodeUnauthenticated: 401, domain.CodeInvalid: 400, domain.CodeTooLarge: 413, domain.CodeUnavailable: 503, domain.CodeForbidden: 403,
	}[domain.CodeOf(err)]
	if status == 0 {
		status = 500
	}
	w.WriteHeader(status)
}

func (g *gate) post(body []byte, signature string) int {
	g.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, g.url, bytes.NewReader(body))
	require.NoError(g.t, err)
	if signature != "" {
		req.Header.Set("X-Hub-Signature-256", signature)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(g.t, err)
	require.NoError(g.t, resp.Body.Close())
	return resp.StatusCode
}

func (g *gate) count(query string, args ...any) int {
	g.t.Helper()
	var n int
	require.NoError(g.t, g.store.SQL().QueryRowContext(testkit.Context(g.t), query, args...).Scan(&n))
	return n
}

func (g *gate) waitProcessed() {
	g.t.Helper()
	testkit.Eventually(g.t, "the deliveries' end", func() bool { return g.count("SELECT COUNT(*) FROM webhook_deliveries") == 0 })
}

// change is one change of a webhook: messages for a number.
func change(number string, messages ...string) string {
	return fmt.Sprintf(`{"field":"messages","value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"1","phone_number_id":%q},
		"contacts":[{"profile":{"name":"Grace"},"wa_id":"491700000001"}],"messages":[%s]}}`, number, strings.Join(messages, ","))
}

func textMessage(id, body string) string {
	encoded, _ := json.Marshal(body)
	return fmt.Sprintf(`{"from":"491700000001","id":%q,"timestamp":"1790000000","type":"text","text":{"body":%s}}`, id, encoded)
}

func delivery(changes ...string) []byte {
	return []byte(`{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[` + strings.Join(changes, ",") + `]}]}`)
}

func TestSignatureIsOverTheRawBytes(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gate) {
		g.start()
		body := delivery(change("1001", textMessage("wamid.1", "Grüße 👋 </script>")))
		good := cloudapi.Sign("secret-1001", body)
		var parsed any
		require.NoError(t, json.Unmarshal(body, &parsed))
		serialised, err := json.Marshal(parsed)
		require.NoError(t, err)
		for name, attempt := range map[string]struct {
			body      []byte
			signature string
		}{
			"missing":          {body, ""},
			"other secret":     {body, cloudapi.Sign("secret-2002", body)},
			"empty secret":     {body, cloudapi.Sign("", body)},
			"no prefix":        {body, strings.TrimPrefix(good, "sha256=")},
			"cut":              {body, good[:len(good)-1]},
			"altered body":     {bytes.Replace(body, []byte("Gr"), []byte("gr"), 1), good},
			"re-serialised":    {serialised, good},
			"trailing newline": {append(bytes.Clone(body), '\n'), good},
			"unknown number":   {delivery(change("9999", textMessage("wamid.1", "x"))), good},
		} {
			require.Equal(t, http.StatusUnauthorized, g.post(attempt.body, attempt.signature), name)
		}
		require.Zero(t, g.count("SELECT COUNT(*) FROM webhook_deliveries"))
		require.Zero(t, g.count("SELECT COUNT(*) FROM messages"))
		require.Equal(t, http.StatusOK, g.post(body, good))
		g.waitProcessed()
		require.Equal(t, 1, g.count("SELECT COUNT(*) FROM messages WHERE content = 'Grüße 👋 </script>'"))
	})
}

func TestBadBodiesChangeNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gate) {
		g.start()
		huge := append([]byte(`{"object":"`), bytes.Repeat([]byte("x"), 5<<20)...)
		for name, attempt := range map[string]struct {
			body   string
			status int
		}{
			"empty": {"", 400}, "not JSON": {"<xml/>", 400}, "half": {`{"object":`, 400}, "array": {`[1,2]`, 401}, "huge": {string(huge), 413},
			"no numbers": {`{"object":"whatsapp_business_account","entry":[]}`, 401},
			"deep":       {strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), 400},
		} {
			require.Equal(t, attempt.status, g.post([]byte(attempt.body), cloudapi.Sign("secret-1001", []byte(attempt.body))), name)
		}
		require.Zero(t, g.count("SELECT COUNT(*) FROM webhook_deliveries"))
		news := []byte(`{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"account_update","value":{"event":"X"}}]}]}`)
		require.Equal(t, http.StatusOK, g.post(news, cloudapi.Sign("whatever", news)), "news about an account are not repeated for days")
		require.Zero(t, g.count("SELECT COUNT(*) FROM webhook_deliveries"))
	})
}

// An organization that knows its own secret must not be able to put messages
// into another's chats.
func TestSignatureSpeaksOnlyForItsOwnNumbers(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gate) {
		g.start()
		body := delivery(change("2002", textMessage("wamid.forged", "forged")), change("1001", textMessage("wamid.own", "own")))
		require.Equal(t, http.StatusOK, g.post(body, cloudapi.Sign("secret-1001", body)))
		g.waitProcessed()
		require.Equal(t, 1, g.count("SELECT COUNT(*) FROM messages WHERE organization_id = $1", g.org["1001"]))
		require.Zero(t, g.count("SELECT COUNT(*) FROM messages WHERE organization_id = $1", g.org["2002"]))
		require.Zero(t, g.count("SELECT COUNT(*) FROM webhook_rejects"))
	})
}

// F8: each webhook three times in parallel; a batch of 50 with one poison.
func TestRepeatedInParallelAndPoisoned(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gate) {
		g.start()
		batch := make([]string, 50)
		for i := range batch {
			batch[i] = textMessage(fmt.Sprint("wamid.batch.", i), fmt.Sprint("batch ", i))
		}
		batch[23] = `{"from":"491700000001","id":"wamid.poison","timestamp":"yesterday","type":"text","text":{"body":"x"}}`
		batch[24] = strings.Replace(textMessage("wamid.nobody", "x"), "491700000001", "abc", 1)
		batch[25] = strings.Replace(textMessage("wamid.plus", "x"), "491700000001", "+491700000001", 1)
		bodies := [][]byte{delivery(change("1001", batch...))}
		for i := range 20 {
			bodies = append(bodies, delivery(change("1001", textMessage(fmt.Sprint("wamid.single.", i), "single"))))
		}
		var wg sync.WaitGroup
		for _, body := range bodies {
			for range 3 {
				wg.Go(func() {
					if status := g.post(body, cloudapi.Sign("secret-1001", body)); status != http.StatusOK {
						t.Errorf("answered %d", status)
					}
				})
			}
		}
		wg.Wait()
		g.waitProcessed()
		require.Equal(t, 48+20, g.count("SELECT COUNT(*) FROM messages"))
		require.Equal(t, 2, g.count("SELECT COUNT(*) FROM webhook_rejects"))
		require.Equal(t, 48+20, g.count("SELECT COUNT(*) FROM events WHERE name = 'message:new'"), "one event each")
	})
}

// An item that fails again and again for a reason that nobody foresaw holds up
// neither its batch nor the sweeper, and is set aside in the end.
func TestItemThatFailsForAnUnknownReason(t *testing.T) {
	g := newGate(t, storetest.SQLite(t))
	// A trigger stands for the bug that nobody knows yet.
	_, err := g.store.SQL().ExecContext(testkit.Context(t), `CREATE TRIGGER bug BEFORE INSERT ON messages WHEN NEW.content = 'boom'
		BEGIN SELECT abs(-9223372036854775807 - 1); END`)
	require.NoError(t, err)
	body := delivery(change("1001", textMessage("wamid.1", "before"), textMessage("wamid.2", "boom"), textMessage("wamid.3", "behind")))
	require.Equal(t, http.StatusOK, g.post(body, cloudapi.Sign("secret-1001", body)))
	g.start()
	testkit.Eventually(t, "the good ones", func() bool { return g.count("SELECT COUNT(*) FROM messages") == 2 })
	testkit.Eventually(t, "the end of the delivery", func() bool {
		_, err := g.store.SQL().ExecContext(testkit.Context(t), "UPDATE webhook_deliveries SET claimed_until = 0")
		require.NoError(t, err)
		return g.count("SELECT COUNT(*) FROM webhook_deliveries") == 0
	})
	require.Equal(t, 1, g.count("SELECT COUNT(*) FROM webhook_rejects"))
	require.Equal(t, 3, g.count("SELECT COUNT(*) FROM messages"))
	require.Equal(t, 1, g.count("SELECT COUNT(*) FROM messages WHERE external_id = 'wamid.2' AND type = 'unsupported'"), "a line in its place")
}

// What was answered 200 is stored, although the node dies before it gets to
// it: here, because its work was never started.
func TestAnotherNodeTakesOverWhatWasAnswered(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gate) {
		body := delivery(change("1001", textMessage("wamid.1", "hello")))
		require.Equal(t, http.StatusOK, g.post(body, cloudapi.Sign("secret-1001", body)))
		require.Equal(t, 1, g.count("SELECT COUNT(*) FROM webhook_deliveries"))
		_, err := g.store.SQL().ExecContext(testkit.Context(t), "UPDATE webhook_deliveries SET claimed_until = 0")
		require.NoError(t, err)
		g.start()
		g.waitProcessed()
		require.Equal(t, 1, g.count("SELECT COUNT(*) FROM messages"))
	})
}

// stuck is an intake whose look-ups wait until release is closed or it is stopped.
func (g *gate) stuck(claim time.Duration, release <-chan struct{}) *webhook.Intake {
	return g.newIntake(func(ctx context.Context, _ []string) ([]webhook.Source, error) {
		select {
		case <-release:
			return nil, errors.New("late")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, claim)
}

// The claim of a node that works on a delivery does not run out, however short it is.
func TestAClaimIsRenewedWhileItsNodeLives(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gate) {
		body := delivery(change("1001", textMessage("wamid.1", "hello")))
		require.Equal(t, http.StatusOK, g.post(body, cloudapi.Sign("secret-1001", body)))
		_, err := g.store.SQL().ExecContext(testkit.Context(t), "UPDATE webhook_deliveries SET claimed_until = 0")
		require.NoError(t, err)
		release := make(chan struct{})
		slow := g.stuck(6*time.Second, release)
		slow.Start(context.Background())
		t.Cleanup(slow.Stop)
		until := func() int { return g.count("SELECT claimed_until FROM webhook_deliveries") }
		testkit.Eventually(t, "the claim", func() bool { return until() > 0 })
		first := until()
		testkit.Eventually(t, "a renewal", func() bool { return until() > first })
		require.Equal(t, 1, g.count("SELECT attempts FROM webhook_deliveries"), "claimed once and renewed")
	})
}

// A node that stops gives back what it has not processed: the next need not wait for the end of the claim.
func TestAStoppedNodeGivesItsDeliveriesBack(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gate) {
		body := delivery(change("1001", textMessage("wamid.1", "hello")))
		require.Equal(t, http.StatusOK, g.post(body, cloudapi.Sign("secret-1001", body)))
		_, err := g.store.SQL().ExecContext(testkit.Context(t), "UPDATE webhook_deliveries SET claimed_until = 0")
		require.NoError(t, err)
		slow := g.stuck(time.Hour, make(chan struct{}))
		slow.Start(context.Background())
		testkit.Eventually(t, "the claim", func() bool { return g.count("SELECT attempts FROM webhook_deliveries") == 1 })
		slow.Stop()
		g.start()
		g.waitProcessed()
		require.Equal(t, 1, g.count("SELECT COUNT(*) FROM messages"))
	})
}

func TestNeverAFalse200(t *testing.T) {
	g := newGate(t, storetest.SQLite(t))
	require.NoError(t, g.store.Close())
	body := delivery(change("1001", textMessage("wamid.1", "hello")))
	require.Equal(t, http.StatusServiceUnavailable, g.post(body, cloudapi.Sign("secret-1001", body)))
}

// A lookup that fails for a while delays a delivery and loses nothing.
func TestProcessingIsTriedAgain(t *testing.T) {
	g := newGate(t, storetest.SQLite(t))
	body := delivery(change("1001", textMessage("wamid.1", "hello")))
	require.Equal(t, http.StatusOK, g.post(body, cloudapi.Sign("secret-1001", body)))
	var mu sync.Mutex
	failures := 3
	flaky := g.newIntake(func(context.Context, []string) ([]webhook.Source, error) {
		mu.Lock()
		defer mu.Unlock()
		if failures > 0 {
			failures--
			return nil, errors.New("the database is away")
		}
		var id int64
		err := g.store.SQL().QueryRowContext(testkit.Context(t), "SELECT id FROM channels WHERE external_key = '1001'").Scan(&id)
		return []webhook.Source{{ChannelID: id, PhoneNumberID: "1001", AppSecret: "secret-1001"}}, err
	}, 200*time.Millisecond)
	_, err := g.store.SQL().ExecContext(testkit.Context(t), "UPDATE webhook_deliveries SET claimed_until = 0")
	require.NoError(t, err)
	flaky.Start(context.Background())
	defer flaky.Stop()
	g.waitProcessed()
	require.Equal(t, 1, g.count("SELECT COUNT(*) FROM messages"))
}

func TestVerification(t *testing.T) {
	g := newGate(t, storetest.SQLite(t))
	get := func(query string) (int, string) {
		resp, err := http.Get(g.url + "/?" + query) //nolint:noctx // the test's own server
		require.NoError(t, err)
		defer func() { require.NoError(t, resp.Body.Close()) }()
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, body.String()
	}
	status, body := get("hub.mode=subscribe&hub.verify_token=let-me-in&hub.challenge=12345")
	require.Equal(t, 200, status)
	require.Equal(t, "12345", body)
	status, body = get("hub.mode=subscribe&hub.verify_token=guess&hub.challenge=12345")
	require.Equal(t, 403, status)
	require.NotContains(t, body, "12345")
	status, _ = get("hub.mode=subscribe")
	require.Equal(t, 400, status)
}

func TestStartAndStopAgainAndAgain(t *testing.T) {
	g := newGate(t, storetest.SQLite(t))
	for range 20 {
		g.intake.Start(context.Background())
		g.intake.Start(context.Background())
		g.intake.Stop()
		g.intake.Stop()
	}
}
