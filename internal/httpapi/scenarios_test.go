package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

// scenario is one request to a fresh world, and what must come of it.
type scenario struct {
	name         string
	method, path string
	as           int64  // a seeded user; 0: nobody
	key          int64  // or a seeded API key
	body         string // {{refresh:N}} stands for the refresh token of user N

	status int
	code   domain.Code // of the problem
	field  string      // the first at fault
	golden string      // file of the whole answer
	then   func(t *testing.T, w *world, r reply)
}

func (s scenario) run(t *testing.T, w *world) {
	t.Helper()
	token := ""
	if s.as != 0 {
		token = w.access(s.as)
	}
	if s.key != 0 {
		token = seeded().keys[s.key].Key
	}
	body := s.body
	for id, refresh := range seeded().sessions {
		body = strings.ReplaceAll(body, fmt.Sprintf("{{refresh:%d}}", id), refresh.Token)
	}
	r := w.send(s.method, s.path, token, body)
	require.Equal(t, s.status, r.status, "%s", r.body)
	if s.code != "" {
		p := r.problem(t)
		assert.Equal(t, s.code, p.Code)
		got := ""
		if len(p.Errors) > 0 {
			got = p.Errors[0].Field
		}
		assert.Equal(t, s.field, got, "%s", r.body)
	}
	if s.golden != "" {
		golden(t, s.golden, r.body)
	}
	if s.then != nil {
		s.then(t, w, r)
	}
}

// path fills an id in.
func path(format string, id int64) string { return fmt.Sprintf(format, id) }

// unchanged asserts that an answer's user, read anew by an admin, is as seeded.
func unchanged(id int64, name string, role domain.Role) func(t *testing.T, w *world, r reply) {
	return func(t *testing.T, w *world, _ reply) {
		t.Helper()
		organization := orgA
		if id == adminB || id == operatorB {
			organization = orgB
		}
		u, err := w.store.User(t.Context(), organization, id)
		require.NoError(t, err)
		assert.Equal(t, name, u.Name)
		assert.Equal(t, role, u.Role)
		assert.Equal(t, organization, u.OrganizationID)
		assert.Equal(t, id != inactiveA, u.Active)
	}
}

