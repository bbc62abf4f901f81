package whatsapp

import (
	"bytes"
	"image"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/media"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
	"switchboard/internal/worker"
)

// upload keeps a file as an operator would.
func (s *shop) upload(name, mime string, data []byte) int64 {
	s.t.Helper()
	key := media.NewKey(s.who.OrganizationID)
	require.NoError(s.t, s.blobs.Put(testkit.Context(s.t), key, bytes.NewReader(data), int64(len(data)), mime))
	file, err := s.store.InsertFile(testkit.Context(s.t), s.who.OrganizationID, store.NewFile{
		CreatedBy: s.who.UserID, MIME: mime, Size: int64(len(data)), Filename: name, BlobKey: key,
	})
	require.NoError(s.t, err)
	return file.ID
}

func TestEveryKindGoesOut(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Show me"}), nil)
		var picture bytes.Buffer
		require.NoError(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 300, 200))))
		photo, sheet := s.upload("cactus.png", "image/png", picture.Bytes()), s.upload("prices.pdf", "application/pdf", []byte("%PDF-1.4 prices"))
		voice := s.upload("hello.ogg", "audio/ogg", []byte("OggS voice"))
		for _, tt := range []struct {
			send inbox.SendInput
			want func(m whatsapp.Message) bool
		}{
			{inbox.SendInput{Content: "Of course", ReplyToID: &in.ID}, func(m whatsapp.Message) bool { return m.Text == "Of course" && m.Quote == in.ExternalID }},
			{inbox.SendInput{Type: domain.TypeImage, MediaID: &photo, Content: "This one"}, func(m whatsapp.Message) bool {
				return m.Type == whatsapp.TypeImage && m.Caption == "This one" && m.Media.Size == picture.Len() && m.Media.Error == ""
			}},
			{inbox.SendInput{Type: domain.TypeDocument, MediaID: &sheet}, func(m whatsapp.Message) bool {
				return m.Type == whatsapp.TypeDocument && m.Media.Filename == "prices.pdf" && m.Media.Error == ""
			}},
			{inbox.SendInput{Type: domain.TypeVoice, MediaID: &voice}, func(m whatsapp.Message) bool { return m.Type == whatsapp.TypeVoice && m.Media.Error == "" }},
			{inbox.SendInput{Type: domain.TypeLocation, Location: &domain.Location{Latitude: 52.5, Longitude: 13.4, Name: "Shop"}}, func(m whatsapp.Message) bool {
				return m.Type == whatsapp.TypeLocation && m.Latitude == 52.5 && m.Longitude == 13.4
			}},
		} {
			tt.send.ChatID = in.ChatID
			m := s.send(tt.send)
			s.shown(ourNumber, marta, tt.want)
			s.status(m.ID, domain.StatusDelivered)
		}
	})
}

func TestChangesGoOut(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		ctx := testkit.Context(t)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Tree cacti?"}), nil)
		_, err := s.inbox.React(ctx, s.who, in.ID, "🌵")
		require.NoError(t, err)
		s.shown(ourNumber, marta, func(m whatsapp.Message) bool { return m.ID == in.ExternalID && m.Reactions[ourNumber] == "🌵" })
		out := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "Three lef"})
		s.status(out.ID, domain.StatusDelivered)
		_, err = s.inbox.Edit(ctx, s.who, out.ID, "Three left")
		require.NoError(t, err)
		s.shown(ourNumber, marta, func(m whatsapp.Message) bool { return m.Text == "Three left" && m.Edited })
		_, err = s.inbox.Revoke(ctx, s.who, out.ID)
		require.NoError(t, err)
		s.shown(ourNumber, marta, func(m whatsapp.Message) bool { return m.FromMe && m.Revoked })

		sheet := s.upload("prices.pdf", "application/pdf", []byte("%PDF-1.4 prices"))
		prices := s.send(inbox.SendInput{ChatID: in.ChatID, Type: domain.TypeDocument, MediaID: &sheet, Content: "A cactu"})
		s.status(prices.ID, domain.StatusDelivered)
		_, err = s.inbox.Edit(ctx, s.who, prices.ID, "A cactus")
		require.NoError(t, err)
		s.shown(ourNumber, marta, func(m whatsapp.Message) bool { return m.Caption == "A cactus" && m.Edited && m.Media != nil })
	})
}

