package httpapi_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/httpapi"
	"switchboard/internal/store"
	"switchboard/internal/telemetry"
	"switchboard/internal/testkit"
)

// newPlainWorld is a seeded world on SQLite, for what no database decides.
func newPlainWorld(t *testing.T, options httpapi.Options) *world {
	t.Helper()
	return newWorld(t, testkit.SQLiteFrom(t, "httpapi_seeded", seed), setup{options: options})
}

func TestWhatIsNoGoodRequest(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{MaxBody: 2000})
	fill := func(total int) string {
		const frame = `{"name":""}`
		return `{"name":"` + strings.Repeat(" ", total-len(frame)) + `"}`
	}
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code               domain.Code
		field              string
	}{
		"unknown path":            {"GET", "/api/nothing", "", nil, 404, domain.CodeNotFound, ""},
		"a slash too many":        {"GET", "/api/me/", "", nil, 404, domain.CodeNotFound, ""},
		"the API itself":          {"GET", "/api", "", nil, 404, domain.CodeNotFound, ""},
		"wrong method":            {"PUT", "/api/me", "{}", nil, 405, domain.CodeInvalid, ""},
		"invented method":         {"BREW", "/api/me", "", nil, 405, domain.CodeInvalid, ""},
		"path that is no text":    {"GET", "/api/%ff", "", nil, 404, domain.CodeNotFound, ""},
		"broken JSON":             {"PATCH", "/api/me", `{"name":`, nil, 400, domain.CodeInvalid, ""},
		"two JSON values":         {"PATCH", "/api/me", `{} {}`, nil, 400, domain.CodeInvalid, ""},
		"no body":                 {"PATCH", "/api/me", "", nil, 400, domain.CodeInvalid, ""},
		"an array":                {"PATCH", "/api/me", "[]", nil, 422, domain.CodeInvalid, "body"},
		"null":                    {"PATCH", "/api/me", "null", nil, 422, domain.CodeInvalid, "body"},
		"a form":                  {"PATCH", "/api/me", "name=x", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, domain.CodeInvalid, ""},
		"a body of the limit":     {"PATCH", "/api/me", fill(2000), nil, 422, domain.CodeInvalid, "name"},
		"a body over the limit":   {"PATCH", "/api/me", fill(2001), nil, 413, domain.CodeTooLarge, ""},
		"a huge body":             {"PATCH", "/api/me", fill(3 << 20), nil, 413, domain.CodeTooLarge, ""},
		"deep nesting":            {"PATCH", "/api/me", strings.Repeat("[", 1900), nil, 400, domain.CodeInvalid, ""},
		"a huge unknown field":    {"PATCH", "/api/me", `{"` + strings.Repeat("x", 1500) + `":1}`, nil, 422, domain.CodeInvalid, strings.Repeat("x", 100) + "…"},
		"a number out of range":   {"PATCH", "/api/me", `{"name":1e999}`, nil, 422, domain.CodeInvalid, "body"},
		"accepting XML gets JSON": {"PATCH", "/api/me", "{}x", []string{"Accept", "application/xml"}, 400, domain.CodeInvalid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.send(c.method, c.path, w.access(operatorA), c.body, c.headers...)
			require.Equal(t, c.status, r.status, "%s", r.body)
			p := r.problem(t)
			assert.Equal(t, c.code, p.Code)
			field := ""
			if len(p.Errors) > 0 {
				field = p.Errors[0].Field
			}
			assert.Equal(t, c.field, field)
			assert.Less(t, len(r.body), 1000)
			if c.status == 405 {
				assert.Contains(t, r.header.Get("Allow"), "PATCH")
			}
		})
	}
	assert.Equal(t, 200, w.send("GET", "/api/me", w.access(operatorA), "").status)
}

func TestManyFaultsMakeAShortAnswer(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{})
	var body strings.Builder
	for i := range 20000 {
		body.WriteString(`"f` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i%11) + `":1,`)
	}
	r := w.send("PATCH", "/api/me", w.access(operatorA), "{"+body.String()+`"z":1}`)
	assert.Equal(t, 422, r.status)
	assert.Len(t, r.problem(t).Errors, 20)
}

func TestCredentialsThatAreNone(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{})
	good := w.access(adminA)
	for name, header := range map[string]string{
		"none": "", "scheme only": "Bearer", "basic": "Basic YTpi", "nonsense": "Bearer x", "alg none": "Bearer eyJhbGciOiJub25lIn0.e30.",
		"cut": "Bearer " + good[:len(good)-3], "two": "Bearer " + good + " " + good, "key-like": "Bearer sb_aaaaaaaa_x",
	} {
		t.Run(name, func(t *testing.T) {
			r := w.send("GET", "/api/me", "", "", "Authorization", header)
			assert.Equal(t, 401, r.status)
			assert.Equal(t, domain.CodeUnauthenticated, r.problem(t).Code)
			assert.Equal(t, `Bearer realm="switchboard"`, r.header.Get("WWW-Authenticate"))
		})
	}
	assert.Equal(t, 200, w.send("GET", "/api/me", "", "", "Authorization", "bearer "+good).status, "the scheme's case does not matter")
}

