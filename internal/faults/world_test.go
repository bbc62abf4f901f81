package faults

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/testkit"
)

const (
	databaseName = "switchboard"
	leaseTTL     = 3 * time.Second
	// canaryPrefix begins every text that is sent: canary-<organization>-<n>.
	canaryPrefix = "canary-"
	// customersEach is how many customers, and so chats, an organization has.
	customersEach = 2
)

// world is an installation of real processes.
type world struct {
	t        testing.TB
	postgres *testkit.PostgresServer
	redis    *testkit.RedisServer
	settings []string // of the API nodes and workers
	balancer *balancer
	cloud    *process
	worker   *process
	nodes    []*process
	all      []*process // also those that have ended
	orgs     []*organization
	ledger   *ledger
}

// organization is a customer of the installation, with its admin and its business number.
type organization struct {
	id     int64
	userID int64
	name   string // letters and digits: the group of its canaries
	token  string // of its admin
	number cloudapi.Number
	chats  []int64
}

// customer is the address of one of the organization's customers.
func (o *organization) customer(i int) string { return fmt.Sprintf("4917%04d%05d", o.id, i) }

// sized chooses the short or the full size of a test.
func sized[T any](short, full T) T {
	if testkit.Full() {
		return full
	}
	return short
}

// quick lets the short forms run beside each other: they wait for most of their time. The full ones measure.
func quick(t *testing.T) {
	t.Helper()
	if !testkit.Full() {
		t.Parallel()
	}
}

// plan says how large a world is.
type plan struct {
	organizations int
	settings      []string // further ones, NAME=value, of nodes and worker
}

// newWorld starts an installation and brings it to rest: every channel connected, every chat begun.
func newWorld(t testing.TB, p plan) *world {
	t.Helper()
	began := time.Now()
	w := &world{t: t, balancer: newBalancer(t), ledger: newLedger()}

	w.postgres = testkit.StartPostgres(t, testkit.PostgresOptions{Durable: true})
	w.redis = testkit.StartRedis(t)
	w.postgres.CreateDatabase(databaseName)
	w.cloud = launch(t, programSimulator)
	w.all = append(w.all, w.cloud)
	w.settings = append([]string{
		"APP_ENV=test", "LISTEN_HOST=127.0.0.1", "PORT=0", "LOG_FORMAT=json", "REGISTRATION=open", "ACCESS_TOKEN_TTL=24h",
		"DATABASE_URL=" + w.postgres.URL(databaseName), "REDIS_URL=" + w.redis.URL(),
		"JWT_SECRET=" + strings.Repeat("s", 32), "ENCRYPTION_KEY=" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)),
		"MEDIA_URL=file://" + t.TempDir(), "WABA_API_URL=" + w.cloud.URL + "/v24.0",
	}, p.settings...)
	w.worker = start(t, programWorker, append(w.settings, "LEASE_TTL="+leaseTTL.String())...)
	nodes := []*process{start(t, programAPI, w.settings...), start(t, programAPI, w.settings...)}
	w.all = append(w.all, w.worker.listening())
	for _, n := range nodes {
		w.serve(n.listening())
	}
	w.settle(p.organizations)
	t.Logf("world of %d organizations in %.1f s", p.organizations, time.Since(began).Seconds())
	return w
}

// startNode starts a further API node, or one in the place of one that is gone.
func (w *world) startNode() *process {
	w.t.Helper()
	n := launch(w.t, programAPI, w.settings...)
	w.serve(n)
	return n
}

func (w *world) serve(n *process) {
	w.t.Helper()
	w.all, w.nodes = append(w.all, n), append(w.nodes, n)
	testkit.Eventually(w.t, "readiness of a node", func() bool { return status(n.URL+"/readyz") == http.StatusOK })
	w.balancer.add(strings.TrimPrefix(n.URL, "http://"))
}

// killNode ends a node as a power cut would. The balancer finds out by itself; the address is not used again.
func (w *world) killNode(n *process) {
	n.kill()
	for i, x := range w.nodes {
		if x == n {
			w.nodes = append(w.nodes[:i:i], w.nodes[i+1:]...)
		}
	}
}

// settle makes the organizations and begins their chats.
func (w *world) settle(organizations int) {
	w.t.Helper()
	w.orgs = make([]*organization, organizations)
	w.each(4, func(i int) error {
		o, err := w.newOrganization(i + 1)
		w.orgs[i] = o
		return err
	})
	w.each(4, func(i int) error { return w.awaitChannel(w.orgs[i]) })
	for _, o := range w.orgs {
		for i := range customersEach {
			_, err := w.customerWrites(w.t.Context(), o, i)
			require.NoError(w.t, err)
		}
	}
	w.quiet()
	w.each(4, func(i int) error {
		o := w.orgs[i]
		var page struct {
			Items []struct {
				ID int64 `json:"id"`
			} `json:"items"`
		}
		err := w.rest(w.t.Context(), o, http.MethodGet, "/api/chats?limit=100", nil, &page)
		for _, c := range page.Items {
			o.chats = append(o.chats, c.ID)
		}
		return err
	})
	for _, o := range w.orgs {
		require.Len(w.t, o.chats, customersEach)
	}
}

