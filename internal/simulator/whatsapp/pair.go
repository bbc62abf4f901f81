package whatsapp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

const (
	pairTimeout = 20 * time.Second
)

var errPairingEnded = errors.New("the client's socket ended before it was linked")

// pairingRef is a ref of a QR code, which names a socket for a while.
type pairingRef struct {
	conn  *conn
	until time.Time
}

func dropRefs(refs map[string]*pairingRef, c *conn) map[string]*pairingRef {
	for ref, r := range refs {
		if r.conn == c {
			delete(refs, ref)
		}
	}
	return refs
}

// pairing is a link that the client has yet to sign.
type pairing struct {
	phone    *phone
	id       uint16
	reqID    string
	details  []byte
	identity [32]byte

	once sync.Once
	done chan error // of one
}

func (p *pairing) end(err error) {
	p.once.Do(func() { p.done <- err })
}

// beginPairing offers refs for QR codes to a client that is not linked.
func (s *Server) beginPairing(c *conn, reg *waWa6.ClientPayload_DevicePairingRegistrationData) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.faults.take(FaultOutdated, "", ""); f != nil {
		s.refuseLocked(c, failure(f))
		return true
	}
	if len(reg.GetEIdent()) != 32 || len(reg.GetESkeyVal()) != 32 || len(reg.GetESkeySig()) != 64 || len(reg.GetERegid()) != 4 {
		s.refuseLocked(c, failure(&Fault{Code: 400}))
		return true
	}
	c.reg = reg
	c.push(waBinary.Node{Tag: "iq", Attrs: waBinary.Attrs{
		"from": types.ServerJID, "type": "set", "id": s.stanzaID(), "xmlns": "md",
	}, Content: []waBinary.Node{{Tag: "pair-device", Content: s.newRefsLocked(c)}}})
	return true
}

func (s *Server) newRefsLocked(c *conn) []waBinary.Node {
	nodes := make([]waBinary.Node, s.opts.Refs)
	for i := range nodes {
		ref := "2@" + base64.RawURLEncoding.EncodeToString(random(24))
		s.refs[ref] = &pairingRef{c, time.Now().Add(s.opts.RefTTL)}
		nodes[i] = waBinary.Node{Tag: "ref", Content: []byte(ref)}
	}
	return nodes
}

func (s *Server) stanzaID() string { return "sim-" + strconv.FormatInt(s.nextID(), 36) }

// Scan lets the phone scan a QR code's text, as the client's QR event gives it, and returns when the device is linked. The
// error says why it is not: an unknown or expired ref, a client that refused, or one that went away. A phone that wants a
// passkey asks for it: then Scan returns at once, and the client's answer goes on with the linking.
func (s *Server) Scan(number, qr string) error {
	_, err := s.scan(number, qr)
	return err
}

// scan says besides whether the device is linked; it is not yet if a passkey is asked for.
func (s *Server) scan(number, qr string) (linked bool, err error) {
	qr = strings.TrimSpace(qr)
	if _, after, ok := strings.Cut(qr, "#"); ok {
		qr = after
	}
	parts := strings.Split(qr, ",")
	if len(parts) < 4 {
		return false, fmt.Errorf("%w QR text: it must be ref,noise,identity,adv,type", ErrInvalid)
	}
	var fields [3][]byte
	for i := range fields {
		var err error
		if fields[i], err = base64.StdEncoding.DecodeString(parts[i+1]); err != nil || len(fields[i]) != 32 {
			return false, fmt.Errorf("%w QR text: part %d must be 32 bytes of base64", ErrInvalid, i+2)
		}
	}
	p, err := s.scanned(number, parts[0], fields)
	if err != nil || p == nil {
		return false, err
	}
	err = s.waitPaired(p)
	return err == nil, err
}

func (s *Server) scanned(number, ref string, fields [3][]byte) (*pairing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return nil, err
	}
	r := s.refs[ref]
	if r == nil || time.Now().After(r.until) || r.conn.over {
		return nil, fmt.Errorf("%w QR code: it expired, or was never shown", ErrInvalid)
	}
	c := r.conn
	if !slices.Equal(fields[0], c.ses.clientStatic[:]) || !slices.Equal(fields[1], c.reg.GetEIdent()) {
		return nil, fmt.Errorf("%w QR code: its keys are not those of the client", ErrInvalid)
	}
	if p.PasskeyRequired {
		s.askPasskeyLocked(c, p, fields[2])
		return nil, nil
	}
	return s.pairLocked(c, p, fields[2])
}

func (s *Server) waitPaired(p *pairing) error {
	timer := time.NewTimer(pairTimeout)
	defer timer.Stop()
	select {
	case err := <-p.done:
		return err
	case <-timer.C:
		return fmt.Errorf("%w: the client did not sign the link in time", ErrInvalid)
	case <-s.done:
		return ErrClosed
	}
}

