package telegram

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// The stable words of channel.SendError.Code and channel.Down.Code, beside
// "provider_<Telegram's number>" and "http_<status>".
const (
	codeTokenRevoked = "token_revoked"
	codeConflict     = "conflict"
	codeMalformed    = "malformed"
	codeWebhook      = "webhook"
	codeFlood        = "rate_limited"
	codeUnreachable  = "unreachable"     // no connection; nothing left
	codeNoAnswer     = "no_answer"       // it left, no usable answer came
	codeUnsupported  = "unsupported"     // the Bot API has no such thing
	codeTooLong      = "too_long"        // text or caption over Telegram's limit
	codeTooLarge     = "too_large"       // file over Telegram's limit
	codeMediaGone    = "media_gone"      // the file cannot be had any more
	codeMediaFailed  = "media_failed"    // our own copy of the file could not be read
	codeBlocked      = "blocked"         // the customer blocked the bot
	codeDeactivated  = "deactivated"     // the customer's account is gone
	codeNotStarted   = "not_started"     // the customer never wrote to the bot
	codeRemoved      = "removed"         // the bot is not in the group any more
	codeNoRight      = "no_right"        // the group does not let the bot do it
	codeChatAbsent   = "chat_absent"     // no such chat for this bot
	codeMoved        = "chat_moved"      // the group has a new address
	codeGone         = "message_gone"    // the message meant is not there any more
	codeTooLate      = "too_late"        // Telegram's time for it has passed
	codeReaction     = "reaction_denied" // not one of the emoji that may be used
)

const (
	longestWait  = time.Hour
	floodDefault = 5 * time.Second

	newToken   = "Telegram no longer accepts this bot's token. An administrator must enter a new one from @BotFather in the channel's settings."
	busy       = "Telegram limits how fast messages can be sent; the message waits and is sent by itself."
	brokeAtAll = "Telegram had a fault while taking the message; it may or may not have arrived. Check before you send it again."
)

// phrase is a part of Telegram's descriptions, which are the only thing that
// tells its refusals apart. Compared in lower case.
type phrase struct {
	part     string
	code     string
	sentence string
}

// phrases are looked through in order; the first that fits counts.
// Source: the Bot API server's and MTProto's error texts.
var phrases = []phrase{
	{"bot was blocked by the user", codeBlocked, "The customer has blocked this bot: nothing reaches them until they unblock it."},
	{"user is deactivated", codeDeactivated, "The customer's Telegram account does not exist any more."},
	{"can't initiate conversation", codeNotStarted, "A bot may write only to people who wrote to it first. Ask the customer to start the bot."},
	{"can't send messages to bots", codeUnsupported, "Telegram does not let a bot write to another bot."},
	{"can't send messages to the bot", codeUnsupported, "Telegram does not let a bot write to another bot."},
	{"bot was kicked", codeRemoved, "The bot was removed from this group. Add it again in Telegram to write there."},
	{"bot is not a member", codeRemoved, "The bot is not in this group any more. Add it again in Telegram to write there."},
	{"group chat was deleted", codeRemoved, "This group was deleted."},
	{"group chat was deactivated", codeRemoved, "This group was closed."},
	{"chat not found", codeChatAbsent, "Telegram knows no such chat for this bot: the customer may have deleted the account, or the bot was replaced by another."},
	{"not enough rights", codeNoRight, "The group does not let this bot do that. An administrator of the group must give it the right."},
	{"have no rights", codeNoRight, "The group does not let this bot do that. An administrator of the group must give it the right."},
	{"need administrator rights", codeNoRight, "The bot must be an administrator of the channel or group for that."},
	{"chat_write_forbidden", codeNoRight, "The group does not let this bot write. An administrator of the group must give it the right."},
	{"chat_restricted", codeNoRight, "The group does not let this bot write. An administrator of the group must give it the right."},
	{"chat_send_", codeNoRight, "The group does not allow messages of this kind."},
	{"topic_closed", codeNoRight, "The topic is closed: nobody can write in it."},
	{"voice_messages_forbidden", codeNoRight, "The customer takes no voice messages. Send it as a file."},
	{"message is too long", codeTooLong, "The message is longer than Telegram allows. Send it in parts."},
	{"caption is too long", codeTooLong, "The text under the file is longer than Telegram allows. Send it as a message of its own."},
	{"request entity too large", codeTooLarge, "The file is larger than the 50 MB that Telegram takes from a bot."},
	{"file is too big", codeTooLarge, "The file is larger than Telegram allows for this kind of message. Send it as a document."},
	{"file must be non-empty", codeTooLarge, "The file is empty, and Telegram takes no empty files."},
	{"photo_invalid_dimensions", codeUnsupported, "The picture's sides are too long or too unequal for Telegram. Send it as a document."},
	{"image_process_failed", codeUnsupported, "Telegram could not read the picture. Send it as a document."},
	{"message can't be edited", codeTooLate, "Telegram does not let this message be changed any more."},
	{"message can't be deleted", codeTooLate, "Telegram does not let this message be taken back: that is possible for 48 hours."},
	{"message to edit not found", codeGone, "The message is not in the chat any more."},
	{"message_id_invalid", codeGone, "The message is not in the chat any more."},
	{"message to react not found", codeGone, "The message is not in the chat any more."},
	{"reaction_invalid", codeReaction, "Telegram does not take this emoji as a reaction here. Choose another one."},
	{"reactions_too_many", codeReaction, "A bot may put one reaction on a message."},
	{"message text is empty", codeUnsupported, "A message without text cannot be sent."},
}

// has reports whether Telegram's words hold a part, in lower case.
func (e *apiError) has(part string) bool {
	return strings.Contains(strings.ToLower(e.description), part)
}

