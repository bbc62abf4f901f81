package whatsapp

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/jpeg"
	_ "image/png" // for thumbnails
	"io"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // for thumbnails
)

const (
	thumbnailSide = 72
	// maxImage bounds a file of which a thumbnail is made, in bytes; maxDecoded
	// what decoding it takes: a picture of 12 megapixels, as phones take them, if
	// it is an ordinary one.
	maxImage   = 16 << 20
	maxDecoded = 48 << 20
)

// thumbnails is held while one is made: however many are sent at once, in
// however many channels, one picture is in memory.
var thumbnails = make(chan struct{}, 1)

// thumbnail is the small picture that phones show before the file is there; nil
// where none can be made.
func (s *Session) thumbnail(ctx context.Context, mediaID int64) []byte {
	select {
	case thumbnails <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-thumbnails }()
	file, media, err := s.host.OpenMedia(ctx, mediaID)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	if media.Size > maxImage {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxImage))
	if err != nil {
		return nil
	}
	return thumbnailOf(raw)
}

func thumbnailOf(raw []byte) []byte {
	config, format, err := image.DecodeConfig(bytes.NewReader(raw))
	if err != nil || config.Width < 1 || config.Height < 1 {
		return nil
	}
	if pixel := bytesPerPixel(config.ColorModel, format, raw); config.Width > maxDecoded/pixel/config.Height {
		return nil
	}
	picture, _, err := image.Decode(bytes.NewReader(raw))
	if err != nil {
		return nil
	}
	w, h := thumbnailSide, thumbnailSide
	if config.Width > config.Height {
		h = max(1, thumbnailSide*config.Height/config.Width)
	} else {
		w = max(1, thumbnailSide*config.Width/config.Height)
	}
	small := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.ApproxBiLinear.Scale(small, small.Bounds(), picture, picture.Bounds(), draw.Src, nil)
	var out bytes.Buffer
	if jpeg.Encode(&out, small, &jpeg.Options{Quality: 50}) != nil {
		return nil
	}
	return out.Bytes()
}

// bytesPerPixel is how much a decoder takes for each pixel at most.
func bytesPerPixel(model color.Model, format string, raw []byte) int {
	pixel := 4 // what is told to be grey may turn out to have transparency
	switch model {
	case color.RGBA64Model, color.NRGBA64Model, color.Gray16Model:
		pixel = 8
	}
	const interlaced = 28 // where a PNG says so
	switch {
	case format == "jpeg" && progressive(raw):
		pixel += 4 * 4 // the coefficients of all components are kept, too
	case format == "jpeg" && model != color.YCbCrModel && model != color.GrayModel:
		pixel += 8 // it is put together in two steps
	case format == "webp", format == "png" && len(raw) > interlaced && raw[interlaced] != 0:
		pixel *= 2 // likewise
	}
	return pixel
}

// progressive reports whether a JPEG is decoded in several passes.
func progressive(raw []byte) bool {
	const start, baseline, later, huffman, arithmetic = 0xFF, 0xC0, 0xCF, 0xC4, 0xCC
	for i := 2; i+4 <= len(raw); { // behind the mark of a JPEG
		if raw[i] != start {
			i++ // the decoder looks for the next one, too
			continue
		}
		mark := raw[i+1]
		switch {
		case mark >= baseline && mark <= later && mark != huffman && mark != 0xC8 && mark != arithmetic:
			return mark != baseline && mark != baseline+1
		case mark == 0, mark == start, mark >= 0xD0 && mark <= 0xD9: // no segment
			i++
		default:
			i += 2 + int(raw[i+2])<<8 + int(raw[i+3])
		}
	}
	return true
}
