package telegram_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/telegram"
)

func TestEverySendMethod(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	s.says(grete, "/start")
	file := func(name string) tgbotapi.FileBytes {
		return tgbotapi.FileBytes{Name: name, Bytes: []byte("the bytes of " + name)}
	}
	var photo bytes.Buffer
	_, data := sampleFile(t, s, api, "photo")
	photo.Write(data)
	for name, c := range map[string]struct {
		send tgbotapi.Chattable
		has  func(tgbotapi.Message) bool
	}{
		"text":  {tgbotapi.NewMessage(grete, "hello"), func(m tgbotapi.Message) bool { return m.Text == "hello" }},
		"photo": {tgbotapi.NewPhoto(grete, tgbotapi.FileBytes{Name: "p.jpg", Bytes: photo.Bytes()}), func(m tgbotapi.Message) bool { return len(m.Photo) == 2 && m.Photo[1].Width == 480 }},
		"video": {tgbotapi.NewVideo(grete, file("v.mp4")), func(m tgbotapi.Message) bool { return m.Video != nil && m.Video.FileName == "v.mp4" }},
		"animation": {tgbotapi.NewAnimation(grete, file("a.mp4")), func(m tgbotapi.Message) bool {
			return m.Animation != nil && m.Document != nil
		}},
		"voice":      {tgbotapi.NewVoice(grete, file("v.ogg")), func(m tgbotapi.Message) bool { return m.Voice != nil && m.Voice.FileSize > 0 }},
		"audio":      {tgbotapi.NewAudio(grete, file("a.mp3")), func(m tgbotapi.Message) bool { return m.Audio != nil }},
		"document":   {tgbotapi.NewDocument(grete, file("d.pdf")), func(m tgbotapi.Message) bool { return m.Document != nil && m.Animation == nil }},
		"sticker":    {tgbotapi.NewSticker(grete, file("s.webp")), func(m tgbotapi.Message) bool { return m.Sticker != nil && m.Sticker.Width == 512 }},
		"video note": {tgbotapi.NewVideoNote(grete, 240, file("n.mp4")), func(m tgbotapi.Message) bool { return m.VideoNote != nil && m.VideoNote.Length == 240 }},
		"location":   {tgbotapi.NewLocation(grete, 52.5, 13.4), func(m tgbotapi.Message) bool { return m.Location != nil && m.Location.Latitude == 52.5 }},
		"venue": {tgbotapi.NewVenue(grete, "Gate", "Square", 52.5, 13.4), func(m tgbotapi.Message) bool {
			return m.Venue != nil && m.Venue.Title == "Gate" && m.Location != nil
		}},
		"contact": {tgbotapi.NewContact(grete, "+491", "Ada"), func(m tgbotapi.Message) bool { return m.Contact != nil && m.Contact.FirstName == "Ada" }},
		"poll":    {tgbotapi.NewPoll(grete, "Which?", "a", "b"), func(m tgbotapi.Message) bool { return m.Poll != nil && len(m.Poll.Options) == 2 }},
		"dice":    {tgbotapi.NewDice(grete), func(m tgbotapi.Message) bool { return m.Dice != nil && m.Dice.Value >= 1 && m.Dice.Value <= 6 }},
	} {
		m, err := api.Send(c.send)
		require.NoError(t, err, name)
		require.True(t, c.has(m), "%s: %+v", name, m)
		require.Equal(t, grete, m.Chat.ID, name)
		require.Equal(t, botID, m.From.ID, name)
		require.NotZero(t, m.MessageID, name)
	}
	conv, err := s.Conversation(botID, grete)
	require.NoError(t, err)
	require.Len(t, conv.Messages, 16)
	sends := s.Ledger().Sends(botID)
	require.Len(t, sends, 14)
	for _, send := range sends {
		require.Equal(t, telegram.OutcomeAccepted, send.Outcome)
		require.Len(t, send.MessageIDs, 1)
	}
}

