// Package whatsapp simulates WhatsApp Web, with what is beyond the network: the server, the media host, the phones that
// devices are linked to, and the people who write to them. It knows nothing of the product that it is used to try and test.
// An unmodified go.mau.fi/whatsmeow client links itself, logs in and talks; its messages are encrypted end to end, and the
// people decrypt them.
//
//	sim, err := whatsapp.New(whatsapp.Options{Phones: []whatsapp.Phone{whatsapp.DemoPhone()}, People: whatsapp.DemoPeople()})
//	http.Serve(listener, sim.Handler()); defer sim.Close()
//
// The client must take Server.RootKeyHex for the root of the certificates (whatsmeow.WACertPubKey), and send what it means for
// https://any-host to the listener, with the Host header as it was. TLS is not spoken.
//
// # What is simulated
//
//   - The Noise handshake with its chain of certificates, stanzas in binary XML, one frame per WebSocket message.
//   - Linking by QR code, by an eight-character code, and with a passkey; several devices of a phone; unlinking from both sides.
//   - Messages of all types both ways, in chats by phone number (PN) or by LID and in groups, encrypted by Signal to each
//     device; receipts, retry receipts both ways, edits, reactions, revokes, typing, presence; what the phone writes itself.
//   - A queue per device: what it did not acknowledge is delivered again after the next login, in order, with the same
//     ciphertext, then <ib><offline/></ib>. One socket per device: another login replaces it.
//   - Messages of a client are shown to people once per id.
//   - The media host, and media retries; the history that a phone sends on linking; the app state with the push name;
//     who is on WhatsApp, avatars, groups' members.
//   - Faults of all of these, Fault, and a Ledger of everything, to compare with what the product believes: each inbound
//     message with its deliveries and how it was acknowledged, each message of a client with its repeats, each socket from
//     when to when, and where two sockets of a device met.
//
// What WhatsApp does and this does not: calls, channels (newsletters), communities, status, broadcast lists, business
// profiles, blocking, votes in polls, privacy tokens, people with several devices. What is asked for them is answered empty or with
// an error.
//
// # Control API
//
// Everything that the Go API does can be done over HTTP; GET /control/ lists the routes, and GET / is a page on which one acts
// as the people and the phone. JSON bodies have the shapes of Phone, Person, Group, Incoming, Fault, Entry and so on.
//
// # Who locks what
//
// Server.mu guards phones, people, groups, devices with their queues, and which socket belongs to whom. A stanza takes effect
// while it is held; reading, encrypting for the transport and writing happen outside. conn.mu guards what waits to be written; the ledger,
// the faults, the media host and the event streams have a mutex of their own. All of them are taken after Server.mu, and the
// streams' after the ledger's. A socket has two goroutines: the request's, which reads, and one that writes.
package whatsapp
