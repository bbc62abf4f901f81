package cloudapi

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/time/rate"
)

// Number is a business phone number and what Meta's app dashboard would hold for it.
type Number struct {
	PhoneNumberID      string `json:"phoneNumberId"`
	BusinessAccountID  string `json:"businessAccountId"`  // default "1" + PhoneNumberID
	DisplayPhoneNumber string `json:"displayPhoneNumber"` // default made from PhoneNumberID
	VerifiedName       string `json:"verifiedName"`
	AccessToken        string `json:"accessToken"`
	AppSecret          string `json:"appSecret"`
	VerifyToken        string `json:"verifyToken"`
	WebhookURL         string `json:"webhookUrl"` // empty: webhooks wait for one

	// AutoStatuses follow every accepted message. nil means sent and delivered; empty means none.
	AutoStatuses []string `json:"autoStatuses"`
	// NoWindow lets free-form messages go to customers who did not write within 24 hours, as far as the simulator knows.
	NoWindow bool `json:"noWindow"`
	// AsyncErrors accepts messages that cannot be delivered (131026, 131047) and reports them in a failed status, as
	// Meta often does, instead of refusing the call.
	AsyncErrors bool `json:"asyncErrors"`
	// Unregistered refuses sends with 133010.
	Unregistered bool `json:"unregistered"`
	// HighThroughput is Meta's upgrade: 1,000 messages a second instead of 80.
	HighThroughput bool `json:"highThroughput"`
	// NoLimits lifts the limits on sending.
	NoLimits bool `json:"noLimits"`
}

// number is a registered Number and its webhook line.
type number struct {
	Number
	line *line
	pace *rate.Limiter // of what it sends; nil before the first message
}

// VerifyResult is what the webhook answered to Meta's verification.
type VerifyResult struct {
	OK         bool   `json:"ok"`
	URL        string `json:"url"`
	HTTPStatus int    `json:"httpStatus"` // 0 if there was no answer
	Error      string `json:"error,omitempty"`
}

// DemoNumber has the credentials that a demonstration uses; nothing in it is secret.
func DemoNumber(webhookURL string) Number {
	return Number{
		PhoneNumberID: "106540352242922", BusinessAccountID: "102290129340398",
		DisplayPhoneNumber: "+1 555-078-3881", VerifiedName: "Lucky Shrub",
		AccessToken: "EAASimulatorDemoToken", AppSecret: "simulator-demo-app-secret",
		VerifyToken: "simulator-demo-verify-token", WebhookURL: webhookURL,
	}
}

// DemoCustomers are the people of a demonstration.
func DemoCustomers() []Customer {
	return []Customer{{WaID: "15550100001", Name: "Joana Oliveira"}, {WaID: "15550100002", Name: "Kwame Mensah"}}
}

func (n *Number) normalize() error {
	if !isDigits(n.PhoneNumberID) || len(n.PhoneNumberID) > 20 {
		return fmt.Errorf("%w phoneNumberId %q: it must be 1 to 20 digits", ErrInvalid, n.PhoneNumberID)
	}
	if n.AccessToken == "" || n.AppSecret == "" {
		return fmt.Errorf("%w number %s: accessToken and appSecret must not be empty", ErrInvalid, n.PhoneNumberID)
	}
	if n.BusinessAccountID == "" {
		n.BusinessAccountID = "1" + n.PhoneNumberID
	}
	if !isDigits(n.BusinessAccountID) || n.BusinessAccountID == n.PhoneNumberID {
		return fmt.Errorf("%w businessAccountId %q: it must be digits and not the phoneNumberId", ErrInvalid, n.BusinessAccountID)
	}
	if n.WebhookURL != "" {
		if err := checkWebhookURL(n.WebhookURL); err != nil {
			return err
		}
	}
	if n.AutoStatuses == nil {
		n.AutoStatuses = []string{StatusSent, StatusDelivered}
	}
	for _, st := range n.AutoStatuses {
		if !slices.Contains(allStatuses, st) {
			return fmt.Errorf("%w status %q in autoStatuses: use sent, delivered, read or failed", ErrInvalid, st)
		}
	}
	if n.DisplayPhoneNumber == "" {
		tail := "0000000" + n.PhoneNumberID
		tail = tail[len(tail)-7:]
		n.DisplayPhoneNumber = "+1 555-" + tail[:3] + "-" + tail[3:]
	}
	if n.VerifiedName == "" {
		n.VerifiedName = "Simulated Business"
	}
	return nil
}

func checkWebhookURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%w webhookUrl %q: it must be an http or https address", ErrInvalid, raw)
	}
	return nil
}

