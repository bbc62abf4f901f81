package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// statuses is the one place where a domain.Code becomes an HTTP status.
var statuses = map[domain.Code]int{
	domain.CodeInvalid:         http.StatusUnprocessableEntity,
	domain.CodeUnauthenticated: http.StatusUnauthorized,
	domain.CodeForbidden:       http.StatusForbidden,
	domain.CodeRegistration:    http.StatusForbidden,
	domain.CodeNotFound:        http.StatusNotFound,
	domain.CodeConflict:        http.StatusConflict,
	domain.CodeUnsupported:     http.StatusConflict,
	domain.CodeWindowClosed:    http.StatusConflict,
	domain.CodeTooLarge:        http.StatusRequestEntityTooLarge,
	domain.CodeRateLimited:     http.StatusTooManyRequests,
	domain.CodeUnavailable:     http.StatusServiceUnavailable,
	domain.CodeInternal:        http.StatusInternalServerError,
}

// statusClientGone is nginx's code for a request whose client hung up: it is seen in logs and metrics only.
const statusClientGone = 499

// Problem is the body of every error: RFC 9457 with two members more, code and errors.
type Problem struct {
	Type   string       `json:"type" doc:"Always about:blank: code says which kind of problem it is." example:"about:blank"`
	Title  string       `json:"title" doc:"The status in words." example:"Unprocessable Entity"`
	Status int          `json:"status" doc:"The HTTP status." example:"422"`
	Detail string       `json:"detail" doc:"What happened and what to do, in one or two sentences, for people." example:"The e-mail address is not valid."`
	Code   domain.Code  `json:"code" doc:"What happened, for programs. Stable." example:"invalid"`
	Errors []FieldError `json:"errors,omitempty" doc:"The fields or parameters at fault, if any are."`
}

// FieldError says what is wrong with one input.
type FieldError struct {
	Field   string `json:"field" doc:"The field of the body, such as location.latitude, or the parameter." example:"email"`
	Message string `json:"message" doc:"What is wrong with it, for people." example:"The e-mail address is not valid."`
}

// ContentType is huma's hook for the media type of an answer.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// Error makes a Problem an error, as huma wants it.
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

// GetStatus is huma's way to learn the status.
func (p *Problem) GetStatus() int { return p.Status }

func newProblem(status int, code domain.Code, detail string) *Problem {
	title := http.StatusText(status)
	if title == "" {
		title = "Error"
	}
	return &Problem{Type: "about:blank", Title: title, Status: status, Code: code, Detail: detail}
}

// problemOf says what the caller may know of err. headers may get Retry-After and WWW-Authenticate.
func problemOf(err error, headers http.Header) *Problem {
	var known *domain.Error
	switch {
	case errors.As(err, &known):
	case errors.Is(err, context.Canceled):
		return newProblem(statusClientGone, domain.CodeUnavailable, "The request was given up.")
	case store.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded):
		known = domain.NewError(domain.CodeUnavailable, "A part of the system does not answer at the moment. Try again in a few seconds.")
	default:
		known = domain.Public(err)
	}
	status, found := statuses[known.Code]
	if !found {
		status = http.StatusInternalServerError
	}
	if known.Code == domain.CodeInternal {
		known = domain.Public(nil) // whatever it says is not for users
	}
	switch status {
	case http.StatusUnauthorized:
		headers.Set("WWW-Authenticate", `Bearer realm="switchboard"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		headers.Set("Retry-After", retryAfter(err))
	}
	p := newProblem(status, known.Code, known.Message)
	if known.Field != "" {
		p.Errors = []FieldError{{Field: known.Field, Message: known.Message}}
	}
	return p
}

// retryAfter is in whole seconds.
func retryAfter(err error) string {
	var throttled *auth.ThrottledError
	if errors.As(err, &throttled) {
		return strconv.Itoa(max(1, int(math.Ceil(throttled.RetryAfter.Seconds()))))
	}
	return "2"
}

// logFailure writes what a problem does not tell to the log. Faults of the caller are no news.
func logFailure(ctx context.Context, p *Problem, err error) {
	if p.Status < http.StatusInternalServerError {
		return
	}
	level := slog.LevelError
	var known *domain.Error
	if errors.As(err, &known) && known.Code == domain.CodeUnavailable && known.Cause == nil {
		level = slog.LevelInfo // it has told the caller everything
	}
	r := requestOf(ctx)
	r.logger.LogAttrs(ctx, level, "request failed", slog.String("request_id", r.id), slog.Int("status", p.Status),
		slog.Int64("organization_id", r.principal.OrganizationID), slog.Int64("user_id", r.principal.UserID), slog.Any("error", err))
}

// fail answers a plain Gin request with err and ends its chain of handlers.
func fail(c *gin.Context, err error) {
	p := problemOf(err, c.Writer.Header())
	logFailure(c.Request.Context(), p, err)
	abort(c, p)
}

// abort answers a plain Gin request with p, unless an answer is already on its way.
func abort(c *gin.Context, p *Problem) {
	c.Abort()
	if c.Writer.Written() {
		return
	}
	body, err := json.Marshal(p)
	if err != nil {
		c.Status(http.StatusInternalServerError)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.Data(p.Status, p.ContentType(""), append(body, '\n'))
}

// huma makes its errors with a function that is global to the package; this package is its only user.
func init() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return newHumaError(context.Background(), http.Header{}, status, message, errs)
	}
	huma.NewErrorWithContext = func(c huma.Context, status int, message string, errs ...error) huma.StatusError {
		headers := http.Header{}
		p := newHumaError(c.Context(), headers, status, message, errs)
		for name := range headers {
			c.SetHeader(name, headers.Get(name))
		}
		return p
	}
}

// newHumaError makes a Problem of what huma found wrong with a request, or of what a handler returned.
func newHumaError(ctx context.Context, headers http.Header, status int, message string, errs []error) *Problem {
	switch {
	case status == http.StatusInternalServerError && message == "cannot read request body":
		return newProblem(http.StatusBadRequest, domain.CodeInvalid, "The body ended too early. Send it again.")
	case status == http.StatusInternalServerError || status == 0:
		err := errors.Join(errs...)
		p := problemOf(err, headers)
		logFailure(ctx, p, err)
		return p
	case status == http.StatusRequestEntityTooLarge:
		return newProblem(status, domain.CodeTooLarge, "The body is too large.")
	case status == http.StatusRequestTimeout:
		return newProblem(status, domain.CodeInvalid, "The body did not arrive in time. Send it again.")
	case status == http.StatusUnsupportedMediaType:
		return newProblem(status, domain.CodeInvalid, "The body must be JSON, with Content-Type: application/json.")
	case status == http.StatusBadRequest && len(errs) == 0:
		return newProblem(status, domain.CodeInvalid, "The request needs a body in JSON.")
	default:
		return invalidInput(status, errs)
	}
}
