package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"switchboard/internal/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "0123456789abcdef0123456789abcdef"

func TestPasswords(t *testing.T) {
	p := NewPasswords(2)
	hash, err := p.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, hash)
	again, err := p.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.NotEqual(t, hash, again, "salted")

	ok, outdated, err := p.Verify(t.Context(), hash, "correct horse")
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, outdated)
	for _, wrong := range []string{"correct hors", "correct horse ", "", strings.Repeat("x", 300)} {
		ok, _, err = p.Verify(t.Context(), hash, wrong)
		require.NoError(t, err)
		require.False(t, ok, wrong)
	}

	// The reference vector of the argon2 command line: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 24.
	const old = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	ok, outdated, err = p.Verify(t.Context(), old, "password")
	require.NoError(t, err)
	require.True(t, ok, "parameters come from the hash")
	require.True(t, outdated)
}

func TestUnknownAccountNeverMatches(t *testing.T) {
	p := NewPasswords(1)
	ok, outdated, err := p.Verify(t.Context(), "", "anything at all")
	require.NoError(t, err)
	require.False(t, ok)
	require.False(t, outdated)

	hash, err := p.Hash(t.Context(), "a password")
	require.NoError(t, err)
	measure := func(hash string) time.Duration {
		start := time.Now()
		_, _, err := p.Verify(t.Context(), hash, "wrong password")
		require.NoError(t, err)
		return time.Since(start)
	}
	// What else the machine does makes some of them slower and none faster: the least of each is what they cost. Where one
	// costs half as much, no number of rounds makes the two alike.
	known, unknown := measure(hash), measure("")
	for start := time.Now(); time.Since(start) < 15*time.Second && (unknown >= 2*known || known >= 2*unknown); {
		known, unknown = min(known, measure(hash)), min(unknown, measure(""))
	}
	require.Less(t, unknown, 2*known)
	require.Less(t, known, 2*unknown)
}

func TestDamagedHashes(t *testing.T) {
	p := NewPasswords(1)
	for _, bad := range []string{
		"x", "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8", "$argon2id$v=16$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
		"$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8", "$argon2id$v=19$m=8,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
		"$argon2id$v=19$m=8,t=1,p=0$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8", "$argon2id$v=19$m=8,t=1,p=1$!!$!!", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$",
		"$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
	} {
		_, _, err := p.Verify(t.Context(), bad, "password")
		require.Error(t, err, bad)
	}
}

func TestCheckPassword(t *testing.T) {
	require.NoError(t, CheckPassword("12345678"))
	require.NoError(t, CheckPassword(strings.Repeat("x", 256)))
	for _, bad := range []string{"", "1234567", strings.Repeat("x", 257), "          "} {
		err := CheckPassword(bad)
		var e *domain.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "password", e.Field)
		_, err = NewPasswords(1).Hash(t.Context(), bad)
		require.Error(t, err)
	}
}

func TestHashesAtOnceAreBounded(t *testing.T) {
	p := NewPasswords(1)
	p.slots <- struct{}{} // somebody is hashing
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	errs := make(chan error, cap(p.waiting)+1)
	for range cap(p.waiting) + 1 {
		wg.Go(func() {
			_, err := p.Hash(ctx, "password")
			errs <- err
		})
	}
	require.Equal(t, domain.CodeUnavailable, domain.CodeOf(<-errs), "one too many in the waiting line is told at once")
	require.Empty(t, errs)
	cancel()
	wg.Wait()
	close(errs)
	for err := range errs {
		require.ErrorIs(t, err, context.Canceled)
	}
	<-p.slots
	_, err := p.Hash(t.Context(), "password")
	require.NoError(t, err)
	require.Positive(t, cap(NewPasswords(0).slots))
	require.LessOrEqual(t, cap(NewPasswords(0).slots), runtime.GOMAXPROCS(0))
}

func newTokens(t *testing.T, now func() time.Time) *Tokens {
	t.Helper()
	tokens, err := NewTokens(secret, 15*time.Minute, now)
	require.NoError(t, err)
	return tokens
}

var principal = domain.Principal{UserID: 7, OrganizationID: 3, Role: domain.RoleAdmin, SessionID: "family"}

func TestTokens(t *testing.T) {
	c := newClock()
	tokens := newTokens(t, c.now)
	token, expires, err := tokens.Issue(principal)
	require.NoError(t, err)
	require.Equal(t, c.now().Add(15*time.Minute), expires)
	got, err := tokens.Verify(token)
	require.NoError(t, err)
	want := principal
	want.ExpiresAt = expires
	require.Equal(t, want, got)

	c.advance(15*time.Minute - time.Second)
	_, err = tokens.Verify(token)
	require.NoError(t, err)
	c.advance(time.Second + leeway)
	_, err = tokens.Verify(token)
	require.ErrorIs(t, err, ErrTokenExpired)
	require.Equal(t, domain.CodeUnauthenticated, domain.CodeOf(err))

	other, _, err := tokens.Issue(principal)
	require.NoError(t, err)
	require.NotEqual(t, token, other)

	_, err = NewTokens("short", time.Minute, c.now)
	require.Error(t, err)
}