// TestEveryRouteIsGuarded walks the OpenAPI document: whoever adds a route without thinking of access fails here.
func TestEveryRouteIsGuarded(t *testing.T) {
	public := map[string]bool{"register": true, "getRegistration": true, "login": true, "refresh": true}
	w := newPlainWorld(t, httpapi.Options{})
	document := decode[openAPI](t, w.send("GET", "/openapi.json", "", ""))
	require.NotEmpty(t, document.Paths)
	for pattern, operations := range document.Paths {
		for method, operation := range operations {
			target := strings.NewReplacer("{id}", "1").Replace(pattern)
			target = regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(target, "1")
			r := w.send(strings.ToUpper(method), target, "", "{}")
			if public[operation.OperationID] {
				assert.NotEqual(t, 404, r.status)
				assert.Empty(t, operation.Security)
				continue
			}
			assert.Equal(t, 401, r.status, "%s %s is open to everyone", method, pattern)
			assert.NotEmpty(t, operation.Security, "%s %s", method, pattern)
			if _, admins := operation.Responses["403"]; admins {
				r := w.send(strings.ToUpper(method), target, w.access(operatorA), "{}")
				assert.Equal(t, 403, r.status, "%s %s is open to operators", method, pattern)
			}
			assert.NotEmpty(t, operation.Summary, "%s %s", method, pattern)
			assert.NotEmpty(t, operation.Tags, "%s %s", method, pattern)
		}
	}
}

type openAPI struct {
	OpenAPI string
	Servers []struct{ URL string }
	Paths   map[string]map[string]struct {
		OperationID string
		Summary     string
		Tags        []string
		Security    []any
		Responses   map[string]any
	}
	Components struct {
		Schemas         map[string]schema
		SecuritySchemes map[string]struct{ Type, Scheme string }
	}
}

type schema struct {
	Properties map[string]struct {
		Type   any
		Format string
		Enum   []any
		AnyOf  []any
	}
	Required []string
}

func TestOpenAPIDescribesWhatIsSent(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{PublicURL: "https://desk.example.com"})
	r := w.send("GET", "/openapi.json", "", "")
	require.Equal(t, 200, r.status)
	document := decode[openAPI](t, r)
	assert.True(t, strings.HasPrefix(document.OpenAPI, "3.1."))
	assert.Equal(t, "https://desk.example.com", document.Servers[0].URL)
	assert.Equal(t, "bearer", document.Components.SecuritySchemes["bearer"].Scheme)
	user := document.Components.Schemas["User"]
	assert.Equal(t, "string", user.Properties["createdAt"].Type)
	assert.Equal(t, "date-time", user.Properties["createdAt"].Format)
	assert.Equal(t, []any{"admin", "operator"}, user.Properties["role"].Enum)
	key := document.Components.Schemas["APIKey"]
	assert.Equal(t, []any{"string", "null"}, key.Properties["lastUsedAt"].Type)
	assert.Equal(t, []any{"string", "null"}, document.Components.Schemas["PageUser"].Properties["nextCursor"].Type)
	assert.Equal(t, "array", document.Components.Schemas["PageUser"].Properties["items"].Type)
	assert.Contains(t, document.Components.Schemas["Problem"].Required, "code")
	assert.NotContains(t, string(r.body), "$schema")

	assert.Contains(t, string(w.send("GET", "/openapi.yaml", "", "").body), "openapi: ")
}

func TestDocsNeedNoNetwork(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{})
	for _, at := range []string{"/docs", "/docs/"} {
		r := w.send("GET", at, "", "")
		require.Equal(t, 200, r.status, at)
		assert.NotContains(t, r.header.Get("Content-Security-Policy"), "http")
		links := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(string(r.body), -1)
		require.NotEmpty(t, links)
		for _, link := range links {
			require.True(t, strings.HasPrefix(link[1], "/docs/"), link[1])
			assert.Equal(t, 200, w.send("GET", link[1], "", "").status, link[1])
		}
		assert.Contains(t, string(r.body), "/openapi.json")
	}
	assert.Equal(t, 404, w.send("GET", "/docs/nothing.js", "", "").status)
}

