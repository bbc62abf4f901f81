package cloudapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Template is a message template of a business account, in Meta's JSON.
type Template struct {
	ID         string              `json:"id"`
	Name       string              `json:"name"`
	Language   string              `json:"language"`
	Status     string              `json:"status"`   // default APPROVED; PAUSED, REJECTED and DISABLED cannot be sent
	Category   string              `json:"category"` // default UTILITY
	Components []TemplateComponent `json:"components"`
}

// TemplateComponent is a HEADER, BODY, FOOTER or BUTTONS component. {{1}} or {{name}} in Text are parameters.
type TemplateComponent struct {
	Type    string           `json:"type"`
	Format  string           `json:"format,omitempty"`
	Text    string           `json:"text,omitempty"`
	Buttons []TemplateButton `json:"buttons,omitempty"`
}

// TemplateButton is a button of a template; the customer can answer with a QUICK_REPLY.
type TemplateButton struct {
	Type string `json:"type"`
	Text string `json:"text"`
	URL  string `json:"url,omitempty"`
}

func defaultTemplates() []Template {
	return []Template{
		{
			ID: "594425479261596", Name: "hello_world", Language: "en_US", Status: "APPROVED", Category: "UTILITY",
			Components: []TemplateComponent{
				{Type: "HEADER", Format: "TEXT", Text: "Hello World"},
				{Type: "BODY", Text: "Welcome and congratulations!! This message demonstrates your ability to send a WhatsApp message notification from the Cloud API, hosted by Meta. Thank you for taking the time to test with us."},
				{Type: "FOOTER", Text: "WhatsApp Business Platform sample message"},
			},
		},
		{
			ID: "1028345698732100", Name: "order_update", Language: "en_US", Status: "APPROVED", Category: "UTILITY",
			Components: []TemplateComponent{
				{Type: "BODY", Text: "Your order {{1}} is on its way."},
				{Type: "BUTTONS", Buttons: []TemplateButton{{Type: "QUICK_REPLY", Text: "Thank you"}, {Type: "QUICK_REPLY", Text: "I have a question"}}},
			},
		},
		{
			ID: "1028345698732101", Name: "order_update", Language: "en", Status: "APPROVED", Category: "UTILITY",
			Components: []TemplateComponent{
				{Type: "BODY", Text: "Hello {{1}}, your order {{2}} is on its way."},
				{Type: "BUTTONS", Buttons: []TemplateButton{{Type: "QUICK_REPLY", Text: "Thank you"}, {Type: "QUICK_REPLY", Text: "I have a question"}}},
			},
		},
	}
}

// SetTemplates replaces the templates of a business account.
func (s *Server) SetTemplates(businessAccountID string, list []Template) error {
	list = slices.Clone(list)
	for i := range list {
		t := &list[i]
		if t.Name == "" || t.Language == "" {
			return fmt.Errorf("%w template %d: name and language must not be empty", ErrInvalid, i)
		}
		if t.ID == "" {
			t.ID = s.ids.number(16)
		}
		if t.Status == "" {
			t.Status = "APPROVED"
		}
		if t.Category == "" {
			t.Category = "UTILITY"
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.templates[businessAccountID] = list
	return nil
}

// Templates lists the templates of a business account.
func (s *Server) Templates(businessAccountID string) []Template {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.templates[businessAccountID])
}

// outTemplate is the template of a message to send.
type outTemplate struct {
	Name     string `json:"name"`
	Language struct {
		Code string `json:"code"`
	} `json:"language"`
	Components []struct {
		Type       string        `json:"type"`
		SubType    string        `json:"sub_type"`
		Index      looseNumber   `json:"index"`
		Parameters []outTplParam `json:"parameters"`
	} `json:"components"`
}

type outTplParam struct {
	Type          string `json:"type"`
	ParameterName string `json:"parameter_name"`
	Text          string `json:"text"`
	Payload       string `json:"payload"`
	Currency      struct {
		FallbackValue string `json:"fallback_value"`
	} `json:"currency"`
	DateTime struct {
		FallbackValue string `json:"fallback_value"`
	} `json:"date_time"`
}

func (p outTplParam) shown() string {
	return p.Text + p.Currency.FallbackValue + p.DateTime.FallbackValue
}

var placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z0-9_]+)\s*\}\}`)

func (t *outTemplate) check() *graphError {
	if t.Name == "" || t.Language.Code == "" {
		return codeError(131008, "Parameters template['name'] and template['language']['code'] are mandatory.")
	}
	return nil
}

func (t *outTemplate) find(list []Template) (Template, bool) {
	i := slices.IndexFunc(list, func(have Template) bool { return have.Name == t.Name && have.Language == t.Language.Code })
	if i < 0 {
		return Template{}, false
	}
	return list[i], true
}

func (t *outTemplate) params(kind string) []outTplParam {
	for _, c := range t.Components {
		if strings.EqualFold(c.Type, kind) {
			return c.Parameters
		}
	}
	return nil
}

// fits compares the message with the account's templates.
func (t *outTemplate) fits(list []Template) *graphError {
	have, ok := t.find(list)
	if !ok {
		return codeError(132001, fmt.Sprintf("template name (%s) does not exist in %s", t.Name, t.Language.Code))
	}
	switch have.Status {
	case "PAUSED":
		return codeError(132015, "")
	case "DISABLED", "REJECTED", "PENDING":
		return codeError(132016, "Template "+t.Name+" is "+lower(have.Status))
	}
	for _, c := range have.Components {
		if c.Type != "BODY" && (c.Type != "HEADER" || (c.Format != "" && c.Format != "TEXT")) {
			continue
		}
		want, got := placeholders(c.Text), len(t.params(c.Type))
		if want != got {
			return codeError(132000, fmt.Sprintf("%s: number of localizable_params (%d) does not match the expected number of params (%d)",
				lower(c.Type), got, want))
		}
	}
	return nil
}

func placeholders(text string) int {
	seen := map[string]bool{}
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		seen[m[1]] = true
	}
	return len(seen)
}

// render is what the customer reads, and the quick replies.
func (t *outTemplate) render(list []Template) (string, []ButtonView) {
	have, _ := t.find(list)
	var parts []string
	var buttons []ButtonView
	for _, c := range have.Components {
		if c.Text != "" {
			parts = append(parts, fill(c.Text, t.params(c.Type)))
		}
		for i, b := range c.Buttons {
			if b.Type != "QUICK_REPLY" {
				continue
			}
			buttons = append(buttons, ButtonView{b.Text, Incoming{
				Type: "button", Button: &ButtonTap{Text: b.Text, Payload: t.payload(i, b.Text)},
			}})
		}
	}
	return strings.Join(parts, "\n\n"), buttons
}

func (t *outTemplate) payload(index int, text string) string {
	for _, c := range t.Components {
		if strings.EqualFold(c.Type, "button") && int(c.Index.value) == index && len(c.Parameters) > 0 && c.Parameters[0].Payload != "" {
			return c.Parameters[0].Payload
		}
	}
	return text
}

func fill(text string, params []outTplParam) string {
	next := 0
	given := map[string]string{}
	return placeholder.ReplaceAllStringFunc(text, func(m string) string {
		name := placeholder.FindStringSubmatch(m)[1]
		if v, ok := given[name]; ok {
			return v
		}
		v := m
		if i := slices.IndexFunc(params, func(p outTplParam) bool { return p.ParameterName == name }); i >= 0 {
			v = params[i].shown()
		} else if next < len(params) {
			v = params[next].shown()
			next++
		}
		given[name] = v
		return v
	})
}
