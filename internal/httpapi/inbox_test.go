package httpapi_test

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
	"switchboard/internal/httpapi"
	"switchboard/internal/inbox"
	"switchboard/internal/media"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// inboxWorld is a world with a desk: each organization has one of everything.
type inboxWorld struct {
	*world
	inbox *inbox.Service
	a, b  things
}

// things are the ids of an organization's one channel, chat and so on.
type things struct {
	who                                               domain.Principal
	channel, chat, inbound, sent, ticket, media, note int64
}

// quiet is a publisher and waker that nobody listens to.
type quiet struct{}

func (quiet) Publish([]domain.Event)        {}
func (quiet) User(int64, string, any) error { return nil }
func (quiet) Typing(int64, bool, any) error { return nil }
func (quiet) Wake(int64)                    {}
func (quiet) Attend(int64)                  {}

func parseConfig(config map[string]any) (public, secrets map[string]string, externalKey string, err error) {
	number, _ := config["number"].(string)
	secret, _ := config["secret"].(string)
	if number == "" || secret == "" || len(config) != 2 {
		return nil, nil, "", domain.Invalid("config.number", "Give number and secret.")
	}
	return map[string]string{"number": number}, map[string]string{"secret": secret}, number, nil
}

const uploadLimit = 64 << 10

// onDesks runs a test on both databases.
func onDesks(t *testing.T, test func(t *testing.T, w *inboxWorld)) {
	t.Helper()
	onBoth(t, false, func(t *testing.T, databaseURL string) { test(t, newInboxWorld(t, databaseURL)) })
}

func newInboxWorld(t *testing.T, databaseURL string) *inboxWorld {
	t.Helper()
	s, err := store.Open(t.Context(), databaseURL, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	sealer, err := auth.NewSealer([]byte(strings.Repeat("k", 32)))
	require.NoError(t, err)
	links, err := auth.NewMediaLinks(jwtSecret, time.Now)
	require.NoError(t, err)
	blobs, err := media.NewFileSystem(t.TempDir())
	require.NoError(t, err)
	w := &inboxWorld{inbox: inbox.New(inbox.Options{
		Store: s, Publisher: quiet{}, Waker: quiet{}, Logger: testkit.Logger(t), Sealer: sealer,
		Kinds: map[domain.ChannelKind]inbox.ConfigParser{domain.KindWABA: parseConfig},
	})}
	w.world = newWorld(t, databaseURL, setup{options: httpapi.Options{Inbox: w.inbox, Blobs: blobs, MediaLinks: links, MediaMaxBytes: uploadLimit}})
	w.a = w.furnish(domain.Principal{UserID: adminA, OrganizationID: orgA, Role: domain.RoleAdmin}, "111")
	w.b = w.furnish(domain.Principal{UserID: adminB, OrganizationID: orgB, Role: domain.RoleAdmin}, "222")
	return w
}

// furnish makes one of everything.
func (w *inboxWorld) furnish(who domain.Principal, number string) things {
	w.t.Helper()
	ctx := testkit.Context(w.t)
	made := things{who: who}
	ch, err := w.inbox.CreateChannel(ctx, who, domain.KindWABA, "Sales", map[string]any{"number": number, "secret": "hush"})
	require.NoError(w.t, err)
	made.channel = ch.ID
	const customer = "4915112345678"
	require.NoError(w.t, w.inbox.Receive(ctx, ch.ID, []domain.Inbound{{Message: &domain.InboundMessage{
		ExternalID: "wamid." + number, Type: domain.TypeText, Content: "Hello", ProviderTime: domain.At(time.Now()),
		Peer: domain.Peer{Address: customer, Kind: domain.ChatDirect, Name: "Grace", Identities: []domain.Identity{{Kind: domain.IdentityPhone, Value: customer}}},
	}}}))
	chats, err := w.inbox.Chats(ctx, who, store.ChatFilter{Limit: 2})
	require.NoError(w.t, err)
	require.Len(w.t, chats, 1)
	made.chat, made.inbound = chats[0].Chat.ID, chats[0].Chat.LastMessage.ID
	sent, _, err := w.inbox.Send(ctx, who, inbox.SendInput{ChatID: made.chat, Content: "Good day"})
	require.NoError(w.t, err)
	made.sent = sent.ID
	ticket, err := w.inbox.CreateTicket(ctx, who, inbox.NewTicket{ChatID: made.chat, Subject: "Screws"})
	require.NoError(w.t, err)
	made.ticket = ticket.ID
	file := w.upload(w.access(who.UserID), "photo.png", picture())
	require.Equal(w.t, 201, file.status, "%s", file.body)
	made.media = decode[domain.Media](w.t, file).ID
	note, err := w.inbox.AddNote(ctx, who, store.NoteSubject{ChatID: made.chat}, "Calls back")
	require.NoError(w.t, err)
	made.note = note.ID
	return made
}

func picture() []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 3, 2))); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// form is a multipart body with files.
func form(files ...[2]string) (body, contentType string) {
	var b bytes.Buffer
	writer := multipart.NewWriter(&b)
	for _, f := range files {
		field, name, _ := strings.Cut(f[0], "/")
		part, err := writer.CreateFormFile(field, name)
		if err == nil {
			_, err = io.WriteString(part, f[1])
		}
		if err != nil {
			panic(err)
		}
	}
	_ = writer.Close()
	return b.String(), writer.FormDataContentType()
}

