package telegram

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	_ "image/gif"  // sizes of photos
	_ "image/jpeg" // sizes of photos
	_ "image/png"  // sizes of photos
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxDownload = 20 << 20  // bytes that getFile gives
	maxCustomer = 100 << 20 // bytes of a customer's upload; more can be claimed by IncomingMedia.Size
)

// storedFile is a file. It never changes.
type storedFile struct {
	number         int64
	kind           string // of media, chooses the folder
	mimeType, name string
	size           int64
	width, height  int
	data           []byte
	filler         bool // the content is size bytes of filler, not data
}

func (f *storedFile) uniqueID() string {
	return "AQAD" + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(f.number))) // #nosec G115 -- positive
}

// bytes is the content.
func (f *storedFile) bytes() []byte {
	if !f.filler {
		return f.data
	}
	return bytes.Repeat([]byte("simulator filler"), int(f.size)/16+1)[:f.size]
}

var folders = map[string]string{
	"photo": "photos", "video": "videos", "animation": "animations", "voice": "voice", "audio": "music", "sticker": "stickers",
	"video_note": "video_notes", "document": "documents",
}

// path is what getFile calls file_path.
func (f *storedFile) path() string {
	ext := strings.ToLower(path.Ext(f.name))
	if ext == "" || len(ext) > 8 {
		ext = extension(f.mimeType)
	}
	return folders[f.kind] + "/file_" + strconv.FormatInt(f.number, 10) + ext
}

// extension is the usual one of a MIME type; the platform's table is not asked, so that it is the same everywhere.
func extension(mimeType string) string {
	base, _, _ := mime.ParseMediaType(mimeType)
	return map[string]string{
		"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif", "video/mp4": ".mp4",
		"video/webm": ".webm", "audio/ogg": ".oga", "audio/mpeg": ".mp3", "audio/wav": ".wav", "audio/wave": ".wav",
		"application/pdf": ".pdf", "text/plain": ".txt",
	}[base]
}

// sizes are a photo's sizes: a small one that stands for the thumbnail, and the photo itself, last.
func (f *storedFile) sizes() []PhotoSize {
	full := PhotoSize{FileUniqueID: f.uniqueID(), Width: orDefault(f.width, 480), Height: orDefault(f.height, 320), FileSize: f.size, file: f.number}
	if full.Width <= 90 && full.Height <= 90 {
		return []PhotoSize{full}
	}
	small := full
	scale := float64(max(full.Width, full.Height)) / 90
	small.Width, small.Height = max(int(float64(full.Width)/scale), 1), max(int(float64(full.Height)/scale), 1)
	small.FileUniqueID += "s"
	return []PhotoSize{small, full}
}

// fileID is a bot's own id of a file; another bot cannot use it.
func fileID(bot, number int64) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(number)) // #nosec G115 -- positive
	b = binary.BigEndian.AppendUint64(b, uint64(bot))       // #nosec G115 -- positive
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return "AgACAgIAAxkB" + base64.RawURLEncoding.EncodeToString(b)
}

func parseFileID(id string) (bot, number int64, ok bool) {
	raw, ok := strings.CutPrefix(id, "AgACAgIAAxkB")
	b, err := base64.RawURLEncoding.DecodeString(raw)
	if !ok || err != nil || len(b) != 20 || crc32.ChecksumIEEE(b[:16]) != binary.BigEndian.Uint32(b[16:]) {
		return 0, 0, false
	}
	return int64(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint64(b)), true // #nosec G115 -- as fileID wrote them
}

// wellFormed says whether a file id could have come from this simulator.
func wellFormed(id string) bool {
	_, _, ok := parseFileID(id)
	return ok
}

type fileLink struct{ bot, number int64 }

type fileStore struct {
	limit int64

	mu    sync.Mutex // guards what is below
	files map[int64]*storedFile
	links map[fileLink]time.Time // of getFile, until when
	first int64                  // number of the oldest
	last  int64
	total int64
}

func newFileStore(limit int64) *fileStore {
	return &fileStore{limit: limit, files: map[int64]*storedFile{}, links: map[fileLink]time.Time{}, first: 1}
}

// put stores a file; a size larger than the data makes the content that much filler.
func (st *fileStore) put(kind, mimeType, name string, data []byte, size int64) *storedFile {
	if base, _, err := mime.ParseMediaType(mimeType); err != nil || base == "application/octet-stream" {
		mimeType = http.DetectContentType(data)
		if known := mime.TypeByExtension(path.Ext(name)); mimeType == "application/octet-stream" && known != "" {
			mimeType = known
		}
	}
	f := &storedFile{kind: kind, mimeType: mimeType, name: path.Base("/" + name), size: int64(len(data)), data: data}
	if name == "" {
		f.name = ""
	}
	if size > f.size {
		f.size, f.data, f.filler = size, nil, true
	}
	if cfg, _, err := image.DecodeConfig(bytes.NewReader(data)); err == nil {
		f.width, f.height = cfg.Width, cfg.Height
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.last++
	f.number = st.last
	st.files[f.number] = f
	st.total += int64(len(f.data))
	for st.total > st.limit && st.first < st.last {
		st.removeFirst()
	}
	return f
}

// removeFirst needs st.mu.
func (st *fileStore) removeFirst() {
	if f := st.files[st.first]; f != nil {
		st.total -= int64(len(f.data))
		delete(st.files, st.first)
	}
	for l := range st.links {
		if l.number == st.first {
			delete(st.links, l)
		}
	}
	st.first++
}

func (st *fileStore) get(number int64) (*storedFile, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f, ok := st.files[number]
	return f, ok
}

func (st *fileStore) byFileID(bot int64, id string) (*storedFile, bool) {
	owner, number, ok := parseFileID(id)
	if !ok || owner != bot {
		return nil, false
	}
	return st.get(number)
}

// linksKept bounds the links that live; when there are more, all go and getFile makes new ones.
const linksKept = 100_000

func (st *fileStore) link(f *storedFile, bot int64, until time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.links) >= linksKept {
		clear(st.links)
	}
	st.links[fileLink{bot, f.number}] = until
}

func (st *fileStore) byLink(bot int64, filePath string, now time.Time) (*storedFile, bool) {
	_, name, _ := strings.Cut(filePath, "/file_")
	name, _, _ = strings.Cut(name, ".")
	number, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return nil, false
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	f := st.files[number]
	if f == nil || f.path() != filePath || !now.Before(st.links[fileLink{bot, number}]) {
		return nil, false
	}
	return f, true
}

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return data, err
}
