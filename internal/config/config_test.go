package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the files in configs")

const (
	goodSecret = "0123456789abcdef0123456789abcdef"
	goodKey    = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	goodDB     = "postgres://u:p@db:5432/switchboard"
	goodRedis  = "redis://:p@redis:6379/0"
	hexKey     = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// environment is what a process needs at least; more is laid over it.
func environment(more map[string]string) func(string) (string, bool) {
	env := map[string]string{
		"DATABASE_URL": goodDB, "REDIS_URL": goodRedis, "JWT_SECRET": goodSecret, "ENCRYPTION_KEY": goodKey,
	}
	for k, v := range more {
		env[k] = v
	}
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func nothing(string) (string, bool) { return "", false }

func requireLine(t *testing.T, err error, setting string) {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, setting, e.Setting)
	require.NotContains(t, err.Error(), "\n", "one line")
	require.Regexp(t, `: got .+, want .+`, err.Error())
}

// values holds, for every setting, good values and bad ones.
var values = map[string]struct{ good, bad []string }{
	"APP_ENV":                {[]string{"production", "development", "test"}, []string{"prod", "Production"}},
	"DEMO":                   {[]string{"true", "false", "0", "1"}, []string{"yes", "on", "2"}},
	"DATA_DIR":               {nil, []string{"a\x00b"}},
	"LOG_LEVEL":              {[]string{"debug", "info", "warn", "error"}, []string{"trace", "INFO"}},
	"LOG_FORMAT":             {[]string{"auto", "json", "text"}, []string{"xml"}},
	"SHUTDOWN_TIMEOUT":       {[]string{"1s", "5m"}, []string{"0", "0s", "999ms", "6m", "10"}},
	"LISTEN_HOST":            {[]string{"127.0.0.1", "::1", "localhost", "0.0.0.0"}, []string{"localhost:80", "a b", "http://x"}},
	"PORT":                   {[]string{"0", "1", "65535"}, []string{"-1", "65536", "http", "3000.5", "99999999999999999999"}},
	"PUBLIC_URL":             {[]string{"http://localhost:3000", "https://desk.example.com/sub"}, []string{"localhost:3000", "ftp://x", "https://", "https://u:p@x", "https://x?y=1", "/x"}},
	"CORS_ORIGINS":           {[]string{"https://a.example", "https://a.example,http://localhost:5173", "https://a.example, https://b.example"}, []string{"*", "https://a.example/", "a.example", "https://a.example/x", "https://a,,https://b", "null", "HTTPS://A.example"}},
	"TRUSTED_PROXIES":        {[]string{"10.0.0.0/8", "10.0.0.1,fd00::/8"}, []string{"10.0.0.0/33", "proxy", "10.0.0.1:80"}},
	"HTTP_HEADER_TIMEOUT":    {[]string{"100ms", "5s"}, []string{"0", "0s", "6m", "5"}},
	"HTTP_READ_TIMEOUT":      {[]string{"1m"}, []string{"0s", "2h", "x"}},
	"HTTP_IDLE_TIMEOUT":      {[]string{"1m"}, []string{"0s", "2h", "x"}},
	"HTTP_MAX_BODY":          {[]string{"1KiB", "1048576", "64MiB"}, []string{"1023", "65MiB", "1MB", "-1", "x"}},
	"METRICS_TOKEN":          {[]string{"0123456789abcdef"}, []string{"short"}},
	"DATABASE_URL":           {[]string{goodDB, "postgresql://db/x", "sqlite://./x.db", "sqlite:///var/x.db", "postgres:///x?host=/run/pg"}, []string{"mysql://x/y", "postgres://", "postgres://db", "sqlite://", "sqlite://dir/", "db", "postgres://u:hunter2/@db/x"}},
	"DATABASE_MAX_CONNS":     {[]string{"2", "1000"}, []string{"1", "0", "1001", "x"}},
	"REDIS_URL":              {[]string{goodRedis, "rediss://r", "redis://a,b?cluster=true", "redis+sentinel://a,b/0?master=m"}, []string{"http://r", "redis://a,b", "r:6379", "redis://u:hunter2/x@h"}},
	"JWT_SECRET":             {[]string{goodSecret}, []string{"hunter2", goodSecret[1:]}},
	"ENCRYPTION_KEY":         {[]string{goodKey}, []string{"hunter2", goodKey[4:], goodSecret, hexKey}},
	"REGISTRATION":           {[]string{"open", "closed"}, []string{"true", "no"}},
	"ACCESS_TOKEN_TTL":       {[]string{"1m", "24h"}, []string{"59s", "25h", "15"}},
	"REFRESH_TOKEN_TTL":      {[]string{"1h", "720h"}, []string{"1m", "9000h", "30d"}},
	"SOCKETS_PER_SECOND":     {[]string{"1", "500", "100000"}, []string{"0", "-1", "100001", "many"}},
	"EVENT_RETENTION":        {[]string{"1h", "168h"}, []string{"59m", "9000h", "7d"}},
	"EVENTS_KEPT":            {[]string{"1000", "1000000000"}, []string{"999", "0", "1000000001", "all"}},
	"MEDIA_URL":              {[]string{"file://./m", "file:///m", "s3://k:s@minio:9000/bucket?tls=false", "s3://s3.example/bucket"}, []string{"file://", "/m", "s3://k:s@h", "s3://k:s@h/a/b", "http://x/y", "s3://k:hunter2/x@h/b"}},
	"MEDIA_MAX_BYTES":        {[]string{"1KiB", "2GiB"}, []string{"0", "3GiB", "x"}},
	"WORKER_ID":              {[]string{"w-1", "host.example_2"}, []string{"a b", strings.Repeat("w", 101)}},
	"WORKER_MAX_CHANNELS":    {[]string{"1", "10000"}, []string{"0", "10001", "many"}},
	"WORKER_CHANNELS":        {[]string{"3", "3,7", "3, 7"}, []string{"3,3", "0", "-1", "a", "3;7"}},
	"LEASE_TTL":              {[]string{"2s", "10s", "5m"}, []string{"10", "1999ms", "301s", "-5s", "ten"}},
	"WHATSAPP_ENDPOINT":      {nil, []string{"http://10.0.0.1:1", "https://web.whatsapp.example", "127.0.0.1:1", "ws://127.0.0.1:1", "http://127.0.0.1.example.com"}},
	"WHATSAPP_ROOT_KEY":      {nil, []string{hexKey, "xyz", hexKey[2:]}},
	"TELEGRAM_API_ENDPOINT":  {[]string{"http://127.0.0.1:1/bot%s/%s"}, []string{"http://127.0.0.1:1/bot", "http://h/%s", "http://h/%s/%s/%s", "h/bot%s/%s", "http://h/bot%d/%s"}},
	"TELEGRAM_FILE_ENDPOINT": {[]string{"http://127.0.0.1:1/file/bot%s/%s"}, []string{"http://127.0.0.1:1/file", "x%s%s"}},
	"WABA_API_URL":           {[]string{"http://127.0.0.1:1/v24.0", "https://graph.facebook.com/v24.0/"}, []string{"graph.facebook.com", "https://x?y", "https://u:p@x"}},
}

func processOf(s setting) Process {
	for _, p := range []Process{API, Worker, Standalone} {
		if s.in&p != 0 {
			return p
		}
	}
	return 0
}

func TestEverySetting(t *testing.T) {
	for _, s := range settings {
		v, tested := values[s.env]
		require.True(t, tested, "no test values for %s", s.env)
		p := processOf(s)
		load := func(value string) (Config, error) {
			return Load(p, nil, environment(map[string]string{s.env: value, "DATA_DIR": ternary(s.env == "DATA_DIR", value, t.TempDir())}))
		}
		t.Run(s.env+"/missing", func(t *testing.T) {
			env := environment(map[string]string{s.env: ""})
			_, err := Load(p, []string{}, func(name string) (string, bool) {
				if name == "DATA_DIR" {
					return t.TempDir(), true
				}
				return env(name)
			})
			if s.required&p != 0 {
				requireLine(t, err, s.env)
				assert.Contains(t, err.Error(), "got nothing")
			} else {
				require.NoError(t, err)
			}
		})
		for _, good := range v.good {
			t.Run(s.env+"/good/"+good, func(t *testing.T) {
				c, err := load(good)
				require.NoError(t, err)
				if d := Defaults(p); yamlValue(s.field(&d)) != good {
					require.NotEqual(t, d, c, "the value arrived")
				}
			})
		}
		for _, bad := range v.bad {
			t.Run(s.env+"/bad/"+bad, func(t *testing.T) {
				_, err := load(bad)
				requireLine(t, err, s.env)
				if s.secret {
					assert.NotContains(t, err.Error(), "hunter2")
					assert.NotContains(t, err.Error(), goodSecret[1:])
				}
			})
		}
	}
}

func ternary(cond bool, a, b string) string {
	if cond {
		return a
	}
	return b
}

func TestEveryFieldIsASetting(t *testing.T) {
	var c Config
	base := reflect.ValueOf(&c).Elem()
	seen := map[uintptr]string{}
	for _, s := range settings {
		at := reflect.ValueOf(s.field(&c)).Pointer()
		require.Empty(t, seen[at], "%s and another setting share a field", s.env)
		seen[at] = s.env
		require.NotEmpty(t, s.usage, s.env)
		require.NotEmpty(t, s.want, s.env)
		require.Equal(t, s.secret, s.got != nil, "%s: a secret, and only a secret, says what it got without showing it", s.env)
	}
	for i := range base.NumField() {
		require.NotEmpty(t, seen[base.Field(i).Addr().Pointer()], "field %s has no setting", base.Type().Field(i).Name)
	}
}

func TestTemplatesAreTheFilesInConfigs(t *testing.T) {
	for _, p := range []Process{API, Worker, Standalone} {
		t.Run(p.String(), func(t *testing.T) {
			path := filepath.Join("..", "..", "configs", p.String()+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(path, Template(p), 0o644))
			}
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(Template(p)), string(text), "run go test ./internal/config -update")
			for _, s := range settings {
				if s.in&p != 0 {
					require.Contains(t, string(text), "\n"+s.key()+": ")
				}
			}

			env := environment(nil)
			with, err := Load(p, []string{"-config", path}, env)
			require.NoError(t, err)
			want := Defaults(p)
			want.DatabaseURL, want.RedisURL, want.JWTSecret, want.EncryptionKey = goodDB, goodRedis, goodSecret, goodKey
			want.WorkerID = defaultWorkerID()
			require.Equal(t, want, with, "the file is the defaults")
			without, err := Load(p, nil, env)
			require.NoError(t, err)
			require.Equal(t, without, with)
		})
	}
}