func (w *inboxWorld) upload(token, name string, content []byte) reply {
	w.t.Helper()
	body, contentType := form([2]string{"file/" + name, string(content)})
	return w.send("POST", "/api/media", token, body, "Content-Type", contentType)
}

// call makes a request as a user of organization A and expects a status.
func (w *inboxWorld) call(t *testing.T, user int64, method, path, body string, status int) reply {
	t.Helper()
	r := w.send(method, path, w.access(user), body)
	require.Equal(t, status, r.status, "%s %s: %s", method, path, r.body)
	return r
}

func TestAChatsLife(t *testing.T) {
	onDesks(t, func(t *testing.T, w *inboxWorld) {
		chatPath := path("/api/chats/%d", w.a.chat)
		page := decode[httpapi.Page[domain.Chat]](t, w.call(t, operatorA, "GET", "/api/chats?status=open&unread=true&assigneeId=none&q=gra&limit=1", "", 200))
		require.Len(t, page.Items, 1)
		assert.Nil(t, page.NextCursor)
		assert.Equal(t, "Good day", page.Items[0].LastMessage.Content)

		chat := decode[domain.Chat](t, w.call(t, operatorA, "PATCH", chatPath, `{"status":"pending","assigneeId":3,"tags":[" vip ","vip"]}`, 200))
		assert.Equal(t, []string{"vip"}, chat.Tags)
		assert.Equal(t, operatorA, *chat.AssigneeID)
		for _, query := range []string{"assigneeId=me", "assigneeId=3", "tag=vip", path("channelId=%d", w.a.channel), "status=pending"} {
			page = decode[httpapi.Page[domain.Chat]](t, w.call(t, operatorA, "GET", "/api/chats?"+query, "", 200))
			assert.Len(t, page.Items, 1, query)
		}
		assert.Nil(t, decode[domain.Chat](t, w.call(t, operatorA, "PATCH", chatPath, `{"assigneeId":null}`, 200)).AssigneeID)
		w.call(t, operatorA, "PATCH", chatPath, `{}`, 200)

		body := fmt.Sprintf(`{"channelId":%d,"phone":"+1 202 555 0123"}`, w.a.channel)
		second := decode[domain.Chat](t, w.call(t, operatorA, "POST", "/api/chats", body, 201))
		assert.Equal(t, "12025550123", second.Contact.Phone)
		w.call(t, operatorA, "POST", "/api/chats", body, 200)
		first := decode[httpapi.Page[domain.Chat]](t, w.call(t, operatorA, "GET", "/api/chats?limit=1", "", 200))
		require.NotNil(t, first.NextCursor)
		rest := decode[httpapi.Page[domain.Chat]](t, w.call(t, operatorA, "GET", "/api/chats?limit=1&cursor="+*first.NextCursor, "", 200))
		require.Len(t, rest.Items, 1)
		assert.NotEqual(t, first.Items[0].ID, rest.Items[0].ID)
		assert.Nil(t, rest.NextCursor)

		w.call(t, operatorA, "POST", chatPath+"/notes", `{"content":" Twice "}`, 201)
		notes := decode[httpapi.Page[domain.Note]](t, w.call(t, operatorA, "GET", chatPath+"/notes?limit=1", "", 200))
		assert.Equal(t, "Twice", notes.Items[0].Content)
		require.NotNil(t, notes.NextCursor)
		notes = decode[httpapi.Page[domain.Note]](t, w.call(t, operatorA, "GET", chatPath+"/notes?cursor="+*notes.NextCursor, "", 200))
		assert.Equal(t, w.a.note, notes.Items[0].ID)

		w.call(t, operatorA, "POST", chatPath+"/read", "", 200)
		w.call(t, operatorA, "POST", chatPath+"/read", fmt.Sprintf(`{"upToMessageId":%d}`, w.a.inbound), 200)

		log := decode[httpapi.EventLog](t, w.call(t, operatorA, "GET", "/api/events?limit=500", "", 200))
		require.NotEmpty(t, log.Events)
		assert.Equal(t, log.Head, log.Events[len(log.Events)-1].Seq)
		assert.NotEmpty(t, log.Epoch)
		assert.True(t, decode[httpapi.EventLog](t, w.call(t, operatorA, "GET", path("/api/events?after=%d", log.Head+1), "", 200)).Resync)

		w.call(t, operatorA, "DELETE", chatPath, "", 204)
		w.call(t, operatorA, "GET", chatPath, "", 404)
		w.call(t, operatorA, "GET", path("/api/messages/%d", w.a.sent), "", 404)
	})
}

