package telegram

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
	"strings"
	"sync/atomic"
	"time"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
)

const (
	// maxAnswer bounds an answer, in bytes. A hundred updates of the longest
	// messages stay below it.
	maxAnswer   = 16 << 20
	userAgent   = "Switchboard/1.0"
	callTimeout = 30 * time.Second
)

// NewAPIClient is the HTTP client for calls to the Bot API. It has no time-out
// of its own: every call carries a deadline. Idle connections are dropped well
// before Telegram drops them: a message written to a connection that the other
// side just closed is one of unknown outcome.
func NewAPIClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     15 * time.Second,
		MaxIdleConnsPerHost: 32,
		ReadBufferSize:      2 << 10,
		WriteBufferSize:     2 << 10,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second},
	}}
}

// client calls the Bot API with one bot's token. The library builds the
// requests and reads the envelopes; it knows no contexts, so every call gets an
// HTTP client of its own that adds them.
type client struct {
	http  *http.Client
	api   string // format: token, method
	files string // format: token, path
	token string
}

// parseEndpoint checks an address of the Bot API: a URL with two %s.
func parseEndpoint(format string) error {
	u, err := url.Parse(fmt.Sprintf(strings.ReplaceAll(format, "%s", "%[1]s"), "x"))
	if err != nil || strings.Count(format, "%") != 2 || strings.Count(format, "%s") != 2 || u.Host == "" || u.User != nil ||
		(u.Scheme != "https" && u.Scheme != "http") {
		return fmt.Errorf("telegram: the address %q must be like https://api.telegram.org/bot%%s/%%s", format)
	}
	return nil
}

// noRedirects is a copy of c that answers with a redirect instead of following
// it: the Bot API has none, and the token in the path must not be led elsewhere.
func noRedirects(c *http.Client) *http.Client {
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// apiError is an answer that is no success.
type apiError struct {
	code        int // HTTP's and Telegram's, which are the same
	description string
	understood  bool // the body was Telegram's envelope
	retryAfter  time.Duration
	migrateTo   int64
}

func (e *apiError) Error() string {
	if !e.understood {
		return fmt.Sprintf("HTTP %d without a readable error", e.code)
	}
	return fmt.Sprintf("error %d: %s", e.code, e.description)
}

// transportError is a call that got no usable answer.
type transportError struct {
	// written: the request has left completely, so it may have been carried out.
	written bool
	cause   error
	// answer is what came, where something came that could not be read.
	answer []byte
}

func (e *transportError) Error() string { return "no answer: " + e.cause.Error() }

func (e *transportError) Unwrap() error { return e.cause }

// call calls a method. The error is an *apiError or a *transportError; neither
// holds the token.
func (c *client) call(ctx context.Context, method string, params tgbotapi.Params, files ...tgbotapi.RequestFile) (json.RawMessage, error) {
	x := &exchange{ctx: ctx, http: c.http}
	bot := &tgbotapi.BotAPI{Token: c.token, Client: x}
	bot.SetAPIEndpoint(c.api)
	var answer *tgbotapi.APIResponse
	var err error
	if len(files) > 0 {
		answer, err = bot.UploadFiles(method, params, files)
	} else {
		answer, err = bot.MakeRequest(method, params)
	}
	var said *tgbotapi.Error
	switch {
	case err == nil:
		return answer.Result, nil
	case errors.As(err, &said):
		e := &apiError{code: said.Code, description: c.scrub(said.Message), understood: true, migrateTo: said.MigrateToChatID}
		if e.code == 0 { // the library leaves it out of the answers to uploads
			e.code = x.status
		}
		e.retryAfter = min(time.Duration(max(said.RetryAfter, 0))*time.Second, longestWait)
		return nil, e
	case x.status != 0 && x.status != http.StatusOK:
		return nil, &apiError{code: x.status}
	case x.status == http.StatusOK:
		return nil, &transportError{written: true, cause: errors.New("the answer cannot be read"), answer: x.answer}
	default:
		return nil, &transportError{written: x.written.Load(), cause: bare(err)}
	}
}

// decode is call with a result.
func (c *client) decode(ctx context.Context, into any, method string, params tgbotapi.Params, files ...tgbotapi.RequestFile) error {
	result, err := c.call(ctx, method, params, files...)
	if err != nil {
		return err
	}
	if json.Unmarshal(result, into) != nil {
		return &transportError{written: true, cause: errors.New("the answer cannot be read"), answer: result}
	}
	return nil
}

// scrub takes the token out of whatever an answer repeats.
func (c *client) scrub(s string) string { return strings.ReplaceAll(clean(s), c.token, "[token]") }

// bare takes the address off an error of net/http: it holds the token.
func bare(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// exchange is the library's HTTP client for one call.
type exchange struct {
	ctx     context.Context //nolint:containedctx // the library has no place for it
	http    *http.Client
	written atomic.Bool
	status  int    // of the answer; 0 without one
	answer  []byte // its body
}

var errHuge = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)

// Do implements tgbotapi.HTTPClient. The answer is read here, within the call's
// deadline and bounds.
func (x *exchange) Do(req *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{
		// The transport tries again by itself only what has certainly not left,
		// so each new try starts anew.
		GetConn: func(string) { x.written.Store(false) },
	}
	if req.ContentLength > 0 || req.Body == nil || req.Body == http.NoBody {
		trace.WroteHeaders = func() { x.written.Store(true) }
	} else {
		// A file of unknown length. As long as its end was not read, the
		// request is not complete, and Telegram cannot have acted on it.
		req.Body = &endNoted{ReadCloser: req.Body, end: &x.written}
	}
	req = req.WithContext(httptrace.WithClientTrace(x.ctx, trace))
	req.Header.Set("User-Agent", userAgent)
	resp, err := x.http.Do(req) // #nosec G704 -- the address is the operator's setting
	if err != nil {
		return nil, bare(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	x.answer = body
	if err == nil && len(body) > maxAnswer {
		err = errHuge
		x.status = resp.StatusCode
	}
	if err != nil {
		x.written.Store(true)
		return nil, bare(err)
	}
	x.status = resp.StatusCode
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// endNoted notes when a request's body was read to its end.
type endNoted struct {
	io.ReadCloser

	end *atomic.Bool
}

func (b *endNoted) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.end.Store(true)
	}
	return n, err
}

// download opens a file of the bot's.
func (c *client) download(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf(c.files, c.token, escapePath(path)), nil)
	if err != nil {
		return nil, &transportError{cause: bare(err)}
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &transportError{cause: bare(err)}
	}
	return resp, nil
}

// escapePath keeps a path below the bot's files, whatever it holds.
func escapePath(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i, part := range parts {
		if parts[i] = url.PathEscape(part); part == "." || part == ".." {
			parts[i] = "_"
		}
	}
	return strings.Join(parts, "/")
}
