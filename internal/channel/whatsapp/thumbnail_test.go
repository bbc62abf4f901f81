package whatsapp

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// bomb is the head of a PNG of the given size and kind: the decoder makes room
// for the whole before it finds out that the rest is missing.
func bomb(t *testing.T, side uint32, depth, kind byte) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("\x89PNG\r\n\x1a\n")
	chunk := func(name string, data []byte) {
		body := append([]byte(name), data...)
		_ = binary.Write(&out, binary.BigEndian, uint32(len(data))) // #nosec G115 -- small
		out.Write(body)
		_ = binary.Write(&out, binary.BigEndian, crc32.ChecksumIEEE(body))
	}
	head := binary.BigEndian.AppendUint32(nil, side)
	chunk("IHDR", append(binary.BigEndian.AppendUint32(head, side), depth, kind, 0, 0, 0))
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err := z.Write(make([]byte, 1<<16))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	chunk("IDAT", packed.Bytes())
	chunk("IEND", nil)
	return out.Bytes()
}

// A small file that is a huge picture takes no memory to speak of.
func TestThumbnailOfABomb(t *testing.T) {
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for name, raw := range map[string][]byte{
		"16 bits": bomb(t, 5000, 16, 6), "8 bits": bomb(t, 5000, 8, 6), "grey": bomb(t, 5000, 16, 0), "wide": bomb(t, 1<<31-1, 8, 6),
	} {
		var made []byte
		assert.Less(t, allocated(func() { made = thumbnailOf(raw) }), uint64(8<<20), name)
		assert.Nil(t, made, name)
	}
	var raw bytes.Buffer
	require.NoError(t, jpeg.Encode(&raw, image.NewYCbCr(image.Rect(0, 0, 4032, 3024), image.YCbCrSubsampleRatio420), nil))
	assert.False(t, progressive(raw.Bytes()))
	var made []byte
	assert.LessOrEqual(t, allocated(func() { made = thumbnailOf(raw.Bytes()) }), uint64(maxDecoded))
	assert.NotEmpty(t, made, "what a phone takes has one")

	frame := bytes.Index(raw.Bytes(), []byte{0xFF, 0xC0})
	require.Positive(t, frame)
	raw.Bytes()[frame+1] = 0xC2
	assert.True(t, progressive(raw.Bytes()))
	assert.Less(t, allocated(func() { made = thumbnailOf(raw.Bytes()) }), uint64(8<<20), "one in several passes takes five times as much")
	assert.Nil(t, made)
	assert.True(t, progressive(nil), "what is not understood counts as the worst")
}

type files struct {
	channel.Host

	opened int
	raw    []byte
}

func (f *files) OpenMedia(context.Context, int64) (io.ReadCloser, domain.Media, error) {
	f.opened++
	if f.raw == nil {
		return nil, domain.Media{}, errors.New("no file")
	}
	return io.NopCloser(bytes.NewReader(f.raw)), domain.Media{Size: int64(len(f.raw))}, nil
}

// One is made at a time in the whole process.
func TestThumbnailsTakeTurns(t *testing.T) {
	var raw bytes.Buffer
	picture := image.NewRGBA(image.Rect(0, 0, 400, 200))
	picture.Set(1, 1, color.White)
	require.NoError(t, png.Encode(&raw, picture))
	host := &files{raw: raw.Bytes()}
	s := &Session{host: host}
	small, err := jpeg.DecodeConfig(bytes.NewReader(s.thumbnail(t.Context(), 1)))
	require.NoError(t, err)
	assert.Equal(t, [2]int{72, 36}, [2]int{small.Width, small.Height})

	for range cap(thumbnails) {
		thumbnails <- struct{}{}
	}
	host.opened = 0
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Nil(t, s.thumbnail(ended, 1))
	assert.Zero(t, host.opened, "nothing is read before its turn")
	require.Len(t, thumbnails, cap(thumbnails), "who did not get a turn gives none back")
	for range cap(thumbnails) {
		<-thumbnails
	}
	host.raw = nil
	assert.Nil(t, s.thumbnail(t.Context(), 1))
	assert.LessOrEqual(t, cap(thumbnails), 2)
	assert.Empty(t, thumbnails, "given back")
}
