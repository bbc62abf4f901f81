package whatsapp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"
)

// call asks the control API.
func (b *bench) call(method, path string, body any, want int, out any) string {
	b.Helper()
	var in io.Reader
	if text, ok := body.(string); ok {
		in = strings.NewReader(text)
	} else if body != nil {
		raw, err := json.Marshal(body)
		require.NoError(b, err)
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(b.ctx, method, b.url+path, in)
	require.NoError(b, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(b, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(b, err)
	require.Equal(b, want, res.StatusCode, "%s %s: %s", method, path, raw)
	if out != nil {
		require.NoError(b, json.Unmarshal(raw, out))
	}
	return string(raw)
}

func TestControlDoesEverything(t *testing.T) {
	b := start(t)
	c := b.newClient()
	require.NoError(t, c.ConnectContext(b.ctx))
	qr := find(c, any1[*events.QR])
	phone := "/control/phones/" + shop
	var scanned struct{ Linked bool }
	b.call("POST", phone+"/scan", map[string]string{"qr": qr.Codes[0]}, 200, &scanned)
	require.True(t, scanned.Linked)
	find(c, any1[*events.Connected])
	var devices []Device
	b.call("GET", phone+"/devices", nil, 200, &devices)
	require.Len(t, devices, 1)
	var sent Delivery
	b.call("POST", phone+"/messages", Incoming{From: marta, Type: TypeImage, Caption: "look"}, 200, &sent)
	require.Equal(t, []uint16{1}, sent.Devices)
	c.message(sent.ID)
	b.call("GET", "/control/idle", nil, 200, nil)
	id := c.text(pnJID(marta), "nice")
	chat := phone + "/chats/" + marta
	b.call("POST", chat+"/read", map[string]any{"ids": []string{id}}, 200, nil)
	b.call("POST", chat+"/typing", map[string]any{"on": true}, 200, nil)
	b.call("POST", chat+"/retry", map[string]any{"id": id}, 200, nil)
	var shown []Message
	b.call("GET", chat+"/messages", nil, 200, &shown)
	require.Len(t, shown, 2)
	require.NotEmpty(t, b.call("GET", "/control/files/"+shown[0].Media.File, nil, 200, nil))
	b.call("PATCH", phone, map[string]any{"reachOutLimited": true}, 200, nil)
	b.call("POST", phone+"/addressing", map[string]string{"mode": "lid"}, 200, nil)
	b.call("POST", phone+"/addressing", map[string]string{"person": marta}, 200, nil)
	b.call("PUT", phone+"/history?send=1", []HistoryChat{{Peer: marta, Messages: []HistoryMessage{{Text: "old"}}}}, 200, nil)
	find(c, any1[*events.HistorySync])
	var history []HistoryChat
	b.call("GET", phone+"/history", nil, 200, &history)
	require.Equal(t, "old", history[0].Messages[0].Text)
	require.NotEmpty(t, history[0].Messages[0].ID)
	b.call("POST", "/control/people", Person{Number: "15550100177", Name: "New"}, 200, nil)
	b.call("POST", "/control/groups", Group{Subject: "New", Members: []string{shop, marta}}, 200, nil)
	var made map[string]string
	b.call("POST", "/control/faults", `{"kind":"slow","delayMs":1,"count":1}`, 200, &made)
	b.call("DELETE", "/control/faults/"+made["id"], nil, 200, nil)
	b.call("DELETE", "/control/faults", nil, 200, nil)
	for _, path := range []string{"", "phones", "people", "groups", "faults", "ledger", "ledger/inbound?number=" + shop, "ledger/sends", "connections", "setup"} {
		require.NotEmpty(t, b.call("GET", "/control/"+path, nil, 200, nil))
	}
	b.call("DELETE", "/control/ledger", nil, 200, nil)
	b.call("POST", phone+"/unlink", nil, 200, nil)
	find(c, any1[*events.LoggedOut])
}

func TestControlRefuses(t *testing.T) {
	b := start(t)
	b.call("GET", "/control/nothing", nil, 404, nil)
	b.call("POST", "/control/phones/1/messages", Incoming{From: marta}, 404, nil)
	b.call("POST", "/control/phones/"+shop+"/messages", `{"from":"`+marta+`","txt":"typo"}`, 400, nil)
	b.call("POST", "/control/phones/"+shop+"/messages", Incoming{From: marta, Type: "song"}, 422, nil)
	b.call("POST", "/control/phones/"+shop+"/messages", Incoming{From: gone, Text: "?"}, 404, nil)
	b.call("POST", "/control/phones/"+shop+"/scan", map[string]string{"qr": "nonsense"}, 422, nil)
	b.call("POST", "/control/phones/"+shop+"/code", map[string]string{"code": "AAAA-AAAA"}, 422, nil)
	b.call("POST", "/control/phones", Phone{Number: "12"}, 422, nil)
	b.call("POST", "/control/faults", `{"kind":"gremlins"}`, 422, nil)
	b.call("GET", "/control/ledger?after=x", nil, 422, nil)
	b.call("GET", "/v/t62.7118-24/none", nil, 404, nil)
	c := b.link(shop)
	c.Disconnect()
	b.says(Incoming{From: marta, Text: "waits"})
	b.call("GET", "/control/idle?timeoutMs=1", nil, 504, nil)
}

func TestPageAndEvents(t *testing.T) {
	b := start(t)
	res, err := http.Get(b.url + "/")
	require.NoError(t, err)
	page, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Contains(t, string(page), "WhatsApp simulator")
	require.Contains(t, res.Header.Get("Content-Security-Policy"), "script-src 'sha256-")
	require.NotContains(t, string(page), "innerHTML")

	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, b.url+"/control/events", nil)
	require.NoError(t, err)
	stream, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		require.Fail(t, "the stream ended before "+want)
	}
	until("hello")
	b.says(Incoming{From: marta, Text: "seen on the page"})
	until("seen on the page")
	c := b.newClient()
	require.NoError(t, c.ConnectContext(b.ctx))
	find(c, any1[*events.QR])
	_, err = c.PairPhone(b.ctx, shop, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	require.NoError(t, err)
	until("event: code")
}