func TestLayers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(
		"port: 1001\nlease_ttl: 20s\nlog_level: debug\nworker_channels: [3, 7]\ncors_origins:\n  - https://a.example\nhttp_max_body: 2MiB\n"), 0o600))

	c, err := Load(Worker, []string{"-config", path}, environment(nil))
	require.NoError(t, err)
	require.Equal(t, 1001, c.Port)
	require.Equal(t, 20*time.Second, c.LeaseTTL)
	require.Equal(t, []int64{3, 7}, c.WorkerChannels)
	require.Equal(t, []string{"https://a.example"}, c.CORSOrigins)
	require.Equal(t, Bytes(2<<20), c.HTTPMaxBody)

	env := environment(map[string]string{"PORT": "1002", "LEASE_TTL": "30s", "LOG_LEVEL": ""})
	c, err = Load(Worker, []string{"-config=" + path, "--port", "1003", "-channels", "5"}, env)
	require.NoError(t, err)
	require.Equal(t, 1003, c.Port, "a flag beats the environment")
	require.Equal(t, 30*time.Second, c.LeaseTTL, "the environment beats the file")
	require.Equal(t, "debug", c.LogLevel, "an empty variable is not set")
	require.Equal(t, []int64{5}, c.WorkerChannels)
}

func TestDerived(t *testing.T) {
	dir := t.TempDir()
	c, err := Load(Standalone, []string{"-data-dir", dir, "-port", "4000", "-demo=false"}, nothing)
	require.NoError(t, err)
	require.Equal(t, "sqlite://"+dir+"/switchboard.db", c.DatabaseURL.Reveal())
	require.Equal(t, "file://"+dir+"/media", c.MediaURL.Reveal())
	require.Equal(t, "http://localhost:4000", c.PublicURL)
	require.Empty(t, c.RedisURL)
	require.False(t, c.Demo)
	require.Len(t, c.EncryptionKeyBytes(), 32)

	c, err = Load(API, nil, environment(map[string]string{"TELEGRAM_API_ENDPOINT": "http://127.0.0.1:9/bot%s/%s", "PUBLIC_URL": "https://x.example/"}))
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:9/file/bot%s/%s", c.TelegramFileEndpoint)
	require.Equal(t, "https://x.example", c.PublicURL)

	c, err = Load(API, []string{"-config", "../../configs/api.yaml", "-port", "4001"}, environment(map[string]string{"TELEGRAM_API_ENDPOINT": "http://127.0.0.1:9/bot%s/%s"}))
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:9/file/bot%s/%s", c.TelegramFileEndpoint, "the file in configs does not pin what is derived")
	require.Equal(t, "http://localhost:4001", c.PublicURL)

	c, err = Load(Worker, nil, environment(map[string]string{"JWT_SECRET": "", "TRUSTED_PROXIES": "10.1.2.3"}))
	require.NoError(t, err, "a worker needs no JWT_SECRET")
	require.Equal(t, "http://localhost:3000", c.PublicURL)
	require.Equal(t, "10.1.2.3/32", c.TrustedProxyPrefixes()[0].String())
}

