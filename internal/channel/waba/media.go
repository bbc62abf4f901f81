package waba

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// mediaLimits are Meta's limits of files to send, in bytes.
var mediaLimits = map[domain.MessageType]int64{
	domain.TypeImage:    5 << 20,
	domain.TypeVideo:    16 << 20,
	domain.TypeAudio:    16 << 20,
	domain.TypeVoice:    16 << 20,
	domain.TypeDocument: 100 << 20,
	domain.TypeSticker:  500 << 10,
}

// maxFetch bounds a file that is fetched; customers send at most 2 GB between
// phones, and at most 100 MB to a business.
const maxFetch = 128 << 20

// uploads remembers what Meta holds already, so that a send that had to wait
// does not carry its file over again. Meta keeps a file for 30 days; we trust
// it for one.
type uploads struct {
	mu   sync.Mutex // guards byID
	byID map[int64]upload
}

type upload struct {
	handle string
	until  time.Time
}

const (
	uploadTrust = 24 * time.Hour
	maxUploads  = 512
)

func (u *uploads) get(mediaID int64) (string, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	known, ok := u.byID[mediaID]
	return known.handle, ok && time.Now().Before(known.until)
}

// put makes room, when full, by forgetting any other: a forgotten one costs an
// upload.
func (u *uploads) put(mediaID int64, handle string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byID == nil {
		u.byID = map[int64]upload{}
	}
	for id := range u.byID {
		if len(u.byID) < maxUploads {
			break
		}
		delete(u.byID, id)
	}
	u.byID[mediaID] = upload{handle: handle, until: time.Now().Add(uploadTrust)}
}

func (u *uploads) forget(mediaID int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.byID, mediaID)
}

// upload gives Meta a file of ours and returns Meta's handle. Nothing reaches
// the customer by it, so any failure but a refusal may be tried again.
func (s *Session) upload(ctx context.Context, media domain.Media) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	file, stored, err := s.host.OpenMedia(ctx, media.ID)
	if err != nil {
		return "", openError(err)
	}
	defer func() { _ = file.Close() }()
	in, err := s.uploadCall(file, stored)
	if err != nil {
		return "", err
	}
	var answer struct {
		ID string `json:"id"`
	}
	if err = s.client.do(ctx, in, &answer); err == nil && answer.ID == "" {
		err = &transportError{cause: errors.New("the answer has no media id")}
	}
	if err != nil {
		return "", s.noted(0, outcome(err, true))
	}
	s.uploads.put(media.ID, answer.ID)
	return answer.ID, nil
}

func openError(err error) error {
	e := &channel.SendError{
		Outcome: channel.NotSent, Code: codeMediaFailed, Cause: err,
		Message: "The file could not be read from our storage; it is tried again by itself.",
	}
	if domain.CodeOf(err) == domain.CodeNotFound {
		e.Outcome, e.Message = channel.Refused, "The file is no longer in our storage. Attach it again."
	}
	return e
}

// uploadCall streams the file as a form, with its length told in advance where
// it is known.
func (s *Session) uploadCall(file io.Reader, media domain.Media) (call, error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	mime := mimeOf(media.MIME)
	header := textproto.MIMEHeader{}
	header.Set("Content-Disposition", multipart.FileContentDisposition("file", orElse(media.Filename, "file")))
	header.Set("Content-Type", mime)
	_ = w.WriteField("messaging_product", "whatsapp") // a buffer takes everything
	_ = w.WriteField("type", mime)
	if _, err := w.CreatePart(header); err != nil {
		return call{}, fmt.Errorf("encode the upload: %w", err)
	}
	tail := "\r\n--" + w.Boundary() + "--\r\n"
	size := int64(-1)
	if media.Size > 0 {
		size = int64(form.Len()) + media.Size + int64(len(tail))
	}
	return call{
		method: http.MethodPost, path: s.number + "/media", size: size, contentType: w.FormDataContentType(),
		body: io.MultiReader(&form, file, strings.NewReader(tail)),
	}, nil
}

// FetchMedia opens a file that a customer sent; ref is Meta's media id. The
// reader fails on a file of more than 128 MiB and ends early only with an
// error. ctx must live until the file is read.
//
// Links live for 5 minutes and sometimes less, so one that is refused is asked
// for once more before the file counts as gone.
func (s *Session) FetchMedia(ctx context.Context, ref string) (io.ReadCloser, error) {
	file, err := s.fetchOnce(ctx, ref)
	if e := new(channel.SendError); errors.As(err, &e) && e.Code == codeMediaGone {
		file, err = s.fetchOnce(ctx, ref)
	}
	return file, err
}