var authScenarios = []scenario{
	{
		name: "register is closed after the first organization", method: "POST", path: "/api/auth/register",
		body:   `{"organizationName":"X","name":"N","email":"n@x.example","password":"long enough"}`,
		status: 403, code: domain.CodeRegistration, golden: "problem_registration_closed",
	},
	{
		name: "login", method: "POST", path: "/api/auth/login",
		body: `{"email":" ADA@a.example","password":"correct horse battery staple"}`, status: 200, golden: "login",
	},
	{
		name: "login with a wrong password", method: "POST", path: "/api/auth/login",
		body: `{"email":"ada@a.example","password":"wrong"}`, status: 401, code: domain.CodeUnauthenticated, golden: "problem_login",
	},
	{
		name: "login of nobody answers the same", method: "POST", path: "/api/auth/login",
		body: `{"email":"nobody@a.example","password":"correct horse battery staple"}`, status: 401, golden: "problem_login",
	},
	{
		name: "login of an inactive user answers the same", method: "POST", path: "/api/auth/login",
		body: `{"email":"luigi@a.example","password":"correct horse battery staple"}`, status: 401, golden: "problem_login",
	},
	{
		name: "login with what is no address answers the same", method: "POST", path: "/api/auth/login",
		body: `{"email":"' OR 1=1 --","password":"correct horse battery staple"}`, status: 401, golden: "problem_login",
	},
	{
		name: "login without a password", method: "POST", path: "/api/auth/login", body: `{"email":"ada@a.example"}`,
		status: 422, code: domain.CodeInvalid, field: "password", golden: "problem_required",
	},
	{
		name: "refresh", method: "POST", path: "/api/auth/refresh", body: `{"refreshToken":"{{refresh:1}}"}`, status: 200, golden: "refresh",
	},
	{
		name: "refresh with nonsense", method: "POST", path: "/api/auth/refresh", body: `{"refreshToken":"sbr_x"}`,
		status: 401, code: domain.CodeUnauthenticated,
	},
	{
		name: "refresh of an inactive user", method: "POST", path: "/api/auth/refresh", body: `{"refreshToken":"{{refresh:4}}"}`,
		status: 401, code: domain.CodeUnauthenticated,
	},
	{
		name: "a refresh token is no access token", method: "POST", path: "/api/auth/logout", status: 401, code: domain.CodeUnauthenticated,
		then: func(t *testing.T, w *world, _ reply) {
			t.Helper()
			assert.Equal(t, 401, w.send("GET", "/api/me", seeded().sessions[adminA].Token, "").status)
		},
	},
	{
		name: "logout ends the session everywhere", method: "POST", path: "/api/auth/logout", as: operatorA, status: 204,
		then: func(t *testing.T, w *world, _ reply) {
			t.Helper()
			assert.Equal(t, 401, w.send("GET", "/api/me", w.access(operatorA), "").status)
			body := fmt.Sprintf(`{"refreshToken":%q}`, seeded().sessions[operatorA].Token)
			assert.Equal(t, 401, w.send("POST", "/api/auth/refresh", "", body).status)
			assert.Equal(t, []string{"session " + seeded().sessions[operatorA].Family}, w.disconnected.all())
		},
	},
	{name: "logout with a key", method: "POST", path: "/api/auth/logout", key: keyA, status: 409, code: domain.CodeConflict},
	{name: "me", method: "GET", path: "/api/me", as: operatorA, status: 200, golden: "me"},
	{name: "me with a key is its user", method: "GET", path: "/api/me", key: keyB, status: 200, golden: "me_key"},
	{name: "me of an inactive user", method: "GET", path: "/api/me", as: inactiveA, status: 401, code: domain.CodeUnauthenticated, golden: "problem_session"},
	{name: "me of nobody", method: "GET", path: "/api/me", status: 401, code: domain.CodeUnauthenticated, golden: "problem_unauthenticated"},
	{name: "organization", method: "GET", path: "/api/organization", as: operatorB, status: 200, golden: "organization"},
	{
		name: "rename oneself", method: "PATCH", path: "/api/me", as: operatorA, body: `{"name":" Charles Babbage "}`, status: 200, golden: "me_renamed",
		then: func(t *testing.T, w *world, _ reply) { t.Helper(); assert.Empty(t, w.disconnected.all()) },
	},
	{
		name: "nobody promotes himself", method: "PATCH", path: "/api/me", as: operatorA, body: `{"name":"X","role":"admin"}`,
		status: 422, code: domain.CodeInvalid, field: "role", golden: "problem_unknown_field",
		then: unchanged(operatorA, "Charles", domain.RoleOperator),
	},
	{
		name: "nobody moves to another organization", method: "PATCH", path: "/api/me", as: operatorA, body: `{"organizationId":2}`,
		status: 422, code: domain.CodeInvalid, field: "organizationId", then: unchanged(operatorA, "Charles", domain.RoleOperator),
	},
	{
		name: "spelling a field otherwise does not help", method: "PATCH", path: "/api/me", as: operatorA, body: `{"NAME":"X"}`,
		status: 422, code: domain.CodeInvalid, field: "NAME", then: unchanged(operatorA, "Charles", domain.RoleOperator),
	},
	{
		name: "a new password needs the current one", method: "PATCH", path: "/api/me", as: operatorA, body: `{"password":"another one"}`,
		status: 422, code: domain.CodeInvalid, field: "currentPassword",
	},
	{
		name: "a new password needs the right current one", method: "PATCH", path: "/api/me", as: operatorA,
		body: `{"password":"another one","currentPassword":"guess"}`, status: 422, code: domain.CodeInvalid, field: "currentPassword",
	},
	{
		name: "a new password must be long enough", method: "PATCH", path: "/api/me", as: operatorA,
		body: `{"password":"short","currentPassword":"correct horse battery staple"}`, status: 422, code: domain.CodeInvalid, field: "password",
	},
	{name: "an empty name", method: "PATCH", path: "/api/me", as: operatorA, body: `{"name":"  "}`, status: 422, code: domain.CodeInvalid, field: "name"},
	{
		name: "a name of control characters", method: "PATCH", path: "/api/me", as: operatorA, body: `{"name":"a\u0007b"}`,
		status: 422, code: domain.CodeInvalid, field: "name",
	},
	{
		name: "a name with U+0000", method: "PATCH", path: "/api/me", as: operatorA, body: `{"name":"a\u0000b"}`,
		status: 422, code: domain.CodeInvalid, field: "name",
	},
	{
		name: "a name that is too long", method: "PATCH", path: "/api/me", as: operatorA, body: `{"name":"` + strings.Repeat("ä", 201) + `"}`,
		status: 422, code: domain.CodeInvalid, field: "name",
	},
	{
		name: "a name of the full length", method: "PATCH", path: "/api/me", as: operatorA, body: `{"name":"` + strings.Repeat("ä", 200) + `"}`,
		status: 200,
	},
}

