package realtime

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// handshake asks for a new connection as no official client does: it never tries again and never joins.
func handshake(ctx context.Context, client *http.Client, base, transport string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/socket.io/?EIO=4&transport="+transport, nil)
	if err != nil {
		return nil, err
	}
	if transport == "websocket" {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	}
	return client.Do(r)
}

// answered is when a handshake was answered, and how.
type answered struct {
	status     int
	retryAfter string
	after      time.Duration // since the storm began
}

// storm sends n handshakes at once, over both transports, and returns the answers by time. Connections that were opened stay
// open until the test ends.
func storm(t *testing.T, base string, n int) []answered {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	t.Cleanup(client.CloseIdleConnections)
	var (
		mu      sync.Mutex // guards answers
		answers []answered
		all     sync.WaitGroup
	)
	began := time.Now()
	for i := range n {
		all.Go(func() {
			transport := []string{"polling", "websocket"}[i%2]
			response, err := handshake(t.Context(), client, base, transport)
			if err != nil {
				t.Errorf("handshake %d: %v", i, err)
				return
			}
			t.Cleanup(func() { _ = response.Body.Close() })
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, answered{response.StatusCode, response.Header.Get("Retry-After"), time.Since(began)})
		})
	}
	all.Wait()
	slices.SortFunc(answers, func(a, b answered) int { return int(a.after - b.after) })
	return answers
}

// 3,000 handshakes at once: no more get in than the rate allows at any moment, the rest is sent away with a time to wait, those
// who are connected notice nothing, and connections that never join are gone in the end.
func TestStormIsAdmittedAtABoundedRate(t *testing.T) {
	const rate, handshakes = 200, 3000
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) {
		o.Limits.AdmissionRate, o.Limits.ConnectTimeout = rate, time.Second
	})
	options := w.client(n, w.user(1, 10), nil)
	options.Transports = []string{"polling"} // each of its messages is a request
	resident := testkit.Connect(t, options)

	stormOver := make(chan struct{})
	var took []time.Duration
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stormOver:
				return
			default:
			}
			began := time.Now()
			if _, err := resident.EmitAck(testkit.Context(t), "no such event"); err != nil {
				t.Errorf("the resident: %v", err)
				return
			}
			took = append(took, time.Since(began))
		}
	})
	answers := storm(t, n.url, handshakes)
	close(stormOver)
	asking.Wait()
	require.NotEmpty(t, took)
	slices.Sort(took)
	p95 := took[len(took)*95/100]
	t.Logf("the resident asked %d times: p50 %s, p95 %s", len(took), took[len(took)/2], p95)
	require.Less(t, p95, testkit.Slack(300*time.Millisecond), "requests of existing sessions are not held up")
	require.Equal(t, 1, resident.Connections())

	require.Len(t, answers, handshakes)
	in := 0
	for _, a := range answers {
		if a.status == http.StatusServiceUnavailable {
			seconds, err := strconv.Atoi(a.retryAfter)
			require.NoError(t, err)
			require.InDelta(t, 4, seconds, 2)
			continue
		}
		require.Contains(t, []int{http.StatusOK, http.StatusSwitchingProtocols}, a.status)
		in++
		require.LessOrEqual(t, float64(in), rate+rate*a.after.Seconds(), "so many are in after %s", a.after)
	}
	t.Logf("%d of %d got in, within %s", in, handshakes, answers[len(answers)-1].after)
	require.GreaterOrEqual(t, in, 2*rate, "the burst, and those who waited")
	require.Equal(t, in+1, w.counts.of("admission admitted")+w.counts.of("admission delayed"))
	require.GreaterOrEqual(t, w.counts.of("admission delayed"), rate)
	require.Equal(t, handshakes-in, w.counts.of("admission refused"))

	testkit.Eventually(t, "the end of those who never joined", func() bool { return len(n.watched()) == 1 })
	require.True(t, resident.Connected())
}

