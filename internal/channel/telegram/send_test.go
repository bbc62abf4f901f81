package telegram

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

func TestSendsEveryKind(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	bytes := []byte("some bytes")
	cases := map[string]struct {
		message domain.Message
		method  string
		params  map[string]string // beside chat_id
		file    string            // form field and name
	}{
		"text":           {domain.Message{Type: domain.TypeText, Content: "Until <six> *o'clock* 🌵"}, "sendMessage", map[string]string{"text": "Until <six> *o'clock* 🌵"}, ""},
		"location":       {domain.Message{Type: domain.TypeLocation, Location: &domain.Location{Latitude: 37.5, Longitude: -122.25}}, "sendLocation", map[string]string{"latitude": "37.5", "longitude": "-122.25"}, ""},
		"venue":          {domain.Message{Type: domain.TypeLocation, Location: &domain.Location{Latitude: 1, Name: "Park"}}, "sendVenue", map[string]string{"latitude": "1", "longitude": "0", "title": "Park", "address": "Park"}, ""},
		"photo":          {domain.Message{Type: domain.TypeImage, Content: "look", Media: h.put(1, "image/png", "a.png", bytes)}, "sendPhoto", map[string]string{"caption": "look"}, "photo/a.png"},
		"gif":            {domain.Message{Type: domain.TypeImage, Media: h.put(2, "image/gif", "a.gif", bytes)}, "sendAnimation", map[string]string{}, "animation/a.gif"},
		"odd picture":    {domain.Message{Type: domain.TypeImage, Media: h.put(3, "image/tiff", "a.tiff", bytes)}, "sendDocument", map[string]string{}, "document/a.tiff"},
		"video":          {domain.Message{Type: domain.TypeVideo, Media: h.put(4, "video/mp4", "a.mp4", bytes)}, "sendVideo", map[string]string{"supports_streaming": "true"}, "video/a.mp4"},
		"odd video":      {domain.Message{Type: domain.TypeVideo, Media: h.put(5, "video/x-matroska", "a.mkv", bytes)}, "sendDocument", map[string]string{}, "document/a.mkv"},
		"audio":          {domain.Message{Type: domain.TypeAudio, Content: "hear", Media: h.put(6, "audio/mpeg", "a.mp3", bytes)}, "sendAudio", map[string]string{"caption": "hear"}, "audio/a.mp3"},
		"voice":          {domain.Message{Type: domain.TypeVoice, Media: h.put(7, "audio/ogg; codecs=opus", "", bytes)}, "sendVoice", map[string]string{}, "voice/file"},
		"odd voice":      {domain.Message{Type: domain.TypeVoice, Media: h.put(8, "audio/wav", "a.wav", bytes)}, "sendDocument", map[string]string{}, "document/a.wav"},
		"document":       {domain.Message{Type: domain.TypeDocument, Content: "the bill", Media: h.put(9, "application/pdf", "Rechnung № 5.pdf", bytes)}, "sendDocument", map[string]string{"caption": "the bill"}, "document/Rechnung № 5.pdf"},
		"sticker":        {domain.Message{Type: domain.TypeSticker, Media: h.put(10, "image/webp", "s.webp", bytes)}, "sendSticker", map[string]string{}, "sticker/s.webp"},
		"no sticker":     {domain.Message{Type: domain.TypeSticker, Media: h.put(11, "image/png", "s.png", bytes)}, "sendDocument", map[string]string{}, "document/s.png"},
		"longest text":   {domain.Message{Type: domain.TypeText, Content: strings.Repeat("ö", maxText)}, "sendMessage", map[string]string{"text": strings.Repeat("ö", maxText)}, ""},
		"hidden newline": {domain.Message{Type: domain.TypeText, Content: "a\r\nb & c=d%"}, "sendMessage", map[string]string{"text": "a\r\nb & c=d%"}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := len(a.of(c.method))
			sent, err := s.Send(within(t), domain.Outbound{Message: c.message, Attempt: 1, Peer: "42"})
			require.NoError(t, err)
			assert.Regexp(t, `^42:5\d\d$`, sent.ExternalID)
			assert.Equal(t, domain.Time(1769860900000), sent.At)
			calls := a.of(c.method)
			require.Len(t, calls, before+1)
			call := calls[before]
			c.params["chat_id"] = "42"
			assert.Equal(t, c.params, call.params)
			assert.Equal(t, c.file, call.name)
			if c.file != "" {
				assert.Equal(t, bytes, call.file)
			}
		})
	}
}