func TestMessagesOverHTTP(t *testing.T) {
	onDesks(t, func(t *testing.T, w *inboxWorld) {
		list := func(query string) httpapi.Page[domain.Message] {
			return decode[httpapi.Page[domain.Message]](t, w.call(t, operatorA, "GET", path("/api/messages?chatId=%d", w.a.chat)+query, "", 200))
		}
		all := list("")
		require.Len(t, all.Items, 2)
		assert.Equal(t, []int64{w.a.inbound, w.a.sent}, []int64{all.Items[0].ID, all.Items[1].ID})
		newest := list("&limit=1")
		assert.Equal(t, w.a.sent, newest.Items[0].ID)
		require.NotNil(t, newest.NextCursor)
		older := list("&limit=1&before=" + *newest.NextCursor)
		assert.Equal(t, w.a.inbound, older.Items[0].ID)
		assert.Nil(t, older.NextCursor)
		assert.Equal(t, w.a.sent, list(path("&after=%d", w.a.inbound)).Items[0].ID)

		body := fmt.Sprintf(`{"chatId":%d,"mediaId":%d,"content":"look","clientMessageId":"c1"}`, w.a.chat, w.a.media)
		sent := decode[domain.Message](t, w.call(t, operatorA, "POST", "/api/messages/send", body, 201))
		assert.Equal(t, domain.StatusQueued, sent.Status)
		assert.Equal(t, domain.TypeImage, sent.Type)
		again := decode[domain.Message](t, w.call(t, operatorA, "POST", "/api/messages/send", body, 200))
		assert.Equal(t, sent.ID, again.ID)
		for _, m := range []domain.Message{sent, again, decode[domain.Message](t, w.call(t, operatorA, "GET", path("/api/messages/%d", sent.ID), "", 200)), list("&limit=1").Items[0]} {
			require.NotNil(t, m.Media)
			assert.Equal(t, 200, w.send("GET", m.Media.URL, "", "").status, "the file's address works without a token")
		}
		w.call(t, operatorA, "POST", path("/api/messages/%d/retry", w.a.inbound), "", 409)
		w.call(t, operatorA, "PATCH", path("/api/messages/%d", w.a.sent), `{"content":"x"}`, 409)
		w.call(t, operatorA, "POST", path("/api/messages/%d/reactions", w.a.inbound), `{"emoji":"👍"}`, 200)
	})
}

// TestPriorityOverHTTP: bulk is shown as such, and a wrong word is answered with
// those that may be used.
func TestPriorityOverHTTP(t *testing.T) {
	onDesks(t, func(t *testing.T, w *inboxWorld) {
		send := func(priority string, status int) reply {
			return w.call(t, operatorA, "POST", "/api/messages/send", fmt.Sprintf(`{"chatId":%d,"content":"x"%s}`, w.a.chat, priority), status)
		}
		assert.Empty(t, decode[domain.Message](t, send("", 201)).Priority)
		assert.Empty(t, decode[domain.Message](t, send(`,"priority":"normal"`, 201)).Priority)
		bulk := decode[domain.Message](t, send(`,"priority":"bulk"`, 201))
		assert.Equal(t, domain.MessageBulk, bulk.Priority)
		again := decode[domain.Message](t, w.call(t, operatorA, "GET", path("/api/messages/%d", bulk.ID), "", 200))
		assert.Equal(t, domain.MessageBulk, again.Priority)
		problem := send(`,"priority":"urgent"`, 422).problem(t)
		require.Len(t, problem.Errors, 1)
		assert.Equal(t, "priority", problem.Errors[0].Field)
		for _, word := range []string{"normal", "bulk"} {
			assert.Contains(t, problem.Errors[0].Message, word)
		}
	})
}

