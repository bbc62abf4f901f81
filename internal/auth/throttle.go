package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"switchboard/internal/domain"
)

// The throttle's numbers. An attempt is a password check that did not succeed, or has not yet.
const (
	ThrottleWindow = 15 * time.Minute
	// AccountAttempts is how many attempts one account allows within the window from addresses at which it never signed
	// in, all of them together.
	AccountAttempts = 10
	// KnownAttempts is how many more it allows from addresses at which it did.
	KnownAttempts = 10
	// AddressAttempts is how many attempts one address allows within the window, over all accounts. An office behind one
	// address has it in common, but successes do not count.
	AddressAttempts = 100
	// knownFor is how long an address stays known after a success; knownAddresses is how many an account remembers.
	knownFor       = 30 * 24 * time.Hour
	knownAddresses = 10
)

const (
	throttleTimeout = 250 * time.Millisecond // for Redis, before the local window decides alone
	redisPause      = 2 * time.Second        // how long a failed Redis is left alone
	localEntries    = 20000                  // accounts and addresses in memory; the least recently used go first
)

// Throttle limits password guessing, before any password is hashed.
//
// Every attempt is counted for its account and for its address, in sliding windows, before it is made; a success takes
// its own attempt back. An account is named by the e-mail address as typed, whether it exists or not, so that the
// throttle tells nothing about which do.
//
// The trouble with limits per account is that an attacker can use them to lock the owner out. So an account has two
// pools: one for the world, and one for addresses at which somebody has signed in to this account within 30 days. An
// attacker anywhere else can exhaust only the first: the owner at a usual place still has the second. An owner at a new
// place during an attack has to wait for it to end, or to sign in from a usual place; sessions that are open stay open.
// Both pools together allow 20 hashes per account in 15 minutes, from however many addresses.
//
// The counts are in Redis, so that they hold across nodes. Every node also counts what it let through itself, with the
// same limits, and remembers what Redis refused: that is what is left when Redis is down or has lost its memory. Then,
// and only then, new attempts are limited on each node rather than on all together.
type Throttle struct {
	redis redis.UniversalClient // nil: this process is alone
	log   *slog.Logger
	now   func() time.Time
	local *localWindows

	mu          sync.Mutex // guards pausedUntil
	pausedUntil time.Time  // Redis failed; leave it alone until then
}

// NewThrottle returns a Throttle. client may be nil, for a single process without Redis. now is the clock, time.Now in
// production.
func NewThrottle(client redis.UniversalClient, log *slog.Logger, now func() time.Time) *Throttle {
	return &Throttle{redis: client, log: log, now: now, local: newLocalWindows(localEntries)}
}

// ThrottledError is the cause inside the domain.CodeRateLimited error of Allow.
type ThrottledError struct {
	RetryAfter time.Duration // rounded up to a second
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("login throttled, retry after %s", e.RetryAfter)
}

// Attempt is a login attempt that Allow let through.
type Attempt struct {
	throttle *Throttle
	keys     attemptKeys
	pool     string // the account's pool that the attempt was counted in
	id       string
	shared   bool // counted in Redis too
}

type attemptKeys struct {
	unknown, known, addresses string // of the account; they share a hash tag and so a cluster slot
	address                   string
	member                    string // the address within the account's known addresses
}

// Allow counts an attempt to sign in to account from address and lets it through, or returns a domain.CodeRateLimited
// error with a *ThrottledError inside. Call it before looking the account up, and Succeeded if the password was right.
func (t *Throttle) Allow(ctx context.Context, account string, address netip.Addr) (*Attempt, error) {
	a := &Attempt{throttle: t, keys: keysOf(account, address), id: hex.EncodeToString(randomBytes(8))}
	now := t.now()
	a.pool = a.keys.unknown
	knownHere := t.local.isKnown(a.keys, now)
	if knownHere {
		a.pool = a.keys.known
	}
	if t.redisUsable(now) {
		wait, err := t.countShared(ctx, a, knownHere, now)
		switch {
		case err == nil && wait > 0:
			return nil, throttled(wait)
		case err == nil:
			a.shared = true
		case ctx.Err() != nil:
			return nil, fmt.Errorf("login throttle: %w", ctx.Err())
		default:
			t.pause(now, err)
		}
	}
	if wait, ok := t.local.count(a.keys, a.pool, a.id, a.shared, now); !ok {
		return nil, throttled(wait)
	}
	return a, nil
}