func TestWhatsAppEndpoint(t *testing.T) {
	for _, tt := range []struct {
		endpoint, key, env string
		bad                string
	}{
		{"http://127.0.0.1:4001", hexKey, "production", ""},
		{"http://[::1]:4001", hexKey, "test", ""},
		{"http://localhost:4001", hexKey, "production", ""},
		{"http://10.0.0.1:4001", hexKey, "development", ""},
		{"http://10.0.0.1:4001", hexKey, "production", "WHATSAPP_ENDPOINT"},
		{"http://10.0.0.1:4001", hexKey, "test", "WHATSAPP_ENDPOINT"},
		{"http://127.0.0.1:4001", "", "production", "WHATSAPP_ROOT_KEY"},
		{"", hexKey, "development", "WHATSAPP_ROOT_KEY"},
	} {
		t.Run(tt.env+" "+tt.endpoint, func(t *testing.T) {
			c, err := Load(Worker, nil, environment(map[string]string{
				"WHATSAPP_ENDPOINT": tt.endpoint, "WHATSAPP_ROOT_KEY": tt.key, "APP_ENV": tt.env,
			}))
			if tt.bad != "" {
				requireLine(t, err, tt.bad)
				return
			}
			require.NoError(t, err)
			require.NotEmpty(t, c.Warnings())
		})
	}
}