var userScenarios = []scenario{
	{name: "list users", method: "GET", path: "/api/users", as: operatorA, status: 200, golden: "users"},
	{name: "a list of one", method: "GET", path: "/api/users?limit=1", as: operatorA, status: 200, golden: "users_first"},
	{name: "limit 0", method: "GET", path: "/api/users?limit=0", as: operatorA, status: 422, code: domain.CodeInvalid, field: "limit"},
	{name: "limit 101", method: "GET", path: "/api/users?limit=101", as: operatorA, status: 422, code: domain.CodeInvalid, field: "limit", golden: "problem_limit"},
	{name: "limit ten", method: "GET", path: "/api/users?limit=ten", as: operatorA, status: 422, code: domain.CodeInvalid, field: "limit"},
	{name: "a limit beyond int64", method: "GET", path: "/api/users?limit=99999999999999999999", as: operatorA, status: 422, code: domain.CodeInvalid, field: "limit"},
	{name: "a cursor of one's own", method: "GET", path: "/api/users?cursor=abc", as: operatorA, status: 422, code: domain.CodeInvalid, field: "cursor", golden: "problem_cursor"},
	{name: "a cursor of another type", method: "GET", path: "/api/users?cursor=eyJhIjoxfQ", as: operatorA, status: 422, code: domain.CodeInvalid, field: "cursor"},
	{name: "an unknown parameter", method: "GET", path: "/api/users?page=2", as: operatorA, status: 422, code: domain.CodeInvalid, field: "page"},
	{name: "a parameter that is no text", method: "GET", path: "/api/users?cursor=%ff", as: operatorA, status: 422, code: domain.CodeInvalid, field: "cursor"},
	{name: "a parameter with U+0000", method: "GET", path: "/api/users?cursor=%00", as: operatorA, status: 422, code: domain.CodeInvalid, field: "cursor"},
	{name: "one user", method: "GET", path: path("/api/users/%d", operatorA), as: operatorA, status: 200, golden: "me"},
	{name: "an id that is no number", method: "GET", path: "/api/users/x", as: operatorA, status: 422, code: domain.CodeInvalid, field: "id"},
	{name: "an id below one", method: "GET", path: "/api/users/0", as: operatorA, status: 422, code: domain.CodeInvalid, field: "id"},
	{name: "an id beyond int64", method: "GET", path: "/api/users/99999999999999999999", as: operatorA, status: 422, code: domain.CodeInvalid, field: "id"},
	{
		name: "add a user", method: "POST", path: "/api/users", as: adminA,
		body: `{"name":"Grace","email":"Grace@A.example","password":"long enough","role":"operator"}`, status: 201, golden: "user_created",
		then: func(t *testing.T, w *world, _ reply) {
			t.Helper()
			r := w.send("POST", "/api/auth/login", "", `{"email":"grace@a.example","password":"long enough"}`)
			assert.Equal(t, 200, r.status, "%s", r.body)
		},
	},
	{
		name: "add a user whose address is another's", method: "POST", path: "/api/users", as: adminA,
		body:   `{"name":"Alan","email":"ALAN@b.example","password":"long enough","role":"operator"}`,
		status: 409, code: domain.CodeConflict, field: "email", golden: "problem_email_taken",
	},
	{
		name: "add a user to another organization", method: "POST", path: "/api/users", as: adminA,
		body:   `{"name":"Eve","email":"eve@a.example","password":"long enough","role":"admin","organizationId":2}`,
		status: 422, code: domain.CodeInvalid, field: "organizationId",
	},
	{
		name: "add a user with an id", method: "POST", path: "/api/users", as: adminA,
		body:   `{"id":1,"name":"Eve","email":"eve@a.example","password":"long enough","role":"admin"}`,
		status: 422, code: domain.CodeInvalid, field: "id",
	},
	{
		name: "add a user of a role that is none", method: "POST", path: "/api/users", as: adminA,
		body: `{"name":"Eve","email":"eve@a.example","password":"long enough","role":"owner"}`, status: 422, code: domain.CodeInvalid, field: "role",
	},
	{
		name: "add a user without an address", method: "POST", path: "/api/users", as: adminA,
		body: `{"name":"Eve","email":"eve","password":"long enough","role":"admin"}`, status: 422, code: domain.CodeInvalid, field: "email",
	},
	{
		name: "add a user with an address and a name in one", method: "POST", path: "/api/users", as: adminA,
		body:   `{"name":"Eve","email":"Eve <eve@a.example>","password":"long enough","role":"admin"}`,
		status: 422, code: domain.CodeInvalid, field: "email",
	},
	{
		name: "add a user with a short password", method: "POST", path: "/api/users", as: adminA,
		body: `{"name":"Eve","email":"eve@a.example","password":"1234567","role":"admin"}`, status: 422, code: domain.CodeInvalid, field: "password",
	},
	{
		name: "add a user with a password of 257 bytes", method: "POST", path: "/api/users", as: adminA,
		body:   `{"name":"Eve","email":"eve@a.example","password":"` + strings.Repeat("x", 257) + `","role":"admin"}`,
		status: 422, code: domain.CodeInvalid, field: "password",
	},
	{
		name: "add a user of wrong types", method: "POST", path: "/api/users", as: adminA,
		body: `{"name":1,"email":[],"password":null,"role":true}`, status: 422, code: domain.CodeInvalid, field: "email", golden: "problem_types",
	},
	{
		name: "an operator adds nobody", method: "POST", path: "/api/users", as: operatorA,
		body:   `{"name":"Eve","email":"eve@a.example","password":"long enough","role":"admin"}`,
		status: 403, code: domain.CodeForbidden, golden: "problem_forbidden",
	},
	{
		name: "a key adds nobody with an operator's rights, though an admin's", method: "POST", path: "/api/users", key: keyA,
		body: `{"name":"Eve","email":"eve@a.example","password":"long enough","role":"admin"}`, status: 403, code: domain.CodeForbidden,
	},
	{
		name: "promote", method: "PATCH", path: path("/api/users/%d", operatorA), as: adminA, body: `{"role":"admin"}`, status: 200, golden: "user_promoted",
		then: func(t *testing.T, w *world, _ reply) {
			t.Helper()
			assert.Equal(t, 401, w.send("GET", "/api/me", w.access(operatorA), "").status, "the session has ended")
			assert.Equal(t, []string{"user 3", "session " + seeded().sessions[operatorA].Family}, w.disconnected.all())
		},
	},
	{
		name: "rename a user", method: "PATCH", path: path("/api/users/%d", operatorA), as: adminA, body: `{"name":"Charlie"}`, status: 200,
		then: func(t *testing.T, w *world, _ reply) {
			t.Helper()
			assert.Equal(t, 200, w.send("GET", "/api/me", w.access(operatorA), "").status)
			assert.Empty(t, w.disconnected.all())
		},
	},
	{
		name: "give a user a password", method: "PATCH", path: path("/api/users/%d", operatorA), as: adminA, body: `{"password":"given by an admin"}`,
		status: 200,
		then: func(t *testing.T, w *world, _ reply) {
			t.Helper()
			assert.Equal(t, 401, w.send("GET", "/api/me", w.access(operatorA), "").status)
			r := w.send("POST", "/api/auth/login", "", `{"email":"charles@a.example","password":"given by an admin"}`)
			assert.Equal(t, 200, r.status, "%s", r.body)
		},
	},
	{
		name: "a change of nothing", method: "PATCH", path: path("/api/users/%d", operatorA), as: adminA, body: `{}`, status: 200, golden: "me",
	},
	{
		name: "the last admin cannot become an operator", method: "PATCH", path: path("/api/users/%d", adminA), as: adminA, body: `{"role":"operator"}`,
		status: 409, code: domain.CodeConflict, golden: "problem_last_admin", then: unchanged(adminA, "Ada", domain.RoleAdmin),
	},
	{
		name: "the last admin cannot be deactivated", method: "DELETE", path: path("/api/users/%d", adminA), as: adminA,
		status: 409, code: domain.CodeConflict, then: unchanged(adminA, "Ada", domain.RoleAdmin),
	},
	{
		name: "deactivate", method: "DELETE", path: path("/api/users/%d", operatorA), as: adminA, status: 204,
		then: func(t *testing.T, w *world, _ reply) {
			t.Helper()
			assert.Equal(t, 401, w.send("GET", "/api/me", w.access(operatorA), "").status)
			assert.Contains(t, w.disconnected.all(), "user 3")
			assert.Equal(t, 204, w.send("DELETE", "/api/users/3", w.access(adminA), "").status, "twice is no error")
			r := w.send("PATCH", "/api/users/3", w.access(adminA), `{"active":true}`)
			assert.Equal(t, 200, r.status)
			assert.Equal(t, 401, w.send("GET", "/api/me", w.access(operatorA), "").status, "an old session does not come back")
		},
	},
	{
		name: "an operator deactivates nobody", method: "DELETE", path: path("/api/users/%d", adminA), as: operatorA, status: 403, code: domain.CodeForbidden,
	},
}