func TestMountedHandlers(t *testing.T) {
	said := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text+" "+r.URL.Path) })
	}
	w := newPlainWorld(t, httpapi.Options{
		SocketIO: said("socket"), Dashboard: said("page"), Health: telemetry.NewHealth(), Metrics: telemetry.NewMetrics(),
		MetricsToken: "0123456789abcdef",
	})
	for target, want := range map[string]string{
		"/socket.io/": "socket /socket.io/", "/": "page /", "/chats/7": "page /chats/7", "/assets/app.js": "page /assets/app.js",
	} {
		r := w.send("GET", target, "", "")
		assert.Equal(t, 200, r.status, target)
		assert.Equal(t, want, string(r.body))
	}
	assert.Equal(t, 404, w.send("POST", "/chats/7", "", "{}").status)
	assert.Equal(t, 404, w.send("GET", "/api/chats7", "", "").status)
	assert.Equal(t, 200, w.send("GET", "/healthz", "", "").status)
	assert.Equal(t, 200, w.send("GET", "/readyz", "", "").status)
	assert.Equal(t, 401, w.send("GET", "/metrics", "", "").status)

	w.send("GET", "/api/users/3", w.access(adminA), "")
	metrics := string(w.send("GET", "/metrics", "0123456789abcdef", "").body)
	assert.Contains(t, metrics, `route="/api/users/:id",status="200"`)
	assert.NotContains(t, metrics, "/api/users/3")
	assert.NotContains(t, metrics, "socket.io")
}

func TestCORSIsAnAllowList(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{CORSOrigins: []string{"https://desk.example.com"}})
	preflight := func(origin string) reply {
		return w.send("OPTIONS", "/api/me", "", "", "Origin", origin, "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "authorization")
	}
	r := preflight("https://desk.example.com")
	assert.Equal(t, 204, r.status)
	assert.Equal(t, "https://desk.example.com", r.header.Get("Access-Control-Allow-Origin"))
	assert.Contains(t, r.header.Get("Access-Control-Allow-Headers"), "Authorization")
	assert.Contains(t, r.header.Get("Access-Control-Allow-Methods"), "PATCH")
	assert.Empty(t, r.header.Get("Access-Control-Allow-Credentials"))
	for _, origin := range []string{"https://evil.example", "https://desk.example.com.evil.example", "http://desk.example.com", "null"} {
		r := preflight(origin)
		assert.Equal(t, 403, r.status, origin)
		assert.Empty(t, r.header.Get("Access-Control-Allow-Origin"))
		r = w.send("GET", "/api/me", w.access(adminA), "", "Origin", origin)
		assert.Empty(t, r.header.Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "Origin", r.header.Get("Vary"))
	}
	assert.Equal(t, "https://desk.example.com",
		w.send("GET", "/api/me", "", "", "Origin", "https://desk.example.com").header.Get("Access-Control-Allow-Origin"), "errors can be read too")
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{PublicURL: "https://desk.example.com"})
	for _, r := range []reply{
		w.send("GET", "/api/me", w.access(adminA), ""), w.send("GET", "/api/me", "", ""), w.send("GET", "/nothing", "", ""),
	} {
		assert.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))
		assert.Equal(t, "DENY", r.header.Get("X-Frame-Options"))
		assert.Equal(t, "no-store", r.header.Get("Cache-Control"))
		assert.Contains(t, r.header.Get("Content-Security-Policy"), "default-src 'none'")
		assert.NotEmpty(t, r.header.Get("Strict-Transport-Security"))
		assert.Len(t, r.header.Get("X-Request-Id"), 24)
	}
	assert.Equal(t, "balancer-1234", w.send("GET", "/api/me", "", "", "X-Request-Id", "balancer-1234").header.Get("X-Request-Id"))
	assert.Len(t, w.send("GET", "/api/me", "", "", "X-Request-Id", `x" onload="y`).header.Get("X-Request-Id"), 24)
}

func TestTheLogHoldsNoSecrets(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{})
	token := w.access(adminA)
	login := decode[tokens](t, w.send("POST", "/api/auth/login", "", `{"email":"ada@a.example","password":"`+password+`"}`))
	w.send("POST", "/api/auth/login", "", `{"email":"ada@a.example","password":"hunter2hunter2"}`)
	w.send("GET", "/api/me?token="+token, token, "")
	w.send("GET", "/nothing?secret=canary-in-a-query", "", "")
	made := decode[struct{ Secret string }](t, w.send("POST", "/api/api-keys", token, `{"name":"canary-name","role":"admin"}`))
	w.send("GET", "/api/me", made.Secret, "")
	log := w.log.String()
	assert.Contains(t, log, `"route":"/api/me"`)
	assert.Contains(t, log, `"user_id":1`)
	for _, secret := range []string{
		token, login.AccessToken, login.RefreshToken, made.Secret, password, "hunter2", "canary", "ada@a.example", seeded().sessions[adminA].Family,
	} {
		assert.NotContains(t, log, secret)
	}
}

