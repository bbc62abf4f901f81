package whatsapp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
)

const codeRounds = 2 << 16 // of PBKDF2

// displayName is what the server accepts of a client: a common browser and system.
var displayName = regexp.MustCompile(`^(Chrome|Firefox|Edge|IE|Opera|Safari|Brave|Electron) \((Windows|Mac OS|macOS|Linux|Ubuntu|Android|iOS|Chrome OS)\)$`)

// pairingCode is a link by a code that a client waits for.
type pairingCode struct {
	number  string
	ref     string
	wrapped []byte // salt, iv, the client's key encrypted by the code
	until   time.Time

	shared []byte      // with the client, once the phone's user typed the code
	link   chan result // of one: what came of it
}

type result struct {
	link *pairing
	err  error
}

// codeHelloLocked is companion_hello: a client shows a code and waits for the phone.
func (s *Server) codeHelloLocked(c *conn, node, reg *waBinary.Node) waBinary.Node {
	wrapped := content(reg, "link_code_pairing_wrapped_companion_ephemeral_pub")
	number := reg.AttrGetter().JID("jid").User
	if len(wrapped) != 80 || !digits(number) || !displayName.MatchString(text(reg, "companion_platform_display")) {
		return iqError(node, 400, "bad-request")
	}
	c.code = &pairingCode{
		number: number, ref: "sim-code-" + s.stanzaID(), wrapped: wrapped, until: time.Now().Add(s.opts.RefTTL),
	}
	s.events.Publish("code", map[string]string{"number": number})
	return iqResult(node, waBinary.Node{Tag: "link_code_companion_reg", Content: []waBinary.Node{
		{Tag: "link_code_pairing_ref", Content: []byte(c.code.ref)},
	}})
}

// codeKey is the key that a code stands for.
func codeKey(code string, salt []byte) (cipher.Block, error) {
	key, err := pbkdf2.Key(sha256.New, code, salt, codeRounds, 32)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(key)
}

// EnterCode types the code that the client shows, XXXX-XXXX or without the hyphen, into the phone, and returns when the
// device is linked. A wrong code is ErrInvalid, as is one that no client shows.
func (s *Server) EnterCode(number, code string) error {
	code = strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(code), "-", ""))
	if len(code) != 8 {
		return fmt.Errorf("%w code: it has eight characters", ErrInvalid)
	}
	c, waiting, primary, err := s.codeWaiting(number)
	if err != nil {
		return err
	}
	// The rounds take long: no lock is held meanwhile.
	block, err := codeKey(code, waiting.wrapped[:32])
	if err != nil {
		return err
	}
	theirs := make([]byte, 32)
	cipher.NewCTR(block, waiting.wrapped[32:48]).XORKeyStream(theirs, waiting.wrapped[48:])
	ours := keys.NewKeyPair()
	shared, err := curve25519.X25519(ours.Priv[:], theirs)
	if err != nil {
		return fmt.Errorf("%w code", ErrInvalid)
	}
	salt, iv := random(32), random(16)
	if block, err = codeKey(code, salt); err != nil {
		return err
	}
	ourWrapped := make([]byte, 32)
	cipher.NewCTR(block, iv).XORKeyStream(ourWrapped, ours.Pub[:])
	answer := s.typeCode(c, waiting, primary, slices.Concat(salt, iv, ourWrapped), shared)
	return s.waitCode(answer)
}

func (s *Server) codeWaiting(number string) (*conn, *pairingCode, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return nil, nil, nil, err
	}
	var found *conn
	for c := range s.conns {
		if c.code != nil && c.code.number == number && !c.over && time.Now().Before(c.code.until) && (found == nil || c.seq > found.seq) {
			found = c
		}
	}
	if found == nil {
		return nil, nil, nil, fmt.Errorf("%w code: no client waits for one of this number", ErrInvalid)
	}
	return found, found.code, p.actor.Identity.Pub[:], nil
}

// typeCode is primary_hello: the phone answers the client.
func (s *Server) typeCode(c *conn, code *pairingCode, primary, wrapped, shared []byte) chan result {
	s.mu.Lock()
	defer s.mu.Unlock()
	code.shared, code.link = shared, make(chan result, 1)
	c.push(serverNode("notification", s.stanzaID(), waBinary.Attrs{"type": "link_code_companion_reg", "t": s.opts.Now().Unix()},
		waBinary.Node{Tag: "link_code_companion_reg", Attrs: waBinary.Attrs{"stage": "primary_hello"}, Content: []waBinary.Node{
			{Tag: "link_code_pairing_wrapped_primary_ephemeral_pub", Content: wrapped},
			{Tag: "primary_identity_pub", Content: primary},
			{Tag: "link_code_pairing_ref", Content: []byte(code.ref)},
		}}))
	return code.link
}

func (s *Server) waitCode(answer chan result) error {
	timer := time.NewTimer(pairTimeout)
	defer timer.Stop()
	select {
	case r := <-answer:
		if r.err != nil {
			return r.err
		}
		return s.waitPaired(r.link)
	case <-timer.C:
		return fmt.Errorf("%w: the client did not answer the code in time", ErrInvalid)
	case <-s.done:
		return ErrClosed
	}
}

var errWrongCode = fmt.Errorf("%w code: it is not the one that the client shows", ErrInvalid)

// codeFinishLocked is companion_finish: the client proves that it has the code, and tells its part of the secret.
func (s *Server) codeFinishLocked(c *conn, node, reg *waBinary.Node) waBinary.Node {
	code := c.code
	if code == nil || code.link == nil || text(reg, "link_code_pairing_ref") != code.ref {
		return iqError(node, 404, "item-not-found")
	}
	p := s.phones[code.number]
	secret, err := code.secret(p.actor, content(reg, "link_code_pairing_wrapped_key_bundle"), c.reg.GetEIdent())
	if err != nil {
		code.finish(result{nil, err})
		return iqError(node, 400, "bad-request")
	}
	link, err := s.pairLocked(c, p, secret)
	code.finish(result{link, err})
	return iqResult(node)
}

func (p *pairingCode) finish(r result) {
	select {
	case p.link <- r:
	default: // the client answered twice
	}
}

// secret derives the secret that authenticates the link, from the bundle that the client encrypted.
func (p *pairingCode) secret(a *actor, wrapped, companion []byte) ([]byte, error) {
	if len(wrapped) < 44 {
		return nil, errWrongCode
	}
	key := hkdfutil.SHA256(p.shared, wrapped[:32], []byte("link_code_pairing_key_bundle_encryption_key"), 32)
	plain, err := gcmutil.Decrypt(key, wrapped[32:44], wrapped[44:], nil)
	if err != nil || len(plain) != 96 {
		return nil, errWrongCode
	}
	if !slices.Equal(plain[:32], companion) || !slices.Equal(plain[32:64], a.Identity.Pub[:]) {
		return nil, errWrongCode
	}
	identity, err := curve25519.X25519(a.Identity.Priv[:], companion)
	if err != nil {
		return nil, errors.Join(errWrongCode, err)
	}
	return hkdfutil.SHA256(slices.Concat(p.shared, identity, plain[64:]), nil, []byte("adv_secret"), 32), nil
}