// sampleFile makes a customer send a generated file and downloads it as a bot does.
func sampleFile(t *testing.T, s *simulator, api *tgbotapi.BotAPI, kind string) (tgbotapi.Message, []byte) {
	t.Helper()
	s.sends(grete, telegram.Incoming{Type: kind, Caption: "a caption"})
	got := s.updates(api, -1)
	m := *got[0].Message
	var id string
	switch kind {
	case "photo":
		id = m.Photo[len(m.Photo)-1].FileID
	case "video":
		id = m.Video.FileID
	case "animation":
		id = m.Animation.FileID
	case "voice":
		id = m.Voice.FileID
	case "audio":
		id = m.Audio.FileID
	case "sticker":
		id = m.Sticker.FileID
	case "video_note":
		id = m.VideoNote.FileID
	default:
		id = m.Document.FileID
	}
	f, err := api.GetFile(tgbotapi.FileConfig{FileID: id})
	require.NoError(t, err)
	a := s.do("GET", "/file/bot"+token+"/"+f.FilePath, "")
	require.Equal(t, 200, a.status)
	require.Len(t, a.body, f.FileSize)
	return m, []byte(a.body)
}

func TestCustomersFiles(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	for kind, want := range map[string]string{
		"photo": "image/jpeg", "video": "video/mp4", "animation": "video/mp4", "voice": "application/ogg", "audio": "audio/wave",
		"document": "text/plain; charset=utf-8", "sticker": "image/webp", "video_note": "video/mp4",
	} {
		m, data := sampleFile(t, s, api, kind)
		require.Equal(t, want, http.DetectContentType(data), kind)
		if kind != "sticker" && kind != "video_note" {
			require.Equal(t, "a caption", m.Caption, kind)
		}
	}
	s.sends(grete, telegram.Incoming{Type: "document", Media: &telegram.IncomingMedia{Data: []byte("%PDF-"), Filename: "x.pdf", MIMEType: "application/pdf"}})
	d := s.updates(api, -1)[0].Message.Document
	require.Equal(t, "x.pdf", d.FileName)
	require.Equal(t, "application/pdf", d.MimeType)

	s.sends(grete, telegram.Incoming{Type: "video", Media: &telegram.IncomingMedia{Size: 20 << 20}})
	v := s.updates(api, -1)[0].Message.Video
	require.Equal(t, 20<<20, v.FileSize)
	_, err := api.GetFile(tgbotapi.FileConfig{FileID: v.FileID})
	require.NoError(t, err, "20 MB just fit")
	s.sends(grete, telegram.Incoming{Type: "video", Media: &telegram.IncomingMedia{Size: 20<<20 + 1}})
	_, err = api.GetFile(tgbotapi.FileConfig{FileID: s.updates(api, -1)[0].Message.Video.FileID})
	require.EqualError(t, err, "Bad Request: file is too big")
	_, err = api.GetFile(tgbotapi.FileConfig{FileID: "nonsense"})
	require.EqualError(t, err, "Bad Request: invalid file_id")
}

func TestUploadsAndFileIDs(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	s.says(grete, "hi")
	big := tgbotapi.NewDocument(grete, tgbotapi.FileBytes{Name: "big.bin", Bytes: make([]byte, 50<<20)})
	m, err := api.Send(big)
	require.NoError(t, err, "50 MB just fit")
	require.Equal(t, 50<<20, m.Document.FileSize)
	big.File = tgbotapi.FileBytes{Name: "big.bin", Bytes: make([]byte, 50<<20+1)}
	_, err = api.Send(big)
	require.EqualError(t, err, "Request Entity Too Large")

	again, err := api.Send(tgbotapi.NewDocument(grete, tgbotapi.FileID(m.Document.FileID)))
	require.NoError(t, err)
	require.Equal(t, m.Document.FileUniqueID, again.Document.FileUniqueID)
	_, err = api.Send(tgbotapi.NewDocument(grete, tgbotapi.FileID("wrong")))
	require.ErrorContains(t, err, "wrong remote file identifier specified")
	_, err = api.Send(tgbotapi.NewDocument(grete, tgbotapi.FileBytes{Name: "empty"}))
	require.EqualError(t, err, "Bad Request: file must be non-empty")
	_, err = api.Send(tgbotapi.NewPhoto(grete, tgbotapi.FileBytes{Name: "x.jpg", Bytes: []byte("no image")}))
	require.EqualError(t, err, "Bad Request: IMAGE_PROCESS_FAILED")
	require.Equal(t, "Bad Request: there is no video in the request", s.call("sendVideo", `{"chat_id":5001001}`).json["description"])

	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pdf")
		_, _ = io.WriteString(w, "%PDF-1.4")
	}))
	t.Cleanup(origin.Close)
	m, err = api.Send(tgbotapi.NewDocument(grete, tgbotapi.FileURL(origin.URL+"/price-list.pdf")))
	require.NoError(t, err)
	require.Equal(t, "price-list.pdf", m.Document.FileName)
	_, err = api.Send(tgbotapi.NewDocument(grete, tgbotapi.FileURL("http://203.0.113.9/a.pdf")))
	require.EqualError(t, err, "Bad Request: failed to get HTTP URL content", "never off this machine")
}

