package cloudapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// outgoing is the body of POST /{phone-number-id}/messages.
type outgoing struct {
	MessagingProduct string `json:"messaging_product"`
	RecipientType    string `json:"recipient_type"`
	To               string `json:"to"`
	Type             string `json:"type"`
	CallbackData     string `json:"biz_opaque_callback_data"`
	Context          *struct {
		MessageID string `json:"message_id"`
	} `json:"context"`

	Text *struct {
		Body       string `json:"body"`
		PreviewURL bool   `json:"preview_url"`
	} `json:"text"`
	Image       *outMedia       `json:"image"`
	Video       *outMedia       `json:"video"`
	Audio       *outMedia       `json:"audio"`
	Document    *outMedia       `json:"document"`
	Sticker     *outMedia       `json:"sticker"`
	Location    *outLocation    `json:"location"`
	Contacts    []outContact    `json:"contacts"`
	Reaction    *outReaction    `json:"reaction"`
	Template    *outTemplate    `json:"template"`
	Interactive *outInteractive `json:"interactive"`

	// a receipt instead of a message
	Status          string `json:"status"`
	MessageID       string `json:"message_id"`
	TypingIndicator *struct {
		Type string `json:"type"`
	} `json:"typing_indicator"`

	content map[string]json.RawMessage // the body's fields as they came
}

type outMedia struct {
	ID       string `json:"id"`
	Link     string `json:"link"`
	Caption  string `json:"caption"`
	Filename string `json:"filename"`
	Voice    bool   `json:"voice"`
}

type outLocation struct {
	Latitude  looseNumber `json:"latitude"`
	Longitude looseNumber `json:"longitude"`
	Name      string      `json:"name"`
	Address   string      `json:"address"`
}

type outContact struct {
	Name struct {
		FormattedName string `json:"formatted_name"`
	} `json:"name"`
}

type outReaction struct {
	MessageID string  `json:"message_id"`
	Emoji     *string `json:"emoji"`
}

type outInteractive struct {
	Type   string `json:"type"`
	Header *struct {
		Text string `json:"text"`
	} `json:"header"`
	Body *struct {
		Text string `json:"text"`
	} `json:"body"`
	Action struct {
		Button  string `json:"button"`
		Buttons []struct {
			Type  string `json:"type"`
			Reply struct {
				ID    string `json:"id"`
				Title string `json:"title"`
			} `json:"reply"`
		} `json:"buttons"`
		Sections []struct {
			Title string `json:"title"`
			Rows  []struct {
				ID          string `json:"id"`
				Title       string `json:"title"`
				Description string `json:"description"`
			} `json:"rows"`
		} `json:"sections"`
	} `json:"action"`
}

// looseNumber takes a number or a string that holds one, as Meta does.
type looseNumber struct {
	value float64
	set   bool
}

func (n *looseNumber) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseFloat(string(bytes.Trim(b, `"`)), 64)
	if err == nil {
		n.value, n.set = v, true
	}
	return nil // a missing or bad value is refused by the check, with the name of the parameter
}

// outTypes are the types that can be sent.
var outTypes = []string{
	"text", "image", "video", "audio", "document", "sticker", "location", "contacts", "reaction", "template", "interactive",
}

func (o *outgoing) media() *outMedia {
	return map[string]*outMedia{
		"image": o.Image, "video": o.Video, "audio": o.Audio, "document": o.Document, "sticker": o.Sticker,
	}[o.Type]
}

// check refuses what Meta refuses without looking at its own state.
func (o *outgoing) check() *graphError {
	if o.MessagingProduct != "whatsapp" {
		return paramRequired("messaging_product")
	}
	if o.RecipientType != "" && o.RecipientType != "individual" {
		return codeError(100, "Param recipient_type must be one of {INDIVIDUAL} - got \""+o.RecipientType+"\".")
	}
	if o.To == "" {
		return paramRequired("to")
	}
	if d := digits(o.To); len(d) < 5 || len(d) > 15 {
		return codeError(131009, "Param to is not a valid WhatsApp phone number.")
	}
	if o.Type == "" {
		o.Type = "text"
	}
	if !slices.Contains(outTypes, o.Type) {
		return codeError(131051, "Message type \""+o.Type+"\" is not currently supported.")
	}
	if len(o.CallbackData) > 512 {
		return codeError(100, "Param biz_opaque_callback_data must be at most 512 characters long.")
	}
	if raw := o.content[o.Type]; len(raw) == 0 || string(raw) == "null" {
		return codeError(131008, "Parameter "+o.Type+" is mandatory for type "+o.Type+".")
	}
	return o.checkContent()
}

func (o *outgoing) checkContent() *graphError {
	switch o.Type {
	case "text":
		return checkText("text['body']", o.Text.Body, 4096)
	case "location":
		l := o.Location
		if !l.Latitude.set || !l.Longitude.set || l.Latitude.value < -90 || l.Latitude.value > 90 ||
			l.Longitude.value < -180 || l.Longitude.value > 180 {
			return codeError(131009, "Params location['latitude'] and location['longitude'] must be degrees.")
		}
	case "contacts":
		if len(o.Contacts) == 0 {
			return codeError(131008, "Parameter contacts must not be empty.")
		}
		for i, c := range o.Contacts {
			if c.Name.FormattedName == "" {
				return codeError(131008, fmt.Sprintf("Parameter contacts[%d]['name']['formatted_name'] is mandatory.", i))
			}
		}
	case "reaction":
		if o.Reaction.MessageID == "" || o.Reaction.Emoji == nil {
			return codeError(131008, "Parameters reaction['message_id'] and reaction['emoji'] are mandatory.")
		}
	case "template":
		return o.Template.check()
	case "interactive":
		return o.Interactive.check()
	default:
		return o.media().check(o.Type)
	}
	return nil
}

