package cloudapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// Who wrote a message.
const (
	FromCustomer = "customer"
	FromBusiness = "business"
)

// Statuses of a business's message.
const (
	StatusSent      = "sent"
	StatusDelivered = "delivered"
	StatusRead      = "read"
	StatusFailed    = "failed"
)

var allStatuses = []string{StatusSent, StatusDelivered, StatusRead, StatusFailed}

const (
	messagesKept = 500 // of a conversation; older ones are forgotten
	windowLength = 24 * time.Hour
	typingLength = 25 * time.Second // how long a typing indicator shows, as Meta's
)

// Customer is a person with WhatsApp. Without registration one appears with the first message to or from the number.
type Customer struct {
	WaID string `json:"waId"` // phone number, digits only
	Name string `json:"name"`
	// Unreachable makes sends to the customer fail with 131026.
	Unreachable bool `json:"unreachable"`
}

// Message is a message as the customer's phone shows it.
type Message struct {
	ID            string          `json:"id"`
	PhoneNumberID string          `json:"phoneNumberId"`
	WaID          string          `json:"waId"` // of the customer
	From          string          `json:"from"` // FromCustomer or FromBusiness
	Type          string          `json:"type"`
	Text          string          `json:"text,omitempty"` // body, caption or a description
	Media         *MediaView      `json:"media,omitempty"`
	Location      *Location       `json:"location,omitempty"`
	Buttons       []ButtonView    `json:"buttons,omitempty"`
	ReplyTo       string          `json:"replyTo,omitempty"`
	Reactions     []Reacted       `json:"reactions,omitempty"`
	Status        string          `json:"status,omitempty"` // business: accepted, sent, …; customer: "" or read
	ErrorCode     int             `json:"errorCode,omitempty"`
	CallbackData  string          `json:"callbackData,omitempty"`
	Content       json.RawMessage `json:"content,omitempty"` // the value under the type, as on the wire
	At            time.Time       `json:"at"`

	conversationID string
	answer         bool // within the window when it was sent: priced as service
}

// MediaView is the media of a Message.
type MediaView struct {
	ID       string `json:"id,omitempty"` // GET /control/media/{id}
	Link     string `json:"link,omitempty"`
	MIMEType string `json:"mimeType,omitempty"`
	Filename string `json:"filename,omitempty"`
	Voice    bool   `json:"voice,omitempty"`
}

// ButtonView is something that the customer can choose: Reply is what to send for it.
type ButtonView struct {
	Title string   `json:"title"`
	Reply Incoming `json:"reply"`
}

// Reacted is a reaction on a Message.
type Reacted struct {
	From  string `json:"from"`
	Emoji string `json:"emoji"`
}

// Location is a place.
type Location struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Name      string  `json:"name,omitempty"`
	Address   string  `json:"address,omitempty"`
	URL       string  `json:"url,omitempty"`
}

// Conversation is what one customer and one number said.
type Conversation struct {
	PhoneNumberID string    `json:"phoneNumberId"`
	Customer      Customer  `json:"customer"`
	WindowOpen    bool      `json:"windowOpen"` // the customer wrote within 24 hours
	TypingUntil   time.Time `json:"typingUntil,omitzero"`
	Messages      []Message `json:"messages"` // oldest first
}

type convKey struct{ number, customer string }

type conversation struct {
	messages    []*Message
	lastIn      time.Time // of the customer's last message
	typingUntil time.Time
	pace        *rate.Limiter // of what the number sends to the customer; nil before the first message
}

// conv needs s.mu.
func (s *Server) conv(number, waID string) *conversation {
	key := convKey{number, waID}
	c := s.convs[key]
	if c == nil {
		c = &conversation{}
		s.convs[key] = c
	}
	return c
}

// customer needs s.mu.
func (s *Server) customer(waID string) *Customer {
	c := s.customers[waID]
	if c == nil {
		c = &Customer{WaID: waID, Name: "+" + waID}
		s.customers[waID] = c
		s.people = append(s.people, waID)
		s.events.Publish("customer", *c)
	}
	return c
}

// keep adds a message to its conversation and forgets the oldest; it needs s.mu.
func (s *Server) keep(m *Message) {
	c := s.conv(m.PhoneNumberID, m.WaID)
	c.messages = append(c.messages, m)
	if len(c.messages) > messagesKept {
		delete(s.byID, c.messages[0].ID)
		c.messages = slices.Delete(c.messages, 0, 1)
	}
	s.byID[m.ID] = m
	s.show(m)
}

// show publishes a message for the page; it needs s.mu.
func (s *Server) show(m *Message) { s.events.Publish("message", m.copy()) }

func (m *Message) copy() Message {
	c := *m
	c.Reactions = slices.Clone(m.Reactions)
	return c
}

