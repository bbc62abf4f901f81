package media

import (
	"errors"
	"fmt"
	"image"
	_ "image/gif" // formats whose dimensions are read
	_ "image/jpeg"
	_ "image/png"
	"io"
	"strings"

	"github.com/gabriel-vasile/mimetype"
	_ "golang.org/x/image/webp" // stickers

	"switchboard/internal/domain"
)

const (
	// MaxPixels is the largest image that is accepted, in pixels: decoded, it takes 400 MB in somebody's browser.
	MaxPixels = 100_000_000
	// imageHeader bounds how far into an image its dimensions are looked for: JPEGs may have a preview and a color
	// profile in front.
	imageHeader = 4 << 20

	unknownType = "application/octet-stream"
)

// Info is what the bytes of a medium say about it, whatever its sender said.
type Info struct {
	MIME   string // without parameters, such as "image/png"; application/octet-stream if nothing is known of it
	Width  int    // pixels, of PNG, JPEG, GIF and WebP images; else 0
	Height int
	Inline bool // whether a browser may show it rather than save it
}

// inlineTypes are the types that browsers show without running anything that is in them. SVG, HTML, XML and PDF are
// documents with scripts, and stay out.
var inlineTypes = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true,
	"audio/mpeg": true, "audio/ogg": true, "audio/aac": true, "audio/amr": true, "audio/wav": true, "audio/mp4": true,
	"audio/x-m4a": true, "audio/webm": true, "audio/flac": true,
	"video/mp4": true, "video/webm": true, "video/ogg": true, "video/3gpp": true, "video/quicktime": true,
}

// measuredTypes are the images whose dimensions must be readable, or else they are not what they seem.
var measuredTypes = map[string]bool{"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true}

// InlineSafe says whether a browser may show a medium of this type. mime may have parameters.
func InlineSafe(mime string) bool { return inlineTypes[baseType(mime)] }

func baseType(mime string) string {
	mime, _, _ = strings.Cut(mime, ";")
	return strings.ToLower(strings.TrimSpace(mime))
}

// Inspect looks at the beginning of r, decodes nothing, and leaves r at its start. An image of more than MaxPixels is a
// domain.CodeTooLarge error. Something that begins like an image and is none is application/octet-stream.
func Inspect(r io.ReadSeeker) (Info, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return Info{}, fmt.Errorf("inspect media: %w", err)
	}
	detected, err := mimetype.DetectReader(r)
	if err != nil {
		return Info{}, fmt.Errorf("inspect media: %w", err)
	}
	info := Info{MIME: baseType(detected.String())}
	if measuredTypes[info.MIME] {
		if err := info.measure(r); err != nil {
			return Info{}, err
		}
	}
	info.Inline = InlineSafe(info.MIME)
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return Info{}, fmt.Errorf("inspect media: %w", err)
	}
	return info, nil
}

func (i *Info) measure(r io.ReadSeeker) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("inspect media: %w", err)
	}
	source := &errorReader{r: io.LimitReader(r, imageHeader)}
	config, format, err := image.DecodeConfig(source)
	if source.err != nil {
		return fmt.Errorf("inspect media: %w", source.err)
	}
	if err != nil || "image/"+format != i.MIME || config.Width <= 0 || config.Height <= 0 {
		i.MIME = unknownType
		return nil
	}
	if config.Width > MaxPixels/config.Height {
		return domain.Errorf(domain.CodeTooLarge, "The image is too large: %d × %d pixels. Send at most %d megapixels.", config.Width, config.Height, MaxPixels/1_000_000)
	}
	i.Width, i.Height = config.Width, config.Height
	return nil
}

// errorReader keeps the reader's own failure apart from the decoder's.
type errorReader struct {
	r   io.Reader
	err error
}

func (e *errorReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}

// Limits are the largest sizes of media, in bytes, by what they are.
type Limits struct {
	Image, Audio, Video, Document int64
}

// DefaultLimits allows maximum for everything.
func DefaultLimits(maximum int64) Limits {
	return Limits{Image: maximum, Audio: maximum, Video: maximum, Document: maximum}
}

// For returns the limit of a type. What is neither image, audio nor video is a document.
func (l Limits) For(mime string) int64 {
	switch kind, _, _ := strings.Cut(baseType(mime), "/"); kind {
	case "image":
		return l.Image
	case "audio":
		return l.Audio
	case "video":
		return l.Video
	default:
		return l.Document
	}
}