var errMediaGone = refusal(codeMediaGone, "WhatsApp no longer has this file. Ask the customer to send it again.")

func (s *Session) fetchOnce(ctx context.Context, ref string) (io.ReadCloser, error) {
	if !isDigits(ref) {
		return nil, errMediaGone
	}
	link, err := s.mediaLink(ctx, ref)
	if err != nil {
		return nil, err
	}
	httpClient, err := s.client.forLink(link)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link.String(), nil)
	if err != nil {
		return nil, outcome(bare(err), true)
	}
	req.Header.Set("Authorization", "Bearer "+s.client.token)
	req.Header.Set("User-Agent", userAgent)
	resp, err := httpClient.Do(req)
	if err != nil {
		if e := new(channel.SendError); errors.As(err, &e) { // a redirect that forLink's rule refused
			return nil, e
		}
		return nil, outcome(&transportError{cause: bare(err)}, true)
	}
	if resp.StatusCode == http.StatusOK {
		return &limited{ReadCloser: resp.Body, left: maxFetch}, nil
	}
	_ = resp.Body.Close()
	return nil, linkError(resp)
}

// linkError is a media link's answer that is no file.
func linkError(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone, http.StatusForbidden, http.StatusUnauthorized:
		return errMediaGone // the token was good a moment ago, so it is the link
	case http.StatusTooManyRequests:
		return (&graphError{status: resp.StatusCode, retryAfter: retryAfter(resp.Header)}).sendError()
	default:
		return outcome(&transportError{cause: fmt.Errorf("the media link answered HTTP %d", resp.StatusCode)}, true)
	}
}

// mediaLink asks for a fresh link to a file.
func (s *Session) mediaLink(ctx context.Context, ref string) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var answer struct {
		URL string `json:"url"`
	}
	err := s.client.do(ctx, call{method: http.MethodGet, path: ref, query: url.Values{"phone_number_id": {s.number}}}, &answer)
	var meta *graphError
	switch {
	case errors.As(err, &meta) && meta.missing():
		return nil, errMediaGone
	case err != nil:
		return nil, s.noted(0, outcome(err, true))
	}
	link, err := url.Parse(answer.URL)
	if err != nil {
		return nil, unsafeLink()
	}
	return link, nil
}

func unsafeLink() *channel.SendError {
	return refusal(codeMediaUnsafe, "WhatsApp's answer led to a place that is not WhatsApp's, so the file was not fetched.")
}

// forLink chooses the client for a link that came from outside, and with it
// whether the token may go there: to the Graph API's own host as configured, or
// over TLS to Meta's file servers.
func (c *client) forLink(link *url.URL) (*http.Client, error) {
	switch {
	case c.own(link):
		own := *c.api
		own.CheckRedirect = c.checkRedirect
		return &own, nil
	case c.media != nil && metas(link):
		guarded := *c.media
		guarded.CheckRedirect = c.checkRedirect
		return &guarded, nil
	default:
		return nil, unsafeLink()
	}
}

// checkRedirect keeps a redirect under the rule of the link that it came from:
// from the Graph API's host to itself, from Meta's file servers to them. Each
// client thus meets only the hosts that it is meant for.
func (c *client) checkRedirect(next *http.Request, via []*http.Request) error {
	from := via[0].URL
	if len(via) >= 3 || next.URL.User != nil || (c.own(from) && !c.own(next.URL)) || (!c.own(from) && !metas(next.URL)) {
		return unsafeLink()
	}
	return nil
}

func (c *client) own(link *url.URL) bool {
	return link.Scheme == c.base.Scheme && link.User == nil && strings.EqualFold(link.Host, c.base.Host)
}

// metas says whether a link leads to Meta's servers over TLS, on its usual port.
func metas(link *url.URL) bool {
	if link.Scheme != "https" || link.User != nil || (link.Port() != "" && link.Port() != "443") {
		return false
	}
	host := strings.ToLower(link.Hostname())
	for _, domain := range []string{"facebook.com", "fbsbx.com", "whatsapp.net"} {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}

// limited fails, instead of ending, when a file is larger than allowed.
type limited struct {
	io.ReadCloser

	left int64
}

// Read reads on until the limit.
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("waba: the file is larger than %d MiB", maxFetch>>20)
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.ReadCloser.Read(p)
	l.left -= int64(n)
	return n, err
}