var keyScenarios = []scenario{
	{name: "list keys", method: "GET", path: "/api/api-keys", as: adminA, status: 200, golden: "api_keys"},
	{name: "an operator sees no keys", method: "GET", path: "/api/api-keys", as: operatorA, status: 403, code: domain.CodeForbidden},
	{
		name: "make a key", method: "POST", path: "/api/api-keys", as: adminA, body: `{"name":"Import","role":"admin"}`, status: 201, golden: "api_key_created",
		then: func(t *testing.T, w *world, r reply) {
			t.Helper()
			made := decode[struct {
				ID     int64
				Secret string
			}](t, r)
			assert.Equal(t, 200, w.send("GET", "/api/api-keys", made.Secret, "").status, "it has an admin's rights")
			list := w.send("GET", "/api/api-keys", w.access(adminA), "")
			assert.NotContains(t, string(list.body), made.Secret)
			assert.Contains(t, string(list.body), `"lastUsedAt":"2026-01-31T12:00:00.000Z"`)
			assert.Equal(t, 204, w.send("DELETE", fmt.Sprintf("/api/api-keys/%d", made.ID), w.access(adminA), "").status)
			assert.Equal(t, 401, w.send("GET", "/api/me", made.Secret, "").status)
			assert.Equal(t, []string{fmt.Sprintf("key %d", made.ID)}, w.disconnected.all())
		},
	},
	{
		name: "make a key of a role that is none", method: "POST", path: "/api/api-keys", as: adminA, body: `{"name":"Import","role":""}`,
		status: 422, code: domain.CodeInvalid, field: "role",
	},
	{
		name: "make a key for another", method: "POST", path: "/api/api-keys", as: adminA, body: `{"name":"Import","role":"admin","userId":2}`,
		status: 422, code: domain.CodeInvalid, field: "userId",
	},
	{
		name: "a key's rights sink with its user's", method: "GET", path: "/api/api-keys", key: keyB, status: 200,
		then: func(t *testing.T, w *world, _ reply) {
			t.Helper()
			admin := domain.Principal{UserID: adminB, OrganizationID: orgB, Role: domain.RoleAdmin}
			require.Equal(t, 200, w.send("PATCH", "/api/users/5", w.access(adminB), `{"role":"admin"}`).status)
			require.Equal(t, 200, w.send("PATCH", "/api/users/2", w.access(adminB), `{"role":"operator"}`).status)
			assert.Equal(t, 403, w.send("GET", "/api/api-keys", seeded().keys[keyB].Key, "").status)
			require.NoError(t, w.accounts.DeactivateUser(t.Context(), admin, adminB))
			assert.Equal(t, 401, w.send("GET", "/api/me", seeded().keys[keyB].Key, "").status)
		},
	},
	{name: "a key that never was", method: "DELETE", path: path("/api/api-keys/%d", missing), as: adminA, status: 404, code: domain.CodeNotFound, golden: "problem_not_found"},
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, group := range [][]scenario{authScenarios, userScenarios, keyScenarios} {
		for _, s := range group {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				onBoth(t, false, func(t *testing.T, databaseURL string) {
					s.run(t, newWorld(t, databaseURL, setup{}))
				})
			})
		}
	}
}