func TestFiles(t *testing.T) {
	onDesks(t, func(t *testing.T, w *inboxWorld) {
		known := decode[domain.Media](t, w.call(t, operatorA, "GET", path("/api/media/%d", w.a.media), "", 200))
		assert.Equal(t, "image/png", known.MIME)
		assert.Equal(t, []int{3, 2}, []int{known.Width, known.Height})
		r := w.send("GET", known.URL, "", "")
		require.Equal(t, 200, r.status)
		assert.Equal(t, picture(), r.body)
		assert.Equal(t, "image/png", r.header.Get("Content-Type"))
		assert.Equal(t, `inline; filename="photo.png"`, r.header.Get("Content-Disposition"))
		assert.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))
		assert.Contains(t, r.header.Get("Content-Security-Policy"), "sandbox")
		part := w.send("GET", known.URL, "", "", "Range", "bytes=1-3")
		assert.Equal(t, 206, part.status)
		assert.Equal(t, "PNG", string(part.body))
		assert.Equal(t, 304, w.send("GET", known.URL, "", "", "If-None-Match", r.header.Get("ETag")).status)

		for name, content := range map[string]string{
			"evil.png": "<html><script>alert(1)</script>", "x.svg": `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`, "../../etc/passwd": "plain",
		} {
			up := w.upload(w.access(operatorA), name, []byte(content))
			require.Equal(t, 201, up.status, "%s", up.body)
			file := decode[domain.Media](t, up)
			assert.NotContains(t, file.Filename, "/")
			down := w.send("GET", file.URL, "", "")
			assert.Equal(t, "application/octet-stream", down.header.Get("Content-Type"), name)
			assert.Contains(t, down.header.Get("Content-Disposition"), "attachment", name)
			inline := strings.Replace(file.URL, "d=attachment", "d=inline", 1)
			assert.Equal(t, 403, w.send("GET", inline, "", "").status)
		}
		// No signature serves another file, another organization, or longer than it says.
		for _, forged := range []string{
			strings.Replace(known.URL, path("/media/%d?", w.a.media), path("/media/%d?", w.b.media), 1),
			strings.Replace(known.URL, "org=1", "org=2", 1),
			regexp.MustCompile(`exp=\d+`).ReplaceAllString(known.URL, "exp=9999999999"),
			regexp.MustCompile(`sig=[^&]+`).ReplaceAllString(known.URL, "sig=AAAA"),
		} {
			assert.Equal(t, 403, w.send("GET", forged, "", "").status, forged)
		}
		assert.Equal(t, 401, w.send("GET", path("/api/media/%d", w.a.media), "", "").status)
	})
}

func TestUploadsThatAreNone(t *testing.T) {
	w := newInboxWorld(t, seededSQLite(t))
	whole, kind := form([2]string{"file/a.txt", "hello"})
	empty, emptyKind := form([2]string{"file/a.txt", ""})
	two, twoKind := form([2]string{"file/a.txt", "a"}, [2]string{"file/b.txt", "b"})
	other, otherKind := form([2]string{"photo/a.txt", "a"})
	nothing, nothingKind := form()
	large, largeKind := form([2]string{"file/a.txt", strings.Repeat("x", uploadLimit+1)})
	huge, hugeKind := form([2]string{"file/a.txt", strings.Repeat("x", 4*uploadLimit)})
	fits, fitsKind := form([2]string{"file/a.txt", strings.Repeat("x", uploadLimit)})
	for name, c := range map[string]struct {
		body, kind string
		status     int
		field      string
	}{
		"the limit":        {fits, fitsKind, 201, ""},
		"over the limit":   {large, largeKind, 413, ""},
		"far over":         {huge, hugeKind, 413, ""},
		"empty":            {empty, emptyKind, 422, "file"},
		"two files":        {two, twoKind, 422, "file"},
		"another field":    {other, otherKind, 422, "photo"},
		"no field":         {nothing, nothingKind, 422, "file"},
		"cut":              {whole[:len(whole)-20], kind, 422, "body"},
		"JSON":             {`{}`, "application/json", 422, "body"},
		"no boundary":      {whole, "multipart/form-data", 422, "body"},
		"another boundary": {whole, "multipart/form-data; boundary=x", 422, "file"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.send("POST", "/api/media", w.access(operatorA), c.body, "Content-Type", c.kind)
			require.Equal(t, c.status, r.status, "%s", r.body)
			if c.status == 201 {
				return
			}
			p := r.problem(t)
			field := ""
			if len(p.Errors) > 0 {
				field = p.Errors[0].Field
			}
			assert.Equal(t, c.field, field)
		})
	}
}

