package waba

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"switchboard/internal/channel"
)

const (
	// maxAnswer bounds what is read of an answer in JSON, in bytes.
	maxAnswer = 1 << 20
	userAgent = "Switchboard/1.0"

	callTimeout   = 30 * time.Second
	uploadTimeout = 5 * time.Minute
)

// NewAPIClient is the HTTP client for calls to the Graph API. Idle connections
// are dropped well before Meta drops them: a message written to a connection
// that the other side just closed is one of unknown outcome.
func NewAPIClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: callTimeout,
		IdleConnTimeout:       15 * time.Second,
		MaxIdleConnsPerHost:   32,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second},
	}}
}

// client calls the Graph API with one channel's token.
type client struct {
	base  *url.URL // with version, without a trailing slash
	api   *http.Client
	media *http.Client // nil: links to other hosts than base's are refused
	token string
}

// parseBase checks the address of the Graph API.
func parseBase(raw string) (*url.URL, error) {
	base, err := url.Parse(strings.TrimRight(raw, "/"))
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" ||
		(base.Scheme != "https" && base.Scheme != "http") {
		return nil, fmt.Errorf("waba: the Graph API's address %q must be like https://graph.facebook.com/v24.0", raw)
	}
	return base, nil
}

// noRedirects is a copy of c that answers with a redirect instead of following
// it: the Graph API has none, and the token must not be led elsewhere.
func noRedirects(c *http.Client) *http.Client {
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// transportError is a call that got no answer.
type transportError struct {
	written bool // the headers have left, so the rest may have, too
	cause   error
}

func (e *transportError) Error() string { return "no answer: " + e.cause.Error() }

func (e *transportError) Unwrap() error { return e.cause }

// call is a request to the Graph API.
type call struct {
	method      string
	path        string // below the base, without a leading slash
	query       url.Values
	body        io.Reader
	size        int64 // of the body in bytes, -1 if it is not known
	contentType string
}

func jsonCall(path string, body any) (call, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return call{}, fmt.Errorf("encode the request: %w", err)
	}
	return call{
		method: http.MethodPost, path: path, body: bytes.NewReader(encoded), size: int64(len(encoded)),
		contentType: "application/json",
	}, nil
}

// do makes the call and decodes a success into out. The error is a
// *graphError (Meta said no), a *transportError (nobody said anything), or, if
// a success could not be read, a *transportError too.
func (c *client) do(ctx context.Context, in call, out any) error {
	target := c.base.JoinPath(in.path)
	target.RawQuery = in.query.Encode()
	var written atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, traceOf(&written))
	req, err := http.NewRequestWithContext(ctx, in.method, target.String(), in.body)
	if err != nil {
		return &transportError{cause: bare(err)}
	}
	if in.body != nil {
		req.ContentLength = in.size
		req.Header.Set("Content-Type", in.contentType)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("User-Agent", userAgent)
	resp, err := c.api.Do(req)
	if err != nil {
		return &transportError{written: written.Load(), cause: bare(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return c.readError(resp, body)
	}
	if err == nil {
		err = json.Unmarshal(body, out)
	}
	if err != nil {
		return &transportError{written: true, cause: fmt.Errorf("the answer cannot be read: %w", bare(err))}
	}
	return nil
}

// traceOf sets written as soon as a request's headers are on their way. The
// transport tries again by itself only what has certainly not left, so each new
// try starts anew.
func traceOf(written *atomic.Bool) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:      func(string) { written.Store(false) },
		WroteHeaders: func() { written.Store(true) },
	}
}

// bare takes the address off an error of net/http: links to media are secrets
// for as long as they live.
func bare(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

func (c *client) readError(resp *http.Response, body []byte) *graphError {
	e := &graphError{status: resp.StatusCode, retryAfter: retryAfter(resp.Header)}
	var answer struct {
		Error *struct {
			metaError

			Subcode int `json:"error_subcode"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error == nil || answer.Error.Code == 0 {
		return e
	}
	e.metaError, e.subcode, e.understood = answer.Error.metaError, answer.Error.Subcode, true
	for _, s := range []*string{&e.Title, &e.Message, &e.ErrorData.Details} {
		*s = strings.ReplaceAll(*s, c.token, "[token]") // whatever an answer repeats
	}
	return e
}

// retryAfter reads the header, in seconds or as a date; 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, 1<<20))*time.Second, longestWait)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, min(time.Until(at), longestWait))
	}
	return 0
}

// outcome turns an error of do into that of a send: what repeats harmlessly
// (uploads, look-ups) is never of unknown outcome.
func outcome(err error, harmless bool) *channel.SendError {
	var meta *graphError
	if errors.As(err, &meta) {
		e := meta.sendError()
		if harmless && e.Outcome == channel.Unknown {
			e.Outcome = channel.NotSent
			e.Message = "WhatsApp had a fault; it is tried again by itself."
		}
		return e
	}
	var broken *transportError
	if harmless || (errors.As(err, &broken) && !broken.written) {
		return &channel.SendError{
			Outcome: channel.NotSent, Code: codeUnreachable, Cause: err,
			Message: "WhatsApp's servers cannot be reached; it is tried again by itself.",
		}
	}
	return &channel.SendError{
		Outcome: channel.Unknown, Code: codeNoAnswer, Cause: err,
		Message: "The connection broke before WhatsApp answered: the message may or may not have arrived. Check before you send it again.",
	}
}

func refusal(code, message string) *channel.SendError {
	return &channel.SendError{Outcome: channel.Refused, Code: code, Message: message}
}
