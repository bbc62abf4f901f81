package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

const (
	refreshPrefix = "sbr_"
	apiKeyPrefix  = "sb_"
	randomPart    = 32 // bytes: 256 bits
	familyPart    = 16 // bytes
	keyIDPart     = 5  // bytes, which are 8 letters
)

// lower is base32 in lower case without padding: letters and digits only, so that a double click selects all of it.
var lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// RefreshToken is an opaque refresh token: "sbr_<family>_<random>". All tokens of one sign-in share the family, which
// is the session id of its access tokens.
//
// Rotation is the store's part: it keeps Hash and Family, never Token. Presenting a token replaces its row's hash;
// presenting one whose hash was already replaced means that somebody else has it, and ends the family.
type RefreshToken struct {
	Token  string // for the client, once
	Family string
	Hash   string // hex SHA-256 of Token, for the database
}

// NewRefreshToken makes a token of the given family; an empty family starts a new one.
func NewRefreshToken(family string) RefreshToken {
	if family == "" {
		family = lower.EncodeToString(randomBytes(familyPart))
	}
	token := refreshPrefix + family + "_" + base64.RawURLEncoding.EncodeToString(randomBytes(randomPart))
	return RefreshToken{Token: token, Family: family, Hash: hashOpaque(token)}
}

// ParseRefreshToken checks the form of what a client presented. The error has domain.CodeUnauthenticated.
func ParseRefreshToken(token string) (RefreshToken, error) {
	family, ok := parseOpaque(token, refreshPrefix, familyPart)
	if !ok {
		return RefreshToken{}, refuse(ErrTokenInvalid)
	}
	return RefreshToken{Token: token, Family: family, Hash: hashOpaque(token)}, nil
}

// APIKey is a key for integrations: "sb_<id>_<random>". The id is public: it finds the row and names the key in lists.
type APIKey struct {
	Key  string // for the user, once
	ID   string // 8 letters and digits, with the prefix: "sb_k3v9x2ab"
	Hash string // hex SHA-256 of Key, for the database
}

// NewAPIKey makes a key.
func NewAPIKey() APIKey {
	id := apiKeyPrefix + lower.EncodeToString(randomBytes(keyIDPart))
	key := id + "_" + base64.RawURLEncoding.EncodeToString(randomBytes(randomPart))
	return APIKey{Key: key, ID: id, Hash: hashOpaque(key)}
}

// IsAPIKey says whether a bearer value claims to be an API key rather than a JWT.
func IsAPIKey(bearer string) bool { return strings.HasPrefix(bearer, apiKeyPrefix) }

// ParseAPIKey checks the form of a bearer value. The error has domain.CodeUnauthenticated.
func ParseAPIKey(bearer string) (APIKey, error) {
	id, ok := parseOpaque(bearer, apiKeyPrefix, keyIDPart)
	if !ok {
		return APIKey{}, refuse(ErrTokenInvalid)
	}
	return APIKey{Key: bearer, ID: apiKeyPrefix + id, Hash: hashOpaque(bearer)}, nil
}

// SameHash compares two hashes of this package in constant time. An empty one equals nothing.
func SameHash(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// parseOpaque takes "<prefix><name>_<random>" apart. Both parts have one length and one spelling.
func parseOpaque(token, prefix string, nameBytes int) (name string, ok bool) {
	rest, found := strings.CutPrefix(token, prefix)
	if !found || len(rest) != lower.EncodedLen(nameBytes)+1+base64.RawURLEncoding.EncodedLen(randomPart) {
		return "", false
	}
	name, random, _ := strings.Cut(rest, "_")
	if b, err := lower.DecodeString(name); err != nil || lower.EncodeToString(b) != name || len(b) != nameBytes {
		return "", false
	}
	if b, err := base64.RawURLEncoding.Strict().DecodeString(random); err != nil || len(b) != randomPart {
		return "", false
	}
	return name, true
}

func hashOpaque(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