// badToken says that the token is not, or no more, a bot's. One of the wrong
// form is "Not Found"; what answers 404 without Telegram's envelope is not
// Telegram.
func (e *apiError) badToken() bool {
	return e.understood && (e.code == http.StatusUnauthorized ||
		e.code == http.StatusNotFound && strings.EqualFold(e.description, "Not Found"))
}

// sendError is the outcome of a send or command that got this answer.
func (e *apiError) sendError() *channel.SendError {
	out := &channel.SendError{Outcome: channel.Refused, Code: fmt.Sprintf("provider_%d", e.code), Cause: e}
	switch {
	case e.code == http.StatusTooManyRequests:
		out.Outcome, out.Code, out.Message, out.RetryAfter = channel.NotSent, codeFlood, busy, e.retryAfter
		if out.RetryAfter == 0 {
			out.RetryAfter = floodDefault
		}
		return out
	case e.badToken():
		out.Outcome, out.Code, out.Message = channel.NotSent, codeTokenRevoked, newToken
		out.WholeChannel, out.RetryAfter = true, floodDefault
		return out
	case e.migrateTo != 0:
		out.Outcome, out.Code = channel.NotSent, codeMoved
		out.Message = "The group has a new address at Telegram; the message is sent there by itself."
		return out
	case e.code >= 500, e.code == http.StatusRequestTimeout, e.code == 499, e.code < 400:
		out.Outcome, out.Message = channel.Unknown, brokeAtAll
		if !e.understood {
			out.Code = fmt.Sprintf("http_%d", e.code)
		}
		return out
	case !e.understood && e.code == http.StatusRequestEntityTooLarge:
		out.Code, out.Message = codeTooLarge, "The file is larger than the 50 MB that Telegram takes from a bot."
		return out
	case !e.understood:
		out.Code = fmt.Sprintf("http_%d", e.code)
		out.Message = fmt.Sprintf("Telegram's address answered %d and said nothing that could be read. "+
			"If this stays, an administrator must check TELEGRAM_API_ENDPOINT.", e.code)
		return out
	}
	out.Message = fmt.Sprintf("Telegram refused this: %s (error %d).", e.words(), e.code)
	for _, p := range phrases {
		if e.has(p.part) {
			out.Code, out.Message = p.code, p.sentence
			break
		}
	}
	return out
}

// words is Telegram's description as part of a sentence.
func (e *apiError) words() string {
	text := strings.Join(strings.Fields(e.description), " ")
	for _, prefix := range []string{"Bad Request: ", "Forbidden: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if text = cut(strings.TrimRight(text, ". "), 300); text == "" {
		return "it gave no reason"
	}
	return text
}

// outcome turns an error of a call into that of a send: what repeats harmlessly
// is never of unknown outcome.
func outcome(err error, harmless bool) *channel.SendError {
	var said *apiError
	if errors.As(err, &said) {
		e := said.sendError()
		if harmless && e.Outcome == channel.Unknown {
			e.Outcome, e.Message = channel.NotSent, "Telegram had a fault; it is tried again by itself."
		}
		return e
	}
	var broken *transportError
	if harmless || errors.As(err, &broken) && !broken.written {
		return &channel.SendError{
			Outcome: channel.NotSent, Code: codeUnreachable, Cause: err,
			Message: "Telegram's servers cannot be reached; it is tried again by itself.",
		}
	}
	return &channel.SendError{
		Outcome: channel.Unknown, Code: codeNoAnswer, Cause: err,
		Message: "The connection broke before Telegram answered: the message may or may not have arrived. Check before you send it again.",
	}
}

func refusal(code, message string) *channel.SendError {
	return &channel.SendError{Outcome: channel.Refused, Code: code, Message: message}
}

// downOf says what a failed call of the session itself means for the channel.
func downOf(err error) *channel.Down {
	down := &channel.Down{State: domain.ChannelError, Cause: err}
	var said *apiError
	var broken *transportError
	switch {
	case errors.As(err, &broken) && broken.answer != nil:
		down.Code, down.Reason = codeMalformed, "What the Bot API's address answers cannot be read. The channel tries again by itself; if this stays, an administrator must check TELEGRAM_API_ENDPOINT."
	case !errors.As(err, &said) || said.code >= 500:
		down.Code, down.Reason = codeUnreachable, "Telegram's servers cannot be reached. The channel tries again by itself."
	case said.badToken():
		down.State, down.Code, down.Permanent = domain.ChannelLoggedOut, codeTokenRevoked, true
		down.Reason = newToken
	case said.code == http.StatusConflict && said.has("webhook"):
		down.State, down.Code = domain.ChannelConflict, codeWebhook
		down.Reason = "Another program has set a webhook for this bot. It is taken away again; end that program, or give each its own bot."
	case said.code == http.StatusConflict:
		down.State, down.Code = domain.ChannelConflict, codeConflict
		down.Reason = "Another program fetches this bot's messages with the same token. End it, or revoke the token at @BotFather and enter the new one. The channel tries again by itself."
	case said.code == http.StatusTooManyRequests:
		down.Code, down.Reason = codeFlood, "Telegram limits the number of calls at the moment. The channel tries again by itself."
	case said.understood:
		down.Code = fmt.Sprintf("provider_%d", said.code)
		down.Reason = fmt.Sprintf("Telegram refuses the connection: %s (error %d). The channel tries again by itself.", said.words(), said.code)
	default:
		down.Code = fmt.Sprintf("http_%d", said.code)
		down.Reason = fmt.Sprintf("The address of the Bot API answered %d, which Telegram's does not. An administrator must check TELEGRAM_API_ENDPOINT.", said.code)
	}
	return down
}
