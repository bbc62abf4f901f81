package whatsapp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/store"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/channel"
)

// Options are what all sessions share.
type Options struct {
	// Endpoint is another WhatsApp Web server, "http://host:port"; empty is the
	// real one. RootKey is the public root of its certificates, 32 bytes in hex. It
	// stands in the place of WhatsApp's own for the whole process.
	Endpoint, RootKey string
	// Media fetches files and pictures; it should refuse addresses of inner
	// networks. Default: as the rest.
	Media  *http.Client
	Logger *slog.Logger

	// StoreFor is how long the storing of one message is tried; default 1 minute.
	StoreFor time.Duration
	// QuietAfter is how long after an operator's last act the number is shown as
	// online; default 10 minutes.
	QuietAfter time.Duration
	// RetryPatience is how long a phone may take to upload a file again; default
	// 30 seconds.
	RetryPatience time.Duration
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.StoreFor, time.Minute}, {&o.QuietAfter, 10 * time.Minute}, {&o.RetryPatience, 30 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
}

// deviceName is what phones list the link as.
const deviceName = "Switchboard"

// The library's settings are variables of the process.
var (
	settle  sync.Mutex // held while they are set
	settled string     // the root key that was set
)

// configure sets them, once: sessions read them without a lock.
func configure(rootKey string) error {
	settle.Lock()
	defer settle.Unlock()
	if settled == "" {
		store.DeviceProps.Os = proto.String(deviceName)
		store.DeviceProps.PlatformType = waCompanionReg.DeviceProps_CHROME.Enum()
		store.DeviceProps.RequireFullSync = proto.Bool(false)
		settled = "-"
	}
	if rootKey == "" || rootKey == settled {
		return nil
	}
	key, err := hex.DecodeString(rootKey)
	if err != nil || len(key) != len(whatsmeow.WACertPubKey) {
		return errors.New("whatsapp: the root key must be 32 bytes in hex")
	}
	if settled != "-" {
		return errors.New("whatsapp: another root key is in use in this process")
	}
	copy(whatsmeow.WACertPubKey[:], key)
	settled = rootKey
	return nil
}

// NewFactory makes a factory of sessions that share their HTTP connections.
func NewFactory(o Options) (channel.Factory, error) {
	o.setDefaults()
	if err := configure(o.RootKey); err != nil {
		return nil, err
	}
	web := &http.Client{Transport: http.DefaultTransport}
	media := o.Media
	if media == nil {
		media = web
	}
	if o.Endpoint != "" {
		base, err := url.Parse(o.Endpoint)
		if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
			return nil, fmt.Errorf("whatsapp: the endpoint %q is no http or https URL", o.Endpoint)
		}
		web = redirected(web, base)
		media = redirected(media, base)
	}
	shared := &clients{web: counted(web), media: media}
	if o.Endpoint == "" {
		shared.version = &version{http: web}
	}
	return func(c channel.Config) (channel.Session, error) {
		if c.Host == nil || c.Link == nil || c.Intake == nil || c.Keys == nil {
			return nil, fmt.Errorf("whatsapp: channel %d has no host, link, intake or keys", c.Channel.ID)
		}
		return newSession(c, o, shared)
	}, nil
}

// clients are the HTTP clients of all sessions, and what else these share.
type clients struct {
	web, media *http.Client
	version    *version // nil: the endpoint takes any
	poison     poison
}

// redirected sends what is meant for any host to base. The Host header stays,
// for the server's checks of where a request comes from.
func redirected(client *http.Client, base *url.URL) *http.Client {
	next := client.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	clone := *client
	clone.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		if r.Host == "" {
			r.Host = r.URL.Host
		}
		r.URL.Scheme, r.URL.Host = base.Scheme, base.Host
		return next.RoundTrip(r)
	})
	return &clone
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// version keeps up with the version of WhatsApp Web that the servers want: too
// old a one is refused in time.
type version struct {
	http *http.Client

	mu    sync.Mutex // guards asked
	asked time.Time
}

const (
	versionEvery   = 12 * time.Hour
	versionTimeout = 10 * time.Second
)

// refresh asks for the version, now and then, or now. Not to get it is no error:
// the one that the library brings may do.
func (v *version) refresh(ctx context.Context, now bool, logger *slog.Logger) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !now && time.Since(v.asked) < versionEvery {
		return
	}
	v.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	latest, err := whatsmeow.GetLatestVersion(ctx, v.http)
	if err != nil {
		logger.InfoContext(ctx, "version of WhatsApp Web not found out; the library's own is used", slog.String("error_type", fmt.Sprintf("%T", err)))
		return
	}
	if store.GetWAVersion().LessThan(*latest) {
		store.SetWAVersion(*latest)
	}
}
