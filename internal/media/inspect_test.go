package media

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"mime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

func picture(t *testing.T, format string, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	img := image.NewGray(image.Rect(0, 0, width, height))
	switch format {
	case "png":
		require.NoError(t, png.Encode(&b, img))
	case "jpeg":
		require.NoError(t, jpeg.Encode(&b, img, nil))
	case "gif":
		require.NoError(t, gif.Encode(&b, img, nil))
	}
	return b.Bytes()
}

// bombPNG is a few bytes that claim to be an image of any size.
func bombPNG(width, height uint32) []byte {
	header := append([]byte("IHDR"), make([]byte, 13)...)
	binary.BigEndian.PutUint32(header[4:], width)
	binary.BigEndian.PutUint32(header[8:], height)
	header[12] = 8
	b := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	b = append(b, header...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(header))
}

// jpegWithBigProfile has its dimensions behind 3 MB of comments.
func jpegWithBigProfile(t *testing.T) []byte {
	t.Helper()
	plain := picture(t, "jpeg", 31, 17)
	b := bytes.Clone(plain[:2])
	for range 48 {
		b = append(b, 0xff, 0xfe, 0xff, 0xff)
		b = append(b, make([]byte, 0xffff-2)...)
	}
	return append(b, plain[2:]...)
}

func webp(t *testing.T) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAgA0JaQAA3AA/vuUAAA=")
	require.NoError(t, err)
	return b
}

