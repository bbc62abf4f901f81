package whatsapp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
	"google.golang.org/protobuf/proto"
)

// passkeyLink is a link for which the account wants a passkey. Any well-formed answer of an authenticator will do.
type passkeyLink struct {
	phone   *phone
	handoff []byte // key of the proof that the client is the one whose QR code was scanned
	ours    *keys.KeyPair
	ref     string
	theirs  *waCompanionReg.CompanionEphemeralIdentity
}

// askPasskeyLocked asks the client for a passkey instead of linking it.
func (s *Server) askPasskeyLocked(c *conn, p *phone, advSecret []byte) {
	c.passkey = &passkeyLink{
		phone: p, ours: keys.NewKeyPair(), ref: "sim-passkey-" + s.stanzaID(),
		handoff: hkdfutil.SHA256(advSecret, nil, []byte("shortcake-passkey-handoff-v1"), 32),
	}
	c.push(serverNode("notification", s.stanzaID(), waBinary.Attrs{"type": "passkey_prologue_request", "t": s.opts.Now().Unix()},
		waBinary.Node{Tag: "passkey_request_options", Content: passkeyOptions()}))
}

func passkeyOptions() []byte {
	b, _ := json.Marshal(map[string]any{ // of plain values: never fails
		"challenge": base64.RawURLEncoding.EncodeToString(random(32)), "timeout": 60000, "rpId": "whatsapp.com",
		"allowCredentials": []any{}, "userVerification": "required", "extensions": map[string]any{},
	})
	return b
}

// passkeyPrologueLocked takes the authenticator's answer, and tells the phone's half of the key.
func (s *Server) passkeyPrologueLocked(c *conn, node, prologue *waBinary.Node) waBinary.Node {
	link := c.passkey
	payload := content(prologue, "prologue_payload")
	var p waCompanionReg.ProloguePayload
	var id waCompanionReg.CompanionEphemeralIdentity
	if link == nil || proto.Unmarshal(payload, &p) != nil || proto.Unmarshal(p.GetCompanionEphemeralIdentity(), &id) != nil ||
		id.GetRef() != link.ref || len(id.GetPublicKey()) != 32 || !json.Valid(content(prologue, "webauthn_assertion")) {
		return iqError(node, 400, "bad-request")
	}
	if proof := content(prologue, "pairing_handoff_proof"); proof != nil {
		mac := hmac.New(sha256.New, link.handoff)
		_, _ = mac.Write(payload)
		if !hmac.Equal(mac.Sum(nil), proof) {
			return iqError(node, 401, "not-authorized")
		}
	}
	link.theirs = &id
	half, err := proto.Marshal(&waCompanionReg.PrimaryEphemeralIdentity{PublicKey: link.ours.Pub[:], Nonce: random(32)})
	if err != nil {
		return iqError(node, 500, "internal-server-error")
	}
	c.push(iqResult(node))
	c.push(serverNode("notification", s.stanzaID(), waBinary.Attrs{"type": "crsc_continuation", "t": s.opts.Now().Unix()},
		waBinary.Node{Tag: "primary_ephemeral_identity", Content: half}))
	return waBinary.Node{}
}

// passkeyFinishLocked takes the client's secret and links it.
func (s *Server) passkeyFinishLocked(c *conn, node *waBinary.Node, wrapped []byte) waBinary.Node {
	req, err := c.passkey.open(wrapped)
	if err != nil || len(req.GetAdvSecret()) != 32 || string(req.GetCompanionIdentityKey()) != string(c.reg.GetEIdent()) {
		return iqError(node, 400, "bad-request")
	}
	c.push(iqResult(node))
	if _, err := s.pairLocked(c, c.passkey.phone, req.GetAdvSecret()); err != nil {
		s.log.Error("a link could not be made", slogErr(err))
	}
	return waBinary.Node{}
}

func (l *passkeyLink) open(wrapped []byte) (*waCompanionReg.PairingRequest, error) {
	if l == nil || l.theirs == nil {
		return nil, fmt.Errorf("%w passkey: it was not asked for", ErrInvalid)
	}
	var outer waCompanionReg.EncryptedPairingRequest
	if err := proto.Unmarshal(wrapped, &outer); err != nil {
		return nil, err
	}
	shared, err := curve25519.X25519(l.ours.Priv[:], l.theirs.GetPublicKey())
	if err != nil {
		return nil, err
	}
	salt := fmt.Sprintf("Companion Pairing %d with ref %s", l.theirs.GetDeviceType(), l.ref)
	key := hkdfutil.SHA256(shared, []byte(salt), []byte("Pairing Information Encryption Key"), 32)
	plain, err := gcmutil.Decrypt(key, outer.GetIV(), outer.GetEncryptedPayload(), nil)
	if err != nil {
		return nil, err
	}
	var req waCompanionReg.PairingRequest
	return &req, proto.Unmarshal(plain, &req)
}
