package faults

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

const (
	databaseName = "switchboard"
	// canaryPrefix begins every text that is sent: canary-<organization>-<n>.
	canaryPrefix = "canary-"
)

// leaseTTL is LEASE_TTL of the workers; the full tests have the default.
var leaseTTL = sized(3*time.Second, 10*time.Second)

// leaseMargin is how long before its end a worker does not trust a lease any more.
var leaseMargin = leaseTTL / 8

// world is an installation of real processes.
type world struct {
	t        testing.TB
	postgres *testkit.PostgresServer
	redis    *testkit.RedisServer
	settings []string // of the API nodes and workers
	balancer *balancer
	outside  *process // the simulators
	cloud    string   // URL of the Cloud API
	telegram string   // URL of the Bot API
	whatsapp string   // URL of WhatsApp Web
	workers  []*worker
	nodes    []*process

	everyWorker []*worker  // also those that have ended
	all         []*process // also those that have ended
	orgs        []*organization
	ledger      *ledger
	started     int            // workers so far
	audited     bool           // see audit
	linked      bool           // see plan
	retried     map[string]int // how often operators sent a reply again, by its text
}

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
	workers       int      // 0: one
	settings      []string // further ones, NAME=value, of nodes and workers
	audited       bool     // every lease and every write of a worker is noted, for the oracle
	linked        bool     // each organization has a linked WhatsApp number, too
}

// newWorld starts an installation and brings it to rest: every channel connected, every chat begun.
func newWorld(t testing.TB, p plan) *world {
	t.Helper()
	began := time.Now()
	w := &world{t: t, balancer: newBalancer(t), ledger: newLedger(), audited: p.audited, linked: p.linked, retried: map[string]int{}}

	w.postgres = testkit.StartPostgres(t, testkit.PostgresOptions{
		Durable: true, Settings: map[string]string{"track_commit_timestamp": "on"},
	})
	w.redis = testkit.StartRedis(t)
	w.postgres.CreateDatabase(databaseName)
	w.outside = start(t, programSimulator).listening(partCloud, partTelegram, partWhatsApp)
	w.cloud, w.telegram, w.whatsapp = w.outside.parts[partCloud], w.outside.parts[partTelegram], w.outside.parts[partWhatsApp]
	w.all = append(w.all, w.outside)
	w.settings = append([]string{
		"APP_ENV=test", "LISTEN_HOST=127.0.0.1", "PORT=0", "LOG_FORMAT=json", "REGISTRATION=open", "ACCESS_TOKEN_TTL=24h",
		"DATABASE_URL=" + w.postgres.URL(databaseName), "REDIS_URL=" + w.redis.URL(),
		"JWT_SECRET=" + strings.Repeat("s", 32), "ENCRYPTION_KEY=" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)),
		"MEDIA_URL=file://" + t.TempDir(), "WABA_API_URL=" + w.cloud + "/v24.0", "TELEGRAM_API_ENDPOINT=" + w.telegram + "/bot%s/%s",
	}, append(w.whatsAppSettings(), p.settings...)...)
	for range max(p.workers, 1) {
		w.newWorker()
	}
	nodes := []*process{start(t, programAPI, w.settings...), start(t, programAPI, w.settings...)}
	for _, x := range w.workers {
		x.listening()
	}
	for _, n := range nodes {
		w.serve(n.listening())
	}
	if p.audited {
		w.audit()
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
	w.nodes = slices.DeleteFunc(w.nodes, func(x *process) bool { return x == n })
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
