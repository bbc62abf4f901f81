package telegram

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// sendMedia makes the method that sends one file of a kind.
func sendMedia(kind string) func(*Server, *call) (any, *apiError) {
	return func(s *Server, c *call) (any, *apiError) {
		f, e := s.inputFile(c, kind, c.args.str(kind), kind)
		if e != nil {
			return nil, e
		}
		return s.sendOne(c, func(m *Message) (e *apiError) {
			if kind != "sticker" && kind != "video_note" {
				if m.Caption, m.CaptionEntities, e = c.formatted("caption", "caption_entities", maxCaption); e != nil {
					return e
				}
			}
			m.HasMediaSpoiler = c.args.flag("has_spoiler")
			m.setMedia(kind, f, mediaDetails{
				width: int(c.args.number("width", 0, 0, 10_000)), height: int(c.args.number("height", 0, 0, 10_000)),
				length:    int(c.args.number("length", 0, 0, 640)),
				duration:  int(c.args.number("duration", 0, 0, maxUpdateID)),
				performer: c.args.str("performer"), title: c.args.str("title"), emoji: c.args.str("emoji"),
			})
			return nil
		})
	}
}

// inputFile finds the file of a field: uploaded under the field's name, named by attach://, an address or a file id.
func (s *Server) inputFile(c *call, field, value, kind string) (*storedFile, *apiError) {
	if name, ok := strings.CutPrefix(value, "attach://"); ok {
		field, value = name, ""
	}
	if up, ok := c.args.files[field]; ok {
		return s.acceptUpload(kind, up)
	}
	switch {
	case value == "":
		return nil, errBadRequest("there is no %s in the request", strings.ReplaceAll(kind, "_", " "))
	case strings.HasPrefix(value, "http://"), strings.HasPrefix(value, "https://"):
		return s.fetchFile(c, kind, value)
	}
	f, ok := s.files.byFileID(c.bot.ID, value)
	if !ok {
		return nil, errBadRequest("wrong remote file identifier specified: Wrong string length")
	}
	return f, nil
}

// uploadLimits are the bytes that Telegram takes by multipart for kinds with a limit of their own.
var uploadLimits = map[string]int{"photo": 10 << 20}

func (s *Server) acceptUpload(kind string, up upload) (*storedFile, *apiError) {
	limit := orDefault(uploadLimits[kind], maxUpload)
	switch {
	case len(up.data) == 0:
		return nil, errBadRequest("file must be non-empty")
	case len(up.data) > limit && kind == "photo":
		return nil, errBadRequest("file is too big")
	case len(up.data) > limit:
		return nil, &apiError{code: http.StatusRequestEntityTooLarge, description: "Request Entity Too Large"}
	}
	f := s.files.put(kind, up.mimeType, up.name, up.data, 0)
	if kind == "photo" && f.width == 0 {
		return nil, errBadRequest("IMAGE_PROCESS_FAILED")
	}
	return f, nil
}

