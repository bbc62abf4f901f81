package cloudapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const hrefErrors = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"

// graphError is an error of the Graph API, written in Meta's shape.
type graphError struct {
	status     int
	code       int
	subcode    int
	kind       string // default OAuthException
	message    string
	details    string
	retryAfter time.Duration
}

func (e *graphError) Error() string { return e.message }

// metaErrors are Meta's documented codes: HTTP status, title, and the usual details.
var metaErrors = map[int]struct {
	status         int
	title, details string
}{
	1:      {400, "API Unknown", "Invalid request or possible server error."},
	2:      {503, "API Service", "Temporary due to downtime or due to being overloaded."},
	4:      {400, "Application request limit reached", "The app has reached its API call rate limit."},
	10:     {403, "Application does not have permission for this action", "Permission is either not granted or has been removed."},
	33:     {400, "Parameter value is not valid", "The business phone number has been deleted."},
	100:    {400, "Invalid parameter", "The request included one or more unsupported or misspelled parameters."},
	190:    {401, "Invalid OAuth access token - Cannot parse access token", ""},
	368:    {403, "Temporarily blocked for policies violations", "The account has been restricted or disabled for violating a platform policy."},
	80007:  {400, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."},
	130429: {429, "Rate limit hit", "Message failed to send because there were too many messages sent from this phone number in a short period of time"},
	130472: {400, "User's number is part of an experiment", "Failed to send message because this user's phone number is part of an experiment"},
	131000: {500, "Something went wrong", "Message failed to send because of an unknown error. Try again later"},
	131005: {403, "Access denied", "Permission is either not granted or has been removed."},
	131008: {400, "Required parameter is missing", "The request is missing a required parameter."},
	131009: {400, "Parameter value is not valid", "One or more parameter values are invalid."},
	131016: {500, "Service unavailable", "A service is temporarily unavailable."},
	131021: {400, "Recipient cannot be sender", "Sender and recipient phone number is the same."},
	131026: {400, "Message undeliverable", "Message Undeliverable."},
	131031: {403, "Account has been locked", "Business Account has been locked."},
	131047: {400, "Re-engagement message", "Message failed to send because more than 24 hours have passed since the customer last replied to this number."},
	131048: {400, "Spam rate limit hit", "Message failed to send because there are restrictions on how many messages can be sent from this phone number."},
	131049: {400, "This message was not delivered to maintain healthy ecosystem engagement.", "In order to maintain a healthy ecosystem engagement, the message failed to be delivered."},
	131051: {400, "Unsupported message type", "Message type is not currently supported."},
	131052: {400, "Media download error", "Unable to download the media sent by the user."},
	131053: {400, "Media upload error", "Unable to upload the media used in the message."},
	131056: {400, "(Business Account, Consumer Account) pair rate limit hit", "Message failed to send because there were too many messages sent from this phone number to the same phone number in a short period of time"},
	131057: {500, "Account in maintenance mode", "Business Account is in maintenance mode"},
	132000: {400, "Number of parameters does not match the expected number of params", ""},
	132001: {404, "Template name does not exist in the translation", ""},
	132012: {400, "Parameter format does not match format in the created template", ""},
	132015: {400, "Template is paused", "Template is paused due to low quality"},
	132016: {400, "Template is disabled", "Template is disabled"},
	133004: {503, "Server temporarily unavailable", "Server is temporarily unavailable."},
	133010: {400, "Account not registered", "Account does not exist in Cloud API, please use /register API to create an account first."},
	135000: {400, "Generic user error", "Message failed to send because of an unknown error with your request parameters."},
}

// codeError is the error with one of Meta's codes; empty details mean the usual ones.
func codeError(code int, details string) *graphError {
	known, ok := metaErrors[code]
	if !ok {
		known.status, known.title = http.StatusBadRequest, "Error "+strconv.Itoa(code)
	}
	if details == "" {
		details = known.details
	}
	return &graphError{status: known.status, code: code, message: fmt.Sprintf("(#%d) %s", code, known.title), details: details}
}

func badToken() *graphError {
	return &graphError{status: 401, code: 190, message: metaErrors[190].title}
}

func missingObject(method, id string) *graphError {
	return &graphError{
		status: 400, code: 100, subcode: 33, kind: "GraphMethodException",
		message: fmt.Sprintf("Unsupported %s request. Object with ID '%s' does not exist, cannot be loaded due to missing permissions, "+
			"or does not support this operation. Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api", lower(method), id),
	}
}

func paramRequired(name string) *graphError {
	return &graphError{status: 400, code: 100, message: "(#100) The parameter " + name + " is required."}
}

// fromFault is the error that a fail or rate_limit fault asks for.
func fromFault(f *activeFault) *graphError {
	e := codeError(f.Code, f.Details)
	if f.Code == 190 {
		e = badToken()
	}
	if f.HTTPStatus != 0 {
		e.status = f.HTTPStatus
	}
	if f.Message != "" {
		e.message = f.Message
	}
	e.retryAfter = f.RetryAfter
	return e
}

func (s *Server) writeGraphError(w http.ResponseWriter, e *graphError) {
	type data struct {
		MessagingProduct string `json:"messaging_product"`
		Details          string `json:"details"`
	}
	type body struct {
		Message   string `json:"message"`
		Type      string `json:"type"`
		Code      int    `json:"code"`
		Subcode   int    `json:"error_subcode,omitempty"`
		ErrorData *data  `json:"error_data,omitempty"`
		Trace     string `json:"fbtrace_id"`
	}
	b := body{Message: e.message, Type: e.kind, Code: e.code, Subcode: e.subcode, Trace: s.ids.trace()}
	if b.Type == "" {
		b.Type = "OAuthException"
	}
	if e.details != "" {
		b.ErrorData = &data{"whatsapp", e.details}
	}
	if e.retryAfter > 0 {
		seconds := int64((e.retryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("OAuth \"Facebook Platform\" \"invalid_token\" %q", e.message))
	}
	s.writeGraph(w, e.status, map[string]body{"error": b})
}

func (s *Server) writeGraph(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=UTF-8")
	h.Set("Facebook-Api-Version", "v21.0")
	h.Set("Cache-Control", "private, no-cache, no-store, must-revalidate")
	w.WriteHeader(status)
	b, err := marshalMeta(v)
	if err != nil {
		s.log.Error("a Graph answer could not be encoded", slogErr(err))
		return
	}
	_, _ = w.Write(b)
}

// failure is the error in a status or message webhook.
func failure(code int, details string) statusError {
	e := codeError(code, details)
	out := statusError{Code: code, Title: metaErrors[code].title, Href: hrefErrors}
	if out.Title == "" {
		out.Title = e.message
	}
	out.Message = out.Title
	out.ErrorData.Details = e.details
	return out
}

func jsonOrNil(b []byte) json.RawMessage {
	if !json.Valid(b) {
		return nil
	}
	return b
}