// pairLocked sends the link, signed by the phone, to the client.
func (s *Server) pairLocked(c *conn, p *phone, advSecret []byte) (*pairing, error) {
	link, err := s.newLink(p, [32]byte(c.reg.GetEIdent()))
	if err != nil {
		return nil, err
	}
	signed, err := proto.Marshal(&waAdv.ADVSignedDeviceIdentity{
		Details: link.details, AccountSignatureKey: p.actor.Identity.Pub[:], AccountSignature: p.sign(link),
	})
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, advSecret)
	_, _ = mac.Write(signed)
	container, err := proto.Marshal(&waAdv.ADVSignedDeviceIdentityHMAC{Details: signed, HMAC: mac.Sum(nil)})
	if err != nil {
		return nil, err
	}
	if c.pairing != nil {
		c.pairing.end(errPairingEnded)
	}
	c.pairing = link
	jid, lid := pnJID(p.Number), lidJID(p.LID)
	jid.Device, lid.Device = link.id, link.id
	c.push(waBinary.Node{Tag: "iq", Attrs: waBinary.Attrs{
		"from": types.ServerJID, "type": "set", "id": link.reqID, "xmlns": "md", "t": s.opts.Now().Unix(),
	}, Content: []waBinary.Node{{Tag: "pair-success", Content: []waBinary.Node{
		{Tag: "device-identity", Content: container},
		{Tag: "device", Attrs: waBinary.Attrs{"jid": jid, "lid": lid}},
		{Tag: "platform", Attrs: waBinary.Attrs{"name": "android"}},
	}}}})
	return link, nil
}

// newLink is a link that nobody signed yet.
func (s *Server) newLink(p *phone, identity [32]byte) (*pairing, error) {
	link := &pairing{phone: p, id: p.nextID, reqID: s.stanzaID(), identity: identity, done: make(chan error, 1)}
	p.nextID++
	var err error
	link.details, err = proto.Marshal(&waAdv.ADVDeviceIdentity{
		RawID: proto.Uint32(binary.BigEndian.Uint32(random(4))), Timestamp: proto.Uint64(uint64(s.opts.Now().Unix())), // #nosec G115 -- after 1970
		KeyIndex: proto.Uint32(uint32(link.id)), AccountType: waAdv.ADVEncryptionType_E2EE.Enum(), DeviceType: waAdv.ADVEncryptionType_E2EE.Enum(),
	})
	return link, err
}

func (p *phone) sign(link *pairing) []byte {
	message := slices.Concat(whatsmeow.AdvAccountSignaturePrefix, link.details, link.identity[:])
	sig := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*p.actor.Identity.Priv), message)
	return sig[:]
}

// pairAnswerLocked takes the client's answer to pair-success. Only a link that it signed counts.
func (s *Server) pairAnswerLocked(c *conn, node *waBinary.Node) {
	link := c.pairing
	if node.Attrs["type"] == "error" {
		e := node.GetChildByTag("error")
		link.end(fmt.Errorf("%w link: the client refused it: %v", ErrInvalid, e.Attrs["text"]))
		return
	}
	content, _ := node.GetChildByTag("pair-device-sign", "device-identity").Content.([]byte)
	var signed waAdv.ADVSignedDeviceIdentity
	if proto.Unmarshal(content, &signed) != nil || len(signed.GetDeviceSignature()) != 64 {
		link.end(fmt.Errorf("%w link: the client's answer is not readable", ErrInvalid))
		return
	}
	account := link.phone.actor.Identity.Pub[:]
	message := slices.Concat(whatsmeow.AdvDeviceSignaturePrefix, link.details, link.identity[:], account)
	if !ecc.VerifySignature(ecc.NewDjbECPublicKey(link.identity), message, [64]byte(signed.GetDeviceSignature())) {
		link.end(fmt.Errorf("%w link: the client's signature is wrong", ErrInvalid))
		return
	}
	signed.AccountSignatureKey = account
	full, err := proto.Marshal(&signed)
	if err != nil {
		link.end(err)
		return
	}
	s.linkedLocked(c, link, full)
	link.end(nil)
}

// linkedLocked makes the device of a link that the client signed, and lets the client log in.
func (s *Server) linkedLocked(c *conn, link *pairing, account []byte) {
	d := s.newDeviceLocked(link, c.reg, c.ses.clientStatic, account)
	s.refs = dropRefs(s.refs, c)
	s.ledger.update(c.rec, "paired", func(r *Connection) { r.Number, r.Device = d.phone.Number, d.id })
	c.finishLocked(endRestart, streamError(515))
}

func (s *Server) newDeviceLocked(link *pairing, reg *waWa6.ClientPayload_DevicePairingRegistrationData, noise [32]byte, account []byte) *device {
	d := &device{
		phone: link.phone, id: link.id, noise: noise, account: account, linkedAt: s.opts.Now(),
		platform: platformOf(reg), needsHistory: true, swallow: map[string]bool{},
		keys: bundle{
			registration: binary.BigEndian.Uint32(reg.GetERegid()), identity: link.identity,
			signed: publicKey{keyID(reg.GetESkeyID()), [32]byte(reg.GetESkeyVal())}, signature: [64]byte(reg.GetESkeySig()),
		},
	}
	link.phone.devices[d.id] = d
	s.devicesChangedLocked(d.phone)
	s.changedLocked()
	s.events.Publish("device", d.view())
	return d
}

func platformOf(reg *waWa6.ClientPayload_DevicePairingRegistrationData) string {
	var props waCompanionReg.DeviceProps
	if proto.Unmarshal(reg.GetDeviceProps(), &props) != nil {
		return ""
	}
	return props.GetOs()
}

// keyID reads the three bytes of a key's id.
func keyID(b []byte) uint32 {
	var id uint32
	for _, c := range b {
		id = id<<8 | uint32(c)
	}
	return id
}

func keyIDBytes(id uint32) []byte {
	return []byte{byte(id >> 16), byte(id >> 8), byte(id)} // #nosec G115 -- three bytes
}
