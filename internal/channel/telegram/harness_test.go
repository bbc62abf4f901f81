package telegram

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	botNumber = 7000001
	token     = "7000001:AAtestTESTtestTESTtestTESTtestTEST_"
)

// botAPI answers as Telegram's Bot API does, as far as one bot needs it, with
// the real semantics of offsets.
type botAPI struct {
	*httptest.Server

	mu      sync.Mutex // guards what follows
	updates []json.RawMessage
	nextID  int // of the next update
	sent    int // messages
	calls   []apiCall
	scripts map[string][]http.HandlerFunc // by method: what the next calls get
	changed chan struct{}                 // closed and replaced when updates, calls or scripts change
}

type apiCall struct {
	method string
	params map[string]string
	file   []byte
	name   string // of the file
}

func newBotAPI(t *testing.T) *botAPI {
	t.Helper()
	a := &botAPI{nextID: 100, scripts: map[string][]http.HandlerFunc{}, changed: make(chan struct{})}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
	})
	return a
}

func (a *botAPI) notify() { // with mu held
	close(a.changed)
	a.changed = make(chan struct{})
}

// push hands out an update with the next id; raw has no update_id.
func (a *botAPI) push(raw string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := a.nextID
	a.nextID++
	a.updates = append(a.updates, json.RawMessage(fmt.Sprintf(`{"update_id":%d,%s`, id, strings.TrimPrefix(strings.TrimSpace(raw), "{"))))
	a.notify()
	return id
}

// pushText is a text of the customer 42.
func (a *botAPI) pushText(message int, text string) int {
	return a.push(fmt.Sprintf(`{"message":{"message_id":%d,"date":1769860800,"chat":{"id":42,"type":"private","first_name":"Ann"},`+
		`"from":{"id":42,"first_name":"Ann"},"text":%q}}`, message, text))
}

// script makes the next calls of a method get these answers.
func (a *botAPI) script(method string, answers ...http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.scripts[method] = append(a.scripts[method], answers...)
}