func seededSQLite(t *testing.T) string {
	t.Helper()
	databaseURL := testkit.SQLite(t)
	require.NoError(t, seed(databaseURL))
	return databaseURL
}

func TestTicketsAndNotifications(t *testing.T) {
	onDesks(t, func(t *testing.T, w *inboxWorld) {
		body := fmt.Sprintf(`{"chatId":%d,"subject":"Nails","priority":"high","assigneeId":3}`, w.a.chat)
		ticket := decode[domain.Ticket](t, w.call(t, adminA, "POST", "/api/tickets", body, 201))
		assert.Equal(t, int64(2), ticket.Number)
		ticketPath := path("/api/tickets/%d", ticket.ID)
		for query, want := range map[string]int{"": 2, "?assigneeId=3": 1, "?assigneeId=none": 1, "?status=closed": 0, path("?chatId=%d", w.a.chat): 2, "?limit=1": 1} {
			got := decode[httpapi.Page[domain.Ticket]](t, w.call(t, operatorA, "GET", "/api/tickets"+query, "", 200))
			assert.Len(t, got.Items, want, query)
		}
		w.call(t, operatorA, "PATCH", ticketPath, `{"status":"closed","assigneeId":null,"subject":"Bolts"}`, 200)
		assert.Equal(t, "Bolts", decode[domain.Ticket](t, w.call(t, operatorA, "GET", ticketPath, "", 200)).Subject)
		w.call(t, operatorA, "POST", ticketPath+"/notes", `{"content":"n"}`, 201)
		assert.Len(t, decode[httpapi.Page[domain.Note]](t, w.call(t, operatorA, "GET", ticketPath+"/notes", "", 200)).Items, 1)

		mine := decode[httpapi.Page[domain.Notification]](t, w.call(t, operatorA, "GET", "/api/notifications?unread=true", "", 200))
		require.Len(t, mine.Items, 1)
		assert.Equal(t, domain.NotifyTicketAssigned, mine.Items[0].Kind)
		w.call(t, adminA, "POST", "/api/notifications/read", fmt.Sprintf(`{"ids":[%d]}`, mine.Items[0].ID), 200)
		for _, read := range []string{`{"upToId":1}`, `{"all":true}`} {
			assert.JSONEq(t, `{"unread":0}`, string(w.call(t, operatorA, "POST", "/api/notifications/read", read, 200).body))
		}
		for _, bad := range []string{`{}`, `{"all":false}`, `{"all":true,"upToId":1}`, `{"ids":[]}`} {
			w.call(t, operatorA, "POST", "/api/notifications/read", bad, 422)
		}
	})
}

func TestChannelsOverHTTP(t *testing.T) {
	onDesks(t, func(t *testing.T, w *inboxWorld) {
		r := w.call(t, adminA, "POST", "/api/channels", `{"kind":"waba","name":"Two","config":{"number":"9","secret":"hush-hush"}}`, 201)
		assert.NotContains(t, string(r.body), "hush-hush")
		ch := decode[domain.Channel](t, r)
		channelPath := path("/api/channels/%d", ch.ID)
		assert.Len(t, decode[httpapi.Page[domain.Channel]](t, w.call(t, operatorA, "GET", "/api/channels", "", 200)).Items, 2)
		assert.Equal(t, "Three", decode[domain.Channel](t, w.call(t, adminA, "PATCH", channelPath, `{"name":"Three"}`, 200)).Name)
		w.call(t, adminA, "POST", channelPath+"/disconnect", "", 200)
		w.call(t, adminA, "POST", channelPath+"/connect", "", 200)
		for _, action := range []string{"POST logout", "POST pair-code", "GET qr"} {
			method, name, _ := strings.Cut(action, " ")
			body := ""
			if name == "pair-code" {
				body = `{"phone":"+49 151 23456789"}`
			}
			p := w.call(t, adminA, method, channelPath+"/"+name, body, 409).problem(t)
			assert.Equal(t, domain.CodeUnsupported, p.Code)
		}
		for body, status := range map[string]int{
			`{"kind":"waba","name":"X","config":{"number":"9","secret":"s"}}`: 409, `{"kind":"whatsapp","name":"X","config":{}}`: 409,
			`{"kind":"fax","name":"X","config":{}}`: 422, `{"kind":"waba","name":" ","config":{"number":"8","secret":"s"}}`: 422,
			`{"kind":"waba","name":"X","config":{}}`: 422, `{"kind":"waba","name":"X"}`: 422,
			`{"kind":"waba","name":"X","config":{"number":"8","secret":"s"},"organizationId":2}`: 422,
		} {
			w.call(t, adminA, "POST", "/api/channels", body, status)
		}
		w.call(t, adminA, "DELETE", channelPath, "", 204)
		w.call(t, adminA, "GET", channelPath, "", 404)
		assert.NotContains(t, w.log.String(), "hush")
	})
}

