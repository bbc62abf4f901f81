package whatsapp

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
	"switchboard/internal/worker"
)

// Every kind of message that a customer can write becomes a row that shows it.
func TestEveryKindComesIn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		first := s.says(whatsapp.Incoming{From: marta, Text: "Hello"})
		s.row(first, nil)
		for _, tt := range []struct {
			in   whatsapp.Incoming
			want domain.MessageType
			has  string
		}{
			{whatsapp.Incoming{Type: whatsapp.TypeImage, Caption: "Look"}, domain.TypeImage, "Look"},
			{whatsapp.Incoming{Type: whatsapp.TypeVideo, Caption: "Moving"}, domain.TypeVideo, "Moving"},
			{whatsapp.Incoming{Type: whatsapp.TypeAudio}, domain.TypeAudio, ""},
			{whatsapp.Incoming{Type: whatsapp.TypeVoice}, domain.TypeVoice, ""},
			{whatsapp.Incoming{Type: whatsapp.TypeDocument, Filename: "order.pdf"}, domain.TypeDocument, ""},
			{whatsapp.Incoming{Type: whatsapp.TypeSticker}, domain.TypeSticker, ""},
			{whatsapp.Incoming{Type: whatsapp.TypeLocation, Latitude: 52.5, Longitude: 13.4, PlaceName: "Shop"}, domain.TypeLocation, ""},
			{whatsapp.Incoming{Type: whatsapp.TypeLiveLocation, Latitude: -1, Longitude: 2}, domain.TypeLocation, ""},
			{whatsapp.Incoming{Type: whatsapp.TypeContact, ContactName: "Ann", ContactNumber: "15550107777"}, domain.TypeContact, "Ann: "},
			{whatsapp.Incoming{Type: whatsapp.TypePoll, Text: "When?", Options: []string{"Today", "Later"}}, domain.TypeText, "Poll: When?\n- Today\n- Later"},
			{whatsapp.Incoming{Type: whatsapp.TypeViewOnce}, domain.TypeImage, "(To be viewed once.)"},
			{whatsapp.Incoming{Type: whatsapp.TypeEphemeral, Text: "It fades"}, domain.TypeText, "It fades"},
			{whatsapp.Incoming{Type: whatsapp.TypeUnknown, Text: "x"}, domain.TypeUnsupported, "cannot be shown"},
			{whatsapp.Incoming{Text: "An answer", Quote: first}, domain.TypeText, "An answer"},
		} {
			t.Run(fmt.Sprint(tt.in.Type, tt.in.Text), func(t *testing.T) {
				tt.in.From = marta
				got := s.row(s.says(tt.in), nil)
				assert.Equal(t, tt.want, got.Type)
				assert.Contains(t, got.Content, tt.has)
				assert.Equal(t, domain.StatusReceived, got.Status)
				if tt.in.Quote != "" {
					require.NotNil(t, got.ReplyTo)
					assert.Equal(t, "Hello", got.ReplyTo.Content)
				}
				if tt.in.Type == whatsapp.TypeLocation {
					assert.Equal(t, &domain.Location{Latitude: 52.5, Longitude: 13.4, Name: "Shop"}, got.Location)
				}
				if tt.want.HasMedia() {
					ready := s.row(got.ExternalID, func(m domain.Message) bool { return m.Media != nil && m.Media.State == domain.MediaReady })
					assert.Positive(t, ready.Media.Size)
					if tt.in.Filename != "" {
						assert.Equal(t, tt.in.Filename, ready.Media.Filename)
					}
				}
			})
		}
		require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
		assert.Len(t, s.chats(), 1)
	})
}

func TestChangesOfMessagesComeIn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		id := s.says(whatsapp.Incoming{From: marta, Text: "Tree cacti?"})
		s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeReaction, Target: id, Emoji: "🌵"})
		got := s.row(id, func(m domain.Message) bool { return len(m.Reactions) == 1 })
		assert.Equal(t, domain.Reaction{Emoji: "🌵", SenderName: "Marta Lind"}, got.Reactions[0])
		s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeReaction, Target: id})
		s.row(id, func(m domain.Message) bool { return len(m.Reactions) == 0 })
		s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeEdit, Target: id, Text: "Three cacti?"})
		s.row(id, func(m domain.Message) bool { return m.Content == "Three cacti?" && m.EditedAt != nil })
		s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeRevoke, Target: id})
		s.row(id, func(m domain.Message) bool { return m.RevokedAt != nil })
		require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
		assert.Len(t, s.all(), 1, "changes are no rows")
	})
}