// react sets or (no emoji) removes a reaction; it needs s.mu.
func (s *Server) react(m *Message, from, emoji string) {
	m.Reactions = slices.DeleteFunc(m.Reactions, func(r Reacted) bool { return r.From == from })
	if emoji != "" {
		m.Reactions = append(m.Reactions, Reacted{from, emoji})
	}
	s.show(m)
}

// AddCustomer adds a customer or changes one's name and reachability.
func (s *Server) AddCustomer(c Customer) error {
	c.WaID = digits(c.WaID)
	if err := checkWaID(c.WaID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Name == "" {
		c.Name = "+" + c.WaID
	}
	*s.customer(c.WaID) = c
	s.events.Publish("customer", c)
	return nil
}

func checkWaID(waID string) error {
	if len(waID) < 5 || len(waID) > 15 || !isDigits(waID) {
		return fmt.Errorf("%w customer %q: a phone number has 5 to 15 digits", ErrInvalid, waID)
	}
	return nil
}

// Customers lists the customers in the order in which they appeared.
func (s *Server) Customers() []Customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Customer, 0, len(s.people))
	for _, id := range s.people {
		out = append(out, *s.customers[id])
	}
	return out
}

// Conversation returns the newest messages (at most 500) between a customer and a number; none is no error.
func (s *Server) Conversation(phoneNumberID, waID string) (Conversation, error) {
	waID = digits(waID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.numbers[phoneNumberID] == nil {
		return Conversation{}, fmt.Errorf("number %s: %w", phoneNumberID, ErrNotFound)
	}
	out := Conversation{PhoneNumberID: phoneNumberID, Customer: Customer{WaID: waID}, Messages: []Message{}}
	if c := s.customers[waID]; c != nil {
		out.Customer = *c
	}
	out.WindowOpen = s.windowOpen(phoneNumberID, waID)
	if c := s.convs[convKey{phoneNumberID, waID}]; c != nil {
		out.TypingUntil = c.typingUntil
		for _, m := range c.messages {
			out.Messages = append(out.Messages, m.copy())
		}
	}
	return out, nil
}

// windowOpen says whether the customer wrote within 24 hours; it needs s.mu.
func (s *Server) windowOpen(number, waID string) bool {
	c := s.convs[convKey{number, waID}]
	return c != nil && !c.lastIn.IsZero() && s.opts.Now().Sub(c.lastIn) < windowLength
}

// SetWindow opens the 24-hour window as if the customer had just written, or closes it.
func (s *Server) SetWindow(phoneNumberID, waID string, open bool) error {
	waID = digits(waID)
	if err := checkWaID(waID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.numbers[phoneNumberID] == nil {
		return fmt.Errorf("number %s: %w", phoneNumberID, ErrNotFound)
	}
	s.customer(waID)
	c := s.conv(phoneNumberID, waID)
	c.lastIn = time.Time{}
	if open {
		c.lastIn = s.opts.Now()
	}
	return nil
}

// SetStatus reports a status of a business's message to its webhook, in whatever order it is asked for; code is the
// error of StatusFailed (0 means 131026).
func (s *Server) SetStatus(wamid, status string, code int) error {
	if !slices.Contains(allStatuses, status) {
		return fmt.Errorf("%w status %q: use sent, delivered, read or failed", ErrInvalid, status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[wamid]
	if m == nil || m.From != FromBusiness {
		return fmt.Errorf("message %s of a business: %w", wamid, ErrNotFound)
	}
	return s.status(m, status, code)
}

// status needs s.mu.
func (s *Server) status(m *Message, status string, code int) error {
	n := s.numbers[m.PhoneNumberID]
	st := webhookStatus{
		ID: m.ID, Status: status, Timestamp: unixString(s.opts.Now()), RecipientID: m.WaID, CallbackData: m.CallbackData,
	}
	kind, price := "service", "free_customer_service"
	if !m.answer {
		kind, price = "utility", "regular"
	}
	if status == StatusSent || status == StatusDelivered {
		st.Conversation = &webhookConversation{ID: m.conversationID}
		st.Conversation.Origin.Type = kind
		st.Pricing = &webhookPricing{Billable: !m.answer, PricingModel: "PMP", Category: kind, Type: price}
		if status == StatusSent {
			st.Conversation.ExpirationTimestamp = unixString(m.At.Add(windowLength))
		}
	}
	if status == StatusFailed {
		code = orDefault(code, 131026)
		st.Errors = []statusError{failure(code, "")}
		m.ErrorCode = code
	}
	if slices.Index(allStatuses, status) > slices.Index(allStatuses, m.Status) {
		m.Status = status
		s.show(m)
	}
	return s.tell(n, unit{value: value{
		MessagingProduct: "whatsapp", Metadata: n.metadata(), Statuses: []webhookStatus{st},
	}})
}

func (n *number) metadata() metadata {
	return metadata{DisplayPhoneNumber: digits(n.DisplayPhoneNumber), PhoneNumberID: n.PhoneNumberID}
}
