package app_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/testkit"
)

// F13 with real accounts on a real database: whoever loses his rights in the middle of a stream of events is closed out of
// both nodes, by both transports, within 2 s, and let in nowhere.
func TestFaultF13_RealAccounts(t *testing.T) {
	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	one, two := h.api(), h.api()
	brief := *h // its tokens expire soon
	brief.cfg.AccessTokenTTL = 8 * time.Second
	short := brief.api()
	ada := h.register(one, "acme")
	h.connect(ada, one, "1001")
	screen := h.socket(ada, one)
	_, err := h.cloud.CustomerSend("1001", "491700000001", cloudapi.Incoming{Type: "text", Text: "hello"})
	require.NoError(t, err)
	chat := waitEvent(t, screen, "chat:new", nil)
	stop := stream(t, ada, id(t, chat))

	hire := func(name string) int64 {
		t.Helper()
		return id(t, ada.must(http.MethodPost, "/api/users", map[string]any{
			"name": name, "email": name + "@example.com", "password": "correct horse " + name, "role": "operator",
		}))
	}
	signIn := func(node running, name string) *person {
		t.Helper()
		p := &person{t: t, base: node.URL}
		p.token = p.must(http.MethodPost, "/api/auth/login", map[string]any{"email": name + "@example.com", "password": "correct horse " + name})["accessToken"].(string)
		return p
	}
	removed, demoted := hire("removed"), hire("demoted")
	hire("leaving")
	hire("expiring")
	key := ada.must(http.MethodPost, "/api/api-keys", map[string]any{"name": "CRM", "role": "operator"})
	keyHolder := &person{t: t, base: two.URL, token: key["secret"].(string)}
	leaving := signIn(two, "leaving")
	expiring := signIn(short, "expiring")
	expires := time.Now().Add(brief.cfg.AccessTokenTTL)

	for _, c := range []struct {
		what string
		who  *person
		end  func()
		by   time.Time
	}{
		{"token expired", expiring, func() {}, expires},
		{"user deactivated", signIn(one, "removed"), func() { ada.must(http.MethodDelete, fmt.Sprint("/api/users/", removed), nil) }, time.Time{}},
		{"signed out", leaving, func() { leaving.must(http.MethodPost, "/api/auth/logout", nil) }, time.Time{}},
		{"API key deleted", keyHolder, func() { ada.must(http.MethodDelete, fmt.Sprint("/api/api-keys/", id(t, key)), nil) }, time.Time{}},
		{"access taken", signIn(two, "demoted"), func() {
			ada.must(http.MethodPatch, fmt.Sprint("/api/users/", demoted), map[string]any{"active": false})
		}, time.Time{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			var clients []*testkit.SocketClient
			for _, node := range []running{one, two} {
				for _, transport := range []string{"websocket", "polling"} {
					client := testkit.Connect(t, testkit.ClientOptions{URL: node.URL, Auth: map[string]any{"token": c.who.token}, Transports: []string{transport}})
					_, err := client.WaitFor(testkit.Context(t), "chat:updated", nil)
					require.NoError(t, err)
					clients = append(clients, client)
				}
			}
			began := time.Now()
			if !c.by.IsZero() {
				began = c.by
			}
			c.end()
			for _, client := range clients {
				reason, err := client.WaitDisconnect(testkit.Context(t), 1)
				require.NoError(t, err)
				require.Equal(t, "io server disconnect", reason)
			}
			ended := time.Now()
			t.Logf("closed on both nodes after %s", ended.Sub(began).Round(time.Millisecond))
			require.Less(t, ended.Sub(began), testkit.Slack(2*time.Second))
			for _, node := range []running{one, two} {
				back := testkit.Client(t, testkit.ClientOptions{URL: node.URL, Auth: map[string]any{"token": c.who.token, "lastSeq": 0}})
				var refused *testkit.ConnectError
				require.ErrorAs(t, back.Connect(testkit.Context(t)), &refused)
				require.Equal(t, "Authentication failed: Invalid token", refused.Message)
				require.Empty(t, back.Events(""), "a replay")
			}
			for _, client := range clients {
				events := client.Events("")
				require.False(t, events[len(events)-1].At.After(ended), "an event after the end")
			}
		})
	}
	t.Logf("%d changes of the chat meanwhile", stop())
	ledger, err := screen.Ledger(testkit.Context(t))
	require.NoError(t, err)
	require.Empty(t, ledger.Gaps)
	require.Empty(t, ledger.Twice)
	require.Equal(t, 1, screen.Connections())
}

// stream changes a chat some hundred times a second, until it is stopped, which tells how often.
func stream(t *testing.T, p *person, chatID int64) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				done <- n
				return
			case <-pace.C:
			}
			body := fmt.Sprintf(`{"tags":["n%d"]}`, n)
			r, err := http.NewRequestWithContext(ctx, http.MethodPatch, fmt.Sprintf("%s/api/chats/%d", p.base, chatID), strings.NewReader(body))
			if err != nil {
				t.Errorf("make a request: %v", err)
				continue
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+p.token)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				continue // stopped
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("change a chat: %s", response.Status)
			}
		}
	}()
	return func() int {
		cancel()
		return <-done
	}
}