func TestADatabaseThatIsGoneIs503(t *testing.T) {
	server := testkit.StartPostgres(t, testkit.PostgresOptions{Durable: true})
	databaseURL := server.CreateDatabase("gone")
	require.NoError(t, seed(databaseURL))
	w := newWorld(t, databaseURL, setup{})
	require.Equal(t, 200, w.send("GET", "/api/me", w.access(adminA), "").status)
	server.Kill()
	r := w.send("GET", "/api/me", w.access(adminA), "")
	assert.Equal(t, 503, r.status, "%s", r.body)
	assert.Equal(t, domain.CodeUnavailable, r.problem(t).Code)
	assert.NotEmpty(t, r.header.Get("Retry-After"))
	assert.NotContains(t, string(r.body), "127.0.0.1")
	assert.Contains(t, w.log.String(), `"msg":"request failed"`)
	server.Start()
	testkit.Eventually(t, "the database to be back", func() bool { return w.send("GET", "/api/me", w.access(adminA), "").status == 200 })
}

func TestAClosedStoreTellsNothing(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{})
	token := w.access(adminA)
	require.NoError(t, w.store.Close())
	r := w.send("GET", "/api/me", token, "")
	assert.GreaterOrEqual(t, r.status, 500)
	r.problem(t)
	assert.NotContains(t, string(r.body), "sql")
}

func TestPanicsAreProblems(t *testing.T) {
	w := newPlainWorld(t, httpapi.Options{Dashboard: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		panic("secret-canary")
	})})
	r := w.send("GET", "/boom", "", "")
	assert.Equal(t, 500, r.status)
	assert.Equal(t, domain.CodeInternal, r.problem(t).Code)
	assert.NotContains(t, string(r.body), "canary")
	assert.NotContains(t, w.log.String(), "secret-canary")
	assert.Contains(t, w.log.String(), "panic in a handler")
	assert.Contains(t, w.log.String(), r.header.Get("X-Request-Id"))
	_, err := w.try("GET", "/abort", "", "")
	assert.Error(t, err, "a handler that gives the connection up is left to")
}

func TestPruneForgetsWhatHasEnded(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		require.Equal(t, 204, w.send("POST", "/api/auth/logout", w.access(operatorB), "").status)
		require.NoError(t, w.accounts.Prune(t.Context()))
		assert.Equal(t, 2, count(t, w.store, "sessions WHERE revoked_at IS NOT NULL"), "not yet")
		assert.Equal(t, 3, count(t, w.store, "sessions WHERE revoked_at IS NULL"))
		w.clock.Advance(25 * time.Hour)
		require.NoError(t, w.accounts.Prune(t.Context()))
		assert.Equal(t, 0, count(t, w.store, "sessions WHERE revoked_at IS NOT NULL"))
		assert.Equal(t, 3, count(t, w.store, "sessions"))
		w.clock.Advance(31 * 24 * time.Hour)
		require.NoError(t, w.accounts.Prune(t.Context()))
		assert.Equal(t, 0, count(t, w.store, "refresh_tokens"))
		assert.Equal(t, 0, count(t, w.store, "sessions"))
	})
}

func count(t *testing.T, s *store.Store, of string) int {
	t.Helper()
	var n int
	require.NoError(t, s.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+of).Scan(&n))
	return n
}

func TestStillValidNamesWhoIsNot(t *testing.T) {
	onBoth(t, false, func(t *testing.T, databaseURL string) {
		w := newWorld(t, databaseURL, setup{})
		var all []domain.Principal
		for _, token := range []string{w.access(adminA), w.access(operatorA), w.access(operatorB), seeded().keys[keyA].Key, seeded().keys[keyB].Key} {
			p, err := w.accounts.Authenticate(t.Context(), token)
			require.NoError(t, err)
			all = append(all, p)
		}
		ended, err := w.accounts.StillValid(t.Context(), all)
		require.NoError(t, err)
		assert.Empty(t, ended)
		none, err := w.accounts.StillValid(t.Context(), nil)
		require.NoError(t, err)
		assert.Empty(t, none)

		require.Equal(t, 204, w.send("DELETE", "/api/users/3", w.access(adminA), "").status)
		require.Equal(t, 204, w.send("DELETE", "/api/api-keys/1", w.access(adminA), "").status)
		ended, err = w.accounts.StillValid(t.Context(), all)
		require.NoError(t, err)
		assert.Equal(t, []domain.Principal{all[1], all[3]}, ended)

		foreign := all[0]
		foreign.OrganizationID = orgB
		promoted := all[2]
		promoted.Role = domain.RoleAdmin
		ended, err = w.accounts.StillValid(t.Context(), []domain.Principal{foreign, promoted, {}})
		require.NoError(t, err)
		assert.Len(t, ended, 3, "whoever is not exactly whom the database knows")

		w.clock.Advance(15 * time.Minute)
		ended, err = w.accounts.StillValid(t.Context(), all)
		require.NoError(t, err)
		assert.Equal(t, all[:4], ended, "access tokens end; keys do not")
	})
}
