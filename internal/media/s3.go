package media

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// unknownPart is the size of the parts in which a blob of unknown size is sent; each upload holds one in memory.
	// S3 takes 10,000 of them, far more than any medium has.
	unknownPart = 5 << 20
	s3Cleanup   = 10 * time.Second
)

// S3 keeps blobs as objects of one bucket, in any storage that speaks S3. The bucket must exist.
type S3 struct {
	client *minio.Client
	bucket string
	prefix string // empty, or ends with a slash
}

var _ Blobs = (*S3)(nil)

// newS3 reads an s3:// URL. It does not connect; Check does.
func newS3(mediaURL string) (*S3, error) {
	u, err := url.Parse(mediaURL)
	if err != nil {
		// url's own error would repeat the secret.
		return nil, errors.New("media URL: not a valid URL; percent-encode special characters in the secret")
	}
	query := u.Query()
	for name := range query {
		if name != "region" && name != "tls" && name != "prefix" {
			return nil, errors.New("media URL: the options are region, tls and prefix")
		}
	}
	tls := query.Get("tls")
	if tls != "" && tls != "true" && tls != "false" {
		return nil, errors.New("media URL: tls is true or false")
	}
	bucket := strings.Trim(u.Path, "/")
	if u.Host == "" || bucket == "" || strings.Contains(bucket, "/") {
		return nil, errors.New("media URL: want s3://KEY:SECRET@host:port/bucket")
	}
	prefix := strings.Trim(query.Get("prefix"), "/")
	if prefix != "" {
		prefix += "/"
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: s3Credentials(u.User), Secure: tls != "false", Region: query.Get("region"), Transport: s3Transport(), MaxRetries: 3,
	})
	if err != nil {
		return nil, errors.New("media URL: the host is not one of an S3 storage")
	}
	return &S3{client: client, bucket: bucket, prefix: prefix}, nil
}

func s3Credentials(user *url.Userinfo) *credentials.Credentials {
	if user != nil {
		secret, _ := user.Password()
		return credentials.NewStaticV4(user.Username(), secret, "")
	}
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
	})
}

func s3Transport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true, // blobs come as they are
	}
}

// Put implements Blobs.
func (s *S3) Put(ctx context.Context, key string, r io.Reader, size int64, contentType string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	options := minio.PutObjectOptions{
		ContentType: contentType,
		// Over TLS the signature never covers the body. Without, the client would sign it chunk by chunk, which is what
		// storages that imitate S3 get wrong, with parts and with empty bodies.
		DisableContentSha256: true,
	}
	sized := &sizedReader{ctx: ctx, r: r, size: size}
	body := bufio.NewReader(sized)
	if size < 0 {
		options.PartSize = unknownPart
		// A blob without bytes has no parts, which not every storage takes.
		if _, err := body.Peek(1); errors.Is(err, io.EOF) {
			size = 0
		}
	}
	var upload io.Reader = body
	if size >= 0 {
		// Given one byte more than announced, net/http complains only after the storage has taken the rest.
		upload = io.LimitReader(body, size)
	}
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+key, upload, size, options)
	if err == nil && size >= 0 {
		err = s.undoIfLonger(ctx, key, body)
	}
	if err != nil && size >= 0 && sized.read != size && ctx.Err() == nil {
		err = errors.Join(ErrSize, err)
	}
	if err != nil {
		return fmt.Errorf("store media %s: %w", key, err)
	}
	return nil
}

func (s *S3) undoIfLonger(ctx context.Context, key string, r io.Reader) error {
	var more [1]byte
	n, err := io.ReadFull(r, more[:])
	if n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s3Cleanup)
	defer cancel()
	return errors.Join(ErrSize, s.Delete(ctx, key))
}

// Open implements Blobs.
func (s *S3) Open(ctx context.Context, key string) (Blob, error) {
	if err := checkKey(key); err != nil {
		return Blob{}, err
	}
	object, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return Blob{}, fmt.Errorf("open media %s: %w", key, err)
	}
	info, err := object.Stat()
	if err == nil {
		return Blob{ReadSeekCloser: object, Size: info.Size}, nil
	}
	_ = object.Close() // repeats the error
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		// A missing bucket looks the same, and must not pass for media that were never there.
		if bucketErr := s.Check(ctx); bucketErr != nil {
			return Blob{}, fmt.Errorf("open media %s: %w", key, bucketErr)
		}
		return Blob{}, notFound(key)
	}
	return Blob{}, fmt.Errorf("open media %s: %w", key, err)
}

// Delete implements Blobs.
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{}); err != nil {
		return fmt.Errorf("delete media %s: %w", key, err)
	}
	return nil
}

// Check implements Blobs.
func (s *S3) Check(ctx context.Context) error {
	exists, err := s.client.BucketExists(ctx, s.bucket)
	if err != nil {
		return fmt.Errorf("media bucket %s: %w", s.bucket, err)
	}
	if !exists {
		return fmt.Errorf("media bucket %s does not exist: create it, or correct MEDIA_URL", s.bucket)
	}
	return nil
}
