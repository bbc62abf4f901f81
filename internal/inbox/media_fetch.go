package inbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/media"
	"switchboard/internal/safehttp"
	"switchboard/internal/store"
)

// Blobs is what fetched files are kept in.
type Blobs interface {
	Put(ctx context.Context, key string, r io.Reader, size int64, contentType string) error
	Delete(ctx context.Context, key string) error
}

// MediaFetch brings the files of received messages from the provider into our
// own storage. It is safe for concurrent use.
type MediaFetch struct {
	inbox    *Service
	blobs    Blobs
	maxBytes int64
}

// NewMediaFetch makes a MediaFetch. A file of more than maxBytes is refused.
func NewMediaFetch(inbox *Service, blobs Blobs, maxBytes int64) *MediaFetch {
	return &MediaFetch{inbox: inbox, blobs: blobs, maxBytes: maxBytes}
}

// MediaGone says that the provider does not have a file any more, or will not
// give it. Message is a sentence for operators.
type MediaGone struct{ Message string }

func (e *MediaGone) Error() string { return "the provider does not give the file: " + e.Message }

const (
	// maxMediaAttempts bounds the tries of a download, those that ended with
	// the process included.
	maxMediaAttempts = 8
	// fetchTimeout bounds one try.
	fetchTimeout = 10 * time.Minute
)

// Fetch downloads one file and marks it as ready, or as failed when it cannot
// be had; then message:updated tells of it, or chat:updated of a contact's
// picture. open gives the file's bytes, which
// Fetch closes; its error is a *MediaGone when trying again is useless. An
// error of Fetch itself means that the state could not be written; the file
// stays pending and is tried again.
func (f *MediaFetch) Fetch(ctx context.Context, organizationID int64, lease store.Lease, job store.MediaJob,
	open func(ctx context.Context, ref string) (io.ReadCloser, error),
) error {
	holding := store.Holding(lease)
	begun := false
	err := f.inbox.write(ctx, organizationID, func(tx *store.Tx) error {
		var err error
		begun, err = tx.BeginMedia(job.ID, tx.Now().Add(retryDelay(job.Attempts+1)))
		return err
	}, holding)
	if err != nil || !begun {
		return err
	}
	cause := errTooOften
	var fetched store.FetchedMedia
	if job.Attempts < maxMediaAttempts {
		fetched, cause = f.bring(ctx, organizationID, job, open)
	}
	if cause == nil {
		return f.finish(ctx, organizationID, holding, job, fetched)
	}
	if ctx.Err() != nil {
		return ctx.Err() // the session ends; the next one goes on
	}
	return f.failed(ctx, organizationID, holding, job, cause)
}

func (f *MediaFetch) finish(ctx context.Context, organizationID int64, holding store.Guard, job store.MediaJob, fetched store.FetchedMedia) error {
	done := false
	err := f.inbox.write(ctx, organizationID, func(tx *store.Tx) error {
		var err error
		if done, err = tx.FinishMedia(fetched); err != nil || !done {
			return err
		}
		if job.MessageID == 0 {
			return tx.ShowPicture(job.ID)
		}
		return messageUpdated(tx, job.MessageID)
	}, holding)
	if err == nil && done {
		return nil
	}
	if err == nil || errors.Is(err, store.ErrLeaseLost) {
		// Nothing points to the blob. With any other error the commit may
		// have succeeded, and a blob too many is better than one too few.
		f.discard(ctx, fetched.BlobKey)
	}
	return err
}

// failed decides whether a download is tried again.
func (f *MediaFetch) failed(ctx context.Context, organizationID int64, holding store.Guard, job store.MediaJob, cause error) error {
	reason, final := mediaReason(cause)
	if !final && job.Attempts+1 < maxMediaAttempts {
		f.inbox.logger.InfoContext(ctx, "download of a file is put off", slog.Int64("media", job.ID),
			slog.Int("attempts", job.Attempts+1), slog.Any("error", withoutURL(cause)))
		return nil // BeginMedia has set the next try
	}
	f.inbox.logger.WarnContext(ctx, "file cannot be fetched", slog.Int64("media", job.ID),
		slog.Int("attempts", job.Attempts+1), slog.Any("error", withoutURL(cause)))
	return f.inbox.write(ctx, organizationID, func(tx *store.Tx) error {
		if job.MessageID == 0 {
			return tx.DropPicture(job.ID)
		}
		done, err := tx.FailMedia(job.ID, reason)
		if err != nil || !done {
			return err
		}
		return messageUpdated(tx, job.MessageID)
	}, holding)
}

