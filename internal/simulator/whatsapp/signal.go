package whatsapp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/groups"
	grouprecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	libsession "go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/util/optional"
	"go.mau.fi/whatsmeow/util/keys"
)

var serializer = serialize.NewProtoBufSerializer()

// actor is the Signal side of a phone's or a person's own device: its keys, and its sessions with other devices. It is a
// libsignal store. Records are kept as bytes, so that a failed decryption leaves them as they were. Guarded by Server.mu.
type actor struct {
	Identity     *keys.KeyPair
	Registration uint32
	Signed       *keys.PreKey
	PreKeys      map[uint32]*keys.KeyPair
	NextPreKey   uint32
	Sessions     map[string][]byte
	SenderKeys   map[string][]byte
	Knows        map[string]bool // "group device": who has this actor's sender key
}

func newActor() *actor {
	id := keys.NewKeyPair()
	return &actor{
		Identity: id, Registration: binary.BigEndian.Uint32(random(4)) & 0x3fff, Signed: id.CreateSignedPreKey(1),
		PreKeys: map[uint32]*keys.KeyPair{}, Sessions: map[string][]byte{}, SenderKeys: map[string][]byte{}, Knows: map[string]bool{},
	}
}

// newPreKey makes a one-time key for somebody who asks the server for keys.
func (a *actor) newPreKey() *keys.PreKey {
	a.NextPreKey = a.NextPreKey%0xfffffe + 1
	k := keys.NewPreKey(a.NextPreKey)
	a.PreKeys[k.KeyID] = &k.KeyPair
	return k
}

// bundle are the public keys that a device published.
type bundle struct {
	registration uint32
	identity     [32]byte
	signed       publicKey
	signature    [64]byte
	once         *publicKey
}

type publicKey struct {
	ID  uint32
	Pub [32]byte
}

// begin makes a session with a device from its published keys.
func (a *actor) begin(addr *protocol.SignalAddress, b bundle) error {
	once, id := ecc.ECPublicKeyable(nil), optional.NewEmptyUint32()
	if b.once != nil {
		once, id = ecc.NewDjbECPublicKey(b.once.Pub), optional.NewOptionalUint32(b.once.ID)
	}
	return libsession.NewBuilderFromSignal(a, addr, serializer).ProcessBundle(context.Background(), prekey.NewBundle(
		b.registration, addr.DeviceID(), id, b.signed.ID, once, ecc.NewDjbECPublicKey(b.signed.Pub), b.signature,
		identity.NewKey(ecc.NewDjbECPublicKey(b.identity)),
	))
}

// encrypt returns the type of enc and its content.
func (a *actor) encrypt(addr *protocol.SignalAddress, plaintext []byte) (kind string, content []byte, err error) {
	c := libsession.NewCipher(libsession.NewBuilderFromSignal(a, addr, serializer), addr)
	m, err := c.Encrypt(context.Background(), pad(plaintext))
	if err != nil {
		return "", nil, err
	}
	if m.Type() == protocol.PREKEY_TYPE {
		return "pkmsg", m.Serialize(), nil
	}
	return "msg", m.Serialize(), nil
}

// decrypt reads an enc of the types pkmsg and msg.
func (a *actor) decrypt(addr *protocol.SignalAddress, kind string, content []byte) ([]byte, error) {
	ctx := context.Background()
	c := libsession.NewCipher(libsession.NewBuilderFromSignal(a, addr, serializer), addr)
	var plaintext []byte
	switch kind {
	case "pkmsg":
		m, err := protocol.NewPreKeySignalMessageFromBytes(content, serializer.PreKeySignalMessage, serializer.SignalMessage)
		if err != nil {
			return nil, err
		}
		if plaintext, err = c.DecryptMessage(ctx, m); err != nil {
			return nil, err
		}
	case "msg":
		m, err := protocol.NewSignalMessageFromBytes(content, serializer.SignalMessage)
		if err != nil {
			return nil, err
		}
		if plaintext, err = c.Decrypt(ctx, m); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("enc of type %q", kind)
	}
	return unpad(plaintext)
}