func says(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// fails is an error in Telegram's form.
func fails(code int, description, parameters string) http.HandlerFunc {
	body := fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%q`, code, description)
	if parameters != "" {
		body += `,"parameters":` + parameters
	}
	return says(code, body+"}")
}

// cuts ends the connection without an answer.
func cuts(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// breaks closes the connection within the answer. Where none has begun, a client asks again by itself, as often as it has old
// connections.
func breaks(w http.ResponseWriter, _ *http.Request) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_, _ = buffered.WriteString("HTTP/1.1 200 OK\r\n")
		_ = buffered.Flush()
		_ = conn.Close()
	}
}

// hangs until the caller gives up.
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func times(n int, h http.HandlerFunc) []http.HandlerFunc {
	out := make([]http.HandlerFunc, n)
	for i := range out {
		out[i] = h
	}
	return out
}

func (a *botAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path, is := strings.CutPrefix(r.URL.Path, "/file/bot"+token+"/"); is {
		a.serve(w, r, "file", map[string]string{"path": path})
		return
	}
	method, is := strings.CutPrefix(r.URL.Path, "/bot"+token+"/")
	if !is {
		fails(404, "Not Found", "")(w, r)
		return
	}
	call := apiCall{method: method, params: map[string]string{}}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<20)
		if err := r.ParseMultipartForm(64 << 20); err != nil { // #nosec G120 -- bounded above
			return // cut off
		}
		for field, files := range r.MultipartForm.File {
			f, err := files[0].Open()
			if err != nil {
				return
			}
			call.file, _ = io.ReadAll(f)
			call.name = field + "/" + files[0].Filename
		}
	} else if r.ParseForm() != nil {
		return
	}
	for key := range r.Form {
		call.params[key] = r.Form.Get(key)
	}
	a.mu.Lock()
	a.calls = append(a.calls, call)
	a.notify()
	a.mu.Unlock()
	a.serve(w, r, method, call.params)
}

func (a *botAPI) serve(w http.ResponseWriter, r *http.Request, method string, params map[string]string) {
	a.mu.Lock()
	var scripted http.HandlerFunc
	if list := a.scripts[method]; len(list) > 0 {
		scripted, a.scripts[method] = list[0], list[1:]
	}
	a.mu.Unlock()
	switch {
	case scripted != nil:
		scripted(w, r)
	case method == "getUpdates":
		a.getUpdates(w, r, params)
	case method == "getMe":
		_, _ = fmt.Fprintf(w, `{"ok":true,"result":{"id":%d,"is_bot":true,"first_name":"Cactus Shop","username":"cactus_bot"}}`, botNumber)
	case method == "file":
		_, _ = io.WriteString(w, "bytes of "+params["path"])
	case method == "getFile":
		_, _ = fmt.Fprintf(w, `{"ok":true,"result":{"file_id":"x","file_path":"photos/%s.jpg"}}`, params["file_id"])
	case strings.HasPrefix(method, "send") && method != "sendChatAction":
		a.mu.Lock()
		a.sent++
		id := 500 + a.sent
		a.mu.Unlock()
		_, _ = fmt.Fprintf(w, `{"ok":true,"result":{"message_id":%d,"date":1769860900,"chat":{"id":%s,"type":"private"}}}`, id, params["chat_id"])
	default:
		_, _ = io.WriteString(w, `{"ok":true,"result":true}`)
	}
}

func (a *botAPI) getUpdates(w http.ResponseWriter, r *http.Request, params map[string]string) {
	offset, _ := strconv.Atoi(params["offset"])
	limit, _ := strconv.Atoi(params["limit"])
	timeout, _ := strconv.Atoi(params["timeout"])
	a.mu.Lock()
	for i, raw := range a.updates {
		if idOf(raw) == offset-1 {
			a.updates = a.updates[i+1:]
			break
		}
	}
	a.mu.Unlock()
	deadline := time.NewTimer(time.Duration(timeout) * time.Second)
	defer deadline.Stop()
	for {
		a.mu.Lock()
		list := append([]json.RawMessage{}, a.updates[:min(limit, len(a.updates))]...)
		changed := a.changed
		a.mu.Unlock()
		if len(list) > 0 {
			_, _ = fmt.Fprintf(w, `{"ok":true,"result":[%s]}`, bytes.Join(bytesOf(list), []byte(",")))
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			_, _ = io.WriteString(w, `{"ok":true,"result":[]}`)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func bytesOf(list []json.RawMessage) [][]byte {
	out := make([][]byte, len(list))
	for i, raw := range list {
		out[i] = raw
	}
	return out
}

func idOf(raw json.RawMessage) int {
	var head struct {
		ID int `json:"update_id"`
	}
	_ = json.Unmarshal(raw, &head)
	return head.ID
}

// waiting are the updates that are not confirmed.
func (a *botAPI) waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.updates)
}

// of lists the calls of a method so far.
func (a *botAPI) of(method string) []apiCall {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []apiCall
	for _, c := range a.calls {
		if c.method == method {
			out = append(out, c)
		}
	}
	return out
}

// until waits for a condition on the API.
func (a *botAPI) until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for ctx := within(t); ; {
		a.mu.Lock()
		changed := a.changed
		a.mu.Unlock()
		if condition() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			require.Fail(t, "not in time", what)
		}
	}
}

// house is what a session is given: it keeps what it was handed.
type house struct {
	mu       sync.Mutex // guards what follows
	position string
	batches  []domain.Batch
	direct   []domain.Inbound
	refuse   []error // what the next batches get
	files    map[int64][]byte
	media    map[int64]domain.Media
	readErr  error // of a file, after its bytes
	isReady  bool

	told    chan domain.ChannelStatus
	ready   chan struct{}
	arrived chan domain.Batch
}

func newHouse() *house {
	return &house{
		files: map[int64][]byte{}, media: map[int64]domain.Media{},
		told: make(chan domain.ChannelStatus, 256), ready: make(chan struct{}), arrived: make(chan domain.Batch, 256),
	}
}

var errRefused = errors.New("the database is away")

func (h *house) Position(context.Context) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.position, nil
}

func (h *house) ReceiveBatch(ctx context.Context, b domain.Batch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h.arrived <- b
	if len(h.refuse) > 0 {
		err := h.refuse[0]
		h.refuse = h.refuse[1:]
		if err != nil {
			return err
		}
	}
	h.batches, h.position = append(h.batches, b), b.Position
	return nil
}

func (h *house) Receive(_ context.Context, items []domain.Inbound) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.direct = append(h.direct, items...)
	return nil
}

func (h *house) SetStatus(_ context.Context, state domain.ChannelState, code, reason string) error {
	select {
	case h.told <- domain.ChannelStatus{State: state, Code: code, Reason: reason}:
	default: // nobody looks any more
	}
	return nil
}

func (h *house) Ready() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isReady { // a house serves several sessions, one after the other
		h.isReady = true
		close(h.ready)
	}
}

func (*house) Typing(context.Context, string, string, bool) {}

func (h *house) OpenMedia(_ context.Context, id int64) (io.ReadCloser, domain.Media, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	data, ok := h.files[id]
	if !ok {
		return nil, domain.Media{}, domain.NotFound("file")
	}
	var r io.Reader = bytes.NewReader(data)
	if h.readErr != nil {
		r = io.MultiReader(r, failing{h.readErr})
	}
	return io.NopCloser(r), h.media[id], nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// put stores a file and returns it as part of a message.
func (h *house) put(id int64, mime, name string, data []byte) *domain.Media {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := domain.Media{ID: id, MIME: mime, Filename: name, Size: int64(len(data)), State: domain.MediaReady}
	h.files[id], h.media[id] = data, m
	return &m
}

// texts are what the committed messages say, in order.
func (h *house) texts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, b := range h.batches {
		for _, item := range b.Items {
			if item.Inbound.Message != nil {
				out = append(out, item.Inbound.Message.Content)
			}
		}
	}
	return out
}

// open makes a session of the fake's bot. change may be nil.
func (a *botAPI) open(t *testing.T, h *house, change func(*Options)) *Session {
	t.Helper()
	api := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(api.CloseIdleConnections)
	o := Options{
		API: a.URL + "/bot%s/%s", Files: a.URL + "/file/bot%s/%s", HTTP: api,
		PollTimeout: time.Second, Grace: 5 * time.Second, MinWait: time.Millisecond, MaxWait: 4 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	factory, err := NewFactory(o)
	require.NoError(t, err)
	session, err := factory(channel.Config{
		Channel: domain.Channel{ID: 7, Kind: domain.KindTelegram}, Secrets: map[string]string{KeyBotToken: token}, Host: h, Intake: h,
		Logger: slog.New(&secretWatch{t: t}),
	})
	require.NoError(t, err)
	return session.(*Session)
}

// secretWatch fails the test when a log line holds the token.
type secretWatch struct{ t *testing.T }

func (*secretWatch) Enabled(context.Context, slog.Level) bool { return true }

func (w *secretWatch) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	if strings.Contains(line, "AAtestTEST") {
		w.t.Errorf("the token stands in a log line: %s", line)
	}
	return nil
}

func (w *secretWatch) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w *secretWatch) WithGroup(string) slog.Handler { return w }

// run runs a session; the function ends it as the worker does and returns what
// Run said. It is ended with the test.
func run(t *testing.T, s *Session) (stop func() error, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result, over := make(chan error, 1), make(chan struct{})
	var said error
	go func() {
		defer close(over)
		said = s.Run(ctx)
		result <- said
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case <-over:
			return said
		case <-time.After(5 * time.Second):
			return errors.New("the session did not end")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil && strings.Contains(err.Error(), "AAtestTEST") {
			t.Errorf("the token stands in an error: %v", err)
		}
	})
	return stop, result
}

// ready opens a session and waits until it may send.
func (a *botAPI) ready(t *testing.T, h *house, change func(*Options)) *Session {
	t.Helper()
	s := a.open(t, h, change)
	run(t, s)
	receive(t, h.ready)
	return s
}

// within is a context that ends long after any healthy test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-within(t).Done():
		require.Fail(t, "nothing came in time")
		panic("unreachable")
	}
}

// state waits until the channel is told to be in a state and returns how.
func (h *house) state(t *testing.T, want domain.ChannelState, code string) domain.ChannelStatus {
	t.Helper()
	for {
		told := receive(t, h.told)
		if told.State == want && told.Code == code {
			require.Regexp(t, `^[A-Z].*\.$`, told.Reason, "a sentence for people")
			return told
		}
	}
}

// sendError is the outcome of a failed send.
func sendError(t *testing.T, err error) *channel.SendError {
	t.Helper()
	var e *channel.SendError
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Code)
	require.Regexp(t, `^[A-Z].*\.$`, e.Message, "a sentence for people")
	require.NotContains(t, e.Error()+e.Message, "AAtestTEST")
	return e
}
