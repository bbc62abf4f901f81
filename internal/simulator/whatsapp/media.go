package whatsapp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/util/cbcutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/simulator/console"
)

const (
	maxUpload = 128 << 20
	macLength = 10
)

// mediaStore is the media host: encrypted files by their paths. It also keeps how to read those that were in messages.
type mediaStore struct {
	limit int64

	mu    sync.Mutex // guards what is below
	files map[string][]byte
	paths []string // oldest first
	bytes int64
	keys  map[string]mediaKey // by file id
	next  int
}

// mediaKey says how to read a file of a message.
type mediaKey struct {
	path, mime, name string
	key, sum         []byte
	kind             whatsmeow.MediaType
}

type plainFile struct {
	mime, name string
	data       []byte
}

func newMediaStore(limit int64) *mediaStore {
	return &mediaStore{limit: limit, files: map[string][]byte{}, keys: map[string]mediaKey{}}
}

// put keeps a file under a path without its query; the oldest files go when there are too many bytes.
func (m *mediaStore) put(path string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.files[path]; ok {
		m.bytes -= int64(len(old))
	} else {
		m.paths = append(m.paths, path)
	}
	m.files[path] = data
	m.bytes += int64(len(data))
	for m.bytes > m.limit && len(m.paths) > 1 {
		m.bytes -= int64(len(m.files[m.paths[0]]))
		delete(m.files, m.paths[0])
		m.paths = m.paths[1:]
	}
}

func (m *mediaStore) get(path string) ([]byte, bool) {
	path, _, _ = strings.Cut(path, "?")
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[path]
	return b, ok
}

func (m *mediaStore) remember(k mediaKey) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	id := "file-" + strconv.Itoa(m.next)
	m.keys[id] = k
	return id
}

// plain decrypts a file of a message.
func (m *mediaStore) plain(id string) (plainFile, error) {
	m.mu.Lock()
	k, ok := m.keys[id]
	m.mu.Unlock()
	if !ok {
		return plainFile{}, fmt.Errorf("file %s: %w", id, ErrNotFound)
	}
	sealed, ok := m.get(k.path)
	if !ok {
		return plainFile{}, fmt.Errorf("file %s on the media host: %w", id, ErrNotFound)
	}
	data, err := openMedia(k.key, k.kind, sealed)
	if err != nil {
		return plainFile{}, fmt.Errorf("file %s: %w", id, err)
	}
	if sum := sha256.Sum256(data); len(k.sum) > 0 && !bytes.Equal(sum[:], k.sum) {
		return plainFile{}, fmt.Errorf("file %s: %w hash", id, ErrInvalid)
	}
	return plainFile{k.mime, k.name, data}, nil
}

// MediaData are the readable bytes of a message's file. The error says why the app could not show it: the media host does
// not have it, or it is not what the message says.
func (s *Server) MediaData(file string) ([]byte, error) {
	f, err := s.media.plain(file)
	return f.data, err
}

func mediaKeys(key []byte, kind whatsmeow.MediaType) (iv, cipher, mac []byte) {
	all := hkdfutil.SHA256(key, nil, []byte(kind), 112)
	return all[:16], all[16:48], all[48:80]
}

func sealMedia(key []byte, kind whatsmeow.MediaType, data []byte) ([]byte, error) {
	iv, cipher, macKey := mediaKeys(key, kind)
	sealed, err := cbcutil.Encrypt(cipher, iv, data)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, macKey)
	_, _ = mac.Write(iv)
	_, _ = mac.Write(sealed)
	return append(sealed, mac.Sum(nil)[:macLength]...), nil
}

func openMedia(key []byte, kind whatsmeow.MediaType, sealed []byte) ([]byte, error) {
	if len(sealed) <= macLength {
		return nil, fmt.Errorf("%w file: it is too short", ErrInvalid)
	}
	iv, cipher, macKey := mediaKeys(key, kind)
	body, sum := sealed[:len(sealed)-macLength], sealed[len(sealed)-macLength:]
	mac := hmac.New(sha256.New, macKey)
	_, _ = mac.Write(iv)
	_, _ = mac.Write(body)
	if !hmac.Equal(mac.Sum(nil)[:macLength], sum) {
		return nil, fmt.Errorf("%w file: its MAC is wrong", ErrInvalid)
	}
	return cbcutil.Decrypt(cipher, iv, bytes.Clone(body))
}

// stored is a file on the media host as a message describes it.
type stored struct {
	path          string // with a query, to which clients append
	key, sum, enc []byte
	size          uint64
}

// store encrypts a file of a person and puts it on the media host.
func (m *mediaStore) store(kind whatsmeow.MediaType, data []byte) (stored, error) {
	key := random(32)
	sealed, err := sealMedia(key, kind, data)
	if err != nil {
		return stored{}, err
	}
	sum, enc := sha256.Sum256(data), sha256.Sum256(sealed)
	path := "/v/t62.7118-24/" + hex.EncodeToString(random(12))
	m.put(path, sealed)
	return stored{path + "?ccb=11-4&oh=sim&oe=sim&_nc_sid=sim", key, sum[:], enc[:], uint64(len(data))}, nil
}

func (s *Server) mediaConn() waBinary.Node {
	return waBinary.Node{Tag: "media_conn", Attrs: waBinary.Attrs{
		"auth": "sim-auth", "ttl": 300, "auth_ttl": 21600, "max_buckets": 12,
	}, Content: []waBinary.Node{{Tag: "host", Attrs: waBinary.Attrs{"hostname": "mmg.whatsapp.net"}}}}
}