// Nobody changes what others wrote; an admin of a group takes it back. What a
// message claims of itself counts for nothing.
func TestForeignChangesAreIgnored(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "How much?"}), nil)
		ours := s.status(s.send(inbox.SendInput{ChatID: in.ChatID, Content: "100"}).ID, domain.StatusDelivered)
		group := s.says(whatsapp.Incoming{From: marta, Group: team, Text: "I never agreed"})
		s.row(group, nil)
		for _, attack := range []whatsapp.Incoming{
			{From: marta, Target: ours.ExternalID},
			{From: tomas, Group: team, Target: group},
			{From: marta, Group: team, FromMe: true, Target: group}, // our own phone
			{From: marta, Target: ours.ExternalID, Admin: true},     // of no group
		} {
			if attack.Type, attack.Text = whatsapp.TypeEdit, "Forged"; !attack.Admin {
				s.says(attack)
			}
			attack.Type = whatsapp.TypeRevoke
			s.says(attack)
		}
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "Afterwards"}), nil)
		s.row(s.says(whatsapp.Incoming{From: tomas, Group: team, Text: "Afterwards"}), nil)
		for id, content := range map[string]string{ours.ExternalID: "100", group: "I never agreed"} {
			m := s.row(id, nil)
			assert.Equal(t, content, m.Content)
			assert.Nil(t, m.EditedAt)
			assert.Nil(t, m.RevokedAt)
		}
		s.says(whatsapp.Incoming{From: marta, Group: team, Type: whatsapp.TypeEdit, Target: group, Text: "I did not agree"})
		s.row(group, text("I did not agree"))
		s.says(whatsapp.Incoming{From: tomas, Group: team, Type: whatsapp.TypeRevoke, Target: group, Admin: true})
		s.row(group, func(m domain.Message) bool { return m.RevokedAt != nil })
	})
}

// A message that fails for a reason that nobody foresaw does not hold the number
// up for ever: a line comes to stand in its place.
func TestOneMessageThatFailsAlways(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	s.linked(ourNumber)
	before := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Before"}), nil)
	for _, statement := range []string{
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nobody foresaw this'; END $$`,
		`CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.content = 'Poison') EXECUTE FUNCTION refuse()`,
	} {
		_, err := s.store.SQL().ExecContext(testkit.Context(t), statement)
		require.NoError(t, err)
	}
	bad := s.says(whatsapp.Incoming{From: marta, Text: "Poison"})
	after := s.says(whatsapp.Incoming{From: marta, Text: "After"})
	line := s.row(bad, nil)
	assert.Equal(t, domain.TypeUnsupported, line.Type)
	assert.Contains(t, line.Content, "See the phone")
	assert.Equal(t, before.ChatID, line.ChatID)
	assert.Equal(t, "After", s.row(after, nil).Content)
	require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
}

// Only what a message itself is to blame for counts against it.
func TestPoisonCountsWhatWasInVain(t *testing.T) {
	t.Parallel()
	var p poison
	p.note("a", false, false) // the connection broke
	assert.Zero(t, p.tries("a"))
	p.note("a", false, true)
	p.note("b", false, true)
	p.note("a", false, true)
	assert.Equal(t, 2, p.tries("a"))
	p.note("a", true, false)
	assert.Zero(t, p.tries("a"))
	assert.Equal(t, 1, p.tries("b"))
}

