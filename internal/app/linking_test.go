package app_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

var printedPhones = regexp.MustCompile(`Be a customer +(http://\S+)/ +\(WhatsApp by QR simulator\)`)

// What an admin does with a number of their own, in a browser: link it by code,
// log it out, link it again by QR, and talk to a customer.
func TestAPhoneIsLinkedOnTheDashboard(t *testing.T) {
	demo := standalone(t, filepath.Join(t.TempDir(), "data"))
	ada := demo.admin()
	channel := demo.channels()["WhatsApp by QR (simulated)"]
	phones := &person{t: t, base: printedPhones.FindStringSubmatch(demo.out.String())[1]}
	const phone, marta = "/control/phones/15550200001", "15550100101"
	page := testkit.Browse(t, demo.URL+"/#refresh="+printedToken.FindStringSubmatch(demo.out.String())[1])
	const drawn = `document.querySelector(".qr img")?.naturalWidth > 100`

	page.Press("Channels")
	page.Press("Connect and link")
	page.Until("a QR code", drawn)
	page.Shows("The code changes in")
	page.Press("Link with phone number")
	page.Fill("[name=phone]", "+1 555 020 0001")
	page.Press("Get a code")
	code := page.Until("a pairing code", `document.querySelector(".pair-code output")?.innerText`)
	require.Regexp(t, "^[0-9A-Z]{4}-[0-9A-Z]{4}$", code)
	phones.must(http.MethodPost, phone+"/code", map[string]any{"code": code})
	page.Shows("The phone is linked.")
	page.Press("Done")

	page.Press("Log out")
	page.Shows("The phone forgets this installation.")
	page.Press("Log out")
	page.Shows("The link was ended.")
	page.Press("Connect and link")
	page.Until("a QR code", drawn)
	shown := ada.must(http.MethodGet, fmt.Sprintf("/api/channels/%d/qr", channel), nil)
	phones.must(http.MethodPost, phone+"/scan", map[string]any{"qr": shown["qr"]})
	page.Shows("The phone is linked.")
	page.Press("Done")

	page.Press("Inbox")
	phones.must(http.MethodPost, phone+"/messages", map[string]any{"from": marta, "text": "Do you deliver on Saturdays?"})
	page.Until("the chat", `(() => {
		const row = [...document.querySelectorAll("a.chat-row")].find((e) => e.innerText.includes("Do you deliver on Saturdays?"));
		row?.click();
		return !!row;
	})()`)
	page.Fill(".composer textarea", "Yes, until noon.")
	page.Press("Send")
	page.Until("the delivery", `document.querySelector(".line-out [aria-label=Delivered]")`)
	phones.must(http.MethodPost, phone+"/chats/"+marta+"/read", map[string]any{})
	page.Until("the customer's receipt", `document.querySelector(".line-out [aria-label=Read]")`)
	phones.must(http.MethodPost, phone+"/chats/"+marta+"/typing", map[string]any{"on": true})
	page.Shows("types…")
	page.Until("the customer's picture", `document.querySelector(".conversation-head .avatar img")?.naturalWidth > 1`)
}