func TestReplies(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	for target, want := range map[string]string{
		"42:9": `{"message_id":9,"allow_sending_without_reply":true}`, "-4001:9": "", "callback:9": "", "": "",
	} {
		m := text("yes")
		m.ReplyToExternalID = target
		_, err := s.Send(within(t), m)
		require.NoError(t, err)
		calls := a.of("sendMessage")
		assert.Equal(t, want, calls[len(calls)-1].params["reply_parameters"], target)
	}
}

// What is refused without asking Telegram.
func TestRefusals(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	large := h.put(1, "application/zip", "a.zip", nil)
	large.Size = maxUpload + 1
	gone := &domain.Media{ID: 99, MIME: "image/png", Size: 1}
	for name, c := range map[string]struct {
		message domain.Message
		peer    string
		code    string
	}{
		"no text":          {domain.Message{Type: domain.TypeText, Content: " \n"}, "42", codeUnsupported},
		"long text":        {domain.Message{Type: domain.TypeText, Content: strings.Repeat("x", maxText+1)}, "42", codeTooLong},
		"long caption":     {domain.Message{Type: domain.TypeDocument, Media: large, Content: strings.Repeat("x", maxCaption+1)}, "42", codeTooLarge},
		"large file":       {domain.Message{Type: domain.TypeDocument, Media: large}, "42", codeTooLarge},
		"no file":          {domain.Message{Type: domain.TypeDocument}, "42", codeUnsupported},
		"lost file":        {domain.Message{Type: domain.TypeImage, Media: gone}, "42", codeMediaFailed},
		"text on sticker":  {domain.Message{Type: domain.TypeSticker, Media: gone, Content: "x"}, "42", codeUnsupported},
		"no location":      {domain.Message{Type: domain.TypeLocation}, "42", codeUnsupported},
		"template":         {domain.Message{Type: domain.TypeTemplate, Template: &domain.Template{Name: "x"}}, "42", codeUnsupported},
		"system":           {domain.Message{Type: domain.TypeSystem, Content: "x"}, "42", codeUnsupported},
		"no Telegram chat": {domain.Message{Type: domain.TypeText, Content: "x"}, "ann@example", codeChatAbsent},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Send(within(t), domain.Outbound{Message: c.message, Peer: c.peer})
			e := sendError(t, err)
			assert.Equal(t, channel.Refused, e.Outcome)
			assert.Equal(t, c.code, e.Code)
		})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	assert.Zero(t, a.sent)
}

// What each answer tells of the message.
func TestOutcomes(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	cases := map[string]struct {
		answer  http.HandlerFunc
		outcome channel.Outcome
		code    string
		wait    time.Duration
	}{
		"blocked":         {fails(403, "Forbidden: bot was blocked by the user", ""), channel.Refused, codeBlocked, 0},
		"deactivated":     {fails(403, "Forbidden: user is deactivated", ""), channel.Refused, codeDeactivated, 0},
		"never started":   {fails(403, "Forbidden: bot can't initiate conversation with a user", ""), channel.Refused, codeNotStarted, 0},
		"kicked":          {fails(403, "Forbidden: bot was kicked from the supergroup chat", ""), channel.Refused, codeRemoved, 0},
		"no such chat":    {fails(400, "Bad Request: chat not found", ""), channel.Refused, codeChatAbsent, 0},
		"no right":        {fails(400, "Bad Request: not enough rights to send text messages to the chat", ""), channel.Refused, codeNoRight, 0},
		"too long":        {fails(400, "Bad Request: message is too long", ""), channel.Refused, codeTooLong, 0},
		"new refusal":     {fails(400, "Bad Request: PEER_SINGS", ""), channel.Refused, "provider_400", 0},
		"flood":           {fails(429, "Too Many Requests: retry after 17", `{"retry_after":17}`), channel.NotSent, codeFlood, 17 * time.Second},
		"flood, untold":   {fails(429, "Too Many Requests", ""), channel.NotSent, codeFlood, floodDefault},
		"fault":           {fails(500, "Internal Server Error", ""), channel.Unknown, "provider_500", 0},
		"gateway":         {says(502, "<html>"), channel.Unknown, "http_502", 0},
		"proxy":           {says(403, "<html>"), channel.Refused, "http_403", 0},
		"not Telegram":    {says(404, "<html>"), channel.Refused, "http_404", 0},
		"moved elsewhere": {says(302, ""), channel.Unknown, "http_302", 0},
		"cut":             {cuts, channel.Unknown, codeNoAnswer, 0},
		"no id":           {says(200, `{"ok":true,"result":{}}`), channel.Unknown, codeNoAnswer, 0},
		"not a message":   {says(200, `{"ok":true,"result":true}`), channel.Unknown, codeNoAnswer, 0},
		"half":            {says(200, `{"ok":true,"resu`), channel.Unknown, codeNoAnswer, 0},
		"token repeated":  {fails(400, "Bad Request: bot "+token+" is odd", ""), channel.Refused, "provider_400", 0},
	}
	chat := int64(100)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a.script("sendMessage", c.answer)
			out := text("hello")
			chat++ // one that no earlier refusal holds up
			out.Message.ChatID = chat
			_, err := s.Send(within(t), out)
			e := sendError(t, err)
			assert.Equal(t, c.outcome, e.Outcome, e.Error())
			assert.Equal(t, c.code, e.Code)
			assert.Equal(t, c.wait, e.RetryAfter)
		})
	}
}