func TestInspect(t *testing.T) {
	ogg := append([]byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13"), "OpusHead\x01\x01"...)
	mp4 := []byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom")
	for name, tt := range map[string]struct {
		content []byte
		want    Info
	}{
		"png":           {picture(t, "png", 30, 20), Info{"image/png", 30, 20, true}},
		"jpeg":          {picture(t, "jpeg", 31, 17), Info{"image/jpeg", 31, 17, true}},
		"jpeg, profile": {jpegWithBigProfile(t), Info{"image/jpeg", 31, 17, true}},
		"gif":           {picture(t, "gif", 3, 2), Info{"image/gif", 3, 2, true}},
		"webp":          {webp(t), Info{"image/webp", 1, 1, true}},
		"voice":         {ogg, Info{"audio/ogg", 0, 0, true}},
		"mp4":           {mp4, Info{"video/mp4", 0, 0, true}},
		"mp3":           {[]byte("ID3\x03\x00\x00\x00\x00\x00\x00"), Info{"audio/mpeg", 0, 0, true}},
		"amr":           {[]byte("#!AMR\n\x3c"), Info{"audio/amr", 0, 0, true}},
		"pdf":           {[]byte("%PDF-1.7\n"), Info{"application/pdf", 0, 0, false}},
		"svg":           {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), Info{"image/svg+xml", 0, 0, false}},
		"svg, xml":      {[]byte(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`), Info{"image/svg+xml", 0, 0, false}},
		"html":          {[]byte("<!DOCTYPE html><script>alert(1)</script>"), Info{"text/html", 0, 0, false}},
		"html, spaces":  {[]byte("  \n<html><body onload=alert(1)>"), Info{"text/html", 0, 0, false}},
		"xml":           {[]byte(`<?xml version="1.0"?><x/>`), Info{"text/xml", 0, 0, false}},
		"text":          {[]byte("hello"), Info{"text/plain", 0, 0, false}},
		"empty":         {nil, Info{"text/plain", 0, 0, false}},
		"bytes":         {[]byte{0, 1, 2, 3, 0xff}, Info{unknownType, 0, 0, false}},
		"program":       {[]byte("MZ\x90\x00"), Info{"application/vnd.microsoft.portable-executable", 0, 0, false}},
		"png, cut":      {picture(t, "png", 30, 20)[:20], Info{unknownType, 0, 0, false}},
		"png, not":      {[]byte("\x89PNG\r\n\x1a\n<script>alert(1)</script>"), Info{unknownType, 0, 0, false}},
	} {
		t.Run(name, func(t *testing.T) {
			r := bytes.NewReader(tt.content)
			_, err := r.Seek(3, io.SeekStart)
			require.NoError(t, err)
			got, err := Inspect(r)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			require.Equal(t, len(tt.content), r.Len(), "back at the start")
		})
	}
}

func TestPixelBombs(t *testing.T) {
	for _, size := range [][2]uint32{{10001, 10000}, {1 << 30, 1 << 30}, {1<<31 - 1, 1<<31 - 1}, {1, MaxPixels + 1}} {
		_, err := Inspect(bytes.NewReader(bombPNG(size[0], size[1])))
		if err == nil {
			// The decoder itself refused the header: then it is no image to anybody.
			got, err := Inspect(bytes.NewReader(bombPNG(size[0], size[1])))
			require.NoError(t, err)
			require.Equal(t, unknownType, got.MIME)
			continue
		}
		require.Equal(t, domain.CodeTooLarge, domain.CodeOf(err))
	}
	_, err := Inspect(bytes.NewReader(bombPNG(10001, 10000)))
	require.Equal(t, domain.CodeTooLarge, domain.CodeOf(err))
	got, err := Inspect(bytes.NewReader(bombPNG(10000, 10000)))
	require.NoError(t, err)
	require.Equal(t, 10000, got.Width)
	got, err = Inspect(bytes.NewReader(bombPNG(0, 5)))
	require.NoError(t, err)
	require.Equal(t, unknownType, got.MIME)
}

type failing struct {
	io.ReadSeeker
	after int
}

func (f *failing) Read(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errors.New("the disk is gone")
	}
	return f.ReadSeeker.Read(p)
}

func TestInspectTellsReadErrors(t *testing.T) {
	for after := range 2 {
		_, err := Inspect(&failing{bytes.NewReader(picture(t, "png", 2, 2)), after})
		require.ErrorContains(t, err, "the disk is gone")
	}
}

func TestInlineSafe(t *testing.T) {
	for _, safe := range []string{"image/png", "IMAGE/PNG", "audio/ogg; codecs=opus", "video/mp4"} {
		require.True(t, InlineSafe(safe), safe)
	}
	for _, unsafe := range []string{"", "image/svg+xml", "text/html", "text/xml", "application/pdf", "application/xhtml+xml", "text/plain", "image/*", "application/octet-stream", "image/png,text/html", "text/html; image/png"} {
		require.False(t, InlineSafe(unsafe), unsafe)
	}
}

func TestLimits(t *testing.T) {
	l := Limits{Image: 1, Audio: 2, Video: 3, Document: 4}
	for mime, want := range map[string]int64{"image/png": 1, "audio/ogg; codecs=opus": 2, "VIDEO/mp4": 3, "application/pdf": 4, "": 4} {
		require.Equal(t, want, l.For(mime), mime)
	}
	require.EqualValues(t, 5, DefaultLimits(5).For("image/png"))
}

func TestSanitizeFilename(t *testing.T) {
	for in, want := range map[string]string{
		"report.pdf": "report.pdf", "Отчёт за май.pdf": "Отчёт за май.pdf", "../../etc/passwd": "passwd", `C:\Users\x\a.txt`: "a.txt",
		"": "file", ".": "file", "..": "file", "/": "file", " . ": "file", ".htaccess": "htaccess", "a\r\nSet-Cookie: x=y.txt": "aSet-Cookie_ x=y.txt",
		"photo\u202egpj.exe": "photogpj.exe", "a\x00b": "ab", `a"b<c>d|e?f*g:h.txt`: "a_b_c_d_e_f_g_h.txt", "a\u2028b": "ab", "zero\u200bwidth": "zerowidth",
		"bad\xffutf8": "bad_utf8", "trailing. . ": "trailing", "tab\tname": "tabname", "a\u00a0b": "a b",
	} {
		require.Equal(t, want, SanitizeFilename(in), "%q", in)
	}
	long := SanitizeFilename(strings.Repeat("ж", 500) + ".jpeg")
	require.LessOrEqual(t, len(long), maxFilename)
	require.True(t, strings.HasSuffix(long, "ж.jpeg"))
	require.LessOrEqual(t, len(SanitizeFilename("x."+strings.Repeat("y", 500))), maxFilename)
}

func TestContentDisposition(t *testing.T) {
	require.Equal(t, `attachment; filename="report.pdf"`, ContentDisposition(false, "report.pdf"))
	require.Equal(t, `inline; filename="a.png"`, ContentDisposition(true, "a.png"))
	require.Equal(t, `attachment; filename="_____ .pdf"; filename*=UTF-8''%D0%BE%D1%82%D1%87%D1%91%D1%82%20.pdf`, ContentDisposition(false, "отчёт .pdf"))
	require.Equal(t, `attachment; filename="50_ off.txt"; filename*=UTF-8''50%25%20off.txt`, ContentDisposition(false, "50% off.txt"))
}

func FuzzContentDisposition(f *testing.F) {
	f.Add("a\"; filename=evil.html\r\nX: y")
	f.Add("отчёт.pdf")
	f.Fuzz(func(t *testing.T, name string) {
		clean := SanitizeFilename(name)
		require.True(t, utf8.ValidString(clean))
		require.NotEmpty(t, clean)
		require.LessOrEqual(t, len(clean), maxFilename)
		require.Equal(t, clean, SanitizeFilename(clean), "stable")
		require.NotContains(t, clean, "/")
		require.NotContains(t, clean, `\`)
		value := ContentDisposition(false, name)
		for _, c := range []byte(value) {
			require.True(t, c >= ' ' && c < 0x7f, "one line of ASCII")
		}
		kind, params, err := mime.ParseMediaType(value)
		require.NoError(t, err)
		require.Equal(t, "attachment", kind)
		require.Equal(t, clean, params["filename"])
	})
}

func FuzzInspect(f *testing.F) {
	f.Add(bombPNG(3, 4))
	f.Add([]byte("<html>"))
	f.Add([]byte("RIFF\x00\x00\x00\x00WEBPVP8X"))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := bytes.NewReader(content)
		info, err := Inspect(r)
		if err != nil {
			require.Equal(t, domain.CodeTooLarge, domain.CodeOf(err))
			return
		}
		require.Equal(t, len(content), r.Len())
		require.LessOrEqual(t, info.Width*info.Height, MaxPixels)
		require.Equal(t, info.Inline, InlineSafe(info.MIME))
	})
}
