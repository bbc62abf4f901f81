package whatsapp

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

func TestIncomingOfEveryType(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	first := b.says(Incoming{From: marta, Text: "one"})
	cases := []struct {
		in    Incoming
		check func(m *events.Message)
	}{
		{Incoming{Type: TypeText, Text: "two", Quote: first, Mentions: []string{shop}}, func(m *events.Message) {
			info := m.Message.GetExtendedTextMessage().GetContextInfo()
			require.Equal(t, first, info.GetStanzaID())
			require.Equal(t, []string{pnJID(shop).String()}, info.GetMentionedJID())
		}},
		{Incoming{Type: TypeLocation, Latitude: 52.5, Longitude: 13.4, PlaceName: "Berlin"}, func(m *events.Message) {
			require.InDelta(t, 52.5, m.Message.GetLocationMessage().GetDegreesLatitude(), 0.01)
		}},
		{Incoming{Type: TypeLiveLocation, Latitude: 52.5, Longitude: 13.4}, func(m *events.Message) {
			require.NotNil(t, m.Message.GetLiveLocationMessage())
		}},
		{Incoming{Type: TypeContact, ContactName: "Ana", ContactNumber: "15550100199"}, func(m *events.Message) {
			require.Contains(t, m.Message.GetContactMessage().GetVcard(), "+15550100199")
		}},
		{Incoming{Type: TypePoll, Text: "When?", Options: []string{"now", "later"}}, func(m *events.Message) {
			require.Len(t, m.Message.GetPollCreationMessageV3().GetOptions(), 2)
		}},
		{Incoming{Type: TypeReaction, Target: first, Emoji: "👍"}, func(m *events.Message) {
			require.Equal(t, first, m.Message.GetReactionMessage().GetKey().GetID())
			require.Equal(t, "reaction", m.Info.Type)
		}},
		{Incoming{Type: TypeEdit, Target: first, Text: "uno"}, func(m *events.Message) {
			require.True(t, m.IsEdit)
			require.Equal(t, "uno", m.Message.GetProtocolMessage().GetEditedMessage().GetConversation())
		}},
		{Incoming{Type: TypeRevoke, Target: first}, func(m *events.Message) {
			require.Equal(t, waE2E.ProtocolMessage_REVOKE, m.Message.GetProtocolMessage().GetType())
			require.Equal(t, types.EditAttributeSenderRevoke, m.Info.Edit)
		}},
		{Incoming{Type: TypeEphemeral, Text: "soon gone"}, func(m *events.Message) {
			require.True(t, m.IsEphemeral)
			require.Equal(t, "soon gone", m.Message.GetExtendedTextMessage().GetText())
		}},
		{Incoming{Type: TypeTimer, ExpireSeconds: 604800}, func(m *events.Message) {
			require.Equal(t, waE2E.ProtocolMessage_EPHEMERAL_SETTING, m.Message.GetProtocolMessage().GetType())
			require.Equal(t, uint32(604800), m.Message.GetProtocolMessage().GetEphemeralExpiration())
		}},
		{Incoming{Type: TypeTimer}, func(m *events.Message) { require.Zero(t, m.Message.GetProtocolMessage().GetEphemeralExpiration()) }},
		{Incoming{Type: TypeUnknown, Text: "new"}, func(m *events.Message) { require.NotEmpty(t, m.Message.ProtoReflect().GetUnknown()) }},
		{Incoming{Type: TypeUnknown}, func(m *events.Message) { require.True(t, proto.Equal(m.Message, &waE2E.Message{})) }},
	}
	for _, tc := range cases {
		tc.in.From = marta
		id := b.says(tc.in)
		tc.check(c.message(id))
	}
	b.idle()
	got := b.chat(marta)[0]
	require.True(t, got.Revoked)
	require.True(t, got.Edited)
	require.Equal(t, map[string]string{marta: "👍"}, got.Reactions)
	timer := b.chat(marta)[len(b.chat(marta))-4] // one that turns it off, and two of unknown content, follow
	require.Equal(t, TypeTimer, timer.Type)
	require.Equal(t, uint32(604800), timer.ExpireSeconds)
	_, err := b.Send(shop, Incoming{From: marta, Group: crowd, Type: TypeTimer})
	require.ErrorIs(t, err, ErrInvalid)
}