func TestMediaGroup(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	_, data := sampleFile(t, s, api, "photo")
	first := tgbotapi.NewInputMediaPhoto(tgbotapi.FileBytes{Name: "1.jpg", Bytes: data})
	first.Caption = "of the album"
	second := tgbotapi.NewInputMediaVideo(tgbotapi.FileBytes{Name: "2.mp4", Bytes: []byte("clip")})
	got, err := api.SendMediaGroup(tgbotapi.NewMediaGroup(grete, []any{first, second}))
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.NotEmpty(t, got[0].MediaGroupID)
	require.Equal(t, got[0].MediaGroupID, got[1].MediaGroupID)
	require.Equal(t, "of the album", got[0].Caption)
	require.NotNil(t, got[1].Video)
	send := s.Ledger().Sends(botID)[0]
	require.Equal(t, []int64{int64(got[0].MessageID), int64(got[1].MessageID)}, send.MessageIDs)
	require.Equal(t, 400, s.call("sendMediaGroup", `{"chat_id":5001001,"media":[]}`).status)
	require.Equal(t, 400, s.call("sendMediaGroup", `{"chat_id":5001001,"media":[{"type":"photo","media":"x"},{"type":"audio","media":"y"}]}`).status)
}

func TestRepliesAndQuotes(t *testing.T) {
	s := newSim(t)
	in := s.says(grete, "what does the blue one cost?")
	msg := tgbotapi.NewMessage(grete, "12 EUR")
	msg.ReplyToMessageID = int(in.MessageID)
	m, err := s.bot().Send(msg)
	require.NoError(t, err)
	require.Equal(t, int(in.MessageID), m.ReplyToMessage.MessageID)
	require.Equal(t, "what does the blue one cost?", m.ReplyToMessage.Text)

	a := s.call("sendMessage", `{"chat_id":5001001,"text":"blue","reply_parameters":{"message_id":1,"quote":"the blue one"}}`)
	require.Equal(t, map[string]any{"text": "the blue one", "position": 10.0, "is_manual": true}, a.result(t)["quote"])
	a = s.call("sendMessage", `{"chat_id":5001001,"text":"x","reply_parameters":{"message_id":1,"quote":"red"}}`)
	require.Equal(t, "Bad Request: QUOTE_TEXT_INVALID", a.json["description"])
	a = s.call("sendMessage", `{"chat_id":5001001,"text":"x","reply_to_message_id":999}`)
	require.Equal(t, "Bad Request: message to be replied not found", a.json["description"])
	a = s.call("sendMessage", `{"chat_id":5001001,"text":"x","reply_parameters":{"message_id":999,"allow_sending_without_reply":true}}`)
	require.NotContains(t, a.result(t), "reply_to_message")

	s.sends(grete, telegram.Incoming{Text: "that one", ReplyTo: int64(m.MessageID), Quote: "12"})
	got := s.updates(s.bot(), 0)
	require.Equal(t, m.MessageID, got[len(got)-1].Message.ReplyToMessage.MessageID)
	require.Nil(t, got[len(got)-1].Message.ReplyToMessage.ReplyToMessage, "one level only")
}

