package auth

import (
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Why a sealed value could not be opened.
var (
	// ErrSealKey means that the value was sealed with another ENCRYPTION_KEY.
	ErrSealKey = errors.New("sealed with another ENCRYPTION_KEY: restore the key that was in use, or link the channel again")
	// ErrSealDamaged means that the value was altered, cut, or belongs to something else.
	ErrSealDamaged = errors.New("sealed value is damaged or belongs to another record")
)

const (
	sealVersion  = 1
	sealKeyID    = 4 // bytes
	sealOverhead = 1 + sealKeyID + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// Sealer encrypts secrets at rest with XChaCha20-Poly1305, whose nonces are long enough to be random for ever. A sealed
// value is: version (1 byte), key id (4), nonce (24), ciphertext with tag. The key id says which key opens it, so that
// ENCRYPTION_KEY can be replaced while the old one is still at hand.
type Sealer struct {
	current [sealKeyID]byte
	keys    map[[sealKeyID]byte]cipher.AEAD
}

// NewSealer returns a Sealer that seals with key and opens what was sealed with it or one of the older keys. Every key
// has 32 bytes.
func NewSealer(key []byte, older ...[]byte) (*Sealer, error) {
	s := &Sealer{keys: map[[sealKeyID]byte]cipher.AEAD{}}
	for i, k := range append([][]byte{key}, older...) {
		aead, err := chacha20poly1305.NewX(k)
		if err != nil {
			return nil, fmt.Errorf("encryption key has %d bytes, want %d", len(k), chacha20poly1305.KeySize)
		}
		sum := sha256.Sum256(append([]byte("switchboard/seal/key-id\x00"), k...))
		id := [sealKeyID]byte(sum[:sealKeyID])
		if i == 0 {
			s.current = id
		}
		s.keys[id] = aead
	}
	return s, nil
}

// Seal encrypts plaintext for the record that context names, such as "channel:17": it opens under no other.
func (s *Sealer) Seal(plaintext []byte, context string) []byte {
	sealed := make([]byte, 0, sealOverhead+len(plaintext))
	sealed = append(sealed, sealVersion)
	sealed = append(sealed, s.current[:]...)
	header := len(sealed)
	nonce := randomBytes(chacha20poly1305.NonceSizeX)
	sealed = append(sealed, nonce...)
	return s.keys[s.current].Seal(sealed, nonce, plaintext, sealContext(sealed[:header], context))
}

// Open decrypts what Seal made for the same context. The error wraps ErrSealKey or ErrSealDamaged.
func (s *Sealer) Open(sealed []byte, context string) ([]byte, error) {
	if len(sealed) < sealOverhead || sealed[0] != sealVersion {
		return nil, fmt.Errorf("open %s: %w", context, ErrSealDamaged)
	}
	const header = 1 + sealKeyID
	aead, found := s.keys[[sealKeyID]byte(sealed[1:header])]
	if !found {
		return nil, fmt.Errorf("open %s: %w", context, ErrSealKey)
	}
	nonce, ciphertext := sealed[header:header+chacha20poly1305.NonceSizeX], sealed[header+chacha20poly1305.NonceSizeX:]
	plaintext, err := aead.Open(nil, nonce, ciphertext, sealContext(sealed[:header], context))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", context, ErrSealDamaged)
	}
	return plaintext, nil
}

// Current reports whether sealed was made with the current key; if not, seal it anew when there is occasion.
func (s *Sealer) Current(sealed []byte) bool {
	return len(sealed) > sealKeyID && [sealKeyID]byte(sealed[1:1+sealKeyID]) == s.current
}

func sealContext(header []byte, context string) []byte {
	return append(append(make([]byte, 0, len(header)+len(context)), header...), context...)
}
