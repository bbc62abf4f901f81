package config

import (
	"strings"
	"time"
)

const (
	everywhere = API | Worker | Standalone
	serving    = API | Standalone
	working    = Worker | Standalone
)

// setting describes one field of Config. The table below is the only list of settings: loading, validation, help text
// and the files in configs all come from it.
type setting struct {
	env      string                 // name in the environment; lower case in YAML, with dashes as a flag
	flag     string                 // another flag name, where the usual one would be clumsy
	in       Process                // the processes that use it
	required Process                // the processes that do not start without it
	derived  bool                   // follows from other settings unless set, so files leave it empty
	secret   bool                   // never printed, no flag, may come from NAME_FILE
	group    string                 // heading in files and help
	usage    string                 // what it does, one or more sentences
	want     string                 // what a good value is, as in "want …"
	field    func(c *Config) any    // pointer to its field
	ok       func(c *Config) bool   // whether the value is good; asked only for values that are set
	got      func(c *Config) string // what to print instead of the value, for secrets
}

func (s setting) key() string { return strings.ToLower(s.env) }

func (s setting) flagName() string {
	if s.flag != "" {
		return s.flag
	}
	return strings.ReplaceAll(s.key(), "_", "-")
}

func between[T int | Bytes | time.Duration](field func(c *Config) *T, low, high T) func(c *Config) bool {
	return func(c *Config) bool { return *field(c) >= low && *field(c) <= high }
}

func oneOf(field func(c *Config) *string, values ...string) func(c *Config) bool {
	return func(c *Config) bool {
		for _, v := range values {
			if *field(c) == v {
				return true
			}
		}
		return false
	}
}

// settings is the table, in the order of files and help.
var settings = concat(generalSettings, httpSettings, storageSettings, accessSettings, socketSettings, mediaSettings, workerSettings, providerSettings)