// AddNumber registers a number, or replaces the settings of one that is registered; what waits for its webhook then
// is attempted at once.
func (s *Server) AddNumber(n Number) error {
	if err := n.normalize(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.numbers[n.PhoneNumberID]; ok {
		old.Number, old.pace = n, nil
		old.line.redeliverNow()
	} else {
		reg := &number{Number: n, line: newLine(s, n.PhoneNumberID)}
		s.numbers[n.PhoneNumberID] = reg
		s.order = append(s.order, n.PhoneNumberID)
		s.startLine(reg)
	}
	if s.templates[n.BusinessAccountID] == nil {
		s.templates[n.BusinessAccountID] = defaultTemplates()
	}
	s.events.Publish("number", n)
	return nil
}

// RemoveNumber forgets a number, its conversations and the webhooks that wait.
func (s *Server) RemoveNumber(phoneNumberID string) error {
	s.mu.Lock()
	n, ok := s.numbers[phoneNumberID]
	if ok {
		delete(s.numbers, phoneNumberID)
		s.order = slices.DeleteFunc(s.order, func(id string) bool { return id == phoneNumberID })
		for key, c := range s.convs {
			if key.number == phoneNumberID {
				for _, m := range c.messages {
					delete(s.byID, m.ID)
				}
				delete(s.convs, key)
			}
		}
		n.line.remove()
		s.events.Publish("number", Number{PhoneNumberID: phoneNumberID})
	}
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("number %s: %w", phoneNumberID, ErrNotFound)
	}
	s.ledger.notify()
	return nil
}

// Numbers lists the registered numbers in order of registration.
func (s *Server) Numbers() []Number {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Number, 0, len(s.order))
	for _, id := range s.order {
		list = append(list, s.numbers[id].Number)
	}
	return list
}

// Number returns a registered number.
func (s *Server) Number(phoneNumberID string) (Number, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.numbers[phoneNumberID]
	if !ok {
		return Number{}, false
	}
	return n.Number, true
}

// Verify does Meta's verification of the number's webhook: GET with hub.mode, hub.verify_token and hub.challenge, to be
// answered 200 with exactly the challenge. What goes wrong is in the result; the error is for an unknown number.
func (s *Server) Verify(ctx context.Context, phoneNumberID string) (VerifyResult, error) {
	n, ok := s.Number(phoneNumberID)
	if !ok {
		return VerifyResult{}, fmt.Errorf("number %s: %w", phoneNumberID, ErrNotFound)
	}
	res := s.verifyURL(ctx, n.WebhookURL, n.VerifyToken)
	s.ledger.append(Entry{Kind: KindVerify, PhoneNumberID: phoneNumberID, Verify: &res})
	return res, nil
}

func (s *Server) verifyURL(ctx context.Context, hook, token string) VerifyResult {
	res := VerifyResult{URL: hook}
	if err := checkWebhookURL(hook); err != nil {
		res.Error = err.Error()
		return res
	}
	challenge := s.ids.number(10)
	u, _ := url.Parse(hook)
	q := u.Query()
	q.Set("hub.mode", "subscribe")
	q.Set("hub.verify_token", token)
	q.Set("hub.challenge", challenge)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		res.Error = err.Error()
		return res
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := s.client.Do(req) // #nosec G704 -- the tester says where the webhook is
	if err != nil {
		res.Error = "no answer: " + err.Error()
		return res
	}
	defer func() { _ = resp.Body.Close() }()
	res.HTTPStatus = resp.StatusCode
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	switch {
	case err != nil:
		res.Error = "the answer broke off: " + err.Error()
	case resp.StatusCode != http.StatusOK:
		res.Error = fmt.Sprintf("the webhook answered %d, not 200", resp.StatusCode)
	case string(body) != challenge:
		res.Error = "the webhook answered 200, but not with exactly the challenge"
	default:
		res.OK = true
	}
	return res
}

func sameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Hint says what to set in the product to use this number of a simulator at the base URL; one line each.
func (n Number) Hint(baseURL string) []string {
	return []string{
		"page: " + baseURL + "/   control API: " + baseURL + "/control/",
		"in the product, set WABA_API_URL=" + baseURL + "/v24.0 and add a channel of kind waba with",
		fmt.Sprintf("  phoneNumberId=%s businessAccountId=%s accessToken=%s", n.PhoneNumberID, n.BusinessAccountID, n.AccessToken),
		fmt.Sprintf("  appSecret=%s verifyToken=%s", n.AppSecret, n.VerifyToken),
		"webhooks go to " + n.WebhookURL + " (-webhook-url)",
	}
}
