package waba

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
)

// Every type of message, from a customer's hand over real HTTP to the value
// that the inbox gets.
func TestSimulatedCustomerMessages(t *testing.T) {
	p := newPlatform(t, nil)
	require.NoError(t, p.AddCustomer(cloudapi.Customer{WaID: customer, Name: "Ann Çelik 🌵"}))
	picture := []byte("not really a picture")
	media := func(mime, caption, name string) *cloudapi.IncomingMedia {
		return &cloudapi.IncomingMedia{Data: picture, MIMEType: mime, Caption: caption, Filename: name}
	}
	cases := map[string]cloudapi.Incoming{
		"text":            {Type: "text", Text: "Is it < 5 € / piece? 🌵 \u0000\u2028 नमस्ते"},
		"reply":           {Type: "text", Text: "yes", ReplyTo: "wamid.earlier"},
		"forwarded":       {Type: "text", Text: "look", Forwarded: true},
		"image":           {Type: "image", Media: media("image/jpeg", "the leaf 🍂", "")},
		"video":           {Type: "video", Media: media("video/mp4", "", "")},
		"audio":           {Type: "audio", Media: media("audio/mpeg", "", "")},
		"voice":           {Type: "audio", Media: &cloudapi.IncomingMedia{Data: picture, MIMEType: "audio/ogg; codecs=opus", Voice: true}},
		"document":        {Type: "document", Media: media("application/pdf", "the bill", "Rechnung № 5.pdf")},
		"sticker":         {Type: "sticker", Media: media("image/webp", "", "")},
		"location":        {Type: "location", Location: &cloudapi.Location{Latitude: 37.758056, Longitude: -122.425, Name: "Dolores Park", Address: "19th & Dolores St"}},
		"contacts":        {Type: "contacts", Contacts: json.RawMessage(`[{"name":{"formatted_name":"Barbara J. Johnson","first_name":"Barbara"},"phones":[{"phone":"+1 650 555 9999","type":"CELL","wa_id":"16505559999"},{"wa_id":"49301234567"}],"emails":[{"email":"b@example.com"}]},{"name":{"first_name":"No","last_name":"Number"}}]`)},
		"reaction":        {Type: "reaction", Reaction: &cloudapi.IncomingReact{MessageID: "wamid.ours", Emoji: "👍🏽"}},
		"reaction_away":   {Type: "reaction", Reaction: &cloudapi.IncomingReact{MessageID: "wamid.ours"}},
		"button":          {Type: "button", Button: &cloudapi.ButtonTap{Text: "Thank you", Payload: "thanks-1"}, ReplyTo: "wamid.template"},
		"button_reply":    {Type: "interactive", ButtonReply: &cloudapi.Choice{ID: "1", Title: "Change order"}, ReplyTo: "wamid.buttons"},
		"list_reply":      {Type: "interactive", ListReply: &cloudapi.Choice{ID: "2", Title: "Express", Description: "Next day"}, ReplyTo: "wamid.list"},
		"form":            {Type: "interactive", Content: json.RawMessage(`{"type":"nfm_reply","nfm_reply":{"name":"flow","body":"Sent","response_json":"{\"flow_token\":\"x\",\"size\":\"L\",\"extras\":[\"lid\",\"straw\"],\"count\":2}"}}`)},
		"interactive_new": {Type: "interactive", Content: json.RawMessage(`{"type":"payment_method","payment_method":{"x":1}}`)},
		"order": {Type: "order", Order: &cloudapi.Order{CatalogID: "c", Text: "please gift-wrap", Items: []cloudapi.OrderItem{
			{RetailerID: "cactus-1", Quantity: 2, Price: 7.35, Currency: "USD"}, {RetailerID: "pot-9", Quantity: 1, Price: 0.1, Currency: "USD"},
		}}},
		"system":      {Type: "system", NewWaID: "16505550000"},
		"unsupported": {Type: "unsupported", Unsupported: "poll"},
		"future":      {Type: "hologram", Content: json.RawMessage(`{"depth":3}`)},
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) {
			in.ID, in.At = "wamid."+name, noon
			_, err := p.CustomerSend(p.number.PhoneNumberID, customer, in)
			require.NoError(t, err)
			body := p.next(t)
			ids, err := PhoneNumberIDs(body)
			require.NoError(t, err)
			assert.Equal(t, []string{p.number.PhoneNumberID}, ids)
			d, err := Parse(body)
			require.NoError(t, err)
			require.Empty(t, d.Skipped)
			items := d.Of(p.number.PhoneNumberID)
			require.Len(t, items, 1)
			require.NoError(t, items[0].Poison)
			if m := items[0].Inbound.Message; m != nil && m.Media != nil {
				sum := sha256.Sum256(picture)
				assert.Equal(t, hex.EncodeToString(sum[:]), m.Media.SHA256)
				assert.Regexp(t, `^\d+$`, m.Media.Ref)
				m.Media.Ref, m.Media.SHA256 = "(ref)", "(sum)"
			}
			golden(t, "sim_"+name, shown(t, items[0]))
		})
	}
}