func TestEditsDeletesForwardsCopies(t *testing.T) {
	c := newClock()
	s := newSim(t, func(o *telegram.Options) { o.Now = c.Now })
	api := s.bot()
	in := s.says(grete, "from the customer")
	m, err := api.Send(tgbotapi.NewMessage(grete, "first"))
	require.NoError(t, err)
	edited, err := api.Send(tgbotapi.NewEditMessageText(grete, m.MessageID, "second"))
	require.NoError(t, err)
	require.Equal(t, "second", edited.Text)
	require.Equal(t, int(c.Now().Unix()), edited.EditDate)
	_, err = api.Send(tgbotapi.NewEditMessageText(grete, m.MessageID, "second"))
	require.ErrorContains(t, err, "Bad Request: message is not modified")
	_, err = api.Send(tgbotapi.NewEditMessageText(grete, int(in.MessageID), "not mine"))
	require.EqualError(t, err, "Bad Request: message can't be edited")
	_, err = api.Send(tgbotapi.NewEditMessageText(grete, 999, "x"))
	require.EqualError(t, err, "Bad Request: message to edit not found")
	doc, err := api.Send(tgbotapi.NewDocument(grete, tgbotapi.FileBytes{Name: "d.txt", Bytes: []byte("d")}))
	require.NoError(t, err)
	captioned, err := api.Send(tgbotapi.NewEditMessageCaption(grete, doc.MessageID, "now with a caption"))
	require.NoError(t, err)
	require.Equal(t, "now with a caption", captioned.Caption)
	_, err = api.Send(tgbotapi.NewEditMessageText(grete, doc.MessageID, "x"))
	require.EqualError(t, err, "Bad Request: there is no text in the message to edit")
	keyboard := tgbotapi.NewInlineKeyboardMarkup(tgbotapi.NewInlineKeyboardRow(tgbotapi.NewInlineKeyboardButtonData("Yes", "y")))
	marked, err := api.Send(tgbotapi.NewEditMessageReplyMarkup(grete, m.MessageID, keyboard))
	require.NoError(t, err)
	require.Equal(t, "y", *marked.ReplyMarkup.InlineKeyboard[0][0].CallbackData)

	s.says(ravi, "hello")
	fwd, err := api.Send(tgbotapi.NewForward(ravi, grete, int(in.MessageID)))
	require.NoError(t, err)
	require.Equal(t, "from the customer", fwd.Text)
	copied := s.call("copyMessage", `{"chat_id":5001002,"from_chat_id":5001001,"message_id":`+itoa(doc.MessageID)+`,"caption":"other"}`)
	require.Contains(t, copied.result(t), "message_id")
	_, err = api.Send(tgbotapi.NewForward(ravi, grete, 999))
	require.EqualError(t, err, "Bad Request: message to forward not found")

	_, err = api.Request(tgbotapi.NewDeleteMessage(grete, m.MessageID))
	require.NoError(t, err)
	_, err = api.Request(tgbotapi.NewDeleteMessage(grete, m.MessageID))
	require.EqualError(t, err, "Bad Request: message to delete not found")
	c.add(49 * 3600e9)
	_, err = api.Request(tgbotapi.NewDeleteMessage(grete, doc.MessageID))
	require.EqualError(t, err, "Bad Request: message can't be deleted for everyone")
}

func TestReactionsOfBots(t *testing.T) {
	s := newSim(t)
	in := s.says(grete, "hello")
	set := func(emoji string) answer {
		return s.call("setMessageReaction", `{"chat_id":5001001,"message_id":1,"reaction":[{"type":"emoji","emoji":"`+emoji+`"}]}`)
	}
	require.Equal(t, 200, set("❤️").status, "with the variation selector too")
	conv, err := s.Conversation(botID, grete)
	require.NoError(t, err)
	require.Equal(t, []telegram.Reacted{{From: botID, Emoji: "❤"}}, conv.Messages[in.MessageID-1].Reactions)
	require.Equal(t, "Bad Request: REACTION_INVALID", set("🧿").json["description"])
	require.Equal(t, 200, s.call("setMessageReaction", `{"chat_id":5001001,"message_id":1}`).status)
	require.Equal(t, "Bad Request: message to react not found", s.call("setMessageReaction", `{"chat_id":5001001,"message_id":9}`).json["description"])
}

