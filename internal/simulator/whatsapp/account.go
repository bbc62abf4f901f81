package whatsapp

import "time"

// Addressing modes: by which of their two names people appear to a phone's devices.
const (
	AddressingPN  = "pn"  // 15550100001@s.whatsapp.net, with sender_lid
	AddressingLID = "lid" // 102030405060708@lid, with sender_pn unless the person hides the number
)

// Phone is an account with a phone: it scans QR codes, and the product's clients are its linked devices.
type Phone struct {
	Number string `json:"number"` // digits, international
	Name   string `json:"name"`   // push name
	LID    string `json:"lid"`    // digits; default derived from the number
	// AddressingMode of chats with people: "pn" (default) or "lid". Groups have their own.
	AddressingMode string `json:"addressingMode"`
	// ReachOutLimited makes messages to people without a chat fail with ack error 463, and nobody gets them.
	ReachOutLimited bool `json:"reachOutLimited"`
	// PasskeyRequired makes linking ask for a passkey first, as many accounts do since 2026.
	PasskeyRequired bool `json:"passkeyRequired"`
}

// Person is somebody who writes to phones, with one device of their own.
type Person struct {
	Number string `json:"number"` // digits, international
	Name   string `json:"name"`   // push name
	LID    string `json:"lid"`    // digits; default derived from the number
	// HideNumber: phones' devices learn the LID only.
	HideNumber    bool `json:"hideNumber"`
	NotOnWhatsApp bool `json:"notOnWhatsApp"`
	HasAvatar     bool `json:"hasAvatar"`
}

// Group is a chat of several people and phones.
type Group struct {
	ID             string   `json:"id"` // digits, without @g.us; default made up
	Subject        string   `json:"subject"`
	Members        []string `json:"members"`        // numbers of people and phones
	AddressingMode string   `json:"addressingMode"` // "lid" (default) or "pn"
}

// Device is a linked companion device of a phone.
type Device struct {
	Number   string    `json:"number"`
	ID       uint16    `json:"id"`  // 1, 2, …; the phone itself is 0
	JID      string    `json:"jid"` // 15550100001:1@s.whatsapp.net
	LinkedAt time.Time `json:"linkedAt"`
	Platform string    `json:"platform"`
	// Online: a socket is logged in. Active: it asked for messages. Available: it sent presence available.
	Online     bool   `json:"online"`
	Active     bool   `json:"active"`
	Available  bool   `json:"available"`
	LoggedOut  bool   `json:"loggedOut"`            // a fault told its client that it is: it does not come back
	Connection uint64 `json:"connection,omitempty"` // Connection.Seq while it is online
	Pending    int    `json:"pending"`              // messages that are not acknowledged
	PreKeys    int    `json:"preKeys"`              // one-time keys that are left
}

// DemoRootKey is the seed of the demo's root key. It is public, as all credentials of a simulator are, and never changes, so
// that a product can be configured before the simulator starts.
func DemoRootKey() []byte { return []byte("Switchboard's WhatsApp simulator") }

// DemoPhone is the phone of the demo.
func DemoPhone() Phone { return Phone{Number: "15550200001", Name: "Demo shop"} }

// DemoPeople are people of the demo. The last one shows her LID only.
func DemoPeople() []Person {
	return []Person{
		{Number: "15550100101", Name: "Marta Lind", HasAvatar: true},
		{Number: "15550100102", Name: "Tomás Ruiz"},
		{Number: "15550100103", Name: "Aiko", HideNumber: true},
		{Number: "15550100109", Name: "Not there", NotOnWhatsApp: true},
	}
}

// DemoGroups are groups of the demo.
func DemoGroups() []Group {
	return []Group{{
		ID: "120363000000000101", Subject: "Saturday market",
		Members: []string{DemoPhone().Number, "15550100101", "15550100102"},
	}}
}
