package waba

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
)

const customer = "16505551234"

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// hook is a webhook address that keeps what it was sent.
type hook struct {
	bodies chan []byte
}

// platform is a simulated Cloud API with one number and a webhook.
type platform struct {
	*cloudapi.Server

	number cloudapi.Number
	url    string
	hook   hook
}

func newPlatform(t *testing.T, change func(*cloudapi.Number)) *platform {
	t.Helper()
	p := &platform{hook: hook{bodies: make(chan []byte, 1000)}}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !VerifySignature(p.number.AppSecret, r.Header.Get(SignatureHeader), body) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		p.hook.bodies <- body
	}))
	t.Cleanup(receiver.Close)
	p.number = cloudapi.DemoNumber(receiver.URL)
	p.number.NoWindow = true
	if change != nil {
		change(&p.number)
	}
	sim, err := cloudapi.New(cloudapi.Options{Numbers: []cloudapi.Number{p.number}})
	require.NoError(t, err)
	p.Server = sim
	server := httptest.NewServer(sim.Handler())
	p.url = server.URL
	t.Cleanup(func() {
		require.NoError(t, sim.Close())
		server.Close()
	})
	require.NoError(t, sim.Start(t.Context()))
	return p
}

// next is the next webhook's body.
func (p *platform) next(t *testing.T) []byte {
	t.Helper()
	select {
	case body := <-p.hook.bodies:
		return body
	case <-time.After(20 * time.Second):
		t.Fatal("no webhook came")
		return nil
	}
}

// nextItems is the next webhook as the number's channel sees it.
func (p *platform) nextItems(t *testing.T) []Item {
	t.Helper()
	d, err := Parse(p.next(t))
	require.NoError(t, err)
	return d.Of(p.number.PhoneNumberID)
}

// fault sets a fault and returns its id.
func (p *platform) fault(t *testing.T, f cloudapi.Fault) {
	t.Helper()
	_, err := p.SetFault(f)
	require.NoError(t, err)
}

// stage is the host of a session under test.
type stage struct {
	mu    sync.Mutex // guards files and opens
	files map[int64]file
	opens int

	ready chan struct{}             // closed by Ready; twice would panic
	told  chan domain.ChannelStatus // bounded; what does not fit is dropped
}

type file struct {
	data  []byte
	media domain.Media
}

func newStage() *stage {
	return &stage{files: map[int64]file{}, ready: make(chan struct{}), told: make(chan domain.ChannelStatus, 100)}
}

func (s *stage) Receive(context.Context, []domain.Inbound) error {
	return errors.New("a Cloud API session receives nothing")
}

func (s *stage) SetStatus(_ context.Context, state domain.ChannelState, code, reason string) error {
	select {
	case s.told <- domain.ChannelStatus{State: state, Code: code, Reason: reason}:
	default: // nobody looks any more
	}
	return nil
}

func (s *stage) Ready() { close(s.ready) }

func (*stage) Typing(context.Context, string, string, bool) {}

func (s *stage) OpenMedia(_ context.Context, id int64) (io.ReadCloser, domain.Media, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	f, ok := s.files[id]
	if !ok {
		return nil, domain.Media{}, domain.NotFound("file")
	}
	return io.NopCloser(bytes.NewReader(f.data)), f.media, nil
}

func (s *stage) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens
}

// put stores a file and returns it as part of a message.
func (s *stage) put(id int64, mime, name string, data []byte) *domain.Media {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := domain.Media{ID: id, MIME: mime, Filename: name, Size: int64(len(data)), State: domain.MediaReady}
	s.files[id] = file{data: data, media: m}
	return &m
}

// open makes a session of the platform's number. change may be nil.
func (p *platform) open(t *testing.T, host channel.Host, change func(*Options, *channel.Config)) *Session {
	t.Helper()
	api := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(api.CloseIdleConnections)
	o := Options{BaseURL: p.url + "/v24.0/", API: api, Patience: time.Millisecond}
	c := channel.Config{
		Channel: domain.Channel{ID: 7, Kind: domain.KindWABA, Config: map[string]string{KeyPhoneNumberID: p.number.PhoneNumberID}},
		Secrets: map[string]string{KeyAccessToken: p.number.AccessToken},
		Host:    host,
	}
	if change != nil {
		change(&o, &c)
	}
	factory, err := NewFactory(o)
	require.NoError(t, err)
	session, err := factory(c)
	require.NoError(t, err)
	return session.(*Session)
}

// sendError is the outcome of a failed send.
func sendError(t *testing.T, err error) *channel.SendError {
	t.Helper()
	var e *channel.SendError
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Code)
	require.Regexp(t, `^[A-Z].*\.$`, e.Message, "a sentence for people")
	return e
}

// within is a context that ends long after any healthy test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// golden compares v's JSON with testdata/golden/<name>.json, which
// UPDATE_GOLDEN=1 writes anew.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(v))
	path := filepath.Join("testdata", "golden", name+".json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, buf.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), buf.String())
}

// shown is an item with the one field of its Inbound that is set.
func shown(t *testing.T, item Item) map[string]any {
	t.Helper()
	if item.Poison != nil {
		return map[string]any{"Poison": item.Poison.Error()}
	}
	out := map[string]any{}
	in := item.Inbound
	if in.Message != nil {
		out["Message"] = in.Message
	}
	if in.Reaction != nil {
		out["Reaction"] = in.Reaction
	}
	if in.Status != nil {
		out["Status"] = in.Status
	}
	if in.Edit != nil {
		out["Edit"] = in.Edit
	}
	if in.Revoke != nil {
		out["Revoke"] = in.Revoke
	}
	require.Len(t, out, 1, "exactly one field is set")
	return out
}
