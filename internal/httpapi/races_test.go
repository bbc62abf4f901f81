package httpapi_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/account"
)

// atOnce sends n requests at the same moment and returns their statuses, sorted.
func atOnce(t *testing.T, n int, send func(i int) (reply, error)) (statuses []int, replies []reply) {
	t.Helper()
	replies = make([]reply, n)
	errs := make([]error, n)
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-gate
			replies[i], errs[i] = send(i)
		})
	}
	close(gate)
	wg.Wait()
	for i, r := range replies {
		require.NoError(t, errs[i])
		statuses = append(statuses, r.status)
	}
	slices.Sort(statuses)
	return statuses, replies
}

func TestOneOfManyFirstRegistrationsWins(t *testing.T) {
	onBoth(t, true, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		statuses, _ := atOnce(t, 6, func(i int) (reply, error) {
			return w.try("POST", "/api/auth/register", "",
				fmt.Sprintf(`{"organizationName":"O%d","name":"N","email":"n%d@x.example","password":"long enough"}`, i, i))
		})
		assert.Equal(t, []int{201, 403, 403, 403, 403, 403}, statuses)
		ids, err := w.store.OrganizationIDs(t.Context())
		require.NoError(t, err)
		assert.Len(t, ids, 1)
		heads, err := w.store.Heads(t.Context(), ids)
		require.NoError(t, err)
		assert.NotEmpty(t, heads[ids[0]].Epoch, "the organization has its event log")
	})
}

func TestRegister(t *testing.T) {
	onBoth(t, true, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		body := `{"organizationName":" Engines ","name":"Ada","email":"Ada@x.example","password":"long enough"}`
		for _, bad := range []struct{ old, new, field string }{
			{`" Engines "`, `"  "`, "organizationName"},
			{`"Ada"`, `"\u200b\u0085"`, "name"},
			{`"Ada"`, `"Ada\u202eadA"`, "name"},
			{`"Ada"`, `"Ada\r\nBcc: x"`, "name"},
			{`"Ada@x.example"`, `"ada"`, "email"},
			{`"Ada@x.example"`, `"` + strings.Repeat("a", 250) + `@x.example"`, "email"},
			{`"long enough"`, `"        "`, "password"},
			{`"long enough"`, `"long enough","role":"operator"`, "role"},
		} {
			r := w.send("POST", "/api/auth/register", "", strings.Replace(body, bad.old, bad.new, 1))
			require.Equal(t, 422, r.status, "%s", r.body)
			assert.Equal(t, bad.field, r.problem(t).Errors[0].Field)
		}
		assert.JSONEq(t, `{"open":true}`, string(w.send("GET", "/api/auth/register", "", "").body))
		r := w.send("POST", "/api/auth/register", "", body)
		require.Equal(t, 201, r.status, "%s", r.body)
		golden(t, "register", r.body)
		pair := decode[tokens](t, r)
		assert.Equal(t, 200, w.send("GET", "/api/api-keys", pair.AccessToken, "").status, "an admin")
		assert.Contains(t, string(w.send("GET", "/api/organization", pair.AccessToken, "").body), `"name":"Engines"`)
		assert.Equal(t, 403, w.send("POST", "/api/auth/register", "", body).status, "closed from now on")
		assert.JSONEq(t, `{"open":false}`, string(w.send("GET", "/api/auth/register", "", "").body))
	})
}

func TestOneOfManyRegistrationsOfAnAddressWins(t *testing.T) {
	onBoth(t, true, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{open: true})
		statuses, _ := atOnce(t, 4, func(i int) (reply, error) {
			return w.try("POST", "/api/auth/register", "",
				fmt.Sprintf(`{"organizationName":"O%d","name":"N","email":"same@x.example","password":"long enough"}`, i))
		})
		assert.Equal(t, []int{201, 409, 409, 409}, statuses)
		ids, err := w.store.OrganizationIDs(t.Context())
		require.NoError(t, err)
		assert.Len(t, ids, 1, "a failed registration leaves no organization behind")
		assert.Equal(t, 201, w.send("POST", "/api/auth/register", "",
			`{"organizationName":"O","name":"N","email":"other@x.example","password":"long enough"}`).status)
	})
}

func refreshBody(token string) string { return fmt.Sprintf(`{"refreshToken":%q}`, token) }

type tokens struct{ AccessToken, RefreshToken string }

func TestRefreshingAtOnceKeepsTheSession(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		first := seeded().sessions[operatorA].Token
		statuses, replies := atOnce(t, 5, func(int) (reply, error) {
			return w.try("POST", "/api/auth/refresh", "", refreshBody(first))
		})
		assert.Equal(t, []int{200, 200, 200, 200, 200}, statuses)
		fresh := map[string]bool{}
		for _, r := range replies {
			pair := decode[tokens](t, r)
			fresh[pair.RefreshToken] = true
			assert.Equal(t, 200, w.send("GET", "/api/me", pair.AccessToken, "").status)
			assert.Equal(t, 200, w.send("POST", "/api/auth/refresh", "", refreshBody(pair.RefreshToken)).status)
		}
		assert.Len(t, fresh, 5, "no token is given twice")
		assert.Empty(t, w.disconnected.all())
	})
}