func TestCallbackQueries(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	s.says(grete, "hello")
	msg := tgbotapi.NewMessage(grete, "Well?")
	msg.ReplyMarkup = tgbotapi.NewInlineKeyboardMarkup(tgbotapi.NewInlineKeyboardRow(tgbotapi.NewInlineKeyboardButtonData("Yes", "yes!")))
	m, err := api.Send(msg)
	require.NoError(t, err)
	id, err := s.CustomerPress(botID, grete, int64(m.MessageID), 0, "yes!")
	require.NoError(t, err)
	q := s.updates(api, -1)[0].CallbackQuery
	require.Equal(t, id, q.ID)
	require.Equal(t, "yes!", q.Data)
	require.Equal(t, m.MessageID, q.Message.MessageID)
	_, err = api.Request(tgbotapi.NewCallback(id, "Thank you"))
	require.NoError(t, err)
	text, ok := s.CallbackAnswered(id)
	require.True(t, ok)
	require.Equal(t, "Thank you", text)
	_, err = api.Request(tgbotapi.NewCallback(id, ""))
	require.EqualError(t, err, "Bad Request: query is too old and response timeout expired or query ID is invalid")
	a := s.call("sendMessage", `{"chat_id":5001001,"text":"x","reply_markup":{"inline_keyboard":[[{"text":"a","callback_data":"`+strings.Repeat("x", 65)+`"}]]}}`)
	require.Equal(t, "Bad Request: BUTTON_DATA_INVALID", a.json["description"])
}

func TestAccountMethods(t *testing.T) {
	s := newSim(t)
	api := s.bot()
	s.says(grete, "hello")
	chat, err := api.GetChat(tgbotapi.ChatInfoConfig{ChatConfig: tgbotapi.ChatConfig{ChatID: grete}})
	require.NoError(t, err)
	require.Equal(t, "grete_h", chat.UserName)
	require.Equal(t, "private", chat.Type)
	photos, err := api.GetUserProfilePhotos(tgbotapi.NewUserProfilePhotos(grete))
	require.NoError(t, err)
	require.Zero(t, photos.TotalCount)
	_, err = api.Request(tgbotapi.NewChatAction(grete, tgbotapi.ChatTyping))
	require.NoError(t, err)
	conv, err := s.Conversation(botID, grete)
	require.NoError(t, err)
	require.Equal(t, "typing", conv.Action)
	require.Equal(t, "Bad Request: wrong parameter action in request", s.call("sendChatAction", `{"chat_id":5001001,"action":"dance"}`).json["description"])
	m, err := api.Send(tgbotapi.NewMessage(grete, "done"))
	require.NoError(t, err)
	conv, err = s.Conversation(botID, grete)
	require.NoError(t, err)
	require.Empty(t, conv.Action, "a message ends it")
	_, err = api.Request(tgbotapi.PinChatMessageConfig{ChatID: grete, MessageID: m.MessageID})
	require.NoError(t, err)
	require.Equal(t, m.MessageID, s.updates(api, -1)[0].Message.PinnedMessage.MessageID)
	for _, c := range []tgbotapi.Chattable{tgbotapi.LogOutConfig{}, tgbotapi.CloseConfig{}} {
		_, err := api.Request(c)
		require.NoError(t, err)
	}
}

// Parameters may come in the address, a form, multipart or JSON; methods in any case.
func TestWaysToCall(t *testing.T) {
	s := newSim(t)
	s.says(grete, "hi")
	path := "/bot" + token + "/SENDMESSAGE"
	require.Equal(t, 200, s.do("GET", path+"?chat_id=5001001&text=address", "").status)
	for contentType, body := range map[string]string{
		"application/x-www-form-urlencoded": "chat_id=5001001&text=form",
		"application/json":                  `{"chat_id":"5001001","text":"json"}`,
		"multipart/form-data; boundary=b":   "--b\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n5001001\r\n--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nmultipart\r\n--b--\r\n",
	} {
		resp, err := s.request(t.Context(), "POST", path, contentType, strings.NewReader(body))
		require.NoError(t, err)
		require.Equal(t, 200, read(t, resp).status, contentType)
	}
	for contentType, body := range map[string]string{
		"application/json": `{"chat_id":`, "multipart/form-data; boundary=b": "--b\r\nbroken", "multipart/form-data": "",
	} {
		resp, err := s.request(t.Context(), "POST", path, contentType, strings.NewReader(body))
		require.NoError(t, err)
		require.Equal(t, 400, read(t, resp).status, contentType)
	}
}

