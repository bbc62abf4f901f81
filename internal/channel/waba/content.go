package waba

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"mime"
	"slices"
	"strings"

	"switchboard/internal/domain"
)

func (m *incoming) text() (*domain.InboundMessage, error) {
	var c struct {
		Body *string `json:"body"`
	}
	if err := decode(m.content, &c); err != nil {
		return nil, err
	}
	if c.Body == nil {
		return nil, errors.New("body is missing")
	}
	out := m.base(domain.TypeText)
	out.Content = clean(*c.Body)
	return out, nil
}

func (m *incoming) media() (*domain.InboundMessage, error) {
	var c struct {
		ID       loose  `json:"id"`
		MIMEType loose  `json:"mime_type"`
		SHA256   loose  `json:"sha256"`
		Caption  string `json:"caption"`
		Filename loose  `json:"filename"`
		Voice    bool   `json:"voice"`
	}
	if err := decode(m.content, &c); err != nil {
		return nil, err
	}
	ref, err := c.ID.key("id")
	if err != nil {
		return nil, err
	}
	kind := domain.MessageType(m.Type)
	if c.Voice && kind == domain.TypeAudio {
		kind = domain.TypeVoice
	}
	out := m.base(kind)
	out.Content = clean(c.Caption)
	out.Media = &domain.InboundMedia{
		Ref: ref, MIME: mimeOf(string(c.MIMEType)), SHA256: hexSum(string(c.SHA256)),
		Filename: cut(string(c.Filename), 255),
	}
	return out, nil
}

// mimeOf keeps a well-formed MIME type; anything else is bytes of no known kind.
func mimeOf(s string) string {
	if base, _, err := mime.ParseMediaType(s); err != nil || len(s) > 255 || !strings.Contains(base, "/") {
		return "application/octet-stream"
	}
	return s
}

func (m *incoming) location() (*domain.InboundMessage, error) {
	var c struct {
		Latitude  *float64 `json:"latitude"`
		Longitude *float64 `json:"longitude"`
		Name      string   `json:"name"`
		Address   string   `json:"address"`
	}
	if err := decode(m.content, &c); err != nil {
		return nil, err
	}
	if c.Latitude == nil || c.Longitude == nil || *c.Latitude < -90 || *c.Latitude > 90 ||
		*c.Longitude < -180 || *c.Longitude > 180 {
		return nil, errors.New("latitude and longitude are not degrees")
	}
	out := m.base(domain.TypeLocation)
	out.Location = &domain.Location{
		Latitude: *c.Latitude, Longitude: *c.Longitude,
		Name: cut(clean(c.Name), 1000), Address: cut(clean(c.Address), 1000),
	}
	return out, nil
}

// card is one of the contacts that a customer shares.
type card struct {
	Name struct {
		Formatted loose `json:"formatted_name"`
		First     loose `json:"first_name"`
		Last      loose `json:"last_name"`
	} `json:"name"`
	Org struct {
		Company loose `json:"company"`
	} `json:"org"`
	Phones []struct {
		Phone loose `json:"phone"`
		WaID  loose `json:"wa_id"`
	} `json:"phones"`
	Emails []struct {
		Email loose `json:"email"`
	} `json:"emails"`
}

// line is the card as "Name: number, number, address".
func (c card) line() string {
	name := string(c.Name.Formatted)
	if name == "" {
		name = strings.TrimSpace(string(c.Name.First) + " " + string(c.Name.Last))
	}
	if name == "" {
		name = string(c.Org.Company)
	}
	var reach []string
	for _, p := range c.Phones {
		switch {
		case p.Phone != "":
			reach = append(reach, string(p.Phone))
		case p.WaID != "":
			reach = append(reach, "+"+string(p.WaID))
		}
	}
	for _, e := range c.Emails {
		if e.Email != "" {
			reach = append(reach, string(e.Email))
		}
	}
	switch {
	case name == "" && len(reach) == 0:
		return "(a contact without name and number)"
	case name == "":
		return strings.Join(reach, ", ")
	case len(reach) == 0:
		return name
	}
	return name + ": " + strings.Join(reach, ", ")
}

func (m *incoming) cards() (*domain.InboundMessage, error) {
	var cards []card
	if err := decode(m.content, &cards); err != nil {
		return nil, err
	}
	if len(cards) == 0 {
		return nil, errors.New("the list is empty")
	}
	lines := make([]string, len(cards))
	for i, c := range cards {
		lines[i] = c.line()
	}
	out := m.base(domain.TypeContact)
	out.Content = strings.Join(lines, "\n")
	return out, nil
}

