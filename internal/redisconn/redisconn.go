// Package redisconn turns a REDIS_URL into a go-redis client that fails fast.
//
// Redis is a wire in this product, never a store: a call that hangs is worth less than one that fails. Therefore every
// timeout is under a second, contexts are honoured and almost nothing is retried inside the client; the callers know
// what to do without Redis.
//
// The accepted forms are:
//
//	redis://[user:password@]host[:6379][/db][?options]         one server
//	rediss://…                                                 the same over TLS
//	redis://h1:6379,h2:6379?cluster=true                       a cluster, any of its nodes
//	redis+cluster://h1:6379,h2:6379                            the same
//	redis+sentinel://h1:26379,h2:26379/0?master=mymaster       sentinels; also redis-sentinel:// and sentinel://
//	rediss+cluster://…, rediss+sentinel://…                    over TLS
//
// The user and password are always those of the data servers. Sentinels that want their own take
// sentinel_username and sentinel_password. The other options are those of go-redis (pool_size, read_timeout, …).
package redisconn

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Timeouts that hold unless the URL says otherwise.
const (
	dialTimeout  = time.Second
	ioTimeout    = 500 * time.Millisecond
	poolTimeout  = time.Second
	dialAttempts = 1
	maxRetries   = 1
	clientName   = "switchboard"
)

// Redis's and Sentinel's standard ports, for addresses that name none.
const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

// target is a parsed URL: exactly one of its fields is set.
type target struct {
	single   *redis.Options
	cluster  *redis.ClusterOptions
	sentinel *redis.FailoverOptions
}

// Open returns a client for rawURL. It does not connect: the first command does, and reconnects are the client's own
// business. The error never contains the URL, which may hold a password.
func Open(rawURL string) (redis.UniversalClient, error) {
	t, err := parse(rawURL)
	switch {
	case err != nil:
		return nil, err
	case t.cluster != nil:
		return redis.NewClusterClient(t.cluster), nil
	case t.sentinel != nil:
		return redis.NewFailoverClient(t.sentinel), nil
	default:
		return redis.NewClient(t.single), nil
	}
}

// Check says whether Open would understand rawURL, without making a client.
func Check(rawURL string) error {
	_, err := parse(rawURL)
	return err
}

func parse(rawURL string) (target, error) {
	scheme, rest, found := strings.Cut(rawURL, "://")
	if !found {
		return target{}, errors.New("redis URL: want redis://host:port")
	}
	tlsScheme, topology := splitScheme(strings.ToLower(scheme))
	if tlsScheme == "" {
		return target{}, errors.New("redis URL: the scheme must be redis, rediss, redis+sentinel or redis+cluster")
	}
	hosts, rest := cutHosts(rest)
	u, err := url.Parse(tlsScheme + "://" + rest)
	if err != nil {
		// url's own error would repeat the password.
		return target{}, errors.New("redis URL: not a valid URL; percent-encode special characters in the password")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return target{}, errors.New("redis URL: the part after ? is not valid")
	}
	if query.Get("cluster") == "true" && topology == "" {
		topology = "cluster"
	}
	query.Del("cluster")

	defaultPort := redisPort
	if topology == "sentinel" {
		defaultPort = sentinelPort
	}
	addrs, err := splitHosts(hosts, defaultPort)
	if err != nil {
		return target{}, err
	}
	return build(topology, u, addrs, query)
}

// splitScheme separates "rediss+cluster" into the scheme that go-redis knows and the topology.
func splitScheme(scheme string) (tlsScheme, topology string) {
	switch scheme {
	case "redis", "rediss":
		return scheme, ""
	case "redis+cluster", "redis-cluster":
		return "redis", "cluster"
	case "rediss+cluster", "rediss-cluster":
		return "rediss", "cluster"
	case "redis+sentinel", "redis-sentinel", "sentinel":
		return "redis", "sentinel"
	case "rediss+sentinel", "rediss-sentinel":
		return "rediss", "sentinel"
	default:
		return "", ""
	}
}

// cutHosts takes the host list out of "user:pass@h1,h2/0?x" and leaves a URL that net/url can parse with a stand-in
// host, because net/url refuses more than one port.
func cutHosts(rest string) (hosts, without string) {
	authorityEnd := strings.IndexAny(rest, "/?#")
	if authorityEnd < 0 {
		authorityEnd = len(rest)
	}
	authority, tail := rest[:authorityEnd], rest[authorityEnd:]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		return authority[at+1:], authority[:at+1] + "host" + tail
	}
	return authority, "host" + tail
}