func TestReuseRevokesTheFamily(t *testing.T) {
	// Once right after the grace time, and once when the used token is not even known any more.
	for name, rotations := range map[string]int{"known": 1, "forgotten": 3} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, false, func(t *testing.T, databaseURL string) {
				w := newWorld(t, databaseURL, setup{})
				stolen := seeded().sessions[operatorA].Token
				pair := tokens{RefreshToken: stolen}
				for range rotations {
					pair = decode[tokens](t, w.send("POST", "/api/auth/refresh", "", refreshBody(pair.RefreshToken)))
					w.clock.Advance(account.RefreshGrace + time.Millisecond)
				}
				require.Equal(t, 200, w.send("GET", "/api/me", pair.AccessToken, "").status)

				assert.Equal(t, 401, w.send("POST", "/api/auth/refresh", "", refreshBody(stolen)).status)
				assert.Equal(t, 401, w.send("POST", "/api/auth/refresh", "", refreshBody(pair.RefreshToken)).status, "the family has ended")
				assert.Equal(t, 401, w.send("GET", "/api/me", pair.AccessToken, "").status, "and so have its access tokens")
				assert.Equal(t, []string{"session " + seeded().sessions[operatorA].Family}, w.disconnected.all())
				assert.Equal(t, 200, w.send("GET", "/api/me", w.access(adminA), "").status, "other sessions stand")
			})
		})
	}
}

func TestRefreshTokensExpire(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		w.clock.Advance(30*24*time.Hour + time.Second)
		assert.Equal(t, 401, w.send("POST", "/api/auth/refresh", "", refreshBody(seeded().sessions[operatorA].Token)).status)
		assert.Empty(t, w.disconnected.all(), "expiry is no theft")
	})
}

func TestAnAccessTokenExpires(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		token := w.access(adminA)
		w.clock.Advance(14 * time.Minute)
		require.Equal(t, 200, w.send("GET", "/api/me", token, "").status)
		w.clock.Advance(time.Minute + 2*time.Second)
		r := w.send("GET", "/api/me", token, "")
		assert.Equal(t, 401, r.status)
		assert.Contains(t, r.problem(t).Detail, "expired")
	})
}

func TestAnAdminStaysWhenTwoGoAtOnce(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		require.Equal(t, 200, w.send("PATCH", path("/api/users/%d", operatorA), w.access(adminA), `{"role":"admin"}`).status)
		login := decode[tokens](t, w.send("POST", "/api/auth/login", "", `{"email":"charles@a.example","password":"`+password+`"}`))
		// Each demotes the other.
		callers := []string{w.access(adminA), login.AccessToken}
		targets := []int64{operatorA, adminA}
		statuses, _ := atOnce(t, 2, func(i int) (reply, error) {
			return w.try("PATCH", path("/api/users/%d", targets[i]), callers[i], `{"role":"operator"}`)
		})
		assert.Equal(t, 200, statuses[0])
		assert.Contains(t, []int{401, 403, 409}, statuses[1])
		users, err := w.store.Users(t.Context(), orgA, 0, 100)
		require.NoError(t, err)
		admins := 0
		for _, u := range users {
			if u.Role == "admin" && u.Active {
				admins++
			}
		}
		assert.Equal(t, 1, admins)
	})
}

func TestOnesOwnNewPasswordKeepsThisSessionOnly(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		other := decode[tokens](t, w.send("POST", "/api/auth/login", "", `{"email":"charles@a.example","password":"`+password+`"}`))
		mine := w.access(operatorA)
		r := w.send("PATCH", "/api/me", mine, `{"password":"difference engine","currentPassword":"`+password+`"}`)
		require.Equal(t, 200, r.status, "%s", r.body)
		assert.Equal(t, 200, w.send("GET", "/api/me", mine, "").status)
		assert.Equal(t, 401, w.send("GET", "/api/me", other.AccessToken, "").status)
		assert.Equal(t, 401, w.send("POST", "/api/auth/login", "", `{"email":"charles@a.example","password":"`+password+`"}`).status)
		assert.Equal(t, 200, w.send("POST", "/api/auth/login", "", `{"email":"charles@a.example","password":"difference engine"}`).status)
		assert.Len(t, w.disconnected.all(), 1)
	})
}

func TestLoginsAreThrottled(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		body := `{"email":"nobody@x.example","password":"guess"}`
		var r reply
		for range 30 {
			if r = w.send("POST", "/api/auth/login", "", body); r.status != 401 {
				break
			}
		}
		require.Equal(t, 429, r.status)
		assert.EqualValues(t, "rate_limited", r.problem(t).Code)
		assert.Equal(t, "900", r.header.Get("Retry-After"))
		assert.Equal(t, 200, w.send("POST", "/api/auth/login", "", `{"email":"ada@a.example","password":"`+password+`"}`).status, "others are not held up")
		w.clock.Advance(15*time.Minute + time.Second)
		assert.Equal(t, 401, w.send("POST", "/api/auth/login", "", body).status)
	})
}
