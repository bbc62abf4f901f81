package media

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

// newS3Server returns the MEDIA_URL of an S3 server on loopback with the bucket "media".
func newS3Server(t *testing.T) string {
	t.Helper()
	backend := s3mem.New()
	require.NoError(t, backend.CreateBucket("media"))
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	return "s3://KEY:SECRET@" + strings.TrimPrefix(server.URL, "http://") + "/media?tls=false&region=us-east-1"
}

// forEachStorage runs one conformance test on every implementation of Blobs.
func forEachStorage(t *testing.T, test func(t *testing.T, blobs Blobs)) {
	t.Helper()
	urls := map[string]string{
		"file": "file://" + t.TempDir(),
		"s3":   newS3Server(t), "s3 with prefix": newS3Server(t) + "&prefix=a/b/",
	}
	for name, mediaURL := range urls {
		t.Run(name, func(t *testing.T) {
			blobs, err := Open(mediaURL)
			require.NoError(t, err)
			if c, ok := blobs.(io.Closer); ok {
				t.Cleanup(func() { require.NoError(t, c.Close()) })
			}
			test(t, blobs)
		})
	}
}

func readBlob(t *testing.T, blobs Blobs, key string) string {
	t.Helper()
	b, err := blobs.Open(t.Context(), key)
	require.NoError(t, err)
	text, err := io.ReadAll(b)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	require.EqualValues(t, len(text), b.Size)
	return string(text)
}

func TestBlobsKeepWhatTheyAreGiven(t *testing.T) {
	forEachStorage(t, func(t *testing.T, blobs Blobs) {
		require.NoError(t, blobs.Check(t.Context()))
		big := strings.Repeat("0123456789abcdef", 6<<20/16) // more than one part
		for _, content := range []string{"", "x", "hello", big} {
			for _, size := range []int64{int64(len(content)), -1} {
				key := NewKey(7)
				require.NoError(t, blobs.Put(t.Context(), key, strings.NewReader(content), size, "text/plain"), "%d of %d bytes", size, len(content))
				require.Equal(t, content, readBlob(t, blobs, key))
			}
		}
	})
}

func TestBlobsSeek(t *testing.T) {
	forEachStorage(t, func(t *testing.T, blobs Blobs) {
		key := NewKey(7)
		require.NoError(t, blobs.Put(t.Context(), key, strings.NewReader("0123456789"), 10, "text/plain"))
		b, err := blobs.Open(t.Context(), key)
		require.NoError(t, err)
		defer func() { require.NoError(t, b.Close()) }()
		at, err := b.Seek(-3, io.SeekEnd)
		require.NoError(t, err)
		require.EqualValues(t, 7, at)
		rest, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "789", string(rest))
		_, err = b.Seek(2, io.SeekStart)
		require.NoError(t, err)
		two := make([]byte, 2)
		_, err = io.ReadFull(b, two)
		require.NoError(t, err)
		require.Equal(t, "23", string(two))
	})
}