func TestGroups(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		one := s.says(whatsapp.Incoming{From: marta, Group: team, Text: "Who waters them?"})
		two := s.says(whatsapp.Incoming{From: tomas, Group: team, Text: "I do.", Quote: one})
		first, second := s.row(one, nil), s.row(two, nil)
		assert.Equal(t, first.ChatID, second.ChatID)
		assert.Equal(t, "Marta Lind", first.SenderName)
		assert.Equal(t, "Tomás Ruiz", second.SenderName)
		require.NotNil(t, second.ReplyTo)
		assert.Equal(t, first.ID, second.ReplyTo.ID)
		testkit.Eventually(t, "the group's name", func() bool { return s.chat(first.ChatID).Contact.Name == "Cactus friends" })
		assert.Equal(t, domain.ChatGroup, s.chat(first.ChatID).Kind)
		s.says(whatsapp.Incoming{From: tomas, Group: team, Type: whatsapp.TypeReaction, Target: one, Emoji: "👍"})
		got := s.row(one, func(m domain.Message) bool { return len(m.Reactions) == 1 })
		assert.Equal(t, "Tomás Ruiz", got.Reactions[0].SenderName)
	})
}

// What the organization writes on its own phone is shown, and reads the chat.
func TestOwnPhone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Open today?"}), nil)
		testkit.Eventually(t, "one unread", func() bool { return s.chat(in.ChatID).UnreadCount == 1 })
		out := s.row(s.says(whatsapp.Incoming{From: marta, FromMe: true, Text: "Until six."}), nil)
		assert.True(t, out.FromMe)
		assert.Equal(t, in.ChatID, out.ChatID)
		assert.Nil(t, out.SenderUserID)
		testkit.Eventually(t, "read", func() bool { return s.chat(in.ChatID).UnreadCount == 0 })
		require.NoError(t, s.sim.Read(ourNumber, marta, out.ExternalID))
		s.status(out.ID, domain.StatusRead)
	})
}

// A message that cannot be decrypted stands as a line that says so, and is
// filled in when the sender's phone has sent it again.
func TestUndecryptable(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		id := s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeUndecryptable, Text: "Never readable"})
		lost := s.row(id, nil)
		assert.Equal(t, domain.TypeUnsupported, lost.Type)
		assert.Contains(t, lost.Content, "could not be decrypted")

		again := s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeUndecryptable, Text: "At the second try", RetryAnswered: true})
		filled := s.row(again, text("At the second try"))
		assert.Equal(t, domain.TypeText, filled.Type)
		assert.Len(t, s.all(), 2)
		assert.Equal(t, 2, s.chat(filled.ChatID).UnreadCount)
		// The channel goes on.
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "Still there?"}), text("Still there?"))
	})
}

// What is not even a message is passed over; nothing of it stays in the queue.
func TestMalformed(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	c := s.linked(ourNumber)
	for range 3 {
		s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeMalformed})
	}
	s.row(s.says(whatsapp.Incoming{From: tomas, Text: "After that"}), text("After that"))
	require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
	assert.Equal(t, domain.ChannelConnected, s.await(c.ID, domain.ChannelConnected, "").Status.State)
}

// Long texts are kept, and names that no database takes.
func TestAwkwardText(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		long := strings.Repeat("🌵", 20_000)
		assert.Equal(t, long, s.row(s.says(whatsapp.Incoming{From: marta, Text: long}), nil).Content)
		assert.Equal(t, "a\uFFFDb", s.row(s.says(whatsapp.Incoming{From: marta, Text: "a\x00b"}), nil).Content)
	})
}

// A person with two addresses is one contact with one chat, whichever is learned
// first, and is answered where WhatsApp wants it.
func TestHiddenNumbers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: aiko, Text: "You do not see my number"}), nil)
		assert.Empty(t, s.chat(in.ChatID).Contact.Phone)
		_, err := s.sim.AddPerson(whatsapp.Person{Number: aiko, Name: "Aiko"})
		require.NoError(t, err)
		again := s.row(s.says(whatsapp.Incoming{From: aiko, Text: "Now you do"}), nil)
		assert.Equal(t, in.ChatID, again.ChatID)
		testkit.Eventually(t, "the number", func() bool { return s.chat(in.ChatID).Contact.Phone == aiko })

		one := s.row(s.says(whatsapp.Incoming{From: marta, Text: "By number"}), nil)
		require.NoError(t, s.sim.SetAddressing(ourNumber, "lid"))
		two := s.row(s.says(whatsapp.Incoming{From: marta, Text: "By LID"}), nil)
		assert.Equal(t, one.ChatID, two.ChatID)
		assert.Len(t, s.chats(), 2)
	})
}

