package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"switchboard/internal/domain"
)

// What an access token says about itself.
const (
	TokenIssuer   = "switchboard"
	TokenAudience = "switchboard-api"
	// accessType is the header's typ (RFC 9068). Whatever else may one day be signed with the same key is not an access
	// token without it.
	accessType = "at+jwt"
	// leeway allows for the clocks of two nodes. It also lengthens every token, so it stays below the two seconds within
	// which an expired one must stop working.
	leeway = time.Second
	// maxTokenBytes bounds the work on a token from outside; ours have about 350.
	maxTokenBytes = 4096
	// minSecretBytes is the size of HS256's hash, as RFC 7518 section 3.2 asks.
	minSecretBytes = 32
)

// Why a token was refused; both also carry domain.CodeUnauthenticated.
var (
	ErrTokenExpired = errors.New("token is expired")
	ErrTokenInvalid = errors.New("token is invalid")
)

// Tokens issues and verifies access tokens: JWTs signed with HS256.
type Tokens struct {
	secret []byte
	ttl    time.Duration
	now    func() time.Time
	parser *jwt.Parser
}

type accessClaims struct {
	UserID         int64       `json:"userId"`
	OrganizationID int64       `json:"organizationId"`
	Role           domain.Role `json:"role"`
	SessionID      string      `json:"sid,omitempty"`
	jwt.RegisteredClaims
}

// NewTokens returns a Tokens for JWT_SECRET. now is the clock, time.Now in production.
func NewTokens(secret string, ttl time.Duration, now func() time.Time) (*Tokens, error) {
	if len(secret) < minSecretBytes {
		return nil, fmt.Errorf("token secret has %d bytes, want at least %d", len(secret), minSecretBytes)
	}
	return &Tokens{
		secret: []byte(secret), ttl: ttl, now: now,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithIssuer(TokenIssuer),
			jwt.WithAudience(TokenAudience),
			jwt.WithExpirationRequired(),
			jwt.WithLeeway(leeway),
			jwt.WithTimeFunc(now),
			jwt.WithStrictDecoding(),
		),
	}, nil
}

// Issue returns an access token for p and when it expires. p.ExpiresAt is not used.
func (t *Tokens) Issue(p domain.Principal) (token string, expiresAt time.Time, err error) {
	now := t.now().UTC()
	expiresAt = now.Add(t.ttl).Truncate(time.Second) // as in the token
	j := jwt.NewWithClaims(jwt.SigningMethodHS256, accessClaims{
		UserID: p.UserID, OrganizationID: p.OrganizationID, Role: p.Role, SessionID: p.SessionID,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: TokenIssuer, Audience: jwt.ClaimStrings{TokenAudience},
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expiresAt),
			ID: base64.RawURLEncoding.EncodeToString(randomBytes(12)),
		},
	})
	j.Header["typ"] = accessType
	token, err = j.SignedString(t.secret)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign access token: %w", err)
	}
	return token, expiresAt, nil
}

// Verify returns whose token it is. The error has domain.CodeUnauthenticated and wraps ErrTokenExpired or
// ErrTokenInvalid. Whether the user still exists and the session still stands is for the store to say.
func (t *Tokens) Verify(token string) (domain.Principal, error) {
	if len(token) > maxTokenBytes {
		return domain.Principal{}, refuse(ErrTokenInvalid)
	}
	var c accessClaims
	j, err := t.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return t.secret, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return domain.Principal{}, refuse(ErrTokenExpired)
	case err != nil:
		return domain.Principal{}, refuse(ErrTokenInvalid)
	case j.Header["typ"] != accessType:
		return domain.Principal{}, refuse(ErrTokenInvalid)
	case c.UserID <= 0 || c.OrganizationID <= 0 || (c.Role != domain.RoleAdmin && c.Role != domain.RoleOperator):
		return domain.Principal{}, refuse(ErrTokenInvalid)
	}
	return domain.Principal{
		UserID: c.UserID, OrganizationID: c.OrganizationID, Role: c.Role, SessionID: c.SessionID, ExpiresAt: c.ExpiresAt.UTC(),
	}, nil
}

func refuse(reason error) error {
	message := "The token is not valid. Sign in again."
	if errors.Is(reason, ErrTokenExpired) {
		message = "The token is expired. Refresh it or sign in again."
	}
	return domain.NewError(domain.CodeUnauthenticated, message).WithCause(reason)
}
