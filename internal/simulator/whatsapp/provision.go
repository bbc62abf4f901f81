package whatsapp

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/store"
	"google.golang.org/protobuf/proto"
)

// provisionedKeys are the one-time keys of a device that Provision linked. A client that links itself makes 812.
const provisionedKeys = 50

// Provision links a client's new device without the network, and saves it in its store, for tests and measurements that
// need many devices at once. Do it before whatsmeow.NewClient, which looks whether the device is linked. The device has 50 one-time keys, which the server knows; logging in is all that is left to do.
func (s *Server) Provision(ctx context.Context, number string, d *store.Device) error {
	if d.ID != nil {
		return fmt.Errorf("%w device: it is linked already", ErrInvalid)
	}
	link, account, err := s.provisionLink(number, d)
	if err != nil {
		return err
	}
	jid, lid := pnJID(number), lidJID(link.phone.LID)
	jid.Device, lid.Device = link.id, link.id
	d.ID, d.LID, d.Account, d.Platform = &jid, lid, account, "android"
	if err := d.Save(ctx); err != nil {
		return fmt.Errorf("save the device: %w", err)
	}
	if err := d.LIDs.PutLIDMapping(ctx, lid.ToNonAD(), jid.ToNonAD()); err != nil {
		return err
	}
	address := lid.ToNonAD().SignalAddress().String()
	if err := d.Identities.PutIdentity(ctx, address, *link.phone.actor.Identity.Pub); err != nil {
		return err
	}
	preKeys, err := d.PreKeys.GetOrGenPreKeys(ctx, provisionedKeys)
	if err != nil {
		return err
	}
	if err := d.PreKeys.MarkPreKeysAsUploaded(ctx, preKeys[len(preKeys)-1].KeyID); err != nil {
		return err
	}
	public := make([]publicKey, 0, len(preKeys))
	for _, k := range preKeys {
		public = append(public, publicKey{k.KeyID, *k.Pub})
	}
	return s.provisioned(link, d, public)
}

// provisionLink is what pair-success and its answer do on the wire.
func (s *Server) provisionLink(number string, d *store.Device) (*pairing, *waAdv.ADVSignedDeviceIdentity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return nil, nil, err
	}
	link, err := s.newLink(p, *d.IdentityKey.Pub)
	if err != nil {
		return nil, nil, err
	}
	signed := &waAdv.ADVSignedDeviceIdentity{
		Details: link.details, AccountSignatureKey: p.actor.Identity.Pub[:], AccountSignature: p.sign(link),
	}
	message := slices.Concat(whatsmeow.AdvDeviceSignaturePrefix, link.details, link.identity[:], p.actor.Identity.Pub[:])
	sig := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*d.IdentityKey.Priv), message)
	signed.DeviceSignature = sig[:]
	return link, signed, nil
}

func (s *Server) provisioned(link *pairing, d *store.Device, keys []publicKey) error {
	account, err := proto.Marshal(d.Account)
	if err != nil {
		return err
	}
	props, err := proto.Marshal(&waCompanionReg.DeviceProps{Os: proto.String("provisioned")})
	if err != nil {
		return err
	}
	reg := &waWa6.ClientPayload_DevicePairingRegistrationData{
		ERegid: binary.BigEndian.AppendUint32(nil, d.RegistrationID), ESkeyID: keyIDBytes(d.SignedPreKey.KeyID),
		ESkeyVal: d.SignedPreKey.Pub[:], ESkeySig: d.SignedPreKey.Signature[:], DeviceProps: props,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.newDeviceLocked(link, reg, *d.NoiseKey.Pub, account)
	have.preKeys = keys
	return nil
}