// serveMedia is the media host: POST and DELETE /mms/<type>/<token>, GET of a direct path.
func (s *Server) serveMedia(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/mms/"):
		s.upload(w, r)
	case r.Method == http.MethodDelete && strings.HasPrefix(r.URL.Path, "/mms/"):
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v/avatar/"):
		w.Header().Set("Content-Type", "image/jpeg")
		_, _ = w.Write(console.SamplePhoto())
	case r.Method == http.MethodGet:
		s.download(w, r)
	default:
		http.Error(w, "no such file", http.StatusNotFound)
	}
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	if f := s.faults.take(FaultUploadRefuse, "", ""); f != nil {
		http.Error(w, "refused", f.Code)
		return
	}
	token := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	want, err := base64.URLEncoding.DecodeString(token)
	if err != nil || r.URL.Query().Get("auth") != "sim-auth" {
		http.Error(w, "bad token or auth", http.StatusForbidden)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxUpload))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], want) {
		http.Error(w, "the hash is not that of the token", http.StatusBadRequest)
		return
	}
	path := "/v/t62.7118-24/up-" + hex.EncodeToString(want[:12])
	s.media.put(path, data)
	direct := path + "?ccb=11-4&oh=sim&oe=sim&_nc_sid=sim"
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"url": "https://mmg.whatsapp.net" + direct, "direct_path": direct})
}

func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	if f := s.faults.take(FaultMediaGone, "", ""); f != nil {
		http.Error(w, "gone", f.Code)
		return
	}
	data, ok := s.media.get(r.URL.Path)
	if !ok {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	if s.faults.take(FaultMediaCorrupt, "", "") != nil {
		data = bytes.Clone(data)
		data[len(data)/2] ^= 1
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// mediaBody puts a file on the media host and describes it.
func (s *Server) mediaBody(in *Incoming, o *outgoing, info *waE2E.ContextInfo) (*waE2E.Message, error) {
	mime, name, data := sample(in.Type)
	if in.Data != nil {
		data = in.Data
		mime = strings.TrimSpace(http.DetectContentType(data))
	}
	if in.MIME != "" {
		mime = in.MIME
	}
	if in.Filename != "" {
		name = in.Filename
	}
	f, err := s.media.store(mediaKind(in.Type), data)
	if err != nil {
		return nil, err
	}
	o.mediaType = map[string]string{TypeViewOnce: "image", TypeVoice: "ptt"}[in.Type]
	if o.mediaType == "" {
		o.mediaType = in.Type
	}
	return f.message(in, mime, name, o.at, info), nil
}

func mediaKind(typ string) whatsmeow.MediaType {
	switch typ {
	case TypeVideo:
		return whatsmeow.MediaVideo
	case TypeAudio, TypeVoice:
		return whatsmeow.MediaAudio
	case TypeDocument:
		return whatsmeow.MediaDocument
	}
	return whatsmeow.MediaImage
}

// message describes a file of the type.
func (f stored) message(in *Incoming, mime, name string, at time.Time, info *waE2E.ContextInfo) *waE2E.Message {
	url, when, caption := proto.String("https://mmg.whatsapp.net"+f.path), proto.Int64(at.Unix()), optionalString(in.Caption)
	switch in.Type {
	case TypeVideo:
		return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{
			URL: url, Mimetype: &mime, Caption: caption, FileSHA256: f.sum, FileLength: &f.size, MediaKey: f.key, FileEncSHA256: f.enc,
			DirectPath: &f.path, MediaKeyTimestamp: when, Seconds: proto.Uint32(2), ContextInfo: info,
		}}
	case TypeAudio, TypeVoice:
		return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{
			URL: url, Mimetype: &mime, FileSHA256: f.sum, FileLength: &f.size, MediaKey: f.key, FileEncSHA256: f.enc,
			DirectPath: &f.path, MediaKeyTimestamp: when, Seconds: proto.Uint32(1), PTT: proto.Bool(in.Type == TypeVoice), ContextInfo: info,
		}}
	case TypeSticker:
		return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{
			URL: url, Mimetype: &mime, FileSHA256: f.sum, FileLength: &f.size, MediaKey: f.key, FileEncSHA256: f.enc,
			DirectPath: &f.path, MediaKeyTimestamp: when, ContextInfo: info,
		}}
	case TypeDocument:
		return f.document(in, mime, name, url, when, caption, info)
	}
	image := &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
		URL: url, Mimetype: &mime, Caption: caption, FileSHA256: f.sum, FileLength: &f.size, MediaKey: f.key, FileEncSHA256: f.enc,
		DirectPath: &f.path, MediaKeyTimestamp: when, ContextInfo: info,
	}}
	if in.Type == TypeViewOnce {
		image.ImageMessage.ViewOnce = proto.Bool(true)
		return &waE2E.Message{ViewOnceMessageV2: &waE2E.FutureProofMessage{Message: image}}
	}
	return image
}

// document is wrapped if it has a caption, as apps do.
func (f stored) document(in *Incoming, mime, name string, url *string, when *int64, caption *string, info *waE2E.ContextInfo) *waE2E.Message {
	doc := &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
		URL: url, Mimetype: &mime, Title: &name, FileName: &name, Caption: caption, FileSHA256: f.sum, FileLength: &f.size,
		MediaKey: f.key, FileEncSHA256: f.enc, DirectPath: &f.path, MediaKeyTimestamp: when, ContextInfo: info,
	}}
	if in.Caption == "" {
		return doc
	}
	return &waE2E.Message{DocumentWithCaptionMessage: &waE2E.FutureProofMessage{Message: doc}}
}
