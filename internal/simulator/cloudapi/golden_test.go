package cloudapi_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
)

var update = flag.Bool("update", false, "write the golden files anew")

var longAgo = time.Date(2025, 3, 14, 15, 9, 26, 0, time.UTC)

func fixed(o *cloudapi.Options) {
	o.Rand = &counting{}
	o.Now = func() time.Time { return longAgo }
}

// golden compares the first webhook with testdata, byte by byte but for white space.
func golden(t *testing.T, name, body string) {
	t.Helper()
	path := filepath.Join("testdata", name+".json")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(indent(t, body)), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to make it")
	require.Equal(t, string(want), indent(t, body))
}

func TestInboundPayloads(t *testing.T) {
	file := &cloudapi.IncomingMedia{Data: []byte("not really a picture"), MIMEType: "image/jpeg", Caption: "Grüße / 😊"}
	cases := map[string]cloudapi.Incoming{
		"text":                 {Text: "Hi <b>you</b> & all / Ünïcödé 😊"},
		"text_reply":           {Type: "text", Text: "yes", ReplyTo: "wamid.ABC"},
		"text_forwarded":       {Type: "text", Text: "joke", Forwarded: true},
		"text_forwarded_often": {Type: "text", Text: "old joke", FrequentlyForwarded: true},
		"text_referral": {Type: "text", Text: "I saw the ad", Referral: &cloudapi.Referral{
			SourceURL: "https://fb.me/1", SourceID: "120", SourceType: "ad", Headline: "Panels", Body: "Buy", MediaType: "image", ImageURL: "https://x/i.jpg", ClickID: "ARA",
		}},
		"image":         {Media: file},
		"video":         {Media: &cloudapi.IncomingMedia{Data: []byte("v"), MIMEType: "video/mp4"}},
		"audio":         {Media: &cloudapi.IncomingMedia{Data: []byte("a"), MIMEType: "audio/mpeg"}},
		"audio_voice":   {Type: "audio", Media: &cloudapi.IncomingMedia{Data: []byte("a"), MIMEType: "audio/ogg; codecs=opus", Voice: true}},
		"document":      {Media: &cloudapi.IncomingMedia{Data: []byte("%PDF-1.7"), MIMEType: "application/pdf", Filename: "Angebot über 5.pdf", Caption: "see p. 2"}},
		"sticker":       {Media: &cloudapi.IncomingMedia{Data: []byte("w"), MIMEType: "image/webp", Animated: true}},
		"location":      {Location: &cloudapi.Location{Latitude: 52.516275, Longitude: 13.377704, Name: "Gate", Address: "Berlin"}},
		"contacts":      {Contacts: []byte(`[{"name":{"formatted_name":"Ada","first_name":"Ada"},"phones":[{"phone":"+44 1","wa_id":"441","type":"HOME"}]}]`)},
		"reaction":      {Reaction: &cloudapi.IncomingReact{MessageID: "wamid.ABC", Emoji: "👍"}},
		"reaction_gone": {Type: "reaction", Reaction: &cloudapi.IncomingReact{MessageID: "wamid.ABC"}},
		"button":        {Button: &cloudapi.ButtonTap{Text: "Yes", Payload: "yes-1"}, ReplyTo: "wamid.ABC"},
		"button_reply":  {Type: "interactive", ButtonReply: &cloudapi.Choice{ID: "y", Title: "Yes"}, ReplyTo: "wamid.ABC"},
		"list_reply":    {Type: "interactive", ListReply: &cloudapi.Choice{ID: "r1", Title: "Red", Description: "The red one"}},
		"order": {Order: &cloudapi.Order{CatalogID: "194836987003835", Text: "please", Items: []cloudapi.OrderItem{
			{RetailerID: "di9ozbzfi4", Quantity: 2, Price: 7.99, Currency: "USD"},
		}}},
		"system":      {NewWaID: "+49 171 5550199"},
		"unsupported": {Unsupported: "poll"},
		"hologram":    {Content: []byte(`{"beam":{"url":"https://x/y","tint":"grün"}}`)},
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, fixed)
			require.NoError(t, s.AddCustomer(cloudapi.Customer{WaID: customer, Name: "Grete Müller 🌿"}))
			if in.Type == "" {
				in.Type = name
			}
			id, err := s.CustomerSend(phoneID, customer, in)
			require.NoError(t, err)
			s.idle()
			require.True(t, s.Ledger().Acked(id))
			require.Equal(t, []bool{true}, s.hook.allSigned())
			golden(t, "message_"+name, s.hook.got()[0])
		})
	}
}

func TestStatusPayloads(t *testing.T) {
	s := newSim(t, fixed)
	s.says("hello")
	s.idle()
	id := s.sendText("one").wamid(t)
	s.idle()
	n, err := s.CustomerRead(phoneID, customer, "")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, s.SetStatus(id, cloudapi.StatusFailed, 131047))
	s.idle()
	got := s.hook.got()[1:]
	require.Equal(t, []string{"sent", "delivered", "read", "failed"}, statuses(t, got))
	for i, name := range []string{"sent", "delivered", "read", "failed"} {
		golden(t, "status_"+name, got[i])
	}
}

func TestPayloadIsEscapedAsMetaDoes(t *testing.T) {
	s := newSim(t, fixed)
	s.says("a/b <c> & ü 😊 \" \\ \n")
	s.idle()
	body := s.hook.got()[0]
	require.Contains(t, body, `"body":"a\/b <c> & \u00fc \ud83d\ude0a \" \\ \n"`)
	for _, c := range []byte(body) {
		require.Less(t, c, byte(0x80))
	}
	require.Equal(t, []bool{true}, s.hook.allSigned(), "the signature is over exactly these bytes")
}

func TestIncomingThatIsNotComplete(t *testing.T) {
	s := newSim(t)
	for _, kind := range []string{
		"text", "image", "location", "contacts", "reaction", "button", "interactive", "order", "system", "future", "", "id", "context",
	} {
		_, err := s.CustomerSend(phoneID, customer, cloudapi.Incoming{Type: kind})
		require.ErrorIs(t, err, cloudapi.ErrInvalid, kind)
	}
	_, err := s.CustomerSend(phoneID, "12", cloudapi.Incoming{Type: "text", Text: "x"})
	require.ErrorIs(t, err, cloudapi.ErrInvalid)
	_, err = s.CustomerSend("999", customer, cloudapi.Incoming{Type: "text", Text: "x"})
	require.ErrorIs(t, err, cloudapi.ErrNotFound)
	_, err = s.CustomerSend(phoneID, customer, cloudapi.Incoming{Type: "image", Media: &cloudapi.IncomingMedia{ID: "1"}})
	require.ErrorIs(t, err, cloudapi.ErrNotFound)
	require.Empty(t, s.hook.got())
	require.Zero(t, s.Pending())
}
