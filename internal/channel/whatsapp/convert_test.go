package whatsapp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/domain"
)

// strangers are people of whom nothing is known but what a message says.
type strangers struct{}

func (strangers) find(jid, other types.JID) person { return personOf(jid, other) }
func (strangers) name(_ person, own string) string { return cleanName(own) }

func direct(m *waE2E.Message) *events.Message {
	chat := types.NewJID(marta, types.DefaultUserServer)
	return (&events.Message{
		Info: types.MessageInfo{
			ID: "ID1", PushName: "Marta", Timestamp: time.Unix(1_700_000_000, 0),
			MessageSource: types.MessageSource{Chat: chat, Sender: chat, SenderAlt: types.NewJID("777", types.HiddenUserServer)},
		},
		RawMessage: m,
	}).UnwrapRaw()
}

func TestConvert(t *testing.T) {
	t.Parallel()
	key := &waCommon.MessageKey{ID: proto.String("TARGET")}
	for name, tt := range map[string]struct {
		message *waE2E.Message
		want    string // of the message; empty: nothing comes of it
		kind    domain.MessageType
	}{
		"empty":     {&waE2E.Message{}, empty, domain.TypeUnsupported},
		"no text":   {&waE2E.Message{Conversation: proto.String("")}, empty, domain.TypeUnsupported},
		"only keys": {&waE2E.Message{SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{}, MessageContextInfo: &waE2E.MessageContextInfo{}}, "", ""},
		"wrapped twice": {
			&waE2E.Message{SpoilerMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{QuestionMessage: &waE2E.FutureProofMessage{
				Message: &waE2E.Message{Conversation: proto.String("Tall?")},
			}}}},
			"Tall?", domain.TypeText,
		},
		"in an album": {
			&waE2E.Message{AssociatedChildMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
				Caption: proto.String("One of five"), DirectPath: proto.String("/v/1"), MediaKey: make([]byte, 32),
			}}}},
			"One of five", domain.TypeImage,
		},
		"empty wrapper": {
			&waE2E.Message{SpoilerMessage: &waE2E.FutureProofMessage{}},
			"A message of a kind that cannot be shown here (spoiler). See the phone.", domain.TypeUnsupported,
		},
		"on the phone only": {
			&waE2E.Message{PlaceholderMessage: &waE2E.PlaceholderMessage{Type: waE2E.PlaceholderMessage_MASK_LINKED_DEVICES.Enum()}},
			"A message that WhatsApp shows on the phone only.", domain.TypeUnsupported,
		},
		"nul and broken": {&waE2E.Message{Conversation: proto.String("a\x00b\xff")}, "a\uFFFDb\uFFFD", domain.TypeText},
		"list answer":    {&waE2E.Message{ListResponseMessage: &waE2E.ListResponseMessage{Title: proto.String("Tall")}}, "Tall", domain.TypeText},
		"button":         {&waE2E.Message{ButtonsResponseMessage: &waE2E.ButtonsResponseMessage{Response: &waE2E.ButtonsResponseMessage_SelectedDisplayText{SelectedDisplayText: "Yes"}}}, "Yes", domain.TypeText},
		"vote":           {&waE2E.Message{PollUpdateMessage: &waE2E.PollUpdateMessage{}}, "Somebody voted in the poll. The votes are on the phone.", domain.TypeSystem},
		"order":          {&waE2E.Message{OrderMessage: &waE2E.OrderMessage{OrderTitle: proto.String("Two cacti")}}, "Order: Two cacti.  See the phone for the details.", domain.TypeText},
		"payment": {
			&waE2E.Message{SendPaymentMessage: &waE2E.SendPaymentMessage{}},
			"A message of a kind that cannot be shown here (sendPayment). See the phone.", domain.TypeUnsupported,
		},
		"nowhere": {
			&waE2E.Message{LocationMessage: &waE2E.LocationMessage{DegreesLatitude: proto.Float64(91)}},
			"A place whose coordinates make no sense. See the phone.", domain.TypeUnsupported,
		},
		"disappearing": {
			&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(), EphemeralExpiration: proto.Uint32(604800)}},
			"Messages disappear from the customer's phone after 7 days; they stay here.", domain.TypeSystem,
		},
		"card": {
			&waE2E.Message{ContactMessage: &waE2E.ContactMessage{Vcard: proto.String("BEGIN:VCARD\r\nFN:Ann\r\nitem1.TEL;waid=15550107777:+1 555 010 7777\r\nEMAIL:ann@example.com\r\nEND:VCARD")}},
			"Ann: +1 555 010 7777, ann@example.com", domain.TypeContact,
		},
		"key share": {&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_SHARE.Enum()}}, "", ""},
		"no target": {&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_REVOKE.Enum()}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			items := convert(direct(tt.message), strangers{})
			if tt.want == "" {
				require.Empty(t, items)
				return
			}
			require.Len(t, items, 1)
			m := items[0].Message
			require.NotNil(t, m)
			assert.Equal(t, tt.want, m.Content)
			assert.Equal(t, tt.kind, m.Type)
			assert.Equal(t, domain.Peer{
				Address: "777@lid", Kind: domain.ChatDirect, Name: "Marta", Identities: []domain.Identity{
					{Kind: domain.IdentityPhone, Value: marta}, {Kind: domain.IdentityLID, Value: "777@lid"},
				},
			}, m.Peer)
		})
	}
	items := convert(direct(&waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Key: key, Text: proto.String("👍")}}), strangers{})
	require.Len(t, items, 1)
	assert.Equal(t, "TARGET", items[0].Reaction.TargetExternalID)
}