func TestForeignIsMissing(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		for _, c := range []struct {
			method, path, body string
			foreign            int64
		}{
			{http.MethodGet, "/api/users/%d", "", adminB},
			{http.MethodPatch, "/api/users/%d", `{"name":"Mallory"}`, operatorB},
			{http.MethodPatch, "/api/users/%d", `{"password":"mallory knows"}`, operatorB},
			{http.MethodPatch, "/api/users/%d", `{"role":"operator"}`, adminB},
			{http.MethodDelete, "/api/users/%d", "", operatorB},
			{http.MethodDelete, "/api/api-keys/%d", "", keyB},
		} {
			foreign := w.send(c.method, path(c.path, c.foreign), w.access(adminA), c.body)
			absent := w.send(c.method, path(c.path, missing), w.access(adminA), c.body)
			assert.Equal(t, 404, foreign.status, "%s %s", c.method, c.path)
			assert.Equal(t, absent.status, foreign.status)
			assert.Equal(t, string(absent.body), string(foreign.body), "%s %s", c.method, c.path)
		}
		unchanged(adminB, "Alan", domain.RoleAdmin)(t, w, reply{})
		unchanged(operatorB, "Joan", domain.RoleOperator)(t, w, reply{})
		assert.Equal(t, 200, w.send("GET", "/api/me", seeded().keys[keyB].Key, "").status, "the key of B stands")
		assert.Equal(t, 200, w.send("GET", "/api/me", w.access(operatorB), "").status, "the session of B stands")
		assert.Empty(t, w.disconnected.all())

		list := string(w.send("GET", "/api/users", w.access(adminA), "").body) + string(w.send("GET", "/api/api-keys", w.access(adminA), "").body)
		for _, canary := range []string{"Alan", "b.example", "Bombe", "Bletchley"} {
			assert.NotContains(t, list, canary)
		}
	})
}

func TestPagesHoldEverythingOnce(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		var seen []int64
		next := ""
		for range 10 {
			page := decode[struct {
				Items      []struct{ ID int64 }
				NextCursor *string
			}](t, w.send("GET", "/api/users?limit=2"+next, w.access(adminA), ""))
			for _, u := range page.Items {
				seen = append(seen, u.ID)
			}
			if page.NextCursor == nil {
				break
			}
			require.Len(t, page.Items, 2)
			next = "&cursor=" + *page.NextCursor
		}
		assert.Equal(t, []int64{adminA, operatorA, inactiveA}, seen)
	})
}
