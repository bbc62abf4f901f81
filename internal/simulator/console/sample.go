package console

import (
	"bytes"
	_ "embed" // for the sample files
	"encoding/binary"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
)

//go:embed sample/clip.mp4
var sampleVideo []byte

//go:embed sample/sticker.webp
var sampleSticker []byte

// SampleVideo is a short MP4 file. It must not be changed.
func SampleVideo() []byte { return sampleVideo }

// SampleSticker is a WebP file. It must not be changed.
func SampleSticker() []byte { return sampleSticker }

// SampleDocument is a text file, with its name.
func SampleDocument() (name string, data []byte) {
	return "invoice-2041.txt", []byte("Invoice 2041\n\n1 × Switch panel    149.00 EUR\n")
}

// SamplePhoto is a JPEG file of 480×320 pixels. One differs from the other.
func SamplePhoto() []byte {
	const w, h = 480, 320
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	tint := rand.Float64() * 2 * math.Pi // #nosec G404 -- a colour
	for y := range h {
		for x := range w {
			wave := func(shift float64) uint8 {
				return uint8(128 + 90*math.Sin(tint+shift+float64(x)/170+float64(y)/110)) // #nosec G115 -- 38 to 218
			}
			img.SetRGBA(x, y, color.RGBA{wave(0), wave(2), wave(4), 255})
		}
	}
	var buf bytes.Buffer
	if jpeg.Encode(&buf, img, &jpeg.Options{Quality: 70}) != nil { // into memory it never fails
		return nil
	}
	return buf.Bytes()
}

// SampleAudio is a WAV file: a second of two tones.
func SampleAudio() []byte {
	const rate = 8000
	b := []byte("RIFF")
	b = binary.LittleEndian.AppendUint32(b, 36+2*rate)
	b = append(b, "WAVEfmt "...)
	for _, v := range []uint32{16, 1 | 1<<16, rate, 2 * rate, 2 | 16<<16} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, 2*rate)
	for i := range rate {
		hz := 440.0
		if i >= rate/2 {
			hz = 587
		}
		fade := math.Exp(-float64(i%(rate/2)) / 1800)
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(9000*fade*math.Sin(2*math.Pi*hz*float64(i)/rate)))) // #nosec G115 -- a sample
	}
	return b
}

// SampleVoice is an Ogg file of a second of silence in Opus, as RFC 7845 has it.
func SampleVoice() []byte {
	const serial, packets = 0x5157, 50 // of 20 ms
	head := append([]byte("OpusHead"), 1, 1, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 0)
	tags := append([]byte("OpusTags"), 4, 0, 0, 0, 'n', 'o', 'n', 'e', 0, 0, 0, 0)
	out := oggPage(2, 0, serial, 0, head)
	out = append(out, oggPage(0, 0, serial, 1, tags)...)
	silence := make([][]byte, packets)
	for i := range silence {
		silence[i] = []byte{0xf8, 0xff, 0xfe}
	}
	return append(out, oggPage(4, packets*960, serial, 2, silence...)...)
}

func oggPage(flags byte, granule uint64, serial, sequence uint32, packets ...[]byte) []byte {
	p := append([]byte("OggS"), 0, flags)
	p = binary.LittleEndian.AppendUint64(p, granule)
	p = binary.LittleEndian.AppendUint32(p, serial)
	p = binary.LittleEndian.AppendUint32(p, sequence)
	p = append(p, 0, 0, 0, 0, byte(len(packets))) // #nosec G115 -- at most 50
	for _, packet := range packets {
		p = append(p, byte(len(packet))) // #nosec G115 -- shorter than 255
	}
	p = append(p, bytes.Join(packets, nil)...)
	var crc uint32
	for _, b := range p {
		crc ^= uint32(b) << 24
		for range 8 {
			crc = crc<<1 ^ 0x04c11db7*(crc>>31)
		}
	}
	binary.LittleEndian.PutUint32(p[22:], crc)
	return p
}