func TestBadFiles(t *testing.T) {
	for name, tt := range map[string]struct{ text, setting, say string }{
		"unknown key":     {"prot: 3000\n", `"prot"`, `"port"?`},
		"nested":          {"http:\n  port: 3000\n", `"http"`, "unknown key"},
		"wrong type":      {"port: [1]\n", "PORT", "a list"},
		"number as text":  {"worker_id: 0123\n", "WORKER_ID", "a number"},
		"text as number":  {"port: many\n", "PORT", `"many"`},
		"bad list":        {"cors_origins: [1]\n", "CORS_ORIGINS", "a list"},
		"duration number": {"lease_ttl: 10\n", "LEASE_TTL", "10"},
		"secret number":   {"jwt_secret: 12345678901234567890\n", "JWT_SECRET", "a number"},
		"secret short":    {"jwt_secret: hunter2\n", "JWT_SECRET", "7 bytes"},
		"syntax":          {"port: 3000\n  hunter2: [\n", "-config", "line 2"},
		"no map":          {"hunter2hunter2\n", "-config", "not a YAML map"},
		"twice":           {"port: 1\nport: 2\n", "-config", "line 2"},
		"both":            {"jwt_secret: x\njwt_secret_file: y\n", "JWT_SECRET", "one of them"},
		"missing secret":  {"jwt_secret_file: /does/not/exist\n", "JWT_SECRET_FILE", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.yaml")
			require.NoError(t, os.WriteFile(path, []byte(tt.text), 0o600))
			env := environment(map[string]string{"JWT_SECRET": ""})
			_, err := Load(API, []string{"-config", path}, env)
			requireLine(t, err, tt.setting)
			require.Contains(t, err.Error(), tt.say)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "1234567890")
		})
	}
	_, err := Load(API, []string{"-config", "/does/not/exist.yaml"}, nothing)
	requireLine(t, err, "-config")
}

