package cloudapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const attachmentPath = "/whatsapp_business/attachments/"

// mediaKinds are the MIME types and sizes that Meta takes for each type of message.
var mediaKinds = map[string]struct {
	types []string
	limit int
}{
	"image":   {[]string{"image/jpeg", "image/png"}, 5 << 20},
	"video":   {[]string{"video/mp4", "video/3gpp"}, 16 << 20},
	"audio":   {[]string{"audio/aac", "audio/mp4", "audio/mpeg", "audio/amr", "audio/ogg", "audio/opus"}, 16 << 20},
	"sticker": {[]string{"image/webp"}, 500 << 10},
	"document": {[]string{
		"text/plain", "application/pdf", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
		"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
		"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
		"application/vnd.openxmlformats-officedocument.presentationml.presentation",
	}, maxMedia},
}

func baseType(mimeType string) string {
	base, _, err := mime.ParseMediaType(mimeType)
	if err != nil {
		return ""
	}
	return base
}

// fitsKind says whether media of the MIME type can be a message of the kind; any accepted type can be a document.
func fitsKind(mimeType, kind string) bool {
	return kind == "document" || slices.Contains(mediaKinds[kind].types, baseType(mimeType))
}

// uploadLimit is the size limit of a MIME type, 0 for one that Meta does not take.
func uploadLimit(mimeType string) int {
	base := baseType(mimeType)
	for _, kind := range mediaKinds {
		if slices.Contains(kind.types, base) {
			return kind.limit
		}
	}
	return 0
}

type storedMedia struct {
	id, phoneNumberID  string
	mimeType, filename string
	data               []byte
	sum                [sha256.Size]byte
}

func (m storedMedia) base64Sum() string { return base64.StdEncoding.EncodeToString(m.sum[:]) }

type mediaStore struct {
	limit int64

	mu    sync.Mutex // guards what is below
	items map[string]storedMedia
	order []string // oldest first
	bytes int64
}

func newMediaStore(limit int64) *mediaStore {
	return &mediaStore{limit: limit, items: map[string]storedMedia{}}
}

func (st *mediaStore) get(id string) (storedMedia, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	m, ok := st.items[id]
	return m, ok
}

func (st *mediaStore) put(m storedMedia) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.items[m.id] = m
	st.order = append(st.order, m.id)
	st.bytes += int64(len(m.data))
	for st.bytes > st.limit && len(st.order) > 1 {
		st.removeLocked(st.order[0])
	}
}

func (st *mediaStore) remove(id string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.removeLocked(id)
}

func (st *mediaStore) removeLocked(id string) {
	if m, ok := st.items[id]; ok {
		delete(st.items, id)
		st.bytes -= int64(len(m.data))
	}
	st.order = slices.DeleteFunc(st.order, func(have string) bool { return have == id })
}

func (s *Server) store(number, mimeType, filename string, data []byte) storedMedia {
	m := storedMedia{
		id: s.ids.number(16), phoneNumberID: number, mimeType: mimeType, filename: filename,
		data: data, sum: sha256.Sum256(data),
	}
	s.media.put(m)
	return m
}

// CustomerUpload stores a file of a customer's and returns its media id for Incoming.Media. Customers may send any
// MIME type, as they can to a business.
func (s *Server) CustomerUpload(phoneNumberID, mimeType, filename string, data []byte) (mediaID string, err error) {
	if _, ok := s.Number(phoneNumberID); !ok {
		return "", fmt.Errorf("number %s: %w", phoneNumberID, ErrNotFound)
	}
	if len(data) == 0 || len(data) > maxMedia {
		return "", fmt.Errorf("%w media of %d bytes: 1 byte to 100 MiB", ErrInvalid, len(data))
	}
	if mimeType == "" {
		mimeType = http.DetectContentType(data)
	}
	if baseType(mimeType) == "" {
		return "", fmt.Errorf("%w MIME type %q", ErrInvalid, mimeType)
	}
	return s.store(phoneNumberID, mimeType, filename, data).id, nil
}

// sameAccount says whether the media's number is of n's business account; it needs s.mu.
func (s *Server) sameAccount(owner string, n *number) bool {
	o := s.numbers[owner]
	return o != nil && o.BusinessAccountID == n.BusinessAccountID
}

func (s *Server) ownsMedia(m storedMedia, token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := s.numbers[m.phoneNumberID]
	if owner == nil {
		return false
	}
	for _, n := range s.numbers {
		if n.BusinessAccountID == owner.BusinessAccountID && sameSecret(n.AccessToken, token) {
			return true
		}
	}
	return false
}

// uploadMedia serves POST /{phone-number-id}/media.
func (s *Server) uploadMedia(c *graphCall, n Number) {
	filename, declared, data, fields, e := readUpload(c)
	if e == nil {
		e = checkUpload(&declared, data, fields)
	}
	if e != nil {
		s.fail(c, e)
		return
	}
	m := s.store(n.PhoneNumberID, declared, filename, data)
	s.ok(c, struct {
		ID string `json:"id"`
	}{m.id})
}

func checkUpload(declared *string, data []byte, fields map[string]string) *graphError {
	if fields["messaging_product"] != "whatsapp" {
		return paramRequired("messaging_product")
	}
	if data == nil {
		return paramRequired("file")
	}
	if t := fields["type"]; t != "" {
		*declared = t
	}
	limit := uploadLimit(*declared)
	switch {
	case limit == 0:
		return &graphError{
			status: 400, code: 100,
			message: "(#100) Param file must be a file with one of the following types: audio/aac, audio/mp4, audio/mpeg, audio/amr, " +
				"audio/ogg, audio/opus, application/vnd.ms-powerpoint, application/msword, " +
				"application/vnd.openxmlformats-officedocument.wordprocessingml.document, " +
				"application/vnd.openxmlformats-officedocument.presentationml.presentation, " +
				"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet, application/pdf, text/plain, " +
				"application/vnd.ms-excel, image/jpeg, image/png, image/webp, video/mp4, video/3gpp. " +
				"Received file of type '" + *declared + "'.",
		}
	case len(data) == 0:
		return codeError(100, "The file is empty.")
	case len(data) > limit:
		return codeError(131053, fmt.Sprintf("The file is too large: %d bytes, at most %d for %s.", len(data), limit, *declared))
	}
	return nil
}

