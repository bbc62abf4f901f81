package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"

	"switchboard/internal/domain"
)

// Lengths of a password, in bytes. The upper one only keeps the work bounded.
const (
	MinPasswordBytes = 8
	MaxPasswordBytes = 256
)

// argonParams are the costs of one Argon2id hash.
type argonParams struct {
	memory  uint32 // KiB
	time    uint32 // passes
	threads uint8
}

// current are the costs that OWASP's password storage cheat sheet names for Argon2id. Hashes with others still verify
// and are reported as outdated.
var current = argonParams{memory: 19 * 1024, time: 2, threads: 1}

// Bounds of what is accepted from a stored hash, so that a damaged row cannot ask for a gigabyte.
const (
	maxMemory  = 256 * 1024 // KiB
	maxTime    = 16
	maxThreads = 16
	saltBytes  = 16
	hashBytes  = 32
	// maxWaiting bounds the logins that wait for a free slot, for each slot.
	maxWaiting = 64
)

// Passwords hashes and verifies passwords. It computes a bounded number of hashes at once, 19 MiB each; those beyond
// wait, and those beyond the waiting line are refused with domain.CodeUnavailable.
type Passwords struct {
	slots   chan struct{} // one element for each hash under way
	waiting chan struct{} // one element for each caller, waiting or hashing
	dummy   string        // hash of a password that nobody knows
}

// NewPasswords returns a Passwords that computes at most concurrent hashes at once; 0 means one for each processor.
func NewPasswords(concurrent int) *Passwords {
	if concurrent <= 0 {
		concurrent = runtime.GOMAXPROCS(0)
	}
	p := &Passwords{
		slots:   make(chan struct{}, concurrent),
		waiting: make(chan struct{}, concurrent*(1+maxWaiting)),
	}
	// A hash of nothing known: what it costs to verify is what matters, no password may ever match it.
	p.dummy = encodeHash(current, randomBytes(saltBytes), randomBytes(hashBytes))
	return p
}

// CheckPassword says whether a new password is acceptable, as an error for the user about the field "password".
func CheckPassword(password string) error {
	switch {
	case len(password) < MinPasswordBytes:
		return domain.Invalid("password", fmt.Sprintf("The password is too short: use at least %d characters.", MinPasswordBytes))
	case len(password) > MaxPasswordBytes:
		return domain.Invalid("password", fmt.Sprintf("The password is too long: use at most %d bytes.", MaxPasswordBytes))
	case strings.TrimSpace(password) == "":
		return domain.Invalid("password", "The password is empty: use something else than spaces.")
	default:
		return nil
	}
}

// Hash returns the password's hash as a PHC string ($argon2id$v=19$m=…). The password must pass CheckPassword.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	salt := randomBytes(saltBytes)
	key, err := p.derive(ctx, password, salt, current, hashBytes)
	if err != nil {
		return "", err
	}
	return encodeHash(current, salt, key), nil
}

// Verify reports whether password is the one that hash was made of, and whether the hash is outdated and should be made
// anew. An empty hash stands for an account that does not exist or has no password: it costs the same and never matches.
func (p *Passwords) Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	// Such a password cannot have been set; saying so at once depends on no account.
	if password == "" || len(password) > MaxPasswordBytes {
		return false, false, nil
	}
	known := hash != ""
	if !known {
		hash = p.dummy
	}
	params, salt, want, err := decodeHash(hash)
	if err != nil {
		return false, false, err
	}
	got, err := p.derive(ctx, password, salt, params, len(want))
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(got, want) == 1 && known
	outdated = params != current || len(want) != hashBytes || len(salt) != saltBytes
	return ok, ok && outdated, nil
}

func (p *Passwords) derive(ctx context.Context, password string, salt []byte, params argonParams, length int) ([]byte, error) {
	select {
	case p.waiting <- struct{}{}:
	default:
		return nil, domain.NewError(domain.CodeUnavailable, "Too many people are signing in at this moment. Try again in a few seconds.")
	}
	defer func() { <-p.waiting }()
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to hash a password: %w", ctx.Err())
	}
	defer func() { <-p.slots }()
	return argon2.IDKey([]byte(password), salt, params.time, params.memory, params.threads, uint32(length)), nil //nolint:gosec // 16 to 64
}

func encodeHash(p argonParams, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, p.memory, p.time, p.threads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

var errHash = errors.New("stored password hash is not a valid $argon2id$ string")

func decodeHash(s string) (p argonParams, salt, key []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil {
		return p, nil, nil, errHash
	}
	if p.memory < 8 || p.memory > maxMemory || p.time < 1 || p.time > maxTime || p.threads < 1 || p.threads > maxThreads {
		return p, nil, nil, errHash
	}
	salt, saltErr := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if saltErr != nil || keyErr != nil || len(salt) < 8 || len(salt) > 64 || len(key) < 16 || len(key) > 64 {
		return p, nil, nil, errHash
	}
	return p, salt, key, nil
}

// randomBytes never fails: crypto/rand ends the process if the system has no randomness.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
