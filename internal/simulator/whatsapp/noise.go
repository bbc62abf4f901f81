package whatsapp

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow/proto/waCert"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
	"google.golang.org/protobuf/proto"
)

// noiseIdentity is what the server shows in the Noise handshake: a static key, and the chain of certificates to the root.
type noiseIdentity struct {
	rootSeed   [32]byte
	rootPublic [32]byte
	static     *keys.KeyPair
	chain      []byte // waCert.CertChain
}

// newNoiseIdentity makes the identity of the root key with the seed, or else the saved one, or else a random one.
func newNoiseIdentity(seed, saved []byte, now time.Time) (*noiseIdentity, error) {
	if seed == nil {
		seed = saved
	}
	if seed == nil {
		seed = random(32)
	}
	if len(seed) != 32 {
		return nil, fmt.Errorf("%w RootKey: it has %d bytes and must have 32", ErrInvalid, len(seed))
	}
	n := &noiseIdentity{rootSeed: [32]byte(seed), static: keys.NewKeyPair()}
	root := keys.NewKeyPairFromPrivateKey(n.rootSeed)
	n.rootPublic = *root.Pub
	intermediate := keys.NewKeyPair()
	first, err := certificate(root, &waCert.CertChain_NoiseCertificate_Details{
		Serial: proto.Uint32(1), IssuerSerial: proto.Uint32(0), Key: intermediate.Pub[:],
		NotBefore: validFrom(now), NotAfter: validTo(now),
	})
	if err != nil {
		return nil, err
	}
	leaf, err := certificate(intermediate, &waCert.CertChain_NoiseCertificate_Details{
		Serial: proto.Uint32(2), IssuerSerial: proto.Uint32(1), Key: n.static.Pub[:],
		NotBefore: validFrom(now), NotAfter: validTo(now),
	})
	if err != nil {
		return nil, err
	}
	n.chain, err = proto.Marshal(&waCert.CertChain{Intermediate: first, Leaf: leaf})
	return n, err
}

// The client compares with its own clock, which a test's Options.Now may be far from.
func validFrom(now time.Time) *uint64 {
	return proto.Uint64(uint64(min(now.Unix(), time.Now().Unix()) - 86400)) // #nosec G115 -- after 1970
}

func validTo(now time.Time) *uint64 {
	return proto.Uint64(uint64(max(now.Unix(), time.Now().Unix()) + 10*365*86400)) // #nosec G115 -- after 1970
}

func certificate(issuer *keys.KeyPair, d *waCert.CertChain_NoiseCertificate_Details) (*waCert.CertChain_NoiseCertificate, error) {
	details, err := proto.Marshal(d)
	if err != nil {
		return nil, err
	}
	sig := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*issuer.Priv), details)
	return &waCert.CertChain_NoiseCertificate{Details: details, Signature: sig[:]}, nil
}

// session is the outcome of a handshake.
type session struct {
	clientStatic [32]byte
	payload      *waWa6.ClientPayload
	recv, send   cipher.AEAD
}

// xx is the responder's side of Noise XX. socket.NoiseHandshake.Finish is the initiator's, so the salt is tracked here.
type xx struct {
	nh   *socket.NoiseHandshake
	salt []byte
}

func (x *xx) mix(priv, pub *[32]byte) error {
	secret, err := curve25519.X25519(priv[:], pub[:])
	if err != nil {
		return err
	}
	next, err := hkdf.Key(sha256.New, secret, x.salt, "", 64)
	if err != nil {
		return err
	}
	x.salt = next[:32]
	return x.nh.MixIntoKey(secret)
}

var errHandshake = errors.New("the Noise handshake failed")

// handshake answers a client's hello and reads how it finishes.
func (n *noiseIdentity) handshake(read func() ([]byte, error), write func([]byte) error) (*session, error) {
	x := &xx{nh: socket.NewNoiseHandshake(), salt: []byte(socket.NoiseStartPattern)}
	x.nh.Start(socket.NoiseStartPattern, socket.WAConnHeader)
	hello, err := readHandshake(read)
	if err != nil {
		return nil, err
	}
	if len(hello.GetClientHello().GetEphemeral()) != 32 {
		return nil, fmt.Errorf("%w: no ephemeral key in the hello", errHandshake)
	}
	theirs := [32]byte(hello.GetClientHello().GetEphemeral())
	ours := keys.NewKeyPair()
	x.nh.Authenticate(theirs[:])
	x.nh.Authenticate(ours.Pub[:])
	if err := x.mix(ours.Priv, &theirs); err != nil {
		return nil, err
	}
	static := x.nh.Encrypt(n.static.Pub[:])
	if err := x.mix(n.static.Priv, &theirs); err != nil {
		return nil, err
	}
	answer, err := proto.Marshal(&waWa6.HandshakeMessage{ServerHello: &waWa6.HandshakeMessage_ServerHello{
		Ephemeral: ours.Pub[:], Static: static, Payload: x.nh.Encrypt(n.chain),
	}})
	if err != nil {
		return nil, err
	}
	if err := write(answer); err != nil {
		return nil, err
	}
	return x.finish(read, ours)
}

func readHandshake(read func() ([]byte, error)) (*waWa6.HandshakeMessage, error) {
	frame, err := read()
	if err != nil {
		return nil, err
	}
	var m waWa6.HandshakeMessage
	if err := proto.Unmarshal(frame, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return &m, nil
}

func (x *xx) finish(read func() ([]byte, error), ours *keys.KeyPair) (*session, error) {
	m, err := readHandshake(read)
	if err != nil {
		return nil, err
	}
	static, err := x.nh.Decrypt(m.GetClientFinish().GetStatic())
	if err != nil || len(static) != 32 {
		return nil, fmt.Errorf("%w: the client's static key is not readable", errHandshake)
	}
	out := &session{clientStatic: [32]byte(static), payload: &waWa6.ClientPayload{}}
	if err := x.mix(ours.Priv, &out.clientStatic); err != nil {
		return nil, err
	}
	payload, err := x.nh.Decrypt(m.GetClientFinish().GetPayload())
	if err != nil {
		return nil, fmt.Errorf("%w: the payload is not readable", errHandshake)
	}
	if err := proto.Unmarshal(payload, out.payload); err != nil {
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	final, err := hkdf.Key(sha256.New, nil, x.salt, "", 64)
	if err != nil {
		return nil, err
	}
	if out.recv, err = gcmutil.Prepare(final[:32]); err != nil {
		return nil, err
	}
	out.send, err = gcmutil.Prepare(final[32:])
	return out, err
}

// nonce is that of the transport's frame number n.
func nonce(n uint32) []byte {
	iv := make([]byte, 12)
	binary.BigEndian.PutUint32(iv[8:], n)
	return iv
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(rand.Reader, b) // never fails
	return b
}