// foreignIDs are requests that name an id, {id}, which is another organization's or nobody's. of says whose id it is.
func foreignIDs(w *inboxWorld) []struct {
	method, path, body string
	of                 func(things) int64
} {
	chat := func(o things) int64 { return o.chat }
	channel := func(o things) int64 { return o.channel }
	inbound := func(o things) int64 { return o.inbound }
	sent := func(o things) int64 { return o.sent }
	ticket := func(o things) int64 { return o.ticket }
	file := func(o things) int64 { return o.media }
	user := func(o things) int64 { return o.who.UserID }
	own := w.a
	return []struct {
		method, path, body string
		of                 func(things) int64
	}{
		{"GET", "/api/channels/{id}", "", channel},
		{"PATCH", "/api/channels/{id}", `{"name":"x"}`, channel},
		{"DELETE", "/api/channels/{id}", "", channel},
		{"POST", "/api/channels/{id}/connect", "", channel},
		{"POST", "/api/channels/{id}/disconnect", "", channel},
		{"POST", "/api/channels/{id}/logout", "", channel},
		{"POST", "/api/channels/{id}/pair-code", `{"phone":"+49 151 23456789"}`, channel},
		{"GET", "/api/channels/{id}/qr", "", channel},
		{"GET", "/api/channels/{id}/qr.png", "", channel},
		{"GET", "/api/chats?channelId={id}", "", channel},
		{"GET", "/api/chats?assigneeId={id}", "", user},
		{"POST", "/api/chats", `{"channelId":{id},"phone":"+4915112345678"}`, channel},
		{"GET", "/api/chats/{id}", "", chat},
		{"PATCH", "/api/chats/{id}", `{"status":"resolved"}`, chat},
		{"PATCH", path("/api/chats/%d", own.chat), `{"assigneeId":{id}}`, user},
		{"DELETE", "/api/chats/{id}", "", chat},
		{"POST", "/api/chats/{id}/read", "{}", chat},
		{"POST", path("/api/chats/%d/read", own.chat), `{"upToMessageId":{id}}`, inbound},
		{"GET", "/api/chats/{id}/notes", "", chat},
		{"POST", "/api/chats/{id}/notes", `{"content":"x"}`, chat},
		{"GET", "/api/messages?chatId={id}", "", chat},
		{"GET", path("/api/messages?chatId=%d&before={id}", own.chat), "", inbound},
		{"GET", path("/api/messages?chatId=%d&after={id}", own.chat), "", inbound},
		{"POST", "/api/messages/send", `{"chatId":{id},"content":"x"}`, chat},
		{"POST", "/api/messages/send", fmt.Sprintf(`{"chatId":%d,"mediaId":{id}}`, own.chat), file},
		{"POST", "/api/messages/send", fmt.Sprintf(`{"chatId":%d,"content":"x","replyToId":{id}}`, own.chat), inbound},
		{"GET", "/api/messages/{id}", "", inbound},
		{"POST", "/api/messages/{id}/retry", "", sent},
		{"POST", "/api/messages/{id}/reactions", `{"emoji":"👍"}`, inbound},
		{"PATCH", "/api/messages/{id}", `{"content":"x"}`, sent},
		{"DELETE", "/api/messages/{id}", "", sent},
		{"GET", "/api/media/{id}", "", file},
		{"GET", "/api/tickets?chatId={id}", "", chat},
		{"GET", "/api/tickets?assigneeId={id}", "", user},
		{"POST", "/api/tickets", `{"chatId":{id},"subject":"x"}`, chat},
		{"POST", "/api/tickets", fmt.Sprintf(`{"chatId":%d,"subject":"x","assigneeId":{id}}`, own.chat), user},
		{"GET", "/api/tickets/{id}", "", ticket},
		{"PATCH", "/api/tickets/{id}", `{"status":"closed"}`, ticket},
		{"PATCH", path("/api/tickets/%d", own.ticket), `{"assigneeId":{id}}`, user},
		{"GET", "/api/tickets/{id}/notes", "", ticket},
		{"POST", "/api/tickets/{id}/notes", `{"content":"x"}`, ticket},
		{"POST", "/api/notifications/read", `{"ids":[{id}]}`, chat},
		{"POST", "/api/notifications/read", `{"upToId":{id}}`, chat},
	}
}

