package cloudapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// getNumber serves GET /{phone-number-id}?fields=.
func (s *Server) getNumber(c *graphCall, n Number) {
	all := numberFields(n)
	names := []string{
		"verified_name", "code_verification_status", "display_phone_number", "quality_rating", "platform_type",
		"throughput", "last_onboarded_time", "webhook_configuration",
	}
	if f := c.r.URL.Query().Get("fields"); f != "" {
		names = strings.Split(f, ",")
	}
	out := map[string]any{"id": n.PhoneNumberID}
	for _, name := range names {
		name = strings.TrimSpace(name)
		v, ok := all[name]
		if !ok {
			s.fail(c, &graphError{
				status: http.StatusBadRequest, code: 100,
				message: "(#100) Tried accessing nonexisting field (" + name + ") on node type (WhatsAppBusinessPhoneNumber)",
			})
			return
		}
		out[name] = v
	}
	s.ok(c, out)
}

func numberFields(n Number) map[string]any {
	status := "CONNECTED"
	if n.Unregistered {
		status = "PENDING"
	}
	throughput := "STANDARD"
	if n.HighThroughput {
		throughput = "HIGH"
	}
	return map[string]any{
		"id": n.PhoneNumberID, "verified_name": n.VerifiedName, "display_phone_number": n.DisplayPhoneNumber,
		"quality_rating": "GREEN", "code_verification_status": "VERIFIED", "platform_type": "CLOUD_API",
		"throughput": map[string]string{"level": throughput}, "last_onboarded_time": "2024-01-01T00:00:00+0000",
		"webhook_configuration": map[string]string{"application": n.WebhookURL}, "status": status,
		"name_status": "APPROVED", "account_mode": "LIVE", "messaging_limit_tier": "TIER_1K", "is_official_business_account": false,
		"is_pin_enabled": false, "health_status": map[string]any{"can_send_message": "AVAILABLE"},
	}
}

// webhookOverride is where a call names another webhook address.
type webhookOverride struct {
	URI   string `json:"override_callback_uri"`
	Token string `json:"verify_token"`
}

// configureNumber serves POST /{phone-number-id}, of which only webhook_configuration is simulated.
func (s *Server) configureNumber(c *graphCall, n Number) {
	var in struct {
		Webhook *webhookOverride `json:"webhook_configuration"`
	}
	if _, e := readJSON(c.w, c.r, &in); e != nil {
		s.fail(c, e)
		return
	}
	if in.Webhook == nil {
		s.fail(c, paramRequired("webhook_configuration"))
		return
	}
	s.overrideWebhook(c, []Number{n}, *in.Webhook)
}

// overrideWebhook verifies another webhook address and, if that went well, uses it for the numbers.
func (s *Server) overrideWebhook(c *graphCall, numbers []Number, hook webhookOverride) {
	res := s.verifyURL(c.r.Context(), hook.URI, hook.Token)
	s.ledger.append(Entry{Kind: KindVerify, PhoneNumberID: numbers[0].PhoneNumberID, Verify: &res})
	if !res.OK {
		s.fail(c, &graphError{
			status: http.StatusBadRequest, code: 2200,
			message: "(#2200) Callback verification failed with the following errors: " + res.Error,
		})
		return
	}
	for _, n := range numbers {
		n.WebhookURL, n.VerifyToken = hook.URI, hook.Token
		if err := s.AddNumber(n); err != nil {
			s.fail(c, codeError(100, err.Error()))
			return
		}
	}
	s.ok(c, success{true})
}

// accountNumbers are the numbers of a business account, if the token is of one of them.
func (s *Server) accountNumbers(account, token string) []Number {
	allowed := false
	list := slices.DeleteFunc(s.Numbers(), func(n Number) bool { return n.BusinessAccountID != account })
	for _, n := range list {
		allowed = allowed || sameSecret(n.AccessToken, token)
	}
	if !allowed {
		return nil
	}
	return list
}

// serveAccount serves the edges of a business account.
func (s *Server) serveAccount(c *graphCall, numbers []Number) {
	app := map[string]any{"whatsapp_business_api_data": map[string]string{
		"id": "670843887433847", "link": "https://www.facebook.com/games/?app_id=670843887433847", "name": "Simulated app",
	}}
	switch c.r.Method + " " + c.edge {
	case "GET ":
		s.ok(c, map[string]string{"id": c.node, "name": numbers[0].VerifiedName, "timezone_id": "1", "message_template_namespace": "ba30dd89_2ebd_41e4_b805_f2c05ae04cc9"})
	case "GET phone_numbers":
		data := make([]any, len(numbers))
		for i, n := range numbers {
			f := numberFields(n)
			data[i] = pick(f, "verified_name", "code_verification_status", "display_phone_number", "quality_rating", "platform_type", "throughput", "id")
		}
		s.page(c, data)
	case "GET message_templates":
		s.listTemplates(c)
	case "GET subscribed_apps":
		s.page(c, []any{app})
	case "POST subscribed_apps":
		var in webhookOverride
		if c.r.ContentLength != 0 {
			if _, e := readJSON(c.w, c.r, &in); e != nil {
				s.fail(c, e)
				return
			}
		}
		if in.URI != "" {
			s.overrideWebhook(c, numbers, in)
			return
		}
		s.ok(c, success{true})
	case "DELETE subscribed_apps":
		for _, n := range numbers {
			n.WebhookURL = ""
			if err := s.AddNumber(n); err != nil {
				s.fail(c, codeError(100, err.Error()))
				return
			}
		}
		s.ok(c, success{true})
	default:
		s.fail(c, missingObject(c.r.Method, c.node))
	}
}

func pick(m map[string]any, names ...string) map[string]any {
	out := map[string]any{}
	for _, name := range names {
		out[name] = m[name]
	}
	return out
}

func (s *Server) listTemplates(c *graphCall) {
	q := c.r.URL.Query()
	data := []any{}
	for _, t := range s.Templates(c.node) {
		if (q.Get("name") == "" || strings.Contains(t.Name, q.Get("name"))) &&
			(q.Get("language") == "" || t.Language == q.Get("language")) &&
			(q.Get("status") == "" || strings.EqualFold(t.Status, q.Get("status"))) {
			data = append(data, t)
		}
	}
	s.page(c, data)
}

// page answers a list in Graph's cursor pages: limit and after.
func (s *Server) page(c *graphCall, data []any) {
	type cursors struct {
		Before string `json:"before"`
		After  string `json:"after"`
	}
	type paging struct {
		Cursors cursors `json:"cursors"`
		Next    string  `json:"next,omitempty"`
	}
	q := c.r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 {
		limit = 25
	}
	from, err := strconv.Atoi(strings.TrimPrefix(q.Get("after"), "C"))
	if err != nil || from < 0 {
		from = 0
	}
	from = min(from, len(data))
	to := min(from+limit, len(data))
	p := paging{Cursors: cursors{"C" + strconv.Itoa(from), "C" + strconv.Itoa(to)}}
	if to < len(data) {
		q.Set("after", p.Cursors.After)
		q.Del("access_token")
		p.Next = "http://" + c.r.Host + c.r.URL.Path + "?" + q.Encode()
	}
	s.ok(c, struct {
		Data   []any   `json:"data"`
		Paging *paging `json:"paging,omitempty"`
	}{data[from:to], &p})
}