// Succeeded takes the attempt back and remembers the address as one of the account's own.
func (a *Attempt) Succeeded(ctx context.Context) {
	t := a.throttle
	now := t.now()
	t.local.succeeded(a.keys, a.pool, a.id, now)
	if !a.shared || !t.redisUsable(now) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), throttleTimeout)
	defer cancel()
	err := successScript.Run(ctx, t.redis, []string{a.pool, a.keys.addresses}, a.id, a.keys.member, knownFor.Milliseconds(), knownAddresses).Err()
	if err == nil {
		err = t.redis.ZRem(ctx, a.keys.address, a.id).Err()
	}
	if err != nil {
		t.pause(now, err)
	}
}

// countShared counts the attempt in Redis and says how long to wait if it is not allowed. It sets a.pool.
func (t *Throttle) countShared(ctx context.Context, a *Attempt, knownHere bool, now time.Time) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, throttleTimeout)
	defer cancel()
	reply, err := accountScript.Run(ctx, t.redis, []string{a.keys.unknown, a.keys.known, a.keys.addresses},
		a.id, a.keys.member, ThrottleWindow.Milliseconds(), AccountAttempts, KnownAttempts, knownHere).Int64Slice()
	if err != nil {
		return 0, err
	}
	if len(reply) != 2 {
		return 0, errors.New("unexpected reply of the throttle's script")
	}
	if reply[1] == 1 {
		a.pool = a.keys.known
	} else {
		a.pool = a.keys.unknown
	}
	wait = time.Duration(reply[0]) * time.Millisecond
	t.local.learn(a.pool, wait, now)
	if wait > 0 {
		return wait, nil
	}
	ms, err := addressScript.Run(ctx, t.redis, []string{a.keys.address}, a.id, ThrottleWindow.Milliseconds(), AddressAttempts).Int64()
	if err != nil {
		return 0, err
	}
	if ms > 0 {
		// The attempt is not made, so the account must not pay for it. A failure here only leaves it counted.
		_ = t.redis.ZRem(ctx, a.pool, a.id).Err()
	}
	wait = time.Duration(ms) * time.Millisecond
	t.local.learn(a.keys.address, wait, now)
	return wait, nil
}

func (t *Throttle) redisUsable(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.redis != nil && !now.Before(t.pausedUntil)
}

func (t *Throttle) pause(now time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pausedUntil = now.Add(redisPause)
	t.log.Warn("login throttle counts on this node only, because Redis does not answer", slog.Any("error", err))
}

func throttled(wait time.Duration) error {
	wait = (wait + time.Second - 1).Truncate(time.Second)
	minutes := int((wait + time.Minute - 1) / time.Minute)
	return domain.Errorf(domain.CodeRateLimited, "Too many sign-in attempts. Try again in %d min, or from a place where you have signed in before.", minutes).
		WithCause(&ThrottledError{RetryAfter: wait})
}

// keysOf hashes account and address: the keys have one length, whatever was typed, and say nothing to who lists them.
func keysOf(account string, address netip.Addr) attemptKeys {
	name := fingerprint(strings.ToLower(strings.TrimSpace(account)))
	place := fingerprint(network(address))
	base := "switchboard:login:{" + name + "}:"
	return attemptKeys{
		unknown: base + "world", known: base + "known", addresses: base + "addresses",
		address: "switchboard:login:from:{" + place + "}", member: place,
	}
}

// network is what one attacker has cheaply: an IPv4 address, or a whole /64 of IPv6.
func network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return a.String()
}

func fingerprint(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// The scripts keep a window as a sorted set of attempts by Redis's own time, in milliseconds, so that nodes' clocks do
// not matter. A refused attempt is not added: refusals do not prolong themselves.
var (
	// accountScript: KEYS world, known, addresses; ARGV id, address, window, limits of world and known,
	// 1 if the node knows the address.
	// Returns {milliseconds to wait or 0, 1 if the address is known}.
	accountScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local window = tonumber(ARGV[3])
local pool, limit, known = KEYS[1], tonumber(ARGV[4]), 0
local until_ = redis.call('ZSCORE', KEYS[3], ARGV[2])
if ARGV[6] == '1' or (until_ and tonumber(until_) > now) then
  pool, limit, known = KEYS[2], tonumber(ARGV[5]), 1
end
redis.call('ZREMRANGEBYSCORE', pool, '-inf', now - window)
if redis.call('ZCARD', pool) >= limit then
  local oldest = redis.call('ZRANGE', pool, 0, 0, 'WITHSCORES')
  return {math.max(1, tonumber(oldest[2]) + window - now), known}
end
redis.call('ZADD', pool, now, ARGV[1])
redis.call('PEXPIRE', pool, window)
return {0, known}`)

	// addressScript: KEYS address; ARGV id, window, limit. Returns milliseconds to wait or 0.
	addressScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local window = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return math.max(1, tonumber(oldest[2]) + window - now)
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], window)
return 0`)

	// successScript: KEYS pool, addresses; ARGV id, address, how long it stays known, how many are remembered.
	successScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 0`)
)
