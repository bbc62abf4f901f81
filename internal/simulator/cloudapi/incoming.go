package cloudapi

import (
	"encoding/json"
	"fmt"
	"time"

	"switchboard/internal/simulator/console"
)

// Incoming is what a customer sends. Type chooses which other field is needed.
type Incoming struct {
	// Type: text, image, video, audio, document, sticker, location, contacts, reaction, button, interactive, order, system,
	// unsupported; any other type is sent with Content under it, as a future type of Meta's would be.
	Type string `json:"type"`

	Text        string          `json:"text,omitempty"`
	Media       *IncomingMedia  `json:"media,omitempty"`
	Location    *Location       `json:"location,omitempty"`
	Contacts    json.RawMessage `json:"contacts,omitempty"` // Meta's array
	Reaction    *IncomingReact  `json:"reaction,omitempty"`
	Button      *ButtonTap      `json:"button,omitempty"`      // of a template
	ButtonReply *Choice         `json:"buttonReply,omitempty"` // of interactive
	ListReply   *Choice         `json:"listReply,omitempty"`   // of interactive
	Order       *Order          `json:"order,omitempty"`
	NewWaID     string          `json:"newWaId,omitempty"`         // system: the customer changed to this number
	Unsupported string          `json:"unsupportedType,omitempty"` // unsupported: what it was; default "unknown"
	Content     json.RawMessage `json:"content,omitempty"`         // any other type

	ReplyTo             string    `json:"replyTo,omitempty"` // a message id
	Forwarded           bool      `json:"forwarded,omitempty"`
	FrequentlyForwarded bool      `json:"frequentlyForwarded,omitempty"`
	Referral            *Referral `json:"referral,omitempty"`

	ID string    `json:"id,omitempty"` // the wamid to use; default a new one
	At time.Time `json:"at,omitzero"`  // when the customer sent it; default now
}

// IncomingMedia is a file that the customer sends: ID of an upload, or Data.
type IncomingMedia struct {
	ID       string `json:"id,omitempty"`
	Data     []byte `json:"data,omitempty"` // base64 in JSON
	MIMEType string `json:"mimeType,omitempty"`
	Caption  string `json:"caption,omitempty"`
	Filename string `json:"filename,omitempty"`
	Voice    bool   `json:"voice,omitempty"`
	Animated bool   `json:"animated,omitempty"`
}

// IncomingReact is a reaction; an empty Emoji removes it.
type IncomingReact struct {
	MessageID string `json:"messageId"`
	Emoji     string `json:"emoji"`
}

// ButtonTap is a tapped quick reply of a template.
type ButtonTap struct {
	Text    string `json:"text"`
	Payload string `json:"payload"`
}

// Choice is a chosen button or row of an interactive message.
type Choice struct {
	ID          string `json:"id"`
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
}

// Order is what the customer ordered from a catalog.
type Order struct {
	CatalogID string      `json:"catalog_id"`
	Text      string      `json:"text,omitempty"`
	Items     []OrderItem `json:"product_items"`
}

// OrderItem is a line of an Order.
type OrderItem struct {
	RetailerID string  `json:"product_retailer_id"`
	Quantity   int     `json:"quantity"`
	Price      float64 `json:"item_price"`
	Currency   string  `json:"currency"`
}

// Referral is the ad or post from which the customer came.
type Referral struct {
	SourceURL    string `json:"source_url,omitempty"`
	SourceID     string `json:"source_id,omitempty"`
	SourceType   string `json:"source_type,omitempty"`
	Headline     string `json:"headline,omitempty"`
	Body         string `json:"body,omitempty"`
	MediaType    string `json:"media_type,omitempty"`
	ImageURL     string `json:"image_url,omitempty"`
	VideoURL     string `json:"video_url,omitempty"`
	ThumbnailURL string `json:"thumbnail_url,omitempty"`
	ClickID      string `json:"ctwa_clid,omitempty"`
}

