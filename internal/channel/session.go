package channel

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"time"

	"switchboard/internal/domain"
)

// Session is one open channel.
type Session interface {
	// Run connects and serves until ctx ends (then it returns nil) or the
	// session cannot go on. An error that is a *Down tells the worker what to
	// show and whether to try again; any other error is shown as ChannelError
	// and tried again with back-off.
	Run(ctx context.Context) error
	// Send hands a message to the provider. ctx carries the deadline until
	// which the worker trusts its lease. A failure is a *SendError; any other
	// error counts as an unknown outcome.
	Send(ctx context.Context, message domain.Outbound) (Sent, error)
}

// Sent is what the provider said to an accepted message.
type Sent struct {
	ExternalID string
	// At is the provider's time of the message; zero where it tells none.
	At domain.Time
}

// The capabilities that a session may have beside Session.
type (
	// Commander carries out actions that may be repeated without harm. An
	// error is a *SendError; an unknown outcome is tried again.
	Commander interface {
		Do(ctx context.Context, command domain.Command) error
	}
	// MediaFetcher opens a file that the provider holds for us. A
	// *SendError that is not Retry means that it cannot be had any more.
	MediaFetcher interface {
		FetchMedia(ctx context.Context, ref string) (io.ReadCloser, error)
	}
	// Typer shows the customer that somebody writes. lastExternalID is the
	// customer's newest message, which some providers want named.
	Typer interface {
		Typing(ctx context.Context, peer, lastExternalID string, on bool) error
	}
	// Resender is a session whose provider recognises a message sent twice
	// under one id: after a crash its sends are repeated with NewExternalID's
	// id instead of becoming unknown.
	Resender interface {
		NewExternalID() string
	}
	// Pacer is a session whose provider limits how fast messages may go. The
	// worker asks it before it claims any and tells it what it claimed, from one
	// goroutine, so what has to wait stays in the outbox. Send and Do do not
	// wait. Read receipts are not paced: no provider counts them.
	Pacer interface {
		// Pace tells what may go at a moment.
		Pace(now time.Time) Pace
		// Sending and Doing note that a message or a command leaves now.
		Sending(now time.Time, message domain.Outbound)
		Doing(now time.Time, command domain.Command)
	}
)

// What sessions of channels can do that are opened by linking a phone.
type (
	// PairCoder gives the code with which a phone is linked instead of the QR
	// code. Unlike the rest it is asked before Ready, while the channel's state
	// is ChannelQR or ChannelPairing. The error is for people.
	PairCoder interface {
		PairCode(ctx context.Context, phone string) (PairCode, error)
	}
	// Resolver finds who has a phone number, before anything was said. The error
	// is for people; nobody has it: a domain.Error with CodeNotFound.
	Resolver interface {
		Resolve(ctx context.Context, phone string) (domain.Peer, error)
	}
)

// AskKind is what sessions are asked.
type AskKind string

// What sessions are asked, with a phone number's digits as the argument.
const (
	AskPairCode AskKind = "pair_code" // of a PairCoder; the answer is a PairCode
	AskResolve  AskKind = "resolve"   // of a Resolver; the answer is a domain.Peer
)

// PairCode is typed into a phone to link it.
type PairCode struct {
	Code      string      `json:"code"` // ABCD-1234
	ExpiresAt domain.Time `json:"expiresAt"`
}

// Pace is what a provider's limits let through at a moment.
type Pace struct {
	// Room is how many messages may go to all chats together.
	Room int
	// Waiting are the chats, by our ids, to which none may go.
	Waiting []int64
	// Again is when to ask again: Room is no longer 0, or a chat need not wait
	// any more. Zero when nothing waits.
	Again time.Time
}

// Host is what the worker gives to a session.
type Host interface {
	// Receive stores what happened on the channel, all of it or nothing.
	Receive(ctx context.Context, items []domain.Inbound) error
	// SetStatus tells how the channel is; reason is a sentence for people and
	// code a word for programs. Telling the same again does nothing.
	SetStatus(ctx context.Context, state domain.ChannelState, code, reason string) error
	// Ready says that the session can send from now on.
	Ready()
	// OpenMedia opens a stored file for sending.
	OpenMedia(ctx context.Context, mediaID int64) (io.ReadCloser, domain.Media, error)
	// Typing tells those who have the chat open that the customer begins or ends
	// to write. sender is who writes in a group, else empty. It is forgotten when
	// it cannot be told.
	Typing(ctx context.Context, peer, sender string, on bool)
}

