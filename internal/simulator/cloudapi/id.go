package cloudapi

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"strings"
	"sync"
)

// idSource makes ids that look like Meta's.
type idSource struct {
	mu sync.Mutex // guards r
	r  io.Reader
}

func (s *idSource) bytes(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := make([]byte, n)
	if _, err := io.ReadFull(s.r, b); err != nil {
		panic("cloudapi: the source of random ids failed: " + err.Error())
	}
	return b
}

// wamid makes a message id in Meta's form: base64 of a small record that holds the customer's number and a random id.
func (s *idSource) wamid(waID string, fromCustomer bool) string {
	dir := byte(0x11)
	if fromCustomer {
		dir = 0x12
	}
	unique := strings.ToUpper(hex.EncodeToString(s.bytes(10)))
	rec := append([]byte{0x1c, 0x18, byte(len(waID))}, waID...)       // #nosec G115 -- waID has at most 15 digits
	rec = append(rec, 0x15, 0x02, 0x00, dir, 0x18, byte(len(unique))) // #nosec G115 -- 20 digits
	rec = append(append(rec, unique...), 0x00)
	return "wamid." + base64.StdEncoding.EncodeToString(rec)
}

// number makes a numeric id of n digits, as of media and templates.
func (s *idSource) number(n int) string {
	b := s.bytes(n)
	for i := range b {
		b[i] = '0' + b[i]%10
	}
	if b[0] == '0' {
		b[0] = '1'
	}
	return string(b)
}

func (s *idSource) hex(n int) string { return hex.EncodeToString(s.bytes(n)) }

// trace makes an fbtrace_id.
func (s *idSource) trace() string { return "A" + base64.RawURLEncoding.EncodeToString(s.bytes(16)) }

// digits keeps the digits of a phone number as people write it.
func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

func isDigits(s string) bool { return s != "" && digits(s) == s }
