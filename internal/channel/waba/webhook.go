package waba

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"switchboard/internal/domain"
)

// MaxWebhookBytes is the largest body to read from Meta, whose own limit is
// 3 MB.
const MaxWebhookBytes = 4 << 20

// SignatureHeader is where Meta puts the signature of a webhook.
const SignatureHeader = "X-Hub-Signature-256"

// VerifySignature reports whether header is Meta's signature of exactly these
// bytes: "sha256=" and 64 lower-case hex digits. It takes the same time
// wherever the two differ. An empty secret verifies nothing.
func VerifySignature(appSecret, header string, rawBody []byte) bool {
	if appSecret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write(rawBody)
	return hmac.Equal([]byte("sha256="+hex.EncodeToString(mac.Sum(nil))), []byte(header))
}

// Challenge answers Meta's verification of a webhook's address (GET with
// hub.mode, hub.verify_token and hub.challenge). ok is false if the request is
// none or names another token.
func Challenge(query url.Values, verifyToken string) (challenge string, ok bool) {
	if verifyToken == "" || query.Get("hub.mode") != "subscribe" || query.Get("hub.challenge") == "" {
		return "", false
	}
	if subtle.ConstantTimeCompare([]byte(query.Get("hub.verify_token")), []byte(verifyToken)) != 1 {
		return "", false
	}
	return query.Get("hub.challenge"), true
}

// maxItems bounds a Delivery; a batch of Meta's has at most 1,000 updates.
const maxItems = 10_000

// Delivery is what one webhook told, in its order.
type Delivery struct {
	Items []Item
	// Skipped is what was understood and is of no concern to us.
	Skipped []Skipped
}

// Item is one message or status of a Delivery.
type Item struct {
	// PhoneNumberID names the channel. It is empty where it cannot be told,
	// which happens to poison only.
	PhoneNumberID string
	// Inbound is empty if Poison is set.
	Inbound domain.Inbound
	// Poison says why the item cannot be understood, without its content.
	Poison error
	// Raw is the item as it came. It may hold NUL escapes and invalid UTF-8:
	// store it as bytes.
	Raw json.RawMessage
}

// Skipped names something that is left out on purpose, for the log: the field
// of a change ("account_update"), or "messages.…" for a part of one.
type Skipped struct {
	PhoneNumberID string
	What          string
}

// Of gives the items of one number: the only ones that the app secret of its
// channel speaks for.
func (d Delivery) Of(phoneNumberID string) []Item {
	var items []Item
	for _, item := range d.Items {
		if item.PhoneNumberID == phoneNumberID && phoneNumberID != "" {
			items = append(items, item)
		}
	}
	return items
}

// Parse reads a webhook: every message and status of every change of every
// entry, each by itself, so that one that is malformed becomes poison and
// takes nothing else down. The error is for a body that is no webhook at all.
func Parse(raw []byte) (Delivery, error) {
	var body struct {
		Object loose           `json:"object"`
		Entry  json.RawMessage `json:"entry"`
	}
	if err := decode(raw, &body); err != nil {
		return Delivery{}, fmt.Errorf("webhook: %w", err)
	}
	var d Delivery
	if body.Object != "" && body.Object != "whatsapp_business_account" {
		d.skip("", "object."+string(body.Object))
		return d, nil
	}
	entries, err := elements(body.Entry)
	if err != nil {
		return Delivery{}, fmt.Errorf("webhook: entry: %w", err)
	}
	for _, entry := range entries {
		d.entry(entry)
		if len(d.Items)+len(d.Skipped) > maxItems {
			return Delivery{}, fmt.Errorf("webhook: more than %d items", maxItems)
		}
	}
	return d, nil
}

func (d *Delivery) poison(number string, err error, raw json.RawMessage) {
	d.Items = append(d.Items, Item{PhoneNumberID: number, Poison: err, Raw: raw})
}

func (d *Delivery) skip(number, what string) {
	d.Skipped = append(d.Skipped, Skipped{PhoneNumberID: number, What: cut(what, 100)})
}

func (d *Delivery) entry(raw json.RawMessage) {
	var entry struct {
		Changes json.RawMessage `json:"changes"`
	}
	if err := decode(raw, &entry); err != nil {
		d.poison("", fmt.Errorf("entry: %w", err), raw)
		return
	}
	changes, err := elements(entry.Changes)
	if err != nil {
		d.poison("", fmt.Errorf("entry: changes: %w", err), raw)
		return
	}
	for _, change := range changes {
		d.change(change)
	}
}

type changeValue struct {
	Metadata struct {
		PhoneNumberID loose `json:"phone_number_id"`
	} `json:"metadata"`
	Contacts json.RawMessage `json:"contacts"`
	Messages json.RawMessage `json:"messages"`
	Statuses json.RawMessage `json:"statuses"`
	Errors   json.RawMessage `json:"errors"`
}

func (d *Delivery) change(raw json.RawMessage) {
	var change struct {
		Field loose           `json:"field"`
		Value json.RawMessage `json:"value"`
	}
	if err := decode(raw, &change); err != nil {
		d.poison("", fmt.Errorf("change: %w", err), raw)
		return
	}
	var value changeValue
	err := decode(change.Value, &value)
	number := string(value.Metadata.PhoneNumberID)
	switch {
	case change.Field == "":
		d.poison("", errors.New("change: field is missing"), raw)
	case change.Field != "messages":
		d.skip(number, string(change.Field))
	case err != nil:
		d.poison("", fmt.Errorf("change: value: %w", err), raw)
	case number == "":
		d.poison("", errors.New("change: metadata.phone_number_id is missing"), raw)
	default:
		d.value(number, value, raw)
	}
}

func (d *Delivery) value(number string, value changeValue, raw json.RawMessage) {
	known := readContacts(value.Contacts)
	messages, err := elements(value.Messages)
	if err != nil {
		d.poison(number, fmt.Errorf("change: messages: %w", err), raw)
	}
	for _, message := range messages {
		inbound, err := convertMessage(message, known)
		if err != nil {
			d.poison(number, fmt.Errorf("message: %w", err), message)
			continue
		}
		d.Items = append(d.Items, Item{PhoneNumberID: number, Inbound: inbound, Raw: message})
	}
	statuses, err := elements(value.Statuses)
	if err != nil {
		d.poison(number, fmt.Errorf("change: statuses: %w", err), raw)
	}
	for _, status := range statuses {
		inbound, skipped, err := convertStatus(status)
		switch {
		case err != nil:
			d.poison(number, fmt.Errorf("status: %w", err), status)
		case skipped != "":
			d.skip(number, "messages.statuses."+skipped)
		default:
			d.Items = append(d.Items, Item{PhoneNumberID: number, Inbound: inbound, Raw: status})
		}
	}
	for _, e := range metaErrors(value.Errors) { // of the account, about no message
		d.skip(number, fmt.Sprintf("messages.errors.%d", e.Code))
	}
}