// A message that is delivered again, or twice at once, is one row.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		for _, kind := range []whatsapp.FaultKind{whatsapp.FaultDropBack, whatsapp.FaultDuplicate} {
			_, err := s.sim.SetFault(whatsapp.Fault{Kind: kind, Number: ourNumber, Count: 1})
			require.NoError(t, err)
			id := s.says(whatsapp.Incoming{From: marta, Text: string(kind)})
			s.row(id, nil)
			require.NoError(t, s.sim.WaitIdle(testkit.Context(t)), kind)
		}
		assert.Len(t, s.all(), 2)
		assert.Empty(t, s.sim.Ledger().Overlaps(ourNumber))
	})
}

// Files that WhatsApp has no more are asked of the phone; what nobody has is
// failed, and the channel is unaffected.
func TestMediaThatIsGone(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	s.linked(ourNumber)
	_, err := s.sim.SetFault(whatsapp.Fault{Kind: whatsapp.FaultMediaGone, Count: 1})
	require.NoError(t, err)
	id := s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeImage})
	ready := s.row(id, func(m domain.Message) bool { return m.Media != nil && m.Media.State == domain.MediaReady })
	file, key, err := s.store.MediaFile(testkit.Context(t), s.who.OrganizationID, ready.Media.ID)
	require.NoError(t, err)
	blob, err := s.blobs.Open(testkit.Context(t), key)
	require.NoError(t, err)
	bytes, err := io.ReadAll(blob)
	require.NoError(t, err)
	require.NoError(t, blob.Close())
	assert.Len(t, bytes, int(file.Size))
	assert.True(t, asked(s.sim, id), "the phone was asked")
}

// asked reports whether the phone was asked to upload a file again.
func asked(sim *whatsapp.Server, id string) bool {
	for _, r := range sim.Ledger().Receipts(ourNumber) {
		for _, of := range r.IDs {
			if of == id && r.Type == "server-error" {
				return true
			}
		}
	}
	return false
}

func TestCustomerTypes(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	c := s.linked(ourNumber)
	in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
	// The number is online, and told of it, only while operators work.
	require.NoError(t, s.sim.Typing(ourNumber, marta, "", true))
	assert.False(t, s.sim.Devices(ourNumber)[0].Available)
	_, err := s.inbox.MarkRead(testkit.Context(t), s.who, in.ChatID, &in.ID)
	require.NoError(t, err)
	testkit.Eventually(t, "online", func() bool { return s.sim.Devices(ourNumber)[0].Available })
	testkit.Eventually(t, "read at the customer's", func() bool {
		for _, r := range s.sim.Ledger().Receipts(ourNumber) {
			if r.Type == "read" && len(r.IDs) == 1 && r.IDs[0] == in.ExternalID {
				return true
			}
		}
		return false
	})
	require.NoError(t, s.sim.Typing(ourNumber, marta, "", true))
	testkit.Eventually(t, "typing", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, w := range s.told {
			if w.chat == in.ChatID && w.event == domain.EventTypingStart {
				return true
			}
		}
		return false
	})
	assert.Equal(t, domain.ChannelConnected, c.Status.State)
}

// Pictures of contacts are fetched once, and shown.
func TestPictures(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	s.linked(ourNumber)
	in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
	ctx, cancel := context.WithTimeout(testkit.Context(t), 20*time.Second)
	defer cancel()
	testkit.Eventually(t, "a picture", func() bool {
		require.NoError(t, ctx.Err())
		return s.chat(in.ChatID).Contact.AvatarMediaID != nil
	})
}

// A file over the limit is not kept, and says so.
func TestHugeMedia(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1", func(o *worker.Options) { o.Media = inbox.NewMediaFetch(s.inbox, s.blobs, 1<<20) })
	s.linked(ourNumber)
	id := s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeDocument, Filename: "film.mkv", Data: make([]byte, 3<<20)})
	failed := s.row(id, func(m domain.Message) bool { return m.Media != nil && m.Media.State == domain.MediaFailed })
	assert.NotEmpty(t, failed.Media.Error)
	s.row(s.says(whatsapp.Incoming{From: marta, Text: "Too big?"}), nil)
}
