package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"switchboard/internal/redisconn"
)

const (
	minJWTSecret = 32 // bytes: the size of HS256's hash, as RFC 7518 asks
	keyBytes     = 32
)

// validate checks every setting that has a value, and that those which p needs have one.
func (c *Config) validate(p Process, source func(env string) string) error {
	for _, s := range settings {
		if isZero(s.field(c)) {
			if s.required&p != 0 {
				return &Error{Setting: s.env, Got: "nothing", Want: s.want}
			}
			if _, number := s.field(c).(*string); number || s.secret || s.ok == nil || isList(s.field(c)) {
				continue // empty means not set
			}
		}
		if s.ok == nil || s.ok(c) {
			continue
		}
		got := show(s.field(c))
		if s.got != nil {
			got = s.got(c)
		}
		return &Error{Setting: s.env, Got: got, Source: source(s.env), Want: s.want}
	}
	if c.WhatsAppEndpoint != "" && c.WhatsAppRootKey == "" {
		return &Error{Setting: "WHATSAPP_ROOT_KEY", Got: "nothing", Want: "the root key of WHATSAPP_ENDPOINT, 32 bytes as 64 hex digits"}
	}
	return nil
}

func gotBytes(s Secret) string { return fmt.Sprintf("%d bytes", len(s)) }

func gotKey(s Secret) string {
	if key, err := decodeKey(s); err == nil {
		return fmt.Sprintf("base64 of %d bytes", len(key))
	}
	return fmt.Sprintf("%d characters that are not standard base64", len(s))
}

// gotURL shows no more of a secret URL than its scheme, and that only if it is one.
func gotURL(s Secret) string {
	scheme, _, found := strings.Cut(string(s), "://")
	if found && regexp.MustCompile(`^[a-z0-9+]{1,16}$`).MatchString(scheme) {
		return scheme + "://…"
	}
	return fmt.Sprintf("%d characters that are not a URL", len(s))
}

func all(list []string, ok func(string) bool) bool {
	for _, s := range list {
		if !ok(s) {
			return false
		}
	}
	return true
}

func distinctPositive(ids []int64) bool {
	seen := make(map[int64]bool, len(ids))
	for _, id := range ids {
		if id <= 0 || seen[id] {
			return false
		}
		seen[id] = true
	}
	return true
}

var (
	hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	workerID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
)

func isWorkerID(s string) bool { return workerID.MatchString(s) }

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return hostName.MatchString(s)
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}

func isPrefix(s string) bool {
	_, ok := parsePrefix(s)
	return ok
}

func parseHTTP(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return nil, false
	}
	return u, true
}

func isBaseURL(s string) bool {
	u, ok := parseHTTP(s)
	return ok && u.RawQuery == "" && !u.ForceQuery
}

func isOrigin(s string) bool {
	u, ok := parseHTTP(s)
	return ok && u.Scheme+"://"+u.Host == s && s == strings.ToLower(s)
}

func isLoopbackURL(s string) bool {
	u, ok := parseHTTP(s)
	if !ok {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.Unmap().IsLoopback()
}

func isTelegramFormat(s string) bool {
	if strings.Count(s, "%") != 2 || strings.Count(s, "%s") != 2 {
		return false
	}
	_, ok := parseHTTP(strings.ReplaceAll(s, "%s", "x"))
	return ok
}

func isHexKey(s string) bool {
	key, err := hex.DecodeString(s)
	return err == nil && len(key) == keyBytes
}

func isDatabaseURL(s string) bool {
	if path, found := strings.CutPrefix(s, "sqlite://"); found {
		return path != "" && !strings.HasSuffix(path, "/")
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return false
	}
	hasHost := u.Hostname() != "" || u.Query().Get("host") != ""
	hasName := strings.Trim(u.Path, "/") != "" || u.Query().Get("dbname") != ""
	return hasHost && hasName
}

func isRedisURL(s string) bool { return redisconn.Check(s) == nil }

func isMediaURL(s string) bool {
	if path, found := strings.CutPrefix(s, "file://"); found {
		return path != "" && !strings.ContainsAny(path, "?#\x00")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "s3" || u.Hostname() == "" {
		return false
	}
	if port := u.Port(); port != "" {
		if _, err := net.LookupPort("tcp", port); err != nil {
			return false
		}
	}
	bucket := strings.Trim(u.Path, "/")
	return bucket != "" && !strings.Contains(bucket, "/")
}