// What is no chat of ours becomes nothing.
func TestOtherPlaces(t *testing.T) {
	t.Parallel()
	for _, chat := range []types.JID{
		types.StatusBroadcastJID, types.NewJID("1", types.NewsletterServer), types.NewJID("1", types.BotServer), types.EmptyJID,
	} {
		e := direct(&waE2E.Message{Conversation: proto.String("Hello")})
		e.Info.Chat, e.Info.Sender, e.Info.SenderAlt = chat, chat, types.EmptyJID
		if chat == types.StatusBroadcastJID {
			e.Info.Sender = types.NewJID(marta, types.DefaultUserServer)
		}
		assert.Empty(t, convert(e, strangers{}), chat.String())
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{marta, "777@lid", "120363000000000001@g.us", "15550200001-1400000000@g.us"} {
		jid, err := parseAddress(address)
		require.NoError(t, err, address)
		assert.Equal(t, address, addressOf(jid))
	}
	for _, bad := range []string{"", "@lid", "abc", "0123456789", "1@s.whatsapp.net", "1@newsletter", "1@broadcast", "12345678901234567"} {
		_, err := parseAddress(bad)
		assert.Error(t, err, bad)
	}
}

// Any message that a customer's app can make is one row, or none.
func FuzzConvert(f *testing.F) {
	for _, m := range []*waE2E.Message{
		{Conversation: proto.String("Hello")},
		{ImageMessage: &waE2E.ImageMessage{Mimetype: proto.String("image/png"), FileLength: proto.Uint64(1 << 63), Width: proto.Uint32(1 << 31)}},
		{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: &waCommon.MessageKey{ID: proto.String("x")}}},
		{PollCreationMessageV4: &waE2E.FutureProofMessage{}},
		{ContactsArrayMessage: &waE2E.ContactsArrayMessage{Contacts: []*waE2E.ContactMessage{{Vcard: proto.String("TEL:1\nFN:\n:::")}}}},
	} {
		raw, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m waE2E.Message
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		for _, in := range convert(direct(&m), strangers{}) {
			if in.Message == nil {
				continue
			}
			require.NotEmpty(t, in.Message.Type)
			require.NotContains(t, in.Message.Content, "\x00")
			require.Equal(t, in.Message.Type.HasMedia(), in.Message.Media != nil)
			if in.Message.Media != nil {
				require.NotEmpty(t, in.Message.Media.Ref)
				require.GreaterOrEqual(t, in.Message.Media.Size, int64(0))
			}
		}
	})
}

// Whatever a phone sends as its history is imported in bounded pieces.
func FuzzHistory(f *testing.F) {
	raw, err := proto.Marshal(&waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_RECENT.Enum(),
		Conversations: []*waHistorySync.Conversation{{
			ID: proto.String(marta + "@s.whatsapp.net"),
			Messages: []*waHistorySync.HistorySyncMsg{{Message: &waWeb.WebMessageInfo{
				Key: &waCommon.MessageKey{ID: proto.String("A"), FromMe: proto.Bool(false)}, MessageTimestamp: proto.Uint64(1_700_000_000),
				Message: &waE2E.Message{Conversation: proto.String("Old")},
			}}},
		}},
		Pushnames: []*waHistorySync.Pushname{{ID: proto.String("1@lid"), Pushname: proto.String("-")}},
	})
	require.NoError(f, err)
	f.Add(raw)
	parse := func(chat types.JID, m *waWeb.WebMessageInfo) (*events.Message, error) {
		e := direct(m.GetMessage())
		e.Info.Chat, e.Info.ID, e.Info.IsFromMe = chat, m.GetKey().GetID(), m.GetKey().GetFromMe()
		e.Info.Timestamp = time.Unix(int64(m.GetMessageTimestamp()&0xffffffff), 0) // #nosec G115 -- bounded
		return e, nil
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var data waHistorySync.HistorySync
		if proto.Unmarshal(raw, &data) != nil {
			return
		}
		for _, chunk := range historyChunks(&data, parse, strangers{}) {
			n := 0
			for _, in := range chunk {
				if in.History == nil {
					continue
				}
				for _, chat := range in.History.Chats {
					require.NotEmpty(t, chat.Peer.Address)
					n += len(chat.Items)
				}
			}
			require.LessOrEqual(t, n, maxChunk)
			require.LessOrEqual(t, len(chunk), maxChunk)
		}
	})
}