func checkText(param, text string, limit int) *graphError {
	if text == "" {
		return codeError(131008, "Parameter "+param+" is mandatory.")
	}
	if utf8.RuneCountInString(text) > limit {
		return codeError(100, fmt.Sprintf("Param %s must be at most %d characters long.", param, limit))
	}
	return nil
}

func (m *outMedia) check(kind string) *graphError {
	switch {
	case (m.ID == "") == (m.Link == ""):
		return codeError(131008, fmt.Sprintf("Exactly one of %s['id'] and %s['link'] is mandatory.", kind, kind))
	case m.Link != "" && checkWebhookURL(m.Link) != nil:
		return codeError(131009, fmt.Sprintf("Param %s['link'] is not a valid URL.", kind))
	case m.Caption != "" && (kind == "audio" || kind == "sticker"):
		return codeError(100, fmt.Sprintf("Unexpected key \"caption\" on param \"%s\".", kind))
	case m.Filename != "" && kind != "document":
		return codeError(100, fmt.Sprintf("Unexpected key \"filename\" on param \"%s\".", kind))
	case utf8.RuneCountInString(m.Caption) > 1024:
		return codeError(100, fmt.Sprintf("Param %s['caption'] must be at most 1024 characters long.", kind))
	}
	return nil
}

func (in *outInteractive) check() *graphError {
	switch in.Type {
	case "button":
		if n := len(in.Action.Buttons); n < 1 || n > 3 {
			return codeError(131009, "Param interactive['action']['buttons'] must have 1 to 3 buttons.")
		}
		for _, b := range in.Action.Buttons {
			if b.Reply.ID == "" || b.Reply.Title == "" || utf8.RuneCountInString(b.Reply.Title) > 20 {
				return codeError(131009, "A button needs an id and a title of at most 20 characters.")
			}
		}
	case "list":
		rows := 0
		for _, sec := range in.Action.Sections {
			rows += len(sec.Rows)
			for _, row := range sec.Rows {
				if row.ID == "" || row.Title == "" || utf8.RuneCountInString(row.Title) > 24 {
					return codeError(131009, "A row needs an id and a title of at most 24 characters.")
				}
			}
		}
		if rows < 1 || rows > 10 || in.Action.Button == "" {
			return codeError(131009, "A list needs action['button'] and 1 to 10 rows.")
		}
	case "":
		return codeError(131008, "Parameter interactive['type'] is mandatory.")
	case "cta_url", "flow", "location_request_message", "address_message", "product", "product_list", "catalog_message",
		"call_permission_request", "voice_call":
		return nil
	default:
		return codeError(131009, "Param interactive['type'] \""+in.Type+"\" is not known.")
	}
	if in.Body == nil {
		return codeError(131008, "Parameter interactive['body'] is mandatory.")
	}
	return checkText("interactive['body']['text']", in.Body.Text, 4096)
}

// choices are what the customer can tap.
func (in *outInteractive) choices() []ButtonView {
	var out []ButtonView
	for _, b := range in.Action.Buttons {
		out = append(out, ButtonView{b.Reply.Title, Incoming{
			Type: "interactive", ButtonReply: &Choice{ID: b.Reply.ID, Title: b.Reply.Title},
		}})
	}
	for _, sec := range in.Action.Sections {
		for _, row := range sec.Rows {
			out = append(out, ButtonView{row.Title, Incoming{
				Type: "interactive", ListReply: &Choice{ID: row.ID, Title: row.Title, Description: row.Description},
			}})
		}
	}
	return out
}

// message is what the customer's phone shows of it.
func (o *outgoing) message(templates []Template) *Message {
	m := &Message{From: FromBusiness, WaID: digits(o.To), Type: o.Type, CallbackData: o.CallbackData, Content: o.content[o.Type]}
	if o.Context != nil {
		m.ReplyTo = o.Context.MessageID
	}
	switch o.Type {
	case "text":
		m.Text = o.Text.Body
	case "location":
		m.Location = &Location{
			Latitude: o.Location.Latitude.value, Longitude: o.Location.Longitude.value,
			Name: o.Location.Name, Address: o.Location.Address,
		}
	case "contacts":
		names := make([]string, len(o.Contacts))
		for i, c := range o.Contacts {
			names[i] = c.Name.FormattedName
		}
		m.Text = strings.Join(names, ", ")
	case "interactive":
		if o.Interactive.Body != nil {
			m.Text = o.Interactive.Body.Text
		}
		if h := o.Interactive.Header; h != nil && h.Text != "" {
			m.Text = h.Text + "\n\n" + m.Text
		}
		m.Buttons = o.Interactive.choices()
	case "template":
		m.Text, m.Buttons = o.Template.render(templates)
	default:
		if media := o.media(); media != nil {
			m.Text = media.Caption
			m.Media = &MediaView{ID: media.ID, Link: media.Link, Filename: media.Filename, Voice: media.Voice}
		}
	}
	return m
}