func concat(groups ...[]setting) []setting {
	var all []setting
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

var generalSettings = []setting{
	{
		env: "APP_ENV", in: everywhere, group: "General",
		usage: "What this installation is for. Development allows test servers in place of the real providers.",
		want:  "production, development or test",
		field: func(c *Config) any { return &c.AppEnv },
		ok:    oneOf(func(c *Config) *string { return &c.AppEnv }, Production, Development, Test),
	},
	{
		env: "DEMO", in: Standalone, group: "General",
		usage: "Start the simulators, create an organization with a channel on each and print a link that signs you in.",
		want:  "true or false",
		field: func(c *Config) any { return &c.Demo },
	},
	{
		env: "DATA_DIR", in: Standalone, group: "General",
		usage: "Folder of the database, the media and the generated secrets. Setting it moves DATABASE_URL and MEDIA_URL too, unless they are set themselves.",
		want:  "a folder's path",
		field: func(c *Config) any { return &c.DataDir },
		ok:    func(c *Config) bool { return !strings.ContainsRune(c.DataDir, 0) },
	},
	{
		env: "LOG_LEVEL", in: everywhere, group: "General",
		usage: "Least severe level that is logged.",
		want:  "debug, info, warn or error",
		field: func(c *Config) any { return &c.LogLevel },
		ok:    oneOf(func(c *Config) *string { return &c.LogLevel }, "debug", "info", "warn", "error"),
	},
	{
		env: "LOG_FORMAT", in: everywhere, group: "General",
		usage: "Form of the log on standard error. auto: text on a terminal, else JSON.",
		want:  "auto, json or text",
		field: func(c *Config) any { return &c.LogFormat },
		ok:    oneOf(func(c *Config) *string { return &c.LogFormat }, "auto", "json", "text"),
	},
	{
		env: "SHUTDOWN_TIMEOUT", in: everywhere, group: "General",
		usage: "How long a process may take to drain after SIGTERM before it is stopped hard.",
		want:  "a duration from 1s to 5m",
		field: func(c *Config) any { return &c.ShutdownTimeout },
		ok:    between(func(c *Config) *time.Duration { return &c.ShutdownTimeout }, time.Second, 5*time.Minute),
	},
}

var httpSettings = []setting{
	{
		env: "LISTEN_HOST", in: everywhere, group: "HTTP",
		usage: "Interface to listen on; 0.0.0.0 or :: for all of them, which is also what an API node or a worker does by itself. Standalone listens on this machine only, unless told otherwise.",
		want:  "a host name or an IP address, without a port",
		field: func(c *Config) any { return &c.ListenHost },
		ok:    func(c *Config) bool { return isHost(c.ListenHost) },
	},
	{
		env: "PORT", in: everywhere, group: "HTTP",
		usage: "Port of HTTP and Socket.IO; on a worker, of health and metrics. 0 takes any free port.",
		want:  "a whole number from 0 to 65535",
		field: func(c *Config) any { return &c.Port },
		ok:    between(func(c *Config) *int { return &c.Port }, 0, 65535),
	},
	{
		env: "PUBLIC_URL", derived: true, in: everywhere, group: "HTTP",
		usage: "Address under which browsers and providers reach the API: base of links and webhook addresses. Unless set, it is http://localhost and the port.",
		want:  "an absolute http or https URL without a query",
		field: func(c *Config) any { return &c.PublicURL },
		ok:    func(c *Config) bool { return isBaseURL(c.PublicURL) },
	},
	{
		env: "CORS_ORIGINS", in: serving, group: "HTTP",
		usage: "Other origins whose pages may use the REST API, polling and the WebSocket. The API's own origin is always allowed.",
		want:  "a list of origins such as https://desk.example.com, each scheme://host[:port] without a path; * is not accepted",
		field: func(c *Config) any { return &c.CORSOrigins },
		ok:    func(c *Config) bool { return all(c.CORSOrigins, isOrigin) },
	},
	{
		env: "TRUSTED_PROXIES", in: serving, group: "HTTP",
		usage: "Load balancers whose X-Forwarded-For is believed. Without it, logins behind a balancer are throttled as if from one address.",
		want:  "a list of IP addresses or ranges such as 10.0.0.0/8",
		field: func(c *Config) any { return &c.TrustedProxies },
		ok:    func(c *Config) bool { return all(c.TrustedProxies, isPrefix) },
	},
	{
		env: "HTTP_HEADER_TIMEOUT", in: everywhere, group: "HTTP",
		usage: "Longest time a client may take to send a request's headers.",
		want:  "a duration from 100ms to 5m",
		field: func(c *Config) any { return &c.HTTPHeaderTimeout },
		ok:    between(func(c *Config) *time.Duration { return &c.HTTPHeaderTimeout }, 100*time.Millisecond, 5*time.Minute),
	},
	{
		env: "HTTP_READ_TIMEOUT", in: everywhere, group: "HTTP",
		usage: "Longest time a client may take to send a whole request.",
		want:  "a duration from 100ms to 1h",
		field: func(c *Config) any { return &c.HTTPReadTimeout },
		ok:    between(func(c *Config) *time.Duration { return &c.HTTPReadTimeout }, 100*time.Millisecond, time.Hour),
	},
	{
		env: "HTTP_IDLE_TIMEOUT", in: everywhere, group: "HTTP",
		usage: "How long a connection without a request stays open.",
		want:  "a duration from 1s to 1h",
		field: func(c *Config) any { return &c.HTTPIdleTimeout },
		ok:    between(func(c *Config) *time.Duration { return &c.HTTPIdleTimeout }, time.Second, time.Hour),
	},
	{
		env: "HTTP_MAX_BODY", in: serving, group: "HTTP",
		usage: "Largest request body, uploads of media apart (see MEDIA_MAX_BYTES). A larger one is answered with 413.",
		want:  "a size from 1KiB to 64MiB",
		field: func(c *Config) any { return &c.HTTPMaxBody },
		ok:    between(func(c *Config) *Bytes { return &c.HTTPMaxBody }, 1<<10, 64<<20),
	},
	{
		env: "METRICS_TOKEN", in: everywhere, group: "HTTP", secret: true,
		usage: "If set, /metrics asks for it as a bearer token. /metrics shares the public port, and its numbers are nobody else's business; leave it empty where the balancer hides the path.",
		want:  "at least 16 bytes, or nothing",
		field: func(c *Config) any { return &c.MetricsToken },
		ok:    func(c *Config) bool { return len(c.MetricsToken) >= 16 },
		got:   func(c *Config) string { return gotBytes(c.MetricsToken) },
	},
}

var storageSettings = []setting{
	{ //nolint:gosec // the URLs are examples
		env: "DATABASE_URL", derived: true, in: everywhere, required: API | Worker, group: "Database and Redis", secret: true,
		usage: "The database. PostgreSQL 13 or later for several processes, SQLite for one: postgres://user:password@host:5432/switchboard?sslmode=require or sqlite://./data/switchboard.db",
		want:  "postgres://user:password@host:5432/name (special characters in the password percent-encoded) or sqlite://path",
		field: func(c *Config) any { return &c.DatabaseURL },
		ok:    func(c *Config) bool { return isDatabaseURL(c.DatabaseURL.Reveal()) },
		got:   func(c *Config) string { return gotURL(c.DatabaseURL) },
	},
	{
		env: "DATABASE_MAX_CONNS", in: everywhere, group: "Database and Redis",
		usage: "Most database connections of this process. PostgreSQL must allow the sum over all processes.",
		want:  "a whole number from 2 to 1000",
		field: func(c *Config) any { return &c.DatabaseMaxConns },
		ok:    between(func(c *Config) *int { return &c.DatabaseMaxConns }, 2, 1000),
	},
	{ //nolint:gosec // the URLs are examples
		env: "REDIS_URL", in: everywhere, required: API | Worker, group: "Database and Redis", secret: true,
		usage: "Redis: redis://user:password@host:6379/0, rediss:// for TLS, redis://h1:6379,h2:6379?cluster=true for a cluster, redis+sentinel://h1:26379,h2:26379/0?master=NAME for sentinels. Standalone without it runs its own inside the process.",
		want:  "redis://host:6379/0, rediss://…, redis://h1,h2?cluster=true or redis+sentinel://h1,h2/0?master=NAME (special characters in the password percent-encoded)",
		field: func(c *Config) any { return &c.RedisURL },
		ok:    func(c *Config) bool { return isRedisURL(c.RedisURL.Reveal()) },
		got:   func(c *Config) string { return gotURL(c.RedisURL) },
	},
}

var accessSettings = []setting{
	{
		env: "JWT_SECRET", in: everywhere, required: API, group: "Access", secret: true,
		usage: "Key that signs access tokens and media links; the same on every API node. Make one with: openssl rand -base64 48. Standalone makes its own once. A worker does not need it.",
		want:  "at least 32 bytes",
		field: func(c *Config) any { return &c.JWTSecret },
		ok:    func(c *Config) bool { return len(c.JWTSecret) >= minJWTSecret },
		got:   func(c *Config) string { return gotBytes(c.JWTSecret) },
	},
	{
		env: "ENCRYPTION_KEY", in: everywhere, required: API | Worker, group: "Access", secret: true,
		usage: "Key that seals channel credentials in the database; the same on every process, and part of every backup: without it all channels must be linked again. Make one with: openssl rand -base64 32. Standalone makes its own once.",
		want:  "32 bytes in standard base64, 44 characters (openssl rand -base64 32)",
		field: func(c *Config) any { return &c.EncryptionKey },
		ok: func(c *Config) bool {
			key, err := decodeKey(c.EncryptionKey)
			return err == nil && len(key) == keyBytes
		},
		got: func(c *Config) string { return gotKey(c.EncryptionKey) },
	},
	{
		env: "REGISTRATION", in: serving, group: "Access",
		usage: "open lets anyone create an organization; closed only as long as there is none.",
		want:  "open or closed",
		field: func(c *Config) any { return &c.Registration },
		ok:    oneOf(func(c *Config) *string { return &c.Registration }, RegistrationOpen, RegistrationClosed),
	},
	{
		env: "ACCESS_TOKEN_TTL", in: serving, group: "Access",
		usage: "Life of an access token.",
		want:  "a duration from 1m to 24h",
		field: func(c *Config) any { return &c.AccessTokenTTL },
		ok:    between(func(c *Config) *time.Duration { return &c.AccessTokenTTL }, time.Minute, 24*time.Hour),
	},
	{
		env: "REFRESH_TOKEN_TTL", in: serving, group: "Access",
		usage: "How long a session lives without being used.",
		want:  "a duration from 1h to 8760h",
		field: func(c *Config) any { return &c.RefreshTokenTTL },
		ok:    between(func(c *Config) *time.Duration { return &c.RefreshTokenTTL }, time.Hour, 8760*time.Hour),
	},
}

var socketSettings = []setting{
	{
		env: "SOCKETS_PER_SECOND", in: serving, group: "Sockets",
		usage: "New Socket.IO connections that this node admits per second, and as many at once. Of more, those that would pass within " +
			"2 s wait, and the rest is told to come again: after an outage thousands of clients come back in one moment.",
		want:  "a whole number from 1 to 100000",
		field: func(c *Config) any { return &c.SocketsPerSecond },
		ok:    between(func(c *Config) *int { return &c.SocketsPerSecond }, 1, 100_000),
	},
	{
		env: "EVENT_RETENTION", in: serving, group: "Sockets",
		usage: "How long events stay in the log. A client that was away for longer is told to fetch everything anew.",
		want:  "a duration from 1h to 8760h",
		field: func(c *Config) any { return &c.EventRetention },
		ok:    between(func(c *Config) *time.Duration { return &c.EventRetention }, time.Hour, 8760*time.Hour),
	},
	{
		env: "EVENTS_KEPT", in: serving, group: "Sockets",
		usage: "Most events that the log of one organization keeps, if EVENT_RETENTION would keep more.",
		want:  "a whole number from 1000 to 1000000000",
		field: func(c *Config) any { return &c.EventsKept },
		ok:    between(func(c *Config) *int { return &c.EventsKept }, 1000, 1_000_000_000),
	},
}

var mediaSettings = []setting{
	{
		env: "MEDIA_URL", derived: true, in: everywhere, group: "Media", secret: true,
		usage: "Where media are kept: file://./data/media or s3://KEY:SECRET@host:port/bucket?region=…&tls=false. Every process must see the same place.",
		want:  "file://folder or s3://KEY:SECRET@host[:port]/bucket (special characters in the secret percent-encoded)",
		field: func(c *Config) any { return &c.MediaURL },
		ok:    func(c *Config) bool { return isMediaURL(c.MediaURL.Reveal()) },
		got:   func(c *Config) string { return gotURL(c.MediaURL) },
	},
	{
		env: "MEDIA_MAX_BYTES", in: everywhere, group: "Media",
		usage: "Largest single file, sent or received.",
		want:  "a size from 1KiB to 2GiB",
		field: func(c *Config) any { return &c.MediaMaxBytes },
		ok:    between(func(c *Config) *Bytes { return &c.MediaMaxBytes }, 1<<10, 2<<30),
	},
}

var workerSettings = []setting{
	{
		env: "WORKER_ID", in: working, group: "Worker",
		usage: "Name of this worker in channel states and logs. Unless set, it is the host name and the process id.",
		want:  "1 to 100 letters, digits, dots, dashes and underscores",
		field: func(c *Config) any { return &c.WorkerID },
		ok:    func(c *Config) bool { return isWorkerID(c.WorkerID) },
	},
	{
		env: "WORKER_MAX_CHANNELS", in: working, group: "Worker",
		usage: "Most channels that this worker takes in pool mode.",
		want:  "a whole number from 1 to 10000",
		field: func(c *Config) any { return &c.WorkerMaxChannels },
		ok:    between(func(c *Config) *int { return &c.WorkerMaxChannels }, 1, 10000),
	},
	{
		env: "WORKER_CHANNELS", flag: "channels", in: Worker, group: "Worker",
		usage: "Dedicated mode: run exactly the channels with these ids, and take no others. Empty: pool mode.",
		want:  "a list of different channel ids such as 3,7",
		field: func(c *Config) any { return &c.WorkerChannels },
		ok:    func(c *Config) bool { return distinctPositive(c.WorkerChannels) },
	},
	{
		env: "LEASE_TTL", in: working, group: "Worker",
		usage: "How long a channel stays with a worker that stopped answering. The same on every worker.",
		want:  "a duration from 2s to 5m",
		field: func(c *Config) any { return &c.LeaseTTL },
		ok:    between(func(c *Config) *time.Duration { return &c.LeaseTTL }, 2*time.Second, 5*time.Minute),
	},
}

var providerSettings = []setting{
	{
		env: "WHATSAPP_ENDPOINT", in: everywhere, group: "Providers",
		usage: "Another WhatsApp Web server, for tests: it replaces server authentication. On this machine only (127.0.0.1), unless APP_ENV is development. Needs WHATSAPP_ROOT_KEY.",
		want:  "an http URL of this machine such as http://127.0.0.1:4002, or any http(s) URL with APP_ENV=development",
		field: func(c *Config) any { return &c.WhatsAppEndpoint },
		ok: func(c *Config) bool {
			return isBaseURL(c.WhatsAppEndpoint) && (c.AppEnv == Development || isLoopbackURL(c.WhatsAppEndpoint))
		},
	},
	{
		env: "WHATSAPP_ROOT_KEY", in: everywhere, group: "Providers",
		usage: "The Noise root key of that server.",
		want:  "32 bytes as 64 hex digits, together with WHATSAPP_ENDPOINT",
		field: func(c *Config) any { return &c.WhatsAppRootKey },
		ok:    func(c *Config) bool { return isHexKey(c.WhatsAppRootKey) && c.WhatsAppEndpoint != "" },
	},
	{
		env: "TELEGRAM_API_ENDPOINT", in: everywhere, group: "Providers",
		usage: "Bot API server: the first %s becomes the token, the second the method.",
		want:  "an http(s) URL with exactly two %s, such as http://127.0.0.1:4001/bot%s/%s",
		field: func(c *Config) any { return &c.TelegramAPIEndpoint },
		ok:    func(c *Config) bool { return isTelegramFormat(c.TelegramAPIEndpoint) },
	},
	{
		env: "TELEGRAM_FILE_ENDPOINT", derived: true, in: everywhere, group: "Providers",
		usage: "Its file server: token and path. Unless set, it is TELEGRAM_API_ENDPOINT with /file before /bot.",
		want:  "an http(s) URL with exactly two %s, such as http://127.0.0.1:4001/file/bot%s/%s",
		field: func(c *Config) any { return &c.TelegramFileEndpoint },
		ok:    func(c *Config) bool { return isTelegramFormat(c.TelegramFileEndpoint) },
	},
	{
		env: "WABA_API_URL", in: everywhere, group: "Providers",
		usage: "WhatsApp Cloud API: base URL with version.",
		want:  "an http or https URL without a query, such as https://graph.facebook.com/v24.0",
		field: func(c *Config) any { return &c.WABAAPIURL },
		ok:    func(c *Config) bool { return isBaseURL(c.WABAAPIURL) },
	},
}
