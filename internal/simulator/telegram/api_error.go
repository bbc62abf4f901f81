package telegram

import (
	"fmt"
	"net/http"
)

// apiError is an error answer of the Bot API.
type apiError struct {
	code        int
	description string
	retryAfter  int   // seconds
	migrateTo   int64 // the supergroup that a group became
	faultID     string
}

// errGone is the end of a call whose caller does not wait for an answer any more.
var errGone = &apiError{}

func errBadRequest(format string, args ...any) *apiError {
	return &apiError{code: http.StatusBadRequest, description: "Bad Request: " + fmt.Sprintf(format, args...)}
}

func errForbidden(text string) *apiError {
	return &apiError{code: http.StatusForbidden, description: "Forbidden: " + text}
}

func errConflict(text string) *apiError {
	return &apiError{code: http.StatusConflict, description: "Conflict: " + text}
}

func errUnauthorized() *apiError {
	return &apiError{code: http.StatusUnauthorized, description: "Unauthorized"}
}

func errNotFound(text string) *apiError {
	return &apiError{code: http.StatusNotFound, description: "Not Found" + text}
}

func errTooMany(seconds int) *apiError {
	return &apiError{
		code: http.StatusTooManyRequests, retryAfter: seconds,
		description: fmt.Sprintf("Too Many Requests: retry after %d", seconds),
	}
}

// answer is the envelope of every answer.
type answer struct {
	OK          bool              `json:"ok"`
	Result      any               `json:"result,omitempty"`
	ErrorCode   int               `json:"error_code,omitempty"`
	Description string            `json:"description,omitempty"`
	Parameters  *answerParameters `json:"parameters,omitempty"`
}

type answerParameters struct {
	MigrateToChatID int64 `json:"migrate_to_chat_id,omitempty"`
	RetryAfter      int   `json:"retry_after,omitempty"`
}

func (e *apiError) answer() answer {
	a := answer{ErrorCode: e.code, Description: e.description}
	if e.retryAfter > 0 || e.migrateTo != 0 {
		a.Parameters = &answerParameters{MigrateToChatID: e.migrateTo, RetryAfter: e.retryAfter}
	}
	return a
}