// The official clients' own back-off brings all of them in, although most are refused at first.
func TestOfficialClientsGetInAfterAStorm(t *testing.T) {
	const clients = 300
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) {
		o.Limits.AdmissionRate, o.Limits.AdmissionWait = 60, 200*time.Millisecond
	})
	members := make([]testkit.HerdClient, clients)
	for i := range members {
		members[i] = testkit.HerdClient{Auth: map[string]any{"token": w.user(1, int64(i)+1)}, Group: "a"}
	}
	herd := testkit.StartHerd(t, testkit.HerdOptions{
		URL: n.url, Canary: "none", Clients: members, Options: map[string]any{"reconnectionDelay": 300, "reconnectionDelayMax": 2000},
	})
	herd.Connect()
	took, err := herd.Await(testkit.Context(t), testkit.HerdGoal{Connected: clients})
	require.NoError(t, err)
	t.Logf("all are in after %s; refused: %d times", took, w.counts.of("admission refused"))
	require.Positive(t, w.counts.of("admission refused"))
	require.Equal(t, clients, w.counts.of("admission admitted")+w.counts.of("admission delayed"), "an upgrade is no new connection")
}

// Who waits for admission is sent away when the server closes, and costs nothing when it leaves by itself.
func TestWaitingForAdmissionEnds(t *testing.T) {
	w, _ := miniWorld(t)
	n := w.node(func(o *Options) {
		o.Limits.AdmissionRate, o.Limits.AdmissionWait = 1, 10*time.Hour
	})
	require.Len(t, storm(t, n.url, 1), 1)
	n.gate.limiter.SetLimit(rate.Every(10 * time.Minute)) // nobody's turn comes meanwhile, and the last one's before patience ends
	n.gate.limiter.Allow()                                // what has come back since is gone
	before := n.gate.limiter.Tokens()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	leaving, leave := context.WithCancel(t.Context())
	statuses := make(chan int, 20)
	var waiting sync.WaitGroup
	for i := range 40 {
		waiting.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = leaving
			}
			response, err := handshake(ctx, client, n.url, "polling")
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			statuses <- response.StatusCode
		})
	}
	testkit.Eventually(t, "40 in the line", func() bool { return n.gate.limiter.Tokens() < before-39.5 })
	leave()
	testkit.Eventually(t, "20 gone", func() bool { return w.counts.of("admission gone") == 20 })
	require.NoError(t, n.Close(testkit.Context(t)))
	waiting.Wait()
	close(statuses)
	refused := 0
	for status := range statuses {
		if status == http.StatusServiceUnavailable {
			refused++
		}
	}
	require.Equal(t, 20, refused)
}

// stuckAuth answers when it is told to, and knows how many ask at a time.
type stuckAuth struct {
	*fakeAuth
	mu       sync.Mutex // guards what follows
	now, max int
	answer   chan struct{} // closed: answer at once
}

func (a *stuckAuth) Authenticate(ctx context.Context, token string) (domain.Principal, error) {
	a.mu.Lock()
	a.now++
	a.max = max(a.max, a.now)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.now--
	}()
	select {
	case <-a.answer:
		return a.fakeAuth.Authenticate(ctx, token)
	case <-ctx.Done():
		return domain.Principal{}, ctx.Err()
	}
}

func TestAuthenticationsAreBounded(t *testing.T) {
	t.Parallel()
	w, _ := miniWorld(t)
	auth := &stuckAuth{fakeAuth: w.auth, answer: make(chan struct{})}
	n := w.node(func(o *Options) {
		o.Authenticator = auth
		o.Limits.Authentications, o.Limits.RequestTimeout = 3, testkit.Slack(500*time.Millisecond)
	})
	clients := make([]*testkit.SocketClient, 12)
	for i := range clients {
		clients[i] = testkit.Client(t, w.client(n, w.user(1, int64(i)+1), nil))
	}
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			var refused *testkit.ConnectError
			err := c.Connect(testkit.Context(t))
			if !errors.As(err, &refused) || refused.Message != messageUnavailable {
				t.Errorf("connected to a database that does not answer: %v", err)
			}
		})
	}
	all.Wait()
	require.Equal(t, 3, auth.max)
	require.Equal(t, 12, w.counts.of("auth unavailable"))
	close(auth.answer)
	for _, c := range clients {
		require.NoError(t, c.Connect(testkit.Context(t)), "the places were given back")
	}
	require.LessOrEqual(t, auth.max, 3)
}
