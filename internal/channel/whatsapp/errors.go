package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// The stable words of channel.SendError.Code and of a channel's status, beside
// "provider_<WhatsApp's number>" and "connect_<number>".
const (
	codeUnreachable   = "unreachable"       // no connection; nothing left
	codeNoAnswer      = "no_answer"         // it left, no answer came
	codeUnlinked      = "unlinked"          // an admin ended the link
	codeRemoved       = "unlinked_by_phone" // the phone, or WhatsApp, ended it
	codeKeysGone      = "keys_missing"      // the database has no keys of the device
	codeNotScanned    = "link_timeout"      // nobody scanned a code in time
	codeLinkFailed    = "link_failed"
	codeLinkRefused   = "link_refused" // this phone may not become this channel
	codePasskey       = "passkey"      // WhatsApp wants a passkey first
	codeOldPhone      = "phone_outdated"
	codeReplaced      = "replaced"
	codeBanned        = "temporary_ban"
	codeLocked        = "account_locked"
	codeAccountBanned = "account_banned"
	codeOutdated      = "client_outdated"
	codeReachOut      = "reach_out_limited" // no new chats for a while
	codeHistory       = "history_sync"      // chats of the phone are being imported
	codePairCode      = "pair_code"
	codeStorage       = "storage" // the database does not take what comes in
	codeBadAddress    = "chat_absent"
	codeUnsupported   = "unsupported"
	codeTooLarge      = "too_large"
	codeMediaGone     = "media_gone"
	codeMediaFailed   = "media_failed"
	codeNotConnected  = "not_connected"
)

// unreachable is a connection that could not be made.
func unreachable(cause error) error {
	return &channel.Down{
		State: domain.ChannelConnecting, Code: codeUnreachable, Cause: cause,
		Reason: "WhatsApp's servers cannot be reached. The channel tries again by itself.",
	}
}

// downOf says what an event of the library means for the channel; nil: nothing.
func downOf(evt any) error {
	switch e := evt.(type) {
	case *events.LoggedOut:
		return &loggedOut{reason: e.Reason}
	case *events.StreamReplaced:
		return &channel.Down{
			State: domain.ChannelConflict, Code: codeReplaced,
			Reason: "Another program has opened this link with the same keys: a copy of the database, perhaps. End it. The channel tries again by itself.",
		}
	case *events.TemporaryBan:
		return ban(e)
	case *events.ClientOutdated:
		return &channel.Down{
			State: domain.ChannelError, Code: codeOutdated,
			Reason: "WhatsApp does not accept this version of the client any more. Update Switchboard. The channel tries again by itself.",
		}
	case *events.ConnectFailure:
		return &channel.Down{
			State: domain.ChannelError, Code: fmt.Sprintf("connect_%d", int(e.Reason)),
			Reason: fmt.Sprintf("WhatsApp refuses the connection (%d). The channel tries again by itself.", int(e.Reason)),
		}
	case *events.StreamError:
		return fmt.Errorf("WhatsApp ended the connection with code %q", e.Code)
	case *events.KeepAliveTimeout:
		return errKeepAlive
	case *events.Disconnected:
		return errBroken
	case *events.ManualLoginReconnect:
		return errLinked
	default:
		return nil
	}
}

var (
	errBroken    = errors.New("WhatsApp closed the connection")
	errKeepAlive = errors.New("WhatsApp does not answer any more")
	errLinked    = errors.New("linked; the connection is made anew")
)

// loggedOut is a link that is over, by the phone or by WhatsApp.
type loggedOut struct{ reason events.ConnectFailureReason }

func (o *loggedOut) Error() string { return fmt.Sprintf("the link is ended (%d)", int(o.reason)) }

func isLoggedOut(err error) bool {
	var out *loggedOut
	return errors.As(err, &out)
}

func (o *loggedOut) code() string {
	switch o.reason {
	case events.ConnectFailureMainDeviceGone:
		return codeLocked
	case events.ConnectFailureUnknownLogout:
		return codeAccountBanned
	default:
		return codeRemoved
	}
}

func (o *loggedOut) words() string {
	switch o.code() {
	case codeLocked:
		return "WhatsApp has logged the phone itself out: the account is locked, or moved to another phone. Mend it there, then connect the channel to link it again."
	case codeAccountBanned:
		return "WhatsApp has ended the link, as it does when it bans an account. See the phone; when it works there, connect the channel to link it again."
	default:
		return "The link was removed on the phone, or WhatsApp ended it. Connect the channel to link it again."
	}
}

// Of a ban without an end leastBan is taken, and mostBan of one for ever.
const (
	leastBan = time.Minute
	mostBan  = 30 * 24 * time.Hour
)

// ban is a number that WhatsApp lets in again later. For how long it is banned
// WhatsApp does not always tell in a form that makes sense: it is not asked at
// once again all the same.
func ban(e *events.TemporaryBan) *channel.Down {
	expire := min(e.Expire, mostBan)
	if expire <= 0 {
		expire = leastBan
	}
	until := time.Now().Add(expire)
	why := banReasons[e.Code]
	if why == "" {
		why = "WhatsApp gives no reason"
	}
	return &channel.Down{
		State: domain.ChannelBanned, Code: codeBanned, Until: until, Cause: fmt.Errorf("temporary ban %d", int(e.Code)),
		Reason: fmt.Sprintf("WhatsApp has banned this number until about %s: %s. The channel connects again by itself then.",
			until.UTC().Format("02 Jan 15:04 MST"), why),
	}
}