// What is taken back before it leaves leaves nothing behind either.
func TestQueuedFileIsTakenBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		w := s.worker("w1")
		s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Prices?"}), nil)
		w.Stop()
		sheet := s.upload("secret.pdf", "application/pdf", []byte("%PDF-1.4 secret"))
		out := s.send(inbox.SendInput{ChatID: in.ChatID, Type: domain.TypeDocument, MediaID: &sheet, Content: "Ours"})
		m, err := s.inbox.Revoke(testkit.Context(t), s.who, out.ID)
		require.NoError(t, err)
		assert.Equal(t, domain.StatusFailed, m.Status)
		assert.NotNil(t, m.RevokedAt)
		assert.Empty(t, m.Content)
		assert.Nil(t, m.Media)
		assert.Equal(t, 1, s.count("SELECT COUNT(*) FROM media WHERE state = 'deleted'"))
	})
}

// What phones do not show any more is refused, not shown as done.
func TestLateChangesAreRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		ctx := testkit.Context(t)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Tree cacti?"}), nil)
		out := s.status(s.send(inbox.SendInput{ChatID: in.ChatID, Content: "Three lef"}).ID, domain.StatusDelivered)
		sentBefore := func(d time.Duration) {
			_, err := s.store.SQL().ExecContext(ctx, "UPDATE messages SET sent_at = $1 WHERE id = $2", s.store.Now().Add(-d), out.ID)
			require.NoError(t, err)
		}
		sentBefore(16 * time.Minute)
		_, err := s.inbox.Edit(ctx, s.who, out.ID, "Three left")
		require.Equal(t, domain.CodeConflict, domain.CodeOf(err))
		require.ErrorContains(t, err, "edited for 15 minutes")
		sentBefore(49 * time.Hour)
		_, err = s.inbox.Revoke(ctx, s.who, out.ID)
		require.Equal(t, domain.CodeConflict, domain.CodeOf(err))
		require.ErrorContains(t, err, "taken back for 48 hours")
		assert.Equal(t, "Three lef", s.row(out.ExternalID, nil).Content)
		sentBefore(47 * time.Hour)
		_, err = s.inbox.Revoke(ctx, s.who, out.ID)
		require.NoError(t, err)
		s.shown(ourNumber, marta, func(m whatsapp.Message) bool { return m.FromMe && m.Revoked })
	})
}

func TestGroupsAreAnswered(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Group: team, Text: "Who waters them?"}), nil)
		out := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "We do.", ReplyToID: &in.ID})
		s.shown(ourNumber, team, func(m whatsapp.Message) bool { return m.Text == "We do." && m.Quote == in.ExternalID && m.Error == "" })
		s.status(out.ID, domain.StatusDelivered)
		_, err := s.inbox.MarkRead(testkit.Context(t), s.who, in.ChatID, &in.ID)
		require.NoError(t, err)
		_, err = s.inbox.React(testkit.Context(t), s.who, in.ID, "👍")
		require.NoError(t, err)
		s.shown(ourNumber, team, func(m whatsapp.Message) bool { return m.ID == in.ExternalID && m.Reactions[ourNumber] == "👍" })
	})
}

// A message whose acknowledgement does not come is sent again under the same id,
// and the contact sees it once.
func TestSameIDAgain(t *testing.T) {
	t.Parallel()
	for _, kind := range []whatsapp.FaultKind{whatsapp.FaultDropSend, whatsapp.FaultLose, whatsapp.FaultNoAck} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, linkable(t, testkit.PostgresFrom))
			s.worker("w1", func(o *worker.Options) { o.SendTimeout = 2 * time.Second })
			s.linked(ourNumber)
			in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
			_, err := s.sim.SetFault(whatsapp.Fault{Kind: kind, Number: ourNumber, Count: 1})
			require.NoError(t, err)
			first := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "One"})
			second := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "Two"})
			one, two := s.status(first.ID, domain.StatusDelivered), s.status(second.ID, domain.StatusDelivered)
			var shown []string
			messages, err := s.sim.Conversation(ourNumber, marta)
			require.NoError(t, err)
			for _, m := range messages {
				if m.FromMe {
					shown = append(shown, m.ID)
				}
			}
			assert.Equal(t, []string{one.ExternalID, two.ExternalID}, shown, "once, in order")
		})
	}
}

// The limit on new chats is a state of the channel; chats that there are go on.
func TestReachOutLimit(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom), func(o *whatsapp.Options) { o.Phones[0].ReachOutLimited = true })
	s.worker("w1")
	c := s.linked(ourNumber)
	in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
	chat, created, err := s.inbox.StartChat(testkit.Context(t), s.who, inbox.NewChat{ChannelID: c.ID, Phone: "+" + tomas})
	require.NoError(t, err)
	assert.True(t, created)
	cold := s.send(inbox.SendInput{ChatID: chat.ID, Content: "Offers!"})
	failed := s.status(cold.ID, domain.StatusFailed)
	assert.Equal(t, codeReachOut, failed.Error.Code)
	limited := s.await(c.ID, domain.ChannelConnected, codeReachOut)
	assert.Contains(t, limited.Status.Reason, "no new chats until")
	warm := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "Hello, Marta"})
	s.status(warm.ID, domain.StatusDelivered)
}