// forge signs claims as an attacker or another program would.
func forge(t *testing.T, method jwt.SigningMethod, key any, typ string, change func(jwt.MapClaims)) string {
	t.Helper()
	c := newClock()
	claims := jwt.MapClaims{
		"userId": 7, "organizationId": 3, "role": "admin", "iss": TokenIssuer, "aud": TokenAudience,
		"iat": c.now().Unix(), "exp": c.now().Add(time.Minute).Unix(),
	}
	if change != nil {
		change(claims)
	}
	j := jwt.NewWithClaims(method, claims)
	j.Header["typ"] = typ
	token, err := j.SignedString(key)
	require.NoError(t, err)
	return token
}

func TestForgedTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	hs := jwt.SigningMethodHS256
	key := []byte(secret)
	set := func(name string, value any) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c[name] = value }
	}
	without := func(name string) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { delete(c, name) }
	}
	tokens := newTokens(t, newClock().now)
	good := forge(t, hs, key, accessType, nil)
	_, err = tokens.Verify(good)
	require.NoError(t, err, "the forger's tools work")
	parts := strings.Split(good, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	altered := base64.RawURLEncoding.EncodeToString(bytes.Replace(payload, []byte(`"userId":7`), []byte(`"userId":8`), 1))
	noneHeader := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	c := newClock()

	for name, token := range map[string]string{
		"none":             forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, accessType, nil),
		"none, signed":     noneHeader + "." + parts[1] + "." + parts[2],
		"none, unsigned":   noneHeader + "." + parts[1] + ".",
		"HS384":            forge(t, jwt.SigningMethodHS384, key, accessType, nil),
		"HS512":            forge(t, jwt.SigningMethodHS512, key, accessType, nil),
		"RS256":            forge(t, jwt.SigningMethodRS256, rsaKey, accessType, nil),
		"another key":      forge(t, hs, []byte(strings.ToUpper(secret)), accessType, nil),
		"another typ":      forge(t, hs, key, "JWT", nil),
		"refresh typ":      forge(t, hs, key, "rt+jwt", nil),
		"no exp":           forge(t, hs, key, accessType, without("exp")),
		"exp not a number": forge(t, hs, key, accessType, set("exp", "tomorrow")),
		"expired":          forge(t, hs, key, accessType, set("exp", c.now().Add(-time.Minute).Unix())),
		"not yet":          forge(t, hs, key, accessType, set("nbf", c.now().Add(time.Minute).Unix())),
		"no iss":           forge(t, hs, key, accessType, without("iss")),
		"another iss":      forge(t, hs, key, accessType, set("iss", "else")),
		"no aud":           forge(t, hs, key, accessType, without("aud")),
		"another aud":      forge(t, hs, key, accessType, set("aud", []string{"else"})),
		"no user":          forge(t, hs, key, accessType, without("userId")),
		"negative user":    forge(t, hs, key, accessType, set("userId", -7)),
		"fraction":         forge(t, hs, key, accessType, set("userId", 7.5)),
		"text user":        forge(t, hs, key, accessType, set("userId", "7")),
		"no organization":  forge(t, hs, key, accessType, without("organizationId")),
		"no role":          forge(t, hs, key, accessType, without("role")),
		"unknown role":     forge(t, hs, key, accessType, set("role", "root")),
		"altered":          parts[0] + "." + altered + "." + parts[2],
		"cut":              good[:len(good)-1],
		"longer":           good + "A",
		"two parts":        parts[0] + "." + parts[1],
		"huge":             forge(t, hs, key, accessType, set("x", strings.Repeat("x", maxTokenBytes))),
		"empty":            "",
		"a refresh token":  NewRefreshToken("").Token,
		"an API key":       NewAPIKey().Key,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tokens.Verify(token)
			require.Equal(t, domain.CodeUnauthenticated, domain.CodeOf(err))
			require.Zero(t, got)
			if name == "expired" {
				require.ErrorIs(t, err, ErrTokenExpired)
			} else {
				require.ErrorIs(t, err, ErrTokenInvalid)
			}
			require.NotContains(t, domain.Public(err).Message, "signature")
		})
	}
}

// A token made by another implementation, valid for ten minutes of newClock's time.
const (
	goodPayload   = "eyJ1c2VySWQiOjcsIm9yZ2FuaXphdGlvbklkIjozLCJyb2xlIjoiYWRtaW4iLCJpc3MiOiJzd2l0Y2hib2FyZCIsImF1ZCI6InN3aXRjaGJvYXJkLWFwaSIsImV4cCI6MTc2NzMyMzY0NX0"
	goodSignature = "KQ220MeSNrjWL_oBVvuQRwWaz-8P22h9NgqiHNgvBZg"
)