// button is a tapped quick reply of a template.
func (m *incoming) button() (*domain.InboundMessage, error) {
	var c struct {
		Text    loose `json:"text"`
		Payload loose `json:"payload"`
	}
	if err := decode(m.content, &c); err != nil {
		return nil, err
	}
	out := m.base(domain.TypeText)
	if out.Content = string(c.Text); out.Content == "" {
		out.Content = string(c.Payload)
	}
	return out, nil
}

// interactive is an answer to a message with buttons, a list or a form.
func (m *incoming) interactive() (*domain.InboundMessage, error) {
	type choice struct {
		Title       loose `json:"title"`
		Description loose `json:"description"`
	}
	var c struct {
		Type   loose   `json:"type"`
		Button *choice `json:"button_reply"`
		List   *choice `json:"list_reply"`
		Form   *struct {
			Body     loose  `json:"body"`
			Response string `json:"response_json"`
		} `json:"nfm_reply"`
		Call *struct {
			Response loose `json:"response"`
		} `json:"call_permission_reply"`
	}
	if err := decode(m.content, &c); err != nil {
		return nil, err
	}
	out := m.base(domain.TypeText)
	switch {
	case c.Button != nil:
		out.Content = string(c.Button.Title)
	case c.List != nil:
		out.Content = string(c.List.Title)
		if c.List.Description != "" {
			out.Content += "\n" + string(c.List.Description)
		}
	case c.Form != nil:
		out.Content = formText(string(c.Form.Body), c.Form.Response)
	case c.Call != nil:
		out.Content = "Permission to call: " + string(c.Call.Response)
	default:
		return m.unsupported("interactive " + string(c.Type)), nil
	}
	return out, nil
}

// formText shows the answers of a form, one to a line, in the order of their
// names, for Meta sends them as a JSON object inside a string.
func formText(body, response string) string {
	var answers map[string]json.RawMessage
	if json.Unmarshal([]byte(response), &answers) != nil {
		return strings.TrimSpace(body + "\n" + clean(response))
	}
	lines := []string{}
	if body != "" {
		lines = append(lines, body)
	}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if name == "flow_token" { // ours to recognise the form by, not an answer
			continue
		}
		lines = append(lines, clean(name)+": "+answerText(answers[name]))
	}
	return strings.Join(lines, "\n")
}

func answerText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return clean(s)
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return clean(strings.Join(list, ", "))
	}
	return clean(string(raw))
}

func (m *incoming) order() (*domain.InboundMessage, error) {
	var c struct {
		Text  loose `json:"text"`
		Items []struct {
			Product  loose `json:"product_retailer_id"`
			Quantity loose `json:"quantity"`
			Price    loose `json:"item_price"`
			Currency loose `json:"currency"`
		} `json:"product_items"`
	}
	if err := decode(m.content, &c); err != nil {
		return nil, err
	}
	lines := []string{"Order:"}
	sums := map[string]*big.Rat{}
	for _, item := range c.Items {
		lines = append(lines, fmt.Sprintf("%s × %s at %s %s", item.Quantity, item.Product, item.Price, item.Currency))
		addPrice(sums, string(item.Currency), string(item.Quantity), string(item.Price))
	}
	for _, currency := range slices.Sorted(maps.Keys(sums)) {
		lines = append(lines, "Total: "+sums[currency].FloatString(2)+" "+currency)
	}
	if c.Text != "" {
		lines = append(lines, string(c.Text))
	}
	out := m.base(domain.TypeText)
	out.Content = strings.Join(lines, "\n")
	return out, nil
}

// addPrice adds quantity × price. Numbers of more than 20 characters are left
// out: an exponent could make them as large as memory.
func addPrice(sums map[string]*big.Rat, currency, quantity, price string) {
	if len(quantity) > 20 || len(price) > 20 || strings.ContainsAny(quantity+price, "eE/_xXpP") {
		return
	}
	q, okQ := new(big.Rat).SetString(quantity)
	p, okP := new(big.Rat).SetString(price)
	if !okQ || !okP {
		return
	}
	if sums[currency] == nil {
		sums[currency] = new(big.Rat)
	}
	sums[currency].Add(sums[currency], q.Mul(q, p))
}