func TestStartChat(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		c := s.linked(ourNumber)
		ctx := testkit.Context(t)
		_, _, err := s.inbox.StartChat(ctx, s.who, inbox.NewChat{ChannelID: c.ID, Phone: nobody})
		require.Equal(t, domain.CodeNotFound, domain.CodeOf(err))
		assert.Contains(t, err.Error(), "not on WhatsApp")
		chat, created, err := s.inbox.StartChat(ctx, s.who, inbox.NewChat{ChannelID: c.ID, Phone: "+" + tomas})
		require.NoError(t, err)
		assert.True(t, created)
		assert.Equal(t, tomas, chat.Contact.Phone)
		out := s.send(inbox.SendInput{ChatID: chat.ID, Content: "Your cactus is here"})
		s.shown(ourNumber, tomas, func(m whatsapp.Message) bool { return m.Text == "Your cactus is here" })
		s.status(out.ID, domain.StatusDelivered)
		answer := s.row(s.says(whatsapp.Incoming{From: tomas, Text: "Great"}), nil)
		assert.Equal(t, chat.ID, answer.ChatID)
		again, created, err := s.inbox.StartChat(ctx, s.who, inbox.NewChat{ChannelID: c.ID, Phone: tomas})
		require.NoError(t, err)
		assert.False(t, created)
		assert.Equal(t, chat.ID, again.ID)
	})
}

// What a contact's phone could not decrypt it asks for again, also of the next
// process: the answer is in the database.
func TestContactAsksAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	first := s.worker("w1")
	c := s.linked(ourNumber)
	in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
	out := s.status(s.send(inbox.SendInput{ChatID: in.ChatID, Content: "Again, please?"}).ID, domain.StatusDelivered)
	require.NoError(t, s.sim.AskRetry(ourNumber, marta, out.ExternalID))
	retried := func(n int) func() bool {
		return func() bool {
			sent, _ := s.sim.Ledger().SendByID(ourNumber, out.ExternalID)
			return sent.Retried >= n
		}
	}
	testkit.Eventually(t, "sent again", retried(1))
	first.Stop()
	s.worker("w2")
	testkit.Eventually(t, "the second worker", func() bool {
		now, err := s.inbox.Channel(testkit.Context(t), s.who, c.ID)
		require.NoError(t, err)
		return now.Status.Worker == "w2" && now.Status.State == domain.ChannelConnected
	})
	require.NoError(t, s.sim.AskRetry(ourNumber, marta, out.ExternalID))
	testkit.Eventually(t, "sent again by another process", retried(2))
}

// Files that WhatsApp does not take at once are sent when it does.
func TestUploadsFail(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	s.linked(ourNumber)
	in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Show me"}), nil)
	sheet := s.upload("prices.pdf", "application/pdf", []byte(strings.Repeat("%PDF", 1000)))
	id, err := s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultUploadRefuse, Count: 1})
	require.NoError(t, err)
	m := s.send(inbox.SendInput{ChatID: in.ChatID, Type: domain.TypeDocument, MediaID: &sheet})
	s.status(m.ID, domain.StatusDelivered)
	_ = s.sim.ClearFault(id)
}

// The customer sees an operator write, while the number is online.
func TestOperatorTypes(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	sessions := make(chan channel.Session, 1)
	s.worker("w1", func(o *worker.Options) {
		numbers := o.Factories[domain.KindWhatsApp]
		o.Factories = map[domain.ChannelKind]channel.Factory{domain.KindWhatsApp: func(c channel.Config) (channel.Session, error) {
			session, err := numbers(c)
			select {
			case sessions <- session:
			default:
			}
			return session, err
		}}
	})
	s.linked(ourNumber)
	in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
	chat := s.chat(in.ChatID)
	require.NotZero(t, chat.ID)
	typer, can := (<-sessions).(channel.Typer)
	require.True(t, can)
	types := func(on bool) func() bool {
		return func() bool {
			require.NoError(t, typer.Typing(testkit.Context(t), marta, "", on))
			return s.sim.IsTyping(ourNumber, marta) == on
		}
	}
	testkit.Eventually(t, "typing", types(true))
	testkit.Eventually(t, "not any more", types(false))
}