func TestOwnMessagesFromThePhone(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	m := c.message(b.says(Incoming{From: marta, FromMe: true, Text: "from the phone"}))
	require.True(t, m.Info.IsFromMe)
	require.Equal(t, pnJID(marta), m.Info.Chat)
	require.Equal(t, "from the phone", m.Message.GetConversation())
	m = c.message(b.says(Incoming{From: aiko, FromMe: true, Text: "to a hidden number"}))
	require.Equal(t, types.HiddenUserServer, m.Info.Chat.Server)
	m = c.message(b.says(Incoming{Group: crowd, FromMe: true, Text: "to all"}))
	require.True(t, m.Info.IsFromMe)
	require.Equal(t, groupJID(crowd), m.Info.Chat)
	b.idle()
}

func TestLIDAddressing(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	m := c.message(b.says(Incoming{From: aiko, Text: "who am I"}))
	require.Equal(t, types.HiddenUserServer, m.Info.Sender.Server)
	require.True(t, m.Info.SenderAlt.IsEmpty())
	c.text(m.Info.Chat, "whoever you are")
	require.Equal(t, "whoever you are", b.chat(aiko)[1].Text)

	m = c.message(b.says(Incoming{From: marta, Text: "by number"}))
	require.Equal(t, pnJID(marta), m.Info.Chat)
	require.NoError(t, b.LearnLID(shop, marta))
	m = c.message(b.says(Incoming{From: marta, Text: "by LID"}))
	require.Equal(t, types.HiddenUserServer, m.Info.Chat.Server)
	require.Equal(t, marta, m.Info.SenderAlt.User)

	require.NoError(t, b.SetAddressing(shop, AddressingLID))
	m = c.message(b.says(Incoming{From: tomas, Text: "me too"}))
	require.Equal(t, types.HiddenUserServer, m.Info.Chat.Server)
	m = c.message(b.says(Incoming{From: tomas, FromMe: true, Text: "answered on the phone"}))
	require.Equal(t, tomas, m.Info.RecipientAlt.User)
	out := c.text(pnJID(tomas), "by number, sent to the LID")
	require.Equal(t, types.HiddenUserServer, b.Ledger().Sends(shop)[1].Addressing)
	r := find(c, func(r *events.Receipt) bool { return r.MessageIDs[0] == out })
	require.Equal(t, types.HiddenUserServer, r.Chat.Server)
	b.idle()
	require.Zero(t, b.Ledger().Sends(shop)[1].Unreadable)
}

func TestGroups(t *testing.T) {
	for _, mode := range []string{AddressingPN, AddressingLID} {
		t.Run(mode, func(t *testing.T) {
			b := start(t, func(o *Options) { o.Groups[0].AddressingMode = mode })
			c := b.link(shop)
			for _, from := range []string{marta, tomas, marta} {
				id := b.says(Incoming{From: from, Group: crowd, Text: "hi from " + from})
				m := find(c, func(m *events.Message) bool { return m.Info.ID == id && m.Message.GetConversation() != "" })
				require.Equal(t, groupJID(crowd), m.Info.Chat)
				require.Equal(t, "hi from "+from, m.Message.GetConversation())
				require.Contains(t, []string{m.Info.Sender.User, m.Info.SenderAlt.User}, from)
			}
			b.idle()
			for _, text := range []string{"hello all", "again"} {
				c.text(groupJID(crowd), text)
			}
			chat := b.chat(crowd)
			require.Equal(t, "again", chat[len(chat)-1].Text)
			require.Zero(t, b.Ledger().Sends(shop)[0].Unreadable)
			require.NoError(t, b.Read(shop, tomas, chat[3].ID))
			r := find(c, func(r *events.Receipt) bool { return r.Type == types.ReceiptTypeRead })
			require.Equal(t, groupJID(crowd), r.Chat)
			info, err := c.GetGroupInfo(b.ctx, groupJID(crowd))
			require.NoError(t, err)
			require.Len(t, info.Participants, 3)
			g := b.Groups()[0]
			g.Subject = "Bigger crowd"
			_, err = b.AddGroup(g)
			require.NoError(t, err)
			e := find(c, any1[*events.GroupInfo])
			require.Equal(t, "Bigger crowd", e.Name.Name)
		})
	}
}