// encryptGroup encrypts for a group and returns the key that members need, too.
func (a *actor) encryptGroup(name *protocol.SenderKeyName, plaintext []byte) (content, distribution []byte, err error) {
	ctx := context.Background()
	builder := groups.NewGroupSessionBuilder(a, serializer)
	skdm, err := builder.Create(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	m, err := groups.NewGroupCipher(builder, name, a).Encrypt(ctx, pad(plaintext))
	if err != nil {
		return nil, nil, err
	}
	return m.SignedSerialize(), skdm.Serialize(), nil
}

func (a *actor) learnGroup(name *protocol.SenderKeyName, distribution []byte) error {
	m, err := protocol.NewSenderKeyDistributionMessageFromBytes(distribution, serializer.SenderKeyDistributionMessage)
	if err != nil {
		return err
	}
	return groups.NewGroupSessionBuilder(a, serializer).Process(context.Background(), name, m)
}

func (a *actor) decryptGroup(name *protocol.SenderKeyName, content []byte) ([]byte, error) {
	m, err := protocol.NewSenderKeyMessageFromBytes(content, serializer.SenderKeyMessage)
	if err != nil {
		return nil, err
	}
	builder := groups.NewGroupSessionBuilder(a, serializer)
	plaintext, err := groups.NewGroupCipher(builder, name, a).Decrypt(context.Background(), m)
	if err != nil {
		return nil, err
	}
	return unpad(plaintext)
}

func pad(plaintext []byte) []byte {
	n := random(1)[0] & 15
	if n == 0 {
		n = 15
	}
	out := make([]byte, len(plaintext), len(plaintext)+int(n))
	copy(out, plaintext)
	for range n {
		out = append(out, n)
	}
	return out
}

func unpad(b []byte) ([]byte, error) {
	if len(b) == 0 || int(b[len(b)-1]) > len(b) {
		return nil, errors.New("the padding is wrong")
	}
	return b[:len(b)-int(b[len(b)-1])], nil
}

// What follows is the store that libsignal asks.

func (a *actor) GetIdentityKeyPair() *identity.KeyPair {
	return identity.NewKeyPair(identity.NewKey(ecc.NewDjbECPublicKey(*a.Identity.Pub)), ecc.NewDjbECPrivateKey(*a.Identity.Priv))
}

func (a *actor) GetLocalRegistrationID() uint32 { return a.Registration }

func (a *actor) SaveIdentity(context.Context, *protocol.SignalAddress, *identity.Key) error {
	return nil
}

func (a *actor) IsTrustedIdentity(context.Context, *protocol.SignalAddress, *identity.Key) (bool, error) {
	return true, nil
}

func (a *actor) LoadPreKey(_ context.Context, id uint32) (*record.PreKey, error) {
	k := a.PreKeys[id]
	if k == nil {
		return nil, nil
	}
	return record.NewPreKey(id, pair(k), nil), nil
}

func pair(k *keys.KeyPair) *ecc.ECKeyPair {
	return ecc.NewECKeyPair(ecc.NewDjbECPublicKey(*k.Pub), ecc.NewDjbECPrivateKey(*k.Priv))
}

func (a *actor) StorePreKey(context.Context, uint32, *record.PreKey) error {
	return errors.ErrUnsupported
}

func (a *actor) ContainsPreKey(_ context.Context, id uint32) (bool, error) {
	return a.PreKeys[id] != nil, nil
}

func (a *actor) RemovePreKey(_ context.Context, id uint32) error {
	delete(a.PreKeys, id)
	return nil
}

func (a *actor) LoadSession(_ context.Context, addr *protocol.SignalAddress) (*record.Session, error) {
	if b := a.Sessions[addr.String()]; b != nil {
		return record.NewSessionFromBytes(b, serializer.Session, serializer.State)
	}
	return record.NewSession(serializer.Session, serializer.State), nil
}

func (a *actor) GetSubDeviceSessions(context.Context, string) ([]uint32, error) {
	return nil, errors.ErrUnsupported
}

func (a *actor) StoreSession(_ context.Context, addr *protocol.SignalAddress, r *record.Session) error {
	a.Sessions[addr.String()] = r.Serialize()
	return nil
}

func (a *actor) ContainsSession(_ context.Context, addr *protocol.SignalAddress) (bool, error) {
	return a.Sessions[addr.String()] != nil, nil
}

func (a *actor) DeleteSession(_ context.Context, addr *protocol.SignalAddress) error {
	delete(a.Sessions, addr.String())
	return nil
}

func (a *actor) DeleteAllSessions(context.Context) error {
	clear(a.Sessions)
	return nil
}

func (a *actor) LoadSignedPreKey(_ context.Context, id uint32) (*record.SignedPreKey, error) {
	if id != a.Signed.KeyID {
		return nil, nil
	}
	return record.NewSignedPreKey(id, 0, pair(&a.Signed.KeyPair), *a.Signed.Signature, nil), nil
}

func (a *actor) LoadSignedPreKeys(context.Context) ([]*record.SignedPreKey, error) {
	return nil, errors.ErrUnsupported
}

func (a *actor) StoreSignedPreKey(context.Context, uint32, *record.SignedPreKey) error {
	return errors.ErrUnsupported
}

func (a *actor) ContainsSignedPreKey(_ context.Context, id uint32) (bool, error) {
	return id == a.Signed.KeyID, nil
}

func (a *actor) RemoveSignedPreKey(context.Context, uint32) error { return errors.ErrUnsupported }

func (a *actor) StoreSenderKey(_ context.Context, name *protocol.SenderKeyName, r *grouprecord.SenderKey) error {
	a.SenderKeys[name.GroupID()+" "+name.Sender().String()] = r.Serialize()
	return nil
}

func (a *actor) LoadSenderKey(_ context.Context, name *protocol.SenderKeyName) (*grouprecord.SenderKey, error) {
	if b := a.SenderKeys[name.GroupID()+" "+name.Sender().String()]; b != nil {
		return grouprecord.NewSenderKeyFromBytes(b, serializer.SenderKeyRecord, serializer.SenderKeyState)
	}
	return grouprecord.NewSenderKey(serializer.SenderKeyRecord, serializer.SenderKeyState), nil
}
