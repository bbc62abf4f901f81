package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/media"
	"switchboard/internal/store"
)

const (
	// defaultMaxUpload is the largest file, in bytes.
	defaultMaxUpload = 100 << 20
	// uploadTimeout bounds one upload: 100 MiB over a slow line.
	uploadTimeout = 10 * time.Minute
	// linkPeriod and linkLife say how long a file's address lives: from linkLife down to linkLife-linkPeriod. Within a period it
	// stays the same, so that browsers may keep what they have.
	linkPeriod = time.Hour
	linkLife   = 2 * time.Hour
)

func (s *Server) mediaRoutes() {
	operator(s, route{
		method: http.MethodPost, path: "/api/media", id: "uploadMedia", tag: tagMedia, summary: "Upload a file",
		description: "As multipart/form-data with the one field file. Its type is what its bytes say.",
		status:      http.StatusCreated, timeout: uploadTimeout, errors: []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType},
	}, s.uploadMedia)
	s.api.OpenAPI().Paths["/api/media"].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"multipart/form-data": {Schema: &huma.Schema{
			Type: huma.TypeObject, Required: []string{"file"},
			Properties: map[string]*huma.Schema{"file": {Type: huma.TypeString, Format: "binary"}},
		}},
	}}
	r := route{
		method: http.MethodGet, path: "/api/media/{id}", id: "getMedia", tag: tagMedia, summary: "One file",
		description: "With a token: what is known of the file, and in `url` a fresh address to download it from. That address needs no token, " +
			"expires after one to two hours, and takes Range.",
		errors: []int{http.StatusUnauthorized},
	}
	register(s, r, huma.Middlewares{s.serveSigned, s.authenticate(domain.RoleOperator)}, []map[string][]string{{bearerScheme: {}}},
		func(ctx context.Context, in *IDPath) (*answer[domain.Media], error) {
			return s.getMedia(ctx, requestOf(ctx).principal, in)
		})
}

// sign gives a file that is ready its address. nil is no file.
func (s *Server) sign(organizationID int64, m *domain.Media) {
	if m == nil || m.State != domain.MediaReady || s.options.MediaLinks == nil {
		return
	}
	query := s.options.MediaLinks.Query(auth.MediaLink{
		MediaID: m.ID, OrganizationID: organizationID, Inline: media.InlineSafe(m.MIME),
		ExpiresAt: time.Now().Truncate(linkPeriod).Add(linkLife),
	})
	m.URL = "/api/media/" + strconv.FormatInt(m.ID, 10) + "?" + query
}

// signChat gives a contact's picture its address.
func (s *Server) signChat(organizationID int64, chat *domain.Chat) {
	id := chat.Contact.AvatarMediaID
	if id == nil || s.options.MediaLinks == nil {
		return
	}
	picture := domain.Media{ID: *id, State: domain.MediaReady, MIME: pictureType}
	s.sign(organizationID, &picture)
	chat.Contact.AvatarURL = picture.URL
}

// pictureType stands for what a picture turns out to be: whether it is shown or downloaded, its bytes decide (serveFile).
const pictureType = "image/jpeg"

func (s *Server) getMedia(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Media], error) {
	file, err := s.options.Inbox.Media(ctx, who, in.ID)
	s.sign(who.OrganizationID, &file)
	return answerOf(file, err)
}

// serveSigned is a middleware that answers requests with a signed address itself and lets all others pass.
func (s *Server) serveSigned(c huma.Context, next func(huma.Context)) {
	if c.Query("sig") == "" {
		next(c)
		return
	}
	g := humagin.Unwrap(c)
	id, err := strconv.ParseInt(g.Param("id"), 10, 64)
	if err != nil || id < 1 {
		fail(g, domain.NotFound("media"))
		return
	}
	link, err := s.options.MediaLinks.Verify(id, g.Request.URL.Query())
	if err == nil {
		err = s.serveFile(g.Writer, g.Request, link)
	}
	if err != nil {
		fail(g, err)
	}
}

func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, link auth.MediaLink) error {
	file, key, err := s.options.Inbox.MediaFile(r.Context(), link.OrganizationID, link.MediaID)
	if err != nil {
		return err
	}
	if file.State != domain.MediaReady || key == "" {
		return domain.NotFound("media")
	}
	blob, err := s.options.Blobs.Open(r.Context(), key)
	if errors.Is(err, fs.ErrNotExist) {
		return domain.NotFound("media")
	}
	if err != nil {
		return fmt.Errorf("open media %d: %w", file.ID, err)
	}
	defer blob.Close()
	h := w.Header()
	inline := link.Inline && media.InlineSafe(file.MIME)
	h.Set("Content-Type", "application/octet-stream")
	if inline {
		h.Set("Content-Type", file.MIME)
	}
	h.Set("Content-Disposition", media.ContentDisposition(inline, file.Filename))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	h.Set("ETag", `"`+strconv.FormatInt(file.ID, 10)+`"`) // bytes never change under an id
	h.Set("Cache-Control", "private, max-age="+strconv.Itoa(max(0, int(time.Until(link.ExpiresAt).Seconds()))))
	http.ServeContent(w, r, "", time.Time{}, blob)
	return nil
}