// fetchFile loads a file from an address on this machine; the simulator goes nowhere else.
func (s *Server) fetchFile(c *call, kind, address string) (*storedFile, *apiError) {
	u, err := url.Parse(address)
	if err != nil || !isLoopback(u.Hostname()) {
		return nil, errBadRequest("failed to get HTTP URL content")
	}
	req, err := http.NewRequestWithContext(c.r.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errBadRequest("wrong HTTP URL specified")
	}
	resp, err := s.client.Do(req) // #nosec G704 -- loopback only
	if err != nil {
		return nil, errBadRequest("failed to get HTTP URL content")
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := readAtMost(resp.Body, maxDownload)
	switch {
	case err != nil || resp.StatusCode != http.StatusOK:
		return nil, errBadRequest("failed to get HTTP URL content")
	case len(data) == 0 || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"):
		return nil, errBadRequest("wrong type of the web page content")
	}
	name := u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	return s.acceptUpload(kind, upload{name, resp.Header.Get("Content-Type"), data})
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// mediaDetails are what the sender says of a file.
type mediaDetails struct {
	width, height, length, duration int
	performer, title, emoji, name   string
}

// setMedia makes the file the content of the message.
func (m *Message) setMedia(kind string, f *storedFile, d mediaDetails) {
	if kind == "photo" {
		m.Photo = f.sizes()
		return
	}
	media := &Media{
		file: f.number, FileUniqueID: f.uniqueID(), FileName: f.name, MIMEType: f.mimeType, FileSize: f.size,
		Width: orDefault(d.width, f.width), Height: orDefault(d.height, f.height), Duration: &d.duration,
	}
	if d.name != "" {
		media.FileName = d.name
	}
	no := false
	switch kind {
	case "animation":
		m.Animation, m.Document = media, media
		media.Width, media.Height = orDefault(media.Width, 320), orDefault(media.Height, 240)
	case "video":
		m.Video = media
		media.Width, media.Height = orDefault(media.Width, 320), orDefault(media.Height, 240)
	case "audio":
		m.Audio = media
		media.Width, media.Height, media.Performer, media.Title = 0, 0, d.performer, d.title
	case "voice":
		m.Voice = media
		media.Width, media.Height, media.FileName = 0, 0, ""
	case "video_note":
		m.VideoNote = media
		media.Length, media.Width, media.Height, media.FileName, media.MIMEType = orDefault(d.length, 240), 0, 0, "", ""
	case "sticker":
		m.Sticker = media
		media.Type, media.IsAnimated, media.IsVideo, media.Emoji = "regular", &no, &no, d.emoji
		media.Width, media.Height = orDefault(media.Width, 512), orDefault(media.Height, 512)
		media.Duration, media.FileName, media.MIMEType = nil, "", ""
	default:
		m.Document = media
		media.Width, media.Height, media.Duration = 0, 0, nil
	}
}

// albumItem is one of sendMediaGroup's media, or editMessageMedia's.
type albumItem struct {
	Type            string   `json:"type"`
	Media           string   `json:"media"`
	Caption         string   `json:"caption"`
	ParseMode       string   `json:"parse_mode"`
	CaptionEntities []Entity `json:"caption_entities"`
	HasSpoiler      bool     `json:"has_spoiler"`
	Width           int      `json:"width"`
	Height          int      `json:"height"`
	Duration        int      `json:"duration"`
	Performer       string   `json:"performer"`
	Title           string   `json:"title"`
}

// draft reads the item's file and caption.
func (s *Server) itemDraft(c *call, it albumItem) (draft, *apiError) {
	f, e := s.inputFile(c, it.Type, it.Media, it.Type)
	if e != nil {
		return nil, e
	}
	sub := *c
	sub.args = args{values: map[string]string{"caption": it.Caption, "parse_mode": it.ParseMode}}
	if it.CaptionEntities != nil {
		raw, _ := json.Marshal(it.CaptionEntities)
		sub.args.values["caption_entities"] = string(raw)
	}
	return func(m *Message) (e *apiError) {
		if m.Caption, m.CaptionEntities, e = sub.formatted("caption", "caption_entities", maxCaption); e != nil {
			return e
		}
		m.HasMediaSpoiler = it.HasSpoiler
		m.setMedia(it.Type, f, mediaDetails{
			width: it.Width, height: it.Height, duration: it.Duration, performer: it.Performer, title: it.Title,
		})
		return nil
	}, nil
}

func (s *Server) sendMediaGroup(c *call) (any, *apiError) {
	var items []albumItem
	if e := c.args.object("media", &items); e != nil {
		return nil, e
	}
	if len(items) < 2 || len(items) > 10 {
		return nil, errBadRequest("group send media must include 2-10 items")
	}
	mixed := map[string]string{"photo": "visual", "video": "visual", "audio": "audio", "document": "document"}
	var drafts []draft
	album := ""
	for _, it := range items {
		if mixed[it.Type] == "" || mixed[it.Type] != mixed[items[0].Type] {
			return nil, errBadRequest("can't use the media of the specified type in the album")
		}
		d, e := s.itemDraft(c, it)
		if e != nil {
			return nil, e
		}
		drafts = append(drafts, func(m *Message) *apiError {
			if album == "" {
				album = fmt.Sprint(s.nextID())
			}
			m.MediaGroupID = album
			return d(m)
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, e := s.sendLocked(c, drafts...)
	if e != nil {
		return nil, e
	}
	out := make([]*Message, 0, len(sent))
	for _, k := range sent {
		out = append(out, k.forBot(c.bot.ID))
	}
	return out, nil
}

// getFile answers with the path of a file's download, which lives for Options.FileTTL.
func (s *Server) getFile(c *call) (any, *apiError) {
	id := c.args.str("file_id")
	if id == "" {
		return nil, errBadRequest("file_id not specified")
	}
	t := target{bot: c.bot.ID}
	if s.faults.take(FaultFileTooBig, t) != nil {
		return nil, errBadRequest("file is too big")
	}
	f, ok := s.files.byFileID(c.bot.ID, id)
	switch {
	case !ok && !wellFormed(id):
		return nil, errBadRequest("invalid file_id")
	case !ok || s.faults.take(FaultFileMissing, t) != nil:
		return nil, errBadRequest("wrong file_id or the file is temporarily unavailable")
	case f.size > maxDownload:
		return nil, errBadRequest("file is too big")
	}
	until := s.opts.Now().Add(s.opts.FileTTL)
	if s.faults.take(FaultFileExpired, t) != nil {
		until = s.opts.Now().Add(-time.Second)
	}
	s.files.link(f, c.bot.ID, until)
	return struct {
		FileID       string `json:"file_id"`
		FileUniqueID string `json:"file_unique_id"`
		FileSize     int64  `json:"file_size"`
		FilePath     string `json:"file_path"`
	}{fileID(c.bot.ID, f.number), f.uniqueID(), f.size, f.path()}, nil
}

// serveFile serves /file/bot<token>/<path>.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) {
	rest := strings.TrimPrefix(r.URL.Path, "/file/bot")
	token, path, _ := strings.Cut(rest, "/")
	b, e := s.authenticate(token)
	if e != nil {
		writeAnswer(w, e.answer(), e.code, 0)
		return
	}
	c := &call{w: w, r: r, began: time.Now(), bot: b, method: method{name: "file"}}
	if p := s.plan(target{bot: b.ID, method: "file"}); p.refuse != nil {
		s.finish(r.Context(), c, nil, p.refuse.refusal(), nil)
		return
	} else if f := p.drop; f != nil {
		s.lost(c, OutcomeLost, f)
		panic(http.ErrAbortHandler)
	} else if f := p.hang; f != nil {
		s.lost(c, OutcomeLost, f)
		s.hang(r.Context(), f)
		panic(http.ErrAbortHandler)
	}
	f, ok := s.files.byLink(b.ID, path, s.opts.Now())
	if !ok {
		s.finish(r.Context(), c, nil, errNotFound(""), nil)
		return
	}
	s.record(c, Call{Outcome: OutcomeAccepted})
	s.writeFile(w, r, f, target{bot: b.ID})
}

func (s *Server) writeFile(w http.ResponseWriter, r *http.Request, f *storedFile, t target) {
	data := f.bytes()
	if s.faults.take(FaultFileWrong, t) != nil {
		data = slices.Clone(data)
		for i := range data {
			data[i] ^= 0x55
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream") // as Telegram's, for every file
	h.Set("Content-Length", fmt.Sprint(len(data)))
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return
	}
	half := len(data) / 2
	_, _ = w.Write(data[:half])
	if slow := s.faults.take(FaultFileSlow, t); slow != nil {
		_ = http.NewResponseController(w).Flush()
		s.linger(r.Context(), slow)
	}
	if s.faults.take(FaultFileTruncated, t) != nil {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(data[half:])
}