// TestForeignIDsAreMissingIDs is the wall: for every route and role, another organization's id is answered byte for byte like
// one that nobody has, and changes nothing there.
func TestForeignIDsAreMissingIDs(t *testing.T) {
	onDesks(t, func(t *testing.T, w *inboxWorld) {
		before := w.snapshot(t, w.b)
		covered := map[string]bool{}
		for _, c := range foreignIDs(w) {
			pattern, _, _ := strings.Cut(c.path, "?")
			covered[c.method+" "+regexp.MustCompile(`/\d+`).ReplaceAllString(pattern, "/{id}")] = true
			for _, user := range []int64{adminA, operatorA} {
				ask := func(id int64) reply {
					fill := strings.NewReplacer("{id}", fmt.Sprint(id))
					return w.send(c.method, fill.Replace(c.path), w.access(user), fill.Replace(c.body))
				}
				foreign, none := ask(c.of(w.b)), ask(missing)
				label := fmt.Sprintf("%s %s %s as %d", c.method, c.path, c.body, user)
				assert.Equal(t, none.status, foreign.status, label)
				assert.Equal(t, string(none.body), string(foreign.body), label)
				if strings.Contains(c.path, "{id}") && !strings.Contains(c.path, "?") {
					assert.Contains(t, []int{403, 404}, foreign.status, label)
				}
			}
		}
		assert.Equal(t, before, w.snapshot(t, w.b), "the other organization is as it was")
		// Whoever adds a route with an id thinks of this table.
		for pattern, operations := range decode[openAPI](t, w.send("GET", "/openapi.json", "", "")).Paths {
			for method, operation := range operations {
				key := strings.ToUpper(method) + " " + pattern
				others := operation.Tags[0] == "Users" || operation.Tags[0] == "API keys" // elsewhere
				if strings.Contains(pattern, "{id}") && !others {
					assert.True(t, covered[key], "%s is not in the table", key)
				}
			}
		}
	})
}

// snapshot is everything that an organization's API shows, as text.
func (w *inboxWorld) snapshot(t *testing.T, of things) string {
	t.Helper()
	var all strings.Builder
	for _, p := range []string{
		"/api/channels", "/api/chats", path("/api/messages?chatId=%d", of.chat), "/api/tickets", path("/api/chats/%d/notes", of.chat),
		path("/api/tickets/%d/notes", of.ticket), "/api/notifications", "/api/events?limit=500",
	} {
		r := w.send("GET", p, w.access(of.who.UserID), "")
		require.Equal(t, 200, r.status, "%s", r.body)
		all.Write(r.body)
	}
	return all.String()
}

