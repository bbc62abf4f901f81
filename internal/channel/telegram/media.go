package telegram

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// Telegram's limits of files, in bytes.
const (
	maxUpload = 50 << 20
	maxPhoto  = 10 << 20
	maxFetch  = 20 << 20
)

// outFile is a file of ours on its way to Telegram.
type outFile struct {
	field string
	media domain.Media
}

// attach chooses how a file is sent. What Telegram does not take as the kind
// that it is goes as a document, which takes everything.
func (o *outgoing) attach(m domain.Message) error {
	if m.Media == nil {
		return refusal(codeUnsupported, "The message has no file to send.")
	}
	if m.Media.Size > maxUpload {
		return refusal(codeTooLarge, fmt.Sprintf("Telegram takes a bot's files up to %d MB; this one has %d MB.", maxUpload>>20, m.Media.Size>>20))
	}
	if m.Type == domain.TypeSticker && m.Content != "" {
		return refusal(codeUnsupported, "Telegram shows no text under a sticker. Send the text as a message of its own.")
	}
	if err := checkLength("The text under a file", m.Content, maxCaption); err != nil {
		return err
	}
	kind := formOf(m.Type, *m.Media)
	o.method, o.file = "send"+strings.ToUpper(kind[:1])+kind[1:], &outFile{field: kind, media: *m.Media}
	o.params.AddNonEmpty("caption", m.Content)
	if seconds := m.Media.DurationMS / 1000; kind == "video" || kind == "audio" || kind == "voice" || kind == "animation" {
		o.params.AddNonZero("duration", seconds)
	}
	if kind == "video" {
		o.params.AddNonZero("width", m.Media.Width)
		o.params.AddNonZero("height", m.Media.Height)
		o.params.AddBool("supports_streaming", true)
	}
	return nil
}

// formOf is what a file can be sent as.
func formOf(kind domain.MessageType, media domain.Media) string {
	base, _, _ := strings.Cut(media.MIME, ";")
	switch mime := strings.ToLower(strings.TrimSpace(base)); {
	case kind == domain.TypeImage && mime == "image/gif":
		return "animation"
	case kind == domain.TypeImage && media.Size <= maxPhoto && (mime == "image/jpeg" || mime == "image/png" || mime == "image/webp"):
		return "photo"
	case kind == domain.TypeVideo && (mime == "video/mp4" || mime == "video/quicktime"):
		return "video"
	case kind == domain.TypeVoice && (mime == "audio/ogg" || mime == "audio/opus" || mime == "audio/mpeg" || mime == "audio/mp4" || mime == "audio/x-m4a"):
		return "voice"
	case (kind == domain.TypeAudio || kind == domain.TypeVoice) && (mime == "audio/mpeg" || mime == "audio/mp4" || mime == "audio/x-m4a" || mime == "audio/aac"):
		return "audio"
	case kind == domain.TypeSticker && (mime == "image/webp" || mime == "video/webm" || mime == "application/x-tgsticker"):
		return "sticker"
	default:
		return "document"
	}
}

// upload streams a file of ours to Telegram.
func (s *Session) upload(ctx context.Context, out outgoing, into any) error {
	ctx, cancel := context.WithCancel(ctx)
	body, stored, err := s.host.OpenMedia(ctx, out.file.media.ID)
	if err != nil {
		cancel()
		return openError(err)
	}
	// The library's goroutine may still read when the call is over; cancelling
	// first frees a read that hangs.
	file := &closable{r: body}
	defer file.close()
	defer cancel()
	return s.client.decode(ctx, into, out.method, out.params, tgbotapi.RequestFile{
		Name: out.file.field,
		Data: tgbotapi.FileReader{Name: orElse(stored.Filename, "file"), Reader: file},
	})
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

// closable is a file that one goroutine reads and another closes.
type closable struct {
	mu sync.Mutex // guards r
	r  io.ReadCloser
}

// Read reads on until close.
func (c *closable) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.r == nil {
		return 0, io.ErrClosedPipe
	}
	return c.r.Read(p)
}

func (c *closable) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.r.Close()
	c.r = nil
}

// FetchMedia opens a file that a customer sent; ref is Telegram's file id. The
// reader fails on a file of more than 20 MB and ends early only with an error.
// ctx must live until the file is read.
//
// Links live for an hour at least, so each try asks for one of its own, and one
// that is refused is asked for once more before the file counts as gone.
func (s *Session) FetchMedia(ctx context.Context, ref string) (io.ReadCloser, error) {
	file, err := s.fetchOnce(ctx, ref)
	if errors.Is(err, errMediaGone) {
		file, err = s.fetchOnce(ctx, ref)
	}
	return file, err
}

var errMediaGone = refusal(codeMediaGone, "Telegram no longer has this file. Ask the customer to send it again.")

func (s *Session) fetchOnce(ctx context.Context, ref string) (io.ReadCloser, error) {
	path, err := s.filePath(ctx, ref)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.download(ctx, path)
	if err != nil {
		return nil, outcome(err, true)
	}
	if resp.StatusCode == http.StatusOK {
		return &limited{ReadCloser: resp.Body, left: maxFetch}, nil
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
		return nil, errMediaGone
	}
	return nil, outcome(&transportError{cause: fmt.Errorf("the file's address answered HTTP %d", resp.StatusCode)}, true)
}

// filePath asks for a fresh link to a file.
func (s *Session) filePath(ctx context.Context, ref string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var file struct {
		Path string `json:"file_path"`
	}
	err := s.client.decode(ctx, &file, "getFile", tgbotapi.Params{"file_id": ref})
	said := new(apiError)
	switch {
	case errors.As(err, &said) && said.has("file is too big"):
		return "", refusal(codeTooLarge, "The file is larger than the 20 MB that Telegram gives to a bot. Ask the customer to send it another way.")
	case errors.As(err, &said) && said.code == http.StatusBadRequest:
		return "", errMediaGone
	case err != nil:
		return "", s.failed(ctx, place{}, err, true)
	case file.Path == "":
		return "", errMediaGone
	}
	return file.Path, nil
}

var errTooLong = fmt.Errorf("telegram: the file is larger than %d MB", maxFetch>>20)

// limited fails, instead of ending, when a file is larger than Telegram's limit.
type limited struct {
	io.ReadCloser

	left int64
}

// Read reads on until the limit; a byte more shows that there is more.
func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		err = errTooLong
	}
	return n, err
}
