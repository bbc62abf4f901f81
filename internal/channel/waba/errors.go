package waba

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// The stable words of channel.SendError.Code beside "provider_<Meta's number>"
// and "http_<status>".
const (
	codeRateLimited  = "rate_limited"
	codeWindowClosed = string(domain.CodeWindowClosed)
	codeTokenInvalid = "token_invalid"
	codeUnreachable  = "unreachable"   // no connection; nothing left
	codeNoAnswer     = "no_answer"     // it left, no usable answer came
	codeUnsupported  = "unsupported"   // the Cloud API has no such thing
	codeTooLong      = "too_long"      // text or caption over Meta's limit
	codeTooLarge     = "too_large"     // file over Meta's limit
	codeMediaGone    = "media_gone"    // the file cannot be had any more
	codeMediaUnsafe  = "media_unsafe"  // a link to a host that is not Meta's
	codeMediaFailed  = "media_failed"  // our own copy of the file could not be read
	codeNumberAbsent = "number_absent" // Meta knows no such number, or not for this token
)

// verdict is what one of Meta's codes tells of a send.
type verdict int

const (
	refused   verdict = iota // a definite no
	wait                     // over a limit of the number or account; nothing was accepted
	waitPair                 // over the limit of one conversation
	badToken                 // the credentials; nothing was accepted
	uncertain                // "something went wrong": it may have happened
)

// known is one of Meta's codes. A zero sentence means Meta's own words.
type known struct {
	verdict  verdict
	sentence string
}

const (
	busy       = "WhatsApp limits how fast messages can be sent; the message waits and is sent by itself."
	brokeAtAll = "WhatsApp had a fault while taking the message; it may or may not have arrived. Check before you send it again."
	newToken   = "WhatsApp no longer accepts this channel's access token. An administrator must enter a new one in the channel's settings."
	noRight    = "The channel's access token may not do this. An administrator must give it the permission whatsapp_business_messaging at Meta, or enter another one."
)

// codes are Meta's documented error codes that an operator may meet.
// Source: Cloud API reference, "Error codes".
var codes = map[int]known{
	1:      {uncertain, brokeAtAll},
	2:      {uncertain, brokeAtAll},
	3:      {refused, noRight},
	4:      {wait, busy},
	10:     {refused, noRight},
	17:     {wait, busy},
	32:     {wait, busy},
	33:     {refused, "This WhatsApp number was removed at Meta. An administrator must check the channel."},
	102:    {badToken, newToken},
	104:    {badToken, newToken},
	190:    {badToken, newToken},
	341:    {wait, busy},
	368:    {refused, "Meta has blocked this account for a time because of its policies. An administrator finds the reason in WhatsApp Manager."},
	463:    {badToken, newToken},
	467:    {badToken, newToken},
	613:    {wait, busy},
	80007:  {wait, busy},
	130403: {refused, "The customer's number is blocked for this account. Remove it from the block list in WhatsApp Manager first."},
	130429: {wait, busy},
	130472: {refused, "WhatsApp did not deliver this: the customer is part of an experiment of Meta's in which marketing messages are held back. Wait until the customer writes."},
	130497: {refused, "Meta does not let this business write to customers in that country."},
	131000: {uncertain, brokeAtAll},
	131005: {refused, noRight},
	131008: {refused, ""},
	131009: {refused, ""},
	131016: {uncertain, brokeAtAll},
	131021: {refused, "The customer's number is this channel's own number."},
	131026: {refused, "WhatsApp could not deliver this: the number has no WhatsApp, an old version of it, or has not accepted its terms. Reach the customer another way."},
	131030: {refused, "The number is not on the list of allowed recipients of Meta's test account. Add it in the app dashboard."},
	131031: {refused, "Meta has locked this WhatsApp account. An administrator finds the reason in WhatsApp Manager."},
	131037: {refused, "The number's display name is not approved yet. An administrator sets it in WhatsApp Manager."},
	131042: {refused, "Meta has a problem with the account's payment method. An administrator must fix it in WhatsApp Manager."},
	131045: {refused, "The number is not registered for sending. An administrator must register it at Meta."},
	131047: {refused, "More than 24 hours have passed since the customer's last message: only a template can be sent now."},
	131048: {wait, "Meta has restricted sending from this number because customers blocked or reported its messages; the message waits and is tried again. An administrator sees the number's quality in WhatsApp Manager."},
	131049: {refused, "WhatsApp held this marketing message back, since the customer got many lately. Try again in a day, or wait until the customer writes."},
	131050: {refused, "The customer does not want marketing messages from this business."},
	131051: {refused, "WhatsApp does not support this type of message."},
	131052: {refused, "WhatsApp could not load a file that the customer sent. Ask for it again."},
	131053: {refused, "WhatsApp did not take the file: its type or size is not allowed for this kind of message. Send it as a document or in another format."},
	131056: {waitPair, "Too many messages went to this customer in a short time; the message waits and is sent by itself."},
	131057: {wait, "WhatsApp has this account in maintenance; the message waits and is sent by itself."},
	131059: {refused, ""},
	131061: {refused, ""},
	132000: {refused, "The template wants another number of parameters."},
	132001: {refused, "There is no approved template of this name in this language."},
	132005: {refused, "The template's text is too long with these parameters."},
	132007: {refused, "The template's text breaks WhatsApp's rules."},
	132012: {refused, "The template's parameters have the wrong form."},
	132015: {refused, "The template is paused because of low quality."},
	132016: {refused, "The template was paused too often and is now disabled."},
	132068: {refused, "The template's form is blocked."},
	132069: {refused, "The template's form is throttled. Try again in an hour."},
	133004: {uncertain, brokeAtAll},
	133010: {refused, "The number is not registered with the Cloud API. An administrator must register it at Meta."},
	134011: {refused, "Meta's payment terms are not accepted. An administrator must accept them."},
	135000: {refused, ""},
}

