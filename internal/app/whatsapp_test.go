package app_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/app"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// phones starts a simulated WhatsApp and points a house at it.
func (h *house) phones(phone whatsapp.Phone) *whatsapp.Server {
	h.t.Helper()
	sim, err := whatsapp.New(whatsapp.Options{
		Logger: testkit.Logger(h.t), RootKey: whatsapp.DemoRootKey(), Phones: []whatsapp.Phone{phone}, People: whatsapp.DemoPeople(),
	})
	require.NoError(h.t, err)
	require.NoError(h.t, sim.Start(context.Background()))
	web := httptest.NewServer(sim.Handler())
	h.t.Cleanup(func() {
		_ = sim.Close()
		web.CloseClientConnections()
		web.Close()
	})
	h.cfg.WhatsAppEndpoint, h.cfg.WhatsAppRootKey = web.URL, sim.RootKeyHex()
	return sim
}

// A worker that is dedicated to a number shows its code where it was started.
func TestDedicatedWorkerShowsTheCode(t *testing.T) {
	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	sim := h.phones(whatsapp.DemoPhone())
	node := h.api()
	ada := h.register(node, "acme")
	channel := ada.must(http.MethodPost, "/api/channels", map[string]any{"kind": "whatsapp", "name": "Shop", "config": map[string]any{}})
	var out safeBuffer
	cfg := h.cfg
	cfg.WorkerID, cfg.WorkerChannels = "dedicated", []int64{id(t, channel)}
	p, err := app.NewWorker(context.Background(), cfg, testkit.Logger(t), &out)
	h.run(p, err)
	path := fmt.Sprint("/api/channels/", id(t, channel))
	ada.must(http.MethodPost, path+"/connect", nil)
	code := ada.must(http.MethodGet, path+"/qr", nil)
	testkit.Eventually(t, "a code in the terminal", func() bool { return strings.Contains(out.String(), "▄") })
	assert.Contains(t, out.String(), fmt.Sprintf("Link channel %d: WhatsApp", id(t, channel)))
	assert.NotContains(t, out.String(), "wa.me", "drawn, not written")
	require.NoError(t, sim.Scan(whatsapp.DemoPhone().Number, code["qr"].(string)))
	h.waitConnected(ada, id(t, channel))
}

// safeBuffer is what a process prints.
type safeBuffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// The main job with a linked number: an admin is shown a code that nobody else
// sees, a phone scans it, and customers are on every screen and are answered.
func TestWhatsAppFlowsThroughANodeAndAWorker(t *testing.T) {
	phone := whatsapp.DemoPhone()
	marta, absent := whatsapp.DemoPeople()[0], whatsapp.DemoPeople()[3]

	h := newHouse(t, testkit.Postgres(t), testkit.Redis(t))
	sim := h.phones(phone)
	node, other := h.api(), h.api()
	h.worker("w1")
	ada := h.register(node, "acme")
	created := ada.must(http.MethodPost, "/api/users", map[string]any{
		"name": "Bea", "email": "bea@example.com", "role": "admin", "password": "correct horse bea",
	})
	require.NotEmpty(t, created["id"])
	bea := &person{t: t, base: other.URL}
	bea.token = bea.must(http.MethodPost, "/api/auth/login", map[string]any{"email": "bea@example.com", "password": "correct horse bea"})["accessToken"].(string)
	screen, colleague := h.socket(ada, other), h.socket(bea, node)

	channel := ada.must(http.MethodPost, "/api/channels", map[string]any{"kind": "whatsapp", "name": "Shop", "config": map[string]any{}})
	path := fmt.Sprint("/api/channels/", id(t, channel))
	status, problem := ada.call(http.MethodGet, path+"/qr", nil)
	require.Equal(t, http.StatusConflict, status, "%v", problem)
	ada.must(http.MethodPost, path+"/connect", nil)
	shown := waitEvent(t, screen, "channel:qr", nil)
	code := ada.must(http.MethodGet, path+"/qr", nil)
	assert.Equal(t, shown, code)
	status, _ = bea.call(http.MethodGet, path+"/qr", nil)
	assert.Equal(t, http.StatusConflict, status, "another admin")
	picture := ada.raw(http.MethodGet, path+"/qr.png")
	_, format, err := image.DecodeConfig(bytes.NewReader(picture))
	require.NoError(t, err)
	assert.Equal(t, "png", format)
	require.NoError(t, sim.Scan(phone.Number, code["qr"].(string)))
	h.waitConnected(ada, id(t, channel))

	_, err = sim.Send(phone.Number, whatsapp.Incoming{From: marta.Number, Text: "Is it open today? 👋"})
	require.NoError(t, err)
	message := waitEvent(t, screen, "message:new", func(m map[string]any) bool { return m["content"] == "Is it open today? 👋" })
	assert.Equal(t, "whatsapp", message["channel"])
	waitEvent(t, colleague, "message:new", nil)
	assert.Empty(t, colleague.Events("channel:qr"), "only the admin who asked sees a code")
	answer := ada.must(http.MethodPost, "/api/messages/send", map[string]any{"chatId": message["chatId"], "content": "Until six.", "replyToId": message["id"]})
	waitEvent(t, screen, "message:status", func(s map[string]any) bool { return s["messageId"] == answer["id"] && s["status"] == "delivered" })
	talk, err := sim.Conversation(phone.Number, marta.Number)
	require.NoError(t, err)
	last := talk[len(talk)-1]
	assert.Equal(t, "Until six.", last.Text)
	assert.Equal(t, talk[0].ID, last.Quote)

	status, problem = ada.call(http.MethodPost, "/api/chats", map[string]any{"channelId": id(t, channel), "phone": "+" + absent.Number})
	assert.Equal(t, http.StatusNotFound, status)
	assert.Contains(t, problem["detail"], "not on WhatsApp")
	ada.must(http.MethodPost, path+"/logout", nil)
	testkit.Eventually(t, "the end of the link", func() bool { return len(sim.Devices(phone.Number)) == 0 })
}

// raw is must for an answer that is no JSON.
func (p *person) raw(method, path string) []byte {
	p.t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(p.t), method, p.base+path, nil)
	require.NoError(p.t, err)
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(p.t, http.StatusOK, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return body
}
