package whatsapp

import (
	"crypto/sha256"
	"fmt"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"google.golang.org/protobuf/proto"
)

// secretOf is the secret that a message brings.
func secretOf(id string) []byte {
	sum := sha256.Sum256([]byte("secret of " + id))
	return sum[:]
}

// sealLocked seals a person's edit with the secret of the message that it is about.
func (s *Server) sealLocked(p *phone, o *outgoing) error {
	key := unwrap(o.message).GetProtocolMessage().GetKey()
	if o.typ != TypeEdit || o.fromMe || !key.GetFromMe() {
		return fmt.Errorf("%w: only a person's edit of their own message can be sealed", ErrInvalid)
	}
	plain, err := proto.Marshal(o.message)
	if err != nil {
		return err
	}
	author, _ := s.names(o.from, s.modeIn(p, o))
	use := key.GetID() + author.String() + author.String() + string(whatsmeow.EncSecretMessageEdit)
	iv := random(12)
	sealed, err := gcmutil.Encrypt(hkdfutil.SHA256(secretOf(key.GetID()), nil, []byte(use), 32), iv, plain, nil)
	if err != nil {
		return err
	}
	o.message = &waE2E.Message{SecretEncryptedMessage: &waE2E.SecretEncryptedMessage{
		TargetMessageKey: key, EncPayload: sealed, EncIV: iv, SecretEncType: waE2E.SecretEncryptedMessage_MESSAGE_EDIT.Enum(),
	}}
	return nil
}