// Default waits where Meta names none, in line with its documented limits: one
// message each 6 seconds to one customer, so many a second from one number
// (130429), and what is counted by the hour. They grow (pacing.Gate).
const (
	pairWait    = 6 * time.Second
	numberWait  = 2 * time.Second
	channelWait = 30 * time.Second
	longestWait = time.Hour

	numberLimit = 130429
)

// codeWord is the stable word of one of Meta's codes.
func codeWord(code int) string {
	if code == 131047 {
		return codeWindowClosed
	}
	if k, ok := codes[code]; ok {
		switch k.verdict {
		case wait, waitPair:
			return codeRateLimited
		case badToken:
			return codeTokenInvalid
		case refused, uncertain:
		}
	}
	return "provider_" + strconv.Itoa(code)
}

// sentence tells an operator what the error means: ours for the codes that we
// know, with Meta's words where they say more, and Meta's for the others.
func (e metaError) sentence() string {
	k := codes[e.Code]
	if k.sentence != "" {
		return k.sentence
	}
	if text := e.text(); text != "" {
		return fmt.Sprintf("WhatsApp refused this: %s (error %d).", text, e.Code)
	}
	return fmt.Sprintf("WhatsApp refused this with error %d and gave no reason.", e.Code)
}

// undelivered is sentence for a message that Meta had accepted and then failed:
// what is uncertain of a send is certain here, and nothing waits.
func (e metaError) undelivered() string {
	switch codes[e.Code].verdict {
	case wait, waitPair:
		return "WhatsApp did not deliver this because too many messages were sent in a short time. Send it again later."
	case uncertain, badToken:
		return "WhatsApp had a fault and did not deliver this. Send it again."
	case refused:
	}
	return e.sentence()
}

// graphError is an answer of the Graph API that is no success.
type graphError struct {
	metaError

	status     int // HTTP
	subcode    int
	understood bool // the body was an error in Meta's shape
	retryAfter time.Duration
}

func (e *graphError) Error() string {
	if !e.understood {
		return fmt.Sprintf("HTTP %d without a readable error", e.status)
	}
	return fmt.Sprintf("HTTP %d, error %d (subcode %d): %s", e.status, e.Code, e.subcode, e.text())
}

// missing says that the object does not exist, or not for this token.
func (e *graphError) missing() bool {
	return e.understood && (e.status == http.StatusNotFound || (e.Code == 100 && e.subcode == 33) || e.Code == 803)
}

// verdict says what the answer tells of a send.
func (e *graphError) verdict() verdict {
	if e.understood {
		if k, ok := codes[e.Code]; ok {
			return k.verdict
		}
	}
	switch {
	case e.status == http.StatusUnauthorized:
		return badToken
	case e.status == http.StatusTooManyRequests:
		return wait
	case e.status == http.StatusRequestTimeout, e.status == http.StatusTooEarly, e.status == 499:
		return uncertain // an intermediary gave up, perhaps after it had passed the request on
	case e.status >= 400 && e.status < 500:
		return refused
	default:
		return uncertain
	}
}

// sendError is the outcome of a send or command that got this answer.
func (e *graphError) sendError() *channel.SendError {
	out := &channel.SendError{Code: codeWord(e.Code), Message: e.sentence(), Cause: e}
	if !e.understood {
		out.Code = "http_" + strconv.Itoa(e.status)
		out.Message = fmt.Sprintf("WhatsApp's address answered %d and said nothing that could be read. "+
			"If this stays, an administrator must check the address of the Graph API.", e.status)
	}
	switch e.verdict() {
	case refused:
		out.Outcome = channel.Refused
	case wait:
		out.Outcome, out.WholeChannel, out.Limited = channel.NotSent, true, true
		out.Code, out.RetryAfter = codeRateLimited, e.waitFor(channelWait)
		if e.Code == numberLimit {
			out.RetryAfter = e.waitFor(numberWait)
		}
		out.Message = orElse(codes[e.Code].sentence, busy)
	case waitPair:
		out.Outcome, out.Limited, out.RetryAfter = channel.NotSent, true, e.waitFor(pairWait)
	case badToken:
		out.Outcome, out.WholeChannel, out.Code, out.Message = channel.NotSent, true, codeTokenInvalid, newToken
		out.RetryAfter = channelWait
	case uncertain:
		out.Outcome = channel.Unknown
		out.Message = brokeAtAll
	}
	return out
}

func (e *graphError) waitFor(otherwise time.Duration) time.Duration {
	if e.retryAfter > 0 {
		return min(e.retryAfter, longestWait)
	}
	return otherwise
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