// uploadInput leaves the body where it is, to be read as it comes.
type uploadInput struct {
	contentType string
	length      string
	body        io.Reader
}

// Resolve is huma's way to the request itself.
func (u *uploadInput) Resolve(c huma.Context) []error {
	u.contentType, u.length, u.body = c.Header("Content-Type"), c.Header("Content-Length"), c.BodyReader()
	if err := c.SetReadDeadline(time.Now().Add(uploadTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return []error{err}
	}
	return nil
}

func (s *Server) uploadMedia(ctx context.Context, who domain.Principal, in *uploadInput) (*answer[domain.Media], error) {
	part, err := s.filePart(in)
	if err != nil {
		return nil, err
	}
	defer part.rest.Close()
	// The type must be known before the bytes are stored, and it is in them: a file in between.
	temp, err := os.CreateTemp("", "switchboard-upload-*")
	if err != nil {
		return nil, fmt.Errorf("keep an upload: %w", err)
	}
	defer func() {
		_ = temp.Close()
		if err := os.Remove(temp.Name()); err != nil {
			s.options.Logger.Warn("temporary file not removed", slog.Any("error", err))
		}
	}()
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(temp, hash), media.LimitReader(part.rest, s.options.MediaMaxBytes))
	if err != nil {
		return nil, uploadError(err)
	}
	if size == 0 {
		return nil, domain.Invalid("file", "The file is empty.")
	}
	if err := part.end(); err != nil {
		return nil, err
	}
	info, err := media.Inspect(temp)
	if err != nil {
		return nil, err
	}
	key := media.NewKey(who.OrganizationID)
	if err := s.options.Blobs.Put(ctx, key, temp, size, info.MIME); err != nil {
		return nil, fmt.Errorf("store an upload: %w", err)
	}
	file, err := s.options.Inbox.AddFile(ctx, who, store.NewFile{
		MIME: info.MIME, Filename: part.filename, SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size,
		Width: info.Width, Height: info.Height, BlobKey: key,
	})
	if err != nil {
		err = errors.Join(err, s.options.Blobs.Delete(context.WithoutCancel(ctx), key))
	}
	s.sign(who.OrganizationID, &file)
	return answerOf(file, err)
}

// filePart is the file of a form, still to be read.
type filePart struct {
	form     *multipart.Reader
	rest     *multipart.Part
	filename string
}

func (s *Server) filePart(in *uploadInput) (filePart, error) {
	kind, params, err := mime.ParseMediaType(in.contentType)
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return filePart{}, domain.Invalid("body", "Send the file as multipart/form-data, in a field named file.")
	}
	// What a form adds to its file is little: more announced than that is too large, and need not be read to know.
	const formOverhead = 64 << 10
	if length, err := strconv.ParseInt(in.length, 10, 64); err == nil && length > s.options.MediaMaxBytes+formOverhead {
		return filePart{}, domain.Errorf(domain.CodeTooLarge, "The file is larger than the %d MiB that are allowed.", s.options.MediaMaxBytes>>20)
	}
	form := multipart.NewReader(in.body, params["boundary"])
	part, err := form.NextPart()
	if errors.Is(err, io.EOF) {
		return filePart{}, domain.Invalid("file", "The form has no file. Send it in a field named file.")
	}
	if err != nil {
		return filePart{}, uploadError(err)
	}
	if part.FormName() != "file" || part.FileName() == "" {
		return filePart{}, unknownPart(part)
	}
	return filePart{form: form, rest: part, filename: media.SanitizeFilename(part.FileName())}, nil
}

// end makes sure that nothing comes behind the file.
func (p filePart) end() error {
	part, err := p.form.NextPart()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return uploadError(err)
	default:
		return unknownPart(part)
	}
}

func unknownPart(part *multipart.Part) error {
	name := shorten(part.FormName())
	if name == "file" {
		return domain.Invalid("file", "Send one file, with its name.")
	}
	return domain.Invalid(name, "The form has one field, file.")
}

// uploadError tells a body that is no form, or ended too early, from a fault of ours.
func uploadError(err error) error {
	if _, ours := errors.AsType[*fs.PathError](err); ours {
		return fmt.Errorf("keep an upload: %w", err)
	}
	if _, told := errors.AsType[*domain.Error](err); told {
		return err
	}
	return domain.Invalid("body", "The form did not arrive whole. Send it again.").WithCause(err)
}