// each calls do for every organization's index, some at a time.
func (w *world) each(atATime int, do func(i int) error) {
	w.t.Helper()
	errs := make(chan error, len(w.orgs))
	turns := make(chan struct{}, atATime)
	for i := range w.orgs {
		turns <- struct{}{}
		go func() {
			defer func() { <-turns }()
			errs <- do(i)
		}()
	}
	for range w.orgs {
		require.NoError(w.t, <-errs)
	}
}

// newOrganization registers one and gives it a business number at the simulator.
func (w *world) newOrganization(n int) (*organization, error) {
	ctx := w.t.Context()
	o := &organization{name: fmt.Sprintf("org%d", n)}
	var registered struct {
		AccessToken string `json:"accessToken"`
		User        struct {
			ID             int64 `json:"id"`
			OrganizationID int64 `json:"organizationId"`
		} `json:"user"`
	}
	err := w.rest(ctx, o, http.MethodPost, "/api/auth/register", map[string]any{
		"organizationName": o.name, "name": "Ada", "email": o.name + "@example.com", "password": "correct horse " + o.name,
	}, &registered)
	if err != nil {
		return nil, err
	}
	o.id, o.userID, o.token = registered.User.OrganizationID, registered.User.ID, registered.AccessToken
	phone := fmt.Sprint(100_000 + n)
	o.number = cloudapi.Number{
		PhoneNumberID: phone, AccessToken: "EAA-token-" + phone, AppSecret: "app-secret-" + phone, VerifyToken: "verify-" + phone,
		WebhookURL: w.balancer.URL() + "/webhooks/waba",
	}
	if err := w.control(ctx, "/control/numbers", o.number); err != nil {
		return nil, err
	}
	return o, w.rest(ctx, o, http.MethodPost, "/api/channels", map[string]any{
		"kind": "waba", "name": "Sales", "config": map[string]any{
			"phoneNumberId": phone, "accessToken": o.number.AccessToken, "appSecret": o.number.AppSecret, "verifyToken": o.number.VerifyToken,
		},
	}, nil)
}

// awaitChannel waits until the worker has connected the organization's channel.
func (w *world) awaitChannel(o *organization) error {
	return poll(testkit.Context(w.t), func(ctx context.Context) error {
		var page struct {
			Items []struct {
				Status struct {
					State string `json:"state"`
				} `json:"status"`
			} `json:"items"`
		}
		if err := w.rest(ctx, o, http.MethodGet, "/api/channels", nil, &page); err != nil {
			return err
		}
		if len(page.Items) != 1 || page.Items[0].Status.State != "connected" {
			return fmt.Errorf("the channel of %s is not connected: %+v", o.name, page)
		}
		return nil
	})
}

// herd makes clients for organizations in turn, not connected yet.
func (w *world) herd(clients int, organizations ...*organization) *testkit.Herd {
	w.t.Helper()
	if len(organizations) == 0 {
		organizations = w.orgs
	}
	options := testkit.HerdOptions{
		URL: w.balancer.URL(), Canary: canaryPrefix, Options: map[string]any{"transports": []string{"websocket"}},
	}
	for i := range clients {
		o := organizations[i%len(organizations)]
		options.Clients = append(options.Clients, testkit.HerdClient{Auth: map[string]any{"token": o.token}, Group: o.name})
	}
	return testkit.StartHerd(w.t, options)
}

// connect connects a herd and waits until all of it is there.
func (w *world) connect(h *testkit.Herd, clients int) {
	w.t.Helper()
	h.Connect()
	took, err := h.Await(testkit.ContextFor(w.t, time.Minute), testkit.HerdGoal{Connected: clients})
	require.NoError(w.t, err)
	w.t.Logf("%d clients connected in %.1f s", clients, took.Seconds())
}

// web makes every request on a connection of its own: none is left idle in a node.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 15 * time.Second}

// rest calls the REST API through the balancer as the organization's admin. into may be nil.
func (w *world) rest(ctx context.Context, o *organization, method, path string, body, into any) error {
	return request(ctx, method, w.balancer.URL()+path, o.token, body, into)
}

// control acts on the simulator.
func (w *world) control(ctx context.Context, path string, body any) error {
	return request(ctx, http.MethodPost, w.cloud.URL+path, "", body, nil)
}

// request sends JSON and decodes the answer; *[]byte takes it as it is. An answer that is no success is an error.
func request(ctx context.Context, method, url, token string, body, into any) error {
	var reader io.Reader
	if raw, is := body.([]byte); is {
		reader = bytes.NewReader(raw)
	} else if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return &answerError{resp.StatusCode, fmt.Sprintf("%s %s: %d %s", method, url, resp.StatusCode, answer)}
	case into == nil:
		return nil
	}
	if raw, is := into.(*[]byte); is {
		*raw = answer
		return nil
	}
	return json.Unmarshal(answer, into)
}

// answerError is an answer that is no success.
type answerError struct {
	status int
	text   string
}

func (e *answerError) Error() string { return e.text }

func status(url string) int {
	resp, err := web.Get(url) //nolint:noctx // the client has a time limit
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// query runs a query on the installation's database, on a connection of its own, and scans every row.
func (w *world) query(ctx context.Context, sql string, args []any, scan func(pgx.Rows) error) error {
	return query(ctx, w.postgres.URL(databaseName), sql, args, scan)
}

func query(ctx context.Context, url, sql string, args []any, scan func(pgx.Rows) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// poll calls try until it succeeds, and gives up with its last error when the context ends.
func poll(ctx context.Context, try func(context.Context) error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