// mediaReason is what operators read under a file that failed, and whether
// trying again is useless.
func mediaReason(cause error) (reason string, final bool) {
	var gone *MediaGone
	var user *domain.Error
	switch {
	case errors.As(cause, &gone):
		return gone.Message, true
	case errors.Is(cause, errHash):
		return "The file arrived damaged, again and again. Ask the customer to send it again.", false
	case errors.As(cause, &user) && user.Code == domain.CodeTooLarge:
		return user.Message, true
	case errors.Is(cause, safehttp.ErrTooLarge): // it is larger than was announced
		return "The file is larger than is allowed here. Ask the customer to send it another way.", true
	default:
		return "The file could not be fetched from the provider. Ask the customer to send it again.", false
	}
}

var (
	errHash     = errors.New("the file's hash is not the announced one")
	errTooOften = errors.New("every try ended before the file was here")
)

// withoutURL drops addresses from an error: a provider's may hold a token.
func withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("%s: %w", failed.Op, failed.Err)
	}
	return err
}

// bring downloads a file into a temporary one, looks at it, and stores it: the
// blob exists only once its size and hash are known to be right.
func (f *MediaFetch) bring(ctx context.Context, organizationID int64, job store.MediaJob,
	open func(ctx context.Context, ref string) (io.ReadCloser, error),
) (store.FetchedMedia, error) {
	var fetched store.FetchedMedia
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if job.Size > f.maxBytes {
		return fetched, domain.Errorf(domain.CodeTooLarge, "The file has %d KiB, and %d KiB are allowed.", job.Size>>10, f.maxBytes>>10)
	}
	file, err := os.CreateTemp("", "switchboard-media-*")
	if err != nil {
		return fetched, fmt.Errorf("make a temporary file: %w", err)
	}
	defer func() {
		file.Close()
		_ = os.Remove(file.Name())
	}()
	size, sum, err := f.download(ctx, file, job.Ref, open)
	if err != nil {
		return fetched, err
	}
	if job.SHA256 != "" && job.SHA256 != sum {
		return fetched, errHash
	}
	info, err := media.Inspect(file)
	if err != nil {
		return fetched, err
	}
	fetched = store.FetchedMedia{
		ID: job.ID, BlobKey: media.NewKey(organizationID), MIME: fileType(info.MIME, job.MIME), Size: size, Width: info.Width, Height: info.Height, SHA256: sum,
	}
	if err := f.blobs.Put(ctx, fetched.BlobKey, file, size, fetched.MIME); err != nil {
		return fetched, fmt.Errorf("store the file: %w", err)
	}
	return fetched, nil
}

// fileType is what the bytes say. Where they say nothing, the sender may, but
// never that a browser should show it.
func fileType(found, told string) string {
	if found == "application/octet-stream" && told != "" && !media.InlineSafe(told) {
		return told
	}
	return found
}

func (f *MediaFetch) download(ctx context.Context, to io.Writer, ref string,
	open func(ctx context.Context, ref string) (io.ReadCloser, error),
) (size int64, sum string, err error) {
	from, err := open(ctx, ref)
	if err != nil {
		return 0, "", err
	}
	defer from.Close()
	hash := sha256.New()
	size, err = io.Copy(io.MultiWriter(to, hash), media.LimitReader(contextReader{ctx, from}, f.maxBytes))
	if err != nil {
		return 0, "", fmt.Errorf("download the file: %w", err)
	}
	return size, hex.EncodeToString(hash.Sum(nil)), nil
}

// contextReader ends a download between two reads when its context ends; the
// session that opened it interrupts a read that hangs.
type contextReader struct {
	ctx context.Context //nolint:containedctx // an adapter for one call
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// discard removes a blob that nothing points to, even if ctx has ended.
func (f *MediaFetch) discard(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := f.blobs.Delete(ctx, key); err != nil {
		f.inbox.logger.WarnContext(ctx, "blob that nothing points to could not be removed", slog.Any("error", err))
	}
}