func TestNothingLeftIsNotSent(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.open(t, h, nil) // it has no open connection that could take the message along
	a.Close()
	_, err := s.Send(within(t), text("hello"))
	e := sendError(t, err)
	assert.Equal(t, channel.NotSent, e.Outcome)
	assert.Equal(t, codeUnreachable, e.Code)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Send(ended, text("hello"))
	assert.Equal(t, channel.NotSent, sendError(t, err).Outcome)
}

// The deadline of a send that hangs is the lease's; what may have arrived is
// unknown.
func TestSendEndsWithItsDeadline(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	a.script("sendMessage", hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Send(ctx, text("hello"))
	assert.Equal(t, channel.Unknown, sendError(t, err).Outcome)
}

// A file whose end has not left cannot have become a message.
func TestUploadThatBreaks(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	file := domain.Message{Type: domain.TypeDocument, Media: h.put(1, "application/zip", "a.zip", make([]byte, 8<<20))}
	send := func() *channel.SendError {
		_, err := s.Send(within(t), domain.Outbound{Message: file, Peer: "42"})
		return sendError(t, err)
	}
	h.readErr = errors.New("the disk is broken")
	assert.Equal(t, channel.NotSent, send().Outcome)
	h.readErr = nil

	a.script("sendDocument", fails(413, "Request Entity Too Large", ""))
	e := send()
	assert.Equal(t, channel.Refused, e.Outcome)
	assert.Equal(t, codeTooLarge, e.Code)

	a.script("sendDocument", cuts) // after the whole form was read
	assert.Equal(t, channel.Unknown, send().Outcome)
	a.script("sendDocument", fails(403, "Forbidden: bot was blocked by the user", ""))
	assert.Equal(t, codeBlocked, send().Code)
}

func TestGroupThatMoved(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	a.script("sendMessage", fails(400, "Bad Request: group chat was upgraded to a supergroup chat", `{"migrate_to_chat_id":-1001234567890}`))
	m := text("hello all")
	m.Peer = "-4001"
	_, err := s.Send(within(t), m)
	e := sendError(t, err)
	assert.Equal(t, channel.NotSent, e.Outcome)
	assert.Equal(t, codeMoved, e.Code)
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Len(t, h.direct, 1)
	assert.Equal(t, "-1001234567890", h.direct[0].Message.Peer.Address)
	assert.Equal(t, "-4001", h.direct[0].Message.Peer.Former)
	assert.Equal(t, "-4001:moved:-1001234567890", h.direct[0].Message.ExternalID, "the same as of the updates that tell it")
}

func command(kind domain.CommandKind, value string) domain.Command {
	return domain.Command{ID: 1, Kind: kind, Peer: "42", TargetExternalID: "42:9", Value: value}
}

func TestCommands(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	last := func(method string) map[string]string {
		calls := a.of(method)
		require.NotEmpty(t, calls, method)
		return calls[len(calls)-1].params
	}
	require.NoError(t, s.Do(within(t), command(domain.CommandReaction, "❤️")))
	assert.Equal(t, map[string]string{"chat_id": "42", "message_id": "9", "reaction": `[{"type":"emoji","emoji":"❤"}]`}, last("setMessageReaction"))
	require.NoError(t, s.Do(within(t), command(domain.CommandReaction, "")))
	assert.Equal(t, "[]", last("setMessageReaction")["reaction"])
	require.NoError(t, s.Do(within(t), command(domain.CommandEdit, "until seven")))
	assert.Equal(t, map[string]string{"chat_id": "42", "message_id": "9", "text": "until seven"}, last("editMessageText"))
	require.NoError(t, s.Do(within(t), command(domain.CommandRevoke, "")))
	assert.Equal(t, map[string]string{"chat_id": "42", "message_id": "9"}, last("deleteMessage"))
	before := len(a.calls)
	require.NoError(t, s.Do(within(t), command(domain.CommandRead, "")))
	assert.Len(t, a.calls, before, "a bot cannot tell what it has read")

	a.script("editMessageText", fails(400, "Bad Request: there is no text in the message to edit", ""))
	require.NoError(t, s.Do(within(t), command(domain.CommandEdit, "the other leaf")))
	assert.Equal(t, map[string]string{"chat_id": "42", "message_id": "9", "caption": "the other leaf"}, last("editMessageCaption"))

	for method, c := range map[string]domain.Command{
		"editMessageText": command(domain.CommandEdit, "same"), "deleteMessage": command(domain.CommandRevoke, ""),
	} {
		words := map[string]string{"editMessageText": "Bad Request: message is not modified: specified new message content and reply markup are exactly the same", "deleteMessage": "Bad Request: message to delete not found"}
		a.script(method, fails(400, words[method], ""))
		require.NoError(t, s.Do(within(t), c), "what is done already is done: %s", method)
	}
}

func TestCommandsThatFail(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	do := func(c domain.Command) *channel.SendError { return sendError(t, s.Do(within(t), c)) }

	a.script("setMessageReaction", fails(400, "Bad Request: REACTION_INVALID", ""))
	e := do(command(domain.CommandReaction, "🌵"))
	assert.Equal(t, channel.Refused, e.Outcome)
	assert.Equal(t, codeReaction, e.Code)
	a.script("deleteMessage", fails(400, "Bad Request: message can't be deleted for everyone", ""))
	assert.Equal(t, codeTooLate, do(command(domain.CommandRevoke, "")).Code)
	a.script("deleteMessage", cuts)
	assert.Equal(t, channel.NotSent, do(command(domain.CommandRevoke, "")).Outcome, "it may be repeated")
	a.script("editMessageText", fails(500, "Internal Server Error", ""))
	assert.Equal(t, channel.NotSent, do(command(domain.CommandEdit, "x")).Outcome)
	assert.Equal(t, codeTooLong, do(command(domain.CommandEdit, strings.Repeat("x", maxText+1))).Code)

	old := command(domain.CommandRevoke, "")
	old.Peer = "-1001234567890"
	assert.Equal(t, codeGone, do(old).Code, "a message from before the group became a supergroup")
	line := command(domain.CommandReaction, "👍")
	line.TargetExternalID = "42:member:1769860860:kicked"
	assert.Equal(t, codeUnsupported, do(line).Code)
}

func TestTyping(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	require.NoError(t, s.Typing(within(t), "42", "42:9", true))
	require.NoError(t, s.Typing(within(t), "42", "42:9", false))
	calls := a.of("sendChatAction")
	require.Len(t, calls, 1)
	assert.Equal(t, map[string]string{"chat_id": "42", "action": "typing"}, calls[0].params)
}

func TestFetchMedia(t *testing.T) {
	a, h := newBotAPI(t), newHouse()
	s := a.ready(t, h, nil)
	fetch := func() (string, error) {
		file, err := s.FetchMedia(within(t), "large")
		if err != nil {
			return "", err
		}
		defer file.Close()
		data, err := io.ReadAll(file)
		return string(data), err
	}
	data, err := fetch()
	require.NoError(t, err)
	assert.Equal(t, "bytes of photos/large.jpg", data)

	a.script("file", fails(404, "Not Found", "")) // the link has expired
	data, err = fetch()
	require.NoError(t, err)
	assert.Equal(t, "bytes of photos/large.jpg", data)
	assert.Len(t, a.of("getFile"), 3, "each try has a link of its own")

	for name, c := range map[string]struct {
		method  string
		answers []http.HandlerFunc
		outcome channel.Outcome
		code    string
	}{
		"too large": {"getFile", []http.HandlerFunc{fails(400, "Bad Request: file is too big", "")}, channel.Refused, codeTooLarge},
		"gone":      {"getFile", times(2, fails(400, "Bad Request: wrong file_id or the file is temporarily unavailable", "")), channel.Refused, codeMediaGone},
		"no path":   {"getFile", times(2, says(200, `{"ok":true,"result":{"file_id":"x"}}`)), channel.Refused, codeMediaGone},
		"no bytes":  {"file", times(2, fails(404, "Not Found", "")), channel.Refused, codeMediaGone},
		"fault":     {"file", []http.HandlerFunc{says(500, "")}, channel.NotSent, codeUnreachable},
		"redirect": {"file", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}}, channel.NotSent, codeUnreachable},
		"flood":       {"getFile", []http.HandlerFunc{fails(429, "Too Many Requests: retry after 3", `{"retry_after":3}`)}, channel.NotSent, codeFlood},
		"cut":         {"getFile", []http.HandlerFunc{cuts}, channel.NotSent, codeUnreachable},
		"cut content": {"file", []http.HandlerFunc{breaks}, channel.NotSent, codeUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			a.script(c.method, c.answers...)
			_, err := fetch()
			e := sendError(t, err)
			assert.Equal(t, c.outcome, e.Outcome)
			assert.Equal(t, c.code, e.Code)
		})
	}

	a.script("file", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxFetch+1)) })
	_, err = fetch()
	require.ErrorIs(t, err, errTooLong, "half a file must not pass for a whole one")
	a.script("file", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxFetch)) })
	data, err = fetch()
	require.NoError(t, err)
	assert.Len(t, data, maxFetch)
	a.script("file", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "short")
	})
	_, err = fetch()
	require.Error(t, err)
}