func TestBadArguments(t *testing.T) {
	for _, tt := range []struct {
		args    []string
		setting string
	}{
		{[]string{"-prot", "1"}, "-prot"},
		{[]string{"serve"}, "arguments"},
		{[]string{"-port"}, "-port"},
		{[]string{"-port", "x"}, "PORT"},
		{[]string{"-jwt-secret", "hunter2"}, "-jwt-secret"},
		{[]string{"-jwt-secret=hunter2"}, "-jwt-secret"},
		{[]string{"-channels", "3"}, "-channels"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, err := Load(API, tt.args, environment(nil))
			requireLine(t, err, tt.setting)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	for _, help := range []string{"-h", "--help", "-help"} {
		_, err := Load(API, []string{help}, nothing)
		require.ErrorIs(t, err, ErrHelp)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "jwt")
	require.NoError(t, os.WriteFile(path, []byte(goodSecret+"\r\n"), 0o600))
	c, err := Load(API, nil, environment(map[string]string{"JWT_SECRET": "", "JWT_SECRET_FILE": path}))
	require.NoError(t, err)
	require.Equal(t, goodSecret, c.JWTSecret.Reveal())

	_, err = Load(API, nil, environment(map[string]string{"JWT_SECRET_FILE": path}))
	requireLine(t, err, "JWT_SECRET")

	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err = Load(API, nil, environment(map[string]string{"JWT_SECRET": "", "JWT_SECRET_FILE": empty}))
	requireLine(t, err, "JWT_SECRET_FILE")
}

func TestSecretIsNeverPrinted(t *testing.T) {
	c := Config{JWTSecret: "hunter2", DatabaseURL: "postgres://u:hunter2@h/x"}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", slog.Any("config", c), slog.Any("secret", c.JWTSecret))
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", slog.Any("config", c), slog.Any("secret", c.JWTSecret))
	js, err := json.Marshal(c) //nolint:gosec // that it hides them is what is tested
	require.NoError(t, err)
	for _, printed := range []string{
		fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%s %q %x %v", c.JWTSecret, c.JWTSecret, c.JWTSecret, &c), string(js), log.String(),
	} {
		require.NotContains(t, printed, "hunter2")
		require.NotContains(t, printed, fmt.Sprintf("%x", "hunter2"))
	}
	require.Equal(t, "hunter2", c.JWTSecret.Reveal())
}

func TestUsage(t *testing.T) {
	for _, p := range []Process{API, Worker, Standalone} {
		text := Usage(p)
		for _, s := range settings {
			if s.in&p != 0 {
				require.Contains(t, text, s.env)
			}
		}
		for line := range strings.Lines(text) {
			require.LessOrEqual(t, len(line), 160)
		}
	}
	require.Contains(t, Usage(Worker), "-channels")
	require.NotContains(t, Usage(API), "-jwt-secret")
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "1": 1, "100B": 100, "1KiB": 1024, "1 MiB": 1 << 20, "3GiB": 3 << 30} {
		got, err := ParseBytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := ParseBytes(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	for _, bad := range []string{"", "x", "-1", "1.5MiB", "9999999999999GiB", "MiB", "1MB"} {
		_, err := ParseBytes(bad)
		require.Error(t, err, bad)
	}
}
