package whatsapp

import (
	"context"
	"crypto/aes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/channel"
)

// SealBytes is how much larger than a file its encrypted form is at most: a block
// of padding, and the shortened MAC.
const SealBytes = aes.BlockSize + 10

// FetchMedia implements channel.MediaFetcher. A file that WhatsApp does not have
// any more the phone is asked to upload again.
func (s *Session) FetchMedia(ctx context.Context, ref string) (io.ReadCloser, error) {
	var r mediaRef
	if err := json.Unmarshal([]byte(ref), &r); err != nil {
		return nil, refusal(codeMediaGone, "The message does not say where the file is. See the phone.")
	}
	if r.URL != "" {
		return s.fetchPicture(ctx, r.URL)
	}
	if r.DirectPath == "" || len(r.Key) == 0 {
		return nil, refusal(codeMediaGone, "The message does not say where the file is. See the phone.")
	}
	client, _, open := s.open()
	if !open {
		return nil, notConnected(nil)
	}
	file, err := s.download(ctx, client, r)
	if !isGone(err) {
		return file, err
	}
	if r.DirectPath, err = s.askAgain(ctx, client, r); err != nil {
		return nil, err
	}
	if file, err = s.download(ctx, client, r); isGone(err) {
		return nil, refusal(codeMediaGone, "WhatsApp does not have the file any more. See the phone.")
	}
	return file, err
}

// isGone reports whether WhatsApp has no such file, or not any more.
func isGone(err error) bool {
	var answer whatsmeow.DownloadHTTPError
	if !errors.As(err, &answer) || answer.Response == nil {
		return false
	}
	code := answer.StatusCode
	return code == http.StatusForbidden || code == http.StatusNotFound || code == http.StatusGone
}

// download brings a file into a temporary one, decrypted.
func (s *Session) download(ctx context.Context, client *whatsmeow.Client, r mediaRef) (io.ReadCloser, error) {
	file, err := newScratch()
	if err != nil {
		return nil, err
	}
	err = client.DownloadMediaWithPathToFile(ctx, r.DirectPath, r.EncHash, r.Hash, r.Key, whatsmeow.MediaType(r.Kind), "", false, file.File)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// scratch is a temporary file that ends with its use.
type scratch struct{ *os.File }

func newScratch() (scratch, error) {
	file, err := os.CreateTemp("", "switchboard-media-*")
	if err != nil {
		return scratch{}, fmt.Errorf("make a temporary file: %w", err)
	}
	// It has no name from now on, so nothing is left of it after a crash.
	if err := os.Remove(file.Name()); err != nil {
		return scratch{}, errors.Join(err, file.Close())
	}
	return scratch{file}, nil
}

// retries are the files that phones are asked for.
type retries struct {
	mu      sync.Mutex // guards waiting
	waiting map[string]chan *events.MediaRetry
}

func (r *retries) expect(id string) (<-chan *events.MediaRetry, func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := make(chan *events.MediaRetry, 1)
	r.waiting[id] = answer
	return answer, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.waiting[id] == answer {
			delete(r.waiting, id)
		}
	}
}

func (r *retries) answer(e *events.MediaRetry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if waiting := r.waiting[e.MessageID]; waiting != nil {
		select {
		case waiting <- e:
		default:
		}
	}
}

// askAgain has the phone upload a file again, and returns where it is then.
func (s *Session) askAgain(ctx context.Context, client *whatsmeow.Client, r mediaRef) (path string, err error) {
	chat, err1 := types.ParseJID(r.Chat)
	sender, err2 := types.ParseJID(r.Sender)
	if err := errors.Join(err1, err2); err != nil {
		return "", refusal(codeMediaGone, "The message does not say whose file it is. See the phone.")
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.RetryPatience)
	defer cancel()
	answer, forget := s.retries.expect(r.ID)
	defer forget()
	info := types.MessageInfo{ID: r.ID, MessageSource: types.MessageSource{
		Chat: chat, Sender: sender.ToNonAD(), IsFromMe: r.FromMe, IsGroup: chat.Server == types.GroupServer,
	}}
	if err := client.SendMediaRetryReceipt(ctx, &info, r.Key); err != nil {
		return "", fmt.Errorf("ask the phone for a file: %w", err)
	}
	select {
	case e := <-answer:
		told, err := whatsmeow.DecryptMediaRetryNotification(e, r.Key)
		if err == nil && told.GetResult() == waMmsRetry.MediaRetryNotification_SUCCESS && told.GetDirectPath() != "" {
			return told.GetDirectPath(), nil
		}
		if err != nil && !errors.Is(err, whatsmeow.ErrMediaNotAvailableOnPhone) {
			return "", fmt.Errorf("read the phone's answer: %w", err)
		}
		return "", refusal(codeMediaGone, "Neither WhatsApp nor the phone has the file any more. Ask the customer to send it again.")
	case <-ctx.Done():
		return "", &channel.SendError{
			Outcome: channel.NotSent, Code: codeMediaGone, Cause: context.Cause(ctx),
			Message: "WhatsApp does not have the file any more, and the phone does not answer.",
		}
	}
}

// maxPicture bounds a contact's picture, in bytes.
const maxPicture = 1 << 20

// fetchPicture brings a contact's picture. They are not encrypted.
func (s *Session) fetchPicture(ctx context.Context, url string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, refusal(codeMediaGone, "The picture's address cannot be read.")
	}
	answer, err := s.clients.media.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetch a picture: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close()
		if answer.StatusCode >= 400 && answer.StatusCode < 500 {
			return nil, refusal(codeMediaGone, "WhatsApp does not have the picture any more.")
		}
		return nil, fmt.Errorf("fetch a picture: status %d", answer.StatusCode)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxPicture), answer.Body}, nil
}