// mediaContent is media in a webhook.
type mediaContent struct {
	Caption  string `json:"caption,omitempty"`
	Filename string `json:"filename,omitempty"`
	MIMEType string `json:"mime_type"`
	SHA256   string `json:"sha256"` // base64 here; hex in GET /{media-id}
	ID       string `json:"id"`
	Animated *bool  `json:"animated,omitempty"` // stickers
	Voice    *bool  `json:"voice,omitempty"`    // audio
}

// CustomerSend makes the customer send a message to the number and queues its webhook. It returns the message's id; it
// does not wait for the delivery. A customer who is not known appears. A reaction also returns an id of its own.
func (s *Server) CustomerSend(phoneNumberID, waID string, in Incoming) (wamid string, err error) {
	waID = digits(waID)
	if err := checkWaID(waID); err != nil {
		return "", err
	}
	if in.Media != nil && in.Media.ID == "" {
		id, err := s.CustomerUpload(phoneNumberID, in.Media.MIMEType, in.Media.Filename, in.Media.Data)
		if err != nil {
			return "", err
		}
		media := *in.Media
		media.ID, media.Data = id, nil
		in.Media = &media
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.numbers[phoneNumberID]
	if n == nil {
		return "", fmt.Errorf("number %s: %w", phoneNumberID, ErrNotFound)
	}
	content, err := s.content(n, waID, in)
	if err != nil {
		return "", err
	}
	now := s.opts.Now()
	if in.At.IsZero() {
		in.At = now
	}
	if in.ID == "" {
		in.ID = s.ids.wamid(waID, true)
	}
	who := s.customer(waID)
	msg := webhookMessage{
		Context: s.context(n, waID, in), From: waID, ID: in.ID, Timestamp: unixString(in.At),
		Type: in.Type, Referral: in.Referral, content: content,
	}
	if in.Type == "unsupported" {
		msg.Errors = []statusError{unsupportedError()}
	}
	v := value{MessagingProduct: "whatsapp", Metadata: n.metadata(), Messages: []webhookMessage{msg}}
	if in.Type != "system" {
		contact := webhookContact{WaID: waID}
		contact.Profile.Name = who.Name
		v.Contacts = []webhookContact{contact}
	}
	if err := s.tell(n, unit{value: v}); err != nil {
		return "", err
	}
	s.ledger.append(Entry{Kind: KindInbound, PhoneNumberID: phoneNumberID, Inbound: &Inbound{ID: in.ID, From: waID, Type: in.Type}})
	s.remember(n, waID, in, content)
	return in.ID, nil
}

func unsupportedError() statusError {
	e := statusError{Code: 131051, Title: "Message type unknown", Message: "Message type unknown"}
	e.ErrorData.Details = "Message type is currently not supported."
	return e
}

// context is the context of a reply or a forwarded message; it needs s.mu.
func (s *Server) context(n *number, waID string, in Incoming) *webhookContext {
	if in.ReplyTo == "" && !in.Forwarded && !in.FrequentlyForwarded {
		return nil
	}
	c := &webhookContext{Forwarded: in.Forwarded, FrequentlyForwarded: in.FrequentlyForwarded}
	if in.ReplyTo != "" {
		c.ID, c.From = in.ReplyTo, digits(n.DisplayPhoneNumber)
		if quoted := s.byID[in.ReplyTo]; quoted != nil && quoted.From == FromCustomer {
			c.From = waID
		}
	}
	return c
}

// content is the value under the type; it needs s.mu.
func (s *Server) content(n *number, waID string, in Incoming) (json.RawMessage, error) {
	var v any
	switch in.Type {
	case "text":
		v = need(in.Text != "", struct {
			Body string `json:"body"`
		}{in.Text})
	case "image", "video", "audio", "document", "sticker":
		m, err := s.mediaContent(n, in)
		if err != nil {
			return nil, err
		}
		v = m
	case "location":
		v = need(in.Location != nil, in.Location)
	case "contacts":
		var list []json.RawMessage
		v = need(json.Unmarshal(in.Contacts, &list) == nil && len(list) > 0, in.Contacts)
	case "reaction":
		v = reactionContent(in.Reaction)
	case "button":
		v = need(in.Button != nil, in.Button)
	case "interactive":
		v = interactiveContent(in)
	case "order":
		v = need(in.Order != nil, in.Order)
	case "system":
		return s.systemContent(waID, in)
	case "unsupported":
		kind := in.Unsupported
		if kind == "" {
			kind = "unknown"
		}
		v = map[string]string{"type": kind}
	case "", "from", "id", "timestamp", "type", "context", "errors", "referral":
		return nil, fmt.Errorf("%w message type %q", ErrInvalid, in.Type)
	default:
		v = need(json.Valid(in.Content), in.Content)
	}
	if v == nil {
		return nil, fmt.Errorf("%w message of type %s: the field that holds its content is missing or bad", ErrInvalid, in.Type)
	}
	return console.MarshalPlain(v)
}

// need is v if ok, else nil.
func need(ok bool, v any) any {
	if !ok {
		return nil
	}
	return v
}

func (s *Server) mediaContent(n *number, in Incoming) (any, error) {
	if in.Media == nil {
		return nil, fmt.Errorf("%w message of type %s: media is missing", ErrInvalid, in.Type)
	}
	stored, ok := s.media.get(in.Media.ID)
	if !ok || stored.phoneNumberID != n.PhoneNumberID {
		return nil, fmt.Errorf("media %s of number %s: %w", in.Media.ID, n.PhoneNumberID, ErrNotFound)
	}
	c := mediaContent{Caption: in.Media.Caption, MIMEType: stored.mimeType, SHA256: stored.base64Sum(), ID: stored.id}
	switch in.Type {
	case "document":
		c.Filename = stored.filename
		if in.Media.Filename != "" {
			c.Filename = in.Media.Filename
		}
	case "sticker":
		c.Caption, c.Animated = "", &in.Media.Animated
	case "audio":
		c.Caption, c.Voice = "", &in.Media.Voice
	}
	return c, nil
}

func reactionContent(r *IncomingReact) any {
	if r == nil || r.MessageID == "" {
		return nil
	}
	return struct {
		MessageID string `json:"message_id"`
		Emoji     string `json:"emoji,omitempty"` // absent: removed
	}{r.MessageID, r.Emoji}
}

func interactiveContent(in Incoming) any {
	type reply struct {
		Type        string  `json:"type"`
		ButtonReply *Choice `json:"button_reply,omitempty"`
		ListReply   *Choice `json:"list_reply,omitempty"`
	}
	switch {
	case in.ButtonReply != nil:
		return reply{Type: "button_reply", ButtonReply: in.ButtonReply}
	case in.ListReply != nil:
		return reply{Type: "list_reply", ListReply: in.ListReply}
	case json.Valid(in.Content): // nfm_reply and others
		return in.Content
	}
	return nil
}

// systemContent moves the customer to another number; it needs s.mu.
func (s *Server) systemContent(waID string, in Incoming) (json.RawMessage, error) {
	in.NewWaID = digits(in.NewWaID)
	if err := checkWaID(in.NewWaID); err != nil {
		return nil, err
	}
	name := s.customer(waID).Name
	if name == "+"+waID {
		name = "+" + in.NewWaID
	}
	s.customer(in.NewWaID).Name = name
	return console.MarshalPlain(struct {
		Body string `json:"body"`
		WaID string `json:"wa_id"`
		Type string `json:"type"`
	}{fmt.Sprintf("User %s changed from %s to %s", name, waID, in.NewWaID), in.NewWaID, "user_changed_number"})
}

// remember shows the message on the customer's phone; it needs s.mu.
func (s *Server) remember(n *number, waID string, in Incoming, content json.RawMessage) {
	s.conv(n.PhoneNumberID, waID).lastIn = s.opts.Now()
	if in.Type == "reaction" {
		if target := s.byID[in.Reaction.MessageID]; target != nil {
			s.react(target, FromCustomer, in.Reaction.Emoji)
		}
		return
	}
	if s.byID[in.ID] != nil { // the same message once more
		return
	}
	m := &Message{
		ID: in.ID, PhoneNumberID: n.PhoneNumberID, WaID: waID, From: FromCustomer, Type: in.Type,
		Text: in.Text, Location: in.Location, ReplyTo: in.ReplyTo, Content: content, At: in.At,
	}
	switch {
	case in.Media != nil:
		stored, _ := s.media.get(in.Media.ID)
		m.Text = in.Media.Caption
		m.Media = &MediaView{ID: in.Media.ID, MIMEType: stored.mimeType, Filename: stored.filename, Voice: in.Media.Voice}
	case in.Button != nil:
		m.Text = in.Button.Text
	case in.ButtonReply != nil:
		m.Text = in.ButtonReply.Title
	case in.ListReply != nil:
		m.Text = in.ListReply.Title
	case in.Order != nil:
		m.Text = fmt.Sprintf("Order of %d products", len(in.Order.Items))
	case in.NewWaID != "":
		m.Text = "Changed to +" + digits(in.NewWaID)
	}
	s.keep(m)
}

// CustomerRead makes the customer read what the business sent, up to and including the message ("" for all), and
// queues the read statuses. It returns how many messages were read.
func (s *Server) CustomerRead(phoneNumberID, waID, upTo string) (int, error) {
	waID = digits(waID)
	s.mu.Lock()
	defer s.mu.Unlock()
	conv := s.convs[convKey{phoneNumberID, waID}]
	if conv == nil {
		return 0, fmt.Errorf("conversation of %s with number %s: %w", waID, phoneNumberID, ErrNotFound)
	}
	if m := s.byID[upTo]; upTo != "" && (m == nil || m.WaID != waID || m.PhoneNumberID != phoneNumberID) {
		return 0, fmt.Errorf("message %s: %w", upTo, ErrNotFound)
	}
	read := 0
	for _, m := range conv.messages {
		if m.From == FromBusiness && m.Status != StatusRead && m.Status != StatusFailed {
			if err := s.status(m, StatusRead, 0); err != nil {
				return read, err
			}
			read++
		}
		if m.ID == upTo {
			break
		}
	}
	s.ledger.append(Entry{Kind: KindInbound, PhoneNumberID: phoneNumberID, Inbound: &Inbound{ID: upTo, From: waID, Type: KindRead}})
	return read, nil
}

// Deliver queues a webhook body of the caller's own making, signed correctly and posted as it is. It need not be JSON.
func (s *Server) Deliver(phoneNumberID string, body []byte) error {
	if len(body) == 0 || len(body) > 3<<20 {
		return fmt.Errorf("%w webhook body of %d bytes: 1 byte to 3 MiB", ErrInvalid, len(body))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.numbers[phoneNumberID]
	if n == nil {
		return fmt.Errorf("number %s: %w", phoneNumberID, ErrNotFound)
	}
	return s.tell(n, unit{raw: body})
}

// idsIn finds the message and status ids of a webhook body.
func idsIn(body []byte) (messages []string, statuses []StatusRef) {
	var env struct {
		Entry []struct {
			Changes []struct {
				Value struct {
					Messages []struct{ ID string }         `json:"messages"`
					Statuses []struct{ ID, Status string } `json:"statuses"`
				} `json:"value"`
			} `json:"changes"`
		} `json:"entry"`
	}
	if json.Unmarshal(body, &env) != nil {
		return nil, nil
	}
	for _, e := range env.Entry {
		for _, c := range e.Changes {
			for _, m := range c.Value.Messages {
				messages = append(messages, m.ID)
			}
			for _, st := range c.Value.Statuses {
				statuses = append(statuses, StatusRef(st))
			}
		}
	}
	return messages, statuses
}