func splitHosts(hosts, defaultPort string) ([]string, error) {
	var addrs []string
	for h := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("redis://" + h)
		if err != nil || u.Hostname() == "" || u.Host != h {
			return nil, errors.New("redis URL: the host part is not host:port[,host:port]; percent-encode special characters in the password")
		}
		port := u.Port()
		if port == "" {
			port = defaultPort
		}
		addrs = append(addrs, net.JoinHostPort(u.Hostname(), port))
	}
	return addrs, nil
}

func build(topology string, u *url.URL, addrs []string, query url.Values) (target, error) {
	u.Host = addrs[0]
	switch topology {
	case "cluster":
		return buildCluster(u, addrs, query)
	case "sentinel":
		return buildSentinel(u, addrs, query)
	}
	if len(addrs) > 1 {
		return target{}, errors.New("redis URL: several hosts need ?cluster=true or the scheme redis+sentinel")
	}
	u.RawQuery = query.Encode()
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return target{}, errOptions
	}
	if !query.Has("client_name") {
		o.ClientName = clientName
	}
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	failFast(query, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.DialerRetries, &o.MaxRetries)
	return target{single: o}, nil
}

func buildCluster(u *url.URL, addrs []string, query url.Values) (target, error) {
	if path := strings.Trim(u.Path, "/"); path != "" && path != "0" {
		return target{}, errors.New("redis URL: a cluster has only database 0")
	}
	u.Path = ""
	for _, a := range addrs[1:] {
		query.Add("addr", a)
	}
	u.RawQuery = query.Encode()
	o, err := redis.ParseClusterURL(u.String())
	if err != nil {
		return target{}, errOptions
	}
	if !query.Has("client_name") {
		o.ClientName = clientName
	}
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	failFast(query, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.DialerRetries, &o.MaxRetries)
	return target{cluster: o}, nil
}

func buildSentinel(u *url.URL, addrs []string, query url.Values) (target, error) {
	if m := query.Get("master"); m != "" {
		query.Set("master_name", m)
	}
	query.Del("master")
	if query.Get("master_name") == "" {
		return target{}, errors.New("redis URL: sentinels need ?master=NAME")
	}
	// go-redis reads the sentinels' credentials from the user part and the servers' from the query: the other way round
	// from every other form, so turn it about here.
	if u.User != nil {
		password, _ := u.User.Password()
		query.Set("username", u.User.Username())
		query.Set("password", password)
	}
	u.User = nil
	if password := query.Get("sentinel_password"); password != "" {
		u.User = url.UserPassword(query.Get("sentinel_username"), password)
	}
	query.Del("sentinel_username")
	query.Del("sentinel_password")
	for _, a := range addrs[1:] {
		query.Add("addr", a)
	}
	u.RawQuery = query.Encode()
	o, err := redis.ParseFailoverURL(u.String())
	if err != nil {
		return target{}, errOptions
	}
	if !query.Has("client_name") {
		o.ClientName = clientName
	}
	o.ContextTimeoutEnabled = true
	failFast(query, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.DialerRetries, &o.MaxRetries)
	return target{sentinel: o}, nil
}

// failFast replaces go-redis's patient defaults (5 s, five dials, three retries) where the URL did not set its own.
func failFast(query url.Values, dial, read, write, pool *time.Duration, dials, retries *int) {
	set := func(name string, field *time.Duration, value time.Duration) {
		if !query.Has(name) {
			*field = value
		}
	}
	set("dial_timeout", dial, dialTimeout)
	set("read_timeout", read, ioTimeout)
	set("write_timeout", write, ioTimeout)
	set("pool_timeout", pool, poolTimeout)
	if !query.Has("dialer_retries") {
		*dials = dialAttempts
	}
	if !query.Has("max_retries") {
		*retries = maxRetries
	}
}

// errOptions stands in for go-redis's own errors: they repeat pieces of the URL, and where a password holds an unescaped
// slash or question mark such a piece is the password.
var errOptions = errors.New("redis URL: the database number, or an option after ?, is not one that go-redis knows")