// What the simulator does not do, in the shapes of Meta's documentation.
func TestDocumentedPayloads(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "webhooks", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile(path)
			require.NoError(t, err)
			d, err := Parse(body)
			require.NoError(t, err)
			out := []any{}
			for _, item := range d.Items {
				out = append(out, shown(t, item))
			}
			for _, s := range d.Skipped {
				out = append(out, map[string]any{"Skipped": s.What})
			}
			golden(t, "doc_"+name, out)
		})
	}
}

// one parses a single message of the demo number.
func one(t *testing.T, message string) Item {
	t.Helper()
	d, err := Parse(batch(message))
	require.NoError(t, err)
	items := d.Of(demo)
	require.Len(t, items, 1)
	return items[0]
}

const demo = "106540352242922"

// batch is a webhook with these messages in one change.
func batch(messages ...string) []byte {
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{
		"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550783881","phone_number_id":%q},
		"contacts":[{"profile":{"name":"Ann"},"wa_id":"16505551234"}],"messages":[%s]}}]}]}`, demo, strings.Join(messages, ","))
}

func text(id, body string) string {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"from":"16505551234","id":%q,"timestamp":"1769860800","type":"text","text":{"body":%s}}`, id, encoded)
}

func TestTextIsStorable(t *testing.T) {
	raw := `{"from":"16505551234","id":"wamid.1","timestamp":"1769860800","type":"text","text":{"body":"a\u0000b` + "\xff\xfe" + `\ud800 \ud83c\udf35"}}`
	item := one(t, raw)
	require.NoError(t, item.Poison)
	assert.Equal(t, "a\uFFFDb\uFFFD\uFFFD\uFFFD 🌵", item.Inbound.Message.Content)

	long := strings.Repeat("ö", 70_000)
	assert.Equal(t, long, one(t, text("wamid.2", long)).Inbound.Message.Content, "content is never cut")
}

