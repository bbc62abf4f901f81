package media

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"switchboard/internal/domain"
)

// Errors of Blobs. A blob that does not exist is fs.ErrNotExist.
var (
	// ErrKey means that a key is not of NewKey's form.
	ErrKey = errors.New("not a media key")
	// ErrSize means that a reader gave more or fewer bytes than were announced.
	ErrSize = errors.New("media has another size than announced")
)

// Blobs keeps media bytes. Its implementations are FileSystem and S3; both are safe for concurrent use.
type Blobs interface {
	// Put stores what r gives under key. size is in bytes; if r gives more or fewer, the error is ErrSize. -1 means that
	// the size is not known. After an error there is no blob under key, unless there was one before, or the storage took it
	// and could not say so.
	Put(ctx context.Context, key string, r io.Reader, size int64, contentType string) error
	// Open returns the blob for reading; the caller closes it. The error is fs.ErrNotExist if there is none.
	Open(ctx context.Context, key string) (Blob, error)
	// Delete removes the blob. That there is none is no error.
	Delete(ctx context.Context, key string) error
	// Check says whether the storage works, for the health page.
	Check(ctx context.Context) error
}

// Blob is an opened blob. It can seek, so that it can be served in ranges.
type Blob struct {
	io.ReadSeekCloser
	Size int64 // bytes
}

// Open returns the storage that MEDIA_URL names:
//
//	file://./data/media, file:///var/lib/switchboard/media
//	s3://KEY:SECRET@host:port/bucket?region=eu-central-1&tls=false&prefix=media
//
// S3 without KEY:SECRET takes its credentials from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from MINIO_ROOT_USER and
// MINIO_ROOT_PASSWORD, from ~/.aws/credentials, or from the cloud's instance role. tls is true by default. Errors never
// contain the URL.
func Open(mediaURL string) (Blobs, error) {
	scheme, rest, _ := strings.Cut(mediaURL, "://")
	switch scheme {
	case "file":
		return NewFileSystem(rest)
	case "s3":
		return newS3(mediaURL)
	default:
		return nil, errors.New("media URL: want file://folder or s3://KEY:SECRET@host:port/bucket")
	}
}

// NewKey returns a new key for a medium of the organization: "org/<id>/<32 hex digits>".
func NewKey(organizationID int64) string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return "org/" + strconv.FormatInt(organizationID, 10) + "/" + hex.EncodeToString(random)
}

var keyForm = regexp.MustCompile(`^org/[1-9][0-9]{0,18}/[0-9a-f]{32}$`)

func checkKey(key string) error {
	if !keyForm.MatchString(key) {
		return fmt.Errorf("%w: %.60q", ErrKey, key)
	}
	return nil
}

func notFound(key string) error { return fmt.Errorf("media %s: %w", key, fs.ErrNotExist) }

// LimitReader returns a reader that fails with domain.CodeTooLarge once r gives more than limit bytes.
func LimitReader(r io.Reader, limit int64) io.Reader {
	return &limitReader{r: r, left: limit, limit: limit}
}

type limitReader struct {
	r           io.Reader
	left, limit int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if int64(n) > l.left {
		n = int(l.left)
		l.left = 0
		return n, domain.Errorf(domain.CodeTooLarge, "The file is larger than the %s that are allowed.", humanSize(l.limit))
	}
	l.left -= int64(n)
	return n, err
}

func humanSize(n int64) string {
	switch {
	case n >= 1<<20:
		return strconv.FormatInt(n>>20, 10) + " MiB"
	case n >= 1<<10:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	default:
		return strconv.FormatInt(n, 10) + " bytes"
	}
}

// sizedReader fails with ErrSize at the end of r unless it gave exactly size bytes. It also ends with its context.
type sizedReader struct {
	ctx  context.Context //nolint:containedctx // an adapter for one call
	r    io.Reader
	size int64 // -1: any
	read int64
}

func (s *sizedReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	if s.size >= 0 && (s.read > s.size || (errors.Is(err, io.EOF) && s.read < s.size)) {
		return n, fmt.Errorf("%w: %d of %d bytes", ErrSize, s.read, s.size)
	}
	return n, err
}
