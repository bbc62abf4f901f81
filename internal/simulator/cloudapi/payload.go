package cloudapi

import (
	"encoding/json"
	"strconv"
	"time"

	"switchboard/internal/simulator/console"
)

// The shapes of a webhook, as Meta documents them for the field "messages".

type envelope struct {
	Object string  `json:"object"`
	Entry  []entry `json:"entry"`
}

type entry struct {
	ID      string   `json:"id"`
	Changes []change `json:"changes"`
}

type change struct {
	Value value  `json:"value"`
	Field string `json:"field"`
}

type value struct {
	MessagingProduct string           `json:"messaging_product"`
	Metadata         metadata         `json:"metadata"`
	Contacts         []webhookContact `json:"contacts,omitempty"`
	Messages         []webhookMessage `json:"messages,omitempty"`
	Statuses         []webhookStatus  `json:"statuses,omitempty"`
}

type metadata struct {
	DisplayPhoneNumber string `json:"display_phone_number"`
	PhoneNumberID      string `json:"phone_number_id"`
}

type webhookContact struct {
	Profile struct {
		Name string `json:"name"`
	} `json:"profile"`
	WaID string `json:"wa_id"`
}

// webhookMessage is a customer's message; its content stands under the key that is its type.
type webhookMessage struct {
	Context   *webhookContext `json:"context,omitempty"`
	From      string          `json:"from"`
	ID        string          `json:"id"`
	Timestamp string          `json:"timestamp"`
	Errors    []statusError   `json:"errors,omitempty"`
	Type      string          `json:"type"`
	Referral  *Referral       `json:"referral,omitempty"`
	content   json.RawMessage
}

func (m webhookMessage) MarshalJSON() ([]byte, error) {
	type head webhookMessage
	b, err := console.MarshalPlain(head(m))
	if err != nil || m.content == nil {
		return b, err
	}
	key, err := console.MarshalPlain(m.Type)
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1], ',')
	b = append(append(b, key...), ':')
	return append(append(b, m.content...), '}'), nil
}

type webhookContext struct {
	From                string `json:"from,omitempty"`
	ID                  string `json:"id,omitempty"`
	Forwarded           bool   `json:"forwarded,omitempty"`
	FrequentlyForwarded bool   `json:"frequently_forwarded,omitempty"`
}

type webhookStatus struct {
	ID           string               `json:"id"`
	Status       string               `json:"status"`
	Timestamp    string               `json:"timestamp"`
	RecipientID  string               `json:"recipient_id"`
	Conversation *webhookConversation `json:"conversation,omitempty"`
	Pricing      *webhookPricing      `json:"pricing,omitempty"`
	Errors       []statusError        `json:"errors,omitempty"`
	CallbackData string               `json:"biz_opaque_callback_data,omitempty"`
}

type webhookConversation struct {
	ID                  string `json:"id"`
	ExpirationTimestamp string `json:"expiration_timestamp,omitempty"`
	Origin              struct {
		Type string `json:"type"`
	} `json:"origin"`
}

type webhookPricing struct {
	Billable     bool   `json:"billable"`
	PricingModel string `json:"pricing_model"`
	Category     string `json:"category"`
	Type         string `json:"type"`
}

type statusError struct {
	Code      int    `json:"code"`
	Title     string `json:"title"`
	Message   string `json:"message"`
	ErrorData struct {
		Details string `json:"details"`
	} `json:"error_data"`
	Href string `json:"href,omitempty"`
}

func unixString(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// unit is one thing to tell a webhook: a message, a status, or a raw body.
type unit struct {
	account string
	value   value
	raw     []byte
	queued  time.Time
}

// How a batch of units becomes one payload.
const (
	LayoutMessages = "messages" // all messages in one value, all statuses in another
	LayoutChanges  = "changes"  // a change for each
	LayoutEntries  = "entries"  // an entry for each
)

func buildEnvelope(units []unit, layout string) envelope {
	env := envelope{Object: "whatsapp_business_account"}
	switch layout {
	case LayoutEntries:
		for _, u := range units {
			env.Entry = append(env.Entry, entry{ID: u.account, Changes: []change{{Value: u.value, Field: "messages"}}})
		}
	case LayoutChanges:
		e := entry{ID: units[0].account}
		for _, u := range units {
			e.Changes = append(e.Changes, change{Value: u.value, Field: "messages"})
		}
		env.Entry = []entry{e}
	default:
		env.Entry = []entry{{ID: units[0].account, Changes: mergeValues(units)}}
	}
	return env
}

// mergeValues puts the messages of all units into one change and their statuses into a second.
func mergeValues(units []unit) []change {
	messages := value{MessagingProduct: "whatsapp", Metadata: units[0].value.Metadata}
	statuses := messages
	seen := map[string]bool{}
	for _, u := range units {
		for _, c := range u.value.Contacts {
			if !seen[c.WaID] {
				seen[c.WaID] = true
				messages.Contacts = append(messages.Contacts, c)
			}
		}
		messages.Messages = append(messages.Messages, u.value.Messages...)
		statuses.Statuses = append(statuses.Statuses, u.value.Statuses...)
	}
	var out []change
	if len(messages.Messages) > 0 {
		out = append(out, change{Value: messages, Field: "messages"})
	}
	if len(statuses.Statuses) > 0 {
		out = append(out, change{Value: statuses, Field: "messages"})
	}
	return out
}