func TestBlobsDelete(t *testing.T) {
	forEachStorage(t, func(t *testing.T, blobs Blobs) {
		key := NewKey(7)
		_, err := blobs.Open(t.Context(), key)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.NoError(t, blobs.Delete(t.Context(), key), "there was none")
		require.NoError(t, blobs.Put(t.Context(), key, strings.NewReader("x"), 1, ""))
		require.NoError(t, blobs.Delete(t.Context(), key))
		_, err = blobs.Open(t.Context(), key)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

func TestHalfABlobIsNone(t *testing.T) {
	broken := errors.New("the line is down")
	forEachStorage(t, func(t *testing.T, blobs Blobs) {
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for name, tt := range map[string]struct {
			ctx  context.Context //nolint:containedctx // a test case
			r    io.Reader
			size int64
			want error
		}{
			"short":               {t.Context(), strings.NewReader("1234"), 5, ErrSize},
			"long":                {t.Context(), strings.NewReader("123456"), 5, ErrSize},
			"much longer":         {t.Context(), strings.NewReader(strings.Repeat("x", 1<<20)), 5, ErrSize},
			"fails":               {t.Context(), io.MultiReader(strings.NewReader("12"), iotest.ErrReader(broken)), -1, broken},
			"fails, size known":   {t.Context(), io.MultiReader(strings.NewReader("12"), iotest.ErrReader(broken)), 5, broken},
			"cancelled":           {cancelled, strings.NewReader("12345"), 5, context.Canceled},
			"cancelled, unsized":  {cancelled, strings.NewReader("12345"), -1, context.Canceled},
			"over the size limit": {t.Context(), LimitReader(strings.NewReader("12345"), 4), -1, &domain.Error{}},
		} {
			t.Run(name, func(t *testing.T) {
				key := NewKey(7)
				err := blobs.Put(tt.ctx, key, tt.r, tt.size, "")
				if _, tooLarge := tt.want.(*domain.Error); tooLarge { //nolint:errorlint // the table's own
					require.Equal(t, domain.CodeTooLarge, domain.CodeOf(err))
				} else {
					require.ErrorIs(t, err, tt.want)
				}
				_, err = blobs.Open(t.Context(), key)
				require.ErrorIs(t, err, fs.ErrNotExist)
			})
		}
	})
}

var badKeys = []string{
	"", "/", "..", "../x", "org/1/../../x", "/etc/passwd", "org/1", "org/0/" + strings.Repeat("a", 32), "org/-1/" + strings.Repeat("a", 32),
	"org/1/" + strings.Repeat("a", 31), "org/1/" + strings.Repeat("A", 32), "org/1/" + strings.Repeat("a", 32) + "\n", "org/1/" + strings.Repeat("a", 30) + "..",
	"org/1/x/" + strings.Repeat("a", 32), "org/1\\" + strings.Repeat("a", 32), ".incoming/x", "org/1/" + strings.Repeat("a", 31) + "\x00",
}

func TestForeignKeysAreRefused(t *testing.T) {
	forEachStorage(t, func(t *testing.T, blobs Blobs) {
		for _, key := range badKeys {
			require.ErrorIs(t, blobs.Put(t.Context(), key, strings.NewReader("x"), 1, ""), ErrKey, key)
			_, err := blobs.Open(t.Context(), key)
			require.ErrorIs(t, err, ErrKey, key)
			require.ErrorIs(t, blobs.Delete(t.Context(), key), ErrKey, key)
		}
	})
	require.NoError(t, checkKey(NewKey(1)))
	require.NoError(t, checkKey(NewKey(1<<63-1)))
	first, second := NewKey(1), NewKey(1)
	require.NotEqual(t, first, second)
}

func TestBlobsAtTheSameTime(t *testing.T) {
	forEachStorage(t, func(t *testing.T, blobs Blobs) {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				key, content := NewKey(int64(i%3+1)), strings.Repeat(string(rune('a'+i)), 1000)
				if err := blobs.Put(t.Context(), key, strings.NewReader(content), 1000, ""); err != nil {
					t.Error(err)
					return
				}
				b, err := blobs.Open(t.Context(), key)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(b)
				if err = errors.Join(err, b.Close()); err != nil || string(got) != content {
					t.Error("read something else than was written", err)
				}
			})
		}
		wg.Wait()
	})
}

func TestFilesArePrivateAndNothingIsLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "media")
	files, err := NewFileSystem(dir)
	require.NoError(t, err)
	key := NewKey(7)
	require.NoError(t, files.Put(t.Context(), key, strings.NewReader("x"), 1, ""))
	require.Error(t, files.Put(t.Context(), NewKey(7), strings.NewReader("x"), 2, ""))
	require.NoError(t, files.Check(t.Context()))
	count := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		if d.IsDir() {
			require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), path)
			return nil
		}
		count++
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path)
		return nil
	}))
	require.Equal(t, 1, count, "a failed upload leaves nothing")
	require.NoError(t, files.Close())
}

func TestSweepRemovesWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	files, err := NewFileSystem(dir)
	require.NoError(t, err)
	require.NoError(t, files.Close())
	old, fresh := filepath.Join(dir, tempDir, "old"), filepath.Join(dir, tempDir, "fresh")
	for _, path := range []string{old, fresh} {
		require.NoError(t, os.WriteFile(path, []byte("half"), 0o600))
	}
	past := time.Now().Add(-2 * abandoned)
	require.NoError(t, os.Chtimes(old, past, past))
	files, err = NewFileSystem(dir)
	require.NoError(t, err)
	require.NoError(t, files.Close())
	require.NoFileExists(t, old)
	require.FileExists(t, fresh, "another process may be writing it")
}

func TestSymbolicLinksDoNotLeadOut(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	key := NewKey(7)
	name := filepath.Base(key)
	require.NoError(t, os.WriteFile(filepath.Join(outside, name), []byte("secret"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "org"), 0o700))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "org", "7")))
	files, err := NewFileSystem(dir)
	require.NoError(t, err)
	_, err = files.Open(t.Context(), key)
	require.Error(t, err)
	require.Error(t, files.Put(t.Context(), key, strings.NewReader("x"), 1, ""))
	require.Error(t, files.Delete(t.Context(), key))
	require.FileExists(t, filepath.Join(outside, name))
	require.NoError(t, files.Close())
}

func TestRelativeFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	blobs, err := Open("file://./data/media")
	require.NoError(t, err)
	require.NoError(t, blobs.Put(t.Context(), NewKey(1), strings.NewReader("x"), 1, ""))
	require.DirExists(t, "data/media/org/1")
	require.NoError(t, blobs.(*FileSystem).Close())
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, bad := range []string{
		"", "file://", "file://" + file, "http://x/y", "s3://KEY:hunter2@host", "s3://KEY:hunter2@host/a/b", "s3:///bucket",
		"s3://KEY:hunter2@host/bucket?tls=maybe", "s3://KEY:hunter2@host/bucket?hunter2=1", "s3://KEY:hunter2/x@host/bucket/y", "s3://KEY:hunter2%zz@host/bucket",
	} {
		_, err := Open(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestS3CheckNamesTheBucket(t *testing.T) {
	blobs, err := Open(strings.Replace(newS3Server(t), "/media?", "/other?", 1))
	require.NoError(t, err)
	require.ErrorContains(t, blobs.Check(t.Context()), "media bucket other does not exist")
	_, err = blobs.Open(t.Context(), NewKey(1))
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist, "a missing bucket is not a missing blob")
	require.NotContains(t, err.Error(), "SECRET")
}

func TestS3CredentialsFromTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "KEY")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
	blobs, err := Open(strings.Replace(newS3Server(t), "KEY:SECRET@", "", 1))
	require.NoError(t, err)
	got, err := blobs.(*S3).client.GetCreds()
	require.NoError(t, err)
	require.Equal(t, "KEY", got.AccessKeyID)
	require.NoError(t, blobs.Check(t.Context()))
}

func TestLimitReader(t *testing.T) {
	for size, ok := range map[int]bool{0: true, 9: true, 10: true, 11: false, 100000: false} {
		got, err := io.ReadAll(LimitReader(bytes.NewReader(make([]byte, size)), 10))
		if ok {
			require.NoError(t, err)
			require.Len(t, got, size)
			continue
		}
		require.Equal(t, domain.CodeTooLarge, domain.CodeOf(err))
		require.LessOrEqual(t, len(got), 10)
	}
	_, err := io.ReadAll(LimitReader(strings.NewReader("xx"), 1))
	require.ErrorContains(t, err, "1 bytes")
	require.Equal(t, "100 MiB", humanSize(100<<20))
	require.Equal(t, "16 KiB", humanSize(16<<10))
}
