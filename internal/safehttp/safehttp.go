// Package safehttp makes HTTP clients for addresses that others chose: media links from providers, avatars, webhooks.
//
// The address is checked when it is dialled, after the name was resolved, and what is dialled is the very address that
// was checked: a name that answers differently a moment later changes nothing. Every redirect goes the same way. No
// proxy is used, whatever the environment says, since a proxy would resolve names out of our sight.
package safehttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Defaults of Options.
const (
	DefaultTimeout      = 30 * time.Second
	DefaultMaxBytes     = 100 << 20
	DefaultMaxRedirects = 5
)

// Why a request was refused. They come wrapped in the *url.Error of the client.
var (
	ErrForbiddenAddress = errors.New("address is not on the public internet")
	ErrForbiddenURL     = errors.New("only http and https URLs without user and password are fetched")
	ErrRedirect         = errors.New("redirect refused")
	ErrTooLarge         = errors.New("response is larger than allowed")
	ErrIdle             = errors.New("nothing was sent or received for too long")
)

// Resolver resolves names; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options of a client. The zero value is strict: no exceptions, and the defaults above.
type Options struct {
	// Allow lists host:port pairs that are dialled wherever they are, exactly as they stand in URLs: the endpoints that
	// the operator configured, such as "127.0.0.1:4001". Redirects from elsewhere do not get there.
	Allow   []string
	Timeout time.Duration // for the whole exchange, the body included
	// Idle is how long nothing at all may move of a body that is sent or read; 0: no such bound. With it Timeout can be
	// as long as a slow line needs, and one that hangs is given up all the same.
	Idle         time.Duration
	MaxBytes     int64    // of the body, decompressed
	MaxRedirects int      // negative: none
	Resolver     Resolver // nil: the system's

	dial func(ctx context.Context, network, address string) (net.Conn, error) // tests: in place of the network
}

// New returns a client. Close its idle connections when it is no longer needed.
func New(o Options) *http.Client {
	c := &client{allow: map[string]bool{}, resolver: o.Resolver, maxRedirects: o.MaxRedirects, maxBytes: o.MaxBytes, idle: o.Idle, dial: o.dial}
	for _, hostPort := range o.Allow {
		c.allow[strings.ToLower(hostPort)] = true
	}
	if c.resolver == nil {
		c.resolver = net.DefaultResolver
	}
	if c.maxRedirects == 0 {
		c.maxRedirects = DefaultMaxRedirects
	}
	if c.maxBytes == 0 {
		c.maxBytes = DefaultMaxBytes
	}
	if c.dial == nil {
		c.dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	// What is written may wait in the network's buffers for as long as any other part of a body.
	headers := max(15*time.Second, o.Idle)
	c.transport = &http.Transport{
		Proxy:                  nil,
		DialContext:            c.dialChecked,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  min(headers, timeout),
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           32,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        60 * time.Second,
	}
	return &http.Client{Transport: c, CheckRedirect: c.checkRedirect, Timeout: timeout}
}

type client struct {
	allow        map[string]bool
	resolver     Resolver
	maxRedirects int
	maxBytes     int64
	idle         time.Duration
	dial         func(ctx context.Context, network, address string) (net.Conn, error)
	transport    *http.Transport
}

// CloseIdleConnections lets http.Client reach the transport's.
func (c *client) CloseIdleConnections() { c.transport.CloseIdleConnections() }

// RoundTrip refuses what is no plain web address and bounds the response.
func (c *client) RoundTrip(r *http.Request) (*http.Response, error) {
	if (r.URL.Scheme != "http" && r.URL.Scheme != "https") || r.URL.User != nil || r.URL.Hostname() == "" {
		return nil, ErrForbiddenURL
	}
	r, watch := watched(r, c.idle)
	response, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, watch.end(err)
	}
	response.Body = watch.answer(response.Body)
	if response.ContentLength > c.maxBytes {
		_ = response.Body.Close() // nothing of it was wanted
		return nil, ErrTooLarge
	}
	response.Body = &boundedBody{ReadCloser: response.Body, left: c.maxBytes}
	return response, nil
}

// boundedBody fails, rather than ends, at the limit: half a file must not pass for a whole one.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		b.left = 0
		return n, ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}

// dialChecked resolves, checks and dials the addresses that passed, in the resolver's order.
func (c *client) dialChecked(ctx context.Context, network, address string) (net.Conn, error) {
	if c.allow[strings.ToLower(address)] {
		return c.dial(ctx, network, address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	addrs, err := c.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	err = ErrForbiddenAddress
	for _, addr := range addrs {
		if !Public(addr) {
			continue
		}
		conn, dialErr := c.dial(ctx, network, net.JoinHostPort(addr.Unmap().String(), port))
		if dialErr == nil {
			return conn, nil
		}
		err = dialErr
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("dial %s: %w", host, err)
}

func (c *client) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := c.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	return addrs, nil
}

// followedHeaders are the headers that may go along to another host: they say what is wanted, not who wants it.
var followedHeaders = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Range": true, "User-Agent": true,
}

func (c *client) checkRedirect(r *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > c.maxRedirects {
		return fmt.Errorf("%w: more than %d", ErrRedirect, max(c.maxRedirects, 0))
	}
	if first.URL.Scheme == "https" && r.URL.Scheme != "https" {
		return fmt.Errorf("%w: from https to %s", ErrRedirect, r.URL.Scheme)
	}
	// The URL itself may hold a token, as Telegram's do.
	r.Header.Del("Referer")
	// Once away, a chain does not get its credentials back by returning.
	elsewhere := hostPort(r) != hostPort(first)
	for _, hop := range via[1:] {
		elsewhere = elsewhere || hostPort(hop) != hostPort(first)
	}
	if !elsewhere {
		return nil
	}
	if c.allow[hostPort(r)] {
		return fmt.Errorf("%w: into a configured endpoint", ErrRedirect)
	}
	if first.Method != http.MethodGet && first.Method != http.MethodHead {
		return fmt.Errorf("%w: a %s to another host", ErrRedirect, first.Method)
	}
	for name := range r.Header {
		if !followedHeaders[name] {
			r.Header.Del(name)
		}
	}
	return nil
}

func hostPort(r *http.Request) string {
	port := r.URL.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[r.URL.Scheme]
	}
	return strings.ToLower(net.JoinHostPort(r.URL.Hostname(), port))
}
