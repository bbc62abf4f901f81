package httpapi_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/httpapi"
	"switchboard/internal/testkit"
)

// Wherever a route answers a chat, its contact's picture has an address, which serves that organization's picture only.
func TestPicturesOfContacts(t *testing.T) {
	onDesks(t, func(t *testing.T, w *inboxWorld) {
		for _, own := range []things{w.a, w.b} {
			w.exec("UPDATE contacts SET picture_media_id = $1 WHERE id = (SELECT contact_id FROM chats WHERE id = $2)", own.media, own.chat)
		}
		chat := path("/api/chats/%d", w.a.chat)
		var addresses []string
		for _, item := range decode[httpapi.Page[domain.Chat]](t, w.call(t, operatorA, "GET", "/api/chats", "", 200)).Items {
			addresses = append(addresses, item.Contact.AvatarURL)
			assert.Equal(t, w.a.media, *item.Contact.AvatarMediaID)
		}
		for _, r := range []reply{
			w.call(t, operatorA, "GET", chat, "", 200),
			w.call(t, operatorA, "PATCH", chat, `{"tags":["vip"]}`, 200),
			w.call(t, operatorA, "POST", chat+"/read", "", 200),
			w.call(t, operatorA, "POST", "/api/chats", fmt.Sprintf(`{"channelId":%d,"phone":"+4915112345678"}`, w.a.channel), 200),
		} {
			addresses = append(addresses, decode[domain.Chat](t, r).Contact.AvatarURL)
		}
		require.Len(t, addresses, 5)
		for _, address := range addresses {
			r := w.send("GET", address, "", "")
			require.Equal(t, 200, r.status, address)
			assert.Equal(t, picture(), r.body)
			assert.Equal(t, "image/png", r.header.Get("Content-Type"))
		}
		assert.Equal(t, 404, w.send("GET", path("/api/media/%d", w.b.media), w.access(operatorA), "").status)
	})
}

func (w *inboxWorld) exec(query string, args ...any) {
	w.t.Helper()
	_, err := w.store.SQL().ExecContext(testkit.Context(w.t), query, args...)
	require.NoError(w.t, err)
}