func TestPoison(t *testing.T) {
	const head = `"from":"16505551234","id":"wamid.1","timestamp":"1769860800"`
	cases := map[string]struct{ message, says string }{
		"no object":        {`17`, "number where object"},
		"null":             {`null`, "id is missing"},
		"no id":            {`{"from":"1","timestamp":"1769860800","type":"text","text":{"body":"secret"}}`, "id is missing"},
		"huge id":          {`{"from":"1","id":"` + strings.Repeat("x", 513) + `","timestamp":"1769860800","type":"text","text":{"body":"secret"}}`, "longer than 512 bytes"},
		"no sender":        {`{"id":"1","timestamp":"1769860800","type":"text","text":{"body":"secret"}}`, "from and from_user_id are missing"},
		"huge sender":      {`{"from":"` + strings.Repeat("1", 300) + `","id":"1","timestamp":"1769860800","type":"text","text":{"body":"secret"}}`, "longer than 256 bytes"},
		"time is words":    {`{"from":"1","id":"1","timestamp":"secret","type":"text","text":{"body":"x"}}`, "timestamp is not a time"},
		"time is missing":  {`{"from":"1","id":"1","type":"text","text":{"body":"secret"}}`, "timestamp is not a time"},
		"time in ms":       {`{"from":"1","id":"1","timestamp":"1769860800000","type":"text","text":{"body":"x"}}`, "timestamp is not a time"},
		"time too large":   {`{"from":"1","id":"1","timestamp":99999999999999999999999,"type":"text","text":{"body":"x"}}`, "timestamp is not a time"},
		"time in object":   {`{"from":"1","id":"1","timestamp":{"secret":1},"type":"text","text":{"body":"x"}}`, "timestamp is object where string"},
		"text is string":   {`{` + head + `,"type":"text","text":"secret"}`, "text: it is string where object"},
		"text has none":    {`{` + head + `,"type":"text","text":{}}`, "text: body is missing"},
		"text is missing":  {`{` + head + `,"type":"text"}`, "text: its content is missing"},
		"body is number":   {`{` + head + `,"type":"text","text":{"body":4711}}`, "text: body is number where string"},
		"media has no id":  {`{` + head + `,"type":"image","image":{"caption":"secret"}}`, "image: id is missing"},
		"voice is string":  {`{` + head + `,"type":"audio","audio":{"id":"5","voice":"secret"}}`, "audio: voice is string where bool"},
		"off the globe":    {`{` + head + `,"type":"location","location":{"latitude":91,"longitude":0}}`, "not degrees"},
		"no contacts":      {`{` + head + `,"type":"contacts","contacts":[]}`, "contacts: the list is empty"},
		"reaction to none": {`{` + head + `,"type":"reaction","reaction":{"emoji":"x"}}`, "reaction: message_id is missing"},
		"essay as emoji":   {`{` + head + `,"type":"reaction","reaction":{"message_id":"1","emoji":"` + strings.Repeat("secret", 20) + `"}}`, "emoji is longer"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d, err := Parse(batch(text("wamid.before", "1"), c.message, text("wamid.after", "2")))
			require.NoError(t, err)
			require.Len(t, d.Items, 3, "the others are not taken down")
			assert.Equal(t, "wamid.before", d.Items[0].Inbound.Message.ExternalID)
			assert.Equal(t, "wamid.after", d.Items[2].Inbound.Message.ExternalID)
			bad := d.Items[1]
			require.ErrorContains(t, bad.Poison, c.says)
			assert.NotContains(t, bad.Poison.Error(), "secret", "a reason tells no content")
			assert.NotContains(t, bad.Poison.Error(), "4711")
			assert.Equal(t, domain.Inbound{}, bad.Inbound)
			assert.Equal(t, demo, bad.PhoneNumberID)
			assert.Equal(t, c.message, string(bad.Raw))
		})
	}
}

func TestContactsThatCannotBeRead(t *testing.T) {
	body := strings.Replace(string(batch(text("wamid.1", "hi"))), `[{"profile":{"name":"Ann"},"wa_id":"16505551234"}]`, `[7,{"wa_id":{}},{"wa_id":"16505551234","profile":{"name":"Bo"}}]`, 1)
	d, err := Parse([]byte(body))
	require.NoError(t, err)
	require.Len(t, d.Items, 1)
	assert.Equal(t, "Bo", d.Items[0].Inbound.Message.Peer.Name)
}

func TestHexSum(t *testing.T) {
	const want = "49f22763480629 3b0995459bc3"
	sum := sha256.Sum256([]byte(want))
	hexed := hex.EncodeToString(sum[:])
	for _, s := range []string{hexed, strings.ToUpper(hexed), base64Std(sum[:]), base64URL(sum[:]), strings.TrimRight(base64Std(sum[:]), "=")} {
		assert.Equal(t, hexed, hexSum(s), s)
	}
	for _, s := range []string{"", "zz", hexed[:62], "AAAA", strings.Repeat("=", 44)} {
		assert.Empty(t, hexSum(s), s)
	}
}

func TestOrderTotalsAreBounded(t *testing.T) {
	item := one(t, `{"from":"1","id":"1","timestamp":"1769860800","type":"order","order":{"product_items":[
		{"product_retailer_id":"a","quantity":1e999999,"item_price":"1e999999","currency":"USD"},
		{"product_retailer_id":"b","quantity":"3","item_price":"0.10","currency":"EUR"}]}}`)
	require.NoError(t, item.Poison)
	assert.Contains(t, item.Inbound.Message.Content, "Total: 0.30 EUR")
	assert.NotContains(t, item.Inbound.Message.Content, "Total: 1e")
}

func base64Std(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
func base64URL(b []byte) string { return base64.URLEncoding.EncodeToString(b) }