// readUpload reads the multipart body; a file of no bytes is empty, none at all is nil.
func readUpload(c *graphCall) (filename, mimeType string, data []byte, fields map[string]string, e *graphError) {
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxMedia+maxJSON)
	parts, err := c.r.MultipartReader()
	if err != nil {
		return "", "", nil, nil, codeError(100, "The request body must be multipart/form-data.")
	}
	fields = map[string]string{}
	for range 32 {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return filename, mimeType, data, fields, nil
		}
		if err != nil {
			return "", "", nil, nil, uploadError(err)
		}
		limit := int64(4096)
		if part.FormName() == "file" {
			limit = maxMedia + 1
		}
		b, err := io.ReadAll(io.LimitReader(part, limit))
		if err != nil {
			return "", "", nil, nil, uploadError(err)
		}
		if part.FormName() != "file" {
			fields[part.FormName()] = string(b)
			continue
		}
		filename, mimeType, data = part.FileName(), part.Header.Get("Content-Type"), b
		if data == nil {
			data = []byte{}
		}
	}
	return "", "", nil, nil, codeError(100, "The request has too many parts.")
}

func uploadError(err error) *graphError {
	e := codeError(100, "The multipart body is broken.")
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		e = codeError(131053, "The file must be at most 100 MB.")
		e.status = http.StatusRequestEntityTooLarge
	}
	return e
}

// serveMedia serves GET and DELETE /{media-id}.
func (s *Server) serveMedia(c *graphCall, m storedMedia) {
	if want := c.r.URL.Query().Get("phone_number_id"); want != "" && want != m.phoneNumberID {
		s.fail(c, missingObject(c.r.Method, m.id))
		return
	}
	switch c.r.Method {
	case http.MethodGet:
		s.ok(c, struct {
			URL      string `json:"url"`
			MIMEType string `json:"mime_type"`
			SHA256   string `json:"sha256"`
			FileSize int    `json:"file_size"`
			ID       string `json:"id"`
			Product  string `json:"messaging_product"`
		}{s.mediaURL(c.r, m), m.mimeType, hex.EncodeToString(m.sum[:]), len(m.data), m.id, "whatsapp"})
	case http.MethodDelete:
		s.media.remove(m.id)
		s.ok(c, success{true})
	default:
		s.fail(c, missingObject(c.r.Method, m.id))
	}
}

// mediaURL makes a link that lives for MediaURLTTL.
func (s *Server) mediaURL(r *http.Request, m storedMedia) string {
	base := s.opts.PublicURL
	if base == "" {
		base = "http://" + r.Host
		if r.TLS != nil {
			base = "https://" + r.Host
		}
	}
	until := s.opts.Now().Add(s.opts.MediaURLTTL)
	if s.faults.take(FaultMediaExpired, about{number: m.phoneNumberID}) != nil {
		until = s.opts.Now().Add(-time.Second)
	}
	ext := strconv.FormatInt(until.Unix(), 10)
	q := url.Values{"mid": {m.id}, "ext": {ext}, "hash": {linkHash(m, ext)}}
	return strings.TrimSuffix(base, "/") + attachmentPath + "?" + q.Encode()
}

func linkHash(m storedMedia, ext string) string {
	mac := hmac.New(sha256.New, m.sum[:])
	mac.Write([]byte(m.id + "\n" + ext))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))[:32]
}

// serveAttachment serves a media link. It needs the bearer token, as Meta's does, and answers 404 once expired.
func (s *Server) serveAttachment(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	m, ok := s.media.get(q.Get("mid"))
	status := s.attachmentStatus(r, m, ok)
	number := m.phoneNumberID
	a := about{number: number}
	if status == http.StatusOK && s.faults.take(FaultMediaMissing, a) != nil {
		status = http.StatusNotFound
	}
	defer s.ledger.append(Entry{Kind: KindCall, PhoneNumberID: number, Call: &Call{
		Method: r.Method, Path: attachmentPath + q.Get("mid"), HTTPStatus: status,
	}})
	if status != http.StatusOK {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", m.mimeType)
	h.Set("Content-Length", strconv.Itoa(len(m.data)))
	h.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": m.filename}))
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return
	}
	half := len(m.data) / 2
	_, _ = w.Write(m.data[:half]) // #nosec G705 -- served as what was uploaded, with nosniff
	if slow := s.faults.take(FaultMediaSlow, a); slow != nil {
		_ = http.NewResponseController(w).Flush()
		s.linger(r.Context(), slow)
	}
	if s.faults.take(FaultMediaTruncated, a) != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(m.data[half:])
}

func (s *Server) attachmentStatus(r *http.Request, m storedMedia, found bool) int {
	q := r.URL.Query()
	until, err := strconv.ParseInt(q.Get("ext"), 10, 64)
	token, _ := bearer(r)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return http.StatusMethodNotAllowed
	case token == "":
		return http.StatusUnauthorized
	case !found || err != nil || !sameSecret(q.Get("hash"), linkHash(m, q.Get("ext"))):
		return http.StatusNotFound
	case !s.ownsMedia(m, token):
		return http.StatusUnauthorized
	case s.opts.Now().Unix() >= until:
		return http.StatusNotFound
	}
	return http.StatusOK
}
