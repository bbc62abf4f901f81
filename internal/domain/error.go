package domain

import (
	"errors"
	"fmt"
)

// Code is the stable, machine-readable name of what went wrong. It is part of
// the public contract: REST problems and socket acknowledgements carry it.
type Code string

// The codes that users may meet. Transports map each to their own form in one
// place (HTTP status, acknowledgement).
const (
	CodeInvalid         Code = "invalid"         // a field is missing, mistyped, too long or out of range
	CodeUnauthenticated Code = "unauthenticated" // no credentials, or bad or expired ones
	CodeForbidden       Code = "forbidden"       // known caller, not allowed
	CodeNotFound        Code = "not_found"       // missing, or another organization's: the two look the same
	CodeConflict        Code = "conflict"        // the present state does not allow it
	CodeUnsupported     Code = "unsupported"     // the channel cannot do this
	CodeWindowClosed    Code = "window_closed"   // 24 hours after the customer's last message only templates may be sent
	CodeTooLarge        Code = "too_large"       // body, frame or file over the limit
	CodeRateLimited     Code = "rate_limited"    // too many attempts; try later
	CodeUnavailable     Code = "unavailable"     // a part that is needed is down; try again
	CodeInternal        Code = "internal"        // a fault of ours; details are in the log only
	CodeRegistration    Code = "registration_closed"
)

// Error is what a user may see of a failure. Message is one sentence that says
// what, where and what to do; it never holds internals, secrets or another
// organization's data. Everything that is not an *Error is internal.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Field names the offending input in the caller's own terms, for example
	// "content" or "location.latitude"; empty when no single field is at fault.
	Field string `json:"field,omitempty"`
	// Cause is for the log; it is not shown to users.
	Cause error `json:"-"`
}

// NewError makes an Error for the user.
func NewError(code Code, message string) *Error { return &Error{Code: code, Message: message} }

// Errorf is NewError with formatting.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid says that field cannot be accepted and why.
func Invalid(field, message string) *Error {
	return &Error{Code: CodeInvalid, Message: message, Field: field}
}

// NotFound says that there is no such thing in the caller's organization. what
// is a noun: "chat", "message".
func NotFound(what string) *Error {
	return &Error{Code: CodeNotFound, Message: "There is no such " + what + " in your organization."}
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap gives the cause, so that errors.Is and errors.As see through.
func (e *Error) Unwrap() error { return e.Cause }

// WithCause returns a copy of e that remembers what led to it.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// CodeOf returns the code of the first *Error in err's chain, CodeInternal for
// any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// Public returns what a user may see of err: the *Error in its chain, or an
// internal error that tells nothing.
func Public(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return NewError(CodeInternal, "Something failed on our side. Try again; if it stays, tell your administrator the time of this message.")
}
