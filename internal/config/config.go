// Package config holds every setting of every process: one struct, its defaults, its validation and its help text.
//
// A setting has one name. `LEASE_TTL` in the environment is `lease_ttl` in a YAML file and `-lease-ttl` on the command
// line. Flags win over the environment, the environment over the file, the file over the defaults. An empty value, in
// whichever place, counts as not set. Secrets have no flag, since other users of the machine can read command lines;
// they may come from a file instead, named by `JWT_SECRET_FILE` (or `jwt_secret_file` in YAML).
//
// Load returns either a Config that is valid as a whole or an *Error of one line.
package config

import (
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Process is the kind of process that is being configured.
type Process uint8

// The processes. They are bits, so that a setting can say which of them it belongs to.
const (
	API Process = 1 << iota
	Worker
	Standalone
)

// String returns the process's name, which is also that of its file in configs.
func (p Process) String() string {
	switch p {
	case API:
		return "api"
	case Worker:
		return "worker"
	case Standalone:
		return "standalone"
	default:
		return "unknown"
	}
}

// Values of AppEnv.
const (
	Production  = "production"
	Development = "development"
	Test        = "test"
)

// Values of Registration.
const (
	RegistrationOpen   = "open"
	RegistrationClosed = "closed"
)

// Config is everything that can be set. The zero value is not usable: take Defaults or Load.
type Config struct {
	AppEnv string // production, development or test

	ListenHost        string        // interface to listen on; empty: all
	Port              int           // 0: any free port
	PublicURL         string        // base of links and webhook addresses, without a trailing slash
	CORSOrigins       []string      // scheme://host[:port], beside the page's own origin
	TrustedProxies    []string      // addresses or CIDR ranges whose X-Forwarded-For is believed
	HTTPHeaderTimeout time.Duration // to read a request's headers
	HTTPReadTimeout   time.Duration // to read a whole request
	HTTPIdleTimeout   time.Duration // keep-alive without a request
	HTTPMaxBody       Bytes         // largest request body, uploads apart
	ShutdownTimeout   time.Duration // to drain after SIGTERM
	MetricsToken      Secret        // bearer token of /metrics; empty: none needed

	DataDir          string // standalone: database, media and generated secrets
	DatabaseURL      Secret // postgres://… or sqlite://…
	DatabaseMaxConns int    // size of the connection pool
	RedisURL         Secret // see package redisconn; empty in standalone: in-process

	JWTSecret       Secret        // HS256 key, at least 32 bytes
	EncryptionKey   Secret        // base64 of 32 bytes
	Registration    string        // open or closed
	AccessTokenTTL  time.Duration // life of an access token
	RefreshTokenTTL time.Duration // life of a refresh token since its last rotation

	SocketsPerSecond int           // new Socket.IO connections that a node admits per second
	EventRetention   time.Duration // how long events of the log are kept
	EventsKept       int           // most events that are kept of one organization

	MediaURL      Secret // file://… or s3://…
	MediaMaxBytes Bytes  // largest single media object

	WorkerID          string        // what a channel's status names as worker
	WorkerMaxChannels int           // most channels of one worker in pool mode
	WorkerChannels    []int64       // dedicated mode: exactly these channel ids
	LeaseTTL          time.Duration // a channel's lease

	WhatsAppEndpoint     string // another WhatsApp Web server; empty: the real one
	WhatsAppRootKey      string // its Noise root key, 64 hex digits
	TelegramAPIEndpoint  string // printf format: token, method
	TelegramFileEndpoint string // printf format: token, path
	WABAAPIURL           string // base URL with version, without a trailing slash

	LogLevel  string // debug, info, warn or error
	LogFormat string // auto, json or text

	Demo bool // standalone: start the simulators, and create an organization with a channel on each
}

// Defaults returns the settings of a process for which nothing was set.
func Defaults(p Process) Config {
	c := Config{
		AppEnv:               Production,
		Port:                 3000,
		PublicURL:            "http://localhost:3000",
		HTTPHeaderTimeout:    5 * time.Second,
		HTTPReadTimeout:      time.Minute,
		HTTPIdleTimeout:      2 * time.Minute,
		HTTPMaxBody:          1 << 20,
		ShutdownTimeout:      15 * time.Second,
		DataDir:              "./data",
		DatabaseMaxConns:     20,
		Registration:         RegistrationClosed,
		AccessTokenTTL:       15 * time.Minute,
		SocketsPerSecond:     500,
		EventRetention:       7 * 24 * time.Hour,
		EventsKept:           1_000_000,
		RefreshTokenTTL:      30 * 24 * time.Hour,
		MediaURL:             "file://./data/media",
		MediaMaxBytes:        100 << 20,
		WorkerMaxChannels:    200,
		LeaseTTL:             10 * time.Second,
		TelegramAPIEndpoint:  "https://api.telegram.org/bot%s/%s",
		TelegramFileEndpoint: "https://api.telegram.org/file/bot%s/%s",
		WABAAPIURL:           "https://graph.facebook.com/v24.0",
		LogLevel:             "info",
		LogFormat:            "auto",
	}
	switch p {
	case Worker:
		c.Port = 3001
	case Standalone:
		c.AppEnv = Development
		c.ListenHost = "127.0.0.1"
		c.DatabaseURL = "sqlite://./data/switchboard.db"
		c.Demo = true
	}
	return c
}

// EncryptionKeyBytes returns the 32 bytes of ENCRYPTION_KEY, or nil if it is not set. Load has checked it.
func (c Config) EncryptionKeyBytes() []byte {
	key, err := decodeKey(c.EncryptionKey)
	if err != nil {
		return nil
	}
	return key
}

// TrustedProxyPrefixes returns TRUSTED_PROXIES as address ranges; a single address is a range of one.
func (c Config) TrustedProxyPrefixes() []netip.Prefix {
	prefixes := make([]netip.Prefix, 0, len(c.TrustedProxies))
	for _, s := range c.TrustedProxies {
		if p, ok := parsePrefix(s); ok {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes
}

// Warnings returns what is allowed but dangerous about c, each as a sentence for the log.
func (c Config) Warnings() []string {
	var w []string
	if c.WhatsAppEndpoint != "" {
		w = append(w, "WHATSAPP_ENDPOINT replaces WhatsApp's servers and their authentication; unset it outside of tests")
	}
	if c.AppEnv == Production && strings.HasPrefix(c.PublicURL, "http://") && !isLoopbackURL(c.PublicURL) {
		w = append(w, "PUBLIC_URL is not https: tokens and messages can be read on the way")
	}
	if c.Registration == RegistrationOpen {
		w = append(w, "REGISTRATION is open: anyone who reaches this server can create an organization")
	}
	return w
}

// derive fills in what follows from other settings, where it was not set itself.
func (c *Config) derive(p Process, isSet func(env string) bool, workerID string) {
	if c.WorkerID == "" {
		c.WorkerID = workerID
	}
	if p == Standalone && isSet("DATA_DIR") {
		dir := strings.TrimRight(c.DataDir, "/")
		if !isSet("DATABASE_URL") {
			c.DatabaseURL = Secret("sqlite://" + dir + "/switchboard.db")
		}
		if !isSet("MEDIA_URL") {
			c.MediaURL = Secret("file://" + dir + "/media")
		}
	}
	if p != Worker && c.Port != 0 && !isSet("PUBLIC_URL") {
		c.PublicURL = "http://localhost:" + strconv.Itoa(c.Port)
	}
	// Another API server with Telegram's file server would send the bot's token to Telegram.
	if isSet("TELEGRAM_API_ENDPOINT") && !isSet("TELEGRAM_FILE_ENDPOINT") {
		c.TelegramFileEndpoint = strings.Replace(c.TelegramAPIEndpoint, "/bot%s", "/file/bot%s", 1)
	}
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	c.WABAAPIURL = strings.TrimRight(c.WABAAPIURL, "/")
}

func decodeKey(s Secret) ([]byte, error) {
	return base64.StdEncoding.DecodeString(string(s))
}
