package whatsapp

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// BenchmarkInbound measures what the simulator itself costs per message: encrypting for a device and queueing it.
func BenchmarkInbound(b *testing.B) {
	s, err := New(Options{RootKey: rootSeed, Phones: []Phone{{Number: shop}}, People: DemoPeople()})
	require.NoError(b, err)
	a := newActor()
	p := s.phones[shop]
	p.devices[1] = &device{phone: p, id: 1, keys: a.bundle(), swallow: map[string]bool{}, linkedAt: time.Now()}
	for b.Loop() {
		d, err := s.Send(shop, Incoming{From: marta, Text: "a message of an ordinary length, as people write them"})
		require.NoError(b, err)
		s.mu.Lock()
		s.forgetLocked(p.devices[1], classMessage, d.ID, "", "receipt")
		s.mu.Unlock()
	}
	require.NoError(b, s.WaitIdle(context.Background()))
}

// lightClient logs in as a device and acknowledges what it gets, without decrypting it: what is left is the simulator's work.
func lightClient(b *testing.B, base string, d *device, static *keys.KeyPair) {
	u, err := url.Parse(base)
	require.NoError(b, err)
	fs := socket.NewFrameSocket(waLog.Noop, &http.Client{Transport: rewrite{u}})
	require.NoError(b, fs.Connect(b.Context()))
	b.Cleanup(func() { fs.Close(1000) })
	eph, nh := keys.NewKeyPair(), socket.NewNoiseHandshake()
	nh.Start(socket.NoiseStartPattern, fs.Header)
	nh.Authenticate(eph.Pub[:])
	hello, err := proto.Marshal(&waWa6.HandshakeMessage{ClientHello: &waWa6.HandshakeMessage_ClientHello{Ephemeral: eph.Pub[:]}})
	require.NoError(b, err)
	require.NoError(b, fs.SendFrame(hello))
	var answer waWa6.HandshakeMessage
	require.NoError(b, proto.Unmarshal(<-fs.Frames, &answer))
	theirs := [32]byte(answer.GetServerHello().GetEphemeral())
	nh.Authenticate(theirs[:])
	require.NoError(b, nh.MixSharedSecretIntoKey(*eph.Priv, theirs))
	server, err := nh.Decrypt(answer.GetServerHello().GetStatic())
	require.NoError(b, err)
	require.NoError(b, nh.MixSharedSecretIntoKey(*eph.Priv, [32]byte(server)))
	_, err = nh.Decrypt(answer.GetServerHello().GetPayload())
	require.NoError(b, err)
	sealed := nh.Encrypt(static.Pub[:])
	require.NoError(b, nh.MixSharedSecretIntoKey(*static.Priv, theirs))
	number, err := strconv.ParseUint(d.phone.Number, 10, 64)
	require.NoError(b, err)
	payload, err := proto.Marshal(&waWa6.ClientPayload{Username: &number, Device: proto.Uint32(uint32(d.id))})
	require.NoError(b, err)
	finish, err := proto.Marshal(&waWa6.HandshakeMessage{ClientFinish: &waWa6.HandshakeMessage_ClientFinish{Static: sealed, Payload: nh.Encrypt(payload)}})
	require.NoError(b, err)
	require.NoError(b, fs.SendFrame(finish))
	var ns *socket.NoiseSocket
	ready := make(chan struct{})
	send := func(n waBinary.Node) {
		<-ready
		raw, _ := waBinary.Marshal(n)
		_ = ns.SendFrame(b.Context(), raw)
	}
	ns, err = nh.Finish(b.Context(), fs, func(_ context.Context, frame []byte) {
		raw, _ := waBinary.Unpack(frame)
		n, err := waBinary.Unmarshal(raw)
		switch {
		case err != nil:
		case n.Tag == "success":
			send(waBinary.Node{Tag: "iq", Attrs: waBinary.Attrs{"id": "1", "xmlns": "passive", "type": "set", "to": types.ServerJID}, Content: []waBinary.Node{{Tag: "active"}}})
		case n.Tag == "message":
			send(waBinary.Node{Tag: "receipt", Attrs: waBinary.Attrs{"id": n.Attrs["id"], "to": n.Attrs["from"]}})
		}
	}, func(context.Context, *socket.NoiseSocket, bool) {})
	require.NoError(b, err)
	close(ready)
}

// BenchmarkDevices measures messages to 200 devices that are logged in, from encrypting to the acknowledgement, with the
// clients' transport in the same process.
func BenchmarkDevices(b *testing.B) {
	const devices = 200
	s, err := New(Options{RootKey: rootSeed, People: DemoPeople()})
	require.NoError(b, err)
	srv := httptest.NewServer(s.Handler())
	b.Cleanup(func() { _ = s.Close(); srv.Close() })
	numbers := make([]string, devices)
	for i := range numbers {
		numbers[i] = strconv.Itoa(15550300000 + i)
		_, err := s.AddPhone(Phone{Number: numbers[i]})
		require.NoError(b, err)
		p, static := s.phones[numbers[i]], keys.NewKeyPair()
		d := &device{phone: p, id: 1, keys: newActor().bundle(), swallow: map[string]bool{}, linkedAt: time.Now(), noise: *static.Pub}
		p.devices[1] = d
		lightClient(b, srv.URL, d, static)
	}
	require.NoError(b, s.Ledger().Wait(b.Context(), func(*Ledger) bool {
		return !slices.ContainsFunc(s.Devices(""), func(d Device) bool { return !d.Active })
	}))
	i := 0
	for b.Loop() {
		_, err := s.Send(numbers[i%devices], Incoming{From: marta, Text: "a message of an ordinary length, as people write them"})
		require.NoError(b, err)
		i++
	}
	require.NoError(b, s.WaitIdle(b.Context()))
}