var banReasons = map[events.TempBanReason]string{
	events.TempBanSentToTooManyPeople:    "it wrote to too many people who do not have it in their address books",
	events.TempBanBlockedByUsers:         "too many people have blocked it",
	events.TempBanCreatedTooManyGroups:   "it made too many groups with people who do not have it in their address books",
	events.TempBanSentTooManySameMessage: "it sent the same message to too many people",
	events.TempBanBroadcastList:          "it sent too many messages to a broadcast list",
}

// sendFailed turns an error of the library into the outcome of a send. Only what
// is certain not to have left, or to have been refused, is called so: all else
// is repeated under the same id, which does no harm.
func (s *Session) sendFailed(err error) error {
	var ours *channel.SendError
	if errors.As(err, &ours) {
		return ours
	}
	var iq *whatsmeow.IQError
	var answered serverError
	switch {
	case errors.Is(err, whatsmeow.ErrNotConnected), errors.Is(err, whatsmeow.ErrNotLoggedIn):
		return notConnected(err)
	case errors.As(answerOf(err), &answered):
		return s.refused(answered)
	case errors.As(err, &iq):
		return &channel.SendError{
			Outcome: channel.NotSent, Code: fmt.Sprintf("provider_%d", iq.Code), Cause: err,
			Message: "WhatsApp did not give what is needed to write to this contact; it is tried again by itself.",
		}
	case errors.Is(err, whatsmeow.ErrNotInGroup), errors.Is(err, whatsmeow.ErrGroupNotFound):
		return &channel.SendError{Outcome: channel.Refused, Code: codeBadAddress, Cause: err, Message: "This number is not in the group any more."}
	}
	return &channel.SendError{
		Outcome: channel.Unknown, Code: codeNoAnswer, Cause: err,
		Message: "WhatsApp has not confirmed the message; it is sent again by itself under the same id, so the contact gets it once.",
	}
}

// serverError is the number with which WhatsApp refuses a message.
type serverError int

func (e serverError) Error() string { return fmt.Sprintf("WhatsApp answered with error %d", int(e)) }

// answerOf finds that number in an error of the library, which only writes it
// down.
func answerOf(err error) error {
	if !errors.Is(err, whatsmeow.ErrServerReturnedError) {
		return err
	}
	var code int
	if _, scan := fmt.Sscanf(err.Error(), whatsmeow.ErrServerReturnedError.Error()+" %d", &code); scan != nil {
		return err
	}
	return serverError(code)
}

// notConnectedWait is how long the channel's sends wait when there is no
// connection. They do not count: it is no fault of theirs.
const notConnectedWait = 2 * time.Second

func notConnected(cause error) *channel.SendError {
	return &channel.SendError{
		Outcome: channel.NotSent, Code: codeNotConnected, Cause: cause, Limited: true, WholeChannel: true, RetryAfter: notConnectedWait,
		Message: "The number is not connected to WhatsApp; the message is sent when it is.",
	}
}

// reachOutWait is how long a limit on new chats is shown whose end WhatsApp has
// not told.
const reachOutWait = 24 * time.Hour

// limit shows, until a moment, that WhatsApp lets no new chats be started; a
// moment that is past takes it away.
func (s *Session) limit(conn *connection, until time.Time) {
	s.limited.Store(until.UnixMilli())
	show := func() {
		if err := s.showConnected(conn); err != nil && conn.ctx.Err() == nil {
			s.logger.Warn("limit on new chats not shown yet", slogErr(err))
		}
	}
	show()
	if left := time.Until(until); left > 0 {
		timer := time.AfterFunc(left, show)
		context.AfterFunc(conn.ctx, func() { timer.Stop() })
	}
}

// refused is WhatsApp's answer to a message that it does not deliver.
func (s *Session) refused(code serverError) error {
	e := &channel.SendError{Outcome: channel.Refused, Code: fmt.Sprintf("provider_%d", int(code)), Cause: code}
	switch code {
	case 463:
		e.Code = codeReachOut
		e.Message = "WhatsApp lets this number start no new chats at the moment. Chats in which the contact has written go on. Try again tomorrow."
		if _, conn, open := s.open(); open && s.limited.Load() < time.Now().UnixMilli() {
			s.limit(conn, time.Now().Add(reachOutWait))
		}
	case 479:
		e.Message = "WhatsApp did not understand the message (error 479). Send it in another form."
	default:
		e.Message = fmt.Sprintf("WhatsApp refused the message (error %d).", int(code))
		if code >= 500 {
			e.Outcome, e.Message = channel.NotSent, "WhatsApp had a fault; the message is sent again by itself."
		}
	}
	return e
}

func refusal(code, message string) *channel.SendError {
	return &channel.SendError{Outcome: channel.Refused, Code: code, Message: message}
}