func TestBadInput(t *testing.T) {
	w := newInboxWorld(t, seededSQLite(t))
	chat := path("/api/chats/%d", w.a.chat)
	ticket := path("/api/tickets/%d", w.a.ticket)
	message := path("/api/messages/%d", w.a.sent)
	long := strings.Repeat("x", 65537)
	for name, c := range map[string]struct {
		method, path, body string
		field              string
	}{
		"status of a list":         {"GET", "/api/chats?status=closed", "", "status"},
		"assignee of a list":       {"GET", "/api/chats?assigneeId=you", "", "assigneeId"},
		"negative assignee":        {"GET", "/api/chats?assigneeId=-1", "", "assigneeId"},
		"channel of a list":        {"GET", "/api/chats?channelId=0", "", "channelId"},
		"unread of a list":         {"GET", "/api/chats?unread=maybe", "", "unread"},
		"limit of a list":          {"GET", "/api/chats?limit=101", "", "limit"},
		"cursor of a list":         {"GET", "/api/chats?cursor=NQ", "", "cursor"},
		"unknown filter":           {"GET", "/api/chats?color=red", "", "color"},
		"long search":              {"GET", "/api/chats?q=" + strings.Repeat("x", 201), "", "q"},
		"chat with nobody":         {"POST", "/api/chats", fmt.Sprintf(`{"channelId":%d}`, w.a.channel), "phone"},
		"chat with two":            {"POST", "/api/chats", fmt.Sprintf(`{"channelId":%d,"phone":"1","username":"a"}`, w.a.channel), "phone"},
		"chat with a user name":    {"POST", "/api/chats", fmt.Sprintf(`{"channelId":%d,"username":"a"}`, w.a.channel), "username"},
		"chat with a short number": {"POST", "/api/chats", fmt.Sprintf(`{"channelId":%d,"phone":"+49"}`, w.a.channel), "phone"},
		"chat without a channel":   {"POST", "/api/chats", `{"phone":"+4915112345678"}`, "channelId"},
		"status of a chat":         {"PATCH", chat, `{"status":"closed"}`, "status"},
		"assignee 0":               {"PATCH", chat, `{"assigneeId":0}`, "assigneeId"},
		"assignee as text":         {"PATCH", chat, `{"assigneeId":"3"}`, "assigneeId"},
		"inactive assignee":        {"PATCH", chat, `{"assigneeId":4}`, "assigneeId"},
		"an empty tag":             {"PATCH", chat, `{"tags":[" "]}`, "tags"},
		"a long tag":               {"PATCH", chat, `{"tags":["` + strings.Repeat("x", 51) + `"]}`, "tags"},
		"many tags":                {"PATCH", chat, `{"tags":["` + strings.Join(strings.Split(strings.Repeat("abcdefghijklmnopqrstuvwxyz", 1)[:21], ""), `","`) + `"]}`, "tags"},
		"another's organization":   {"PATCH", chat, `{"organizationId":2}`, "organizationId"},
		"unread as a field":        {"PATCH", chat, `{"unreadCount":0}`, "unreadCount"},
		"an empty note":            {"POST", chat + "/notes", `{"content":" "}`, "content"},
		"a long note":              {"POST", chat + "/notes", `{"content":"` + long + `"}`, "content"},
		"read up to 0":             {"POST", chat + "/read", `{"upToMessageId":0}`, "upToMessageId"},
		"messages of nothing":      {"GET", "/api/messages", "", "chatId"},
		"messages both ways":       {"GET", path("/api/messages?chatId=%d&before=1&after=1", w.a.chat), "", "after"},
		"before as text":           {"GET", path("/api/messages?chatId=%d&before=x", w.a.chat), "", "before"},
		"an empty message":         {"POST", "/api/messages/send", fmt.Sprintf(`{"chatId":%d}`, w.a.chat), "content"},
		"a long message":           {"POST", "/api/messages/send", fmt.Sprintf(`{"chatId":%d,"content":%q}`, w.a.chat, long), "content"},
		"type of a message":        {"POST", "/api/messages/send", fmt.Sprintf(`{"chatId":%d,"content":"x","type":"poem"}`, w.a.chat), "type"},
		"priority of a message":    {"POST", "/api/messages/send", fmt.Sprintf(`{"chatId":%d,"content":"x","priority":"high"}`, w.a.chat), "priority"},
		"a place off the earth":    {"POST", "/api/messages/send", fmt.Sprintf(`{"chatId":%d,"location":{"latitude":91,"longitude":0}}`, w.a.chat), "location.latitude"},
		"no emoji":                 {"POST", message + "/reactions", `{}`, "emoji"},
		"an empty edit":            {"PATCH", message, `{"content":""}`, "content"},
		"status of tickets":        {"GET", "/api/tickets?status=new", "", "status"},
		"ticket without a subject": {"POST", "/api/tickets", fmt.Sprintf(`{"chatId":%d}`, w.a.chat), "subject"},
		"ticket with a blank one":  {"POST", "/api/tickets", fmt.Sprintf(`{"chatId":%d,"subject":" "}`, w.a.chat), "subject"},
		"priority of a ticket":     {"PATCH", ticket, `{"priority":"now"}`, "priority"},
		"status of a ticket":       {"PATCH", ticket, `{"status":"new"}`, "status"},
		"number of a ticket":       {"PATCH", ticket, `{"number":7}`, "number"},
		"cursor of tickets":        {"GET", "/api/tickets?cursor=eyJ4IjoxfQ", "", "cursor"},
		"events before the first":  {"GET", "/api/events?after=-1", "", "after"},
		"many events":              {"GET", "/api/events?limit=501", "", "limit"},
		"id 0":                     {"GET", "/api/chats/0", "", "id"},
		"id as text":               {"GET", "/api/chats/x", "", "id"},
		"id out of range":          {"GET", "/api/chats/9223372036854775808", "", "id"},
		"NUL":                      {"POST", chat + "/notes", `{"content":"a\u0000b"}`, "content"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.send(c.method, c.path, w.access(operatorA), c.body)
			require.Equal(t, 422, r.status, "%s", r.body)
			p := r.problem(t)
			require.NotEmpty(t, p.Errors)
			assert.Equal(t, c.field, p.Errors[0].Field, "%s", r.body)
		})
	}
}