func TestPathsStayBelowTheBot(t *testing.T) {
	for path, want := range map[string]string{
		"photos/a.jpg": "photos/a.jpg", "/photos/a b.jpg": "photos/a%20b.jpg", "../../x": "_/_/x", "a?b#c": "a%3Fb%23c", "documents/ä.pdf": "documents/%C3%A4.pdf",
	} {
		assert.Equal(t, want, escapePath(path))
	}
}

func TestParseConfig(t *testing.T) {
	public, secrets, key, err := ParseConfig(map[string]any{KeyBotToken: " " + token + "\n"})
	require.NoError(t, err)
	assert.Empty(t, public)
	assert.Equal(t, map[string]string{KeyBotToken: token}, secrets)
	assert.Equal(t, fmt.Sprint(botNumber), key)
	for _, raw := range []map[string]any{
		{},
		{KeyBotToken: nil},
		{KeyBotToken: ""},
		{KeyBotToken: 7},
		{KeyBotToken: "secretsecret"},
		{KeyBotToken: token + " x"},
		{KeyBotToken: "0" + token},
		{KeyBotToken: token, "chatId": "1"},
		{KeyBotToken: token + "/../x"},
	} {
		_, _, _, err := ParseConfig(raw)
		var invalid *domain.Error
		require.ErrorAs(t, err, &invalid)
		assert.Regexp(t, `^config\.(botToken|chatId)$`, invalid.Field)
		assert.NotContains(t, err.Error(), "AAtestTEST")
		assert.NotContains(t, err.Error(), "secretsecret")
	}
}

func TestEndpoints(t *testing.T) {
	for _, good := range []string{"https://api.telegram.org/bot%s/%s", "http://127.0.0.1:8081/file/bot%s/%s"} {
		require.NoError(t, parseEndpoint(good))
	}
	for _, bad := range []string{"", "api.telegram.org/bot%s/%s", "https://api.telegram.org/bot%s", "https://u:p@h/bot%s/%s", "ftp://h/bot%s/%s", "https://h/bot%s/%s%d"} {
		require.Error(t, parseEndpoint(bad), bad)
	}
}