func TestUnreadableMessages(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	id := b.says(Incoming{From: marta, Type: TypeUndecryptable, Text: "at last", RetryAnswered: true})
	find(c, func(e *events.UndecryptableMessage) bool { return e.Info.ID == id })
	require.Equal(t, "at last", c.message(id).Message.GetConversation())

	silent := b.says(Incoming{From: marta, Type: TypeUndecryptable, Text: "never"})
	find(c, func(e *events.UndecryptableMessage) bool { return e.Info.ID == silent })
	b.says(Incoming{From: marta, Type: TypeMalformed})
	b.fault(Fault{Kind: FaultGarble, Count: 1})
	healed := b.says(Incoming{From: tomas, Text: "healed"})
	require.Equal(t, "healed", c.message(healed).Message.GetConversation())
	inGroup := b.says(Incoming{From: tomas, Group: crowd, Type: TypeUndecryptable, Text: "group", RetryAnswered: true})
	require.Equal(t, "group", find(c, func(m *events.Message) bool {
		return m.Info.ID == inGroup && m.Message.GetConversation() != ""
	}).Message.GetConversation())
	b.idle()
	lives := b.Ledger().InboundByID(shop, id)
	require.Len(t, lives, 2)
	require.Equal(t, "retry", lives[0].Acked)
	require.Equal(t, 1, lives[1].Retry)
	require.Zero(t, c.count(silent))
	require.Zero(t, b.Pending())
	absent := b.says(Incoming{From: marta, Type: TypeUnavailable, Text: "once"})
	m := c.message(absent)
	require.Equal(t, "once", m.Message.GetConversation())
	require.NotEmpty(t, m.UnavailableRequestID)
}

func TestWhoIsOnWhatsApp(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	got, err := c.IsOnWhatsApp(b.ctx, []string{"+" + marta, "+" + gone, "+15559999999"})
	require.NoError(t, err)
	require.Len(t, got, 3)
	require.True(t, got[0].IsIn)
	require.Equal(t, "+"+marta, got[0].Query)
	require.Equal(t, marta, got[0].PhoneNumber.User)
	require.False(t, got[1].IsIn)
	require.False(t, got[2].IsIn)
	pic, err := c.GetProfilePictureInfo(b.ctx, pnJID(marta), nil)
	require.NoError(t, err)
	require.NotEmpty(t, pic.URL)
	_, err = c.GetProfilePictureInfo(b.ctx, pnJID(tomas), nil)
	require.Error(t, err)
	_, err = c.SendMessage(b.ctx, pnJID(gone), &waE2E.Message{Conversation: proto.String("?")})
	require.Error(t, err)
}

func TestTwoPhonesTalk(t *testing.T) {
	const office = "15550200002"
	b := start(t)
	_, err := b.AddPhone(Phone{Number: office, Name: "Office"})
	require.NoError(t, err)
	one := b.link(shop)
	two := b.provision(office).connect()
	id := one.text(pnJID(office), "hello, office")
	m := two.message(id)
	require.Equal(t, "hello, office", m.Message.GetConversation())
	require.Equal(t, shop, m.Info.SenderAlt.User)
	id = two.text(m.Info.Chat, "hello, shop")
	require.Equal(t, "hello, shop", one.message(id).Message.GetConversation())
	_, err = b.AddGroup(Group{ID: "120363000000000777", Subject: "Both", Members: []string{shop, office, marta}})
	require.NoError(t, err)
	find(two, func(e *events.JoinedGroup) bool { return e.Name == "Both" })
	id = one.text(groupJID("120363000000000777"), "in the group")
	m = find(two, func(m *events.Message) bool { return m.Info.ID == id && m.Message.GetConversation() != "" })
	require.Equal(t, groupJID("120363000000000777"), m.Info.Chat)
	b.idle()
	for _, s := range b.Ledger().Sends("") {
		require.Zero(t, s.Unreadable, s.ID)
	}
	shown, err := b.Conversation(office, shop)
	require.NoError(t, err)
	require.Len(t, shown, 2)
	_, err = b.AddPerson(Person{Number: tomas, Name: "Tomás", HasAvatar: true})
	require.NoError(t, err)
	require.Equal(t, tomas, find(two, any1[*events.Picture]).JID.User)
}