// system tells of a change of number or of security. It is part of the old
// number's chat; the new number becomes another name of the same person.
func (m *incoming) system() (*domain.InboundMessage, error) {
	var c struct {
		Body    loose `json:"body"`
		Type    loose `json:"type"`
		WaID    loose `json:"wa_id"`
		NewWaID loose `json:"new_wa_id"`
		UserID  loose `json:"user_id"`
	}
	if err := decode(m.content, &c); err != nil {
		return nil, err
	}
	out := m.base(domain.TypeSystem)
	out.Silent = true
	renumbered := c.WaID
	if renumbered == "" {
		renumbered = c.NewWaID
	}
	changed := c.Type == "user_changed_number" || c.Type == "customer_changed_number"
	if changed && len(renumbered) <= maxAddress {
		for _, id := range person(string(renumbered), string(c.UserID), "").Identities {
			if len(id.Value) <= maxAddress && !slices.Contains(out.Peer.Identities, id) {
				out.Peer.Identities = append(out.Peer.Identities, id)
			}
		}
	}
	switch {
	case c.Body != "":
		out.Content = string(c.Body)
	case changed:
		out.Content = "The customer changed the number to +" + string(renumbered) + "."
	case c.Type == "customer_identity_changed":
		out.Content = "The customer's security code changed: WhatsApp was installed anew or on another phone."
	default:
		out.Content = "WhatsApp reports: " + string(c.Type)
	}
	return out, nil
}

func (m *incoming) reaction() (*domain.InboundReaction, error) {
	var c struct {
		MessageID loose `json:"message_id"`
		Emoji     loose `json:"emoji"` // absent or empty: taken away
	}
	if err := decode(m.content, &c); err != nil {
		return nil, err
	}
	target, err := c.MessageID.key("message_id")
	if err != nil {
		return nil, err
	}
	if len(c.Emoji) > 64 { // the longest sequences have about 40 bytes
		return nil, errors.New("emoji is longer than 64 bytes")
	}
	return &domain.InboundReaction{
		Peer: m.peer, Sender: m.sender, TargetExternalID: target, Emoji: string(c.Emoji), ProviderTime: m.at,
	}, nil
}

// edit is a new text or caption. One of a kind that we do not know is shown as
// a message that says so.
func (m *incoming) edit() (domain.Inbound, error) {
	var c struct {
		Target  loose                      `json:"original_message_id"`
		Message map[string]json.RawMessage `json:"message"`
	}
	if err := decode(m.content, &c); err != nil {
		return domain.Inbound{}, err
	}
	target, err := c.Target.key("original_message_id")
	if err != nil {
		return domain.Inbound{}, err
	}
	var kind string
	var content struct {
		Body    *string `json:"body"`
		Caption *string `json:"caption"`
	}
	if json.Unmarshal(c.Message["type"], &kind) == nil {
		_ = json.Unmarshal(c.Message[kind], &content) // neither field set: not known
	}
	edited := &domain.InboundEdit{Peer: m.peer, TargetExternalID: target, ProviderTime: m.at}
	switch {
	case content.Body != nil:
		edited.Content = clean(*content.Body)
	case content.Caption != nil:
		edited.Content = clean(*content.Caption)
	default:
		return domain.Inbound{Message: m.unsupported("edit")}, nil
	}
	return domain.Inbound{Edit: edited}, nil
}

func (m *incoming) revoke() (domain.Inbound, error) {
	var c struct {
		Target loose `json:"original_message_id"`
	}
	if err := decode(m.content, &c); err != nil {
		return domain.Inbound{}, err
	}
	target, err := c.Target.key("original_message_id")
	if err != nil {
		return domain.Inbound{}, err
	}
	return domain.Inbound{Revoke: &domain.InboundRevoke{Peer: m.peer, TargetExternalID: target, ProviderTime: m.at}}, nil
}

// unsupportedKind is what Meta says that an unsupported message is.
func (m *incoming) unsupportedKind() string {
	var c struct {
		Type loose `json:"type"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(m.content), []byte("{")) && decode(m.content, &c) == nil {
		return string(c.Type)
	}
	return ""
}

// unsupported is a visible row for what we cannot show.
func (m *incoming) unsupported(kind string) *domain.InboundMessage {
	if kind = cut(kind, 40); kind == "" || kind == "unsupported" {
		kind = "unknown"
	}
	out := m.base(domain.TypeUnsupported)
	out.Content = "Unsupported message of type " + kind + "."
	if len(m.errors) > 0 {
		if why := m.errors[0].text(); why != "" {
			out.Content += " WhatsApp says: " + why + fmt.Sprintf(" (error %d).", m.errors[0].Code)
		}
	}
	out.Content += " Look at it on the phone or ask the customer to send it another way."
	return out
}