func FuzzVerify(f *testing.F) {
	now := newClock().now
	tokens, err := NewTokens(secret, time.Minute, now)
	require.NoError(f, err)
	// Without anything random in it: the fuzzer's processes must all have the same.
	const good = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9." + goodPayload + "." + goodSignature
	_, err = tokens.Verify(good)
	require.NoError(f, err)
	f.Add(good)
	f.Add("a.b.c")
	f.Add(NewRefreshToken("").Token)
	f.Add(NewAPIKey().Key)
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := tokens.Verify(s); err == nil {
			require.Equal(t, good, s, "only what was issued passes")
			require.Equal(t, principal.UserID, p.UserID)
		}
		if r, err := ParseRefreshToken(s); err == nil {
			require.Equal(t, s, r.Token)
			require.True(t, strings.HasPrefix(s, refreshPrefix+r.Family+"_"))
		}
		if k, err := ParseAPIKey(s); err == nil {
			require.True(t, IsAPIKey(s))
			require.True(t, strings.HasPrefix(s, k.ID+"_"))
		}
	})
}

func TestOpaqueTokens(t *testing.T) {
	first := NewRefreshToken("")
	next := NewRefreshToken(first.Family)
	require.Equal(t, first.Family, next.Family)
	require.NotEqual(t, first.Token, next.Token)
	parsed, err := ParseRefreshToken(next.Token)
	require.NoError(t, err)
	require.Equal(t, next, parsed)
	require.Len(t, next.Hash, 64)
	require.NotContains(t, next.Hash, next.Token[40:])

	key := NewAPIKey()
	parsedKey, err := ParseAPIKey(key.Key)
	require.NoError(t, err)
	require.Equal(t, key, parsedKey)
	require.True(t, IsAPIKey(key.Key))
	require.False(t, IsAPIKey(first.Token))
	require.False(t, IsAPIKey("eyJhbGciOiJIUzI1NiJ9"))

	for _, bad := range []string{"", "sb_", "sbr_", key.Key + "a", key.Key[:len(key.Key)-1], strings.ToUpper(key.Key), strings.Replace(key.Key, "sb_", "sbr_", 1), first.Token + "x", strings.Replace(first.Token, "_", "-", 2)} {
		_, err := ParseAPIKey(bad)
		require.Equal(t, domain.CodeUnauthenticated, domain.CodeOf(err), bad)
		_, err = ParseRefreshToken(bad)
		require.Equal(t, domain.CodeUnauthenticated, domain.CodeOf(err), bad)
	}
	require.True(t, SameHash(key.Hash, parsedKey.Hash))
	require.False(t, SameHash(key.Hash, first.Hash))
	require.False(t, SameHash("", ""))
}

func TestSealer(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	s, err := NewSealer(key)
	require.NoError(t, err)
	for _, plain := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("secret"), 1000)} {
		sealed := s.Seal(plain, "channel:17")
		require.Len(t, sealed, sealOverhead+len(plain))
		got, err := s.Open(sealed, "channel:17")
		require.NoError(t, err)
		require.Equal(t, string(plain), string(got))
		if len(plain) > 1 {
			require.NotContains(t, string(sealed), string(plain))
		}
		require.NotEqual(t, sealed, s.Seal(plain, "channel:17"))
		_, err = s.Open(sealed, "channel:18")
		require.ErrorIs(t, err, ErrSealDamaged, "another record's")
	}
	sealed := s.Seal([]byte("token"), "channel:17")
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		_, err := s.Open(bad, "channel:17")
		require.Error(t, err, "byte %d", i)
		_, err = s.Open(sealed[:i], "channel:17")
		require.ErrorIs(t, err, ErrSealDamaged)
	}
	rotated, err := NewSealer(other, key)
	require.NoError(t, err)
	got, err := rotated.Open(sealed, "channel:17")
	require.NoError(t, err)
	require.Equal(t, "token", string(got))
	require.False(t, rotated.Current(sealed))
	require.True(t, s.Current(sealed))
	_, err = s.Open(rotated.Seal([]byte("token"), "x"), "x")
	require.ErrorIs(t, err, ErrSealKey)
	_, err = NewSealer([]byte("short"))
	require.Error(t, err)
}

func TestMediaLinks(t *testing.T) {
	c := newClock()
	links, err := NewMediaLinks(secret, c.now)
	require.NoError(t, err)
	link := MediaLink{MediaID: 5, OrganizationID: 3, Inline: true, ExpiresAt: c.now().Add(time.Hour)}
	query, err := url.ParseQuery(links.Query(link))
	require.NoError(t, err)
	got, err := links.Verify(5, query)
	require.NoError(t, err)
	require.Equal(t, link, got)

	refused := func(id int64, q url.Values) {
		t.Helper()
		_, err := links.Verify(id, q)
		require.Equal(t, domain.CodeForbidden, domain.CodeOf(err))
	}
	refused(6, query)
	for name, value := range map[string]string{"org": "4", "exp": "99999999999", "d": "attachment", "sig": "AAAA"} {
		bad := url.Values{}
		for k, v := range query {
			bad[k] = v
		}
		bad[name] = []string{value}
		refused(5, bad)
		bad.Del(name)
		refused(5, bad)
	}
	refused(5, url.Values{})
	another, err := NewMediaLinks(strings.ToUpper(secret), c.now)
	require.NoError(t, err)
	_, err = another.Verify(5, query)
	require.Error(t, err)
	c.advance(time.Hour)
	refused(5, query)
	_, err = NewMediaLinks("short", c.now)
	require.Error(t, err)
}