// Intake is what the worker gives beside Host to sessions whose provider hands
// out what follows a position and forgets what lies before it.
type Intake interface {
	// Position is that of the last batch that was committed, empty at first.
	Position(ctx context.Context) (string, error)
	// ReceiveBatch is Host.Receive that commits the batch's position in the
	// same transaction.
	ReceiveBatch(ctx context.Context, batch domain.Batch) error
}

// Link is what the worker gives beside Host to sessions of channels that are
// opened by linking a phone.
type Link interface {
	// Show shows a QR code to the admin who asked for the link, and to nobody
	// else. Empty takes the last one away.
	Show(ctx context.Context, qr string, expires time.Time) error
	// Admit says whether a number may become this channel: a *domain.Error, for
	// people, if it may not.
	Admit(ctx context.Context, number string) error
	// Linked keeps who the channel is from now on: the number, and the device that
	// the provider knows it by.
	Linked(ctx context.Context, number, device string) error
	// Unlinked forgets the device, switches the channel off until an admin connects
	// it again, and shows why. The number stays the channel's. The session ends
	// after that.
	Unlinked(ctx context.Context, state domain.ChannelState, code, reason string) error
}

// Config is what a session is made from.
type Config struct {
	Channel domain.Channel
	// Secrets are the channel's credentials, unsealed. They stay in memory.
	Secrets map[string]string
	Host    Host
	Intake  Intake
	Link    Link
	// Device is the linked device (Link.Linked), empty before. Unlink asks the
	// session to end the link and nothing else; Leaving: of a channel that is
	// deleted, so what comes in meanwhile is nobody's.
	Device          string
	Unlink, Leaving bool
	// Keys is the product's database, for tables that a provider's library keeps
	// its keys in; "pgx" or "sqlite3" is its KeysDialect. It writes only under the
	// channel's lease, and calls KeysFailed's function, if one is set, with each
	// failure of a call before that returns.
	Keys        *sql.DB
	KeysDialect string
	KeysFailed  func(func(error))
	Logger      *slog.Logger
}

// Factory makes sessions of one kind.
type Factory func(Config) (Session, error)

// Down is why a session ended by itself.
type Down struct {
	State  domain.ChannelState
	Code   string
	Reason string // a sentence for people: what happened and what to do
	// Permanent sessions wait until somebody connects or changes the channel.
	Permanent bool
	// Until is when it may be tried again, where the provider tells; zero: the
	// worker's back-off decides.
	Until time.Time
	Cause error
}

func (d *Down) Error() string {
	if d.Cause != nil {
		return fmt.Sprintf("channel is %s (%s): %v", d.State, d.Code, d.Cause)
	}
	return fmt.Sprintf("channel is %s (%s)", d.State, d.Code)
}

// Unwrap gives the cause.
func (d *Down) Unwrap() error { return d.Cause }

// Outcome says what is known of a send that failed.
type Outcome int

// The outcomes of a failed send.
const (
	// Unknown: the request may have reached the provider. Never repeated by
	// itself, unless the session is a Resender.
	Unknown Outcome = iota
	// Refused: the provider said no; repeating it would fail again.
	Refused
	// NotSent: it certainly did not happen and may be tried again.
	NotSent
)

// SendError is a send or a command that did not succeed.
type SendError struct {
	Outcome Outcome
	Code    string // stable word, for example "rate_limited", "window_closed", "provider_131026"
	Message string // a sentence for the operator
	// RetryAfter is how long the provider asks to wait (NotSent only; 0: our
	// own back-off decides).
	RetryAfter time.Duration
	// WholeChannel: the wait holds for all of the channel's messages.
	WholeChannel bool
	// Limited: it was only too early. It is tried again as often as it takes,
	// and does not count as a failed try (NotSent only).
	Limited bool
	Cause   error
}

func (e *SendError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("send: %s: %v", e.Code, e.Cause)
	}
	return "send: " + e.Code
}

// Unwrap gives the cause.
func (e *SendError) Unwrap() error { return e.Cause }