func TestErrors(t *testing.T) {
	s := newSim(t)
	s.says(grete, "hi")
	for _, c := range []struct{ params, want string }{
		{`{"text":"x"}`, "Bad Request: chat_id is empty"},
		{`{"chat_id":1,"text":"x"}`, "Bad Request: chat not found"},
		{`{"chat_id":-7,"text":"x"}`, "Bad Request: chat not found"},
		{`{"chat_id":"@nowhere","text":"x"}`, "Bad Request: chat not found"},
		{`{"chat_id":"x","text":"x"}`, "Bad Request: chat not found"},
		{`{"chat_id":5001001}`, "Bad Request: message text is empty"},
		{`{"chat_id":5001001,"text":" \n "}`, "Bad Request: message text is empty"},
		{`{"chat_id":5001001,"text":"` + strings.Repeat("x", 4097) + `"}`, "Bad Request: message is too long"},
		{`{"chat_id":5001001,"text":"x","reply_markup":"{"}`, "Bad Request: can't parse reply keyboard markup JSON object"},
		{`{"chat_id":5001002,"text":"x"}`, "Forbidden: bot can't initiate conversation with a user"},
	} {
		a := s.call("sendMessage", c.params)
		require.Equal(t, c.want, a.json["description"], c.params)
		require.InDelta(t, a.status, a.json["error_code"], 0)
		require.Equal(t, false, a.json["ok"])
	}
	require.Equal(t, 400, s.call("sendPoll", `{"chat_id":5001001,"question":"?","options":["one"]}`).status)
	require.NoError(t, s.SetBlocked(botID, grete, true))
	a := s.call("sendMessage", `{"chat_id":5001001,"text":"x"}`)
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "Forbidden: bot was blocked by the user", a.json["description"])
	_, err := s.AddCustomer(telegram.Customer{ID: ravi, FirstName: "Ravi", Deactivated: true})
	require.NoError(t, err)
	require.Equal(t, "Forbidden: user is deactivated", s.call("sendMessage", `{"chat_id":5001002,"text":"x"}`).json["description"])
	require.Equal(t, 413, s.do("POST", "/bot"+token+"/sendMessage", `{"text":"`+strings.Repeat("x", 5<<20)+`"}`).status)
}

func TestLimits(t *testing.T) {
	c := newClock()
	s := newSim(t, func(o *telegram.Options) { o.NoLimits, o.Now = false, c.Now })
	s.says(grete, "hi")
	for range 5 {
		require.Equal(t, 200, s.call("sendMessage", `{"chat_id":5001001,"text":"x"}`).status)
	}
	a := s.call("sendMessage", `{"chat_id":5001001,"text":"x"}`)
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.JSONEq(t, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 1","parameters":{"retry_after":1}}`, a.body)
	require.Equal(t, "1", a.header.Get("Retry-After"))
	c.add(1e9)
	require.Equal(t, 200, s.call("sendMessage", `{"chat_id":5001001,"text":"x"}`).status)

	g, err := s.AddChat(telegram.Group{Title: "Group", Members: []int64{grete}, Bots: []telegram.ChatBot{{ID: botID}}})
	require.NoError(t, err)
	sent := 0
	for range 25 {
		c.add(1e9)
		if s.call("sendMessage", `{"chat_id":`+itoa(int(g.ID))+`,"text":"x"}`).status == 200 {
			sent++
		}
	}
	require.InDelta(t, 24, sent, 4, "20 a minute, and what that minute gives back")
	require.Less(t, sent, 29)

	free := telegram.DemoBot()
	free.NoLimits = true
	_, err = s.AddBot(free)
	require.NoError(t, err)
	for range 50 {
		require.Equal(t, 200, s.call("sendMessage", `{"chat_id":5001001,"text":"x"}`).status)
	}
}
